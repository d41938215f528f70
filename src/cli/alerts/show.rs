//! Alerts for people in a terminal: one among others in two lines, or all that is known of one.

use std::io::Write;

use super::Handled;
use crate::alert::{Alert, Status, User};
use crate::cli::out::{self, indented, moment};
use crate::cli::scan;
use crate::text::{of_value, visible};

/// The width of names in front of what is said of them.
const NAMES: usize = 11;
/// Characters of an id that tell it apart from the others on a page.
const SHORT: usize = 8;

/// `2 h`, in the largest unit.
pub(in crate::cli) fn span(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    let (size, name) = units.into_iter().find(|(size, _)| seconds >= *size).unwrap_or((1, "s"));
    format!("{} {name}", seconds / size)
}

/// What people and silences did about it, in brackets behind the title.
fn marks(alert: &Handled) -> String {
    let handling = alert.handling.map(|handling| handling.as_str().to_owned());
    let silence = alert.silence.map(|silence| format!("silence {silence}"));
    let marks: Vec<String> = handling.into_iter().chain(silence).collect();
    if marks.is_empty() { String::new() } else { format!("  \x1b[2m[{}]\x1b[0m", marks.join(", ")) }
}

/// One alert in two lines: when, how bad, which rule, how often; then its id and who did what.
pub fn row(out: &mut impl Write, handled: &Handled) -> std::io::Result<()> {
    let alert = &handled.alert;
    scan::head(out, alert, &marks(handled))?;
    let id = visible(&alert.id);
    indented(out, id.get(..SHORT).unwrap_or(&id), 21, &alert.summary)
}

/// All that is known of an alert.
pub(super) fn whole(out: &mut impl Write, handled: &Handled) -> std::io::Result<()> {
    let alert = &handled.alert;
    let (on, off) = scan::colors(alert.rule.level);
    writeln!(out, "{on}{}{off} \x1b[1m{}\x1b[0m", alert.rule.level, visible(&alert.rule.title))?;
    indented(out, "", 0, &alert.summary)?;
    writeln!(out)?;
    facts(out, handled)?;
    todo(out, alert)?;
    why(out, alert)?;
    steps(out, alert)?;
    history(out, handled)
}

fn pair(out: &mut impl Write, name: &str, text: &str) -> std::io::Result<()> {
    if text.is_empty() { Ok(()) } else { indented(out, name, NAMES, text) }
}

/// Who, and in which groups.
pub(in crate::cli) fn person(user: &User) -> String {
    let name = user.username.as_deref().unwrap_or("nobody who was known");
    if user.groups.is_empty() { name.to_owned() } else { format!("{name} ({})", user.groups.join(", ")) }
}

/// What was done to which kind of object.
pub(in crate::cli) fn deed(alert: &Alert) -> String {
    let Some(object) = &alert.event.object_ref else { return alert.event.verb.clone() };
    let kind: Vec<&str> = [&object.resource, &object.subresource].into_iter().flatten().map(String::as_str).collect();
    let name = object.name.as_deref().map(|name| format!(" {name}")).unwrap_or_default();
    format!("{} {}{name}", alert.event.verb, kind.join("/"))
}

/// How the request ended.
pub(in crate::cli) fn result(alert: &Alert) -> String {
    let status = alert.event.response_status.as_ref();
    let code = status.and_then(|status| status.code).map(|code| code.to_string());
    let reason = status.and_then(|status| status.reason.clone());
    [code, reason].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

/// When it happened, and for how long.
pub(in crate::cli) fn when(alert: &Alert) -> String {
    let begin = format!("{} UTC", moment(alert.time));
    if alert.count <= 1 {
        return begin;
    }
    let long = alert.last_seen.since(alert.first_seen).as_secs().max(1);
    format!("{begin}, {} requests within {}, the last at {}", alert.count, span(long), moment(alert.last_seen))
}

fn facts(out: &mut impl Write, handled: &Handled) -> std::io::Result<()> {
    let (alert, event) = (&handled.alert, &handled.alert.event);
    let namespace = event.object_ref.as_ref().and_then(|object| object.namespace.as_deref());
    pair(out, "Who", &person(&event.user))?;
    if let Some(acting) = &event.impersonated_user {
        pair(out, "  as", &person(acting))?;
    }
    pair(out, "What", &deed(alert))?;
    pair(out, "", &event.request_uri)?;
    let place = namespace.map(|namespace| format!(", namespace {namespace}")).unwrap_or_default();
    pair(out, "Where", &format!("cluster {}{place}", alert.cluster))?;
    pair(out, "When", &when(alert))?;
    pair(out, "From", &event.source_ips.join(", "))?;
    pair(out, "", event.user_agent.as_deref().unwrap_or_default())?;
    pair(out, "Result", &result(alert))?;
    let mut state = if alert.status == Status::Firing { "goes on" } else { "over" }.to_owned();
    if let Some(handling) = handled.handling {
        state = format!("{state}, {}", handling.as_str());
    }
    if let Some(silence) = handled.silence {
        state = format!("{state}, kept from the sinks by silence {silence}");
    }
    pair(out, "State", &state)?;
    pair(out, "Alert", &alert.id)?;
    pair(out, "Rule", &alert.rule.id)?;
    pair(out, "Tags", &alert.rule.tags.join(" "))?;
    pair(out, "Audit IDs", &alert.audit_ids.join(" "))
}

fn heading(out: &mut impl Write, text: &str) -> std::io::Result<()> {
    writeln!(out, "\n\x1b[1m{text}\x1b[0m")
}

fn todo(out: &mut impl Write, alert: &Alert) -> std::io::Result<()> {
    let rule = &alert.rule;
    if rule.runbook.is_none() && rule.references.is_empty() {
        return Ok(());
    }
    heading(out, "What to do")?;
    if let Some(runbook) = &rule.runbook {
        indented(out, "", 2, runbook)?;
    }
    rule.references.iter().try_for_each(|reference| indented(out, "", 2, reference))
}

/// What the rule groups by, or nothing.
pub(in crate::cli) fn groups(alert: &Alert) -> Option<String> {
    let group = alert.group.iter().filter(|(_, value)| !value.is_null());
    let group: Vec<String> = group.map(|(name, value)| format!("{name} = {}", of_value(value))).collect();
    (!group.is_empty()).then(|| format!("One alert for each {}", group.join(", ")))
}

fn why(out: &mut impl Write, alert: &Alert) -> std::io::Result<()> {
    if !alert.matched.is_empty() {
        heading(out, "Why it fired: the rule was true of these values")?;
        let width = alert.matched.keys().map(|name| visible(name).chars().count()).max().unwrap_or(0).min(44) + 4;
        for (name, matched) in &alert.matched {
            let name = format!("  {}", out::fitted(name, width - 4));
            indented(out, &name, width, &of_value(matched))?;
        }
    }
    groups(alert).map_or(Ok(()), |groups| indented(out, "", 2, &groups))
}

fn steps(out: &mut impl Write, alert: &Alert) -> std::io::Result<()> {
    if alert.timeline.is_empty() {
        return Ok(());
    }
    heading(out, "What happened, in order")?;
    for step in &alert.timeline {
        let text = format!("{}{}: {}", step.rule.title, step.times(), step.summary);
        indented(out, &format!("  {}", step.time_of_day()), 12, &text)?;
    }
    Ok(())
}

fn history(out: &mut impl Write, handled: &Handled) -> std::io::Result<()> {
    if handled.history.is_empty() {
        return Ok(());
    }
    heading(out, "What people did")?;
    for deed in &handled.history {
        let did = deed.handling.map_or("noted", |handling| handling.as_str());
        let note = if deed.note.is_empty() { String::new() } else { format!(": {}", deed.note) };
        indented(out, &format!("  {}", moment(deed.at)), 23, &format!("{} {did}{note}", deed.who))?;
    }
    Ok(())
}
