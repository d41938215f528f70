//! Whether a filter does what it is for: the alerts are gone, and the rule still fires on its own cases.

use std::path::Path;

use super::known::Facts;
use super::{Proposal, paths, write};
use crate::alert::Alert;
use crate::cases::{self, Came};
use crate::diagnose::Diagnostic;
use crate::rule::load::load_text;
use crate::rule::naive::rule_holds;
use crate::rule::{self, Rules};

/// What was found out about a proposal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proof {
    /// Alerts that the filter leaves out.
    pub gone: usize,
    /// Alerts that it does not.
    pub left: usize,
    /// Firing cases that still fire.
    pub firing: usize,
    /// Firing cases that do not any more.
    pub silenced: Vec<Silenced>,
}

/// A firing case that a filter silences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silenced {
    /// The title of the rule that the case is about.
    pub rule: String,
    /// The case's name.
    pub case: String,
}

/// Loads the rules once more with the filter, and asks about the alerts and the cases. `before` is what `options` load. The
/// error is what is wrong with the filter, which is a mistake of ours.
pub fn prove(
    options: &rule::Options,
    before: &Rules,
    proposal: &Proposal,
    alerts: &[&Alert],
) -> Result<Proof, Vec<Diagnostic>> {
    let mut options = options.clone();
    options.own.push(("<proposed>".to_owned(), write::document(proposal)));
    let after = rule::load(&options);
    let inverse = load_text(Path::new("<proposed>"), &write::inverse(proposal));
    if after.has_errors() || inverse.has_errors() {
        return Err(after.findings.into_iter().chain(inverse.findings).collect());
    }
    let known = inverse.rules.rules.first();
    let is_gone = |alert: &&&Alert| {
        let facts = match before.correlation(&proposal.rule) {
            Some(correlation) => Facts::of_group(alert, &paths(correlation)),
            None => Facts::of_event(alert),
        };
        known.is_some_and(|known| rule_holds(known, &facts.event()))
    };
    let gone = alerts.iter().filter(is_gone).count();
    let mut proof = Proof { gone, left: alerts.len() - gone, ..Proof::default() };
    let then = cases::outcomes_about(before, &proposal.narrows);
    let now = cases::outcomes_about(&after.rules, &proposal.narrows);
    for case in then.iter().filter(|case| case.expected && case.fired) {
        let same = |other: &&Came| (&other.rule, &other.name) == (&case.rule, &case.name);
        if now.iter().find(same).is_some_and(|case| case.fired) {
            proof.firing += 1;
        } else {
            proof.silenced.push(Silenced { rule: title(before, &case.rule), case: case.name.clone() });
        }
    }
    Ok(proof)
}

fn title(rules: &Rules, id: &str) -> String {
    let infos = rules.rules.iter().map(|rule| &rule.info).chain(rules.correlations.iter().map(|c| &c.info));
    infos.into_iter().find(|info| info.id == id).map_or_else(|| id.to_owned(), |info| info.title.clone())
}
