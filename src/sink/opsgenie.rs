//! Opsgenie, and what speaks its API, such as the operations of Jira Service Management: an alert that its end closes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::facts::{Style, facts, report};
use super::http::{self, exchange};
use super::tls::TlsConfig;
use super::{Medium, Message, Sending, Sent, Traits};
use crate::alert::{Alert, Level, Status};
use crate::clock::Timestamp;
use crate::text::{fit, shorten};
use crate::units::Secret;

/// Where Opsgenie's API is.
const SERVICE: &str = "https://api.opsgenie.com/v2";
/// Characters that a message may have.
const MESSAGE_MAX: usize = 130;
/// Below the 15 000 that a description may have.
const DESCRIPTION_MAX: usize = 12_000;
const ALIAS_MAX: usize = 512;
const TAGS_MAX: usize = 20;
const TAG_MAX: usize = 50;
/// What is shown is read as HTML.
const STYLE: Style = Style { text: escaped, value: escaped };

/// `type: opsgenie`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OpsgenieConfig {
    /// The key of an API integration (a secret).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// File that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Another base than Opsgenie's: `https://api.eu.opsgenie.com/v2`, or
    /// `https://api.atlassian.com/jsm/ops/integration/v2` for Jira Service Management.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
    /// Who is called; none leaves it to the integration.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub responders: Vec<Responder>,
    /// Tags added to every alert.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// Somebody who is called, by name or by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Responder {
    /// What it is.
    #[serde(rename = "type")]
    pub kind: ResponderKind,
    /// Name of a team, an escalation or a schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A user's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The id, instead of a name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// Who can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ResponderKind {
    /// A team.
    Team,
    /// One person.
    User,
    /// An escalation.
    Escalation,
    /// Whoever is on call.
    Schedule,
}

/// Creates and closes alerts.
pub struct Opsgenie {
    client: Client,
    url: Url,
    authorization: HeaderValue,
    responders: Vec<Responder>,
    tags: Vec<String>,
    /// What must not be quoted from an answer.
    secret: String,
}

impl Opsgenie {
    pub(super) fn build(config: &OpsgenieConfig) -> Result<Self, String> {
        let key = Secret::load(config.api_key.as_ref(), config.api_key_file.as_ref())?;
        let key = key.ok_or("give api_key_file: the key of an API integration")?;
        let base = http::url(config.api_url.as_deref().unwrap_or(SERVICE), "api_url")?;
        for (n, responder) in config.responders.iter().enumerate() {
            let names = [&responder.name, &responder.username, &responder.id].into_iter().flatten().count();
            let user = responder.kind == ResponderKind::User;
            if names != 1 || user && responder.name.is_some() || !user && responder.username.is_some() {
                return Err(format!(
                    "responders[{n}]: give an `id`, or the `username` of a user, the `name` of another"
                ));
            }
        }
        Ok(Self {
            client: http::client_for(&base, &TlsConfig::default())?,
            url: http::below(&base, "alerts"),
            authorization: http::scheme("GenieKey", &key, "api_key")?,
            responders: config.responders.clone(),
            tags: config.tags.clone(),
            secret: key.expose().to_owned(),
        })
    }

    fn create(&self, alert: &Alert) -> Value {
        let rule = &alert.rule;
        let tags = self.tags.iter().chain(&rule.tags).take(TAGS_MAX).map(|tag| shorten(tag, TAG_MAX));
        let message = escaped(&format!("{}: {}", rule.title, alert.summary), MESSAGE_MAX);
        let mut create = json!({
            "message": message,
            "alias": alias(alert),
            "description": report(alert, STYLE, DESCRIPTION_MAX),
            "tags": tags.filter(|tag| !tag.trim().is_empty()).collect::<Vec<_>>(),
            "details": details(alert),
            "entity": shorten(&alert.cluster, ALIAS_MAX),
            "source": "Kubesiren",
            "priority": priority(rule.level),
        });
        if !self.responders.is_empty() {
            create["responders"] = json!(self.responders);
        }
        create
    }

    /// Where an alert of this alias is closed.
    fn close_url(&self, alert: &Alert) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.push(&alias(alert)).push("close");
        }
        url.set_query(Some("identifierType=alias"));
        url
    }
}

/// The same for an alert's beginning and end.
fn alias(alert: &Alert) -> String {
    shorten(&alert.id, ALIAS_MAX)
}

/// Far below the 8 000 characters that they may have in all.
fn details(alert: &Alert) -> BTreeMap<String, String> {
    let facts = facts(alert, STYLE).into_iter().map(|(name, value)| (name.to_owned(), value));
    let ids = [("Rule", &alert.rule.id), ("Alert", &alert.id)].map(|(name, id)| (name.to_owned(), escaped(id, 100)));
    facts.chain(ids).collect()
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::Critical => "P1",
        Level::High => "P2",
        Level::Medium => "P3",
        Level::Low => "P4",
        Level::Informational => "P5",
    }
}

fn escaped(text: &str, max: usize) -> String {
    fit(text, max, |c, _| match c {
        '&' => Some("&amp;"),
        '<' => Some("&lt;"),
        '>' => Some("&gt;"),
        _ => None,
    })
}

impl Medium for Opsgenie {
    fn traits(&self) -> Traits {
        Traits { batch_max: 1, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            for item in &message.items {
                let (url, body) = match item.alert.status {
                    Status::Firing => (self.url.clone(), self.create(&item.alert)),
                    Status::Resolved => (self.close_url(&item.alert), json!({"source": "Kubesiren"})),
                };
                let request = self.client.post(url).header(AUTHORIZATION, self.authorization.clone());
                let request = request.header(CONTENT_TYPE, "application/json").body(body.to_string());
                exchange(request, now).await?.usual(&[&self.secret])?;
            }
            Ok(Sent::default())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::super::SendError;
    use super::super::fake::{Receiver, Reply, Request};
    use super::super::samples::{alert, at, hostile, item, message};
    use super::*;
    use crate::store::Kind;
    use crate::text::width;

    const KEY: &str = "eb243592-s3cr3t";

    /// Alerts by their alias, and whether they are open.
    type Alerts = Arc<Mutex<BTreeMap<String, bool>>>;

    /// As Opsgenie takes requests: 202 for whatever can be read, 422 where a field is not as it must be.
    fn answer(alerts: &Alerts, request: &Request) -> Reply {
        if request.header("authorization") != format!("GenieKey {KEY}") {
            return Reply::new(401, r#"{"message":"Could not authenticate"}"#);
        }
        let body = request.json();
        let mut alerts = alerts.lock().unwrap();
        if request.path == "/v2/alerts" {
            let long = |key: &str, max| body[key].as_str().is_none_or(|text| text.is_empty() || width(text) > max);
            let details: usize =
                body["details"].as_object().unwrap().values().map(|text| width(text.as_str().unwrap())).sum();
            let tags = body["tags"].as_array().unwrap();
            let tag = |tag: &Value| tag.as_str().is_some_and(|tag| !tag.is_empty() && width(tag) <= 50);
            if long("message", 130) || long("alias", 512) || long("description", 15_000) {
                return Reply::new(422, r#"{"message":"Request body is not processable","errors":{"message":"long"}}"#);
            }
            if details > 8_000 || tags.len() > 20 || !tags.iter().all(tag) {
                return Reply::new(422, r#"{"message":"Request body is not processable","errors":{"tags":"many"}}"#);
            }
            alerts.insert(body["alias"].as_str().unwrap().to_owned(), true);
        } else if let Some(alias) =
            request.path.strip_prefix("/v2/alerts/").and_then(|rest| rest.strip_suffix("/close"))
        {
            alerts.entry(alias.to_owned()).and_modify(|open| *open = false);
        } else {
            return Reply::new(404, "");
        }
        Reply::new(202, r#"{"result":"Request will be processed"}"#)
    }

    async fn started() -> (Receiver, Alerts, Opsgenie) {
        let alerts = Alerts::default();
        let inner = Arc::clone(&alerts);
        let receiver = Receiver::start(move |request| answer(&inner, request)).await;
        let config = json!({"api_key": KEY, "api_url": receiver.url("/v2"), "tags": ["kubesiren"],
            "responders": [{"type": "team", "name": "soc"}]});
        let sink = Opsgenie::build(&serde_json::from_value(config).unwrap()).unwrap();
        (receiver, alerts, sink)
    }

    async fn send(sink: &Opsgenie, kind: Kind, alert: Alert) -> Result<Sent, SendError> {
        sink.send(&message(vec![item(kind, alert)]), at("2026-11-21T05:00:00Z")).await
    }

    #[tokio::test]
    async fn an_alert_is_opened_and_closed_by_its_alias() {
        let (receiver, alerts, sink) = started().await;
        send(&sink, Kind::Firing, alert("a1", "r", Level::Critical)).await.unwrap();
        assert_eq!(*alerts.lock().unwrap(), BTreeMap::from([("a1".to_owned(), true)]));
        send(&sink, Kind::Resolved, alert("a1", "r", Level::Critical)).await.unwrap();
        assert_eq!(*alerts.lock().unwrap(), BTreeMap::from([("a1".to_owned(), false)]));
        let created = receiver.requests()[0].json();
        for (field, value) in [
            ("/message", "Title of r: alice read secret payments/db-creds from 10.0.0.1 (get, 200)"),
            ("/priority", "P1"),
            ("/entity", "prod-eu"),
            ("/tags/0", "kubesiren"),
            ("/tags/1", "attack.t1552.007"),
            ("/responders/0/name", "soc"),
            ("/responders/0/type", "team"),
            ("/details/Who", "alice"),
        ] {
            assert_eq!(created.pointer(field), Some(&value.into()), "{field}");
        }
        let description = created["description"].as_str().unwrap();
        assert!(description.contains("What to do: https://runbooks.example.com/secrets"), "{description}");
    }

    #[tokio::test]
    async fn whatever_an_event_says_opsgenie_takes_it_and_nothing_is_markup() {
        let (receiver, _, sink) = started().await;
        for text in ["", " ", "<script>x</script>&\u{202e}", &"<".repeat(10_000), &"🙂".repeat(3_000)] {
            send(&sink, Kind::Firing, hostile("id", text)).await.unwrap_or_else(|error| panic!("{text:.20}: {error}"));
        }
        for request in receiver.requests() {
            let mut body = request.json();
            body["tags"].take();
            body["entity"].take();
            assert!(!body.to_string().contains(['<', '\u{202e}']), "{body}");
        }
    }

    #[tokio::test]
    async fn answers_mean_what_they_usually_mean() {
        for (status, retried) in [(422, false), (429, true), (500, true), (401, true), (403, true)] {
            let receiver = Receiver::start(move |_| Reply::new(status, format!("no {KEY}"))).await;
            let config = json!({"api_key": KEY, "api_url": receiver.url("/v2")});
            let sink = Opsgenie::build(&serde_json::from_value(config).unwrap()).unwrap();
            let error = send(&sink, Kind::Firing, alert("a", "r", Level::Low)).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{status}");
            assert!(!error.to_string().contains(KEY), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for responder in
            [json!({"type": "team"}), json!({"type": "user", "name": "x"}), json!({"type": "team", "username": "x"})]
        {
            let config = serde_json::from_value(json!({"api_key": KEY, "responders": [responder]})).unwrap();
            assert!(Opsgenie::build(&config).err().unwrap().starts_with("responders[0]"), "{responder}");
        }
        assert!(Opsgenie::build(&OpsgenieConfig::default()).err().unwrap().contains("api_key_file"));
        assert_eq!(Level::ALL.map(priority), ["P5", "P4", "P3", "P2", "P1"]);
    }
}
