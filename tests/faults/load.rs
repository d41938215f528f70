//! The events, and who posts them: clients that behave like kube-apiserver, at full load.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::chance::Chance;

/// Clients that post at once.
pub(super) const CLIENTS: u64 = 4;
/// Events in a batch.
const EVENTS: u64 = 100;
/// A client is at most so many rounds ahead of the slowest: far less than `lateness` in event time.
const AHEAD_MAX: u64 = 12;
/// Alerts on their way to the receiver at most; a test that outruns its receiver would only measure the outbox.
const ON_THE_WAY_MAX: u64 = 1_000;
/// Rounds after which the pattern repeats.
const PATTERN: u64 = 4;

/// The rules that the events are made for.
pub(super) const RULES: &str = "title: Secret read
id: fault-single
level: high
logsource: {product: kubernetes, service: audit}
detection: {read: {verb: get, objectRef.resource: secrets}, condition: read}
---
title: Map deleted
id: fault-base
name: fault_base
level: low
logsource: {product: kubernetes, service: audit}
detection: {gone: {verb: delete, objectRef.resource: configmaps}, condition: gone}
---
title: Many maps deleted
id: fault-burst
level: medium
correlation: {type: event_count, rules: [fault_base], group-by: [user.username], timespan: 10s, condition: {gte: 3}}
";

/// The events of a batch, a pure function of its number. Batch `n` belongs to client `n % CLIENTS`, which posts its
/// batches in order; a burst of deletions begins in one of them and goes on in its next.
pub(super) fn events(seed: u64, batch: u64) -> Vec<String> {
    let (client, round) = (batch % CLIENTS, batch / CLIENTS);
    (0..EVENTS)
        .map(|n| {
            let (burst, late) = (format!("burst-{client}-{}", round - round % PATTERN), format!("late-{batch}"));
            let (user, verb, resource, name) = match (round % PATTERN, n) {
                (0 | 1, 10 | 20) => (burst.as_str(), "delete", "configmaps", format!("map-{batch}-{n}")),
                (_, 30) => (late.as_str(), "get", "secrets", format!("secret-{batch}")),
                _ => ("web", "get", "deployments", format!("web-{n}")),
            };
            event(seed, batch * EVENTS + n, user, verb, resource, &name)
        })
        .collect()
}

/// An event long after all others, so that every episode has ended.
pub(super) fn end_of_all(seed: u64) -> String {
    event(seed, 4_000_000_000, "web", "get", "deployments", "end")
}

/// Whether a client may give this batch up after a failure: no other one makes an alert together with it.
fn stands_alone(batch: u64) -> bool {
    (batch / CLIENTS) % PATTERN >= 2
}

fn event(seed: u64, n: u64, user: &str, verb: &str, resource: &str, name: &str) -> String {
    // One event a millisecond from 2024-05-01 on.
    let (days, millis) = (n / 86_400_000, n % 86_400_000);
    let time = format!(
        "2024-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}000Z",
        5 + days / 28,
        1 + days % 28,
        millis / 3_600_000,
        millis / 60_000 % 60,
        millis / 1_000 % 60,
        millis % 1_000
    );
    let mut text = String::with_capacity(640);
    let _ = write!(
        text,
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{seed:x}-{n:x}","#
    );
    let _ = write!(text, r#""stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/{resource}/{name}","#);
    let _ = write!(
        text,
        r#""verb":"{verb}","user":{{"username":"{user}","groups":["system:authenticated"]}},"sourceIPs":["10.0.0.7"],"#
    );
    let _ = write!(
        text,
        r#""userAgent":"faults/1.0","objectRef":{{"resource":"{resource}","namespace":"shop","name":"{name}","apiVersion":"v1"}},"#
    );
    let _ = write!(
        text,
        r#""responseStatus":{{"code":200}},"requestReceivedTimestamp":"{time}","stageTimestamp":"{time}"}}"#
    );
    text
}

/// Events as kube-apiserver sends them.
pub(super) fn list(events: &[String]) -> String {
    let items = events.join(",");
    format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{items}]}}"#)
}

/// What became of the batches, shared by clients and judge.
#[derive(Default)]
pub(super) struct Ledger {
    /// Batches that were answered with 200.
    pub(super) acknowledged: Mutex<BTreeSet<u64>>,
    /// Batches that were posted, never answered, and not posted again: nobody knows whether they were taken.
    pub(super) given_up: Mutex<BTreeSet<u64>>,
    /// Posts that were answered, refused for want of room, and not answered at all.
    pub(super) answers: [AtomicU64; 3],
    /// Rung with every acknowledgement.
    pub(super) acknowledgement: Notify,
    /// Rounds of each client so far.
    rounds: [AtomicU64; CLIENTS as usize],
    /// Alerts that acknowledged batches have earned, and those that have arrived.
    pub(super) earned: AtomicU64,
    pub(super) arrived: AtomicU64,
    /// Set when clients shall end after what they are posting.
    pub(super) over: AtomicBool,
}

impl Ledger {
    fn slowest(&self) -> u64 {
        self.rounds.iter().map(|rounds| rounds.load(Ordering::Relaxed)).min().unwrap_or(0)
    }

    /// Whether a client must wait, for the others or for the receiver.
    fn held(&self, round: u64) -> bool {
        let on_the_way = self.earned.load(Ordering::Relaxed).saturating_sub(self.arrived.load(Ordering::Relaxed));
        round > self.slowest() + AHEAD_MAX || on_the_way > ON_THE_WAY_MAX
    }

    fn acknowledge(&self, batch: u64) {
        if self.acknowledged.lock().expect("not poisoned").insert(batch) {
            self.earned.fetch_add(1, Ordering::Relaxed);
        }
        self.acknowledgement.notify_waiters();
    }
}

/// What became of a post.
#[derive(Clone, Copy)]
enum Posted {
    Taken,
    Refused,
    /// No answer: it may have been taken.
    Lost,
}

/// One client: posts batch after batch to wherever the daemon is, each again and again until it is taken, as
/// kube-apiserver does; now and then it posts one twice, or gives one up.
pub(super) async fn client(seed: u64, number: u64, ledger: Arc<Ledger>, daemon: watch::Receiver<Option<SocketAddr>>) {
    let http = super::client();
    let mut chance = Chance::new(seed ^ (number + 1));
    let mut round = 0;
    while !ledger.over.load(Ordering::Relaxed) {
        if ledger.held(round) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        let batch = round * CLIENTS + number;
        let body = Bytes::from(list(&events(seed, batch)));
        if !until_taken(&http, &body, &ledger, &daemon, &mut chance, stands_alone(batch)).await {
            ledger.given_up.lock().expect("not poisoned").insert(batch);
        } else {
            ledger.acknowledge(batch);
            if chance.below(16) == 0 {
                // As if the answer had been lost on the wire.
                until_taken(&http, &body, &ledger, &daemon, &mut chance, true).await;
            }
        }
        round += 1;
        ledger.rounds[usize::try_from(number).unwrap_or(0)].store(round, Ordering::Relaxed);
    }
}

/// Posts until it is taken; `false` when it was given up, which may only be after it may have been taken.
async fn until_taken(
    http: &reqwest::Client,
    body: &Bytes,
    ledger: &Ledger,
    daemon: &watch::Receiver<Option<SocketAddr>>,
    chance: &mut Chance,
    may_give_up: bool,
) -> bool {
    let mut daemon = daemon.clone();
    loop {
        let Some(address) = daemon.wait_for(Option::is_some).await.ok().and_then(|address| *address) else {
            return false;
        };
        let posted = post(http, address, body).await;
        ledger.answers[posted as usize].fetch_add(1, Ordering::Relaxed);
        match posted {
            Posted::Taken => return true,
            Posted::Refused => tokio::time::sleep(Duration::from_millis(5)).await,
            Posted::Lost if may_give_up && chance.below(8) == 0 => return false,
            Posted::Lost => tokio::time::sleep(Duration::from_millis(1)).await,
        }
    }
}

async fn post(http: &reqwest::Client, address: SocketAddr, body: &Bytes) -> Posted {
    let url = format!("http://{address}/k8s-audit");
    match http.post(url).body(body.clone()).send().await {
        Ok(answer) if answer.status() == 200 => Posted::Taken,
        Ok(answer) => {
            assert_eq!(answer.status(), 503, "only want of room is a reason to refuse good events");
            Posted::Refused
        }
        Err(_) => Posted::Lost,
    }
}
