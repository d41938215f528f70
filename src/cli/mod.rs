//! The command line. Standard output carries data, standard error carries logs, findings and progress.
//!
//! Each command is one file: an `Args` struct and `run`, which answers the exit code. [`Failure`] is exit code 2.

pub mod alerts;
pub mod client;
pub mod completions;
pub mod config;
pub mod demo;
pub mod logging;
pub mod man;
pub mod out;
pub mod outbox;
pub mod output;
pub mod policy;
mod progress;
pub mod replay;
mod report;
pub mod rules;
pub mod run;
pub mod scan;
pub mod silence;
pub mod sinks;
pub mod tail;
pub mod top;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::config::LogLevel;
use crate::diagnose::Diagnostic;

/// Watches Kubernetes audit events and tells the people on call what they must know.
#[derive(Debug, Parser)]
#[command(name = "kubesiren", version, max_term_width = 100)]
#[command(after_help = "Exit codes: 0 fine, 1 what was checked failed, 2 usage, configuration or rule error.")]
#[command(subcommand_required = true, arg_required_else_help = true, propagate_version = true)]
pub struct Cli {
    /// What all commands take.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Globals {
    /// When to color. NO_COLOR is heeded too.
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN", help_heading = "Global options")]
    pub color: Color,
    /// Log more; twice for debugging.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, help_heading = "Global options")]
    pub verbose: u8,
    /// Log less; twice for silence.
    #[arg(
        short,
        long,
        global = true,
        action = clap::ArgAction::Count,
        conflicts_with = "verbose",
        help_heading = "Global options"
    )]
    pub quiet: u8,
}

impl Globals {
    /// The log level, `-v` and `-q` counted from `usual`.
    #[must_use]
    pub fn level(&self, usual: LogLevel) -> LogLevel {
        const LEVELS: [LogLevel; 6] =
            [LogLevel::Off, LogLevel::Error, LogLevel::Warn, LogLevel::Info, LogLevel::Debug, LogLevel::Trace];
        let at = LEVELS.iter().position(|level| *level == usual).unwrap_or(0) + usize::from(self.verbose);
        LEVELS[at.saturating_sub(usize::from(self.quiet)).min(LEVELS.len() - 1)]
    }
}

/// When to color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Color {
    /// On terminals, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Into files and pipes too.
    Always,
    /// Never.
    Never,
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch a bundled attack being found: no configuration, no cluster.
    Demo(demo::Args),
    /// Run the daemon.
    Run(run::Args),
    /// Find alerts in audit logs and exit.
    Scan(scan::Args),
    /// Look at what a running daemon found; acknowledge it, close it.
    Alerts(alerts::Args),
    /// Show alerts of a running daemon as they are found, or events as they come in.
    Tail(Box<tail::Args>),
    /// Watch a running daemon: what comes in, what is found, what goes out.
    Top(top::Args),
    /// Keep alerts that are known from the sinks for a while.
    Silence(silence::Args),
    /// Send recorded events to a webhook or a topic.
    Replay(replay::Args),
    /// Try a sink.
    Sinks(sinks::Args),
    /// Look at what the sinks were not told, send it again or forget it.
    Outbox(outbox::Args),
    /// Check, print or describe the configuration.
    Config(config::Args),
    /// Look at rules, check them, test them, ask why.
    Rules(rules::Args),
    /// Make and check audit policies for kube-apiserver.
    Policy(policy::Args),
    /// Print completions for a shell.
    Completions(completions::Args),
    /// Print the manual page.
    Man(man::Args),
}

/// Why a command could not do what it was asked: exit code 2.
#[derive(Debug)]
pub enum Failure {
    /// Mistakes in what the user wrote.
    Findings(Vec<Diagnostic>),
    /// Anything else.
    Other(anyhow::Error),
}

impl From<Vec<Diagnostic>> for Failure {
    fn from(findings: Vec<Diagnostic>) -> Self {
        Self::Findings(findings)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Other(error.into())
    }
}

/// What a command answers.
pub type Outcome = Result<ExitCode, Failure>;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    out::set_color(cli.globals.color);
    match dispatch(&cli) {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

fn dispatch(cli: &Cli) -> Outcome {
    match &cli.command {
        Command::Demo(args) => demo::run(args, cli.globals),
        Command::Run(args) => run::run(args, cli.globals),
        Command::Sinks(args) => sinks::run(args),
        Command::Scan(args) => scan::run(args, cli.globals),
        Command::Alerts(args) => alerts::run(args, cli.globals),
        Command::Tail(args) => tail::run(args, cli.globals),
        Command::Top(args) => top::run(args),
        Command::Silence(args) => silence::run(args, cli.globals),
        Command::Replay(args) => replay::run(args, cli.globals),
        Command::Outbox(args) => outbox::run(args, cli.globals),
        Command::Config(args) => config::run(args),
        Command::Rules(args) => rules::run(args, &cli.globals),
        Command::Policy(args) => policy::run(args, cli.globals),
        Command::Completions(args) => completions::run(args),
        Command::Man(args) => man::run(args),
    }
}

fn report(failure: &Failure) -> ExitCode {
    match failure {
        Failure::Findings(findings) => out::findings(findings),
        // The reader of our output has seen enough (`| head`): that is no error.
        Failure::Other(error) if is_broken_pipe(error) => return ExitCode::SUCCESS,
        Failure::Other(error) => out::error(&format!("{error:#}")),
    }
    ExitCode::from(2)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The variables that configure us, for [`crate::config::load`].
#[must_use]
pub fn environment() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
        .filter(|(name, _)| name.starts_with("KUBESIREN_"))
        .map(|(name, value)| (name, value.to_string_lossy().into_owned()))
        .collect()
}

/// The command tree, for completions and manual pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(command: &clap::Command, found: &mut Vec<clap::Command>) {
        let below: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
        if below.is_empty() {
            found.push(command.clone());
        }
        below.into_iter().for_each(|c| leaves(c, found));
    }

    /// With the commands whose arguments are there already.
    fn all() -> Vec<clap::Command> {
        let mut found = Vec::new();
        leaves(&command(), &mut found);
        for (name, with) in [
            ("run", <run::Args as clap::Args>::augment_args as fn(clap::Command) -> clap::Command),
            ("demo", <demo::Args as clap::Args>::augment_args),
            ("scan", <scan::Args as clap::Args>::augment_args),
            ("sinks", <sinks::Args as clap::Args>::augment_args),
            ("outbox", <outbox::Args as clap::Args>::augment_args),
            ("alerts", <alerts::Args as clap::Args>::augment_args),
            ("tail", <tail::Args as clap::Args>::augment_args),
            ("top", <top::Args as clap::Args>::augment_args),
            ("silence", <silence::Args as clap::Args>::augment_args),
        ] {
            leaves(&with(clap::Command::new(name)), &mut found);
        }
        found
    }

    #[test]
    fn the_definitions_hold_together() {
        command().debug_assert();
        all().into_iter().for_each(clap::Command::debug_assert);
    }

    #[test]
    fn every_command_shows_one_example() {
        for command in all() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.starts_with("Example:\n  kubesiren "), "{}: {help:?}", command.get_name());
        }
    }

    /// What prints something of another form, or nothing at all.
    const NOT_JSON: [&str; 6] = ["run", "config default", "config schema", "policy generate", "completions", "man"];

    #[test]
    fn every_command_can_answer_with_json() {
        fn look(command: &clap::Command, path: &str, without: &mut Vec<String>) {
            let below: Vec<_> = command.get_subcommands().filter(|c| c.get_name() != "help").collect();
            let json = |argument: &clap::Arg| {
                argument.get_long() == Some("output")
                    && argument.get_short() == Some('o')
                    && argument.get_possible_values().iter().any(|value| value.get_name() == "json")
            };
            if below.is_empty() && !command.get_arguments().any(json) {
                without.push(path.trim_start().to_owned());
            }
            below.into_iter().for_each(|c| look(c, &format!("{path} {}", c.get_name()), without));
        }
        let mut without = Vec::new();
        look(&command(), "", &mut without);
        let mut expected = NOT_JSON.map(str::to_owned);
        expected.sort();
        without.sort();
        assert_eq!(without, expected);
    }

    #[test]
    fn flags_move_the_level() {
        let level = |verbose, quiet| Globals { color: Color::Auto, verbose, quiet }.level(LogLevel::Info);
        assert_eq!(level(0, 0), LogLevel::Info);
        assert_eq!(level(1, 0), LogLevel::Debug);
        assert_eq!(level(9, 0), LogLevel::Trace);
        assert_eq!(level(0, 2), LogLevel::Error);
        assert_eq!(level(0, 9), LogLevel::Off);
    }
}
