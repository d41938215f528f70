//! `kubesiren config`: is it right, what is the default, what may be in it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;

use super::{Outcome, out};
use crate::config::{self, Config, DEFAULT_YAML, Depth};
use crate::text::counted;

/// `kubesiren config …`
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do with it.
    #[command(subcommand)]
    pub command: ConfigCommand,
}

/// The commands below `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// List every mistake in a configuration.
    ///
    /// Reads the variables KUBESIREN_* too, as `run` would, and looks at the files and hosts it names.
    #[command(after_help = "Example:\n  kubesiren config check --offline /etc/kubesiren/config.yaml")]
    Check(CheckArgs),
    /// Print the default configuration, with comments.
    #[command(after_help = "Example:\n  kubesiren config default > config.yaml")]
    Default,
    /// Print the JSON Schema of the configuration, for editors.
    #[command(after_help = "Example:\n  kubesiren config schema > kubesiren.schema.json")]
    Schema,
}

/// `kubesiren config check FILE`
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The configuration; `-` for standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Look at the text alone: open no file, look up no host.
    #[arg(long)]
    pub offline: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    match &args.command {
        ConfigCommand::Check(args) => check(args)?,
        ConfigCommand::Default => out::stdout().write_all(DEFAULT_YAML.as_bytes())?,
        ConfigCommand::Schema => writeln!(out::stdout(), "{}", serde_json::to_string_pretty(&config::schema())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> Result<(), super::Failure> {
    let depth = if args.offline { Depth::Text } else { Depth::Hosts };
    let environment = super::environment();
    let config = if args.file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        config::parse(Path::new("<stdin>"), &text, &environment, depth)?
    } else {
        config::load(Some(&args.file), &environment, depth)?
    };
    writeln!(out::stdout(), "{} is fine: {}", args.file.display(), summary(&config))?;
    Ok(())
}

fn summary(config: &Config) -> String {
    let parts = [(config.sources.len(), "source"), (config.sinks.len(), "sink"), (config.routes.len(), "route")];
    parts.map(|(n, what)| counted(n, what)).join(", ")
}
