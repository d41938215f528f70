//! `kubesiren rules`: look at rules, check them, test them, ask why.

use std::path::PathBuf;

use clap::Subcommand;

pub use super::scan::Format;
use crate::alert::Level;

/// `kubesiren rules …`
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: RulesCommand,
}

/// The commands below `rules`.
#[derive(Debug, Subcommand)]
pub enum RulesCommand {
    /// List rules: level, id, title.
    #[command(after_help = "Example:\n  kubesiren rules list --min-level high")]
    List(ListArgs),
    /// Show one rule as it is written.
    #[command(after_help = "Example:\n  kubesiren rules show 3f3f3d1c-0f0a-4d6e-9a58-9f0a2b7c1d11")]
    Show(ShowArgs),
    /// List every mistake in rule files.
    #[command(after_help = "Example:\n  kubesiren rules check detections/")]
    Check(PathsArgs),
    /// Run the *.test.yml beside the rules.
    #[command(after_help = "Example:\n  kubesiren rules test detections/")]
    Test(PathsArgs),
    /// Say for each rule and predicate why an event did or did not match.
    #[command(after_help = "Example:\n  kubesiren rules explain --event event.json --rule 3f3f3d1c-0f0a")]
    Explain(ExplainArgs),
}

/// Which rules a command is about.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Selection {
    /// Also use the rules in this file or folder, Sigma or Falco; may be given several times.
    #[arg(long, value_name = "PATH")]
    pub rules: Vec<PathBuf>,
    /// Leave the built-in detections out.
    #[arg(long)]
    pub no_builtin: bool,
}

/// `kubesiren rules list`
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
    /// Rules of this level and above only.
    #[arg(long, value_name = "LEVEL")]
    pub min_level: Option<Level>,
    /// A table on a terminal, JSON lines otherwise.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// `kubesiren rules show ID`
#[derive(Debug, clap::Args)]
pub struct ShowArgs {
    /// The rule's id, or the first characters of it, or its title.
    #[arg(value_name = "ID")]
    pub id: String,
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
}

/// `kubesiren rules check|test PATH…`
#[derive(Debug, clap::Args)]
pub struct PathsArgs {
    /// Files and folders of rules.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
}

/// `kubesiren rules explain`
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// A file with one audit event; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    pub event: PathBuf,
    /// Only this rule: id, first characters of it, or title.
    #[arg(long, value_name = "ID")]
    pub rule: Option<String>,
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
}
