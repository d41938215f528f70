//! `kubesiren sinks`: does a sink work.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::output::{Words, json_line};
use super::{Outcome, out};
use crate::app::Origin;
use crate::clock;
use crate::notify;
use crate::sink::Sink;

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
    /// How.
    #[command(flatten)]
    pub output: Words,
}

/// Runs a command below `sinks`.
pub fn run(args: &Args) -> Outcome {
    let SinksCommand::Test(args) = &args.command;
    test(args)
}

fn test(args: &TestArgs) -> Outcome {
    let environment = super::environment();
    let origin = Origin { path: args.config.clone(), environment, state_dir: None, set_damaged_aside: false };
    let config = origin.load()?;
    let Some(sink) = config.sinks.iter().find(|sink| sink.name == args.name) else {
        let names: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
        return Err(anyhow::anyhow!("no sink is called `{}`; there are: {}", args.name, names.join(", ")).into());
    };
    let built = Sink::build(sink).map_err(anyhow::Error::msg)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let sent = runtime.block_on(notify::send_test(&built, &sink.name, clock::now()));
    let sent = sent.map_err(with_remedy);
    if args.output.is_json() {
        let error = sent.as_ref().err();
        json_line(&mut out::stdout(), &json!({"sink": sink.name, "taken": sent.is_ok(), "error": error}))?;
        return Ok(ExitCode::from(u8::from(sent.is_err())));
    }
    match sent {
        Ok(()) => {
            writeln!(out::stderr(), "the test alert was taken by {}", sink.name)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            out::error(&format!("{}: {error}", sink.name));
            Ok(ExitCode::from(1))
        }
    }
}

/// What a sink says, with what to do about what everybody meets once.
fn with_remedy(error: String) -> String {
    if !error.contains("UnknownIssuer") {
        return error;
    }
    format!(
        "{error}; this machine does not know the authority that signed the server's certificate: \
         where the sink takes `tls`, `tls: {{ca: FILE}}` names it"
    )
}
