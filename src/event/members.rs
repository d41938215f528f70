//! The names that an audit event has: what a rule or a case writes may be a slip of one of them.
//!
//! Only where the API leaves no room for more (`audit.k8s.io/v1`, k8s.io/apiserver/pkg/apis/audit/v1/types.go); the
//! objects of requests and answers, annotations and `extra` hold whatever they hold.

use super::path::FieldPath;
use super::project::CLUSTER;
use crate::diagnose::closest;

/// The members of an event.
const EVENT: [&str; 20] = [
    "kind",
    "apiVersion",
    "level",
    "auditID",
    "stage",
    "requestURI",
    "verb",
    "user",
    "impersonatedUser",
    "sourceIPs",
    "userAgent",
    "objectRef",
    "responseStatus",
    "requestObject",
    "responseObject",
    "requestReceivedTimestamp",
    "stageTimestamp",
    "annotations",
    "authenticationMetadata",
    CLUSTER, // No part of the event, but its label: a rule or a case may name it.
];

const USER: [&str; 4] = ["username", "uid", "groups", "extra"];
const OBJECT: [&str; 8] =
    ["resource", "namespace", "name", "uid", "apiGroup", "apiVersion", "resourceVersion", "subresource"];
const ANSWER: [&str; 6] = ["metadata", "status", "message", "reason", "details", "code"];

/// The members of those that have members of their own.
const INNER: [(&str, &[&str]); 4] =
    [("user", &USER), ("impersonatedUser", &USER), ("objectRef", &OBJECT), ("responseStatus", &ANSWER)];

/// A name that no event has.
#[derive(Debug, PartialEq)]
pub struct Misnamed {
    /// What is wrong.
    pub message: String,
    /// What to write.
    pub help: String,
}

/// The member of an event that a name is nearly, if it is none itself. Events may hold more than the API says: what is like
/// none of its names is let be.
#[must_use]
pub fn nearly(name: &str) -> Option<&'static str> {
    if EVENT.contains(&name) { None } else { closest(name, EVENT) }
}

/// Whether a path goes below `user`, `objectRef` and the like by a name that they do not have.
#[must_use]
pub fn misnamed_member(field: &FieldPath) -> Option<Misnamed> {
    let (whole, rest) = field.path().split_once('.')?;
    let (_, known) = INNER.iter().find(|(name, _)| *name == whole)?;
    let name = rest.split('.').next().unwrap_or(rest);
    if known.contains(&name) {
        return None;
    }
    let help = match closest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{whole}.{near}`?"),
        None => format!("it has {}", known.join(", ")),
    };
    Some(Misnamed { message: format!("`{whole}` has no member `{name}`, so this is true of no event"), help })
}

/// Whether a path begins with a name that is nearly one of an event's, or one that stands further inside.
#[must_use]
pub fn misnamed(field: &FieldPath) -> Option<Misnamed> {
    let name = field.path().split('.').next().unwrap_or_default();
    if EVENT.contains(&name) {
        return misnamed_member(field);
    }
    let inner = INNER.iter().find(|(_, members)| members.contains(&name)).map(|(whole, _)| format!("{whole}.{name}"));
    let near = inner.or_else(|| nearly(name).map(str::to_owned))?;
    let message = format!("an audit event has no member `{name}`, so this is true of no event");
    Some(Misnamed { message, help: format!("did you mean `{near}`?") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn help(path: &str) -> Option<String> {
        misnamed(&FieldPath::parse(path).expect("a path")).map(|found| found.help)
    }

    #[test]
    fn slips_are_told_with_what_was_meant() {
        for (path, expected) in [
            ("verv", "did you mean `verb`?"),
            ("sourceIP", "did you mean `sourceIPs`?"),
            ("resource", "did you mean `objectRef.resource`?"),
            ("username", "did you mean `user.username`?"),
            ("objectRef.resorce", "did you mean `objectRef.resource`?"),
            ("user.usrname", "did you mean `user.username`?"),
            ("impersonatedUser.group", "did you mean `impersonatedUser.groups`?"),
            ("responseStatus.https", "it has metadata, status, message, reason, details, code"),
        ] {
            assert_eq!(help(path).as_deref(), Some(expected), "{path}");
        }
    }

    #[test]
    fn what_may_be_there_is_let_be() {
        for path in [
            "objectRef",
            "user.extra.scopes.cloud/pod.name",
            "sourceIPs[0]",
            "responseStatus.details.kind",
            "requestObject.spec.anything",
            "annotations.authorization.k8s.io/decision",
            "openshift.labels.env",
            "hostPath",
            "capabilities",
        ] {
            assert_eq!(help(path), None, "{path}");
        }
    }
}
