//! Consumers that read partitions by themselves, as members of no group.

use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::kafka::client::{self, Teller};
use crate::kafka::oauth;
use crate::store::kafka::KafkaConfig;

/// Tells what goes wrong.
pub(super) struct Reading(Teller);

impl ClientContext for Reading {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::token(self.0.settings())
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.log(facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is no trouble.
        if let Some(code) = error.rdkafka_error_code().filter(|code| *code != Code::PartitionEOF) {
            self.0.tell(code, reason);
        }
    }
}

impl ConsumerContext for Reading {}

/// One that is told where a partition ends.
pub(super) fn connect(config: &KafkaConfig) -> Result<BaseConsumer<Reading>, String> {
    // librdkafka wants a name, though nothing is committed under it.
    let settings = config.consumer_settings(&format!("{}-reader", config.topic_prefix))?;
    client::config(&settings)
        .set("enable.partition.eof", "true")
        .create_with_context(Reading(Teller::new("journal", settings.clone())))
        .map_err(|error| client::of_creation(&settings, error))
}
