//! Loki's push API: what it refuses, and the lines of its streams.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::script::Script;
use super::{Receiver, Reply, Request};

/// A line of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// Nanoseconds.
    pub(crate) time: String,
    pub(crate) line: String,
    pub(crate) metadata: Value,
}

/// Lines by the labels of their stream.
type Streams = BTreeMap<String, Vec<Line>>;

/// The fake, with its streams.
#[derive(Clone)]
pub(crate) struct Loki {
    /// The server.
    pub(crate) http: Receiver,
    streams: Arc<Mutex<Streams>>,
    script: Script,
}

impl Loki {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let (streams, script) = (Arc::<Mutex<Streams>>::default(), Script::default());
        let (inner, scripted) = (Arc::clone(&streams), script.clone());
        let http = Receiver::start(move |request| {
            if let Some(reply) = scripted.next() {
                return reply;
            }
            match push(&mut inner.lock().expect("not poisoned"), request) {
                Ok(()) => Reply::new(204, ""),
                Err(error) => Reply::new(400, error),
            }
        })
        .await;
        Self { http, streams, script }
    }

    /// Gives this answer to the next request.
    pub(crate) fn script(&self, reply: Reply) {
        self.script.push(reply);
    }

    /// What is stored.
    pub(crate) fn streams(&self) -> Streams {
        self.streams.lock().expect("not poisoned").clone()
    }
}

fn push(streams: &mut Streams, request: &Request) -> Result<(), String> {
    if request.path != "/loki/api/v1/push" || request.header("content-type") != "application/json" {
        return Err("no such path, or another content type".to_owned());
    }
    let body: Value = serde_json::from_str(&request.body).map_err(|error| error.to_string())?;
    for stream in body["streams"].as_array().ok_or("no streams")? {
        let labels = texts(&stream["stream"])?;
        if labels.is_empty() || labels.len() > 15 {
            return Err("at least one label pair is required, and no more than 15".to_owned());
        }
        let lines = streams.entry(stream["stream"].to_string()).or_default();
        for entry in stream["values"].as_array().ok_or("no values")? {
            let time = entry[0].as_str().ok_or("Value looks like Number/Boolean/None, but can't find its end")?;
            time.parse::<u64>().map_err(|error| error.to_string())?;
            let line = entry[1].as_str().filter(|line| line.len() <= 256 << 10).ok_or("line too long")?;
            texts(&entry[2])?;
            let line = Line { time: time.to_owned(), line: line.to_owned(), metadata: entry[2].clone() };
            // The same line at the same time is the same line.
            if !lines.contains(&line) {
                lines.push(line);
            }
        }
    }
    Ok(())
}

/// A map of names to texts, as labels and metadata are.
fn texts(map: &Value) -> Result<&serde_json::Map<String, Value>, String> {
    let map = map.as_object().ok_or("no map")?;
    let name = |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if map.iter().all(|(key, value)| name(key) && value.as_str().is_some_and(|text| !text.is_empty())) {
        Ok(map)
    } else {
        Err("a name is none, or a value is no text".to_owned())
    }
}
