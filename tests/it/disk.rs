//! A state directory that is full, read-only or damaged.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::support::{Daemon, WEBHOOK, attack, by_id, end_of_story, event_list, kubesiren, scan, skipped, until};

/// A small file system of its own, unmounted at the end.
struct Mount(PathBuf);

impl Mount {
    /// Mounts one on the state directory in `home`; `None` where that is not allowed.
    fn new(home: &Path, size: &str) -> Option<Self> {
        let state = home.join("state");
        std::fs::create_dir(&state).expect("made");
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "kubesiren-test"])
            .arg(&state)
            .output();
        if mount.is_ok_and(|output| output.status.success()) {
            return Some(Self(state));
        }
        skipped("a file system cannot be mounted here");
        None
    }

    fn read_only(&self) {
        let mount = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(mount.expect("it was mounted").success());
    }

    /// Writes until there is no room; the file that takes it.
    fn fill(&self) -> PathBuf {
        let path = self.0.join("filler");
        let mut file = File::create(&path).expect("a file");
        for size in [1 << 16, 1 << 10, 1] {
            let bytes = vec![1; size];
            while file.write_all(&bytes).is_ok() {}
        }
        path
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Starts a daemon that does not come up; its exit code and what it said.
fn refused(home: &Path, more: &[&str]) -> (Option<i32>, String) {
    let output = kubesiren().args(["run", "--config"]).arg(home.join("config.yaml")).args(more).output();
    let output = output.expect("the program can be started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[tokio::test]
async fn a_full_disk_refuses_batches_and_nothing_is_lost_when_there_is_room_again() {
    let home = tempfile::tempdir().expect("a folder");
    let Some(mount) = Mount::new(home.path(), "24m") else { return };
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let mut events = attack();
    events.push(end_of_story());
    let half = events.len() / 2;
    daemon.feed(&events[..half], 4).await;
    let filler = mount.fill();
    let batches: Vec<String> = events[half..].chunks(4).map(event_list).collect();
    let mut taken = BTreeSet::new();
    until("a batch is refused for want of room", async || {
        for (n, batch) in batches.iter().enumerate() {
            match daemon.post(batch.clone()).await.0 {
                200 => taken.insert(n),
                503 => return Ok(()),
                other => panic!("answered {other}"),
            };
        }
        Err(format!("{} batches are taken", taken.len()))
    })
    .await;
    until("the daemon says so", async || match daemon.get("/readyz").await {
        (503, text) if text.contains("no room") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    std::fs::remove_file(filler).expect("removed");
    for batch in &batches {
        until("there is room again", async || match daemon.post(batch.clone()).await {
            (200, _) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
    let expected = by_id(scan(&[], events.join("\n").as_bytes()).0);
    until("every alert is there, as the scan has it", async || {
        let found = daemon.alerts().await;
        if found == expected { Ok(()) } else { Err(format!("{} of {}", found.len(), expected.len())) }
    })
    .await;
    until("ready again", async || match daemon.get("/readyz").await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_start_on_a_full_disk_uses_the_reserve_and_loses_nothing() {
    let home = tempfile::tempdir().expect("a folder");
    let Some(mount) = Mount::new(home.path(), "24m") else { return };
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    daemon.feed(&attack(), 100).await;
    daemon.stop().await;
    let filler = mount.fill();
    // The reserve is there from the last run, so that it comes up, delivers and prunes, but takes nothing.
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    std::fs::remove_file(filler).expect("removed");
    until("there is room again", async || match daemon.post(event_list(&[end_of_story()])).await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let mut events = attack();
    events.push(end_of_story());
    let expected = by_id(scan(&[], events.join("\n").as_bytes()).0);
    until("every alert is there, as the scan has it", async || {
        let found = daemon.alerts().await;
        if found == expected { Ok(()) } else { Err(format!("{} of {}", found.len(), expected.len())) }
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_read_only_state_directory_is_a_mistake_that_is_told() {
    let home = tempfile::tempdir().expect("a folder");
    let Some(mount) = Mount::new(home.path(), "24m") else { return };
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    daemon.stop().await;
    mount.read_only();
    let (code, shown) = refused(home.path(), &[]);
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains(&mount.0.display().to_string()) && shown.contains("Read-only"), "{shown}");
}

/// How a file is damaged, and by what.
type Damage = (&'static str, fn(&File));

#[tokio::test]
async fn a_damaged_database_is_left_as_it_is_until_somebody_says_otherwise() {
    let damages: [Damage; 3] = [
        ("cut off", |file| file.set_len(file.metadata().expect("a size").len() / 2).expect("cut")),
        ("overwritten at the beginning", |file| file.write_all_at(&[0x55; 200], 0).expect("written")),
        ("overwritten in the middle", |file| {
            let pages = file.metadata().expect("a size").len() / 4096;
            (2..pages).for_each(|page| file.write_all_at(&[0x55; 64], page * 4096).expect("written"));
        }),
    ];
    for (how, damage) in damages {
        let home = tempfile::tempdir().expect("a folder");
        let daemon = Daemon::start(home.path(), WEBHOOK).await;
        daemon.feed(&attack(), 100).await;
        daemon.stop().await;
        let path = home.path().join("state/state.db");
        damage(&OpenOptions::new().write(true).read(true).open(&path).expect("a file"));
        let before = std::fs::read(&path).expect("read");

        let (code, shown) = refused(home.path(), &[]);
        assert_eq!(code, Some(2), "{how}: {shown}");
        assert!(shown.contains("state.db is damaged") && shown.contains("--set-damaged-aside"), "{how}: {shown}");
        assert_eq!(std::fs::read(&path).expect("read"), before, "{how}: it is left as it is");

        let mut daemon = Daemon::start_with(home.path(), WEBHOOK, &["--set-damaged-aside"]).await;
        daemon.process.logged("it is told where the old one is", |line| line.contains("damaged-").then_some(())).await;
        let kept: Vec<PathBuf> = std::fs::read_dir(home.path().join("state"))
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| path.to_string_lossy().contains("state.db.damaged-"))
            .filter(|path| std::fs::read(path).expect("read") == before)
            .collect();
        assert_eq!(kept.len(), 1, "{how}");
        daemon.feed(&attack(), 100).await;
        until("it works", async || if daemon.alerts().await.len() > 5 { Ok(()) } else { Err(String::new()) }).await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_database_that_answers_with_errors_is_told_until_it_works_again() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let database = rusqlite::Connection::open(home.path().join("state/state.db")).expect("it can be opened beside it");
    database
        .execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON journal BEGIN SELECT RAISE(ABORT, 'induced failure'); END",
        )
        .expect("made");
    assert_eq!(daemon.post(event_list(&attack())).await.0, 503);
    until("not ready", async || match daemon.get("/readyz").await {
        (503, text) if text.contains("state database: induced failure") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(daemon.get("/livez").await.0, 200, "a restart would not help");
    database.execute_batch("DROP TRIGGER broken").expect("gone");
    // Nothing is sent to who is not ready.
    until("ready again", async || match daemon.get("/readyz").await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(daemon.post(event_list(&attack())).await.0, 200);
    until("the alerts are there", async || if daemon.alerts().await.len() > 5 { Ok(()) } else { Err(String::new()) })
        .await;
    daemon.stop().await;
}
