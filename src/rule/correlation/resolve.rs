//! From the names in correlations to the rules and correlations that have them.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::kind::{Awaits, Fields, Kind};
use super::{Alias, Unresolved};
use crate::diagnose::{Diagnostic, SourceText, Span, closest};
use crate::event::FieldPath;
use crate::rule::condition::Condition as Written;
use crate::rule::ir::{Awaited, Correlation, CorrelationKind, FirstSeen, GroupField, Members, Rules, Spike};
use crate::rule::reader::Reader;
use crate::yaml::Node;

/// Ids, names and titles of everything loaded: what those in a correlation stand for.
pub struct Names {
    rules: HashMap<String, Arc<str>>,
    correlations: HashMap<String, Arc<str>>,
    /// What several are named.
    shared: HashSet<String>,
    absent: Absent,
}

/// Ids, names and titles of documents that are there, but are no rules of ours.
#[derive(Debug, Default)]
pub struct Absent {
    skipped: HashSet<String>,
    broken: HashSet<String>,
}

impl Absent {
    /// Notes a document for another product.
    pub(in crate::rule) fn skipped(&mut self, document: &Node) {
        self.skipped.extend(called(document));
    }

    /// Notes a document that has mistakes.
    pub(in crate::rule) fn broken(&mut self, document: &Node) {
        self.broken.extend(called(document));
    }
}

fn called(document: &Node) -> impl Iterator<Item = String> {
    ["id", "name", "title"].into_iter().filter_map(|key| document.get(key)?.as_str().map(str::to_owned))
}

impl Names {
    /// `correlations`: those that were read, whether they will be resolved or not.
    pub(in crate::rule) fn new<'c>(
        rules: &Rules,
        correlations: impl Iterator<Item = &'c Unresolved>,
        absent: Absent,
    ) -> Self {
        let mut shared = HashSet::new();
        let infos = rules.rules.iter().map(|rule| (&rule.info, rule.name.as_deref()));
        let rules = named(infos.map(|(info, name)| (info.id.as_str(), info.title.as_str(), name)), &mut shared);
        let infos = correlations.map(|c| (c.info.id.as_str(), c.info.title.as_str(), c.name.as_deref()));
        let correlations = named(infos, &mut shared);
        Self { rules, correlations, shared, absent }
    }

    /// The id of the rule that has this id, name or title.
    pub(in crate::rule) fn rule(&self, written: &str) -> Option<Arc<str>> {
        self.rules.get(written).cloned()
    }

    /// The id of the rule or correlation that has this id, name or title.
    fn any(&self, written: &str) -> Option<Arc<str>> {
        self.rule(written).or_else(|| self.correlations.get(written).cloned())
    }

    /// Whether several rules have this name.
    pub(in crate::rule) fn is_shared(&self, written: &str) -> bool {
        self.shared.contains(written)
    }

    /// What to say of such a name.
    pub(in crate::rule) fn ambiguous(source: &Arc<SourceText>, written: &str, span: Span) -> Diagnostic {
        let message = format!("several rules have the name `{written}`: name the one that is meant by its id");
        Diagnostic::error(source, span, message)
    }

    /// Whether this is what a rule for another product is called.
    pub(in crate::rule) fn is_skipped(&self, written: &str) -> bool {
        self.absent.skipped.contains(written)
    }

    /// Whether this is what a rule with mistakes is called, which are told where they are.
    pub(in crate::rule) fn is_broken(&self, written: &str) -> bool {
        self.absent.broken.contains(written)
    }

    /// What to say of a name that no rule has. `refused`: why a correlation is not taken, if it has that name.
    pub(in crate::rule) fn unknown(
        &self,
        source: &Arc<SourceText>,
        written: &str,
        span: Span,
        refused: &str,
    ) -> Diagnostic {
        let message = match self.correlations.contains_key(written) {
            true => format!("`{written}` is a correlation; {refused}"),
            false => format!("no rule has the id or name `{written}`"),
        };
        let finding = Diagnostic::error(source, span, message);
        match closest(written, self.rules.keys().chain(self.correlations.keys()).map(String::as_str)) {
            Some(near) if near != written => finding.help(format!("did you mean `{near}`?")),
            _ => finding,
        }
    }
}

/// Id, title and name of each; a title stands back behind ids and names.
fn named<'n>(
    all: impl Iterator<Item = (&'n str, &'n str, Option<&'n str>)>,
    shared_names: &mut HashSet<String>,
) -> HashMap<String, Arc<str>> {
    let (mut names, mut titles) = (HashMap::new(), Vec::new());
    for (id, title, name) in all {
        let shared: Arc<str> = id.into();
        for known in [Some(id), name].into_iter().flatten() {
            let before = names.insert(known.to_owned(), Arc::clone(&shared));
            if before.is_some_and(|before| before != shared) {
                shared_names.insert(known.to_owned());
            }
        }
        titles.push((title.to_owned(), shared));
    }
    for (title, id) in titles {
        names.entry(title).or_insert(id);
    }
    names
}

/// The names in an expression, each once.
pub(super) fn named_in(written: &Written) -> Vec<(String, Span)> {
    let mut names: Vec<(String, Span)> = Vec::new();
    each_name(written, &mut |name, at| {
        if names.iter().all(|(known, _)| known != name) {
            names.push((name.to_owned(), Span { start: at, end: at + name.len() }));
        }
    });
    names
}

fn each_name(written: &Written, each: &mut dyn FnMut(&str, usize)) {
    match written {
        Written::And(parts) | Written::Or(parts) => parts.iter().for_each(|part| each_name(part, each)),
        Written::Not(part) => each_name(part, each),
        Written::Name(name, at) => each(name, *at),
        Written::Of { .. } => {}
    }
}

/// Finds what correlations name. One that is made of itself is an error, and so is one that is made of such.
pub fn resolve(
    read: Vec<(Arc<SourceText>, Unresolved)>,
    known: &Names,
    findings: &mut Vec<Diagnostic>,
    placeholders: &crate::rule::sigma::Placeholders,
    skipped: &mut Vec<(PathBuf, String)>,
) -> Vec<Correlation> {
    let mut found: Vec<(Arc<SourceText>, Vec<Span>, Correlation)> = Vec::new();
    for (source, read) in read {
        let mut reader = Reader { source: &source, findings, placeholders, expanded: 0 };
        let elsewhere = |(written, _): &(String, Span)| known.any(written).is_none() && known.is_skipped(written);
        if !read.rules.is_empty() && read.rules.iter().all(elsewhere) {
            skipped.push((read.file, read.info.title));
            continue;
        }
        let spans = read.rules.iter().map(|(_, span)| *span).collect();
        if let Some(correlation) = one(&mut reader, read, known) {
            found.push((source, spans, correlation));
        }
    }
    in_order(found, known, findings)
}

/// Correlations after those that they are made of; those that never can be are told.
fn in_order(
    mut waiting: Vec<(Arc<SourceText>, Vec<Span>, Correlation)>,
    known: &Names,
    findings: &mut Vec<Diagnostic>,
) -> Vec<Correlation> {
    let mut there: HashSet<Arc<str>> = known.rules.values().cloned().collect();
    let mut ordered: Vec<Correlation> = Vec::new();
    loop {
        let is_ready = |c: &Correlation| c.rules.iter().all(|rule| there.contains(rule));
        let (ready, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(.., c)| is_ready(c));
        let done = ready.is_empty();
        there.extend(ready.iter().map(|(.., c)| Arc::from(c.info.id.as_str())));
        ordered.extend(ready.into_iter().map(|(.., correlation)| correlation));
        waiting = rest;
        if done {
            break;
        }
    }
    // What waits for one that could not be read needs no second error.
    let ids: HashSet<&str> = waiting.iter().map(|(.., c)| c.info.id.as_str()).collect();
    for (source, spans, correlation) in &waiting {
        if let Some(at) = correlation.rules.iter().position(|rule| ids.contains(&**rule)) {
            let message = format!("`{}` is made of itself", correlation.info.title);
            findings.push(Diagnostic::error(source, spans.get(at).copied().unwrap_or_default(), message));
        }
    }
    ordered
}

/// The ids of a correlation's rules.
fn members_of(reader: &mut Reader<'_>, read: &Unresolved, known: &Names) -> Option<Vec<Arc<str>>> {
    let mut good = true;
    let mut rules = Vec::new();
    for (written, span) in &read.rules {
        match known.any(written) {
            Some(_) if known.is_shared(written) => {
                good = false;
                reader.findings.push(Names::ambiguous(reader.source, written, *span));
            }
            Some(id) if rules.contains(&id) => {
                good = false;
                reader.error(*span, format!("`{written}` is named twice: its matches would count double"));
            }
            Some(id) => rules.push(id),
            None => {
                good = false;
                if known.is_skipped(written) {
                    reader.error(*span, format!("`{written}` is for another product: no event here can match it"));
                } else if !known.is_broken(written) {
                    reader.findings.push(known.unknown(reader.source, written, *span, ""));
                }
            }
        }
    }
    good.then_some(rules)
}

fn one(reader: &mut Reader<'_>, read: Unresolved, known: &Names) -> Option<Correlation> {
    let rules = members_of(reader, &read, known)?;
    let fields = |reader: &mut Reader<'_>, names: &Fields| {
        let found: Vec<Option<GroupField>> =
            names.iter().map(|(name, span)| field(reader, name, *span, &read.aliases, &rules, known)).collect();
        found.into_iter().collect::<Option<Vec<GroupField>>>()
    };
    let group_by = fields(reader, &read.group_by)?;
    let kind = match read.kind {
        Kind::EventCount(condition) => CorrelationKind::EventCount(condition),
        Kind::ValueCount(names, condition) => CorrelationKind::ValueCount(fields(reader, &names)?, condition),
        Kind::Value(measure, names, condition) => {
            CorrelationKind::Value(measure, fields(reader, &names)?.into_iter().next()?, condition)
        }
        Kind::Temporal { ordered, awaited } => {
            let awaited = match awaited {
                Awaits::All => Awaited::All,
                Awaits::Number(condition) => Awaited::Number(condition),
                Awaits::Names(written) => Awaited::These(members(reader, &written, &rules, known)?),
            };
            if ordered { CorrelationKind::TemporalOrdered(awaited) } else { CorrelationKind::Temporal(awaited) }
        }
        Kind::FirstSeen { fields: names, learning } => {
            let fields = fields(reader, &names)?;
            CorrelationKind::FirstSeen(FirstSeen { fields, learning, forget: read.timespan })
        }
        Kind::Spike { at_least, times, learning } => CorrelationKind::Spike(Spike { at_least, times, learning }),
    };
    Some(Correlation {
        info: Arc::new(read.info),
        kind,
        rules,
        group_by,
        timespan: read.timespan,
        generate: read.generate,
        any: read.any,
        profile: read.profile,
        file: read.file,
        text: read.text,
        fingerprint: read.fingerprint,
    })
}

/// A field or an alias, and what it is for each rule.
fn field(
    reader: &mut Reader<'_>,
    name: &str,
    span: Span,
    aliases: &[Alias],
    rules: &[Arc<str>],
    known: &Names,
) -> Option<GroupField> {
    let fields = match aliases.iter().find(|alias| alias.name == name) {
        Some(alias) => aliased(reader, alias, rules, span, known)?,
        None => match FieldPath::parse(name) {
            Ok(field) => vec![field; rules.len()],
            Err(message) => {
                reader.error(span, message);
                return None;
            }
        },
    };
    Some(GroupField { name: name.into(), fields })
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
            let named = alias.fields.iter().find(|(written, ..)| known.any(written).as_ref() == Some(id));
            named.map(|(.., field)| field.clone())
        })
        .collect();
    if fields.iter().any(Option::is_none) {
        reader.error(at, format!("the alias `{}` does not name a field for every rule", alias.name));
    }
    fields.into_iter().collect()
}

/// An expression of names as one of places.
fn members(reader: &mut Reader<'_>, written: &Written, rules: &[Arc<str>], known: &Names) -> Option<Members> {
    let mut all = |parts: &[Written]| {
        let parts: Vec<Option<Members>> = parts.iter().map(|part| members(reader, part, rules, known)).collect();
        parts.into_iter().collect::<Option<Vec<Members>>>()
    };
    match written {
        Written::And(parts) => all(parts).map(Members::All),
        Written::Or(parts) => all(parts).map(Members::Any),
        Written::Not(part) => Some(Members::Not(Box::new(members(reader, part, rules, known)?))),
        Written::Name(name, at) => {
            let id = known.any(name);
            let place = id.and_then(|id| rules.iter().position(|rule| *rule == id));
            if place.is_none() {
                let span = Span { start: *at, end: at + name.len() };
                reader.error(span, format!("the condition names `{name}`, which is none of the `rules`"));
            }
            place.map(Members::Member)
        }
        Written::Of { at, pattern, .. } => {
            let span = Span { start: *at, end: at + pattern.len() };
            reader.error(span, "this condition names rules one by one");
            None
        }
    }
}
