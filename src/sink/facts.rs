//! What a person on call wants to know of an alert, in the words that all media share: who did what to what, from where,
//! with what result, since when, how often, how bad, and what to do.
//!
//! Everything that comes from an event goes through the [`Style`] of the medium: escaped, visible and bounded.

use serde_json::{Map, Value, json};

use super::{Item, Message};
use crate::alert::{Alert, EventExcerpt, Level, RuleInfo, Status, User};
use crate::clock::Timestamp;
use crate::store::Kind;
use crate::text::{counted, of_value, shorten, width};

/// Alerts that a message names one by one.
pub(super) const LINES_MAX: usize = 20;
/// Of one line.
pub(super) const LINE_MAX: usize = 300;
/// Rules of which a message of many alerts says what to do.
const TODOS_MAX: usize = 3;
/// Of what it says.
pub(super) const TODO_MAX: usize = 400;
/// More than [`rest`] is wide.
pub(super) const REST_MAX: usize = 1_000;
/// Values that an alert shows as evidence.
pub(super) const EVIDENCE_MAX: usize = 12;

/// How a medium writes text that is not to be trusted; both give at most so many characters.
#[derive(Clone, Copy)]
pub(super) struct Style {
    /// Running text.
    pub(super) text: fn(&str, usize) -> String,
    /// A name, an address: what is to be told apart from the words around it.
    pub(super) value: fn(&str, usize) -> String,
}

/// For media that know no markup.
pub(super) const PLAIN: Style = Style { text: shorten, value: shorten };

/// A level's sign, which is seen before a word is read.
pub(super) fn emoji(level: Level) -> &'static str {
    match level {
        Level::Critical => "🔴",
        Level::High => "🟠",
        Level::Medium => "🟡",
        Level::Low => "🔵",
        Level::Informational => "⚪",
    }
}

/// A level as the beginning of a sentence.
pub(super) fn word(level: Level) -> &'static str {
    match level {
        Level::Critical => "Critical",
        Level::High => "High",
        Level::Medium => "Medium",
        Level::Low => "Low",
        Level::Informational => "Informational",
    }
}

/// "🟠 High · Secret read", at most `max` wide.
pub(super) fn title(alert: &Alert, max: usize, style: Style) -> String {
    let level = word(alert.rule.level);
    let head = match alert.status {
        Status::Firing => format!("{} {level} · ", emoji(alert.rule.level)),
        Status::Resolved => format!("✅ Resolved · {level} · "),
    };
    let rest = (style.text)(&alert.rule.title, max.saturating_sub(width(&head)));
    head + &rest
}

/// What a message of several alerts is about: "+37 more of 4 rules", or the title they share.
pub(super) fn headline(message: &Message, max: usize, style: Style) -> String {
    let items = &message.items;
    match (message.digest, items.first()) {
        (Some(digest), _) => format!("+{} more of {}", digest.alerts, counted(digest.rules, "rule")),
        (None, Some(first)) if items.len() > 1 => {
            format!("{} ×{}", title(&first.alert, max.saturating_sub(20), style), items.len())
        }
        (None, Some(first)) => title(&first.alert, max, style),
        (None, None) => String::new(),
    }
}

/// One alert in one line; `titled` where the lines around it are of other rules.
pub(super) fn line(item: &Item, titled: bool, style: Style) -> String {
    let alert = &item.alert;
    let text = style.text;
    let title = if titled { format!("{}: ", text(&alert.rule.title, 120)) } else { String::new() };
    let cluster = if titled { format!(", {}", text(&alert.cluster, 60)) } else { String::new() };
    let mark = match alert.status {
        Status::Firing => emoji(alert.rule.level).to_owned(),
        Status::Resolved => "✅ Resolved ·".to_owned(),
    };
    let level = if titled && alert.status == Status::Firing {
        format!(" {} ·", word(alert.rule.level))
    } else {
        String::new()
    };
    format!("{mark}{level} {title}{} ({}{cluster})", text(&alert.summary, LINE_MAX), times(alert))
}

/// "+17 more of 3 rules: 12× Secret read, …".
pub(super) fn rest(items: &[Item], style: Style) -> String {
    let mut counts: Vec<(&Alert, usize)> = Vec::new();
    for item in items {
        match counts.iter_mut().find(|(alert, _)| alert.rule.id == item.alert.rule.id) {
            Some((_, count)) => *count += 1,
            None => counts.push((&item.alert, 1)),
        }
    }
    let name = |(alert, count): &(&Alert, usize)| format!("{count}× {}", (style.text)(&alert.rule.title, 80));
    let names: Vec<_> = counts.iter().take(10).map(name).collect();
    let more = if counts.len() > names.len() { ", …" } else { "" };
    format!("+{} more of {}: {}{more}", items.len(), counted(counts.len(), "rule"), names.join(", "))
}

/// What to do about several alerts: the first rules among those that begin, and what is said of each; the title is left out
/// where there is but one. Last, how many more there are.
pub(super) fn todos(items: &[Item], style: Style) -> (Vec<(String, &str)>, usize) {
    let mut rules: Vec<&RuleInfo> = Vec::new();
    for item in items.iter().filter(|item| item.kind != Kind::Resolved) {
        let rule = &item.alert.rule;
        if rule.runbook.is_some() && !rules.iter().any(|known| known.id == rule.id) {
            rules.push(rule);
        }
    }
    let one_rule = items.iter().all(|item| item.alert.rule.id == items[0].alert.rule.id);
    let title = |rule: &RuleInfo| if one_rule { String::new() } else { (style.text)(&rule.title, 120) };
    let shown = rules.iter().take(TODOS_MAX);
    let shown: Vec<_> = shown.filter_map(|rule| Some((title(rule), rule.runbook.as_deref()?))).collect();
    let more = rules.len() - shown.len();
    (shown, more)
}

/// The same in lines without markup.
pub(super) fn todo_lines(items: &[Item], style: Style) -> Vec<String> {
    let (todos, more) = todos(items, style);
    let line = |(title, runbook): &(String, &str)| format!("{}: {}", todo_of(title), (style.text)(runbook, TODO_MAX));
    todos.iter().map(line).chain(more_todos(more)).collect()
}

/// What stands before it, without markup.
pub(super) fn todo_of(title: &str) -> String {
    if title.is_empty() { "What to do".to_owned() } else { format!("What to do ({title})") }
}

/// Where to find it of so many more rules.
pub(super) fn more_todos(more: usize) -> Option<String> {
    (more > 0).then(|| format!("What to do about {} stands in their alerts", counted(more, "more rule")))
}

/// The command that lists these alerts.
pub(super) fn listed_by(items: &[Item]) -> String {
    let since = items.iter().map(|item| item.alert.time).min().unwrap_or(Timestamp::MIN);
    let (day, time) = split(since);
    format!("kubesiren alerts list --since {day}T{time}Z")
}

/// Who did what to what from where with what result, how often, when: at most eight facts, none of them empty.
pub(super) fn facts(alert: &Alert, style: Style) -> Vec<(&'static str, String)> {
    let event = &alert.event;
    let value = style.value;
    let mut facts = vec![
        ("Who", who(event, style)),
        ("Did", did(event, style)),
        ("From", event.source_ips.iter().take(5).map(|ip| value(ip, 60)).collect::<Vec<_>>().join(", ")),
        ("Result", result(event, style)),
        ("Seen", times(alert)),
        ("Cluster", (style.text)(&alert.cluster, 100)),
        ("Group", group(alert, style)),
        ("User agent", event.user_agent.as_ref().map(|agent| value(agent, 200)).unwrap_or_default()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    facts
}

/// Who authenticated, and as whom they acted.
pub(super) fn who(event: &EventExcerpt, style: Style) -> String {
    let name = |user: &User| user.username.as_ref().map(|name| (style.value)(name, 150));
    let user = name(&event.user).unwrap_or_else(|| "nobody who authenticated".to_owned());
    match event.impersonated_user.as_ref().and_then(name) {
        Some(other) => format!("{user} as {other}"),
        None => user,
    }
}

fn did(event: &EventExcerpt, style: Style) -> String {
    let value = style.value;
    let verb = (style.text)(&event.verb, 30);
    let Some(object) = &event.object_ref else { return format!("{verb} {}", value(&event.request_uri, 300)) };
    let part = |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
    let mut kind = part(&object.resource).unwrap_or_default();
    if let Some(sub) = part(&object.subresource) {
        kind = format!("{kind}/{sub}");
    }
    if let Some(group) = part(&object.api_group) {
        kind = format!("{kind}.{group}");
    }
    let place: Vec<String> = [part(&object.namespace), part(&object.name)].into_iter().flatten().collect();
    if place.is_empty() {
        return format!("{verb} {}", value(&kind, 150));
    }
    format!("{verb} {} {}", value(&kind, 100), value(&place.join("/"), 200))
}

fn result(event: &EventExcerpt, style: Style) -> String {
    let Some(status) = &event.response_status else { return String::new() };
    let reason = status.reason.as_ref().map(|reason| (style.text)(reason, 80)).unwrap_or_default();
    let verdict = match status.code {
        Some(200..=299) => "allowed",
        Some(401 | 403) => "denied",
        Some(400..) => "failed",
        _ => "",
    };
    let code = status.code.map(|code| code.to_string()).unwrap_or_default();
    [code, verdict.to_owned(), reason].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn group(alert: &Alert, style: Style) -> String {
    let shown = alert.group.iter().filter(|(_, value)| !value.is_null()).take(5);
    let line = |(field, value): (&String, &Value)| {
        format!("{} {}", (style.text)(field, 50), (style.value)(&of_value(value), 100))
    };
    shown.map(line).collect::<Vec<_>>().join("\n")
}

/// "3× in 4 m 12 s, 2026-11-21 04:00:00 – 04:04:12 UTC".
pub(super) fn times(alert: &Alert) -> String {
    let (first, last) = (alert.first_seen, alert.last_seen);
    let span = last.since(first).as_secs();
    let (day, time) = split(first);
    if span == 0 {
        return format!("{}×, {day} {time} UTC", alert.count);
    }
    let (last_day, last_time) = split(last);
    let end = if last_day == day { last_time } else { format!("{last_day} {last_time}") };
    format!("{}× in {}, {day} {time} – {end} UTC", alert.count, human(span))
}

fn split(time: Timestamp) -> (String, String) {
    let text = time.to_string();
    let (day, rest) = text.split_once('T').unwrap_or((&text, ""));
    (day.to_owned(), rest.chars().take(8).collect())
}

fn human(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min {} s", seconds / 60, seconds % 60),
        3_600..172_800 => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// What happened, rule by rule, a line each.
pub(super) fn timeline(alert: &Alert, style: Style) -> Vec<String> {
    let line = |step: &crate::alert::Step| {
        let (mark, title) = (emoji(step.rule.level), (style.text)(&step.rule.title, 120));
        let time = (style.value)(&step.time_of_day(), 20);
        format!("{time} {mark} {title}{}: {}", step.times(), (style.text)(&step.summary, LINE_MAX))
    };
    alert.timeline.iter().map(line).collect()
}

/// What the rule matched, a line each, and how much more there is.
pub(super) fn evidence(alert: &Alert, style: Style) -> Vec<String> {
    let shown = alert.matched.iter().take(EVIDENCE_MAX);
    let line = |(field, value): (&String, &Value)| {
        format!("{} = {}", (style.text)(field, 100), (style.value)(&of_value(value), 250))
    };
    let mut lines: Vec<String> = shown.map(line).collect();
    if alert.matched.len() > lines.len() {
        lines.push(format!("+{} more", alert.matched.len() - lines.len()));
    }
    lines
}

/// By what an alert is known: its id, its status and its level, under the names by which they are searched.
pub(super) fn identity(alert: &Alert) -> [(&'static str, String); 3] {
    [
        ("alert_id", alert.id.clone()),
        ("status", alert.status.as_str().to_owned()),
        ("level", alert.rule.level.to_string()),
    ]
}

/// What else alerts are searched by, where there is something: which rule, where, how often, who, what.
pub(super) fn names(alert: &Alert) -> impl Iterator<Item = (&'static str, String)> {
    let event = &alert.event;
    let object = event.object_ref.clone().unwrap_or_default();
    let names = [
        ("rule_id", Some(alert.rule.id.clone())),
        ("rule", Some(alert.rule.title.clone())),
        ("cluster", Some(alert.cluster.clone())),
        ("count", Some(alert.count.to_string())),
        ("user", event.user.username.clone()),
        ("source_ip", event.source_ips.first().cloned()),
        ("verb", Some(event.verb.clone())),
        ("resource", object.resource),
        ("namespace", object.namespace),
        ("name", object.name),
    ];
    names.into_iter().filter_map(|(name, text)| Some((name, text.filter(|text| !text.is_empty())?)))
}

/// The techniques of ATT&CK among a rule's tags: `attack.t1552.007` is `T1552.007`.
pub(super) fn techniques(tags: &[String]) -> impl Iterator<Item = String> {
    let technique = |tag: &String| {
        let id = tag.strip_prefix("attack.")?.to_ascii_uppercase();
        id.strip_prefix('T').filter(|number| number.starts_with(|c: char| c.is_ascii_digit()))?;
        Some(id)
    };
    tags.iter().filter_map(technique)
}

/// The links of a rule that are links: its runbook and its references.
pub(super) fn links(alert: &Alert) -> impl Iterator<Item = &str> {
    alert.rule.runbook.iter().chain(&alert.rule.references).map(String::as_str).filter(|link| is_link(link)).take(8)
}

/// Whether a text is an address that nothing in it can end early.
pub(super) fn is_link(text: &str) -> bool {
    (text.starts_with("https://") || text.starts_with("http://"))
        && text.len() <= 500
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii() || "<>|`\"".contains(c))
}

/// An at sign followed by a character without width: it reads the same and pings nobody.
pub(super) const UNPINGED: &str = "@\u{200b}";

/// Whether what follows an at sign makes it a call to everybody, somewhere.
pub(super) fn mentions(rest: &str) -> bool {
    ["here", "channel", "everyone", "group", "all"]
        .iter()
        .any(|word| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// This machine's name, if it has one that protocols can carry.
pub(super) fn this_machine() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_owned();
    let valid =
        (1..=255).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    valid.then_some(name)
}

/// Everything about one alert in lines of text, at most `max` wide in all: what does not fit is the least important.
pub(super) fn report(alert: &Alert, style: Style, max: usize) -> String {
    let text = style.text;
    let mut lines = vec![text(&alert.summary, 800), String::new()];
    lines.extend(facts(alert, style).into_iter().map(|(name, value)| format!("{name}: {}", value.replace('\n', ", "))));
    if let Some(runbook) = &alert.rule.runbook {
        lines.push(format!("What to do: {}", text(runbook, 800)));
    }
    for (head, part) in [("What happened:", timeline(alert, style)), ("Matched:", evidence(alert, style))] {
        if !part.is_empty() {
            lines.extend([String::new(), head.to_owned()]);
            lines.extend(part.into_iter().map(|line| format!("  {line}")));
        }
    }
    lines.push(String::new());
    lines.push(format!("Rule: {} ({})", text(&alert.rule.title, 150), (style.value)(&alert.rule.id, 80)));
    lines.push(format!("Alert: {}", (style.value)(&alert.id, 64)));
    for (name, values) in [
        ("Audit IDs", alert.audit_ids.iter().take(10).map(|id| (style.value)(id, 64)).collect::<Vec<_>>()),
        ("Tags", alert.rule.tags.iter().take(8).map(|tag| text(tag, 40)).collect()),
        ("See", alert.rule.references.iter().take(3).map(|link| text(link, 200)).collect()),
    ] {
        if !values.is_empty() {
            lines.push(format!("{name}: {}", values.join(" ")));
        }
    }
    within(lines, max)
}

/// What matters most of an alert, its texts at most `max` wide, for where the whole is too long: `cut` says that it is not.
pub(super) fn in_short(alert: &Alert, max: usize) -> Value {
    let rule = &alert.rule;
    json!({
        "id": shorten(&alert.id, 64),
        "status": alert.status,
        "time": alert.time,
        "cluster": shorten(&alert.cluster, max.min(100)),
        "rule": {"id": shorten(&rule.id, 40), "title": shorten(&rule.title, max.min(150)), "level": rule.level},
        "summary": shorten(&alert.summary, max),
        "count": alert.count,
        "cut": true,
    })
}

/// As many of the lines as fit into `max`.
pub(super) fn within(lines: Vec<String>, max: usize) -> String {
    let mut out = String::new();
    let mut room = max.saturating_sub(2);
    for line in lines {
        let needed = width(&line) + 1;
        if needed > room {
            out.push('…');
            return out;
        }
        room -= needed;
        out.push_str(&line);
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out
}

/// Takes away what says nothing: nulls, empty texts, and what holds nothing else.
pub(super) fn prune(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.values_mut().for_each(prune);
            let kept = std::mem::take(map).into_iter().filter(|(_, value)| !is_empty(value));
            *map = kept.collect::<Map<_, _>>();
        }
        Value::Array(items) => {
            items.iter_mut().for_each(prune);
            items.retain(|item| !is_empty(item));
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples::{alert, hostile, incident};
    use super::*;

    #[test]
    fn a_report_tells_a_person_everything() {
        let text = report(&alert("a1", "r1", Level::High), PLAIN, 5_000);
        let expected = "alice read secret payments/db-creds from 10.0.0.1 (get, 200)

Who: alice
Did: get secrets payments/db-creds
From: 10.0.0.1
Result: 200 allowed
Seen: 3× in 4 min 11 s, 2026-11-21 04:00:00 – 04:04:12 UTC
Cluster: prod-eu
Group: user.username alice
User agent: kubectl/v1.36.2
What to do: https://runbooks.example.com/secrets

Matched:
  objectRef.resource = secrets

Rule: Title of r1 (r1)
Alert: a1
Audit IDs: 5f9d2c1e-0000-4000-8000-000000000001
Tags: attack.t1552.007
See: https://example.com/why";
        assert_eq!(text, expected);
        let story = report(&incident(), PLAIN, 5_000);
        assert!(story.contains("What happened:\n  04:00:00 🟡 One: alice did One <b>\n"), "{story}");
    }

    #[test]
    fn no_report_is_too_long_nor_has_lines_of_an_attackers() {
        for text in ["", "\u{202e}&<!channel>\nWho: root", &"x".repeat(100_000), &"🙂".repeat(3_000)] {
            for max in [2, 100, 1_000, 20_000] {
                let report = report(&hostile("id", text), PLAIN, max);
                assert!(width(&report) <= max && !report.contains("\nWho: root"), "{max}: {report}");
            }
        }
    }

    #[test]
    fn techniques_are_told_from_tactics_and_other_lists() {
        let tags =
            ["attack.t1552.007", "attack.credential-access", "attack.ta0006", "microsoft.ms-ta9025", "attack.T1552"];
        let found: Vec<String> = techniques(&tags.map(str::to_owned)).collect();
        assert_eq!(found, ["T1552.007", "T1552"]);
    }

    #[test]
    fn links_are_links_only_when_nothing_can_end_them() {
        assert!(is_link("https://a.example/?x=1&y=2") && is_link("http://a.example"));
        for text in ["Call the owner.", "https://a.example/|x> <!here", "javascript:alert(1)"] {
            assert!(!is_link(text), "{text}");
        }
    }
}
