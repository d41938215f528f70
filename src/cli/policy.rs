//! `kubesiren policy`: what kube-apiserver must log so that rules can fire, and which rules a policy blinds.

mod check;
mod generate;
mod volume;

use std::path::PathBuf;

use clap::Subcommand;

use super::output::{Format, Output};
use super::rules::PlaceholderArgs;
use super::{Failure, Globals, Outcome};
use crate::config::{self, Depth};
use crate::rule::{self, Profile, Rules};
use crate::text::counted;

/// `kubesiren policy …`
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do with it.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The commands below `policy`.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Print the cheapest audit policy under which every rule can fire.
    ///
    /// What rules look into is logged with its body, noise that no rule looks at is left out, and of everything else it
    /// is logged who did what.
    #[command(after_help = "Example:\n  kubesiren policy generate --no-credentials > audit-policy.yaml")]
    Generate(GenerateArgs),
    /// Say which rules an audit policy blinds, and why.
    ///
    /// Exits with 1 when there is a rule that cannot fire.
    #[command(after_help = "Example:\n  kubesiren policy check /etc/kubernetes/audit-policy.yaml")]
    Check(CheckArgs),
}

/// Which rules a policy is for.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Selection {
    /// Take the rules that this configuration of the daemon enables.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Also use the rules, Sigma or Falco, in this file or folder; may be given several times.
    #[arg(long, value_name = "PATH")]
    pub rules: Vec<PathBuf>,
    /// Leave the built-in detections out.
    #[arg(long)]
    pub no_builtin: bool,
    /// How much of the built-in detections is meant: minimal, default or paranoid; everything if no configuration says.
    #[arg(long, value_name = "PROFILE")]
    pub profile: Option<Profile>,
    /// Leave this rule out, by id or title; may be given several times.
    #[arg(long, value_name = "RULE")]
    pub disable: Vec<String>,
    /// What stands for the placeholders in them.
    #[command(flatten)]
    pub placeholders: PlaceholderArgs,
}

/// `kubesiren policy generate`
#[derive(Debug, clap::Args)]
pub struct GenerateArgs {
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
    /// Never log the bodies of Secrets, ConfigMaps and tokens, whatever rules ask for.
    #[arg(long)]
    pub no_credentials: bool,
    /// Tell on standard error what it would write of the events in this log; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub estimate: Vec<PathBuf>,
}

/// `kubesiren policy check FILE`
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The audit policy; `-` for standard input.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Which rules.
    #[command(flatten)]
    pub selection: Selection,
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Tell too what it would write of the events in this log; may be given several times.
    #[arg(long, value_name = "FILE")]
    pub estimate: Vec<PathBuf>,
}

/// Does what was asked.
pub fn run(args: &Args, globals: Globals) -> Outcome {
    match &args.command {
        PolicyCommand::Generate(args) => generate::run(args, globals),
        PolicyCommand::Check(args) => check::run(args, globals),
    }
}

/// The selected rules; mistakes in them, and names that are no rule's, are the failure.
fn load(selection: &Selection) -> Result<Rules, Failure> {
    let mut options = rule::Options { builtin: true, ..rule::Options::default() };
    if let Some(file) = &selection.config {
        options = config::load(Some(file), &super::environment(), Depth::Text)?.detections.options();
    }
    options.builtin &= !selection.no_builtin;
    options.profile = selection.profile.or(options.profile);
    options.paths.extend(selection.rules.iter().cloned());
    options.disable.extend(selection.disable.iter().cloned());
    selection.placeholders.apply(&mut options)?;
    let loaded = rule::load(&options);
    if loaded.has_errors() {
        return Err(loaded.findings.into());
    }
    if let Some(unknown) = loaded.unknown.first() {
        return Err(anyhow::anyhow!("{unknown}").into());
    }
    if loaded.rules.rules.is_empty() {
        return Err(anyhow::anyhow!("there is no rule; give --rules PATH, or leave --no-builtin out").into());
    }
    Ok(loaded.rules)
}

/// How many rules alert, in words.
fn count(rules: &Rules) -> String {
    let number = rules.alerting().values().filter(|alerts| **alerts).count();
    counted(number, "rule")
}
