//! `kubesiren rules explain`: why rules are or are not true of events.

use std::io::{Read, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde_json::{Value, json};

use super::{ExplainArgs, find, load};
use crate::cli::output::json_line;
use crate::cli::{Failure, Outcome, out};
use crate::engine::{self, Detected, Detector, RuleSet};
use crate::event::compress::{Encoding, decompress};
use crate::event::frame::{frame_from, told_apart};
use crate::event::{FieldPath, Framed, label, value};
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
    for (number, (bytes, cluster)) in events.iter().enumerate().take(EVENTS_MAX) {
        let asked = Asked::new(&set, bytes, cluster);
        if args.output.is_json() {
            json_line(&mut out, &object(&asked, &rules, only.as_deref()))?;
            continue;
        }
        if number > 0 {
            writeln!(out)?;
        }
        one_event(&mut out, &asked, &rules, only.as_deref())?;
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

/// An event and the label of its cluster.
type Labelled = (Vec<u8>, Arc<str>);

/// The events of a file, out of whatever wraps them.
fn events(body: &[u8], path: &Path) -> Result<Vec<Labelled>, Failure> {
    let mut events = Vec::new();
    let framed = frame_from(body, 0, |piece, cluster| {
        match piece {
            Framed::Event(bytes) => events.push((bytes.to_vec(), cluster.unwrap_or("default").into())),
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

/// An event that rules are asked about.
struct Asked {
    event: Value,
    headline: [(&'static str, Option<String>); 5],
    /// Why no rule is asked.
    refused: Option<String>,
}

impl Asked {
    fn new(set: &RuleSet, bytes: &[u8], cluster: &Arc<str>) -> Self {
        let mut event: Value = value(bytes).unwrap_or_default();
        let headline = headline(&event);
        let mut found = Detected::default();
        Detector::default().event(set, cluster, bytes, &mut found);
        let refused = found.rejects.kept().first().map(|reject| reject.detail.clone());
        label(&mut event, cluster);
        Self { event, headline, refused }
    }
}

/// What is said of an event, for programs: with one rule its whole expression, otherwise why each is not true.
fn object(asked: &Asked, rules: &Rules, only: Option<&[Arc<str>]>) -> Value {
    let headline: serde_json::Map<String, Value> =
        asked.headline.iter().map(|(path, value)| ((*path).to_owned(), json!(value))).collect();
    if let Some(refused) = &asked.refused {
        return json!({"event": headline, "refused": refused});
    }
    let meant = rules.rules.iter().filter(|rule| only.is_none_or(|only| is_one_of(rule, only)));
    let explained = meant.map(|rule| {
        let explained = explain(rule, &asked.event, SHOW);
        let mut said = json!({"id": rule.info.id, "title": rule.info.title, "level": rule.info.level,
            "matches": explained.holds, "reason": explained.reason()});
        if only.is_some() {
            said["expression"] = json!(explained.node);
        }
        said
    });
    json!({"event": headline, "rules": explained.collect::<Vec<_>>()})
}

fn is_one_of(rule: &Rule, ids: &[Arc<str>]) -> bool {
    ids.iter().any(|id| **id == *rule.info.id)
}

fn one_event(out: &mut impl Write, asked: &Asked, rules: &Rules, only: Option<&[Arc<str>]>) -> Result<(), Failure> {
    let headline = asked.headline.iter().map(|(_, value)| value.as_deref().unwrap_or("-"));
    writeln!(out, "event {}", headline.collect::<Vec<_>>().join(" "))?;
    if let Some(refused) = &asked.refused {
        writeln!(out, "The event is refused, no rule is asked about it: {refused}")?;
        return Ok(());
    }
    match only {
        Some(only) => {
            for rule in rules.rules.iter().filter(|rule| is_one_of(rule, only)) {
                let explained = explain(rule, &asked.event, SHOW);
                let verdict = if explained.holds { "matches" } else { "does not match" };
                writeln!(out, "\n{} ({}) {verdict}", rule.info.title, rule.info.id)?;
                write!(out, "{explained}")?;
            }
        }
        None => overview(out, rules, &asked.event)?,
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
fn headline(event: &Value) -> [(&'static str, Option<String>); 5] {
    ["auditID", "stage", "user.username", "verb", "requestURI"].map(|path| {
        let field = FieldPath::parse(path).ok();
        let value = field.and_then(|field| {
            let value = event.pointer(&format!("/{}", path.replace('.', "/")))?;
            Some(quoted(&SHOW(&field.into(), value, event)).trim_matches('"').to_owned())
        });
        (path, value)
    })
}
