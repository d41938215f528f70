//! Which requests were counted already: a request is one match however many of its stages and copies arrive.

use super::recent::Recent;
use crate::engine::Match;
use crate::hash;

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

impl Seen {
    /// How many requests were forgotten for newer ones since the last call.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        self.deliveries.take_forgotten()
    }

    /// Whether an episode has not come before.
    pub(super) fn add_episode(&mut self, rule: &str, cluster: &str, name: u64) -> bool {
        let id = hash::short(&[&name.to_le_bytes(), rule.as_bytes(), cluster.as_bytes()]);
        let new = self.deliveries.get(id).is_none();
        if new {
            self.deliveries.insert(id, name);
        }
        new
    }

    /// Whether a match is the first of its request.
    pub(super) fn add(&mut self, found: &Match) -> Novelty {
        let id = hash::short(&[&found.request.to_le_bytes(), found.rule.as_bytes(), found.cluster.as_bytes()]);
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
