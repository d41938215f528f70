//! What is asked about alerts, and what is answered; what people do about them.

use serde::{Deserialize, Serialize};

use crate::alert::Level;
use crate::clock::Timestamp;

/// Which alerts to list. Everything that is set must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlertQuery {
    /// Event time at or after.
    pub since: Option<Timestamp>,
    /// Event time before.
    pub until: Option<Timestamp>,
    /// This level or higher.
    pub min_level: Option<Level>,
    /// The rule's id.
    pub rule: Option<String>,
    /// The cluster label.
    pub cluster: Option<String>,
    /// Who authenticated, or whom they acted as.
    pub user: Option<String>,
    /// The object's namespace.
    pub namespace: Option<String>,
    /// The event's verb.
    pub verb: Option<String>,
    /// The object, as `resource/name`.
    pub object: Option<String>,
    /// What people have done about it.
    pub handling: Option<Handling>,
    /// Whether a silence kept it from the sinks.
    pub silenced: Option<bool>,
    /// Stands in any value of the alert; upper and lower case of ASCII letters are the same.
    pub text: Option<String>,
    /// At most so many, and never more than [`AlertQuery::LIMIT_MAX`].
    pub limit: usize,
    /// Only what comes after this `(time, id)` in the listing: the last one of the previous page.
    pub before: Option<(Timestamp, String)>,
    /// Only what arrived after this place, in the order of arrival. Event time says nothing of it: a log may come late.
    pub after: Option<i64>,
}

impl AlertQuery {
    /// The longest page.
    pub const LIMIT_MAX: usize = 1_000;
}

impl Default for AlertQuery {
    fn default() -> Self {
        Self {
            since: None,
            until: None,
            min_level: None,
            rule: None,
            cluster: None,
            user: None,
            namespace: None,
            verb: None,
            object: None,
            handling: None,
            silenced: None,
            text: None,
            limit: 100,
            before: None,
            after: None,
        }
    }
}

/// How far people have come with an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Handling {
    /// Nobody has taken it on.
    Open,
    /// Somebody looks into it.
    Acknowledged,
    /// It is dealt with.
    Closed,
}

impl Handling {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Closed => "closed",
        }
    }

    /// By its name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Open, Self::Acknowledged, Self::Closed].into_iter().find(|handling| handling.as_str() == name)
    }
}

/// An alert as it is kept, with what people did about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Event time.
    pub time: Timestamp,
    /// The alert's id.
    pub id: String,
    /// The alert as JSON.
    pub body: String,
    /// `None` where nobody has done anything.
    pub handling: Option<Handling>,
    /// The silence that kept it from the sinks.
    pub silence: Option<i64>,
}

/// Alerts in the order in which they arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Arrived {
    /// The oldest first.
    pub alerts: Vec<Listed>,
    /// The place up to which there is nothing else that answers the query.
    pub place: i64,
}

/// Other alerts that may belong to the same story, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Related {
    /// Of the same user.
    pub user: Vec<Listed>,
    /// About the same object.
    pub object: Vec<Listed>,
}

/// How many alerts there are of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figures {
    /// All of them.
    pub total: u64,
    /// By level, lowest first.
    pub levels: [u64; 5],
    /// Where the first bar begins.
    pub since: Timestamp,
    /// Where the last bar ends.
    pub until: Timestamp,
    /// By time.
    pub bars: Vec<Bar>,
    /// The most frequent rules, with titles.
    pub rules: Vec<Count>,
    /// The most frequent users.
    pub users: Vec<Count>,
    /// The most frequent namespaces.
    pub namespaces: Vec<Count>,
    /// The most frequent clusters.
    pub clusters: Vec<Count>,
    /// The most frequent verbs.
    pub verbs: Vec<Count>,
}

/// Alerts of one span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Where the span begins.
    pub from: Timestamp,
    /// By level, lowest first.
    pub levels: [u64; 5],
}

/// Alerts of one value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The rule's id, the user's name and so on.
    pub value: String,
    /// How many.
    pub count: u64,
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

/// Something that somebody did about an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deed {
    /// Wall clock.
    pub at: Timestamp,
    /// Who, as far as the listener knows.
    pub who: String,
    /// How far it is from then on; `None` for a note alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handling: Option<Handling>,
    /// For other people.
    pub note: String,
}

/// What a silence is about. Everything that is set must be equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Conditions {
    /// The rule's id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The cluster label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Who authenticated, or whom they acted as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The object's namespace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The event's verb.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// The object, as `resource/name`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
}

/// A silence that begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewSilence {
    /// What is hidden.
    pub conditions: Conditions,
    /// Why, for other people.
    pub reason: String,
    /// Who silences.
    pub who: String,
    /// When, wall clock.
    pub created: Timestamp,
    /// Until when, wall clock.
    pub expires: Timestamp,
}

/// A silence, in force or over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// Its number.
    pub id: i64,
    /// What was said when it began.
    #[serde(flatten)]
    pub silence: NewSilence,
    /// When somebody ended it early.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// Who did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<String>,
    /// Alerts that it kept from the sinks, as far as they are kept.
    pub hidden: u64,
    /// Whether it is in force.
    pub lasts: bool,
}
