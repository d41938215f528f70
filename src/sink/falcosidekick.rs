//! Falcosidekick, which passes alerts on to whatever it is set up for, in the shape of Falco's.

use std::collections::BTreeMap;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::facts::{Style, UNPINGED, evidence, mentions, times};
use super::http::{self, exchange};
use super::tls::TlsConfig;
use super::{Medium, Message, SendError, Sending, Sent, Traits};
use crate::alert::{Alert, Level, Status};
use crate::clock::Timestamp;
use crate::text::{fit, of_value};

/// Of a value in `output_fields`.
const VALUE_MAX: usize = 500;
/// Groups and evidence that are shown.
const FIELDS_MAX: usize = 20;
/// What is passed on is shown by media that are not known here, and Falcosidekick escapes for none of them. Brackets
/// become those that look like them: no text is a mention, a link or a tag anywhere.
const STYLE: Style = Style { text: harmless, value: harmless };

/// `type: falcosidekick`: one request per alert. It knows no end of an alert, so ends are not sent.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FalcosidekickConfig {
    /// Where it listens: `http://falcosidekick:2801`.
    pub url: String,
    /// Whom it trusts, and how it shows who it is.
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
}

/// Posts alerts in Falco's shape.
pub struct Falcosidekick {
    client: Client,
    url: Url,
}

impl Falcosidekick {
    pub(super) fn build(config: &FalcosidekickConfig) -> Result<Self, String> {
        let url = http::url(&config.url, "url")?;
        Ok(Self { client: http::client_for(&url, &config.tls)?, url: http::below(&url, "") })
    }
}

fn event(alert: &Alert) -> Value {
    let text = STYLE.text;
    let (rule, priority) = (&alert.rule, priority(alert.rule.level));
    let title = if rule.title.trim().is_empty() { text(&rule.id, 200) } else { text(&rule.title, 200) };
    let output = format!(
        "{}: {priority} {title}: {} ({}, {})",
        alert.time,
        text(&alert.summary, 800),
        times(alert),
        text(&alert.cluster, 100)
    );
    json!({
        "uuid": uuid(&alert.id),
        "output": output,
        "priority": priority,
        // All of these are refused where they are empty.
        "rule": if title.is_empty() { "kubesiren".to_owned() } else { title },
        "time": alert.time,
        "source": "k8s_audit",
        "hostname": text(&alert.cluster, 100),
        "tags": rule.tags.iter().take(FIELDS_MAX).map(|tag| text(tag, 60)).collect::<Vec<_>>(),
        "output_fields": fields(alert),
    })
}

/// Falco's names for what it has names for. Every value is a text: some outputs know nothing else.
fn fields(alert: &Alert) -> BTreeMap<String, String> {
    let event = &alert.event;
    let object = event.object_ref.clone().unwrap_or_default();
    let code = event.response_status.as_ref().and_then(|status| status.code).map(|code| code.to_string());
    let acted_as = event.impersonated_user.as_ref().and_then(|user| user.username.clone());
    let known = [
        ("ka.auditid", Some(event.audit_id.clone())),
        ("ka.verb", Some(event.verb.clone())),
        ("ka.uri", Some(event.request_uri.clone())),
        ("ka.user.name", event.user.username.clone()),
        ("ka.impuser.name", acted_as),
        ("ka.sourceips", Some(event.source_ips.join(","))),
        ("ka.useragent", event.user_agent.clone()),
        ("ka.target.resource", object.resource),
        ("ka.target.subresource", object.subresource),
        ("ka.target.namespace", object.namespace),
        ("ka.target.name", object.name),
        ("ka.response.code", code),
        ("kubesiren.alert_id", Some(alert.id.clone())),
        ("kubesiren.rule_id", Some(alert.rule.id.clone())),
        ("kubesiren.level", Some(alert.rule.level.to_string())),
        ("kubesiren.cluster", Some(alert.cluster.clone())),
        ("kubesiren.count", Some(alert.count.to_string())),
        ("kubesiren.first_seen", Some(alert.first_seen.to_string())),
        ("kubesiren.last_seen", Some(alert.last_seen.to_string())),
        ("kubesiren.runbook", alert.rule.runbook.clone()),
        ("kubesiren.references", Some(alert.rule.references.join(" "))),
        ("kubesiren.matched", Some(evidence(alert, STYLE).join(", "))),
        ("kubesiren.group", Some(group(alert))),
    ];
    let filled = known.into_iter().filter_map(|(name, text)| Some((name.to_owned(), harmless(&text?, VALUE_MAX))));
    filled.filter(|(_, text)| !text.is_empty()).collect()
}

fn group(alert: &Alert) -> String {
    let pairs = alert.group.iter().take(FIELDS_MAX).map(|(field, value)| format!("{field}={}", of_value(value)));
    pairs.collect::<Vec<_>>().join(", ")
}

fn priority(level: Level) -> &'static str {
    match level {
        Level::Critical => "Critical",
        Level::High => "Error",
        Level::Medium => "Warning",
        Level::Low => "Notice",
        Level::Informational => "Informational",
    }
}

/// The alert's id as Falco writes its own, so that what comes twice is known.
fn uuid(id: &str) -> Option<String> {
    let hex = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    hex.then(|| format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]))
}

fn harmless(text: &str, max: usize) -> String {
    fit(text, max, |c, rest| match c {
        '<' => Some("‹"),
        '>' => Some("›"),
        '`' => Some("\u{2cb}"),
        '@' if mentions(rest) => Some(UNPINGED),
        // A character without width: it reads the same, and is no link any more.
        ']' if rest.starts_with('(') => Some("]\u{200b}"),
        _ => None,
    })
}

impl Medium for Falcosidekick {
    fn traits(&self) -> Traits {
        Traits { batch_max: 1, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            // An end would be shown as one more alert.
            for item in message.items.iter().filter(|item| item.alert.status == Status::Firing) {
                let body = event(&item.alert).to_string();
                let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
                exchange(request, now).await?.usual(&[])?;
            }
            Ok::<_, SendError>(Sent::default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Receiver, Reply, Request};
    use super::super::samples::{alert, at, hostile, item, message};
    use super::*;
    use crate::store::Kind;

    /// As Falcosidekick takes an event, or not.
    fn answer(request: &Request) -> Reply {
        let event: Value = serde_json::from_str(&request.body).unwrap_or_default();
        let filled = |key: &str| event[key].as_str().is_some_and(|text| !text.is_empty());
        let priorities = "Emergency Alert Critical Error Warning Notice Informational Debug";
        let known = priorities.split(' ').any(|priority| event["priority"] == priority);
        let time = event["time"].as_str().is_some_and(|time| time.parse::<jiff::Timestamp>().is_ok());
        let fields = event["output_fields"]
            .as_object()
            .is_some_and(|fields| !fields.is_empty() && fields.values().all(serde_json::Value::is_string));
        if request.path == "/" && known && time && fields && filled("rule") {
            Reply::new(200, "")
        } else {
            Reply::new(400, "Please send a valid JSON")
        }
    }

    async fn started() -> (Receiver, Falcosidekick) {
        let receiver = Receiver::start(answer).await;
        let config = FalcosidekickConfig { url: receiver.url(""), tls: TlsConfig::default() };
        let sink = Falcosidekick::build(&config).unwrap();
        (receiver, sink)
    }

    async fn send(sink: &Falcosidekick, kind: Kind, alert: Alert) -> Result<Sent, SendError> {
        sink.send(&message(vec![item(kind, alert)]), at("2026-11-21T05:00:00Z")).await
    }

    #[tokio::test]
    async fn an_alert_looks_like_falcos_and_its_end_is_not_sent() {
        let (receiver, sink) = started().await;
        let id = "0123456789abcdef0123456789abcdef";
        for kind in [Kind::Firing, Kind::Resolved] {
            assert_eq!(send(&sink, kind, alert(id, "r", Level::High)).await, Ok(Sent::default()));
        }
        assert_eq!(receiver.requests().len(), 1);
        let event = receiver.requests()[0].json();
        for (field, value) in [
            ("/uuid", "01234567-89ab-cdef-0123-456789abcdef"),
            ("/priority", "Error"),
            ("/rule", "Title of r"),
            ("/time", "2026-11-21T04:00:00.123456Z"),
            ("/source", "k8s_audit"),
            ("/hostname", "prod-eu"),
            ("/tags/0", "attack.t1552.007"),
            ("/output_fields/ka.user.name", "alice"),
            ("/output_fields/ka.target.namespace", "payments"),
            ("/output_fields/ka.response.code", "200"),
            ("/output_fields/kubesiren.count", "3"),
            ("/output_fields/kubesiren.runbook", "https://runbooks.example.com/secrets"),
        ] {
            assert_eq!(event.pointer(field), Some(&value.into()), "{field}");
        }
        let output = "2026-11-21T04:00:00.123456Z: Error Title of r: alice read secret payments/db-creds from 10.0.0.1 \
                      (get, 200) (3× in 4 min 11 s, 2026-11-21 04:00:00 – 04:04:12 UTC, prod-eu)";
        assert_eq!(event["output"], output);
    }

    #[tokio::test]
    async fn whatever_an_event_says_falcosidekick_takes_it_and_nothing_is_markup() {
        let (receiver, sink) = started().await;
        for text in ["", " ", "<!channel> <b>x</b> [a](http://evil) @here `x` \u{202e}\n", &"<".repeat(10_000)] {
            send(&sink, Kind::Firing, hostile("id", text)).await.unwrap_or_else(|error| panic!("{text:.20}: {error}"));
        }
        for request in receiver.requests() {
            let mut event = request.json();
            event["tags"].take();
            let said = event["output"].to_string() + &event["output_fields"].to_string();
            assert!(
                !said.contains(['<', '>', '`', '\u{202e}']) && !said.contains("](") && !said.contains("@here"),
                "{said}"
            );
        }
    }

    #[tokio::test]
    async fn answers_mean_what_they_usually_mean() {
        for (status, retried) in [(400, false), (429, true), (500, true), (503, true)] {
            let receiver = Receiver::start(move |_| Reply::new(status, "because")).await;
            let config = FalcosidekickConfig { url: receiver.url("/"), tls: TlsConfig::default() };
            let sink = Falcosidekick::build(&config).unwrap();
            let error = send(&sink, Kind::Firing, alert("a", "r", Level::Low)).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{status}");
        }
    }

    #[test]
    fn every_level_has_a_priority() {
        assert_eq!(Level::ALL.map(priority), ["Informational", "Notice", "Warning", "Error", "Critical"]);
    }
}
