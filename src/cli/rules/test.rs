//! `kubesiren rules test`: the cases beside the rules.

use std::io::Write;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::anyhow;

use super::{PathsArgs, TestArgs};
use crate::cases::{self, mutate};
use crate::cli::{Outcome, out};
use crate::text::counted;

pub(super) fn run(args: &TestArgs) -> Outcome {
    let tested = test(&args.paths)?;
    if !args.mutate || tested != ExitCode::SUCCESS {
        return Ok(tested);
    }
    mutated(&args.paths)
}

/// Tells of each change of a rule that no case notices; that is no success.
fn mutated(args: &PathsArgs) -> Outcome {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let found = mutate::mutate(&args.paths, &args.placeholders.values()?, threads);
    let mut out = out::stdout();
    let mut rule = "";
    for undecided in &found.undecided {
        if rule != undecided.rule {
            writeln!(out, "\n\x1b[31mUNDECIDED\x1b[0m  {}: {}", undecided.file.display(), undecided.rule)?;
        }
        writeln!(out, "    {}", undecided.part)?;
        rule = &undecided.rule;
    }
    writeln!(out, "{} tried, {} that no case notices", counted(found.changes, "change"), found.undecided.len())?;
    Ok(ExitCode::from(u8::from(!found.undecided.is_empty())))
}

fn test(args: &PathsArgs) -> Outcome {
    let report = cases::run(&args.paths, &args.placeholders.values()?);
    out::findings(&report.findings);
    // Nothing to test is no success: a wrong path must not pass for a good one.
    if report.rule_files == 0 && report.findings.is_empty() {
        return Err(anyhow!("there are no rules under the given paths").into());
    }
    let mut out = out::stdout();
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
    writeln!(out, "{} passed, {} failed", report.passed(), report.failed())?;
    Ok(ExitCode::from(match (report.has_errors(), report.failed()) {
        (true, _) => 2,
        (false, 1..) => 1,
        (false, 0) => 0,
    }))
}
