//! Who hears that canaries do not arrive: the log, at each change, and the sinks, when it is no hiccup.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::alert::{Alert, EventExcerpt, Kind, Level, RuleInfo, Status};
use crate::clock::{self, Timestamp};
use crate::pipeline::correlating::Router;
use crate::store::{Change, Commit, Store};
use crate::text::visible;

/// So many in a row are an alert.
const FAILURES_TOLD: u32 = 2;

/// The rule that the alert names.
const RULE: &str = "kubesiren-canary-failing";

/// Where the alert goes.
#[derive(Clone)]
pub(in crate::app) struct Tell {
    /// Whether there is an alert at all.
    pub(in crate::app) alert: bool,
    pub(in crate::app) cluster: String,
    pub(in crate::app) router: Arc<ArcSwap<Router>>,
}

impl Tell {
    pub(super) fn about(&self, source: &str) -> About {
        About { tell: self.clone(), source: source.to_owned(), failures: 0, told: None }
    }
}

/// How it stands with the canaries of one source.
pub(super) struct About {
    tell: Tell,
    source: String,
    failures: u32,
    /// The alert that is firing.
    told: Option<Alert>,
}

impl About {
    /// Tells what is new about it.
    pub(super) async fn note(&mut self, arrived: &Result<(), String>, store: &Store) {
        match arrived {
            Ok(()) => {
                if self.failures > 0 {
                    tracing::info!(source = self.source, failures = self.failures, "canaries arrive again");
                }
                self.failures = 0;
                if let Some(alert) = self.told.take() {
                    let now = clock::now();
                    let alert = Alert { status: Status::Resolved, last_seen: now, ..alert };
                    self.commit(Kind::Resolved, alert, store).await;
                }
            }
            Err(reason) => {
                self.failures = self.failures.saturating_add(1);
                if self.failures == 1 {
                    tracing::warn!(source = self.source, reason, "the canary does not arrive: alerts may not, either");
                }
                if self.tell.alert && self.failures >= FAILURES_TOLD && self.told.is_none() {
                    let alert = self.alert(reason, clock::now());
                    if self.commit(Kind::Firing, alert.clone(), store).await {
                        self.told = Some(alert);
                    }
                }
            }
        }
    }

    /// Puts the alert into the outbox, past the journal: what is between may be what is broken.
    async fn commit(&self, kind: Kind, alert: Alert, store: &Store) -> bool {
        let sinks = (self.tell.router.load())(&alert).sinks;
        // A cursor of 0 leaves it where it is.
        let commit = Commit { cursor: 0, changes: vec![Change { alert, kind, sinks }], ..Commit::default() };
        let written = store.commit(commit).await;
        if let Err(error) = &written {
            tracing::error!(source = self.source, %error, "the alert about the canary cannot be written");
        }
        written.is_ok()
    }

    fn alert(&self, reason: &str, now: Timestamp) -> Alert {
        let id = blake3::hash(format!("{RULE} {} {now}", self.source).as_bytes()).to_hex()[..32].to_owned();
        let rule = RuleInfo {
            id: RULE.to_owned(),
            title: "Kubesiren's canary does not arrive".to_owned(),
            level: Level::High,
            tags: vec![RULE.to_owned()],
            references: Vec::new(),
            runbook: Some(
                "Alerts on what happens in the clusters may not come, or late. Look at the daemon's log, at /readyz, and \
                 at kubesiren_canary_failures_total, whose stage says where canaries are lost."
                    .to_owned(),
            ),
        };
        let source = visible(&self.source);
        Alert {
            id,
            status: Status::Firing,
            time: now,
            cluster: self.tell.cluster.clone(),
            rule: Arc::new(rule),
            summary: format!("The canary through the source {source} does not arrive: {}", visible(reason)),
            count: u64::from(self.failures),
            first_seen: now,
            last_seen: now,
            group: BTreeMap::from([("source".to_owned(), self.source.clone().into())]),
            event: EventExcerpt {
                stage: "ResponseComplete".to_owned(),
                verb: "canary".to_owned(),
                stage_timestamp: now.to_string(),
                ..EventExcerpt::default()
            },
            matched: BTreeMap::new(),
            audit_ids: Vec::new(),
            timeline: Vec::new(),
        }
    }
}
