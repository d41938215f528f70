//! Mutation: does every part of a rule matter to some case?
//!
//! Each test of a condition is made to answer always the same, each value of a list is left out, each bound of a
//! correlation is moved. Where no case goes otherwise than it expects, nobody would notice if the rule were written so.

mod correlations;
mod leaves;

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use correlations::anything;
use leaves::Leaves;

use super::read::{self, Case};
use super::run::{Runner, Step, UNJUDGED, Verdict};
use super::{Placeholders, discover, load_files, own_rules, rules_beside, rules_of};
use crate::diagnose::{Diagnostic, SourceText};
use crate::rule::ir::{Correlation, Expr};
use crate::rule::{Rule, Rules, naive};

/// What mutating the rules under some paths found.
#[derive(Debug, Default)]
pub struct Mutated {
    /// Changes that were tried.
    pub changes: usize,
    /// Those that no case notices, by file and in the order of the rules.
    pub undecided: Vec<Undecided>,
    /// Mistakes in rules and cases; what has any is left out.
    pub findings: Vec<Diagnostic>,
}

/// A part of a rule that could be otherwise, and every case would go the same way.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Undecided {
    /// The rule's file.
    pub file: PathBuf,
    /// The rule's title.
    pub rule: String,
    /// The part, and what was made of it: `verb is "get": always true`.
    pub part: String,
}

/// Changes every rule under the paths in every way, and asks its cases. `placeholders` are those of the rules.
#[must_use]
pub fn mutate(paths: &[PathBuf], placeholders: &Placeholders, threads: usize) -> Mutated {
    let mut findings = Vec::new();
    let (rule_files, test_files) = discover(paths, &mut findings);
    let loaded = load_files(&rule_files, placeholders);
    findings.extend(loaded.findings);
    let found = Mutex::new(Mutated { findings, ..Mutated::default() });
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                while let Some(file) = rule_files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let tests: Vec<&PathBuf> = test_files.iter().filter(|test| rules_beside(test) == *file).collect();
                    let of_file = one_file(rules_of(&loaded.rules, file), file, &tests);
                    if let Ok(mut found) = found.lock() {
                        found.changes += of_file.changes;
                        found.undecided.extend(of_file.undecided);
                        found.findings.extend(of_file.findings);
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_default();
    found.undecided.sort_by(|a, b| a.file.cmp(&b.file));
    found
}

fn one_file(rules: Rules, file: &Path, tests: &[&PathBuf]) -> Mutated {
    let mut mutated = Mutated::default();
    let subjects = own_rules(&rules, file);
    let mut cases = Vec::new();
    for test in tests {
        let text = fs::read_to_string(test).unwrap_or_default();
        match read::cases(&SourceText::new(test, text), &subjects) {
            Ok(read) => cases.extend(read),
            Err(mistakes) => mutated.findings.extend(mistakes),
        }
    }
    let bench = Bench::new(rules, cases);
    let mut add = |rule: &str, changes: Vec<(String, bool)>| {
        mutated.changes += changes.len();
        let undecided = changes.into_iter().filter(|(_, noticed)| !noticed);
        mutated.undecided.extend(undecided.map(|(part, _)| Undecided {
            file: file.to_owned(),
            rule: rule.to_owned(),
            part,
        }));
    };
    for rule in bench.rules.rules.iter().filter(|rule| rule.file == file) {
        add(&rule.info.title, bench.of_rule(rule));
    }
    for correlation in bench.rules.correlations.iter().filter(|correlation| correlation.file == file) {
        add(&correlation.info.title, bench.of_correlation(correlation));
    }
    mutated
}

/// The rules of a file and what its cases tell of them, recorded so that a change costs no detection.
struct Bench {
    rules: Rules,
    cases: Vec<Recorded>,
    /// The rules, each true of everything: it finds every match that a change may ask for.
    open: Runner,
}

/// A case and its events.
struct Recorded {
    case: Case,
    /// With a match of every rule.
    steps: Vec<Step>,
    /// The events that a rule is true of, as it is written.
    as_written: HashMap<String, Vec<bool>>,
}

impl Bench {
    fn new(rules: Rules, cases: Vec<Case>) -> Self {
        let open = Runner::new(opened(&rules));
        let record = |case: Case| {
            // A case that cannot be run fails when it is run; here it decides nothing.
            let steps = open.detect(&case, UNJUDGED).unwrap_or_default();
            let holds = |rule: &Rule| steps.iter().map(|step| naive::rule_holds(rule, &step.event)).collect();
            let as_written = rules.rules.iter().map(|rule| (rule.info.id.clone(), holds(rule))).collect();
            Recorded { case, steps, as_written }
        };
        let cases = cases.into_iter().map(record).collect();
        Self { cases, open, rules }
    }

    /// Every change of a rule about single events, and whether a case notices it.
    fn of_rule(&self, rule: &Rule) -> Vec<(String, bool)> {
        // A filter is not the rule's own: it has cases where it is written.
        let (own, filters) = rule.own();
        let leaves = Leaves::of(own);
        let concerned: Vec<(&Recorded, Vec<Option<Vec<bool>>>)> = self
            .cases
            .iter()
            .filter(|recorded| {
                self.rules.base(&recorded.case.rule.as_str().into()).iter().any(|id| **id == *rule.info.id)
            })
            .map(|recorded| {
                let answers = |step: &Step| {
                    let admits = |filter: &&Expr| naive::holds(filter, &step.event);
                    let asked = naive::is_asked(rule, &step.event) && filters.iter().all(admits);
                    asked.then(|| leaves.tests.iter().map(|test| naive::test_holds(test, &step.event)).collect())
                };
                (recorded, recorded.steps.iter().map(answers).collect())
            })
            .collect();
        leaves
            .changes
            .iter()
            .map(|change| {
                let noticed = concerned.iter().any(|(recorded, answers)| {
                    let touched = |answers: &Option<Vec<bool>>| answers.as_ref().is_some_and(|a| change.changes(a));
                    if !answers.iter().any(touched) {
                        return false;
                    }
                    let holds = |answers: &Option<Vec<bool>>| answers.as_ref().is_some_and(|a| leaves.holds(a, change));
                    let changed: Vec<bool> = answers.iter().map(holds).collect();
                    recorded.as_written.get(&rule.info.id) != Some(&changed)
                        && !recorded.is_met(&self.open, Some((&rule.info.id, &changed)))
                });
                (change.part.clone(), noticed)
            })
            .collect()
    }

    /// Every change of a correlation, and whether a case notices it.
    fn of_correlation(&self, correlation: &Correlation) -> Vec<(String, bool)> {
        let id = correlation.info.id.as_str();
        let concerned: Vec<&Recorded> =
            self.cases.iter().filter(|recorded| self.is_made_of(&recorded.case.rule, id)).collect();
        correlations::changes(correlation)
            .into_iter()
            .map(|(part, changed)| {
                let mut rules = opened(&self.rules);
                let place = rules.correlations.iter_mut().find(|known| known.info.id == id);
                if let Some(place) = place {
                    *place = changed;
                }
                let runner = Runner::new(rules);
                (part, concerned.iter().any(|recorded| !recorded.is_met(&runner, None)))
            })
            .collect()
    }

    /// Whether a rule is a correlation, or is made of it.
    fn is_made_of(&self, rule: &str, correlation: &str) -> bool {
        rule == correlation
            || self.rules.correlation(rule).is_some_and(|of| of.rules.iter().any(|id| self.is_made_of(id, correlation)))
    }
}

impl Recorded {
    /// Whether it goes as it expects, if a rule is true of other events than it is as written.
    fn is_met(&self, runner: &Runner, changed: Option<(&str, &[bool])>) -> bool {
        let rule = self.case.rule.as_str();
        let holds = |id: &str| match changed {
            Some((changed, holds)) if changed == id => holds,
            _ => self.as_written.get(id).map_or(&[][..], Vec::as_slice),
        };
        let is_single = self.as_written.contains_key(rule);
        let verdict = if is_single && (!runner.alerts(rule) || self.case.expected.says_only_whether()) {
            let matched = holds(rule).iter().filter(|holds| **holds).count() as u64;
            // One match is an alert; how many alerts several are is not asked here.
            let alerts = runner.alerts(rule).then_some(matched.min(1));
            Verdict { alerts, ..Verdict::of_block(matched) }
        } else {
            let kept = |at: usize, id: &str| holds(id).get(at).copied().unwrap_or(false);
            Verdict::of(&runner.correlate(&self.steps, &|at, found| kept(at, &found.rule), rule))
        };
        self.case.expected.is_met_by(verdict)
    }
}

/// The rules, each true of everything.
fn opened(rules: &Rules) -> Rules {
    let mut rules = rules.clone();
    rules.rules.iter_mut().for_each(|rule| rule.expr = anything());
    rules
}
