//! The reader of the alerts: every instance reads all of them into its state database, where the API finds them and from
//! where they are delivered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::group;
use super::reading::{self, Reading};
use crate::alert::Kind;
use crate::clock::Timestamp;
use crate::kafka::Files;
use crate::pipeline::canary::Canaries;
use crate::store::kafka::record::{Step, Told};
use crate::store::kafka::{Journal, KafkaConfig};
use crate::store::{Reached, Received, Store};

/// Nothing that happens is noticed later than this.
const POLL: Duration = Duration::from_millis(50);
/// Records that are written in one transaction.
const BURST: usize = 500;
/// Before trying again.
const PAUSE: Duration = Duration::from_secs(1);
/// How long brokers may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The records of a step are written at once: after so long what is missing of one will not come.
const WHOLE_WITHIN: Duration = Duration::from_secs(300);

/// How far each partition of the alerts is read: the offset that is read next.
#[derive(Clone)]
pub(super) struct Progress(watch::Receiver<BTreeMap<i32, i64>>);

impl Progress {
    /// Resolves when everything of a partition that is there now has been read.
    pub(super) async fn caught_up<C: ConsumerContext>(
        &self,
        client: &BaseConsumer<C>,
        config: &KafkaConfig,
        partition: i32,
        stop: &CancellationToken,
    ) -> Result<(), String> {
        let watermarks = client.fetch_watermarks(&config.alerts(), partition, ANSWER_MAX);
        let (low, end) = watermarks.map_err(|error| error.to_string())?;
        if low >= end {
            return Ok(());
        }
        let mut progress = self.0.clone();
        let there = progress.wait_for(|progress| progress.get(&partition).copied().unwrap_or(0) >= end);
        match stop.run_until_cancelled(there).await {
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err("stopping".to_owned()),
        }
    }
}

/// What the thread works with.
pub(super) struct Reader {
    journal: Journal,
    store: Store,
    canaries: Arc<Canaries>,
    stop: CancellationToken,
    runtime: Handle,
    tell: watch::Sender<BTreeMap<i32, i64>>,
    parts: BTreeMap<i32, Part>,
}

/// A partition while it is read.
#[derive(Default)]
struct Part {
    reached: Reached,
    /// Steps that are not whole yet, by who tells them.
    begun: HashMap<u64, Begun>,
}

/// A step that is not whole yet.
struct Begun {
    /// The offset of its first record.
    first: i64,
    /// When the log took that.
    at: Timestamp,
    changes: Vec<Told>,
}

impl Part {
    /// Takes a record; the changes of a step when it is whole and new.
    fn take(&mut self, offset: i64, log: Timestamp, step: Step) -> Option<Vec<Told>> {
        // Nobody goes on with them: whoever began them is gone.
        self.begun.retain(|_, begun| log.since(begun.at) < WHOLE_WITHIN);
        if step.reset {
            self.reached.at = step.at;
            return None;
        }
        if step.part == 0 {
            self.begun.insert(step.from, Begun { first: offset, at: log, changes: Vec::new() });
        }
        // Of one whose beginning is not there the rest says nothing: it is told again from its beginning.
        self.begun.get_mut(&step.from)?.changes.extend(step.changes);
        if !step.last {
            return None;
        }
        let Begun { changes, .. } = self.begun.remove(&step.from)?;
        // Who has lost the partition may still tell what another has told already: of the same matches the same.
        if step.at <= self.reached.at {
            return None;
        }
        self.reached.at = step.at;
        Some(changes)
    }

    /// From where it would have to be read again, having read up to `next`.
    fn next(&self, next: i64) -> i64 {
        self.begun.values().map(|begun| begun.first).min().unwrap_or(next)
    }
}

impl Reader {
    pub(super) fn new(
        journal: Journal,
        store: Store,
        canaries: Arc<Canaries>,
        stop: CancellationToken,
    ) -> (Self, Progress) {
        let (tell, progress) = watch::channel(BTreeMap::new());
        let runtime = Handle::current();
        (Self { journal, store, canaries, stop, runtime, tell, parts: BTreeMap::new() }, Progress(progress))
    }

    /// Reads until it is told to stop.
    pub(super) fn run(mut self) {
        while !self.stop.is_cancelled() {
            if let Err(words) = self.read() {
                tracing::warn!("Kafka: the alerts cannot be read: {words}; trying again");
            }
            group::rest(&self.runtime, PAUSE, &self.stop);
        }
    }

    fn read(&mut self) -> Result<(), String> {
        let config = self.journal.config().clone();
        let mut files = Files::now(config.connection());
        let client = reading::connect(&config)?;
        let topic = config.alerts();
        let mut list = TopicPartitionList::new();
        for partition in 0..i32::try_from(config.partitions).unwrap_or(i32::MAX) {
            let reached = self.runtime.block_on(self.store.reached(&config.part(partition)));
            let reached = reached.map_err(|error| error.to_string())?;
            self.parts.insert(partition, Part { reached, begun: HashMap::new() });
            list.add_partition_offset(&topic, partition, Offset::Offset(reached.next))
                .map_err(|error| error.to_string())?;
            self.tell.send_modify(|progress| {
                progress.insert(partition, reached.next);
            });
        }
        client.assign(&list).map_err(|error| error.to_string())?;
        drop(list);
        while !self.stop.is_cancelled() {
            self.burst(&client)?;
            if files.have_changed(config.connection()) {
                break;
            }
        }
        Ok(())
    }

    fn burst(&mut self, client: &Reading) -> Result<(), String> {
        let (mut pieces, mut read) = (Vec::new(), BTreeMap::new());
        let mut wait = POLL;
        for _ in 0..BURST {
            let message = match client.poll(wait) {
                None => break,
                Some(Ok(message)) => message,
                // The context has told of it; what passes by itself is tried again by librdkafka.
                Some(Err(_)) => continue,
            };
            wait = Duration::ZERO;
            let (partition, offset) = (message.partition(), message.offset());
            let part = self.parts.entry(partition).or_default();
            let changes = match Step::read(message.payload().unwrap_or_default()) {
                Ok(step) => {
                    let log = message.timestamp().to_millis().unwrap_or_default();
                    part.take(offset, Timestamp(log.saturating_mul(1_000)), step)
                }
                Err(error) => {
                    tracing::error!(partition, offset, %error, "Kafka: a record of the alerts was passed by");
                    None
                }
            };
            read.insert(partition, offset + 1);
            pieces.push(Received {
                part: self.journal.config().part(partition),
                place: offset,
                next: part.next(offset + 1),
                at: part.reached.at,
                changes: changes.unwrap_or_default().into_iter().map(Into::into).collect(),
            });
        }
        if pieces.is_empty() {
            return Ok(());
        }
        let told: Vec<_> = pieces.iter().flat_map(|piece| &piece.changes).cloned().collect();
        // What is not written is read again.
        self.runtime.block_on(self.store.receive(pieces)).map_err(|error| error.to_string())?;
        let fired = told.iter().filter(|change| change.kind == Kind::Firing);
        fired.for_each(|change| self.canaries.committed(&change.alert));
        self.tell.send_modify(|progress| progress.extend(read));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(from: u64, at: i64, part: u32, last: bool) -> Step {
        Step { from, at, part, last, reset: false, changes: Vec::new() }
    }

    #[test]
    fn a_step_counts_when_it_is_whole_and_new() {
        let mut part = Part::default();
        assert!(part.take(0, Timestamp(0), step(1, 10, 0, false)).is_none());
        assert_eq!(part.next(1), 0, "half a step is read again");
        assert!(part.take(1, Timestamp(0), step(1, 10, 1, true)).is_some());
        assert_eq!((part.next(2), part.reached.at), (2, 10));
        assert!(part.take(2, Timestamp(0), step(2, 10, 0, true)).is_none(), "another one tells the same");
        assert!(part.take(3, Timestamp(0), step(2, 12, 1, true)).is_none(), "its beginning is missing");
        assert!(part.take(4, Timestamp(0), step(1, 14, 0, false)).is_none());
        assert!(part.take(5, Timestamp(0), step(2, 12, 0, true)).is_some(), "between the records of another");
        assert!(part.take(6, Timestamp(0), step(1, 14, 1, true)).is_some());
        assert!(part.take(7, Timestamp(0), step(1, 16, 0, false)).is_none());
        assert!(part.take(8, Timestamp(301_000_000), step(2, 15, 0, true)).is_some());
        assert_eq!(part.next(9), 9, "nobody goes on with it");
        let reset = Step { reset: true, ..step(3, 5, 0, true) };
        assert!(
            part.take(7, Timestamp(0), reset).is_none() && part.take(8, Timestamp(0), step(3, 6, 0, true)).is_some()
        );
    }
}
