//! PagerDuty's Events API v2: what it refuses, and what its events do to incidents.

use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::script::Script;
use super::{Receiver, Reply, Request};

/// The integration key that it knows.
pub(crate) const KEY: &str = "s3cr3ts3cr3ts3cr3ts3cr3ts3cr3t00";

/// How an incident stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Triggered,
    Resolved,
}

/// An incident, with the payload that opened it.
#[derive(Clone, Debug)]
pub(crate) struct Incident {
    pub(crate) key: String,
    pub(crate) state: State,
    pub(crate) payload: Value,
    pub(crate) links: Value,
}

/// The fake, with its incidents.
#[derive(Clone)]
pub(crate) struct PagerDuty {
    /// The server.
    pub(crate) http: Receiver,
    incidents: Arc<Mutex<Vec<Incident>>>,
    script: Script,
}

impl PagerDuty {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let (incidents, script) = (Arc::<Mutex<Vec<Incident>>>::default(), Script::default());
        let (inner, scripted) = (Arc::clone(&incidents), script.clone());
        let http = Receiver::start(move |request| {
            if let Some(reply) = scripted.next() {
                return reply;
            }
            match enqueue(&mut inner.lock().expect("not poisoned"), request) {
                Ok(()) => Reply::new(202, r#"{"status":"success","message":"Event processed"}"#),
                Err(error) => Reply::new(400, format!(r#"{{"status":"invalid event","errors":["{error}"]}}"#)),
            }
        })
        .await;
        Self { http, incidents, script }
    }

    /// Gives this answer to the next request.
    pub(crate) fn script(&self, reply: Reply) {
        self.script.push(reply);
    }

    /// All incidents, oldest first.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        self.incidents.lock().expect("not poisoned").clone()
    }
}

fn enqueue(incidents: &mut Vec<Incident>, request: &Request) -> Result<(), &'static str> {
    if (request.method.as_str(), request.path.as_str()) != ("POST", "/v2/enqueue") {
        return Err("no such path");
    }
    if request.body.len() > 512 << 10 {
        return Err("larger than 512 KB");
    }
    let event: Value = serde_json::from_str(&request.body).map_err(|_| "no JSON")?;
    if event["routing_key"] != KEY {
        return Err("routing_key is not known");
    }
    let key = event["dedup_key"].as_str().filter(|key| (1..=255).contains(&key.len())).ok_or("dedup_key")?;
    let open = |incident: &&mut Incident| incident.key == key && incident.state == State::Triggered;
    let open = incidents.iter_mut().find(open);
    match (event["event_action"].as_str(), open) {
        (Some("trigger"), open) => {
            let payload = check(&event["payload"])?;
            if open.is_none() {
                let (key, links) = (key.to_owned(), event["links"].clone());
                incidents.push(Incident { key, state: State::Triggered, payload, links });
            }
            Ok(())
        }
        (Some("resolve"), open) => {
            open.into_iter().for_each(|incident| incident.state = State::Resolved);
            Ok(())
        }
        _ => Err("event_action"),
    }
}

/// The payload, if all that is required is there, and nothing is too long.
fn check(payload: &Value) -> Result<Value, &'static str> {
    let text = |key: &str| payload[key].as_str().filter(|text| !text.trim().is_empty());
    let summary = text("summary").ok_or("summary is missing")?;
    if summary.encode_utf16().count() > 1_024 {
        return Err("summary is too long");
    }
    text("source").ok_or("source is missing")?;
    let severity = text("severity").ok_or("severity is missing")?;
    if !["critical", "error", "warning", "info"].contains(&severity) {
        return Err("severity is none");
    }
    if text("timestamp").is_none_or(|time| time.parse::<jiff::Timestamp>().is_err()) {
        return Err("timestamp is none");
    }
    if !payload["custom_details"].is_object() {
        return Err("custom_details is no object");
    }
    Ok(payload.clone())
}
