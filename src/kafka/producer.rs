//! Producers: idempotent, acknowledged by all replicas in sync, made anew when secrets or certificates change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::RDKafkaErrorCode as Code;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer as _, ProducerContext, ThreadedProducer};
use tokio::sync::oneshot;

use super::calls::{Called, Calls};
use super::client::{self, PRODUCER, PRODUCER_FIXED, Teller};
use super::{Connection, Files, Properties};

/// How long trouble explains why there was no answer.
const TROUBLE: Duration = Duration::from_secs(60);

/// Something to send.
#[derive(Clone, Copy, Debug)]
pub struct Record<'r> {
    /// Where to.
    pub topic: &'r str,
    /// `None`: as the key's hash says.
    pub partition: Option<i32>,
    /// For whoever compacts or looks.
    pub key: &'r str,
    /// `None` is a tombstone.
    pub value: Option<&'r [u8]>,
}

/// Resolved by the delivery report.
pub type Reported = oneshot::Receiver<Result<(), Code>>;

/// One producer. It ends beside the runtime: it waits for a thread of its own and for brokers.
pub struct Producer(Option<ThreadedProducer<Called<Context>>>);

impl Producer {
    /// Queues a record.
    pub fn send(&self, record: Record<'_>) -> Result<Reported, Code> {
        let Some(producer) = &self.0 else { return Err(Code::PurgeQueue) };
        let (report, reported) = oneshot::channel();
        let mut queued = BaseRecord::with_opaque_to(record.topic, Box::new(report)).key(record.key);
        queued.partition = record.partition;
        queued.payload = record.value;
        match producer.send(queued) {
            Ok(()) => Ok(reported),
            Err((error, _)) => Err(error.rdkafka_error_code().unwrap_or(Code::Unknown)),
        }
    }

    /// What an error means, and what to do: where a record was not taken in time, why no broker was there to take it.
    #[must_use]
    pub fn explain(&self, code: Code) -> String {
        let Some(producer) = &self.0 else { return "the producer has ended".to_owned() };
        let context = producer.context();
        let said = |reason: &str| context.teller.explain(code, reason).words;
        if !matches!(code, Code::MessageTimedOut | Code::BrokerTransportFailure | Code::AllBrokersDown) {
            return said("");
        }
        let trouble = context.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = trouble.as_ref().filter(|(at, _)| at.elapsed() < TROUBLE);
        recent.map_or_else(|| said("no broker took it in time"), |(_, words)| words.clone())
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

type Report = oneshot::Sender<Result<(), Code>>;

struct Context {
    teller: Teller,
    /// What went wrong last with a connection: a message that is not delivered in time does not say why.
    trouble: Mutex<Option<(Instant, String)>>,
}

impl Calls for Context {
    fn teller(&self) -> &Teller {
        &self.teller
    }

    fn failed(&self, code: Code, reason: &str) {
        let words = self.teller.explain(code, reason).words;
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        // That every broker is down follows each failure of the only one, and says less.
        if code != Code::AllBrokersDown || trouble.is_none() {
            *trouble = Some((Instant::now(), words));
        }
    }
}

impl ProducerContext<NoCustomPartitioner> for Called<Context> {
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

/// The producer in use, one at a time.
pub struct Producers {
    /// As logs name it: `topic alerts`.
    who: String,
    brokers: Vec<String>,
    properties: Properties,
    current: Mutex<Current>,
}

/// A producer, and the files behind it.
struct Current {
    producer: Arc<Producer>,
    files: Files,
}

impl Producers {
    /// Makes the first one; nothing is connected yet.
    pub fn new(who: impl Into<String>, connection: Connection<'_>) -> Result<Self, String> {
        let who = who.into();
        let current = Mutex::new(Current::new(&who, connection)?);
        Ok(Self { who, brokers: connection.brokers.to_vec(), properties: connection.properties.clone(), current })
    }

    /// The producer in use; another one where secrets or certificates have changed.
    pub fn current(&self) -> Arc<Producer> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if current.files.have_changed(self.connection()) {
            self.renew(&mut current);
        }
        Arc::clone(&current.producer)
    }

    /// A record of this producer was not taken: where it takes none any more, another one is made.
    pub fn failed(&self, producer: &Arc<Producer>, code: Code) {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        // An idempotent producer that has lost count takes nothing any more.
        if code == Code::Fatal && Arc::ptr_eq(&current.producer, producer) {
            self.renew(&mut current);
        }
    }

    fn connection(&self) -> Connection<'_> {
        Connection { brokers: &self.brokers, properties: &self.properties }
    }

    /// Makes another producer, if that can be done.
    fn renew(&self, current: &mut Current) {
        match Current::new(&self.who, self.connection()) {
            Ok(new) => *current = new,
            Err(error) => tracing::error!(who = self.who, %error, "Kafka: the old producer stays in use"),
        }
    }
}

impl Current {
    fn new(who: &str, connection: Connection<'_>) -> Result<Self, String> {
        let files = Files::now(connection);
        let settings = connection.settings(&PRODUCER, &PRODUCER_FIXED)?;
        let context = Context { teller: Teller::new(who, settings.clone()), trouble: Mutex::new(None) };
        let producer = client::config(&settings).create_with_context(Called(context));
        let producer = producer.map_err(|error| client::of_creation(&settings, error))?;
        Ok(Self { producer: Arc::new(Producer(Some(producer))), files })
    }
}
