//! What every alert shows of an event: its envelope without bodies, redacted, and its identities. Taken from where the
//! projection has it, and written as JSON at once.

use std::borrow::Cow;
use std::sync::Arc;

use super::credentials::without_shapes;
use super::harmless::Harmless;
use super::json::{self, Object, text};
use super::redact::shorten;
use crate::event::{Projection, Scratch, Slot, Val};
use crate::hash;

const AUDIT_ID_MAX: usize = 256;
const NAME_MAX: usize = 512;
const URI_MAX: usize = 2_048;
const IPS_MAX: usize = 16;
const GROUPS_MAX: usize = 64;

/// What is read of every event that is shown, whatever its rule reads.
pub(super) const READS: [&str; 21] = [
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
    "requestObject.dryRun",
];

/// Where a projection has [`READS`].
#[derive(Debug)]
pub(super) struct Slots {
    audit_id: Option<Slot>,
    stage: Option<Slot>,
    verb: Option<Slot>,
    request_uri: Option<Slot>,
    stage_timestamp: Option<Slot>,
    received: Option<Slot>,
    user_agent: Option<Slot>,
    source_ips: Option<Slot>,
    /// Name and groups.
    user: [Option<Slot>; 2],
    /// The same.
    impersonated_user: [Option<Slot>; 2],
    resource: Option<Slot>,
    namespace: Option<Slot>,
    name: Option<Slot>,
    api_group: Option<Slot>,
    api_version: Option<Slot>,
    subresource: Option<Slot>,
    code: Option<Slot>,
    reason: Option<Slot>,
    dry_run: Option<Slot>,
}

impl Slots {
    pub(super) fn of(projection: &Projection) -> Self {
        let at = |path| projection.slot(path);
        Self {
            audit_id: at("auditID"),
            stage: at("stage"),
            verb: at("verb"),
            request_uri: at("requestURI"),
            stage_timestamp: at("stageTimestamp"),
            received: at("requestReceivedTimestamp"),
            user_agent: at("userAgent"),
            source_ips: at("sourceIPs"),
            user: [at("user.username"), at("user.groups")],
            impersonated_user: [at("impersonatedUser.username"), at("impersonatedUser.groups")],
            resource: at("objectRef.resource"),
            namespace: at("objectRef.namespace"),
            name: at("objectRef.name"),
            api_group: at("objectRef.apiGroup"),
            api_version: at("objectRef.apiVersion"),
            subresource: at("objectRef.subresource"),
            code: at("responseStatus.code"),
            reason: at("responseStatus.reason"),
            dry_run: at("requestObject.dryRun"),
        }
    }
}

/// What all matches of an event share.
pub(super) struct Excerpt {
    /// A [`crate::alert::EventExcerpt`], as JSON.
    pub(super) json: Arc<str>,
    /// As it is shown.
    pub(super) audit_id: Arc<str>,
    /// What was delivered: auditID, stage, stageTimestamp and content.
    pub(super) delivery: u64,
    /// What was requested: auditID, requestReceivedTimestamp, user and URI.
    pub(super) request: u64,
}

/// Reads an event value by value: what is odd or null counts as absent, and hides nothing else.
#[derive(Clone, Copy)]
struct Reader<'e> {
    scratch: &'e Scratch,
    event: &'e str,
}

impl<'e> Reader<'e> {
    fn text(self, slot: Option<Slot>) -> Option<&'e str> {
        match self.scratch.values(slot?, self.event).next() {
            Some(Val::Str(text)) => Some(text),
            _ => None,
        }
    }

    /// A text that alerts always have.
    fn must(self, slot: Option<Slot>) -> &'e str {
        self.text(slot).unwrap_or_default()
    }

    /// The texts of a list.
    fn texts(self, slot: Option<Slot>) -> impl Iterator<Item = &'e str> {
        let values = slot.into_iter().flat_map(move |slot| self.scratch.values(slot, self.event));
        values.filter_map(|value| match value {
            Val::Str(text) => Some(text),
            _ => None,
        })
    }

    fn code(self, slot: Option<Slot>) -> Option<i64> {
        match self.scratch.values(slot?, self.event).next()? {
            Val::Int(code) => Some(code),
            Val::Str(text) => text.parse().ok(),
            _ => None,
        }
    }
}

/// Writes a name, if there is one.
fn name(object: &mut Object<'_>, key: &str, text: Option<&str>, known: &mut Harmless) {
    if let Some(text) = text {
        object.text(key, &known.name(text, NAME_MAX));
    }
}

/// Writes a user's name and groups.
fn user(object: &mut Object<'_>, read: Reader<'_>, [username, groups]: [Option<Slot>; 2], known: &mut Harmless) {
    name(object, "username", read.text(username), known);
    let mut groups = read.texts(groups).take(GROUPS_MAX).peekable();
    if groups.peek().is_some() {
        object.list("groups", groups, |out, group| text(out, &known.name(group, NAME_MAX)));
    }
}

/// A name or the like, of which there are too many to remember them, as it may be shown.
fn identity(text: &str, max: usize) -> Cow<'_, str> {
    shorten(text, max, without_shapes)
}

impl Slots {
    /// That of the event in the scratch. `out`: memory for what is written.
    pub(super) fn excerpt(
        &self,
        projection: &Projection,
        scratch: &mut Scratch,
        event: &str,
        harmless: &mut Harmless,
        out: &mut String,
    ) -> Excerpt {
        let dry_run = self.is_trial(projection, scratch, event);
        let read = Reader { scratch, event };
        let audit_id = identity(read.must(self.audit_id), AUDIT_ID_MAX);
        let json = json::object(out, |excerpt| {
            excerpt.text("auditID", &audit_id);
            self.write(excerpt, read, harmless);
            if dry_run {
                excerpt.value("dryRun", &true.into());
            }
        });
        // Its name, stage and time stand in its content.
        let delivery = hash::content(event.as_bytes());
        let request = self.request(read, delivery);
        Excerpt { json, audit_id: (*audit_id).into(), delivery, request }
    }

    fn write(&self, excerpt: &mut Object<'_>, read: Reader<'_>, known: &mut Harmless) {
        name(excerpt, "stage", Some(read.must(self.stage)), known);
        name(excerpt, "verb", Some(read.must(self.verb)), known);
        excerpt.text("requestURI", &known.uri(read.must(self.request_uri), URI_MAX));
        excerpt.object("user", |object| user(object, read, self.user, known));
        excerpt.object_if_any("impersonatedUser", |object| user(object, read, self.impersonated_user, known));
        let addresses = read.texts(self.source_ips).take(IPS_MAX);
        excerpt.list("sourceIPs", addresses, |out, address| text(out, &known.name(address, NAME_MAX)));
        if let Some(agent) = read.text(self.user_agent) {
            excerpt.text("userAgent", &known.text(agent, URI_MAX));
        }
        excerpt.object_if_any("objectRef", |object| {
            name(object, "resource", read.text(self.resource), known);
            name(object, "namespace", read.text(self.namespace), known);
            if let Some(of) = read.text(self.name) {
                object.text("name", &identity(of, NAME_MAX));
            }
            name(object, "apiGroup", read.text(self.api_group), known);
            name(object, "apiVersion", read.text(self.api_version), known);
            name(object, "subresource", read.text(self.subresource), known);
        });
        excerpt.object_if_any("responseStatus", |object| {
            if let Some(code) = read.code(self.code) {
                object.value("code", &code.into());
            }
            name(object, "reason", read.text(self.reason), known);
        });
        // It was read as a time.
        excerpt.text("stageTimestamp", &shorten(read.must(self.stage_timestamp), NAME_MAX, Cow::from));
    }

    /// Whether the API server judged the request only. It heeds the query of what writes an object, and the body of a
    /// deletion; the query of whatever does more, such as exec, may say so too, and nobody heeds it there.
    fn is_trial(&self, projection: &Projection, scratch: &mut Scratch, event: &str) -> bool {
        let read = Reader { scratch, event };
        match read.must(self.verb) {
            "create" | "update" | "patch" => {
                let query = read.must(self.request_uri).split_once('?').map_or("", |(_, query)| query);
                matches!(read.must(self.subresource), "" | "scale" | "status" | "ephemeralcontainers")
                    && query.split('&').any(|part| part == "dryRun=All")
            }
            "delete" | "deletecollection" => self.dry_run.is_some_and(|slot| {
                scratch.demand(projection, slot, event);
                scratch.values(slot, event).any(|value| value == Val::Str("All"))
            }),
            _ => false,
        }
    }

    /// What was requested. Without its name and the time of its arrival two requests cannot be told apart: better one too
    /// many than one taken for a later stage of another.
    fn request(&self, read: Reader<'_>, delivery: u64) -> u64 {
        let (id, received) = (read.must(self.audit_id), read.must(self.received));
        let [id, received, user, uri] =
            [id, received, read.must(self.user[0]), read.must(self.request_uri)].map(str::as_bytes);
        if id.is_empty() || received.is_empty() {
            hash::short(&[id, received, user, uri, &delivery.to_le_bytes()])
        } else {
            hash::short(&[id, received, user, uri])
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::alert::EventExcerpt;

    fn excerpt(event: &Value) -> (EventExcerpt, Excerpt) {
        let (projection, mut scratch) = (Projection::new(READS), Scratch::default());
        let text = event.to_string();
        scratch.load(&projection, text.as_bytes()).expect("an event");
        let made = Slots::of(&projection).excerpt(
            &projection,
            &mut scratch,
            &text,
            &mut Harmless::default(),
            &mut String::new(),
        );
        (serde_json::from_str(&made.json).expect("an excerpt"), made)
    }

    #[test]
    fn identities_depend_on_what_they_should() {
        let event = |id: &str, uri: &str, stage: &str| {
            let event = json!({"auditID": id, "requestURI": uri, "stage": stage, "user": {"username": "u"},
                "requestReceivedTimestamp": "2026-11-21T04:15:56.715875Z", "stageTimestamp": "2026-11-21T04:15:56.715875Z"});
            excerpt(&event).1
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
        let (good, known) = excerpt(&whole);
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
            let (read, odd) = excerpt(&event);
            assert_eq!(
                (&read.audit_id, &read.verb, &read.request_uri),
                (&good.audit_id, &good.verb, &good.request_uri)
            );
            assert_eq!(odd.request == known.request, place != "/user", "{place}");
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
        assert_eq!(excerpt(&event).0, good);
    }

    #[test]
    fn requests_that_cannot_be_told_apart_are_not_one() {
        for missing in ["auditID", "requestReceivedTimestamp"] {
            let request = |n: u32| {
                let mut event =
                    json!({"auditID": "1", "requestReceivedTimestamp": "2026-11-21T04:15:56.715875Z", "n": n});
                event[missing] = Value::Null;
                excerpt(&event).1.request
            };
            assert_ne!(request(1), request(2), "{missing}");
            assert_eq!(request(1), request(1), "{missing}");
        }
    }
}
