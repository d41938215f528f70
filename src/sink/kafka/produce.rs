//! The producer: idempotent, acknowledged by all replicas in sync, a message at a time waited for.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Statistics};
use tokio::sync::oneshot;

use super::super::{Medium, Message, SendError, Sending, Sent, Traits};
use super::KafkaConfig;
use crate::clock::Timestamp;
use crate::kafka::client::{self, PRODUCER, PRODUCER_FIXED, Teller};
use crate::kafka::oauth;

/// Alerts that are on their way at once.
const BATCH_MAX: usize = 100;
/// How long trouble explains why there was no answer.
const TROUBLE: Duration = Duration::from_secs(60);
/// How often the files of secrets and certificates are looked at.
const FILES_EVERY: Duration = Duration::from_secs(10);

/// Sends alerts to a topic.
pub(super) struct Kafka {
    config: KafkaConfig,
    current: Mutex<Current>,
}

/// A producer, and when the files behind it were looked at.
struct Current {
    producer: Arc<Producer>,
    /// Of the files as they were before they were read for it.
    print: u64,
    looked: Instant,
}

/// A producer that ends beside the runtime: it waits for a thread of its own and for brokers.
struct Producer(Option<ThreadedProducer<Context>>);

impl Producer {
    fn get(&self) -> Option<&ThreadedProducer<Context>> {
        self.0.as_ref()
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        let producer = self.0.take();
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn_blocking(move || drop(producer));
        }
    }
}

/// Resolved by the delivery report.
type Report = oneshot::Sender<Result<(), Code>>;

struct Context {
    teller: Teller,
    /// What went wrong last with a connection: a message that is not delivered in time does not say why.
    trouble: Mutex<Option<(Instant, String)>>,
}

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::token(self.teller.settings())
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        self.teller.log(facility, line);
    }

    fn stats(&self, _: Statistics) {}

    fn error(&self, error: KafkaError, reason: &str) {
        let Some(code) = error.rdkafka_error_code() else { return };
        let words = self.teller.explain(code, reason).words;
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That every broker is down follows each failure of the only one, and says less.
        if code != Code::AllBrokersDown || trouble.is_none() {
            *trouble = Some((Instant::now(), words));
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = Box<Report>;

    fn delivery(&self, result: &DeliveryResult<'_>, report: Self::DeliveryOpaque) {
        let outcome = match result {
            Ok(_) => Ok(()),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        };
        if outcome.is_ok() {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        // Whoever waited may have given up.
        let _ = report.send(outcome);
    }
}

impl Kafka {
    pub(super) fn build(config: &KafkaConfig) -> Result<Self, String> {
        Ok(Self { current: Mutex::new(Current::new(config)?), config: config.clone() })
    }

    /// The producer in use; another one where secrets or certificates have changed.
    fn producer(&self) -> Arc<Producer> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.looked.elapsed() >= FILES_EVERY {
            current.looked = Instant::now();
            if self.config.connection().fingerprint() != current.print {
                self.renew(&mut current);
            }
        }
        Arc::clone(&current.producer)
    }

    /// Makes another producer, if that can be done.
    fn renew(&self, current: &mut Current) {
        match Current::new(&self.config) {
            Ok(new) => *current = new,
            Err(error) => tracing::error!(topic = self.config.topic, %error, "Kafka: the old producer stays in use"),
        }
    }

    /// What an error means for the message.
    fn outcome(&self, producer: &ThreadedProducer<Context>, code: Code) -> SendError {
        let context = producer.context();
        if code == Code::Fatal {
            // An idempotent producer that has lost count takes nothing any more.
            self.renew(&mut self.current.lock().unwrap_or_else(PoisonError::into_inner));
        }
        let said = |reason: &str| context.teller.explain(code, reason).words;
        match code {
            Code::MessageSizeTooLarge | Code::InvalidMessageSize | Code::InvalidRecord | Code::InvalidTimestamp => {
                SendError::reject(said(""))
            }
            Code::MessageTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown => {
                let trouble = context.trouble.lock().unwrap_or_else(PoisonError::into_inner);
                let recent = trouble.as_ref().filter(|(at, _)| at.elapsed() < TROUBLE);
                SendError::retry(recent.map_or_else(|| said("no broker took it in time"), |(_, words)| words.clone()))
            }
            _ => SendError::retry(said("")),
        }
    }

    async fn deliver(&self, message: &Message) -> Result<Sent, SendError> {
        let current = self.producer();
        let Some(producer) = current.get() else { return Err(SendError::retry("the producer has ended")) };
        let mut reports = Vec::with_capacity(message.items.len());
        for item in &message.items {
            let body = serde_json::to_vec(&item.alert).map_err(|error| SendError::reject(error.to_string()))?;
            let (report, reported) = oneshot::channel();
            let record = BaseRecord::with_opaque_to(&self.config.topic, Box::new(report));
            let queued = producer.send(record.key(item.alert.id.as_str()).payload(&body));
            if let Err((error, _)) = queued {
                return Err(self.outcome(producer, error.rdkafka_error_code().unwrap_or(Code::Unknown)));
            }
            reports.push(reported);
        }
        for reported in reports {
            // A report that is dropped is one of a producer that is gone.
            if let Err(code) = reported.await.unwrap_or(Err(Code::PurgeInflight)) {
                return Err(self.outcome(producer, code));
            }
        }
        Ok(Sent::default())
    }
}

impl Current {
    fn new(config: &KafkaConfig) -> Result<Self, String> {
        let print = config.connection().fingerprint();
        let settings = config.connection().settings(&PRODUCER, &PRODUCER_FIXED)?;
        let teller = Teller::new(format!("topic {}", config.topic), settings.clone());
        let context = Context { teller, trouble: Mutex::new(None) };
        let producer = client::config(&settings).create_with_context(context);
        let producer = producer.map_err(|error| client::of_creation(&settings, error))?;
        Ok(Self { producer: Arc::new(Producer(Some(producer))), print, looked: Instant::now() })
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
