//! What the fuzz targets check. Each takes any bytes; a panic is a bug.

use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use kubesiren::engine::{self, Detected, Detector, Rejections, RuleSet};
use kubesiren::event::compress::{self, Encoding, decompress};
use kubesiren::event::frame::{Reason, is_lines, told_apart};
use kubesiren::event::{self, Framed};
use kubesiren::rule::explain::explain;
use kubesiren::rule::load::load_text;
use kubesiren::rule::{self, Loaded};
use serde_json::Value;
use serde_json::value::RawValue;

#[path = "../../tests/it/judge.rs"]
mod judge;

use judge::{CLUSTER, agreed, entries, falco_rule};

/// The built-in detections and every rule of `tests/semantics`.
static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
    let mut rules = rule::load(&rule::Options { builtin: true, ..rule::Options::default() }).rules;
    rules.rules.extend(entries().into_iter().map(|entry| entry.rule));
    RuleSet::compile(rules, Duration::from_secs(300))
});

/// Some events that any rule is asked about.
static EVENTS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let mut events: Vec<String> =
        entries().into_iter().flat_map(|entry| entry.events).map(|(event, _)| event).collect();
    events.sort_by_key(|event| std::cmp::Reverse(event.len()));
    events.dedup();
    let step = (events.len() / 12).max(1);
    events.into_iter().filter(|event| event.len() < 4_000).step_by(step).collect()
});

/// What there is to compare of what was found in a body: how many events, which rules of which deliveries, and what was
/// refused: how many pieces, and of the first ones where, why and how long.
type Found = (u64, Vec<(String, u64)>, (u64, Vec<(String, &'static str, usize)>));

fn comparable(found: Detected) -> Found {
    let matches = found.matches.into_iter().map(|found| (found.rule.to_string(), found.delivery)).collect();
    let count = found.rejects.count();
    let kept = found.rejects.into_kept().into_iter();
    (found.events, matches, (count, kept.map(|reject| (reject.place, reject.reason, reject.bytes)).collect()))
}

fn in_one_pass(body: &[u8]) -> Found {
    let mut found = Detected::default();
    let _ = Detector::default().body(&RULES, &CLUSTER.into(), body, &mut found);
    comparable(found)
}

/// A body with its items told apart first, each event looked at by itself.
fn told_apart_first(body: &[u8]) -> Found {
    let (mut detector, mut found, mut bad) = (Detector::default(), Detected::default(), Vec::new());
    let _ = event::frame(body, |piece| match piece {
        Framed::First(_) => Err(told_apart()),
        Framed::Event(bytes) => {
            detector.event(&RULES, &CLUSTER.into(), bytes, &mut found);
            let Some(reject) = std::mem::take(&mut found.rejects).into_kept().pop() else { return Ok(0) };
            let reason = Reason::ALL.into_iter().find(|reason| reason.as_str() == reject.reason);
            Err((reason.expect("a reason"), reject.detail))
        }
        Framed::Bad(reject) => {
            bad.push((reject.place, reject.reason.as_str(), reject.bytes.len()));
            Ok(0)
        }
    });
    let (events, matches, _) = comparable(found);
    let count = bad.len() as u64;
    bad.truncate(Rejections::KEPT_MAX);
    (events, matches, (count, bad))
}

/// Whether bytes are JSON texts one after the other, and no more.
fn is_json(bytes: &[u8]) -> bool {
    serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>().all(|text| text.is_ok())
}

/// Bodies: whatever they are, nothing panics; if they are JSON, both ways to take them apart find the same, and lines
/// are found the same in one block and in two.
pub fn frame(body: &[u8]) {
    let whole = in_one_pass(body);
    let apart = told_apart_first(body);
    if is_json(body) {
        assert_eq!(whole, apart, "in one pass, and told apart first");
    }
    let lines_are_json = body.split(|byte| *byte == b'\n').all(is_json);
    if is_lines(body)
        && lines_are_json
        && let Some(end) = body.iter().position(|byte| *byte == b'\n')
    {
        let mut found = Detected::default();
        let mut detector = Detector::default();
        let _ = detector.body(&RULES, &CLUSTER.into(), &body[..=end], &mut found);
        let _ = detector.lines(&RULES, &CLUSTER.into(), &body[end + 1..], 1, &mut found);
        let (events, matches, rejects) = comparable(found);
        assert_eq!((events, matches, rejects.0), (whole.0, whole.1, whole.2.0), "in two blocks");
    }
}

/// One event, of which the engine must say what the judge says. Bytes that begin no object are an event's members.
pub fn judge(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let event = match text.starts_with('{') {
        true => text.to_owned(),
        false => format!(
            r#"{{"auditID":"a","verb":"get","stage":"ResponseComplete","stageTimestamp":"2026-01-05T09:00:00.000000Z",{text}"#
        ),
    };
    if let Err(error) = agreed(&mut Detector::default(), &RULES, &event) {
        panic!("{error}");
    }
}

/// Rules that load are compiled, asked and explained.
fn ask(loaded: Loaded) {
    for finding in &loaded.findings {
        let _ = finding.to_string();
    }
    if loaded.has_errors() {
        return;
    }
    let set = RuleSet::compile(loaded.rules, Duration::from_secs(300));
    let mut detector = Detector::default();
    for event in EVENTS.iter() {
        if let Err(error) = agreed(&mut detector, &set, event) {
            panic!("{error}");
        }
    }
    let event: Value = serde_json::from_str(&EVENTS[0]).unwrap_or_default();
    for rule in set.rules() {
        let explained = explain(rule, &event, engine::show);
        let _ = (explained.to_string(), explained.reason());
    }
}

/// Any text as a file of rules.
pub fn sigma(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        ask(load_text(Path::new("rule.yml"), text));
    }
}

/// Any text as a file of Falco's, if it begins like a list; else as a rule's condition.
pub fn falco(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match text.starts_with('-') {
        true => ask(load_text(Path::new("rules.yaml"), text)),
        false => ask(falco_rule(text, "fuzzed")),
    }
}

/// A body as it comes over the wire: its first byte chooses how it says to be packed, and how large it may be.
pub fn body(data: &[u8]) {
    let Some((choice, packed)) = data.split_first() else { return };
    let encodings = [Encoding::Detect, Encoding::Identity, Encoding::Gzip, Encoding::Zstd];
    let encoding = encodings[usize::from(choice % 4)];
    let limit = 1_u64 << (choice / 4 % 20);
    let unpacked = decompress(packed, encoding, limit);
    if encoding == Encoding::Detect {
        let mut streamed = Vec::new();
        let read = compress::reader(packed).and_then(|reader| reader.take(limit + 1).read_to_end(&mut streamed));
        let fits = read.is_ok() && streamed.len() as u64 <= limit;
        assert_eq!(unpacked.as_ref().ok().map(AsRef::as_ref), fits.then_some(streamed.as_slice()));
    }
    if let Ok(body) = unpacked {
        assert!(body.len() as u64 <= limit);
        let _ = Detector::default().body(&RULES, &CLUSTER.into(), &body, &mut Detected::default());
    }
}
