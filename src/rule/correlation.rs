//! Sigma v2 correlations: one YAML document to one rule about several events.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::ir::{Condition, Correlation, CorrelationKind, GroupField, Ordering, Rules};
use super::reader::Reader;
use super::sigma::fingerprint;
use crate::alert::RuleInfo;
use crate::diagnose::{Diagnostic, SourceText, Span, closest};
use crate::event::FieldPath;
use crate::units;
use crate::yaml::{Node, Value, document_text};

const KEYS: [&str; 7] = ["type", "rules", "group-by", "timespan", "condition", "aliases", "generate"];

/// The types that are understood, and those of the specification that are refused rather than approximated.
const TYPES: [&str; 4] = ["event_count", "value_count", "temporal", "temporal_ordered"];
const TYPES_NOT_YET: [&str; 4] = ["value_sum", "value_avg", "value_percentile", "value_median"];

/// A correlation whose rules are still the names that were written.
#[derive(Debug)]
pub struct Unresolved {
    info: RuleInfo,
    name: Option<String>,
    kind: CorrelationKind,
    rules: Vec<(String, Span)>,
    group_by: Vec<(String, Span)>,
    aliases: Vec<Alias>,
    timespan: Duration,
    generate: bool,
    fingerprint: u64,
    file: std::path::PathBuf,
    text: Arc<str>,
}

#[derive(Debug)]
struct Alias {
    name: String,
    /// Rule as written, its place, and the field in that rule's events.
    fields: Vec<(String, Span, FieldPath)>,
}

impl Unresolved {
    /// The id of the correlation.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.info.id
    }

    /// The name by which others may refer to it.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }
}

/// Reads a document that has a `correlation` key.
pub fn read(reader: &mut Reader<'_>, document: &Node, file: &Path) -> Option<Unresolved> {
    let info = reader.info(document);
    let name = reader.text(document, "name");
    let body = document.get("correlation")?;
    let Some(entries) = body.as_map() else {
        reader.error(body.span, format!("`correlation` must be a mapping, not {}", body.kind()));
        return None;
    };
    for (key, _) in entries {
        if !KEYS.contains(&key.text.as_str()) {
            let message = format!("a correlation has no key `{}`", key.text);
            match closest(&key.text, KEYS) {
                Some(near) => reader.error_with_help(key.span, message, format!("did you mean `{near}`?")),
                None => reader.error(key.span, message),
            }
        }
    }
    let kind = kind(reader, body);
    let rules = reader.texts(body, "rules");
    if rules.is_empty() {
        reader.error(body.span, "a correlation needs `rules`");
    }
    let group_by = reader.texts(body, "group-by");
    let aliases = aliases(reader, body);
    for (field, span) in &group_by {
        if let Err(message) = FieldPath::parse(field) {
            reader.error(*span, message);
        }
    }
    let timespan = timespan(reader, body);
    let generate =
        [document, body].iter().any(|node| node.get("generate").is_some_and(|g| g.value == Value::Bool(true)));
    Some(Unresolved {
        info,
        name,
        kind: kind?,
        rules,
        group_by,
        aliases,
        timespan: timespan?,
        generate,
        fingerprint: fingerprint(document),
        file: file.to_owned(),
        text: document_text(&reader.source.text, document.span.start).into(),
    })
}

fn timespan(reader: &mut Reader<'_>, body: &Node) -> Option<Duration> {
    let Some(node) = body.get("timespan") else {
        reader.error(body.span, "a correlation needs a `timespan`");
        return None;
    };
    match node.as_str().unwrap_or_default().parse::<units::Span>() {
        Ok(span) if span.0.is_zero() => {
            reader.error(node.span, "the timespan must be longer than nothing");
            None
        }
        Ok(span) => Some(span.0),
        Err(message) => {
            reader.error(node.span, message);
            None
        }
    }
}

fn kind(reader: &mut Reader<'_>, body: &Node) -> Option<CorrelationKind> {
    let Some(node) = body.get("type") else {
        reader.error(body.span, "a correlation needs a `type`");
        return None;
    };
    let name = node.as_str().unwrap_or_default();
    if TYPES_NOT_YET.contains(&name) {
        reader.error(node.span, format!("the correlation type `{name}` is not supported"));
        return None;
    }
    if !TYPES.contains(&name) {
        let message = format!("there is no correlation type `{name}`");
        match closest(name, TYPES) {
            Some(near) => reader.error_with_help(node.span, message, format!("did you mean `{near}`?")),
            None => reader.error_with_help(node.span, message, format!("the types are {}", TYPES.join(", "))),
        }
        return None;
    }
    let condition = body.get("condition");
    let counted = name.ends_with("_count");
    if counted && condition.is_none() {
        reader.error_with_help(node.span, format!("`{name}` needs a `condition`"), "such as `condition: {gte: 10}`");
        return None;
    }
    let (bounds, field) = match condition {
        Some(node) => bounds(reader, node)?,
        None => (None, None),
    };
    match (name, bounds, field) {
        ("event_count", Some(bounds), None) => Some(CorrelationKind::EventCount(bounds)),
        ("value_count", Some(bounds), Some(field)) => Some(CorrelationKind::ValueCount(field, bounds)),
        ("temporal", bounds, None) => Some(CorrelationKind::Temporal(bounds)),
        ("temporal_ordered", None, None) => Some(CorrelationKind::TemporalOrdered),
        ("value_count", _, None) => {
            reader.error(condition.unwrap_or(node).span, "`value_count` needs the `field` whose values are counted");
            None
        }
        (_, None, None) => {
            reader.error(condition.unwrap_or(node).span, "the condition has no bound such as `gte: 10`");
            None
        }
        _ => {
            reader.error(condition.unwrap_or(node).span, format!("`{name}` does not take this condition"));
            None
        }
    }
}

/// The bounds and the field of a condition.
fn bounds(reader: &mut Reader<'_>, node: &Node) -> Option<(Option<Condition>, Option<FieldPath>)> {
    let Some(entries) = node.as_map() else {
        reader.error(node.span, "a condition must be a mapping such as `{gte: 10}`; expressions are not supported");
        return None;
    };
    let (mut condition, mut field, mut good) = (Condition::default(), None, true);
    for (key, value) in entries {
        let problem = match (key.text.as_str(), &value.value) {
            ("field", Value::String(text)) => match FieldPath::parse(text) {
                Ok(path) => {
                    field = Some(path);
                    continue;
                }
                Err(message) => message,
            },
            ("field", _) => format!("`field` names one field, not {}", value.kind()),
            (name, value) => match (Ordering::named(name), value) {
                (Some(ordering), Value::Int(bound)) if *bound >= 0 => {
                    condition.bounds.push((ordering, bound.unsigned_abs()));
                    continue;
                }
                (Some(_), _) => "a bound must be a whole number from 0".to_owned(),
                (None, _) => format!("a condition has no key `{name}`; it has gte, gt, lte, lt, eq, neq and field"),
            },
        };
        good = false;
        reader.error(value.span, problem);
    }
    good.then(|| ((!condition.bounds.is_empty()).then_some(condition), field))
}

fn aliases(reader: &mut Reader<'_>, body: &Node) -> Vec<Alias> {
    let Some(node) = body.get("aliases") else { return Vec::new() };
    let Some(entries) = node.as_map() else {
        reader.error(node.span, "`aliases` must be a mapping of alias to {rule: field}");
        return Vec::new();
    };
    let mut aliases = Vec::new();
    for (key, value) in entries {
        let Some(fields) = value.as_map() else {
            reader.error(value.span, format!("the alias `{}` must map rules to fields", key.text));
            continue;
        };
        let mut alias = Alias { name: key.text.clone(), fields: Vec::new() };
        for (rule, field) in fields {
            match FieldPath::parse(field.as_str().unwrap_or_default()) {
                Ok(path) => alias.fields.push((rule.text.clone(), rule.span, path)),
                Err(message) => reader.error(field.span, message),
            }
        }
        aliases.push(alias);
    }
    aliases
}

/// Ids and names of everything loaded: what those in a correlation stand for.
pub struct Names {
    rules: HashMap<String, Arc<str>>,
    correlations: Vec<String>,
}

impl Names {
    pub(super) fn new<'c>(rules: &Rules, correlations: impl Iterator<Item = &'c Unresolved>) -> Self {
        let mut names = HashMap::new();
        for rule in &rules.rules {
            let id: Arc<str> = rule.info.id.as_str().into();
            names.insert(rule.info.id.clone(), Arc::clone(&id));
            if let Some(name) = &rule.name {
                names.insert(name.clone(), id);
            }
        }
        for rule in &rules.rules {
            names.entry(rule.info.title.clone()).or_insert_with(|| rule.info.id.as_str().into());
        }
        let correlations = correlations.flat_map(|c| [Some(c.id()), c.name()].into_iter().flatten());
        Self { rules: names, correlations: correlations.map(str::to_owned).collect() }
    }

    /// The id of the rule that has this id, name or title.
    pub(super) fn rule(&self, written: &str) -> Option<Arc<str>> {
        self.rules.get(written).cloned()
    }

    /// What to say of a name that no rule has. `refused`: why a correlation is not taken, if it has that name.
    pub(super) fn unknown(&self, source: &Arc<SourceText>, written: &str, span: Span, refused: &str) -> Diagnostic {
        let message = match self.correlations.iter().any(|name| name == written) {
            true => format!("`{written}` is a correlation; {refused}"),
            false => format!("no rule has the id or name `{written}`"),
        };
        let finding = Diagnostic::error(source, span, message);
        match closest(written, self.rules.keys().map(String::as_str)) {
            Some(near) if near != written => finding.help(format!("did you mean `{near}`?")),
            _ => finding,
        }
    }
}

/// Finds the rules that a correlation names.
pub fn resolve(reader: &mut Reader<'_>, read: Unresolved, known: &Names) -> Option<Correlation> {
    let mut good = true;
    let mut rules = Vec::new();
    for (written, span) in &read.rules {
        match known.rule(written) {
            Some(id) => rules.push(id),
            None => {
                good = false;
                let refused = "correlations of correlations are not supported";
                reader.findings.push(known.unknown(reader.source, written, *span, refused));
            }
        }
    }
    if !good {
        return None;
    }
    let mut group_by = Vec::new();
    for (name, span) in &read.group_by {
        let fields = match read.aliases.iter().find(|alias| alias.name == *name) {
            None => FieldPath::parse(name).ok().map(|field| vec![field; rules.len()]),
            Some(alias) => aliased(reader, alias, &rules, *span, known),
        };
        group_by.push(GroupField { name: name.as_str().into(), fields: fields? });
    }
    Some(Correlation {
        info: Arc::new(read.info),
        kind: read.kind,
        rules,
        group_by,
        timespan: read.timespan,
        generate: read.generate,
        file: read.file,
        text: read.text,
        fingerprint: read.fingerprint,
    })
}

/// The field of each rule that an alias stands for.
fn aliased(
    reader: &mut Reader<'_>,
    alias: &Alias,
    rules: &[Arc<str>],
    at: Span,
    known: &Names,
) -> Option<Vec<FieldPath>> {
    let fields: Vec<Option<FieldPath>> = rules
        .iter()
        .map(|id| {
            let named = alias.fields.iter().find(|(written, ..)| known.rule(written).as_ref() == Some(id));
            named.map(|(.., field)| field.clone())
        })
        .collect();
    if fields.iter().any(Option::is_none) {
        reader.error(at, format!("the alias `{}` does not name a field for every rule", alias.name));
    }
    fields.into_iter().collect()
}
