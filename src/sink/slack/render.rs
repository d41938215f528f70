//! Alerts as Block Kit: what a person on call wants to know first comes first, within every limit of Slack's.
//!
//! Everything that comes from an event goes through [`esc`] or [`code`]: escaped, visible and bounded, so that no
//! user name can ping a channel, hide itself or make Slack refuse the message.

use serde_json::{Value, json};

use super::super::facts::{
    self, EVIDENCE_MAX, LINES_MAX, REST_MAX, Style, TODO_MAX, UNPINGED, facts, headline, is_link, listed_by, mentions,
    more_todos, rest, title, todo_lines, todos,
};
use super::super::page::Page;
use super::super::{Item, Message};
use crate::alert::Alert;
use crate::store::Kind;
use crate::text::{counted, fit, of_value, width};

/// Below Slack's 150.
const HEADER_MAX: usize = 140;
/// Below Slack's 3 000, with room for what is around it.
const SECTION_MAX: usize = 2_800;
const FIELD_MAX: usize = 400;
/// Below the 13 000 characters that Slack takes in all.
const MESSAGE_MAX: usize = 12_000;
/// Of the lines of many alerts, with what is around them but what says how many there are more.
const LIST_MAX: usize = MESSAGE_MAX - REST_MAX;
/// Slack reads `&lt;` in plain text too, and notifications repeat it.
const STYLE: Style = Style { text: esc, value: code };

/// A message's payload, without channel and thread.
pub(super) fn payload(message: &Message, page: &Page) -> Value {
    let items = &message.items;
    let blocks = match (items.as_slice(), message.digest) {
        (_, Some(_)) => many(items, &headline(message, HEADER_MAX, STYLE), true, page),
        ([item], None) if item.kind == Kind::Resolved && item.remembered.is_none() => vec![section(&line(item, true))],
        ([item], None) => one(&item.alert, page),
        (items, None) if items.iter().all(|item| item.kind == Kind::Resolved) => lines(items, true, LIST_MAX, page),
        (items, None) => many(items, &headline(message, HEADER_MAX, STYLE), false, page),
    };
    wrap(&plain(message), blocks)
}

/// The message without any markup, for when Slack did not take the blocks: an alert is worth more than its looks.
pub(super) fn plain_payload(message: &Message, page: &Page) -> Value {
    let items = &message.items;
    let mut lines = vec![plain(message)];
    lines.extend(items.iter().skip(1).take(LINES_MAX).map(|item| line(item, true)));
    lines.extend(todo_lines(items, STYLE));
    if items.len() > 1 {
        lines.push(format!("All of them: {}", listed_by(items)));
    }
    let link = if let [item] = items.as_slice() { page.of(&item.alert) } else { page.all().map(str::to_owned) };
    lines.extend(link.map(|link| link.replace('&', "&amp;")));
    let text = lines.join("\n");
    json!({"text": text, "unfurl_links": false, "unfurl_media": false})
}

/// What is written under a message when its episodes end.
pub(super) fn ended(items: &[Item]) -> Value {
    let text = items.first().map(|item| line(item, items.len() > 1)).unwrap_or_default();
    wrap(&text, lines(items, items.len() > 1, LIST_MAX, &Page::default()))
}

/// What notifications and screen readers show.
fn plain(message: &Message) -> String {
    let Some(first) = message.items.first() else { return String::new() };
    let head = match message.digest {
        Some(digest) => format!("+{} more of {}: ", digest.alerts, counted(digest.rules, "rule")),
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
fn one(alert: &Alert, page: &Page) -> Vec<Value> {
    let mut blocks = vec![header(&title(alert, HEADER_MAX, STYLE))];
    if !alert.summary.is_empty() {
        blocks.push(section(&format!("*{}*", esc(&alert.summary, 800))));
    }
    let fields = facts(alert, STYLE).into_iter().map(|(name, value)| mrkdwn(&format!("*{name}*\n{value}")));
    blocks.push(json!({"type": "section", "fields": fields.collect::<Vec<_>>()}));
    if !alert.timeline.is_empty() {
        blocks.push(section(&timeline(alert)));
    }
    if let Some(evidence) = evidence(alert) {
        blocks.push(section(&evidence));
    }
    if let Some(runbook) = &alert.rule.runbook {
        blocks.push(section(&format!("*What to do:* {}", link(runbook, "open the runbook", 800))));
    }
    blocks.extend(page.of(alert).map(|link| context(&[opens(&link, "Open the alert")])));
    blocks.extend(small_print(alert));
    blocks
}

/// What happened, rule by rule, as far as a section holds it.
fn timeline(alert: &Alert) -> String {
    let mut text = "*What happened*".to_owned();
    for (at, line) in facts::timeline(alert, STYLE).iter().enumerate() {
        if width(&text) + 1 + width(line) > SECTION_MAX {
            return format!("{text}\n… and {} more", alert.timeline.len() - at);
        }
        text.push('\n');
        text.push_str(line);
    }
    text
}

/// Many alerts: a headline, a line each for the first, the number of the others, what to do, and where all of them are.
fn many(items: &[Item], headline: &str, mixed: bool, page: &Page) -> Vec<Value> {
    let mut below = what_to_do(items);
    let mut small = Vec::new();
    if let (false, Some(first)) = (mixed, items.first()) {
        let (cluster, rule) = (esc(&first.alert.cluster, 100), code(&first.alert.rule.id, 100));
        small.push(format!("*Cluster* {cluster}  ·  *Rule* {rule}"));
    }
    small.push(format!("All of them: {}", code(&listed_by(items), 100)));
    small.extend(page.all().map(|link| opens(link, "Open the page")));
    below.push(context(&small));
    let room = LIST_MAX.saturating_sub(width(headline) + below.iter().map(text_width).sum::<usize>());
    let mut blocks = vec![header(headline)];
    blocks.extend(lines(items, mixed, room, page));
    blocks.extend(below);
    blocks
}

/// A section for the first rules of which there is something to do.
fn what_to_do(items: &[Item]) -> Vec<Value> {
    let (todos, more) = todos(items, STYLE);
    let head =
        |title: &str| if title.is_empty() { "*What to do:*".to_owned() } else { format!("*What to do:* {title}:") };
    let text = |(title, runbook): &(String, &str)| {
        section(&format!("{} {}", head(title), link(runbook, "open the runbook", TODO_MAX)))
    };
    todos.iter().map(text).chain(more_todos(more).map(|more| context(&[more]))).collect()
}

/// A link of ours.
fn opens(url: &str, label: &str) -> String {
    link(url, label, FIELD_MAX)
}

/// One alert in one line.
fn line(item: &Item, titled: bool) -> String {
    facts::line(item, titled, STYLE)
}

/// The alerts line by line, in as few sections as hold them, as many as there is room for.
fn lines(items: &[Item], titled: bool, room: usize, page: &Page) -> Vec<Value> {
    let mut sections: Vec<String> = vec![String::new()];
    let (mut shown, mut room) = (0, room);
    for item in items.iter().take(LINES_MAX) {
        let link = page.of(&item.alert).map(|link| format!(" · {}", opens(&link, "open"))).unwrap_or_default();
        let line = line(item, titled) + &link;
        if shown > 0 && width(&line) >= room {
            break;
        }
        shown += 1;
        room = room.saturating_sub(width(&line) + 1);
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
    if items.len() > shown {
        blocks.push(context(&[rest(&items[shown..], STYLE)]));
    }
    blocks
}

/// What the rule matched.
fn evidence(alert: &Alert) -> Option<String> {
    if alert.matched.is_empty() {
        return None;
    }
    let mut text = "*Matched*".to_owned();
    let mut shown = 0;
    for (field, value) in alert.matched.iter().take(EVIDENCE_MAX) {
        let line = format!("\n• {} = {}", esc(field, 100), code(&of_value(value), 250));
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

/// A link if it is one and nothing in it could end it, else the text.
fn link(text: &str, label: &str, max: usize) -> String {
    if is_link(text) { format!("<{}|{label}>", text.replace('&', "&amp;")) } else { esc(text, max) }
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
    use crate::alert::{Level, Status};

    fn page() -> Page {
        Page::new(Some("https://siren.example.com")).unwrap()
    }

    fn texts(payload: &Value) -> String {
        payload.to_string()
    }

    #[test]
    fn an_incident_tells_its_timeline() {
        let expected = "*What happened*\n`04:00:00` 🟡 One: alice did One &lt;b&gt;\n`04:04:12` 🟠 Two ×3: alice did Two &lt;b&gt;";
        assert_eq!(timeline(&incident()), expected);
        assert!(one(&incident(), &page()).iter().any(|block| block["text"]["text"] == expected));
        let mut long = incident();
        long.timeline = vec![long.timeline[0].clone(); 20];
        long.timeline.iter_mut().for_each(|step| step.summary = "x".repeat(facts::LINE_MAX));
        let text = timeline(&long);
        assert!(width(&text) < SECTION_MAX + 20 && text.ends_with(" more"), "{text}");
    }

    #[test]
    fn a_person_on_call_finds_everything() {
        let payload = payload(&message(vec![item(Kind::Firing, alert("a1", "r1", Level::High))]), &page());
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
            "<https://siren.example.com/?alert=a1|Open the alert>",
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
                    let digest = Message {
                        items: items.clone(),
                        digest: Some(Digest { alerts: n, rules: 1 }),
                        ..Message::default()
                    };
                    let message = message(items);
                    for payload in [
                        payload(&message, &page()),
                        payload(&digest, &page()),
                        plain_payload(&message, &page()),
                        ended(&message.items),
                    ] {
                        check(&payload).unwrap_or_else(|error| panic!("{error} at {n} {kind:?}: {payload}"));
                        let shown = texts(&payload).to_lowercase();
                        let shown = shown.replace("<https://siren.example.com/", "");
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
        let grouped = texts(&payload(&message(items.clone()), &page()));
        assert!(grouped.contains("×37") && grouped.contains("+17 more of 4 rules: "), "{grouped}");
        assert!(
            grouped.contains("*What to do:* Title of r0: <https://runbooks.example.com/secrets|open the runbook>"),
            "{grouped}"
        );
        let digest = Message { items, digest: Some(Digest { alerts: 37, rules: 4 }), ..Message::default() };
        let payload = payload(&digest, &page());
        assert_eq!(payload["blocks"][0]["text"]["text"], "+37 more of 4 rules");
        for text in [texts(&payload), plain_payload(&digest, &page()).to_string()] {
            let line = "🔵 Low · Title of r0: alice read secret payments/db-creds from 10.0.0.1 (get, 200) (3× in 4 min 11 s, \
                        2026-11-21 04:00:00 – 04:04:12 UTC, prod-eu)";
            let command = "kubesiren alerts list --since 2026-11-21T04:00:00Z";
            for part in [
                line,
                "Title of r2",
                "What to do about 1 more rule stands in their alerts",
                command,
                "https://siren.example.com/",
            ] {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert_eq!(text.matches("https://runbooks.example.com/secrets").count(), 3, "{text}");
        }
    }

    /// What to do is never what is cut off.
    #[test]
    fn the_longest_digest_still_says_what_to_do() {
        let items: Vec<_> = (0..100)
            .map(|n| {
                let mut alert = hostile(&format!("a{n}"), &"&".repeat(3_000));
                std::sync::Arc::make_mut(&mut alert.rule).id = format!("r{n}");
                item(Kind::Firing, alert)
            })
            .collect();
        let payload = payload(
            &Message { items, digest: Some(Digest { alerts: 100, rules: 100 }), ..Message::default() },
            &page(),
        );
        check(&payload).unwrap();
        let text = texts(&payload);
        assert_eq!(text.matches("*What to do:*").count(), 3, "{text}");
        assert!(
            text.contains("What to do about 97 more rules stands in their alerts") && text.contains("Open the page"),
            "{text}"
        );
    }

    #[test]
    fn an_end_is_a_short_line() {
        let payload = payload(&message(vec![item(Kind::Resolved, alert("a", "r", Level::High))]), &page());
        assert_eq!(payload["blocks"].as_array().map(Vec::len), Some(1));
        let text = payload["blocks"][0]["text"]["text"].as_str().unwrap();
        assert!(text.starts_with("✅ Resolved · Title of r: alice read"), "{text}");
    }

    #[test]
    fn what_opened_and_ended_while_slack_was_away_is_told_in_full() {
        let mut late = item(Kind::Firing, alert("a", "r", Level::High));
        late.alert.status = Status::Resolved;
        let text = texts(&payload(&message(vec![late]), &page()));
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
