//! What shows that something is missing: the age of what came last, and bounds that say so when they are reached.

use std::process::Command;

use serde_json::Value;

use super::fake::{Receiver, Reply};
use super::support::{Daemon, Running, WEBHOOK, answered, attack, client, configure, quiet_event, run, scan, until};

const OLD: &str = "2026-11-21T04:00:00.000000Z";
const NEW: &str = "2026-11-21T04:00:10.000000Z";

#[tokio::test]
async fn the_newest_event_of_each_cluster_and_source_is_shown() {
    let home = tempfile::tempdir().expect("a folder");
    let log = home.path().join("audit.log");
    std::fs::write(&log, "").expect("written");
    let config = format!(
        "cluster: home
sources: [{{type: webhook, listen: '127.0.0.1:0'}}, {{type: file, path: {}}}]
correlation: {{max_clusters: 3}}
",
        log.display()
    );
    let daemon = Daemon::start(home.path(), &config).await;
    let newest = async |labels: &str| daemon.metric("kubesiren_last_event_timestamp_seconds", labels).await;
    for source in ["webhook", "file"] {
        assert!(newest(&format!("source=\"{source}\",cluster=\"home\"")).await < 0.5, "none has come yet");
    }
    let event = |time: &str| quiet_event("6f1c3c1e-4a55-4b43-9d3c-0d6f3f2a7b10", time);
    for (cluster, time) in [("a", NEW), ("a", OLD), ("b", OLD), ("c", NEW), ("d", OLD)] {
        let request = client().post(format!("{}/{cluster}", daemon.hook())).body(event(time));
        assert_eq!(answered(request).await.0, 200);
    }
    std::fs::write(&log, event(OLD) + "\n").expect("written");
    let old = 1_795_233_600.0;
    for (labels, time) in [
        ("source=\"webhook\",cluster=\"home\"", 0.0),
        ("source=\"webhook\",cluster=\"a\"", old + 10.0),
        ("source=\"webhook\",cluster=\"b\"", old),
        ("source=\"webhook\",cluster=\"other\"", old + 10.0),
        ("source=\"file\",cluster=\"home\"", old),
    ] {
        daemon.metric_is("kubesiren_last_event_timestamp_seconds", labels, time).await;
    }
    let (_, text) = daemon.get("/api/v1/status").await;
    let status: Value = serde_json::from_str(&text).expect("JSON");
    let shown = status["newest_events"].as_array().expect("an array");
    assert_eq!(shown.len(), 4, "{text}");
    assert_eq!((&shown[0]["source"], &shown[0]["time"]), (&"file".into(), &OLD.into()));
    assert!(shown[0]["age_seconds"].is_u64());
}

#[tokio::test]
async fn an_outbox_holds_as_much_as_is_configured() {
    let down = Receiver::start(|_| Reply::new(503, "")).await;
    let home = tempfile::tempdir().expect("a folder");
    let config = format!(
        "{WEBHOOK}journal: {{type: embedded, max_outbox: 3}}\nsinks: [{{name: soc, type: webhook, url: '{}'}}]\n",
        down.url("/")
    );
    let daemon = Daemon::start(home.path(), &config).await;
    daemon.feed(&attack(), 100).await;
    let alerts = scan(&[], attack().join("\n").as_bytes()).0.len() as f64;
    daemon.metric_is("kubesiren_outbox_dead_records", "sink=\"soc\"", alerts - 3.0).await;
    daemon.metric_is("kubesiren_outbox_records", "sink=\"soc\"", 3.0).await;
    let file = home.path().join("config.yaml").display().to_string();
    let retried = run(&["outbox", "retry", "--config", &file], b"");
    assert_eq!(retried.status.code(), Some(1), "the same bound holds by hand");
    assert!(String::from_utf8_lossy(&retried.stderr).contains("0 deliveries put back"), "{retried:?}");
}

/// Starts the daemon behind a shell that sets limits.
fn limited(home: &std::path::Path, limits: &str) -> Running {
    let file = configure(home, WEBHOOK);
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{limits} && exec \"$0\" run --config \"$1\"")]);
    command.arg(env!("CARGO_BIN_EXE_kubesiren")).arg(file);
    Running::start(&mut command)
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_or_told() {
    let home = tempfile::tempdir().expect("a folder");
    let mut raised = limited(home.path(), "ulimit -S -n 256");
    raised.logged("it is raised", |line| line.contains("the limit of open files was raised").then_some(())).await;
    raised.logged("the daemon is ready", |line| line.contains("\"message\":\"ready\"").then_some(())).await;
    raised.kill();
    assert!(!raised.err.all().join("\n").contains("fewer files may be open"));
    let mut told = limited(home.path(), "ulimit -n 400");
    told.logged("it is told", |line| line.contains("fewer files may be open").then_some(())).await;
    told.logged("the daemon is ready", |line| line.contains("\"message\":\"ready\"").then_some(())).await;
    until("it says how to mend it", async || {
        let text = told.err.all().join("\n");
        if text.contains("LimitNOFILE") { Ok(()) } else { Err(text) }
    })
    .await;
}
