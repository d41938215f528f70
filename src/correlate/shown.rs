//! What an alert shows of an event, kept small until somebody is told.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::alert::EventExcerpt;
use crate::engine::Match;

/// The values of the fields that a match carries.
pub(super) type Fields = BTreeMap<Arc<str>, Vec<Value>>;

/// What an alert shows of the event that completed its evidence.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Shown {
    pub(super) event: EventExcerpt,
    pub(super) matched: BTreeMap<String, Value>,
    /// What the rule says of it, if it says anything itself.
    pub(super) said: Option<String>,
    /// The fields that it carries: a correlation of this one may group or count by them.
    pub(super) fields: Fields,
}

/// A [`Shown`] as JSON. A hundred thousand groups may keep one each, few are ever told of, and the text takes a fifth of
/// the memory of the maps and strings in it.
#[derive(Clone, Debug)]
pub(super) struct Packed(Arc<[u8]>);

impl Packed {
    /// What there is to show of a match.
    pub(super) fn of(found: &Match) -> Self {
        /// [`Shown`], borrowed.
        #[derive(Serialize)]
        struct View<'m> {
            event: &'m EventExcerpt,
            matched: &'m BTreeMap<String, Value>,
            said: &'m Option<String>,
            fields: &'m Fields,
        }
        let Match { event, matched, said, fields, .. } = found;
        Self::pack(&View { event, matched, said, fields })
    }

    fn pack(shown: &impl Serialize) -> Self {
        // Writing texts, numbers and maps with text keys into memory cannot fail, so neither can reading them back.
        Self(serde_json::to_vec(shown).unwrap_or_default().into())
    }

    pub(super) fn open(&self) -> Shown {
        serde_json::from_slice(&self.0).unwrap_or_default()
    }
}

impl From<Shown> for Packed {
    fn from(shown: Shown) -> Self {
        Self::pack(&shown)
    }
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
        let shown = Shown {
            event: serde_json::from_value(event).unwrap(),
            matched: [("k".to_owned(), value.clone())].into(),
            said: Some(String::new()),
            fields: [("f".into(), vec![value, Value::Null])].into(),
        };
        let (before, after) = (format!("{shown:?}"), format!("{:?}", Packed::from(shown).open()));
        assert_eq!(before, after);
    }
}
