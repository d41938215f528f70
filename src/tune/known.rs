//! What alerts have in common, user by user.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::generated;
use crate::alert::Alert;

/// Values of one field that a filter lists; with more of them the field tells nothing.
const VALUES_MAX: usize = 5;

const USER: &str = "user.username";
const ACTING_AS: &str = "impersonatedUser.username";
/// The address that the API server itself saw.
const ADDRESS: &str = "sourceIPs[-1]";
const NAME: &str = "objectRef.name";
const ANONYMOUS: &str = "system:anonymous";

const NOBODY: &str = "Nobody authenticated: the address is the one that the API server itself saw, which a proxy in front of \
                      it makes the same for all.";
const ONE_SHOWN: &str = "Of an alert with several requests only the one that it shows is proven to be gone.";

/// What narrows a filter beside who it is, in the order in which it is written.
const OBJECT: [&str; 4] = ["objectRef.resource", "objectRef.subresource", "objectRef.namespace", NAME];

/// What an alert is known by: field to value.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) values: BTreeMap<String, String>,
    /// Whether that is its group, so that it holds for all that the alert is about.
    of_group: bool,
}

impl Facts {
    /// Of an alert about single events: who, as whom, from where, and the object.
    pub(super) fn of_event(alert: &Alert) -> Self {
        let event = &alert.event;
        let object = event.object_ref.as_ref();
        let acting_as = event.impersonated_user.as_ref().and_then(|user| user.username.clone());
        let values = [
            (USER, event.user.username.clone()),
            (ACTING_AS, acting_as),
            (ADDRESS, event.source_ips.last().cloned()),
            (OBJECT[0], object.and_then(|object| object.resource.clone())),
            (OBJECT[1], object.and_then(|object| object.subresource.clone())),
            (OBJECT[2], object.and_then(|object| object.namespace.clone())),
            (OBJECT[3], object.and_then(|object| object.name.clone())),
        ];
        let values = values.into_iter().filter_map(|(field, value)| Some((field.to_owned(), value?)));
        Self { values: values.filter(|(_, value)| !value.is_empty()).collect(), of_group: false }
    }

    /// Of an alert of a correlation: its group, as far as it is the same field for all of its rules.
    pub(super) fn of_group(alert: &Alert, paths: &BTreeSet<&str>) -> Self {
        let values = alert.group.iter().filter(|(field, _)| paths.contains(field.as_str()));
        let values = values.filter_map(|(field, value)| Some((field.clone(), value.as_str()?.to_owned())));
        Self { values: values.filter(|(_, value)| !value.is_empty()).collect(), of_group: true }
    }

    fn get(&self, field: &str) -> Option<&str> {
        self.values.get(field).map(String::as_str)
    }

    /// Who it was, by what nobody can choose: the user, or else the address.
    fn who(&self) -> Vec<(&'static str, &str)> {
        let user = self.get(USER).map(|user| (USER, user));
        match user.filter(|(_, user)| *user != ANONYMOUS) {
            Some(user) => {
                [Some(user), self.get(ACTING_AS).map(|other| (ACTING_AS, other))].into_iter().flatten().collect()
            }
            None => user.into_iter().chain(self.get(ADDRESS).map(|address| (ADDRESS, address))).collect(),
        }
    }

    /// An event that has all of it, and nothing else.
    pub(super) fn event(&self) -> Value {
        let mut event = json!({"stage": "ResponseComplete"});
        for (field, value) in &self.values {
            if let Some(list) = field.strip_suffix("[-1]").or_else(|| field.strip_suffix("[0]")) {
                event[list] = json!([value]);
                continue;
            }
            let mut place = &mut event;
            for part in field.split('.') {
                place = &mut place[part];
            }
            *place = json!(value);
        }
        event
    }
}

/// Something that a filter leaves out: all of its fields have these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Fields, in the order in which they are written.
    pub fields: Vec<(String, Values)>,
    /// Alerts that it takes away.
    pub alerts: usize,
}

/// Values of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// One of these, whatever characters are in them.
    These(Vec<String>),
    /// What this expression matches.
    Like(String),
}

/// Puts the alerts of each user, or address, together. Notes are for whoever takes the filter over.
pub(super) fn gather(all: &[Facts], notes: &mut Vec<String>) -> Result<Vec<Known>, String> {
    let mut by_who: BTreeMap<Vec<(&str, &str)>, Vec<&Facts>> = BTreeMap::new();
    for facts in all {
        by_who.entry(facts.who()).or_default().push(facts);
    }
    let mut known = Vec::new();
    for (who, facts) in by_who {
        let mut fields: Vec<(String, Values)> =
            who.iter().map(|(field, value)| ((*field).to_owned(), Values::These(vec![(*value).to_owned()]))).collect();
        if facts[0].of_group {
            let others: BTreeSet<&str> =
                facts.iter().flat_map(|facts| facts.values.keys()).map(String::as_str).collect();
            let others = others.into_iter().filter(|field| who.iter().all(|(known, _)| known != field));
            fields.extend(others.filter_map(|field| in_common(field, &facts, notes)));
        } else {
            fields.extend(OBJECT.iter().filter_map(|field| in_common(field, &facts, notes)));
        }
        if fields.is_empty() || fields.iter().all(|(field, values)| is_anybody(field, values)) {
            return Err(
                "the alerts say nothing of who it was that could not be anybody: change its level, disable it, or \
                        write a filter by hand"
                    .to_owned(),
            );
        }
        if who.iter().any(|(field, _)| *field == ADDRESS) {
            notes.push(NOBODY.to_owned());
            if !facts[0].of_group {
                notes.push(ONE_SHOWN.to_owned());
            }
        }
        known.push(Known { fields, alerts: facts.len() });
    }
    notes.dedup();
    Ok(known)
}

/// Whether whoever comes along has this value: then the rule would be silent for everybody.
fn is_anybody(field: &str, values: &Values) -> bool {
    match (field, values) {
        (USER, Values::These(users)) => users.iter().all(|user| user == ANONYMOUS),
        (ADDRESS | ACTING_AS, _) => false,
        (NAME, _) | ("objectRef.namespace", _) => false,
        _ => true,
    }
}

/// What all these alerts have under a field: few values, or names that differ in what was generated only.
fn in_common(field: &str, facts: &[&Facts], notes: &mut Vec<String>) -> Option<(String, Values)> {
    let values: Option<BTreeSet<&str>> = facts.iter().map(|facts| facts.get(field)).collect();
    let values = values?;
    if field == NAME
        && let Some((regex, shown)) = generated::pattern(&values)
    {
        notes.push(format!("`{shown}` stands for what is generated: anything that is named so is left out too."));
        return Some((field.to_owned(), Values::Like(regex)));
    }
    if values.len() > VALUES_MAX {
        notes.push(format!("{} different values of `{field}`: any is left out.", values.len()));
        return None;
    }
    Some((field.to_owned(), Values::These(values.into_iter().map(str::to_owned).collect())))
}
