//! `kubesiren rules explain`: why rules are or are not true of events.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::Value;

use super::{ExplainArgs, find, load};
use crate::cli::{Failure, Outcome, out};
use crate::engine::{self, Detected, Detector, RuleSet};
use crate::event::compress::{Encoding, decompress};
use crate::event::frame::told_apart;
use crate::event::{FieldPath, Framed, frame, label, value};
use crate::rule::explain::{Explanation, Show, explain, quoted};
use crate::rule::{Rule, Rules};

/// Events that are explained; who has more is better served by `scan`.
const EVENTS_MAX: usize = 20;

/// Bytes of the file, unpacked.
const BYTES_MAX: u64 = 256 << 20;

const SHOW: Show = engine::show;

pub(super) fn run(args: &ExplainArgs) -> Outcome {
    let rules = load(&args.selection)?;
    let only = args.rule.as_deref().map(|wanted| members(&rules, wanted)).transpose()?;
    let body = read(&args.event)?;
    let events = events(&body, &args.event)?;
    let set = RuleSet::compile(rules.clone(), Duration::from_secs(1));
    let mut out = out::stdout();
    for (number, bytes) in events.iter().enumerate().take(EVENTS_MAX) {
        if number > 0 {
            writeln!(out)?;
        }
        one_event(&mut out, &rules, only.as_deref(), &set, bytes)?;
    }
    if events.len() > EVENTS_MAX {
        let _ = writeln!(out::stderr(), "{} more events are not explained", events.len() - EVENTS_MAX);
    }
    Ok(ExitCode::SUCCESS)
}

/// The ids of the rules that are meant: one, or those that a correlation looks at.
fn members(rules: &Rules, wanted: &str) -> Result<Vec<Arc<str>>, Failure> {
    let info = find(rules, wanted)?;
    Ok(rules.base(&info.id.as_str().into()))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = if path == Path::new("-") {
        let mut bytes = Vec::new();
        std::io::stdin().take(BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
    } else {
        std::fs::read(path)
    };
    let bytes = bytes.with_context(|| format!("cannot read {}", path.display()))?;
    let body = decompress(&bytes, Encoding::Detect, BYTES_MAX).with_context(|| path.display().to_string())?;
    Ok(body.into_owned())
}

/// The events of a file, out of whatever wraps them.
fn events(body: &[u8], path: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let mut events = Vec::new();
    let framed = frame(body, |piece| {
        match piece {
            Framed::Event(bytes) => events.push(bytes.to_vec()),
            Framed::First(_) => return Err(told_apart()),
            Framed::Bad(reject) => {
                let _ = writeln!(out::stderr(), "{}: {} is no event: {}", path.display(), reject.place, reject.detail);
            }
        }
        Ok(0)
    });
    framed.with_context(|| path.display().to_string())?;
    if events.is_empty() {
        return Err(anyhow!("{}: there is no event in it", path.display()).into());
    }
    Ok(events)
}

fn one_event(
    out: &mut impl Write,
    rules: &Rules,
    only: Option<&[Arc<str>]>,
    set: &RuleSet,
    bytes: &[u8],
) -> Result<(), Failure> {
    let mut event: Value = value(bytes).unwrap_or_default();
    writeln!(out, "{}", headline(&event))?;
    let cluster: Arc<str> = "default".into();
    let mut found = Detected::default();
    Detector::default().event(set, &cluster, bytes, &mut found);
    if let Some(reject) = found.rejects.kept().first() {
        writeln!(out, "The event is refused, no rule is asked about it: {}", reject.detail)?;
        return Ok(());
    }
    label(&mut event, &cluster);
    match only {
        Some(only) => {
            for rule in rules.rules.iter().filter(|rule| only.iter().any(|id| **id == *rule.info.id)) {
                let explained = explain(rule, &event, SHOW);
                let verdict = if explained.holds { "matches" } else { "does not match" };
                writeln!(out, "\n{} ({}) {verdict}", rule.info.title, rule.info.id)?;
                write!(out, "{explained}")?;
            }
        }
        None => overview(out, rules, &event)?,
    }
    Ok(())
}

/// The rules that match, then a line for each of the others.
fn overview(out: &mut impl Write, rules: &Rules, event: &Value) -> std::io::Result<()> {
    let explained: Vec<(&Rule, Explanation)> =
        rules.rules.iter().map(|rule| (rule, explain(rule, event, SHOW))).collect();
    let (matching, others): (Vec<_>, Vec<_>) = explained.iter().partition(|(_, explained)| explained.holds);
    writeln!(out, "\n{} of {} rules match", matching.len(), explained.len())?;
    for (rule, _) in matching {
        writeln!(out, "✓ {} ({}, {})", rule.info.title, rule.info.level, rule.info.id)?;
    }
    for (rule, explained) in others {
        writeln!(out, "✗ {}: {}", rule.info.title, explained.reason().unwrap_or_default())?;
    }
    Ok(())
}

/// Who did what, to recognize the event by.
fn headline(event: &Value) -> String {
    let parts = ["auditID", "stage", "user.username", "verb", "requestURI"].map(|path| {
        let field = FieldPath::parse(path).ok();
        let value = field.and_then(|field| {
            let value = event.pointer(&format!("/{}", path.replace('.', "/")))?;
            Some(quoted(&SHOW(&field.into(), value, event)).trim_matches('"').to_owned())
        });
        value.unwrap_or_else(|| "-".to_owned())
    });
    format!("event {}", parts.join(" "))
}
