//! Rules of others and of ours on everything that was recorded; what is not part of the repository is skipped if it is
//! not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::event::compress::{Encoding, decompress};
use kubesiren::event::frame::told_apart;
use kubesiren::event::{Framed, frame};
use kubesiren::rule::{self, Loaded};
use serde_json::Value;

use crate::judge::{CLUSTER, agreed, root};
use crate::support::{json_lines, skipped, text_at};

/// Bytes of the largest recording, unpacked.
const BYTES_MAX: u64 = 256 << 20;

fn data(name: &str) -> Option<PathBuf> {
    let path = root().join("../shared/data").join(name);
    if !path.exists() {
        skipped(&format!("{} is not there", path.display()));
        return None;
    }
    Some(path)
}

fn load(paths: Vec<PathBuf>, builtin: bool) -> Loaded {
    let loaded = rule::load(&rule::Options { builtin, paths, ..rule::Options::default() });
    assert!(loaded.findings.is_empty(), "{:?}", loaded.findings.first().map(ToString::to_string));
    loaded
}

/// Every file that holds events.
fn recordings() -> Vec<PathBuf> {
    let mut files = vec![root().join("samples/attack.jsonl")];
    for folder in ["lab", "falco/traces", "envelopes", "envelopes/gke-khi"].into_iter().filter_map(data) {
        let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        files.extend(entries.filter(|path| path.is_file()));
    }
    files.sort();
    files
}

/// The events of a file, out of whatever wraps them.
fn events(body: &[u8]) -> Vec<String> {
    let mut events = Vec::new();
    // What holds no event at all is fine here.
    let _ = frame(body, |piece| match piece {
        Framed::Event(bytes) => {
            events.push(String::from_utf8(bytes.to_vec()).expect("UTF-8"));
            Ok(0)
        }
        Framed::First(_) => Err(told_apart()),
        Framed::Bad(_) => Ok(0),
    });
    events
}

/// The built-in detections, SigmaHQ's rules and Falco's, compiled and judged, on one of so `many` events of long files.
fn the_judge_agrees(one_of: usize) {
    let rules = ["sigma/rules", "falco/k8s_audit_rules.yaml"].into_iter().filter_map(data).collect();
    let set = RuleSet::compile(load(rules, true).rules, Duration::from_secs(300));
    let mut detector = Detector::default();
    let (mut asked, mut fired) = (0, BTreeMap::<String, usize>::new());
    for file in recordings() {
        let bytes = fs::read(&file).expect("readable");
        let body = decompress(&bytes, Encoding::Detect, BYTES_MAX).expect("whole");
        let events = events(&body);
        let step = if events.len() > 2_000 { one_of } else { 1 };
        let mut matches = 0;
        for event in events.iter().step_by(step) {
            let agreed =
                agreed(&mut detector, &set, event).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            asked += usize::from(agreed.is_some());
            for rule in agreed.into_iter().flatten() {
                matches += 1;
                *fired.entry(rule).or_default() += 1;
            }
        }
        if step == 1 {
            let mut found = Detected::default();
            let _ = detector.body(&set, &CLUSTER.into(), &body, &mut found);
            assert_eq!(found.matches.len(), matches, "{}: as a body and event by event", file.display());
        }
    }
    assert!(asked >= 25 && fired.len() >= 10, "{asked} events, {} rules", fired.len());
}

#[test]
fn the_judge_agrees_about_all_that_was_recorded() {
    the_judge_agrees(10);
}

#[test]
#[ignore = "takes minutes: cargo test --release --test it -- --ignored corpora"]
fn the_judge_agrees_about_every_event_that_was_recorded() {
    the_judge_agrees(1);
}

/// A copy of an event in which some values, by their JSON pointers, are others; or are away, where that is null.
fn changed(event: &Value, changes: &Value) -> Value {
    let mut event = event.clone();
    for (pointer, value) in changes.as_object().expect("changes") {
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        let key = key.replace("~1", "/");
        match event.pointer_mut(parent).unwrap_or_else(|| panic!("nothing at {pointer}")) {
            Value::Object(map) if value.is_null() => assert!(map.remove(&key).is_some(), "nothing at {pointer}"),
            Value::Object(map) => *map.get_mut(&key).unwrap_or_else(|| panic!("nothing at {pointer}")) = value.clone(),
            Value::Array(items) => items[key.parse::<usize>().expect("an index")] = value.clone(),
            _ => panic!("nothing at {pointer}"),
        }
    }
    event
}

/// `tests/sigmahq.jsonl`: for each rule of SigmaHQ an event as kube-apiserver logs it, and the changes that silence it.
#[test]
fn every_rule_of_sigmahq_fires_on_its_event_and_on_no_other() {
    let Some(folder) = data("sigma/rules/application/kubernetes/audit") else { return };
    let set = RuleSet::compile(load(vec![folder], false).rules, Duration::from_secs(300));
    let table = fs::read_to_string(root().join("tests/sigmahq.jsonl")).expect("the table");
    let (mut detector, mut fired) = (Detector::default(), BTreeSet::new());
    let mut ask =
        |event: &Value| agreed(&mut detector, &set, &event.to_string()).expect("one answer").expect("an event");
    for row in json_lines(&table) {
        let (about, rule) = (text_at(&row, "/about"), text_at(&row, "/rule").to_owned());
        assert_eq!(ask(&row["event"]), [rule.clone()].into(), "{about}");
        for changes in row["quiet"].as_array().expect("changes") {
            assert!(!ask(&changed(&row["event"], changes)).contains(&rule), "{about}, but {changes}");
        }
        fired.insert(rule);
    }
    let all: BTreeSet<String> = set.rules().iter().map(|rule| rule.info.id.clone()).collect();
    assert_eq!((fired, all.len()), (all, 16));
}

/// The folder holds rules for two kinds of audit log beside ours; ours say so in two ways.
#[test]
fn sigmahqs_rules_for_other_logs_are_skipped_with_a_note() {
    let Some(folder) = data("sigma/rules") else { return };
    let loaded = load(vec![folder], false);
    let with_category =
        loaded.rules.rules.iter().filter(|rule| rule.logsource.iter().any(|(key, _)| key == "category"));
    assert_eq!((loaded.rules.rules.len(), with_category.count()), (16, 10));
    let skipped = |part: &str| {
        let parts = loaded.rules.skipped.iter();
        parts
            .filter(|(file, title)| file.components().any(|c| c.as_os_str() == Path::new(part)) && !title.is_empty())
            .count()
    };
    assert_eq!((skipped("azure"), skipped("gcp"), loaded.rules.skipped.len()), (10, 4, 14));
}
