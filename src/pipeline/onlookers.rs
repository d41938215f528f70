//! Those who look at events as they come in, for as long as they look: `kubesiren tail --events`.
//!
//! What they want to see is a rule of their own, which every body is shown to while it is in memory. An onlooker who is slow
//! holds nobody up: what there is no room for is counted, not kept. Nothing that they see decides anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::Origin;
use crate::alert::EventExcerpt;
use crate::engine::{Detected, Detector, RuleSet};
use crate::event::Framed;
use crate::event::frame::{frame_from, told_apart};
use crate::rule::wanted::Wanted;

/// Each looks at every event once more.
pub const ONLOOKERS_MAX: usize = 4;
/// Events that wait to be taken by one of them.
const WAITING_MAX: usize = 256;

/// An event as an onlooker sees it: without bodies, and with secrets redacted.
#[derive(Clone, Debug)]
pub struct Glimpse {
    /// The cluster label.
    pub cluster: Arc<str>,
    /// The source that delivered it, by its name.
    pub source: Arc<str>,
    /// What happened.
    pub event: EventExcerpt,
}

/// All who look on. Cheap to clone.
#[derive(Clone, Default)]
pub struct Onlookers {
    all: Arc<ArcSwap<Vec<Arc<Onlooker>>>>,
}

struct Onlooker {
    rules: RuleSet,
    glimpses: mpsc::Sender<Glimpse>,
    missed: AtomicU64,
}

/// Why nobody more may look.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What is wanted is not right.
    #[error("{0}")]
    Wrong(String),
    /// There are enough.
    #[error("{ONLOOKERS_MAX} look at events already; each costs as much as all rules look at them once more")]
    Full,
}

/// What one sees; looking ends with it.
pub struct View {
    /// The events, as they come.
    pub glimpses: mpsc::Receiver<Glimpse>,
    onlooker: Arc<Onlooker>,
    onlookers: Onlookers,
}

impl View {
    /// Events since the last call that were not looked at, because the ones before had not been taken yet.
    #[must_use]
    pub fn take_missed(&self) -> u64 {
        self.onlooker.missed.swap(0, Ordering::Relaxed)
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.onlookers
            .all
            .rcu(|all| all.iter().filter(|other| !Arc::ptr_eq(other, &self.onlooker)).cloned().collect::<Vec<_>>());
    }
}

impl Onlookers {
    /// Begins to look.
    pub fn look(&self, wanted: &Wanted) -> Result<View, Refusal> {
        // Asked twice: nobody shall compile in vain, and others may come meanwhile.
        if self.all.load().len() >= ONLOOKERS_MAX {
            return Err(Refusal::Full);
        }
        let rules = RuleSet::compile(wanted.rule().map_err(Refusal::Wrong)?, Duration::ZERO);
        let (sender, glimpses) = mpsc::channel(WAITING_MAX);
        let onlooker = Arc::new(Onlooker { rules, glimpses: sender, missed: AtomicU64::new(0) });
        let mut full = false;
        self.all.rcu(|all| {
            full = all.len() >= ONLOOKERS_MAX;
            let mut all = Vec::clone(all);
            all.extend((!full).then(|| Arc::clone(&onlooker)));
            all
        });
        if full { Err(Refusal::Full) } else { Ok(View { glimpses, onlooker, onlookers: self.clone() }) }
    }

    /// Whether anybody looks: all that it costs while nobody does.
    #[must_use]
    pub(super) fn are_there(&self) -> bool {
        !self.all.load().is_empty()
    }

    /// Shows them a body that is right, decompressed.
    pub(super) fn show(&self, body: &[u8], origin: &Origin, detector: &mut Detector) {
        for onlooker in self.all.load().iter() {
            onlooker.look_at(body, origin, detector);
        }
    }
}

impl Onlooker {
    fn look_at(&self, body: &[u8], origin: &Origin, detector: &mut Detector) {
        let mut found = Detected::default();
        // It was framed before: whatever is wrong in it has been said.
        let _ = frame_from(body, 0, |piece, named| match piece {
            Framed::First(_) => Err(told_apart()),
            Framed::Bad(_) => Ok(0),
            Framed::Event(bytes) => {
                match self.glimpses.try_reserve() {
                    Err(_) => {
                        self.missed.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(place) => {
                        let named = named.filter(|_| !origin.names_cluster).map(Arc::from);
                        let cluster = named.unwrap_or_else(|| Arc::clone(&origin.cluster));
                        found.clear();
                        detector.event(&self.rules, &cluster, bytes, &mut found);
                        if let Some(found) = found.matches.pop() {
                            place.send(Glimpse {
                                cluster,
                                source: Arc::clone(&origin.source),
                                event: found.shown.event(),
                            });
                        }
                    }
                }
                Ok(bytes.len())
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn origin() -> Origin {
        Origin { source: "webhook".into(), cluster: "prod".into(), names_cluster: false, max_body: 1 << 20 }
    }

    fn list(verbs: &[&str]) -> Vec<u8> {
        let event = |verb: &&str| {
            json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "auditID": "a",
                "stage": "ResponseComplete", "verb": verb, "requestURI": "/api/v1/x?access_token=hidden",
                "requestObject": {"data": {"password": "hidden"}}, "stageTimestamp": "2026-11-21T04:00:00.000000Z"})
        };
        let items: Vec<_> = verbs.iter().map(event).collect();
        json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": items}).to_string().into_bytes()
    }

    fn wanted(item: &str) -> Wanted {
        Wanted { items: vec![item.to_owned()], ..Wanted::default() }
    }

    #[test]
    fn they_see_what_they_want_to_see_without_secrets() {
        let onlookers = Onlookers::default();
        let mut view = onlookers.look(&wanted("verb: delete")).expect("room");
        onlookers.show(&list(&["get", "delete", "list", "delete"]), &origin(), &mut Detector::default());
        for _ in 0..2 {
            let seen = view.glimpses.try_recv().expect("there");
            assert_eq!((&*seen.cluster, &*seen.source, &*seen.event.verb), ("prod", "webhook", "delete"));
            assert!(!format!("{seen:?}").contains("hidden"), "{seen:?}");
        }
        assert!(view.glimpses.try_recv().is_err());
        assert_eq!(view.take_missed(), 0);
        drop(view);
        assert!(!onlookers.are_there());
    }

    #[test]
    fn who_is_slow_misses_some_and_is_told() {
        let onlookers = Onlookers::default();
        let mut view = onlookers.look(&Wanted::default()).expect("room");
        onlookers.show(&list(&vec!["get"; WAITING_MAX + 44]), &origin(), &mut Detector::default());
        assert_eq!(view.take_missed(), 44);
        assert_eq!(view.take_missed(), 0);
        let mut seen = 0;
        while view.glimpses.try_recv().is_ok() {
            seen += 1;
        }
        assert_eq!(seen, WAITING_MAX);
    }

    #[test]
    fn there_is_room_for_a_few() {
        let onlookers = Onlookers::default();
        let mut views: Vec<_> = (0..ONLOOKERS_MAX).map(|_| onlookers.look(&Wanted::default()).expect("room")).collect();
        assert_eq!(onlookers.look(&Wanted::default()).err(), Some(Refusal::Full));
        views.pop();
        assert!(matches!(onlookers.look(&wanted("verv: get")), Err(Refusal::Wrong(_))));
        views.push(onlookers.look(&Wanted::default()).expect("room again"));
    }
}
