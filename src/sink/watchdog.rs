//! `watchdog:` of a sink: whether it gets an alert that always fires, and how often.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::units::Span;

/// How often, where only `true` is said.
const EVERY: Duration = Duration::from_secs(60);

/// `true`, `false`, or `{every: 1m}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchdogConfig(Option<Span>);

impl WatchdogConfig {
    /// How often it is sent, if it is.
    #[must_use]
    pub fn every(self) -> Option<Duration> {
        self.0.map(|every| every.0)
    }

    /// Whether it is off.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.0.is_none()
    }

    /// What is wrong with it.
    pub(super) fn check(self) -> Result<(), String> {
        match self.0 {
            Some(every) if every.0 < Duration::from_secs(1) => Err("watchdog: `every` must be at least 1s".to_owned()),
            _ => Ok(()),
        }
    }
}

impl Serialize for WatchdogConfig {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            None => serializer.serialize_bool(false),
            Some(every) => serializer.collect_map([("every", every)]),
        }
    }
}

impl<'de> Deserialize<'de> for WatchdogConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = WatchdogConfig;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("true, false, or {every: 1m}")
    }

    fn visit_bool<E: Error>(self, on: bool) -> Result<WatchdogConfig, E> {
        Ok(WatchdogConfig(on.then_some(Span(EVERY))))
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<WatchdogConfig, M::Error> {
        let mut every = Span(EVERY);
        while let Some(key) = map.next_key::<String>()? {
            if key != "every" {
                return Err(M::Error::unknown_field(&key, &["every"]));
            }
            every = map.next_value()?;
        }
        Ok(WatchdogConfig(Some(every)))
    }
}

impl JsonSchema for WatchdogConfig {
    fn schema_name() -> Cow<'static, str> {
        "Watchdog".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let every = generator.subschema_for::<Span>();
        json_schema!({"oneOf": [
            {"type": "boolean"},
            {"type": "object", "properties": {"every": every}, "additionalProperties": false}
        ]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<WatchdogConfig, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn it_is_on_or_off_or_every_so_often() {
        let every = |text: &str| read(text).unwrap().every().map(|every| every.as_secs());
        assert_eq!([every("true"), every("false"), every("{}")], [Some(60), None, Some(60)]);
        assert_eq!(every(r#"{"every": "30s"}"#), Some(30));
        let again = serde_json::to_string(&read(r#"{"every": "30s"}"#).unwrap()).unwrap();
        assert_eq!(read(&again), read(r#"{"every": "30s"}"#));
        assert!(read(r#"{"evry": "30s"}"#).unwrap_err().contains("every"));
        assert!(read("7").is_err());
        assert!(read(r#"{"every": "10ms"}"#).unwrap().check().is_err());
    }
}
