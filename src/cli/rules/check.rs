//! `kubesiren rules check`: every mistake in rule files, at its place.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use super::CheckArgs;
use crate::cases;
use crate::cli::{Globals, Outcome, out};
use crate::diagnose::{Diagnostic, Severity};
use crate::rule::load::BUILTIN;
use crate::rule::{self, Loaded, Rules};
use crate::text::counted;

pub(super) fn run(args: &CheckArgs, globals: &Globals) -> Outcome {
    let mut options = rule::Options { paths: args.paths.paths.clone(), ..rule::Options::default() };
    args.paths.placeholders.apply(&mut options)?;
    let loaded = load(options);
    let verdict = if loaded.has_errors() { ExitCode::from(2) } else { ExitCode::SUCCESS };
    if args.output.is_json() {
        out::json_findings(&loaded.findings)?;
        return Ok(verdict);
    }
    out::findings(&loaded.findings);
    if globals.verbose > 0 {
        untested(&loaded.rules);
    }
    writeln!(out::stdout(), "{}", summary(&loaded.rules, &loaded.findings))?;
    Ok(verdict)
}

/// Loads the files by themselves or, where that is what they were written for, beside the built-in detections, which
/// filters and correlations may name.
fn load(options: rule::Options) -> Loaded {
    let alone = rule::load(&options);
    if !alone.has_errors() {
        return alone;
    }
    let mut beside = rule::load(&rule::Options { builtin: true, ..options });
    if errors(&beside.findings) >= errors(&alone.findings) {
        return alone;
    }
    let own = |file: &Path| !file.starts_with(BUILTIN);
    beside.rules.rules.retain(|rule| own(&rule.file));
    beside.rules.correlations.retain(|correlation| own(&correlation.file));
    beside
}

fn errors(findings: &[Diagnostic]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}

/// Names the files without cases. No mistake of theirs, so it is told only to those who ask for more.
fn untested(rules: &Rules) {
    let files: BTreeSet<&Path> = rules
        .rules
        .iter()
        .map(|r| r.file.as_path())
        .chain(rules.correlations.iter().map(|c| c.file.as_path()))
        .collect();
    let mut err = out::stderr();
    for file in files.into_iter().filter(|file| cases::is_untested(file)) {
        let _ = writeln!(err, "\x1b[1;33mwarning\x1b[0m: {} has no cases beside it", file.display());
    }
}

/// `45 rules, 6 correlations, 2 skipped for other products, no mistakes`.
fn summary(rules: &Rules, findings: &[Diagnostic]) -> String {
    let errors = errors(findings);
    let warnings = findings.len() - errors;
    let mut parts = vec![counted(rules.rules.len(), "rule"), counted(rules.correlations.len(), "correlation")];
    if !rules.skipped.is_empty() {
        parts.push(format!("{} skipped for other products", rules.skipped.len()));
    }
    match (errors, warnings) {
        (0, 0) => parts.push("no mistakes".to_owned()),
        (0, _) => parts.push(counted(warnings, "warning")),
        (_, 0) => parts.push(counted(errors, "error")),
        _ => parts.extend([counted(errors, "error"), counted(warnings, "warning")]),
    }
    parts.join(", ")
}
