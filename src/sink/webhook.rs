//! Any HTTP endpoint that takes alerts as JSON.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::http::{self, exchange};
use super::watchdog::WatchdogConfig;
use super::{Medium, Message, SendError, Sending, Sent, Traits};
use crate::clock::Timestamp;
use crate::units::Secret;

/// `type: webhook`: one POST per alert, the alert's JSON as the body.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    /// Where to.
    pub url: String,
    /// Headers to send; values are secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, Secret>,
    /// Whether it is told all the time that all is well, so that somebody behind it notices when it is not.
    #[serde(default, skip_serializing_if = "WatchdogConfig::is_off")]
    pub watchdog: WatchdogConfig,
    /// Bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
}

/// Posts alerts to a URL.
pub struct Webhook {
    client: Client,
    url: Url,
    headers: HeaderMap,
    /// What must not be quoted from an answer.
    secrets: Vec<String>,
    watchdog: Option<Duration>,
}

impl Webhook {
    pub(super) fn build(config: &WebhookConfig) -> Result<Self, String> {
        let url = http::url(&config.url, "url")?;
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
        if let Some(bearer) = http::bearer(config.bearer_token.as_ref(), config.bearer_token_file.as_ref())? {
            headers.insert(AUTHORIZATION, bearer);
        }
        for (name, value) in &config.headers {
            let wrong = |what| format!("headers: `{name}` {what}");
            let name: HeaderName = name.parse().map_err(|_| wrong("is no header name"))?;
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
        Ok(Self { client: http::client(url.scheme() == "http")?, url, headers, secrets, watchdog })
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
                let body = serde_json::to_vec(&item.alert).map_err(|error| SendError::reject(error.to_string()))?;
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
            watchdog: WatchdogConfig::default(),
            headers: BTreeMap::from([("x-api-key".to_owned(), Secret::new("key-4711".to_owned()))]),
            bearer_token: Some(Secret::new("t0k3n".to_owned())),
            bearer_token_file: None,
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
            let config = WebhookConfig {
                url: url.to_owned(),
                watchdog: WatchdogConfig::default(),
                headers: BTreeMap::new(),
                bearer_token: None,
                bearer_token_file: None,
            };
            let error = Webhook::build(&config).err().unwrap();
            assert!(error.starts_with("url ") && !error.contains("s3cr3t"), "{error}");
        }
    }
}
