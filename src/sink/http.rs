//! What the sinks that speak HTTP share: one kind of client, errors without secrets, and what an answer means.

use std::path::PathBuf;
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, StatusCode, Url};

use super::SendError;
use super::tls::TlsConfig;
use crate::clock::Timestamp;
use crate::https;
use crate::text::shorten;
use crate::units::Secret;

const CONNECT: Duration = Duration::from_secs(5);
const TOTAL: Duration = Duration::from_secs(15);
/// Enough of an answer to understand it, in bytes.
const ANSWER_MAX: usize = 64 << 10;
/// Characters of a reason for people.
pub(super) const REASON_MAX: usize = 300;

/// A client with the system's proxy settings and trust store; `plain` as in [`https::builder`].
pub(super) fn client(plain: bool) -> Result<Client, String> {
    build(https::builder(plain))
}

/// A client for one server, which trusts and shows what `tls` says.
pub(super) fn client_for(url: &Url, tls: &TlsConfig) -> Result<Client, String> {
    client_with(url.scheme() == "http", tls)
}

/// A client for servers of which, with `plain`, none speaks TLS.
pub(super) fn client_with(plain: bool, tls: &TlsConfig) -> Result<Client, String> {
    if plain && !tls.is_default() {
        return Err("tls is of no use with an http:// URL: write https://, or leave it out".to_owned());
    }
    // With authorities of its own it needs none of the system's, which may be missing.
    build(tls.load()?.client(https::builder(plain))?)
}

fn build(builder: reqwest::ClientBuilder) -> Result<Client, String> {
    let builder = builder.user_agent(concat!("kubesiren/", env!("CARGO_PKG_VERSION")));
    let builder = builder.connect_timeout(CONNECT).timeout(TOTAL);
    builder.build().map_err(|error| format!("cannot set up HTTPS: {}", describe(error)))
}

/// Reads a URL; the error does not repeat it, since it may hold a secret.
pub(super) fn url(text: &str, what: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim()).map_err(|error| format!("{what} is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{what} must start with http:// or https://"));
    }
    Ok(url)
}

/// `url` with a path below it.
pub(super) fn below(url: &Url, path: &str) -> Url {
    let mut below = url.clone();
    below.set_path(&format!("{}/{path}", url.path().trim_end_matches('/')));
    below
}

/// The header that carries a secret behind the name of its scheme; `what` is the secret's key, for messages.
pub(super) fn scheme(scheme: &str, secret: &Secret, what: &str) -> Result<HeaderValue, String> {
    header(&format!("{scheme} {}", secret.expose())).map_err(|()| format!("{what} is no header value"))
}

/// The header of a user and a password.
pub(super) fn basic(username: &str, password: &Secret) -> Result<HeaderValue, String> {
    if username.contains(':') {
        return Err("username: there can be no colon in it".to_owned());
    }
    let pair = BASE64_STANDARD.encode(format!("{username}:{}", password.expose()));
    scheme("Basic", &Secret::new(pair), "username and password")
}

/// The header of a user and a password, or of the secret that may be given instead of them as `key`, behind its scheme's name; and
/// what no answer may be quoted with. No header where nothing is given.
pub(super) fn authorization(
    username: Option<&str>,
    password: Option<Secret>,
    key: &str,
    name: &str,
    secret: Option<Secret>,
) -> Result<(Option<HeaderValue>, String), String> {
    let header = match (username, &password, &secret) {
        (None, None, None) => None,
        (Some(user), Some(password), None) => Some(basic(user, password)?),
        (None, None, Some(secret)) => Some(scheme(name, secret, key)?),
        (_, _, Some(_)) => return Err(format!("give {key}_file, or username and password_file, not both")),
        _ => return Err("username and password_file go together: give both".to_owned()),
    };
    Ok((header, secret.or(password).map(|secret| secret.expose().to_owned()).unwrap_or_default()))
}

/// Loads the bearer token as the header that carries it.
pub(super) fn bearer(inline: Option<&Secret>, file: Option<&PathBuf>) -> Result<Option<HeaderValue>, String> {
    Secret::load(inline, file)?.map(|token| scheme("Bearer", &token, "the bearer token")).transpose()
}

/// A header value that is not printed.
pub(super) fn header(value: &str) -> Result<HeaderValue, ()> {
    let mut value = HeaderValue::from_str(value).map_err(|_| ())?;
    value.set_sensitive(true);
    Ok(value)
}

/// What a server said.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// From `Retry-After`.
    pub(super) after: Option<Duration>,
    pub(super) body: String,
}

/// Sends, and reads the answer up to a bound. Not being answered is worth a retry.
pub(super) async fn exchange(request: RequestBuilder, now: Timestamp) -> Result<Answer, SendError> {
    let failed = |error| SendError::Retry { after: None, reason: describe(error) };
    let mut response = request.send().await.map_err(failed)?;
    let (status, after) = (response.status(), retry_after(response.headers(), now));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_MAX {
            body.truncate(ANSWER_MAX);
            break;
        }
    }
    Ok(Answer { status, after, body: String::from_utf8_lossy(&body).into_owned() })
}

impl Answer {
    /// The usual meaning of a status: 2xx is taken; 408, 425, 429, 5xx and what is no answer to a POST (3xx) may pass
    /// by themselves, and 401, 403, 404 and 407 once somebody has mended a credential or an address: no alert is given
    /// up for that. The other 4xx are about the alert, and will be said again. `secrets` are cut out of what is quoted.
    pub(super) fn usual(&self, secrets: &[&str]) -> Result<(), SendError> {
        if self.status.is_success() {
            return Ok(());
        }
        let reason = self.quote(secrets);
        if self.status.is_client_error() && !matches!(self.status.as_u16(), 401 | 403 | 404 | 407 | 408 | 425 | 429) {
            return Err(SendError::Reject { reason });
        }
        let reason =
            if self.status.is_redirection() { format!("{reason} (redirects are not followed)") } else { reason };
        Err(SendError::Retry { after: self.after, reason })
    }

    /// The status and the beginning of the body, for people.
    pub(super) fn quote(&self, secrets: &[&str]) -> String {
        let body = without(self.body.trim(), secrets);
        if body.is_empty() {
            format!("answered {}", self.status)
        } else {
            format!("answered {}: {}", self.status, shorten(&body, 200))
        }
    }
}

/// What a server said, without the secrets that it may have repeated.
pub(super) fn without(text: &str, secrets: &[&str]) -> String {
    // What is shorter stands in any text.
    let secrets = secrets.iter().filter(|secret| secret.len() > 3);
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "[redacted]"))
}

/// `Retry-After`, as seconds or as an HTTP date.
pub(super) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(Timestamp(date.as_microsecond()).since(now))
}

/// An error and its causes in one line, without the URL, which may be a secret.
pub(super) fn describe(error: reqwest::Error) -> String {
    if error.is_timeout() && !error.is_connect() {
        return format!("no answer within {} s", TOTAL.as_secs());
    }
    shorten(&with_causes(&error.without_url()), REASON_MAX)
}

/// An error and its causes in one line, each said once.
pub(super) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).unwrap());
        retry_after(&headers, Timestamp::parse("2026-11-21T04:00:00Z").unwrap())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        assert_eq!(after("17"), Some(Duration::from_secs(17)));
        assert_eq!(after("Sat, 21 Nov 2026 04:01:30 GMT"), Some(Duration::from_secs(90)));
        assert_eq!(after("Sat, 21 Nov 2026 03:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn an_answer_is_quoted_without_secrets() {
        let answer = Answer { status: StatusCode::NOT_FOUND, after: None, body: "no /hook/s3cr3t here".into() };
        assert_eq!(answer.quote(&["/hook/s3cr3t"]), "answered 404 Not Found: no [redacted] here");
    }

    #[tokio::test]
    async fn errors_do_not_name_the_url() {
        let client = client(true).unwrap();
        let error = client.post("http://127.0.0.1:1/s3cr3t").send().await.unwrap_err();
        let text = describe(error);
        assert!(!text.contains("s3cr3t") && text.to_lowercase().contains("refused"), "{text}");
    }
}
