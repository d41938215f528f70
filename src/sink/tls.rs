//! `tls:` of a sink: whom it trusts, and how it shows who it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use reqwest::{Certificate, ClientBuilder, Identity};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::BuilderVerifierExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Files in PEM; they are read when the sink is built, at the start and at every reload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificates that sign the server's; the system's trust store is then not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// The client's certificate, where the server demands one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// Its key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
}

/// What the files hold.
pub(super) struct Loaded {
    /// In PEM.
    pub(super) ca: Option<Vec<u8>>,
    /// Certificate and key in PEM.
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl TlsConfig {
    /// Whether nothing is said: the system decides whom to trust.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Reads the files. The error names the one that cannot be used.
    pub(super) fn load(&self) -> Result<Loaded, String> {
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            (None, None) => None,
            _ => return Err("tls: `cert` and `key` go together: give both".to_owned()),
        };
        let ca = self.ca.as_deref().map(read).transpose()?;
        if let (Some(path), Some(pem)) = (&self.ca, &ca)
            && certificates(pem)?.is_empty()
        {
            return Err(format!("{} holds no certificate in PEM", path.display()));
        }
        Ok(Loaded { ca, identity })
    }
}

impl Loaded {
    /// For clients that speak HTTP.
    pub(super) fn client(self, builder: ClientBuilder) -> Result<ClientBuilder, String> {
        let mut builder = builder;
        if let Some(ca) = self.ca {
            let trusted = Certificate::from_pem_bundle(&ca).map_err(|error| format!("tls: `ca`: {error}"))?;
            builder = builder.tls_certs_only(trusted);
        }
        if let Some((mut pem, key)) = self.identity {
            pem.extend_from_slice(b"\n");
            pem.extend_from_slice(&key);
            let identity = Identity::from_pem(&pem).map_err(|error| format!("tls: `cert` and `key`: {error}"))?;
            builder = builder.identity(identity);
        }
        Ok(builder)
    }

    /// For everything else.
    pub(super) fn config(self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| error.to_string())?;
        let builder = match self.ca {
            None => builder.with_platform_verifier().map_err(|error| format!("the system's trust store: {error}"))?,
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates(&pem)? {
                    roots.add(certificate).map_err(|error| format!("tls: `ca`: {error}"))?;
                }
                builder.with_root_certificates(roots)
            }
        };
        let Some((cert, key)) = self.identity else { return Ok(builder.with_no_client_auth()) };
        let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| format!("tls: `key`: {error}"))?;
        let shown = builder.with_client_auth_cert(certificates(&cert)?, key);
        shown.map_err(|error| format!("tls: `cert` and `key` do not go together: {error}"))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| format!("tls: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).unwrap();
            Some(folder.path().join(name))
        };
        let own = rcgen::generate_simple_self_signed(vec!["siem.example".to_owned()]).unwrap();
        let (cert, key) = (file("cert", &own.cert.pem()), file("key", &own.signing_key.serialize_pem()));
        let empty = file("empty", "nothing");
        let right = TlsConfig { ca: cert.clone(), cert: cert.clone(), key: key.clone() };
        assert!(right.load().unwrap().config().is_ok());
        let said = |config: TlsConfig| config.load().and_then(Loaded::config).err().unwrap_or_default();
        let absent = Some(folder.path().join("absent"));
        for (config, expected) in [
            (TlsConfig { ca: absent, ..TlsConfig::default() }, "absent"),
            (TlsConfig { ca: empty, ..TlsConfig::default() }, "empty holds no certificate"),
            (TlsConfig { cert: cert.clone(), ..TlsConfig::default() }, "go together"),
            (TlsConfig { cert: key, key: cert, ..TlsConfig::default() }, "tls: `key`"),
        ] {
            let said = said(config);
            assert!(said.contains(expected), "{expected}: {said}");
        }
    }
}
