//! Whether the daemon is ready, and if not, why.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Why the daemon is not ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Unready {
    /// Not all parts run yet.
    Starting,
    /// Told to stop.
    Draining,
    /// The last reload was not taken: what runs is not what was asked for.
    ReloadFailed,
    /// Nothing can be acknowledged, because nothing more can be made durable.
    JournalFull,
    /// The source of this number has never been reached since the start.
    Source(usize),
    /// The state database, or the journal in Kafka, answers with errors.
    Database,
}

/// What holds against being ready. Set by whoever knows, read by `/readyz` and `/api/v1/status`.
#[derive(Debug)]
pub struct Health {
    reasons: Mutex<BTreeMap<Unready, String>>,
}

impl Health {
    /// Of a daemon that is starting; [`Unready::Starting`] is cleared when everything runs.
    #[must_use]
    pub fn starting() -> Self {
        Self { reasons: Mutex::new(BTreeMap::from([(Unready::Starting, "starting".to_owned())])) }
    }

    /// Not ready from now on, for a reason in words for people.
    pub fn set(&self, reason: Unready, words: impl Into<String>) {
        self.lock().insert(reason, words.into());
    }

    /// The reason is gone.
    pub fn clear(&self, reason: Unready) {
        self.lock().remove(&reason);
    }

    /// Everything that holds against being ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Unready, String>> {
        // The map is whole after every change, so a panic elsewhere cannot have broken it.
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_nothing_holds_against_it() {
        let health = Health::starting();
        assert_eq!(health.reasons(), ["starting"]);
        health.set(Unready::ReloadFailed, "reload: rules/a.yml: no condition");
        health.clear(Unready::Starting);
        assert_eq!(health.reasons(), ["reload: rules/a.yml: no condition"]);
        health.clear(Unready::ReloadFailed);
        assert!(health.reasons().is_empty());
    }
}
