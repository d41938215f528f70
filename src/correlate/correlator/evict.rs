//! Too many groups: which one goes, and what is remembered of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::key::Key;
use super::super::recent::Recent;
use super::super::reuse;
use super::super::window::Entry;
use super::{Correlator, Fed, KeyId, asks_baselines, resolve_told};
use crate::clock::Timestamp;
use crate::engine::Consumer;
use crate::hash;

/// Groups that eviction compares before it lets one go.
const EVICTION_SAMPLE: usize = 32;

/// Groups that were let go of which the window is remembered, over all rules: some 200 bytes each, a tenth of what a
/// group costs.
const GHOSTS_MAX: usize = 1_000_000;

/// Matches that are remembered of each.
const ENTRIES_MAX: usize = 16;

/// The windows of groups that were let go before they fired. A flood of invented names pushes out whoever is slow, and
/// gets him nothing: with his next match the group is what it was.
pub(super) struct Ghosts(Recent<Box<[Entry]>>);

impl Default for Ghosts {
    fn default() -> Self {
        Self(Recent::new(GHOSTS_MAX))
    }
}

impl Ghosts {
    /// How many windows were forgotten for newer ones since the last call.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        self.0.take_forgotten()
    }

    fn keep(&mut self, id: &KeyId, key: &Key, consumer: &Consumer) {
        // What an episode was told, it was told; and of what is usual the baselines know.
        if consumer.single || asks_baselines(consumer) || !key.is_idle() {
            return;
        }
        let slim = |entry: &Entry| Entry { shown: None, audit_id: Arc::clone(&entry.audit_id), ..entry.clone() };
        self.0.insert(name(id, consumer), key.window().rev().take(ENTRIES_MAX).map(slim).collect());
    }

    /// The group as it was when it was let go, or a new one.
    pub(super) fn recall(&mut self, id: &KeyId, consumer: &Consumer) -> Key {
        let mut key = Key::default();
        if !self.0.is_empty()
            && let Some(entries) = self.0.remove(name(id, consumer))
        {
            for entry in entries.into_iter().rev() {
                key.push(entry, consumer);
            }
        }
        key
    }
}

fn name((_, cluster, group): &KeyId, consumer: &Consumer) -> u64 {
    // With the fingerprint: the windows of a rule that was changed mean nothing to it.
    let rule = consumer.fingerprint.to_le_bytes();
    hash::short(&[consumer.info.id.as_bytes(), &rule, cluster.as_bytes(), group.as_bytes()])
}

impl Correlator {
    /// Puts a request that bears the Audit-ID of another where those with a chosen one are.
    pub(super) fn reused(&mut self, fed: &Fed, request: u64, time: Timestamp, safe: Timestamp) {
        let group = BTreeMap::from([("auditID".to_owned(), Value::from(&*fed.audit_id))]);
        let (cluster, audit_id) = (Arc::clone(&fed.cluster), Arc::clone(&fed.audit_id));
        let (fields, shown, again) = (Arc::clone(&fed.fields), fed.shown.clone(), self.was_there(&cluster, time));
        let fed = Fed { cluster, time, request, audit_id, group, fields, shown, again };
        let rules = Arc::clone(&self.rules);
        for &place in rules.consumers_of(reuse::CHOSEN).iter().filter(|place| !rules.consumers()[place.0].single) {
            self.feed(place, &fed, safe);
        }
    }

    /// Lets a group go: of the longest quiet ones the one that is farthest from firing, so that a flood of new names
    /// cannot push out a group that is about to fire.
    pub(super) fn evict(&mut self, consumer: usize) {
        let sample = self.quiet[consumer].iter().take(EVICTION_SAMPLE);
        let progress = |at: usize| self.held[at].as_ref().map_or(0, |held| held.key.progress());
        let Some(at) = sample.map(|(_, at)| *at).min_by_key(|at| progress(*at)) else { return };
        let id = self.rules.consumers()[consumer].info.id.clone();
        *self.stats.evictions.entry(id).or_default() += 1;
        if let Some(held) = self.held[at].as_mut() {
            self.ghosts.keep(&held.id, &held.key, &self.rules.consumers()[consumer]);
            self.changes.extend(resolve_told(&self.rules.consumers()[consumer], held));
        }
        self.drop_key(at);
    }
}
