//! Reading files of cases, with every mistake at its place.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value as Json;

use super::Subject;
use super::events::Block;
use super::run::Verdict;
use crate::diagnose::{Diagnostic, SourceText, Span, closest};
use crate::event::members;
use crate::rule::reader::Reader;
use crate::rule::sigma::Placeholders;
use crate::units;
use crate::yaml::{self, Key, Node, Value};

/// Events that one entry may stand for.
const TIMES_MAX: i64 = 10_000;

/// A case, ready to run.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: String,
    /// The id of the rule it is about.
    pub(super) rule: String,
    /// What lies under every event of the file.
    pub(super) base: Arc<Json>,
    pub(super) blocks: Vec<Block>,
    pub(super) expected: Expected,
}

/// What a case expects; all that is said must be so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) fires: Option<bool>,
    /// Number of alerts.
    pub(super) alerts: Option<u64>,
    /// `count` of the last alert; of a rule that only serves correlations, the events that it is true of.
    pub(super) count: Option<u64>,
}

impl Expected {
    /// Whether at least one alert is expected.
    pub(super) fn fires(&self) -> bool {
        self.fires.unwrap_or(self.alerts.unwrap_or(1) > 0)
    }

    /// Whether it says no more than whether the rule fires.
    pub(super) fn says_only_whether(&self) -> bool {
        self.alerts.is_none_or(|alerts| alerts == 0) && self.count.is_none()
    }

    /// Whether what happened is what is expected.
    pub(super) fn is_met_by(&self, verdict: Verdict) -> bool {
        self.fires() == verdict.fired
            && self.alerts.is_none_or(|wanted| verdict.alerts == Some(wanted))
            && self.count.is_none_or(|wanted| verdict.count == Some(wanted))
    }
}

const FILE_KEYS: [&str; 2] = ["base", "cases"];
const CASE_KEYS: [&str; 7] = ["name", "rule", "event", "events", "fires", "alerts", "count"];
const BLOCK_KEYS: [&str; 4] = ["times", "every", "at", "event"];

/// The cases of a file, or its mistakes.
pub(super) fn cases(source: &Arc<SourceText>, subjects: &[Subject]) -> Result<Vec<Case>, Vec<Diagnostic>> {
    let (documents, mut findings) = yaml::parse(source);
    let mut cases = Vec::new();
    // Cases hold events, not patterns.
    let placeholders = Placeholders::new();
    let reader = Reader { source, findings: &mut findings, placeholders: &placeholders, expanded: 0 };
    let mut reader = CaseReader { reader, subjects };
    for document in &documents {
        cases.extend(reader.document(document));
    }
    if cases.is_empty() && findings.is_empty() {
        findings.push(Diagnostic::error(source, Span::default(), "the file has no `cases`"));
    }
    if findings.is_empty() { Ok(cases) } else { Err(findings) }
}

struct CaseReader<'r> {
    reader: Reader<'r>,
    subjects: &'r [Subject],
}

impl CaseReader<'_> {
    fn document(&mut self, document: &Node) -> Vec<Case> {
        let Some(entries) = document.as_map() else {
            self.reader.error(document.span, format!("a mapping with `cases` belongs here, not {}", document.kind()));
            return Vec::new();
        };
        self.known_keys(entries, &FILE_KEYS, "a file of cases");
        let base =
            document.get("base").map(|node| self.event(node)).unwrap_or_else(|| Json::Object(Default::default()));
        let base = Arc::new(base);
        let Some(list) = document.get("cases") else { return Vec::new() };
        let Value::Seq(items) = &list.value else {
            self.reader.error(list.span, format!("`cases` must be a list, not {}", list.kind()));
            return Vec::new();
        };
        let mut cases: Vec<Case> = Vec::new();
        for item in items {
            let Some(case) = self.case(item, &base) else { continue };
            if cases.iter().any(|other| other.name == case.name && other.rule == case.rule) {
                let span = item.get("name").map_or(item.span, |name| name.span);
                self.reader.error(span, format!("there are two cases named `{}`", case.name));
            }
            cases.push(case);
        }
        cases
    }

    fn case(&mut self, node: &Node, base: &Arc<Json>) -> Option<Case> {
        let Some(entries) = node.as_map() else {
            self.reader.error(node.span, format!("a case must be a mapping, not {}", node.kind()));
            return None;
        };
        self.known_keys(entries, &CASE_KEYS, "a case");
        let head = Span { start: node.span.start, end: node.span.start };
        if node.get("name").is_none() {
            self.reader.error(head, "the case has no `name`");
        }
        let name = self.reader.text(node, "name").unwrap_or_default();
        let expected = self.expected(node, head);
        let blocks = self.blocks(node, head);
        let rule = self.rule(node, head)?;
        if !rule.alerts && expected.alerts.is_some() {
            let message = format!(
                "`{}` does not alert by itself; say whether it `fires`, or on how many events: `count`",
                rule.title
            );
            self.reader.error(head, message);
        }
        Some(Case { name, rule: rule.id, base: Arc::clone(base), blocks, expected })
    }

    /// The rule that a case is about: the one it names, or the only one that alerts.
    fn rule(&mut self, node: &Node, head: Span) -> Option<Subject> {
        let subjects = self.subjects;
        let Some(named) = node.get("rule") else {
            let mut alerting = subjects.iter().filter(|subject| subject.alerts);
            return match (alerting.next(), alerting.next()) {
                (Some(only), None) => Some(only.clone()),
                (None, _) if subjects.len() == 1 => subjects.first().cloned(),
                (None, _) => {
                    self.reader.error(head, "no rule beside the cases alerts; say which one is meant with `rule`");
                    None
                }
                _ => {
                    self.reader.error(head, "several rules beside the cases alert; say which one is meant with `rule`");
                    None
                }
            };
        };
        let wanted = self.reader.text(node, "rule")?;
        let is = |subject: &&Subject| {
            subject.id == wanted || subject.title == wanted || subject.name.as_deref() == Some(&wanted)
        };
        let found = subjects.iter().find(is);
        if found.is_none() {
            let message = format!("no rule beside the cases has the title or id `{wanted}`");
            let names = subjects.iter().flat_map(|subject| [subject.title.as_str(), subject.id.as_str()]);
            match closest(&wanted, names) {
                Some(near) => self.reader.error_with_help(named.span, message, format!("did you mean `{near}`?")),
                None => self.reader.error(named.span, message),
            }
        }
        found.cloned()
    }

    fn expected(&mut self, node: &Node, head: Span) -> Expected {
        let mut expected = Expected::default();
        if let Some(fires) = node.get("fires") {
            match fires.value {
                Value::Bool(value) => expected.fires = Some(value),
                _ => self.reader.error(fires.span, format!("`fires` must be true or false, not {}", fires.kind())),
            }
        }
        expected.alerts = self.number(node, "alerts", 0);
        expected.count = self.number(node, "count", 1);
        if ["fires", "alerts", "count"].iter().all(|key| node.get(key).is_none()) {
            let help = "add `fires: true`, `fires: false`, or `alerts` and `count`";
            self.reader.error_with_help(head, "the case does not say what is expected", help);
        }
        let contradicts = match expected.fires {
            Some(true) => expected.alerts == Some(0),
            Some(false) => expected.alerts.is_some_and(|alerts| alerts > 0) || expected.count.is_some(),
            None => expected.alerts == Some(0) && expected.count.is_some(),
        };
        if contradicts {
            self.reader.error(head, "`fires`, `alerts` and `count` contradict each other");
        }
        expected
    }

    fn number(&mut self, node: &Node, key: &str, least: i64) -> Option<u64> {
        let value = node.get(key)?;
        match value.value {
            Value::Int(number) if number >= least => u64::try_from(number).ok(),
            _ => {
                self.reader.error(value.span, format!("`{key}` must be a whole number from {least}"));
                None
            }
        }
    }

    fn blocks(&mut self, node: &Node, head: Span) -> Vec<Block> {
        match (node.get("event"), node.get("events")) {
            (Some(event), None) => vec![Block { event: self.event(event), times: None, every: None, at: None }],
            (None, Some(events)) => match &events.value {
                Value::Seq(items) if !items.is_empty() => items.iter().filter_map(|item| self.block(item)).collect(),
                _ => {
                    self.reader.error(events.span, "`events` must be a list of at least one event");
                    Vec::new()
                }
            },
            _ => {
                self.reader.error(head, "a case has either `event` or `events`");
                Vec::new()
            }
        }
    }

    /// An entry of `events`: an event, or one that is placed in time or repeated.
    fn block(&mut self, node: &Node) -> Option<Block> {
        let plain = node.as_map().is_none_or(|entries| entries.iter().all(|(k, _)| !BLOCK_KEYS.contains(&&*k.text)));
        if plain {
            return Some(Block { event: self.event(node), times: None, every: None, at: None });
        }
        self.known_keys(node.as_map().unwrap_or_default(), &BLOCK_KEYS, "a repeated event");
        let Some(event) = node.get("event") else {
            self.reader.error(node.span, "an entry with `times`, `every` or `at` needs an `event`");
            return None;
        };
        let times = node.get("times").and_then(|times| match times.value {
            Value::Int(number @ 1..=TIMES_MAX) => u32::try_from(number).ok(),
            _ => {
                self.reader.error(times.span, format!("`times` must be a whole number from 1 to {TIMES_MAX}"));
                None
            }
        });
        let event = self.event(event);
        Some(Block { event, times, every: self.span(node, "every"), at: self.span(node, "at") })
    }

    fn span(&mut self, node: &Node, key: &str) -> Option<Duration> {
        let value = node.get(key)?;
        if value.value == Value::Int(0) {
            return Some(Duration::ZERO);
        }
        let text = self.reader.text(node, key)?;
        match text.parse::<units::Span>() {
            Ok(span) => Some(span.0),
            Err(message) => {
                self.reader.error(value.span, message);
                None
            }
        }
    }

    fn event(&mut self, node: &Node) -> Json {
        let Some(entries) = node.as_map() else {
            self.reader.error(node.span, format!("an event must be a mapping, not {}", node.kind()));
            return Json::Null;
        };
        for (key, _) in entries {
            // It would make a quiet case worthless.
            if let Some(near) = members::nearly(&key.text) {
                let message = format!("an audit event has no key `{}`", key.text);
                self.reader.error_with_help(key.span, message, format!("did you mean `{near}`?"));
            }
        }
        node.to_json()
    }

    fn known_keys(&mut self, entries: &[(Key, Node)], known: &[&str], what: &str) {
        for (key, _) in entries.iter().filter(|(key, _)| !known.contains(&&*key.text)) {
            let message = format!("{what} has no key `{}`", key.text);
            match closest(&key.text, known.iter().copied()) {
                Some(near) => self.reader.error_with_help(key.span, message, format!("did you mean `{near}`?")),
                None => self.reader.error_with_help(key.span, message, format!("it has {}", known.join(", "))),
            }
        }
    }
}
