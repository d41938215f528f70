//! `kubesiren outbox`: what the sinks were not told, and what to do about it.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Subcommand;
use serde::Serialize;
use serde_json::json;

use super::output::{Format, Output, Words, json_line};
use super::{Failure, Globals, Outcome, out};
use crate::alert::{Alert, Kind};
use crate::clock::{self, Timestamp};
use crate::config::Depth;
use crate::store::Limits;
use crate::store::by_hand::{ByHand, Selection, State, Unsent};
use crate::text::{shorten, visible};

/// What fits a line of a table, of a reason.
const REASON_WIDTH: usize = 80;

/// `kubesiren outbox …`
#[derive(Debug, clap::Args)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Args {
    /// What to do with it.
    #[command(subcommand)]
    pub command: OutboxCommand,
}

/// The commands below `outbox`.
#[derive(Debug, Subcommand)]
pub enum OutboxCommand {
    /// Show what waits to be sent and what was given up, with the reasons. The daemon may run.
    #[command(after_help = "Example:\n  kubesiren outbox list --state dead --sink oncall")]
    List(ListArgs),
    /// Put dead deliveries back: a running daemon sends them within seconds, another one when it is started.
    #[command(after_help = "Example:\n  kubesiren outbox retry --sink oncall --config /etc/kubesiren/config.yaml")]
    Retry(RetryArgs),
    /// Forget deliveries, dead ones unless told otherwise. The alerts themselves are kept.
    #[command(after_help = "Example:\n  kubesiren outbox drop --id b3f0c1d2e3f405162738495a6b7c8d9e")]
    Drop(DropArgs),
}

/// Which outbox, and what of it.
#[derive(Debug, clap::Args)]
pub struct SelectionArgs {
    /// The configuration that names the state directory; without one, the default directory.
    #[arg(long, value_name = "FILE", env = "KUBESIREN_CONFIG")]
    pub config: Option<PathBuf>,
    /// The state directory, whatever the configuration says.
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Only what is for this sink; may be given several times.
    #[arg(long, value_name = "NAME")]
    pub sink: Vec<String>,
    /// Only what is about the alert with this id; may be given several times.
    #[arg(long, value_name = "ID")]
    pub id: Vec<String>,
}

/// `kubesiren outbox list`
#[derive(Debug, clap::Args)]
pub struct ListArgs {
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Only what waits, or only what is dead.
    #[arg(long, value_enum, value_name = "STATE")]
    pub state: Option<StateArg>,
    /// At most so many, the oldest first.
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    pub limit: usize,
    /// How.
    #[command(flatten)]
    pub output: Output,
}

/// `kubesiren outbox retry`
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// In words, or one object that counts.
    #[command(flatten)]
    pub output: Words,
}

/// `kubesiren outbox drop`
#[derive(Debug, clap::Args)]
pub struct DropArgs {
    /// Which.
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Forget what is dead, or what still waits.
    #[arg(long, value_enum, value_name = "STATE", default_value_t = StateArg::Dead)]
    pub state: StateArg,
    /// Without ids: yes, all of them.
    #[arg(long)]
    pub yes: bool,
    /// In words, or one object that counts.
    #[command(flatten)]
    pub output: Words,
}

/// Whether a delivery is still to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StateArg {
    /// To be sent, now or later.
    Waiting,
    /// Given up.
    Dead,
}

impl From<StateArg> for State {
    fn from(state: StateArg) -> Self {
        match state {
            StateArg::Waiting => Self::Waiting,
            StateArg::Dead => Self::Dead,
        }
    }
}

/// Runs a command below `outbox`.
pub fn run(args: &Args, globals: Globals) -> Outcome {
    match &args.command {
        OutboxCommand::List(args) => list(args, globals),
        OutboxCommand::Retry(args) => retry(args, globals),
        OutboxCommand::Drop(args) => drop_deliveries(args, globals),
    }
}

impl SelectionArgs {
    fn open(&self) -> Result<ByHand, Failure> {
        let (dir, limits) = match (&self.state_dir, &self.config) {
            (Some(dir), None) => (dir.clone(), Limits::default()),
            // The text alone: neither secrets nor certificates are needed, and they may not be readable.
            (dir, config) => {
                let config = crate::config::load(config.as_deref(), &super::environment(), Depth::Text)?;
                (dir.clone().unwrap_or_else(|| config.state_dir.clone()), config.store_limits())
            }
        };
        let opened = ByHand::open_with(&dir, limits).with_context(|| format!("state directory {}", dir.display()))?;
        Ok(opened)
    }

    fn selection(&self, state: Option<StateArg>) -> Selection {
        Selection { sinks: self.sink.clone(), ids: self.id.clone(), state: state.map(State::from) }
    }

    /// What to answer where nothing was selected: who named an alert was wrong about it.
    fn nothing(&self, globals: Globals) -> Outcome {
        say(globals, "nothing in the outbox is selected")?;
        Ok(if self.id.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

/// For people.
fn say(globals: Globals, words: &str) -> std::io::Result<()> {
    if globals.quiet == 0 { writeln!(out::stderr(), "{words}") } else { Ok(()) }
}

fn deliveries(count: u64) -> String {
    format!("{count} {}", if count == 1 { "delivery" } else { "deliveries" })
}

/// A delivery as a line of JSON.
#[derive(Serialize)]
struct Line<'u> {
    seq: i64,
    sink: &'u str,
    state: &'static str,
    kind: Kind,
    attempts: u32,
    reason: Option<&'u str>,
    queued: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_before: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    died: Option<Timestamp>,
    alert: &'u Alert,
}

fn list(args: &ListArgs, globals: Globals) -> Outcome {
    let outbox = args.selection.open()?;
    let (unsent, count) =
        outbox.list(&args.selection.selection(args.state), args.limit).map_err(anyhow::Error::from)?;
    if count == 0 {
        return args.selection.nothing(globals);
    }
    let mut out = out::stdout();
    match args.output.format() {
        Format::Json => unsent.iter().try_for_each(|one| json_line(&mut out, &line(one)))?,
        Format::Table => table(&mut out, &unsent)?,
    }
    out.flush()?;
    let more = count - unsent.len() as u64;
    if more > 0 {
        say(globals, &format!("… and {} more; --limit shows them", deliveries(more)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn line(unsent: &Unsent) -> Line<'_> {
    Line {
        seq: unsent.seq,
        sink: &unsent.sink,
        state: unsent.state.as_str(),
        kind: unsent.kind,
        attempts: unsent.attempts,
        reason: unsent.reason.as_deref(),
        queued: unsent.queued,
        not_before: unsent.not_before,
        died: unsent.died,
        alert: &unsent.alert,
    }
}

/// One delivery in two lines: where to, what, since when; then which alert and why it was not sent.
fn table(out: &mut impl Write, unsent: &[Unsent]) -> std::io::Result<()> {
    let sinks = unsent.iter().map(|one| one.sink.chars().count()).max().unwrap_or(0);
    for one in unsent {
        let queued = out::moment(one.queued);
        let on = if one.state == State::Dead { "\x1b[1;31m" } else { "\x1b[33m" };
        let kind = match one.kind {
            Kind::Firing => "firing",
            Kind::Update => "update",
            Kind::Resolved => "resolved",
        };
        writeln!(
            out,
            "{queued}  {on}{:<7}\x1b[0m  {:sinks$}  {kind:<8}  {:<13}  \x1b[1m{}\x1b[0m",
            one.state.as_str(),
            visible(&one.sink),
            one.alert.rule.level,
            visible(&one.alert.rule.title)
        )?;
        let reason = one.reason.as_deref().map_or_else(|| "not tried yet".to_owned(), |r| shorten(r, REASON_WIDTH));
        let tries = if one.attempts > 0 { format!(" ×{}", one.attempts) } else { String::new() };
        writeln!(out, "                     {}  {reason}{tries}", one.alert.id)?;
    }
    Ok(())
}

fn retry(args: &RetryArgs, globals: Globals) -> Outcome {
    let selection = args.selection.selection(Some(StateArg::Dead));
    let retried = args.selection.open()?.retry(&selection, clock::now()).map_err(anyhow::Error::from)?;
    if args.output.is_json() {
        json_line(&mut out::stdout(), &json!({"put_back": retried.back, "no_room": retried.no_room}))?;
    }
    if retried.back + retried.no_room == 0 {
        return args.selection.nothing(globals);
    }
    if !args.output.is_json() {
        say(globals, &format!("{} put back", deliveries(retried.back)))?;
    }
    if retried.no_room > 0 {
        let left = deliveries(retried.no_room);
        out::error(&format!("{left} stay dead: too many wait for their sink already; try again when it has caught up"));
        return Ok(ExitCode::from(1));
    }
    Ok(ExitCode::SUCCESS)
}

fn drop_deliveries(args: &DropArgs, globals: Globals) -> Outcome {
    let mut outbox = args.selection.open()?;
    let selection = args.selection.selection(Some(args.state));
    let (_, count) = outbox.list(&selection, 0).map_err(anyhow::Error::from)?;
    if count > 0 && !args.yes && args.selection.id.is_empty() {
        let words = format!("this forgets {}; say --yes, or name alerts with --id", deliveries(count));
        return Err(anyhow::anyhow!(words).into());
    }
    let dropped = if count > 0 { outbox.drop(&selection).map_err(anyhow::Error::from)? } else { 0 };
    if args.output.is_json() {
        json_line(&mut out::stdout(), &json!({"forgotten": dropped}))?;
    }
    if count == 0 {
        return args.selection.nothing(globals);
    }
    if !args.output.is_json() {
        say(globals, &format!("{} forgotten", deliveries(dropped)))?;
    }
    Ok(ExitCode::SUCCESS)
}
