//! PagerDuty, Events API v2: an alert is an incident that its end resolves.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::facts::{PLAIN, evidence, facts, links, timeline, word};
use super::http::{self, exchange};
use super::page::Page;
use super::tls::TlsConfig;
use super::{Medium, Message, SendError, Sending, Sent, Traits};
use crate::alert::{Alert, Level, Status};
use crate::clock::Timestamp;
use crate::text::shorten;
use crate::units::Secret;

/// Where PagerDuty takes events.
const SERVICE: &str = "https://events.pagerduty.com";
/// Characters that a summary may have.
const SUMMARY_MAX: usize = 1_024;
/// Of the other texts. PagerDuty takes 512 KB in all.
const TEXT_MAX: usize = 250;
/// How long a routing key is.
const KEY_LENGTH: usize = 32;

/// `type: pagerduty`: one event per alert and per end.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PagerDutyConfig {
    /// The integration key of a service's Events API v2 integration (a secret).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<Secret>,
    /// File that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key_file: Option<PathBuf>,
    /// Another base than PagerDuty's, such as that of its service region in Europe, `https://events.eu.pagerduty.com`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_url: Option<String>,
}

/// Triggers and resolves incidents.
pub struct PagerDuty {
    client: Client,
    url: Url,
    routing_key: String,
    page: Page,
}

impl PagerDuty {
    pub(super) fn build(config: &PagerDutyConfig, page: &Page) -> Result<Self, String> {
        let key = Secret::load(config.routing_key.as_ref(), config.routing_key_file.as_ref())?;
        let key = key.ok_or("give routing_key_file: the key of an Events API v2 integration")?;
        if key.expose().len() != KEY_LENGTH || !key.expose().bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(format!("routing_key is no integration key: those have {KEY_LENGTH} letters and digits"));
        }
        let base = http::url(config.api_url.as_deref().unwrap_or(SERVICE), "api_url")?;
        let client = http::client_for(&base, &TlsConfig::default())?;
        Ok(Self {
            client,
            url: http::below(&base, "v2/enqueue"),
            routing_key: key.expose().to_owned(),
            page: page.clone(),
        })
    }

    fn event(&self, alert: &Alert) -> Value {
        let mut event = match alert.status {
            Status::Firing => trigger(alert),
            Status::Resolved => json!({"event_action": "resolve"}),
        };
        if let (Status::Firing, Some(link)) = (alert.status, self.page.of(alert)) {
            event["client_url"] = link.into();
        }
        event["routing_key"] = self.routing_key.as_str().into();
        event["dedup_key"] = shorten(&alert.id, TEXT_MAX).into();
        event
    }
}

fn trigger(alert: &Alert) -> Value {
    let rule = &alert.rule;
    let summary = format!("{}: {} ({})", rule.title, alert.summary, alert.cluster);
    let links: Vec<_> = links(alert).map(|link| json!({"href": link, "text": link})).collect();
    json!({
        "event_action": "trigger",
        "client": "Kubesiren",
        "links": links,
        "payload": {
            "summary": shorten(&summary, SUMMARY_MAX),
            // Required, and refused if it is empty.
            "source": filled(&shorten(&alert.cluster, TEXT_MAX), "an unnamed cluster"),
            "severity": severity(rule.level),
            "timestamp": alert.first_seen,
            "component": component(alert),
            "group": shorten(&alert.cluster, TEXT_MAX),
            "class": shorten(&rule.title, TEXT_MAX),
            "custom_details": details(alert),
        },
    })
}

fn filled(text: &str, otherwise: &str) -> String {
    if text.trim().is_empty() { otherwise.to_owned() } else { text.to_owned() }
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::Critical => "critical",
        Level::High => "error",
        Level::Medium => "warning",
        Level::Low | Level::Informational => "info",
    }
}

fn component(alert: &Alert) -> String {
    let object = alert.event.object_ref.clone().unwrap_or_default();
    let parts = [object.resource, object.namespace, object.name].into_iter().flatten().filter(|part| !part.is_empty());
    shorten(&parts.collect::<Vec<_>>().join("/"), TEXT_MAX)
}

/// What the person who was woken up reads.
fn details(alert: &Alert) -> Value {
    let mut details: BTreeMap<&str, Value> =
        facts(alert, PLAIN).into_iter().map(|(name, value)| (name, value.into())).collect();
    let rule = &alert.rule;
    details.insert("Level", word(rule.level).into());
    details.insert("Rule", shorten(&rule.id, TEXT_MAX).into());
    details.insert("Alert", shorten(&alert.id, TEXT_MAX).into());
    if let Some(runbook) = &rule.runbook {
        details.insert("What to do", shorten(runbook, SUMMARY_MAX).into());
    }
    let short = |texts: &[String]| texts.iter().take(10).map(|text| shorten(text, TEXT_MAX)).collect::<Vec<_>>();
    for (name, lines) in [
        ("What happened", timeline(alert, PLAIN)),
        ("Matched", evidence(alert, PLAIN)),
        ("Audit IDs", short(&alert.audit_ids)),
        ("Tags", short(&rule.tags)),
    ] {
        if !lines.is_empty() {
            details.insert(name, lines.into());
        }
    }
    json!(details)
}

impl Medium for PagerDuty {
    fn traits(&self) -> Traits {
        Traits { batch_max: 1, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            for item in &message.items {
                let body = self.event(&item.alert).to_string();
                let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
                exchange(request, now).await?.usual(&[&self.routing_key])?;
            }
            Ok::<_, SendError>(Sent::default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Reply;
    use super::super::fake::pagerduty::{self as fake, KEY, State};
    use super::super::samples::{alert, at, hostile, incident, item, message};
    use super::*;
    use crate::store::Kind;

    fn sink(pagerduty: &fake::PagerDuty) -> PagerDuty {
        PagerDuty::build(
            &PagerDutyConfig {
                routing_key: Some(Secret::new(KEY.to_owned())),
                api_url: Some(pagerduty.http.url("")),
                ..PagerDutyConfig::default()
            },
            &Page::default(),
        )
        .unwrap()
    }

    async fn send(sink: &PagerDuty, kind: Kind, alert: Alert) -> Result<Sent, SendError> {
        sink.send(&message(vec![item(kind, alert)]), at("2026-11-21T05:00:00Z")).await
    }

    #[tokio::test]
    async fn an_alert_is_an_incident_that_its_end_resolves() {
        let pagerduty = fake::PagerDuty::start().await;
        let sink = sink(&pagerduty);
        // The worker sends again what may have got lost: one incident all the same.
        for kind in [Kind::Firing, Kind::Firing, Kind::Resolved, Kind::Resolved] {
            assert_eq!(send(&sink, kind, alert("a1", "r", Level::High)).await, Ok(Sent::default()));
        }
        let incidents = pagerduty.incidents();
        assert_eq!(incidents.len(), 1);
        assert_eq!((incidents[0].key.as_str(), incidents[0].state), ("a1", State::Resolved));
        let payload = &incidents[0].payload;
        for (field, value) in [
            ("summary", "Title of r: alice read secret payments/db-creds from 10.0.0.1 (get, 200) (prod-eu)"),
            ("source", "prod-eu"),
            ("severity", "error"),
            ("timestamp", "2026-11-21T04:00:00.123456Z"),
            ("component", "secrets/payments/db-creds"),
        ] {
            assert_eq!(payload[field], value);
        }
        let details = &payload["custom_details"];
        assert_eq!(details["Who"], "alice");
        assert_eq!(details["Seen"], "3× in 4 min 11 s, 2026-11-21 04:00:00 – 04:04:12 UTC");
        assert_eq!(details["What to do"], "https://runbooks.example.com/secrets");
        assert_eq!(incidents[0].links[0]["href"], "https://runbooks.example.com/secrets");
    }

    #[tokio::test]
    async fn what_happened_is_told_in_order() {
        let pagerduty = fake::PagerDuty::start().await;
        send(&sink(&pagerduty), Kind::Firing, incident()).await.unwrap();
        let told = &pagerduty.incidents()[0].payload["custom_details"]["What happened"];
        assert_eq!(told[1], "04:04:12 🟠 Two ×3: alice did Two <b>");
    }

    #[test]
    fn an_incident_leads_to_the_page() {
        let config = PagerDutyConfig { routing_key: Some(Secret::new(KEY.to_owned())), ..PagerDutyConfig::default() };
        let page = Page::new(Some("https://siren.example.com")).unwrap();
        let sink = PagerDuty::build(&config, &page).unwrap();
        let event = sink.event(&alert("a1", "r", Level::High));
        assert_eq!(event["client_url"], "https://siren.example.com/?alert=a1");
    }

    #[test]
    fn every_level_has_a_severity() {
        let severities = Level::ALL.map(severity);
        assert_eq!(severities, ["info", "info", "warning", "error", "critical"]);
    }

    #[tokio::test]
    async fn whatever_an_event_says_pagerduty_takes_it() {
        let pagerduty = fake::PagerDuty::start().await;
        let sink = sink(&pagerduty);
        for (n, text) in ["", " ", "\u{202e}\n\0", &"x".repeat(100_000), &"🙂".repeat(3_000)].into_iter().enumerate()
        {
            send(&sink, Kind::Firing, hostile(&n.to_string(), text)).await.unwrap_or_else(|error| panic!("{error}"));
        }
        assert_eq!(pagerduty.incidents().len(), 5);
    }

    #[tokio::test]
    async fn what_is_said_again_is_not_asked_again() {
        let pagerduty = fake::PagerDuty::start().await;
        let sink = sink(&pagerduty);
        for (status, retried) in [(400, false), (429, true), (500, true), (503, true)] {
            let body = format!("{{\"message\":\"no {KEY}\"}}");
            pagerduty.script(Reply::new(status, body).header("Retry-After", "9"));
            let error = send(&sink, Kind::Firing, alert("a", "r", Level::Low)).await.unwrap_err();
            let after = matches!(&error, SendError::Retry { after: Some(after), .. } if after.as_secs() == 9);
            assert_eq!(after, retried, "{status}: {error:?}");
            assert!(!error.to_string().contains(KEY), "{error}");
        }
    }

    #[test]
    fn a_key_that_is_none_is_found_at_once_and_not_shown() {
        for key in ["s3cr3t", "s3cr3t-s3cr3t-s3cr3t-s3cr3t-s3cr"] {
            let config =
                PagerDutyConfig { routing_key: Some(Secret::new(key.to_owned())), ..PagerDutyConfig::default() };
            let error = PagerDuty::build(&config, &Page::default()).err().unwrap();
            assert!(error.contains("32 letters and digits") && !error.contains(key), "{error}");
        }
        assert!(
            PagerDuty::build(&PagerDutyConfig::default(), &Page::default()).err().unwrap().contains("routing_key_file")
        );
    }
}
