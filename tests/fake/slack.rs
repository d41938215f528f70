//! A Slack that behaves as the real one does: its limits, its error texts, its rate.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Receiver, Reply, Request};

/// The path of the incoming webhook.
pub(crate) const HOOK: &str = "/services/T0/B0/s3cr3t";
/// The bot token it knows.
pub(crate) const TOKEN: &str = "xoxb-s3cr3t";
/// The channel it knows, by name and by id.
pub(crate) const CHANNEL: (&str, &str) = ("alerts", "C0ALERTS");

/// The fake, with what is in its channel.
#[derive(Clone)]
pub(crate) struct Slack {
    /// The server.
    pub(crate) http: Receiver,
    state: Arc<Mutex<State>>,
}

/// A message in the channel, as it is after updates.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    /// Its timestamp, which is its id.
    pub(crate) ts: String,
    /// The message it answers.
    pub(crate) thread: Option<String>,
    /// The payload.
    pub(crate) payload: Value,
    /// How often it was changed.
    pub(crate) updates: u32,
}

#[derive(Default)]
struct State {
    messages: Vec<Posted>,
    next: u64,
    /// Answers to give instead, first one first.
    scripted: Vec<Reply>,
    rate: Option<Bucket>,
}

struct Bucket {
    tokens: f64,
    burst: f64,
    every: Duration,
    at: Instant,
}

impl Slack {
    /// Starts one without a rate limit.
    pub(crate) async fn start() -> Self {
        let state = Arc::new(Mutex::new(State::default()));
        let inner = Arc::clone(&state);
        let http = Receiver::start(move |request| answer(&mut inner.lock().expect("not poisoned"), request)).await;
        Self { http, state }
    }

    /// From now on takes `burst` messages at once and one more `every` so often, and answers 429 to the others.
    pub(crate) fn limit(&self, burst: u32, every: Duration) {
        let burst = f64::from(burst);
        self.lock().rate = Some(Bucket { tokens: burst, burst, every, at: Instant::now() });
    }

    /// Gives this answer to the next request.
    pub(crate) fn script(&self, reply: Reply) {
        self.lock().scripted.push(reply);
    }

    /// How many such answers were not given yet.
    pub(crate) fn script_left(&self) -> usize {
        self.lock().scripted.len()
    }

    /// The incoming webhook's URL.
    pub(crate) fn hook(&self) -> String {
        self.http.url(HOOK)
    }

    /// The base of the Web API.
    pub(crate) fn api(&self) -> String {
        self.http.url("/api")
    }

    /// What is in the channel, oldest first, threads included.
    pub(crate) fn messages(&self) -> Vec<Posted> {
        self.lock().messages.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }
}

fn answer(state: &mut State, request: &Request) -> Reply {
    if !state.scripted.is_empty() {
        return state.scripted.remove(0);
    }
    let hook = request.path == HOOK;
    if let Some(wait) = state.rate.as_mut().and_then(Bucket::take) {
        let body = if hook { "rate_limited" } else { r#"{"ok":false,"error":"ratelimited"}"# };
        return Reply::new(429, body).header("Retry-After", &wait.to_string());
    }
    let payload = payload(request);
    match request.path.as_str() {
        HOOK => webhook(state, payload),
        "/api/chat.postMessage" => api(request, payload, |payload| post(state, payload)),
        "/api/chat.update" => api(request, payload, |payload| update(state, payload)),
        path if path.starts_with("/api/") => Reply::new(200, r#"{"ok":false,"error":"unknown_method"}"#),
        _ => Reply::new(404, "no_service"),
    }
}

impl Bucket {
    /// Takes one token, or says in how many seconds there is one.
    fn take(&mut self) -> Option<u64> {
        let now = Instant::now();
        let fresh = now.duration_since(self.at).as_secs_f64() / self.every.as_secs_f64();
        self.at = now;
        self.tokens = (self.tokens + fresh).min(self.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return None;
        }
        Some(self.every.as_secs().max(1))
    }
}

/// JSON, or a form with `payload=` for webhooks; nothing else is understood.
fn payload(request: &Request) -> Option<Value> {
    serde_json::from_str::<Value>(&request.body).ok().filter(Value::is_object)
}

fn webhook(state: &mut State, payload: Option<Value>) -> Reply {
    let Some(payload) = payload else { return Reply::new(400, "invalid_payload") };
    match check(&payload) {
        Ok(()) => {
            append(state, payload);
            Reply::new(200, "ok")
        }
        Err("no_text") => Reply::new(400, "no_text"),
        Err("invalid_blocks") => Reply::new(400, "invalid_blocks"),
        Err(_) => Reply::new(400, "invalid_payload"),
    }
}

fn api(request: &Request, payload: Option<Value>, run: impl FnOnce(Value) -> Result<Value, &'static str>) -> Reply {
    let result = if request.header("authorization") != format!("Bearer {TOKEN}") {
        Err("invalid_auth")
    } else if let Some(payload) = payload {
        check(&payload).and_then(|()| run(payload))
    } else {
        Err("invalid_json")
    };
    let body = result.unwrap_or_else(|error| json!({"ok": false, "error": error}));
    Reply::new(200, body.to_string())
}

fn post(state: &mut State, payload: Value) -> Result<Value, &'static str> {
    let channel = payload["channel"].as_str().unwrap_or_default().trim_start_matches('#');
    if channel != CHANNEL.0 && channel != CHANNEL.1 {
        return Err("channel_not_found");
    }
    if let Some(thread) = payload["thread_ts"].as_str()
        && !state.messages.iter().any(|message| message.ts == thread)
    {
        return Err("thread_not_found");
    }
    let ts = append(state, payload);
    Ok(json!({"ok": true, "channel": CHANNEL.1, "ts": ts}))
}

fn update(state: &mut State, payload: Value) -> Result<Value, &'static str> {
    if payload["channel"] != CHANNEL.1 {
        return Err("channel_not_found"); // Here only the id is known, as with the real one.
    }
    let ts = payload["ts"].as_str().unwrap_or_default().to_owned();
    let message = state.messages.iter_mut().find(|message| message.ts == ts).ok_or("message_not_found")?;
    message.payload = payload;
    message.updates += 1;
    Ok(json!({"ok": true, "channel": CHANNEL.1, "ts": ts}))
}

fn append(state: &mut State, payload: Value) -> String {
    state.next += 1;
    let ts = format!("1763697600.{:06}", state.next);
    let thread = payload["thread_ts"].as_str().map(str::to_owned);
    state.messages.push(Posted { ts: ts.clone(), thread, payload, updates: 0 });
    ts
}

/// The limits of messages and blocks.
pub(crate) fn check(payload: &Value) -> Result<(), &'static str> {
    let text = payload["text"].as_str().unwrap_or_default();
    let none = Vec::new();
    let blocks = payload["blocks"].as_array().unwrap_or(&none);
    if text.is_empty() && blocks.is_empty() {
        return Err("no_text");
    }
    if width(text) > 40_000 || payload.to_string().len() > 100_000 {
        return Err("msg_too_long");
    }
    if blocks.len() > 50 || !blocks.iter().all(block) {
        return Err("invalid_blocks");
    }
    if blocks.iter().map(texts).sum::<usize>() > 13_000 {
        return Err("msg_blocks_too_long");
    }
    Ok(())
}

fn block(block: &Value) -> bool {
    match block["type"].as_str() {
        Some("header") => block["text"]["type"] == "plain_text" && text_object(&block["text"], 150),
        Some("section") => {
            let fields = block["fields"].as_array();
            let text = block.get("text");
            (text.is_some() || fields.is_some())
                && text.is_none_or(|text| text_object(text, 3_000))
                && fields.is_none_or(|fields| {
                    (1..=10).contains(&fields.len()) && fields.iter().all(|field| text_object(field, 2_000))
                })
        }
        Some("context") => block["elements"].as_array().is_some_and(|elements| {
            (1..=10).contains(&elements.len()) && elements.iter().all(|element| text_object(element, 3_000))
        }),
        Some("divider") => true,
        _ => false,
    }
}

/// A text object: known keys, not empty, not too long.
fn text_object(text: &Value, max: usize) -> bool {
    let known: BTreeMap<&str, &[&str]> =
        BTreeMap::from([("plain_text", &["type", "text", "emoji"][..]), ("mrkdwn", &["type", "text", "verbatim"][..])]);
    let Some(keys) = text["type"].as_str().and_then(|kind| known.get(kind)) else { return false };
    text.as_object().is_some_and(|object| object.keys().all(|key| keys.contains(&key.as_str())))
        && text["text"].as_str().is_some_and(|text| !text.is_empty() && width(text) <= max)
}

/// All text of a block, in characters.
fn texts(value: &Value) -> usize {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| {
                if key == "text" && value.is_string() {
                    width(value.as_str().unwrap_or_default())
                } else {
                    texts(value)
                }
            })
            .sum(),
        Value::Array(values) => values.iter().map(texts).sum(),
        _ => 0,
    }
}

fn width(text: &str) -> usize {
    text.encode_utf16().count()
}
