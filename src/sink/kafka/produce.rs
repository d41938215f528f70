//! Alerts on their way to a topic: each acknowledged before it counts as sent.

use std::sync::Arc;

use rdkafka::error::RDKafkaErrorCode as Code;

use super::super::{Medium, Message, SendError, Sending, Sent, Traits};
use super::KafkaConfig;
use crate::clock::Timestamp;
use crate::kafka::producer::{Producer, Producers, Record};

/// Alerts that are on their way at once.
const BATCH_MAX: usize = 100;

/// Sends alerts to a topic.
pub(super) struct Kafka {
    topic: String,
    producers: Producers,
}

impl Kafka {
    pub(super) fn build(config: &KafkaConfig) -> Result<Self, String> {
        let producers = Producers::new(format!("topic {}", config.topic), config.connection())?;
        Ok(Self { topic: config.topic.clone(), producers })
    }

    /// What an error means for the message.
    fn outcome(&self, producer: &Arc<Producer>, code: Code) -> SendError {
        self.producers.failed(producer, code);
        match code {
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp => {
                SendError::reject(producer.explain(code))
            }
            _ => SendError::retry(producer.explain(code)),
        }
    }

    async fn deliver(&self, message: &Message) -> Result<Sent, SendError> {
        let producer = self.producers.current();
        let mut reports = Vec::with_capacity(message.items.len());
        for item in &message.items {
            let body = serde_json::to_vec(&item.alert).map_err(|error| SendError::reject(error.to_string()))?;
            let record = Record { topic: &self.topic, partition: None, key: &item.alert.id, value: Some(&body) };
            reports.push(producer.send(record).map_err(|code| self.outcome(&producer, code))?);
        }
        for reported in reports {
            // A report that is dropped is one of a producer that is gone.
            if let Err(code) = reported.await.unwrap_or(Err(Code::PurgeInflight)) {
                return Err(self.outcome(&producer, code));
            }
        }
        Ok(Sent::default())
    }
}

impl Medium for Kafka {
    fn traits(&self) -> Traits {
        Traits { batch_max: BATCH_MAX, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, _: Timestamp) -> Sending<'a> {
        Box::pin(self.deliver(message))
    }
}
