//! The daemon's admin listener, asked from the command line. Errors say what to do: which command, which flag.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, anyhow};
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, StatusCode};
use reqwest::{Certificate, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Failure;
use crate::https;
use crate::text::{shorten, visible};
use crate::units::Secret;

/// Where the daemon listens if nothing else is said.
pub const ADDRESS: &str = "http://127.0.0.1:9766";
/// A daemon on loopback answers at once, one behind a proxy within this.
const CONNECT: Duration = Duration::from_secs(5);
/// The daemon itself gives up after ten seconds.
const TOTAL: Duration = Duration::from_secs(30);
/// The stream says every fifteen seconds that it is still there.
const SILENCE: Duration = Duration::from_secs(45);
/// Bytes of an answer: a thousand alerts take a few megabytes.
const ANSWER_MAX: usize = 64 << 20;
/// Characters of an answer that is quoted.
const QUOTE_MAX: usize = 300;

/// Where the daemon is, and who asks.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "The daemon")]
pub struct Connection {
    /// Its admin listener.
    #[arg(long = "admin", value_name = "URL", env = "KUBESIREN_ADMIN_URL", default_value = ADDRESS)]
    pub url: String,
    /// A file with a token of `admin.token_file`, or to read of `admin.reader_token_file`, where there is one.
    #[arg(long, value_name = "FILE", env = "KUBESIREN_TOKEN_FILE")]
    pub token_file: Option<PathBuf>,
    /// A file with the certificates of the authorities that https:// is to be signed by; the system's if not given.
    #[arg(long, value_name = "FILE", env = "KUBESIREN_CA_FILE")]
    pub ca_file: Option<PathBuf>,
    /// Send the token to another machine without TLS.
    #[arg(long)]
    pub insecure: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// Nobody answers there, or not any more.
    #[error("{0}")]
    Unreachable(String),
    /// The daemon says no.
    #[error("{words}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its reason, and what to do.
        words: String,
    },
    /// Something answers that is no Kubesiren.
    #[error("{0}")]
    Strange(String),
}

impl Problem {
    /// Whether the daemon knows nothing of what was named.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether it may be gone when the same is asked again.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Refused { status, .. } => status.is_server_error(),
            Self::Strange(_) => false,
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Other(problem.into())
    }
}

/// Asks the daemon.
#[derive(Debug)]
pub struct Client {
    http: reqwest::Client,
    url: Url,
    has_token: bool,
}

impl Client {
    /// Reads the token and the certificates; nothing is sent yet.
    pub fn new(connection: &Connection) -> Result<Self, Failure> {
        let url = base(&connection.url)?;
        let (plain, local) = (url.scheme() == "http", is_local(&url));
        let token = connection.token_file.as_ref().map(token).transpose()?;
        if token.is_some() && plain && !local && !connection.insecure {
            return Err(anyhow!(
                "{url} is another machine, and the token would go there without TLS: use https://, a port-forward, or --insecure"
            )
            .into());
        }
        let mut builder = https::builder(plain).user_agent(concat!("kubesiren/", env!("CARGO_PKG_VERSION")));
        if local {
            // No proxy reaches this machine's own loopback.
            builder = builder.no_proxy();
        }
        if let Some(file) = connection.ca_file.as_ref().filter(|_| !plain) {
            let pem = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
            let certificates = Certificate::from_pem_bundle(&pem).ok().filter(|found| !found.is_empty());
            let certificates =
                certificates.with_context(|| format!("{} holds no certificate in PEM", file.display()))?;
            builder = builder.tls_certs_only(certificates);
        }
        let has_token = token.is_some();
        let headers = HeaderMap::from_iter(token.map(|token| (AUTHORIZATION, token)));
        let builder = builder.default_headers(headers).connect_timeout(CONNECT).read_timeout(SILENCE);
        let http = builder.build().context("cannot set up HTTP")?;
        Ok(Self { http, url, has_token })
    }

    /// Gets a path with these parameters.
    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T, Problem> {
        let answer = self.send(self.http.get(self.at(path, query)).timeout(TOTAL)).await?;
        self.json(&self.body(answer).await?)
    }

    /// The text of a path.
    pub async fn text(&self, path: &str) -> Result<String, Problem> {
        let answer = self.send(self.http.get(self.at(path, &[])).timeout(TOTAL)).await?;
        Ok(String::from_utf8_lossy(&self.body(answer).await?).into_owned())
    }

    /// Posts a JSON body to a path.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Problem> {
        let answer = self.send(self.http.post(self.at(path, &[])).timeout(TOTAL).json(body)).await?;
        self.json(&self.body(answer).await?)
    }

    /// The stream of a path, as it comes.
    pub async fn stream(&self, path: &str, query: &[(&str, String)]) -> Result<Response, Problem> {
        self.send(self.http.get(self.at(path, query))).await
    }

    /// What to say when an answer breaks off.
    #[must_use]
    pub fn broken(&self, error: reqwest::Error) -> Problem {
        Problem::Unreachable(format!("{}: the answer broke off: {}", self.name(), causes(error)))
    }

    /// The listener's address for people.
    #[must_use]
    pub fn name(&self) -> String {
        visible(self.url.as_str().trim_end_matches('/'))
    }

    fn at(&self, path: &str, query: &[(&str, String)]) -> Url {
        let mut url = self.url.clone();
        let below = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{below}{path}"));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, Problem> {
        let answer = request.send().await.map_err(|error| self.unreachable(error))?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let status = answer.status();
        let body = self.body(answer).await?;
        let said = serde_json::from_slice::<Value>(&body).ok();
        let Some(said) = said.as_ref().and_then(|said| said["error"].as_str()) else {
            return Err(self.strange(&body, &format!("it says {status}")));
        };
        Err(Problem::Refused { status, words: self.refusal(status, &visible(said)) })
    }

    fn refusal(&self, status: StatusCode, said: &str) -> String {
        match status {
            StatusCode::UNAUTHORIZED if self.has_token => {
                format!(
                    "{}: {said}; the token of --token-file (KUBESIREN_TOKEN_FILE) is not one of the daemon's",
                    self.name()
                )
            }
            StatusCode::UNAUTHORIZED => {
                format!("{}: {said}; give a file with it: --token-file FILE, or KUBESIREN_TOKEN_FILE", self.name())
            }
            StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND | StatusCode::CONFLICT => said.to_owned(),
            _ => format!("{}: {said}", self.name()),
        }
    }

    fn unreachable(&self, error: reqwest::Error) -> Problem {
        let (connect, timeout) = (error.is_connect(), error.is_timeout());
        let cause = causes(error);
        let remedy = if cause.contains("certificate") || cause.contains("UnknownIssuer") {
            "--ca-file FILE names the authority that signed its certificate"
        } else if connect {
            "start the daemon with `kubesiren run`, or say where it is: --admin URL, or KUBESIREN_ADMIN_URL"
        } else if timeout {
            "the daemon took too long; is it overloaded?"
        } else {
            "is this the admin listener?"
        };
        Problem::Unreachable(format!("no answer from {}: {cause}; {remedy}", self.name()))
    }

    fn strange(&self, body: &[u8], what: &str) -> Problem {
        let begins = body.get(..4 * QUOTE_MAX).unwrap_or(body);
        let quote = shorten(String::from_utf8_lossy(begins).trim(), QUOTE_MAX);
        let quote = if quote.is_empty() { String::new() } else { format!(": {quote}") };
        Problem::Strange(format!(
            "{} does not answer as Kubesiren's admin listener does: {what}{quote}; --admin names another one",
            self.name()
        ))
    }

    async fn body(&self, mut answer: Response) -> Result<Vec<u8>, Problem> {
        let mut body = Vec::new();
        while let Some(piece) = answer.chunk().await.map_err(|error| self.broken(error))? {
            if body.len() + piece.len() > ANSWER_MAX {
                return Err(self.strange(&[], &format!("its answer is longer than {} MiB", ANSWER_MAX >> 20)));
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn json<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Problem> {
        serde_json::from_slice(body).map_err(|error| self.strange(body, &format!("{error}")))
    }
}

/// Runs what asks the daemon.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

fn base(text: &str) -> anyhow::Result<Url> {
    // Who leaves the scheme out means the usual one.
    let whole = if text.contains("://") { text.trim().to_owned() } else { format!("http://{}", text.trim()) };
    let url = Url::parse(&whole).map_err(|error| anyhow!("--admin: `{}` is no URL: {error}", visible(text)))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(anyhow!("--admin: `{}` must start with http:// or https://", visible(text)));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(anyhow!("--admin: the URL holds a password; the listener knows bearer tokens only: --token-file"));
    }
    Ok(url)
}

fn is_local(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The first token of a file: while tokens are rotated there may be several.
fn token(file: &PathBuf) -> anyhow::Result<HeaderValue> {
    let secret = Secret::load(None, Some(file)).map_err(|error| anyhow!("--token-file: {error}"))?;
    let secret = secret.with_context(|| format!("--token-file: {} is empty", file.display()))?;
    let first = secret.expose().lines().next().unwrap_or_default().trim();
    let mut value = HeaderValue::from_str(&format!("Bearer {first}")).map_err(|_| {
        anyhow!("--token-file: {} holds no token: its first line cannot stand in a header", file.display())
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// An error with what led to it, without the URL.
fn causes(error: reqwest::Error) -> String {
    let error = anyhow::Error::from(error.without_url());
    let mut words: Vec<String> = error.chain().map(ToString::to_string).collect();
    // The layers repeat themselves; the last ones know most.
    words.dedup();
    let skip = words.len().saturating_sub(2);
    visible(&words.split_off(skip).join(": "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(url: &str) -> Connection {
        Connection { url: url.to_owned(), token_file: None, ca_file: None, insecure: false }
    }

    fn refused(connection: &Connection) -> String {
        match Client::new(connection) {
            Err(Failure::Other(error)) => format!("{error:#}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn addresses() {
        for (given, asked) in [
            ("http://127.0.0.1:9766", "http://127.0.0.1:9766/api/v1/status"),
            ("localhost:1", "http://localhost:1/api/v1/status"),
            ("https://siren.example/below/", "https://siren.example/below/api/v1/status"),
        ] {
            let client = Client::new(&connection(given)).expect("right");
            assert_eq!(client.at("/api/v1/status", &[]).as_str(), asked);
        }
        let client = Client::new(&connection(ADDRESS)).expect("right");
        let asked = client.at("/api/v1/alerts", &[("q", "a&b ü".to_owned())]);
        assert_eq!(asked.query(), Some("q=a%26b+%C3%BC"));
        for (wrong, words) in
            [("ftp://x", "must start with"), ("http://", "is no URL"), ("http://a:b@c", "knows bearer tokens only")]
        {
            assert!(refused(&connection(wrong)).contains(words), "{wrong}");
        }
    }

    #[test]
    fn a_token_leaves_this_machine_over_tls_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "s3cret\nold\n").expect("written");
        let with = |url: &str, insecure| Connection { token_file: Some(file.clone()), insecure, ..connection(url) };
        for (url, insecure) in
            [(ADDRESS, false), ("http://[::1]:1", false), ("https://a.example", false), ("http://a.example", true)]
        {
            let client = Client::new(&with(url, insecure)).expect("right");
            assert!(client.has_token && !format!("{client:?}").contains("s3cret"));
        }
        assert!(refused(&with("http://10.0.0.7:9766", false)).contains("--insecure"));
        std::fs::write(&file, "\n").expect("written");
        assert!(refused(&with(ADDRESS, false)).contains("--token-file"));
        let ca = Connection { ca_file: Some(file), ..connection("https://a.example") };
        assert!(refused(&ca).contains("holds no certificate"));
    }
}
