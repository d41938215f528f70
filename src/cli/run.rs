//! `kubesiren run`: the daemon.

use std::path::PathBuf;

/// `kubesiren run`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren run --config /etc/kubesiren/config.yaml")]
pub struct Args {
    /// The configuration; without one, a webhook on 127.0.0.1:9765 and alerts on standard output.
    #[arg(long, value_name = "FILE", env = "KUBESIREN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Where state lives, whatever the configuration says.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}
