//! Audit policies: what is generated lets every rule fire, and what is said of a policy is so.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kubesiren::cases::{self, Report};
use kubesiren::diagnose::SourceText;
use kubesiren::policy::check::{Sight, check};
use kubesiren::policy::generate::{self, generate};
use kubesiren::policy::{Policy, api, model};
use kubesiren::rule::sigma::Placeholders;
use kubesiren::rule::{self, Rules};
use serde_json::{Value, json};

use crate::support::skipped;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn builtin() -> Rules {
    let loaded = rule::load(&rule::Options { builtin: true, ..rule::Options::default() });
    assert!(!loaded.has_errors());
    loaded.rules
}

/// An event as kube-apiserver writes it: cases leave the API group out, or leave it as it was, where it tells nothing.
fn complete(mut event: Value) -> Value {
    let group = event.pointer("/objectRef/resource").and_then(Value::as_str).and_then(api::group_of);
    if let Some(group) = group.filter(|group| !group.is_empty()) {
        event["objectRef"]["apiGroup"] = json!(group);
    }
    event
}

/// The cases of all detections, their events cut down to what the policy lets through.
fn cases_under(policy: &Policy) -> Report {
    cases::run_with(&[root().join("detections")], &Placeholders::new(), &|event| policy.cut(&complete(event)))
}

fn failures(report: &Report) -> Vec<String> {
    let all = report.files.iter().flat_map(|file| file.failures.iter().map(move |failure| (&file.file, failure)));
    all.map(|(file, failure)| format!("{}: {}: {}", file.display(), failure.name, first_line(&failure.what))).collect()
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

fn read(path: &Path) -> Policy {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    model::parse(&SourceText::new(path, text)).unwrap_or_else(|findings| panic!("{findings:#?}")).0
}

/// A policy that is not part of the repository; tells when it is not there.
fn shared(name: &str) -> Option<Policy> {
    let path = root().join("../shared/data/audit-policies").join(name);
    if !path.exists() {
        skipped(&format!("{} is not there", path.display()));
        return None;
    }
    Some(read(&path))
}

#[test]
fn every_case_goes_as_expected_under_the_generated_policy() {
    let policy = generate(&builtin(), generate::Options::default()).policy();
    let report = cases_under(&policy);
    let failures = failures(&report);
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), report.passed(), failures.join("\n"));
    assert!(report.passed() > 1_000, "{}", report.passed());
}

#[test]
fn no_rule_is_blind_under_the_generated_policy() {
    let rules = builtin();
    let policy = generate(&rules, generate::Options::default()).policy();
    let seen = check(&policy, &rules);
    let not_full: Vec<_> = seen.iter().filter(|checked| checked.sight != Sight::Full).collect();
    assert!(not_full.is_empty(), "{not_full:#?}");
    assert!(seen.len() > 200, "{}", seen.len());
}

/// What is said of a policy must be what happens to the cases under it: nothing of a blind rule fires, all of a rule that
/// sees everything does.
fn assert_said_is_so(policy: &Policy) {
    let rules = builtin();
    let said: BTreeMap<String, Sight> =
        check(policy, &rules).into_iter().map(|checked| (checked.id, checked.sight)).collect();
    assert!(said.values().all(|sight| *sight != Sight::Unknown));
    let mut wrong = Vec::new();
    for outcome in cases::outcomes(&[root().join("detections")], &Placeholders::new(), &|event| policy.cut(&complete(event))) {
        let Some(sight) = said.get(&outcome.rule) else { continue };
        match (outcome.expected, outcome.fired, sight) {
            (true, true, Sight::Blind) => wrong.push(format!("{} is said to be blind, but fires: {}", outcome.rule, outcome.name)),
            (true, false, Sight::Full) => wrong.push(format!("{} is said to see all, but is silent: {}", outcome.rule, outcome.name)),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_is_said_of_our_own_policy_is_so() {
    assert_said_is_so(&read(&root().join("deploy/audit-policy.yaml")));
}

#[test]
fn what_is_said_of_the_clouds_policies_is_so() {
    for name in ["gce-gke.yaml", "eks-default.yaml", "falco-k8saudit.yaml"] {
        let Some(policy) = shared(name) else { return };
        assert_said_is_so(&policy);
    }
}
