//! Where events come from: each source hands batches to [`crate::pipeline::Ingest`] and acknowledges on its `Ok`.

pub mod file;
pub mod kafka;
pub mod webhook;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pipeline::{Encoding, Ingest, IngestError, Origin, Part, Receipt};
use crate::store::FilePosition;

/// Characters in a cluster's name: the length of a DNS name.
const CLUSTER_NAME_MAX: usize = 253;

/// A name that may be a cluster's label, whoever tells it: 1 to 253 visible characters.
fn cluster_name(text: &str) -> Option<&str> {
    // Letters of all scripts are visible; spaces, controls and characters that turn text around are not.
    let visible = |c: char| c.is_ascii_graphic() || c.is_alphanumeric();
    let fits = !text.is_empty() && text.chars().count() <= CLUSTER_NAME_MAX && text.chars().all(visible);
    fits.then_some(text)
}

/// One entry of `sources:`, by `type`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SourceConfig {
    /// kube-apiserver's audit webhook.
    Webhook(webhook::WebhookConfig),
    /// A log file that is followed.
    File(file::FileConfig),
    /// Topics of Kafka.
    Kafka(kafka::KafkaConfig),
}

impl SourceConfig {
    /// Its name in metrics.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Webhook(webhook) => &webhook.name,
            Self::File(file) => &file.name,
            Self::Kafka(kafka) => &kafka.name,
        }
    }

    /// The webhook, if it is one: the only kind that we can put something into ourselves.
    #[must_use]
    pub fn webhook(&self) -> Option<&webhook::WebhookConfig> {
        match self {
            Self::Webhook(webhook) => Some(webhook),
            Self::File(_) | Self::Kafka(_) => None,
        }
    }
}

/// What a source hands its batches to: [`Ingest`], or a recording double in tests of the sources themselves.
pub trait Intake: Clone + Send + Sync + 'static {
    /// As [`Ingest::ingest`]: `Ok` is the acknowledgement, and a refused batch left no trace.
    fn take(
        &self,
        body: &[u8],
        encoding: Encoding,
        origin: &Origin,
        position: Option<FilePosition>,
    ) -> impl Future<Output = Result<Receipt, IngestError>> + Send;

    /// As [`Ingest::ingest_all`].
    fn take_all(
        &self,
        parts: &[Part<'_>],
        source: &Arc<str>,
        max_body: u64,
    ) -> impl Future<Output = Result<Receipt, IngestError>> + Send;
}

impl Intake for Ingest {
    async fn take(
        &self,
        body: &[u8],
        encoding: Encoding,
        origin: &Origin,
        position: Option<FilePosition>,
    ) -> Result<Receipt, IngestError> {
        self.ingest(body, encoding, origin, position).await
    }

    async fn take_all(&self, parts: &[Part<'_>], source: &Arc<str>, max_body: u64) -> Result<Receipt, IngestError> {
        self.ingest_all(parts, source, max_body).await
    }
}

#[cfg(test)]
pub(crate) mod testing {
    //! An intake that records what it is given and answers as it is told.

    use std::collections::VecDeque;
    use std::sync::Mutex;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    /// One batch as it was handed over.
    #[derive(Clone, Debug)]
    pub(crate) struct Taken {
        pub(crate) body: Vec<u8>,
        pub(crate) encoding: Encoding,
        pub(crate) origin: Origin,
        pub(crate) position: Option<FilePosition>,
    }

    /// Records batches that it accepts; the next answers can be set, and it can be held.
    #[derive(Clone)]
    pub(crate) struct Recorder {
        taken: Arc<Mutex<Vec<Taken>>>,
        refusals: Arc<Mutex<VecDeque<IngestError>>>,
        gate: Arc<Semaphore>,
        pub(crate) entered: Arc<Semaphore>,
    }

    impl Default for Recorder {
        fn default() -> Self {
            Self {
                taken: Arc::default(),
                refusals: Arc::default(),
                gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
                entered: Arc::new(Semaphore::new(0)),
            }
        }
    }

    impl Recorder {
        /// Holds every batch until [`Self::release`].
        pub(crate) fn held() -> Self {
            Self { gate: Arc::new(Semaphore::new(0)), ..Self::default() }
        }

        pub(crate) fn release(&self) {
            self.gate.add_permits(Semaphore::MAX_PERMITS);
        }

        /// Refuses the next batch so.
        pub(crate) fn refuse(&self, error: IngestError) {
            self.refusals.lock().unwrap().push_back(error);
        }

        pub(crate) fn taken(&self) -> Vec<Taken> {
            self.taken.lock().unwrap().clone()
        }

        /// All bodies one after the other.
        pub(crate) fn text(&self) -> String {
            self.taken().iter().map(|taken| String::from_utf8_lossy(&taken.body).into_owned()).collect()
        }
    }

    impl Intake for Recorder {
        async fn take(
            &self,
            body: &[u8],
            encoding: Encoding,
            origin: &Origin,
            position: Option<FilePosition>,
        ) -> Result<Receipt, IngestError> {
            self.entered.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
            if let Some(error) = self.refusals.lock().unwrap().pop_front() {
                return Err(error);
            }
            let events = body.iter().filter(|&&byte| byte == b'\n').count() as u64;
            self.taken.lock().unwrap().push(Taken { body: body.to_vec(), encoding, origin: origin.clone(), position });
            Ok(Receipt { events, rejected: 0, matches: 0 })
        }

        async fn take_all(&self, parts: &[Part<'_>], source: &Arc<str>, max_body: u64) -> Result<Receipt, IngestError> {
            self.entered.add_permits(1);
            self.gate.acquire().await.unwrap().forget();
            if let Some(error) = self.refusals.lock().unwrap().pop_front() {
                return Err(error);
            }
            let taken = parts.iter().map(|part| Taken {
                body: part.body.to_vec(),
                encoding: Encoding::Detect,
                origin: Origin { source: Arc::clone(source), cluster: Arc::clone(part.cluster), max_body },
                position: None,
            });
            self.taken.lock().unwrap().extend(taken);
            Ok(Receipt { events: parts.len() as u64, rejected: 0, matches: 0 })
        }
    }

    /// Awaits that something becomes true, at most ten seconds.
    pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
        for _ in 0..2_000 {
            if condition() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("waited in vain: {what}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_names_are_visible_and_short() {
        assert_eq!(cluster_name("arn:aws:eks:eu-west-1:1:cluster/prod"), Some("arn:aws:eks:eu-west-1:1:cluster/prod"));
        for wrong in ["", "a b", "a\n", "\u{202e}x", &"x".repeat(254)] {
            assert_eq!(cluster_name(wrong), None, "{wrong:?}");
        }
    }
}
