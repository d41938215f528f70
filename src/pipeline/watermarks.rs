//! How far event time has come in each cluster: by its events, or by the wall clock while it is silent.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::correlate::SKEW_MAX;

/// Clusters whose time is followed; a client of the webhook may name any, and the one silent for longest goes first.
pub(super) const CLUSTERS_MAX: usize = 10_000;

/// An apiserver holds a batch back for up to 30 s by default: silence that is shorter says nothing.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

/// The newest event time of each cluster, and when it was seen.
#[derive(Debug, Default)]
pub struct Watermarks {
    clusters: Mutex<HashMap<Arc<str>, Mark>>,
}

#[derive(Clone, Copy, Debug)]
struct Mark {
    newest: Timestamp,
    /// When that was, on the steady clock: one that is set must not let hours of event time pass.
    at: Duration,
}

impl Watermarks {
    /// Notes that an event of `newest` was seen at `now`, wall clock, which is `steady` on the clock that nobody sets.
    pub fn seen(&self, cluster: &Arc<str>, newest: Timestamp, now: Timestamp, steady: Duration) {
        let newest = newest.min(now.plus(SKEW_MAX));
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mark) = clusters.get_mut(cluster) {
            *mark = Mark { newest: mark.newest.max(newest), at: steady };
            return;
        }
        if clusters.len() >= CLUSTERS_MAX
            && let Some(silent) =
                clusters.iter().min_by_key(|(_, mark)| mark.at).map(|(cluster, _)| Arc::clone(cluster))
        {
            clusters.remove(&silent);
        }
        clusters.insert(Arc::clone(cluster), Mark { newest, at: steady });
    }

    /// The newest event of the clusters that had one within `span` before `steady`.
    #[must_use]
    pub fn lately(&self, steady: Duration, span: Duration) -> Vec<(Arc<str>, Timestamp)> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let lately = clusters.iter().filter(|(_, mark)| steady.saturating_sub(mark.at) <= span);
        lately.map(|(cluster, mark)| (Arc::clone(cluster), mark.newest)).collect()
    }

    /// How far event time has come at `steady`, on the same clock as [`Watermarks::seen`].
    #[must_use]
    pub fn at(&self, steady: Duration) -> Vec<(Arc<str>, Timestamp)> {
        let clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let time = |mark: &Mark| {
            let silent = steady.saturating_sub(mark.at).saturating_sub(SILENCE);
            // Silent for so long, nothing older than the silence will come.
            mark.newest.plus(silent)
        };
        clusters.iter().map(|(cluster, mark)| (Arc::clone(cluster), time(mark))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    #[test]
    fn a_clock_that_is_set_lets_no_time_pass() {
        let (marks, cluster) = (Watermarks::default(), "a".into());
        let (day, year) = (second(86_400), second(86_400 * 365));
        marks.seen(&cluster, day, day, Duration::from_secs(1));
        marks.seen(&cluster, day, year, Duration::from_secs(2));
        assert_eq!(marks.at(Duration::from_secs(3))[0].1, day);
        marks.seen(&cluster, day, day, Duration::from_secs(4));
        assert_eq!(marks.at(Duration::from_secs(5))[0].1, day);
    }

    #[test]
    fn event_time_follows_events_and_then_the_clock() {
        let marks = Watermarks::default();
        let cluster: Arc<str> = "a".into();
        let steady = Duration::from_secs;
        marks.seen(&cluster, second(100), second(110), steady(10));
        assert_eq!(marks.at(steady(60))[0].1, second(100));
        assert_eq!(marks.at(steady(100))[0].1, second(130));
        marks.seen(&cluster, second(90), second(200), steady(100));
        assert_eq!(marks.at(steady(100))[0].1, second(100), "never back");
        marks.seen(&cluster, second(100_000), second(210), steady(110));
        assert_eq!(marks.at(steady(110))[0].1, second(510), "never far ahead of the clock");
    }
}
