//! Any HTTP endpoint: alerts as JSON, in a schema that many know, or in a body of the user's own.

mod ocsf;
mod template;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use self::template::Mistake;
use self::template::Template;
use super::http::{self, exchange};
use super::tls::TlsConfig;
use super::watchdog::WatchdogConfig;
use super::{Medium, Message, SendError, Sending, Sent, Traits};
use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::units::Secret;

/// `type: webhook`: one POST per alert and per end.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to.
    pub url: String,
    /// Headers to send; values are secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// What the body is.
    #[serde(default, skip_serializing_if = "Format::is_default")]
    pub format: Format,
    /// The body, as a template into which the alert is put, instead of a format.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template_file: Option<PathBuf>,
    /// The kind of text that the template makes; values are escaped for it. Without it, JSON.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Whether it is told all the time that all is well, so that somebody behind it notices when it is not.
    #[serde(default, skip_serializing_if = "WatchdogConfig::is_off")]
    pub watchdog: WatchdogConfig,
    /// Bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// Whom it trusts, and how it shows who it is.
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
}

/// What a body is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The alert's JSON.
    #[default]
    Alert,
    /// A Detection Finding of the Open Cybersecurity Schema Framework.
    Ocsf,
    /// A CloudEvent with the alert as its data.
    CloudEvents,
}

impl Format {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl WebhookConfig {
    /// What kind of text the body is.
    #[must_use]
    pub fn content_type(&self) -> &str {
        let header = self.headers.iter().find(|(name, _)| name.eq_ignore_ascii_case(CONTENT_TYPE.as_str()));
        match (&self.content_type, header) {
            (Some(given), _) => given,
            (None, Some((_, given))) => given.expose(),
            (None, None) if self.format == Format::CloudEvents => "application/cloudevents+json",
            (None, None) => "application/json",
        }
    }

    /// What is wrong with a template for such a body.
    pub fn check_template(&self, source: &str) -> Result<(), Mistake> {
        Template::new(source, self.content_type()).map(drop)
    }

    /// The body, ready to be filled.
    fn body(&self) -> Result<Body, String> {
        let (source, name) = match (&self.template, &self.template_file) {
            (Some(_), Some(_)) => return Err("give template or template_file, not both".to_owned()),
            (Some(source), None) => (source.clone(), "template".to_owned()),
            (None, Some(path)) => {
                let read = std::fs::read_to_string(path);
                let source = read.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                (source, path.display().to_string())
            }
            (None, None) if self.content_type.is_some() => {
                return Err("content_type goes with template; a format has its own".to_owned());
            }
            (None, None) => return Ok(Body::Format(self.format)),
        };
        if self.format != Format::Alert {
            return Err("give format or template, not both".to_owned());
        }
        let template = Template::new(&source, self.content_type()).map_err(|Mistake { line, message }| {
            let line = line.map(|line| format!(":{line}")).unwrap_or_default();
            format!("{name}{line}: {message}")
        })?;
        Ok(Body::Template(Box::new(template)))
    }
}

/// How bodies are made.
enum Body {
    Format(Format),
    Template(Box<Template>),
}

impl Body {
    fn of(&self, alert: &Alert) -> Result<String, SendError> {
        match self {
            Self::Template(template) => template.body(alert),
            Self::Format(Format::Ocsf) => Ok(ocsf::finding(alert).to_string()),
            Self::Format(Format::CloudEvents) => Ok(cloud_event(alert).to_string()),
            Self::Format(Format::Alert) => {
                serde_json::to_string(alert).map_err(|error| SendError::reject(error.to_string()))
            }
        }
    }
}

/// The alert as a CloudEvent: its beginning and its end are two events of one subject.
fn cloud_event(alert: &Alert) -> Value {
    let status = alert.status.as_str();
    let cluster = utf8_percent_encode(&alert.cluster, NON_ALPHANUMERIC);
    json!({
        "specversion": "1.0",
        "id": format!("{}-{status}", alert.id),
        "source": format!("/kubesiren/clusters/{cluster}"),
        "type": format!("io.kubesiren.alert.{status}"),
        "subject": alert.id,
        "time": alert.told_of(),
        "datacontenttype": "application/json",
        "data": alert,
    })
}

/// Posts alerts to a URL.
pub struct Webhook {
    client: Client,
    url: Url,
    headers: HeaderMap,
    /// What must not be quoted from an answer.
    secrets: Vec<String>,
    body: Body,
    watchdog: Option<Duration>,
}

impl Webhook {
    pub(super) fn build(config: &WebhookConfig) -> Result<Self, String> {
        let url = http::url(&config.url, "url")?;
        let kind = HeaderValue::from_str(config.content_type()).map_err(|_| "content_type is no header value")?;
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, kind)]);
        if let Some(bearer) = http::bearer(config.bearer_token.as_ref(), config.bearer_token_file.as_ref())? {
            headers.insert(AUTHORIZATION, bearer);
        }
        let body = config.body()?;
        for (name, value) in &config.headers {
            let wrong = |what| format!("headers: `{name}` {what}");
            let name: HeaderName = name.parse().map_err(|_| wrong("is no header name"))?;
            if name == CONTENT_TYPE && config.content_type.is_some() {
                return Err("content_type is given twice: take it out of the headers".to_owned());
            }
            headers.insert(name, http::header(value.expose()).map_err(|()| wrong("has a value that is no header"))?);
        }
        let mut secrets: Vec<String> = headers
            .values()
            .filter(|value| value.is_sensitive())
            .filter_map(|value| value.to_str().ok())
            .map(bare)
            .collect();
        secrets.extend([url.path().to_owned(), url.query().unwrap_or_default().to_owned()]);
        config.watchdog.check()?;
        let watchdog = config.watchdog.every();
        Ok(Self { client: http::client_for(&url, &config.tls)?, url, headers, secrets, body, watchdog })
    }
}

/// A credential without its scheme: what a server would quote.
fn bare(value: &str) -> String {
    value.strip_prefix("Bearer ").unwrap_or(value).to_owned()
}

impl Medium for Webhook {
    fn traits(&self) -> Traits {
        Traits { batch_max: 1, watchdog: self.watchdog, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            let secrets: Vec<&str> = self.secrets.iter().map(String::as_str).collect();
            for item in &message.items {
                let body = self.body.of(&item.alert)?;
                let request = self.client.post(self.url.clone()).headers(self.headers.clone()).body(body);
                exchange(request, now).await?.usual(&secrets)?;
            }
            Ok(Sent::default())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Receiver, Reply};
    use super::super::samples::{alert, at, item, message};
    use super::*;
    use crate::alert::{Alert, Level};
    use crate::store::Kind;

    fn sink(url: &str) -> Webhook {
        Webhook::build(&WebhookConfig {
            url: url.to_owned(),
            headers: BTreeMap::from([("x-api-key".to_owned(), Secret::new("key-4711".to_owned()))]),
            bearer_token: Some(Secret::new("t0k3n".to_owned())),
            ..WebhookConfig::default()
        })
        .unwrap()
    }

    async fn send_to(receiver: &Receiver) -> Result<Sent, SendError> {
        let one = message(vec![item(Kind::Firing, alert("a", "r", Level::High))]);
        sink(&receiver.url("/hook/s3cr3t")).send(&one, at("2026-11-21T05:00:00Z")).await
    }

    #[tokio::test]
    async fn the_body_is_the_alert() {
        let receiver = Receiver::start(|_| Reply::new(202, "")).await;
        assert_eq!(send_to(&receiver).await, Ok(Sent::default()));
        let requests = receiver.requests();
        assert_eq!(requests.len(), 1);
        let request = &requests[0];
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/hook/s3cr3t"));
        assert_eq!(request.header("authorization"), "Bearer t0k3n");
        assert_eq!(request.header("x-api-key"), "key-4711");
        assert_eq!(request.header("content-type"), "application/json");
        assert_eq!(serde_json::from_str::<Alert>(&request.body).unwrap(), alert("a", "r", Level::High));
    }

    #[tokio::test]
    async fn answers_mean_what_they_usually_mean() {
        for (status, retried) in
            [(408, true), (429, true), (503, true), (302, true), (403, true), (404, true), (400, false), (413, false)]
        {
            let receiver = Receiver::start(move |_| Reply::new(status, "because /hook/s3cr3t t0k3n")).await;
            let error = send_to(&receiver).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{status}: {error:?}");
            let text = error.to_string();
            assert!(text.contains("because") && !text.contains("s3cr3t") && !text.contains("t0k3n"), "{text}");
        }
    }

    #[tokio::test]
    async fn retry_after_is_honoured() {
        let receiver = Receiver::start(|_| Reply::new(503, "").header("Retry-After", "7")).await;
        let Err(SendError::Retry { after, .. }) = send_to(&receiver).await else { panic!("to be retried") };
        assert_eq!(after, Some(Duration::from_secs(7)));
    }

    #[tokio::test]
    async fn nobody_there_is_worth_a_retry() {
        let one = message(vec![item(Kind::Firing, alert("a", "r", Level::High))]);
        let error = sink("http://127.0.0.1:1/hook/s3cr3t").send(&one, at("2026-11-21T05:00:00Z")).await.unwrap_err();
        assert!(matches!(&error, SendError::Retry { reason, .. } if !reason.contains("s3cr3t")), "{error:?}");
    }

    #[test]
    fn a_bad_url_is_not_repeated() {
        for url in ["ftp://host/s3cr3t", "s3cr3t", "http://:s3cr3t"] {
            let config = WebhookConfig { url: url.to_owned(), ..WebhookConfig::default() };
            let error = Webhook::build(&config).err().unwrap();
            assert!(error.starts_with("url ") && !error.contains("s3cr3t"), "{error}");
        }
    }

    async fn posted(more: &str) -> super::super::fake::Request {
        let receiver = Receiver::start(|_| Reply::new(202, "")).await;
        let config = format!(r#"{{"url": "{}"{more}}}"#, receiver.url("/"));
        let sink = Webhook::build(&serde_json::from_str(&config).unwrap()).unwrap_or_else(|error| panic!("{error}"));
        let one = message(vec![item(Kind::Resolved, alert("a1", "r", Level::High))]);
        assert_eq!(sink.send(&one, at("2026-11-21T05:00:00Z")).await, Ok(Sent::default()));
        receiver.requests().remove(0)
    }

    #[tokio::test]
    async fn a_cloud_event_says_what_its_data_is_about() {
        let request = posted(r#", "format": "cloudevents""#).await;
        assert_eq!(request.header("content-type"), "application/cloudevents+json");
        let event = request.json();
        for (field, value) in [
            ("specversion", "1.0"),
            ("id", "a1-resolved"),
            ("source", "/kubesiren/clusters/prod%2Deu"),
            ("type", "io.kubesiren.alert.resolved"),
            ("subject", "a1"),
            ("time", "2026-11-21T04:04:12.000000Z"),
        ] {
            assert_eq!(event[field], value, "{field}");
        }
        assert_eq!(event["data"]["id"], "a1");
    }

    #[tokio::test]
    async fn other_bodies_go_the_same_way() {
        let request = posted(r#", "format": "ocsf""#).await;
        assert_eq!((&request.json()["class_uid"], request.header("content-type")), (&2004.into(), "application/json"));
        let template = r#", "template": "{{ alert.summary }}", "content_type": "text/plain""#;
        let request = posted(template).await;
        assert_eq!(request.header("content-type"), "text/plain");
        assert_eq!(request.body, "alice read secret payments/db-creds from 10.0.0.1 (get, 200)");
    }

    #[test]
    fn a_template_that_is_wrong_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("body.j2");
        std::fs::write(&file, "{\n  \"a\": \"{{ alert.sumary }}\"\n}").unwrap();
        let config = |more: Value| {
            let mut config = json!({"url": "https://a"});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<WebhookConfig>(config).unwrap()
        };
        for (given, said) in [
            (json!({"template_file": file}), "body.j2:2: this value does not exist"),
            (json!({"template": "{{ alert", "content_type": "text/plain"}), "template:1: syntax error"),
            (json!({"template": "1", "format": "ocsf"}), "format or template, not both"),
            (json!({"content_type": "text/plain"}), "goes with template"),
            (json!({"template": "1", "content_type": "a/b", "headers": {"Content-Type": "c/d"}}), "given twice"),
        ] {
            let error = Webhook::build(&config(given)).err().unwrap();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
