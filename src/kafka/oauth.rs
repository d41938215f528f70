//! Tokens for SASL OAUTHBEARER: from a file that somebody keeps fresh (a Kubernetes projected service account), or from an
//! OpenID provider by client credentials.
//!
//! librdkafka could ask the provider itself, but only with curl; here the program's own TLS does.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use serde::Deserialize;

use super::Settings;
use crate::{clock, https};

/// For a whole answer of the provider.
const TOTAL: Duration = Duration::from_secs(10);
/// A token that does not say how long it lasts is asked for again before this.
const LIFETIME: Duration = Duration::from_secs(300);
/// The largest answer that is read, in bytes.
const ANSWER_MAX: usize = 256 << 10;

/// Where tokens come from; the settings that say so are not handed to librdkafka.
#[derive(Clone)]
pub(super) enum Tokens {
    /// Read anew each time.
    File(PathBuf),
    /// Asked for each time.
    Provider { url: String, form: Vec<(&'static str, String)> },
}

/// What of a token's claims matters here.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Claims {
    sub: Option<String>,
    /// Seconds since the epoch.
    exp: Option<i64>,
}

#[derive(Deserialize)]
struct Answer {
    access_token: String,
    expires_in: Option<u64>,
}

/// A fresh token; what librdkafka says when there is none begins with "Failed to acquire SASL OAUTHBEARER token".
pub fn token(settings: &Settings) -> Result<OAuthToken, Box<dyn std::error::Error>> {
    let (token, lasts) = match &settings.tokens {
        None => return Err("set sasl.oauthbearer.token_file, or sasl.oauthbearer.method to oidc".into()),
        Some(Tokens::File(path)) => {
            let text = std::fs::read_to_string(path);
            (text.map_err(|error| format!("cannot read {}: {error}", path.display()))?, None)
        }
        Some(Tokens::Provider { url, form }) => {
            // On a thread of librdkafka's client, which may wait and has no runtime.
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let answer = runtime.block_on(ask(url, form))?;
            (answer.access_token, answer.expires_in.map(Duration::from_secs))
        }
    };
    let token = token.trim().to_owned();
    let claims = claims(&token).unwrap_or_default();
    let otherwise = clock::now().plus(lasts.unwrap_or(LIFETIME)).0 / 1_000;
    Ok(OAuthToken {
        principal_name: claims.sub.unwrap_or_else(|| "kubesiren".to_owned()),
        lifetime_ms: claims.exp.map_or(otherwise, |seconds| seconds.saturating_mul(1_000)),
        token,
    })
}

/// The claims of a JWT, which is for the broker to verify.
fn claims(token: &str) -> Option<Claims> {
    let payload = BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}

/// Asks the provider; errors say nothing of the request, which holds the secret.
async fn ask(url: &str, form: &[(&'static str, String)]) -> Result<Answer, String> {
    let client = https::builder(url.starts_with("http://")).timeout(TOTAL).build();
    let client = client.map_err(|error| format!("cannot set up HTTPS: {error}"))?;
    let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
    let request = client.post(url).header("content-type", "application/x-www-form-urlencoded").body(body);
    let mut answer = request.send().await.map_err(|error| format!("the token endpoint: {}", error.without_url()))?;
    let status = answer.status();
    let mut body = Vec::new();
    while let Some(chunk) =
        answer.chunk().await.map_err(|error| format!("the token endpoint: {}", error.without_url()))?
    {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_MAX {
            return Err("the token endpoint: the answer is too large".to_owned());
        }
    }
    if !status.is_success() {
        let said = without_secret(&String::from_utf8_lossy(&body), form);
        let said = crate::text::shorten(&crate::text::visible(&said), 200);
        return Err(format!("the token endpoint answered {status}: {said}"));
    }
    serde_json::from_slice(&body).map_err(|_| "the token endpoint answered no access_token".to_owned())
}

/// What a provider said, should it quote what it was sent.
fn without_secret(said: &str, form: &[(&'static str, String)]) -> String {
    let secret = form.iter().find(|(name, value)| *name == "client_secret" && !value.is_empty());
    let Some((_, secret)) = secret else { return said.to_owned() };
    let sent: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
    said.replace(secret.as_str(), "[redacted]").replace(&sent, "[redacted]")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::{Connection, Properties};

    fn settings(properties: &serde_json::Value) -> Settings {
        let properties: Properties = serde_json::from_value(properties.clone()).unwrap();
        Connection { brokers: &[], properties: &properties }.settings(&[], &[]).unwrap()
    }

    fn jwt(claims: &str) -> String {
        let part = |text: &str| BASE64_URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.", part(r#"{"alg":"none"}"#), part(claims))
    }

    #[test]
    fn a_file_is_read_anew_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let settings = settings(&serde_json::json!({"sasl.oauthbearer.token_file": file.display().to_string()}));
        assert!(token(&settings).err().unwrap().to_string().contains("cannot read"));
        std::fs::write(&file, jwt(r#"{"sub":"system:serviceaccount:a:b","exp":4102444800}"#) + "\n").unwrap();
        let found = token(&settings).unwrap();
        assert_eq!(
            (found.principal_name.as_str(), found.lifetime_ms),
            ("system:serviceaccount:a:b", 4_102_444_800_000)
        );
        std::fs::write(&file, "opaque").unwrap();
        let found = token(&settings).unwrap();
        assert_eq!((found.token.as_str(), found.principal_name.as_str()), ("opaque", "kubesiren"));
        assert!(found.lifetime_ms > clock::now().0 / 1_000);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_provider_is_asked_with_the_clients_credentials() {
        use crate::sink::fake::{Receiver, Reply};
        let answer = serde_json::json!({"access_token": jwt(r#"{"sub":"me"}"#), "expires_in": 60}).to_string();
        let receiver = Receiver::start(move |request| {
            if request.body.contains("client_secret=s%26cret") {
                Reply::new(200, &answer)
            } else {
                // Whoever answers so must not make us show it.
                Reply::new(401, format!("no: {}", request.body))
            }
        })
        .await;
        let ask = |secret: &str| {
            let settings =
                settings(&serde_json::json!({"sasl.oauthbearer.method": "oidc", "sasl.oauthbearer.client.id": "me",
                "sasl.oauthbearer.client.secret": secret, "sasl.oauthbearer.scope": "kafka",
                "sasl.oauthbearer.token.endpoint.url": receiver.url("/token")}));
            assert!(
                settings.iter().all(|(name, _)| !name.starts_with("sasl.oauthbearer")),
                "librdkafka does not take them"
            );
            std::thread::spawn(move || token(&settings).map_err(|error| error.to_string()))
        };
        let asked = ask("s&cret");
        let found = tokio::task::spawn_blocking(|| asked.join().unwrap()).await.unwrap().unwrap();
        assert_eq!(found.principal_name, "me");
        let body = receiver.requests()[0].body.clone();
        assert!(
            body.starts_with("grant_type=client_credentials&client_id=me&") && body.contains("scope=kafka"),
            "{body}"
        );
        let asked = ask("wrong-4711");
        let error = tokio::task::spawn_blocking(|| asked.join().unwrap()).await.unwrap().err().unwrap();
        assert!(error.contains("answered 401") && !error.contains("4711"), "{error}");
    }
}
