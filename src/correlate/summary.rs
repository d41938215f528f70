//! One line for people: who did what to what, from where, with what result.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::alert::{EventExcerpt, ObjectRef};
use crate::text::{query_decoded, shorten};

/// Characters of a command that a summary shows.
const COMMAND_MAX: usize = 160;

/// `alice read secret payments/db-creds from 10.0.0.1 (get, 200)`. Values are untrusted: escape them for the medium.
#[must_use]
pub fn sentence(event: &EventExcerpt) -> String {
    let code = event.response_status.as_ref().and_then(|status| status.code);
    let failed = code.is_some_and(|code| code >= 400);
    let who = event.user.username.as_deref().filter(|name| !name.is_empty()).unwrap_or("an unauthenticated client");
    let acting_as = event.impersonated_user.as_ref().and_then(|user| user.username.as_deref());
    let acting_as = acting_as.map(|name| format!(" (as {name})")).unwrap_or_default();
    let (past, base, rest) = action(event);
    let action = match (failed, event.dry_run) {
        (true, _) => format!("tried to {base}"),
        (false, true) => format!("tried out to {base}"),
        (false, false) => past.to_owned(),
    };
    let trial = if event.dry_run { ", dry run" } else { "" };
    let from = event.source_ips.last().map(|ip| format!(" from {ip}")).unwrap_or_default();
    let code = code.map(|code| format!(", {code}")).unwrap_or_default();
    format!("{who}{acting_as} {action} {rest}{from} ({}{code}{trial})", event.verb)
}

/// Several events: the group, how many, how long, and the one that completed the evidence.
#[must_use]
pub(super) fn of_several(group: &BTreeMap<String, Value>, count: u64, span: Duration, event: &EventExcerpt) -> String {
    let names: Vec<String> = group.values().map(plain).filter(|text| !text.is_empty()).collect();
    let who = if names.is_empty() { String::new() } else { format!("{}: ", names.join(", ")) };
    let requests = if count == 1 { "request" } else { "requests" };
    format!("{who}{count} {requests} within {}, last of them: {}", rough(span), sentence(event))
}

/// A value that is new for its group: `fields` are the names under which the group has it.
#[must_use]
pub(super) fn of_first_seen(group: &BTreeMap<String, Value>, fields: &[&str], event: &EventExcerpt) -> String {
    let (new, known): (Vec<_>, Vec<_>) = group.iter().partition(|(name, _)| fields.contains(&name.as_str()));
    let known: Vec<String> = known.iter().map(|(_, value)| plain(value)).filter(|text| !text.is_empty()).collect();
    let new: Vec<String> = new.iter().map(|(name, value)| format!("{name} {}", plain(value))).collect();
    let whose = if known.is_empty() { String::new() } else { format!(" for {}", known.join(", ")) };
    format!("first {}{whose}: {}", new.join(", "), sentence(event))
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A span as people say it: two units at most.
fn rough(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => "1s".to_owned(),
        1..=59 => format!("{seconds}s"),
        60..=3_599 if seconds.is_multiple_of(60) => format!("{}m", seconds / 60),
        60..=3_599 => format!("{}m{}s", seconds / 60, seconds % 60),
        _ => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
    }
}

/// What was done, in the past and as a wish, and to what.
fn action(event: &EventExcerpt) -> (&'static str, &'static str, String) {
    let Some(object) = event.object_ref.as_ref().filter(|object| object.resource.is_some()) else {
        let path = event.request_uri.split('?').next().unwrap_or_default().to_owned();
        let (past, base) = verb(&event.verb);
        return (past, base, path);
    };
    let subresource = object.subresource.as_deref().unwrap_or_default();
    let special = match (subresource, event.verb.as_str()) {
        ("exec", _) => Some(("ran a command in", "run a command in")),
        ("attach", _) => Some(("attached to", "attach to")),
        ("portforward", _) => Some(("forwarded a port of", "forward a port of")),
        ("proxy", _) => Some(("went through the proxy of", "go through the proxy of")),
        ("log", _) => Some(("read the log of", "read the log of")),
        ("token", "create") => Some(("requested a token of", "request a token of")),
        ("eviction", "create") => Some(("evicted", "evict")),
        ("binding", "create") => Some(("assigned a node to", "assign a node to")),
        ("scale", "update" | "patch") => Some(("scaled", "scale")),
        ("approval", "update" | "patch") => Some(("approved", "approve")),
        ("ephemeralcontainers", "update" | "patch") => {
            Some(("added an ephemeral container to", "add an ephemeral container to"))
        }
        _ => None,
    };
    let (past, base) = special.unwrap_or_else(|| verb(&event.verb));
    let shown = if special.is_some() { "" } else { subresource };
    let command = if subresource == "exec" { command(&event.request_uri) } else { String::new() };
    (past, base, format!("{}{command}", object_text(object, shown, &event.verb)))
}

/// The command of an exec, which is only in the URI: `: cat /etc/shadow`. Credentials in it are redacted there.
fn command(uri: &str) -> String {
    let query = uri.split_once('?').map_or("", |(_, query)| query);
    let words: Vec<String> =
        query.split('&').filter_map(|part| part.strip_prefix("command=")).map(query_decoded).collect();
    if words.is_empty() { String::new() } else { format!(": {}", shorten(&words.join(" "), COMMAND_MAX)) }
}

fn verb(verb: &str) -> (&'static str, &'static str) {
    match verb {
        "get" => ("read", "read"),
        "list" => ("listed", "list"),
        "watch" => ("watched", "watch"),
        "create" | "post" => ("created", "create"),
        "update" | "put" => ("updated", "update"),
        "patch" => ("patched", "patch"),
        "delete" => ("deleted", "delete"),
        "deletecollection" => ("deleted all", "delete all"),
        _ => ("did something to", "do something to"),
    }
}

fn object_text(object: &ObjectRef, subresource: &str, verb: &str) -> String {
    let resource = object.resource.as_deref().unwrap_or_default();
    let of = if subresource.is_empty() { String::new() } else { format!("{subresource} of ") };
    let place = |name: &str| match object.namespace.as_deref().filter(|namespace| *namespace != name) {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    };
    match (object.name.as_deref(), object.namespace.as_deref()) {
        (Some(name), _) => format!("{of}{} {}", singular(resource), place(name)),
        (None, Some(namespace)) if verb == "create" => format!("{of}{} in {namespace}", singular(resource)),
        (None, None) if verb == "create" => format!("{of}{}", singular(resource)),
        (None, Some(namespace)) => format!("{of}{resource} in {namespace}"),
        (None, None) => format!("{of}{resource} of the whole cluster"),
    }
}

/// `secrets` to `secret`, `policies` to `policy`, `ingresses` to `ingress`; `endpoints` stays.
fn singular(resource: &str) -> String {
    if resource == "endpoints" {
        return resource.to_owned();
    }
    if let Some(stem) = resource.strip_suffix("ies") {
        return format!("{stem}y");
    }
    if resource.ends_with("sses") {
        return resource[..resource.len() - 2].to_owned();
    }
    resource.strip_suffix('s').unwrap_or(resource).to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "what `json!` gives")]
    fn event(value: Value) -> EventExcerpt {
        let mut base = json!({"auditID": "a", "stage": "ResponseComplete", "verb": "get", "requestURI": "/x?y=z",
            "user": {"username": "alice"}, "sourceIPs": ["6.6.6.6", "10.0.0.1"], "stageTimestamp": "t"});
        for (key, value) in value.as_object().cloned().unwrap_or_default() {
            base[key] = value;
        }
        serde_json::from_value(base).expect("an event")
    }

    #[test]
    fn sentences_read_well() {
        for (value, expected) in [
            (
                json!({"objectRef": {"resource": "secrets", "namespace": "payments", "name": "db"}, "responseStatus": {"code": 200}}),
                "alice read secret payments/db from 10.0.0.1 (get, 200)",
            ),
            (
                json!({"verb": "list", "objectRef": {"resource": "secrets"}, "responseStatus": {"code": 403}}),
                "alice tried to list secrets of the whole cluster from 10.0.0.1 (list, 403)",
            ),
            (
                json!({"objectRef": {"resource": "pods", "namespace": "shop", "name": "web-0", "subresource": "exec"},
                    "impersonatedUser": {"username": "root"}, "responseStatus": {"code": 101}}),
                "alice (as root) ran a command in pod shop/web-0 from 10.0.0.1 (get, 101)",
            ),
            (
                json!({"objectRef": {"resource": "pods", "namespace": "shop", "name": "web-0", "subresource": "exec"},
                    "requestURI": "/api/v1/namespaces/shop/pods/web-0/exec?command=sh&command=-c&command=cat+%2Fetc%2Fshadow&stdin=true"}),
                "alice ran a command in pod shop/web-0: sh -c cat /etc/shadow from 10.0.0.1 (get)",
            ),
            (
                json!({"verb": "patch", "objectRef": {"resource": "networkpolicies", "namespace": "a", "name": "b", "subresource": "status"}}),
                "alice patched status of networkpolicy a/b from 10.0.0.1 (patch)",
            ),
            (
                json!({"user": {}, "verb": "create", "objectRef": {"resource": "ingresses", "namespace": "a"}, "responseStatus": {"code": 401}}),
                "an unauthenticated client tried to create ingress in a from 10.0.0.1 (create, 401)",
            ),
            (json!({"sourceIPs": []}), "alice read /x (get)"),
            (
                json!({"verb": "create", "objectRef": {"resource": "pods", "namespace": "a", "name": "b"}, "responseStatus": {"code": 201},
                    "dryRun": true}),
                "alice tried out to create pod a/b from 10.0.0.1 (create, 201, dry run)",
            ),
            (
                json!({"verb": "create", "objectRef": {"resource": "pods", "namespace": "a", "name": "b"}, "responseStatus": {"code": 403},
                    "dryRun": true}),
                "alice tried to create pod a/b from 10.0.0.1 (create, 403, dry run)",
            ),
            (
                json!({"verb": "delete", "objectRef": {"resource": "namespaces", "namespace": "a", "name": "a"}}),
                "alice deleted namespace a from 10.0.0.1 (delete)",
            ),
            (
                json!({"verb": "delete", "objectRef": {"resource": "namespaces", "namespace": "a", "name": "a"}, "responseStatus": {"code": 200},
                    "dryRun": true}),
                "alice tried out to delete namespace a from 10.0.0.1 (delete, 200, dry run)",
            ),
        ] {
            assert_eq!(sentence(&event(value)), expected);
        }
    }

    #[test]
    fn a_new_value_is_named_with_whose_it_is() {
        let group = BTreeMap::from([
            ("user.username".to_owned(), json!("mallory")),
            ("objectRef.namespace".to_owned(), json!("payments")),
        ]);
        let text = of_first_seen(&group, &["objectRef.namespace"], &event(json!({})));
        assert_eq!(text, "first objectRef.namespace payments for mallory: alice read /x from 10.0.0.1 (get)");
    }

    #[test]
    fn several_events_tell_group_count_and_span() {
        let group = BTreeMap::from([("user.username".to_owned(), json!("mallory")), ("x".to_owned(), Value::Null)]);
        let text = of_several(&group, 12, Duration::from_secs(125), &event(json!({})));
        assert_eq!(text, "mallory: 12 requests within 2m5s, last of them: alice read /x from 10.0.0.1 (get)");
    }
}
