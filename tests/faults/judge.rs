//! What must hold in the end: what `scan` says of the same events is what the outbox has and what the sinks heard.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::daemon::Home;
use super::load::{self, Ledger};
use super::{Heard, Options, scan};

/// Nothing is delivered for so long: then nothing will be.
const STUCK: Duration = Duration::from_secs(60);

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) kills: u64,
    pub(super) moments: BTreeMap<String, u64>,
    pub(super) batches: usize,
    pub(super) given_up: usize,
    pub(super) answers: [u64; 3],
    /// Alerts of `scan` over what was acknowledged.
    pub(crate) expected: usize,
    /// Alerts in the outbox.
    pub(super) alerts: usize,
    /// Acknowledged matches without their alert, or with another one than `scan` has.
    pub(crate) missing: usize,
    /// Alerts that no event that was sent accounts for.
    pub(crate) invented: usize,
    /// Alerts beyond the first of the same rule and evidence.
    pub(crate) duplicates: usize,
    /// Beginnings and ends that a sink never heard of.
    pub(crate) undelivered: usize,
    /// Beginnings and ends that a sink heard of more than once.
    pub(crate) repeated: u64,
    pub(super) told: u64,
    /// What the log called an error.
    pub(crate) errors: Vec<String>,
    pub(super) seconds: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} kills in {:.0} s, by moment (Stopped: SIGTERM alone) {:?}",
            self.kills, self.seconds, self.moments
        )?;
        let [taken, refused, lost] = self.answers;
        writeln!(f, "{taken} posts taken, {refused} refused (503), {lost} without an answer")?;
        writeln!(f, "{} batches acknowledged, {} given up without an answer", self.batches, self.given_up)?;
        writeln!(f, "{} alerts expected, {} in the outbox", self.expected, self.alerts)?;
        writeln!(f, "{} acknowledged matches without their alert", self.missing)?;
        writeln!(f, "{} alerts invented", self.invented)?;
        writeln!(f, "{} duplicate alerts", self.duplicates)?;
        writeln!(f, "{} messages undelivered", self.undelivered)?;
        writeln!(f, "{} of {} messages told again after a crash", self.repeated, self.told)?;
        write!(f, "{} errors in the log", self.errors.len())
    }
}

/// Opens the state of a daemon that may be running.
fn open(state: &Path) -> Connection {
    Connection::open_with_flags(state.join("state.db"), OpenFlags::SQLITE_OPEN_READ_ONLY).expect("a database")
}

/// Awaits that everything is correlated, has ended, and is told.
pub(super) async fn wait_until_told(state: &Path, rule: Option<&str>) {
    let database = open(state);
    let count = || -> (i64, i64) {
        let sql = "SELECT (SELECT count(*) FROM alerts WHERE status = 'firing' AND (?1 IS NULL OR rule = ?1)),
                          (SELECT count(*) FROM deliveries WHERE state = 'pending')";
        database.query_row(sql, [rule], |row| Ok((row.get(0)?, row.get(1)?))).expect("counted")
    };
    let (mut last, mut moved) = (count(), Instant::now());
    while last != (0, 0) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let now = count();
        if now != last {
            (last, moved) = (now, Instant::now());
        }
        assert!(moved.elapsed() < STUCK, "{} alerts fire and {} deliveries wait for ever", last.0, last.1);
    }
}

/// What `scan` says of these batches.
fn scanned(options: &Options, home: &Home, batches: &BTreeSet<u64>) -> BTreeMap<String, Value> {
    let file = home.folder.join("events.jsonl");
    let mut out = std::io::BufWriter::new(std::fs::File::create(&file).expect("a file"));
    for batch in batches {
        for event in load::events(options.seed, *batch) {
            writeln!(out, "{event}").expect("written");
        }
    }
    writeln!(out, "{}", load::end_of_all(options.seed)).expect("written");
    drop(out);
    scan(&options.program, &home.rules(), &file)
}

/// Counts what broke a promise.
pub(super) fn judge(options: &Options, home: &Home, ledger: &Ledger, heard: &[Arc<Heard>; 2], report: &mut Report) {
    let acknowledged = ledger.acknowledged.lock().expect("not poisoned");
    let given_up = ledger.given_up.lock().expect("not poisoned");
    let expected = scanned(options, home, &acknowledged);
    let possible = scanned(options, home, &acknowledged.union(&given_up).copied().collect());
    let found = outbox(&home.state());

    report.batches = acknowledged.len();
    report.given_up = given_up.len();
    for (into, from) in report.answers.iter_mut().zip(&ledger.answers) {
        *into = from.load(Ordering::Relaxed);
    }
    report.expected = expected.len();
    report.alerts = found.len();
    report.missing = expected.iter().filter(|(id, alert)| found.get(*id) != Some(*alert)).count();
    report.invented = found.iter().filter(|(id, alert)| possible.get(*id) != Some(*alert)).count();
    let evidence = |alert: &Value| (alert["rule"]["id"].to_string(), alert["event"]["user"]["username"].to_string());
    let different: BTreeSet<_> = found.values().map(evidence).collect();
    report.duplicates = found.len() - different.len();
    for heard in heard {
        let heard = heard.0.lock().expect("not poisoned");
        for id in found.keys() {
            for status in ["firing", "resolved"] {
                report.undelivered += usize::from(!heard.contains_key(&(id.clone(), status.to_owned())));
            }
        }
        report.invented += heard.keys().filter(|(id, _)| !found.contains_key(id)).count();
        report.told += heard.values().sum::<u64>();
        report.repeated += heard.values().map(|times| times - 1).sum::<u64>();
    }
}

/// Every alert of the outbox; no delivery may have been given up.
pub(super) fn outbox(state: &Path) -> BTreeMap<String, Value> {
    let database = open(state);
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("checked");
    assert_eq!(check, "ok");
    let dead: i64 = database
        .query_row("SELECT count(*) FROM deliveries WHERE state = 'dead'", [], |row| row.get(0))
        .expect("counted");
    assert_eq!(dead, 0, "dead letters");
    let mut select = database.prepare("SELECT id, body FROM alerts").expect("a statement");
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?))).expect("rows");
    rows.map(|row| row.expect("a row")).map(|(id, body)| (id, serde_json::from_str(&body).expect("JSON"))).collect()
}
