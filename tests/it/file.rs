//! A followed log file.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use super::support::{Daemon, attack, by_id, quiet_event, scan, until};

fn append(path: &Path, text: &str) {
    let mut file = OpenOptions::new().append(true).create(true).open(path).expect("opened");
    file.write_all(text.as_bytes()).expect("written");
}

fn quiet(from: usize, to: usize) -> String {
    (from..to).map(|n| quiet_event(&format!("q{n}"), "2026-11-21T05:00:00.000000Z") + "\n").collect()
}

#[tokio::test]
async fn every_event_counts_once_across_rotation_and_restarts() {
    let home = tempfile::tempdir().expect("a folder");
    let log = home.path().join("audit.log");
    let config = format!("sources: [{{type: file, path: '{}', cluster: edge}}]\n", log.display());
    let counted = async |daemon: &Daemon, events: f64| {
        daemon.metric_is("kubesiren_events_total", "source=\"file\"", events).await;
    };
    let mut daemon = Daemon::start(home.path(), &config).await;
    counted(&daemon, 0.0).await;
    let attack = attack();
    append(&log, &(attack.join("\n") + "\n"));
    counted(&daemon, 27.0).await;

    // Half a line counts when the other half is there, be it in a file that was rotated away meanwhile.
    let line = quiet(0, 1);
    append(&log, &line[..100]);
    append(&log, &(line[100..].to_owned() + &quiet(1, 5)));
    counted(&daemon, 32.0).await;
    let rotated = home.path().join("audit-2026-11-21T05-00-00.000.log");
    std::fs::rename(&log, &rotated).expect("renamed");
    append(&rotated, &quiet(5, 7));
    append(&log, &quiet(7, 10));
    counted(&daemon, 37.0).await;

    daemon.process.kill();
    append(&log, &quiet(10, 12));
    std::fs::rename(&log, home.path().join("audit-2026-11-21T05-10-00.000.log")).expect("renamed");
    append(&log, &quiet(12, 15));
    let daemon = Daemon::start(home.path(), &config).await;
    counted(&daemon, 5.0).await;
    append(&log, &quiet(15, 16));
    counted(&daemon, 6.0).await;
    daemon.stop().await;

    let daemon = Daemon::start(home.path(), &config).await;
    append(&log, &quiet(16, 17));
    counted(&daemon, 1.0).await;
    // Emptied in place, as `copytruncate` does.
    File::create(&log).expect("truncated");
    append(&log, &quiet(17, 18));
    counted(&daemon, 2.0).await;

    let text = attack.join("\n") + "\n" + &quiet(0, 18);
    let expected = by_id(scan(&["--cluster", "edge"], text.as_bytes()).0);
    until("the alerts are those of a scan", async || {
        let found = daemon.alerts().await;
        if found.keys().eq(expected.keys()) { Ok(()) } else { Err(format!("{} of {}", found.len(), expected.len())) }
    })
    .await;
}
