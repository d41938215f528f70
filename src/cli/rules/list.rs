//! `kubesiren rules list` and `show`.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::anyhow;
use serde::Serialize;

use super::{Format, ListArgs, ShowArgs, find, load, load_with};
use crate::alert::{Level, RuleInfo};
use crate::cli::output::json_line;
use crate::cli::{Outcome, out};
use crate::rule::lists::{self, Changes};
use crate::rule::{Profile, Rules};
use crate::text::visible;

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
    /// The least profile that it runs in.
    profile: Option<Profile>,
    tags: &'r [String],
    file: &'r Path,
}

/// What is listed of a named list.
#[derive(Serialize)]
struct ListRow<'l> {
    name: &'l str,
    about: &'l str,
    /// Whether the entries that come with the binary are gone.
    replaced: bool,
    entries: Vec<Entry<'l>>,
}

#[derive(Serialize)]
struct Entry<'l> {
    value: &'l str,
    origin: &'l str,
}

/// Where an entry comes from that does not come with the binary.
const YOURS: &str = "yours";

pub(super) fn list(args: &ListArgs) -> Outcome {
    let mut options = args.selection.options()?;
    if args.show_lists {
        return show_lists(args, &options.lists);
    }
    options.profile = args.profile;
    let rules = load_with(&options)?;
    let alerting = rules.alerting();
    let mut rows = rows(&rules, &alerting);
    rows.retain(|row| args.min_level.is_none_or(|least| row.level >= least));
    rows.sort_by_key(|row| (Reverse(row.level), row.title));
    let mut out = out::stdout();
    if args.ids {
        return Ok(ids(&mut out, &rows).map(|()| ExitCode::SUCCESS)?);
    }
    match args.output.format() {
        Format::Json => rows.iter().try_for_each(|row| json_line(&mut out, row))?,
        Format::Table => table(&mut out, &rows)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What shells complete: ids and titles. They look into words for more than words, so what is no plain one is left out.
fn ids(out: &mut impl Write, rows: &[Row<'_>]) -> std::io::Result<()> {
    let is_plain = |id: &str| id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    rows.iter().filter(|row| is_plain(row.id)).try_for_each(|row| writeln!(out, "{}\t{}", row.id, visible(row.title)))
}

fn show_lists(args: &ListArgs, changes: &Changes) -> Outcome {
    let mut out = out::stdout();
    for list in lists::builtin() {
        let change = changes.get(&list.name);
        let replaced = change.is_some_and(|change| change.replace);
        let own = list.entries.iter().filter(|_| !replaced).map(|(value, origin)| Entry { value, origin });
        let added = change.into_iter().flat_map(|change| &change.values).map(|value| Entry { value, origin: YOURS });
        let row = ListRow { name: &list.name, about: &list.about, replaced, entries: own.chain(added).collect() };
        match args.output.format() {
            Format::Json => json_line(&mut out, &row)?,
            Format::Table => list_table(&mut out, &row)?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn list_table(out: &mut impl Write, row: &ListRow<'_>) -> std::io::Result<()> {
    writeln!(out, "\x1b[1m{}\x1b[0m: {}", row.name, row.about)?;
    if row.entries.is_empty() {
        writeln!(out, "  nothing; what asks for it is never true")?;
    }
    let width = row.entries.iter().map(|entry| entry.value.chars().count()).max().unwrap_or(0);
    for Entry { value, origin } in &row.entries {
        writeln!(out, "  {value:width$}  {origin}")?;
    }
    Ok(())
}

fn rows<'r>(rules: &'r Rules, alerting: &BTreeMap<Arc<str>, bool>) -> Vec<Row<'r>> {
    let row = |info: &'r RuleInfo, file: &'r Path, kind, alerts, profile| Row {
        id: &info.id,
        title: &info.title,
        level: info.level,
        kind,
        alerts,
        profile,
        tags: &info.tags,
        file,
    };
    let alerts = |info: &RuleInfo| alerting.get(info.id.as_str()).copied().unwrap_or(false);
    let singles = rules.rules.iter().map(|rule| row(&rule.info, &rule.file, "event", alerts(&rule.info), rule.profile));
    let several = rules.correlations.iter().map(|c| row(&c.info, &c.file, c.kind.as_str(), alerts(&c.info), c.profile));
    singles.chain(several).collect()
}

fn table(out: &mut impl Write, rows: &[Row<'_>]) -> std::io::Result<()> {
    let kind = |row: &Row<'_>| if row.alerts { row.kind.to_owned() } else { format!("{} (base)", row.kind) };
    let profile = |row: &Row<'_>| row.profile.unwrap_or_default().to_string();
    let lines = rows.iter().map(|row| {
        let (level, tags) = (row.level.to_string(), row.tags.join(" "));
        [level, profile(row), row.id.to_owned(), row.title.to_owned(), kind(row), tags]
    });
    let head = ["LEVEL", "PROFILE", "ID", "TITLE", "KIND", "TAGS"].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(head).chain(lines).collect();
    let mut widths = [0; 6];
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
    let id = &find(&rules, &args.id)?.id;
    let singles = rules.rules.iter().map(|rule| (&rule.info, &rule.text));
    let mut texts = singles.chain(rules.correlations.iter().map(|c| (&c.info, &c.text)));
    let (info, text) = texts.find(|(known, _)| known.id == *id).ok_or_else(|| anyhow!("rule {id} has no text"))?;
    let mut out = out::stdout();
    if !args.output.is_json() {
        writeln!(out, "{}", text.trim_end())?;
        return Ok(ExitCode::SUCCESS);
    }
    #[derive(Serialize)]
    struct Shown<'r> {
        #[serde(flatten)]
        row: &'r Row<'r>,
        references: &'r [String],
        runbook: Option<&'r str>,
        text: &'r str,
    }
    let alerting = rules.alerting();
    let rows = rows(&rules, &alerting);
    for row in rows.iter().filter(|row| row.id == *id) {
        let (references, runbook) = (&info.references, info.runbook.as_deref());
        json_line(&mut out, &Shown { row, references, runbook, text: text.trim_end() })?;
    }
    Ok(ExitCode::SUCCESS)
}
