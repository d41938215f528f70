//! An alert as a Detection Finding of the Open Cybersecurity Schema Framework.

use serde_json::{Value, json};

use super::super::facts::{is_link, prune, techniques, word};
use crate::alert::{Alert, Level, Status};
use crate::clock::Timestamp;

/// The version of the schema.
const VERSION: &str = "1.3.0";
const CATEGORY: u32 = 2;
const CLASS: u32 = 2004;

/// The finding: created while the alert fires, closed when it has ended.
pub(super) fn finding(alert: &Alert) -> Value {
    let (activity, activity_name, state, state_name) = match alert.status {
        Status::Firing => (1, "Create", 1, "New"),
        Status::Resolved => (3, "Close", 4, "Resolved"),
    };
    let mut finding = json!({
        "category_uid": CATEGORY,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "activity_id": activity,
        "activity_name": activity_name,
        "type_uid": CLASS * 100 + activity,
        "type_name": format!("Detection Finding: {activity_name}"),
        "severity_id": severity(alert.rule.level),
        "severity": word(alert.rule.level),
        "status_id": state,
        "status": state_name,
        "time": millis(alert.told_of()),
        "start_time": millis(alert.first_seen),
        "end_time": millis(alert.last_seen),
        "count": alert.count,
        "message": alert.summary,
        "metadata": {
            "version": VERSION,
            "product": {"name": "Kubesiren", "vendor_name": "Kubesiren", "version": env!("CARGO_PKG_VERSION")},
            "uid": alert.id,
            "log_name": "kubernetes audit",
        },
        "finding_info": finding_info(alert),
        "evidences": [evidence(alert)],
        "resources": resources(alert),
        "remediation": alert.rule.runbook.as_ref().map(|runbook| json!({"desc": runbook})),
        "unmapped": {
            "cluster": alert.cluster,
            "group": alert.group,
            "matched": alert.matched,
            "audit_ids": alert.audit_ids,
            "timeline": alert.timeline,
        },
    });
    // The schema knows no null.
    prune(&mut finding);
    finding
}

fn finding_info(alert: &Alert) -> Value {
    let rule = &alert.rule;
    let attacks: Vec<_> = techniques(&rule.tags).map(|id| json!({"technique": {"uid": id}})).collect();
    json!({
        "uid": alert.id,
        "title": rule.title,
        "desc": alert.summary,
        "analytic": {"type_id": 1, "type": "Rule", "uid": rule.id, "name": rule.title},
        "first_seen_time": millis(alert.first_seen),
        "last_seen_time": millis(alert.last_seen),
        "src_url": rule.references.iter().find(|link| is_link(link)),
        "attacks": attacks,
    })
}

fn evidence(alert: &Alert) -> Value {
    let event = &alert.event;
    let groups: Vec<_> = event.user.groups.iter().map(|name| json!({"name": name})).collect();
    let status = event.response_status.as_ref();
    let acted_as = event.impersonated_user.as_ref().and_then(|user| user.username.as_ref());
    json!({
        "actor": {"user": {"name": event.user.username, "groups": groups}},
        "api": {
            "operation": event.verb,
            "service": {"name": "kube-apiserver"},
            "request": {"uid": event.audit_id},
            "response": {"code": status.and_then(|status| status.code), "message": status.and_then(|status| status.reason.as_ref())},
        },
        "src_endpoint": {"ip": event.source_ips.first(), "intermediate_ips": event.source_ips.iter().skip(1).collect::<Vec<_>>()},
        "url": {"path": event.request_uri},
        "data": {"user_agent": event.user_agent, "impersonated_user": acted_as, "stage": event.stage},
    })
}

fn resources(alert: &Alert) -> Vec<Value> {
    let object = alert.event.object_ref.iter();
    let resource = object.map(|object| {
        json!({
            "type": object.resource,
            "name": object.name,
            "namespace": object.namespace,
            "version": object.api_version,
            "group": object.api_group.as_ref().map(|name| json!({"name": name})),
            "labels": [format!("cluster={}", alert.cluster)],
        })
    });
    resource.collect()
}

fn severity(level: Level) -> u32 {
    match level {
        Level::Informational => 1,
        Level::Low => 2,
        Level::Medium => 3,
        Level::High => 4,
        Level::Critical => 5,
    }
}

fn millis(time: Timestamp) -> i64 {
    time.0.div_euclid(1_000)
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::alert;
    use super::*;

    #[test]
    fn the_finding_has_what_the_class_demands() {
        let mut given = alert("a1", "r1", Level::Critical);
        let created = finding(&given);
        for (field, value) in [
            ("/class_uid", json!(2004)),
            ("/category_uid", json!(2)),
            ("/activity_id", json!(1)),
            ("/type_uid", json!(200_401)),
            ("/severity_id", json!(5)),
            ("/status_id", json!(1)),
            ("/time", json!(1_795_233_600_123_i64)),
            ("/metadata/product/name", json!("Kubesiren")),
            ("/finding_info/uid", json!("a1")),
            ("/finding_info/title", json!("Title of r1")),
            ("/finding_info/analytic", json!({"type_id": 1, "type": "Rule", "uid": "r1", "name": "Title of r1"})),
            ("/finding_info/attacks/0/technique/uid", json!("T1552.007")),
            ("/evidences/0/actor/user/name", json!("alice")),
            ("/evidences/0/api/operation", json!("get")),
            ("/evidences/0/src_endpoint/ip", json!("10.0.0.1")),
            ("/resources/0/type", json!("secrets")),
            ("/resources/0/namespace", json!("payments")),
            ("/remediation/desc", json!("https://runbooks.example.com/secrets")),
            ("/unmapped/cluster", json!("prod-eu")),
        ] {
            assert_eq!(created.pointer(field), Some(&value), "{field}");
        }
        given.status = Status::Resolved;
        let closed = finding(&given);
        assert_eq!((&closed["activity_id"], &closed["type_uid"]), (&json!(3), &json!(200_403)));
        assert_eq!(closed["time"], 1_795_233_852_000_i64, "an end has the time of the end");
        assert_eq!((&closed["status_id"], &closed["finding_info"]["uid"]), (&json!(4), &json!("a1")));
        assert_eq!(Level::ALL.map(severity), [1, 2, 3, 4, 5]);
    }
}
