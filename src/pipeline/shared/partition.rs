//! One partition of the matches: its windows, and how far they and what follows from them have come.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::clocks::Clocks;
use crate::alert::Alert;
use crate::clock::{self, Timestamp};
use crate::correlate::{Baseline, Change, Correlator, Episode, Limits, Match, Share, Stats};
use crate::engine::RuleSet;
use crate::store::kafka::record::{Baselines, Record};

/// Records that share a mark of how new they are.
const BLOCK: i64 = 1_000;
/// How often it is looked from where windows could be rebuilt; in between the last answer stands, which is only older.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How often time goes on, by the log's own. Where a backlog is read it goes by strides: what is decided then is told
/// somewhat later, but nothing that is on its way between partitions is overtaken.
const TIME_EVERY: Duration = Duration::from_secs(1);

/// Where a partition is taken up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// Everything before this offset was correlated, and what follows from it told.
    pub(super) until: i64,
    /// From here on it is read again, to rebuild the windows.
    pub(super) rewind: i64,
}

/// A partition that this instance correlates.
pub(super) struct Partition {
    pub(super) number: u32,
    pub(super) correlator: Correlator,
    clocks: Clocks,
    /// Up to here what comes out was told by somebody before; `None` when that is behind us.
    silent_until: Option<i64>,
    /// Up to here what is usual has been learned.
    learned: i64,
    /// The offset of the record that is taken next.
    next: i64,
    /// Everything before this one is told.
    told: i64,
    /// How new the records of each stretch are, oldest first.
    blocks: VecDeque<Block>,
    rewind: i64,
    looked: Duration,
    timed: Timestamp,
    /// What the rebuild took.
    pub(super) rebuilt: Rebuilt,
}

/// What rebuilding windows took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Rebuilt {
    pub(super) records: u64,
    pub(super) since: Duration,
}

struct Block {
    first: i64,
    newest: Timestamp,
}

/// What came out of a partition since it was last told.
pub(super) struct Outcome {
    pub(super) at: i64,
    pub(super) episodes: Vec<Episode>,
    pub(super) changes: Vec<Change>,
    pub(super) baselines: Vec<Baseline>,
    pub(super) stats: Stats,
}

impl Partition {
    pub(super) fn new(share: Share, rules: Arc<RuleSet>, limits: Limits, start: Start, baselines: Baselines) -> Self {
        let mut correlator = Correlator::new(rules, limits).of_share(share);
        let learned = baselines.learned;
        correlator.rebuild(baselines.into_kept());
        Self {
            number: share.number,
            correlator,
            clocks: Clocks::default(),
            silent_until: Some(start.until),
            learned,
            next: start.rewind,
            told: start.until,
            blocks: VecDeque::new(),
            rewind: start.rewind,
            looked: clock::steady(),
            timed: Timestamp::MIN,
            rebuilt: Rebuilt { records: 0, since: clock::steady() },
        }
    }

    /// Whether windows are rebuilt before the record at `offset` can be taken.
    pub(super) fn is_rebuilt_at(&self, offset: i64) -> bool {
        self.silent_until.is_some_and(|until| offset >= until)
    }

    pub(super) fn is_silent(&self) -> bool {
        self.silent_until.is_some()
    }

    /// Goes on in silence up to there, if that is further than was known: somebody has told more meanwhile.
    pub(super) fn stays_silent_until(&mut self, until: i64) -> bool {
        let further = self.silent_until.is_some_and(|known| known < until);
        if further {
            self.silent_until = Some(until);
        }
        further
    }

    /// The windows are as they were: from now on what comes out is told.
    pub(super) fn adopt(&mut self, firing: &[Alert]) {
        self.correlator.adopt(firing);
        self.correlator.set_again(self.next < self.learned);
        if let Some(until) = self.silent_until.take() {
            self.told = self.told.max(until);
        }
    }

    /// Takes a record that the log took at `log`.
    pub(super) fn take(&mut self, offset: i64, log: Timestamp, record: &Record) {
        let log = self.clocks.tick(log);
        match record {
            Record::Matches(matches) => self.take_matches(offset, log, matches),
            Record::Episode(episode) => {
                self.note(offset, episode.time());
                self.begin(&episode.cluster, episode.time());
                self.correlator.take_episode(episode);
            }
            Record::Time(time) => {
                self.note(offset, Timestamp::MIN);
                self.clocks.hear(time);
            }
        }
        if log.since(self.timed) >= TIME_EVERY {
            self.timed = log;
            for cluster in self.clocks.clusters() {
                self.advance(&cluster);
            }
        }
        self.next = offset + 1;
        if self.is_silent() {
            self.rebuilt.records += 1;
            self.correlator.drain();
            self.correlator.drain_episodes();
        } else if self.next >= self.learned {
            self.correlator.set_again(false);
        }
    }

    fn take_matches(&mut self, offset: i64, log: Timestamp, matches: &[Match]) {
        for found in matches {
            self.note(offset, found.time);
            self.begin(&found.cluster, found.time);
        }
        self.correlator.take(matches, Some(log));
    }

    /// Passes by a record that says nothing.
    pub(super) fn skip(&mut self, offset: i64) {
        self.next = offset + 1;
    }

    /// A cluster of which nothing is held begins where its time is.
    fn begin(&mut self, cluster: &Arc<str>, time: Timestamp) {
        self.correlator.begin(cluster, self.clocks.time(cluster).unwrap_or(time));
    }

    fn advance(&mut self, cluster: &Arc<str>) {
        let (Some(time), Some(now)) = (self.clocks.time(cluster), self.correlator.time(cluster)) else { return };
        let most = self.correlator.stride().map_or(time, |stride| now.plus(stride));
        self.correlator.advance(cluster, time.min(most));
    }

    /// Notes that a record of this offset has something of this time.
    fn note(&mut self, offset: i64, time: Timestamp) {
        match self.blocks.back_mut() {
            Some(block) if offset < block.first + BLOCK => block.newest = block.newest.max(time),
            _ => self.blocks.push_back(Block { first: offset, newest: time }),
        }
    }

    /// What came out since the last call, and is to be told.
    pub(super) fn drain(&mut self) -> Option<Outcome> {
        if self.is_silent() || self.next <= self.told {
            return None;
        }
        Some(Outcome {
            at: self.next,
            episodes: self.correlator.drain_episodes(),
            changes: self.correlator.drain(),
            baselines: self.correlator.drain_baselines(),
            stats: self.correlator.take_stats(),
        })
    }

    /// Everything up to there is told.
    pub(super) fn told(&mut self, at: i64) {
        self.told = self.told.max(at);
    }

    /// Where another instance would take it up now.
    pub(super) fn start(&mut self) -> Option<Start> {
        if self.is_silent() {
            return None;
        }
        let steady = clock::steady();
        if steady.saturating_sub(self.looked) >= LOOK_EVERY {
            self.looked = steady;
            self.look();
        }
        Some(Start { until: self.told, rewind: self.rewind.min(self.told) })
    }

    /// Finds the oldest record that the windows are made of.
    fn look(&mut self) {
        let oldest = self.correlator.oldest();
        let needed = |block: &Block| oldest.is_some_and(|oldest| block.newest >= oldest);
        let first = self.blocks.iter().position(needed).unwrap_or(self.blocks.len().saturating_sub(1));
        self.blocks.drain(..first);
        self.rewind = self.blocks.front().map_or(self.next, |block| block.first);
    }
}
