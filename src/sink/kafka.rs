//! Alerts as messages of a Kafka topic.

#[cfg(feature = "kafka")]
mod produce;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Medium;
use crate::kafka::{Connection, OWNED, Owned, Properties};

/// `type: kafka`: one message per alert, its key the alert's id, its value the alert's JSON.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Where the brokers are, `host:port`; one is enough to find the others.
    pub brokers: Vec<String>,
    /// Where alerts go. It should exist: brokers may refuse to make topics, or make them with one replica.
    pub topic: String,
    /// Any librdkafka property; `NAME_file` reads the value of `NAME` from a file.
    #[serde(default, skip_serializing_if = "Properties::is_empty")]
    pub properties: Properties,
}

/// What only the program may set.
const OWN: [Owned; 3] = [
    ("acks", "leave it out: an alert counts as sent when all replicas in sync have it"),
    ("enable.idempotence", "leave it out: what the client repeats is stored once"),
    ("transactional.id", "leave it out: an alert is one message, and needs no transaction"),
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
}

#[cfg(feature = "kafka")]
pub(super) fn build(config: &KafkaConfig) -> Result<Box<dyn Medium>, String> {
    Ok(Box::new(produce::Kafka::build(config)?))
}

#[cfg(not(feature = "kafka"))]
pub(super) fn build(_: &KafkaConfig) -> Result<Box<dyn Medium>, String> {
    Err(crate::kafka::ABSENT.to_owned())
}
