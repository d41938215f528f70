//! Offline: alerts from audit logs, with the daemon's own detection and correlation, in memory.
//!
//! One thread reads blocks of lines, others look for matches, and the matches are correlated in the order of the input:
//! so the alerts depend neither on the number of threads nor on their timing.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::correlate::{Correlator, Limits};
use crate::engine::{Detected, Detector, Rejected, RuleSet};
use crate::event::compress;

/// Lines are handed to detection in blocks of about this many bytes.
const BLOCK: usize = 2 << 20;

/// A single document (a pretty-printed list, or one line) may be this long.
const DOCUMENT_MAX: usize = 1 << 30;

/// Refused pieces that are kept to be shown; all are counted.
const REJECTS_SHOWN: usize = 20;

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
    /// Reads all inputs in their order. `progress` is told how many bytes were read, after decompression.
    pub fn run(&self, inputs: Vec<Input>, progress: &mut dyn FnMut(u64)) -> Scanned {
        let mut gather = Gather::new(self);
        if self.threads <= 1 {
            let mut worker = Worker::new(self);
            for input in inputs {
                let failed = read_blocks(input, &mut |block| {
                    progress(block.bytes.len() as u64);
                    let mut found = worker.look(block);
                    let buffer = std::mem::take(&mut found.buffer);
                    gather.take(found);
                    buffer
                });
                gather.failed(failed);
            }
            return gather.finish();
        }
        let (to_do, work) = sync_channel::<(u64, Block)>(self.threads * 2);
        let work = Mutex::new(work);
        let (results, done) = channel();
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                let (work, results) = (&work, results.clone());
                scope.spawn(move || serve(&mut Worker::new(self), work, &results));
            }
            drop(results);
            let mut order = Order {
                to_do,
                done,
                waiting: BTreeMap::new(),
                sent: 0,
                taken: 0,
                most: self.threads as u64 * 3,
                spare: Vec::new(),
            };
            for input in inputs {
                let failed = read_blocks(input, &mut |block| {
                    progress(block.bytes.len() as u64);
                    order.send(block, &mut gather)
                });
                gather.failed(failed);
            }
            order.finish(&mut gather);
        });
        gather.finish()
    }
}

/// Bytes of one input that can be looked at by themselves.
struct Block {
    name: Arc<str>,
    bytes: Vec<u8>,
    lines_before: usize,
    /// The whole input is one document.
    whole: bool,
}

/// What was found in a block.
struct Found {
    name: Arc<str>,
    detected: Detected,
    bytes: u64,
    /// Set if not one event was in a block that is a whole document.
    nothing: Option<String>,
    /// Looking at it went wrong.
    failed: bool,
    buffer: Vec<u8>,
}

struct Worker<'s> {
    scan: &'s Scan,
    detector: Detector,
}

impl<'s> Worker<'s> {
    fn new(scan: &'s Scan) -> Self {
        Self { scan, detector: Detector::default() }
    }

    /// Looks at a block. A mistake in here costs the block, not the scan: who waits for the answer gets one.
    fn look(&mut self, block: Block) -> Found {
        let (name, bytes, lines_before) = (Arc::clone(&block.name), block.bytes.len(), block.lines_before);
        let looked = catch_unwind(AssertUnwindSafe(|| self.look_at(block)));
        looked.unwrap_or_else(|_| {
            self.detector = Detector::default();
            let place = format!("block after line {lines_before}");
            tracing::error!(input = &*name, place, "{INTERNAL}; the block was passed over");
            let reject =
                Rejected { place, reason: "internal", detail: INTERNAL.to_owned(), bytes, hash: String::new() };
            let detected = Detected { rejects: vec![reject], ..Detected::default() };
            Found { name, detected, bytes: bytes as u64, nothing: None, failed: true, buffer: Vec::new() }
        })
    }

    fn look_at(&mut self, mut block: Block) -> Found {
        #[cfg(test)]
        assert!(memchr::memmem::find(&block.bytes, tests::PANIC).is_none(), "a mistake");
        let mut detected = Detected::default();
        let Scan { rules, cluster, .. } = self.scan;
        let looked = self.detector.lines(rules, cluster, &block.bytes, block.lines_before, &mut detected);
        let nothing = looked.err().filter(|_| block.whole || block.lines_before == 0).map(|error| error.to_string());
        let bytes = block.bytes.len() as u64;
        block.bytes.clear();
        Found { name: block.name, detected, bytes, nothing, failed: false, buffer: block.bytes }
    }
}

fn serve(worker: &mut Worker<'_>, work: &Mutex<Receiver<(u64, Block)>>, results: &Sender<(u64, Found)>) {
    loop {
        let next = work.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((number, block)) = next else { return };
        if results.send((number, worker.look(block))).is_err() {
            return;
        }
    }
}

/// Hands blocks out and takes what was found in their order.
struct Order {
    to_do: SyncSender<(u64, Block)>,
    done: Receiver<(u64, Found)>,
    waiting: BTreeMap<u64, Found>,
    sent: u64,
    taken: u64,
    /// Blocks under way at most: bounds memory.
    most: u64,
    /// Buffers that nobody uses now: their memory is in place.
    spare: Vec<Vec<u8>>,
}

impl Order {
    /// Hands a block out; returns a buffer to fill next.
    fn send(&mut self, block: Block, gather: &mut Gather<'_>) -> Vec<u8> {
        while self.sent - self.taken >= self.most && self.receive(gather).is_some() {}
        if self.to_do.send((self.sent, block)).is_ok() {
            self.sent += 1;
        }
        self.spare.pop().unwrap_or_else(|| Vec::with_capacity(BLOCK * 2))
    }

    /// Waits for one block, and takes all that are next in order.
    fn receive(&mut self, gather: &mut Gather<'_>) -> Option<()> {
        let (number, mut found) = self.done.recv().ok()?;
        self.spare.push(std::mem::take(&mut found.buffer));
        self.waiting.insert(number, found);
        while let Some(found) = self.waiting.remove(&self.taken) {
            gather.take(found);
            self.taken += 1;
        }
        Some(())
    }

    fn finish(mut self, gather: &mut Gather<'_>) {
        let (closed, _) = sync_channel(0);
        drop(std::mem::replace(&mut self.to_do, closed));
        while self.taken < self.sent && self.receive(gather).is_some() {}
    }
}

/// Correlates what was found, in order.
struct Gather<'s> {
    scan: &'s Scan,
    correlator: Correlator,
    alerts: BTreeMap<String, Alert>,
    scanned: Scanned,
    /// Events of the input that is being read, and why its first block held none.
    events: u64,
    nothing: Option<(Arc<str>, String)>,
    current: Option<Arc<str>>,
}

impl<'s> Gather<'s> {
    fn new(scan: &'s Scan) -> Self {
        let correlator = Correlator::new(Arc::clone(&scan.rules), scan.limits);
        let scanned = Scanned::default();
        Self { scan, correlator, alerts: BTreeMap::new(), scanned, events: 0, nothing: None, current: None }
    }

    fn take(&mut self, found: Found) {
        if self.current.as_ref() != Some(&found.name) {
            self.input_ends();
            self.current = Some(Arc::clone(&found.name));
        }
        let Detected { events, newest, matches, rejects } = found.detected;
        self.events += events;
        if found.failed && self.scanned.failures.last().is_none_or(|(name, _)| **name != *found.name) {
            self.failed(Some((found.name.to_string(), INTERNAL.to_owned())));
        }
        if let Some(nothing) = found.nothing {
            self.nothing.get_or_insert((Arc::clone(&found.name), nothing));
        }
        let stats = &mut self.scanned.stats;
        stats.events += events;
        stats.bytes += found.bytes;
        stats.rejected += rejects.len() as u64;
        let room = REJECTS_SHOWN.saturating_sub(self.scanned.rejects.len());
        self.scanned.rejects.extend(rejects.into_iter().take(room).map(|reject| (found.name.to_string(), reject)));
        self.correlator.take(&matches, None);
        if let Some(newest) = newest {
            self.advance(newest);
        }
        self.collect();
    }

    fn advance(&mut self, newest: Timestamp) {
        let cluster = Arc::clone(&self.scan.cluster);
        self.correlator.advance(&cluster, newest);
    }

    fn collect(&mut self) {
        for change in self.correlator.drain() {
            self.alerts.insert(change.alert.id.clone(), change.alert);
        }
        let counted = self.correlator.take_stats();
        self.scanned.stats.duplicates += counted.duplicates.values().sum::<u64>();
        self.scanned.stats.matches += counted.matches.values().sum::<u64>();
    }

    /// An input without one event is probably not what the user meant.
    fn input_ends(&mut self) {
        if let Some((name, reason)) = self.nothing.take().filter(|_| self.events == 0) {
            // One line says it; what is wrong with each line of a file that is something else helps nobody.
            self.scanned.rejects.retain(|(input, _)| **input != *name);
            self.scanned.failures.push((name.to_string(), reason));
        }
        self.events = 0;
    }

    fn failed(&mut self, failed: Option<(String, String)>) {
        self.scanned.failures.extend(failed);
    }

    fn finish(mut self) -> Scanned {
        self.input_ends();
        self.correlator.finish();
        self.collect();
        let mut alerts: Vec<Alert> = self.alerts.into_values().collect();
        alerts.sort_by(|a, b| (a.time, &a.id).cmp(&(b.time, &b.id)));
        self.scanned.stats.alerts = alerts.len() as u64;
        self.scanned.alerts = alerts;
        self.scanned
    }
}

/// Cuts an input into blocks of whole lines, or takes it whole if it is no sequence of lines. `each` returns a buffer to
/// use next. Returns the input's name and what went wrong, if it could not be read.
fn read_blocks(input: Input, each: &mut dyn FnMut(Block) -> Vec<u8>) -> Option<(String, String)> {
    let name: Arc<str> = input.name.as_str().into();
    match cut(&name, input.reader, each) {
        Ok(()) => None,
        Err(error) => Some((input.name, error.to_string())),
    }
}

fn cut(name: &Arc<str>, reader: Box<dyn Read + Send>, each: &mut dyn FnMut(Block) -> Vec<u8>) -> io::Result<()> {
    let reader = compress::reader(BufReader::with_capacity(256 << 10, reader))?;
    let mut reader = Filling { reader, failed: None };
    let mut bytes = Vec::with_capacity(BLOCK * 2);
    let mut lines_before = 0;
    let mut carried: Vec<u8> = Vec::new();
    loop {
        bytes.append(&mut carried);
        let ended = reader.fill(&mut bytes, BLOCK);
        // A block ends with its last whole line; what follows begins the next one.
        let mut end = if ended { Some(bytes.len()) } else { memchr::memrchr(b'\n', &bytes).map(|at| at + 1) };
        if lines_before == 0 && !is_lines(&bytes, ended) {
            end = Some(bytes.len()).filter(|_| ended);
        }
        let Some(end) = end else {
            if bytes.len() > DOCUMENT_MAX {
                return Err(io::Error::other("a line or document is longer than 1 GiB"));
            }
            let more = bytes.len();
            reader.fill(&mut bytes, more);
            carried = std::mem::take(&mut bytes);
            continue;
        };
        carried.extend_from_slice(&bytes[end..]);
        bytes.truncate(end);
        let lines = memchr::memchr_iter(b'\n', &bytes).count();
        if !bytes.is_empty() {
            let block = Block { name: Arc::clone(name), bytes, lines_before, whole: ended && lines_before == 0 };
            bytes = each(block);
            lines_before += lines;
        }
        if ended {
            return reader.failed.map_or(Ok(()), Err);
        }
    }
}

/// Whether whole lines are documents; a line that is not there to its end tells nothing.
fn is_lines(beginning: &[u8], ended: bool) -> bool {
    let end = if ended { None } else { memchr::memrchr(b'\n', beginning) };
    crate::event::frame::is_lines(&beginning[..end.map_or(beginning.len(), |at| at + 1)])
}

/// An input that may break off: a log that was being packed when the machine went down still has its beginning.
struct Filling<'r> {
    reader: Box<dyn Read + Send + 'r>,
    failed: Option<io::Error>,
}

impl Filling<'_> {
    /// Reads until `want` more bytes are there; true at the end of the input, or where it breaks off.
    fn fill(&mut self, bytes: &mut Vec<u8>, want: usize) -> bool {
        if self.failed.is_some() {
            return true;
        }
        match self.reader.by_ref().take(want as u64).read_to_end(bytes) {
            Ok(read) => read < want,
            Err(error) => {
                self.failed = Some(error);
                true
            }
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
        let reader = Box::new(io::Cursor::new(text.into_bytes()));
        scan.run(vec![Input { name: "in".to_owned(), reader }], &mut |_| {})
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
        io::Write::write_all(&mut packed, lines.join("\n").as_bytes()).unwrap();
        let mut packed = packed.finish().unwrap();
        packed.truncate(packed.len() / 2);
        let loaded = load_text(Path::new("t.yml"), RULE);
        let rules = Arc::new(RuleSet::compile(loaded.rules, Duration::from_secs(300)));
        let scan = Scan { rules, cluster: "c".into(), limits: Limits::default(), threads: 1 };
        let reader = Box::new(io::Cursor::new(packed));
        let scanned = scan.run(vec![Input { name: "in".to_owned(), reader }], &mut |_| {});
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
