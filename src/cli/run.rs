//! `kubesiren run`: the daemon.

use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{Failure, Globals, Outcome, logging};
use crate::app::{self, Origin, StartError};
use crate::config::LogConfig;

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
    /// Where the state database is damaged, keep it under another name and start with a new one.
    #[arg(long)]
    pub set_damaged_aside: bool,
}

/// Runs the daemon until SIGTERM or SIGINT.
pub fn run(args: &Args, globals: Globals) -> Outcome {
    let environment = super::environment();
    let origin = Origin {
        path: args.config.clone(),
        environment,
        state_dir: args.state_dir.clone(),
        set_damaged_aside: args.set_damaged_aside,
    };
    let config = origin.load()?;
    logging::init(LogConfig { level: globals.level(config.log.level), ..config.log });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = CancellationToken::new();
        stop_on(&[SignalKind::terminate(), SignalKind::interrupt()], &stop)?;
        match app::run(origin, config, stop).await {
            Ok(()) => Ok(ExitCode::SUCCESS),
            Err(StartError::Findings(findings)) => Err(Failure::Findings(findings)),
            Err(StartError::Other(error)) => Err(Failure::Other(error)),
        }
    })
}

/// Stops at the first of these signals.
pub(super) fn stop_on(kinds: &[SignalKind], stop: &CancellationToken) -> std::io::Result<()> {
    for kind in kinds {
        let mut signals = signal(*kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            signals.recv().await;
            stop.cancel();
        });
    }
    Ok(())
}
