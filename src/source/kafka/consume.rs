//! The thread that owns the consumer: it polls whatever happens, and never waits for anything for long.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::super::Intake;
use super::context::{Client, Context, Stand, store};
use super::lag::Lag;
use super::lanes::{Label, Lanes, Pace, Place};
use super::topics::Topics;
use super::{CLASSIC, DEFAULTS, FIXED, KafkaConfig, Told};
use crate::event::cluster_name;
use crate::kafka::calls::Called;
use crate::kafka::client::{self, Teller};
use crate::kafka::{Files, Settings};
use crate::metrics::{Metrics, Source};

/// Nothing that happens is noticed later than this.
const POLL: Duration = Duration::from_millis(100);
/// Messages that are polled before it is looked at anything else.
const BURST: usize = 2_000;
/// Before a consumer that failed for good is made anew.
const AGAIN: Duration = Duration::from_secs(10);
/// How long leaving the group may take.
const STOP_MAX: Duration = Duration::from_secs(20);

/// After partitions came, for how long pausing or resuming is said again and again. librdkafka may take it for older than
/// the beginning of the fetch that goes on at the same time, and forget it (seen with 2.12: "received outdated op PAUSE").
const SETTLING: Duration = Duration::from_secs(5);

/// Topics whose labels are remembered.
const TOPICS_MAX: usize = 10_000;

/// A source of topics, ready to run.
pub struct Consumer<I> {
    config: KafkaConfig,
    settings: Settings,
    /// Of secrets and certificates, as they were before the settings were read from them.
    pub(super) files: Files,
    topics: Arc<Topics>,
    source: Arc<str>,
    /// Where neither header nor topic tell.
    label: Label,
    ingest: I,
    metrics: Arc<Metrics>,
    pace: Pace,
}

/// Why a consumer is given up.
enum Ended {
    /// All shall stop.
    Stopping,
    /// Secrets or certificates have changed.
    Renewed,
    /// It cannot go on.
    Failed,
    /// A task of ours broke down.
    Broken,
}

impl<I: Intake> Consumer<I> {
    /// Reads the secrets, and lets librdkafka look at everything; the error lists what is wrong. Nothing is connected yet.
    pub fn new(config: &KafkaConfig, cluster: &str, ingest: I, metrics: Arc<Metrics>) -> Result<Self, Vec<String>> {
        let topics = Topics::new(&config.topics);
        let topics = topics.map_err(|wrong| wrong.into_iter().map(|(_, words)| words).collect::<Vec<_>>())?;
        let files = Files::now(config.connection());
        let settings = settings(config).map_err(|wrong| vec![wrong])?;
        config.look_at().map_err(|wrong| vec![wrong])?;
        let own = config.cluster.as_deref();
        Ok(Self {
            settings,
            files,
            topics: Arc::new(topics),
            source: config.name.as_str().into(),
            label: Label { cluster: own.unwrap_or(cluster).into(), is_certain: own.is_some() },
            ingest,
            metrics,
            pace: Pace::default(),
            config: config.clone(),
        })
    }

    /// The same with other waits and bounds than the default ones.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// Consumes until it is told to stop. What ingest has begun is finished first, and committed.
    pub async fn run(self, told: Told, shutdown: CancellationToken) {
        let lanes = Lanes::new(
            self.ingest.clone(),
            Arc::clone(&self.source),
            self.config.max_body.0,
            self.pace,
            Arc::clone(&self.metrics),
        );
        let source = Arc::clone(&self.source);
        let (ended, mut end) = oneshot::channel::<()>();
        let stop = shutdown.clone();
        let thread = std::thread::Builder::new().name("kafka".to_owned()).spawn(move || {
            Thread { consumer: self, lanes, stop, labels: RefCell::default() }.run(told);
            drop(ended);
        });
        if let Err(error) = thread {
            tracing::error!(source = &*source, %error, "no thread for a Kafka source");
            return;
        }
        if shutdown.run_until_cancelled(&mut end).await.is_none() && tokio::time::timeout(STOP_MAX, end).await.is_err()
        {
            tracing::warn!(source = &*source, "Kafka: the brokers do not answer; left without saying goodbye");
        }
    }
}

impl KafkaConfig {
    /// Reads secrets and certificates and lets librdkafka look at the whole, without joining the group.
    pub fn look_at(&self) -> Result<(), String> {
        client::look_at(&settings(self)?)
    }
}

/// What librdkafka is told: the user's properties, ours where he wrote none, and what is not for him to choose.
fn settings(config: &KafkaConfig) -> Result<Settings, String> {
    let mut fixed = FIXED.to_vec();
    fixed.push(("group.id", &config.group));
    let mut settings = config.connection().settings(&DEFAULTS, &fixed)?;
    if settings.get("group.protocol") != Some("consumer") {
        settings.set_default(CLASSIC.0, CLASSIC.1);
    }
    Ok(settings)
}

fn tell(source: &str, words: &str) {
    tracing::info!(source, "Kafka: {words}");
}

/// What the thread works with.
struct Thread<I> {
    consumer: Consumer<I>,
    lanes: Lanes<I>,
    stop: CancellationToken,
    /// The labels that topics tell: a pattern is not asked for every message.
    labels: RefCell<HashMap<String, Label>>,
}

/// Whether partitions are paused, and what librdkafka was told of it.
#[derive(Default)]
struct Press {
    paused: bool,
    /// When partitions came last.
    came: Option<Instant>,
    /// When it was told last, since then.
    said: Option<Instant>,
}

impl Press {
    /// Whether it is to be told again.
    fn is_due(&self) -> bool {
        self.came.is_some_and(|came| came.elapsed() < SETTLING) && self.said.is_none_or(|said| said.elapsed() >= POLL)
    }
}

impl<I: Intake> Thread<I> {
    fn run(self, told: Told) {
        let standing = Arc::new(Stand::new(told));
        let lag = Arc::new(Lag::new(Arc::clone(&self.consumer.source), Arc::clone(&self.consumer.metrics)));
        let (mut settings, mut files) = (self.consumer.settings.clone(), self.consumer.files);
        loop {
            let ended = match self.connect(&settings, &standing, &lag) {
                Ok(client) => self.consume(client, files),
                Err(words) => {
                    tracing::error!(source = &*self.consumer.source, "Kafka: {words}");
                    standing.waits(&words);
                    Ended::Failed
                }
            };
            self.lanes.clear();
            lag.clear();
            match ended {
                Ended::Stopping | Ended::Broken => return,
                Ended::Renewed => tell(&self.consumer.source, "secrets or certificates changed"),
                Ended::Failed if self.rest(AGAIN) => return,
                Ended::Failed => {}
            }
            files = Files::now(self.consumer.config.connection());
            match self::settings(&self.consumer.config) {
                Ok(read) => settings = read,
                Err(error) => {
                    tracing::error!(source = &*self.consumer.source, %error, "Kafka: the old secrets stay in use");
                }
            }
        }
    }

    /// Waits; true when all shall stop.
    fn rest(&self, time: Duration) -> bool {
        let (stop, runtime) = (self.stop.clone(), self.lanes.runtime());
        runtime.block_on(async move { tokio::time::timeout(time, stop.cancelled()).await.is_ok() })
    }

    fn connect(&self, settings: &Settings, standing: &Arc<Stand>, lag: &Arc<Lag>) -> Result<Client<I>, String> {
        let context = Context {
            lanes: self.lanes.clone(),
            teller: Teller::new(format!("source {}", self.consumer.source), settings.clone()),
            source: Arc::clone(&self.consumer.source),
            metrics: Arc::clone(&self.consumer.metrics),
            lag: Arc::clone(lag),
            standing: Arc::clone(standing),
            came: AtomicBool::new(false),
        };
        let client: Client<I> = client::config(settings)
            .create_with_context(Called(context))
            .map_err(|error| client::of_creation(settings, error))?;
        let topics: Vec<&str> = self.consumer.topics.subscription.iter().map(String::as_str).collect();
        client.subscribe(&topics).map_err(|error| client::of_creation(settings, error))?;
        tracing::info!(
            source = &*self.consumer.source,
            brokers = self.consumer.config.brokers.join(","),
            ?topics,
            group = self.consumer.config.group,
            "Kafka: connecting"
        );
        Ok(client)
    }

    /// Polls until something ends it: a change of the files, too.
    fn consume(&self, client: Client<I>, mut files: Files) -> Ended {
        let (started, mut press) = (Instant::now(), Press::default());
        let ended = loop {
            if self.stop.is_cancelled() {
                break Ended::Stopping;
            }
            if self.lanes.is_broken() {
                break Ended::Broken;
            }
            store(&client, &self.lanes.done());
            self.press(&client, &mut press);
            if let Some(ended) = self.burst(&client) {
                break ended;
            }
            if started.elapsed() >= self.consumer.pace.silence && client.context().standing.is_silent() {
                self.break_silence(&client);
            }
            if files.have_changed(self.consumer.config.connection()) {
                break Ended::Renewed;
            }
        };
        self.lanes.finish();
        store(&client, &self.lanes.done());
        // Without waiting: closing commits what is stored too, and waits only as long as brokers answer.
        let _ = client.commit_consumer_state(CommitMode::Async);
        drop(client);
        ended
    }

    /// Not all that listens and is no broker for clients makes an error.
    fn break_silence(&self, client: &Client<I>) {
        let words = format!(
            "not a member of the group after {} s, and no error says why; do `brokers` name brokers, not controllers, and can all that they advertise be reached?",
            self.consumer.pace.silence.as_secs()
        );
        tracing::warn!(source = &*self.consumer.source, "Kafka: {words}");
        client.context().standing.waits(&words);
    }

    /// Pauses where the bound is reached and does not give way, and resumes.
    fn press(&self, client: &Client<I>, press: &mut Press) {
        if client.context().came.swap(false, Ordering::Relaxed) {
            press.came = Some(Instant::now());
            press.said = None;
        }
        if !press.paused && self.lanes.is_full() {
            self.lanes.wait_for_room();
        }
        let pause = if press.paused { !self.lanes.has_room() } else { self.lanes.is_full() };
        // A partition that comes back is as paused as it was when it went, whatever has been resumed meanwhile.
        if pause == press.paused && !press.is_due() {
            return;
        }
        let mut list = TopicPartitionList::new();
        for (topic, partition) in self.lanes.partitions() {
            list.add_partition(&topic, partition);
        }
        let outcome = if pause { client.pause(&list) } else { client.resume(&list) };
        if let Err(error) = outcome {
            tracing::debug!(source = &*self.consumer.source, %error, pause, "Kafka: partitions that went");
        }
        let label = Source { source: self.consumer.source.to_string() };
        self.consumer.metrics.kafka_paused.get_or_create(&label).set(pause.into());
        if pause && !press.paused {
            self.consumer.metrics.bound_reached(&self.consumer.source, "bytes_in_flight");
        }
        press.paused = pause;
        press.said = Some(Instant::now());
    }

    /// Takes what is there, until the bound is reached.
    fn burst(&self, client: &Client<I>) -> Option<Ended> {
        let mut wait = POLL;
        for _ in 0..BURST {
            match client.poll(wait) {
                None => return None,
                Some(Ok(message)) => {
                    if self.take(&message) {
                        return None;
                    }
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    client.context().teller.tell(code, "this consumer cannot go on; it is made anew in a while");
                    return Some(Ended::Failed);
                }
                // The context has told of it.
                Some(Err(_)) => {}
            }
            wait = Duration::ZERO;
        }
        None
    }

    /// Puts a message into its lane; whether the bound is reached.
    fn take(&self, message: &BorrowedMessage<'_>) -> bool {
        let at = Place { topic: message.topic(), partition: message.partition(), offset: message.offset() };
        let value = message.payload().unwrap_or_default();
        self.lanes.push(at, value, || self.label(message))
    }

    /// The label: the header's, else the topic's, else the source's.
    fn label(&self, message: &BorrowedMessage<'_>) -> Label {
        let told = self.consumer.config.cluster_header.as_deref().and_then(|name| {
            let header = message.headers()?.iter().find(|header| header.key == name)?;
            cluster_name(str::from_utf8(header.value?).ok()?)
        });
        match told {
            Some(name) => Label { cluster: name.into(), is_certain: true },
            None => self.label_of_topic(message.topic()),
        }
    }

    fn label_of_topic(&self, topic: &str) -> Label {
        let mut labels = self.labels.borrow_mut();
        if let Some(known) = labels.get(topic) {
            return known.clone();
        }
        // Topics come and go for as long as we run.
        if labels.len() >= TOPICS_MAX {
            labels.clear();
        }
        let told = self.consumer.topics.cluster(topic).map(|cluster| Label { cluster, is_certain: true });
        let label = told.unwrap_or_else(|| self.consumer.label.clone());
        labels.insert(topic.to_owned(), label.clone());
        label
    }
}
