//! `kubesiren rules test`: the cases beside the rules.

use std::io::Write;
use std::process::ExitCode;

use anyhow::anyhow;

use super::PathsArgs;
use crate::cases;
use crate::cli::{Outcome, out};

pub(super) fn run(args: &PathsArgs) -> Outcome {
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
