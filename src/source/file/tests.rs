//! With real files.

use std::io::Write as _;

use tokio::task::JoinHandle;

use super::*;
use crate::source::testing::{Recorder, until};

const PACE: Pace = Pace {
    poll: Duration::from_millis(5),
    grace: Duration::from_millis(200),
    pause: Duration::from_millis(5),
    pause_max: Duration::from_millis(20),
};

/// A folder with a log, and what became of it.
struct Case {
    folder: tempfile::TempDir,
    ingest: Recorder,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
    task: Option<JoinHandle<()>>,
}

impl Case {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            ingest: Recorder::default(),
            metrics: Arc::default(),
            shutdown: CancellationToken::new(),
            task: None,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        let mut file = File::options().append(true).create(true).open(self.path(name)).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Starts from what was last stored.
    fn start(&mut self) {
        let config = FileConfig { name: name(), path: self.path("audit.log"), cluster: None };
        let follower = Follower::new(&config, "home", self.ingest.clone(), self.metrics.clone()).with_pace(PACE);
        self.shutdown = CancellationToken::new();
        self.task = Some(tokio::spawn(follower.run(self.position(), self.shutdown.clone())));
    }

    async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(task) = self.task.take() {
            task.await.unwrap();
        }
    }

    fn position(&self) -> Option<FilePosition> {
        self.ingest.taken().last().and_then(|taken| taken.position.clone())
    }

    /// Awaits that exactly this was ingested, and nothing follows.
    async fn ingested(&self, text: &str) {
        until(&format!("{text:?}, so far {:?}", self.ingest.text()), || self.ingest.text().len() >= text.len()).await;
        tokio::time::sleep(PACE.poll * 4).await;
        assert_eq!(self.ingest.text(), text);
    }
}

#[tokio::test]
async fn whole_lines_are_handed_over_as_they_come() {
    let mut case = Case::new();
    case.start();
    tokio::time::sleep(PACE.poll * 3).await;
    case.append("audit.log", "one\ntw");
    case.ingested("one\n").await;
    assert_eq!(case.position().map(|position| position.offset), Some(4));
    case.append("audit.log", "o\n");
    case.ingested("one\ntwo\n").await;
    let taken = case.ingest.taken();
    assert!(taken.iter().all(|taken| &*taken.origin.source == "file" && &*taken.origin.cluster == "home"));
    assert_eq!(case.position().map(|position| position.path), Some(case.path("audit.log").display().to_string()));
}

#[tokio::test]
async fn a_restart_goes_on_where_it_was() {
    let mut case = Case::new();
    case.append("audit.log", "one\n");
    case.start();
    case.ingested("one\n").await;
    case.stop().await;
    case.append("audit.log", "two\n");
    case.start();
    case.ingested("one\ntwo\n").await;
}

#[tokio::test]
async fn rotation_by_renaming() {
    let mut case = Case::new();
    case.append("audit.log", "one\n");
    case.start();
    case.ingested("one\n").await;
    case.rename("audit.log", "audit-2026-11-21T04-00-00.000.log");
    case.append("audit-2026-11-21T04-00-00.000.log", "two\n");
    case.ingested("one\ntwo\n").await;
    case.append("audit.log", "four\n");
    case.append("audit-2026-11-21T04-00-00.000.log", "three");
    case.ingested("one\ntwo\nthreefour\n").await;
}

#[tokio::test]
async fn rotation_while_stopped() {
    let mut case = Case::new();
    case.append("audit.log.2", "ancient\n");
    case.append("audit.log", "one\n");
    case.start();
    case.ingested("one\n").await;
    case.stop().await;
    case.append("audit.log", "two\n");
    case.rename("audit.log.2", "audit.log.4");
    case.rename("audit.log", "audit.log.2");
    let later = |name: &str, seconds: u64| {
        let before = fs::metadata(case.path("audit.log.2")).unwrap().modified().unwrap();
        let file = File::options().append(true).open(case.path(name)).unwrap();
        file.set_modified(before + Duration::from_secs(seconds)).unwrap();
    };
    case.append("audit.log.1", "three\n");
    later("audit.log.1", 1);
    case.append("audit.log", "four\n");
    case.start();
    case.ingested("one\ntwo\nthree\nfour\n").await;
}

#[tokio::test]
async fn a_rotated_file_is_read_once_over_restarts() {
    let mut case = Case::new();
    case.append("audit.log", "one\n");
    case.start();
    case.ingested("one\n").await;
    case.stop().await;
    case.append("audit.log", "two\n");
    case.rename("audit.log", "audit.log.1");
    case.append("audit.log", "three\n");
    case.start();
    case.ingested("one\ntwo\nthree\n").await;
    case.stop().await;
    case.start();
    case.append("audit.log", "four\n");
    case.ingested("one\ntwo\nthree\nfour\n").await;
}

#[tokio::test]
async fn truncation_starts_again() {
    let mut case = Case::new();
    case.append("audit.log", "one\ntwo\n");
    case.start();
    case.ingested("one\ntwo\n").await;
    fs::write(case.path("audit.log"), "3\n").unwrap();
    case.ingested("one\ntwo\n3\n").await;
    // Longer than before at once: only the first bytes tell.
    fs::write(case.path("audit.log"), "four and five and six\n").unwrap();
    case.ingested("one\ntwo\n3\nfour and five and six\n").await;
}

#[tokio::test]
async fn copytruncate_loses_nothing_that_was_copied() {
    let mut case = Case::new();
    case.append("audit.log", "one\n");
    case.start();
    case.ingested("one\n").await;
    for restart in [false, true] {
        if restart {
            case.stop().await;
        }
        let before = case.ingest.text();
        // Written, copied and truncated between two looks.
        case.append("audit.log", &format!("two {restart}\n"));
        fs::copy(case.path("audit.log"), case.path("audit.log.1")).unwrap();
        fs::write(case.path("audit.log"), "").unwrap();
        case.append("audit.log", &format!("three {restart}\n"));
        if restart {
            case.start();
        }
        case.ingested(&format!("{before}two {restart}\nthree {restart}\n")).await;
    }
}

#[tokio::test]
async fn no_room_waits_and_loses_nothing() {
    let mut case = Case::new();
    for _ in 0..4 {
        case.ingest.refuse(IngestError::NoRoom("the journal is full".to_owned()));
    }
    case.append("audit.log", "one\n");
    case.start();
    case.ingested("one\n").await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_room() {
    let mut case = Case::new();
    for _ in 0..10_000 {
        case.ingest.refuse(IngestError::NoRoom("the journal is full".to_owned()));
    }
    case.append("audit.log", "one\n");
    case.start();
    case.ingest.entered.acquire_many(2).await.unwrap().forget();
    case.stop().await;
    assert_eq!(case.position(), None);
}

#[tokio::test]
async fn refused_lines_are_counted_and_passed() {
    let mut case = Case::new();
    case.ingest.refuse(IngestError::NotAudit("line 1: no JSON".to_owned()));
    case.append("audit.log", "one\ntwo\n");
    case.start();
    let metrics = case.metrics.clone();
    until("they are counted", || {
        metrics.encode().contains("events_rejected_total{source=\"file\",reason=\"not_audit\"} 2")
    })
    .await;
    case.append("audit.log", "three\n");
    case.ingested("three\n").await;
    assert_eq!(case.position().map(|position| position.offset), Some(14));
}

#[test]
fn every_reason_of_framing_is_counted_from_the_start() {
    for reason in crate::event::frame::Reason::ALL {
        assert!(crate::metrics::REJECT_REASONS.contains(&reason.as_str()), "{reason:?}");
    }
}

#[tokio::test]
async fn a_line_without_end_is_skipped_and_counted() {
    let mut case = Case::new();
    case.append("audit.log", "one\n");
    case.append("audit.log", &"x".repeat(LINE_MAX + 2 * BLOCK));
    case.append("audit.log", "\ntwo\n");
    case.start();
    case.ingested("one\ntwo\n").await;
    assert!(case.metrics.encode().contains("events_rejected_total{source=\"file\",reason=\"too_large\"} 1"));
}

#[tokio::test]
async fn long_lines_and_many_blocks() {
    let mut case = Case::new();
    let line = |n: usize| format!("{n}{}\n", "y".repeat(n * 300_000));
    let text: String = (1..12).map(line).collect();
    case.append("audit.log", &text);
    case.start();
    until("all of it", || case.ingest.text().len() == text.len()).await;
    assert!(case.ingest.text() == text);
    assert!(case.ingest.taken().iter().all(|taken| taken.body.ends_with(b"\n")));
}
