//! The HTTPS listener that kube-apiservers send to.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{ByteSize, Secret};

/// `type: webhook`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// The source's name in metrics.
    pub name: String,
    /// Address and port.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Needed off loopback, unless `insecure: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// A token every request must bear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// File that holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// Largest body, before and after decompression.
    pub max_body: ByteSize,
    /// The cluster label of events whose path names none; the global `cluster` otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Allows plain HTTP off loopback.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            name: "webhook".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 9765)),
            tls: None,
            bearer_token: None,
            bearer_token_file: None,
            max_body: ByteSize(64 << 20),
            cluster: None,
            insecure: false,
        }
    }
}

/// Certificate, key, and optionally who may connect.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM, leaf first.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// PEM bundle; when given, clients must show a certificate signed by one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}
