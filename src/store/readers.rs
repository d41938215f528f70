//! Connections that read, beside the writer: in WAL mode neither waits for the other.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::{StoreError, schema};

/// Reads that run at once; further ones wait their turn.
const READERS_MAX: u32 = 4;

/// A pool of read-only connections.
pub(super) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
}

impl Readers {
    /// A pool for the database at `path`; connections are made when they are needed.
    pub(super) fn new(path: PathBuf) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(READERS_MAX as usize));
        Arc::new(Self { path, idle: Mutex::default(), permits })
    }

    /// Runs `read` off the async threads: a disk that hangs must not hang the sources.
    pub(super) async fn run<T, F>(self: &Arc<Self>, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let pool = Arc::clone(self);
        let reading = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let connection = match pool.idle().pop() {
                Some(connection) => connection,
                None => schema::open_reader(&pool.path)?,
            };
            let result = read(&connection);
            pool.idle().push(connection);
            result
        });
        reading.await.map_err(|error| StoreError::Database(format!("a read did not end: {error}")))?
    }

    /// Waits for running reads, refuses new ones and lets go of the file.
    pub(super) async fn close(&self) {
        let _all = self.permits.acquire_many(READERS_MAX).await;
        self.permits.close();
        self.idle().clear();
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
