//! Kafka as the journal of several instances: the same two logs as topics.
//!
//! `PREFIX-matches` is the journal: what was found, each record in the partition that holds a group which it concerns, and
//! how far event time has come. `PREFIX-alerts` is the outbox: partition by partition what correlating the matches of the
//! same partition changed, step by step. `PREFIX-baselines` is compacted and keeps what is usual. `docs/scaling.md` tells
//! how instances work on them.

#[cfg(feature = "kafka")]
mod journal;
#[cfg(feature = "kafka")]
pub mod record;
#[cfg(feature = "kafka")]
mod topics;

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::kafka::{Connection, OWNED, Owned, Properties};
use crate::units::Span;

#[cfg(feature = "kafka")]
pub use self::journal::Journal;
#[cfg(feature = "kafka")]
pub use topics::Unprepared;

/// Partitions that a configuration may ask for.
pub const PARTITIONS_MAX: u32 = 1_000;

/// `journal: {type: kafka}`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Where the brokers are, `host:port`; one is enough to find the others.
    pub brokers: Vec<String>,
    /// What the names of topics and groups begin with: instances with the same prefix work together.
    #[serde(default = "topic_prefix")]
    pub topic_prefix: String,
    /// Partitions of each topic: the most instances that can correlate at once. It cannot be changed afterwards.
    #[serde(default = "partitions")]
    pub partitions: u32,
    /// Copies of each topic that is created.
    #[serde(default = "replication_factor")]
    pub replication_factor: u16,
    /// Whether topics that are missing are created.
    #[serde(default = "create_topics")]
    pub create_topics: bool,
    /// How long matches are kept in a topic that is created.
    #[serde(default = "keep_matches")]
    pub keep_matches: Span,
    /// How long ended alerts are kept.
    #[serde(default = "keep_alerts")]
    pub keep_alerts: Span,
    /// Deliveries that may wait for one sink; beyond that the least bad alerts become dead letters.
    #[serde(default = "max_outbox")]
    pub max_outbox: u64,
    /// Any librdkafka property; `NAME_file` reads the value of `NAME` from a file.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
}

fn topic_prefix() -> String {
    "kubesiren".to_owned()
}

fn partitions() -> u32 {
    12
}

fn replication_factor() -> u16 {
    3
}

fn create_topics() -> bool {
    true
}

fn keep_matches() -> Span {
    Span(Duration::from_secs(7 * 86_400))
}

fn keep_alerts() -> Span {
    Span(Duration::from_secs(30 * 86_400))
}

fn max_outbox() -> u64 {
    100_000
}

/// What only the program may set.
const OWN: [Owned; 8] = [
    ("acks", "leave it out: a match is acknowledged when all replicas in sync have it"),
    ("enable.idempotence", "leave it out: what the client repeats is stored once"),
    ("transactional.id", "leave it out: what is told twice is known by its name, and needs no transaction"),
    ("group.id", "leave it out: groups are named after `topic_prefix`"),
    ("enable.auto.offset.store", "leave it out: an offset is committed when all that follows from it is acknowledged"),
    ("enable.auto.commit", "leave it out: an offset is committed when all that follows from it is acknowledged"),
    ("enable.partition.eof", "leave it out: the end of a partition is no record"),
    ("auto.offset.reset", "leave it out: nothing that is kept may be skipped"),
];

impl KafkaConfig {
    /// Where the brokers are and how to speak with them.
    #[must_use]
    pub fn connection(&self) -> Connection<'_> {
        Connection { brokers: &self.brokers, properties: &self.properties }
    }

    /// Properties that are not the user's to set.
    #[must_use]
    pub fn owned() -> Vec<Owned> {
        OWNED.into_iter().chain(OWN).collect()
    }

    /// The topic of matches.
    #[must_use]
    pub fn matches(&self) -> String {
        format!("{}-matches", self.topic_prefix)
    }

    /// The topic of alerts.
    #[must_use]
    pub fn alerts(&self) -> String {
        format!("{}-alerts", self.topic_prefix)
    }

    /// The topic of what is usual.
    #[must_use]
    pub fn baselines(&self) -> String {
        format!("{}-baselines", self.topic_prefix)
    }

    /// The group of those who correlate.
    #[must_use]
    pub fn correlating_group(&self) -> String {
        format!("{}-correlation", self.topic_prefix)
    }

    /// The group of those who deliver to a sink.
    #[must_use]
    pub fn sink_group(&self, sink: &str) -> String {
        format!("{}-sink-{sink}", self.topic_prefix)
    }

    /// The name of a partition of the alerts in the state database.
    #[must_use]
    pub fn part(&self, partition: i32) -> String {
        format!("{}/{partition}", self.alerts())
    }
}

/// What is asked of librdkafka for groups, unless the configuration says otherwise.
#[cfg(feature = "kafka")]
const DEFAULTS: [(&str, &str); 8] = [
    ("statistics.interval.ms", "5000"),
    ("queued.max.messages.kbytes", "16384"),
    ("fetch.max.bytes", "16777216"),
    ("fetch.queue.backoff.ms", "50"),
    ("fetch.wait.max.ms", "100"),
    ("topic.metadata.refresh.interval.ms", "60000"),
    ("allow.auto.create.topics", "false"),
    // An instance that dies is missed for so long.
    ("session.timeout.ms", "10000"),
];

#[cfg(feature = "kafka")]
const FIXED: [(&str, &str); 3] =
    [("enable.auto.offset.store", "false"), ("enable.auto.commit", "false"), ("auto.offset.reset", "earliest")];

#[cfg(feature = "kafka")]
impl KafkaConfig {
    /// What a consumer of this group is told. Secrets are read.
    pub fn consumer_settings(&self, group: &str) -> Result<crate::kafka::Settings, String> {
        let newer =
            self.properties.get("group.protocol").is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"));
        // The newer protocol has its own sessions and assignors.
        let defaults = if newer { &DEFAULTS[..DEFAULTS.len() - 1] } else { &DEFAULTS[..] };
        let mut fixed = FIXED.to_vec();
        fixed.push(("group.id", group));
        let mut settings = self.connection().settings(defaults, &fixed)?;
        if !newer {
            settings.set_default("partition.assignment.strategy", "cooperative-sticky");
        }
        Ok(settings)
    }

    /// Reads secrets and certificates and lets librdkafka look at the whole, without joining a group.
    pub fn look_at(&self) -> Result<(), String> {
        crate::kafka::client::look_at(&self.consumer_settings(&self.correlating_group())?)
    }
}
