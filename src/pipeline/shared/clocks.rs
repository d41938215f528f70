//! How far event time has come, as the log tells it: by what instances say of the events they take, and, where all of them
//! are silent about a cluster, by the times at which the log took its records. So everybody who reads the same log comes
//! to the same time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use super::super::watermarks::{CLUSTERS_MAX, SILENCE};
use crate::clock::Timestamp;
use crate::correlate::SKEW_MAX;
use crate::store::kafka::record::Time;

/// Instances that are remembered of a cluster; who spoke last stays.
const INSTANCES_MAX: usize = 100;

/// Each instance says something every second: after so long it is dead, or frozen, and others have its work.
const DEAD_AFTER: Duration = Duration::from_secs(15);

/// What was said of the clusters.
#[derive(Debug, Default)]
pub(super) struct Clocks {
    /// The newest time at which the log took a record.
    log: Timestamp,
    /// When each instance said something, whatever it was.
    heard: HashMap<u64, Timestamp>,
    clusters: HashMap<Arc<str>, BTreeMap<u64, Word>>,
}

/// What an instance said last.
#[derive(Clone, Copy, Debug)]
struct Word {
    newest: Timestamp,
    /// When the log took it.
    at: Timestamp,
    /// It will say no more.
    bye: bool,
}

impl Clocks {
    /// The log took a record; what time that makes it. Never goes back.
    pub(super) fn tick(&mut self, log: Timestamp) -> Timestamp {
        self.log = self.log.max(log);
        self.log
    }

    /// An instance says how far it has come.
    pub(super) fn hear(&mut self, time: &Time) {
        self.heard.insert(time.from, self.log);
        if self.heard.len() > INSTANCES_MAX {
            let log = self.log;
            self.heard.retain(|_, at| log <= at.plus(DEAD_AFTER));
        }
        for (cluster, newest) in &time.clusters {
            let newest = Timestamp(*newest).min(self.log.plus(SKEW_MAX));
            if !self.clusters.contains_key(cluster) && self.clusters.len() >= CLUSTERS_MAX {
                self.forget_one();
            }
            let words = self.clusters.entry(Arc::clone(cluster)).or_default();
            let newest = words.get(&time.from).map_or(newest, |word| word.newest.max(newest));
            words.insert(time.from, Word { newest, at: self.log, bye: false });
            if words.len() > INSTANCES_MAX
                && let Some(oldest) = words.iter().min_by_key(|(_, word)| word.at).map(|(from, _)| *from)
            {
                words.remove(&oldest);
            }
        }
        if time.bye {
            for word in self.clusters.values_mut().filter_map(|words| words.get_mut(&time.from)) {
                word.bye = true;
            }
        }
    }

    /// How far event time has come in a cluster, if anybody has said something of it.
    pub(super) fn time(&self, cluster: &str) -> Option<Timestamp> {
        let words = self.clusters.get(cluster)?;
        // The one that is furthest behind still brings events of its time.
        let slowest = words.iter().filter(|(from, word)| self.holds(**from, word)).map(|(_, word)| word.newest).min();
        slowest.or_else(|| {
            let (newest, last) =
                (words.values().map(|word| word.newest).max()?, words.values().map(|word| word.at).max()?);
            // Silent for so long, nothing older than the silence will come.
            Some(newest.plus(self.log.since(last).saturating_sub(SILENCE)))
        })
    }

    /// Whether an instance may still bring events of the time that it spoke of.
    fn holds(&self, from: u64, word: &Word) -> bool {
        let lives = self.heard.get(&from).is_some_and(|at| self.log <= at.plus(DEAD_AFTER));
        lives && !word.bye && self.log <= word.at.plus(SILENCE)
    }

    /// All clusters.
    pub(super) fn clusters(&self) -> Vec<Arc<str>> {
        self.clusters.keys().cloned().collect()
    }

    /// The one that was silent for longest.
    fn forget_one(&mut self) {
        let last = |words: &BTreeMap<u64, Word>| words.values().map(|word| word.at).max();
        let silent = self.clusters.iter().min_by_key(|(_, words)| last(words)).map(|(cluster, _)| Arc::clone(cluster));
        if let Some(silent) = silent {
            self.clusters.remove(&silent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    fn said(from: u64, seconds: i64) -> Time {
        Time { from, bye: false, clusters: [("a".into(), second(seconds).0)].into() }
    }

    #[test]
    fn the_slowest_instance_makes_the_time_until_it_is_silent() {
        let mut clocks = Clocks::default();
        clocks.tick(second(100));
        clocks.hear(&said(1, 90));
        clocks.hear(&said(2, 50));
        assert_eq!(clocks.time("a"), Some(second(50)));
        let quiet = Time { from: 2, ..Time::default() };
        clocks.tick(second(150));
        clocks.hear(&said(1, 140));
        clocks.hear(&quiet);
        assert_eq!(clocks.time("a"), Some(second(50)));
        clocks.tick(second(161));
        clocks.hear(&said(1, 140));
        clocks.hear(&quiet);
        assert_eq!(clocks.time("a"), Some(second(140)), "one that has no events of it holds nobody");
        clocks.tick(second(161 + 60 + 30));
        assert_eq!(clocks.time("a"), Some(second(170)), "where all are silent the log makes the time");
        assert_eq!(clocks.time("b"), None);
    }

    #[test]
    fn who_is_dead_holds_nobody_for_long() {
        let mut clocks = Clocks::default();
        clocks.tick(second(100));
        clocks.hear(&said(2, 50));
        for now in [100, 110, 115, 116] {
            clocks.tick(second(now));
            clocks.hear(&said(1, now));
            let expected = if now <= 115 { 50 } else { 116 };
            assert_eq!(clocks.time("a"), Some(second(expected)), "at {now}");
        }
    }

    #[test]
    fn who_says_goodbye_holds_nobody_and_the_future_stays_far() {
        let mut clocks = Clocks::default();
        clocks.tick(second(100));
        clocks.hear(&said(1, 90));
        clocks.hear(&said(2, 50));
        clocks.hear(&Time { from: 2, bye: true, clusters: BTreeMap::new() });
        assert_eq!(clocks.time("a"), Some(second(90)));
        clocks.hear(&said(1, 1_000_000));
        assert_eq!(clocks.time("a"), Some(second(400)));
    }
}
