//! A broker for tests: librdkafka's mock cluster inside the test's process, or the real one at `KUBESIREN_TEST_KAFKA`
//! (`tests/kafka/up` starts it).

#![allow(dead_code, reason = "the library's tests and those of the program each use a part")]

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Header, Headers, Message as _, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// Nothing that is awaited takes this long, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Before the first member of a group waits for others; three seconds by default.
const FIRST_REBALANCE_MS: i32 = 50;

/// A broker, with a producer that also owns the mock cluster.
pub(crate) struct Broker {
    producer: ThreadedProducer<DefaultProducerContext>,
    bootstrap: String,
    real: bool,
    number: u32,
}

/// A message to be sent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Out<'m> {
    pub(crate) partition: i32,
    pub(crate) key: Option<&'m str>,
    /// `None` is a tombstone.
    pub(crate) value: Option<&'m [u8]>,
    pub(crate) header: Option<(&'m str, &'m str)>,
}

/// A message that was read.
#[derive(Clone, Debug)]
pub(crate) struct In {
    pub(crate) key: Option<String>,
    pub(crate) value: Vec<u8>,
    pub(crate) header: Option<String>,
}

/// The address of the real broker, where there is one.
pub(crate) fn real() -> Option<String> {
    std::env::var("KUBESIREN_TEST_KAFKA").ok().filter(|address| !address.is_empty())
}

impl Broker {
    /// The real one where there is one, else a mock.
    pub(crate) fn start() -> Self {
        real().map_or_else(Self::mock, |address| Self::at(&address))
    }

    /// A real one at this address.
    pub(crate) fn at(address: &str) -> Self {
        let mut config = ClientConfig::new();
        // Another leader must not be sent again what the dead one had taken: tests count.
        config.set("enable.idempotence", "true");
        Self::connected(&config, address.to_owned(), true)
    }

    /// A mock, also where there is a real one: for what only a mock can be made to do.
    pub(crate) fn mock() -> Self {
        let mut config = ClientConfig::new();
        config.set("test.mock.num.brokers", "1");
        let mut broker = Self::connected(&config, String::new(), false);
        broker.bootstrap = broker.cluster(|cluster| cluster.bootstrap_servers());
        #[allow(unsafe_code, reason = "the crate does not offer this setting")]
        // SAFETY: the handle is that of a living client, which owns the cluster.
        unsafe {
            let cluster = rdkafka::bindings::rd_kafka_handle_mock_cluster(broker.producer.client().native_ptr());
            rdkafka::bindings::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, FIRST_REBALANCE_MS);
        }
        broker
    }

    fn connected(config: &ClientConfig, bootstrap: String, real: bool) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut config = config.clone();
        config.set("linger.ms", "0").set("message.max.bytes", "30000000");
        if !bootstrap.is_empty() {
            config.set("bootstrap.servers", &bootstrap);
        }
        let producer = config.create().expect("a producer");
        Self { producer, bootstrap, real, number: NUMBER.fetch_add(1, Ordering::Relaxed) }
    }

    fn cluster<T>(&self, act: impl FnOnce(&rdkafka::mocking::MockCluster<'_, DefaultProducerContext>) -> T) -> T {
        act(&self.producer.client().mock_cluster().expect("a mock"))
    }

    pub(crate) fn is_real(&self) -> bool {
        self.real
    }

    /// How many there are, which is how many copies a topic can have.
    pub(crate) fn brokers(&self) -> usize {
        self.bootstrap.split(',').count()
    }

    /// `host:port`, several with commas.
    pub(crate) fn address(&self) -> &str {
        &self.bootstrap
    }

    /// A name that no other test has used on this broker, not even in another run.
    pub(crate) fn name(&self, what: &str) -> String {
        let run = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_millis() % 1_000_000_000;
        format!("{what}-{}-{}-{run}", std::process::id(), self.number)
    }

    /// Makes a topic of this name.
    pub(crate) fn topic(&self, name: &str, partitions: i32) {
        self.topic_with(name, partitions, &[]);
    }

    /// The same with settings, which a mock does not heed.
    pub(crate) fn topic_with(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        if !self.real {
            return self.cluster(|cluster| cluster.create_topic(name, partitions, 1).expect("made"));
        }
        let admin: AdminClient<_> = self.client().create().expect("a client");
        let copies = i32::try_from(self.brokers()).expect("few");
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(copies));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        let made = block_on(admin.create_topics(&[topic], &AdminOptions::new())).expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    /// Makes more partitions of a topic; not a mock's.
    pub(crate) fn more_partitions(&self, name: &str, partitions: usize) {
        let admin: AdminClient<_> = self.client().create().expect("a client");
        let more = rdkafka::admin::NewPartitions::new(name, partitions);
        let made = block_on(admin.create_partitions(&[more], &AdminOptions::new())).expect("an answer");
        assert!(made.iter().all(Result::is_ok), "{made:?}");
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    /// Sends messages and waits until the broker has them.
    pub(crate) fn send(&self, topic: &str, messages: &[Out<'_>]) {
        for message in messages {
            let deadline = std::time::Instant::now() + PATIENCE;
            // A producer learns late of partitions that are new, and its queue may be full.
            while let Err((error, _)) = self.producer.send(record(topic, message)) {
                assert!(std::time::Instant::now() < deadline, "{error}");
                let _ = self.producer.client().fetch_metadata(Some(topic), PATIENCE);
            }
        }
        self.producer.flush(PATIENCE).expect("delivered");
    }

    /// Sends texts, one after the other to partitions `0..partitions`.
    pub(crate) fn send_texts<T: AsRef<[u8]>>(&self, topic: &str, partitions: i32, texts: &[T]) {
        let out = |(at, text): (usize, &'_ T)| (i32::try_from(at).expect("few") % partitions, text.as_ref().to_vec());
        let owned: Vec<(i32, Vec<u8>)> = texts.iter().enumerate().map(out).collect();
        let messages: Vec<Out<'_>> = owned
            .iter()
            .map(|(partition, value)| Out { partition: *partition, value: Some(value), ..Out::default() })
            .collect();
        self.send(topic, &messages);
    }

    /// Where a group is in a partition: the offset that it would read next.
    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = consumer.committed_offsets(list, PATIENCE).ok()?;
        match list.elements().first()?.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    }

    /// The first `count` messages of a topic of one partition.
    pub(crate) fn read(&self, topic: &str, count: usize) -> Vec<In> {
        let consumer: BaseConsumer = self
            .client()
            .set("group.id", self.name("reader"))
            .set("auto.offset.reset", "earliest")
            .create()
            .expect("a consumer");
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, 0, Offset::Beginning).expect("an offset");
        consumer.assign(&list).expect("assigned");
        drop(list);
        let mut found = Vec::new();
        while found.len() < count {
            let message = consumer.poll(PATIENCE).expect("a message in time");
            let Ok(message) = message else { continue };
            let header = message.headers().and_then(|headers| headers.iter().next());
            found.push(In {
                key: message.key().map(|key| String::from_utf8_lossy(key).into_owned()),
                value: message.payload().unwrap_or_default().to_vec(),
                header: header.and_then(|header| Some(String::from_utf8_lossy(header.value?).into_owned())),
            });
        }
        found
    }

    /// Takes the mock's broker down, or up again.
    pub(crate) fn set_down(&self, down: bool) {
        self.cluster(|cluster| if down { cluster.broker_down(-1) } else { cluster.broker_up(-1) }).expect("done");
    }
}

fn record<'m>(topic: &'m str, message: &Out<'m>) -> BaseRecord<'m, str, [u8]> {
    let mut record = BaseRecord::to(topic).partition(message.partition);
    if let Some(key) = message.key {
        record = record.key(key);
    }
    if let Some(value) = message.value {
        record = record.payload(value);
    }
    if let Some((key, value)) = message.header {
        record = record.headers(OwnedHeaders::new().insert(Header { key, value: Some(value) }));
    }
    record
}

/// Waits for a future without asking what runtime the caller has.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Wake(std::thread::Thread);
    impl std::task::Wake for Wake {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Wake(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        std::thread::park_timeout(Duration::from_millis(100));
    }
}
