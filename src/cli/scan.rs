//! `kubesiren scan`: alerts from audit logs, offline.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;

pub use super::output::Format;
use super::output::Output;
use super::progress::Progress;
use super::report::{self, Report, Target};
use super::rules::PlaceholderArgs;
use super::{Failure, Globals, Outcome, out};
use crate::alert::{Alert, Level, Status};
use crate::clock;
use crate::correlate::{self, Limits};
use crate::engine::RuleSet;
use crate::rule::{self, Options, Profile};
use crate::scan::{Input, Scan, Scanned, Stats};
use crate::text::{counted, visible, visible_json};

/// What standard input is called.
const STDIN: &str = "standard input";

/// `kubesiren scan`
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  kubesiren scan --min-level medium --fail-on high audit.log audit-*.log.gz")]
pub struct Args {
    /// Audit logs: JSON lines, lists or a provider's envelope, plain, gzip or zstd; `-` for standard input.
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Also use the rules, Sigma or Falco, in this file or folder; may be given several times.
    #[arg(long, value_name = "PATH")]
    pub rules: Vec<PathBuf>,
    /// Leave the built-in detections out.
    #[arg(long)]
    pub no_builtin: bool,
    /// How much of the built-in detections is used: minimal, default or paranoid.
    #[arg(long, value_name = "PROFILE", default_value_t)]
    pub profile: Profile,
    /// What stands for the placeholders in them.
    #[command(flatten)]
    pub placeholders: PlaceholderArgs,
    /// The cluster label of events that name none.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pub cluster: String,
    /// How.
    #[command(flatten)]
    pub output: Output,
    /// Write a report for people into this file too: HTML that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
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
    pub stats: Option<StatsFormat>,
}

/// How statistics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StatsFormat {
    /// One object.
    Json,
}

/// Scans the files.
pub fn run(args: &Args, globals: Globals) -> Outcome {
    let started = Instant::now();
    let rules = rules(args)?;
    let target = args.report.as_deref().map(Target::open).transpose()?;
    let threads = args.threads.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let scan = Scan { rules, cluster: args.cluster.as_str().into(), limits: limits(args), threads };
    let progress = Progress::new(&args.files, globals);
    let mut scanned = scan.run(progress.watch(inputs(&args.files)?));
    drop(progress);
    let reached = args.fail_on.is_some_and(|level| scanned.alerts.iter().any(|alert| alert.rule.level >= level));
    if let Some(min) = args.min_level {
        scanned.alerts.retain(|alert| alert.rule.level >= min);
    }
    scanned.stats.alerts = scanned.alerts.len() as u64;
    scanned.stats.seconds = started.elapsed().as_secs_f64();
    if let Some(target) = target {
        target.write(&report::render(&to_report(args, &scan, &scanned)))?;
    }
    let mut out = out::stdout();
    match args.output.format() {
        Format::Json => json(&mut out, &scanned.alerts)?,
        Format::Table => table(&mut out, &scanned.alerts)?,
    }
    out.flush()?;
    tell(args, globals, &scanned)?;
    // The process ends: taking thousands of rules apart first would only cost time.
    std::mem::forget(scan);
    Ok(if !scanned.failures.is_empty() {
        ExitCode::from(2)
    } else if reached {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    })
}

fn to_report<'s>(args: &Args, scan: &Scan, scanned: &'s Scanned) -> Report<'s> {
    let names = args.files.iter().map(|file| file.display().to_string());
    let inputs = names.map(|name| if name == "-" { STDIN.to_owned() } else { name });
    let mut inputs: Vec<String> = inputs.collect();
    if inputs.is_empty() {
        inputs.push(STDIN.to_owned());
    }
    let rules = scan.rules.loaded().alerting().values().filter(|alerts| **alerts).count();
    Report { scanned, inputs, rules, min_level: args.min_level, made: clock::now() }
}

/// A log is all in the past, so that there is time to wait for what comes out of order. Several logs (of the apiservers of
/// one cluster, or in any order) are read one after the other, and count as one whatever their times.
fn limits(args: &Args) -> Limits {
    const WITHIN_A_LOG: Duration = Duration::from_secs(600);
    const AMONG_LOGS: Duration = Duration::from_secs(100 * 365 * 86_400);
    let lateness = if args.files.len() > 1 { AMONG_LOGS } else { WITHIN_A_LOG };
    Limits { lateness, max_keys: 1_000_000 }
}

fn rules(args: &Args) -> Result<Arc<RuleSet>, Failure> {
    let (builtin, profile) = (!args.no_builtin, Some(args.profile));
    let mut options = Options { builtin, profile, paths: args.rules.clone(), ..Options::default() };
    args.placeholders.apply(&mut options)?;
    let loaded = rule::load(&options);
    if loaded.has_errors() {
        return Err(loaded.findings.into());
    }
    if loaded.rules.rules.is_empty() {
        return Err(
            anyhow::anyhow!("there is no rule to scan with; give --rules PATH, or leave --no-builtin out").into()
        );
    }
    Ok(Arc::new(RuleSet::compile(loaded.rules, correlate::REPEAT_AFTER)))
}

pub(super) fn inputs(files: &[PathBuf]) -> Result<Vec<Input>, Failure> {
    if files.is_empty() && std::io::stdin().is_terminal() {
        return Err(anyhow::anyhow!("name the audit logs to read, or pipe one in").into());
    }
    if files.is_empty() {
        return Ok(vec![stdin()]);
    }
    let open = |path: &PathBuf| {
        if path.as_os_str() == "-" {
            return Ok(stdin());
        }
        if path.is_dir() {
            let name = path.display();
            anyhow::bail!("{name} is a folder; name the files in it, as in {}", path.join("*").display());
        }
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        Ok(Input { name: path.display().to_string(), reader: Box::new(file) })
    };
    files.iter().map(open).collect::<anyhow::Result<_>>().map_err(Failure::Other)
}

fn stdin() -> Input {
    Input { name: STDIN.to_owned(), reader: Box::new(std::io::stdin()) }
}

fn json(out: &mut impl Write, alerts: &[Alert]) -> Result<(), Failure> {
    for alert in alerts {
        out.write_all(visible_json(serde_json::to_string(alert)?).as_bytes())?;
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn table(out: &mut impl Write, alerts: &[Alert]) -> Result<(), Failure> {
    Ok(alerts.iter().try_for_each(|alert| row(out, alert))?)
}

/// When, how bad, which rule, how often, whether it is over; then `marks`.
pub(super) fn head(out: &mut impl Write, alert: &Alert, marks: &str) -> std::io::Result<()> {
    let (on, off) = colors(alert.rule.level);
    let times = if alert.count > 1 { format!("  ×{}", alert.count) } else { String::new() };
    let over = if alert.status == Status::Firing { "" } else { "  \x1b[2mover\x1b[0m" };
    let (time, title) = (out::moment(alert.time), visible(&alert.rule.title));
    writeln!(out, "{time}  {on}{:<13}{off} \x1b[1m{title}\x1b[0m{times}{over}{marks}", alert.rule.level)
}

/// One alert in two lines: its head; then who did what. A line more for each of its steps.
pub(super) fn row(out: &mut impl Write, alert: &Alert) -> std::io::Result<()> {
    head(out, alert, "")?;
    out::indented(out, "", 21, &alert.summary)?;
    for step in &alert.timeline {
        let words = format!("{}{}: {}", step.rule.title, step.times(), step.summary);
        out::indented(out, &format!("                       {}", step.time_of_day()), 33, &words)?;
    }
    Ok(())
}

pub(super) fn colors(level: Level) -> (&'static str, &'static str) {
    let on = match level {
        Level::Critical => "\x1b[1;97;41m",
        Level::High => "\x1b[1;31m",
        Level::Medium => "\x1b[33m",
        Level::Low => "\x1b[36m",
        Level::Informational => "\x1b[2m",
    };
    (on, "\x1b[0m")
}

/// What was wrong with the input, a closing line for people, and the statistics.
fn tell(args: &Args, globals: Globals, scanned: &Scanned) -> Result<(), Failure> {
    let mut err = out::stderr();
    for (name, reason) in &scanned.failures {
        // The reason speaks of a request's body where it is the whole input.
        match reason.strip_prefix("the body ") {
            Some(reason) => out::error(&format!("{name} {reason}")),
            None => out::error(&format!("{name}: {reason}")),
        }
    }
    let Stats { events, rejected, truncated, skipped, alerts, seconds, .. } = scanned.stats;
    if globals.quiet == 0 {
        for (name, reject) in &scanned.rejects {
            writeln!(err, "\x1b[33mrejected\x1b[0m {name}: {}: {}", reject.place, reject.detail)?;
        }
        let more = rejected.saturating_sub(scanned.rejects.len() as u64);
        if more > 0 && !scanned.rejects.is_empty() {
            writeln!(err, "… and {more} more rejected")?;
        }
    }
    if globals.quiet == 0 && args.stats.is_none() {
        let also = [(rejected, "rejected"), (truncated, "cut off"), (skipped, "other records skipped")];
        let also = also.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!(", {n} {what}"));
        let also: String = also.collect();
        if let Some(report) = &args.report {
            writeln!(err, "the report is in {}", report.display())?;
        }
        writeln!(err, "{} in {}{also}, {seconds:.2} s", counted(alerts, "alert"), counted(events, "event"))?;
    }
    if args.stats.is_some() {
        writeln!(err, "{}", serde_json::to_string(&scanned.stats)?)?;
    }
    Ok(())
}
