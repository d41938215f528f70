//! What is durable: the journal of matches, the outbox of alerts and their deliveries, file positions.
//!
//! Two logs and no other queue. [`Store::append`] returns when its rows are on disk: that return is the
//! acknowledgement. [`Store::commit`] writes alerts, deliveries and the cursor in one transaction, so that a
//! crash repeats nothing and loses nothing.

pub mod embedded;

use serde::{Deserialize, Serialize};

use crate::alert::{Alert, Level};
use crate::clock::Timestamp;
use crate::correlate::Match;

pub use embedded::Store;

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
}

/// One alert that opened, grew or ended.
#[derive(Clone, Debug)]
pub struct Change {
    /// The alert as it is now.
    pub alert: Alert,
    /// What happened.
    pub kind: Kind,
    /// The sinks that shall hear of it (names; from the routes).
    pub sinks: Vec<String>,
}

/// Why a sink is told of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// The episode opened.
    Firing,
    /// It grew. At most one of these waits per sink and alert; the newest state is sent.
    Update,
    /// It ended.
    Resolved,
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

/// How much of the outbox waits for one sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Deliveries not yet settled.
    pub records: u64,
    /// When the oldest of them was queued, wall clock.
    pub oldest: Option<Timestamp>,
    /// Dead letters kept.
    pub dead: u64,
}

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The disk is full or the configured bound is reached: nothing was written; there may be room later.
    #[error("no room in the state directory: {0}")]
    Full(String),
    /// The database answered with an error: nothing was written.
    #[error("state database: {0}")]
    Database(String),
    /// The store is closed (the daemon is stopping).
    #[error("the store is closed")]
    Closed,
}

/// Which alerts to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AlertQuery {
    /// Event time at or after.
    pub since: Option<Timestamp>,
    /// Event time before.
    pub until: Option<Timestamp>,
    /// This level and above.
    pub min_level: Option<Level>,
    /// Rule id.
    pub rule: Option<String>,
    /// Cluster label.
    pub cluster: Option<String>,
    /// User name.
    pub user: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Text anywhere in the alert.
    pub text: Option<String>,
    /// At most so many.
    pub limit: usize,
    /// Only alerts before this one: time and id of the last alert of the page before.
    pub before: Option<(Timestamp, String)>,
}
