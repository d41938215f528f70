//! Prometheus Alertmanager, API v2.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Secret, Span};

/// `type: alertmanager`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagerConfig {
    /// Base URLs of every peer of the set (not of a balancer): `http://alertmanager:9093`.
    pub urls: Vec<String>,
    /// Firing alerts are sent again this often; they end by themselves four times later.
    #[serde(default = "resend")]
    pub resend: Span,
    /// Labels added to every alert.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Bearer token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
}

fn resend() -> Span {
    Span(Duration::from_secs(60))
}
