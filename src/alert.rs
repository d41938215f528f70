//! An alert: what everybody downstream of detection speaks about. Its JSON is the public contract
//! (the same object in `scan`, on stdout, in the generic webhook and in the API).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Timestamp;

/// The rule of the daemon's own events, and the cluster that they are of. Its alerts are no concern of people's.
pub const CANARY: &str = "kubesiren-canary";

/// The rule of the alert that fires for as long as all is well.
pub const WATCHDOG: &str = "kubesiren-watchdog";

/// How bad it is: Sigma's levels, lowest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Worth a record, never a page.
    #[default]
    Informational,
    /// Look when there is time.
    Low,
    /// Look today.
    Medium,
    /// Look now.
    High,
    /// Somebody has to be woken up.
    Critical,
}

impl Level {
    /// All levels, lowest first.
    pub const ALL: [Self; 5] = [Self::Informational, Self::Low, Self::Medium, Self::High, Self::Critical];

    /// The level's name as rules and alerts write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Informational => "informational",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|level| level.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("`{text}` is no level; the levels are informational, low, medium, high, critical"))
    }
}

/// Whether the episode behind an alert still goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// The episode is open.
    Firing,
    /// One quiet timespan has passed.
    Resolved,
}

impl Status {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// The JSON Schema of an alert, for whoever reads it: `required` is what is always written.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::generate::SchemaSettings::default().for_serialize().into_generator().into_root_schema_for::<Alert>()
}

/// One episode of one rule, cluster and group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Alert {
    /// A pure function of rule, cluster, group and the evidence that opened the episode: 32 hex digits.
    pub id: String,
    /// Firing or resolved.
    pub status: Status,
    /// Event time at which the condition first held.
    pub time: Timestamp,
    /// The cluster label of the events.
    pub cluster: String,
    /// The rule that fired.
    pub rule: Arc<RuleInfo>,
    /// One line for people: who did what to what, from where, with what result. Untrusted text: escape it for the medium.
    pub summary: String,
    /// Matches (requests) in the episode so far.
    pub count: u64,
    /// Event time of the oldest match of the episode.
    pub first_seen: Timestamp,
    /// Event time of the newest match of the episode.
    pub last_seen: Timestamp,
    /// What the episode is about: field to value; `null` where the event lacks the field.
    pub group: BTreeMap<String, Value>,
    /// The event that completed the evidence, without bodies.
    pub event: EventExcerpt,
    /// The values that the rule's predicates matched, by field, redacted.
    pub matched: BTreeMap<String, Value>,
    /// At most ten, oldest first.
    pub audit_ids: Vec<String>,
    /// Of a correlation of several rules: which were true, in order. At most twenty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub timeline: Vec<Step>,
}

impl Alert {
    /// Event time of what the status tells: when it began, or when it was last seen before it ended.
    #[must_use]
    pub fn told_of(&self) -> Timestamp {
        match self.status {
            Status::Firing => self.time,
            Status::Resolved => self.last_seen,
        }
    }
}

/// What a timeline says of one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Step {
    /// Event time of its first match in the episode.
    pub time: Timestamp,
    /// The rule.
    pub rule: RuleName,
    /// One line about that match, as untrusted as the alert's own. Empty if nothing is known of it any more.
    pub summary: String,
    /// Its matches in the episode so far.
    pub count: u64,
}

impl Step {
    /// `04:44:20`, for people who know the day.
    #[must_use]
    pub fn time_of_day(&self) -> String {
        let time = self.time.to_string();
        time.split(['T', '.', 'Z']).nth(1).unwrap_or_default().to_owned()
    }

    /// ` ×3`, or nothing for a single match.
    #[must_use]
    pub fn times(&self) -> String {
        if self.count > 1 { format!(" ×{}", self.count) } else { String::new() }
    }
}

/// A rule, as short as people know it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleName {
    /// The rule's id.
    pub id: String,
    /// The rule's title.
    pub title: String,
    /// The rule's level, after the configuration's override.
    pub level: Level,
}

/// What an alert says of its rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RuleInfo {
    /// The rule's id (a UUID for Sigma rules, the name for Falco's).
    pub id: String,
    /// The rule's title.
    pub title: String,
    /// The rule's level, after the configuration's override.
    pub level: Level,
    /// Tags as the rule has them, such as `attack.t1552.007`.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Links for the reader.
    #[serde(default)]
    pub references: Vec<String>,
    /// What to do next: a link or a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runbook: Option<String>,
}

/// The parts of an audit event that an alert carries: the envelope, never a body.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EventExcerpt {
    /// Chosen by the client: any characters, bounded in length here.
    #[serde(rename = "auditID")]
    pub audit_id: String,
    /// `ResponseStarted`, `ResponseComplete`, …
    pub stage: String,
    /// `get`, `list`, `create`, …
    pub verb: String,
    /// Percent-encoded, as the apiserver logged it, with tokens redacted.
    #[serde(rename = "requestURI")]
    pub request_uri: String,
    /// Who authenticated.
    pub user: User,
    /// Who they acted as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub impersonated_user: Option<User>,
    /// All but the last can be forged by the client.
    #[serde(rename = "sourceIPs", default)]
    pub source_ips: Vec<String>,
    /// The client's own claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// What the request was about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object_ref: Option<ObjectRef>,
    /// How it ended, where the stage knows it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_status: Option<ResponseStatus>,
    /// As the event has it.
    pub stage_timestamp: String,
    /// Whether the request was judged only, and nothing was written or deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,
}

/// A user of the API server, without the `extra` map.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct User {
    /// Absent on a 401.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// Group names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
}

/// The object a request addresses.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectRef {
    /// Plural name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Absent for cluster-scoped objects and requests over all namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Absent on lists and, with `generateName`, on creates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Absent for the core group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_group: Option<String>,
    /// Such as `v1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Such as `exec`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subresource: Option<String>,
}

/// The parts of the response status that are safe to show.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResponseStatus {
    /// The HTTP code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
    /// Such as `Forbidden`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What happened to an episode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// It opened.
    Firing,
    /// It grew.
    Update,
    /// It ended.
    Resolved,
}
