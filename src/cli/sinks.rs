//! `kubesiren sinks`: does a sink work.

use std::path::PathBuf;

use clap::Subcommand;

/// `kubesiren sinks …`
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do with them.
    #[command(subcommand)]
    pub command: SinksCommand,
}

/// The commands below `sinks`.
#[derive(Debug, Subcommand)]
pub enum SinksCommand {
    /// Send one alert that is marked as a test through a sink.
    #[command(after_help = "Example:\n  kubesiren sinks test oncall --config /etc/kubesiren/config.yaml")]
    Test(TestArgs),
}

/// `kubesiren sinks test NAME`
#[derive(Debug, clap::Args)]
pub struct TestArgs {
    /// The sink's name in the configuration.
    #[arg(value_name = "NAME")]
    pub name: String,
    /// The configuration.
    #[arg(long, value_name = "FILE", env = "KUBESIREN_CONFIG")]
    pub config: Option<PathBuf>,
}
