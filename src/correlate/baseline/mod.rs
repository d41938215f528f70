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
mod weeks;

use rhythm::{Daily, Rhythm};
use values::Values;

/// A rhythm of which nothing was heard for so long begins anew.
const RHYTHM_KEPT: Duration = Duration::from_secs(28 * 24 * 3_600);

/// A group whose matches are all within so long is the first to go when there are too many.
const MOMENT: Duration = Duration::from_secs(3_600);

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
    /// By the ids of rules, which nobody but their authors chooses.
    rules: HashMap<String, OfRule, foldhash::fast::RandomState>,
    /// Per cluster, by its hash: matches before this time are known, all others are not.
    known: HashMap<u64, Timestamp>,
    /// The cluster that was last asked about, and its hash: there are few, and each match asks.
    last: Option<(String, u64)>,
    /// Those of `known` that have changed.
    advanced: HashSet<u64>,
}

/// The name under which the store keeps up to when matches are known: no rule is called nothing.
const KNOWN: &str = "";

/// Those of one correlation.
#[derive(Debug, Default)]
struct OfRule {
    shape: u64,
    /// Of the rule whose shape it is: to find out what a rule looks at takes longer than all else.
    fingerprint: u64,
    keys: HashMap<u64, Held>,
    /// By standing, and then by the time they were last added to.
    order: BTreeSet<Place>,
    dirty: HashSet<u64>,
}

/// Where a group stands among those that may have to go.
type Place = (Standing, Timestamp, u64);

/// What a group has to lose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    /// It came a moment ago, as those of a flood do.
    #[default]
    New,
    /// It is learned.
    Learning,
    /// It is known.
    Known,
}

impl Standing {
    const ALL: [Self; 3] = [Self::New, Self::Learning, Self::Known];

    fn of(first: Timestamp, seen: Timestamp, learning: Duration) -> Self {
        match seen.since(first) {
            known if known < MOMENT => Self::New,
            known if known < learning => Self::Learning,
            _ => Self::Known,
        }
    }
}

#[derive(Debug)]
struct Held {
    seen: Timestamp,
    standing: Standing,
    state: State,
}

#[derive(Debug, Serialize, Deserialize)]
enum State {
    Values(Values),
    /// As it was kept once.
    Daily(Daily),
    Rhythm(Rhythm),
}

impl State {
    /// What is kept from before, as it is now.
    fn current(self) -> Self {
        match self {
            Self::Daily(daily) => Self::Rhythm(daily.into()),
            current => current,
        }
    }

    /// When the group was first seen.
    fn first(&self) -> Timestamp {
        match self {
            Self::Values(values) => values.first(),
            Self::Rhythm(rhythm) => rhythm.first(),
            Self::Daily(_) => Timestamp::MIN,
        }
    }
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
            let consumer = consumers.iter().find(|consumer| consumer.info.id == baseline.rule);
            let state = baseline.state.as_deref().and_then(|state| postcard::from_bytes::<State>(state).ok());
            let (Some((shape, learning)), Some(state)) = (consumer.and_then(looks_at), state) else { continue };
            if shape == baseline.shape {
                let of_rule = self.rules.entry(baseline.rule).or_insert_with(|| OfRule::new(shape));
                let (seen, state) = (baseline.seen, state.current());
                let standing = Standing::of(state.first(), seen, learning);
                of_rule.order.insert((standing, seen, baseline.key));
                of_rule.keys.insert(baseline.key, Held { seen, standing, state });
            }
        }
    }

    /// Matches of a cluster before this time have been taken; those from then on are still to come.
    pub(super) fn known_until(&self, cluster: &str) -> Timestamp {
        self.known.get(&cluster_hash(cluster)).copied().unwrap_or(Timestamp::MIN)
    }

    /// Every match of a cluster before this time has been taken, or will not come.
    pub(super) fn know_until(&mut self, cluster: &str, time: Timestamp) {
        let key = match &self.last {
            Some((last, key)) if last == cluster => *key,
            _ => self.last.insert((cluster.to_owned(), cluster_hash(cluster))).1,
        };
        let known = self.known.entry(key).or_insert(Timestamp::MIN);
        // The match itself is one of them.
        let until = Timestamp(time.0.saturating_add(1));
        if *known < until {
            *known = until;
            self.advanced.insert(key);
        }
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
        let lasts = Lasts { kept: first_seen.forget + first_seen.learning, learning: first_seen.learning };
        let held = of_rule.add(observed, lasts, max_keys, evicted, || State::Values(Values::new(observed.time)));
        let (new, changed) = match &mut held.state {
            State::Values(values) => values.take(observed, first_seen),
            State::Rhythm(_) | State::Daily(_) => (false, false),
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
        let lasts = Lasts { kept: RHYTHM_KEPT, learning: spike.learning };
        let held = of_rule.add(observed, lasts, max_keys, evicted, rhythm);
        let bound = match &mut held.state {
            State::Rhythm(rhythm) => rhythm.take(observed.time, consumer.timespan, spike),
            State::Values(_) | State::Daily(_) => u64::MAX,
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
        let shape = || looks_at(consumer).map(|(shape, _)| shape).unwrap_or_default();
        let of_rule = self.rules.entry(consumer.info.id.clone()).or_insert_with(|| OfRule::new(shape()));
        if of_rule.fingerprint != consumer.fingerprint {
            let shape = shape();
            if of_rule.shape != shape {
                // It looks at something else now: what it knew is of no use.
                let gone: Vec<u64> = of_rule.keys.keys().copied().collect();
                *of_rule = OfRule::new(shape);
                of_rule.dirty.extend(gone);
            }
            of_rule.fingerprint = consumer.fingerprint;
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

    /// The state of a group, which is made if it is new or forgotten. With too many groups one goes: the longest quiet of
    /// those that have the least to lose, so that a flood of new ones pushes out itself.
    fn add(
        &mut self,
        observed: &Observed,
        lasts: Lasts,
        max_keys: usize,
        evicted: &mut u64,
        make: impl FnOnce() -> State,
    ) -> &mut Held {
        for standing in Standing::ALL {
            while let Some(place) = self.quietest(standing).filter(|(_, seen, _)| observed.time > seen.plus(lasts.kept))
            {
                self.remove(place);
            }
        }
        while self.keys.len() >= max_keys.max(1)
            && !self.keys.contains_key(&observed.key)
            && let Some(&place) = self.order.first()
        {
            *evicted += 1;
            self.remove(place);
        }
        let held = self.keys.entry(observed.key).or_insert_with(|| Held {
            seen: Timestamp::MIN,
            standing: Standing::New,
            state: make(),
        });
        let seen = held.seen.max(observed.time);
        let first = held.state.first().min(observed.time);
        let standing = Standing::of(first, seen, lasts.learning);
        if (standing, seen) != (held.standing, held.seen) {
            self.order.remove(&(held.standing, held.seen, observed.key));
            self.order.insert((standing, seen, observed.key));
            (held.standing, held.seen) = (standing, seen);
        }
        held
    }

    fn quietest(&self, standing: Standing) -> Option<Place> {
        let first = self.order.range((standing, Timestamp::MIN, 0)..).next().copied();
        first.filter(|place| place.0 == standing)
    }

    fn remove(&mut self, place: Place) {
        let (.., key) = place;
        self.order.remove(&place);
        self.keys.remove(&key);
        self.dirty.insert(key);
    }
}

/// How long groups are kept, and how long they are learned.
#[derive(Clone, Copy, Debug)]
struct Lasts {
    kept: Duration,
    learning: Duration,
}

impl Held {
    fn values(&self) -> Option<&Values> {
        match &self.state {
            State::Values(values) => Some(values),
            State::Rhythm(_) | State::Daily(_) => None,
        }
    }
}

/// What a correlation's baselines are about, if it has any, and how long it learns.
fn looks_at(consumer: &Consumer) -> Option<(u64, Duration)> {
    let (span, learning) = match &consumer.kind {
        CorrelationKind::FirstSeen(rule) => (Duration::ZERO, rule.learning),
        CorrelationKind::Spike(rule) => (consumer.timespan, rule.learning),
        _ => return None,
    };
    let fields: Vec<String> = consumer.group_by.iter().map(|(name, fields)| format!("{name} {fields:?}")).collect();
    let parts = format!("{} {fields:?} {span:?}", consumer.kind.as_str());
    Some((hash::short(&[parts.as_bytes()]), learning))
}

#[cfg(test)]
mod tests;
