//! Random rules of both languages, random events: the engine says what the judge says. `vocabulary` makes them.

use std::sync::Arc;
use std::time::Duration;

use kubesiren::diagnose::Severity;
use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::rule::{self, Rules};
use proptest::prelude::*;
use serde_json::json;

use crate::judge::{CLUSTER, agreed};
use crate::support::event_list;
use crate::vocabulary::{PLACEHOLDER, PLACEHOLDERS, conditions, detection, event};

/// Compiles rules that are written to a file, as users' rules are.
fn load(text: &str) -> Result<RuleSet, TestCaseError> {
    let file = tempfile::Builder::new().suffix(".yml").tempfile().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    let placeholders = [(PLACEHOLDER.to_owned(), PLACEHOLDERS.map(str::to_owned).to_vec())];
    let options = rule::Options {
        paths: vec![file.path().to_owned()],
        placeholders: placeholders.into_iter().collect(),
        ..rule::Options::default()
    };
    let loaded = rule::load(&options);
    let error = loaded.findings.iter().find(|finding| finding.severity == Severity::Error);
    prop_assert!(error.is_none(), "{} in {}", error.map(ToString::to_string).unwrap_or_default(), text);
    let rules = Rules { rules: loaded.rules.rules, ..Rules::default() };
    Ok(RuleSet::compile(rules, Duration::from_secs(300)))
}

/// Asks about each event, then about all of them as one list.
fn agree(set: &RuleSet, events: &[String], rules: &str) -> Result<(), TestCaseError> {
    let mut detector = Detector::default();
    let mut alone: Vec<Arc<str>> = Vec::new();
    let mut refused = 0;
    for event in events {
        match agreed(&mut detector, set, event) {
            Ok(Some(_)) => {
                let mut found = Detected::default();
                detector.event(set, &CLUSTER.into(), event.as_bytes(), &mut found);
                alone.extend(found.matches.into_iter().map(|found| found.rule));
            }
            Ok(None) => refused += 1,
            Err(error) => return Err(TestCaseError::fail(format!("{error}\n{rules}"))),
        }
    }
    let mut found = Detected::default();
    let list = event_list(events);
    let _ = detector.body(set, &CLUSTER.into(), list.as_bytes(), &mut found);
    let together: Vec<Arc<str>> = found.matches.into_iter().map(|found| found.rule).collect();
    prop_assert_eq!((together, found.rejects.count()), (alone, refused), "{}\n{}", list, rules);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sigma_means_the_same_to_the_engine_and_its_judge(
        detections in prop::collection::vec(detection(), 1..6),
        events in prop::collection::vec(event(), 1..8),
    ) {
        let rules: Vec<String> = (0..).zip(&detections).map(|(id, detection): (u32, _)| {
            let id = id.to_string();
            json!({"title": id, "id": id, "logsource": {"product": "kubernetes"}, "detection": detection}).to_string()
        }).collect();
        let text = rules.join("\n---\n");
        let set = load(&text)?;
        prop_assert_eq!(set.rules().len(), detections.len());
        agree(&set, &events, &text)?;
    }

    #[test]
    fn falco_means_the_same_to_the_engine_and_its_judge(
        conditions in prop::collection::vec(conditions(), 1..6),
        events in prop::collection::vec(event(), 1..8),
    ) {
        let rules: Vec<_> = (0..).zip(&conditions).map(|(id, condition): (u32, _)| {
            let id = id.to_string();
            json!({"rule": id, "desc": id, "condition": condition, "output": id, "priority": "INFO", "source": "k8s_audit"})
        }).collect();
        let text = json!(rules).to_string();
        let set = load(&text)?;
        prop_assert_eq!(set.rules().len(), conditions.len());
        agree(&set, &events, &text)?;
    }
}

/// Generators may come to miss each other: most events must be taken, and some rules true.
#[test]
fn random_rules_and_events_meet() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let (mut sigma, mut falco, mut taken, mut asked) = (0, 0, 0, 0);
    for _ in 0..60 {
        let detection = detection().new_tree(&mut runner).expect("a detection").current();
        let condition = conditions().new_tree(&mut runner).expect("a condition").current();
        let of_sigma = json!({"title": "s", "id": "s", "logsource": {"product": "kubernetes"}, "detection": detection});
        let of_falco = json!([{"rule": "f", "desc": "f", "condition": condition, "output": "f", "priority": "INFO",
            "source": "k8s_audit"}]);
        let set = load(&format!("{of_sigma}\n---\n{of_falco}")).expect("rules");
        let mut detector = Detector::default();
        for _ in 0..20 {
            let event = event().new_tree(&mut runner).expect("an event").current();
            let found = agreed(&mut detector, &set, &event).expect("one answer");
            asked += 1;
            taken += usize::from(found.is_some());
            let found = found.unwrap_or_default();
            sigma += usize::from(found.contains("s"));
            falco += usize::from(found.contains("f"));
        }
    }
    let share = |of: usize| of * 100 / asked;
    assert!(share(taken) >= 75, "{taken} of {asked} events are taken");
    assert!((10..90).contains(&share(sigma)) && (10..90).contains(&share(falco)), "{sigma}, {falco} of {asked} match");
}
