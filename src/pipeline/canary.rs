//! Canaries: events that the daemon sends itself, and what of them comes out of correlation.
//!
//! A canary is an event like any other up to here: every rule looks at it. What tells it apart is the rule named
//! [`CANARY`], which is true of one URI alone, that nobody outside the process can guess. Only the alerts of that rule are
//! treated apart, and only in that no route sees them. So whoever imitates a canary hides nothing: whatever other rules
//! say of his events is told as ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::oneshot;

use crate::alert::{Alert, CANARY};

/// What the alert of a canary shows in place of the URI by which the rule knows it.
pub const SHOWN_URI: &str = "/kubesiren/canary";

/// The canaries that are on their way, by the Audit-ID that each has for itself.
#[derive(Default)]
pub struct Canaries {
    away: Mutex<BTreeMap<String, oneshot::Sender<String>>>,
    /// The sink that gets their alerts.
    sink: ArcSwapOption<String>,
}

impl Canaries {
    /// Expects one; yields the id of its alert once that is committed.
    pub fn expect(&self, audit_id: &str) -> oneshot::Receiver<String> {
        let (landed, awaited) = oneshot::channel();
        let mut away = self.away();
        // One that nobody waits for any more was given up.
        away.retain(|_, landed| !landed.is_closed());
        away.insert(audit_id.to_owned(), landed);
        awaited
    }

    /// An alert is in the store.
    pub fn committed(&self, alert: &Alert) {
        if is_canary(alert) {
            for landed in alert.audit_ids.iter().filter_map(|audit_id| self.away().remove(audit_id)) {
                let _ = landed.send(alert.id.clone());
            }
        }
    }

    /// Names the sink that gets the canaries' alerts, if any does.
    pub fn set_sink(&self, sink: Option<&str>) {
        self.sink.store(sink.map(|name| Arc::new(name.to_owned())));
    }

    /// The sinks of a canary's alert.
    #[must_use]
    pub fn sinks(&self) -> Vec<String> {
        self.sink.load().iter().map(|name| name.to_string()).collect()
    }

    fn away(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, oneshot::Sender<String>>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an alert is that of a canary: no other rule can have its name, and the rule is true of nothing else.
#[must_use]
pub fn is_canary(alert: &Alert) -> bool {
    alert.rule.id == CANARY
}

/// Takes out of a canary's alert what it is known by.
pub fn cover(alert: &mut Alert) {
    SHOWN_URI.clone_into(&mut alert.event.request_uri);
    alert.matched.clear();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{EventExcerpt, RuleInfo, Status};
    use crate::clock::Timestamp;

    fn alert(rule: &str, audit_id: &str) -> Alert {
        Alert {
            id: "a1".to_owned(),
            status: Status::Firing,
            time: Timestamp(0),
            cluster: CANARY.to_owned(),
            rule: Arc::new(RuleInfo { id: rule.to_owned(), ..RuleInfo::default() }),
            summary: String::new(),
            count: 1,
            first_seen: Timestamp(0),
            last_seen: Timestamp(0),
            group: BTreeMap::new(),
            event: EventExcerpt { request_uri: "/kubesiren/canary/s3cret".to_owned(), ..EventExcerpt::default() },
            matched: BTreeMap::from([("requestURI".to_owned(), "/kubesiren/canary/s3cret".into())]),
            audit_ids: vec![audit_id.to_owned()],
            timeline: Vec::new(),
        }
    }

    #[test]
    fn a_canary_lands_by_its_rule_and_its_own_audit_id() {
        let canaries = Canaries::default();
        let mut awaited = canaries.expect("one");
        canaries.committed(&alert("another-rule", "one"));
        canaries.committed(&alert(CANARY, "two"));
        assert!(awaited.try_recv().is_err());
        canaries.committed(&alert(CANARY, "one"));
        assert_eq!(awaited.try_recv().as_deref(), Ok("a1"));
    }

    #[test]
    fn canaries_that_were_given_up_take_no_room() {
        let canaries = Canaries::default();
        (0..1_000).for_each(|n| drop(canaries.expect(&n.to_string())));
        assert!(canaries.away().len() <= 1);
    }

    #[test]
    fn an_alert_does_not_show_what_a_canary_is_known_by() {
        let mut shown = alert(CANARY, "one");
        cover(&mut shown);
        assert!(!serde_json::to_string(&shown).unwrap().contains("s3cret"));
    }
}
