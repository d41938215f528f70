//! Splunk's HTTP Event Collector: events one after the other, and acknowledgements where the token has them.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::script::Script;
use super::{Receiver, Reply, Request};

/// The token that it knows.
pub(crate) const TOKEN: &str = "5p1unk00-s3cr-3t00-0000-000000000000";

/// The fake, with its events.
#[derive(Clone)]
pub(crate) struct Splunk {
    /// The server.
    pub(crate) http: Receiver,
    state: Arc<Mutex<State>>,
    script: Script,
}

#[derive(Default)]
struct State {
    acknowledges: bool,
    events: Vec<Value>,
    next: u64,
    /// Questions until what was sent is indexed.
    index_after: u32,
    asked: u32,
}

impl Splunk {
    /// Starts one, whose token has acknowledgements or not.
    pub(crate) async fn start(acknowledges: bool) -> Self {
        let (state, script) = (Arc::new(Mutex::new(State { acknowledges, ..State::default() })), Script::default());
        let (inner, scripted) = (Arc::clone(&state), script.clone());
        let http = Receiver::start(move |request| {
            let answer = || answer(&mut inner.lock().expect("not poisoned"), request);
            let (status, body) = match scripted.next() {
                Some(reply) => return reply,
                None => answer().unwrap_or_else(|(status, code, text)| (status, json!({"text": text, "code": code}))),
            };
            Reply::new(status, body.to_string())
        })
        .await;
        Self { http, state, script }
    }

    /// Gives this answer to the next request.
    pub(crate) fn script(&self, reply: Reply) {
        self.script.push(reply);
    }

    /// Says that what was sent is indexed when it is asked for the nth time.
    pub(crate) fn index_after(&self, questions: u32) {
        let mut state = self.state.lock().expect("not poisoned");
        (state.index_after, state.asked) = (questions, 0);
    }

    /// How often it was asked since.
    pub(crate) fn asked(&self) -> u32 {
        self.state.lock().expect("not poisoned").asked
    }

    /// What came so far.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.state.lock().expect("not poisoned").events.clone()
    }
}

type Error = (u16, u64, &'static str);

fn answer(state: &mut State, request: &Request) -> Result<(u16, Value), Error> {
    match request.header("authorization").strip_prefix("Splunk ") {
        Some(TOKEN) => {}
        Some(_) => return Err((403, 4, "Invalid token")),
        None => return Err((401, 2, "Token is required")),
    }
    let channel = request.header("x-splunk-request-channel");
    if state.acknowledges && channel.len() != 36 {
        return Err((400, 10, "Data channel is missing"));
    }
    match request.path.as_str() {
        "/services/collector/event" => take(state, &request.body),
        "/services/collector/ack" if state.acknowledges => {
            let asked: Value = serde_json::from_str(&request.body).map_err(|_| (400, 6, "Invalid data format"))?;
            state.asked += 1;
            let indexed = state.asked >= state.index_after;
            let ids = asked["acks"].as_array().cloned().unwrap_or_default();
            let acks: serde_json::Map<_, _> = ids.iter().map(|id| (id.to_string(), indexed.into())).collect();
            Ok((200, json!({"acks": acks})))
        }
        "/services/collector/ack" => Err((400, 14, "ACK is disabled")),
        _ => Err((404, 404, "The requested URL was not found on this server.")),
    }
}

fn take(state: &mut State, body: &str) -> Result<(u16, Value), Error> {
    let mut events = Vec::new();
    for event in serde_json::Deserializer::from_str(body).into_iter::<Value>() {
        let event = event.map_err(|_| (400, 6, "Invalid data format"))?;
        match &event["event"] {
            Value::Null => return Err((400, 12, "Event field is required")),
            Value::String(text) if text.is_empty() => return Err((400, 13, "Event field cannot be blank")),
            _ => {}
        }
        if !event["time"].is_number() {
            return Err((400, 6, "Invalid data format"));
        }
        events.push(event);
    }
    if events.is_empty() {
        return Err((400, 5, "No data"));
    }
    state.events.extend(events);
    let mut told = json!({"text": "Success", "code": 0});
    if state.acknowledges {
        told["ackId"] = state.next.into();
        state.next += 1;
    }
    Ok((200, told))
}
