//! Alerts as Block Kit: what a person on call wants to know first comes first, within every limit of Slack's.
//!
//! Everything that comes from an event goes through [`esc`] or [`code`]: escaped, visible and bounded, so that no
//! user name can ping a channel, hide itself or make Slack refuse the message.

use serde_json::{Value, json};

use super::super::{Item, Message};
use crate::alert::{Alert, EventExcerpt, Level, Status, User};
use crate::clock::Timestamp;
use crate::store::Kind;
use crate::text::{fit, width};

/// Below Slack's 150.
const HEADER_MAX: usize = 140;
/// Below Slack's 3 000, with room for what is around it.
const SECTION_MAX: usize = 2_800;
const FIELD_MAX: usize = 400;
/// Alerts that a message names one by one.
const LINES_MAX: usize = 20;
const LINE_MAX: usize = 300;
/// Values that an alert shows as evidence.
const EVIDENCE_MAX: usize = 12;
/// Below the 13 000 characters that Slack takes in all.
const MESSAGE_MAX: usize = 12_000;

/// A message's payload, without channel and thread.
pub(super) fn payload(message: &Message) -> Value {
    let items = &message.items;
    let blocks = match (items.as_slice(), message.digest) {
        (_, Some(digest)) => many(items, &format!("+{} more of {}", digest.alerts, rules(digest.rules)), true),
        ([item], None) if item.kind == Kind::Resolved && item.remembered.is_none() => vec![section(&line(item, true))],
        ([item], None) => one(&item.alert),
        (items, None) if items.iter().all(|item| item.kind == Kind::Resolved) => lines(items, true),
        (items, None) => many(items, &format!("{} ×{}", title(&items[0].alert, HEADER_MAX - 20), items.len()), false),
    };
    wrap(&plain(message), blocks)
}

/// The message without any markup, for when Slack did not take the blocks: an alert is worth more than its looks.
pub(super) fn plain_payload(message: &Message) -> Value {
    let more = message.items.iter().skip(1).take(LINES_MAX).map(|item| format!("\n{}", line(item, true)));
    let text = plain(message) + &more.collect::<String>();
    json!({"text": text, "unfurl_links": false, "unfurl_media": false})
}

/// What is written under a message when its episodes end.
pub(super) fn ended(items: &[Item]) -> Value {
    let text = items.first().map(|item| line(item, items.len() > 1)).unwrap_or_default();
    wrap(&text, lines(items, items.len() > 1))
}

/// What notifications and screen readers show.
fn plain(message: &Message) -> String {
    let Some(first) = message.items.first() else { return String::new() };
    let head = match message.digest {
        Some(digest) => format!("+{} more of {}: ", digest.alerts, rules(digest.rules)),
        None if message.items.len() > 1 => format!("{} alerts: ", message.items.len()),
        None => String::new(),
    };
    head + &line(first, true)
}

fn wrap(text: &str, mut blocks: Vec<Value>) -> Value {
    // Only a message of very long values comes here; what is cut is the least important, at the end.
    while blocks.len() > 1 && (blocks.len() > 50 || blocks.iter().map(text_width).sum::<usize>() > MESSAGE_MAX) {
        blocks.pop();
    }
    json!({"text": text, "blocks": blocks, "unfurl_links": false, "unfurl_media": false})
}

fn text_width(value: &Value) -> usize {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| value.as_str().filter(|_| key == "text").map_or_else(|| text_width(value), width))
            .sum(),
        Value::Array(values) => values.iter().map(text_width).sum(),
        _ => 0,
    }
}

/// One alert with everything.
fn one(alert: &Alert) -> Vec<Value> {
    let mut blocks = vec![header(&title(alert, HEADER_MAX))];
    if !alert.summary.is_empty() {
        blocks.push(section(&format!("*{}*", esc(&alert.summary, 800))));
    }
    let fields = facts(alert);
    blocks.push(json!({"type": "section", "fields": fields.iter().map(|text| mrkdwn(text)).collect::<Vec<_>>()}));
    if !alert.timeline.is_empty() {
        blocks.push(section(&timeline(alert)));
    }
    if let Some(evidence) = evidence(alert) {
        blocks.push(section(&evidence));
    }
    if let Some(runbook) = &alert.rule.runbook {
        blocks.push(section(&format!("*What to do:* {}", link(runbook, "open the runbook", 800))));
    }
    blocks.extend(small_print(alert));
    blocks
}

/// What happened, rule by rule, as far as a section holds it.
fn timeline(alert: &Alert) -> String {
    let mut text = "*What happened*".to_owned();
    for (at, step) in alert.timeline.iter().enumerate() {
        let (mark, title) = (emoji(step.rule.level), esc(&step.rule.title, 120));
        let line =
            format!("\n`{}` {mark} {title}{}: {}", step.time_of_day(), step.times(), esc(&step.summary, LINE_MAX));
        if width(&text) + width(&line) > SECTION_MAX {
            return format!("{text}\n… and {} more", alert.timeline.len() - at);
        }
        text.push_str(&line);
    }
    text
}

/// Many alerts: a headline, a line each for the first, the number of the others.
fn many(items: &[Item], headline: &str, mixed: bool) -> Vec<Value> {
    let mut blocks = vec![header(headline)];
    blocks.extend(lines(items, mixed));
    if let (false, Some(first)) = (mixed, items.first()) {
        let rule = &first.alert.rule;
        let text = format!("*Cluster* {}  ·  *Rule* {}", esc(&first.alert.cluster, 100), code(&rule.id, 100));
        if let Some(runbook) = &rule.runbook {
            blocks.push(section(&format!("*What to do:* {}", link(runbook, "open the runbook", 800))));
        }
        blocks.push(context(&[text]));
    }
    blocks
}

/// The alerts line by line, in as few sections as hold them.
fn lines(items: &[Item], titled: bool) -> Vec<Value> {
    let mut sections: Vec<String> = vec![String::new()];
    for item in items.iter().take(LINES_MAX) {
        let line = line(item, titled);
        let last = sections.last_mut().filter(|text| width(text) + width(&line) < SECTION_MAX);
        match last {
            Some(text) if text.is_empty() => text.push_str(&line),
            Some(text) => {
                text.push('\n');
                text.push_str(&line);
            }
            None => sections.push(line),
        }
    }
    let mut blocks: Vec<Value> = sections.iter().map(|text| section(text)).collect();
    if items.len() > LINES_MAX {
        blocks.push(context(&[rest(&items[LINES_MAX..])]));
    }
    blocks
}

/// "+17 more of 3 rules: 12× Secret read, …".
fn rest(items: &[Item]) -> String {
    let mut counts: Vec<(&Alert, usize)> = Vec::new();
    for item in items {
        match counts.iter_mut().find(|(alert, _)| alert.rule.id == item.alert.rule.id) {
            Some((_, count)) => *count += 1,
            None => counts.push((&item.alert, 1)),
        }
    }
    let names: Vec<_> =
        counts.iter().take(10).map(|(alert, count)| format!("{count}× {}", esc(&alert.rule.title, 80))).collect();
    let more = if counts.len() > names.len() { ", …" } else { "" };
    format!("+{} more of {}: {}{more}", items.len(), rules(counts.len()), names.join(", "))
}

fn rules(n: usize) -> String {
    if n == 1 { "1 rule".to_owned() } else { format!("{n} rules") }
}

/// One alert in one line.
fn line(item: &Item, titled: bool) -> String {
    let alert = &item.alert;
    let title = if titled { format!("{}: ", esc(&alert.rule.title, 120)) } else { String::new() };
    let cluster = if titled { format!(", {}", esc(&alert.cluster, 60)) } else { String::new() };
    let mark = match alert.status {
        Status::Firing => emoji(alert.rule.level).to_owned(),
        Status::Resolved => "✅ Resolved ·".to_owned(),
    };
    let level = if titled && alert.status == Status::Firing {
        format!(" {} ·", word(alert.rule.level))
    } else {
        String::new()
    };
    format!("{mark}{level} {title}{} ({}{cluster})", esc(&alert.summary, LINE_MAX), times(alert))
}

fn emoji(level: Level) -> &'static str {
    match level {
        Level::Critical => "🔴",
        Level::High => "🟠",
        Level::Medium => "🟡",
        Level::Low => "🔵",
        Level::Informational => "⚪",
    }
}

fn word(level: Level) -> &'static str {
    match level {
        Level::Critical => "Critical",
        Level::High => "High",
        Level::Medium => "Medium",
        Level::Low => "Low",
        Level::Informational => "Informational",
    }
}

/// "🟠 High · Secret read", for a header. Slack reads `&lt;` in plain text too, and notifications repeat it.
fn title(alert: &Alert, max: usize) -> String {
    let level = word(alert.rule.level);
    let head = match alert.status {
        Status::Firing => format!("{} {level} · ", emoji(alert.rule.level)),
        Status::Resolved => format!("✅ Resolved · {level} · "),
    };
    let rest = esc(&alert.rule.title, max.saturating_sub(width(&head)));
    head + &rest
}

/// Who did what to what from where with what result, how often, when: at most ten fields.
fn facts(alert: &Alert) -> Vec<String> {
    let event = &alert.event;
    let mut facts = vec![
        ("Who", who(event)),
        ("Did", did(event)),
        ("From", event.source_ips.iter().take(5).map(|ip| code(ip, 60)).collect::<Vec<_>>().join(", ")),
        ("Result", result(event)),
        ("Seen", times(alert)),
        ("Cluster", esc(&alert.cluster, 100)),
        ("Group", group(alert)),
        ("User agent", event.user_agent.as_ref().map(|agent| code(agent, 200)).unwrap_or_default()),
    ];
    facts.retain(|(_, value)| !value.is_empty());
    facts.into_iter().map(|(name, value)| format!("*{name}*\n{value}")).collect()
}

fn who(event: &EventExcerpt) -> String {
    let name = |user: &User| user.username.as_ref().map(|name| code(name, 150));
    let user = name(&event.user).unwrap_or_else(|| "nobody who authenticated".to_owned());
    match event.impersonated_user.as_ref().and_then(name) {
        Some(other) => format!("{user} as {other}"),
        None => user,
    }
}

fn did(event: &EventExcerpt) -> String {
    let verb = esc(&event.verb, 30);
    let Some(object) = &event.object_ref else { return format!("{verb} {}", code(&event.request_uri, 300)) };
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
        return format!("{verb} {}", code(&kind, 150));
    }
    format!("{verb} {} {}", code(&kind, 100), code(&place.join("/"), 200))
}

fn result(event: &EventExcerpt) -> String {
    let Some(status) = &event.response_status else { return String::new() };
    let reason = status.reason.as_ref().map(|reason| esc(reason, 80)).unwrap_or_default();
    let verdict = match status.code {
        Some(200..=299) => "allowed",
        Some(401 | 403) => "denied",
        Some(400..) => "failed",
        _ => "",
    };
    let code = status.code.map(|code| code.to_string()).unwrap_or_default();
    [code, verdict.to_owned(), reason].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

fn group(alert: &Alert) -> String {
    let shown = alert.group.iter().filter(|(_, value)| !value.is_null()).take(5);
    let lines: Vec<_> =
        shown.map(|(field, value)| format!("{} {}", esc(field, 50), code(&text_of(value), 100))).collect();
    lines.join("\n")
}

/// "3× in 4 m 12 s, 2026-11-21 04:00:00 – 04:04:12 UTC".
fn times(alert: &Alert) -> String {
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

/// What the rule matched.
fn evidence(alert: &Alert) -> Option<String> {
    if alert.matched.is_empty() {
        return None;
    }
    let mut text = "*Matched*".to_owned();
    let mut shown = 0;
    for (field, value) in alert.matched.iter().take(EVIDENCE_MAX) {
        let line = format!("\n• {} = {}", esc(field, 100), code(&text_of(value), 250));
        if width(&text) + width(&line) > SECTION_MAX - 50 {
            break;
        }
        text.push_str(&line);
        shown += 1;
    }
    if alert.matched.len() > shown {
        text.push_str(&format!("\n+{} more", alert.matched.len() - shown));
    }
    Some(text)
}

/// What is needed later: ids, tags, links.
fn small_print(alert: &Alert) -> Vec<Value> {
    let ids: Vec<_> = alert.audit_ids.iter().take(10).map(|id| code(id, 64)).collect();
    let tags: Vec<_> = alert.rule.tags.iter().take(8).map(|tag| esc(tag, 40)).collect();
    let links: Vec<_> = alert.rule.references.iter().take(3).map(|url| link(url, &label(url), 200)).collect();
    let mut parts = vec![format!("Rule {}", code(&alert.rule.id, 80)), format!("Alert {}", code(&alert.id, 64))];
    for (name, values, between) in [("Audit IDs", ids, " "), ("Tags", tags, ", "), ("See", links, " ")] {
        if !values.is_empty() {
            parts.push(format!("{name} {}", values.join(between)));
        }
    }
    vec![context(&parts)]
}

fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn header(text: &str) -> Value {
    json!({"type": "header", "text": {"type": "plain_text", "text": text, "emoji": false}})
}

fn section(text: &str) -> Value {
    json!({"type": "section", "text": mrkdwn(text)})
}

fn context(parts: &[String]) -> Value {
    json!({"type": "context", "elements": parts.iter().map(|text| mrkdwn(text)).collect::<Vec<_>>()})
}

/// Verbatim: Slack makes no links, channels or mentions of what only looks like some.
fn mrkdwn(text: &str) -> Value {
    let text = if text.is_empty() { "–" } else { text };
    json!({"type": "mrkdwn", "text": text, "verbatim": true})
}

/// Untrusted text in markup: escaped, visible, bounded.
fn esc(text: &str, max: usize) -> String {
    fit(text, max.min(SECTION_MAX), |c, rest| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        '@' if mentions(rest) => Some(UNPINGED),
        _ => None,
    })
}

/// Untrusted text as code. A back tick would end it, so it is shown as the character that looks like it.
fn code(text: &str, max: usize) -> String {
    let text = esc(text, max.min(FIELD_MAX)).replace('`', "\u{2cb}");
    if text.trim().is_empty() { "(empty)".to_owned() } else { format!("`{text}`") }
}

/// An at sign followed by a character without width: it reads the same and pings nobody.
const UNPINGED: &str = "@\u{200b}";

fn mentions(rest: &str) -> bool {
    ["here", "channel", "everyone", "group"]
        .iter()
        .any(|word| rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// A link if it is one and nothing in it could end it, else the text.
fn link(text: &str, label: &str, max: usize) -> String {
    let is_link = (text.starts_with("https://") || text.starts_with("http://"))
        && text.len() <= 500
        && !text.contains(|c: char| c.is_whitespace() || c.is_control() || !c.is_ascii() || "<>|`\"".contains(c));
    if is_link { format!("<{}|{label}>", text.replace('&', "&amp;")) } else { esc(text, max) }
}

/// What a reference is called: its host and the end of its path, so that one knows where a click leads.
fn label(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let host = parts.next().unwrap_or_default();
    let parts: Vec<_> = parts.collect();
    let end = parts[parts.len().saturating_sub(2)..].join("/");
    esc(format!("{host} {end}").trim(), 60)
}

#[cfg(test)]
mod tests {
    use super::super::super::Digest;
    use super::super::super::fake::slack::check;
    use super::super::super::samples::{alert, hostile, incident, item, message};
    use super::*;

    fn texts(payload: &Value) -> String {
        payload.to_string()
    }

    #[test]
    fn an_incident_tells_its_timeline() {
        let expected = "*What happened*\n`04:00:00` 🟡 One: alice did One &lt;b&gt;\n`04:04:12` 🟠 Two ×3: alice did Two &lt;b&gt;";
        assert_eq!(timeline(&incident()), expected);
        assert!(one(&incident()).iter().any(|block| block["text"]["text"] == expected));
        let mut long = incident();
        long.timeline = vec![long.timeline[0].clone(); 20];
        long.timeline.iter_mut().for_each(|step| step.summary = "x".repeat(LINE_MAX));
        let text = timeline(&long);
        assert!(width(&text) < SECTION_MAX + 20 && text.ends_with(" more"), "{text}");
    }

    #[test]
    fn a_person_on_call_finds_everything() {
        let payload = payload(&message(vec![item(Kind::Firing, alert("a1", "r1", Level::High))]));
        check(&payload).unwrap();
        let text = texts(&payload);
        for part in [
            "🟠 High · Title of r1",
            "alice read secret payments/db-creds from 10.0.0.1 (get, 200)",
            "*Who*\\n`alice`",
            "*Did*\\nget `secrets` `payments/db-creds`",
            "*From*\\n`10.0.0.1`",
            "*Result*\\n200 allowed",
            "*Seen*\\n3× in 4 min 11 s, 2026-11-21 04:00:00 – 04:04:12 UTC",
            "*Cluster*\\nprod-eu",
            "*Group*\\nuser.username `alice`",
            "*User agent*\\n`kubectl/v1.36.2`",
            "objectRef.resource = `secrets`",
            "<https://runbooks.example.com/secrets|open the runbook>",
            "`5f9d2c1e-0000-4000-8000-000000000001`",
            "attack.t1552.007",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }

    #[test]
    fn whatever_an_event_says_slack_takes_it_and_nobody_is_pinged() {
        let evil = "<!channel> @here @Channel <@U123> <https://evil|x> & `` \u{202e}\n\0";
        let (long, wide, amps) = (evil.repeat(60), "🙂".repeat(3_000), "&".repeat(3_000));
        for text in [evil, &long, &wide, &amps, "", " ", "`", &"@here".repeat(500)] {
            for n in [1, 2, 30] {
                for kind in [Kind::Firing, Kind::Resolved] {
                    let items: Vec<_> = (0..n).map(|_| item(kind, hostile("id", text))).collect();
                    let digest = Message { items: items.clone(), digest: Some(Digest { alerts: n, rules: 1 }) };
                    let message = message(items);
                    for payload in [payload(&message), payload(&digest), plain_payload(&message), ended(&message.items)]
                    {
                        check(&payload).unwrap_or_else(|error| panic!("{error} at {n} {kind:?}: {payload}"));
                        let shown = texts(&payload).to_lowercase();
                        for bad in ["<!", "<@", "<http", "@here", "@channel", "\u{202e}", "\\u0000"] {
                            assert!(!shown.contains(bad), "{bad} in {shown}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn many_alerts_are_one_readable_message() {
        let items: Vec<_> =
            (0..37).map(|n| item(Kind::Firing, alert(&format!("a{n}"), &format!("r{}", n % 4), Level::Low))).collect();
        let grouped = texts(&payload(&message(items.clone())));
        assert!(grouped.contains("×37") && grouped.contains("+17 more of 4 rules: "), "{grouped}");
        let digest = payload(&Message { items, digest: Some(Digest { alerts: 37, rules: 4 }) });
        assert_eq!(digest["blocks"][0]["text"]["text"], "+37 more of 4 rules");
    }

    #[test]
    fn an_end_is_a_short_line() {
        let payload = payload(&message(vec![item(Kind::Resolved, alert("a", "r", Level::High))]));
        assert_eq!(payload["blocks"].as_array().map(Vec::len), Some(1));
        let text = payload["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.starts_with("✅ Resolved · Title of r: alice read"), "{text}");
    }

    #[test]
    fn what_opened_and_ended_while_slack_was_away_is_told_in_full() {
        let mut late = item(Kind::Firing, alert("a", "r", Level::High));
        late.alert.status = Status::Resolved;
        let text = texts(&payload(&message(vec![late])));
        assert!(text.contains("✅ Resolved · High · Title of r") && text.contains("*Who*"), "{text}");
    }

    #[test]
    fn a_reference_says_where_it_leads() {
        assert_eq!(label("https://attack.mitre.org/techniques/T1098/006/"), "attack.mitre.org T1098/006");
        assert_eq!(label("https://kubernetes.io/docs/concepts/security/x/?a=b#c"), "kubernetes.io security/x");
        assert_eq!(label("https://a.example"), "a.example");
    }

    #[test]
    fn links_are_links_only_when_nothing_can_end_them() {
        assert_eq!(link("https://a.example/?x=1&y=2", "l", 100), "<https://a.example/?x=1&amp;y=2|l>");
        assert_eq!(link("https://a.example/|x> <!here", "l", 100), "https://a.example/|x&gt; &lt;!here");
        assert_eq!(link("Call the owner.", "l", 100), "Call the owner.");
    }
}
