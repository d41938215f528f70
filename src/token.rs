//! Bearer tokens that a listener asks for: one, or several while they are being rotated.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use http::header::{AUTHORIZATION, HeaderValue};
use subtle::{Choice, ConstantTimeEq as _};
use tokio_util::sync::CancellationToken;

use crate::units::Secret;

/// Tokens that are valid at once: rotation needs two, and each request is compared with all of them.
const TOKENS_MAX: usize = 16;

/// The tokens of one listener, one a line of its file. Only hashes of them are kept, so that comparing takes the same
/// time whatever the length and content.
pub struct Tokens {
    hashes: ArcSwap<Vec<blake3::Hash>>,
    /// Where they are read from again.
    file: Option<PathBuf>,
}

impl Tokens {
    /// Takes the secret that is given inline, or reads it from its file; `None` when there is neither.
    pub fn load(inline: Option<&Secret>, file: Option<&PathBuf>) -> Result<Option<Self>, String> {
        let Some(secret) = Secret::load(inline, file)? else { return Ok(None) };
        let hashes = ArcSwap::from_pointee(hashes(&secret)?);
        Ok(Some(Self { hashes, file: if inline.is_none() { file.cloned() } else { None } }))
    }

    /// Reads the file again; `Ok(true)` when it holds other tokens, which are in use from now on. An error keeps the old.
    pub fn reload(&self) -> Result<bool, String> {
        let Some(secret) = Secret::load(None, self.file.as_ref())? else { return Ok(false) };
        let hashes = hashes(&secret)?;
        let changed = hashes != **self.hashes.load();
        if changed {
            self.hashes.store(Arc::new(hashes));
        }
        Ok(changed)
    }

    /// Reloads whenever the file changes, until it is stopped.
    pub async fn watch(self: Arc<Self>, listener: Arc<str>, interval: Duration, stopping: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        let mut told = String::new();
        while self.file.is_some() && stopping.run_until_cancelled(ticks.tick()).await.is_some() {
            let tokens = Arc::clone(&self);
            match tokio::task::spawn_blocking(move || tokens.reload()).await {
                Ok(Ok(changed)) => {
                    told.clear();
                    if changed {
                        tracing::info!(%listener, tokens = self.hashes.load().len(), "new bearer tokens in use");
                    }
                }
                Ok(Err(error)) if error != told => {
                    tracing::warn!(%listener, %error, "bearer tokens not taken; the old ones stay in use");
                    told = error;
                }
                Ok(Err(_)) | Err(_) => {}
            }
        }
    }

    /// Whether a request bears one of them. All are compared, so that the time does not tell which one.
    #[must_use]
    pub fn borne_by(&self, headers: &HeaderMap) -> bool {
        let mut values = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        // Of two headers, what is in front of this listener may have checked the other one.
        let (Some(value), None) = (values.next(), values.next()) else { return false };
        let Some((scheme, token)) = value.split_at_checked("Bearer ".len()) else { return false };
        let given = blake3::hash(token.trim_ascii());
        let equal = |known: &blake3::Hash| given.as_bytes().ct_eq(known.as_bytes());
        let known = self.hashes.load().iter().fold(Choice::from(0), |found, known| found | equal(known));
        scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(known)
    }
}

fn hashes(secret: &Secret) -> Result<Vec<blake3::Hash>, String> {
    let lines = secret.expose().lines().map(str::trim).filter(|line| !line.is_empty());
    let hashes: Vec<_> = lines.map(|line| blake3::hash(line.as_bytes())).collect();
    match hashes.len() {
        // An empty one would let in whoever sends an empty one.
        0 => Err("the bearer token is empty".to_owned()),
        1..=TOKENS_MAX => Ok(hashes),
        more => Err(format!("{more} bearer tokens are too many; {TOKENS_MAX} may be valid at once, one a line")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bears(tokens: &Tokens, value: &str) -> bool {
        tokens.borne_by(&HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(value).unwrap())]))
    }

    fn inline(text: &str) -> Result<Option<Tokens>, String> {
        Tokens::load(Some(&Secret::new(text.to_owned())), None)
    }

    #[test]
    fn a_token_is_borne_whole_and_once() {
        let tokens = inline("s3cret").unwrap().unwrap();
        for right in ["Bearer s3cret", "bearer s3cret", "Bearer  s3cret"] {
            assert!(bears(&tokens, right), "{right}");
        }
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Bearer", "Basic s3cret", "s3cret", ""] {
            assert!(!bears(&tokens, wrong), "{wrong}");
        }
        assert!(!tokens.borne_by(&HeaderMap::new()));
        let mut twice = HeaderMap::new();
        for value in ["Bearer s3cret", "Bearer wrong"] {
            twice.append(AUTHORIZATION, HeaderValue::from_static(value));
        }
        assert!(!tokens.borne_by(&twice));
    }

    #[test]
    fn old_and_new_are_valid_while_both_are_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "old\n").unwrap();
        let tokens = Tokens::load(None, Some(&file)).unwrap().unwrap();
        assert_eq!(tokens.reload(), Ok(false));
        for (text, valid) in [("old\r\n\n new \n", [true, true]), ("new\n", [false, true])] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(tokens.reload(), Ok(true));
            assert_eq!([bears(&tokens, "Bearer old"), bears(&tokens, "Bearer new")], valid, "{text:?}");
        }
        assert!(!bears(&tokens, "Bearer "), "an empty line is no token");
        for bad in ["\n", &"t\n".repeat(TOKENS_MAX + 1)] {
            std::fs::write(&file, bad).unwrap();
            assert!(tokens.reload().is_err());
            assert!(bears(&tokens, "Bearer new"), "the old ones stay");
        }
    }

    #[test]
    fn an_empty_token_is_refused() {
        assert!(inline(" ").is_err() && inline("").is_err());
        assert!(Tokens::load(None, None).unwrap().is_none());
    }
}
