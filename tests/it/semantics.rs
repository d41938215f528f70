//! What rules mean: `tests/semantics`, on the judge and on the compiled engine.

use std::time::Duration;

use kubesiren::engine::{Detector, RuleSet};
use kubesiren::rule::{Rule, Rules};

use crate::judge::{agreed, compiled, entries, judged};

/// Entries there must be at least, so that none are lost unseen.
const ENTRIES_MIN: usize = 190;

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
                wrong.push(format!("{}: compiled says {fast:?} of {event:.300}", entry.rule.info.id));
            }
            let slow =
                expected.and_then(|_| judged(std::slice::from_ref(&entry.rule), event)).map(|found| !found.is_empty());
            if slow != *expected {
                wrong.push(format!("{}: the judge says {slow:?} of {event:.300}", entry.rule.info.id));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rules_do_not_disturb_each_other() {
    let entries = entries();
    let set = compile(entries.iter().map(|entry| entry.rule.clone()).collect());
    let mut detector = Detector::default();
    for (event, _) in entries.iter().flat_map(|entry| &entry.events) {
        agreed(&mut detector, &set, event).expect("one answer");
    }
}
