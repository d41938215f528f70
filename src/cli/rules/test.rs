//! `kubesiren rules test`: the cases beside the rules.

use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::anyhow;

use serde_json::json;

use super::TestArgs;
use crate::cases::{self, FileReport, Report, mutate};
use crate::cli::output::json_line;
use crate::cli::{Outcome, out};
use crate::text::counted;

pub(super) fn run(args: &TestArgs) -> Outcome {
    let tested = test(args)?;
    if !args.mutate || tested != ExitCode::SUCCESS {
        return Ok(tested);
    }
    mutated(args)
}

/// Tells of each change of a rule that no case notices; that is no success.
fn mutated(args: &TestArgs) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let found = mutate::mutate(&args.paths.paths, &args.paths.placeholders.values()?, threads);
    let verdict = ExitCode::from(u8::from(!found.undecided.is_empty()));
    let mut out = out::stdout();
    if args.output.is_json() {
        for mutate::Undecided { file, rule, part } in &found.undecided {
            json_line(&mut out, &json!({"file": file, "rule": rule, "undecided": part}))?;
        }
        json_line(&mut out, &json!({"changes": found.changes, "unnoticed": found.undecided.len()}))?;
        return Ok(verdict);
    }
    let mut rule = "";
    for undecided in &found.undecided {
        if rule != undecided.rule {
            writeln!(out, "\n\x1b[31mUNDECIDED\x1b[0m  {}: {}", undecided.file.display(), undecided.rule)?;
        }
        writeln!(out, "    {}", undecided.part)?;
        rule = &undecided.rule;
    }
    writeln!(out, "{} tried, {} that no case notices", counted(found.changes, "change"), found.undecided.len())?;
    Ok(verdict)
}

fn test(args: &TestArgs) -> Outcome {
    let report = cases::run(&args.paths.paths, &args.paths.placeholders.values()?);
    if args.output.is_json() {
        out::json_findings(&report.findings)?;
    } else {
        out::findings(&report.findings);
    }
    // Nothing to test is no success: a wrong path must not pass for a good one.
    if report.rule_files == 0 && report.findings.is_empty() {
        return Err(anyhow!("there are no rules under the given paths").into());
    }
    let mut out = out::stdout();
    if args.output.is_json() {
        report.files.iter().try_for_each(|file| json_line(&mut out, &object(file)))?;
        json_line(&mut out, &json!({"passed": report.passed(), "failed": report.failed()}))?;
    } else {
        words(&mut out, &report)?;
    }
    Ok(ExitCode::from(match (report.has_errors(), report.failed()) {
        (true, _) => 2,
        (false, 1..) => 1,
        (false, 0) => 0,
    }))
}

/// What came of one file's cases.
fn object(file: &FileReport) -> serde_json::Value {
    let failures = file.failures.iter().map(|failure| json!({"name": failure.name, "what": failure.what.trim_end()}));
    json!({"file": file.file, "passed": file.passed, "failed": failures.collect::<Vec<_>>()})
}

fn words(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    for file in &report.files {
        let name = file.file.display();
        if file.failures.is_empty() {
            writeln!(out, "\x1b[32mok\x1b[0m    {name}: {} passed", file.passed)?;
            continue;
        }
        writeln!(out, "\x1b[31mFAIL\x1b[0m  {name}: {} passed, {} failed", file.passed, file.failures.len())?;
        for failure in &file.failures {
            writeln!(out, "    {}: {}", failure.name, failure.what.trim_end().replace('\n', "\n      "))?;
        }
    }
    writeln!(out, "{} passed, {} failed", report.passed(), report.failed())
}
