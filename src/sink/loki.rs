//! Grafana Loki: a line per alert, its labels few and stable, what identifies it in structured metadata.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::facts::{identity, in_short, names};
use super::http::{self, exchange};
use super::tls::TlsConfig;
use super::{Item, Medium, Message, SendError, Sending, Sent, Traits};
use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::text::{shorten, visible_json};
use crate::units::Secret;

/// Loki takes 4 MB at once by default, and so many lines of the longest kind are less.
const BATCH_MAX: usize = 15;
/// Of a line, in bytes: Loki refuses those of more than 256 KiB for ever.
const LINE_MAX: usize = 250 << 10;
/// Of the summary, where the line tells of the alert in short.
const SUMMARY_MAX: usize = 800;
/// Labels that every line has.
const OURS: [&str; 3] = ["job", "cluster", "level"];
/// Labels beside those: Loki takes 15 in all by default.
const LABELS_MAX: usize = 12;
/// What metadata need not say: two are labels, and how often it was stands in the line.
const ELSEWHERE: [&str; 3] = ["level", "cluster", "count"];
/// Of a label's or metadata's value.
const VALUE_MAX: usize = 256;
/// Loki refuses lines that are older than others of their stream by an hour, or than a week, and those that an outage
/// held up could be. What is older than this has the time of its sending; when it happened is in the line.
const OLD: Duration = Duration::from_secs(15 * 60);
/// Which organization the lines belong to, where Loki serves several.
const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// `type: loki`: one line per alert and per end, the alert's JSON.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LokiConfig {
    /// Base URL: `http://loki:3100`.
    pub url: String,
    /// The tenant, where Loki serves several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Labels added to every line, beside `job`, `cluster` and `level`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// User name, with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Bearer token, instead of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// Whom it trusts, and how it shows who it is.
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
}

/// Pushes lines.
pub struct Loki {
    client: Client,
    url: Url,
    labels: BTreeMap<String, String>,
    tenant: Option<HeaderValue>,
    authorization: Option<HeaderValue>,
    /// What must not be quoted from an answer.
    secret: String,
}

impl Loki {
    pub(super) fn build(config: &LokiConfig) -> Result<Self, String> {
        let base = http::url(&config.url, "url")?;
        if let Some(name) = config.labels.keys().find(|name| !is_label(name)) {
            return Err(format!(
                "labels: `{name}` is no label name; use letters, digits and _, beginning with no digit"
            ));
        }
        let others = config.labels.keys().filter(|name| !OURS.contains(&name.as_str())).count();
        if others > LABELS_MAX {
            return Err(format!("labels: {others} are too many; beside {} Loki takes {LABELS_MAX}", OURS.join(", ")));
        }
        let password = Secret::load(config.password.as_ref(), config.password_file.as_ref())?;
        let bearer = Secret::load(config.bearer_token.as_ref(), config.bearer_token_file.as_ref())?;
        let (authorization, secret) =
            http::authorization(config.username.as_deref(), password, "bearer_token", "Bearer", bearer)?;
        let tenant = config.tenant.as_deref().map(HeaderValue::from_str).transpose();
        Ok(Self {
            client: http::client_for(&base, &config.tls)?,
            url: http::below(&base, "loki/api/v1/push"),
            labels: config.labels.clone(),
            tenant: tenant.map_err(|_| "tenant is no header value")?,
            authorization,
            secret,
        })
    }

    /// What a stream is known by: each set of values is a stream of its own, which Loki keeps few of.
    fn labels(&self, alert: &Alert) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        for (name, value) in OURS.into_iter().zip(["kubesiren", &alert.cluster, alert.rule.level.as_str()]) {
            labels.entry(name.to_owned()).or_insert_with(|| shorten(value, VALUE_MAX));
        }
        labels.retain(|_, value| !value.is_empty());
        labels
    }

    fn body(&self, items: &[Item], now: Timestamp) -> Result<String, SendError> {
        let mut streams: BTreeMap<BTreeMap<String, String>, Vec<Value>> = BTreeMap::new();
        for Item { alert, .. } in items {
            // As text: Loki refuses numbers.
            let time = format!("{}000", time(alert, now).0);
            let entry = json!([time, line(alert)?, metadata(alert)]);
            streams.entry(self.labels(alert)).or_default().push(entry);
        }
        let streams: Vec<_> =
            streams.into_iter().map(|(stream, values)| json!({"stream": stream, "values": values})).collect();
        Ok(json!({"streams": streams}).to_string())
    }
}

/// The alert's JSON, as far as a line may go. Who is watched decides how long it is: what is too long is told in short, not
/// kept out of Loki.
fn line(alert: &Alert) -> Result<String, SendError> {
    let whole = serde_json::to_string(alert).map_err(|error| SendError::reject(error.to_string()))?;
    let whole = visible_json(whole);
    Ok(if whole.len() <= LINE_MAX { whole } else { visible_json(in_short(alert, SUMMARY_MAX).to_string()) })
}

/// When it happened, if that is not too long ago: then what is sent again is the same line, which Loki keeps once.
fn time(alert: &Alert, now: Timestamp) -> Timestamp {
    let happened = alert.told_of();
    if happened <= now && now.since(happened) <= OLD { happened } else { now }
}

/// What is searched for: who, what, which alert.
fn metadata(alert: &Alert) -> Value {
    let names = identity(alert).into_iter().chain(names(alert));
    let names = names.filter(|(name, _)| !ELSEWHERE.contains(name));
    names.map(|(name, text)| (name.to_owned(), Value::from(shorten(&text, VALUE_MAX)))).collect()
}

fn is_label(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.starts_with("__")
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl Medium for Loki {
    fn traits(&self) -> Traits {
        Traits { batch_max: BATCH_MAX, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            let body = self.body(&message.items, now)?;
            let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json").body(body);
            for (name, value) in [(TENANT, &self.tenant), (AUTHORIZATION, &self.authorization)] {
                if let Some(value) = value {
                    request = request.header(name, value.clone());
                }
            }
            exchange(request, now).await?.usual(&[&self.secret])?;
            Ok(Sent::default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Reply;
    use super::super::fake::loki as fake;
    use super::super::samples::{alert, at, hostile, item, message};
    use super::*;
    use crate::alert::Level;
    use crate::store::Kind;

    fn sink(loki: &fake::Loki) -> Loki {
        let config = json!({"url": loki.http.url("/"), "tenant": "soc", "labels": {"env": "prod"},
            "username": "u", "password": "s3cr3t"});
        Loki::build(&serde_json::from_value(config).unwrap()).unwrap()
    }

    fn two() -> Message {
        message(vec![
            item(Kind::Firing, alert("a", "r", Level::High)),
            item(Kind::Resolved, alert("b", "q", Level::High)),
            item(Kind::Firing, alert("c", "r", Level::Low)),
        ])
    }

    #[tokio::test]
    async fn alerts_are_lines_of_few_streams() {
        let loki = fake::Loki::start().await;
        assert_eq!(sink(&loki).send(&two(), at("2026-11-21T04:05:00Z")).await, Ok(Sent::default()));
        let request = &loki.http.requests()[0];
        assert_eq!((request.header("x-scope-orgid"), request.header("authorization")), ("soc", "Basic dTpzM2NyM3Q="));
        let streams = loki.streams();
        let labels: Vec<_> = streams.keys().map(String::as_str).collect();
        assert_eq!(
            labels,
            [
                r#"{"cluster":"prod-eu","env":"prod","job":"kubesiren","level":"high"}"#,
                r#"{"cluster":"prod-eu","env":"prod","job":"kubesiren","level":"low"}"#
            ]
        );
        let lines = &streams[labels[0]];
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].time, "1795233600123456000");
        assert_eq!(serde_json::from_str::<Alert>(&lines[0].line).unwrap(), alert("a", "r", Level::High));
        let expected = json!({"alert_id": "a", "status": "firing", "rule_id": "r", "rule": "Title of r", "user": "alice",
            "source_ip": "10.0.0.1", "verb": "get", "resource": "secrets", "namespace": "payments", "name": "db-creds"});
        assert_eq!(lines[0].metadata, expected);
        assert_eq!(lines[1].metadata["status"], "resolved");
    }

    #[tokio::test]
    async fn what_is_sent_again_is_kept_once() {
        let loki = fake::Loki::start().await;
        for seconds in [0, 1, 600] {
            let now = at("2026-11-21T04:05:00Z").plus(Duration::from_secs(seconds));
            assert!(sink(&loki).send(&two(), now).await.is_ok());
        }
        assert_eq!(loki.streams().values().map(Vec::len).sum::<usize>(), 3);
    }

    #[test]
    fn old_alerts_and_those_of_the_future_have_the_time_of_their_sending() {
        let (alert, happened) = (alert("a", "r", Level::High), at("2026-11-21T04:00:00.123456Z"));
        assert_eq!(time(&alert, happened.plus(OLD)), happened);
        for now in [happened.plus(OLD * 2), happened.minus(OLD)] {
            assert_eq!(time(&alert, now), now);
        }
    }

    #[tokio::test]
    async fn answers_mean_what_they_usually_mean() {
        let loki = fake::Loki::start().await;
        let sink = sink(&loki);
        for (status, retried) in [(429, true), (500, true), (401, true), (400, false), (413, false)] {
            loki.script(Reply::new(status, "because s3cr3t").header("Retry-After", "2"));
            let error = sink.send(&two(), at("2026-11-21T05:00:00Z")).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{status}: {error:?}");
            assert!(!error.to_string().contains("s3cr3t"), "{error}");
        }
    }

    #[tokio::test]
    async fn whatever_an_event_says_it_makes_no_label() {
        let loki = fake::Loki::start().await;
        let sink = sink(&loki);
        for text in ["", "evil\"}\n", "\u{202e}", &"x".repeat(500), &"\u{e0041}".repeat(512)] {
            let mut evil = hostile("id", text);
            evil.cluster = "prod-eu".to_owned();
            let sent = sink.send(&message(vec![item(Kind::Firing, evil)]), at("2026-11-21T05:00:00Z")).await;
            assert_eq!(sent, Ok(Sent::default()));
        }
        assert_eq!(loki.streams().len(), 1);
    }

    /// Hidden characters beyond the basic plane take twelve bytes each.
    #[tokio::test]
    async fn what_is_too_long_for_a_line_is_told_in_short() {
        let loki = fake::Loki::start().await;
        let mut long = alert("a", "r", Level::High);
        long.event.user.groups = vec!["\u{e0041}".repeat(512); 64];
        let sent = sink(&loki).send(&message(vec![item(Kind::Firing, long)]), at("2026-11-21T05:00:00Z")).await;
        assert_eq!(sent, Ok(Sent::default()));
        let line = loki.streams().into_values().next().unwrap().remove(0);
        let told: Value = serde_json::from_str(&line.line).unwrap();
        assert_eq!((&told["id"], &told["cut"], &told["count"]), (&"a".into(), &true.into(), &3.into()));
        assert_eq!((&line.metadata["user"], &line.metadata["verb"]), (&"alice".into(), &"get".into()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let labels = |n| (0..n).map(|n| (format!("l{n}"), json!("v"))).chain([("job".to_owned(), json!("mine"))]);
        let labels = |n| json!({"url": "http://l", "labels": labels(n).collect::<serde_json::Map<_, _>>()});
        assert!(Loki::build(&serde_json::from_value(labels(12)).unwrap()).is_ok());
        for (given, said) in [
            (json!({"url": "http://l", "labels": {"a-b": "c"}}), "`a-b` is no label name"),
            (labels(13), "13 are too many"),
            (json!({"url": "http://l", "username": "u"}), "go together"),
            (json!({"url": "http://l", "username": "u", "password": "p", "bearer_token": "t"}), "not both"),
        ] {
            let error = Loki::build(&serde_json::from_value(given).unwrap()).err().unwrap();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
