//! Sinks: each renders alerts for one medium and sends them, and answers ok, retry or reject.
//! Grouping, retry, rate, resolve and metrics stand outside, in [`crate::notify`].

pub mod alertmanager;
pub mod slack;
pub mod stdout;
pub mod webhook;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of `sinks:`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SinkConfig {
    /// The name that routes and metrics use.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: SinkKind,
}

/// The kinds of sinks, by `type`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkKind {
    /// JSON lines on standard output.
    Stdout(stdout::StdoutConfig),
    /// Slack.
    Slack(slack::SlackConfig),
    /// Alertmanager.
    Alertmanager(alertmanager::AlertmanagerConfig),
    /// Any HTTP endpoint.
    Webhook(webhook::WebhookConfig),
}
