//! Cases: `X.test.yml` beside `X.yml` says which events the rules of `X.yml` fire on, and which they stay quiet on.
//!
//! Cases run through the real engine and a correlator of their own, and the judge is asked about every event too. The
//! same runner serves the built-in detections and users' private rules.

mod events;
pub mod mutate;
pub mod overlap;
mod read;
mod run;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::diagnose::{Diagnostic, Severity, SourceText, Span};
use crate::rule::builtin::CASES;
use crate::rule::sigma::Placeholders;
use crate::rule::{self, Rules, load};

/// What running all cases under some paths found.
#[derive(Debug, Default)]
pub struct Report {
    /// One entry for each file of rules, in order.
    pub files: Vec<FileReport>,
    /// Mistakes in rules and in cases. Files of cases with mistakes are not run.
    pub findings: Vec<Diagnostic>,
    /// Number of rule files that were looked at.
    pub rule_files: usize,
}

impl Report {
    /// Whether a file could not be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }

    /// Cases as expected.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.files.iter().map(|file| file.passed).sum()
    }

    /// Cases not as expected, and cases that are missing.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.files.iter().map(|file| file.failures.len()).sum()
    }
}

/// One file of rules and its cases.
#[derive(Debug)]
pub struct FileReport {
    /// The file with the cases; the file of rules where there is none.
    pub file: PathBuf,
    /// Cases as expected.
    pub passed: usize,
    /// Everything else.
    pub failures: Vec<Failure>,
}

/// One case that did not go as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The case's name, or the title of the rule that lacks one.
    pub name: String,
    /// What was expected and what happened; may have several lines.
    pub what: String,
}

/// What becomes of an event on its way to the rules: itself, less of it, or nothing.
pub type OnTheWay<'w> = &'w dyn Fn(Value) -> Option<Value>;

/// Runs the cases beside all rules under the paths: folders, files of rules or files of cases. `placeholders` are those of
/// the rules.
#[must_use]
pub fn run(paths: &[PathBuf], placeholders: &Placeholders) -> Report {
    run_with(paths, placeholders, &Some)
}

/// Like [`run`], with events that come as something on their way makes them, such as an audit policy.
#[must_use]
pub fn run_with(paths: &[PathBuf], placeholders: &Placeholders, on_the_way: OnTheWay<'_>) -> Report {
    let mut report = Report::default();
    let (rule_files, test_files) = discover(paths, &mut report.findings);
    report.rule_files = rule_files.len();
    let loaded = load_files(&rule_files, placeholders);
    report.findings.extend(loaded.findings);
    for file in &rule_files {
        let rules = rules_of(&loaded.rules, file);
        let tests: Vec<&PathBuf> = test_files.iter().filter(|test| rules_beside(test) == *file).collect();
        // A file with rules for other products, or with mistakes only, has nothing to test.
        if tests.is_empty() && own_rules(&rules, file).is_empty() {
            continue;
        }
        report.files.push(one_file(&rules, file, &tests, &mut report.findings, on_the_way));
    }
    report
}

/// What came of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Came {
    /// The id of the rule that it is about.
    pub rule: String,
    /// The case's name.
    pub name: String,
    /// Whether it expects the rule to fire.
    pub expected: bool,
    /// Whether the rule fired.
    pub fired: bool,
}

/// Like [`run_with`], but says of each case what came of it, and nothing of what is wrong with rules or cases.
#[must_use]
pub fn outcomes(paths: &[PathBuf], placeholders: &Placeholders, on_the_way: OnTheWay<'_>) -> Vec<Came> {
    let (rule_files, test_files) = discover(paths, &mut Vec::new());
    let loaded = load_files(&rule_files, placeholders);
    let mut came = Vec::new();
    for test in &test_files {
        let file = rules_beside(test);
        let rules = rules_of(&loaded.rules, &file);
        let subjects = own_rules(&rules, &file);
        let text = fs::read_to_string(test).unwrap_or_default();
        let cases = read::cases(&SourceText::new(test, text), &subjects).unwrap_or_default();
        let runner = run::Runner::new(rules);
        came.extend(cases.into_iter().map(|case| {
            let fired = runner.fires(&case, on_the_way);
            Came { rule: case.rule, name: case.name, expected: case.expected.fires(), fired }
        }));
    }
    came
}

/// What comes of the cases about rules that come down to one of `base`: those beside the files of rules, and those that
/// come with the binary.
#[must_use]
pub fn outcomes_about(all: &Rules, base: &[Arc<str>]) -> Vec<Came> {
    let about = |id: &str| all.base(&id.into()).iter().any(|id| base.contains(id));
    let singles = all.rules.iter().filter(|rule| about(&rule.info.id)).map(|rule| rule.file.as_path());
    let several = all.correlations.iter().filter(|c| about(&c.info.id)).map(|c| c.file.as_path());
    let files: BTreeSet<&Path> = singles.chain(several).collect();
    let mut came = Vec::new();
    for file in files {
        let Some(source) = cases_of(file) else { continue };
        let rules = rules_of(all, file);
        let mut cases = read::cases(&source, &own_rules(&rules, file)).unwrap_or_default();
        cases.retain(|case| about(&case.rule));
        let runner = run::Runner::new(rules);
        came.extend(cases.into_iter().map(|case| {
            let fired = runner.fires(&case, &Some);
            Came { rule: case.rule, name: case.name, expected: case.expected.fires(), fired }
        }));
    }
    came
}

/// The cases of a file of rules.
fn cases_of(file: &Path) -> Option<Arc<SourceText>> {
    let test = file.with_extension("test.yml");
    if let Ok(name) = file.strip_prefix(load::BUILTIN) {
        let name = name.with_extension("test.yml");
        let (_, text) = CASES.iter().find(|(known, _)| Path::new(known) == name)?;
        return Some(SourceText::new(&test, (*text).to_owned()));
    }
    let test = if test.exists() { test } else { file.with_extension("test.yaml") };
    Some(SourceText::new(&test, fs::read_to_string(&test).ok()?))
}

fn load_files(files: &[PathBuf], placeholders: &Placeholders) -> rule::Loaded {
    rule::load(&rule::Options { paths: files.to_vec(), placeholders: placeholders.clone(), ..rule::Options::default() })
}

/// The rule files and the case files under the paths, each once, rules without cases and cases without rules included.
fn discover(paths: &[PathBuf], findings: &mut Vec<Diagnostic>) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut found = Vec::new();
    for path in paths {
        let files = match fs::metadata(path) {
            Ok(meta) if meta.is_dir() => load::yaml_files(path),
            Ok(_) if load::is_test_file(path) => Ok(vec![path.clone()]),
            // A single file of rules brings its cases.
            Ok(_) => Ok([path.clone(), path.with_extension("test.yml"), path.with_extension("test.yaml")]
                .into_iter()
                .filter(|file| file.exists())
                .collect()),
            Err(error) => Err(error),
        };
        match files {
            Ok(files) => found.extend(files),
            Err(error) => findings.push(at_file(path, format!("cannot read it: {error}"))),
        }
    }
    let mut seen = BTreeSet::new();
    found.retain(|file| seen.insert(fs::canonicalize(file).unwrap_or_else(|_| file.clone())));
    let (tests, mut rules): (Vec<_>, Vec<_>) = found.into_iter().partition(|file| load::is_test_file(file));
    for test in &tests {
        let beside = rules_beside(test);
        if !beside.exists() {
            findings.push(at_file(test, format!("there are no rules beside it: {} is missing", beside.display())));
        } else if seen.insert(fs::canonicalize(&beside).unwrap_or_else(|_| beside.clone())) {
            rules.push(beside);
        }
    }
    (rules, tests)
}

/// The file of rules that a file of cases is about: `X.yml` for `X.test.yml`.
fn rules_beside(test: &Path) -> PathBuf {
    let plain = test.with_extension("").with_extension("yml");
    if plain.exists() {
        plain
    } else {
        Some(plain.with_extension("yaml")).filter(|yaml| yaml.exists()).unwrap_or(plain)
    }
}

fn at_file(path: &Path, message: String) -> Diagnostic {
    Diagnostic::error(&SourceText::new(path, String::new()), Span::default(), message)
}

/// The rules of one file, and the rules elsewhere that its correlations need.
fn rules_of(all: &Rules, file: &Path) -> Rules {
    let mut needed: BTreeSet<&str> = BTreeSet::new();
    let mut correlations = Vec::new();
    // A correlation comes after those that it is made of.
    for correlation in all.correlations.iter().rev() {
        if correlation.file == file || needed.contains(correlation.info.id.as_str()) {
            needed.extend(correlation.rules.iter().map(|id| &**id));
            correlations.insert(0, correlation.clone());
        }
    }
    let wanted = |rule: &&rule::Rule| rule.file == file || needed.contains(rule.info.id.as_str());
    let rules = all.rules.iter().filter(wanted).cloned().collect();
    Rules { rules, correlations, ..Rules::default() }
}

/// A rule that a case can be about.
#[derive(Clone, Debug)]
struct Subject {
    id: String,
    title: String,
    name: Option<String>,
    /// Whether it alerts; a rule that only serves correlations can still be asked whether it matches.
    alerts: bool,
}

/// What the cases of a file can be about.
fn own_rules(rules: &Rules, file: &Path) -> Vec<Subject> {
    let alerting = rules.alerting();
    let singles = rules.rules.iter().filter(|rule| rule.file == file).map(|rule| Subject {
        id: rule.info.id.clone(),
        title: rule.info.title.clone(),
        name: rule.name.clone(),
        alerts: alerting.get(rule.info.id.as_str()).copied().unwrap_or(false),
    });
    let several = rules.correlations.iter().filter(|correlation| correlation.file == file).map(|correlation| Subject {
        id: correlation.info.id.clone(),
        title: correlation.info.title.clone(),
        name: None,
        alerts: alerting.get(correlation.info.id.as_str()).copied().unwrap_or(false),
    });
    singles.chain(several).collect()
}

fn one_file(
    rules: &Rules,
    file: &Path,
    tests: &[&PathBuf],
    findings: &mut Vec<Diagnostic>,
    on_the_way: OnTheWay<'_>,
) -> FileReport {
    let subjects = own_rules(rules, file);
    let mut report = FileReport { file: file.to_owned(), passed: 0, failures: Vec::new() };
    if tests.is_empty() {
        let name = file.display().to_string();
        report.failures.push(Failure { name, what: "has no test file beside it".to_owned() });
        return report;
    }
    let runner = run::Runner::new(rules.clone());
    let mut cases = Vec::new();
    for test in tests {
        report.file.clone_from(test);
        let read = match fs::read_to_string(test) {
            Ok(text) => read::cases(&SourceText::new(test, text), &subjects),
            Err(error) => Err(vec![at_file(test, format!("cannot read it: {error}"))]),
        };
        match read {
            Ok(read) => cases.extend(read),
            Err(mistakes) => {
                findings.extend(mistakes);
                return report;
            }
        }
    }
    for case in &cases {
        match runner.case(case, on_the_way) {
            Ok(()) => report.passed += 1,
            Err(what) => report.failures.push(Failure { name: case.name.clone(), what }),
        }
    }
    report.failures.extend(missing(&subjects, &cases));
    report
}

/// Every rule that alerts has a case on which it fires, and one on which it stays quiet.
fn missing(subjects: &[Subject], cases: &[read::Case]) -> Vec<Failure> {
    let mut missing = Vec::new();
    for subject in subjects.iter().filter(|subject| subject.alerts) {
        for (firing, what) in [(true, "has no firing case"), (false, "has no quiet case")] {
            if !cases.iter().any(|case| case.rule == subject.id && case.expected.fires() == firing) {
                missing.push(Failure { name: subject.title.clone(), what: what.to_owned() });
            }
        }
    }
    missing
}

/// A file of rules that has no cases beside it.
#[must_use]
pub fn is_untested(file: &Path) -> bool {
    !file.with_extension("test.yml").exists() && !file.with_extension("test.yaml").exists()
}

/// Runs cases from texts, for tests: rules, cases.
#[cfg(test)]
fn run_text(rules: &str, cases: &str) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("r.yml"), rules).expect("written");
    fs::write(folder.path().join("r.test.yml"), cases).expect("written");
    run(&[folder.path().to_owned()], &Placeholders::new())
}

#[cfg(test)]
mod tests;
