//! From the bytes of a matching event to what its alert may show: the envelope without bodies, identities, and the
//! values that the predicates matched, redacted.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::Value;

use crate::alert::{EventExcerpt, ObjectRef, ResponseStatus, User};
use crate::event::FieldPath;
use crate::event::path::Found;
use crate::hash;
use crate::rule::field::Field;
use crate::rule::ir::{Expr, Op, Test};
use crate::rule::make::{Apply, Make};
use crate::rule::{explain, naive};
use crate::text::query_decoded;

/// What stands for a value that must not be shown.
pub const REDACTED: &str = "[redacted]";

/// What a query's value cannot have as it is.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'&').add(b'+').add(b'<').add(b'>');

const AUDIT_ID_MAX: usize = 256;
const NAME_MAX: usize = 512;
const URI_MAX: usize = 2_048;
const VALUE_MAX: usize = 256;
const VALUES_MAX: usize = 16;
const GROUPS_MAX: usize = 64;

/// What this module reads of every event that is shown, whatever its rule reads.
pub(super) const READS: [&str; 25] = [
    "auditID",
    "stage",
    "verb",
    "requestURI",
    "stageTimestamp",
    "requestReceivedTimestamp",
    "userAgent",
    "sourceIPs",
    "user.username",
    "user.groups",
    "impersonatedUser.username",
    "impersonatedUser.groups",
    "objectRef.resource",
    "objectRef.namespace",
    "objectRef.name",
    "objectRef.apiGroup",
    "objectRef.apiVersion",
    "objectRef.subresource",
    "responseStatus.code",
    "responseStatus.reason",
    "requestObject.kind",
    "responseObject.kind",
    // So that what is there but holds nothing that is read is still there.
    "user",
    "impersonatedUser",
    "objectRef",
];

/// Identities of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// What was delivered: auditID, stage, stageTimestamp and content.
    pub(super) delivery: u64,
    /// What was requested: auditID, requestReceivedTimestamp, user and URI.
    pub(super) request: u64,
}

/// Reads an event field by field: what is odd or null counts as absent, and hides nothing else.
struct Reader<'e>(&'e Value);

impl<'e> Reader<'e> {
    fn text(&self, name: &str) -> Option<&'e str> {
        self.0.get(name)?.as_str()
    }

    /// A text that alerts always have.
    fn must(&self, name: &str) -> &'e str {
        self.text(name).unwrap_or_default()
    }

    fn short(&self, name: &str, max: usize) -> Option<String> {
        self.text(name).map(|text| shorten(text, max))
    }

    /// The texts of a list; one text is a list of one.
    fn texts(&self, name: &str, most: usize) -> Vec<String> {
        let items = match self.0.get(name) {
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        items.iter().filter_map(Value::as_str).take(most).map(|text| shorten(text, NAME_MAX)).collect()
    }

    fn object(&self, name: &str) -> Option<Self> {
        self.0.get(name).filter(|value| value.is_object()).map(Self)
    }

    fn user(&self) -> User {
        User { username: self.short("username", NAME_MAX), groups: self.texts("groups", GROUPS_MAX) }
    }

    fn object_ref(&self) -> ObjectRef {
        let short = |name| self.short(name, NAME_MAX);
        ObjectRef {
            resource: short("resource"),
            namespace: short("namespace"),
            name: short("name"),
            api_group: short("apiGroup"),
            api_version: short("apiVersion"),
            subresource: short("subresource"),
        }
    }

    fn status(&self) -> ResponseStatus {
        let code = self.0.get("code").and_then(|code| match code {
            Value::String(text) => text.parse().ok(),
            number => number.as_i64(),
        });
        ResponseStatus { code, reason: self.short("reason", NAME_MAX) }
    }
}

/// The excerpt and the identities of an event.
pub(super) fn excerpt(event: &Value, bytes: &[u8]) -> (EventExcerpt, Meta) {
    let read = Reader(event);
    let excerpt = EventExcerpt {
        audit_id: shorten(read.must("auditID"), AUDIT_ID_MAX),
        stage: shorten(read.must("stage"), NAME_MAX),
        verb: shorten(read.must("verb"), NAME_MAX),
        request_uri: shorten(&redact_uri(read.must("requestURI")), URI_MAX),
        user: read.object("user").map(|user| user.user()).unwrap_or_default(),
        impersonated_user: read.object("impersonatedUser").map(|user| user.user()),
        source_ips: read.texts("sourceIPs", VALUES_MAX),
        user_agent: read.short("userAgent", URI_MAX),
        object_ref: read.object("objectRef").map(|object| object.object_ref()),
        response_status: read.object("responseStatus").map(|status| status.status()),
        stage_timestamp: shorten(read.must("stageTimestamp"), NAME_MAX),
    };
    (excerpt, meta(&read, bytes))
}

fn meta(read: &Reader<'_>, bytes: &[u8]) -> Meta {
    let (id, received) = (read.must("auditID"), read.must("requestReceivedTimestamp"));
    let delivery = [id, read.must("stage"), read.must("stageTimestamp")].map(str::as_bytes);
    let delivery = hash::short(&[delivery[0], delivery[1], delivery[2], bytes]);
    let user = read.object("user").and_then(|user| user.text("username")).unwrap_or_default();
    let request = [id, received, user, read.must("requestURI")].map(str::as_bytes);
    // Without these, two requests cannot be told apart: better one too many than one taken for a later stage of another.
    let request = if id.is_empty() || received.is_empty() {
        hash::short(&[request[0], request[1], request[2], request[3], &delivery.to_le_bytes()])
    } else {
        hash::short(&request)
    };
    Meta { delivery, request }
}

/// At most `max` characters; what is left out is told.
fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
    }
}

/// A URI without the credentials in its query: values of parameters that are named like one, and what follows a flag of
/// the command that `exec` runs.
fn redact_uri(uri: &str) -> String {
    let Some((path, query)) = uri.split_once('?') else { return uri.to_owned() };
    let mut after_flag = false;
    let parts = query.split('&').map(|part| {
        let Some((key, value)) = part.split_once('=') else { return part.to_owned() };
        let name = query_decoded(key);
        if names_a_secret(&name) {
            return format!("{key}={REDACTED}");
        }
        if name != "command" {
            return part.to_owned();
        }
        let word = query_decoded(value);
        let shown = if std::mem::take(&mut after_flag) { REDACTED.to_owned() } else { redact_word(value, &word) };
        after_flag = shown == value && names_a_secret(last_word(&word));
        format!("{key}={shown}")
    });
    format!("{path}?{}", parts.collect::<Vec<_>>().join("&"))
}

fn last_word(text: &str) -> &str {
    text.split_whitespace().next_back().unwrap_or_default()
}

/// A word of a command, which may be a whole script: from its first credential on it is left out.
fn redact_word(raw: &str, word: &str) -> String {
    match secret_in_word(word) {
        Some(end) => format!("{}{REDACTED}", utf8_percent_encode(&word[..end], QUERY)),
        None => raw.to_owned(),
    }
}

/// Where in a word of a command its first credential begins.
fn secret_in_word(word: &str) -> Option<usize> {
    let word = word.trim_end();
    let mut start = 0;
    for (at, separator) in word.char_indices().filter(|(_, ch)| matches!(ch, '=' | ':') || ch.is_whitespace()) {
        let end = at + separator.len_utf8();
        if names_a_secret(&word[start..at]) {
            return Some(end);
        }
        start = end;
    }
    None
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "password", "passwd", "secret", "authorization", "bearer", "apikey", "api_key", "api-key", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

/// The values for which the positive tests of an expression are true, by field, and those of the fields that the rule
/// wants shown.
pub(super) fn matched(expr: &Expr, shown: &[FieldPath], event: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    collect(expr, event, &mut found);
    for field in shown {
        let mut values = values(field, event);
        if !values.is_empty() && !found.contains_key(field.as_str()) {
            let value = if values.len() == 1 { values.remove(0) } else { Value::Array(values) };
            found.insert(field.as_str().to_owned(), value);
        }
    }
    found
}

fn collect(expr: &Expr, event: &Value, found: &mut BTreeMap<String, Value>) {
    match expr {
        Expr::All(parts) => parts.iter().for_each(|part| collect(part, event, found)),
        Expr::Any(parts) => {
            parts.iter().filter(|part| naive::holds(part, event)).for_each(|part| collect(part, event, found));
        }
        Expr::Not(_) => {}
        Expr::Test(test) if matches!(test.op, Op::Null) || !naive::test_holds(test, event) => {}
        // Every event has a time: that it has one says nothing.
        Expr::Test(Test { field: Field::Derived(derived), .. }) if derived.make == Make::Time => {}
        // What the event has there may be a secret; the keyword is the rule's.
        Expr::Test(Test { field: Field::Anything, op, .. }) => {
            let known = found.entry("keywords".to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(known) = known {
                known.push(explain::asked(op).into());
            }
        }
        Expr::Test(test) => {
            let values: Vec<Value> = naive::witnesses(test, event)
                .into_iter()
                .take(VALUES_MAX)
                .map(|v| show(&test.field, &v, event))
                .collect();
            let value = match values.len() {
                0 => Value::Bool(true),
                1 => values.into_iter().next().unwrap_or_default(),
                _ => Value::Array(values),
            };
            found.insert(test.field.as_str().to_owned(), value);
        }
    }
}

/// The values of a field that groups or counts matches.
pub(super) fn values(field: &FieldPath, event: &Value) -> Vec<Value> {
    let scalars = field.resolve(event).into_iter().filter_map(|found| match found {
        Found::Scalar(Value::Null) | Found::Container => None,
        Found::Scalar(value) => Some(show_path(field, value, event)),
    });
    scalars.take(VALUES_MAX).collect()
}

/// A value of an event's field as it may be shown: short, and not a secret.
#[must_use]
pub fn show(field: &Field, value: &Value, event: &Value) -> Value {
    match field {
        Field::Path(path) => show_path(path, value, event),
        // It may be from anywhere, and so be a secret.
        Field::Anything => REDACTED.into(),
        Field::Derived(derived) if derived.reads.iter().any(|path| is_secret(path.path(), event)) => REDACTED.into(),
        Field::Derived(derived) => match (&derived.make, derived.reads.first()) {
            (Make::Parameter(name), _) => show_parameter(name, value),
            // Decoded, a credential could not be told from what is around it any more.
            (Make::Apply(Apply::Decoded, _), Some(path)) => {
                path.resolve(event).into_iter().next().map_or(REDACTED.into(), |found| match found {
                    Found::Scalar(value) => show_path(path, value, event),
                    Found::Container => REDACTED.into(),
                })
            }
            (_, Some(path)) => show_made(path.path(), value, event),
            (_, None) => REDACTED.into(),
        },
    }
}

/// A parameter of the request's URI.
fn show_parameter(name: &str, value: &Value) -> Value {
    let Value::String(text) = value else { return value.clone() };
    if names_a_secret(name) {
        return REDACTED.into();
    }
    match secret_in_word(text) {
        Some(end) => format!("{}{REDACTED}", &text[..end]).into(),
        None => shorten(text, VALUE_MAX).into(),
    }
}

/// A value that was made of what is at a path: it may be a whole object's JSON text, or what became of it.
fn show_made(path: &str, value: &Value, event: &Value) -> Value {
    let Value::String(text) = value else { return value.clone() };
    match serde_json::from_str::<Value>(text) {
        Ok(mut inner @ (Value::Object(_) | Value::Array(_))) => {
            redact_within(path, &mut inner, event);
            shorten(&inner.to_string(), VALUE_MAX).into()
        }
        // Cut out of a body's data, or decoded from it.
        _ if is_data(path) => REDACTED.into(),
        _ if path == "requestURI" => shorten(&redact_uri(text), VALUE_MAX).into(),
        _ => shorten(text, VALUE_MAX).into(),
    }
}

/// What ConfigMaps hold: anything, and often what should have been a Secret.
fn is_data(path: &str) -> bool {
    ["requestObject", "responseObject"].iter().any(|body| {
        path.strip_prefix(body).is_some_and(|rest| rest.is_empty() || rest == ".data" || rest == ".binaryData")
    })
}

/// Takes out of an object, which is at `path`, what must not be shown.
fn redact_within(path: &str, value: &mut Value, event: &Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| redact_within(path, item, event)),
        Value::Object(map) => {
            for (key, value) in map {
                let path = format!("{path}.{key}");
                let variable = path.ends_with(".env.value");
                let data = path.rsplit_once('.').is_some_and(|(above, _)| above != "requestObject" && is_data(above));
                if variable || data || is_secret(&path, event) {
                    *value = REDACTED.into();
                } else {
                    redact_within(&path, value, event);
                }
            }
        }
        _ => {}
    }
}

fn show_path(field: &FieldPath, value: &Value, event: &Value) -> Value {
    if is_secret(field.path(), event) {
        return REDACTED.into();
    }
    match value {
        Value::String(text) if field.path() == "requestURI" => shorten(&redact_uri(text), VALUE_MAX).into(),
        Value::String(text) => shorten(text, VALUE_MAX).into(),
        other => other.clone(),
    }
}

/// Whether the values at a path must not be shown: data of Secrets, tokens, and annotations that repeat whole objects.
fn is_secret(path: &str, event: &Value) -> bool {
    if path.contains("last-applied-configuration") {
        return true;
    }
    let Some(inside) = ["requestObject.", "responseObject."].iter().find_map(|body| path.strip_prefix(body)) else {
        return false;
    };
    let last = inside.rsplit('.').next().unwrap_or(inside);
    if names_a_secret(last) && !last.ends_with("Name") && !last.starts_with("automount") {
        return true;
    }
    let of_secret = is_text(event, "/objectRef/resource", "secrets")
        || ["/requestObject/kind", "/responseObject/kind"]
            .iter()
            .any(|kind| is_text(event, kind, "Secret") || is_text(event, kind, "SecretList"));
    let harmless = ["kind", "type", "apiVersion", "immutable"].contains(&inside) || inside.starts_with("metadata.");
    of_secret && !harmless
}

fn is_text(event: &Value, pointer: &str, text: &str) -> bool {
    event.pointer(pointer).and_then(Value::as_str).is_some_and(|found| found.eq_ignore_ascii_case(text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret = json!({"objectRef": {"resource": "secrets"}});
        let pod = json!({"objectRef": {"resource": "pods"}});
        let sent = json!({"objectRef": {"resource": "things"}, "requestObject": {"kind": "Secret"}});
        let listed = json!({"objectRef": {"resource": "things"}, "responseObject": {"kind": "SecretList"}});
        for (path, event, hidden) in [
            ("requestObject.data.password", &secret, true),
            ("requestObject.stringData.x", &secret, true),
            ("responseObject.items.data.x", &secret, true),
            ("requestObject.value", &secret, true),
            ("requestObject.data.x", &sent, true),
            ("responseObject.items.data.x", &listed, true),
            ("requestObject.type", &secret, false),
            ("requestObject.metadata.labels.app", &secret, false),
            ("requestObject.metadata.annotations.kubectl.kubernetes.io/last-applied-configuration", &pod, true),
            ("responseObject.status.token", &pod, true),
            ("requestObject.spec.serviceAccountName", &pod, false),
            ("requestObject.spec.automountServiceAccountToken", &pod, false),
            ("requestObject.spec.containers.image", &pod, false),
            ("requestURI", &pod, false),
        ] {
            assert_eq!(is_secret(path, event), hidden, "{path}");
        }
    }

    #[test]
    fn objects_are_shown_without_their_secrets() {
        let config = json!({"objectRef": {"resource": "configmaps"}});
        let secret = json!({"objectRef": {"resource": "secrets"}});
        let text = |value: Value| Value::from(value.to_string());
        for (path, event, value, shown) in [
            ("requestObject.data", &config, json!({"password": "x"}), json!({"password": "[redacted]"})),
            (
                "requestObject",
                &config,
                json!({"data": {"k": "x"}, "metadata": {"annotations": {"a/last-applied-configuration": "x"}, "name": "n"}}),
                json!({"data": {"k": "[redacted]"}, "metadata": {"annotations": {"a/last-applied-configuration": "[redacted]"}, "name": "n"}}),
            ),
            (
                "requestObject.spec.containers",
                &config,
                json!([{"env": [{"name": "PASS", "value": "x"}], "image": "i"}]),
                json!([{"env": [{"name": "PASS", "value": "[redacted]"}], "image": "i"}]),
            ),
            (
                "requestObject",
                &secret,
                json!({"data": {"k": "x"}, "type": "t"}),
                json!({"data": "[redacted]", "type": "t"}),
            ),
        ] {
            assert_eq!(show_made(path, &text(value), event), text(shown), "{path}");
        }
        assert_eq!(show_made("requestObject.data", &"decoded".into(), &config), REDACTED);
        assert_eq!(show_parameter("access_token", &"x".into()), REDACTED);
        assert_eq!(show_parameter("command", &"mysql --password=x".into()), "mysql --password=[redacted]");
        assert_eq!(show_parameter("command", &"sh".into()), "sh");
    }

    #[test]
    fn credentials_in_uris_are_redacted() {
        assert_eq!(redact_uri("/api?watch=1&access_token=abc&x=2"), "/api?watch=1&access_token=[redacted]&x=2");
        assert_eq!(redact_uri("/api"), "/api");
        for (query, shown) in [
            ("t%6fken=abc", "t%6fken=[redacted]"),
            ("command=curl&command=--token=abc&command=x", "command=curl&command=--token=[redacted]&command=x"),
            ("command=--token%3Dabc&x=1", "command=--token=[redacted]&x=1"),
            (
                "command=login&command=--password&stdin=1&command=abc",
                "command=login&command=--password&stdin=1&command=[redacted]",
            ),
            ("command=--password&command=token&command=ls", "command=--password&command=[redacted]&command=ls"),
            ("command=curl+-H+Authorization:+Bearer+abc", "command=curl%20-H%20Authorization:[redacted]"),
            (
                "command=sh&command=-c&command=DB_PASSWORD%3Dx+run",
                "command=sh&command=-c&command=DB_PASSWORD=[redacted]",
            ),
            ("command=vault+--token+abc", "command=vault%20--token%20[redacted]"),
            ("command=sh&command=-c&command=ls+-l&tty=true", "command=sh&command=-c&command=ls+-l&tty=true"),
        ] {
            assert_eq!(redact_uri(&format!("/x?{query}")), format!("/x?{shown}"));
        }
    }

    #[test]
    fn long_values_are_cut_at_a_character() {
        assert_eq!(shorten("äöü", 2), "äö… (6 bytes)");
        assert_eq!(shorten("äöü", 3), "äöü");
    }

    #[test]
    fn identities_depend_on_what_they_should() {
        let event = |id: &str, uri: &str, stage: &str| {
            let event = json!({"auditID": id, "requestURI": uri, "stage": stage, "user": {"username": "u"},
                "requestReceivedTimestamp": "2026-11-21T04:15:56.715875Z", "stageTimestamp": "2026-11-21T04:15:56.715875Z"});
            excerpt(&event, event.to_string().as_bytes()).1
        };
        let (a, b) = (event("1", "/a", "ResponseStarted"), event("1", "/a", "ResponseComplete"));
        assert_eq!(a.request, b.request);
        assert_ne!(a.delivery, b.delivery);
        assert_ne!(a.request, event("1", "/b", "ResponseStarted").request);
    }

    #[test]
    fn one_odd_field_hides_nothing_else() {
        let whole = json!({"auditID": "1", "stage": "ResponseComplete", "verb": "get", "requestURI": "/a",
            "user": {"username": "u", "groups": ["g"]}, "impersonatedUser": {"username": "i"}, "sourceIPs": ["::1"],
            "userAgent": "curl", "objectRef": {"resource": "pods", "name": "p"},
            "responseStatus": {"code": 403, "reason": "Forbidden"},
            "requestReceivedTimestamp": "2026-11-21T04:15:56.715875Z", "stageTimestamp": "2026-11-21T04:15:56.715875Z"});
        let (good, meta) = excerpt(&whole, b"");
        assert_eq!(good.user.groups, ["g"]);
        for (place, odd) in [
            ("/user/groups", json!(null)),
            ("/user/groups", json!([null, 7])),
            ("/user", json!(null)),
            ("/impersonatedUser", json!([])),
            ("/impersonatedUser/username", json!(null)),
            ("/sourceIPs", json!(null)),
            ("/userAgent", json!(7)),
            ("/objectRef", json!("pods")),
            ("/objectRef/name", json!(7)),
            ("/responseStatus", json!(null)),
            ("/responseStatus/code", json!({})),
            ("/stageTimestamp", json!(null)),
        ] {
            let mut event = whole.clone();
            *event.pointer_mut(place).expect(place) = odd;
            let (read, odd_meta) = excerpt(&event, b"");
            assert_eq!(
                (&read.audit_id, &read.verb, &read.request_uri),
                (&good.audit_id, &good.verb, &good.request_uri)
            );
            assert_eq!(odd_meta.request == meta.request, place != "/user", "{place}");
            let kept = [
                read.user == good.user,
                read.impersonated_user == good.impersonated_user,
                read.source_ips == good.source_ips,
                read.user_agent == good.user_agent,
                read.object_ref == good.object_ref,
                read.response_status == good.response_status,
                read.stage_timestamp == good.stage_timestamp,
            ];
            assert_eq!(kept.iter().filter(|kept| !**kept).count(), 1, "{place}");
        }
        let mut event = whole;
        event["responseStatus"]["code"] = "403".into();
        assert_eq!(excerpt(&event, b"").0, good);
    }

    #[test]
    fn requests_that_cannot_be_told_apart_are_not_one() {
        for missing in ["auditID", "requestReceivedTimestamp"] {
            let request = |n: u32| {
                let mut event =
                    json!({"auditID": "1", "requestReceivedTimestamp": "2026-11-21T04:15:56.715875Z", "n": n});
                event[missing] = Value::Null;
                excerpt(&event, event.to_string().as_bytes()).1.request
            };
            assert_ne!(request(1), request(2), "{missing}");
            assert_eq!(request(1), request(1), "{missing}");
        }
    }
}
