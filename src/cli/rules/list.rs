//! `kubesiren rules list` and `show`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::{Format, ListArgs, ShowArgs, find, load};
use crate::alert::{Level, RuleInfo};
use crate::cli::{Outcome, out};
use crate::rule::Rules;

/// What is listed of a rule.
#[derive(Serialize)]
struct Row<'r> {
    id: &'r str,
    title: &'r str,
    level: Level,
    /// `event` for rules about single events, else the correlation's type.
    kind: &'static str,
    /// Whether it alerts, or only serves correlations.
    alerts: bool,
    tags: &'r [String],
    file: &'r Path,
}

pub(super) fn list(args: &ListArgs) -> Outcome {
    let rules = load(&args.selection)?;
    let alerting = rules.alerting();
    let mut rows = rows(&rules, &alerting);
    rows.retain(|row| args.min_level.is_none_or(|least| row.level >= least));
    rows.sort_by_key(|row| (Reverse(row.level), row.title));
    let usual = if std::io::stdout().is_terminal() { Format::Table } else { Format::Json };
    let mut out = out::stdout();
    match args.format.unwrap_or(usual) {
        Format::Json => {
            for row in &rows {
                writeln!(out, "{}", serde_json::to_string(row)?)?;
            }
        }
        Format::Table => table(&mut out, &rows)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn rows<'r>(rules: &'r Rules, alerting: &BTreeMap<Arc<str>, bool>) -> Vec<Row<'r>> {
    let row = |info: &'r RuleInfo, file: &'r Path, kind, alerts| Row {
        id: &info.id,
        title: &info.title,
        level: info.level,
        kind,
        alerts,
        tags: &info.tags,
        file,
    };
    let alerts = |info: &RuleInfo| alerting.get(info.id.as_str()).copied().unwrap_or(false);
    let singles = rules.rules.iter().map(|rule| row(&rule.info, &rule.file, "event", alerts(&rule.info)));
    let several = rules.correlations.iter().map(|c| row(&c.info, &c.file, c.kind.as_str(), true));
    singles.chain(several).collect()
}

fn table(out: &mut impl Write, rows: &[Row<'_>]) -> std::io::Result<()> {
    let kind = |row: &Row<'_>| if row.alerts { row.kind.to_owned() } else { format!("{} (base)", row.kind) };
    let lines = rows
        .iter()
        .map(|row| [row.level.to_string(), row.id.to_owned(), row.title.to_owned(), kind(row), row.tags.join(" ")]);
    let lines: Vec<[String; 5]> =
        std::iter::once(["LEVEL", "ID", "TITLE", "KIND", "TAGS"].map(str::to_owned)).chain(lines).collect();
    let mut widths = [0; 5];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for line in &lines {
        let cells = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

pub(super) fn show(args: &ShowArgs) -> Outcome {
    let rules = load(&args.selection)?;
    let info = find(&rules, &args.id)?;
    let singles = rules.rules.iter().map(|rule| (&rule.info, &rule.text));
    let mut texts = singles.chain(rules.correlations.iter().map(|c| (&c.info, &c.text)));
    let text = texts.find(|(known, _)| known.id == info.id).map_or("", |(_, text)| text);
    writeln!(out::stdout(), "{}", text.trim_end())?;
    Ok(ExitCode::SUCCESS)
}
