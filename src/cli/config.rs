//! `kubesiren config`: is it right, what is the default, what may be in it.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::output::{Words, json_line};
use super::{Failure, Outcome, out};
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
    /// In words, or one object for each mistake and one for the whole.
    #[command(flatten)]
    pub output: Words,
}

/// Runs the command.
pub fn run(args: &Args) -> Outcome {
    match &args.command {
        ConfigCommand::Check(args) => return check(args),
        ConfigCommand::Default => out::stdout().write_all(DEFAULT_YAML.as_bytes())?,
        ConfigCommand::Schema => writeln!(out::stdout(), "{}", serde_json::to_string_pretty(&config::schema())?)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> Outcome {
    let read = read(args);
    if !args.output.is_json() {
        writeln!(out::stdout(), "{} is fine: {}", args.file.display(), summary(&read?))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut verdict = json!({"file": args.file, "fine": read.is_ok()});
    match read {
        Ok(config) => {
            for (name, count) in
                [("sources", config.sources.len()), ("sinks", config.sinks.len()), ("routes", config.routes.len())]
            {
                verdict[name] = count.into();
            }
        }
        Err(Failure::Findings(findings)) => out::json_findings(&findings)?,
        Err(failure) => return Err(failure),
    }
    let code = if verdict["fine"] == true { ExitCode::SUCCESS } else { ExitCode::from(2) };
    json_line(&mut out::stdout(), &verdict)?;
    Ok(code)
}

fn read(args: &CheckArgs) -> Result<Config, Failure> {
    let depth = if args.offline { Depth::Text } else { Depth::Hosts };
    let environment = super::environment();
    if args.file.as_os_str() != "-" {
        return Ok(config::load(Some(&args.file), &environment, depth)?);
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text)?;
    Ok(config::parse(Path::new("<stdin>"), &text, &environment, depth)?)
}

fn summary(config: &Config) -> String {
    let parts = [(config.sources.len(), "source"), (config.sinks.len(), "sink"), (config.routes.len(), "route")];
    parts.map(|(n, what)| counted(n, what)).join(", ")
}
