//! The thread that correlates the partitions of the matches that are assigned to this instance.
//!
//! A step takes what has come, tells what follows from it (episodes for other partitions, then alerts, then what has become
//! usual), and commits when all of that is acknowledged. Whoever takes a partition over reads from where its windows begin,
//! in silence up to what was told, so that nothing is told twice and nothing is left out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::{CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::context::{Client, Context, Slot};
use super::group;
use super::outbox::Progress;
use super::partition::{Outcome, Partition, Start};
use super::reading;
use crate::clock::{self, Timestamp};
use crate::correlate::Share;
use crate::engine::RuleSet;
use crate::kafka::Files;
use crate::kafka::calls::Called;
use crate::kafka::client::{self, Teller};
use crate::pipeline::correlating::{Correlating, PAUSE, PRUNE_EVERY, TICK, forget_gone};
use crate::store::StoreError;
use crate::store::kafka::Journal;
use crate::store::kafka::record::{Baselines, Record};

/// Nothing that happens is noticed later than this.
const POLL: Duration = Duration::from_millis(50);
/// Records that are taken in one step.
const BURST: usize = 5_000;
/// How long brokers may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Before a consumer that failed is made anew.
const AGAIN: Duration = Duration::from_secs(5);
/// How often what a step came to is told again while all shall stop.
const LAST_TRIES: u32 = 3;

/// What the thread works with.
pub(super) struct Thread {
    pub(super) correlating: Correlating,
    pub(super) journal: Journal,
    pub(super) progress: Progress,
    pub(super) stop: CancellationToken,
    pub(super) runtime: Handle,
}

/// Why a consumer is given up.
enum Ended {
    Stopping,
    Renewed,
    Failed,
}

impl Thread {
    /// Correlates until it is told to stop; `ready` is told when it is a member of its group.
    pub(super) fn run(self, ready: impl FnOnce()) {
        let mut ready = Some(ready);
        let mut times = Times::default();
        while !self.stop.is_cancelled() {
            let files = Files::now(self.journal.config().connection());
            let ended = match self.connect() {
                Ok(client) => {
                    let ended = self.consume(&client, files, &mut ready, &mut times);
                    client.context().leaving.cancel();
                    ended
                }
                Err(_) if self.stop.is_cancelled() => return,
                Err(words) => {
                    tracing::warn!("Kafka: the journal: {words}; trying again");
                    Ended::Failed
                }
            };
            match ended {
                Ended::Stopping => return,
                Ended::Renewed => tracing::info!("Kafka: secrets or certificates of the journal changed"),
                Ended::Failed => group::rest(&self.runtime, AGAIN, &self.stop),
            }
        }
    }

    fn connect(&self) -> Result<Client, String> {
        let config = self.journal.config();
        let settings = config.consumer_settings(&config.correlating_group())?;
        let teller = Teller::new("journal", settings.clone());
        let context = Context::new(teller, config.matches(), config.partitions, self.stop.child_token());
        let client: Client = client::config(&settings)
            .create_with_context(Called(context))
            .map_err(|error| client::of_creation(&settings, error))?;
        // With an empty state directory that takes a while, for which nobody shall wait.
        for partition in 0..i32::try_from(config.partitions).unwrap_or(i32::MAX) {
            self.runtime.block_on(self.progress.caught_up(&client, config, partition, &self.stop))?;
        }
        client.subscribe(&[&config.matches()]).map_err(|error| client::of_creation(&settings, error))?;
        Ok(client)
    }

    fn consume(
        &self,
        client: &Client,
        mut files: Files,
        ready: &mut Option<impl FnOnce()>,
        times: &mut Times,
    ) -> Ended {
        let context = client.context();
        let mut running = self.correlating.rules.load_full();
        loop {
            if let Some(ended) = self.step(client) {
                return ended;
            }
            if self.stop.is_cancelled() {
                // What was taken is told; closing leaves its place to the next.
                return Ended::Stopping;
            }
            let loaded = self.correlating.rules.load_full();
            if !Arc::ptr_eq(&running, &loaded) {
                forget_gone(&self.correlating.metrics, &running, &loaded);
                running = loaded;
                reload(context, &running);
            }
            if context.joined.load(Ordering::Relaxed) {
                self.correlating.pulse.correlated(clock::steady());
                if let Some(ready) = ready.take() {
                    ready();
                }
            }
            if context.broken.load(Ordering::Relaxed) {
                return Ended::Failed;
            }
            if files.have_changed(self.journal.config().connection()) {
                return Ended::Renewed;
            }
            self.now_and_then(context, times);
        }
    }

    /// Takes what has come, and tells what follows from it.
    fn step(&self, client: &Client) -> Option<Ended> {
        let mut wait = POLL;
        for _ in 0..BURST {
            let polled = client.poll(wait);
            if let Err(error) = self.begin(client) {
                tracing::warn!(%error, "Kafka: a partition of the journal cannot be taken up yet; trying again");
                return Some(Ended::Failed);
            }
            match polled {
                None => break,
                Some(Ok(message)) => {
                    if let Err(error) = self.take(client.context(), &message) {
                        tracing::warn!(%error, "Kafka: windows could not be rebuilt; trying again");
                        return Some(Ended::Failed);
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
        self.tell(client)
    }

    /// Takes up the partitions that were assigned.
    fn begin(&self, client: &Client) -> Result<(), String> {
        let assigned: Vec<(i32, Start)> = {
            let slots = client.context().slots();
            let assigned = |(partition, slot): (&i32, &Slot)| match slot {
                Slot::Assigned(start) => Some((*partition, *start)),
                Slot::Begun(_) => None,
            };
            slots.iter().filter_map(assigned).collect()
        };
        for (number, mut start) in assigned {
            let part = self.journal.config().part(number);
            self.runtime.block_on(self.progress.caught_up(client, self.journal.config(), number, &self.stop))?;
            let reached =
                self.runtime.block_on(self.correlating.store.reached(&part)).map_err(|error| error.to_string())?;
            let share =
                Share { number: u32::try_from(number).unwrap_or_default(), of: self.journal.config().partitions };
            let (_, end) = client
                .fetch_watermarks(&self.journal.config().matches(), number, ANSWER_MAX)
                .map_err(|error| error.to_string())?;
            if reached.at > end {
                tracing::error!(
                    partition = number,
                    told = reached.at,
                    end,
                    "Kafka: the journal ends before what was told of it: matches were lost; correlating goes on from its end"
                );
                let reset = self.journal.append_reset(share.number, end);
                self.runtime.block_on(reset).map_err(|error| error.to_string())?;
                self.runtime.block_on(self.progress.caught_up(client, self.journal.config(), number, &self.stop))?;
                start.until = end;
            } else {
                start.until = start.until.max(reached.at);
            }
            let baselines = self.baselines(number)?;
            let rules = self.correlating.rules.load_full();
            let begun = Partition::new(share, rules, self.correlating.limits, start, baselines);
            if let Some(slot) = client.context().slots().get_mut(&number) {
                *slot = Slot::Begun(Box::new(begun));
            }
        }
        Ok(())
    }

    /// Reads what is usual in a partition.
    fn baselines(&self, number: i32) -> Result<Baselines, String> {
        let config = self.journal.config();
        let topic = config.baselines();
        let client = reading::connect(config)?;
        let words = |error: KafkaError| error.to_string();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&topic, number, Offset::Beginning).map_err(words)?;
        client.assign(&list).map_err(words)?;
        drop(list);
        let mut read = Baselines::default();
        let mut quiet = Instant::now() + ANSWER_MAX;
        while Instant::now() < quiet {
            match client.poll(POLL) {
                Some(Ok(message)) => {
                    let key = message.key().map(String::from_utf8_lossy).unwrap_or_default();
                    read.take(&key, message.payload());
                    quiet = Instant::now() + ANSWER_MAX;
                }
                Some(Err(KafkaError::PartitionEOF(_))) => return Ok(read),
                Some(Err(_)) | None => {}
            }
        }
        Err("the baselines cannot be read".to_owned())
    }

    fn take(&self, context: &Context, message: &BorrowedMessage<'_>) -> Result<(), StoreError> {
        let mut slots = context.slots();
        let Some(Slot::Begun(partition)) = slots.get_mut(&message.partition()) else { return Ok(()) };
        if partition.is_rebuilt_at(message.offset()) {
            self.adopt(partition)?;
        }
        let log =
            message.timestamp().to_millis().map_or_else(clock::now, |millis| Timestamp(millis.saturating_mul(1_000)));
        let value = message.payload().unwrap_or_default();
        match Record::read(value) {
            Ok(record) => partition.take(message.offset(), log, &record),
            Err(error) => {
                tracing::error!(partition = partition.number, offset = message.offset(), %error,
                    "Kafka: a record of the journal cannot be read; it was passed by");
                partition.skip(message.offset());
            }
        }
        Ok(())
    }

    /// The windows are as they were when everything before was told: takes over the alerts that fire.
    fn adopt(&self, partition: &mut Partition) -> Result<(), StoreError> {
        let part = self.journal.config().part(i32::try_from(partition.number).unwrap_or(i32::MAX));
        let (firing, reached) = self.runtime.block_on(self.correlating.store.firing_at(&part))?;
        // Whoever had it may have told more meanwhile.
        if partition.stays_silent_until(reached.at) {
            return Ok(());
        }
        let rules = partition.correlator.rules();
        let of = self.journal.config().partitions;
        let ours =
            |alert: &crate::alert::Alert| crate::correlate::share_of_alert(&rules, alert, of) == partition.number;
        let firing: Vec<_> = firing.into_iter().filter(ours).collect();
        partition.adopt(&firing);
        let took = clock::steady().saturating_sub(partition.rebuilt.since);
        tracing::info!(
            partition = partition.number,
            records = partition.rebuilt.records,
            firing = firing.len(),
            ?took,
            "Kafka: the windows of a partition are rebuilt"
        );
        Ok(())
    }

    /// Tells what came out of all partitions, and commits.
    fn tell(&self, client: &Client) -> Option<Ended> {
        let mut outcomes: Vec<(u32, Outcome)> = Vec::new();
        for slot in client.context().slots().values_mut() {
            if let Slot::Begun(partition) = slot
                && let Some(outcome) = partition.drain()
            {
                outcomes.push((partition.number, outcome));
            }
        }
        if outcomes.is_empty() {
            return None;
        }
        let mut tries = 0;
        while let Err(error) = self.runtime.block_on(self.append(&outcomes)) {
            tries += 1;
            tracing::warn!(%error, tries, "Kafka: alerts could not be written; trying again");
            // Whoever takes over does it again.
            if self.stop.is_cancelled() && tries >= LAST_TRIES {
                return Some(Ended::Stopping);
            }
            group::rest(&self.runtime, PAUSE, &self.stop);
        }
        let mut starts = Vec::new();
        let mut slots = client.context().slots();
        for (number, outcome) in outcomes {
            self.correlating.count(outcome.stats, &outcome.changes);
            let number = i32::try_from(number).unwrap_or(i32::MAX);
            if let Some(Slot::Begun(partition)) = slots.get_mut(&number) {
                partition.told(outcome.at);
                starts.extend(partition.start().map(|start| (number, start)));
            }
        }
        drop(slots);
        client.context().commit(client, &starts, CommitMode::Async);
        None
    }

    /// Appends what came out, in the order in which it may be missed: where a later part is not there, an earlier one that
    /// comes twice is known.
    async fn append(&self, outcomes: &[(u32, Outcome)]) -> Result<(), StoreError> {
        let rules = self.correlating.rules.load_full();
        let episodes: Vec<_> = outcomes.iter().flat_map(|(_, outcome)| outcome.episodes.iter().cloned()).collect();
        self.journal.append_episodes(&rules, &episodes).await?;
        let changed = outcomes.iter().filter(|(_, outcome)| !outcome.changes.is_empty());
        let steps = changed.map(|(partition, outcome)| {
            let routed = outcome.changes.iter().cloned().map(|change| self.correlating.routed(change)).collect();
            (*partition, outcome.at, routed)
        });
        self.journal.append_steps(steps.collect()).await?;
        let learned = outcomes.iter().filter(|(_, outcome)| !outcome.baselines.is_empty());
        let learned = learned.map(|(partition, outcome)| (*partition, outcome.at, outcome.baselines.as_slice()));
        self.journal.append_baselines(learned.collect()).await
    }

    fn now_and_then(&self, context: &Context, times: &mut Times) {
        let now = clock::now();
        if now.apart(times.gauged) >= TICK {
            times.gauged = now;
            let slots = context.slots();
            let correlators = slots.values().filter_map(|slot| match slot {
                Slot::Begun(partition) => Some(&partition.correlator),
                Slot::Assigned(_) => None,
            });
            self.correlating.show(correlators);
            self.correlating.metrics.journal_records.set(context.lag.load(Ordering::Relaxed));
        }
        if now.apart(times.pruned) > PRUNE_EVERY {
            times.pruned = now;
            self.runtime.block_on(self.correlating.prune(now));
        }
    }
}

/// When what is done now and then was done last.
struct Times {
    gauged: Timestamp,
    pruned: Timestamp,
}

impl Default for Times {
    fn default() -> Self {
        Self { gauged: Timestamp::MIN, pruned: Timestamp::MIN }
    }
}

fn reload(context: &Context, rules: &Arc<RuleSet>) {
    for slot in context.slots().values_mut() {
        if let Slot::Begun(partition) = slot {
            partition.correlator.reload(Arc::clone(rules));
        }
    }
}
