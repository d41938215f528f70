//! What was polled and is not yet ingested: a lane per partition, in which one batch is on its way at a time.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::super::Intake;
use crate::metrics::{Metrics, Rejected};
use crate::pipeline::{IngestError, Part};

/// A batch takes messages up to this size; one that is larger is a batch of its own.
const BATCH_BYTES: usize = 1 << 20;
/// And up to this many.
const BATCH_MESSAGES: usize = 4_000;
/// Batches on their way at once, for each processor: most of the time that one takes is waiting for the journal.
const BATCHES_EACH: usize = 4;
/// Memory of batches that is kept for the next ones.
const SPARE_MAX: usize = 8;
/// A batch that had to grow larger than this is not kept.
const SPARE_BYTES: usize = 2 * BATCH_BYTES;

/// How long is waited for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// The first pause when ingest has no room; it doubles.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
    /// Bytes that are polled and not ingested: at these, partitions are paused; below half of them, polled again.
    pub bytes_max: usize,
    /// How long polling waits at the bound before it pauses partitions: a resumed partition is fetched anew.
    pub patience: Duration,
    /// How long a batch that ingest has begun may take when its partition goes to somebody else, or all stops.
    pub finish: Duration,
    /// After this time without joining the group and without an error that explains it, that is said.
    pub silence: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            pause: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
            bytes_max: 16 << 20,
            patience: Duration::from_millis(250),
            finish: Duration::from_secs(10),
            silence: Duration::from_secs(30),
        }
    }
}

/// The cluster label of a message's events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) cluster: Arc<str>,
    /// Header, topic or configuration say so: then it holds whatever an envelope calls it.
    pub(super) is_certain: bool,
}

/// One message, as its place in its batch.
struct Message {
    value: Range<usize>,
    label: Label,
    offset: i64,
}

/// Messages of one partition that are ingested together.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    messages: Vec<Message>,
    /// Messages without a value.
    empty: u64,
    /// The offset of the last message.
    last: i64,
}

impl Batch {
    fn has_room(&self, more: usize) -> bool {
        self.bytes.len() + more <= BATCH_BYTES && self.messages.len() < BATCH_MESSAGES
    }

    /// Counts against the bound; small messages cost what is remembered of them. One without a value is only counted.
    fn weight(&self) -> usize {
        self.bytes.len() + self.messages.len() * size_of::<Message>()
    }
}

/// One partition that is ours.
struct Lane {
    queue: VecDeque<Batch>,
    /// A task is working on it.
    busy: bool,
    /// The newest offset that is ingested with all before it, until it is stored.
    done: Option<i64>,
    /// The same, kept for the lag.
    ingested: Option<i64>,
    life: Life,
}

/// One time for which a partition is ours.
#[derive(Clone)]
struct Life {
    /// A partition that went and came back lives anew.
    number: u64,
    /// Cancelled when the partition goes: then nothing more is begun.
    gone: CancellationToken,
}

impl Lane {
    fn new(number: u64) -> Self {
        let life = Life { number, gone: CancellationToken::new() };
        Self { queue: VecDeque::new(), busy: false, done: None, ingested: None, life }
    }
}

#[derive(Default)]
struct State {
    topics: HashMap<Arc<str>, HashMap<i32, Lane>>,
    /// The weight of everything that waits or is on its way.
    bytes: usize,
    spare: Vec<Batch>,
    lives: u64,
    /// A task broke down: what it had would never be done.
    broken: bool,
}

impl State {
    fn lane(&mut self, topic: &str, partition: i32) -> Option<&mut Lane> {
        self.topics.get_mut(topic)?.get_mut(&partition)
    }

    /// The lane, unless the partition went since.
    fn living(&mut self, topic: &str, partition: i32, life: &Life) -> Option<&mut Lane> {
        self.lane(topic, partition).filter(|lane| lane.life.number == life.number)
    }

    fn busy(&self) -> bool {
        self.topics.values().flat_map(HashMap::values).any(|lane| lane.busy)
    }
}

/// What has been ingested: the offset of the newest message, with all before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

/// All lanes of a source. Cheap to clone.
pub(super) struct Lanes<I> {
    inner: Arc<Inner<I>>,
}

impl<I> Clone for Lanes<I> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

struct Inner<I> {
    state: Mutex<State>,
    /// Something was finished.
    changed: Condvar,
    /// One for each batch on its way.
    workers: Semaphore,
    ingest: I,
    source: Arc<str>,
    max_body: u64,
    pace: Pace,
    metrics: Arc<Metrics>,
    runtime: Handle,
}

impl<I: Intake> Lanes<I> {
    /// To be called inside a runtime, on which the work is done.
    pub(super) fn new(ingest: I, source: Arc<str>, max_body: u64, pace: Pace, metrics: Arc<Metrics>) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from);
        let inner = Inner {
            state: Mutex::default(),
            changed: Condvar::new(),
            workers: Semaphore::new(workers * BATCHES_EACH),
            ingest,
            source,
            max_body,
            pace,
            metrics,
            runtime: Handle::current(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Where the work is done.
    pub(super) fn runtime(&self) -> Handle {
        self.inner.runtime.clone()
    }

    /// Partitions that are ours from now on.
    pub(super) fn assigned(&self, partitions: &[(String, i32)]) {
        let mut state = self.inner.lock();
        for (topic, partition) in partitions {
            state.lives += 1;
            let lane = Lane::new(state.lives);
            state.topics.entry(topic.as_str().into()).or_default().insert(*partition, lane);
        }
    }

    /// Partitions that go to somebody else: nothing more is begun for them, what was begun is waited for, and what was done
    /// is returned, to be stored while that is still possible.
    pub(super) fn revoked(&self, partitions: &[(String, i32)]) -> Vec<Done> {
        let mut state = self.inner.lock();
        for (topic, partition) in partitions {
            let Some(lane) = state.lane(topic, *partition) else { continue };
            lane.life.gone.cancel();
            let dropped: usize = lane.queue.drain(..).map(|batch| batch.weight()).sum();
            state.bytes = state.bytes.saturating_sub(dropped);
        }
        let deadline = Instant::now() + self.inner.pace.finish;
        loop {
            let mut busy = partitions.iter().filter_map(|(topic, partition)| Some(state.lane(topic, *partition)?.busy));
            if !busy.any(|busy| busy) || state.broken {
                break;
            }
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            state = self.inner.wait(state, left);
        }
        let mut done = Vec::new();
        for (topic, partition) in partitions {
            let removed = state.topics.get_mut(topic.as_str()).and_then(|lanes| lanes.remove(partition));
            if let Some(offset) = removed.and_then(|lane| lane.done) {
                done.push(Done { topic: topic.as_str().into(), partition: *partition, offset });
            }
        }
        state.topics.retain(|_, lanes| !lanes.is_empty());
        done
    }

    /// Partitions that are ours.
    pub(super) fn partitions(&self) -> Vec<(String, i32)> {
        let state = self.inner.lock();
        let of = |(topic, lanes): (&Arc<str>, &HashMap<i32, Lane>)| {
            lanes.keys().map(|partition| (topic.to_string(), *partition)).collect::<Vec<_>>()
        };
        state.topics.iter().flat_map(of).collect()
    }

    /// A message was polled; answers whether the bound is reached. One of a partition that is not ours any more is dropped:
    /// whoever has it gets it.
    pub(super) fn push(&self, at: Place<'_>, value: &[u8], label: impl FnOnce() -> Label) -> bool {
        let Place { topic, partition, offset } = at;
        let mut state = self.inner.lock();
        let State { topics, bytes, spare, .. } = &mut *state;
        let Some(lane) = topics.get_mut(topic).and_then(|lanes| lanes.get_mut(&partition)) else { return false };
        if lane.queue.back().is_none_or(|batch| !batch.has_room(value.len())) {
            lane.queue.push_back(spare.pop().unwrap_or_default());
        }
        let Some(batch) = lane.queue.back_mut() else { return false };
        let before = batch.weight();
        batch.last = offset;
        if value.is_empty() {
            batch.empty += 1;
        } else {
            let start = batch.bytes.len();
            batch.bytes.extend_from_slice(value);
            batch.messages.push(Message { value: start..batch.bytes.len(), label: label(), offset });
        }
        *bytes += batch.weight() - before;
        let full = *bytes >= self.inner.pace.bytes_max;
        if !lane.busy {
            lane.busy = true;
            let (inner, life) = (Arc::clone(&self.inner), lane.life.clone());
            let topic = topics.get_key_value(topic).map_or_else(|| topic.into(), |(topic, _)| Arc::clone(topic));
            drop(state);
            self.inner.runtime.spawn(inner.work(topic, partition, life));
        }
        full
    }

    /// Whether the bound is reached.
    pub(super) fn is_full(&self) -> bool {
        self.inner.lock().bytes >= self.inner.pace.bytes_max
    }

    /// Whether so much was done that polling is worth while again.
    pub(super) fn has_room(&self) -> bool {
        self.inner.lock().bytes <= self.inner.pace.bytes_max / 2
    }

    /// Whether a task broke down.
    pub(super) fn is_broken(&self) -> bool {
        self.inner.lock().broken
    }

    /// Waits until there is room, at most for [`Pace::patience`].
    pub(super) fn wait_for_room(&self) {
        let deadline = Instant::now() + self.inner.pace.patience;
        let mut state = self.inner.lock();
        while state.bytes >= self.inner.pace.bytes_max && !state.broken {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { return };
            state = self.inner.wait(state, left);
        }
    }

    /// What was done since the last call.
    pub(super) fn done(&self) -> Vec<Done> {
        let mut state = self.inner.lock();
        let mut done = Vec::new();
        for (topic, lanes) in &mut state.topics {
            for (partition, lane) in lanes {
                if let Some(offset) = lane.done.take() {
                    done.push(Done { topic: Arc::clone(topic), partition: *partition, offset });
                }
            }
        }
        done
    }

    /// The newest offset of a partition that is ingested with all before it, and whether more is waiting.
    pub(super) fn ingested(&self, topic: &str, partition: i32) -> (Option<i64>, bool) {
        let mut state = self.inner.lock();
        state.lane(topic, partition).map_or((None, false), |lane| (lane.ingested, lane.busy || !lane.queue.is_empty()))
    }

    /// Begins nothing more, and waits for what was begun.
    pub(super) fn finish(&self) {
        let mut state = self.inner.lock();
        for lane in state.topics.values_mut().flat_map(HashMap::values_mut) {
            lane.life.gone.cancel();
            lane.queue.clear();
        }
        let deadline = Instant::now() + self.inner.pace.finish;
        while state.busy() && !state.broken {
            let Some(left) = deadline.checked_duration_since(Instant::now()) else { break };
            state = self.inner.wait(state, left);
        }
    }

    /// Forgets everything: the next consumer begins where offsets were stored.
    pub(super) fn clear(&self) {
        let mut state = self.inner.lock();
        for lane in state.topics.values().flat_map(HashMap::values) {
            lane.life.gone.cancel();
        }
        state.topics.clear();
        state.bytes = 0;
    }
}

impl<I: Intake> Inner<I> {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'s>(&self, state: MutexGuard<'s, State>, time: Duration) -> MutexGuard<'s, State> {
        self.changed.wait_timeout(state, time).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ingests what is in a lane, batch after batch, until it is empty or gone.
    async fn work(self: Arc<Self>, topic: Arc<str>, partition: i32, life: Life) {
        let unfinished = Unfinished(&self);
        while let Some(batch) = self.next(&topic, partition, &life) {
            let done = self.hand(&topic, partition, &batch, &life.gone).await;
            self.settle(&topic, partition, batch, done, &life);
        }
        std::mem::forget(unfinished);
        self.changed.notify_all();
    }

    /// Takes the next batch out of a lane, which is not busy any more when there is none.
    fn next(&self, topic: &str, partition: i32, life: &Life) -> Option<Batch> {
        let mut state = self.lock();
        let lane = state.living(topic, partition, life)?;
        let batch = lane.queue.pop_front();
        lane.busy = batch.is_some();
        batch
    }

    /// Ingests one batch, waiting for room as long as it takes; `false` when its partition went before there was any.
    async fn hand(&self, topic: &str, partition: i32, batch: &Batch, gone: &CancellationToken) -> bool {
        let places: Vec<Place<'_>> =
            batch.messages.iter().map(|message| Place { topic, partition, offset: message.offset }).collect();
        let parts: Vec<Part<'_>> = batch
            .messages
            .iter()
            .zip(&places)
            .map(|(message, place)| Part {
                body: &batch.bytes[message.value.clone()],
                cluster: &message.label.cluster,
                names_cluster: message.label.is_certain,
                place,
            })
            .collect();
        if parts.is_empty() {
            return true;
        }
        let mut pause = self.pace.pause;
        while !gone.is_cancelled() {
            let Ok(permit) = self.workers.acquire().await else { return false };
            let answer = self.ingest.take_all(&parts, &self.source, self.max_body).await;
            drop(permit);
            match answer {
                Ok(_) => return true,
                Err(IngestError::NoRoom(reason)) => {
                    if pause == self.pace.pause {
                        tracing::warn!(source = &*self.source, topic, partition, reason, "waiting for room");
                    }
                    if gone.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return false;
                    }
                    pause = pause.saturating_mul(2).min(self.pace.pause_max);
                }
                // Single messages are rejected one by one; to try all of them again would be to stand still for ever.
                Err(error) => {
                    tracing::error!(source = &*self.source, topic, partition, first = batch.messages[0].offset,
                        %error, "messages refused, please report");
                    return true;
                }
            }
        }
        false
    }

    /// A batch is done, or was given up.
    fn settle(&self, topic: &str, partition: i32, mut batch: Batch, done: bool, life: &Life) {
        if done && batch.empty > 0 {
            let labels = Rejected { source: self.source.to_string(), reason: "empty".to_owned() };
            self.metrics.events_rejected.get_or_create(&labels).inc_by(batch.empty);
        }
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(batch.weight());
        let last = batch.last;
        if state.spare.len() < SPARE_MAX && batch.bytes.capacity() <= SPARE_BYTES {
            batch.bytes.clear();
            batch.messages.clear();
            batch.empty = 0;
            state.spare.push(batch);
        }
        if let Some(lane) = state.living(topic, partition, life).filter(|_| done) {
            lane.done = Some(last);
            lane.ingested = Some(last);
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// Says that a task broke down, unless it is forgotten at its end.
struct Unfinished<'i, I: Intake>(&'i Inner<I>);

impl<I: Intake> Drop for Unfinished<'_, I> {
    fn drop(&mut self) {
        self.0.lock().broken = true;
        self.0.changed.notify_all();
    }
}

/// Where a message is, as people look for it.
#[derive(Clone, Copy)]
pub(super) struct Place<'p> {
    pub(super) topic: &'p str,
    pub(super) partition: i32,
    pub(super) offset: i64,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.offset)
    }
}
