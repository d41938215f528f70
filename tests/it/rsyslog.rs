//! A real rsyslog behind the sink.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::fake::tls::Authority;
use super::support::{Daemon, Running, WEBHOOK, attack, free_port, installed, skipped, text_at, until};

const PROGRAM: &str = "rsyslogd";

/// Whether it is there with its driver for TLS, which Debian packages apart.
fn is_there() -> bool {
    if !installed(PROGRAM) {
        return false;
    }
    let libraries = std::fs::read_dir("/usr/lib").into_iter().flatten().filter_map(Result::ok);
    let there = libraries.into_iter().any(|library| library.path().join("rsyslog/lmnsd_gtls.so").exists());
    if !there {
        skipped("rsyslog-gnutls is not installed");
    }
    there
}

/// Starts one that writes the parts of each message as a line.
async fn start(home: &Path, authority: &Authority) -> (Running, u16) {
    let (cert, key) = authority.identity("localhost");
    let part = |name: &str| format!("property(name=\"{name}\") constant(value=\"|\") ");
    let parts: String =
        ["syslogfacility-text", "syslogseverity-text", "app-name", "structured-data"].into_iter().map(part).collect();
    let config = |port: u16| {
        format!(
            r#"global(workDirectory="{home}" maxMessageSize="64k" net.enableDNS="off"
  defaultNetstreamDriverCAFile="{ca}" defaultNetstreamDriverCertFile="{cert}" defaultNetstreamDriverKeyFile="{key}")
module(load="imtcp" streamdriver.name="gtls" streamdriver.mode="1" streamdriver.authmode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}" ruleset="all")
template(name="parts" type="list") {{ {parts} property(name="msg") constant(value="\n") }}
ruleset(name="all") {{ action(type="omfile" file="{home}/messages" template="parts") }}
"#,
            home = home.display(),
            ca = authority.ca().display(),
            cert = cert.display(),
            key = key.display(),
        )
    };
    let (file, pid) = (home.join("rsyslog.conf"), home.join("pid"));
    let port = free_port();
    std::fs::write(&file, config(port)).expect("written");
    let mut command = Command::new(PROGRAM);
    let running = Running::start(command.arg("-n").arg("-f").arg(&file).arg("-i").arg(&pid));
    until("rsyslog listens", async || {
        tokio::net::TcpStream::connect(("127.0.0.1", port)).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    (running, port)
}

#[tokio::test]
async fn alerts_reach_rsyslog_over_tls() {
    if !is_there() {
        return;
    }
    let (home, logs, authority) =
        (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"), Authority::new());
    let (_rsyslog, port) = start(logs.path(), &authority).await;
    let config = format!(
        "{WEBHOOK}sinks: [{{name: siem, type: syslog, address: 'localhost:{port}', tls: {{ca: '{}'}}}}]\n",
        authority.ca().display()
    );
    let daemon = Daemon::start(home.path(), &config).await;
    daemon.feed(&attack(), 5).await;
    let all = until("every alert is delivered", async || {
        let (all, left) = (daemon.alerts().await, daemon.metric("kubesiren_journal_records", "").await);
        let sent = daemon.metric("kubesiren_deliveries_total", "result=\"ok\"").await;
        if left < 0.5 && all.len() >= 10 && sent >= all.len() as f64 { Ok(all) } else { Err(format!("{sent} sent")) }
    })
    .await;
    // What rsyslog has taken it writes a moment later.
    let text = until("every alert is written", async || {
        let text = std::fs::read_to_string(logs.path().join("messages")).unwrap_or_default();
        let missing = all.keys().filter(|id| !text.contains(&format!("\"id\":\"{id}\""))).count();
        if missing == 0 && text.ends_with('\n') { Ok(text) } else { Err(format!("{missing} are missing")) }
    })
    .await;
    let mut seen = std::collections::BTreeSet::new();
    for line in text.lines() {
        let [facility, severity, program, data, message] = line.splitn(5, '|').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let alert: Value = serde_json::from_str(message.trim()).unwrap_or_else(|error| panic!("{error}: {line}"));
        let id = text_at(&alert, "/id");
        assert_eq!((facility, program), ("audit", "kubesiren"));
        let expected = match text_at(&all[id], "/rule/level") {
            "critical" => "crit",
            "high" => "err",
            "medium" => "warning",
            "low" => "notice",
            _ => "info",
        };
        assert_eq!(severity, expected, "{line}");
        assert!(data.starts_with("[kubesiren@32473 ") && data.contains(&format!("alert_id=\"{id}\"")), "{data}");
        seen.insert(id.to_owned());
    }
    assert!(seen.iter().eq(all.keys()), "{} of {} were logged", seen.len(), all.len());
}
