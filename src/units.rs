//! Values as people write them in configuration and rules: sizes, durations, secrets.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes, written `64MiB`, `10MB`, `512k` or as a plain number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl FromStr for ByteSize {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let factor: u64 = match text[digits..].trim() {
            "" | "B" => 1,
            "k" | "kB" | "KB" => 1_000,
            "M" | "MB" => 1_000_000,
            "G" | "GB" => 1_000_000_000,
            "Ki" | "KiB" => 1 << 10,
            "Mi" | "MiB" => 1 << 20,
            "Gi" | "GiB" => 1 << 30,
            _ => return Err(format!("`{text}` is no size; write it like 64MiB")),
        };
        let number: u64 = text[..digits].parse().map_err(|_| format!("`{text}` is no size; write it like 64MiB"))?;
        number.checked_mul(factor).map(Self).ok_or_else(|| format!("`{text}` is too large"))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (factor, unit) in [(1_u64 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A span of time, written `500ms`, `30s`, `5m`, `1h30m`, `7d`, `1w`, `1M` or `1y`; a month and a year are mean ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl FromStr for Span {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is no span of time; write it like 30s, 5m, 1h or 7d");
        let mut rest = text.trim();
        let mut total: u64 = 0;
        if rest.is_empty() {
            return Err(wrong());
        }
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let millis: u64 = match &rest[..letters] {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                "w" => 604_800_000,
                "M" => 2_629_746_000,
                "y" => 31_556_952_000,
                _ => return Err(wrong()),
            };
            rest = &rest[letters..];
            total = number.checked_mul(millis).and_then(|n| total.checked_add(n)).ok_or_else(wrong)?;
        }
        Ok(Self(Duration::from_millis(total)))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        for (factor, unit) in [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")] {
            if millis >= factor && millis.is_multiple_of(factor) {
                return write!(f, "{}{unit}", millis / factor);
            }
        }
        write!(f, "{millis}ms")
    }
}

macro_rules! as_text {
    ($type:ident, $name:literal, $pattern:literal, $numbers:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged)]
                enum Written {
                    Number(u64),
                    Text(String),
                }
                let text = match Written::deserialize(deserializer)? {
                    Written::Number(number) => number.to_string(),
                    Written::Text(text) => text,
                };
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                if $numbers {
                    json_schema!({"type": ["string", "integer"], "pattern": $pattern})
                } else {
                    json_schema!({"type": "string", "pattern": $pattern})
                }
            }
        }
    };
}

as_text!(ByteSize, "ByteSize", "^[0-9]+ *([kMG]?B?|[KMG]i(B)?)$", true);
as_text!(Span, "Span", "^([0-9]+(ms|s|m|h|d|w))+$", false);

/// A value that must never be printed: `Debug` and `Serialize` show `[redacted]`.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Wraps a value.
    #[must_use]
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// The value itself, for the one call that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Takes the secret given inline, or reads it from its file; surrounding white space of a file is dropped.
    pub fn load(inline: Option<&Self>, file: Option<&PathBuf>) -> Result<Option<Self>, String> {
        if let Some(secret) = inline {
            return Ok(Some(secret.clone()));
        }
        let Some(path) = file else { return Ok(None) };
        let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        if text.trim().is_empty() {
            return Err(format!("{} is empty", path.display()));
        }
        Ok(Some(Self(text.trim().to_owned())))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!("64MiB".parse(), Ok(ByteSize(64 << 20)));
        assert_eq!("10 MB".parse(), Ok(ByteSize(10_000_000)));
        assert_eq!("7".parse(), Ok(ByteSize(7)));
        assert_eq!(ByteSize(64 << 20).to_string(), "64MiB");
        assert!("MiB".parse::<ByteSize>().is_err() && "1 elephant".parse::<ByteSize>().is_err());
    }

    #[test]
    fn spans() {
        assert_eq!("1h30m".parse(), Ok(Span(Duration::from_secs(5400))));
        assert_eq!("7d".parse(), Ok(Span(Duration::from_secs(7 * 86_400))));
        assert_eq!(Span(Duration::from_secs(300)).to_string(), "5m");
        for wrong in ["", "5", "m", "5 minutes", "99999999999999999999s"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn secrets_do_not_print() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret:?}"), "[redacted]");
        assert_eq!(serde_json::to_string(&secret).ok().as_deref(), Some("\"[redacted]\""));
    }
}
