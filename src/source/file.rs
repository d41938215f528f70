//! A log file, followed across rotation and truncation.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `type: file`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// The source's name in metrics.
    #[serde(default = "name")]
    pub name: String,
    /// The file; it may appear later.
    pub path: PathBuf,
    /// The cluster label of its events; the global `cluster` otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
}

fn name() -> String {
    "file".to_owned()
}
