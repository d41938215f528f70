//! Which instance delivers to a sink: a consumer group per sink shares the partitions of the alerts. Its offsets say what
//! the sink has been told; the records themselves are read once for all sinks, by `outbox`.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::group;
use crate::kafka::Files;
use crate::kafka::calls::{Called, Calls};
use crate::kafka::client::{self, Teller};
use crate::store::Store;
use crate::store::kafka::{Journal, KafkaConfig};

/// Nothing that happens is noticed later than this.
const POLL: Duration = Duration::from_millis(100);
/// How often it is committed what was told.
const COMMIT_EVERY: Duration = Duration::from_millis(500);
/// Before a consumer that failed is made anew.
const AGAIN: Duration = Duration::from_secs(5);

/// Takes part in delivering to a sink until `stop`.
pub async fn take_part(journal: Journal, store: Store, sink: String, stop: CancellationToken) {
    if stop.run_until_cancelled(journal.opened()).await.is_none() {
        return;
    }
    let runtime = Handle::current();
    let name = sink.clone();
    let member = Member { journal, store, sink, stop, runtime };
    let ended = tokio::task::spawn_blocking(move || member.run()).await;
    if let Err(error) = ended {
        tracing::error!(sink = name, %error, "Kafka: delivering broke down, which is a bug");
    }
}

struct Member {
    journal: Journal,
    store: Store,
    sink: String,
    stop: CancellationToken,
    runtime: Handle,
}

type Client = BaseConsumer<Called<Context>>;

/// What the callbacks share with the loop.
struct Context {
    teller: Teller,
    config: KafkaConfig,
    store: Store,
    sink: String,
    runtime: Handle,
    /// Partitions of ours, and how far the sink has been told of each as far as the group knows.
    ours: Mutex<BTreeMap<i32, i64>>,
    /// It leaves its group: whoever asks the coordinator something then waits in vain, and so does the end.
    leaving: CancellationToken,
}

impl Member {
    fn run(self) {
        while !self.stop.is_cancelled() {
            if let Err(words) = self.share() {
                tracing::warn!(sink = self.sink, "Kafka: delivering: {words}");
            }
            group::rest(&self.runtime, AGAIN, &self.stop);
        }
    }

    fn share(&self) -> Result<(), String> {
        let config = self.journal.config();
        let mut files = Files::now(config.connection());
        let settings = config.consumer_settings(&config.sink_group(&self.sink))?;
        let context = Context {
            teller: Teller::new(format!("sink {}", self.sink), settings.clone()),
            config: config.clone(),
            store: self.store.clone(),
            sink: self.sink.clone(),
            runtime: self.runtime.clone(),
            ours: Mutex::default(),
            leaving: self.stop.child_token(),
        };
        let client: Client = client::config(&settings)
            .create_with_context(Called(context))
            .map_err(|error| client::of_creation(&settings, error))?;
        client.subscribe(&[&config.alerts()]).map_err(|error| error.to_string())?;
        let mut committed = Instant::now();
        while !self.stop.is_cancelled() {
            if let Some(Err(KafkaError::MessageConsumptionFatal(code))) = client.poll(POLL) {
                client.context().teller.tell(code, "this consumer cannot go on; it is made anew in a while");
                break;
            }
            if committed.elapsed() >= COMMIT_EVERY {
                committed = Instant::now();
                let all: Vec<i32> = client.context().ours().keys().copied().collect();
                client.context().commit(&client, &all, CommitMode::Async);
            }
            if files.have_changed(config.connection()) {
                break;
            }
        }
        client.context().leaving.cancel();
        let all: Vec<i32> = client.context().ours().keys().copied().collect();
        client.context().commit(&client, &all, CommitMode::Sync);
        client.context().release(&all);
        Ok(())
    }
}

impl Context {
    fn ours(&self) -> MutexGuard<'_, BTreeMap<i32, i64>> {
        self.ours.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn assign(&self, consumer: &Client, list: &mut TopicPartitionList) -> KafkaResult<()> {
        if self.leaving.is_cancelled() {
            // They go again at once, and nothing of them is delivered.
            return group::take(consumer, list);
        }
        let topic = self.config.alerts();
        let committed = group::committed(consumer, list)?;
        for element in committed.elements() {
            let from = match element.offset() {
                Offset::Offset(from) => from,
                // Nobody has told it anything.
                _ => 0,
            };
            let part = self.config.part(element.partition());
            if let Err(error) = self.runtime.block_on(self.store.claim(&self.sink, &part, from)) {
                tracing::error!(sink = self.sink, part, %error, "deliveries could not be taken over");
            }
            self.ours().insert(element.partition(), from);
            // The records come another way.
            if let Some(mut place) = list.find_partition(&topic, element.partition()) {
                place.set_offset(Offset::End)?;
            }
        }
        drop(committed);
        group::take(consumer, list)
    }

    fn revoke(&self, consumer: &Client, list: &TopicPartitionList) -> KafkaResult<()> {
        let going: Vec<i32> = list.elements().iter().map(|element| element.partition()).collect();
        if !consumer.assignment_lost() {
            self.commit(consumer, &going, CommitMode::Sync);
        }
        self.release(&going);
        group::leave(consumer, list)
    }

    /// Commits what the sink has been told.
    fn commit(&self, consumer: &Client, partitions: &[i32], mode: CommitMode) {
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            let Some(known) = self.ours().get(partition).copied() else { continue };
            let part = self.config.part(*partition);
            match self.runtime.block_on(self.store.told_until(&self.sink, &part)) {
                Ok(told) if told > known => {
                    self.ours().insert(*partition, told);
                    let _ = list.add_partition_offset(&self.config.alerts(), *partition, Offset::Offset(told));
                }
                Ok(_) => {}
                Err(error) => tracing::debug!(sink = self.sink, %error, "what was told cannot be read"),
            }
        }
        if list.count() > 0
            && let Err(error) = consumer.commit(&list, mode)
        {
            tracing::debug!(sink = self.sink, %error, "Kafka: what was told was not committed; it may be told twice");
        }
    }

    fn release(&self, partitions: &[i32]) {
        for partition in partitions {
            self.ours().remove(partition);
            let part = self.config.part(*partition);
            let released = self.runtime.block_on(self.store.release(Some((&self.sink, &part))));
            if let Err(error) = released {
                tracing::debug!(sink = self.sink, part, %error, "deliveries could not be left to others");
            }
        }
    }
}

impl Calls for Context {
    fn teller(&self) -> &Teller {
        &self.teller
    }
}

impl ConsumerContext for Called<Context> {
    fn rebalance(&self, consumer: &Client, error: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let outcome = if group::come(&error) { self.assign(consumer, list) } else { self.revoke(consumer, list) };
        match outcome {
            Ok(()) => self.teller.works(),
            Err(error) => tracing::warn!(sink = self.sink, %error, "Kafka: deliveries could not be shared"),
        }
    }
}
