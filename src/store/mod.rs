//! What is durable: the journal of matches, the outbox of alerts and their deliveries, file positions.
//!
//! Two logs and no other queue. [`Store::append`] returns when its rows are on disk: that return is the
//! acknowledgement. [`Store::commit`] writes alerts, deliveries and the cursor in one transaction, so that a
//! crash repeats nothing and loses nothing.

mod alerts;
mod ask;
mod baselines;
pub mod by_hand;
pub mod embedded;
mod figures;
mod find;
mod journal;
pub mod kafka;
mod outbox;
mod prune;
mod readers;
mod received;
mod reserve;
mod schema;
#[cfg(test)]
mod tests;
mod triage;
mod writer;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::correlate::{Baseline, Match};
use crate::engine::RuleSet;

pub use crate::alert::Kind;

pub use ask::{
    AlertQuery, Arrived, Bar, Conditions, Count, Deed, Figures, Handling, Listed, NewSilence, Related, Silence,
};

pub use embedded::Store;
pub use outbox::HELD_BACK;

/// Where matches are journaled.
#[derive(Clone)]
pub enum Journal {
    /// In the state database, with everything else.
    Embedded(Store),
    /// In topics that several instances share; the state database keeps file positions and what was read of the alerts.
    #[cfg(feature = "kafka")]
    Kafka(kafka::Journal, Store),
}

impl From<Store> for Journal {
    fn from(store: Store) -> Self {
        Self::Embedded(store)
    }
}

impl Journal {
    /// The state database.
    #[must_use]
    pub fn store(&self) -> &Store {
        match self {
            Self::Embedded(store) => store,
            #[cfg(feature = "kafka")]
            Self::Kafka(_, store) => store,
        }
    }

    /// The state database, where what is delivered comes from a topic that others deliver from too.
    #[must_use]
    pub fn shared(&self) -> Option<&Store> {
        match self {
            Self::Embedded(_) => None,
            #[cfg(feature = "kafka")]
            Self::Kafka(_, store) => Some(store),
        }
    }

    /// Appends a batch; `Ok` when it is durable. `rules` are those that it was matched with.
    pub async fn append(&self, rules: &RuleSet, append: Append) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => {
                let _ = rules; // One journal holds the groups of all rules.
                store.append(append).await
            }
            #[cfg(feature = "kafka")]
            Self::Kafka(journal, store) => {
                journal.append(rules, &append.matches).await?;
                store.append(Append { matches: Vec::new(), position: append.position }).await
            }
        }
    }

    /// [`StoreError::Full`] if a batch with matches would be refused for want of room in the state directory.
    pub async fn room(&self) -> Result<(), StoreError> {
        match self {
            Self::Embedded(store) => store.room().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(..) => Ok(()),
        }
    }

    /// What does not work, in words for people.
    pub async fn trouble(&self) -> Option<String> {
        match self {
            Self::Embedded(store) => store.trouble().await,
            #[cfg(feature = "kafka")]
            Self::Kafka(journal, store) => match journal.trouble() {
                Some(words) => Some(format!("{words}: batches are refused")),
                None => store.trouble().await,
            },
        }
    }
}

/// A piece of the topic of alerts: what became of a part of the matches.
#[derive(Clone, Debug)]
pub struct Received {
    /// Names the partition of the topic.
    pub part: String,
    /// Where it stands in the partition.
    pub place: i64,
    /// What is read next.
    pub next: i64,
    /// How far the matches had been correlated, as an offset of theirs.
    pub at: i64,
    /// What changed.
    pub changes: Vec<Change>,
}

/// How far a partition of the alerts has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// What is read next.
    pub next: i64,
    /// How far the matches had been correlated then.
    pub at: i64,
}

/// What one accepted batch adds to the journal, in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Append {
    /// The batch's matches, in the order of its events. May be empty when only a position moves.
    pub matches: Vec<Match>,
    /// Where a followed file has been read up to, if the batch came from one.
    pub position: Option<FilePosition>,
}

/// How far a followed file has been read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePosition {
    /// The configured path.
    pub path: String,
    /// Which file it was: device and inode, and a hash of its first bytes, so that rotation is told from truncation.
    pub identity: String,
    /// Offset of the first byte not yet ingested.
    pub offset: u64,
}

/// One batch as the journal gives it back.
#[derive(Clone, Debug)]
pub struct JournalBatch {
    /// Position in the journal; grows by at least one per batch.
    pub seq: i64,
    /// When it was appended, wall clock.
    pub received: Timestamp,
    /// The batch's matches, in the order of its events.
    pub matches: Vec<Match>,
}

/// What correlating a piece of the journal changed: written in one transaction.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Everything up to here has been correlated.
    pub cursor: i64,
    /// Alerts that are new or have changed. New ones that the store knows already are ignored, with their deliveries.
    pub changes: Vec<Change>,
    /// What is usual and has changed.
    pub baselines: Vec<Baseline>,
}

/// One alert that opened, grew or ended.
#[derive(Clone, Debug)]
pub struct Change {
    /// The alert as it is now.
    pub alert: Alert,
    /// What happened.
    pub kind: Kind,
    /// The sinks that shall hear of it (names; from the routes). Not looked at when an alert ends: that is told exactly
    /// to the sinks that were told, or are still to be told, that it fires.
    pub sinks: Vec<String>,
}

/// One thing the outbox still owes a sink.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Identifies the delivery within its sink; settled by it.
    pub seq: i64,
    /// Why.
    pub kind: Kind,
    /// The alert as it is now (not as it was when the delivery was queued).
    pub alert: Alert,
    /// Failed attempts so far.
    pub attempts: u32,
    /// What the sink asked to remember of an earlier delivery of this alert (a message id).
    pub remembered: Option<String>,
}

/// What became of a delivery.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// The sink took it. Optionally something to remember for this alert.
    Sent {
        /// A message id or the like, handed back with later deliveries of the same alert.
        remember: Option<String>,
    },
    /// Not now: try again at this time.
    Retry {
        /// Wall clock.
        not_before: Timestamp,
        /// For people.
        reason: String,
    },
    /// Never: kept as a dead letter with the reason.
    Dead {
        /// For people.
        reason: String,
    },
}

/// How far one delivery has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is to be sent.
    Waits,
    /// The sink took it.
    Sent,
    /// It is a dead letter, or there is none.
    GivenUp,
}

/// How much of the outbox waits for one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries not yet settled.
    pub records: u64,
    /// When the oldest of them was queued, wall clock.
    pub oldest: Option<Timestamp>,
    /// Dead letters kept.
    pub dead: u64,
    /// Those of them that died because too many others waited.
    pub crowded_out: u64,
}

/// How much the store keeps. Every bound has a default; see [`Limits::default`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Journal rows beyond the cursor; at this many [`Store::append`] answers [`StoreError::Full`] until the
    /// correlator has caught up.
    pub journal_rows_max: u64,
    /// Deliveries that wait for one sink. At this many a new alert crowds out the newest one of a lower level, or, where
    /// there is none, is crowded out itself: its delivery becomes a dead letter of this sink. So a sink that is down takes
    /// no room from the others, and what matters most is given up last. The alert itself is kept.
    pub outbox_max_per_sink: u64,
    /// How long a resolved alert is kept after its last change.
    pub alerts_keep: Duration,
    /// Alerts kept; beyond it the resolved ones that changed longest ago go, however young.
    pub alerts_max: u64,
    /// How long a dead letter is kept.
    pub dead_keep: Duration,
    /// Bytes of disk held back, so that correlating, delivering and pruning can go on when the disk is full; 0 for
    /// none.
    pub reserve_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const DAY: Duration = Duration::from_secs(24 * 60 * 60);
        Self {
            journal_rows_max: 1_000_000,
            outbox_max_per_sink: 100_000,
            alerts_keep: 30 * DAY,
            alerts_max: 1_000_000,
            dead_keep: 7 * DAY,
            reserve_bytes: 8 << 20,
        }
    }
}

/// A delivery that was given up.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// The delivery it was.
    pub seq: i64,
    /// Why the sink should have been told.
    pub kind: Kind,
    /// The alert as it is now.
    pub alert: Alert,
    /// Attempts that failed.
    pub attempts: u32,
    /// For people.
    pub reason: String,
    /// When it was queued, wall clock.
    pub queued: Timestamp,
    /// When it was given up, wall clock.
    pub died: Timestamp,
}

/// What pruning removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Journal rows.
    pub journal_rows: u64,
    /// Alerts, with their deliveries.
    pub alerts: u64,
    /// Dead letters.
    pub dead_letters: u64,
    /// Baselines of rules or groups that are gone.
    pub baselines: u64,
}

/// Why the store did not do what it was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full or the configured bound is reached: nothing was written; there may be room later.
    #[error("no room in the state directory: {0}")]
    Full(String),
    /// The database answered with an error: nothing was written.
    #[error("state database: {0}")]
    Database(String),
    /// The file is damaged: nothing was written, and what it holds may be lost.
    #[error("state database: {0}")]
    Damaged(String),
    /// The store is closed (the daemon is stopping).
    #[error("the store is closed")]
    Closed,
}
