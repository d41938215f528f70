//! The alert that always fires: a receiver behind a sink that misses it knows that nobody watches any more.
//!
//! It is sent by the worker of the sink, so it shows that delivery lives; and only while correlation lives and, where there
//! are canaries, while they arrive.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::worker::reached;
use crate::alert::{Alert, EventExcerpt, Level, RuleInfo, Status, WATCHDOG};
use crate::clock::{self, Timestamp};
use crate::pipeline::pulse::Pulse;

/// When the watchdog of one sink is to be sent, and whether it may be.
pub(super) struct Watchdog {
    pulse: Arc<Pulse>,
    /// The worker's start: the beginning of an alert that is sent again must not move.
    since: Timestamp,
    next: Timestamp,
    /// Why it is held back, once that was told.
    held_back: bool,
}

impl Watchdog {
    pub(super) fn new(pulse: &Arc<Pulse>) -> Self {
        Self { pulse: Arc::clone(pulse), since: clock::now(), next: Timestamp::MIN, held_back: false }
    }

    /// Whether it is time to look.
    pub(super) fn due(&self, every: Duration, now: Timestamp) -> bool {
        reached(self.next, every, now)
    }

    /// To be sent once more, as soon as the sink can be.
    pub(super) fn again(&mut self, now: Timestamp) {
        self.next = now;
    }

    /// The alert, if all is well. It is looked at again every second while it is not.
    pub(super) fn alert(&mut self, every: Duration, sink: &str, now: Timestamp) -> Option<Alert> {
        let stopped = self.pulse.stopped(clock::steady());
        match &stopped {
            // The first seconds of a daemon are no news.
            Some(reason) if !self.held_back && now.since(self.since) > every => {
                tracing::warn!(sink, reason, "the watchdog is held back");
                self.held_back = true;
            }
            None if self.held_back => {
                tracing::info!(sink, "the watchdog is sent again");
                self.held_back = false;
            }
            _ => {}
        }
        if stopped.is_some() {
            return None;
        }
        self.next = now.plus(every);
        Some(alert(self.since, now))
    }
}

fn alert(since: Timestamp, now: Timestamp) -> Alert {
    let rule = RuleInfo {
        id: WATCHDOG.to_owned(),
        title: "KubesirenWatchdog".to_owned(),
        level: Level::Informational,
        tags: vec![WATCHDOG.to_owned()],
        references: Vec::new(),
        runbook: Some("Nothing to do while it fires. When it stops, nobody watches the audit events.".to_owned()),
    };
    Alert {
        id: WATCHDOG.to_owned(),
        status: Status::Firing,
        time: since,
        cluster: String::new(),
        rule: Arc::new(rule),
        summary: "Kubesiren works: this alert always fires.".to_owned(),
        count: 1,
        first_seen: since,
        last_seen: now,
        group: BTreeMap::new(),
        event: EventExcerpt::default(),
        matched: BTreeMap::new(),
        audit_ids: Vec::new(),
        timeline: Vec::new(),
    }
}
