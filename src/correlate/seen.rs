//! Which requests were counted already: a request is one match however many of its stages and copies arrive.

use super::recent::Recent;
use std::hash::BuildHasher;

use foldhash::quality::FixedState;

use crate::engine::Match;

/// Requests that are remembered, so that their later stages and repeated deliveries change nothing.
const SEEN_MAX: usize = 262_144;

/// Requests that were counted already, by rule.
pub(super) struct Seen {
    /// Hash of rule and request, to the delivery that counted.
    deliveries: Recent<u64>,
    /// The last delivery that was found to be a duplicate: several rules may be true of one event.
    duplicate: Option<u64>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { deliveries: Recent::new(SEEN_MAX), duplicate: None }
    }
}

pub(super) enum Novelty {
    New,
    LaterStage,
    /// Delivered before; true if this is the first rule to notice.
    Duplicate(bool),
}

/// Neither part of it is for a client to choose, so that a quick hash does.
fn id(rule: &str, cluster: &str, name: u64) -> u64 {
    FixedState::default().hash_one((name, rule, cluster))
}

impl Seen {
    /// How many requests were forgotten for newer ones since the last call.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        self.deliveries.take_forgotten()
    }

    /// Whether an episode has not come before.
    pub(super) fn add_episode(&mut self, rule: &str, cluster: &str, name: u64) -> bool {
        let id = id(rule, cluster, name);
        let new = self.deliveries.get(id).is_none();
        if new {
            self.deliveries.insert(id, name);
        }
        new
    }

    /// Whether a match is the first of its request.
    pub(super) fn add(&mut self, found: &Match) -> Novelty {
        let id = id(&found.rule, &found.cluster, found.request);
        match self.deliveries.get(id) {
            Some(delivery) if *delivery == found.delivery => {
                let first = self.duplicate != Some(found.delivery);
                self.duplicate = Some(found.delivery);
                Novelty::Duplicate(first)
            }
            Some(_) => Novelty::LaterStage,
            None => {
                self.deliveries.insert(id, found.delivery);
                Novelty::New
            }
        }
    }
}
