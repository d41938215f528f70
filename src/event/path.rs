//! Field paths as rules write them: the event's own JSON path, dots between keys.
//!
//! A path that crosses an array means any element. Keys may hold dots and slashes themselves
//! (`annotations.authorization.k8s.io/decision`, `user.extra.authentication.kubernetes.io/credential-id`): a path means
//! every way in which its dots can be read as separators or as part of a key. `sourceIPs[-1]` picks one of the values
//! that the path yields: from 0 at the front, or from -1 at the back.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// Names in a path. Every way to read its dots is followed, so many cost much.
const NAMES_MAX: usize = 64;

/// A field path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath {
    text: Arc<str>,
    /// Length of the path without its index.
    path_len: usize,
    pick: Option<i32>,
}

impl FieldPath {
    /// Reads a path; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (path, pick) = match text.strip_suffix(']').and_then(|head| head.rsplit_once('[')) {
            Some((path, index)) => {
                let index = index.parse().map_err(|_| format!("`[{index}]` is no index; write [0] or [-1]"))?;
                (path, Some(index))
            }
            None => (text, None),
        };
        if path.is_empty() || path.split('.').any(str::is_empty) {
            return Err(format!("`{text}` is no field path: a name between the dots is empty"));
        }
        if path.split('.').count() > NAMES_MAX {
            return Err(format!("a field path has at most {NAMES_MAX} names"));
        }
        if path.contains(['[', ']']) {
            return Err(format!("`{text}`: an index may only stand at the end of a path"));
        }
        Ok(Self { text: text.into(), path_len: path.len(), pick })
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As it was written, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.text)
    }

    /// The path without its index.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.text[..self.path_len]
    }

    /// Which of the values the path picks, or all of them; how many there are is asked only if that matters.
    #[must_use]
    pub fn picked(&self, len: impl FnOnce() -> usize) -> std::ops::Range<usize> {
        let Some(pick) = self.pick else { return 0..usize::MAX };
        let len = len();
        let at = match usize::try_from(pick) {
            Ok(at) => at,
            Err(_) => len.wrapping_sub(usize::try_from(pick.unsigned_abs()).unwrap_or(usize::MAX)),
        };
        if at < len { at..at + 1 } else { 0..0 }
    }

    /// Whether it yields all values, not one that is picked.
    #[must_use]
    pub fn picks_all(&self) -> bool {
        self.pick.is_none()
    }

    /// Every value of `event` that the path yields: the slow and obvious way, the judge of [`super::project`].
    #[must_use]
    pub fn resolve<'e>(&self, event: &'e Value) -> Vec<Found<'e>> {
        let mut found = Vec::new();
        descend(event, self.path(), &mut found);
        let range = self.picked(|| found.len());
        found.drain(..range.start);
        found.truncate(range.len());
        found
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What a path can yield.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Found<'e> {
    /// A string, number, boolean or null.
    Scalar(&'e Value),
    /// An object, or an empty array: it is there, but has no value of its own.
    Container,
}

fn descend<'e>(value: &'e Value, path: &str, found: &mut Vec<Found<'e>>) {
    if let Value::Array(items) = value {
        if items.is_empty() && path.is_empty() {
            found.push(Found::Container);
        }
        return items.iter().for_each(|item| descend(item, path, found));
    }
    if path.is_empty() {
        return found.push(if value.is_object() { Found::Container } else { Found::Scalar(value) });
    }
    let Value::Object(map) = value else { return };
    for (key, value) in map {
        match path.strip_prefix(key.as_str()) {
            Some("") => descend(value, "", found),
            Some(rest) => {
                if let Some(rest) = rest.strip_prefix('.') {
                    descend(value, rest, found);
                }
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn values(path: &str, event: &Value) -> Vec<String> {
        let found = FieldPath::parse(path).expect("a path");
        found.resolve(event).iter().map(|f| format!("{f:?}")).map(|t| t.replace("Scalar", "")).collect()
    }

    #[test]
    fn paths_cross_arrays_and_keys_with_dots() {
        let event = json!({
            "annotations": {"authorization.k8s.io/decision": "allow"},
            "sourceIPs": ["1.1.1.1", "2.2.2.2"],
            "requestObject": {"spec": {"containers": [{"image": "a"}, {"image": "b"}, {}], "volumes": []}},
        });
        assert_eq!(values("annotations.authorization.k8s.io/decision", &event), ["(String(\"allow\"))"]);
        assert_eq!(values("requestObject.spec.containers.image", &event).len(), 2);
        assert_eq!(values("requestObject.spec.volumes", &event), ["Container"]);
        assert_eq!(values("requestObject.spec", &event), ["Container"]);
        assert_eq!(values("sourceIPs[-1]", &event), ["(String(\"2.2.2.2\"))"]);
        assert_eq!(values("sourceIPs[0]", &event), ["(String(\"1.1.1.1\"))"]);
        assert_eq!(values("sourceIPs[2]", &event), Vec::<String>::new());
        assert_eq!(values("sourceIPs[-3]", &event), Vec::<String>::new());
    }

    #[test]
    fn wrong_paths_say_why() {
        assert!(FieldPath::parse("a..b").is_err_and(|e| e.contains("empty")));
        assert!(FieldPath::parse("a[x]").is_err_and(|e| e.contains("index")));
        assert!(FieldPath::parse("a[0].b").is_err_and(|e| e.contains("end")));
        assert!(FieldPath::parse(&["a"; NAMES_MAX].join(".")).is_ok());
        assert!(FieldPath::parse(&["a"; NAMES_MAX + 1].join(".")).is_err_and(|e| e.contains("at most")));
    }
}
