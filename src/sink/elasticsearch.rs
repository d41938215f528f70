//! Elasticsearch and OpenSearch, by their bulk API, in the Elastic Common Schema.

mod ecs;

use std::path::PathBuf;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::http::{self, Answer, exchange};
use super::tls::TlsConfig;
use super::{Item, Medium, Message, SendError, Sending, Sent, Traits};
use crate::alert::Status;
use crate::clock::Timestamp;
use crate::text::{shorten, visible_json};
use crate::units::Secret;

/// Few enough that the answer about all of them is read whole.
const BATCH_MAX: usize = 50;
/// Of an answer, what says how each document fared.
const ASKED: &str = "filter_path=errors,items.*.status,items.*.error.type,items.*.error.reason";

/// `type: elasticsearch`: one document per alert, brought up to date by its end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElasticsearchConfig {
    /// Base URL: `https://elasticsearch:9200`.
    pub url: String,
    /// The index, or the data stream, that documents go to.
    #[serde(default = "index")]
    pub index: String,
    /// Whether it is a data stream. Its documents cannot be changed: the end of an alert is a document of its own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub data_stream: bool,
    /// User name, with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// An API key in its encoded form, instead of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_file: Option<PathBuf>,
    /// Whom it trusts, and how it shows who it is.
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
}

fn index() -> String {
    "kubesiren-alerts".to_owned()
}

/// Stores alerts in an index.
pub struct Elasticsearch {
    client: Client,
    url: Url,
    index: String,
    data_stream: bool,
    authorization: Option<HeaderValue>,
    /// What must not be quoted from an answer.
    secret: String,
}

impl Elasticsearch {
    pub(super) fn build(config: &ElasticsearchConfig) -> Result<Self, String> {
        let base = http::url(&config.url, "url")?;
        check_index(&config.index)?;
        let password = Secret::load(config.password.as_ref(), config.password_file.as_ref())?;
        let api_key = Secret::load(config.api_key.as_ref(), config.api_key_file.as_ref())?;
        let (authorization, secret) =
            http::authorization(config.username.as_deref(), password, "api_key", "ApiKey", api_key)?;
        let mut url = http::below(&base, "_bulk");
        url.set_query(Some(ASKED));
        let client = http::client_for(&base, &config.tls)?;
        Ok(Self { client, url, index: config.index.clone(), data_stream: config.data_stream, authorization, secret })
    }

    /// Two lines: what to do, and the document.
    ///
    /// The document's id is the alert's, so that one that is sent again changes nothing: what exists is not created
    /// again, and an end that is written twice is the same.
    fn lines(&self, item: &Item) -> String {
        let alert = &item.alert;
        let action = match (alert.status, self.data_stream) {
            (Status::Firing, _) => json!({"create": {"_index": self.index, "_id": alert.id}}),
            (Status::Resolved, false) => json!({"index": {"_index": self.index, "_id": alert.id}}),
            (Status::Resolved, true) => {
                json!({"create": {"_index": self.index, "_id": format!("{}-resolved", alert.id)}})
            }
        };
        // A document that is brought up to date stays where it is; one that tells of the end stands at the end.
        let time = if self.data_stream { alert.told_of() } else { alert.time };
        format!("{action}\n{}\n", visible_json(ecs::document(alert, time).to_string()))
    }

    /// What the answer says of each item: all are taken but those that are listed.
    fn judge(&self, answer: &Answer, items: usize) -> Result<Vec<(usize, SendError)>, SendError> {
        answer.usual(&[&self.secret])?;
        let told = serde_json::from_str::<Bulk>(&answer.body).ok();
        let told = match told {
            Some(told) if !told.errors => return Ok(Vec::new()),
            Some(told) if told.items.len() == items => told,
            // Too long to be read whole, maybe: smaller parts have shorter answers, and nothing is stored twice.
            _ if items > 1 => return Err(SendError::reject("the answer does not say how each document fared")),
            _ => return Err(SendError::retry("an answer that is not Elasticsearch's")),
        };
        let refused = told.items.iter().enumerate().filter_map(|(n, item)| Some((n, refusal(item)?)));
        let mut refused: Vec<(usize, SendError)> = refused.collect();
        if refused.len() == items && refused.iter().all(|(_, error)| matches!(error, SendError::Retry { .. })) {
            // It takes nothing at all: the others wait too.
            return Err(refused.swap_remove(0).1);
        }
        Ok(refused)
    }
}

fn check_index(index: &str) -> Result<(), String> {
    let wrong = index.is_empty()
        || index.len() > 255
        || index.starts_with(['-', '_', '+', '.'])
        || index
            .contains(|c: char| c.is_uppercase() || c.is_whitespace() || c.is_control() || "\\/*?\"<>|,#:".contains(c));
    if wrong {
        return Err(
            "index: a name has small letters, digits, `-`, `_` and `.`, and begins with a letter or a digit".into()
        );
    }
    Ok(())
}

/// What a bulk request is answered with.
#[derive(Deserialize)]
struct Bulk {
    #[serde(default)]
    errors: bool,
    #[serde(default)]
    items: Vec<Value>,
}

/// Why a document was not stored, if it was not.
fn refusal(item: &Value) -> Option<SendError> {
    let (action, result) = item.as_object()?.iter().next()?;
    let status = result["status"].as_u64().unwrap_or_default();
    let taken = (200..300).contains(&status) || (status == 409 && action == "create");
    if taken {
        return None;
    }
    let text = |key: &str| shorten(result["error"][key].as_str().unwrap_or_default(), 200);
    let reason = format!("answered {status} for this alert: {}: {}", text("type"), text("reason"));
    // What somebody has to mend, such as an index that may not be made, is no fault of the alert's.
    let later = matches!(status, 0 | 401 | 403 | 404 | 408 | 409 | 429 | 500..);
    Some(if later { SendError::retry(reason) } else { SendError::reject(reason) })
}

impl Medium for Elasticsearch {
    fn traits(&self) -> Traits {
        Traits { batch_max: BATCH_MAX, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            let body: String = message.items.iter().map(|item| self.lines(item)).collect();
            let mut request =
                self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/x-ndjson").body(body);
            if let Some(authorization) = &self.authorization {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let answer = exchange(request, now).await?;
            let refused = self.judge(&answer, message.items.len())?;
            Ok(Sent { refused, ..Sent::default() })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Reply;
    use super::super::fake::search::{self as fake, Search};
    use super::super::samples::{alert, at, hostile, item, message};
    use super::*;
    use crate::alert::Level;
    use crate::store::Kind;

    fn config(search: &Search) -> ElasticsearchConfig {
        serde_json::from_value(json!({"url": search.http.url("/es/"), "api_key": fake::KEY})).unwrap()
    }

    fn sink(search: &Search) -> Elasticsearch {
        Elasticsearch::build(&config(search)).unwrap()
    }

    fn firing(id: &str) -> Item {
        item(Kind::Firing, alert(id, "r", Level::High))
    }

    fn resolved(id: &str) -> Item {
        item(Kind::Resolved, alert(id, "r", Level::High))
    }

    async fn send(sink: &Elasticsearch, items: Vec<Item>) -> Result<Sent, SendError> {
        sink.send(&message(items), at("2026-11-21T05:00:00Z")).await
    }

    #[tokio::test]
    async fn an_alert_is_one_document_however_often_it_is_sent() {
        let search = Search::start().await;
        let sink = sink(&search);
        assert_eq!(send(&sink, vec![firing("a"), firing("b")]).await, Ok(Sent::default()));
        assert_eq!(send(&sink, vec![firing("a"), resolved("a"), firing("c")]).await, Ok(Sent::default()));
        // The beginning that comes once more after the end does not take it back.
        assert_eq!(send(&sink, vec![firing("a"), resolved("a")]).await, Ok(Sent::default()));
        let documents = search.documents();
        assert_eq!(documents.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(documents["a"]["kubesiren"]["status"], "resolved");
        assert_eq!(documents["a"]["@timestamp"], documents["b"]["@timestamp"], "a document stays where it is");
        assert_eq!(documents["b"]["kubesiren"]["status"], "firing");
    }

    #[tokio::test]
    async fn in_a_data_stream_the_end_is_a_document_of_its_own() {
        let search = Search::start().await;
        search.append_only();
        let sink = Elasticsearch::build(&ElasticsearchConfig { data_stream: true, ..config(&search) }).unwrap();
        for _ in 0..2 {
            assert_eq!(send(&sink, vec![firing("a"), resolved("a")]).await, Ok(Sent::default()));
        }
        let documents = search.documents();
        assert_eq!(documents.keys().map(String::as_str).collect::<Vec<_>>(), ["a", "a-resolved"]);
        assert_eq!(documents["a-resolved"]["event"]["id"], "a");
        let times = ["a", "a-resolved"].map(|id| documents[id]["@timestamp"].clone());
        assert_eq!(times, ["2026-11-21T04:00:00.123456Z", "2026-11-21T04:04:12.000000Z"]);
    }

    #[tokio::test]
    async fn of_a_batch_only_what_was_refused_is_sent_again_or_given_up() {
        let search = Search::start().await;
        search.refuse("busy", 429);
        search.refuse("bad", 400);
        search.refuse("lost", 503);
        let sink = sink(&search);
        let all = ["a", "busy", "bad", "b", "lost"].map(firing).to_vec();
        let sent = send(&sink, all).await.unwrap();
        let fates: Vec<_> =
            sent.refused.iter().map(|(n, error)| (*n, matches!(error, SendError::Retry { .. }))).collect();
        assert_eq!(fates, [(1, true), (2, false), (4, true)]);
        assert!(
            sent.refused[1].1.to_string().contains("400 for this alert: document_parsing_exception: failed to parse")
        );
        assert_eq!(search.documents().len(), 2);
        // When all of it may be taken later, the sink as a whole is busy.
        let error = send(&sink, vec![firing("busy"), firing("lost")]).await.unwrap_err();
        assert!(matches!(error, SendError::Retry { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn an_answer_that_cannot_be_read_is_asked_for_in_parts() {
        let search = Search::start().await;
        let sink = sink(&search);
        search.script(Reply::new(200, r#"{"errors":true,"items":[{"create":{"status":201}},{"cre"#));
        assert!(matches!(send(&sink, vec![firing("a"), firing("b")]).await, Err(SendError::Reject { .. })));
        search.script(Reply::new(200, "<html>a proxy's login page</html>"));
        assert!(matches!(send(&sink, vec![firing("a")]).await, Err(SendError::Retry { .. })));
    }

    #[tokio::test]
    async fn the_whole_request_may_be_refused() {
        let search = Search::start().await;
        let sink = sink(&search);
        for (status, retried) in [(429, true), (503, true), (401, true), (404, true), (413, false), (400, false)] {
            search.script(Reply::new(status, format!("no {}", fake::KEY)).header("Retry-After", "5"));
            let error = send(&sink, vec![firing("a"), firing("b")]).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{status}: {error:?}");
            assert!(!error.to_string().contains(fake::KEY), "{error}");
        }
        let wrong = ElasticsearchConfig { api_key: Some(Secret::new("other".to_owned())), ..config(&search) };
        let error = send(&Elasticsearch::build(&wrong).unwrap(), vec![firing("a")]).await.unwrap_err();
        assert!(error.to_string().contains("401"), "{error}");
    }

    #[tokio::test]
    async fn whatever_an_event_says_it_is_a_document() {
        let search = Search::start().await;
        let sink = sink(&search);
        for (n, text) in ["", "\u{202e}\n\"}\n{\"delete\":{}}", &"x".repeat(100_000)].into_iter().enumerate() {
            let item = item(Kind::Firing, hostile(&n.to_string(), text));
            assert_eq!(send(&sink, vec![item]).await, Ok(Sent::default()));
        }
        assert_eq!(search.documents().len(), 3);
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        let config = |json: Value| serde_json::from_value::<ElasticsearchConfig>(json).unwrap();
        for (given, said) in [
            (json!({"url": "https://e", "username": "u"}), "go together"),
            (json!({"url": "https://e", "username": "u", "password": "p", "api_key": "k"}), "not both"),
            (json!({"url": "https://e", "username": "u:v", "password": "p"}), "no colon"),
            (json!({"url": "https://e", "index": "Alerts"}), "index:"),
            (json!({"url": "http://e", "tls": {"ca": "/x"}}), "tls is of no use"),
        ] {
            let error = Elasticsearch::build(&config(given)).err().unwrap();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
