//! How the daemon speaks to its own listener: it trusts the very certificate that is in use there, and no other.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::tls::{Tls, certificates};

/// What a client of this listener needs; `client` names the files of its certificate and key, read anew.
pub fn client_config(tls: &Arc<Tls>, client: Option<(&Path, &Path)>) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let verifier = OwnCertificate { tls: Arc::clone(tls), before: tls.leaf(), provider: Arc::clone(&provider) };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let Some((cert, key)) = client else { return Ok(builder.with_no_client_auth()) };
    let pem = std::fs::read(cert).map_err(|error| format!("cannot read {}: {error}", cert.display()))?;
    let chain = certificates(cert, &pem)?;
    let secret = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| format!("cannot read a private key from {}: {error}", key.display()))?;
    builder
        .with_client_auth_cert(chain, secret)
        .map_err(|error| format!("{} and {} do not go together: {error}", cert.display(), key.display()))
}

/// Compares what the server shows with what the listener has, byte for byte. Names are not looked at: who holds the key
/// of this certificate is the listener. One that has ended is refused, as every client would.
struct OwnCertificate {
    tls: Arc<Tls>,
    /// What it had before the handshake: it may be replaced in the middle of one.
    before: Arc<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for OwnCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnCertificate")
    }
}

impl ServerCertVerifier for OwnCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is = |own: Arc<CertificateDer<'static>>| own.as_ref().as_ref() == end_entity.as_ref();
        if !is(Arc::clone(&self.before)) && !is(self.tls.leaf()) {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        }
        let parsed = x509_parser::parse_x509_certificate(end_entity);
        let (_, parsed) = parsed.map_err(|_| Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
        if now < parsed.validity().not_before.timestamp() {
            return Err(Error::InvalidCertificate(CertificateError::NotValidYet));
        }
        if now > parsed.validity().not_after.timestamp() {
            return Err(Error::InvalidCertificate(CertificateError::Expired));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
