//! Running one case: the real engine, a correlator of its own, and the judge beside them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::read::{Case, Expected};
use super::{OnTheWay, events};
use crate::alert::{Alert, Kind};
use crate::correlate::{Correlator, Limits};
use crate::engine::{self, Detected, Detector, Match, RuleSet};
use crate::event::label;
use crate::event::project::CLUSTER;
use crate::rule::{Rule, Rules, explain, naive};
use crate::text::counted;

/// How long matches of a single-event rule join the same alert: the daemon's default.
const REPEAT_AFTER: Duration = Duration::from_secs(300);

/// Events that a failing case explains.
const EXPLAINED_MAX: usize = 2;

/// The rules of one file, compiled once for all of its cases.
pub(super) struct Runner {
    rules: Arc<RuleSet>,
    cluster: Arc<str>,
}

/// What happened in a case.
struct Outcome {
    events: Vec<Value>,
    /// The matches of each event.
    matches: Vec<Vec<Match>>,
    /// Alerts of the rule that the case is about, as they were in the end, by time.
    alerts: Vec<Alert>,
}

impl Runner {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules: Arc::new(RuleSet::compile(rules, REPEAT_AFTER)), cluster: "default".into() }
    }

    /// Runs a case; the error says what was expected and what happened.
    pub(super) fn case(&self, case: &Case, on_the_way: OnTheWay<'_>) -> Result<(), String> {
        let outcome = self.run(case, on_the_way)?;
        let fired = self.fired(case, &outcome);
        if !self.alerts(case) {
            return if fired == case.expected.fires() {
                Ok(())
            } else {
                Err(format!("expected {}, but it {}\n{}", wish(case.expected), did(fired), self.why(case, &outcome)))
            };
        }
        let count = outcome.alerts.last().map(|alert| alert.count);
        let number = outcome.alerts.len() as u64;
        let good = case.expected.fires() == fired
            && case.expected.alerts.is_none_or(|alerts| alerts == number)
            && case.expected.count.is_none_or(|wanted| count == Some(wanted));
        if good {
            return Ok(());
        }
        let happened = match (number, count) {
            (1.., Some(count)) => format!("{}, the last with count {count}", counted(number, "alert")),
            _ => "no alert".to_owned(),
        };
        Err(format!("expected {}, but there was {happened}\n{}", wish(case.expected), self.why(case, &outcome))
            .trim_end()
            .to_owned())
    }

    /// Whether the rule that a case is about fires.
    pub(super) fn fires(&self, case: &Case, on_the_way: OnTheWay<'_>) -> bool {
        self.run(case, on_the_way).is_ok_and(|outcome| self.fired(case, &outcome))
    }

    /// One that only serves correlations fires when it is true of an event.
    fn fired(&self, case: &Case, outcome: &Outcome) -> bool {
        if self.alerts(case) { !outcome.alerts.is_empty() } else { outcome.matched(&case.rule) > 0 }
    }

    /// Whether the rule that a case is about alerts by itself.
    fn alerts(&self, case: &Case) -> bool {
        self.rules.consumers().iter().any(|consumer| consumer.info.id == case.rule)
    }

    fn run(&self, case: &Case, on_the_way: OnTheWay<'_>) -> Result<Outcome, String> {
        let events = events::expand(&case.base, &case.blocks);
        let mut events: Vec<Value> = events.into_iter().filter_map(on_the_way).collect();
        let mut correlator = Correlator::new(Arc::clone(&self.rules), Limits::default());
        let mut detector = Detector::default();
        let mut found = Detected::default();
        let mut matches = Vec::with_capacity(events.len());
        for (number, event) in events.iter_mut().enumerate() {
            found.clear();
            let cluster = self.take_cluster(event);
            detector.event(&self.rules, &cluster, event.to_string().as_bytes(), &mut found);
            if let Some(reject) = found.rejects.kept().first() {
                return Err(format!("the engine refuses event {}: {}", number + 1, reject.detail));
            }
            label(event, &cluster);
            self.judge(event, &found.matches, number)?;
            correlator.take(&found.matches, None);
            if let Some(newest) = found.newest {
                correlator.advance(&cluster, newest);
            }
            matches.push(found.matches.clone());
        }
        correlator.finish();
        let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
        for change in correlator.drain() {
            if change.alert.rule.id == case.rule
                && (change.kind == Kind::Firing || alerts.contains_key(&change.alert.id))
            {
                alerts.insert(change.alert.id.clone(), change.alert);
            }
        }
        let mut alerts: Vec<Alert> = alerts.into_values().collect();
        alerts.sort_by_key(|alert| (alert.time, alert.last_seen));
        Ok(Outcome { events, matches, alerts })
    }

    /// Takes the label out of an event: it is no part of what is delivered.
    fn take_cluster(&self, event: &mut Value) -> Arc<str> {
        let label = event.as_object_mut().and_then(|map| map.remove(CLUSTER));
        label.as_ref().and_then(Value::as_str).map_or_else(|| Arc::clone(&self.cluster), Arc::from)
    }

    /// The judge must say of every rule what the engine said.
    fn judge(&self, event: &Value, matches: &[Match], number: usize) -> Result<(), String> {
        for rule in self.rules.rules() {
            let found = matches.iter().any(|found| *found.rule == *rule.info.id);
            if naive::rule_holds(rule, event) != found {
                let title = &rule.info.title;
                return Err(format!(
                    "the engine contradicts its judge about `{title}` and event {}: a bug",
                    number + 1
                ));
            }
        }
        Ok(())
    }

    /// What a person needs to see why it did not go as expected.
    fn why(&self, case: &Case, outcome: &Outcome) -> String {
        let correlation = self.rules.loaded().correlation(&case.rule);
        let members = self.rules.loaded().base(&case.rule.as_str().into());
        let rules: Vec<&Rule> =
            members.iter().filter_map(|id| self.rules.rules().iter().find(|rule| rule.info.id == **id)).collect();
        let mut lines = String::new();
        if correlation.is_some() || outcome.events.len() > 1 {
            for rule in &rules {
                let (number, all) = (outcome.matched(&rule.info.id), outcome.events.len());
                lines.push_str(&format!("`{}` matched {number} of {all} events\n", rule.info.title));
            }
        }
        if case.expected.fires() {
            let quiet = |rule: &&&Rule| correlation.is_none() || outcome.matched(&rule.info.id) == 0;
            for rule in rules.iter().filter(quiet) {
                lines.push_str(&outcome.explained(rule, false));
            }
        } else if correlation.is_none() {
            rules.iter().for_each(|rule| lines.push_str(&outcome.explained(rule, true)));
        }
        lines
    }
}

impl Outcome {
    /// How many events a rule is true of.
    fn matched(&self, rule: &str) -> usize {
        self.matches.iter().filter(|matches| matches.iter().any(|found| *found.rule == *rule)).count()
    }

    /// Why a rule is or is not true, for the first events of which it is so.
    fn explained(&self, rule: &Rule, holds: bool) -> String {
        let mut text = String::new();
        let events = self
            .events
            .iter()
            .enumerate()
            .filter(|(number, _)| self.matches[*number].iter().any(|found| *found.rule == *rule.info.id) == holds);
        for (number, event) in events.take(EXPLAINED_MAX) {
            if self.events.len() > 1 {
                text.push_str(&format!("event {}:\n", number + 1));
            }
            text.push_str(&explain::explain(rule, event, engine::show).to_string());
        }
        text
    }
}

fn did(fired: bool) -> &'static str {
    if fired { "fired" } else { "did not fire" }
}

fn wish(expected: Expected) -> String {
    let mut parts = Vec::new();
    match (expected.alerts, expected.fires) {
        (Some(alerts), _) => parts.push(counted(alerts, "alert")),
        (None, Some(false)) => parts.push("no alert".to_owned()),
        (None, Some(true)) if expected.count.is_none() => parts.push("an alert".to_owned()),
        (None, _) => {}
    }
    parts.extend(expected.count.map(|count| format!("a last alert with count {count}")));
    parts.join(" and ")
}
