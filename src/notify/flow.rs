//! The workers on a real store, against servers on loopback.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::spawn;
use crate::alert::{Alert, Level, Status};
use crate::metrics::Metrics;
use crate::sink::fake::slack::{CHANNEL, Slack, TOKEN};
use crate::sink::fake::{Receiver, Reply};
use crate::sink::samples::alert;
use crate::sink::{Sink, SinkConfig};
use crate::store::{Change, Commit, Kind, Store};

/// A store, and workers that run on it until the end of the test.
pub(super) struct Daemon {
    pub(super) store: Store,
    metrics: Arc<Metrics>,
    cancel: CancellationToken,
    workers: JoinSet<()>,
    cursor: i64,
    _dir: tempfile::TempDir,
}

impl Daemon {
    pub(super) fn start(sinks: &[serde_json::Value]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (metrics, cancel) = (Arc::new(Metrics::new()), CancellationToken::new());
        let build = |config: &serde_json::Value| {
            let config: SinkConfig = serde_json::from_value(config.clone()).unwrap();
            (config.name.clone(), Sink::build(&config).unwrap())
        };
        let workers = spawn(sinks.iter().map(build).collect(), &store, &metrics, &Arc::default(), &cancel);
        Self { store, metrics, cancel, workers, cursor: 0, _dir: dir }
    }

    pub(super) async fn tell(&mut self, kind: Kind, alerts: Vec<Alert>, sinks: &[&str]) {
        let sinks: Vec<String> = sinks.iter().map(|&name| name.to_owned()).collect();
        let status = if kind == Kind::Resolved { Status::Resolved } else { Status::Firing };
        let change = |alert| Change { alert: Alert { status, ..alert }, kind, sinks: sinks.clone() };
        self.cursor += 1;
        let changes = alerts.into_iter().map(change).collect();
        self.store.commit(Commit { cursor: self.cursor, changes, ..Commit::default() }).await.unwrap();
    }

    pub(super) async fn until_empty(&self, sink: &str) {
        until(|| async { self.store.backlog(sink).await.unwrap().records == 0 }).await;
    }

    pub(super) async fn stop(mut self) -> String {
        self.cancel.cancel();
        tokio::time::timeout(Duration::from_secs(10), async { while self.workers.join_next().await.is_some() {} })
            .await
            .expect("the workers stop");
        self.metrics.encode()
    }
}

pub(super) async fn until<F: Future<Output = bool>>(done: impl Fn() -> F) {
    let wait = async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), wait).await.expect("it happens in time");
}

pub(super) fn one(id: &str) -> Vec<Alert> {
    vec![alert(id, "r", Level::High)]
}

#[tokio::test]
async fn an_alert_is_told_once_and_its_end_after_it() {
    let receiver = Receiver::start(|_| Reply::new(200, "")).await;
    let mut daemon = Daemon::start(&[serde_json::json!({"name": "soc", "type": "webhook", "url": receiver.url("/")})]);
    for kind in [Kind::Firing, Kind::Update, Kind::Resolved] {
        daemon.tell(kind, one("a"), &["soc"]).await;
    }
    daemon.until_empty("soc").await;
    let status: Vec<_> = receiver.requests().iter().map(|request| request.json()["status"].clone()).collect();
    assert_eq!(status, ["firing", "resolved"]);
    let metrics = daemon.stop().await;
    assert!(metrics.contains(r#"kubesiren_deliveries_total{sink="soc",result="ok"} 2"#), "{metrics}");
    assert!(metrics.contains(r#"kubesiren_outbox_records{sink="soc"} 0"#), "{metrics}");
}

#[tokio::test]
async fn a_sink_that_is_down_delays_no_other_and_gets_all_when_it_is_back() {
    let good = Receiver::start(|_| Reply::new(200, "")).await;
    let calls = std::sync::atomic::AtomicUsize::new(0);
    let flaky = Receiver::start(move |_| {
        let n = calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Reply::new(if n < 2 { 503 } else { 200 }, "")
    })
    .await;
    let mut daemon = Daemon::start(&[
        serde_json::json!({"name": "good", "type": "webhook", "url": good.url("/")}),
        serde_json::json!({"name": "flaky", "type": "webhook", "url": flaky.url("/")}),
    ]);
    let alerts = (0..20).map(|n| alert(&format!("a{n}"), "r", Level::Low)).collect();
    daemon.tell(Kind::Firing, alerts, &["good", "flaky"]).await;
    daemon.until_empty("good").await;
    assert!(flaky.requests().len() <= 2, "probed, not hammered");
    daemon.until_empty("flaky").await;
    assert_eq!(flaky.requests().len(), 22);
    assert_eq!(daemon.store.backlog("flaky").await.unwrap().dead, 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_refused_alert_is_a_dead_letter_and_stops_nobody() {
    let picky =
        Receiver::start(|request| Reply::new(if request.json()["id"] == "bad" { 400 } else { 200 }, "no")).await;
    let mut daemon = Daemon::start(&[serde_json::json!({"name": "soc", "type": "webhook", "url": picky.url("/")})]);
    let alerts = ["a", "bad", "b"].map(|id| alert(id, "r", Level::Low)).to_vec();
    daemon.tell(Kind::Firing, alerts, &["soc"]).await;
    daemon.until_empty("soc").await;
    assert_eq!(daemon.store.backlog("soc").await.unwrap().dead, 1);
    assert_eq!(picky.requests().len(), 3);
    assert!(daemon.stop().await.contains(r#"kubesiren_deliveries_total{sink="soc",result="dead"} 1"#));
}

#[tokio::test]
async fn alertmanager_is_told_again_what_fires_and_what_ended() {
    let receiver = Receiver::start(|_| Reply::new(200, "")).await;
    let am = serde_json::json!({"name": "am", "type": "alertmanager", "urls": [receiver.url("")], "resend": "1s"});
    let mut daemon = Daemon::start(&[am]);
    daemon.tell(Kind::Firing, one("a"), &["am"]).await;
    until(|| async { receiver.requests().len() >= 3 }).await;
    daemon.tell(Kind::Resolved, one("a"), &["am"]).await;
    let before = receiver.requests().len();
    until(|| async { receiver.requests().len() >= before + 3 }).await;
    let bodies: Vec<_> = receiver.requests().iter().map(|request| request.json()[0].clone()).collect();
    assert!(
        bodies.iter().all(|body| body["labels"] == bodies[0]["labels"] && body["startsAt"] == bodies[0]["startsAt"])
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_flood_reaches_slack_within_its_rate_and_nothing_is_dropped() {
    let slack = Slack::start().await;
    slack.limit(12, Duration::from_secs(1));
    let bot = serde_json::json!({"name": "oncall", "type": "slack", "token": TOKEN, "channel": CHANNEL.0, "api_url": slack.api()});
    let mut daemon = Daemon::start(&[bot]);
    let alerts = (0..300).map(|n| alert(&format!("a{n}"), &format!("r{}", n % 60), Level::Low)).collect();
    daemon.tell(Kind::Firing, alerts, &["oncall"]).await;
    daemon.until_empty("oncall").await;
    let posted = slack.messages();
    assert!((2..=12).contains(&posted.len()), "{} messages", posted.len());
    assert!(posted.last().unwrap().payload["text"].as_str().unwrap().starts_with('+'));
    let metrics = daemon.stop().await;
    assert!(metrics.contains(r#"kubesiren_deliveries_total{sink="oncall",result="ok"} 300"#), "{metrics}");
    assert!(metrics.contains(r#"kubesiren_deliveries_total{sink="oncall",result="retry"} 0"#), "{metrics}");
}

#[tokio::test]
async fn a_message_that_told_of_several_alerts_changes_when_one_of_them_ends() {
    let slack = Slack::start().await;
    let bot = serde_json::json!({"name": "oncall", "type": "slack", "token": TOKEN, "channel": CHANNEL.0, "api_url": slack.api()});
    let mut daemon = Daemon::start(&[bot]);
    let all = ["a", "b", "c"].map(|id| alert(id, "r", Level::High)).to_vec();
    daemon.tell(Kind::Firing, all.clone(), &["oncall"]).await;
    daemon.until_empty("oncall").await;
    daemon.tell(Kind::Resolved, all[1..2].to_vec(), &["oncall"]).await;
    daemon.until_empty("oncall").await;
    let posted = slack.messages();
    assert_eq!((posted.len(), posted[0].updates), (2, 1), "{posted:?}");
    let shown = posted[0].payload["blocks"].to_string();
    assert!(shown.contains("🟠 High · Title of r ×3"), "{shown}");
    assert_eq!((shown.matches("🟠 alice").count(), shown.matches("✅ Resolved · alice").count()), (2, 1), "{shown}");
    assert_eq!(posted[1].thread.as_deref(), Some(posted[0].ts.as_str()));
    daemon.stop().await;
}
