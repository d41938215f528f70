//! The values that a group is known to have, and since when it is known at all.

use serde::{Deserialize, Serialize};

use super::Observed;
use crate::clock::Timestamp;
use crate::rule::ir::FirstSeen;

/// Values of one group; beyond them the one that was away longest goes.
const VALUES_MAX: usize = 1_000;

/// Times are kept this coarse, so that a value which is there all day is written a few times a day. It makes a value
/// known for up to so much longer.
const GRAIN: i64 = 3_600_000_000;

/// The values of one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Values {
    /// When the group was first seen, in microseconds.
    first: i64,
    /// In the order of their hashes.
    known: Vec<Known>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    value: u64,
    /// When it was last there, in grains.
    last: i64,
    /// The request that brought it.
    request: u64,
    /// Whether it was new then, and not only learned.
    told: bool,
}

impl Values {
    pub(super) fn new(time: Timestamp) -> Self {
        Self { first: time.0, known: Vec::new() }
    }

    /// When the group was first seen.
    pub(super) fn first(&self) -> Timestamp {
        Timestamp(self.first)
    }

    /// Takes a value: whether it is new, and whether anything has changed that must be kept.
    pub(super) fn take(&mut self, observed: &Observed, rule: &FirstSeen) -> (bool, bool) {
        let time = observed.time;
        let earlier = time.0 < self.first;
        self.first = self.first.min(time.0);
        let learned = time >= Timestamp(self.first).plus(rule.learning);
        let grain = time.0.div_euclid(GRAIN);
        let forget = i64::try_from(rule.forget.as_micros()).unwrap_or(i64::MAX) / GRAIN + 1;
        match self.known.binary_search_by_key(&observed.value, |known| known.value) {
            Ok(at) => {
                let known = &mut self.known[at];
                let back = grain > known.last.saturating_add(forget);
                if back {
                    (known.request, known.told) = (observed.request, learned);
                }
                let changed = grain > known.last || earlier;
                known.last = known.last.max(grain);
                (back && learned, changed)
            }
            Err(at) => {
                self.known
                    .insert(at, Known { value: observed.value, last: grain, request: observed.request, told: learned });
                self.bound(observed.value);
                (learned, true)
            }
        }
    }

    /// Whether it was this match that brought its value as a new one.
    pub(super) fn was_new(&self, observed: &Observed) -> bool {
        let known = self.known.binary_search_by_key(&observed.value, |known| known.value);
        known.is_ok_and(|at| self.known[at].told && self.known[at].request == observed.request)
    }

    /// Lets go what is too much, but not the value that has just come.
    fn bound(&mut self, just_come: u64) {
        if self.known.len() > VALUES_MAX {
            let others = self.known.iter().enumerate().filter(|(_, known)| known.value != just_come);
            if let Some((at, _)) = others.min_by_key(|(_, known)| known.last) {
                self.known.remove(at);
            }
        }
    }
}
