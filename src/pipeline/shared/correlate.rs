//! The thread that correlates the partitions of the matches that are assigned to this instance.
//!
//! A step takes what has come, tells what follows from it (episodes for other partitions, then alerts, then what has become
//! usual), and commits when all of that is acknowledged. Whoever takes a partition over reads from where its windows begin,
//! in silence up to what was told, so that nothing is told twice and nothing is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
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
/// Records that are taken in one step, and about how many bytes they may have.
const BURST: usize = 5_000;
const BURST_BYTES: usize = 16 << 20;
/// So many are worth more than one thread.
const MANY: usize = 500;
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
        let (mut wait, mut bytes) = (POLL, 0);
        let mut come: BTreeMap<i32, Vec<BorrowedMessage<'_>>> = BTreeMap::new();
        for _ in 0..BURST {
            let polled = client.poll(wait);
            match self.begin(client) {
                // What came before they were assigned anew comes again.
                Ok(begun) => begun.iter().for_each(|number| drop(come.remove(number))),
                Err(error) => {
                    tracing::warn!(%error, "Kafka: a partition of the journal cannot be taken up yet; trying again");
                    return Some(Ended::Failed);
                }
            }
            match polled {
                None => break,
                Some(Ok(message)) => {
                    bytes += message.payload_len();
                    come.entry(message.partition()).or_default().push(message);
                }
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => {
                    client.context().teller.tell(code, "this consumer cannot go on; it is made anew in a while");
                    return Some(Ended::Failed);
                }
                // The context has told of it.
                Some(Err(_)) => {}
            }
            if bytes > BURST_BYTES {
                break;
            }
            wait = Duration::ZERO;
        }
        if let Err(error) = self.take_all(client.context(), &come) {
            tracing::warn!(%error, "Kafka: windows could not be rebuilt; trying again");
            return Some(Ended::Failed);
        }
        self.tell(client)
    }

    /// Takes up the partitions that were assigned; which ones.
    fn begin(&self, client: &Client) -> Result<Vec<i32>, String> {
        let assigned: Vec<(i32, Start)> = {
            let slots = client.context().slots();
            let assigned = |(partition, slot): (&i32, &Slot)| match slot {
                Slot::Assigned(start) => Some((*partition, *start)),
                Slot::Begun(_) => None,
            };
            slots.iter().filter_map(assigned).collect()
        };
        if assigned.is_empty() {
            return Ok(Vec::new());
        }
        let mut starts = Vec::new();
        for (number, start) in assigned {
            starts.push((number, self.start(client, number, start)?));
        }
        let numbers: Vec<i32> = starts.iter().map(|(number, _)| *number).collect();
        let mut baselines = self.baselines(&numbers)?;
        for (number, start) in starts {
            let (share, baselines) = (self.share(number), baselines.remove(&number).unwrap_or_default());
            let rules = self.correlating.rules.load_full();
            let begun = Partition::new(share, rules, self.correlating.limits, start, baselines);
            if let Some(slot) = client.context().slots().get_mut(&number) {
                *slot = Slot::Begun(Box::new(begun));
            }
        }
        Ok(numbers)
    }

    fn share(&self, number: i32) -> Share {
        Share { number: u32::try_from(number).unwrap_or_default(), of: self.journal.config().partitions }
    }

    /// From where on a partition is to be told of, when all that was told of it so far is known here.
    fn start(&self, client: &Client, number: i32, mut start: Start) -> Result<Start, String> {
        let part = self.journal.config().part(number);
        self.runtime.block_on(self.progress.caught_up(client, self.journal.config(), number, &self.stop))?;
        let reached =
            self.runtime.block_on(self.correlating.store.reached(&part)).map_err(|error| error.to_string())?;
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
            let reset = self.journal.append_reset(self.share(number).number, end);
            self.runtime.block_on(reset).map_err(|error| error.to_string())?;
            self.runtime.block_on(self.progress.caught_up(client, self.journal.config(), number, &self.stop))?;
            start.until = end;
        } else {
            start.until = start.until.max(reached.at);
        }
        Ok(start)
    }

    /// Reads what is usual in each of the partitions; all at once, because connecting takes longer than reading.
    fn baselines(&self, numbers: &[i32]) -> Result<BTreeMap<i32, Baselines>, String> {
        let config = self.journal.config();
        let topic = config.baselines();
        let client = reading::connect(config)?;
        let words = |error: KafkaError| error.to_string();
        let mut list = TopicPartitionList::new();
        for number in numbers {
            list.add_partition_offset(&topic, *number, Offset::Beginning).map_err(words)?;
        }
        client.assign(&list).map_err(words)?;
        drop(list);
        let mut read: BTreeMap<i32, Baselines> = BTreeMap::new();
        let mut left: BTreeSet<i32> = numbers.iter().copied().collect();
        let mut quiet = Instant::now() + ANSWER_MAX;
        while !left.is_empty() {
            if Instant::now() >= quiet {
                return Err("the baselines cannot be read".to_owned());
            }
            match client.poll(POLL) {
                Some(Ok(message)) => {
                    let key = message.key().map(String::from_utf8_lossy).unwrap_or_default();
                    read.entry(message.partition()).or_default().take(&key, message.payload());
                    quiet = Instant::now() + ANSWER_MAX;
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    left.remove(&partition);
                }
                Some(Err(_)) | None => {}
            }
        }
        Ok(read)
    }

    /// Takes what has come of each partition. They know nothing of each other, so where there is much, as when windows are
    /// rebuilt, every core takes some.
    fn take_all(&self, context: &Context, come: &BTreeMap<i32, Vec<BorrowedMessage<'_>>>) -> Result<(), StoreError> {
        let mut slots = context.slots();
        let ours = slots.iter_mut().filter_map(|(number, slot)| match slot {
            Slot::Begun(partition) => Some((&mut **partition, come.get(number)?)),
            Slot::Assigned(_) => None,
        });
        let ours: Vec<_> = ours.collect();
        let take = |(partition, messages): (&mut Partition, &Vec<BorrowedMessage<'_>>)| {
            messages.iter().try_for_each(|message| self.take(partition, message))
        };
        if ours.len() < 2 || come.values().map(Vec::len).sum::<usize>() < MANY {
            return ours.into_iter().try_for_each(take);
        }
        // Asked late: the system looks it up in files.
        let cores = std::thread::available_parallelism().map_or(1, usize::from).min(ours.len());
        let left = Mutex::new(ours.into_iter());
        let next = || left.lock().unwrap_or_else(PoisonError::into_inner).next();
        let work = || std::iter::from_fn(next).try_for_each(take);
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
            let done = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
            done.collect()
        })
    }

    fn take(&self, partition: &mut Partition, message: &BorrowedMessage<'_>) -> Result<(), StoreError> {
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
