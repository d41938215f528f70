//! Consumers that read partitions by themselves, as members of no group.

use rdkafka::consumer::BaseConsumer;

use crate::kafka::calls::Called;
use crate::kafka::client::{self, Teller};
use crate::store::kafka::KafkaConfig;

/// One of them; it tells what goes wrong.
pub(super) type Reading = BaseConsumer<Called<Teller>>;

/// One that is told where a partition ends.
pub(super) fn connect(config: &KafkaConfig) -> Result<Reading, String> {
    // librdkafka wants a name, though nothing is committed under it.
    let settings = config.consumer_settings(&format!("{}-reader", config.topic_prefix))?;
    client::config(&settings)
        .set("enable.partition.eof", "true")
        .create_with_context(Called(Teller::new("journal", settings.clone())))
        .map_err(|error| client::of_creation(&settings, error))
}
