//! Findings show the line they are about. Secrets on it are covered first, byte for byte, so that places stay right.

use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::tree::each_entry;
use crate::diagnose::SourceText;
use crate::yaml::{Node, Value};

/// Whether the value under a key is a secret, told by the key's name alone: the name may be mistyped or not exist.
pub(super) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let file = key.ends_with("_file");
    let ours = ["token", "secret", "password", "webhook_url", "api_key", "routing_key", "credential"];
    !file && (ours.iter().any(|s| key.contains(s)) || crate::kafka::is_secret(&key))
}

/// Whether the value of a secret's `*_file` key is rather the secret itself, put under the wrong key: it is a URL, or no
/// path at all. A file in the working directory is covered too, which costs less than a token in a log.
pub(super) fn is_misplaced(key: &str, value: &str) -> bool {
    key.to_ascii_lowercase().strip_suffix("_file").is_some_and(is_secret)
        && (value.contains("://") || !value.contains('/'))
}

/// Secrets in a text that may not be valid YAML, found by what they follow: a key's name, or a URL's user part.
static BY_KEY: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)[a-z_.-]*(?:token|secret|password|webhook_url|api_key|routing_key|credential|pass|key\.pem|oauthbearer\.config)[a-z_.-]*["']?\s*:\s*("[^"\n]*"?|'[^'\n]*'?|[^\s#][^,}\n]*)"#,
    )
    .ok()
});
static BY_URL: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"://([^/@\s]+)@").ok());
/// What stands in a URL's query is as often a key as not.
static BY_QUERY: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r#"://[^\s"'?]+\?([^\s"',}\]]+)"#).ok());

/// The text with its secrets covered.
pub(super) fn text(source: &SourceText, root: &Node) -> Arc<SourceText> {
    let mut bytes = source.text.clone().into_bytes();
    for (pattern, by_key) in [(&*BY_KEY, true), (&*BY_URL, false), (&*BY_QUERY, false)] {
        for found in pattern.iter().flat_map(|pattern| pattern.captures_iter(&source.text)) {
            let file = by_key && found.get(0).is_some_and(|all| names_a_file(all.as_str()));
            let path = |text: &str| file && text.contains('/') && !text.contains("://");
            if let Some(secret) = found.get(1).filter(|secret| !path(secret.as_str())) {
                cover(&mut bytes, secret.start(), secret.end());
            }
        }
    }
    each_entry(root, &mut |_, key, value| {
        let misplaced = value.as_str().is_some_and(|text| is_misplaced(&key.text, text));
        if (is_secret(&key.text) && !matches!(value.value, Value::Null)) || misplaced {
            cover(&mut bytes, value.span.start, value.span.end);
        }
        // All values of `headers` are secrets, whatever their names.
        if key.text == "headers" {
            for (_, header) in value.as_map().unwrap_or_default() {
                cover(&mut bytes, header.span.start, header.span.end);
            }
        }
    });
    shown(source, bytes)
}

/// The text with one range covered.
pub(super) fn range(source: &SourceText, start: usize, end: usize) -> Arc<SourceText> {
    let mut bytes = source.text.clone().into_bytes();
    cover(&mut bytes, start, end);
    shown(source, bytes)
}

fn names_a_file(entry: &str) -> bool {
    entry.split(':').next().is_some_and(|key| key.trim_end().trim_end_matches(['"', '\'']).ends_with("_file"))
}

fn shown(source: &SourceText, bytes: Vec<u8>) -> Arc<SourceText> {
    // Whole characters were covered, so this is still UTF-8; if it were not, nothing would be shown.
    SourceText::new(&source.name, String::from_utf8(bytes).unwrap_or_default())
}

/// Replaces everything but line ends with stars.
fn cover(bytes: &mut [u8], start: usize, end: usize) {
    let end = end.min(bytes.len());
    if let Some(range) = bytes.get_mut(start..end) {
        range.iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b'*');
    }
}
