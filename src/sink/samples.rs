//! Alerts for the tests of sinks and of the workers in front of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Item, Message};
use crate::alert::{Alert, EventExcerpt, Level, ObjectRef, ResponseStatus, RuleInfo, RuleName, Status, Step, User};
use crate::clock::Timestamp;
use crate::store::Kind;

pub(crate) fn at(text: &str) -> Timestamp {
    Timestamp::parse(text).expect("an RFC 3339 time")
}

/// A plain alert; ids are free, rules are named by `rule`.
pub(crate) fn alert(id: &str, rule: &str, level: Level) -> Alert {
    Alert {
        id: id.to_owned(),
        status: Status::Firing,
        time: at("2026-11-21T04:00:00.123456Z"),
        cluster: "prod-eu".to_owned(),
        rule: Arc::new(RuleInfo {
            id: rule.to_owned(),
            title: format!("Title of {rule}"),
            level,
            tags: vec!["attack.t1552.007".to_owned()],
            references: vec!["https://example.com/why".to_owned()],
            runbook: Some("https://runbooks.example.com/secrets".to_owned()),
        }),
        summary: "alice read secret payments/db-creds from 10.0.0.1 (get, 200)".to_owned(),
        count: 3,
        first_seen: at("2026-11-21T04:00:00.123456Z"),
        last_seen: at("2026-11-21T04:04:12.000000Z"),
        group: BTreeMap::from([("user.username".to_owned(), "alice".into())]),
        event: event(),
        matched: BTreeMap::from([("objectRef.resource".to_owned(), "secrets".into())]),
        audit_ids: vec!["5f9d2c1e-0000-4000-8000-000000000001".to_owned()],
        timeline: Vec::new(),
    }
}

/// An alert of two rules, with its timeline.
pub(crate) fn incident() -> Alert {
    let step = |time: &str, title: &str, level, count| Step {
        time: at(time),
        rule: RuleName { id: title.to_lowercase(), title: title.to_owned(), level },
        summary: format!("alice did {title} <b>"),
        count,
    };
    let timeline = vec![
        step("2026-11-21T04:00:00.123456Z", "One", Level::Medium, 1),
        step("2026-11-21T04:04:12Z", "Two", Level::High, 3),
    ];
    Alert { timeline, ..alert("incident", "many", Level::High) }
}

fn event() -> EventExcerpt {
    EventExcerpt {
        audit_id: "5f9d2c1e-0000-4000-8000-000000000001".to_owned(),
        stage: "ResponseComplete".to_owned(),
        verb: "get".to_owned(),
        request_uri: "/api/v1/namespaces/payments/secrets/db-creds".to_owned(),
        user: User { username: Some("alice".to_owned()), groups: vec!["dev".to_owned()] },
        impersonated_user: None,
        source_ips: vec!["10.0.0.1".to_owned()],
        user_agent: Some("kubectl/v1.36.2".to_owned()),
        object_ref: Some(ObjectRef {
            resource: Some("secrets".to_owned()),
            namespace: Some("payments".to_owned()),
            name: Some("db-creds".to_owned()),
            api_version: Some("v1".to_owned()),
            ..ObjectRef::default()
        }),
        response_status: Some(ResponseStatus { code: Some(200), reason: None }),
        stage_timestamp: "2026-11-21T04:00:00.123456Z".to_owned(),
        dry_run: false,
    }
}

/// The alert with every text that comes from an event, or a rule, set to `text`.
pub(crate) fn hostile(id: &str, text: &str) -> Alert {
    let some = || Some(text.to_owned());
    let mut alert = alert(id, "hostile", Level::Critical);
    alert.cluster = text.to_owned();
    alert.rule = Arc::new(RuleInfo {
        id: text.to_owned(),
        title: text.to_owned(),
        level: Level::Critical,
        tags: vec![text.to_owned(); 40],
        references: vec![text.to_owned(); 40],
        runbook: some(),
    });
    alert.summary = text.to_owned();
    alert.group = (0..40).map(|n| (format!("{n}{text}"), text.into())).collect();
    alert.matched = (0..200).map(|n| (format!("{n}{text}"), text.into())).collect();
    alert.audit_ids = vec![text.to_owned(); 10];
    let step = Step {
        time: alert.time,
        rule: RuleName { id: text.to_owned(), title: text.to_owned(), level: Level::High },
        summary: text.to_owned(),
        count: 2,
    };
    alert.timeline = vec![step; 20];
    let user = User { username: some(), groups: vec![text.to_owned(); 100] };
    alert.event = EventExcerpt {
        audit_id: text.to_owned(),
        stage: text.to_owned(),
        verb: text.to_owned(),
        request_uri: text.to_owned(),
        user: user.clone(),
        impersonated_user: Some(user),
        source_ips: vec![text.to_owned(); 50],
        user_agent: some(),
        object_ref: Some(ObjectRef {
            resource: some(),
            namespace: some(),
            name: some(),
            api_group: some(),
            api_version: some(),
            subresource: some(),
        }),
        response_status: Some(ResponseStatus { code: Some(-1), reason: some() }),
        stage_timestamp: text.to_owned(),
        dry_run: false,
    };
    alert
}

pub(crate) fn item(kind: Kind, mut alert: Alert) -> Item {
    if kind == Kind::Resolved {
        alert.status = Status::Resolved;
    }
    Item { seqs: vec![1], kind, alert, attempts: 0, remembered: None }
}

pub(crate) fn message(items: Vec<Item>) -> Message {
    Message::of(items)
}
