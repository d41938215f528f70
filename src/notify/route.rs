//! Which sinks hear of an alert.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alert::Level;

/// One entry of `routes:`. All given conditions must hold; the first route that matches wins unless it says
/// `continue: true`. Patterns may use `*` and `?`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RouteConfig {
    /// This level or above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_level: Option<Level>,
    /// Any of these clusters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
    /// Any of these rules, by id or title.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// Any of these tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Any of these namespaces (of the event's object).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
    /// Names of sinks.
    pub sinks: Vec<String>,
    /// Look at the routes below too.
    #[serde(rename = "continue", skip_serializing_if = "std::ops::Not::not")]
    pub go_on: bool,
}
