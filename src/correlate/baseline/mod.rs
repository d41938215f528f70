//! What is usual: for rules that must look back for weeks. Small states, one per rule and group, that the store keeps.
//!
//! States hold nothing but hashes, times and counts. They change only when a match is taken for the first time, and are
//! written in the transaction that moves the cursor past it, so that a crash neither loses nor repeats one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::engine::Consumer;
use crate::hash;
use crate::rule::ir::{CorrelationKind, FirstSeen, Spike};

mod rhythm;
mod values;

use rhythm::Rhythm;
use values::Values;

/// A rhythm of which nothing was heard for so long begins anew.
const RHYTHM_KEPT: Duration = Duration::from_secs(28 * 24 * 3_600);

/// A baseline as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    /// The correlation's id.
    pub rule: String,
    /// Hash of cluster and group.
    pub key: u64,
    /// What the correlation looks at: a state is of no use to one that looks at something else.
    pub shape: u64,
    /// When it was last added to, in event time.
    pub seen: Timestamp,
    /// The state; `None` if it is to be forgotten.
    pub state: Option<Vec<u8>>,
}

/// All baselines.
#[derive(Debug, Default)]
pub(super) struct Baselines {
    rules: HashMap<String, OfRule>,
    /// Per cluster, by its hash: matches before this time are known, all others are not.
    known: HashMap<u64, Timestamp>,
    /// Those of `known` that have changed.
    advanced: HashSet<u64>,
}

/// The name under which the store keeps up to when matches are known: no rule is called nothing.
const KNOWN: &str = "";

/// Those of one correlation.
#[derive(Debug, Default)]
struct OfRule {
    shape: u64,
    keys: HashMap<u64, Held>,
    /// By the time they were last added to.
    order: BTreeSet<(Timestamp, u64)>,
    dirty: HashSet<u64>,
}

#[derive(Debug)]
struct Held {
    seen: Timestamp,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
enum State {
    Values(Values),
    Rhythm(Rhythm),
}

/// A match, as baselines see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// Hash of cluster and group.
    pub(super) key: u64,
    pub(super) time: Timestamp,
    /// Hash of the value that may be new.
    pub(super) value: u64,
    /// The request, by which the match is told again that was the first of a value.
    pub(super) request: u64,
    /// It was counted before, and is only shown once more to rebuild what is not kept.
    pub(super) again: bool,
}

impl Baselines {
    /// Takes over what the store has for the rules in use.
    pub(super) fn restore(&mut self, consumers: &[Consumer], kept: Vec<Baseline>) {
        for baseline in kept {
            if baseline.rule == KNOWN {
                self.known.insert(baseline.key, baseline.seen);
                continue;
            }
            let shape = consumers.iter().find(|consumer| consumer.info.id == baseline.rule).and_then(shape);
            let state = baseline.state.as_deref().and_then(|state| postcard::from_bytes(state).ok());
            let (Some(shape), Some(state)) = (shape, state) else { continue };
            if shape == baseline.shape {
                let of_rule = self.rules.entry(baseline.rule).or_insert_with(|| OfRule::new(shape));
                of_rule.order.insert((baseline.seen, baseline.key));
                of_rule.keys.insert(baseline.key, Held { seen: baseline.seen, state });
            }
        }
    }

    /// Matches of a cluster before this time have been taken; those from then on are still to come.
    pub(super) fn known_until(&self, cluster: &str) -> Timestamp {
        self.known.get(&cluster_hash(cluster)).copied().unwrap_or(Timestamp::MIN)
    }

    /// Every match of a cluster before this time has been taken, or will not come.
    pub(super) fn know_until(&mut self, cluster: &str, time: Timestamp) {
        let key = cluster_hash(cluster);
        let known = self.known.entry(key).or_insert(Timestamp::MIN);
        // The match itself is one of them.
        *known = (*known).max(Timestamp(time.0.saturating_add(1)));
        self.advanced.insert(key);
    }

    /// Whether the value of a match is new for its group.
    pub(super) fn is_new(
        &mut self,
        consumer: &Consumer,
        first_seen: &FirstSeen,
        observed: &Observed,
        max_keys: usize,
        evicted: &mut u64,
    ) -> bool {
        let of_rule = self.of_rule(consumer);
        if observed.again {
            let held = of_rule.keys.get(&observed.key);
            return held.is_some_and(|held| held.values().is_some_and(|values| values.was_new(observed)));
        }
        let held = of_rule.add(observed, first_seen.forget + first_seen.learning, max_keys, evicted, || {
            State::Values(Values::new(observed.time))
        });
        let (new, changed) = match &mut held.state {
            State::Values(values) => values.take(observed, first_seen),
            State::Rhythm(_) => (false, false),
        };
        if changed {
            of_rule.dirty.insert(observed.key);
        }
        new
    }

    /// Counts a match; how many within the timespan would be a spike at its time.
    pub(super) fn bound(
        &mut self,
        consumer: &Consumer,
        spike: &Spike,
        observed: &Observed,
        max_keys: usize,
        evicted: &mut u64,
    ) -> u64 {
        let of_rule = self.of_rule(consumer);
        if observed.again {
            // What it came to was told then.
            return u64::MAX;
        }
        let rhythm = || State::Rhythm(Rhythm::new(observed.time));
        let held = of_rule.add(observed, RHYTHM_KEPT, max_keys, evicted, rhythm);
        let bound = match &mut held.state {
            State::Rhythm(rhythm) => rhythm.take(observed.time, consumer.timespan, spike),
            State::Values(_) => u64::MAX,
        };
        of_rule.dirty.insert(observed.key);
        bound
    }

    /// What has changed since the last call, for the store.
    pub(super) fn drain(&mut self) -> Vec<Baseline> {
        let mut changed: Vec<Baseline> = std::mem::take(&mut self.advanced)
            .into_iter()
            .map(|key| {
                let seen = self.known.get(&key).copied().unwrap_or(Timestamp::MIN);
                Baseline { rule: KNOWN.to_owned(), key, shape: 0, seen, state: Some(Vec::new()) }
            })
            .collect();
        for (rule, of_rule) in &mut self.rules {
            for key in std::mem::take(&mut of_rule.dirty) {
                let held = of_rule.keys.get(&key);
                changed.push(Baseline {
                    rule: rule.clone(),
                    key,
                    shape: of_rule.shape,
                    seen: held.map_or(Timestamp::MIN, |held| held.seen),
                    state: held.and_then(|held| postcard::to_allocvec(&held.state).ok()),
                });
            }
        }
        changed.sort_by(|a, b| (&a.rule, a.key).cmp(&(&b.rule, b.key)));
        changed
    }

    /// Nothing of them has to be written.
    pub(super) fn forget_changes(&mut self) {
        self.rules.values_mut().for_each(|of_rule| of_rule.dirty.clear());
        self.advanced.clear();
    }

    fn of_rule(&mut self, consumer: &Consumer) -> &mut OfRule {
        let shape = shape(consumer).unwrap_or_default();
        let of_rule = self.rules.entry(consumer.info.id.clone()).or_insert_with(|| OfRule::new(shape));
        if of_rule.shape != shape {
            // It looks at something else now: what it knew is of no use.
            let gone: Vec<u64> = of_rule.keys.keys().copied().collect();
            *of_rule = OfRule::new(shape);
            of_rule.dirty.extend(gone);
        }
        of_rule
    }
}

fn cluster_hash(cluster: &str) -> u64 {
    hash::short(&[cluster.as_bytes()])
}

impl OfRule {
    fn new(shape: u64) -> Self {
        Self { shape, ..Self::default() }
    }

    /// The state of a group, which is made if it is new or forgotten. With too many groups the longest quiet one goes.
    fn add(
        &mut self,
        observed: &Observed,
        keep: Duration,
        max_keys: usize,
        evicted: &mut u64,
        make: impl FnOnce() -> State,
    ) -> &mut Held {
        while let Some(&(seen, key)) = self.order.first() {
            let forgotten = observed.time > seen.plus(keep);
            let crowded = self.keys.len() >= max_keys && !self.keys.contains_key(&observed.key);
            if !forgotten && !crowded {
                break;
            }
            *evicted += u64::from(!forgotten);
            self.order.pop_first();
            self.keys.remove(&key);
            self.dirty.insert(key);
        }
        let held = self.keys.entry(observed.key).or_insert_with(|| Held { seen: Timestamp::MIN, state: make() });
        if observed.time > held.seen {
            self.order.remove(&(held.seen, observed.key));
            held.seen = observed.time;
            self.order.insert((held.seen, observed.key));
        }
        held
    }
}

impl Held {
    fn values(&self) -> Option<&Values> {
        match &self.state {
            State::Values(values) => Some(values),
            State::Rhythm(_) => None,
        }
    }
}

/// What a correlation's baselines are about, if it has any.
fn shape(consumer: &Consumer) -> Option<u64> {
    let span = match &consumer.kind {
        CorrelationKind::FirstSeen(_) => Duration::ZERO,
        CorrelationKind::Spike(_) => consumer.timespan,
        _ => return None,
    };
    let fields: Vec<String> = consumer.group_by.iter().map(|(name, fields)| format!("{name} {fields:?}")).collect();
    let parts = format!("{} {fields:?} {span:?}", consumer.kind.as_str());
    Some(hash::short(&[parts.as_bytes()]))
}

#[cfg(test)]
mod tests;
