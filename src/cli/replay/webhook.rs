//! A webhook as kube-apiserver speaks to it: lists of events, tried again where there is no room.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Certificate, Client, Identity, StatusCode, Url};

use super::{Args, event_list};
use crate::https;
use crate::text::{shorten, visible};
use crate::units::Secret;

/// Between two tries where the answer does not say when.
const PAUSE: Duration = Duration::from_secs(1);
/// For one list, answer and all.
const TOTAL: Duration = Duration::from_secs(60);
/// Tries of one list.
const TRIES_MAX: u32 = 60;

pub(in crate::cli) struct Webhook {
    client: Client,
    url: Url,
    token: Option<Secret>,
}

impl Webhook {
    pub(super) fn new(url: &str, args: &Args) -> anyhow::Result<Self> {
        let url = Url::parse(url).context("--webhook is no URL; write it like http://127.0.0.1:9765/k8s-audit")?;
        let token = Secret::load(None, args.bearer_token_file.as_ref()).map_err(anyhow::Error::msg)?;
        let mut builder = https::builder(url.scheme() == "http").timeout(TOTAL);
        if let Some(file) = &args.ca_file {
            let pem = read(file)?;
            let bundle = Certificate::from_pem_bundle(&pem);
            builder = builder.tls_certs_only(bundle.with_context(|| format!("{}", file.display()))?);
        }
        if let (Some(cert), Some(key)) = (&args.client_cert, &args.client_key) {
            let pem = [read(cert)?, read(key)?].join(&b'\n');
            let identity = Identity::from_pem(&pem);
            builder = builder.identity(identity.context("--client-cert and --client-key")?);
        }
        Ok(Self { client: builder.build().context("cannot set up HTTPS")?, url, token })
    }

    /// One on this machine, without TLS or a token.
    pub(in crate::cli) fn local(address: SocketAddr) -> anyhow::Result<Self> {
        let client = https::builder(true).timeout(TOTAL).build().context("cannot set up HTTP")?;
        Ok(Self { client, url: Url::parse(&format!("http://{address}/k8s-audit"))?, token: None })
    }

    pub(in crate::cli) async fn send(&self, events: &[Vec<u8>]) -> anyhow::Result<()> {
        let list = bytes::Bytes::from(event_list(events));
        for _ in 0..TRIES_MAX {
            let mut request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
            if let Some(token) = &self.token {
                request = request.bearer_auth(token.expose());
            }
            let answer = request.body(list.clone()).send().await.map_err(reqwest::Error::without_url);
            let answer = answer.context("the webhook does not answer")?;
            let status = answer.status();
            if status.is_success() {
                return Ok(());
            }
            let after = answer.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            if status != StatusCode::SERVICE_UNAVAILABLE && status != StatusCode::TOO_MANY_REQUESTS {
                let words = answer.text().await.unwrap_or_default();
                anyhow::bail!("the webhook answered {status}: {}", shorten(&visible(words.trim()), 300));
            }
            tokio::time::sleep(after.map_or(PAUSE, Duration::from_secs)).await;
        }
        anyhow::bail!("the webhook has no room: it answered 503 {TRIES_MAX} times")
    }
}

fn read(file: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
