//! `kubesiren completions`: generated from the command line's own definition.

use std::io::Write;
use std::process::ExitCode;

use super::{Outcome, out};

/// `kubesiren completions SHELL`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren completions bash > /etc/bash_completion.d/kubesiren")]
pub struct Args {
    /// For which shell.
    pub shell: clap_complete::Shell,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    // Into memory first: the generator panics when its output is closed.
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::command(), "kubesiren", &mut text);
    out::stdout().write_all(&text)?;
    Ok(ExitCode::SUCCESS)
}
