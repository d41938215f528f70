//! What rules mean: `tests/semantics`, on the judge and on the compiled engine; and both of them against each other.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kubesiren::diagnose::SourceText;
use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::rule::load::load_text;
use kubesiren::rule::{self, Rule, Rules, naive};
use kubesiren::yaml::{self, Node, Value as Yaml};
use proptest::prelude::*;
use serde_json::{Value, json};

const CLUSTER: &str = "test";

/// Entries there must be at least, so that none are lost unseen.
const ENTRIES_MIN: usize = 130;

struct Entry {
    about: String,
    rule: Rule,
    /// Events as JSON, and what is expected; `None` is refusal.
    events: Vec<(String, Option<bool>)>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rules_of(detection: &Value, id: &str) -> rule::Loaded {
    let document =
        json!({"title": id, "id": id, "logsource": {"product": "kubernetes"}, "detection": detection}).to_string();
    load_text(Path::new("rule.yml"), &document)
}

fn falco_rule(condition: &str, id: &str) -> rule::Loaded {
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

fn read_entry(node: &Node, about: String) -> Option<Entry> {
    let mut loaded = match node.get("falco").and_then(Node::as_str) {
        Some(condition) => falco_rule(condition, &about),
        None => {
            let sel =
                || json!({"sel": node.get("sel").expect("sel, detection or falco").to_json(), "condition": "sel"});
            rules_of(&node.get("detection").map_or_else(sel, Node::to_json), &about)
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
    Some(Entry { about, rule: loaded.rules.rules.remove(0), events })
}

fn entries() -> Vec<Entry> {
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
            let about = item.get("about").and_then(Node::as_str).expect("about").to_owned();
            assert!(names.insert(about.clone()), "{about} is there twice");
            entries.extend(read_entry(item, about));
        }
    }
    entries
}

/// The ids of the rules that the compiled engine finds true, or why the event is refused.
fn compiled(detector: &mut Detector, set: &RuleSet, event: &str) -> Result<BTreeSet<String>, String> {
    let mut found = Detected::default();
    let cluster: Arc<str> = CLUSTER.into();
    detector.event(set, &cluster, event.as_bytes(), &mut found);
    match found.rejects.pop() {
        Some(reject) => Err(reject.detail),
        None => Ok(found.matches.iter().map(|found| found.rule.to_string()).collect()),
    }
}

/// The ids of the rules that the judge finds true.
fn judged(rules: &[Rule], event: &str) -> BTreeSet<String> {
    let mut event = kubesiren::event::value(event.as_bytes()).expect("JSON");
    event["cluster"] = CLUSTER.into();
    rules.iter().filter(|rule| naive::rule_holds(rule, &event)).map(|rule| rule.info.id.clone()).collect()
}

fn compile(rules: Vec<Rule>) -> RuleSet {
    RuleSet::compile(Rules { rules, ..Rules::default() }, Duration::from_secs(300))
}

#[test]
fn rules_mean_what_is_written() {
    let entries = entries();
    assert!(entries.len() >= ENTRIES_MIN, "only {} entries", entries.len());
    let mut wrong = Vec::new();
    for entry in &entries {
        let set = compile(vec![entry.rule.clone()]);
        let mut detector = Detector::default();
        for (event, expected) in &entry.events {
            let fast = compiled(&mut detector, &set, event).map(|found| !found.is_empty()).ok();
            if fast != *expected {
                wrong.push(format!("{}: compiled says {fast:?} of {event:.300}", entry.about));
            }
            let slow = expected.map(|_| !judged(std::slice::from_ref(&entry.rule), event).is_empty());
            if slow != *expected {
                wrong.push(format!("{}: the judge says {slow:?} of {event:.300}", entry.about));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_do_not_disturb_each_other() {
    let entries = entries();
    let rules: Vec<Rule> = entries.iter().map(|entry| entry.rule.clone()).collect();
    let set = compile(rules.clone());
    let mut detector = Detector::default();
    for (event, _) in entries.iter().flat_map(|entry| &entry.events) {
        if let Ok(found) = compiled(&mut detector, &set, event) {
            assert_eq!(found, judged(&rules, event), "{event:.300}");
        }
    }
}

#[test]
fn the_rules_of_sigmahq_load() {
    let folder = root().join("../shared/data/sigma/rules/application/kubernetes/audit");
    if !folder.exists() {
        eprintln!("skipped: {} is not there", folder.display());
        return;
    }
    let loaded = rule::load(&rule::Options { paths: vec![folder], ..rule::Options::default() });
    assert!(!loaded.has_errors(), "{:?}", loaded.findings);
    assert_eq!((loaded.rules.rules.len(), loaded.rules.skipped.len()), (16, 0));
}

const FIELDS: [&str; 18] = [
    "verb",
    "stage",
    "cluster",
    "level",
    "user.username",
    "user.groups",
    "user",
    "objectRef.resource",
    "objectRef.subresource",
    "objectRef.apiGroup",
    "responseStatus.code",
    "sourceIPs",
    "sourceIPs[-1]",
    "annotations.a.b/c",
    "requestObject",
    "requestObject.a",
    "requestObject.a.b",
    "requestObject.a[0]",
];

const MODIFIERS: [&str; 16] = [
    "",
    "",
    "",
    "|contains",
    "|startswith",
    "|endswith",
    "|cased",
    "|contains|cased",
    "|neq",
    "|contains|neq",
    "|exists",
    "|re",
    "|cidr",
    "|gte",
    "|lt",
    "|fieldref",
];

const TEXTS: [&str; 14] =
    ["get", "GET", "a", "ab", "A*", "?b", "*", "", "403", "true", "10.0.0.1", "ä", "RequestReceived", "test"];

fn item() -> impl Strategy<Value = (String, Value)> {
    let values = prop::collection::vec(prop::sample::select(TEXTS.to_vec()), 1..4);
    let numbers = prop::sample::select(vec![json!(403), json!(200), json!(0), json!(1.5), json!(null), json!(true)]);
    (prop::sample::select(FIELDS.to_vec()), prop::sample::select(MODIFIERS.to_vec()), values, numbers, any::<bool>())
        .prop_map(|(field, modifier, texts, number, plain)| {
            let value = match modifier {
                "|exists" => json!(plain),
                "|re" => json!("^(a|4)"),
                "|cidr" => json!("10.0.0.0/8"),
                "|gte" | "|lt" => json!(403),
                "|fieldref" => json!(FIELDS[texts[0].len() % FIELDS.len()]),
                "" | "|neq" if plain => number,
                _ if texts.len() == 1 => json!(texts[0]),
                _ => json!(texts),
            };
            (format!("{field}{modifier}"), value)
        })
}

fn detection() -> impl Strategy<Value = Value> {
    let search = prop::collection::vec(item(), 1..4).prop_map(|items| items.into_iter().collect::<Value>());
    let conditions = vec![
        "s0",
        "not s0",
        "s0 and s1",
        "s0 or s1",
        "s0 and not s1",
        "not (s0 and s1) or s2",
        "1 of s*",
        "all of them",
        "(s0 or s1) and (s2 or not s0)",
    ];
    (prop::collection::vec(search, 3), prop::sample::select(conditions)).prop_map(|(searches, condition)| {
        let mut detection = json!({"condition": condition});
        for (number, search) in searches.into_iter().enumerate() {
            detection[format!("s{number}")] = search;
        }
        detection
    })
}

/// A value as events have it: mostly text, sometimes anything else.
fn value() -> impl Strategy<Value = Value> {
    let text = || prop::sample::select(TEXTS.to_vec()).prop_map(Value::from);
    let odd = prop::sample::select(vec![json!(403), json!(403.0), json!(null), json!(true), json!({}), json!([])]);
    let leaf = prop_oneof![4 => text(), 2 => odd];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((prop::sample::select(vec!["a", "b", "a.b", "b/c", "username"]), inner), 0..3)
                .prop_map(|members| members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

fn event() -> impl Strategy<Value = Value> {
    let keys = [
        "/user/username",
        "/user/groups",
        "/objectRef/resource",
        "/objectRef/subresource",
        "/objectRef/apiGroup",
        "/responseStatus/code",
        "/sourceIPs",
        "/annotations",
        "/requestObject",
        "/level",
        "/user",
    ];
    let members = prop::collection::vec((prop::sample::select(keys.to_vec()), value()), 0..7);
    let stages = vec!["ResponseComplete", "ResponseComplete", "Panic", "RequestReceived", "Odd"];
    (prop::sample::select(TEXTS.to_vec()), prop::sample::select(stages), members).prop_map(|(verb, stage, members)| {
        let mut event = json!({"auditID": "a", "verb": verb, "stage": stage, "stageTimestamp": "2026-01-05T09:00:00Z"});
        for (path, value) in members {
            let mut parts = path[1..].split('/');
            let (head, below) = (parts.next().expect("a head"), parts.next());
            match below {
                None => event[head] = value,
                Some(below) => {
                    if !event[head].is_object() {
                        event[head] = json!({});
                    }
                    event[head][below] = value;
                }
            }
        }
        event
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random rules, random events, small vocabularies so that they meet: the engine says what the judge says.
    #[test]
    fn the_engine_agrees_with_its_judge(
        detections in prop::collection::vec(detection(), 1..6),
        events in prop::collection::vec(event(), 1..12),
    ) {
        let rules: Vec<Rule> = detections
            .iter()
            .enumerate()
            .flat_map(|(number, detection)| rules_of(detection, &number.to_string()).rules.rules)
            .collect();
        prop_assert_eq!(rules.len(), detections.len());
        let set = compile(rules.clone());
        let mut detector = Detector::default();
        for event in &events {
            let text = event.to_string();
            if let Ok(found) = compiled(&mut detector, &set, &text) {
                prop_assert_eq!(&found, &judged(&rules, &text), "{}\n{:?}", text, detections);
            }
        }
    }
}
