//! Sigma v2 correlations, and two types of our own: one YAML document to one rule about several events.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::profile::Profile;
use super::reader::Reader;
use super::sigma::fingerprint;
use crate::alert::{Level, RuleInfo};
use crate::diagnose::{Span, closest};
use crate::event::FieldPath;
use crate::event::members::misnamed_member;
use crate::units;
use crate::yaml::{Node, Value, document_text};

mod kind;
mod resolve;

use kind::Kind;
pub use resolve::{Absent, Names, resolve};

const KEYS: [&str; 9] =
    ["type", "rules", "min_level", "group-by", "timespan", "condition", "aliases", "generate", "learning"];

/// A correlation whose rules are still the names that were written.
#[derive(Debug)]
pub struct Unresolved {
    info: RuleInfo,
    name: Option<String>,
    kind: Kind,
    rules: Vec<(String, Span)>,
    group_by: Vec<(String, Span)>,
    aliases: Vec<Alias>,
    timespan: Duration,
    generate: bool,
    any: Option<Level>,
    profile: Option<Profile>,
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

/// What a type's condition is read from.
struct Body<'b, 'r> {
    reader: &'b mut Reader<'r>,
    /// The type.
    name: &'b str,
    condition: &'b Node,
}

impl Unresolved {
    /// The id of the correlation.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.info.id
    }
}

/// Reads a document that has a `correlation` key.
pub fn read(reader: &mut Reader<'_>, document: &Node, file: &Path) -> Option<Unresolved> {
    let info = reader.info(document);
    let name = reader.text(document, "name");
    let profile = reader.profile(document);
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
    let timespan = timespan(reader, body);
    let kind = kind::read(reader, body, timespan);
    let learns = matches!(kind, Some(Kind::FirstSeen { .. } | Kind::Spike { .. }) | None);
    if let Some(learning) = body.get("learning").filter(|_| !learns) {
        reader.error(learning.span, "only `first_seen` and `spike` learn");
    }
    let any = any(reader, body, kind.as_ref());
    let mut rules = if any.is_some() { Vec::new() } else { reader.texts(body, "rules") };
    // An expression of names says itself which rules it means.
    if let Some(Kind::Temporal { awaited: kind::Awaits::Names(names), .. }) = &kind
        && rules.is_empty()
    {
        rules = resolve::named_in(names);
    }
    if rules.is_empty() && any.is_none() {
        reader.error(body.span, "a correlation needs `rules`");
    }
    let group_by = reader.texts(body, "group-by");
    let aliases = aliases(reader, body);
    for (field, span) in &group_by {
        match FieldPath::parse(field) {
            // Its first name may be that of an alias.
            Ok(field) => reader.note_misnamed(*span, misnamed_member(&field)),
            Err(message) => reader.error(*span, message),
        }
    }
    // Whoever looks at all alerts takes none of them away.
    let mut generate = any.is_some();
    for node in [document.get("generate"), body.get("generate")].into_iter().flatten() {
        match node.value {
            Value::Bool(value) => generate |= value,
            _ => reader.error(node.span, format!("`generate` is true or false, not {}", node.kind())),
        }
    }
    Some(Unresolved {
        info,
        name,
        kind: kind?,
        rules,
        group_by,
        aliases,
        timespan: timespan?,
        generate,
        any,
        profile,
        fingerprint: fingerprint(document),
        file: file.to_owned(),
        text: document_text(&reader.source.text, document.span.start).into(),
    })
}

/// The level from which on `rules: any` takes alerts, if that is what it says.
fn any(reader: &mut Reader<'_>, body: &Node, kind: Option<&Kind>) -> Option<Level> {
    let rules = body.get("rules").filter(|node| node.as_str().is_some_and(|text| text.eq_ignore_ascii_case("any")));
    let min_level = body.get("min_level");
    let Some(rules) = rules else {
        if let Some(node) = min_level {
            reader.error_with_help(
                node.span,
                "`min_level` goes with `rules: any`",
                "write `rules: any`, or leave it out",
            );
        }
        return None;
    };
    if let Some(aliases) = body.get("aliases") {
        reader.error(aliases.span, "aliases name rules one by one; `rules: any` names none");
    }
    if kind.is_some_and(|kind| !kind.takes_any()) {
        let help = "it goes with `event_count`, `value_count`, and `temporal` with bounds such as `gte: 4`";
        reader.error_with_help(rules.span, "`rules: any` is nothing that this type can count", help);
    }
    match min_level.map(|node| (node, node.as_str().unwrap_or_default().parse())) {
        None => Some(Level::Medium),
        Some((_, Ok(level))) => Some(level),
        Some((node, Err(message))) => {
            reader.error(node.span, message);
            None
        }
    }
}

fn timespan(reader: &mut Reader<'_>, body: &Node) -> Option<Duration> {
    match span_of(reader, body, "timespan") {
        Ok(None) => {
            reader.error(body.span, "a correlation needs a `timespan`");
            None
        }
        Ok(span) => span,
        Err(()) => None,
    }
}

/// The span of time under a key; an error is noted.
fn span_of(reader: &mut Reader<'_>, body: &Node, key: &str) -> Result<Option<Duration>, ()> {
    let Some(node) = body.get(key) else { return Ok(None) };
    let text = match &node.value {
        Value::Int(number) => number.to_string(),
        _ => node.as_str().unwrap_or_default().to_owned(),
    };
    match text.parse::<units::Span>() {
        Ok(span) if span.0.is_zero() => {
            reader.error(node.span, format!("the {key} must be longer than nothing"));
            Err(())
        }
        Ok(span) => Ok(Some(span.0)),
        Err(message) => {
            reader.error(node.span, message);
            Err(())
        }
    }
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
                Ok(path) => {
                    reader.note_misnamed(field.span, misnamed_member(&path));
                    alias.fields.push((rule.text.clone(), rule.span, path));
                }
                Err(message) => reader.error(field.span, message),
            }
        }
        aliases.push(alias);
    }
    aliases
}
