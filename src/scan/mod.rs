//! Offline: alerts from audit logs, with the daemon's own detection and correlation, in memory.
//!
//! Each thread cuts a block of lines off the input when it has none, and looks for matches in it while the block is in its
//! own cache; the matches are correlated in the order of the input. So the alerts depend neither on the number of threads
//! nor on their timing.

mod cut;
mod events;
mod gather;

use std::collections::BTreeMap;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use self::cut::{Block, Blocks};
use self::gather::Gather;
use crate::alert::Alert;
use crate::correlate::Limits;
use crate::engine::{Detected, Detector, Rejected, RuleSet};

pub use self::events::each_event;

/// Blocks for each thread that may be looked at before the one before them is done: bounds memory.
const AHEAD: usize = 8;

/// What is said when a block could not be looked at for a mistake in the program.
const INTERNAL: &str = "internal error, please report";

/// What to scan with.
#[derive(Clone)]
pub struct Scan {
    /// The rules.
    pub rules: Arc<RuleSet>,
    /// The cluster label of events that name none.
    pub cluster: Arc<str>,
    /// Bounds of correlation.
    pub limits: Limits,
    /// Threads, at least one. With one, everything happens on the caller's.
    pub threads: usize,
}

/// One input.
pub struct Input {
    /// Its name for people.
    pub name: String,
    /// Its bytes, packed or not.
    pub reader: Box<dyn Read + Send>,
}

/// What was read and found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Good events.
    pub events: u64,
    /// Bytes after decompression.
    pub bytes: u64,
    /// Refused pieces.
    pub rejected: u64,
    /// Events that were cut off, of which what was left was looked at.
    pub truncated: u64,
    /// Records of envelopes that are no audit events and need not be.
    pub skipped: u64,
    /// Matching events that were there twice.
    pub duplicates: u64,
    /// Requests of which a rule was true, summed over the rules.
    pub matches: u64,
    /// Episodes.
    pub alerts: u64,
    /// Wall time.
    pub seconds: f64,
}

/// The outcome of a scan.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Every episode once, as it was at the end, by `time`, then `id`.
    pub alerts: Vec<Alert>,
    /// Counts; `seconds` is left to the caller.
    pub stats: Stats,
    /// The first refused pieces, with the name of their input.
    pub rejects: Vec<(String, Rejected)>,
    /// Inputs that could not be read to their end, or hold no audit event at all, with the reason.
    pub failures: Vec<(String, String)>,
}

impl Scan {
    /// Reads all inputs in their order.
    pub fn run(&self, inputs: Vec<Input>) -> Scanned {
        let mut gather = Gather::new(self);
        let mut blocks = Blocks::new(inputs);
        if self.threads <= 1 {
            let (mut worker, mut buffer) = (Worker::new(self), Vec::new());
            while let Some(block) = blocks.next(&mut buffer) {
                gather.take(block.map(|block| worker.look(block, &mut buffer)));
            }
            return gather.finish();
        }
        let (permits, permitted) = channel();
        (0..self.threads * AHEAD).try_for_each(|_| permits.send(())).ok();
        let feed = Mutex::new(Feed { blocks, handed_out: 0, permitted });
        let (results, done) = channel();
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                let (feed, results) = (&feed, results.clone());
                scope.spawn(move || serve(&mut Worker::new(self), feed, &results));
            }
            drop(results);
            let (mut waiting, mut next) = (BTreeMap::new(), 0);
            for (number, outcome) in done {
                waiting.insert(number, outcome);
                while let Some(outcome) = waiting.remove(&next) {
                    gather.take(outcome);
                    next += 1;
                    // Nobody is left to take it once all is read.
                    let _ = permits.send(());
                }
            }
        });
        gather.finish()
    }
}

/// What came of a block; or an input that cannot be read further, and why.
type Outcome = Result<Found, Failure>;

/// The name of an input that cannot be read further, and why.
type Failure = (String, String);

/// What was found in a block.
struct Found {
    name: Arc<str>,
    detected: Detected,
    bytes: u64,
    /// Set if not one event was in a block that is a whole document.
    nothing: Option<String>,
    /// Looking at it went wrong.
    failed: bool,
}

struct Worker<'s> {
    scan: &'s Scan,
    detector: Detector,
}

impl<'s> Worker<'s> {
    fn new(scan: &'s Scan) -> Self {
        Self { scan, detector: Detector::default() }
    }

    /// Looks at a block, and gives its memory back in `buffer`. A mistake in here costs the block, not the scan: who waits
    /// for the answer gets one.
    fn look(&mut self, block: Block, buffer: &mut Vec<u8>) -> Found {
        let looked = catch_unwind(AssertUnwindSafe(|| self.look_at(&block)));
        let found = looked.unwrap_or_else(|_| {
            self.detector = Detector::default();
            let place = format!("block after line {}", block.lines_before);
            tracing::error!(input = &*block.name, place, "{INTERNAL}; the block was passed over");
            let bytes = block.bytes.len();
            let mut detected = Detected::default();
            detected.rejects.push("internal", || Rejected {
                place,
                reason: "internal",
                detail: INTERNAL.to_owned(),
                bytes,
                hash: String::new(),
            });
            Found { name: Arc::clone(&block.name), detected, bytes: bytes as u64, nothing: None, failed: true }
        });
        *buffer = block.bytes;
        found
    }

    fn look_at(&mut self, block: &Block) -> Found {
        #[cfg(test)]
        assert!(memchr::memmem::find(&block.bytes, tests::PANIC).is_none(), "a mistake");
        let mut detected = Detected::default();
        let Scan { rules, cluster, .. } = self.scan;
        let looked = self.detector.lines(rules, cluster, &block.bytes, block.lines_before, &mut detected);
        let nothing = looked.err().filter(|_| block.whole || block.lines_before == 0).map(|error| error.to_string());
        Found { name: Arc::clone(&block.name), detected, bytes: block.bytes.len() as u64, nothing, failed: false }
    }
}

/// Blocks in their order, each to one thread.
struct Feed {
    blocks: Blocks,
    handed_out: u64,
    permitted: Receiver<()>,
}

impl Feed {
    fn next(&mut self, buffer: &mut Vec<u8>) -> Option<(u64, Result<Block, Failure>)> {
        // Who waits here holds the lock; the block that everybody waits for is out already.
        self.permitted.recv().ok()?;
        let block = self.blocks.next(buffer)?;
        self.handed_out += 1;
        Some((self.handed_out - 1, block))
    }
}

fn serve(worker: &mut Worker<'_>, feed: &Mutex<Feed>, results: &Sender<(u64, Outcome)>) {
    let mut buffer = Vec::new();
    loop {
        let next = feed.lock().unwrap_or_else(PoisonError::into_inner).next(&mut buffer);
        let Some((number, block)) = next else { return };
        let outcome = block.map(|block| worker.look(block, &mut buffer));
        if results.send((number, outcome)).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::rule::load::load_text;

    /// Looking at a block with this in it goes wrong.
    pub(super) const PANIC: &[u8] = b"a block that goes wrong";

    const RULE: &str = "title: T\nid: t\nlogsource: {product: kubernetes, service: audit}\ndetection: {s: {verb: delete}, condition: s}\n";

    fn scan(text: String, threads: usize) -> Scanned {
        let loaded = load_text(Path::new("t.yml"), RULE);
        let rules = Arc::new(RuleSet::compile(loaded.rules, Duration::from_secs(300)));
        let scan = Scan { rules, cluster: "c".into(), limits: Limits::default(), threads };
        let reader = Box::new(std::io::Cursor::new(text.into_bytes()));
        scan.run(vec![Input { name: "in".to_owned(), reader }])
    }

    fn event(n: usize, verb: &str) -> String {
        format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"{n}","stage":"ResponseComplete","requestURI":"/","verb":"{verb}","user":{{"username":"u{}"}},"requestReceivedTimestamp":"2026-01-01T00:{:02}:00.000000Z","stageTimestamp":"2026-01-01T00:{:02}:00.000000Z","pad":"{}"}}"#,
            n % 50,
            n / 500 % 60,
            n / 500 % 60,
            "x".repeat(200)
        )
    }

    #[test]
    fn blocks_threads_and_bad_lines_change_nothing() {
        let mut lines: Vec<String> =
            (0..20_000).map(|n| event(n, if n % 97 == 0 { "delete" } else { "get" })).collect();
        lines.insert(15_000, "{\"kind\": \"Ev".to_owned());
        let text = lines.join("\n");
        let one = scan(text.clone(), 1);
        assert_eq!((one.stats.events, one.stats.rejected), (20_000, 1));
        assert_eq!(one.rejects[0].1.place, "line 15001");
        assert_eq!(one.stats.matches, 207);
        assert!(!one.alerts.is_empty() && one.alerts.iter().map(|alert| alert.count).sum::<u64>() == 207);
        let four = scan(text, 4);
        assert_eq!((four.alerts, four.stats), (one.alerts, one.stats));
    }

    #[test]
    fn one_long_line_and_a_printed_document_are_read_whole() {
        let items: Vec<String> = (0..10_000).map(|n| event(n, "delete")).collect();
        let list = format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{}]}}"#, items.join(","));
        assert_eq!(scan(list.clone(), 2).stats.events, 10_000);
        let value: serde_json::Value = serde_json::from_str(&list).expect("json");
        assert_eq!(scan(serde_json::to_string_pretty(&value).expect("json"), 2).stats.events, 10_000);
    }

    #[test]
    fn what_is_left_of_a_log_that_breaks_off_counts() {
        let lines: Vec<String> = (0..3_000).map(|n| event(n, "get")).collect();
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, lines.join("\n").as_bytes()).unwrap();
        let mut packed = packed.finish().unwrap();
        packed.truncate(packed.len() / 2);
        let loaded = load_text(Path::new("t.yml"), RULE);
        let rules = Arc::new(RuleSet::compile(loaded.rules, Duration::from_secs(300)));
        let scan = Scan { rules, cluster: "c".into(), limits: Limits::default(), threads: 1 };
        let reader = Box::new(std::io::Cursor::new(packed));
        let scanned = scan.run(vec![Input { name: "in".to_owned(), reader }]);
        assert!(scanned.stats.events > 1_000, "{:?}", scanned.stats);
        assert_eq!(scanned.failures.len(), 1);
    }

    #[test]
    fn an_input_without_events_is_a_failure_and_a_broken_first_line_is_not() {
        assert_eq!(scan("hello\nworld\n".to_owned(), 1).failures.len(), 1);
        let text = format!("{{\"kind\":\n{}\n{}\n", event(1, "get"), event(2, "delete"));
        let scanned = scan(text, 1);
        assert_eq!((scanned.stats.events, scanned.stats.rejected, scanned.failures.len()), (2, 1, 0));
    }

    #[test]
    fn a_torn_first_line_leaves_the_rest_of_a_long_input() {
        let lines: Vec<String> = (0..20_000).map(|n| event(n, "get")).collect();
        for torn in ["\"}", "{\"kind\":\"Ev\nxx", "{\"items\":["] {
            let scanned = scan(format!("{torn}\n{}\n", lines.join("\n")), 2);
            let rejected = torn.lines().count() as u64;
            assert_eq!((scanned.stats.events, scanned.stats.rejected), (20_000, rejected), "{torn}");
            assert!(scanned.failures.is_empty());
        }
    }

    #[test]
    fn a_mistake_costs_its_block_and_is_told() {
        let mut lines: Vec<String> = (0..60_000).map(|n| event(n, "get")).collect();
        lines[30_000].push_str(&String::from_utf8_lossy(PANIC));
        for threads in [1, 4] {
            let scanned = scan(lines.join("\n"), threads);
            assert!((30_000..60_000).contains(&scanned.stats.events), "{}", scanned.stats.events);
            assert_eq!(scanned.stats.rejected, 1);
            assert_eq!(scanned.failures, [("in".to_owned(), INTERNAL.to_owned())]);
        }
    }

    #[test]
    fn events_in_the_text_of_a_log_shipper_are_found() {
        let text: Vec<String> = (0..50)
            .map(|n| serde_json::json!({"kubernetes": {"pod_name": "p"}, "log": event(n, "delete") + "\n"}).to_string())
            .collect();
        let scanned = scan(text.join("\n"), 1);
        assert_eq!((scanned.stats.events, scanned.stats.matches, scanned.stats.rejected), (50, 50, 0));
    }
}
