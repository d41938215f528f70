//! Which other rules fire on the events of a rule's cases.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::read;
use super::run::{Runner, UNJUDGED};
use super::{Placeholders, discover, load_files, own_rules, rules_beside, rules_of};
use crate::diagnose::SourceText;

/// A case on whose events other rules fire than the one it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The file of cases.
    pub file: PathBuf,
    /// The title of the rule that the case is about.
    pub rule: String,
    /// The case's name.
    pub case: String,
    /// The titles of the others, sorted.
    pub others: Vec<String>,
}

/// Runs every case under the paths against all rules there. Files with mistakes have no cases.
#[must_use]
pub fn overlaps(paths: &[PathBuf], placeholders: &Placeholders, threads: usize) -> Vec<Overlap> {
    let (rule_files, test_files) = discover(paths, &mut Vec::new());
    let loaded = load_files(&rule_files, placeholders).rules;
    let runner = Runner::new(loaded.clone());
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(test) = test_files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let file = rules_beside(test);
                    let subjects = own_rules(&rules_of(&loaded, &file), &file);
                    let text = fs::read_to_string(test).unwrap_or_default();
                    let cases = read::cases(&SourceText::new(test, text), &subjects).unwrap_or_default();
                    let of_file = cases.iter().filter_map(|case| {
                        let steps = runner.detect(case, UNJUDGED).ok()?;
                        let alerts = runner.correlate_all(&steps, &|_, _| true);
                        let others = alerts.into_iter().filter(|alert| alert.rule.id != case.rule);
                        let others: BTreeSet<String> = others.map(|alert| alert.rule.title.clone()).collect();
                        let rule = subjects.iter().find(|subject| subject.id == case.rule)?.title.clone();
                        let others: Vec<String> = others.into_iter().collect();
                        let overlap = Overlap { file: test.clone(), rule, case: case.name.clone(), others };
                        (!overlap.others.is_empty()).then_some(overlap)
                    });
                    let of_file: Vec<Overlap> = of_file.collect();
                    if let Ok(mut found) = found.lock() {
                        found.push((test, of_file));
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.sort_by_key(|(test, _)| *test);
    found.into_iter().flat_map(|(_, overlaps)| overlaps).collect()
}
