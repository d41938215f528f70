//! What a canary is: one audit event that no rule but its own is true of.

use std::fmt::Write as _;

use serde_json::json;

use crate::alert::CANARY;
use crate::clock::Timestamp;
use crate::pipeline::canary::SHOWN_URI;

/// So many random bytes, in hexadecimal digits.
fn random_hex(bytes: usize) -> Result<String, String> {
    let mut random = vec![0; bytes];
    let provider = rustls::crypto::ring::default_provider();
    provider.secure_random.fill(&mut random).map_err(|_| "the system gives no random numbers".to_owned())?;
    Ok(random.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // Writing to a string cannot fail.
        hex
    }))
}

/// What this process knows its canaries by; nobody else can know it, and it is in no alert.
#[derive(Clone)]
pub(in crate::app) struct Mark(String);

impl Mark {
    pub(in crate::app) fn new() -> Result<Self, String> {
        random_hex(32).map(Self)
    }

    fn uri(&self) -> String {
        format!("{SHOWN_URI}/{}", self.0)
    }

    /// The rule that is true of this process's canaries and of nothing else.
    pub(in crate::app) fn rule(&self) -> String {
        format!(
            "title: Canary of Kubesiren itself\nid: {CANARY}\nstatus: stable\nlevel: informational\n\
             description: An event that the daemon sent itself to see that it is alive.\n\
             logsource: {{product: kubernetes, service: audit}}\n\
             detection:\n  canary: {{requestURI: '{}'}}\n  condition: canary\n",
            self.uri()
        )
    }

    /// One canary. Its object is named like its Audit-ID, so that each is an episode of its own.
    pub(super) fn event(&self, audit_id: &str, now: Timestamp) -> String {
        json!({
            "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": audit_id,
            "stage": "ResponseComplete", "requestURI": self.uri(), "verb": "get",
            "user": {"username": CANARY, "groups": ["system:authenticated"]}, "sourceIPs": ["127.0.0.1"],
            "userAgent": concat!("kubesiren/", env!("CARGO_PKG_VERSION")),
            "objectRef": {"resource": "canaries", "name": audit_id, "apiGroup": "kubesiren", "apiVersion": "v1"},
            "responseStatus": {"code": 200}, "requestReceivedTimestamp": now, "stageTimestamp": now,
            "annotations": {"authorization.k8s.io/decision": "allow"}
        })
        .to_string()
    }
}

/// An Audit-ID as API servers make them.
pub(super) fn audit_id() -> Result<String, String> {
    let hex = random_hex(16)?;
    Ok(format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::engine::{Detected, Detector, RuleSet};
    use crate::rule;

    fn found(mark: &Mark, body: &str) -> Vec<String> {
        let own = vec![("canary".to_owned(), mark.rule())];
        let loaded = rule::load(&rule::Options { builtin: true, own, ..rule::Options::default() });
        assert!(!loaded.has_errors(), "{:?}", loaded.findings);
        let rules = RuleSet::compile(loaded.rules, Duration::ZERO);
        let mut detected = Detected::default();
        let cluster: Arc<str> = CANARY.into();
        Detector::default().body(&rules, &cluster, body.as_bytes(), &mut detected).unwrap();
        detected.matches.iter().map(|found| found.rule.to_string()).collect()
    }

    #[test]
    fn its_own_rule_is_true_of_a_canary_and_no_other_is() {
        let mark = Mark::new().unwrap();
        assert_eq!(found(&mark, &mark.event(&audit_id().unwrap(), Timestamp(1_790_000_000_000_000))), [CANARY]);
    }

    #[test]
    fn a_canary_of_another_process_is_none() {
        let event = Mark::new().unwrap().event(&audit_id().unwrap(), Timestamp(1_790_000_000_000_000));
        assert!(found(&Mark::new().unwrap(), &event).is_empty());
    }

    #[test]
    fn no_two_are_alike() {
        let (one, two) = (audit_id().unwrap(), audit_id().unwrap());
        assert!(one != two && one.len() == 36, "{one}");
    }
}
