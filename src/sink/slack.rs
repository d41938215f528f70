//! Slack, by incoming webhook or by bot token.

mod render;

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::http::{self, Answer, exchange};
use super::page::Page;
use super::{Item, Medium, Message, Rate, SendError, Sending, Sent, Traits};
use crate::alert::Status;
use crate::clock::Timestamp;
use crate::store::Kind;
use crate::units::Secret;

/// Slack takes about one message a second per channel, and short bursts.
const RATE: Rate = Rate { every: Duration::from_secs(1), burst: 10 };
/// More would not be read, and one message holds no more.
const BATCH_MAX: usize = 100;

/// `type: slack`: either a webhook URL, or a bot token and a channel.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SlackConfig {
    /// The incoming webhook's URL (a secret).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url: Option<Secret>,
    /// File that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhook_url_file: Option<PathBuf>,
    /// A bot token (`xoxb-…`); messages are then updated in place as episodes grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// Channel id or name, with a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// Base of the Web API; changed only for tests and proxies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
}

/// Posts to one channel.
pub struct Slack {
    client: Client,
    way: Way,
    page: Page,
}

enum Way {
    /// Whoever knows the URL may post; nothing that was posted can be changed.
    Hook(Url),
    /// As a bot, which may change its messages and answer them.
    Bot { api: Url, token: HeaderValue, channel: String },
}

impl Slack {
    pub(super) fn build(config: &SlackConfig, page: &Page) -> Result<Self, String> {
        let hook = Secret::load(config.webhook_url.as_ref(), config.webhook_url_file.as_ref())?;
        let token = Secret::load(config.token.as_ref(), config.token_file.as_ref())?;
        let way = match (hook, token, &config.channel) {
            (Some(hook), None, None) => Way::Hook(http::url(hook.expose(), "webhook_url")?),
            (Some(_), None, Some(_)) => {
                return Err("channel goes with token; a webhook_url has its own channel".to_owned());
            }
            (None, Some(token), Some(channel)) if !channel.trim().is_empty() => Way::Bot {
                api: api(config.api_url.as_deref())?,
                token: http::header(&format!("Bearer {}", token.expose())).map_err(|()| "token is no bot token")?,
                channel: channel.trim().to_owned(),
            },
            (None, Some(_), _) => return Err("channel is missing: a token needs to know where to post".to_owned()),
            (Some(_), Some(_), _) => return Err("give webhook_url or token, not both".to_owned()),
            (None, None, _) => return Err("give webhook_url_file, or token_file and channel".to_owned()),
        };
        let plain = matches!(&way, Way::Hook(url) | Way::Bot { api: url, .. } if url.scheme() == "http");
        Ok(Self { client: http::client(plain)?, way, page: page.clone() })
    }

    async fn deliver(&self, message: &Message, now: Timestamp) -> Result<Sent, SendError> {
        let Way::Bot { channel, .. } = &self.way else {
            self.post(message, None, now).await?;
            return Ok(Sent::default());
        };
        // The worker puts only alerts of one earlier message together.
        let earlier = message.items.first().and_then(|item| item.remembered.as_deref()).and_then(Place::parse);
        if let Some(place) = earlier {
            return self.follow_up(message, &place, now).await;
        }
        let answer = self.post(message, Some(channel), now).await?;
        let place = Place::of(&answer, message.items.len() > 1);
        let remember = match place {
            // A digest cannot be changed for one alert, nor does it show each: their ends are told on their own.
            Some(place) if message.digest.is_none() => {
                let opened = message.items.iter().filter(|item| item.kind == Kind::Firing);
                opened.map(|item| (item.alert.id.clone(), place.to_string())).collect()
            }
            _ => Vec::new(),
        };
        Ok(Sent { remember, ..Sent::default() })
    }

    /// Changes an earlier message, and says below it when its episodes ended: a change alone notifies nobody.
    async fn follow_up(&self, message: &Message, place: &Place, now: Timestamp) -> Result<Sent, SendError> {
        let ended: Vec<_> = message.items.iter().filter(|item| item.kind == Kind::Resolved).cloned().collect();
        let mut gone = false;
        if let Some(mut payload) = self.changed(message, place) {
            payload["channel"] = place.channel.clone().into();
            payload["ts"] = place.ts.clone().into();
            gone = match self.call("chat.update", &payload, now).await {
                Ok(_) => false,
                Err(Refused::Message(_)) => true, // Deleted, or too old to be edited.
                Err(Refused::Send(error)) => return Err(error),
            };
        }
        if ended.is_empty() {
            return Ok(Sent::default());
        }
        let mut payload = render::ended(&ended);
        payload["channel"] = place.channel.clone().into();
        if !gone {
            payload["thread_ts"] = place.ts.clone().into();
        }
        match self.call("chat.postMessage", &payload, now).await {
            Err(Refused::Send(error)) => Err(error),
            // The message shows the end already, unless it is gone, and then there is nobody to tell.
            Ok(_) | Err(Refused::Message(_)) => Ok(Sent::default()),
        }
    }

    /// How the earlier message looks by now. One of several alerts is made anew of all of them.
    fn changed(&self, message: &Message, place: &Place) -> Option<Value> {
        if !place.group {
            return Some(render::payload(message, &self.page));
        }
        let mut items: Vec<Item> = message.together.iter().cloned().map(Item::of).collect();
        // What goes on is seen first; the message says that it is over when all of it is.
        items.sort_by_key(|item| item.alert.status == Status::Resolved);
        (!items.is_empty()).then(|| render::payload(&Message::of(items), &self.page))
    }

    /// Posts a new message; should Slack not like how it looks, once more as plain text.
    async fn post(&self, message: &Message, channel: Option<&str>, now: Timestamp) -> Result<Value, SendError> {
        let mut refused = String::new();
        for mut payload in [render::payload(message, &self.page), render::plain_payload(message, &self.page)] {
            if let Some(channel) = channel {
                payload["channel"] = channel.into();
            }
            match self.call("chat.postMessage", &payload, now).await {
                Ok(answer) => return Ok(answer),
                Err(Refused::Send(error)) => return Err(error),
                Err(Refused::Message(error)) => refused = error,
            }
        }
        Err(SendError::reject(refused))
    }

    async fn call(&self, method: &str, payload: &Value, now: Timestamp) -> Result<Value, Refused> {
        let request = match &self.way {
            Way::Hook(url) => self.client.post(url.clone()),
            Way::Bot { api, token, .. } => {
                let mut url = api.clone();
                url.set_path(&format!("{}/{method}", api.path().trim_end_matches('/')));
                self.client.post(url).header(AUTHORIZATION, token.clone())
            }
        };
        let request = request.header(CONTENT_TYPE, "application/json; charset=utf-8").body(payload.to_string());
        let answer = exchange(request, now).await.map_err(Refused::Send)?;
        judge(&answer)
    }
}

fn api(base: Option<&str>) -> Result<Url, String> {
    http::url(base.unwrap_or("https://slack.com/api"), "api_url")
}

/// Where a message is: "channel ts", and whether it tells of several alerts.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    channel: String,
    ts: String,
    group: bool,
}

impl Place {
    fn of(answer: &Value, group: bool) -> Option<Self> {
        let text = |key: &str| answer[key].as_str().filter(|text| !text.contains(' ')).map(str::to_owned);
        Some(Self { channel: text("channel")?, ts: text("ts")?, group })
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(' ').map(str::to_owned);
        Some(Self { channel: parts.next()?, ts: parts.next()?, group: parts.next().is_some() })
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}{}", self.channel, self.ts, if self.group { " group" } else { "" })
    }
}

/// Why Slack did not do it.
enum Refused {
    /// Because of this message: another one may do.
    Message(String),
    /// For a reason that has nothing to do with it.
    Send(SendError),
}

/// Webhooks answer `ok` or an error's name as text; the Web API answers 200 with `ok` and `error` in JSON.
fn judge(answer: &Answer) -> Result<Value, Refused> {
    let json = serde_json::from_str::<Value>(&answer.body).ok().filter(Value::is_object);
    let name = match &json {
        Some(json) if json["ok"] == true && answer.status.is_success() => return Ok(json.clone()),
        Some(json) => json["error"].as_str().unwrap_or_default(),
        None if answer.status.is_success() && answer.body.trim() == "ok" => return Ok(Value::Null),
        None => answer.body.trim(),
    };
    // Names are quoted, other texts are not: a proxy's page may repeat the URL, which is the secret.
    let named = !name.is_empty() && name.len() < 60 && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let name = if named { name } else { "an answer that is not Slack's" };
    let status = answer.status.as_u16();
    let busy = status == 429 || answer.status.is_server_error() || BUSY.contains(&name) || !named;
    if busy {
        let reason = format!("Slack answered {status}: {name}");
        return Err(Refused::Send(SendError::Retry { after: answer.after, reason }));
    }
    if matches!(status, 401 | 403 | 404 | 410) || DESTINATION.contains(&name) {
        // Somebody has to act, and then the alerts shall come: they wait, with a probe now and then.
        let reason = format!("Slack answered {status}: {name}; check the webhook or the token, and the channel");
        return Err(Refused::Send(SendError::retry(reason)));
    }
    Err(Refused::Message(format!("Slack answered {status}: {name}")))
}

/// Errors that pass by themselves.
const BUSY: &[&str] = &[
    "accesslimited",
    "fatal_error",
    "internal_error",
    "rate_limited",
    "ratelimited",
    "request_timeout",
    "rollup_error",
    "service_unavailable",
    "team_added_to_org",
];

/// Errors of the channel or the credentials, whatever the message.
const DESTINATION: &[&str] = &[
    "access_denied",
    "account_inactive",
    "action_prohibited",
    "channel_is_archived",
    "channel_not_found",
    "ekm_access_denied",
    "enterprise_is_restricted",
    "invalid_auth",
    "invalid_token",
    "is_archived",
    "missing_scope",
    "no_active_hooks",
    "no_permission",
    "no_service",
    "no_team",
    "not_allowed_token_type",
    "not_authed",
    "not_in_channel",
    "org_login_required",
    "posting_to_general_channel_denied",
    "restricted_action",
    "team_disabled",
    "token_expired",
    "token_revoked",
    "user_not_found",
];

impl Medium for Slack {
    fn traits(&self) -> Traits {
        Traits {
            takes_updates: matches!(self.way, Way::Bot { .. }),
            for_people: true,
            batch_max: BATCH_MAX,
            resend: None,
            rate: Some(RATE),
            watchdog: None,
        }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(self.deliver(message, now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Reply;
    use super::super::fake::slack::{self as fake, CHANNEL, HOOK, TOKEN};
    use super::super::samples::{alert, at, hostile, item, message};
    use super::super::{Digest, Item};
    use super::*;
    use crate::alert::Level;

    fn now() -> Timestamp {
        at("2026-11-21T05:00:00Z")
    }

    fn hook(slack: &fake::Slack) -> Slack {
        let config = SlackConfig { webhook_url: Some(Secret::new(slack.hook())), ..SlackConfig::default() };
        Slack::build(&config, &Page::default()).unwrap()
    }

    fn bot(slack: &fake::Slack) -> Slack {
        Slack::build(
            &SlackConfig {
                token: Some(Secret::new(TOKEN.to_owned())),
                channel: Some(CHANNEL.0.to_owned()),
                api_url: Some(slack.api()),
                ..SlackConfig::default()
            },
            &Page::default(),
        )
        .unwrap()
    }

    fn firing(id: &str) -> Item {
        item(Kind::Firing, alert(id, "r", Level::High))
    }

    #[tokio::test]
    async fn a_webhook_takes_alerts_and_their_ends() {
        let slack = fake::Slack::start().await;
        let sink = hook(&slack);
        assert!(!sink.traits().takes_updates);
        for message in [
            message(vec![firing("a")]),
            message(vec![item(Kind::Resolved, alert("a", "r", Level::High))]),
            message(vec![item(Kind::Firing, hostile("b", "<!channel> @here \u{202e}"))]),
        ] {
            assert_eq!(sink.send(&message, now()).await, Ok(Sent::default()));
        }
        assert_eq!(slack.messages().len(), 3);
    }

    #[tokio::test]
    async fn error_texts_decide_between_waiting_and_giving_up() {
        let slack = fake::Slack::start().await;
        let sink = hook(&slack);
        for (status, text, retried) in [
            (429, "rate_limited", true),
            (500, "rollup_error", true),
            (502, "<html>/services/T0/B0/s3cr3t</html>", true),
            (403, "invalid_token", true),
            (404, "no_service", true),
            (410, "channel_is_archived", true),
            (200, "<html>a proxy's login page</html>", true),
            (400, "too_many_attachments", false),
        ] {
            // A refused message is tried twice, the second time as plain text.
            slack.script(Reply::new(status, text));
            slack.script(Reply::new(status, text));
            let error = sink.send(&message(vec![firing("a")]), now()).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{status} {text}: {error}");
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
            while slack.script_left() > 0 {
                let _ = sink.send(&message(vec![firing("a")]), now()).await;
            }
        }
    }

    #[tokio::test]
    async fn retry_after_is_honoured() {
        let slack = fake::Slack::start().await;
        slack.limit(1, Duration::from_secs(30));
        let sink = hook(&slack);
        assert!(sink.send(&message(vec![firing("a")]), now()).await.is_ok());
        let error = sink.send(&message(vec![firing("b")]), now()).await.unwrap_err();
        assert!(matches!(error, SendError::Retry { after: Some(after), .. } if after == Duration::from_secs(30)));
    }

    #[tokio::test]
    async fn a_message_that_slack_dislikes_comes_as_plain_text() {
        let slack = fake::Slack::start().await;
        slack.script(Reply::new(400, "invalid_blocks"));
        assert!(hook(&slack).send(&message(vec![firing("a")]), now()).await.is_ok());
        let posted = slack.messages();
        assert!(posted.len() == 1 && posted[0].payload.get("blocks").is_none(), "{posted:?}");
        assert!(posted[0].payload["text"].as_str().unwrap().contains("alice read secret"));
    }

    #[tokio::test]
    async fn a_bot_changes_its_message_and_answers_it_at_the_end() {
        let slack = fake::Slack::start().await;
        let sink = bot(&slack);
        let sent = sink.send(&message(vec![firing("a")]), now()).await.unwrap();
        let [(id, place)] = &sent.remember[..] else { panic!("one place: {sent:?}") };
        assert_eq!((id.as_str(), place.as_str()), ("a", "C0ALERTS 1763697600.000001"));
        for kind in [Kind::Update, Kind::Resolved] {
            let mut later = item(kind, alert("a", "r", Level::High));
            later.remembered = Some(place.clone());
            assert!(sink.send(&message(vec![later]), now()).await.is_ok());
        }
        let posted = slack.messages();
        assert_eq!(posted.len(), 2);
        assert_eq!(posted[0].updates, 2);
        assert!(posted[0].payload["blocks"][0].to_string().contains("✅ Resolved · High"));
        assert_eq!(posted[1].thread.as_deref(), Some("1763697600.000001"));
    }

    #[tokio::test]
    async fn a_message_of_many_alerts_changes_with_each_and_their_ends_are_told_in_the_thread() {
        let slack = fake::Slack::start().await;
        let sink = bot(&slack);
        let sent = sink.send(&message(vec![firing("a"), firing("b")]), now()).await.unwrap();
        assert_eq!(sent.remember.len(), 2);
        let mut both = ["a", "b"].map(|id| alert(id, "r", Level::High));
        for (kind, ended) in [(Kind::Update, vec![]), (Kind::Resolved, vec![0]), (Kind::Resolved, vec![0, 1])] {
            both[1].count += 1;
            ended.iter().for_each(|&n: &usize| both[n].status = Status::Resolved);
            let mut later = item(kind, both[ended.last().copied().unwrap_or(1)].clone());
            later.remembered = Some(sent.remember[1].1.clone());
            let together = Message { together: both.to_vec(), ..message(vec![later]) };
            assert!(sink.send(&together, now()).await.is_ok());
            let shown = slack.messages()[0].payload["blocks"].to_string();
            let head =
                if ended.len() == 2 { "✅ Resolved · High · Title of r ×2" } else { "🟠 High · Title of r ×2" };
            assert!(shown.contains(head) && shown.contains(&format!("({}× in", both[1].count)), "{shown}");
            assert_eq!(shown.matches("✅ Resolved · alice").count(), ended.len(), "{shown}");
        }
        let posted = slack.messages();
        assert_eq!((posted.len(), posted[0].updates), (3, 3));
        assert_eq!(posted[1].thread.as_deref(), Some(posted[0].ts.as_str()));
    }

    #[tokio::test]
    async fn a_deleted_message_does_not_stop_the_end_from_being_told() {
        let slack = fake::Slack::start().await;
        let mut later = item(Kind::Resolved, alert("a", "r", Level::High));
        later.remembered = Some("C0ALERTS 1.1".to_owned());
        assert!(bot(&slack).send(&message(vec![later]), now()).await.is_ok());
        assert_eq!(slack.messages().len(), 1);
    }

    #[tokio::test]
    async fn a_digest_is_not_remembered() {
        let slack = fake::Slack::start().await;
        let digest = Message {
            items: vec![firing("a"), firing("b")],
            digest: Some(Digest { alerts: 2, rules: 1 }),
            ..Message::default()
        };
        assert_eq!(bot(&slack).send(&digest, now()).await, Ok(Sent::default()));
    }

    #[tokio::test]
    async fn errors_in_a_200_are_errors() {
        let slack = fake::Slack::start().await;
        let sink = Slack::build(
            &SlackConfig {
                token: Some(Secret::new("xoxb-wrong".to_owned())),
                channel: Some("alerts".to_owned()),
                api_url: Some(slack.api()),
                ..SlackConfig::default()
            },
            &Page::default(),
        )
        .unwrap();
        let error = sink.send(&message(vec![firing("a")]), now()).await.unwrap_err();
        assert!(matches!(&error, SendError::Retry { reason, .. } if reason.contains("invalid_auth")), "{error}");
        assert!(!error.to_string().contains("xoxb"));
    }

    #[test]
    fn what_is_missing_is_said_and_secrets_are_not() {
        let build = |hook: Option<&str>, token: Option<&str>, channel: Option<&str>| {
            Slack::build(
                &SlackConfig {
                    webhook_url: hook.map(|text| Secret::new(text.to_owned())),
                    token: token.map(|text| Secret::new(text.to_owned())),
                    channel: channel.map(str::to_owned),
                    ..SlackConfig::default()
                },
                &Page::default(),
            )
            .err()
        };
        assert!(build(None, None, None).unwrap().contains("webhook_url_file"));
        assert!(build(None, Some("t"), None).unwrap().contains("channel"));
        assert!(build(Some("https://x"), Some("t"), Some("c")).unwrap().contains("not both"));
        assert!(!build(Some(HOOK), None, None).unwrap().contains("s3cr3t"));
        assert_eq!(build(Some("https://hooks.slack.com/services/x"), None, None), None);
    }
}
