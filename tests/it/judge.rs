//! The judge beside the compiled engine, and the rules and events of `tests/semantics`. The fuzz targets use it too.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kubesiren::diagnose::SourceText;
use kubesiren::engine::{Detected, Detector, Rejected, RuleSet};
use kubesiren::rule::load::load_text;
use kubesiren::rule::{self, Rule, naive};
use kubesiren::yaml::{self, Node, Value as Yaml};
use serde_json::{Value, json};

pub(crate) const CLUSTER: &str = "test";

/// A rule, whose id is what the entry is about, and its events.
pub(crate) struct Entry {
    pub(crate) rule: Rule,
    /// Events as JSON, and what is expected; `None` is refusal.
    pub(crate) events: Vec<(String, Option<bool>)>,
}

/// The project's folder; what includes this file may be a crate in a folder of it.
pub(crate) fn root() -> PathBuf {
    let mut folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    folders.find(|folder| folder.join("tests/semantics").exists()).expect("the project's folder").to_owned()
}

pub(crate) fn rules_of(detection: &Value, id: &str) -> rule::Loaded {
    let document =
        json!({"title": id, "id": id, "logsource": {"product": "kubernetes"}, "detection": detection}).to_string();
    load_text(Path::new("rule.yml"), &document)
}

pub(crate) fn falco_rule(condition: &str, id: &str) -> rule::Loaded {
    let rule = json!([{"rule": id, "desc": id, "condition": condition, "output": id, "priority": "INFO",
        "source": "k8s_audit"}]);
    load_text(Path::new("rule.yml"), &rule.to_string())
}

/// Puts what every event has before an event's own members, as text, so that the own ones stay as they are written.
fn event_text(node: &Node) -> String {
    let own = match &node.value {
        Yaml::String(text) => text.replace("DEEP", &format!("{}{}", "[".repeat(300), "]".repeat(300))),
        _ => node.to_json().to_string(),
    };
    let has = |key: &str| own.contains(&format!("\"{key}\":")) || (key == "verb" && own.contains("\"v\\u0065rb\":"));
    let mut members: Vec<String> = [
        ("auditID", "a"),
        ("verb", "get"),
        ("stage", "ResponseComplete"),
        ("stageTimestamp", "2026-01-05T09:00:00.000000Z"),
    ]
    .into_iter()
    .filter(|(key, _)| !has(key))
    .map(|(key, value)| format!("\"{key}\":\"{value}\""))
    .collect();
    let inside = own.trim().trim_start_matches('{');
    if inside != "}" {
        members.push(inside.trim_end_matches('\n').to_owned());
        return format!("{{{}", members.join(","));
    }
    format!("{{{}}}", members.join(","))
}

fn read_entry(node: &Node, about: &str) -> Option<Entry> {
    let mut loaded = match node.get("falco").and_then(Node::as_str) {
        Some(condition) => falco_rule(condition, about),
        None => {
            let sel =
                || json!({"sel": node.get("sel").expect("sel, detection or falco").to_json(), "condition": "sel"});
            rules_of(&node.get("detection").map_or_else(sel, Node::to_json), about)
        }
    };
    if let Some(error) = node.get("error").and_then(Node::as_str) {
        let found: Vec<_> = loaded.findings.iter().map(ToString::to_string).collect();
        assert!(found.iter().any(|finding| finding.contains(error)), "{about}: {found:?}");
        return None;
    }
    assert!(!loaded.has_errors(), "{about}: {:?}", loaded.findings);
    let mut events = Vec::new();
    for (key, expected) in [("yes", Some(true)), ("no", Some(false)), ("refused", None)] {
        let Some(Yaml::Seq(items)) = node.get(key).map(|node| &node.value) else { continue };
        events.extend(items.iter().map(|item| (event_text(item), expected)));
    }
    assert!(!events.is_empty(), "{about}: there are no events");
    Some(Entry { rule: loaded.rules.rules.remove(0), events })
}

pub(crate) fn entries() -> Vec<Entry> {
    const KEYS: [&str; 8] = ["about", "sel", "detection", "falco", "yes", "no", "refused", "error"];
    let mut files: Vec<PathBuf> = fs::read_dir(root().join("tests/semantics"))
        .expect("cases")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    let (mut entries, mut names) = (Vec::new(), BTreeSet::new());
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "yml")) {
        let source = SourceText::new(file, fs::read_to_string(file).expect("readable"));
        let (documents, findings) = yaml::parse(&source);
        assert!(findings.is_empty(), "{findings:?}");
        let Yaml::Seq(items) = &documents[0].value else { panic!("{}: a list belongs here", file.display()) };
        for item in items {
            for (key, _) in item.as_map().expect("a mapping") {
                assert!(KEYS.contains(&key.text.as_str()), "{}: unknown key {}", file.display(), key.text);
            }
            let about = item.get("about").and_then(Node::as_str).expect("about");
            assert!(names.insert(about.to_owned()), "{about} is there twice");
            entries.extend(read_entry(item, about));
        }
    }
    entries
}

/// The ids of the rules that the compiled engine finds true, or why the event is refused.
pub(crate) fn compiled(detector: &mut Detector, set: &RuleSet, event: &str) -> Result<BTreeSet<String>, Rejected> {
    let mut found = Detected::default();
    detector.event(set, &CLUSTER.into(), event.as_bytes(), &mut found);
    match found.rejects.into_kept().pop() {
        Some(reject) => Err(reject),
        None => Ok(found.matches.iter().map(|found| found.rule.to_string()).collect()),
    }
}

/// The ids of the rules that the judge finds true; `None` if the event is no JSON.
pub(crate) fn judged(rules: &[Rule], event: &str) -> Option<BTreeSet<String>> {
    let mut event = kubesiren::event::value(event.as_bytes()).ok()?;
    kubesiren::event::label(&mut event, CLUSTER);
    Some(rules.iter().filter(|rule| naive::rule_holds(rule, &event)).map(|rule| rule.info.id.clone()).collect())
}

/// The ids of the rules that both find true, `None` if the event is refused; or what they disagree about.
pub(crate) fn agreed(detector: &mut Detector, set: &RuleSet, event: &str) -> Result<Option<BTreeSet<String>>, String> {
    match (compiled(detector, set, event), judged(set.rules(), event)) {
        (Ok(fast), Some(slow)) if fast == slow => Ok(Some(fast)),
        (Ok(fast), Some(slow)) => {
            let (more, less): (Vec<_>, Vec<_>) = (fast.difference(&slow).collect(), slow.difference(&fast).collect());
            Err(format!("only compiled: {more:?}, only judged: {less:?}, of {event:.2000}"))
        }
        // Broken where nobody looks: that is an event of which no rule is true.
        (Ok(fast), None) if fast.is_empty() => Ok(Some(fast)),
        (Ok(fast), None) => Err(format!("{fast:?} are true of what is no JSON: {event:.2000}")),
        (Err(reject), _) if reject.reason == "syntax" && serde_json::from_str::<Value>(event).is_ok() => {
            Err(format!("refused, but it is JSON: {}, {event:.2000}", reject.detail))
        }
        (Err(_), _) => Ok(None),
    }
}
