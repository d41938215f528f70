//! The daemon as Prometheus sees it.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::{Daemon, Running, WEBHOOK, answered, attack, client, free_port, installed, until};

#[tokio::test]
async fn prometheus_scrapes_the_metrics() {
    if !installed("prometheus") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    daemon.feed(&attack(), 10).await;
    let config = format!(
        "scrape_configs: [{{job_name: kubesiren, scrape_interval: 500ms, static_configs: [{{targets: ['{}']}}]}}]\n",
        daemon.admin
    );
    let file = home.path().join("prometheus.yml");
    std::fs::write(&file, config).expect("written");
    let mut port = free_port();
    let start = |port: u16| {
        let mut command = Command::new("prometheus");
        command
            .current_dir(home.path())
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.path().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        Running::start(&mut command)
    };
    let mut prometheus = start(port);
    // Somebody else may have taken the port meanwhile.
    while prometheus.taken().await {
        port = free_port();
        prometheus = start(port);
    }
    let api = format!("http://127.0.0.1:{port}/api/v1");
    let get = async |path: &str| {
        let (_, text) = answered(client().get(format!("{api}{path}"))).await;
        serde_json::from_str::<Value>(&text).map_err(|error| format!("{error}: {text}"))
    };
    until("the target is up", async || {
        let targets = get("/targets").await?;
        let target = &targets["data"]["activeTargets"][0];
        if target["health"] == "up" { Ok(()) } else { Err(target.to_string()) }
    })
    .await;
    until("the events are counted", async || {
        let answer = get("/query?query=sum(kubesiren_events_total)").await?;
        let value = &answer["data"]["result"][0]["value"][1];
        if value == "27" { Ok(()) } else { Err(answer.to_string()) }
    })
    .await;
}

#[test]
fn the_alerting_rules_fire_when_they_should() {
    if !installed("promtool") {
        return;
    }
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prometheus-rules.yaml");
    let output = Command::new("promtool").args(["test", "rules", cases]).output().expect("promtool can be started");
    let words = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
}

#[tokio::test]
async fn promtool_likes_the_metrics() {
    if !installed("promtool") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    daemon.feed(&attack(), 10).await;
    let (_, text) = daemon.get("/metrics").await;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool can be started");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("promtool ends");
    let words = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
}
