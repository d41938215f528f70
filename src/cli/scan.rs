//! `kubesiren scan`: alerts from audit logs, offline.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::alert::Level;

/// `kubesiren scan`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren scan --min-level medium --fail-on high audit.log audit-*.log.gz")]
pub struct Args {
    /// Audit logs: JSON lines, lists or a provider's envelope, plain, gzip or zstd; `-` for standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also use the rules in this file or folder, Sigma or Falco; may be given several times.
    #[arg(long, value_name = "PATH")]
    pub rules: Vec<PathBuf>,
    /// Leave the built-in detections out.
    #[arg(long)]
    pub no_builtin: bool,
    /// The cluster label of events that name none.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub cluster: String,
    /// How alerts are written: a table on a terminal, JSON lines otherwise.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Show alerts of this level and above only.
    #[arg(long, value_name = "LEVEL")]
    pub min_level: Option<Level>,
    /// Exit with 1 when there is an alert of this level or above.
    #[arg(long, value_name = "LEVEL")]
    pub fail_on: Option<Level>,
    /// Threads; all cores if not given. The alerts do not depend on it.
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Write what was read and found as standard error's last line.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub stats: Option<Stats>,
}

/// How alerts are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One object a line.
    Json,
    /// For people.
    Table,
}

/// How statistics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Stats {
    /// One object.
    Json,
}
