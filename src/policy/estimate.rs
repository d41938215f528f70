//! What a policy would have written of recorded events.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::evaluate::Request;
use super::model::{Level, Policy};

/// Numbers of events and of their bytes as JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Volume {
    /// Events.
    pub events: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What becomes of recorded events.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Estimate {
    /// As they were recorded.
    pub before: Volume,
    /// As the policy would write them.
    pub after: Volume,
    /// What is not written at all.
    pub dropped: Volume,
    /// Events of which a stage is omitted.
    pub stages_omitted: Volume,
    /// Events without a body that was recorded; the bytes are those that are saved.
    pub lowered: Volume,
    /// Events that the policy wants with bodies, and that were recorded without: they would be larger than told.
    pub recorded_lower: u64,
    /// Pieces of the recording that are no events, and are not counted otherwise.
    pub no_events: u64,
    /// What the policy's rules let through, by the line where each begins; 0 is for no rule.
    pub by_line: BTreeMap<usize, Volume>,
}

impl Volume {
    fn add(&mut self, bytes: u64) {
        self.events += 1;
        self.bytes += bytes;
    }
}

impl Estimate {
    /// Takes one event that is `bytes` long.
    pub fn take(&mut self, policy: &Policy, event: &Value, bytes: u64) {
        self.before.add(bytes);
        let verdict = policy.judge(&Request::of(event));
        if verdict.level == Level::None {
            return self.dropped.add(bytes);
        }
        let Some(left) = verdict.cut(event) else { return self.stages_omitted.add(bytes) };
        // What is taken away is measured the same way as what is left, so that spaces in a recording do not count.
        let saved = (length(event).saturating_sub(length(&left))).min(bytes);
        if saved > 0 {
            self.lowered.events += 1;
            self.lowered.bytes += saved;
        }
        let recorded = event.get("level").and_then(Value::as_str).unwrap_or_default();
        if [Level::Metadata, Level::Request].iter().any(|level| level.as_str() == recorded && *level < verdict.level) {
            self.recorded_lower += 1;
        }
        self.after.add(bytes - saved);
        let line = verdict.rule.map_or(0, |rule| policy.rules[rule].line);
        self.by_line.entry(line).or_default().add(bytes - saved);
    }
}

fn length(event: &Value) -> u64 {
    event.to_string().len() as u64
}
