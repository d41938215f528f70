//! The state machine of one group: a sliding window that becomes an episode.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::alert::EventExcerpt;
use crate::clock::Timestamp;
use crate::engine::{Consumer, Match};
use crate::rule::ir::CorrelationKind;

/// Matches that a window keeps; beyond it the oldest go, which only conditions on more matches than this can notice.
const WINDOW_MAX: usize = 10_000;

/// Audit ids that an alert names.
pub(super) const AUDIT_IDS_MAX: usize = 10;

/// A match as its group keeps it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) time: Timestamp,
    pub(super) request: u64,
    /// Which of the consumer's rules was true.
    pub(super) member: u16,
    /// Hashes of the values that are counted.
    pub(super) values: Box<[u64]>,
    pub(super) audit_id: Arc<str>,
    /// What an alert would show; dropped once an episode is open.
    pub(super) shown: Option<Arc<Shown>>,
}

/// What an alert shows of the event that completed its evidence.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) event: EventExcerpt,
    pub(super) matched: std::collections::BTreeMap<String, Value>,
    /// What the rule says of it, if it says anything itself.
    pub(super) said: Option<String>,
}

impl Shown {
    pub(super) fn of(found: &Match) -> Self {
        Self { event: found.event.clone(), matched: found.matched.clone(), said: found.said.clone() }
    }
}

/// An episode.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) first: Timestamp,
    /// When the condition first held.
    pub(super) opened: Timestamp,
    pub(super) last: Timestamp,
    pub(super) count: u64,
    /// The request of the oldest evidence.
    pub(super) evidence: u64,
    /// Oldest first.
    pub(super) audit_ids: Vec<(Timestamp, Arc<str>)>,
    pub(super) shown: Arc<Shown>,
}

impl Chain {
    /// Whether a match of this time, which is not after the episode, belongs to it: within a timespan before its first
    /// match if one match is enough, within the window that opened it otherwise.
    pub(super) fn reaches(&self, time: Timestamp, consumer: &Consumer) -> bool {
        let end = if consumer.single { self.first } else { self.opened };
        time.plus(consumer.timespan) >= end
    }

    /// Counts a match in.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.count += 1;
        self.first = self.first.min(entry.time);
        self.last = self.last.max(entry.time);
        let at = self.audit_ids.partition_point(|(time, _)| *time <= entry.time);
        if at < AUDIT_IDS_MAX {
            self.audit_ids.insert(at, (entry.time, Arc::clone(&entry.audit_id)));
            self.audit_ids.truncate(AUDIT_IDS_MAX);
        }
    }
}

/// Idle or open.
#[derive(Clone, Debug)]
pub(super) enum State {
    Idle(Window),
    Open(Chain),
}

impl Default for State {
    fn default() -> Self {
        Self::Idle(Window::default())
    }
}

impl State {
    /// Takes the next match; returns the episode that it shows to have ended.
    pub(super) fn step(&mut self, entry: &Entry, consumer: &Consumer) -> Option<Chain> {
        let mut ended = None;
        if let Self::Open(chain) = self {
            if entry.time <= chain.last.plus(consumer.timespan) {
                if chain.reaches(entry.time, consumer) {
                    chain.add(entry);
                    return None;
                }
                // Far older than the episode: an episode of its own if one match is enough, too late otherwise.
                let mut own = Window::default();
                own.push(entry, consumer.timespan);
                return own.holds(consumer).then(|| own.open(entry)).flatten();
            }
            if let Self::Open(chain) = std::mem::take(self) {
                ended = Some(chain);
            }
        }
        if let Self::Idle(window) = self {
            window.push(entry, consumer.timespan);
            if window.holds(consumer)
                && let Some(chain) = window.open(entry)
            {
                *self = Self::Open(chain);
            }
        }
        ended
    }

    /// The open episode.
    pub(super) fn chain(&self) -> Option<&Chain> {
        match self {
            Self::Open(chain) => Some(chain),
            Self::Idle(_) => None,
        }
    }

    /// The same, to be changed.
    pub(super) fn chain_mut(&mut self) -> Option<&mut Chain> {
        match self {
            Self::Open(chain) => Some(chain),
            Self::Idle(_) => None,
        }
    }
}

/// The matches within one timespan before the newest.
#[derive(Clone, Debug, Default)]
pub(super) struct Window {
    pub(super) entries: VecDeque<Entry>,
    /// How often each counted value is in the window.
    values: HashMap<u64, u32>,
    /// How often each member is.
    members: Vec<u32>,
}

impl Window {
    fn push(&mut self, entry: &Entry, timespan: Duration) {
        let newest = self.entries.back().map_or(entry.time, |last| last.time.max(entry.time));
        let at = self.entries.partition_point(|other| other.time <= entry.time);
        self.entries.insert(at, entry.clone());
        for value in &entry.values {
            *self.values.entry(*value).or_default() += 1;
        }
        let member = usize::from(entry.member);
        if self.members.len() <= member {
            self.members.resize(member + 1, 0);
        }
        self.members[member] += 1;
        let oldest = newest.minus(timespan);
        while self.entries.front().is_some_and(|first| first.time < oldest) || self.entries.len() > WINDOW_MAX {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        for value in &entry.values {
            if let Some(count) = self.values.get_mut(value) {
                *count -= 1;
                if *count == 0 {
                    self.values.remove(value);
                }
            }
        }
        self.members[usize::from(entry.member)] -= 1;
    }

    /// Whether the condition holds over the window.
    fn holds(&self, consumer: &Consumer) -> bool {
        let members = self.members.iter().filter(|count| **count > 0).count();
        match &consumer.kind {
            CorrelationKind::EventCount(condition) => condition.holds(self.entries.len() as u64),
            CorrelationKind::ValueCount(_, condition) => condition.holds(self.values.len() as u64),
            CorrelationKind::Temporal(Some(condition)) => condition.holds(members as u64),
            CorrelationKind::Temporal(None) => members == consumer.members,
            CorrelationKind::TemporalOrdered => members == consumer.members && self.in_order(consumer.members),
        }
    }

    /// Whether the members come one after the other, in their order.
    fn in_order(&self, members: usize) -> bool {
        let mut next = 0;
        for entry in &self.entries {
            next += usize::from(usize::from(entry.member) == next);
        }
        next == members
    }

    /// The episode that begins with what is in the window, completed by `entry`.
    fn open(&mut self, entry: &Entry) -> Option<Chain> {
        let first = self.entries.front()?;
        let last = self.entries.back()?;
        let shown = entry.shown.clone().or_else(|| self.entries.iter().rev().find_map(|e| e.shown.clone()))?;
        Some(Chain {
            first: first.time,
            opened: entry.time,
            last: last.time,
            count: self.entries.len() as u64,
            evidence: first.request,
            audit_ids: self.entries.iter().take(AUDIT_IDS_MAX).map(|e| (e.time, Arc::clone(&e.audit_id))).collect(),
            shown,
        })
    }
}
