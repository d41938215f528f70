//! A log file, followed across rotation and truncation.
//!
//! Whole lines go to ingest with the position behind them, so that what is ingested and how far the file is read are
//! durable together. The path is polled: file events do not come over network file systems, and a quarter of a second
//! is little beside what an audit log is buffered.

mod identity;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::identity::{HEAD_MAX, Identity, Node, Part, node, plan, read_head};
use super::Intake;
use crate::metrics::{Metrics, Rejected};
use crate::pipeline::{Encoding, IngestError, Origin};
use crate::store::FilePosition;

/// `type: file`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The source's name in metrics.
    #[serde(default = "name")]
    pub name: String,
    /// The file; it may appear later.
    pub path: PathBuf,
    /// The cluster label of its events; otherwise their envelope's, or the global `cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

fn name() -> String {
    "file".to_owned()
}

/// How much is read at once.
const BLOCK: usize = 1 << 20;
/// The longest line; the largest audit events seen have 2.9 MB. A longer one is skipped and counted.
const LINE_MAX: usize = 16 << 20;

/// How long a follower waits for what.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two looks at a file that does not grow.
    pub poll: Duration,
    /// How long a file that was rotated away must not have grown before it is left: its writer may not know yet.
    pub grace: Duration,
    /// The first pause when ingest has no room; it doubles.
    pub pause: Duration,
    /// The longest pause.
    pub pause_max: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            poll: Duration::from_millis(250),
            grace: Duration::from_secs(1),
            pause: Duration::from_millis(100),
            pause_max: Duration::from_secs(5),
        }
    }
}

/// Follows one path.
pub struct Follower<I> {
    path: PathBuf,
    key: String,
    origin: Origin,
    ingest: I,
    metrics: Arc<Metrics>,
    pace: Pace,
}

/// Why a part is left.
enum Left {
    /// The follower shall stop.
    Stopping,
    /// There is nothing more in it.
    Finished,
}

impl<I: Intake> Follower<I> {
    /// `cluster` is the label where the source names none.
    pub fn new(config: &FileConfig, cluster: &str, ingest: I, metrics: Arc<Metrics>) -> Self {
        let names_cluster = config.cluster.is_some();
        let (source, cluster) = (config.name.as_str().into(), config.cluster.as_deref().unwrap_or(cluster).into());
        Self {
            path: config.path.clone(),
            key: config.path.to_string_lossy().into_owned(),
            origin: Origin { source, cluster, names_cluster, max_body: (LINE_MAX + BLOCK) as u64 },
            ingest,
            metrics,
            pace: Pace::default(),
        }
    }

    /// The same with other waits than the default ones.
    #[must_use]
    pub fn with_pace(mut self, pace: Pace) -> Self {
        self.pace = pace;
        self
    }

    /// The name under which the position is stored: `FilePosition::path`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Follows the path from `start` (what the store has under [`Self::key`]), or from its beginning, until it is told
    /// to stop. A batch that ingest has begun is finished first.
    pub async fn run(self, start: Option<FilePosition>, shutdown: CancellationToken) {
        let mut position = start;
        let mut told: Option<String> = None;
        loop {
            let (path, at) = (self.path.clone(), position.clone());
            let Ok(plan) = tokio::task::spawn_blocking(move || plan(&path, at.as_ref())).await else { return };
            if plan.lost {
                tracing::warn!(path = self.key, "the file read so far is gone; what was not read of it is lost");
                position = None;
            }
            let live = plan.live.map_err(|error| told_once(&self.key, &error, &mut told)).ok();
            let is_live = live.is_some();
            let rotated = plan.rotated.into_iter().map(|part| (part, false));
            for (part, live) in rotated.chain(live.map(|part| (part, true))) {
                match self.follow(part, live, &mut position, &shutdown).await {
                    Ok(Left::Stopping) => return,
                    Ok(Left::Finished) => told = None,
                    Err(error) => {
                        told_once(&self.key, &error, &mut told);
                        break; // What is next must not be read before this: the plan is made anew.
                    }
                }
            }
            let pause = if is_live && told.is_none() { Duration::ZERO } else { self.pace.poll };
            if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    /// Reads one file to its end; one that is live is followed until its path leads to another file.
    async fn follow(
        &self,
        part: Part,
        live: bool,
        position: &mut Option<FilePosition>,
        shutdown: &CancellationToken,
    ) -> io::Result<Left> {
        tracing::info!(path = %part.path.display(), offset = part.offset, "reading");
        let mut reader = Reader::new(part)?;
        let mut rotated = !live;
        let mut quiet_since = Instant::now();
        loop {
            if shutdown.is_cancelled() {
                return Ok(Left::Stopping);
            }
            match reader.fill().await? {
                Fill::More => {
                    quiet_since = Instant::now();
                    if let Left::Stopping = self.hand_lines(&mut reader, position, shutdown).await {
                        return Ok(Left::Stopping);
                    }
                    continue;
                }
                Fill::Truncated => return Ok(self.truncated()),
                Fill::End => {}
            }
            if rotated && (!live || quiet_since.elapsed() >= self.pace.grace) {
                return Ok(self.hand_rest(&mut reader, position, shutdown).await);
            }
            if live {
                match reader.look(&self.path).await? {
                    Seen::Same => {}
                    Seen::Elsewhere => rotated = true,
                    Seen::Truncated => return Ok(self.truncated()),
                }
            }
            if shutdown.run_until_cancelled(tokio::time::sleep(self.pace.poll)).await.is_none() {
                return Ok(Left::Stopping);
            }
        }
    }

    fn truncated(&self) -> Left {
        tracing::info!(path = self.key, "truncated");
        Left::Finished
    }

    /// Hands over all whole lines that have been read.
    async fn hand_lines(
        &self,
        reader: &mut Reader,
        position: &mut Option<FilePosition>,
        shutdown: &CancellationToken,
    ) -> Left {
        reader.skip();
        if let Some(end) = memchr::memrchr(b'\n', &reader.buffer) {
            return self.hand(reader, end + 1, position, shutdown).await;
        }
        if reader.buffer.len() > LINE_MAX {
            tracing::warn!(path = self.key, offset = reader.offset, "a line longer than {LINE_MAX} bytes is skipped");
            self.count_rejected("too_large", 1);
            reader.skipping = true;
            reader.skip();
        }
        Left::Finished
    }

    /// Hands over a last line that has no newline and will get none.
    async fn hand_rest(
        &self,
        reader: &mut Reader,
        position: &mut Option<FilePosition>,
        shutdown: &CancellationToken,
    ) -> Left {
        if reader.buffer.trim_ascii().is_empty() {
            return Left::Finished;
        }
        self.hand(reader, reader.buffer.len(), position, shutdown).await
    }

    /// Hands over the first `len` bytes of the buffer, waiting for room as long as it takes.
    async fn hand(
        &self,
        reader: &mut Reader,
        len: usize,
        position: &mut Option<FilePosition>,
        shutdown: &CancellationToken,
    ) -> Left {
        let next = FilePosition {
            path: self.key.clone(),
            identity: reader.identity(len).to_string(),
            offset: reader.offset + len as u64,
        };
        let lines = &reader.buffer[..len];
        let mut pause = self.pace.pause;
        loop {
            match self.ingest.take(lines, Encoding::Identity, &self.origin, Some(next.clone())).await {
                Ok(_) => break,
                Err(IngestError::NoRoom(reason)) => {
                    if pause == self.pace.pause {
                        tracing::warn!(path = self.key, reason, "waiting for room");
                    }
                    if shutdown.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                        return Left::Stopping;
                    }
                    pause = pause.saturating_mul(2).min(self.pace.pause_max);
                }
                // To read it again would be to stand still for ever.
                Err(error @ (IngestError::NotAudit(_) | IngestError::TooLarge { .. })) => {
                    let reason = if matches!(error, IngestError::NotAudit(_)) { "not_audit" } else { "too_large" };
                    let count = memchr::memchr_iter(b'\n', lines).count().max(1);
                    tracing::warn!(path = self.key, offset = reader.offset, lines = count, %error, "lines refused");
                    self.count_rejected(reason, count as u64);
                    break;
                }
            }
        }
        *position = Some(next);
        reader.consume(len);
        Left::Finished
    }

    fn count_rejected(&self, reason: &str, count: u64) {
        let labels = Rejected { source: self.origin.source.to_string(), reason: reason.to_owned() };
        self.metrics.events_rejected.get_or_create(&labels).inc_by(count);
    }
}

/// Logs an error, but not the same one again at every poll. A file that is not there yet is no error.
fn told_once(path: &str, error: &io::Error, told: &mut Option<String>) {
    let text = error.to_string();
    if told.as_ref() != Some(&text) {
        if error.kind() == io::ErrorKind::NotFound {
            tracing::info!(path, "the file is not there yet");
        } else {
            tracing::warn!(path, %error, "cannot read the file; trying again");
        }
        *told = Some(text);
    }
}

/// What came of reading on.
enum Fill {
    More,
    End,
    /// The file does not start as it did.
    Truncated,
}

/// What has become of a live file.
enum Seen {
    /// Nothing, or it has grown.
    Same,
    /// The path leads to another file.
    Elsewhere,
    /// It has become shorter, or starts with other bytes.
    Truncated,
}

/// A file and the part of it that waits for a newline.
struct Reader {
    file: Arc<File>,
    node: Node,
    /// The first bytes, as far as they have been written.
    head: Vec<u8>,
    /// Where the buffer starts in the file.
    offset: u64,
    buffer: Vec<u8>,
    /// In the middle of a line that is too long.
    skipping: bool,
}

impl Reader {
    fn new(part: Part) -> io::Result<Self> {
        let node = node(&part.file.metadata()?);
        let (file, offset) = (Arc::new(part.file), part.offset);
        Ok(Self { file, node, head: Vec::new(), offset, buffer: Vec::new(), skipping: false })
    }

    fn end(&self) -> u64 {
        self.offset + self.buffer.len() as u64
    }

    /// Reads up to one block more.
    async fn fill(&mut self) -> io::Result<Fill> {
        let (file, at, known) = (self.file.clone(), self.end(), self.known_head());
        let mut buffer = std::mem::take(&mut self.buffer);
        let reading = tokio::task::spawn_blocking(move || {
            let before = buffer.len();
            buffer.resize(before + BLOCK, 0);
            let read = file.read_at(&mut buffer[before..], at)?;
            buffer.truncate(before + read);
            // After the block: a file that is truncated and grows fast may have other bytes at this place.
            let head = if read > 0 { read_head(&file, HEAD_MAX)? } else { known.clone() };
            Ok::<_, io::Error>((buffer, head.starts_with(&known).then_some(head), read))
        });
        let (buffer, head, read) = reading.await.map_err(io::Error::other)??;
        let Some(head) = head else { return Ok(Fill::Truncated) };
        (self.buffer, self.head) = (buffer, head);
        Ok(if read > 0 { Fill::More } else { Fill::End })
    }

    /// Those of the first bytes that have been read, and so must not change.
    fn known_head(&self) -> Vec<u8> {
        let read = usize::try_from(self.end()).unwrap_or(HEAD_MAX);
        self.head[..self.head.len().min(read)].to_vec()
    }

    async fn look(&self, path: &Path) -> io::Result<Seen> {
        let (file, path, own, end) = (self.file.clone(), path.to_owned(), self.node, self.end());
        let known = self.known_head();
        let looking = tokio::task::spawn_blocking(move || {
            if fs::metadata(&path).is_ok_and(|metadata| node(&metadata) != own) {
                return Ok(Seen::Elsewhere);
            }
            // Also when it has grown beyond the old end since: then only the first bytes tell.
            if file.metadata()?.len() < end || read_head(&file, known.len())? != known {
                return Ok(Seen::Truncated);
            }
            Ok(Seen::Same)
        });
        looking.await.map_err(io::Error::other)?
    }

    /// Who the file is, once the first `len` bytes of the buffer have been ingested.
    fn identity(&self, len: usize) -> Identity {
        let ingested = usize::try_from(self.offset + len as u64).unwrap_or(HEAD_MAX);
        Identity::new(self.node, &self.head[..self.head.len().min(ingested)])
    }

    fn consume(&mut self, len: usize) {
        self.buffer.drain(..len);
        self.offset += len as u64;
        // One long line must not hold its memory for ever.
        self.buffer.shrink_to(self.buffer.len().max(2 * BLOCK));
    }

    /// Drops what belongs to a line that is too long.
    fn skip(&mut self) {
        if !self.skipping {
            return;
        }
        let newline = memchr::memchr(b'\n', &self.buffer);
        self.skipping = newline.is_none();
        self.consume(newline.map_or(self.buffer.len(), |at| at + 1));
    }
}
