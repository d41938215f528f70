//! Windows and episodes: from matches to alerts, in event time.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::alert::EventExcerpt;
use crate::clock::Timestamp;

/// One rule was true of one delivered event: everything that correlation and an alert may need of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Match {
    /// The rule's id.
    pub rule: Arc<str>,
    /// The event's cluster label.
    pub cluster: Arc<str>,
    /// Event time (`stageTimestamp`).
    pub time: Timestamp,
    /// What was delivered: hash of auditID, stage, stageTimestamp and content.
    pub delivery: u64,
    /// What was requested: hash of auditID, requestReceivedTimestamp, user and URI.
    pub request: u64,
    /// The values of every field that groups or counts this rule's matches; several where the path crosses an array.
    pub fields: BTreeMap<Arc<str>, Vec<Value>>,
    /// The event without bodies.
    pub event: EventExcerpt,
    /// What the predicates matched, redacted.
    pub matched: BTreeMap<String, Value>,
}
