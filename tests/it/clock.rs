//! The wall clock of the machine jumps, hours at once, under a running daemon. Needs libfaketime.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

use super::fake::{Receiver, Reply};
use super::faults::flood::RULES;
use super::faults::pressure::event;
use super::support::{Daemon, WEBHOOK, event_list, skipped, text_at, until};

/// Where Debian has it, for whichever processor.
fn libfaketime() -> Option<PathBuf> {
    let folders = std::fs::read_dir("/usr/lib").ok()?.flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1")).find(|file| file.exists());
    if found.is_none() {
        skipped("libfaketime is not installed");
    }
    found
}

/// Sets the daemon's clock so far from the machine's.
fn set(clock: &Path, offset: &str) {
    let aside = clock.with_extension("new");
    std::fs::write(&aside, offset).expect("written");
    std::fs::rename(aside, clock).expect("renamed");
}

/// Five reads of secrets, by the machine's clock: that of the API server does not jump.
fn reads(user: &str) -> String {
    let time = kubesiren::clock::now();
    event_list(&(0..5).map(|n| event(&format!("{user}-{n}"), user, time)).collect::<Vec<_>>())
}

#[tokio::test]
async fn alerts_are_told_once_each_whatever_the_clock_does() {
    let Some(library) = libfaketime() else { return };
    let home = tempfile::tempdir().expect("a folder");
    let (clock, rules) = (home.path().join("clock"), home.path().join("rules.yml"));
    set(&clock, "+0");
    std::fs::write(&rules, RULES).expect("written");
    let failed = AtomicBool::new(false);
    let receiver = Receiver::start(move |request| {
        // What has to be tried again waits while the clock is set back.
        let carl = request.json()["event"]["user"]["username"] == "carl";
        let status = if carl && !failed.swap(true, Ordering::Relaxed) { 503 } else { 200 };
        Reply::new(status, "")
    })
    .await;
    let config = format!(
        "{WEBHOOK}detections: {{builtin: false, paths: ['{}']}}\nsinks: [{{name: soc, type: webhook, url: '{}'}}]\n",
        rules.display(),
        receiver.url("/")
    );
    let (library, file) = (library.display().to_string(), clock.display().to_string());
    let environment = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
        ("FAKETIME_NO_CACHE", "1"),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    let daemon = Daemon::start_in(home.path(), &config, &[], &environment).await;
    for (user, offset) in [("ann", "+0"), ("bob", "+3h"), ("carl", "-5h"), ("dora", "+2h"), ("emil", "+0")] {
        set(&clock, offset);
        assert_eq!(daemon.post(reads(user)).await.0, 200, "{user}");
        until(&format!("the alert of {user}, at {offset}"), async || {
            let told = receiver.requests().iter().any(|request| by(&request.json(), user));
            if told { Ok(()) } else { Err("not told".to_owned()) }
        })
        .await;
    }
    // The clock did jump: what came while it was set back was dated ahead of it.
    assert!(daemon.metric("kubesiren_events_ahead_total", "webhook").await >= 5.0);
    let alerts = daemon.alerts().await;
    assert_eq!(alerts.len(), 5, "{alerts:?}");
    // None has been quiet for ten minutes, whatever the clock says.
    assert!(alerts.values().all(|alert| alert["status"] == "firing"), "{alerts:?}");
    let taken =
        receiver.requests().iter().map(|request| text_at(&request.json(), "/id").to_owned()).collect::<Vec<_>>();
    assert_eq!(taken.len(), 6, "each once, and carl's twice: {taken:?}");
}

fn by(alert: &Value, user: &str) -> bool {
    alert["event"]["user"]["username"] == user
}
