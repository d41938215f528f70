//! What a crash, a stop and a batch that is sent again change: nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::fake::{Receiver, Reply};
use super::support::{Daemon, WEBHOOK, answered, by_id, client, event_list, scan, story, text_at, until};

/// A receiver of alerts, a story in batches, and what has to come of it.
struct Story {
    receiver: Receiver,
    config: String,
    batches: Vec<String>,
    expected: BTreeMap<String, Value>,
}

impl Story {
    async fn begin(batches: usize) -> Self {
        let receiver = Receiver::start(|_| Reply::new(200, "")).await;
        let sink = format!("sinks: [{{name: soc, type: webhook, url: '{}'}}]\n", receiver.url("/alerts"));
        let events = story();
        let (expected, _) = scan(&[], events.join("\n").as_bytes());
        assert!(!expected.is_empty() && expected.iter().all(|alert| alert["status"] == "resolved"));
        Self {
            receiver,
            config: format!("{WEBHOOK}{sink}"),
            batches: events.chunks(events.len().div_ceil(batches)).map(event_list).collect(),
            expected: by_id(expected),
        }
    }

    async fn daemon(&self, home: &Path) -> Daemon {
        Daemon::start(home, &self.config).await
    }

    /// The API has every alert as the scan has it, and the receiver has heard of every beginning and end.
    async fn check(&self, daemon: &Daemon) {
        until("the API has the alerts of the scan", async || {
            let found = daemon.alerts().await;
            let differs = |(id, alert): &(&String, &Value)| found.get(*id) != Some(*alert);
            match self.expected.iter().find(differs) {
                None if found.len() == self.expected.len() => Ok(()),
                None => Err(format!("{} alerts instead of {}", found.len(), self.expected.len())),
                Some((id, alert)) => Err(format!("expected {alert}\nfound {:?}", found.get(id))),
            }
        })
        .await;
        let expected: BTreeSet<&str> = self.expected.keys().map(String::as_str).collect();
        for status in ["firing", "resolved"] {
            until(&format!("every alert was delivered as {status}"), async || {
                let bodies: Vec<Value> = self.receiver.requests().iter().map(super::fake::Request::json).collect();
                let told = bodies.iter().filter(|alert| alert["status"] == status);
                let told: BTreeSet<&str> = told.map(|alert| text_at(alert, "/id")).collect();
                let (missing, more) = (expected.difference(&told).count(), told.difference(&expected).count());
                assert_eq!(more, 0, "alerts that the scan does not have");
                if missing == 0 { Ok(()) } else { Err(format!("{missing} of {} missing", expected.len())) }
            })
            .await;
        }
    }
}

#[tokio::test]
async fn kill_9_between_batches_changes_nothing() {
    let story = Story::begin(20).await;
    let home = tempfile::tempdir().expect("a folder");
    let mut daemon = story.daemon(home.path()).await;
    for (n, batch) in story.batches.iter().enumerate() {
        assert_eq!(daemon.post(batch.clone()).await.0, 200);
        if n % 3 == 1 {
            daemon.process.kill();
            daemon = story.daemon(home.path()).await;
            // As an apiserver does that has not heard the answer.
            assert_eq!(daemon.post(batch.clone()).await.0, 200);
        }
    }
    story.check(&daemon).await;
}

#[tokio::test]
async fn kill_9_while_a_batch_is_taken_changes_nothing() {
    let story = Story::begin(6).await;
    let home = tempfile::tempdir().expect("a folder");
    let mut daemon = story.daemon(home.path()).await;
    for batch in &story.batches {
        let post = client().post(daemon.hook()).body(batch.clone()).send();
        let sending = tokio::spawn(post);
        // Wherever the batch is by now: on its way, half read, journaled, or answered.
        tokio::task::yield_now().await;
        let _ = daemon.get("/livez").await;
        daemon.process.kill();
        let _ = sending.await;
        daemon = story.daemon(home.path()).await;
        assert_eq!(daemon.post(batch.clone()).await.0, 200);
    }
    story.check(&daemon).await;
}

#[tokio::test]
async fn a_stop_loses_nothing_and_what_is_sent_again_changes_nothing() {
    let story = Story::begin(8).await;
    let home = tempfile::tempdir().expect("a folder");
    for batches in story.batches.chunks(3) {
        let daemon = story.daemon(home.path()).await;
        for batch in batches {
            assert_eq!(daemon.post(batch.clone()).await.0, 200);
        }
        daemon.stop().await;
    }
    let daemon = story.daemon(home.path()).await;
    story.check(&daemon).await;
    let delivered = story.receiver.requests().len();
    assert_eq!(delivered, story.expected.len() * 2, "nothing is told twice where nothing went wrong");

    for batch in story.batches.iter().chain(story.batches.iter().rev()) {
        assert_eq!(daemon.post(batch.clone()).await.0, 200);
    }
    // It stops when everything that was taken is correlated.
    daemon.stop().await;
    let daemon = story.daemon(home.path()).await;
    story.check(&daemon).await;
    assert_eq!(story.receiver.requests().len(), delivered);
}

#[tokio::test]
async fn what_the_receiver_did_not_take_is_told_after_a_restart() {
    let (sick, well) = (Receiver::start(|_| Reply::new(503, "")).await, Receiver::start(|_| Reply::new(200, "")).await);
    let config =
        |receiver: &Receiver| format!("{WEBHOOK}sinks: [{{name: soc, type: webhook, url: '{}'}}]\n", receiver.url("/"));
    let home = tempfile::tempdir().expect("a folder");
    let mut daemon = Daemon::start(home.path(), &config(&sick)).await;
    let events = story();
    daemon.feed(&events, 500).await;
    until("the sink was tried", async || sick.requests().pop().ok_or_else(String::new)).await;
    daemon.process.kill();
    let daemon = Daemon::start(home.path(), &config(&well)).await;
    let expected = by_id(scan(&[], events.join("\n").as_bytes()).0);
    until("every alert was delivered", async || {
        let told: BTreeSet<String> =
            well.requests().iter().map(|request| text_at(&request.json(), "/id").to_owned()).collect();
        if told.iter().eq(expected.keys()) { Ok(()) } else { Err(format!("{} of {}", told.len(), expected.len())) }
    })
    .await;
    let (status, text) = answered(client().get(format!("http://{}/readyz", daemon.admin))).await;
    assert_eq!((status, text.as_str()), (200, "ok\n"));
}
