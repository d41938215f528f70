//! Microsoft Teams, by a workflow's webhook, as Adaptive Cards.
//!
//! Everything that comes from an event stands in text runs, which know no markup: no name can be a link, and none can
//! mention anybody, since a card's mentions are listed apart, and ours lists none.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::facts::{
    LINES_MAX, Style, TODO_MAX, evidence, facts, headline, is_link, line, listed_by, more_todos, rest, timeline, title,
    todo_of, todos,
};
use super::http::{self, exchange};
use super::page::Page;
use super::tls::TlsConfig;
use super::{Medium, Message, Rate, Sending, Sent, Traits};
use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::store::Kind;
use crate::text::fit;
use crate::units::Secret;

/// A webhook is held up above a few messages a second.
const RATE: Rate = Rate { every: Duration::from_secs(1), burst: 4 };
const BATCH_MAX: usize = 100;
/// Below the 28 KB that Teams takes, in bytes.
const MESSAGE_MAX: usize = 24 << 10;
/// Of a list of alerts within it, with what is below the list.
const LIST_MAX: usize = 22 << 10;
const TITLE_MAX: usize = 140;
const STYLE: Style = Style { text: unexpanded, value: unexpanded };

/// `type: teams`: one card for the alerts of one rule and cluster.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TeamsConfig {
    /// The URL of the workflow "When a Teams webhook request is received" (a secret).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
    /// File that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url_file: Option<PathBuf>,
}

/// Posts cards to one workflow.
pub struct Teams {
    client: Client,
    url: Url,
    /// What must not be quoted from an answer.
    secrets: Vec<String>,
    page: Page,
}

impl Teams {
    pub(super) fn build(config: &TeamsConfig, page: &Page) -> Result<Self, String> {
        let url = Secret::load(config.webhook_url.as_ref(), config.webhook_url_file.as_ref())?;
        let url = url.ok_or("give webhook_url_file: the URL of a workflow that takes webhook requests")?;
        let url = http::url(url.expose(), "webhook_url")?;
        let mut secrets = vec![url.path().to_owned(), url.query().unwrap_or_default().to_owned()];
        secrets.extend(url.query_pairs().map(|(_, value)| value.into_owned()));
        let client = http::client_for(&url, &TlsConfig::default())?;
        Ok(Self { client, url, secrets, page: page.clone() })
    }
}

/// A message with one card.
fn payload(message: &Message, page: &Page) -> Value {
    let items = &message.items;
    let (mut body, actions) = match (items.as_slice(), message.digest) {
        ([item], None) if item.kind != Kind::Resolved => (one(&item.alert), actions(&item.alert, page)),
        _ => {
            let open = |link| action("Open the page", link);
            (list(message), page.all().map(open).into_iter().collect())
        }
    };
    loop {
        let card = json!({
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "msteams": {"width": "Full"},
            "fallbackText": headline(message, TITLE_MAX, STYLE),
            "body": body,
            "actions": actions,
        });
        let attachment =
            json!({"contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card});
        let payload = json!({"type": "message", "attachments": [attachment]});
        if body.len() <= 1 || payload.to_string().len() <= MESSAGE_MAX {
            return payload;
        }
        // Only a card of very long values comes here; what is cut is the least important, at the end.
        body.pop();
    }
}

/// One alert with everything.
fn one(alert: &Alert) -> Vec<Value> {
    let text = STYLE.text;
    let mut body = vec![block(&[run(&title(alert, TITLE_MAX, STYLE), "Bolder", "Large")])];
    body.push(block(&[run(&text(&alert.summary, 800), "Bolder", "Default")]));
    body.extend(facts(alert, STYLE).iter().map(|(name, value)| fact(name, value)));
    if let Some(runbook) = &alert.rule.runbook {
        body.push(fact("What to do", &text(runbook, 800)));
    }
    for (head, lines) in [("What happened", timeline(alert, STYLE)), ("Matched", evidence(alert, STYLE))] {
        if !lines.is_empty() {
            body.push(block(&[run(head, "Bolder", "Default")]));
            body.extend(lines.iter().map(|line| block(&[run(line, "Default", "Default")])));
        }
    }
    let ids: Vec<_> = alert.audit_ids.iter().take(10).map(|id| text(id, 64)).collect();
    let tags: Vec<_> = alert.rule.tags.iter().take(8).map(|tag| text(tag, 40)).collect();
    let small = format!(
        "Rule {} · Alert {} · Audit IDs {} · Tags {}",
        text(&alert.rule.id, 80),
        text(&alert.id, 64),
        ids.join(" "),
        tags.join(", ")
    );
    body.push(block(&[run(&small, "Lighter", "Small")]));
    body
}

/// As many of the alerts as fit beside what to do about them.
fn list(message: &Message) -> Vec<Value> {
    let mut shown = LINES_MAX;
    loop {
        let body = many(message, shown);
        if shown == 1 || json!(body).to_string().len() <= LIST_MAX {
            return body;
        }
        shown -= 1;
    }
}

/// Many alerts, or ends: a headline, a line each for the first, the number of the others, what to do.
fn many(message: &Message, shown: usize) -> Vec<Value> {
    let (items, ends) = (&message.items, message.items.iter().all(|item| item.kind == Kind::Resolved));
    let mut body = Vec::new();
    if items.len() > 1 && !ends {
        body.push(block(&[run(&headline(message, TITLE_MAX, STYLE), "Bolder", "Large")]));
    }
    let lines = items.iter().take(shown).map(|item| line(item, true, STYLE));
    body.extend(lines.map(|line| block(&[run(&line, "Default", "Default")])));
    if items.len() > shown {
        body.push(block(&[run(&rest(&items[shown..], STYLE), "Default", "Small")]));
    }
    let (todos, more) = todos(items, STYLE);
    for (title, runbook) in todos {
        body.push(fact(&todo_of(&title), &(STYLE.text)(runbook, TODO_MAX)));
    }
    body.extend(more_todos(more).map(|more| block(&[run(&more, "Default", "Small")])));
    if items.len() > 1 {
        body.push(fact("All of them", &listed_by(items)));
    }
    body
}

/// Buttons for what is a link.
fn actions(alert: &Alert, page: &Page) -> Vec<Value> {
    let page = page.of(alert);
    let page = page.iter().map(|link| ("Open the alert", link));
    let runbook = alert.rule.runbook.iter().map(|link| ("Open the runbook", link));
    let references = alert.rule.references.iter().take(2).map(|link| ("Read more", link));
    let links = page.chain(runbook).chain(references).filter(|(_, link)| is_link(link));
    links.map(|(title, link)| action(title, link)).collect()
}

fn action(title: &str, link: &str) -> Value {
    json!({"type": "Action.OpenUrl", "title": title, "url": link})
}

fn fact(name: &str, value: &str) -> Value {
    let value = value.replace('\n', ", ");
    block(&[run(&format!("{name}: "), "Bolder", "Default"), run(&value, "Default", "Default")])
}

fn block(runs: &[Value]) -> Value {
    json!({"type": "RichTextBlock", "spacing": "Small", "inlines": runs})
}

fn run(text: &str, weight: &str, size: &str) -> Value {
    // An empty run makes some clients refuse the card.
    let text = if text.is_empty() { "–" } else { text };
    json!({"type": "TextRun", "text": text, "weight": weight, "size": size})
}

/// Untrusted text: two braces would begin a function of the card.
fn unexpanded(text: &str, max: usize) -> String {
    fit(text, max, |c, rest| (c == '{' && rest.starts_with('{')).then_some("{\u{200b}"))
}

impl Medium for Teams {
    fn traits(&self) -> Traits {
        Traits { for_people: true, batch_max: BATCH_MAX, rate: Some(RATE), ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
            let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
            exchange(request.body(payload(message, &self.page).to_string()), now).await?.usual(&secrets)?;
            Ok(Sent::default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Receiver, Reply, Request};
    use super::super::samples::{alert, at, hostile, incident, item, message};
    use super::super::{Digest, SendError};
    use super::*;
    use crate::alert::Level;

    const HOOK: &str = "/workflows/s3cr3t/triggers/manual/paths/invoke?api-version=1&sig=s1gnature";

    /// As the workflow takes a card, or not.
    fn check(payload: &Value) -> Result<(), &'static str> {
        if payload.to_string().len() > 28 << 10 {
            return Err("larger than 28 KB");
        }
        let attachment = &payload["attachments"][0];
        if payload["type"] != "message" || attachment["contentType"] != "application/vnd.microsoft.card.adaptive" {
            return Err("no message with a card");
        }
        let card = &attachment["content"];
        let body = card["body"].as_array().filter(|body| !body.is_empty()).ok_or("no body")?;
        if card["type"] != "AdaptiveCard" || card["version"] != "1.4" {
            return Err("no card");
        }
        let run = |run: &Value| {
            let text = run["text"].as_str().unwrap_or_default();
            run["type"] == "TextRun" && !text.is_empty() && !text.contains("{{")
        };
        let runs = |block: &Value| block["inlines"].as_array().is_some_and(|runs| runs.iter().all(run));
        if !body.iter().all(|block| block["type"] == "RichTextBlock" && runs(block)) {
            return Err("a block that is none, or one with markup");
        }
        let link = |action: &Value| action["url"].as_str().is_some_and(|url| Url::parse(url).is_ok());
        if !card["actions"].as_array().is_some_and(|actions| actions.len() <= 6 && actions.iter().all(link)) {
            return Err("actions");
        }
        Ok(())
    }

    fn answer(request: &Request) -> Reply {
        match check(&request.json()) {
            Ok(()) => Reply::new(202, ""),
            Err(error) => Reply::new(400, error),
        }
    }

    fn sink(receiver: &Receiver) -> Teams {
        let url = Some(Secret::new(receiver.url(HOOK)));
        Teams::build(&TeamsConfig { webhook_url: url, webhook_url_file: None }, &page()).unwrap()
    }

    fn page() -> Page {
        Page::new(Some("https://siren.example.com")).unwrap()
    }

    fn texts(payload: &Value) -> Vec<String> {
        let body = payload["attachments"][0]["content"]["body"].as_array().unwrap();
        let text = |block: &Value| {
            block["inlines"].as_array().unwrap().iter().map(|run| run["text"].as_str().unwrap()).collect::<String>()
        };
        body.iter().map(text).collect()
    }

    fn now() -> Timestamp {
        at("2026-11-21T05:00:00Z")
    }

    #[tokio::test]
    async fn a_person_on_call_finds_everything() {
        let receiver = Receiver::start(answer).await;
        let message = message(vec![item(Kind::Firing, alert("a1", "r1", Level::High))]);
        assert_eq!(sink(&receiver).send(&message, now()).await, Ok(Sent::default()));
        let payload = receiver.requests()[0].json();
        let expected = [
            "🟠 High · Title of r1",
            "alice read secret payments/db-creds from 10.0.0.1 (get, 200)",
            "Who: alice",
            "Did: get secrets payments/db-creds",
            "From: 10.0.0.1",
            "Result: 200 allowed",
            "Seen: 3× in 4 min 11 s, 2026-11-21 04:00:00 – 04:04:12 UTC",
            "Cluster: prod-eu",
            "Group: user.username alice",
            "User agent: kubectl/v1.36.2",
            "What to do: https://runbooks.example.com/secrets",
            "Matched",
            "objectRef.resource = secrets",
            "Rule r1 · Alert a1 · Audit IDs 5f9d2c1e-0000-4000-8000-000000000001 · Tags attack.t1552.007",
        ];
        assert_eq!(texts(&payload), expected);
        let actions = &payload["attachments"][0]["content"]["actions"];
        assert_eq!(actions[0]["url"], "https://siren.example.com/?alert=a1");
        assert_eq!(actions[1]["url"], "https://runbooks.example.com/secrets");
    }

    #[test]
    fn many_alerts_are_one_card_and_an_end_is_a_line() {
        let items = |kind, n: usize| {
            (0..n).map(|n| item(kind, alert(&format!("a{n}"), &format!("r{}", n % 4), Level::Low))).collect::<Vec<_>>()
        };
        let firing = texts(&payload(&message(items(Kind::Firing, 37)), &page()));
        assert!(firing[0].ends_with("×37") && firing[21].starts_with("+17 more of 4 rules: "), "{firing:#?}");
        let digest = Some(Digest { alerts: 37, rules: 4 });
        let digest = payload(&Message { items: items(Kind::Firing, 37), digest, ..Message::default() }, &page());
        let told = texts(&digest);
        assert_eq!(told[0], "+37 more of 4 rules");
        let end = [
            "What to do (Title of r2): https://runbooks.example.com/secrets",
            "What to do about 1 more rule stands in their alerts",
            "All of them: kubesiren alerts list --since 2026-11-21T04:00:00Z",
        ];
        assert!(told.ends_with(&end.map(str::to_owned)), "{told:#?}");
        assert_eq!(digest["attachments"][0]["content"]["actions"][0]["url"], "https://siren.example.com/");
        let end = texts(&payload(&message(items(Kind::Resolved, 1)), &page()));
        assert!(end.len() == 1 && end[0].starts_with("✅ Resolved · Title of r0: alice read"), "{end:?}");
        let story = texts(&payload(&message(vec![item(Kind::Firing, incident())]), &page()));
        assert!(story.contains(&"04:04:12 🟠 Two ×3: alice did Two <b>".to_owned()), "{story:#?}");
    }

    #[test]
    fn whatever_an_event_says_teams_takes_it() {
        let evil = "[x](http://evil) **b** <at>all</at> {{DATE(2017-02-14T06:08:39Z)}} \u{202e}\n";
        for text in [evil, &evil.repeat(60), &"🙂".repeat(3_000), &"{".repeat(500), "", " "] {
            for n in [1, 2, 30] {
                for kind in [Kind::Firing, Kind::Resolved] {
                    let items: Vec<_> = (0..n).map(|_| item(kind, hostile("id", text))).collect();
                    let digest = Message {
                        items: items.clone(),
                        digest: Some(Digest { alerts: n, rules: 1 }),
                        ..Message::default()
                    };
                    for payload in [payload(&message(items), &page()), payload(&digest, &page())] {
                        check(&payload).unwrap_or_else(|error| panic!("{error} at {n} {kind:?}: {payload}"));
                        assert!(!payload.to_string().contains('\u{202e}'));
                    }
                }
            }
        }
    }

    #[tokio::test]
    async fn answers_mean_what_they_usually_mean_and_the_address_is_not_shown() {
        for (status, retried) in [(429, true), (502, true), (401, true), (404, true), (400, false), (413, false)] {
            let body = format!("no {HOOK} s1gnature");
            let receiver = Receiver::start(move |_| Reply::new(status, body.clone()).header("Retry-After", "4")).await;
            let one = message(vec![item(Kind::Firing, alert("a", "r", Level::Low))]);
            let error = sink(&receiver).send(&one, now()).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{status}: {error:?}");
            let text = error.to_string();
            assert!(!text.contains("s3cr3t") && !text.contains("s1gnature"), "{text}");
        }
        assert!(Teams::build(&TeamsConfig::default(), &Page::default()).err().unwrap().contains("webhook_url_file"));
    }
}
