//! The events of a case: defaults, the file's base, the case's own, and repetition.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::clock::Timestamp;

/// When every case starts.
const START: &str = "2026-01-05T09:00:00.000000Z";

/// How much later than the one before an event comes, unless it says when.
const STEP: Duration = Duration::from_secs(1);

/// Events as a case has them: one, or the same one several times.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// What it has on top of the base.
    pub(super) event: Value,
    /// How often; `{n}` is replaced if it was said.
    pub(super) times: Option<u32>,
    /// Time between repetitions.
    pub(super) every: Option<Duration>,
    /// When the first comes, from the start of the case.
    pub(super) at: Option<Duration>,
}

/// All events of a case in the order of their times.
pub(super) fn expand(base: &Value, blocks: &[Block]) -> Vec<Value> {
    let start = Timestamp::parse(START).unwrap_or(Timestamp::MIN);
    let mut events: Vec<(Duration, Value)> = Vec::new();
    let mut next = Duration::ZERO;
    for block in blocks {
        let mut at = block.at.unwrap_or(next);
        for n in 1..=block.times.unwrap_or(1) {
            let number = events.len() + 1;
            let mut event = defaults(number, start.plus(at));
            merge(&mut event, base);
            merge(&mut event, &block.event);
            if block.times.is_some() {
                number_it(&mut event, &n.to_string());
            }
            events.push((at, event));
            next = at + STEP;
            at += block.every.unwrap_or(STEP);
        }
    }
    events.sort_by_key(|(at, _)| *at);
    events.into_iter().map(|(_, event)| event).collect()
}

/// What every audit event has, so that cases say only what matters to them.
fn defaults(number: usize, time: Timestamp) -> Value {
    json!({
        "kind": "Event",
        "apiVersion": "audit.k8s.io/v1",
        "level": "Metadata",
        "auditID": format!("00000000-0000-4000-8000-{number:012}"),
        "stage": "ResponseComplete",
        "requestURI": "/",
        "user": {"username": "alice", "groups": ["system:authenticated"]},
        "sourceIPs": ["10.0.0.9"],
        "userAgent": "kubectl/v1.36.0",
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": time,
        "stageTimestamp": time,
    })
}

/// Puts `over` on top: mappings are merged, null removes, everything else replaces.
fn merge(under: &mut Value, over: &Value) {
    let Value::Object(over) = over else {
        *under = over.clone();
        return;
    };
    if !under.is_object() {
        *under = Value::Object(Map::new());
    }
    let Value::Object(under) = under else { return };
    for (key, value) in over {
        if value.is_null() {
            under.remove(key);
        } else {
            merge(under.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// Replaces `{n}` in every text.
fn number_it(value: &mut Value, number: &str) {
    match value {
        Value::String(text) if text.contains("{n}") => *text = text.replace("{n}", number),
        Value::Array(items) => items.iter_mut().for_each(|item| number_it(item, number)),
        Value::Object(map) => map.values_mut().for_each(|value| number_it(value, number)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(event: Value) -> Block {
        Block { event, times: None, every: None, at: None }
    }

    #[test]
    fn mappings_are_merged_lists_replaced_and_nulls_remove() {
        let base = json!({"user": {"groups": ["a"], "uid": "1"}, "verb": "get", "userAgent": null});
        let events = expand(&base, &[block(json!({"user": {"username": null, "groups": ["b"]}, "x": {"y": null}}))]);
        assert_eq!(events[0]["user"], json!({"groups": ["b"], "uid": "1"}));
        assert_eq!((&events[0]["verb"], &events[0]["x"]), (&json!("get"), &json!({})));
        assert!(events[0].get("userAgent").is_none());
        let events = expand(&base, &[block(json!({"user": {"username": null, "groups": null, "uid": null}}))]);
        assert_eq!(events[0]["user"], json!({}));
    }

    #[test]
    fn repetition_numbers_and_places_in_time() {
        let repeated = Block {
            event: json!({"verb": "v{n}"}),
            times: Some(3),
            every: Some(Duration::from_secs(10)),
            at: Some(Duration::from_secs(5)),
        };
        let events = expand(&json!({}), &[repeated, block(json!({"verb": "late{n}"})), block(json!({}))]);
        let times: Vec<_> = events.iter().filter_map(|e| e["stageTimestamp"].as_str().map(|t| &t[14..19])).collect();
        assert_eq!(times, ["00:05", "00:15", "00:25", "00:26", "00:27"]);
        assert_eq!((&events[2]["verb"], &events[3]["verb"]), (&json!("v3"), &json!("late{n}")));
        assert_ne!(events[0]["auditID"], events[1]["auditID"]);
    }

    #[test]
    fn blocks_that_overlap_are_put_in_order() {
        let at = |at, verb| Block { at: Some(Duration::from_secs(at)), ..block(json!({"verb": verb})) };
        let events = expand(&json!({}), &[at(9, "second"), at(3, "first")]);
        assert_eq!(events[0]["verb"], "first");
    }
}
