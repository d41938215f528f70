//! From the bytes of a matching event to what its alert may show: the envelope without bodies, identities, and the
//! values that the predicates matched, redacted.

use std::collections::BTreeMap;

use serde_json::Value;

use super::credentials::{uri, without, without_shapes};
use super::redact::{self, shorten, show_all, show_path_all};
use crate::alert::{EventExcerpt, ObjectRef, ResponseStatus, User};
use crate::event::FieldPath;
use crate::event::path::Found;
use crate::hash;
use crate::rule::field::{Field, Got};
use crate::rule::ir::{Expr, Op, Test};
use crate::rule::make::Make;
use crate::rule::{explain, naive};

const AUDIT_ID_MAX: usize = 256;
const NAME_MAX: usize = 512;
const URI_MAX: usize = 2_048;
const VALUES_MAX: usize = 16;
const GROUPS_MAX: usize = 64;

/// What this module reads of every event that is shown, whatever its rule reads.
const READS: [&str; 23] = [
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
    "objectRef.namespace",
    "objectRef.name",
    "objectRef.apiGroup",
    "objectRef.apiVersion",
    "objectRef.subresource",
    "responseStatus.code",
    "responseStatus.reason",
    "requestObject.dryRun",
    // So that what is there but holds nothing that is read is still there.
    "user",
    "impersonatedUser",
    "objectRef",
];

/// All that is read of every event that is shown.
pub(super) fn reads<'r>() -> impl Iterator<Item = &'r str> {
    READS.into_iter().chain(redact::READS).map(|path| -> &'r str { path })
}

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
        self.text(name).map(|text| identity(text, max))
    }

    /// The texts of a list; one text is a list of one.
    fn texts(&self, name: &str, most: usize) -> Vec<String> {
        let items = match self.0.get(name) {
            Some(Value::Array(items)) => items.as_slice(),
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        items.iter().filter_map(Value::as_str).take(most).map(|text| identity(text, NAME_MAX)).collect()
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

/// A name or the like as it may be shown.
fn identity(text: &str, max: usize) -> String {
    shorten(text, max, |text| without_shapes(text).into_owned())
}

/// The excerpt and the identities of an event.
pub(super) fn excerpt(event: &Value, bytes: &[u8]) -> (EventExcerpt, Meta) {
    let read = Reader(event);
    let excerpt = EventExcerpt {
        audit_id: identity(read.must("auditID"), AUDIT_ID_MAX),
        stage: identity(read.must("stage"), NAME_MAX),
        verb: identity(read.must("verb"), NAME_MAX),
        request_uri: shorten(read.must("requestURI"), URI_MAX, uri),
        user: read.object("user").map(|user| user.user()).unwrap_or_default(),
        impersonated_user: read.object("impersonatedUser").map(|user| user.user()),
        source_ips: read.texts("sourceIPs", VALUES_MAX),
        user_agent: read.text("userAgent").map(|text| shorten(text, URI_MAX, |text| without(text).into_owned())),
        object_ref: read.object("objectRef").map(|object| object.object_ref()),
        response_status: read.object("responseStatus").map(|status| status.status()),
        stage_timestamp: identity(read.must("stageTimestamp"), NAME_MAX),
        dry_run: is_trial(&read),
    };
    (excerpt, meta(&read, bytes))
}

/// Whether the API server judged the request only. It heeds the query of what writes an object, and the body of a deletion;
/// the query of whatever does more, such as exec, may say so too, and nobody heeds it there.
fn is_trial(read: &Reader<'_>) -> bool {
    let subresource = read.object("objectRef").and_then(|object| object.text("subresource")).unwrap_or_default();
    match read.must("verb") {
        "create" | "update" | "patch" => {
            let query = read.must("requestURI").split_once('?').map_or("", |(_, query)| query);
            matches!(subresource, "" | "scale" | "status" | "ephemeralcontainers")
                && query.split('&').any(|part| part == "dryRun=All")
        }
        "delete" | "deletecollection" => read
            .object("requestObject")
            .is_some_and(|options| options.texts("dryRun", VALUES_MAX).iter().any(|text| text == "All")),
        _ => false,
    }
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

/// Of an expression that holds: so do all parts of an `All`, and only among alternatives it must be asked which.
fn collect(expr: &Expr, event: &Value, found: &mut BTreeMap<String, Value>) {
    match expr {
        Expr::All(parts) => parts.iter().for_each(|part| collect(part, event, found)),
        Expr::Any(parts) => alternatives(parts, event, found),
        Expr::Not(_) => {}
        Expr::Test(test) => collect_test(test, &test.field.resolve(event), event, found),
    }
}

/// Those of the alternatives that hold. Many of them ask for one field, whose values are then looked up once.
fn alternatives(parts: &[Expr], event: &Value, found: &mut BTreeMap<String, Value>) {
    let mut known: Option<(&Field, Vec<Got<'_>>)> = None;
    for part in parts {
        let Expr::Test(test) = part else {
            if naive::holds(part, event) {
                collect(part, event, found);
            }
            continue;
        };
        let values = match known.take() {
            Some((field, values)) if *field == test.field => values,
            _ => test.field.resolve(event),
        };
        if naive::holds_of(test, &values, event) {
            collect_test(test, &values, event, found);
        }
        known = Some((&test.field, values));
    }
}

/// `values`: those of the field.
fn collect_test(test: &Test, values: &[Got<'_>], event: &Value, found: &mut BTreeMap<String, Value>) {
    match (&test.field, &test.op) {
        (_, Op::Null) => {}
        // Every event has a time: that it has one says nothing.
        (Field::Derived(derived), _) if derived.make == Make::Time => {}
        // What the event has there may be a secret; the keyword is the rule's.
        (Field::Anything, op) => {
            let known = found.entry("keywords".to_owned()).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(known) = known {
                known.push(explain::asked(op).into());
            }
        }
        (field, _) => {
            let values = naive::witnesses(test, values, event).take(VALUES_MAX);
            let mut values = show_all(field, values, event);
            let value = match values.len() {
                0 => Value::Bool(true),
                1 => values.swap_remove(0),
                _ => Value::Array(values),
            };
            found.insert(field.as_str().to_owned(), value);
        }
    }
}

/// The values of a field that groups or counts matches.
pub(super) fn values(field: &FieldPath, event: &Value) -> Vec<Value> {
    let found = field.resolve(event);
    let scalars = found.into_iter().filter_map(|found| match found {
        Found::Scalar(Value::Null) | Found::Container => None,
        Found::Scalar(value) => Some(value),
    });
    show_path_all(field, scalars.take(VALUES_MAX), event)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
