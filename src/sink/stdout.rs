//! Alerts as JSON lines on standard output.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `type: stdout`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StdoutConfig {}
