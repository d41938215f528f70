//! Audit policies: what is generated lets every rule fire, and what is said of a policy is so.

use std::path::{Path, PathBuf};

use kubesiren::cases::{self, Report};
use kubesiren::policy::evaluate::{Request, Target};
use kubesiren::policy::generate::{self, generate};
use kubesiren::policy::{Policy, api, render};
use kubesiren::rule::sigma::Placeholders;
use kubesiren::rule::{self, Rules};
use serde_json::{Value, json};

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

#[test]
fn every_case_goes_as_expected_under_the_generated_policy() {
    let policy = generate(&builtin(), generate::Options::default()).policy();
    let report = cases_under(&policy);
    let failures = failures(&report);
    assert!(failures.is_empty(), "{} of {}:\n{}", failures.len(), report.passed(), failures.join("\n"));
    assert!(report.passed() > 1_000, "{}", report.passed());
}
