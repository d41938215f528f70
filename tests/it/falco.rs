//! Falco's own rule files and what Falco itself says of its own traces; and Falco rules as a user scans with them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::rule;
use serde_json::{Value, json};

use crate::support::skipped;

fn folder() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/falco");
    if !folder.exists() {
        skipped(&format!("{} is not there", folder.display()));
        return None;
    }
    Some(folder)
}

/// A table's rows, without its head.
fn rows(file: &Path) -> Vec<Vec<String>> {
    let text = fs::read_to_string(file).expect("a table");
    text.lines().skip(1).map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

fn load(folder: &Path, files: &str) -> Arc<RuleSet> {
    let paths = files.split('+').map(|file| folder.join(file)).collect();
    let loaded = rule::load(&rule::Options { paths, ..rule::Options::default() });
    assert!(loaded.findings.is_empty(), "{files}: {:?}", loaded.findings.first().map(ToString::to_string));
    Arc::new(RuleSet::compile(loaded.rules, Duration::from_secs(300)))
}

/// How often each rule is true of a trace's events, and with which level.
fn fired(rules: &RuleSet, trace: &Path) -> BTreeMap<String, (usize, String)> {
    let mut found = Detected::default();
    let body = fs::read(trace).expect("a trace");
    let read = Detector::default().body(rules, &"test".into(), &body, &mut found);
    // One of the traces is no event at all.
    assert_eq!(read.is_err() || !found.rejects.is_empty(), trace.ends_with("fal_01_003.json"), "{}", trace.display());
    let level = |id: &str| {
        let rule = rules.rules().iter().find(|rule| rule.info.id == id).expect("the rule");
        rule.info.level.as_str().to_owned()
    };
    let mut fired = BTreeMap::new();
    for found in found.matches {
        fired.entry(found.rule.to_string()).or_insert_with(|| (0, level(&found.rule))).0 += 1;
    }
    fired
}

fn level_of(priority: &str) -> &'static str {
    match priority.to_ascii_lowercase().as_str() {
        "error" => "high",
        "warning" => "medium",
        "notice" => "low",
        _ => "informational",
    }
}

#[test]
fn the_official_rules_fire_on_falcos_traces_as_they_do_in_falco() {
    let Some(folder) = folder() else { return };
    let rules = load(&folder, "k8s_audit_rules.yaml");
    assert_eq!(rules.rules().len(), 48);
    let mut expected: BTreeMap<String, BTreeMap<String, (usize, String)>> = BTreeMap::new();
    for row in rows(&folder.join("observed.tsv")).iter().filter(|row| row[1] == "all") {
        let of_trace = expected.entry(row[0].clone()).or_default();
        if row[2] != "-" {
            of_trace.insert(row[2].clone(), (row[3].parse().expect("a count"), level_of(&row[4]).to_owned()));
        }
    }
    assert!(expected.len() > 40, "{}", expected.len());
    for (trace, expected) in expected {
        assert_eq!(fired(&rules, &folder.join("traces").join(&trace)), expected, "{trace}");
    }
}

#[test]
fn falcos_regression_tests_hold() {
    let Some(folder) = folder() else { return };
    let rows = rows(&folder.join("expected.tsv"));
    assert_eq!(rows.len(), 66);
    for row in rows {
        let (trace, files, rule) = (&row[0], &row[1], &row[2]);
        let fired = fired(&load(&folder, files), &folder.join("traces").join(trace));
        match (rule.as_str(), row[3].parse::<usize>()) {
            ("-", _) => {}
            ("*", Ok(count)) => assert_eq!(fired.len(), count, "{row:?}: {fired:?}"),
            (rule, Ok(count)) => {
                assert_eq!(fired.get(rule), Some(&(count, level_of(&row[4]).to_owned())), "{row:?}: {fired:?}");
            }
            (_, Err(error)) => panic!("{row:?}: {error}"),
        }
    }
}

const RULES: &str = "
- required_engine_version: 15
- list: trusted
  items: [nginx]
- macro: started
  condition: ka.verb=create and ka.target.resource=pods
- rule: Shell in a container
  desc: of the other source
  condition: proc.name = bash
  output: never
  priority: NOTICE
- rule: Untrusted image
  desc: an image from elsewhere
  condition: started and not ka.req.pod.containers.image.repository in (trusted)
  output: Pod started (user=%ka.user.name images=%ka.req.pod.containers.image env=%jevt.value[/requestObject/spec/containers])
  priority: ERROR
  source: k8s_audit
  tags: [k8s]
";

#[test]
fn a_scan_with_falco_rules_says_what_their_outputs_say() {
    let folder = tempfile::tempdir().expect("a folder");
    let (rules, log) = (folder.path().join("rules.yaml"), folder.path().join("audit.log"));
    fs::write(&rules, RULES).expect("written");
    let event = json!({"kind": "Event", "apiVersion": "audit.k8s.io/v1", "auditID": "a", "stage": "ResponseComplete",
        "verb": "create", "requestURI": "/x", "user": {"username": "eve"}, "objectRef": {"resource": "pods"},
        "requestReceivedTimestamp": "2026-11-21T04:15:56.715875Z", "stageTimestamp": "2026-11-21T04:15:56.715875Z",
        "requestObject": {"spec": {"containers": [
            {"image": "evil/miner:1", "env": [{"name": "PASSWORD", "value": "hunter2"}]}]}}});
    fs::write(&log, event.to_string()).expect("written");
    let program = env!("CARGO_BIN_EXE_kubesiren");
    let scan = Command::new(program)
        .args(["scan", "--no-builtin", "--format", "json", "--rules"])
        .args([&rules, &log])
        .output()
        .expect("the program can be started");
    let out = String::from_utf8(scan.stdout).expect("UTF-8");
    let alert: Value = serde_json::from_str(out.trim()).expect("one alert");
    assert_eq!((&alert["rule"]["id"], &alert["rule"]["level"]), (&json!("Untrusted image"), &json!("high")));
    let summary = alert["summary"].as_str().expect("a summary");
    assert!(summary.starts_with("Pod started (user=eve images=(evil/miner:1) env="), "{summary}");
    assert!(summary.contains("PASSWORD") && !out.contains("hunter2"), "{out}");
    let checked = Command::new(program).args(["rules", "check"]).arg(&rules).output().expect("checked");
    assert_eq!(
        String::from_utf8_lossy(&checked.stdout),
        "1 rule, 0 correlations, 1 skipped for other products, no mistakes\n"
    );
}
