//! The way in and what follows it: [`Ingest::ingest`] journals matches and acknowledges, [`correlating`] turns the
//! journal into alerts.

pub mod canary;
pub mod correlating;
pub mod newest;
pub mod onlookers;
pub mod pulse;
pub mod rejects;
#[cfg(feature = "kafka")]
pub mod shared;
pub mod watermarks;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use crate::alert::CANARY;
use crate::clock;
use crate::correlate::SKEW_MAX;
use crate::engine::{Detected, Detector, Match, Rejected, RuleSet};
use crate::event::compress::{DecompressError, decompress};
use crate::metrics::{Metrics, Rejected as RejectedLabel, Source, SourceCluster};
use crate::store::{Append, FilePosition, Journal, StoreError};

use newest::Newest;
use onlookers::Onlookers;
use rejects::Rejects;
use watermarks::Watermarks;

pub use crate::event::compress::Encoding;

/// Scratches that are kept for the next batch.
const POOL_MAX: usize = 64;

/// Where a batch came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The source's name in metrics: `webhook`, `file`, or the configured `name`.
    pub source: Arc<str>,
    /// The cluster label for events that name none.
    pub cluster: Arc<str>,
    /// The source itself says which cluster that is: then it holds whatever an envelope calls it.
    pub names_cluster: bool,
    /// Bytes that a body may have after decompression.
    pub max_body: u64,
}

/// One of several bodies that are taken together: a message of a topic.
#[derive(Clone, Copy)]
pub struct Part<'b> {
    /// Its bytes; their compression is told from the first ones.
    pub body: &'b [u8],
    /// The cluster label for events that name none.
    pub cluster: &'b Arc<str>,
    /// As [`Origin::names_cluster`].
    pub names_cluster: bool,
    /// Where it came from, for whoever reads the rejects file.
    pub place: &'b (dyn fmt::Display + Sync),
}

impl Part<'_> {
    /// Where it came from, as one that is taken alone says it.
    #[must_use]
    pub fn origin(&self, source: &Arc<str>, max_body: u64) -> Origin {
        let (source, cluster) = (Arc::clone(source), Arc::clone(self.cluster));
        Origin { source, cluster, names_cluster: self.names_cluster, max_body }
    }
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
pub struct Ingest {
    inner: Arc<Inner>,
}

struct Inner {
    rules: Arc<ArcSwap<RuleSet>>,
    journal: Journal,
    metrics: Arc<Metrics>,
    watermarks: Arc<Watermarks>,
    rejects: Rejects,
    newest: Newest,
    onlookers: Onlookers,
    /// Set when the store has refused a batch for want of room, until it is found to have some.
    full: AtomicBool,
    /// Scratches that no batch is using.
    pool: Mutex<Vec<Detector>>,
}

impl Ingest {
    /// A way in to `journal`. `rules` may be swapped at any time; a batch sees one set from its beginning to its end.
    #[must_use]
    pub fn new(
        rules: Arc<ArcSwap<RuleSet>>,
        journal: impl Into<Journal>,
        metrics: Arc<Metrics>,
        watermarks: Arc<Watermarks>,
        rejects: Rejects,
    ) -> Self {
        let journal = journal.into();
        let (newest, onlookers) = (Newest::default(), Onlookers::default());
        let (full, pool) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        Self { inner: Arc::new(Inner { rules, journal, metrics, watermarks, rejects, newest, onlookers, full, pool }) }
    }

    /// Takes one batch: decompresses, frames, matches, journals. Returns when everything that an alert may need is
    /// durable. CPU work happens on the caller's task.
    pub async fn ingest(
        &self,
        body: &[u8],
        encoding: Encoding,
        origin: &Origin,
        position: Option<FilePosition>,
    ) -> Result<Receipt, IngestError> {
        // Nobody holds a scratch while a disk is waited for: they are large, and a thousand batches may wait at once.
        let (mut detector, mut detected) = (self.detector(), Detected::default());
        let outcome = self.detect(body, encoding, origin, &mut detector, &mut detected);
        self.give_back(detector);
        let bytes = outcome?;
        let matches = std::mem::take(&mut detected.matches);
        let ahead = ahead(&matches);
        let receipt =
            Receipt { events: detected.events, rejected: detected.rejects.count(), matches: matches.len() as u64 };
        // The rule of canaries cannot be true of what others send.
        let own = receipt.events == 1 && matches.iter().any(|found| &*found.rule == CANARY);
        self.append(matches, position, &origin.source).await?;
        self.advance(&mut detected, origin);
        if !own {
            self.count(&detected, bytes, ahead, origin);
        }
        Ok(receipt)
    }

    /// Takes several bodies as one batch: one that is no audit log costs its neighbours nothing, and is rejected with its
    /// place. All are durable when this returns, or none has left a trace. Neighbours of one cluster are counted together.
    /// The only error is [`IngestError::NoRoom`].
    pub async fn ingest_all(
        &self,
        parts: &[Part<'_>],
        source: &Arc<str>,
        max_body: u64,
    ) -> Result<Receipt, IngestError> {
        let (mut receipt, mut matches, mut seen) = (Receipt::default(), Vec::new(), Vec::new());
        let mut detector = self.detector();
        for run in parts.chunk_by(|a, b| (a.cluster, a.names_cluster) == (b.cluster, b.names_cluster)) {
            let origin = run[0].origin(source, max_body);
            let mut detected = Detected::default();
            let bytes = run.iter().map(|part| self.detect_part(part, &origin, &mut detector, &mut detected)).sum();
            let ahead = ahead(&detected.matches);
            matches.append(&mut detected.matches);
            receipt.events += detected.events;
            receipt.rejected += detected.rejects.count();
            seen.push((detected, bytes, ahead, origin));
        }
        self.give_back(detector);
        receipt.matches = matches.len() as u64;
        self.append(matches, None, source).await?;
        for (detected, bytes, ahead, origin) in &mut seen {
            self.advance(detected, origin);
            self.count(detected, *bytes, *ahead, origin);
        }
        Ok(receipt)
    }

    /// Looks at one of several bodies; its size after decompression. Whatever is wrong with it is a reject of its own.
    fn detect_part(&self, part: &Part<'_>, origin: &Origin, detector: &mut Detector, detected: &mut Detected) -> u64 {
        let before = detected.rejects.mark();
        let outcome = self.detect(part.body, Encoding::Detect, origin, detector, detected);
        for reject in detected.rejects.kept_since(&before) {
            reject.place = format!("{}: {}", part.place, reject.place);
        }
        let error = match outcome {
            Ok(bytes) => return bytes,
            Err(error) => error,
        };
        // Where pieces were refused, they say it better.
        if !detected.rejects.has_more_than(&before) {
            let reason = if matches!(error, IngestError::TooLarge { .. }) { "too_large" } else { "not_audit" };
            detected.rejects.push(reason, || Rejected {
                place: part.place.to_string(),
                reason,
                detail: error.to_string(),
                bytes: part.body.len(),
                hash: Rejected::hash(part.body),
            });
        }
        0
    }

    async fn append(
        &self,
        matches: Vec<Match>,
        position: Option<FilePosition>,
        source: &str,
    ) -> Result<(), IngestError> {
        let outcome = self.inner.journal.append(&self.inner.rules.load_full(), Append { matches, position }).await;
        if matches!(outcome, Err(StoreError::Full(_))) {
            self.inner.full.store(true, Ordering::Relaxed);
        }
        match outcome {
            Ok(()) => Ok(()),
            Err(error @ (StoreError::Full(_) | StoreError::Closed)) => Err(IngestError::NoRoom(error.to_string())),
            Err(error) => {
                tracing::error!(%error, source, "a batch could not be journaled; it was refused");
                Err(IngestError::NoRoom(error.to_string()))
            }
        }
    }

    /// The newest event of each source and cluster.
    #[must_use]
    pub fn newest(&self) -> &Newest {
        &self.inner.newest
    }

    /// Those who look at events as they come in.
    #[must_use]
    pub fn onlookers(&self) -> &Onlookers {
        &self.inner.onlookers
    }

    /// Whether a batch was refused for want of room and there is none still. The store is asked, because what is taken
    /// says nothing: a batch without matches needs no room, and one that is not ready may be sent no other.
    pub async fn is_full(&self) -> bool {
        if !self.inner.full.swap(false, Ordering::Relaxed) {
            return false;
        }
        let full = matches!(self.inner.journal.room().await, Err(StoreError::Full(_)));
        if full {
            self.inner.full.store(true, Ordering::Relaxed);
        }
        full
    }

    /// Adds what it finds in a body to what was detected; returns the body's size after decompression.
    fn detect(
        &self,
        body: &[u8],
        encoding: Encoding,
        origin: &Origin,
        detector: &mut Detector,
        detected: &mut Detected,
    ) -> Result<u64, IngestError> {
        let body = decompress(body, encoding, origin.max_body).map_err(|error| match error {
            DecompressError::TooLarge(limit) => IngestError::TooLarge { limit },
            corrupt @ DecompressError::Corrupt(..) => IngestError::NotAudit(format!("the body is {corrupt}")),
        })?;
        let before = detected.mark();
        let rules = self.inner.rules.load();
        let looked = catch_unwind(AssertUnwindSafe(|| match origin.names_cluster {
            true => detector.body_of(&rules, &origin.cluster, &body, detected),
            false => detector.body(&rules, &origin.cluster, &body, detected),
        }));
        // A mistake in here costs one body: were it sent again, the next answer would be the same.
        let Ok(looked) = looked else {
            *detector = Detector::default();
            detected.back_to(before);
            tracing::error!(
                source = &*origin.source,
                bytes = body.len(),
                "internal error, please report; a batch was refused"
            );
            return Err(IngestError::NotAudit("internal error, please report".to_owned()));
        };
        looked.map_err(|error| IngestError::NotAudit(error.to_string()))?;
        let found = detected.matches_since(&before);
        for found in &mut *found {
            found.source = Arc::clone(&origin.source);
        }
        if self.inner.onlookers.are_there() && !found.iter().any(|found| &*found.rule == CANARY) {
            self.show(&body, origin, detector);
        }
        Ok(body.len() as u64)
    }

    /// Shows a body to those who look on. What goes wrong with that is no reason to refuse it.
    fn show(&self, body: &[u8], origin: &Origin, detector: &mut Detector) {
        let showing = || self.inner.onlookers.show(body, origin, detector);
        if catch_unwind(AssertUnwindSafe(showing)).is_err() {
            *detector = Detector::default();
            tracing::error!(
                source = &*origin.source,
                "internal error, please report; a batch was not shown to onlookers"
            );
        }
    }

    /// Notes how far event time has come; one event from the far future must not carry it there.
    fn advance(&self, detected: &mut Detected, origin: &Origin) {
        let now = clock::now();
        let named = detected.named.values_mut().map(|seen| &mut seen.newest);
        for newest in named.chain([&mut detected.newest]).flatten() {
            *newest = (*newest).min(now.plus(SKEW_MAX));
        }
        for (cluster, seen) in detected.by_cluster(&origin.cluster) {
            if let Some(newest) = seen.newest {
                self.inner.watermarks.seen(cluster, newest, now, clock::steady());
            }
        }
    }

    /// Counts an accepted batch, and keeps what was rejected in it. Not for the daemon's own canary: a cluster that is
    /// silent must not look as if it were not.
    fn count(&self, detected: &Detected, bytes: u64, ahead: u64, origin: &Origin) {
        let Inner { metrics, rejects, newest: seen, .. } = &*self.inner;
        let source = origin.source.to_string();
        for (cluster, of_cluster) in detected.by_cluster(&origin.cluster) {
            let cluster = metrics.clusters.label(cluster);
            let labels = SourceCluster { source: source.clone(), cluster: cluster.to_string() };
            if let Some(newest) = of_cluster.newest {
                let newest = seen.note(&origin.source, &cluster, newest);
                metrics.last_event.get_or_create(&labels).set(newest.as_seconds());
            }
            metrics.events.get_or_create(&labels).inc_by(of_cluster.events);
        }
        let of_source = Source { source: source.clone() };
        metrics.event_bytes.get_or_create(&of_source).inc_by(bytes);
        metrics.events_ahead.get_or_create(&of_source).inc_by(ahead);
        metrics.events_truncated.get_or_create(&of_source).inc_by(detected.truncated);
        metrics.records_skipped.get_or_create(&of_source).inc_by(detected.skipped);
        for (reason, count) in detected.rejects.by_reason() {
            let labels = RejectedLabel { source: source.clone(), reason: reason.to_owned() };
            metrics.events_rejected.get_or_create(&labels).inc_by(count);
        }
        rejects.keep(detected.rejects.kept(), origin);
    }

    fn detector(&self) -> Detector {
        self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    fn give_back(&self, detector: Detector) {
        let mut pool = self.inner.pool.lock().unwrap_or_else(PoisonError::into_inner);
        if pool.len() < POOL_MAX {
            pool.push(detector);
        }
    }
}

/// Matches dated further ahead of the clock than clocks differ.
fn ahead(matches: &[Match]) -> u64 {
    let bound = clock::now().plus(SKEW_MAX);
    matches.iter().filter(|found| found.time > bound).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Commit, Limits, Store};

    #[tokio::test]
    async fn full_lasts_until_there_is_room_whatever_needs_none() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open_with(dir.path(), Limits { journal_rows_max: 1, ..Limits::default() }).unwrap();
        let rule = "title: R\nid: r\nlogsource: {product: kubernetes, service: audit}\n\
            detection: {sel: {verb: get}, condition: sel}\n";
        let loaded = crate::rule::load::load_text("r.yml".as_ref(), rule);
        let rules = Arc::new(ArcSwap::from_pointee(RuleSet::compile(loaded.rules, std::time::Duration::ZERO)));
        let (metrics, watermarks) = (Arc::new(Metrics::new()), Arc::new(Watermarks::default()));
        let ingest = Ingest::new(rules, store.clone(), metrics, watermarks, Rejects::new(dir.path()));
        let origin =
            Origin { source: "webhook".into(), cluster: "prod".into(), names_cluster: false, max_body: 1 << 20 };
        let post = async |verb: &str| {
            let event = serde_json::json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
                "auditID": "a", "stage": "ResponseComplete", "verb": verb, "requestURI": "/",
                "stageTimestamp": "2026-11-21T04:00:00.000000Z"});
            ingest.ingest(event.to_string().as_bytes(), Encoding::Identity, &origin, None).await
        };
        assert_eq!(post("get").await.unwrap().matches, 1);
        assert!(!ingest.is_full().await);
        assert!(matches!(post("get").await, Err(IngestError::NoRoom(_))));
        assert!(ingest.is_full().await);
        assert_eq!(post("list").await.unwrap().matches, 0);
        assert!(ingest.is_full().await, "what needs no room says nothing about it");
        store.commit(Commit { cursor: 1, changes: Vec::new(), ..Commit::default() }).await.unwrap();
        assert!(!ingest.is_full().await);
        post("get").await.unwrap();
    }
}
