//! `kubesiren man`: generated from the command line's own definition.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;

use super::{Outcome, out};

/// `kubesiren man`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren man | man -l -")]
pub struct Args {
    /// Write one page for every command into this folder instead.
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    match &args.dir {
        Some(dir) => clap_mangen::generate_to(super::command(), dir)
            .with_context(|| format!("cannot write manual pages to {}", dir.display()))?,
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(super::command()).render(&mut page)?;
            out::stdout().write_all(&page)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
