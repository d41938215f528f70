//! Where events come from: each source hands batches to [`crate::pipeline::Ingest`] and acknowledges on its `Ok`.

pub mod file;
pub mod webhook;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One entry of `sources:`, by `type`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SourceConfig {
    /// kube-apiserver's audit webhook.
    Webhook(webhook::WebhookConfig),
    /// A log file that is followed.
    File(file::FileConfig),
}
