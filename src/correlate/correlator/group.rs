//! Which group a match belongs to, and what is kept of it there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::super::tally;
use super::super::window::Entry;
use super::Fed;
use crate::engine::{Consumer, Fields, listed};
use crate::event::FieldPath;

/// What a match, or an episode on its way into another correlation, brings along.
#[derive(Clone, Copy)]
pub(super) struct Carried<'f> {
    /// The values by which the correlation that yields it groups.
    pub(super) group: &'f BTreeMap<String, Value>,
    pub(super) fields: &'f Fields,
}

/// The group of a match, as the text of its values.
pub(super) fn group_of(consumer: &Consumer, member: usize, carried: Carried<'_>) -> String {
    listed(group_values(consumer, member, carried).map(|(_, value)| value))
}

/// What an alert shows of a group.
pub(super) fn group_in(consumer: &Consumer, text: &str) -> BTreeMap<String, Value> {
    let values: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
    let named = consumer.group_by.iter().map(|(name, _)| name.to_string()).zip(values);
    named.filter(|(_, value)| !(consumer.single && value.is_null())).collect()
}

/// The values of a match's group, in two: as one text those before `at`, as another those from there on; `None` if there
/// are none of the latter.
pub(super) fn parts_of(
    consumer: &Consumer,
    member: usize,
    carried: Carried<'_>,
    at: usize,
) -> Option<(String, String)> {
    let mut values: Vec<Cow<'_, Value>> = group_values(consumer, member, carried).map(|(_, value)| value).collect();
    let rest = values.split_off(at.min(values.len()));
    rest.iter().any(|value| !value.is_null()).then(|| (listed(values.into_iter()), listed(rest.into_iter())))
}

pub(super) fn group_values<'c>(
    consumer: &'c Consumer,
    member: usize,
    carried: Carried<'c>,
) -> impl Iterator<Item = (&'c Arc<str>, Cow<'c, Value>)> + 'c {
    consumer.group_by.iter().map(move |(name, fields)| {
        // By its own name for it a correlation knows best what it groups.
        if let Some(value) = carried.group.get(&**name) {
            return (name, Cow::Borrowed(value));
        }
        let value = match fields.get(member).map(|field| found(field, carried)) {
            None | Some([]) => Cow::Owned(Value::Null),
            Some([one]) => Cow::Borrowed(one),
            Some(many) => Cow::Owned(Value::Array(many.to_vec())),
        };
        (name, value)
    })
}

/// The values of a field: what the correlation that yields the match groups by, also under an alias, or else the event's.
pub(super) fn found<'f>(field: &FieldPath, carried: Carried<'f>) -> &'f [Value] {
    match carried.group.get(field.as_str()) {
        Some(Value::Null) => &[],
        Some(Value::Array(many)) => many,
        Some(one) => std::slice::from_ref(one),
        None => carried.fields.get(field.as_str()).map_or(&[][..], Vec::as_slice),
    }
}

pub(super) fn entry(consumer: &Consumer, member: usize, fed: &Fed, bound: u64) -> Entry {
    let fields = consumer.kind.fields().iter().filter_map(|group| group.fields.get(member));
    let values: Vec<&[Value]> = fields.map(|field| found(field, fed.carried())).collect();
    Entry {
        time: fed.time,
        request: fed.request,
        member: u16::try_from(member).unwrap_or(u16::MAX),
        values: tally::values(&consumer.kind, &values),
        bound,
        audit_id: Arc::clone(&fed.audit_id),
        shown: Some(fed.shown.clone()),
    }
}
