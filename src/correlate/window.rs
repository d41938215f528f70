//! The state machine of one group: a sliding window that becomes an episode.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::tally::{Figures, Tally};
use super::timeline::Timeline;
use crate::clock::Timestamp;
use crate::engine::{Consumer, Packed};
use crate::rule::ir::{Awaited, CorrelationKind, Members, WINDOW_MAX};

/// Audit ids that an alert names.
pub(super) const AUDIT_IDS_MAX: usize = 10;

/// Into so many parts a timespan is divided, when a window has more matches than it keeps one by one.
const PARTS: i64 = 256;

/// A match as its group keeps it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) time: Timestamp,
    pub(super) request: u64,
    /// Which of the consumer's rules was true.
    pub(super) member: u16,
    /// The values that are counted, as a [`Tally`] takes them.
    pub(super) values: Box<[u64]>,
    /// How many matches would be a spike at this time.
    pub(super) bound: u64,
    pub(super) audit_id: Arc<str>,
    /// What an alert would show; dropped once an episode is open.
    pub(super) shown: Option<Packed>,
}

impl Entry {
    /// Where it stands among the matches of its group. Of those at the same time, the one of the rule that is named first
    /// comes first, so that what happens at once is in order, whichever is delivered first.
    pub(super) fn order(&self) -> (Timestamp, u16, u64) {
        (self.time, self.member, self.request)
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
    pub(super) shown: Packed,
    /// Empty unless several rules take part.
    pub(super) timeline: Timeline,
}

impl Chain {
    /// Whether a match of this time, which is not after the episode, belongs to it: within a timespan before its first
    /// match if one match is enough, within the window that opened it otherwise.
    pub(super) fn reaches(&self, time: Timestamp, consumer: &Consumer) -> bool {
        let end = if one_is_enough(consumer) { self.first } else { self.opened };
        time.plus(consumer.timespan) >= end
    }

    /// Counts a match in.
    pub(super) fn add(&mut self, entry: &Entry, consumer: &Consumer) {
        self.count += 1;
        if !consumer.steps.is_empty() {
            self.timeline.add(entry, 1);
        }
        self.first = self.first.min(entry.time);
        self.last = self.last.max(entry.time);
        let new = (entry.time, Arc::clone(&entry.audit_id));
        let at = self.audit_ids.partition_point(|known| *known <= new);
        if at < AUDIT_IDS_MAX {
            self.audit_ids.insert(at, new);
            self.audit_ids.truncate(AUDIT_IDS_MAX);
        }
    }
}

/// Whether a single match is an episode.
pub(super) fn one_is_enough(consumer: &Consumer) -> bool {
    consumer.single || matches!(consumer.kind, CorrelationKind::FirstSeen(_))
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
                    chain.add(entry, consumer);
                    return None;
                }
                // Far older than the episode: an episode of its own if one match is enough, too late otherwise.
                let mut own = Window::default();
                own.push(entry, consumer);
                return own.holds(entry, consumer).then(|| own.open(entry, consumer)).flatten();
            }
            if let Self::Open(chain) = std::mem::take(self) {
                ended = Some(chain);
            }
        }
        if let Self::Idle(window) = self {
            window.push(entry, consumer);
            if window.holds(entry, consumer)
                && let Some(chain) = window.open(entry, consumer)
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
    /// The newest ones.
    pub(super) entries: VecDeque<Entry>,
    /// Those before them, which are too many to be kept one by one. At most [`PARTS`] and one for every member.
    runs: VecDeque<Run>,
    /// How many the runs count.
    older: u64,
    tally: Tally,
    /// How often each member is that is there: few are, of what may be hundreds.
    members: Vec<(u16, u64)>,
}

/// Matches of one member within one part of a timespan.
#[derive(Clone, Debug)]
struct Run {
    part: i64,
    /// The first of them.
    first: Entry,
    count: u64,
    figures: Figures,
}

/// Room for the first match alone: most groups have no second one, and the standard would take room for four.
pub(super) fn reserve_first(entries: &mut VecDeque<Entry>) {
    if entries.capacity() == 0 {
        entries.reserve_exact(1);
    }
}

impl Window {
    fn push(&mut self, entry: &Entry, consumer: &Consumer) {
        let newest = self.entries.back().map_or(entry.time, |last| last.time.max(entry.time));
        let at = self.entries.partition_point(|other| other.order() <= entry.order());
        reserve_first(&mut self.entries);
        self.entries.insert(at, entry.clone());
        self.tally.add(&consumer.kind, &entry.values);
        match self.members.iter_mut().find(|(member, _)| *member == entry.member) {
            Some((_, count)) => *count += 1,
            None => self.members.push((entry.member, 1)),
        }
        let oldest = newest.minus(consumer.timespan);
        // Of a part that lies half outside nobody knows any more how many those inside are.
        let whole = |run: &Run, length: i64| run.part.saturating_mul(length) >= oldest.0;
        let length = part_length(consumer);
        while let Some(run) = self.runs.pop_front_if(|run| !whole(run, length)) {
            self.older -= run.count;
            self.forget(run.first.member, run.count);
            self.tally.forget_older(run.figures);
        }
        while let Some(entry) = self.entries.pop_front_if(|first| first.time < oldest) {
            self.tally.remove(&consumer.kind, &entry.values);
            self.forget(entry.member, 1);
        }
        while self.entries.len() > WINDOW_MAX {
            self.fold(consumer, length);
        }
    }

    /// Takes matches of a member out of its count.
    fn forget(&mut self, member: u16, count: u64) {
        if let Some(at) = self.members.iter().position(|(known, _)| *known == member) {
            self.members[at].1 -= count;
            if self.members[at].1 == 0 {
                self.members.swap_remove(at);
            }
        }
    }

    /// The steps so far.
    fn timeline(&self) -> Timeline {
        let mut timeline = Timeline::default();
        self.runs.iter().for_each(|run| timeline.add(&run.first, run.count));
        self.entries.iter().for_each(|entry| timeline.add(entry, 1));
        timeline
    }

    /// Counts the oldest match in its run, instead of keeping it.
    fn fold(&mut self, consumer: &Consumer, length: i64) {
        let Some(entry) = self.entries.pop_front() else { return };
        let figures = self.tally.fold(&consumer.kind, &entry.values);
        self.older += 1;
        let part = entry.time.0.div_euclid(length);
        let after = self.runs.partition_point(|run| run.part <= part);
        let of_part = self.runs.iter_mut().take(after).rev().take_while(|run| run.part == part);
        if let Some(run) = of_part.into_iter().find(|run| run.first.member == entry.member) {
            run.count += 1;
            run.figures += figures;
        } else {
            let shown = entry.shown.filter(|_| !consumer.steps.is_empty());
            self.runs.insert(after, Run { part, first: Entry { shown, ..entry }, count: 1, figures });
        }
    }

    /// How many matches there are.
    pub(super) fn count(&self) -> u64 {
        self.older + self.entries.len() as u64
    }

    /// Whether there are more matches than are kept one by one.
    pub(super) fn is_overfull(&self) -> bool {
        self.older > 0
    }

    /// The matches, oldest first; of those that only count, the first of each run.
    fn kept(&self) -> impl Iterator<Item = &Entry> {
        self.runs.iter().map(|run| &run.first).chain(&self.entries)
    }

    /// Time of the oldest match.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.kept().map(|entry| entry.time).min()
    }

    /// Whether the condition holds over the window, of which `entry` is the one that came last.
    #[expect(clippy::cast_precision_loss, reason = "windows are small")]
    fn holds(&self, entry: &Entry, consumer: &Consumer) -> bool {
        match &consumer.kind {
            CorrelationKind::EventCount(condition) => condition.holds(self.count() as f64),
            CorrelationKind::ValueCount(_, condition) => condition.holds(self.tally.different() as f64),
            CorrelationKind::Value(measure, _, condition) => {
                self.tally.measure(*measure).is_some_and(|figure| condition.holds(figure))
            }
            CorrelationKind::Temporal(awaited) => match awaited {
                Awaited::All => self.members_there() == consumer.members,
                Awaited::Number(condition) => {
                    let members = self.members_there();
                    condition.holds(members as f64)
                        && (!consumer.any || condition.holds(self.requests().min(members) as f64))
                }
                Awaited::These(members) => self.there(members),
            },
            CorrelationKind::TemporalOrdered(awaited) => match awaited {
                Awaited::All => self.members_there() == consumer.members && self.longest_order() == consumer.members,
                Awaited::Number(condition) => condition.holds(self.longest_order() as f64),
                Awaited::These(members) => self.there(members) && self.ends_after(members, 0).is_some(),
            },
            // What is not new does not come here.
            CorrelationKind::FirstSeen(_) => true,
            CorrelationKind::Spike(_) => self.count() >= entry.bound,
        }
    }

    fn members_there(&self) -> usize {
        self.members.len()
    }

    /// How many requests, or episodes, the matches are of.
    fn requests(&self) -> usize {
        self.kept().map(|entry| entry.request).collect::<HashSet<_>>().len()
    }

    fn is_there(&self, member: usize) -> bool {
        self.members.iter().any(|(known, _)| usize::from(*known) == member)
    }

    /// Whether an expression is true of the members that are in the window.
    fn there(&self, members: &Members) -> bool {
        match members {
            Members::All(parts) => parts.iter().all(|part| self.there(part)),
            Members::Any(parts) => parts.iter().any(|part| self.there(part)),
            Members::Not(part) => !self.there(part),
            Members::Member(member) => self.is_there(*member),
        }
    }

    /// How many members, at most, come one after the other in their order.
    fn longest_order(&self) -> usize {
        // The last of the shortest-ending row of each length.
        let mut ends: Vec<u16> = Vec::new();
        for entry in self.kept() {
            let at = ends.partition_point(|end| *end < entry.member);
            match ends.get_mut(at) {
                Some(end) => *end = entry.member,
                None => ends.push(entry.member),
            }
        }
        ends.len()
    }

    /// The place behind the first entries from `from` on that make an expression true in its order. What is not wanted
    /// may be nowhere in the window.
    fn ends_after(&self, members: &Members, from: usize) -> Option<usize> {
        match members {
            Members::All(parts) => parts.iter().try_fold(from, |from, part| self.ends_after(part, from)),
            Members::Any(parts) => parts.iter().filter_map(|part| self.ends_after(part, from)).min(),
            Members::Not(part) => (!self.there(part)).then_some(from),
            Members::Member(member) => {
                let of_member = |entry: &Entry| usize::from(entry.member) == *member;
                self.kept().skip(from).position(of_member).map(|at| from + at + 1)
            }
        }
    }

    /// The episode that begins with what is in the window, completed by `entry`.
    fn open(&mut self, entry: &Entry, consumer: &Consumer) -> Option<Chain> {
        let first = self.kept().next()?;
        let last = self.entries.back()?;
        let shown = entry.shown.clone().or_else(|| self.entries.iter().rev().find_map(|e| e.shown.clone()))?;
        let mut audit_ids: Vec<_> = self.kept().map(|e| (e.time, Arc::clone(&e.audit_id))).collect();
        audit_ids.sort_unstable();
        audit_ids.truncate(AUDIT_IDS_MAX);
        Some(Chain {
            first: first.time,
            opened: entry.time,
            last: last.time,
            count: self.count(),
            evidence: first.request,
            audit_ids,
            shown,
            timeline: if consumer.steps.is_empty() { Timeline::default() } else { self.timeline() },
        })
    }
}

fn part_length(consumer: &Consumer) -> i64 {
    (i64::try_from(consumer.timespan.as_micros()).unwrap_or(i64::MAX) / PARTS).max(1)
}
