//! From alerts that somebody marked as false to the narrowest Sigma filter that takes them away.
//!
//! An alert about single events is known by who authenticated and by the object: nobody can forge these, and all requests
//! of one alert share them. Where nobody authenticated, the address that the API server itself saw takes their place. An
//! alert of a correlation is known by its group, and it is its rules that are narrowed.

mod generated;
mod known;
mod proof;
mod write;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::alert::Alert;
use crate::rule::{Correlation, Rules};

pub use proof::{Proof, Silenced, prove};
pub use write::document;

use known::Facts;
pub use known::{Known, Values};

/// Users and addresses that one filter tells apart. Whoever has more has found how things are, not an exception.
const KNOWN_MAX: usize = 20;

/// A filter for one rule.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The rule's id.
    pub rule: String,
    /// Its title.
    pub title: String,
    /// Ids of the rules that the filter narrows: itself, or those that a correlation is made of.
    pub narrows: Vec<Arc<str>>,
    /// What is left out.
    pub known: Vec<Known>,
    /// What whoever takes it over should know.
    pub notes: Vec<String>,
}

/// Proposes a filter that takes the alerts of one rule away. The error says why there is none.
pub fn propose(rules: &Rules, alerts: &[&Alert]) -> Result<Proposal, String> {
    let Some(first) = alerts.first() else { return Err("there is no alert".to_owned()) };
    let (id, title) = (first.rule.id.clone(), first.rule.title.clone());
    let single = rules.rules.iter().any(|rule| rule.info.id == id);
    let correlation = rules.correlation(&id);
    let mut notes = Vec::new();
    let facts: Vec<Facts> = match correlation {
        None if !single => {
            return Err("there is no such rule; name its file with --rules, or its configuration with --config".into());
        }
        None => alerts.iter().map(|alert| Facts::of_event(alert)).collect(),
        Some(correlation) => {
            if correlation.any.is_some() {
                return Err("it is made of all alerts there are: tune the rules in its `timeline`".into());
            }
            let paths = paths(correlation);
            alerts.iter().map(|alert| Facts::of_group(alert, &paths)).collect()
        }
    };
    let narrows = rules.base(&id.as_str().into());
    if correlation.is_some() {
        notes.push(of_correlation(rules, &id, &narrows));
    }
    let known = known::gather(&facts, &mut notes)?;
    if known.len() > KNOWN_MAX {
        let message = "are too many to be an exception: change its level, or disable it";
        return Err(format!("alerts of {} users or addresses {message}", known.len()));
    }
    Ok(Proposal { rule: id, title, narrows, known, notes })
}

/// The fields by which a correlation groups that are the same in all of its rules.
fn paths(correlation: &Correlation) -> BTreeSet<&str> {
    let groups = correlation.group_by.iter().chain(correlation.kind.fields());
    let same = groups.filter(|group| group.fields.iter().all(|field| field.as_str() == &*group.name));
    same.map(|group| &*group.name).collect()
}

/// A filter cannot narrow a correlation: what else it takes away is to be known.
fn of_correlation(rules: &Rules, id: &str, narrows: &[Arc<str>]) -> String {
    let alerting = rules.alerting();
    let alerts = |other: &str| other != id && alerting.get(other).copied().unwrap_or(false);
    let touched = |other: &str| rules.base(&other.into()).iter().any(|base| narrows.contains(base));
    let singles = rules.rules.iter().map(|rule| &rule.info);
    let several = rules.correlations.iter().filter(|c| c.any.is_none()).map(|c| &c.info);
    let others = singles.chain(several).filter(|info| alerts(&info.id) && touched(&info.id));
    let others: Vec<String> = others.map(|info| format!("`{}`", info.title)).collect();
    let head = "Filters are for rules about single events: this narrows those that the correlation is made of";
    match others.is_empty() {
        true => format!("{head}, which serve nothing else."),
        false => format!("{head}, and with them {}.", others.join(", ")),
    }
}

#[cfg(test)]
mod tests;
