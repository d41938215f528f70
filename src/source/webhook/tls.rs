//! The listener's certificate, read again when its files change.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio_util::sync::CancellationToken;

use super::TlsConfig;
use crate::metrics::{Listener, Metrics};

/// How often the files are read again. Polling their content sees what file events miss: the swapped links of a
/// mounted Secret, and network file systems.
pub const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// What the files held at one time.
pub struct Loaded {
    server: Arc<ServerConfig>,
    leaf: CertificateDer<'static>,
    /// When the leaf certificate ends, seconds since the epoch.
    expires: i64,
    digest: blake3::Hash,
}

impl Loaded {
    /// When the leaf certificate ends, seconds since the epoch.
    #[must_use]
    pub fn expires(&self) -> i64 {
        self.expires
    }
}

/// Reads and checks certificate, key and client CA. The error names the file and says what is wrong with it.
pub fn load_tls(config: &TlsConfig) -> Result<Loaded, String> {
    Files::read(config)?.load(config)
}

/// The bytes of the three files, read once, so that what is compared is what is used.
struct Files {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Files {
    fn read(config: &TlsConfig) -> Result<Self, String> {
        let read =
            |path: &Path| std::fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
        Ok(Self {
            cert: read(&config.cert)?,
            key: read(&config.key)?,
            client_ca: config.client_ca.as_deref().map(read).transpose()?,
        })
    }

    fn digest(&self) -> blake3::Hash {
        let mut hasher = blake3::Hasher::new();
        for file in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()] {
            hasher.update(blake3::hash(file.map_or(&[], |file| file)).as_bytes());
        }
        hasher.finalize()
    }

    fn load(&self, config: &TlsConfig) -> Result<Loaded, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = certificates(&config.cert, &self.cert)?;
        let expires = end_of(&chain[0]).map_err(|error| format!("{}: {error}", config.cert.display()))?;
        let leaf = chain[0].clone();
        let key = PrivateKeyDer::from_pem_slice(&self.key)
            .map_err(|error| format!("{} holds no private key in PEM: {error}", config.key.display()))?;
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?;
        let builder = match (&config.client_ca, &self.client_ca) {
            (Some(path), Some(pem)) => {
                let roots = Arc::new(roots(path, pem)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
                builder.with_client_cert_verifier(verifier.map_err(|error| format!("{}: {error}", path.display()))?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut server = builder.with_single_cert(chain, key).map_err(|error| {
            format!("{} and {} do not go together: {error}", config.cert.display(), config.key.display())
        })?;
        server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Loaded { server: Arc::new(server), leaf, expires, digest: self.digest() })
    }
}

pub(super) fn certificates(path: &Path, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| format!("{}: {error}", path.display()))?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate in PEM", path.display()));
    }
    Ok(chain)
}

fn roots(path: &Path, pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, pem)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}

fn end_of(certificate: &CertificateDer<'_>) -> Result<i64, String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|error| error.to_string())?;
    Ok(parsed.validity().not_after.timestamp())
}

/// The certificate in use by one listener.
pub struct Tls {
    config: TlsConfig,
    listener: String,
    metrics: Arc<Metrics>,
    current: ArcSwap<ServerConfig>,
    leaf: ArcSwap<CertificateDer<'static>>,
    /// What was last looked at, taken or refused, so that a bad file is told of once.
    seen: Mutex<Option<blake3::Hash>>,
}

impl Tls {
    /// Loads the files; `listener` is the name in `certificate_expiry_timestamp_seconds`.
    pub fn new(config: &TlsConfig, listener: &str, metrics: Arc<Metrics>) -> Result<Self, String> {
        let loaded = load_tls(config)?;
        let tls = Self {
            config: config.clone(),
            listener: listener.to_owned(),
            metrics,
            current: ArcSwap::new(loaded.server.clone()),
            leaf: ArcSwap::from_pointee(loaded.leaf),
            seen: Mutex::new(Some(loaded.digest)),
        };
        tls.show_expiry(loaded.expires);
        Ok(tls)
    }

    /// The configuration for the next handshake.
    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.current.load_full()
    }

    /// The certificate that the next handshake shows.
    pub(super) fn leaf(&self) -> Arc<CertificateDer<'static>> {
        self.leaf.load_full()
    }

    /// Reads the files again. `Ok(true)` when they had changed and are in use from the next handshake on; an error
    /// keeps what was in use, and is given once per content of the files.
    pub fn reload(&self) -> Result<bool, String> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let files = match Files::read(&self.config) {
            Ok(files) => files,
            Err(_) if seen.is_none() => return Ok(false),
            Err(error) => {
                *seen = None;
                return Err(error);
            }
        };
        if *seen == Some(files.digest()) {
            return Ok(false);
        }
        *seen = Some(files.digest());
        let loaded = files.load(&self.config)?;
        // First: whoever is shown the new certificate must be able to know it.
        self.leaf.store(Arc::new(loaded.leaf));
        self.current.store(loaded.server);
        self.show_expiry(loaded.expires);
        Ok(true)
    }

    /// Reloads whenever the files change, until it is stopped.
    pub(super) async fn watch(self: Arc<Self>, interval: Duration, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        while stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let tls = self.clone();
            let listener = &self.listener;
            match tokio::task::spawn_blocking(move || tls.reload()).await {
                Ok(Ok(true)) => tracing::info!(listener, "new certificate in use"),
                Ok(Err(error)) => tracing::warn!(listener, %error, "certificate not taken; the old one stays in use"),
                Ok(Ok(false)) | Err(_) => {}
            }
        }
    }

    fn show_expiry(&self, expires: i64) {
        #[expect(clippy::cast_precision_loss, reason = "seconds until the year 10 000 fit in 2^52")]
        let seconds = expires as f64;
        self.metrics.certificate_expiry.get_or_create(&Listener { listener: self.listener.clone() }).set(seconds);
    }
}
