//! `kubesiren rules coverage`: which techniques the rules find, and which none finds.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use anyhow::anyhow;
use serde_json::{Value, json};

use super::{CoverageArgs, CoverageFormat, Framework, load};
use crate::cli::{Failure, Globals, Outcome, out};
use crate::rule::coverage::{Coverage, Covered, State, coverage};
use crate::rule::framework::{self, groups};
use crate::text::{counted, visible};

/// Characters of a name in the table.
const NAME_MAX: usize = 52;

pub(super) fn run(args: &CoverageArgs, globals: &Globals) -> Outcome {
    let rules = load(&args.selection)?;
    if rules.rules.is_empty() {
        return Err(anyhow!("there are no rules; give --rules PATH, or leave --no-builtin out").into());
    }
    let mut all = coverage(&rules);
    if let Some(wanted) = args.framework {
        all.retain(|coverage| coverage.framework.key == key(wanted));
    }
    let usual = if std::io::stdout().is_terminal() { CoverageFormat::Table } else { CoverageFormat::Json };
    let mut out = out::stdout();
    match args.format.unwrap_or(usual) {
        CoverageFormat::Table => table(&mut out, &all, globals.verbose > 0)?,
        CoverageFormat::Json => lines(&mut out, &all)?,
        CoverageFormat::Navigator => {
            let Some(attack) = all.iter().find(|coverage| coverage.framework.key == "attack") else {
                return Err(anyhow!("a layer for the Navigator is about ATT&CK; leave --framework out").into());
            };
            writeln!(out, "{}", serde_json::to_string_pretty(&layer(attack))?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn key(framework: Framework) -> &'static str {
    match framework {
        Framework::Attack => "attack",
        Framework::Microsoft => "microsoft",
        Framework::Owasp => "owasp",
        Framework::Cis => "cis",
    }
}

/// By framework and tactic, each technique with the number of its rules; `titles`: with their titles.
fn table(out: &mut impl Write, all: &[Coverage<'_>], titles: bool) -> Result<(), Failure> {
    for (at, coverage) in all.iter().enumerate() {
        if at > 0 {
            writeln!(out)?;
        }
        let framework = coverage.framework;
        writeln!(out, "\x1b[1m{}\x1b[0m (version {}): {}", framework.title, framework.version, summary(coverage))?;
        for group in groups(framework) {
            writeln!(out, "\n  \x1b[1m{}\x1b[0m", spelled(group))?;
            for covered in coverage.items.iter().filter(|covered| covered.item.groups.contains(&group)) {
                row(out, covered, titles)?;
            }
        }
        if !coverage.elsewhere.is_empty() {
            writeln!(out, "\n  \x1b[1mTechniques of other platforms\x1b[0m")?;
        }
        for (tag, rules) in &coverage.elsewhere {
            let id = tag.trim_start_matches("attack.").to_uppercase();
            let name = framework::elsewhere(tag).map_or("", |item| item.name);
            writeln!(out, "    {id:<10} {name:<NAME_MAX$} {}", counted(rules.len(), "rule"))?;
        }
    }
    Ok(())
}

/// `30 of 38 have rules, 2 gaps, 6 that an audit log cannot show`.
fn summary(coverage: &Coverage<'_>) -> String {
    let [covered, gaps, unseen] = coverage.counts();
    let mut text = format!("{covered} of {} have rules, {}", covered + gaps, counted(gaps, "gap"));
    if unseen > 0 {
        text.push_str(&format!(", {unseen} more that an audit log cannot show"));
    }
    text
}

fn row(out: &mut impl Write, covered: &Covered<'_>, titles: bool) -> Result<(), Failure> {
    let (id, name) = (covered.item.id, covered.item.name);
    match covered.state() {
        State::Covered => {
            let number = counted(covered.rules.len(), "rule");
            writeln!(out, "    {id:<10} {name:<NAME_MAX$} \x1b[32m{number}\x1b[0m")?;
        }
        State::Gap => writeln!(out, "    {id:<10} {name:<NAME_MAX$} \x1b[31mgap\x1b[0m")?,
        State::Unseen(why) => {
            writeln!(out, "    \x1b[2m{id:<10} {name:<NAME_MAX$} not in an audit log: {why}\x1b[0m")?;
        }
    }
    for rule in covered.rules.iter().filter(|_| titles) {
        writeln!(out, "               \x1b[2m{:<13} {}\x1b[0m", rule.level, visible(&rule.title))?;
    }
    Ok(())
}

/// `privilege-escalation` as a heading.
fn spelled(group: &str) -> String {
    let text = group.replace('-', " ");
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// One object for each technique of each framework.
fn lines(out: &mut impl Write, all: &[Coverage<'_>]) -> Result<(), Failure> {
    for coverage in all {
        for covered in &coverage.items {
            let (state, reason) = match covered.state() {
                State::Covered => ("covered", None),
                State::Gap => ("gap", None),
                State::Unseen(why) => ("unseen", Some(why)),
            };
            let rules: Vec<Value> =
                covered.rules.iter().map(|r| json!({"id": r.id, "title": r.title, "level": r.level})).collect();
            let line = json!({
                "framework": coverage.framework.key, "id": covered.item.id, "tag": covered.item.tag,
                "groups": covered.item.groups, "name": covered.item.name, "state": state, "reason": reason,
                "rules": rules,
            });
            writeln!(out, "{line}")?;
        }
        for (tag, rules) in &coverage.elsewhere {
            let item = framework::elsewhere(tag);
            let rules: Vec<Value> =
                rules.iter().map(|r| json!({"id": r.id, "title": r.title, "level": r.level})).collect();
            let line = json!({
                "framework": coverage.framework.key, "id": tag.trim_start_matches("attack.").to_uppercase(), "tag": tag,
                "groups": item.map(|item| &item.groups), "name": item.map(|item| item.name), "state": "elsewhere",
                "reason": null, "rules": rules,
            });
            writeln!(out, "{line}")?;
        }
    }
    Ok(())
}

/// A layer in the Navigator's format 4.5: the score is the number of rules, what cannot be seen is grey and says why.
fn layer(coverage: &Coverage<'_>) -> Value {
    let technique = |id: &str, tactic: &str, score: usize, color: &str, comment: String| {
        json!({
            "techniqueID": id, "tactic": tactic, "score": score, "color": color, "comment": comment, "enabled": true,
            "metadata": [], "links": [], "showSubtechniques": true,
        })
    };
    let named = |rules: &[&crate::alert::RuleInfo]| {
        rules.iter().map(|rule| format!("{} ({})", rule.title, rule.level)).collect::<Vec<_>>().join("\n")
    };
    let mut techniques = Vec::new();
    let mut most = 1;
    for covered in &coverage.items {
        let (color, comment) = match covered.state() {
            State::Covered => ("", named(&covered.rules)),
            State::Gap => ("", "No rule.".to_owned()),
            State::Unseen(why) => ("#d9d9d9", format!("Not in an audit log: {why}")),
        };
        most = most.max(covered.rules.len());
        for tactic in &covered.item.groups {
            techniques.push(technique(covered.item.id, tactic, covered.rules.len(), color, comment.clone()));
        }
    }
    for (tag, rules) in &coverage.elsewhere {
        let id = tag.trim_start_matches("attack.").to_uppercase();
        for tactic in framework::elsewhere(tag).map_or(&[][..], |item| &item.groups) {
            techniques.push(technique(&id, tactic, rules.len(), "", named(rules)));
        }
    }
    json!({
        "name": "Kubesiren",
        "versions": {"attack": coverage.framework.version, "navigator": "5.1.0", "layer": "4.5"},
        "domain": "enterprise-attack",
        "description": format!("Techniques that detections find in Kubernetes audit logs: {}.", summary(coverage)),
        "filters": {"platforms": ["Containers"]},
        "sorting": 0,
        "layout": {
            "layout": "side", "aggregateFunction": "average", "showID": true, "showName": true,
            "showAggregateScores": false, "countUnscored": false, "expandedSubtechniques": "annotated",
        },
        "hideDisabled": false,
        "techniques": techniques,
        "gradient": {"colors": ["#ff6666", "#ffe766", "#8ec843"], "minValue": 0, "maxValue": most},
        "legendItems": [{"label": "Not in an audit log", "color": "#d9d9d9"}],
        "metadata": [], "links": [], "showTacticRowBackground": false, "tacticRowBackground": "#dddddd",
        "selectTechniquesAcrossTactics": true, "selectSubtechniquesWithParent": false, "selectVisibleTechniques": false,
    })
}
