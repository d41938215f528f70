//! What librdkafka calls back about the group of those who correlate. All of it happens inside `poll`, on the thread that
//! owns the consumer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::statistics::Statistics;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use super::group;
use super::partition::{Partition, Start};
use crate::kafka::calls::{Called, Calls};
use crate::kafka::client::Teller;

/// How often the coordinator is asked where partitions are to be taken up.
const ASKED_MAX: u32 = 3;

/// A member of the group.
pub(super) type Client = BaseConsumer<Called<Context>>;

/// A partition that was assigned.
pub(super) enum Slot {
    /// It is not begun yet.
    Assigned(Start),
    /// It is correlated.
    Begun(Box<Partition>),
}

/// What the callbacks share with the loop.
pub(super) struct Context {
    pub(super) teller: Teller,
    pub(super) topic: String,
    pub(super) partitions: u32,
    slots: Mutex<BTreeMap<i32, Slot>>,
    /// Where each partition was last told to have come.
    committed: Mutex<BTreeMap<i32, Start>>,
    /// It is a member of its group.
    pub(super) joined: AtomicBool,
    /// Nobody says where to begin: the consumer is made anew.
    pub(super) broken: AtomicBool,
    /// Records that are not taken yet.
    pub(super) lag: AtomicI64,
    /// It leaves its group: whoever asks the coordinator something then waits in vain, and so does the end.
    pub(super) leaving: CancellationToken,
}

impl Context {
    pub(super) fn new(teller: Teller, topic: String, partitions: u32, leaving: CancellationToken) -> Self {
        Self {
            teller,
            topic,
            partitions,
            slots: Mutex::default(),
            committed: Mutex::default(),
            joined: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            lag: AtomicI64::new(0),
            leaving,
        }
    }

    pub(super) fn slots(&self) -> MutexGuard<'_, BTreeMap<i32, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn committed(&self) -> MutexGuard<'_, BTreeMap<i32, Start>> {
        self.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where partitions were assigned, each asks the coordinator for its start; `None` if it does not say.
    fn starts(&self, consumer: &Client, list: &TopicPartitionList) -> Option<BTreeMap<i32, Start>> {
        for _ in 0..ASKED_MAX {
            if self.leaving.is_cancelled() {
                break;
            }
            match group::committed(consumer, list) {
                Ok(found) => {
                    let start = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| {
                        (element.partition(), start_of(element.offset(), element.metadata()))
                    };
                    return Some(found.elements().iter().map(start).collect());
                }
                Err(error) => tracing::warn!(%error, "Kafka: the journal's offsets are not known; asking again"),
            }
        }
        None
    }

    fn assign(&self, consumer: &Client, list: &mut TopicPartitionList) -> KafkaResult<()> {
        let Some(starts) = self.starts(consumer, list) else {
            if self.leaving.is_cancelled() {
                // They go again at once, and nothing of them is looked at.
                return group::take(consumer, list);
            }
            self.broken.store(true, Ordering::Relaxed);
            return Ok(());
        };
        for (partition, start) in &starts {
            if let Some(mut element) = list.find_partition(&self.topic, *partition) {
                element.set_offset(Offset::Offset(start.rewind))?;
            }
        }
        let mut slots = self.slots();
        for (partition, start) in starts {
            if u32::try_from(partition).is_ok_and(|number| number < self.partitions) {
                slots.insert(partition, Slot::Assigned(start));
            } else {
                tracing::error!(
                    partition,
                    "Kafka: the topic {} has more partitions than `partitions` says; what others put there is not looked at",
                    self.topic
                );
            }
        }
        drop(slots);
        group::take(consumer, list)
    }

    fn revoke(&self, consumer: &Client, list: &TopicPartitionList) -> KafkaResult<()> {
        let going: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        let starts: Vec<(i32, Start)> = going.iter().filter_map(|p| Some((*p, self.committed().remove(p)?))).collect();
        // Where they are lost already somebody else may be further.
        if !consumer.assignment_lost() {
            commit(consumer, &self.topic, &starts, CommitMode::Sync);
        }
        self.slots().retain(|partition, _| !going.contains(partition));
        group::leave(consumer, list)
    }

    /// Commits where partitions have come.
    pub(super) fn commit(&self, consumer: &Client, starts: &[(i32, Start)], mode: CommitMode) {
        self.committed().extend(starts.iter().copied());
        commit(consumer, &self.topic, starts, mode);
    }
}

fn commit(consumer: &Client, topic: &str, starts: &[(i32, Start)], mode: CommitMode) {
    if starts.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::new();
    for (partition, start) in starts {
        let mut element = list.add_partition(topic, *partition);
        // Cannot fail: the offset is one that a record had.
        let _ = element.set_offset(Offset::Offset(start.until));
        element.set_metadata(start.rewind.to_string());
    }
    if let Err(error) = consumer.commit(&list, mode) {
        tracing::debug!(%error, "Kafka: offsets of the journal were not committed; they will be, or what follows is known");
    }
}

/// What was committed, and from where windows can be rebuilt; without that, everything that is kept is read.
fn start_of(offset: Offset, metadata: &str) -> Start {
    match offset {
        Offset::Offset(until) => Start { until, rewind: metadata.parse().unwrap_or(0).clamp(0, until) },
        _ => Start::default(),
    }
}

impl Calls for Context {
    fn teller(&self) -> &Teller {
        &self.teller
    }

    fn stats(&self, statistics: Statistics) {
        // Where there are more members than partitions, no assignment is ever called back.
        if statistics.cgrp.is_some_and(|group| group.join_state == "steady") {
            self.joined.store(true, Ordering::Relaxed);
        }
        let slots = self.slots();
        let partitions = statistics.topics.get(&self.topic).into_iter().flat_map(|topic| &topic.partitions);
        let ours = partitions.filter(|(partition, _)| slots.contains_key(partition));
        self.lag.store(ours.map(|(_, partition)| partition.consumer_lag.max(0)).sum(), Ordering::Relaxed);
    }
}

impl ConsumerContext for Called<Context> {
    fn rebalance(&self, consumer: &Client, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let assigned = group::come(&error);
        let outcome = if assigned { self.assign(consumer, list) } else { self.revoke(consumer, list) };
        if let Err(error) = outcome {
            tracing::warn!(%error, "Kafka: the journal's partitions could not be taken over; trying again");
            self.broken.store(true, Ordering::Relaxed);
        }
        let (moved, ours) = (list.count(), self.slots().len());
        if assigned {
            self.teller.works();
            self.joined.store(true, Ordering::Relaxed);
            tracing::info!(came = moved, ours, "Kafka: partitions of the journal assigned");
        } else {
            tracing::info!(went = moved, ours, "Kafka: partitions of the journal revoked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_what_was_committed_or_the_beginning() {
        let start = |until, rewind| Start { until, rewind };
        assert_eq!(start_of(Offset::Offset(9), "4"), start(9, 4));
        assert_eq!(start_of(Offset::Offset(9), ""), start(9, 0), "somebody has set it by hand");
        assert_eq!(start_of(Offset::Offset(9), "12"), start(9, 9));
        assert_eq!(start_of(Offset::Invalid, ""), start(0, 0));
    }
}
