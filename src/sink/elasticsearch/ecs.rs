//! An alert as a document of the Elastic Common Schema. What the schema has no field for is below `kubesiren`, where every
//! key is one of ours: a name that an event chose never becomes a field of the index.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::facts::{is_link, prune, techniques};
use crate::alert::{Alert, EventExcerpt, Level, ObjectRef};
use crate::clock::Timestamp;
use crate::text::of_value;

/// The version of the schema.
const ECS: &str = "8.17.0";

/// The document, with the time under which it is found.
pub(super) fn document(alert: &Alert, time: Timestamp) -> Value {
    let event = &alert.event;
    let object = event.object_ref.clone().unwrap_or_default();
    let acted_as = event.impersonated_user.as_ref().and_then(|user| user.username.as_deref());
    let mut document = json!({
        "@timestamp": time,
        "ecs": {"version": ECS},
        "message": alert.summary,
        "tags": alert.rule.tags,
        "event": event_fields(alert, &object),
        "rule": {
            "id": alert.rule.id,
            "name": alert.rule.title,
            "reference": alert.rule.references.first(),
        },
        "threat": {"framework": "MITRE ATT&CK", "technique": {"id": techniques(&alert.rule.tags).collect::<Vec<_>>()}},
        "user": {
            "name": event.user.username,
            "roles": event.user.groups,
            "effective": {"name": acted_as},
        },
        "source": {"ip": addresses(event).first()},
        "related": {
            "ip": addresses(event),
            "user": [event.user.username.as_deref(), acted_as],
        },
        "user_agent": {"original": event.user_agent},
        "url": {"original": event.request_uri},
        "http": {"response": {"status_code": event.response_status.as_ref().and_then(|status| status.code)}},
        "orchestrator": {
            "type": "kubernetes",
            "cluster": {"name": alert.cluster},
            "namespace": object.namespace,
            "api_version": object.api_version,
            "resource": {"type": object.resource, "name": object.name},
        },
        "kubesiren": own(alert),
    });
    prune(&mut document);
    document
}

fn event_fields(alert: &Alert, object: &ObjectRef) -> Value {
    let code = alert.event.response_status.as_ref().and_then(|status| status.code);
    json!({
        "kind": "alert",
        "category": [category(&alert.event, object)],
        "type": [kind(&alert.event.verb), verdict(code)],
        "action": alert.event.verb,
        "outcome": match code { Some(100..=399) => "success", Some(_) => "failure", None => "unknown" },
        "id": alert.id,
        "module": "kubesiren",
        "dataset": "kubesiren.alerts",
        "provider": "kubernetes.audit",
        "severity": severity(alert.rule.level),
        "start": alert.first_seen,
        "end": alert.last_seen,
        "url": alert.rule.runbook.as_deref().filter(|link| is_link(link)),
    })
}

/// What no field of the schema says.
fn own(alert: &Alert) -> Value {
    let pairs = |map: &std::collections::BTreeMap<String, Value>| {
        map.iter().map(|(field, value)| format!("{field}={}", of_value(value))).collect::<Vec<_>>()
    };
    let timeline: Vec<_> = alert
        .timeline
        .iter()
        .map(|step| json!({"time": step.time, "rule": step.rule.title, "level": step.rule.level, "count": step.count, "summary": step.summary}))
        .collect();
    json!({
        "status": alert.status,
        "level": alert.rule.level,
        "count": alert.count,
        "group": pairs(&alert.group),
        "matched": pairs(&alert.matched),
        "runbook": alert.rule.runbook,
        "references": alert.rule.references,
        "audit_ids": alert.audit_ids,
        "source_ips": alert.event.source_ips,
        "stage": alert.event.stage,
        "api_group": alert.event.object_ref.as_ref().and_then(|object| object.api_group.as_deref()),
        "subresource": alert.event.object_ref.as_ref().and_then(|object| object.subresource.as_deref()),
        "timeline": timeline,
    })
}

/// The numbers that Elastic's own detections have for their levels.
fn severity(level: Level) -> u32 {
    match level {
        Level::Critical => 99,
        Level::High => 73,
        Level::Medium => 47,
        Level::Low => 21,
        Level::Informational => 0,
    }
}

fn category(event: &EventExcerpt, object: &ObjectRef) -> &'static str {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let identity =
        ["serviceaccounts", "tokenreviews", "tokenrequests", "users", "groups", "certificatesigningrequests"];
    if text(&object.api_group) == "rbac.authorization.k8s.io"
        || identity.contains(&text(&object.resource).as_str())
        || text(&object.subresource) == "token"
        || event.impersonated_user.is_some()
    {
        "iam"
    } else if ["exec", "attach", "ephemeralcontainers"].contains(&text(&object.subresource).as_str()) {
        "process"
    } else if ["create", "update", "patch", "delete", "deletecollection"].contains(&event.verb.as_str()) {
        "configuration"
    } else {
        "intrusion_detection"
    }
}

fn kind(verb: &str) -> &'static str {
    match verb {
        "create" => "creation",
        "update" | "patch" => "change",
        "delete" | "deletecollection" => "deletion",
        "get" | "list" | "watch" => "access",
        _ => "info",
    }
}

fn verdict(code: Option<i64>) -> Option<&'static str> {
    match code? {
        100..=399 => Some("allowed"),
        401 | 403 => Some("denied"),
        _ => Some("error"),
    }
}

/// Those that are addresses: anything else would make the whole document be refused.
fn addresses(event: &EventExcerpt) -> Vec<IpAddr> {
    event.source_ips.iter().filter_map(|text| text.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::samples::{alert, hostile, incident};
    use super::*;

    #[test]
    fn the_schemas_fields_hold_what_they_are_for() {
        let alert = alert("a1", "r1", Level::High);
        let document = document(&alert, alert.time);
        for (field, value) in [
            ("/@timestamp", json!("2026-11-21T04:00:00.123456Z")),
            ("/message", json!("alice read secret payments/db-creds from 10.0.0.1 (get, 200)")),
            ("/event/kind", json!("alert")),
            ("/event/category", json!(["intrusion_detection"])),
            ("/event/type", json!(["access", "allowed"])),
            ("/event/id", json!("a1")),
            ("/event/outcome", json!("success")),
            ("/event/severity", json!(73)),
            ("/event/url", json!("https://runbooks.example.com/secrets")),
            ("/rule/id", json!("r1")),
            ("/rule/name", json!("Title of r1")),
            ("/user/name", json!("alice")),
            ("/source/ip", json!("10.0.0.1")),
            ("/user_agent/original", json!("kubectl/v1.36.2")),
            ("/orchestrator/type", json!("kubernetes")),
            ("/orchestrator/cluster/name", json!("prod-eu")),
            ("/orchestrator/namespace", json!("payments")),
            ("/orchestrator/resource", json!({"type": "secrets", "name": "db-creds"})),
            ("/threat/technique/id", json!(["T1552.007"])),
            ("/kubesiren/group", json!(["user.username=alice"])),
            ("/kubesiren/count", json!(3)),
        ] {
            assert_eq!(document.pointer(field), Some(&value), "{field}");
        }
        assert!(document.pointer("/user/effective").is_none(), "what is not there has no field");
    }

    #[test]
    fn an_incident_keeps_its_timeline() {
        assert_eq!(document(&incident(), incident().time)["kubesiren"]["timeline"][1]["rule"], "Two");
    }

    #[test]
    fn what_changes_rights_is_about_identity() {
        let mut bound = alert("a", "r", Level::High);
        let object = bound.event.object_ref.as_mut().unwrap();
        (object.resource, object.api_group) = (Some("roles".into()), Some("rbac.authorization.k8s.io".into()));
        assert_eq!(document(&bound, bound.time)["event"]["category"], json!(["iam"]));
        let mut shell = alert("a", "r", Level::High);
        shell.event.object_ref.as_mut().unwrap().subresource = Some("exec".into());
        assert_eq!(document(&shell, shell.time)["event"]["category"], json!(["process"]));
    }

    /// An index knows as many fields as it is given: names from events must not be among them.
    #[test]
    fn no_event_makes_a_field_and_no_text_is_taken_for_an_address() {
        fn keys(value: &Value, into: &mut Vec<String>) {
            match value {
                Value::Object(map) => map.iter().for_each(|(key, value)| {
                    into.push(key.clone());
                    keys(value, into);
                }),
                Value::Array(items) => items.iter().for_each(|item| keys(item, into)),
                _ => {}
            }
        }
        let document = document(&hostile("id", "evil"), Timestamp::MIN);
        let mut found = Vec::new();
        keys(&document, &mut found);
        assert!(!found.iter().any(|key| key.contains("evil")), "{found:?}");
        assert!(document.get("source").is_none() && document["kubesiren"]["source_ips"][0] == "evil");
    }
}
