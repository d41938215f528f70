//! The beginning of every HTTP client of the program: rustls with ring, and no redirects.

use reqwest::ClientBuilder;
use reqwest::redirect::Policy;

/// A client to be, that follows no redirects: a POST would become a GET, and its headers would go elsewhere.
///
/// `plain` says that every URL is `http:`; the system's trust store is then not needed, and may be missing.
pub fn builder(plain: bool) -> ClientBuilder {
    // Somebody else may have installed one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = ClientBuilder::new().redirect(Policy::none());
    if plain { builder.tls_certs_only(std::iter::empty()) } else { builder }
}
