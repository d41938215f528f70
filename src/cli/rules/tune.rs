//! `kubesiren rules tune`: from alerts that were false to filters that take them away, and nothing else.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use serde::Deserialize;
use serde_json::json;

use super::{TuneArgs, find};
use crate::alert::Alert;
use crate::cli::output::{Words, json_line};
use crate::cli::{Failure, Outcome, environment, out};
use crate::config::{self, Depth};
use crate::rule::{self, Rules};
use crate::text::{counted, visible};
use crate::tune::{self, Proof};

/// Bytes of alerts that are read.
const BYTES_MAX: u64 = 256 << 20;

/// Cases that are named when a filter would silence them.
const NAMED_MAX: usize = 5;

pub(super) fn run(args: &TuneArgs) -> Outcome {
    let mut options = options(args)?;
    let loaded = rule::load(&options);
    if loaded.has_errors() {
        return Err(loaded.findings.into());
    }
    let mut alerts = read(&args.alerts)?;
    if let Some(wanted) = &args.rule {
        let id = find(&loaded.rules, wanted)?.id.clone();
        alerts.retain(|alert| alert.rule.id == id);
    }
    if alerts.is_empty() {
        let of = args.rule.as_ref().map(|rule| format!(" of the rule `{rule}`")).unwrap_or_default();
        return Err(anyhow!("{}: there is no alert{of} in it", args.alerts.display()).into());
    }
    let (mut written, mut refused) = (0, 0);
    for of_rule in by_rule(&alerts) {
        match one(&mut options, &of_rule) {
            Ok((text, proof)) => {
                proposed(args.output, &of_rule, &text, &proof, written == 0)?;
                written += 1;
            }
            Err(Refused::Because(reason)) => {
                refused += 1;
                refuse(args.output, &of_rule, &reason)?;
            }
            Err(Refused::Failed(failure)) => return Err(failure),
        }
    }
    Ok(if refused > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

/// A filter that is right, and how that is known.
fn proposed(output: Words, alerts: &[&Alert], text: &str, proof: &Proof, first: bool) -> Result<(), Failure> {
    let mut out = out::stdout();
    if output.is_json() {
        let object = json!({
            "rule": alerts[0].rule.id, "title": alerts[0].rule.title, "filter": text, "alerts_gone": proof.gone,
            "cases_firing": proof.firing,
        });
        return Ok(json_line(&mut out, &object)?);
    }
    write!(out, "{}{text}", if first { "" } else { "---\n" })?;
    out.flush()?;
    tell(alerts, proof)
}

fn refuse(output: Words, alerts: &[&Alert], reason: &str) -> Result<(), Failure> {
    let rule = &alerts[0].rule;
    if output.is_json() {
        json_line(&mut out::stdout(), &json!({"rule": rule.id, "title": rule.title, "refused": reason}))?;
    } else {
        writeln!(out::stderr(), "\x1b[31mrefused\x1b[0m {}: {reason}", visible(&rule.title))?;
    }
    Ok(())
}

fn options(args: &TuneArgs) -> Result<rule::Options, Failure> {
    let selection = &args.selection;
    let mut options = match &args.config {
        Some(file) => config::load(Some(file), &environment(), Depth::Text)?.detections.options(),
        None => rule::Options { builtin: true, ..rule::Options::default() },
    };
    options.builtin &= !selection.no_builtin;
    options.paths.extend(selection.rules.iter().cloned());
    selection.placeholders.apply(&mut options)?;
    // What was told was told, whatever runs now.
    options.profile = None;
    Ok(options)
}

/// Why there is no filter.
enum Refused {
    /// None that would be right.
    Because(String),
    Failed(Failure),
}

/// A filter for the alerts of one rule, which later ones are proven together with.
fn one(options: &mut rule::Options, alerts: &[&Alert]) -> Result<(String, Proof), Refused> {
    let rules: Rules = rule::load(options).rules;
    let proposal = tune::propose(&rules, alerts).map_err(Refused::Because)?;
    let text = tune::document(&proposal);
    let proof = tune::prove(options, &rules, &proposal, alerts).map_err(|findings| Refused::Failed(findings.into()))?;
    if !proof.silenced.is_empty() {
        let named = proof.silenced.iter().take(NAMED_MAX);
        let named: Vec<String> = named.map(|silenced| format!("\n  {}: {}", silenced.rule, silenced.case)).collect();
        let more = proof.silenced.len().saturating_sub(NAMED_MAX);
        let more = if more > 0 { format!("\n  and {more} more") } else { String::new() };
        let count = counted(proof.silenced.len(), "case");
        return Err(Refused::Because(format!(
            "the filter would silence {count} in which it must fire:{}{more}",
            named.concat()
        )));
    }
    if proof.left > 0 {
        let count = counted(proof.left, "alert");
        return Err(Refused::Because(format!(
            "{count} would come all the same: they say too little of whose they are"
        )));
    }
    options.own.push((format!("<proposed for {}>", proposal.rule), text.clone()));
    Ok((text, proof))
}

fn tell(alerts: &[&Alert], proof: &Proof) -> Result<(), Failure> {
    let title = visible(&alerts[0].rule.title);
    let gone = counted(proof.gone, "alert");
    let fires = match proof.firing {
        0 => "\x1b[1;33mit has no firing case that could prove that it still fires\x1b[0m".to_owned(),
        1 => "it still fires in the one case in which it must".to_owned(),
        cases => format!("it still fires in all {cases} cases in which it must"),
    };
    Ok(writeln!(out::stderr(), "\x1b[32mproven\x1b[0m {title}: {gone} gone, {fires}")?)
}

/// The alerts of each rule, in the order in which rules come up.
fn by_rule(alerts: &[Alert]) -> Vec<Vec<&Alert>> {
    let mut groups: Vec<Vec<&Alert>> = Vec::new();
    for alert in alerts {
        match groups.iter_mut().find(|group| group[0].rule.id == alert.rule.id) {
            Some(group) => group.push(alert),
            None => groups.push(vec![alert]),
        }
    }
    groups
}

/// Alerts as they are found: line by line, as a list, or as a page of the API.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Page { alerts: Vec<Alert> },
    List(Vec<Alert>),
    One(Box<Alert>),
}

fn read(path: &Path) -> Result<Vec<Alert>, Failure> {
    let name = if path == Path::new("-") { "standard input".to_owned() } else { path.display().to_string() };
    let mut text = String::new();
    let bytes = if path == Path::new("-") {
        std::io::stdin().take(BYTES_MAX).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(BYTES_MAX).read_to_string(&mut text))
    };
    bytes.with_context(|| format!("cannot read {name}"))?;
    let mut alerts: Vec<Alert> = Vec::new();
    for written in serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>() {
        let written = written.with_context(|| format!("{name} is no JSON"))?;
        let written = Written::deserialize(written).map_err(|_| {
            anyhow!("{name}: alert {} is none: it takes what `scan`, a sink or /api/v1/alerts writes", alerts.len() + 1)
        })?;
        match written {
            Written::Page { alerts: several } | Written::List(several) => alerts.extend(several),
            Written::One(one) => alerts.push(*one),
        }
    }
    // An alert is written when it begins and when it ends.
    let mut seen = std::collections::HashSet::new();
    let mut latest: Vec<Alert> = Vec::new();
    for alert in alerts.into_iter().rev() {
        if seen.insert(alert.id.clone()) {
            latest.push(alert);
        }
    }
    latest.reverse();
    Ok(latest)
}
