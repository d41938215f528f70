//! `kubesiren outbox` beside a daemon that runs.

use std::path::Path;
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::fake::{Receiver, Reply};
use super::support::{Daemon, WEBHOOK, attack, json_lines, run, scan, text_at, until};

fn outbox(home: &Path, args: &[&str]) -> Output {
    let config = home.join("config.yaml").display().to_string();
    run(&[&["outbox"], args, &["--config", &config]].concat(), b"")
}

fn listed(home: &Path, args: &[&str]) -> Vec<Value> {
    let output = outbox(home, &[&["list"], args].concat());
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    json_lines(&String::from_utf8_lossy(&output.stdout))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn dead_letters_are_listed_sent_again_and_dropped_while_the_daemon_runs() {
    let well = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&well);
    let picky = Receiver::start(move |_| {
        Reply::new(if seen.load(Ordering::Relaxed) { 200 } else { 400 }, "I do not like it\u{1b}[31m")
    })
    .await;
    let home = tempfile::tempdir().expect("a folder");
    let sink = format!("sinks: [{{name: soc, type: webhook, url: '{}'}}]\n", picky.url("/"));
    let daemon = Daemon::start(home.path(), &format!("{WEBHOOK}{sink}")).await;
    daemon.feed(&attack(), 100).await;
    let alerts = scan(&[], attack().join("\n").as_bytes()).0.len();
    let dead = until("every alert was refused", async || {
        let dead = listed(home.path(), &["--state", "dead"]);
        if dead.len() == alerts { Ok(dead) } else { Err(format!("{} of {alerts}", dead.len())) }
    })
    .await;
    let first = text_at(&dead[0], "/alert/id").to_owned();
    assert!(dead.iter().all(|line| line["sink"] == "soc" && line["kind"] == "firing"));
    assert!(text_at(&dead[0], "/reason").contains("400 Bad Request"));
    let table = outbox(home.path(), &["list", "--format", "table"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains(&first) && table.contains("dead") && !table.contains('\u{1b}'), "{table}");

    let refused = outbox(home.path(), &["drop", "--sink", "soc"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("--yes"), "{}", said(&refused));
    assert_eq!(listed(home.path(), &["--state", "dead"]).len(), dead.len());
    assert_eq!(outbox(home.path(), &["drop", "--id", "no-such-alert"]).status.code(), Some(1));
    assert_eq!(said(&outbox(home.path(), &["drop", "--id", &first])), "1 delivery forgotten\n");
    let counts = |args: &[&str]| json_lines(&String::from_utf8_lossy(&outbox(home.path(), args).stdout));
    assert_eq!(counts(&["drop", "--id", &first, "-o", "json"]), [json!({"forgotten": 0})]);

    well.store(true, Ordering::Relaxed);
    let before = picky.requests().len();
    let retried = outbox(home.path(), &["retry", "--sink", "soc"]);
    assert_eq!(said(&retried), format!("{} deliveries put back\n", dead.len() - 1));
    until("what was put back is sent", async || {
        let told = picky.requests()[before..].iter().filter(|told| told.json()["status"] == "firing").count();
        if told == dead.len() - 1 { Ok(()) } else { Err(format!("{told} of {}", dead.len() - 1)) }
    })
    .await;
    assert!(picky.requests()[before..].iter().all(|told| told.json()["id"] != first.as_str()), "it was dropped");
    daemon.stop().await;

    let nothing = outbox(home.path(), &["retry"]);
    assert_eq!((nothing.status.code(), nothing.stdout.len()), (Some(0), 0), "{}", said(&nothing));
    assert_eq!(said(&nothing), "nothing in the outbox is selected\n");
    assert_eq!(counts(&["retry", "-o", "json"]), [json!({"put_back": 0, "no_room": 0})]);
    let nowhere = run(&["outbox", "list", "--state-dir", "/nowhere"], b"");
    assert_eq!(nowhere.status.code(), Some(2));
    assert!(said(&nowhere).contains("/nowhere"), "{}", said(&nowhere));
}
