//! Attacks that were recorded, and attacks that are described step by step: what the detections say of each, taken alone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Value, json};

use super::support::{given, json_lines, scan, scenarios_under, text_at};

fn text(name: &str) -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios").join(name);
    std::fs::read_to_string(file).expect("the table")
}

/// A table of two columns beside the tests, without its heading.
pub(crate) fn table(name: &str) -> Vec<(String, String)> {
    let text = text(name);
    let rows = text.lines().skip(1).map(|line| line.split_once('\t').expect("two columns"));
    rows.map(|(first, second)| (first.to_owned(), second.to_owned())).collect()
}

/// The alerts of each scenario. An envelope names it as the cluster, so one scan is enough: nothing is counted across clusters.
fn told(events: &[(String, String)]) -> BTreeMap<String, Vec<Value>> {
    let wrapped = events.iter().map(|(scenario, event)| {
        json!({"messageType": "DATA_MESSAGE", "owner": "111122223333", "logGroup": format!("/aws/eks/{scenario}/cluster"),
            "logStream": "kube-apiserver-audit-1", "subscriptionFilters": [], "logEvents": [{"id": "1", "timestamp": 1, "message": event}]})
        .to_string()
    });
    let lines: Vec<String> = wrapped.collect();
    let (alerts, stats) = scan(&["--profile", "paranoid"], lines.join("\n").as_bytes());
    assert_eq!((&stats["events"], &stats["rejected"]), (&events.len().into(), &0.into()));
    let mut told: BTreeMap<String, Vec<Value>> =
        events.iter().map(|(scenario, _)| (scenario.clone(), Vec::new())).collect();
    for alert in alerts {
        told.get_mut(text_at(&alert, "/cluster")).expect("a scenario").push(alert);
    }
    told
}

/// Policy and scenario to the detections that its policy leaves without what they need, each with the reason.
fn unseen() -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut unseen: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for line in text("unseen.tsv").lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [policy, scenario, title, why] = cells[..] else { panic!("policy, scenario, rule and reason: {line}") };
        assert!(why.ends_with('.'), "a reason is a sentence: {line}");
        unseen.entry((policy.to_owned(), scenario.to_owned())).or_default().insert(title.to_owned());
    }
    unseen
}

#[test]
fn every_scenario_fires_what_it_should() {
    let mut unseen = unseen();
    let mut wrong = Vec::new();
    for policy in ["full", "eks-policy", "gce-policy"] {
        let Some(events) = scenarios_under(policy) else { return };
        let told = told(&events);
        let mut there = 0;
        for (scenario, titles) in table("expected.tsv") {
            let mut titles: BTreeSet<&str> = titles.split(" | ").filter(|title| *title != "-").collect();
            let unseen = unseen.remove(&(policy.to_owned(), scenario.clone())).unwrap_or_default();
            for title in &unseen {
                assert!(titles.remove(title.as_str()) || title == "-", "unseen.tsv: {scenario} does not fire {title}");
            }
            // Of a scenario that a policy leaves out nothing is left.
            if unseen.contains("-") {
                assert!(!told.contains_key(&scenario), "{policy} logs {scenario}");
                continue;
            }
            there += 1;
            let found: BTreeSet<&str> = told[&scenario].iter().map(|alert| text_at(alert, "/rule/title")).collect();
            if found != titles {
                wrong.push(format!("{policy}: {scenario}: expected {titles:?}, found {found:?}"));
            }
        }
        assert_eq!(there, told.len(), "expected.tsv names every scenario of {policy}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(unseen.is_empty(), "unseen.tsv: no such scenario: {:?}", unseen.keys());
}

/// A step of an attack, as somebody wrote it down.
struct Step {
    scenario: String,
    name: String,
    /// The event, as far as the description says it.
    base: Value,
    /// What should tell of it, by the names of the description.
    expected: BTreeSet<String>,
}

fn described(text: &str) -> Vec<Step> {
    let steps = text.lines().skip(1).map(|line| {
        let cells: Vec<&str> = line.split('\t').collect();
        let [scenario, _, name, stage, verb, group, resource, sub, namespace, object, _, code, expected] = cells[..] else {
            panic!("thirteen columns: {line}")
        };
        let parts = [("apiGroup", group), ("resource", resource), ("subresource", sub), ("namespace", namespace), ("name", object)];
        let mut object = json!({"apiVersion": "v1"});
        for (part, text) in parts.into_iter().filter(|(_, text)| !["", "-"].contains(text)) {
            object[part] = text.into();
        }
        let base = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "RequestResponse", "stage": stage,
            "verb": verb, "requestURI": "/apis/x", "user": {"username": "alice", "groups": ["system:authenticated"]},
            "sourceIPs": ["10.0.0.9"], "userAgent": "kubectl/v1.36.2", "objectRef": object,
            "responseStatus": {"code": code.parse::<u16>().unwrap_or(200)}, "annotations": {"authorization.k8s.io/decision": "allow"}});
        let expected = expected.split(',').filter(|id| *id != "-").map(str::to_owned).collect();
        Step { scenario: scenario.to_owned(), name: name.to_owned(), base, expected }
    });
    steps.collect()
}

/// Maps merge, `null` removes, everything else replaces.
fn merge(into: &mut Value, over: &Value) {
    let (Value::Object(map), Value::Object(more)) = (&mut *into, over) else {
        *into = over.clone();
        return;
    };
    for (key, value) in more {
        if value.is_null() {
            map.remove(key);
        } else {
            merge(map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

/// The events of a step: the description's, and what it leaves to words.
fn events(step: &Step, said: &Value, first: usize) -> Vec<Value> {
    let mut events = Vec::new();
    for over in said["events"].as_array().expect("a list") {
        for n in 1..=over["times"].as_u64().unwrap_or(1) {
            let text = over.to_string().replace("{n}", &n.to_string());
            let mut over: Value = serde_json::from_str(&text).expect("JSON");
            over.as_object_mut().expect("a map").remove("times");
            let mut event = step.base.clone();
            merge(&mut event, &over);
            let at = first + events.len();
            let time = format!("2026-11-21T10:{:02}:{:02}.000000Z", at * 5 / 60, at * 5 % 60);
            let own = json!({"auditID": format!("{at}"), "requestReceivedTimestamp": time, "stageTimestamp": time});
            merge(&mut event, &own);
            events.push(event);
        }
    }
    events
}

/// `attack-steps.jsonl` says for each step what the description leaves to words, and by which detection each of its names
/// is told of, or why none tells of it.
#[test]
fn every_step_of_the_described_attacks_is_told_of() {
    let Some(file) = given("attack-scenarios.tsv") else { return };
    let steps = described(&std::fs::read_to_string(file).expect("readable"));
    let mut said: BTreeMap<(String, String), Value> = json_lines(&text("attack-steps.jsonl"))
        .into_iter()
        .map(|line| ((text_at(&line, "/scenario").to_owned(), text_at(&line, "/step").to_owned()), line))
        .collect();
    let mut all: Vec<(String, String)> = Vec::new();
    let mut asked = Vec::new();
    for step in &steps {
        let key = (step.scenario.clone(), step.name.clone());
        let said = said.remove(&key).unwrap_or_else(|| panic!("attack-steps.jsonl: nothing of {key:?}"));
        let fires = said["fires"].as_object().expect("a map").clone();
        assert!(fires.keys().eq(step.expected.iter()), "{key:?}: {:?} are expected", step.expected);
        let first = all.iter().filter(|(scenario, _)| *scenario == step.scenario).count();
        let events = events(step, &said, first);
        let ids: Vec<String> = events.iter().map(|event| text_at(event, "/auditID").to_owned()).collect();
        all.extend(events.iter().map(|event| (step.scenario.clone(), event.to_string())));
        asked.push((step, fires, ids));
    }
    assert!(said.is_empty(), "attack-steps.jsonl: no such steps: {:?}", said.keys());
    let told = told(&all);
    let mut silent = Vec::new();
    for (step, fires, ids) in asked {
        for (name, title) in fires {
            let title = title.as_str().expect("a title, or - and a reason");
            let of_step = |alert: &&Value| {
                ids.iter().any(|id| alert["audit_ids"].as_array().is_some_and(|seen| seen.contains(&json!(id))))
            };
            let tells = |alert: &&Value| text_at(alert, "/rule/title") == title && of_step(alert);
            if !title.starts_with("- ") && !told[&step.scenario].iter().any(|alert| tells(&alert)) {
                silent.push(format!("{} {}: {name}: {title}", step.scenario, step.name));
            }
        }
    }
    assert!(silent.is_empty(), "no alert tells of these:\n{}", silent.join("\n"));
}
