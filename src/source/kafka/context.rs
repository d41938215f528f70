//! What librdkafka calls back: partitions come and go, something went wrong, how far behind we are.
//!
//! All of it happens inside `poll`, on the thread that owns the consumer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::{Offset, TopicPartitionList};

use super::super::Intake;
use super::lag::Lag;
use super::lanes::{Done, Lanes};
use super::{Standing, Told};
use crate::kafka::calls::{Called, Calls};
use crate::kafka::client::Teller;
use crate::metrics::{Metrics, Source};

/// A member of the group.
pub(super) type Client<I> = BaseConsumer<Called<Context<I>>>;

/// What the callbacks of one consumer share with its loop.
pub(super) struct Context<I> {
    pub(super) lanes: Lanes<I>,
    pub(super) teller: Teller,
    pub(super) source: Arc<str>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) lag: Arc<Lag>,
    pub(super) standing: Arc<Stand>,
    /// Partitions came since it was looked at: they are not paused.
    pub(super) came: AtomicBool,
}

/// Tells of a source's standing, once per change.
pub(super) struct Stand {
    told: Told,
    joined: AtomicBool,
    /// It was said why it has not joined.
    explained: AtomicBool,
}

impl Stand {
    pub(super) fn new(told: Told) -> Self {
        Self { told, joined: AtomicBool::new(false), explained: AtomicBool::new(false) }
    }

    /// Only before it has joined for the first time: later trouble is told in the log and in metrics.
    pub(super) fn waits(&self, words: &str) {
        if !self.joined.load(Ordering::Relaxed) {
            self.explained.store(true, Ordering::Relaxed);
            (self.told)(Standing::Waiting(words.to_owned()));
        }
    }

    /// Whether it has not joined yet, and nothing says why.
    pub(super) fn is_silent(&self) -> bool {
        !self.joined.load(Ordering::Relaxed) && !self.explained.load(Ordering::Relaxed)
    }

    fn joined(&self) {
        if !self.joined.swap(true, Ordering::Relaxed) {
            (self.told)(Standing::Joined);
        }
    }
}

impl<I: Intake> Calls for Context<I> {
    fn teller(&self) -> &Teller {
        &self.teller
    }

    fn failed(&self, code: RDKafkaErrorCode, reason: &str) {
        if let Some(explained) = self.teller.tell(code, reason) {
            self.standing.waits(&explained.words);
        }
    }

    fn stats(&self, statistics: Statistics) {
        self.lag.show(&statistics, &self.lanes);
        // Where there are more members than partitions, no assignment is ever called back.
        if statistics.cgrp.is_some_and(|group| group.join_state == "steady") {
            self.standing.joined();
        }
    }
}

impl<I: Intake> ConsumerContext for Called<Context<I>> {
    fn pre_rebalance(&self, consumer: &Client<I>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.lanes.assigned(&partitions(list)),
            Rebalance::Revoke(list) => {
                let done = self.lanes.revoked(&partitions(list));
                // Stored before they go, so that they are committed with the others on the way out.
                store(consumer, &done);
            }
            Rebalance::Error(error) => tracing::warn!(source = &*self.source, %error, "Kafka: rebalance failed"),
        }
    }

    fn post_rebalance(&self, _: &Client<I>, rebalance: &Rebalance<'_>) {
        let ours = self.lanes.partitions().len();
        let label = Source { source: self.source.to_string() };
        self.metrics.kafka_partitions.get_or_create(&label).set(i64::try_from(ours).unwrap_or(i64::MAX));
        self.metrics.kafka_rebalances.get_or_create(&label).inc();
        match rebalance {
            Rebalance::Assign(list) => {
                tracing::info!(source = &*self.source, came = list.count(), ours, "Kafka: partitions assigned");
                self.came.store(true, Ordering::Relaxed);
                self.teller.works();
                self.standing.joined();
            }
            Rebalance::Revoke(list) => {
                tracing::info!(source = &*self.source, went = list.count(), ours, "Kafka: partitions revoked");
            }
            Rebalance::Error(_) => {}
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        match result.err().and_then(|error| error.rdkafka_error_code()) {
            // There was nothing to commit; or it is committed again by whoever has the partition after a rebalance.
            None
            | Some(
                RDKafkaErrorCode::NoOffset
                | RDKafkaErrorCode::RebalanceInProgress
                | RDKafkaErrorCode::IllegalGeneration
                | RDKafkaErrorCode::UnknownMemberId,
            ) => {}
            Some(code) => {
                self.teller.tell(code, &format!("offsets were not committed: {code}"));
            }
        }
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<(String, i32)> {
    list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}

/// Stores what is done, to be committed. For partitions that are lost this answers an error: whoever has them reads again
/// what was not committed, and the events are known by then.
pub(super) fn store<I: Intake>(consumer: &Client<I>, done: &[Done]) {
    if done.is_empty() {
        return;
    }
    let mut list = TopicPartitionList::with_capacity(done.len());
    for done in done {
        // Cannot fail: the offset is one that a message had.
        let _ = list.add_partition_offset(&done.topic, done.partition, Offset::Offset(done.offset + 1));
    }
    if let Err(error) = consumer.store_offsets(&list) {
        tracing::debug!(%error, "Kafka: offsets of partitions that went were not stored");
    }
}
