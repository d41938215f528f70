//! How far behind each partition is, from librdkafka's statistics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::statistics::{Partition, Statistics};

use super::super::Intake;
use super::lanes::Lanes;
use crate::metrics::{Metrics, PartitionLabels, Source};

/// Partitions with a series of their own; what lies behind in further ones is summed under `other`.
const SERIES_MAX: usize = 200;
const OTHER: &str = "other";

/// The gauges of one source.
pub(super) struct Lag {
    source: Arc<str>,
    metrics: Arc<Metrics>,
    /// The series that were set last.
    shown: Mutex<Vec<PartitionLabels>>,
}

impl Lag {
    pub(super) fn new(source: Arc<str>, metrics: Arc<Metrics>) -> Self {
        Self { source, metrics, shown: Mutex::default() }
    }

    /// Sets what is ours, and drops what is not any more.
    pub(super) fn show<I: Intake>(&self, statistics: &Statistics, lanes: &Lanes<I>) {
        let up = statistics.brokers.values().any(|broker| broker.state == "UP");
        self.metrics.kafka_connected.get_or_create(&self.label()).set(up.into());
        let mut behind: BTreeMap<(String, i32), i64> = BTreeMap::new();
        for (topic, partition) in lanes.partitions() {
            let known = statistics.topics.get(&topic).and_then(|topic| topic.partitions.get(&partition));
            let (ingested, waiting) = lanes.ingested(&topic, partition);
            if let Some(lag) = known.and_then(|known| lag(known, ingested, waiting)) {
                behind.insert((topic, partition), lag);
            }
        }
        let mut series = Vec::new();
        for (at, ((topic, partition), lag)) in behind.into_iter().enumerate() {
            let (topic, partition) =
                if at < SERIES_MAX { (topic, partition.to_string()) } else { (OTHER.to_owned(), OTHER.to_owned()) };
            let labels = PartitionLabels { source: self.source.to_string(), topic, partition };
            match series.last_mut() {
                Some((last, sum)) if *last == labels => *sum += lag,
                _ => series.push((labels, lag)),
            }
        }
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.iter().filter(|old| series.iter().all(|(new, _)| new != *old)) {
            self.metrics.kafka_lag.remove(gone);
        }
        for (labels, lag) in &series {
            self.metrics.kafka_lag.get_or_create(labels).set(*lag);
        }
        *shown = series.into_iter().map(|(labels, _)| labels).collect();
    }

    /// Drops all: there is no consumer any more.
    pub(super) fn clear(&self) {
        for gone in self.shown.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            self.metrics.kafka_lag.remove(&gone);
        }
        self.metrics.kafka_connected.get_or_create(&self.label()).set(0);
        self.metrics.kafka_partitions.get_or_create(&self.label()).set(0);
        self.metrics.kafka_paused.get_or_create(&self.label()).set(0);
    }

    fn label(&self) -> Source {
        Source { source: self.source.to_string() }
    }
}

/// Messages between what is ingested and the end of a partition; `None` while the end is not known.
fn lag(known: &Partition, ingested: Option<i64>, waiting: bool) -> Option<i64> {
    // Beyond the last stable offset nothing can be read yet.
    let end = if known.ls_offset >= 0 { known.ls_offset } else { known.hi_offset };
    if end < 0 {
        return None;
    }
    // A partition that ends with markers of transactions has no message at its end: whoever read to there is not behind.
    let read_to_the_end = known.eof_offset == end && known.fetchq_cnt == 0 && !waiting;
    if read_to_the_end {
        return Some(0);
    }
    let next = match ingested {
        Some(offset) => offset + 1,
        None if known.committed_offset >= 0 => known.committed_offset,
        None => known.lo_offset.max(0),
    };
    Some((end - next).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_consumer_nothing_is_connected_ours_or_paused() {
        let metrics = Arc::new(Metrics::new());
        let lag = Lag::new("kafka".into(), Arc::clone(&metrics));
        let gauges = [&metrics.kafka_connected, &metrics.kafka_partitions, &metrics.kafka_paused];
        for gauge in gauges {
            gauge.get_or_create(&lag.label()).set(1);
        }
        lag.clear();
        assert!(gauges.iter().all(|gauge| gauge.get_or_create(&lag.label()).get() == 0));
    }

    #[test]
    fn lag_counts_from_what_is_ingested() {
        let known = |ls, hi, committed, eof| Partition {
            ls_offset: ls,
            hi_offset: hi,
            committed_offset: committed,
            eof_offset: eof,
            ..Partition::default()
        };
        assert_eq!(lag(&known(-1001, -1001, -1001, -1001), None, false), None);
        assert_eq!(lag(&known(100, 100, -1001, -1001), None, false), Some(100));
        assert_eq!(lag(&known(100, 100, 40, -1001), None, false), Some(60));
        assert_eq!(lag(&known(100, 100, 40, -1001), Some(89), true), Some(10));
        assert_eq!(lag(&known(90, 100, 40, -1001), Some(89), false), Some(0));
        // The last offset is a transaction's marker.
        assert_eq!(lag(&known(100, 100, 40, 100), Some(98), false), Some(0));
        assert_eq!(lag(&known(100, 100, 40, 100), Some(50), true), Some(49));
    }
}
