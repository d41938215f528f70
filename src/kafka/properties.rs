//! librdkafka's properties as they are written under `properties:`, secrets in files among them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::units::Secret;

/// Any of librdkafka's properties by its name, or `NAME_file` for one whose value stands in a file. Secrets show as
/// `[redacted]`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties(BTreeMap<String, String>);

/// Whether a property's value is a secret, told by its name.
#[must_use]
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    // `pass` is in `password`, and in most of what it is mistyped to.
    let told = ["pass", "secret", "token", "credential", "key.pem", "oauthbearer.config"];
    !name.ends_with("_file") && told.iter().any(|part| name.contains(part))
}

/// Properties that name a file which may be replaced while we run.
const LOCATIONS: [&str; 4] =
    ["ssl.ca.location", "ssl.certificate.location", "ssl.key.location", "ssl.keystore.location"];

impl Properties {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads them as they are written on a command line, `NAME=VALUE` each.
    pub fn parse(written: &[String]) -> Result<Self, String> {
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) => Ok((name.trim().to_owned(), value.to_owned())),
            // What stands there may be a secret that lost its name.
            None => Err("a property is written NAME=VALUE".to_owned()),
        };
        written.iter().map(pair).collect::<Result<_, _>>().map(Self)
    }

    /// What is written under a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names as they are written, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The values, those in files read.
    pub fn load(&self) -> Result<BTreeMap<String, String>, String> {
        let mut values = BTreeMap::new();
        for (name, written) in self.0.iter().filter(|(name, _)| *name != super::TOKEN_FILE) {
            if let Some(name) = name.strip_suffix("_file") {
                let path = PathBuf::from(written);
                let secret = Secret::load(None, Some(&path)).map_err(|error| format!("{name}_file: {error}"))?;
                values.insert(name.to_owned(), secret.map(|secret| secret.expose().to_owned()).unwrap_or_default());
            } else {
                values.insert(name.clone(), written.clone());
            }
        }
        Ok(values)
    }

    /// Files that secrets come from and certificates are in: they may be replaced while we run. Tokens are read whenever
    /// one is needed, and are not among them.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let written = self.0.iter().filter(|(name, _)| *name != super::TOKEN_FILE);
        let files = written.filter(|(name, value)| {
            name.ends_with("_file") || (LOCATIONS.contains(&name.as_str()) && *value != "probe")
        });
        files.map(|(_, value)| Path::new(value))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Properties {
    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        let shown = |(name, value)| (name, if is_secret(name) { "[redacted]" } else { value });
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).map(shown)
    }
}

impl Serialize for Properties {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.shown())
    }
}

impl<'de> Deserialize<'de> for Properties {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = BTreeMap::<String, Written>::deserialize(deserializer)?;
        Ok(Self(written.into_iter().map(|(name, value)| (name, value.text())).collect()))
    }
}

impl JsonSchema for Properties {
    fn schema_name() -> Cow<'static, str> {
        "Properties".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]}})
    }
}

/// A value as YAML reads it; librdkafka takes text only.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Flag(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

impl Written {
    fn text(self) -> String {
        match self {
            Self::Flag(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(value) => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_and_secrets_do_not_print() {
        let written = r#"{"a.b": 7, "c": true, "d": "x", "e": 0.5, "sasl.password": "hunter2", "ssl.key.pem": "hunter3",
            "ssl.key.password_file": "/secrets/key"}"#;
        let properties: Properties = serde_json::from_str(written).unwrap();
        let text = |name: &str| properties.0[name].as_str();
        assert_eq!((text("a.b"), text("c"), text("d"), text("e")), ("7", "true", "x", "0.5"));
        let shown = format!("{properties:?}{}", serde_json::to_string(&properties).unwrap());
        assert!(!shown.contains("hunter") && shown.contains("/secrets/key"), "{shown}");
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let properties: Properties = serde_json::from_str(r#"{"sasl.password_file": "/nowhere/p"}"#).unwrap();
        let error = properties.load().unwrap_err();
        assert!(error.starts_with("sasl.password_file: cannot read /nowhere/p"), "{error}");
    }
}
