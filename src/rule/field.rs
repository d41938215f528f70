//! Where the values come from that a test asks about: a path of the event, anything in it, or something that a front end
//! makes of other fields.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use super::make::{Apply, Make};
use crate::event::FieldPath;
use crate::event::path::Found;

/// The values that a test asks about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// Those of a path.
    Path(FieldPath),
    /// Every scalar in the event, without its keys: what keywords are looked for in.
    Anything,
    /// Those that are made of other fields.
    Derived(Arc<Derived>),
}

/// A field that no event has under this name: its values are made of others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Derived {
    /// As the rule writes it.
    pub name: Arc<str>,
    /// What it is made of: for those who must know what a rule reads, and whether it may be shown.
    pub reads: Vec<FieldPath>,
    /// How.
    pub make: Make,
}

/// One value that a field has.
#[derive(Clone, Debug, PartialEq)]
pub enum Got<'e> {
    /// A string, number, boolean or null.
    Scalar(Cow<'e, Value>),
    /// Something that is there, but has no value of its own.
    Container,
}

impl Field {
    /// The path, if it is nothing else.
    #[must_use]
    pub fn plain(&self) -> Option<&FieldPath> {
        match self {
            Self::Path(path) => Some(path),
            Self::Anything | Self::Derived(_) => None,
        }
    }

    /// The path whose value without percent-encoding it is, if it is nothing else.
    #[must_use]
    pub fn decoded(&self) -> Option<&FieldPath> {
        let Self::Derived(derived) = self else { return None };
        let Make::Apply(Apply::Decoded, of) = &derived.make else { return None };
        let Make::List(parts) = &**of else { return None };
        let [Make::Path(path)] = parts.as_slice() else { return None };
        Some(path)
    }

    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Path(path) => path.as_str(),
            Self::Anything => "any field",
            Self::Derived(derived) => &derived.name,
        }
    }

    /// The paths that it reads; none where it reads all.
    #[must_use]
    pub fn reads(&self) -> &[FieldPath] {
        match self {
            Self::Path(path) => std::slice::from_ref(path),
            Self::Anything => &[],
            Self::Derived(derived) => &derived.reads,
        }
    }

    /// Its values in an event: the slow and obvious way.
    #[must_use]
    pub fn resolve<'e>(&self, event: &'e Value) -> Vec<Got<'e>> {
        match self {
            Self::Path(path) => path.resolve(event).into_iter().map(Got::from).collect(),
            Self::Anything => {
                let mut scalars = Vec::new();
                anything(event, &mut scalars);
                scalars
            }
            Self::Derived(derived) => derived.make.values(event),
        }
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<FieldPath> for Field {
    fn from(path: FieldPath) -> Self {
        Self::Path(path)
    }
}

impl<'e> From<Found<'e>> for Got<'e> {
    fn from(found: Found<'e>) -> Self {
        match found {
            Found::Scalar(value) => Self::Scalar(Cow::Borrowed(value)),
            Found::Container => Self::Container,
        }
    }
}

fn anything<'e>(value: &'e Value, scalars: &mut Vec<Got<'e>>) {
    match value {
        Value::Object(map) => map.values().for_each(|value| anything(value, scalars)),
        Value::Array(items) => items.iter().for_each(|value| anything(value, scalars)),
        scalar => scalars.push(Got::Scalar(Cow::Borrowed(scalar))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn anything_is_every_scalar() {
        let event = json!({"a": {"b.c": [1, {"d": "x"}]}, "n": null});
        assert_eq!(Field::Anything.resolve(&event).len(), 3);
    }
}
