//! `kubesiren policy generate`: the cheapest policy for the rules, with comments.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{GenerateArgs, count, load, volume};
use crate::cli::{Failure, Globals, Outcome, out};
use crate::diagnose::SourceText;
use crate::policy::estimate::Estimate;
use crate::policy::generate::{Options, generate};
use crate::policy::{model, render};

pub(super) fn run(args: &GenerateArgs, globals: Globals) -> Outcome {
    let rules = load(&args.selection)?;
    let generated = generate(&rules, Options { no_credentials: args.no_credentials });
    let text = render::yaml(&generated, &count(&rules));
    // Before anything is printed: a policy in a file should mean that all went well.
    let estimate = if args.estimate.is_empty() { None } else { Some(of_text(&text, &args.estimate)?) };
    out::stdout().write_all(text.as_bytes())?;
    if globals.quiet == 0 {
        let mut err = out::stderr();
        for (what, titles) in &generated.withheld {
            let titles: Vec<String> = titles.iter().map(|title| format!("`{title}`")).collect();
            writeln!(
                err,
                "\x1b[1;33mwarning\x1b[0m: without the bodies of {what} these see less: {}",
                titles.join(", ")
            )?;
        }
    }
    if let Some(estimate) = estimate {
        volume::table(&mut out::stderr(), &estimate)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the policy of a text would write; its own text, so that lines can be told.
fn of_text(text: &str, recordings: &[PathBuf]) -> Result<Estimate, Failure> {
    let source = SourceText::new(Path::new("<generated>"), text.to_owned());
    let (policy, _) = model::parse(&source)?;
    volume::estimate(&policy, recordings)
}
