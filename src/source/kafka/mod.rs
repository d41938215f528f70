//! Topics of Kafka, consumed as a member of a group.
//!
//! ```text
//! thread `kafka`   poll → a batch per partition → store what is done → commit       owns the consumer, never stops polling
//! task per lane    batch → ingest, again and again while there is no room → done    one batch of a partition at a time
//! ```
//!
//! - A message's offset is stored only after ingest returned `Ok` for it and everything before it in its partition.
//! - What is polled and not yet ingested is bounded in bytes. At the bound, partitions are paused and polling goes on: a
//!   consumer that does not poll is thrown out of its group.
//! - A message that is no audit log is rejected with its place and passed by; no message can wedge a partition.

#[cfg(not(feature = "kafka"))]
mod absent;
#[cfg(feature = "kafka")]
mod consume;
#[cfg(feature = "kafka")]
mod context;
#[cfg(feature = "kafka")]
mod lag;
#[cfg(feature = "kafka")]
mod lanes;
#[cfg(all(test, feature = "kafka"))]
mod tests;
#[cfg_attr(not(feature = "kafka"), allow(dead_code, reason = "only looked at for mistakes"))]
mod topics;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[cfg(not(feature = "kafka"))]
pub use self::absent::Consumer;
#[cfg(feature = "kafka")]
pub use self::consume::Consumer;
use self::topics::Topics;
use crate::kafka::{Connection, OWNED, Owned, Properties};
use crate::units::ByteSize;

/// `type: kafka`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// The source's name in metrics.
    #[serde(default = "name")]
    pub name: String,
    /// Where the brokers are, `host:port`; one is enough to find the others.
    pub brokers: Vec<String>,
    /// Names of topics, and patterns that begin with `^`. What a group named `cluster` in a pattern matches is the cluster
    /// label.
    pub topics: Vec<String>,
    /// The consumer group; instances of one group share the partitions.
    #[serde(default = "group")]
    pub group: String,
    /// Any librdkafka property; `NAME_file` reads the value of `NAME` from a file.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
    /// The cluster label of events that neither header nor topic tell of; the global `cluster` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The header of a message that holds its cluster label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster_header: Option<String>,
    /// Largest message, after decompression of its value.
    #[serde(default = "max_body")]
    pub max_body: ByteSize,
}

fn name() -> String {
    "kafka".to_owned()
}

fn group() -> String {
    "kubesiren".to_owned()
}

fn max_body() -> ByteSize {
    ByteSize(64 << 20)
}

/// How far a source is from taking events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Not yet a member of its group since the start, and why.
    Waiting(String),
    /// It has been given partitions, or been told that there are none left for it.
    Joined,
}

/// Told whenever the standing of a source changes.
pub type Told = Box<dyn Fn(Standing) + Send + Sync>;

/// What librdkafka is told unless the configuration says otherwise: `docs/kafka.md` lists it.
#[cfg(feature = "kafka")]
const DEFAULTS: [(&str, &str); 8] = [
    // Nothing that is kept may be skipped: neither on the first start nor where offsets have expired.
    ("auto.offset.reset", "earliest"),
    ("auto.commit.interval.ms", "1000"),
    ("statistics.interval.ms", "5000"),
    // Memory: what is fetched ahead, and one answer of a broker.
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "16777216"),
    // A full queue is looked at again soon, not after a second: small queues would run empty.
    ("fetch.queue.backoff.ms", "50"),
    // A topic that is missing, or new under a pattern, is found within a minute.
    ("topic.metadata.refresh.interval.ms", "60000"),
    ("allow.auto.create.topics", "false"),
];

/// Adding an instance takes nothing from the others but what it gets. The newer protocol has its own assignors.
#[cfg(feature = "kafka")]
const CLASSIC: (&str, &str) = ("partition.assignment.strategy", "cooperative-sticky");

/// Offsets are stored by hand, when ingest has answered, and what is stored is committed.
#[cfg(feature = "kafka")]
const FIXED: [(&str, &str); 2] = [("enable.auto.offset.store", "false"), ("enable.auto.commit", "true")];

/// What only the program may set.
const OWN: [Owned; 4] = [
    ("group.id", "name it under `group`"),
    ("enable.auto.offset.store", "leave it out: an offset is stored when its events are on disk"),
    ("enable.auto.commit", "leave it out: what is on disk is committed"),
    ("enable.partition.eof", "leave it out: the end of a partition is no event"),
];

impl KafkaConfig {
    /// Where the brokers are and how to speak with them.
    #[must_use]
    pub fn connection(&self) -> Connection<'_> {
        Connection { brokers: &self.brokers, properties: &self.properties }
    }

    /// What is wrong with the topics, each with its number in the list.
    #[must_use]
    pub fn wrong_topics(&self) -> Vec<(Option<usize>, String)> {
        if self.topics.is_empty() {
            return vec![(None, "`topics` is empty: name at least one".to_owned())];
        }
        let wrong = Topics::new(&self.topics).err().unwrap_or_default();
        wrong.into_iter().map(|(at, words)| (Some(at), words)).collect()
    }

    /// Properties that are not the user's to set.
    #[must_use]
    pub fn owned() -> Vec<Owned> {
        OWNED.into_iter().chain(OWN).collect()
    }
}
