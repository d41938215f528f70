//! Ingest: the one way in. `Ok` is the acknowledgement.

use std::sync::Arc;

use crate::store::FilePosition;

pub use crate::event::compress::Encoding;

/// Where a batch came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The source's name in metrics: `webhook`, `file`, or the configured `name`.
    pub source: Arc<str>,
    /// The cluster label for events that name none.
    pub cluster: Arc<str>,
}

/// What an accepted batch held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Receipt {
    /// Good events.
    pub events: u64,
    /// Rejected events; each is counted and kept in the rejects file.
    pub rejected: u64,
    /// Rules that were true, summed over the events.
    pub matches: u64,
}

/// Why a batch was not taken. It left no trace, except in metrics.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// No JSON at all, or not audit.k8s.io/v1: sending it again cannot help (webhook: 400).
    #[error("{0}")]
    NotAudit(String),
    /// Larger than `max_body` after decompression (webhook: 413).
    #[error("the body is larger than {limit} bytes after decompression; raise max_body")]
    TooLarge {
        /// The bound, in bytes.
        limit: u64,
    },
    /// No room now: memory budget, journal, outbox, or stopping (webhook: 503 with Retry-After; file: wait).
    #[error("{0}")]
    NoRoom(String),
}

/// The way in, shared by all sources. Cheap to clone.
#[derive(Clone)]
pub struct Ingest {}

impl Ingest {
    /// Takes one batch: decompresses, frames, matches, journals. Returns when everything that an alert may need is
    /// durable. CPU work happens on the caller's task.
    pub async fn ingest(
        &self,
        body: &[u8],
        encoding: Encoding,
        origin: &Origin,
        position: Option<FilePosition>,
    ) -> Result<Receipt, IngestError> {
        let _ = (body, encoding, origin, position);
        Err(IngestError::NoRoom("not wired yet".to_owned()))
    }
}
