//! From the bytes of a matching event to what its alert may show: the envelope without bodies, identities, and the
//! values that the predicates matched, redacted.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::alert::{EventExcerpt, ObjectRef, ResponseStatus, User};
use crate::event::FieldPath;
use crate::event::path::Found;
use crate::rule::ir::{Expr, Op};
use crate::rule::naive;

/// What stands for a value that must not be shown.
pub const REDACTED: &str = "[redacted]";

const AUDIT_ID_MAX: usize = 256;
const NAME_MAX: usize = 512;
const URI_MAX: usize = 2_048;
const VALUE_MAX: usize = 256;
const VALUES_MAX: usize = 16;
const GROUPS_MAX: usize = 64;

/// Identities of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meta {
    /// What was delivered: auditID, stage, stageTimestamp and content.
    pub(super) delivery: u64,
    /// What was requested: auditID, requestReceivedTimestamp, user and URI.
    pub(super) request: u64,
}

/// The envelope as events have it.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Envelope {
    #[serde(rename = "auditID")]
    audit_id: Loose,
    stage: Loose,
    verb: Loose,
    #[serde(rename = "requestURI")]
    request_uri: Loose,
    user: Person,
    impersonated_user: Option<Person>,
    #[serde(rename = "sourceIPs")]
    source_ips: Vec<Loose>,
    user_agent: Option<Loose>,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    request_received_timestamp: Loose,
    stage_timestamp: Loose,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Person {
    username: Option<String>,
    groups: Vec<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: Option<i64>,
    reason: Option<String>,
}

/// A string; anything else counts as absent, so that one odd field does not hide the event.
#[derive(Default)]
struct Loose(String);

impl<'de> Deserialize<'de> for Loose {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::String(text) => text,
            _ => String::new(),
        }))
    }
}

/// The excerpt and the identities of an event.
pub(super) fn excerpt(event: &Value, bytes: &[u8]) -> (EventExcerpt, Meta) {
    let envelope = Envelope::deserialize(event).unwrap_or_default();
    let user = envelope.user.username.as_deref().unwrap_or_default();
    let (id, uri) = (&envelope.audit_id.0, &envelope.request_uri.0);
    let meta = Meta {
        delivery: hash(&[id.as_bytes(), envelope.stage.0.as_bytes(), envelope.stage_timestamp.0.as_bytes(), bytes]),
        request: hash(&[id, &envelope.request_received_timestamp.0, user, uri].map(|part| part.as_bytes())),
    };
    let person = |person: Person| User {
        username: person.username.map(|name| shorten(&name, NAME_MAX)),
        groups: person.groups.iter().take(GROUPS_MAX).map(|group| shorten(group, NAME_MAX)).collect(),
    };
    let excerpt = EventExcerpt {
        audit_id: shorten(id, AUDIT_ID_MAX),
        stage: shorten(&envelope.stage.0, NAME_MAX),
        verb: shorten(&envelope.verb.0, NAME_MAX),
        request_uri: shorten(&redact_uri(uri), URI_MAX),
        user: person(envelope.user),
        impersonated_user: envelope.impersonated_user.map(person),
        source_ips: envelope.source_ips.iter().take(VALUES_MAX).map(|ip| shorten(&ip.0, NAME_MAX)).collect(),
        user_agent: envelope.user_agent.map(|agent| shorten(&agent.0, URI_MAX)),
        object_ref: envelope.object_ref.map(short_ref),
        response_status: envelope.response_status.map(|status| ResponseStatus {
            code: status.code,
            reason: status.reason.map(|reason| shorten(&reason, NAME_MAX)),
        }),
        stage_timestamp: shorten(&envelope.stage_timestamp.0, NAME_MAX),
    };
    (excerpt, meta)
}

fn short_ref(object: ObjectRef) -> ObjectRef {
    let short = |text: Option<String>| text.map(|text| shorten(&text, NAME_MAX));
    ObjectRef {
        resource: short(object.resource),
        namespace: short(object.namespace),
        name: short(object.name),
        api_group: short(object.api_group),
        api_version: short(object.api_version),
        subresource: short(object.subresource),
    }
}

/// Hash of several parts; their lengths keep them apart.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().unwrap_or_default())
}

/// At most `max` characters; what is left out is told.
fn shorten(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        None => text.to_owned(),
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
    }
}

/// Query parameters whose values are credentials.
fn redact_uri(uri: &str) -> String {
    let Some((path, query)) = uri.split_once('?') else { return uri.to_owned() };
    let parts = query.split('&').map(|part| match part.split_once('=') {
        Some((key, _)) if names_a_secret(key) => format!("{key}={REDACTED}"),
        _ => part.to_owned(),
    });
    format!("{path}?{}", parts.collect::<Vec<_>>().join("&"))
}

fn names_a_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["token", "password", "passwd", "secret", "authorization", "apikey", "api_key", "credential"]
        .iter()
        .any(|word| name.contains(word))
}

/// The values for which the positive tests of an expression are true, by field.
pub(super) fn matched(expr: &Expr, event: &Value) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    collect(expr, event, &mut found);
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
        Expr::Test(test) => {
            let values: Vec<Value> = naive::witnesses(test, event)
                .into_iter()
                .take(VALUES_MAX)
                .map(|v| show(&test.field, v, event))
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
        Found::Scalar(value) => Some(show(field, value, event)),
    });
    scalars.take(VALUES_MAX).collect()
}

/// A value of an event's field as it may be shown: short, and not a secret.
#[must_use]
pub fn show(field: &FieldPath, value: &Value, event: &Value) -> Value {
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
    let of_secret =
        event.pointer("/objectRef/resource").and_then(Value::as_str).is_some_and(|r| r.eq_ignore_ascii_case("secrets"));
    let harmless = ["kind", "type", "apiVersion", "immutable"].contains(&inside) || inside.starts_with("metadata.");
    of_secret && !harmless
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        let secret = json!({"objectRef": {"resource": "secrets"}});
        let pod = json!({"objectRef": {"resource": "pods"}});
        for (path, event, hidden) in [
            ("requestObject.data.password", &secret, true),
            ("requestObject.stringData.x", &secret, true),
            ("responseObject.items.data.x", &secret, true),
            ("requestObject.value", &secret, true),
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
    fn credentials_in_uris_are_redacted() {
        assert_eq!(redact_uri("/api?watch=1&access_token=abc&x=2"), "/api?watch=1&access_token=[redacted]&x=2");
        assert_eq!(redact_uri("/api"), "/api");
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
}
