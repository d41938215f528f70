//! Several instances that share a journal in Kafka: they find what one finds, whichever of them lives.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use tempfile::TempDir;

use super::broker::Broker;
use super::fake::{Receiver, Reply, Request};
use super::support::{Daemon, answered, client, end_of_story, event_list, scan, story, text_at, until};

const PARTITIONS: i32 = 5;

/// Longer than the story: whichever instance is ahead, its matches are in time.
const LATENESS: &str = "18h";

/// What has to be found, and where.
struct Story {
    broker: Broker,
    receiver: Receiver,
    config: String,
    batches: Vec<String>,
    expected: Vec<Value>,
}

/// Rule, cluster, group, count, how it stands, first and last match, the evidence, and what happened in order.
fn episode(alert: &Value) -> String {
    let parts =
        ["/rule/id", "/cluster", "/group", "/count", "/status", "/first_seen", "/last_seen", "/audit_ids", "/timeline"];
    parts.map(|part| alert.pointer(part).unwrap_or(&Value::Null).to_string()).join(" ")
}

fn episodes<'a>(alerts: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    alerts.into_iter().map(episode).collect()
}

/// How many there are, and the beginnings of some: up to how they stand.
fn told<'a>(episodes: impl Iterator<Item = &'a String> + Clone) -> String {
    let some: String = episodes.clone().take(5).map(|episode| format!("\n  {episode:.240}")).collect();
    format!(" {}{some}", episodes.count())
}

impl Story {
    async fn begin(what: &str) -> Self {
        let broker = Broker::start();
        let prefix = broker.name(what);
        if !broker.is_real() {
            for topic in ["matches", "alerts", "baselines"] {
                broker.topic(&format!("{prefix}-{topic}"), PARTITIONS);
            }
        }
        let receiver = Receiver::start(|_| Reply::new(200, "")).await;
        let config = format!(
            "sources: [{{type: webhook, listen: '127.0.0.1:0'}}]
correlation: {{lateness: {LATENESS}}}
sinks: [{{name: soc, type: webhook, url: '{}'}}]
journal:
  type: kafka
  brokers: ['{}']
  topic_prefix: {prefix}
  partitions: {PARTITIONS}
  replication_factor: 1
  properties: {{session.timeout.ms: 2000, heartbeat.interval.ms: 200, reconnect.backoff.max.ms: 200, statistics.interval.ms: 200, topic.metadata.refresh.interval.ms: 1000}}
",
            receiver.url("/alerts"),
            broker.address()
        );
        let events = story();
        let (expected, _) = scan(&[], events.join("\n").as_bytes());
        let batches = events.chunks(events.len().div_ceil(24)).map(event_list).collect();
        Self { broker, receiver, config, batches, expected }
    }

    async fn instance(&self) -> (TempDir, Daemon) {
        let home = tempfile::tempdir().expect("a folder");
        let daemon = Daemon::start(home.path(), &self.config).await;
        (home, daemon)
    }

    /// Every instance knows every alert, each once, and the sink has heard of its beginning and of its end.
    async fn check(&self, daemons: &[&Daemon]) {
        // Each of them has to say that time has gone on.
        for daemon in daemons {
            daemon.feed(&[end_of_story()], 1).await;
        }
        let expected = episodes(&self.expected);
        for daemon in daemons {
            until("an instance has the alerts of the scan", async || {
                let found = daemon.alerts().await;
                let episodes = episodes(found.values());
                if episodes == expected && found.len() == expected.len() {
                    return Ok(());
                }
                let (missing, more) = (told(expected.difference(&episodes)), told(episodes.difference(&expected)));
                Err(format!("{} of {}\nmissing{missing}\nmore{more}", found.len(), expected.len()))
            })
            .await;
        }
        let ids: BTreeSet<String> = daemons[0].alerts().await.into_keys().collect();
        for status in ["firing", "resolved"] {
            until(&format!("every alert was delivered as {status}"), async || {
                let told = self.told(status);
                let told: BTreeSet<String> = told.into_keys().collect();
                let (missing, more) = (ids.difference(&told).count(), told.difference(&ids).count());
                assert_eq!(more, 0, "an alert was told under an id that nobody knows");
                if missing == 0 { Ok(()) } else { Err(format!("{missing} of {} missing", ids.len())) }
            })
            .await;
        }
    }

    /// How often the sink was told of each alert.
    fn told(&self, status: &str) -> BTreeMap<String, usize> {
        let mut told = BTreeMap::new();
        for alert in self.receiver.requests().iter().map(Request::json).filter(|alert| alert["status"] == status) {
            *told.entry(text_at(&alert, "/id").to_owned()).or_default() += 1;
        }
        told
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_instances_find_what_one_scan_finds_and_tell_it_once() {
    let story = Story::begin("three").await;
    let (_a, a) = story.instance().await;
    let (_b, b) = story.instance().await;
    let (_c, c) = story.instance().await;
    for (batch, daemon) in story.batches.iter().zip([&a, &b, &c].into_iter().cycle()) {
        assert_eq!(daemon.post(batch.clone()).await.0, 200);
    }
    story.check(&[&a, &b, &c]).await;
    let twice: Vec<_> = story.told("firing").into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    for daemon in [a, b, c] {
        daemon.stop().await;
    }
    drop(story.broker);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_found_whoever_is_killed_stopped_or_added() {
    let story = Story::begin("killed").await;
    let mut instances = vec![story.instance().await, story.instance().await];
    for (number, batch) in story.batches.iter().enumerate() {
        match number {
            // Added, killed with its state, stopped in good order, killed and begun again with its state.
            4 => instances.push(story.instance().await),
            8 => instances.swap_remove(0).1.process.kill(),
            12 => instances.push(story.instance().await),
            16 => drop(instances.swap_remove(0).1.stop().await),
            20 => {
                let (home, mut daemon) = instances.swap_remove(0);
                daemon.process.kill();
                let again = Daemon::start(home.path(), &story.config).await;
                instances.push((home, again));
            }
            _ => {}
        }
        let hooks: Vec<String> = instances.iter().map(|(_, daemon)| daemon.hook()).collect();
        let (client, at) = (client(), number % hooks.len());
        until("a batch is taken", async || match answered(client.post(&hooks[at]).body(batch.clone())).await {
            (200, _) => Ok(()),
            (status, text) => Err(format!("{status} {text}")),
        })
        .await;
    }
    let daemons: Vec<&Daemon> = instances.iter().map(|(_, daemon)| daemon).collect();
    story.check(&daemons).await;
}
