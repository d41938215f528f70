//! Several instances that share one journal in Kafka: each correlates some partitions of the matches, knows all alerts, and
//! delivers some of them to each sink. `docs/scaling.md` tells how and why.

mod clocks;
mod context;
mod correlate;
mod group;
mod outbox;
mod partition;
mod reading;
pub mod sinks;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::correlating::{Correlating, TICK};
use super::watermarks::Watermarks;
use crate::clock;
use crate::store::kafka::{Journal, Unprepared};

use correlate::Thread;
use outbox::Reader;

/// Before brokers that were not reached are tried again.
const AGAIN: Duration = Duration::from_secs(5);
/// A cluster is spoken of for so long after its last event, so that a word that is lost is said again.
const LATELY: Duration = Duration::from_secs(5);

/// This instance's part.
pub struct Shared {
    /// What correlating works with; the store is where alerts are read into.
    pub correlating: Correlating,
    /// The topics.
    pub journal: Journal,
}

impl Shared {
    /// Sees to the topics, then reads alerts and correlates until `shutdown`; `ready` is told when this instance is one of
    /// those who share the work. An error says why the topics can never be used.
    pub async fn run(self, ready: impl FnOnce() + Send + 'static, shutdown: CancellationToken) -> Result<(), String> {
        let Self { correlating, journal } = self;
        let reach = correlating.reach(&correlating.rules.load());
        loop {
            match journal.open(reach).await {
                Ok(()) => break,
                Err(Unprepared::Refused(words)) => return Err(words),
                Err(Unprepared::Unreached(words)) => {
                    let brokers = journal.config().brokers.join(",");
                    tracing::warn!(brokers, "Kafka: the journal: {words}; trying again");
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(AGAIN)).await.is_none() {
                return Ok(());
            }
        }
        let stop_reading = CancellationToken::new();
        let (reader, progress) = Reader::new(
            journal.clone(),
            correlating.store.clone(),
            Arc::clone(&correlating.canaries),
            stop_reading.clone(),
        );
        let reading = tokio::task::spawn_blocking(move || reader.run());
        let stop_time = CancellationToken::new();
        let telling = tokio::spawn(tell_time(journal.clone(), Arc::clone(&correlating.watermarks), stop_time.clone()));
        let thread = Thread { correlating, journal, progress, stop: shutdown, runtime: Handle::current() };
        let correlated = tokio::task::spawn_blocking(move || thread.run(ready)).await;
        stop_time.cancel();
        stop_reading.cancel();
        let _ = tokio::join!(telling, reading);
        correlated.map_err(|error| error.to_string())
    }
}

/// Tells the log every second how far the events of this instance have come, and at last that no more will.
async fn tell_time(journal: Journal, watermarks: Arc<Watermarks>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(TICK)).await.is_some() {
        let clusters = watermarks.lately(clock::steady(), LATELY);
        // The journal itself says what does not work.
        if let Err(error) = journal.append_time(&clusters, false).await {
            tracing::debug!(%error, "Kafka: the time was not told");
        }
    }
    let _ = tokio::time::timeout(TICK, journal.append_time(&[], true)).await;
}
