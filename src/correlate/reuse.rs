//! Different requests under one Audit-ID. An API server makes a UUID for each request, unless the client sends one.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use super::recent::Recent;
use crate::clock::Timestamp;
use crate::engine::Match;

/// The built-in rule about Audit-IDs that clients chose (`detections/audit/audit-id-reused.yml`). An Audit-ID that is no
/// UUID is chosen for certain, and the rule sees that itself; of a UUID only a second request can tell.
pub(super) const CHOSEN: &str = "0d3f5f6c-4b7e-4a3e-8f0e-9b1c3c9f2b61";

/// Audit-IDs of matches that are remembered.
const KNOWN_MAX: usize = 262_144;

/// Which request each Audit-ID belongs to.
pub(super) struct AuditIds {
    known: Recent<Known>,
    /// Clients choose them: nobody may know which two have one hash.
    hashes: RandomState,
    /// The last one that was noted, and its request: several rules may be true of one event.
    last: Option<(Arc<str>, u64)>,
}

impl Default for AuditIds {
    fn default() -> Self {
        Self { known: Recent::new(KNOWN_MAX), hashes: RandomState::default(), last: None }
    }
}

struct Known {
    request: u64,
    time: Timestamp,
    reused: bool,
}

impl AuditIds {
    /// How many Audit-IDs were forgotten for newer ones since the last call.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        self.known.take_forgotten()
    }

    /// Notes a match's Audit-ID. Gives the requests, with their times, that it shows to bear one that another had: the
    /// first time also that other one.
    pub(super) fn note(&mut self, found: &Match, time: Timestamp) -> Vec<(u64, Timestamp)> {
        let same_event =
            |(id, request): &(Arc<str>, u64)| Arc::ptr_eq(id, &found.audit_id) && *request == found.request;
        if self.last.as_ref().is_some_and(same_event) || !is_uuid(&found.audit_id) {
            return Vec::new();
        }
        self.last = Some((Arc::clone(&found.audit_id), found.request));
        let id = self.hashes.hash_one((&*found.cluster, &*found.audit_id));
        if let Some(known) = self.known.get_mut(id) {
            if known.request == found.request {
                return Vec::new();
            }
            // What is shown of both is the event at hand, so it has to be the later one.
            let first = (!known.reused).then_some((known.request, known.time.min(time)));
            *known = Known { request: found.request, time, reused: true };
            return first.into_iter().chain([(found.request, time)]).collect();
        }
        self.known.insert(id, Known { request: found.request, time, reused: false });
        Vec::new()
    }
}

/// Whether an API server may have made it.
pub(super) fn is_uuid(text: &str) -> bool {
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, byte): (usize, u8)| if dash(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}
