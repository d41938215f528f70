//! Splunk, by its HTTP Event Collector. Where the token has acknowledgements, an alert is sent when it is indexed.

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::facts::in_short;
use super::http::{self, Answer, exchange};
use super::tls::TlsConfig;
use super::{Item, Medium, Message, SendError, Sending, Sent, Traits};
use crate::clock::Timestamp;
use crate::text::visible_json;
use crate::units::Secret;

/// Alerts in one request; Splunk takes 1 MB of it by default, and an alert has a few KB.
const BATCH_MAX: usize = 50;
/// Of one event, in bytes: what is longer is told in short.
const EVENT_MAX: usize = 900 << 10;
/// Of its summary then.
const SUMMARY_MAX: usize = 800;
/// From one question for an acknowledgement to the next, at first; each waits twice as long as the one before.
const ASK_AFTER: Duration = Duration::from_millis(250);
/// Splunk acknowledges within seconds where it is well. What is sent again after that may be indexed twice.
const ASKED_MAX: u32 = 7;

/// `type: splunk`: one event per alert and per end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SplunkConfig {
    /// Base URL of the collector: `https://splunk:8088`.
    pub url: String,
    /// The collector's token (a secret).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The index; without one, the token's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// The events' source.
    #[serde(default = "source")]
    pub source: String,
    /// The events' source type.
    #[serde(default = "sourcetype")]
    pub sourcetype: String,
    /// Whom it trusts, and how it shows who it is.
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
}

fn source() -> String {
    "kubesiren".to_owned()
}

fn sourcetype() -> String {
    "kubesiren:alert".to_owned()
}

/// Posts alerts to a collector.
pub struct Splunk {
    client: Client,
    url: Url,
    ack: Url,
    authorization: HeaderValue,
    /// By which the collector tells our acknowledgements from those of others: any GUID.
    channel: String,
    config: SplunkConfig,
    /// What must not be quoted from an answer.
    secret: String,
    ask_after: Duration,
}

/// What the collector answers.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Told {
    code: Option<u64>,
    text: Option<String>,
    ack_id: Option<u64>,
}

impl Splunk {
    pub(super) fn build(config: &SplunkConfig) -> Result<Self, String> {
        let base = http::url(&config.url, "url")?;
        let token = Secret::load(config.token.as_ref(), config.token_file.as_ref())?;
        let token = token.ok_or("give token_file: the token of an HTTP Event Collector")?;
        let channel = guid();
        let mut ack = http::below(&base, "services/collector/ack");
        ack.set_query(Some(&format!("channel={channel}")));
        Ok(Self {
            client: http::client_for(&base, &config.tls)?,
            url: http::below(&base, "services/collector/event"),
            ack,
            authorization: http::scheme("Splunk", &token, "token")?,
            channel,
            config: config.clone(),
            secret: token.expose().to_owned(),
            ask_after: ASK_AFTER,
        })
    }

    fn event(&self, item: &Item) -> Result<String, SendError> {
        let alert = &item.alert;
        let event = serde_json::to_value(alert).map_err(|error| SendError::reject(error.to_string()))?;
        let mut event = json!({
            "time": alert.told_of().as_seconds(),
            "host": alert.cluster,
            "source": self.config.source,
            "sourcetype": self.config.sourcetype,
            "event": event,
        });
        if let Some(index) = &self.config.index {
            event["index"] = index.as_str().into();
        }
        let whole = visible_json(event.to_string());
        if whole.len() <= EVENT_MAX {
            return Ok(whole);
        }
        event["event"] = in_short(alert, SUMMARY_MAX);
        event["host"] = event["event"]["cluster"].clone();
        Ok(visible_json(event.to_string()))
    }

    async fn ask(&self, url: &Url, body: String, now: Timestamp) -> Result<Answer, SendError> {
        let request: RequestBuilder = self.client.post(url.clone()).header(AUTHORIZATION, self.authorization.clone());
        exchange(request.header("X-Splunk-Request-Channel", &self.channel).body(body), now).await
    }

    async fn deliver(&self, message: &Message, now: Timestamp) -> Result<Sent, SendError> {
        let events = message.items.iter().map(|item| self.event(item)).collect::<Result<Vec<_>, _>>()?;
        let answer = self.ask(&self.url, events.join("\n"), now).await?;
        let told = self.judge(&answer)?;
        if let Some(id) = told.ack_id {
            self.acknowledged(id, now).await?;
        }
        Ok(Sent::default())
    }

    /// A status and a code: some codes are about the alert, some about the token and what it may do.
    fn judge(&self, answer: &Answer) -> Result<Told, SendError> {
        let told = serde_json::from_str::<Told>(&answer.body).unwrap_or_default();
        let Err(error) = answer.usual(&[&self.secret]) else {
            // A proxy's page has no code.
            return match told.code {
                Some(0) => Ok(told),
                _ => Err(SendError::retry("an answer that is not Splunk's")),
            };
        };
        let code = told.code.unwrap_or_default();
        let reason = match &told.text {
            Some(text) => format!("{error} (code {code}: {})", crate::text::shorten(text, 100)),
            None => error.to_string(),
        };
        // No such index, no channel, no acknowledgements: somebody has to act, and then the alerts shall come.
        let configuration = answer.status == 400 && matches!(code, 7 | 10 | 11 | 14);
        Err(match error {
            SendError::Reject { .. } if configuration => SendError::retry(reason),
            SendError::Reject { .. } => SendError::reject(reason),
            SendError::Retry { after, .. } => SendError::Retry { after, reason },
        })
    }

    /// Waits until what was sent is indexed.
    async fn acknowledged(&self, id: u64, now: Timestamp) -> Result<(), SendError> {
        for n in 0..ASKED_MAX {
            sleep(self.ask_after * 2_u32.pow(n.min(5))).await;
            let answer = self.ask(&self.ack, json!({"acks": [id]}).to_string(), now).await?;
            // The alerts are taken: nothing that is said to this question is about them.
            answer.usual(&[&self.secret]).map_err(SendError::later)?;
            let told: Value = serde_json::from_str(&answer.body).unwrap_or_default();
            if told["acks"][id.to_string()] == true {
                return Ok(());
            }
        }
        Err(SendError::retry("Splunk took the alerts, but does not say that they are indexed"))
    }
}

/// A GUID that nobody else has.
fn guid() -> String {
    let random = || format!("{:016x}", RandomState::new().hash_one(std::process::id()));
    let text = random() + &random();
    // The version is 4: random.
    format!("{}-{}-4{}-8{}-{}", &text[..8], &text[8..12], &text[13..16], &text[17..20], &text[20..32])
}

impl Medium for Splunk {
    fn traits(&self) -> Traits {
        Traits { batch_max: BATCH_MAX, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(self.deliver(message, now))
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Reply;
    use super::super::fake::splunk::{self as fake, TOKEN};
    use super::super::samples::{alert, at, hostile, item, message};
    use super::*;
    use crate::alert::{Alert, Level};
    use crate::store::Kind;

    fn sink(splunk: &fake::Splunk) -> Splunk {
        let config = json!({"url": splunk.http.url(""), "token": TOKEN, "index": "k8s"});
        let mut sink = Splunk::build(&serde_json::from_value(config).unwrap()).unwrap();
        sink.ask_after = Duration::from_millis(1);
        sink
    }

    async fn send(sink: &Splunk) -> Result<Sent, SendError> {
        let items =
            vec![item(Kind::Firing, alert("a", "r", Level::High)), item(Kind::Resolved, alert("b", "r", Level::Low))];
        sink.send(&message(items), at("2026-11-21T05:00:00Z")).await
    }

    #[tokio::test]
    async fn alerts_are_events() {
        let splunk = fake::Splunk::start(false).await;
        assert_eq!(send(&sink(&splunk)).await, Ok(Sent::default()));
        let events = splunk.events();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0]["time"], 1_795_233_600.123_456);
        assert_eq!((&events[0]["host"], &events[0]["index"]), (&"prod-eu".into(), &"k8s".into()));
        assert_eq!((&events[0]["source"], &events[0]["sourcetype"]), (&"kubesiren".into(), &"kubesiren:alert".into()));
        let told: Alert = serde_json::from_value(events[0]["event"].clone()).unwrap();
        assert_eq!(told, alert("a", "r", Level::High));
        assert_eq!(events[1]["event"]["status"], "resolved");
    }

    #[tokio::test]
    async fn with_acknowledgements_an_alert_is_sent_when_it_is_indexed() {
        let splunk = fake::Splunk::start(true).await;
        let sink = sink(&splunk);
        splunk.index_after(3);
        assert_eq!(send(&sink).await, Ok(Sent::default()));
        assert_eq!(splunk.asked(), 3);
        splunk.index_after(u32::MAX);
        let error = send(&sink).await.unwrap_err();
        assert!(matches!(&error, SendError::Retry { reason, .. } if reason.contains("indexed")), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_said_to_the_question_whether_it_is_indexed_makes_no_dead_letter() {
        let splunk = fake::Splunk::start(true).await;
        let sink = sink(&splunk);
        for (status, body) in [(400, r#"{"text":"ACK is disabled","code":14}"#), (400, ""), (413, "no"), (503, "")] {
            splunk.script(Reply::new(200, r#"{"text":"Success","code":0,"ackId":0}"#));
            splunk.script(Reply::new(status, body));
            let error = send(&sink).await.unwrap_err();
            assert!(matches!(error, SendError::Retry { .. }), "{status} {body}: {error:?}");
        }
    }

    #[tokio::test]
    async fn what_is_too_long_for_a_request_is_told_in_short() {
        let splunk = fake::Splunk::start(false).await;
        let mut long = alert("a", "r", Level::High);
        long.event.user.groups = vec!["\u{e0041}".repeat(512); 200];
        let sent = sink(&splunk).send(&message(vec![item(Kind::Firing, long)]), at("2026-11-21T05:00:00Z")).await;
        assert_eq!(sent, Ok(Sent::default()));
        let event = &splunk.events()[0]["event"];
        assert_eq!((&event["id"], &event["cut"]), (&"a".into(), &true.into()));
    }

    #[tokio::test]
    async fn codes_decide_between_waiting_and_giving_up() {
        let splunk = fake::Splunk::start(false).await;
        let sink = sink(&splunk);
        for (status, code, retried) in [
            (503, 9, true),
            (500, 8, true),
            (429, 0, true),
            (401, 3, true),
            (403, 4, true),
            (400, 7, true),
            (400, 10, true),
            (400, 6, false),
            (400, 12, false),
            (413, 27, false),
        ] {
            let body = json!({"text": "no", "code": code, "token": TOKEN}).to_string();
            splunk.script(Reply::new(status, body).header("Retry-After", "3"));
            let error = send(&sink).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{status} {code}: {error:?}");
            assert!(!error.to_string().contains(TOKEN), "{error}");
        }
        splunk.script(Reply::new(200, "<html>a proxy's login page</html>"));
        assert!(matches!(send(&sink).await, Err(SendError::Retry { .. })));
        splunk.script(Reply::new(503, r#"{"text":"Server is busy","code":9}"#));
        assert!(send(&sink).await.unwrap_err().to_string().contains("code 9: Server is busy"));
    }

    #[tokio::test]
    async fn no_event_ends_early_whatever_it_says() {
        let splunk = fake::Splunk::start(false).await;
        let sink = sink(&splunk);
        let evil = hostile("id", "\"}}\n{\"event\": \"forged\"}\u{202e}");
        let sent = sink.send(&message(vec![item(Kind::Firing, evil.clone())]), at("2026-11-21T05:00:00Z")).await;
        assert_eq!(sent, Ok(Sent::default()));
        assert_eq!(splunk.events().len(), 1);
        assert_eq!(serde_json::from_value::<Alert>(splunk.events()[0]["event"].clone()).unwrap(), evil);
    }

    #[test]
    fn every_sink_has_a_channel_of_its_own() {
        let (one, two) = (guid(), guid());
        assert_ne!(one, two);
        let form = regex::Regex::new("^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}$").unwrap();
        assert!(form.is_match(&one), "{one}");
    }
}
