//! A real Alertmanager behind the daemon.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::fake::tls::Authority;
use super::support::{
    Daemon, Running, WEBHOOK, answered, attack, client, end_of_story, free_port, installed, run, scan, text_at, until,
};

const PROGRAM: &str = "prometheus-alertmanager";

#[tokio::test]
async fn alerts_fire_and_end_in_alertmanager() {
    if !installed(PROGRAM) {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let (_alertmanager, port) = start(home.path()).await;
    let config = format!(
        "cluster: lab
{WEBHOOK}correlation: {{repeat_after: 1m, lateness: 0s}}
sinks: [{{name: am, type: alertmanager, urls: ['http://127.0.0.1:{port}'], resend: 1s, labels: {{team: platform}}}}]
"
    );
    let daemon = Daemon::start(home.path(), &config).await;
    daemon.feed(&attack(), 5).await;
    let active = async || active(port).await;
    let matches = scan(&[], attack().join("\n").as_bytes()).1["matches"].as_f64().expect("a number");
    daemon.metric_is("kubesiren_matches_total", "", matches).await;
    let mut seen = BTreeMap::new();
    until("every alert was active", async || {
        seen.extend(active().await);
        let all = daemon.alerts().await;
        if all.len() >= 10 && seen.keys().eq(all.keys()) {
            Ok(())
        } else {
            Err(format!("{} of {}", seen.len(), all.len()))
        }
    })
    .await;
    let all = daemon.alerts().await;
    for (id, alert) in &seen {
        assert_eq!(alert["labels"]["alertname"], all[id]["rule"]["title"]);
        assert_eq!(alert["labels"]["severity"], all[id]["rule"]["level"]);
        assert_eq!((&alert["labels"]["cluster"], &alert["labels"]["team"]), (&"lab".into(), &"platform".into()));
        assert_eq!(text_at(alert, "/status/state"), "active");
        assert_eq!(time(alert, "/startsAt"), time(&all[id], "/first_seen"));
    }
    assert_eq!(daemon.post(end_of_story()).await.0, 200);
    until("every alert has ended", async || {
        let active = active().await;
        if active.is_empty() { Ok(()) } else { Err(format!("{:?}", active.values().next())) }
    })
    .await;
    assert!(daemon.alerts().await.values().all(|alert| alert["status"] == "resolved"));
    daemon.metric_is("kubesiren_deliveries_total", "result=\"ok\"", (all.len() * 2) as f64).await;
}

#[tokio::test]
async fn the_watchdog_fires_in_alertmanager_and_ends_with_the_daemon() {
    if !installed(PROGRAM) {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let (_alertmanager, port) = start(home.path()).await;
    let config = format!(
        "{WEBHOOK}canary: {{every: 1s}}
sinks:
- {{name: am, type: alertmanager, urls: ['http://127.0.0.1:{port}'], watchdog: {{every: 1s}}, labels: {{instance: one}}}}
"
    );
    let mut daemon = Daemon::start(home.path(), &config).await;
    let watchdog = until("the watchdog fires", async || {
        active(port).await.remove("kubesiren-watchdog").ok_or_else(|| daemon.process.err.all().join("\n"))
    })
    .await;
    let labels = serde_json::json!({"alertname": "KubesirenWatchdog", "alert_id": "kubesiren-watchdog", "instance": "one",
        "level": "informational", "rule_id": "kubesiren-watchdog", "severity": "none"});
    assert_eq!(watchdog["labels"], labels);
    let ahead = time(&watchdog, "/endsAt") - time(&watchdog, "/updatedAt");
    assert!((1..=4_500).contains(&ahead), "{watchdog}");
    // It lives on for longer than one sending of it lives.
    until("it was sent again and again", async || {
        let alerts = active(port).await;
        let now = alerts.get("kubesiren-watchdog").ok_or("it is not active")?;
        let lived = time(now, "/updatedAt") - time(&watchdog, "/startsAt");
        if lived > 6_000 { Ok(()) } else { Err(format!("{lived} ms")) }
    })
    .await;
    assert_eq!(active(port).await.len(), 1, "the canary's own alerts are not sent there");
    daemon.process.kill();
    until("nobody says any more that all is well", async || {
        let active = active(port).await;
        if active.is_empty() { Ok(()) } else { Err(format!("{active:?}")) }
    })
    .await;
}

/// As `--web.config.file` secures it: TLS, and a user with a password.
#[tokio::test]
async fn a_secured_alertmanager_takes_alerts() {
    if !installed(PROGRAM) {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let authority = Authority::new();
    let (cert, key) = authority.identity("localhost");
    // What bcrypt makes of `s3cr3t`.
    let hash = "$2b$05$aK7rUXwUJAI8vQcdCRFh/eKJiS6T1.U.h5P48LNnGr93Y9OtJfAmK";
    let web = format!(
        "tls_server_config: {{cert_file: '{}', key_file: '{}'}}\nbasic_auth_users: {{kubesiren: '{hash}'}}\n",
        cert.display(),
        key.display()
    );
    std::fs::write(home.path().join("web.yml"), web).expect("written");
    let (_alertmanager, port) = start_with(home.path(), &["--web.config.file=web.yml"]).await;
    for (password, code) in [("s3cr3t", 0), ("other", 1)] {
        std::fs::write(home.path().join("password"), password).expect("written");
        let config = format!(
            "sinks: [{{name: am, type: alertmanager, urls: ['https://localhost:{port}'], username: kubesiren, \
             password_file: '{}', tls: {{ca: '{}'}}}}]\n",
            home.path().join("password").display(),
            authority.ca().display()
        );
        let file = home.path().join("config.yaml");
        std::fs::write(&file, config).expect("written");
        let file = file.display().to_string();
        until("it answers", async || {
            let ran = run(&["sinks", "test", "am", "--config", &file], b"");
            let said = String::from_utf8_lossy(&ran.stderr).into_owned();
            let refused = said.contains("401") && !said.contains(password);
            if ran.status.code() == Some(code) && (code == 0 || refused) { Ok(()) } else { Err(said) }
        })
        .await;
    }
}

/// Starts an Alertmanager on a free port.
async fn start(home: &Path) -> (Running, u16) {
    start_with(home, &[]).await
}

async fn start_with(home: &Path, more: &[&str]) -> (Running, u16) {
    let file = home.join("alertmanager.yml");
    std::fs::write(&file, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").expect("written");
    let start = |port: u16| {
        let mut command = Command::new(PROGRAM);
        command
            .current_dir(home)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", home.join("am").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .args(more);
        Running::start(&mut command)
    };
    let mut port = free_port();
    let mut alertmanager = start(port);
    // Somebody else may have taken the port meanwhile.
    while alertmanager.taken().await {
        port = free_port();
        alertmanager = start(port);
    }
    (alertmanager, port)
}

/// What it says is active, by `alert_id`.
async fn active(port: u16) -> BTreeMap<String, Value> {
    let (status, text) = answered(client().get(format!("http://127.0.0.1:{port}/api/v2/alerts"))).await;
    assert_eq!(status, 200, "{text}");
    let alerts: Vec<Value> = serde_json::from_str(&text).expect("JSON");
    alerts.into_iter().map(|alert| (text_at(&alert, "/labels/alert_id").to_owned(), alert)).collect()
}

/// A time in milliseconds, which is what Alertmanager keeps.
fn time(value: &Value, pointer: &str) -> i64 {
    text_at(value, pointer).parse::<jiff::Timestamp>().expect("a time").as_millisecond()
}
