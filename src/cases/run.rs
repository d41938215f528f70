//! Running one case: the real engine, a correlator of its own, and the judge beside them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::read::{Case, Expected};
use super::{OnTheWay, events};
use crate::alert::{Alert, Kind};
use crate::clock::Timestamp;
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

/// How the events of a case come to the rules.
#[derive(Clone, Copy)]
pub(super) struct Way<'w> {
    on_the_way: OnTheWay<'w>,
    /// Whether the judge is asked about them too.
    judged: bool,
}

/// As they are, without the judge: where a case is not run for its own sake.
pub(super) const UNJUDGED: Way<'static> = Way { on_the_way: &Some, judged: false };

/// An event of a case, and what the engine found in it.
pub(super) struct Step {
    /// The event, with the label of its cluster.
    pub(super) event: Value,
    /// The label.
    cluster: Arc<str>,
    /// How far time has come with it.
    newest: Option<Timestamp>,
    pub(super) matches: Vec<Match>,
}

/// What happened in a case.
struct Outcome {
    steps: Vec<Step>,
    /// Alerts of the rule that the case is about, as they were in the end, by time.
    alerts: Vec<Alert>,
}

/// What of an outcome a case can expect something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) fired: bool,
    /// How many alerts there were, of a rule that alerts by itself.
    pub(super) alerts: Option<u64>,
    /// The count of the last; of a rule that only serves correlations, the events that it is true of.
    pub(super) count: Option<u64>,
}

impl Runner {
    pub(super) fn new(rules: Rules) -> Self {
        Self { rules: Arc::new(RuleSet::compile(rules, REPEAT_AFTER)), cluster: "default".into() }
    }

    /// Runs a case; the error says what was expected and what happened.
    pub(super) fn case(&self, case: &Case, on_the_way: OnTheWay<'_>) -> Result<(), String> {
        let outcome = self.run(case, on_the_way)?;
        let verdict = self.verdict(case, &outcome);
        if case.expected.is_met_by(verdict) {
            return Ok(());
        }
        let happened = match (verdict.alerts, verdict.count) {
            (None, Some(count @ 1..)) => format!("but it fired on {}", counted(count, "event")),
            (None, _) => "but it did not fire".to_owned(),
            (Some(number @ 1..), Some(count)) => {
                format!("but there was {}, the last with count {count}", counted(number, "alert"))
            }
            (Some(_), _) => "but there was no alert".to_owned(),
        };
        let why = self.why(case, &outcome);
        Err(format!("expected {}, {happened}\n{why}", wish(case.expected, verdict.alerts.is_some()))
            .trim_end()
            .to_owned())
    }

    /// Whether the rule that a case is about fires.
    pub(super) fn fires(&self, case: &Case, on_the_way: OnTheWay<'_>) -> bool {
        self.run(case, on_the_way).is_ok_and(|outcome| self.verdict(case, &outcome).fired)
    }

    /// A rule that only serves correlations fires when it is true of an event.
    fn verdict(&self, case: &Case, outcome: &Outcome) -> Verdict {
        if self.alerts(&case.rule) {
            Verdict::of(&outcome.alerts)
        } else {
            Verdict::of_block(outcome.matched(&case.rule) as u64)
        }
    }

    /// Whether a rule alerts by itself.
    pub(super) fn alerts(&self, rule: &str) -> bool {
        self.rules.consumers().iter().any(|consumer| consumer.info.id == rule)
    }

    fn run(&self, case: &Case, on_the_way: OnTheWay<'_>) -> Result<Outcome, String> {
        let steps = self.detect(case, Way { on_the_way, judged: true })?;
        let alerts = self.correlate(&steps, &|_, _| true, &case.rule);
        Ok(Outcome { steps, alerts })
    }

    /// What the engine finds in the events of a case.
    pub(super) fn detect(&self, case: &Case, way: Way<'_>) -> Result<Vec<Step>, String> {
        let events = events::expand(&case.base, &case.blocks);
        let mut detector = Detector::default();
        let mut found = Detected::default();
        let mut steps = Vec::with_capacity(events.len());
        for (number, mut event) in events.into_iter().filter_map(way.on_the_way).enumerate() {
            found.clear();
            let cluster = self.take_cluster(&mut event);
            detector.event(&self.rules, &cluster, event.to_string().as_bytes(), &mut found);
            if let Some(reject) = found.rejects.kept().first() {
                return Err(format!("the engine refuses event {}: {}", number + 1, reject.detail));
            }
            label(&mut event, &cluster);
            if way.judged {
                self.judge(&event, &found.matches, number)?;
            }
            steps.push(Step { event, cluster, newest: found.newest, matches: found.matches.clone() });
        }
        Ok(steps)
    }

    /// The alerts of a rule that come of those matches that are kept: by the number of the event, and the match.
    pub(super) fn correlate(&self, steps: &[Step], kept: &dyn Fn(usize, &Match) -> bool, rule: &str) -> Vec<Alert> {
        let mut all = self.correlate_all(steps, kept);
        all.retain(|alert| alert.rule.id == rule);
        all
    }

    /// The alerts of all rules, as they were in the end, by time.
    pub(super) fn correlate_all(&self, steps: &[Step], kept: &dyn Fn(usize, &Match) -> bool) -> Vec<Alert> {
        let mut correlator = Correlator::new(Arc::clone(&self.rules), Limits::default());
        for (number, step) in steps.iter().enumerate() {
            let matches: Vec<Match> = step.matches.iter().filter(|found| kept(number, found)).cloned().collect();
            correlator.take(&matches, None);
            if let Some(newest) = step.newest {
                correlator.advance(&step.cluster, newest);
            }
        }
        correlator.finish();
        let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
        for change in correlator.drain() {
            if change.kind == Kind::Firing || alerts.contains_key(&change.alert.id) {
                alerts.insert(change.alert.id.clone(), change.alert);
            }
        }
        let mut alerts: Vec<Alert> = alerts.into_values().collect();
        alerts.sort_by_key(|alert| (alert.time, alert.last_seen));
        alerts
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
        if correlation.is_some() || outcome.steps.len() > 1 {
            for rule in &rules {
                let (number, all) = (outcome.matched(&rule.info.id), outcome.steps.len());
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

impl Verdict {
    /// Of a rule that alerts by itself.
    pub(super) fn of(alerts: &[Alert]) -> Self {
        let count = alerts.last().map(|alert| alert.count);
        Self { fired: !alerts.is_empty(), alerts: Some(alerts.len() as u64), count }
    }

    /// Of a rule that only serves correlations, by the number of events that it is true of.
    pub(super) fn of_block(matched: u64) -> Self {
        Self { fired: matched > 0, alerts: None, count: Some(matched) }
    }
}

impl Step {
    /// Whether a rule is true of it.
    fn matched(&self, rule: &str) -> bool {
        self.matches.iter().any(|found| *found.rule == *rule)
    }
}

impl Outcome {
    /// How many events a rule is true of.
    fn matched(&self, rule: &str) -> usize {
        self.steps.iter().filter(|step| step.matched(rule)).count()
    }

    /// Why a rule is or is not true, for the first events of which it is so.
    fn explained(&self, rule: &Rule, holds: bool) -> String {
        let mut text = String::new();
        let steps = self.steps.iter().enumerate().filter(|(_, step)| step.matched(&rule.info.id) == holds);
        for (number, step) in steps.take(EXPLAINED_MAX) {
            if self.steps.len() > 1 {
                text.push_str(&format!("event {}:\n", number + 1));
            }
            text.push_str(&explain::explain(rule, &step.event, engine::show).to_string());
        }
        text
    }
}

fn wish(expected: Expected, alerts: bool) -> String {
    let mut parts = Vec::new();
    match (expected.alerts, expected.fires) {
        (Some(alerts), _) => parts.push(counted(alerts, "alert")),
        (None, Some(false)) => parts.push("no alert".to_owned()),
        (None, Some(true)) if expected.count.is_none() => parts.push("an alert".to_owned()),
        (None, _) => {}
    }
    let counted = |count| if alerts { format!("a last alert with count {count}") } else { format!("{count} events") };
    parts.extend(expected.count.map(counted));
    parts.join(" and ")
}
