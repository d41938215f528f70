//! The bulk API of Elasticsearch and OpenSearch: documents by id, one result each.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::script::Script;
use super::{Receiver, Reply, Request};

/// The API key that it knows.
pub(crate) const KEY: &str = "czNjcjN0OmsweQ==";

/// The fake, with its documents.
#[derive(Clone)]
pub(crate) struct Search {
    /// The server.
    pub(crate) http: Receiver,
    state: Arc<Mutex<State>>,
    script: Script,
}

#[derive(Default)]
struct State {
    documents: BTreeMap<String, Value>,
    refused: BTreeMap<String, u64>,
    append_only: bool,
}

impl Search {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let (state, script) = (Arc::<Mutex<State>>::default(), Script::default());
        let (inner, scripted) = (Arc::clone(&state), script.clone());
        let http = Receiver::start(move |request| {
            scripted.next().unwrap_or_else(|| bulk(&mut inner.lock().expect("not poisoned"), request))
        })
        .await;
        Self { http, state, script }
    }

    /// Gives this answer to the next request.
    pub(crate) fn script(&self, reply: Reply) {
        self.script.push(reply);
    }

    /// Answers with this status for the document of this id.
    pub(crate) fn refuse(&self, id: &str, status: u64) {
        self.state.lock().expect("not poisoned").refused.insert(id.to_owned(), status);
    }

    /// Is a data stream from now on.
    pub(crate) fn append_only(&self) {
        self.state.lock().expect("not poisoned").append_only = true;
    }

    /// What is stored.
    pub(crate) fn documents(&self) -> BTreeMap<String, Value> {
        self.state.lock().expect("not poisoned").documents.clone()
    }
}

fn bulk(state: &mut State, request: &Request) -> Reply {
    if request.path != "/es/_bulk" || request.header("content-type") != "application/x-ndjson" {
        return Reply::new(404, "no such path, or another content type");
    }
    if request.header("authorization") != format!("ApiKey {KEY}") {
        return Reply::new(401, r#"{"error":{"type":"security_exception"}}"#);
    }
    let Some(text) = request.body.strip_suffix('\n') else {
        return Reply::new(400, "The bulk request must be terminated by a newline [\\n]");
    };
    let lines: Vec<&str> = text.split('\n').collect();
    let read = |text: &str| serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    let mut items = Vec::new();
    for pair in lines.chunks(2) {
        let (Some(action), Some(document)) = (read(pair[0]), pair.get(1).and_then(|text| read(text))) else {
            return Reply::new(400, "Malformed action/metadata line");
        };
        let Some((name, target)) = action.as_object().and_then(|action| action.iter().next()) else {
            return Reply::new(400, "Malformed action/metadata line");
        };
        items.push(json!({name: store(state, name, target, document)}));
    }
    let status = |item: &Value| item.as_object().and_then(|item| item.values().next()?["status"].as_u64());
    let errors = items.iter().any(|item| status(item).is_none_or(|status| status >= 300));
    // What was not asked for is left out.
    let answer = if errors { json!({"errors": true, "items": items}) } else { json!({"errors": false}) };
    Reply::new(200, answer.to_string())
}

fn store(state: &mut State, action: &str, target: &Value, document: Value) -> Value {
    let error =
        |status: u64, kind: &str, reason: &str| json!({"status": status, "error": {"type": kind, "reason": reason}});
    let (Some(index), Some(id)) = (target["_index"].as_str(), target["_id"].as_str()) else {
        return error(400, "illegal_argument_exception", "no index, or no id");
    };
    if index != "kubesiren-alerts" {
        return error(404, "index_not_found_exception", "no such index");
    }
    match state.refused.get(id) {
        Some(400) => return error(400, "document_parsing_exception", "failed to parse"),
        Some(status) => return error(*status, "es_rejected_execution_exception", "the queue is full"),
        None => {}
    }
    if document["@timestamp"].as_str().is_none_or(|time| time.parse::<jiff::Timestamp>().is_err()) {
        return error(400, "document_parsing_exception", "no @timestamp");
    }
    match action {
        "create" if state.documents.contains_key(id) => {
            error(409, "version_conflict_engine_exception", "document already exists")
        }
        "index" if state.append_only => error(
            400,
            "illegal_argument_exception",
            "only write ops with an op_type of create are allowed in data streams",
        ),
        "create" | "index" => {
            let status = if state.documents.insert(id.to_owned(), document).is_some() { 200 } else { 201 };
            json!({"status": status})
        }
        _ => error(400, "illegal_argument_exception", "no such action"),
    }
}
