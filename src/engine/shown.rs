//! What an alert shows of an event, kept small until somebody is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::json::{self, value};
use crate::alert::EventExcerpt;

/// The values of the fields that a match carries.
pub type Fields = BTreeMap<Arc<str>, Vec<Value>>;

/// What an alert shows of the event that completed its evidence.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// The event without bodies.
    pub event: EventExcerpt,
    /// What the predicates matched, redacted.
    pub matched: BTreeMap<String, Value>,
    /// What the rule says of it, if it says anything itself.
    pub said: Option<String>,
    /// The fields that it carries: a correlation of this one may group or count by them.
    pub fields: Fields,
}

/// A [`Shown`] as JSON. A hundred thousand groups may keep one each, few are ever told of, and the text takes a fifth of
/// the memory of the maps and strings in it. All matches of one event share its text.
#[derive(Clone, Debug)]
pub struct Packed {
    event: Arc<str>,
    rest: Arc<str>,
}

/// All of a [`Shown`] but the event, as JSON.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Rest<'r> {
    /// A map.
    #[serde(borrow)]
    pub matched: &'r RawValue,
    /// A text.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    pub said: Option<&'r RawValue>,
    /// A map of lists.
    #[serde(borrow)]
    pub fields: &'r RawValue,
}

impl Packed {
    /// `event`: an [`EventExcerpt`] as JSON. `out`: memory for what is written.
    pub(super) fn new<'m>(
        event: Arc<str>,
        matched: impl Iterator<Item = (&'m str, &'m Value)>,
        said: Option<&str>,
        fields: &Fields,
        out: &mut String,
    ) -> Self {
        let rest = json::object(out, |rest| {
            rest.object("matched", |object| matched.for_each(|(key, value)| object.value(key, value)));
            if let Some(said) = said {
                rest.text("said", said);
            }
            rest.object("fields", |object| {
                fields.iter().for_each(|(key, values)| object.list(key, values.iter(), value));
            });
        });
        Self { event, rest }
    }

    /// From what is JSON already.
    #[must_use]
    pub fn from_json(event: Arc<str>, rest: Rest<'_>) -> Self {
        Self { event, rest: json(&rest) }
    }

    /// What is packed.
    #[must_use]
    pub fn open(&self) -> Shown {
        #[derive(Default, Deserialize)]
        struct View {
            matched: BTreeMap<String, Value>,
            #[serde(default)]
            said: Option<String>,
            fields: Fields,
        }
        // Only what was written as these is ever packed, and so can be read.
        let View { matched, said, fields } = serde_json::from_str(&self.rest).unwrap_or_default();
        Shown { event: self.event(), matched, said, fields }
    }

    /// The event alone.
    #[must_use]
    pub fn event(&self) -> EventExcerpt {
        serde_json::from_str(&self.event).unwrap_or_default()
    }

    /// The event as JSON.
    #[must_use]
    pub fn event_json(&self) -> &Arc<str> {
        &self.event
    }

    /// The rest as JSON.
    #[must_use]
    pub fn rest_json(&self) -> Rest<'_> {
        serde_json::from_str(&self.rest).unwrap_or(Rest { matched: RawValue::NULL, said: None, fields: RawValue::NULL })
    }
}

/// By what they show, however it is written.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.open() == other.open()
    }
}

impl From<Shown> for Packed {
    fn from(Shown { event, matched, said, fields }: Shown) -> Self {
        let matched = matched.iter().map(|(key, value)| (key.as_str(), value));
        Self::new(json(&event), matched, said.as_deref(), &fields, &mut String::new())
    }
}

/// A value as JSON. Writing texts, numbers and maps with text keys into memory cannot fail.
fn json(value: &impl Serialize) -> Arc<str> {
    serde_json::to_string(value).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_was_there() {
        let event = serde_json::json!({
            "auditID": "a", "stage": "ResponseComplete", "verb": "get", "requestURI": "/api/v1/secrets?x=\u{202e}",
            "user": {"username": "ann", "groups": ["g"]}, "impersonatedUser": {}, "sourceIPs": ["10.0.0.7"],
            "userAgent": "", "objectRef": {"resource": "secrets"}, "responseStatus": {"code": 200}, "stageTimestamp": "t",
        });
        let value = serde_json::json!([null, -1, 1.5, u64::MAX, {"a": ["b"]}]);
        for said in [Some(String::new()), Some("\"\n".to_owned()), None] {
            let shown = || Shown {
                event: serde_json::from_value(event.clone()).unwrap(),
                matched: [("k".to_owned(), value.clone())].into(),
                said: said.clone(),
                fields: [("f".into(), vec![value.clone(), Value::Null])].into(),
            };
            let packed = Packed::from(shown());
            assert_eq!(packed.open(), shown());
            assert_eq!(Packed::from_json(Arc::clone(packed.event_json()), packed.rest_json()), packed);
        }
    }
}
