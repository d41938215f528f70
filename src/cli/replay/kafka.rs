//! A topic: one message per event, or per list where a batch is asked for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};

use super::{Args, event_list};
use crate::kafka::calls::{Called, Calls};
use crate::kafka::client::{self, PRODUCER, PRODUCER_FIXED, Teller};
use crate::kafka::{Connection, Properties, wrong_brokers, wrong_topic};

/// Events may be larger than alerts.
const LARGE: (&str, &str) = ("message.max.bytes", "33554432");
/// While the producer's queue is full.
const PAUSE: Duration = Duration::from_millis(5);

pub(super) struct Topic {
    producer: ThreadedProducer<Called<Context>>,
    lost: Arc<Lost>,
    topic: String,
    /// Lists instead of single events.
    lists: bool,
}

/// Messages that were not delivered, and why the last one was not.
#[derive(Default)]
struct Lost {
    count: AtomicU64,
    code: std::sync::Mutex<Option<RDKafkaErrorCode>>,
}

struct Context {
    teller: Teller,
    lost: Arc<Lost>,
}

impl Calls for Context {
    fn teller(&self) -> &Teller {
        &self.teller
    }

    fn failed(&self, code: RDKafkaErrorCode, reason: &str) {
        if let Some(explained) = self.teller.tell_once(code, reason) {
            super::out::error(&explained.words);
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Called<Context> {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): Self::DeliveryOpaque) {
        if let Err((error, _)) = result {
            self.lost.count.fetch_add(1, Ordering::Relaxed);
            *self.lost.code.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = error.rdkafka_error_code();
        }
    }
}

impl Topic {
    pub(super) fn new(args: &Args) -> anyhow::Result<Self> {
        let topic = args.topic.clone().unwrap_or_default();
        let wrong =
            wrong_topic(&topic).map(str::to_owned).or_else(|| wrong_brokers(&args.kafka).pop().map(|(_, why)| why));
        if let Some(why) = wrong {
            anyhow::bail!(why);
        }
        let properties = Properties::parse(&args.property).map_err(anyhow::Error::msg)?;
        let connection = Connection { brokers: &args.kafka, properties: &properties };
        let settings =
            connection.settings(&[&PRODUCER[..], &[LARGE]].concat(), &PRODUCER_FIXED).map_err(anyhow::Error::msg)?;
        let lost = Arc::new(Lost::default());
        let context = Context { teller: Teller::new("replay", settings.clone()), lost: Arc::clone(&lost) };
        let producer = client::config(&settings).create_with_context(Called(context));
        let producer = producer.map_err(|error| anyhow::anyhow!(client::of_creation(&settings, error)))?;
        Ok(Self { producer, lost, topic, lists: args.batch.is_some() })
    }

    pub(super) async fn send(&self, events: Vec<Vec<u8>>) -> anyhow::Result<()> {
        if self.lists {
            return self.message(&event_list(&events)).await;
        }
        for event in events {
            self.message(&event).await?;
        }
        Ok(())
    }

    async fn message(&self, value: &[u8]) -> anyhow::Result<()> {
        let mut record: BaseRecord<'_, (), [u8]> = BaseRecord::to(&self.topic).payload(value);
        loop {
            self.check()?;
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => record = back,
                Err((error, _)) => {
                    let code = error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Unknown);
                    anyhow::bail!(self.producer.context().teller.explain(code, "").words);
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    fn check(&self) -> anyhow::Result<()> {
        let lost = self.lost.count.load(Ordering::Relaxed);
        if lost == 0 {
            return Ok(());
        }
        let code = self.lost.code.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let words = self.producer.context().teller.explain(code.unwrap_or(RDKafkaErrorCode::Unknown), "").words;
        anyhow::bail!("{lost} messages were not taken by {}: {words}", self.topic)
    }

    pub(super) async fn finish(self) -> anyhow::Result<()> {
        let producer = self.producer.clone();
        let flushed = tokio::task::spawn_blocking(move || producer.flush(Duration::from_secs(60))).await;
        self.check()?;
        flushed.context("flushing broke down")?.map_err(|error| anyhow::anyhow!("not all messages were taken: {error}"))
    }
}
