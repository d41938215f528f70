//! What was found in the blocks, correlated in the order of the input.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Found, INTERNAL, Outcome, Scan, Scanned};
use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::correlate::Correlator;
use crate::engine::Detected;

/// Refused pieces that are kept to be shown; all are counted.
const REJECTS_SHOWN: usize = 20;

/// Correlates what was found, in order.
pub(super) struct Gather<'s> {
    scan: &'s Scan,
    correlator: Correlator,
    alerts: BTreeMap<String, Alert>,
    scanned: Scanned,
    /// Events of the input that is being read, and why its first block held none.
    events: u64,
    nothing: Option<(Arc<str>, String)>,
    current: Option<Arc<str>>,
}

impl<'s> Gather<'s> {
    pub(super) fn new(scan: &'s Scan) -> Self {
        let correlator = Correlator::new(Arc::clone(&scan.rules), scan.limits);
        let scanned = Scanned::default();
        Self { scan, correlator, alerts: BTreeMap::new(), scanned, events: 0, nothing: None, current: None }
    }

    /// Takes what came of the next block.
    pub(super) fn take(&mut self, outcome: Outcome) {
        match outcome {
            Ok(found) => self.found(found),
            Err(failure) => self.scanned.failures.push(failure),
        }
    }

    fn found(&mut self, found: Found) {
        if self.current.as_ref() != Some(&found.name) {
            self.input_ends();
            self.current = Some(Arc::clone(&found.name));
        }
        let Detected { events, truncated, skipped, newest, named, matches, rejects } = found.detected;
        self.events += events;
        if found.failed && self.scanned.failures.last().is_none_or(|(name, _)| **name != *found.name) {
            self.scanned.failures.push((found.name.to_string(), INTERNAL.to_owned()));
        }
        if let Some(nothing) = found.nothing {
            self.nothing.get_or_insert((Arc::clone(&found.name), nothing));
        }
        let stats = &mut self.scanned.stats;
        stats.events += events;
        stats.bytes += found.bytes;
        stats.rejected += rejects.count();
        stats.truncated += truncated;
        stats.skipped += skipped;
        let room = REJECTS_SHOWN.saturating_sub(self.scanned.rejects.len());
        self.scanned
            .rejects
            .extend(rejects.into_kept().into_iter().take(room).map(|reject| (found.name.to_string(), reject)));
        self.correlator.take(&matches, None);
        let own = (Arc::clone(&self.scan.cluster), newest);
        for (cluster, newest) in named.into_iter().map(|(name, seen)| (name, seen.newest)).chain([own]) {
            self.advance(&cluster, newest);
        }
        self.collect();
    }

    fn advance(&mut self, cluster: &Arc<str>, newest: Option<Timestamp>) {
        if let Some(newest) = newest {
            self.correlator.advance(cluster, newest);
        }
    }

    fn collect(&mut self) {
        for change in self.correlator.drain() {
            self.alerts.insert(change.alert.id.clone(), change.alert);
        }
        let counted = self.correlator.take_stats();
        self.scanned.stats.duplicates += counted.duplicates.values().sum::<u64>();
        self.scanned.stats.matches += counted.matches.values().sum::<u64>();
    }

    /// An input without one event is probably not what the user meant.
    fn input_ends(&mut self) {
        if let Some((name, reason)) = self.nothing.take().filter(|_| self.events == 0) {
            // One line says it; what is wrong with each line of a file that is something else helps nobody.
            self.scanned.rejects.retain(|(input, _)| **input != *name);
            self.scanned.failures.push((name.to_string(), reason));
        }
        self.events = 0;
    }

    pub(super) fn finish(mut self) -> Scanned {
        self.input_ends();
        self.correlator.finish();
        self.collect();
        let mut alerts: Vec<Alert> = self.alerts.into_values().collect();
        alerts.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        self.scanned.stats.alerts = alerts.len() as u64;
        self.scanned.alerts = alerts;
        self.scanned
    }
}
