//! Sigma v2: one YAML document to one rule of the IR.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::condition::{self, Condition};
use super::field::{Derived, Field};
use super::framework;
use super::ir::{Expr, Glob, Op, Ordering, Regex, Relation, Rule, Test, Text, TimePart};
use super::make::{Apply, Make};
use super::number::Number;
use super::reader::Reader;
use crate::alert::{Level, RuleInfo};
use crate::diagnose::{Diagnostic, Span, closest};
use crate::event::FieldPath;
use crate::event::members::misnamed;
use crate::hash;
use crate::yaml::{Key, Node, Value, document_text};

mod encode;
mod shim;

use encode::Encoding;
pub use encode::Placeholders;
use shim::{NAMES as SHIMS, shim};

/// Tests that one condition may come to: each name in it, and each that a pattern stands for, is put in whole.
const TESTS_MAX: usize = 100_000;

/// The modifiers of the specification, and the long names of those of `re`.
const MODIFIERS: [&str; 34] = [
    "contains",
    "startswith",
    "endswith",
    "all",
    "exists",
    "re",
    "i",
    "m",
    "s",
    "ignorecase",
    "multiline",
    "dotall",
    "cidr",
    "lt",
    "lte",
    "gt",
    "gte",
    "cased",
    "neq",
    "fieldref",
    "base64",
    "base64offset",
    "utf16le",
    "utf16be",
    "utf16",
    "wide",
    "windash",
    "expand",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "year",
];

impl Reader<'_> {
    /// The title, which every document must have.
    pub fn title(&mut self, document: &Node) -> String {
        self.text(document, "title").unwrap_or_else(|| {
            if document.get("title").is_none() {
                let start = document.span.start;
                self.error(Span { start, end: start }, "the rule has no `title`");
            }
            String::new()
        })
    }

    /// What alerts say of a rule: its title, id, level, tags, references and runbook.
    pub fn info(&mut self, document: &Node) -> RuleInfo {
        let title = self.title(document);
        let id = self.text(document, "id").or_else(|| self.text(document, "name")).unwrap_or_else(|| title.clone());
        let level = match document.get("level") {
            None => Level::Medium,
            Some(node) => match node.as_str().unwrap_or_default().parse() {
                Ok(level) => level,
                Err(message) => {
                    self.error(node.span, message);
                    Level::Medium
                }
            },
        };
        let texts = |list: Vec<(String, Span)>| list.into_iter().map(|(text, _)| text).collect();
        let tags = self.texts(document, "tags");
        for (tag, span) in &tags {
            if let Some((message, near)) = framework::mistake(tag) {
                let finding = Diagnostic::warning(self.source, *span, message);
                self.findings.push(match near {
                    Some(near) => finding.help(format!("did you mean `{near}`?")),
                    None => finding,
                });
            }
        }
        RuleInfo {
            id,
            title,
            level,
            tags: texts(tags),
            references: texts(self.texts(document, "references")),
            runbook: self.text(document, "runbook"),
        }
    }
}

/// Whether a rule's `logsource` is contained in ours: `product: kubernetes`, `service: audit`, `category: application`.
#[must_use]
pub fn is_for_us(document: &Node) -> bool {
    let Some(logsource) = document.get("logsource") else { return false };
    let agrees = |key: &str, ours: &str| logsource.get(key).is_none_or(|node| node.as_str() == Some(ours));
    agrees("product", "kubernetes") && agrees("service", "audit") && agrees("category", "application")
}

/// A `logsource` that says nothing is most likely a mistake.
pub fn check_logsource(reader: &mut Reader<'_>, document: &Node) {
    const HELP: &str = "write `logsource: {product: kubernetes, service: audit}`";
    match document.get("logsource") {
        None => {
            let start = document.span.start;
            reader.error_with_help(Span { start, end: start }, "the rule has no `logsource`", HELP);
        }
        Some(node) => match node.as_map() {
            None => {
                reader.error_with_help(node.span, format!("`logsource` must be a mapping, not {}", node.kind()), HELP);
            }
            Some([]) => reader.error_with_help(node.span, "the `logsource` is empty", HELP),
            Some(_) => {}
        },
    }
}

/// A rule that is skipped for a misspelling would be missed by nobody.
pub fn note_near_miss(reader: &mut Reader<'_>, document: &Node) {
    let attribute = |key: &str| document.get("logsource").and_then(|logsource| logsource.get(key));
    let near = |node: &Node, ours: &'static str| {
        let text = node.as_str().unwrap_or_default();
        text != ours && (text.eq_ignore_ascii_case(ours) || closest(text, [ours]).is_some())
    };
    let is_ours = |node: &Node| node.as_str() == Some("kubernetes");
    let (product, service) = (attribute("product"), attribute("service"));
    let wrong = match (product, service) {
        (Some(product), _) if near(product, "kubernetes") => Some((product, "kubernetes")),
        (Some(product), Some(service)) if is_ours(product) && near(service, "audit") => Some((service, "audit")),
        _ => None,
    };
    if let Some((node, ours)) = wrong {
        let message = format!("this is for another product (`{ours}` is ours), so it is skipped");
        reader.findings.push(Diagnostic::warning(reader.source, node.span, message));
    }
}

/// Reads a rule. Mistakes are noted in `reader`; a rule with any is not to be used.
pub fn rule(reader: &mut Reader<'_>, document: &Node, file: &Path) -> Option<Rule> {
    let info = reader.info(document);
    let name = reader.text(document, "name");
    let profile = reader.profile(document);
    let Some(detection) = document.get("detection") else {
        let start = document.span.start;
        reader.error(Span { start, end: start }, "the rule has no `detection`");
        return None;
    };
    let expr = detection_expr(reader, detection, "detection")?;
    // Rules written for other tools name fields in ways of their own there: what is no path shows nothing.
    let shown = reader.texts(document, "fields").iter().filter_map(|(field, _)| FieldPath::parse(field).ok()).collect();
    let mut names_stage = false;
    expr.each_test(&mut |test| names_stage |= test.field.plain().is_some_and(|field| field.path() == "stage"));
    Some(Rule {
        info: Arc::new(info),
        name,
        logsource: logsource(document),
        expr,
        narrowed: 0,
        shown,
        output: None,
        names_stage,
        profile,
        file: file.to_owned(),
        text: document_text(&reader.source.text, document.span.start).into(),
        fingerprint: fingerprint(document) ^ reader.expanded,
    })
}

/// The attributes of a document's `logsource` that tell logs apart.
pub(super) fn logsource(document: &Node) -> Vec<(String, String)> {
    let Some(logsource) = document.get("logsource") else { return Vec::new() };
    let attribute = |key: &str| Some((key.to_owned(), logsource.get(key)?.as_str()?.to_owned()));
    ["category", "product", "service"].into_iter().filter_map(attribute).collect()
}

/// Hash of a document's content.
#[must_use]
pub fn fingerprint(document: &Node) -> u64 {
    let mut bytes = Vec::with_capacity(1024);
    document.canonical(&mut bytes);
    hash::short(&[&bytes])
}

/// The search identifiers of a mapping, put together by its condition. `called`: the key that the mapping is under.
pub(super) fn detection_expr(reader: &mut Reader<'_>, detection: &Node, called: &str) -> Option<Expr> {
    let Some(entries) = detection.as_map() else {
        reader.error(detection.span, format!("`{called}` must be a mapping, not {}", detection.kind()));
        return None;
    };
    let mut searches = Vec::new();
    for (key, node) in entries {
        match key.text.as_str() {
            "condition" => {}
            "rules" if called == "filter" => {}
            "timeframe" => reader.error_with_help(key.span, "`timeframe` is Sigma v1", "write a correlation"),
            _ => searches.push((key, search(reader, node))),
        }
    }
    let Some(node) = detection.get("condition") else {
        reader.error(detection.span, format!("`{called}` has no `condition`"));
        return None;
    };
    let texts = match &node.value {
        Value::Seq(items) if !items.is_empty() => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    let mut alternatives = Vec::new();
    let mut used = vec![false; searches.len()];
    for item in texts {
        let Some(text) = item.as_str() else {
            reader.error(item.span, format!("a condition must be text, not {}", item.kind()));
            continue;
        };
        match condition::parse(text) {
            Ok(parsed) if tests_in(&parsed, &searches) > TESTS_MAX => {
                reader.error(item.span, format!("the condition comes to more than {TESTS_MAX} tests"));
            }
            Ok(mut parsed) => {
                parsed.place(&|at| reader.place(item, at));
                alternatives.push(resolve(reader, &parsed, &searches, &mut used, called));
            }
            Err(error) => {
                let start = reader.place(item, error.at);
                reader.error(Span { start, end: start + error.len.max(1) }, error.message);
            }
        }
    }
    for ((key, _), used) in searches.iter().zip(used) {
        if !used && alternatives.len() == texts.len() {
            let finding =
                Diagnostic::warning(reader.source, key.span, format!("`{}` is used by no condition", key.text));
            reader.findings.push(finding);
        }
    }
    (!alternatives.is_empty()).then_some(if alternatives.len() == 1 {
        alternatives.remove(0)
    } else {
        Expr::Any(alternatives)
    })
}

/// How many tests a condition comes to, and how many names its patterns are compared with.
fn tests_in(condition: &Condition, searches: &[(&Key, Expr)]) -> usize {
    let sizes: Vec<(&str, usize)> = searches
        .iter()
        .map(|(key, expr)| {
            let mut size = 1;
            expr.each_test(&mut |_| size += 1);
            (key.text.as_str(), size)
        })
        .collect();
    let all = sizes.iter().map(|(_, size)| size).sum();
    condition_size(condition, &sizes.into_iter().collect(), all)
}

fn condition_size(condition: &Condition, sizes: &HashMap<&str, usize>, all: usize) -> usize {
    match condition {
        Condition::And(parts) | Condition::Or(parts) => {
            parts.iter().fold(1, |sum: usize, part| sum.saturating_add(condition_size(part, sizes, all)))
        }
        Condition::Not(part) => condition_size(part, sizes, all),
        Condition::Name(name, _) => sizes.get(name.as_str()).copied().unwrap_or(1),
        Condition::Of { .. } => all,
    }
}

/// Puts the search identifiers into a condition, which is under the key that is `called` so.
fn resolve(
    reader: &mut Reader<'_>,
    condition: &Condition,
    searches: &[(&Key, Expr)],
    used: &mut [bool],
    called: &str,
) -> Expr {
    let mut parts = |reader: &mut Reader<'_>, list: &[Condition]| {
        list.iter().map(|part| resolve(reader, part, searches, used, called)).collect()
    };
    match condition {
        Condition::And(list) => Expr::All(parts(reader, list)),
        Condition::Or(list) => Expr::Any(parts(reader, list)),
        Condition::Not(part) => Expr::Not(Box::new(resolve(reader, part, searches, used, called))),
        Condition::Name(name, at) => {
            if let Some(at) = searches.iter().position(|(key, _)| key.text == *name) {
                used[at] = true;
                return searches[at].1.clone();
            }
            let span = Span { start: *at, end: at + name.len() };
            let message = format!("the condition names `{name}`, which `{called}` does not define");
            match closest(name, searches.iter().map(|(key, _)| key.text.as_str())) {
                Some(near) => reader.error_with_help(span, message, format!("did you mean `{near}`?")),
                None => reader.error(span, message),
            }
            Expr::Any(Vec::new())
        }
        Condition::Of { all, pattern, at } => {
            let pieces = pieces_of(pattern);
            let glob = Text::from_pieces(pieces, true);
            let mut chosen = Vec::new();
            for (index, (key, expr)) in searches.iter().enumerate() {
                // Those with a leading underscore are meant only by patterns that begin so, too.
                let hidden = key.text.starts_with('_') && !pattern.starts_with('_');
                let hit = !hidden && (pattern == "them" || glob.matches(&key.text));
                if hit {
                    used[index] = true;
                    chosen.push(expr.clone());
                }
            }
            if chosen.is_empty() {
                let span = Span { start: *at, end: at + pattern.len() };
                reader.error(span, format!("no search identifier matches `{pattern}`"));
            }
            if *all { Expr::All(chosen) } else { Expr::Any(chosen) }
        }
    }
}

/// One search identifier: a mapping (all of it), or a list of mappings (any of them).
fn search(reader: &mut Reader<'_>, node: &Node) -> Expr {
    match &node.value {
        Value::Map(entries) if entries.is_empty() => {
            reader.error(node.span, "an empty mapping would be true of every event");
            Expr::Any(Vec::new())
        }
        Value::Map(entries) => Expr::All(entries.iter().map(|(key, value)| item(reader, key, value)).collect()),
        Value::Seq(items) if !items.is_empty() => Expr::Any(
            items
                .iter()
                .map(|part| match &part.value {
                    Value::Map(_) => search(reader, part),
                    _ => keyword(reader, part),
                })
                .collect(),
        ),
        _ => keyword(reader, node),
    }
}

/// A keyword: a text that is in some value of the event.
fn keyword(reader: &mut Reader<'_>, node: &Node) -> Expr {
    let modifiers = Modifiers { relation: Some(Relation::Contains), ..Modifiers::default() };
    value_expr(reader, "", &modifiers, node, true)
}

/// What the modifiers of one item ask for.
#[derive(Default)]
struct Modifiers {
    relation: Option<Relation>,
    all: bool,
    exists: bool,
    regex: bool,
    flags: String,
    cidr: bool,
    ordering: Option<Ordering>,
    cased: bool,
    negate: bool,
    field: bool,
    time: Option<TimePart>,
    expand: bool,
    encodings: Vec<Encoding>,
    /// One takes away what another asks for: two comparisons, or two parts of a time.
    repeated: bool,
}

/// `field|modifier: value`.
fn item(reader: &mut Reader<'_>, key: &Key, node: &Node) -> Expr {
    let mut parts = key.text.split('|');
    let name = parts.next().unwrap_or_default();
    let Some(mut modifiers) = modifiers(reader, key, parts) else { return Expr::Any(Vec::new()) };
    if name.is_empty() {
        if modifiers.exists || modifiers.field {
            reader.error(key.span, "keywords have no field that could exist or be compared");
            return Expr::Any(Vec::new());
        }
        modifiers.relation.get_or_insert(Relation::Contains);
    } else {
        match FieldPath::parse(name) {
            // What has a meaning of its own is no slip.
            Ok(field) if !SHIMS.contains(&name) => reader.note_misnamed(key.span, misnamed(&field)),
            Ok(_) => {}
            Err(message) => {
                reader.error(key.span, message);
                return Expr::Any(Vec::new());
            }
        }
    }
    let values = match &node.value {
        Value::Seq(items) => items.as_slice(),
        _ => std::slice::from_ref(node),
    };
    if values.is_empty() {
        reader.error(key.span, "an empty list can match nothing");
    }
    if modifiers.all && values.len() < 2 {
        reader.error_with_help(key.span, "`all` needs a list of values", "drop `|all`, or give more values");
    }
    let listed = matches!(node.value, Value::Seq(_));
    let tests: Vec<Expr> = values.iter().map(|value| value_expr(reader, name, &modifiers, value, listed)).collect();
    let expr = match (tests.len(), modifiers.all) {
        (1, _) => tests.into_iter().next().unwrap_or(Expr::Any(Vec::new())),
        (_, true) => Expr::All(tests),
        (_, false) => Expr::Any(tests),
    };
    if modifiers.negate { Expr::Not(Box::new(expr)) } else { expr }
}

fn modifiers<'k>(reader: &mut Reader<'_>, key: &Key, names: impl Iterator<Item = &'k str>) -> Option<Modifiers> {
    let mut found = Modifiers::default();
    let mut good = true;
    for name in names {
        match name {
            "contains" => found.relate(Relation::Contains),
            "startswith" => found.relate(Relation::StartsWith),
            "endswith" => found.relate(Relation::EndsWith),
            "all" => found.all = true,
            "exists" => found.exists = true,
            "re" => found.regex = true,
            "i" | "ignorecase" | "m" | "multiline" | "s" | "dotall" if found.regex => {
                let flag = if name == "dotall" { "s" } else { &name[..1] };
                if !found.flags.contains(flag) {
                    found.flags.push_str(flag);
                }
            }
            "cidr" => found.cidr = true,
            "fieldref" => found.field = true,
            "cased" => found.cased = true,
            "neq" => found.negate = true,
            "expand" => found.expand = true,
            "lt" | "lte" | "gt" | "gte" => {
                found.repeated |= found.ordering.is_some();
                found.ordering = Ordering::named(name);
            }
            _ => match (Encoding::named(name), TimePart::named(name)) {
                (Some(encoding), _) => {
                    // A dash is replaced wherever it is; what is encoded is the whole text, without the stars around it.
                    if found.relation.is_some() && encoding != Encoding::Windash {
                        let help = "modifiers apply from left to right: encode, then say where in the field it stands";
                        reader.error_with_help(key.span, format!("`{name}` encodes what is a pattern already"), help);
                        good = false;
                    }
                    found.encodings.push(encoding);
                }
                (None, Some(part)) => {
                    found.repeated |= found.time.is_some();
                    found.time = Some(part);
                }
                (None, None) => {
                    good = false;
                    unknown_modifier(reader, key, name);
                }
            },
        }
    }
    if found.contradict() {
        reader.error(key.span, format!("the modifiers of `{}` contradict each other", key.text));
        good = false;
    }
    good.then_some(found)
}

impl Modifiers {
    /// `startswith` and `endswith` one after the other put a star on both sides.
    fn relate(&mut self, relation: Relation) {
        let joined = if self.relation.is_some_and(|known| known != relation) { Relation::Contains } else { relation };
        self.relation = Some(joined);
    }

    /// Whether they ask for things that cannot be had at once.
    fn contradict(&self) -> bool {
        let numeric = self.ordering.is_some() || self.time.is_some();
        let kinds = [self.exists, self.regex, self.cidr, self.field, numeric];
        let kinds = kinds.into_iter().filter(|kind| *kind).count();
        let relates = self.relation.is_some() && (self.exists || self.regex || self.cidr || numeric);
        let encodes = !self.encodings.is_empty() && kinds > 0;
        let expands = self.expand && (self.exists || self.field || numeric);
        self.repeated || kinds > 1 || relates || encodes || expands
    }
}

fn unknown_modifier(reader: &mut Reader<'_>, key: &Key, name: &str) {
    let offset = key.text.find(&format!("|{name}")).map_or(0, |at| at + 1);
    let start = key.span.start + offset;
    let span = Span { start, end: start + name.len() };
    let message = match name {
        "i" | "m" | "s" | "ignorecase" | "multiline" | "dotall" => {
            format!("`{name}` is a flag of `re` and must follow it")
        }
        "" => "a modifier is missing here".to_owned(),
        _ => format!("there is no modifier `{name}`"),
    };
    match closest(name, MODIFIERS) {
        Some(near) if near != name && !name.is_empty() => {
            reader.error_with_help(span, message, format!("did you mean `{near}`?"));
        }
        _ => reader.error(span, message),
    }
}

fn value_expr(reader: &mut Reader<'_>, name: &str, modifiers: &Modifiers, value: &Node, listed: bool) -> Expr {
    if listed && value.value == Value::Null {
        reader.error_with_help(value.span, "null cannot stand in a list", "give it a search identifier of its own");
    }
    if modifiers.expand || !modifiers.encodings.is_empty() {
        return rewritten(reader, name, modifiers, value);
    }
    let Some(op) = op(reader, modifiers, value) else { return Expr::Any(Vec::new()) };
    let exists_not = modifiers.exists && value.value == Value::Bool(false);
    let expr = test(name, op);
    if exists_not { Expr::Not(Box::new(expr)) } else { expr }
}

/// A value that its modifiers make one or several others of.
fn rewritten(reader: &mut Reader<'_>, name: &str, modifiers: &Modifiers, value: &Node) -> Expr {
    let Some(text) = value.as_str() else {
        reader.error(value.span, format!("this modifier takes text, not {}", value.kind()));
        return Expr::Any(Vec::new());
    };
    let texts = if modifiers.expand {
        encode::expand(text, reader.placeholders, !modifiers.regex)
    } else {
        Ok(vec![text.to_owned()])
    };
    let texts = match texts {
        Ok(texts) => texts,
        Err(message) => {
            reader.error(value.span, message);
            return Expr::Any(Vec::new());
        }
    };
    if modifiers.expand {
        let values: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
        reader.expanded = reader.expanded.rotate_left(5) ^ hash::short(&values);
    }
    let mut tests = Vec::new();
    for text in texts {
        if modifiers.regex || modifiers.cidr {
            tests.extend(special(reader, modifiers, value, &text).map(|op| test(name, op)));
            continue;
        }
        match encode::encode(pieces_of(&text), &modifiers.encodings) {
            Ok(variants) => {
                tests.extend(variants.into_iter().map(|pieces| test(name, pieces_op(pieces, modifiers))));
            }
            Err(message) => reader.error(value.span, message),
        }
    }
    if tests.len() == 1 { tests.remove(0) } else { Expr::Any(tests) }
}

/// One question about a field as it is written; without a name about anything.
fn test(name: &str, op: Op) -> Expr {
    shim(name, &op).unwrap_or_else(|| plain_test(name, op))
}

fn plain_test(name: &str, op: Op) -> Expr {
    if name.is_empty() {
        return Expr::Test(Test::new(Field::Anything, op));
    }
    match FieldPath::parse(name) {
        Ok(_) if name == DECODED_URI => Expr::Test(Test::new(decoded_uri(), op)),
        Ok(field) => Expr::Test(Test::new(field, op)),
        Err(_) => Expr::Any(Vec::new()), // Reported where the name was read.
    }
}

/// What no event has under its name: whatever of a URI is percent-encoded is the client's to choose.
const DECODED_URI: &str = "requestURI.decoded";

fn decoded_uri() -> Field {
    let reads: Vec<FieldPath> = FieldPath::parse("requestURI").into_iter().collect();
    let make = Make::Apply(Apply::Decoded, Box::new(Make::List(reads.iter().cloned().map(Make::Path).collect())));
    Field::Derived(Arc::new(Derived { name: DECODED_URI.into(), reads, make }))
}

/// The question that one value asks.
fn op(reader: &mut Reader<'_>, modifiers: &Modifiers, node: &Node) -> Option<Op> {
    if modifiers.exists {
        return match node.value {
            Value::Bool(_) => Some(Op::Exists),
            _ => {
                reader.error(node.span, format!("`exists` takes true or false, not {}", node.kind()));
                None
            }
        };
    }
    if let Some(part) = modifiers.time {
        let ordering = modifiers.ordering.unwrap_or(Ordering::Eq);
        return match node.value {
            Value::Int(bound) => Some(Op::Time(part, ordering, bound)),
            _ => {
                reader.error(node.span, format!("`{}` takes a whole number, not {}", part.as_str(), node.kind()));
                None
            }
        };
    }
    if let Some(ordering) = modifiers.ordering {
        return match number(&node.value) {
            Some(bound) => Some(Op::Compare(ordering, bound)),
            None => {
                reader.error(node.span, format!("a comparison takes a number, not {}", node.kind()));
                None
            }
        };
    }
    if modifiers.regex || modifiers.cidr || modifiers.field {
        let Some(text) = node.as_str() else {
            reader.error(node.span, format!("this modifier takes text, not {}", node.kind()));
            return None;
        };
        return special(reader, modifiers, node, text);
    }
    match &node.value {
        Value::Null if modifiers.relation.is_none() => Some(Op::Null),
        Value::Int(_) | Value::Float(_) if modifiers.relation.is_none() => number(&node.value).map(Op::Number),
        Value::Bool(value) => Some(text_op(&value.to_string(), modifiers)),
        Value::Int(number) => Some(text_op(&number.to_string(), modifiers)),
        Value::Float(number) => Some(text_op(&number.to_string(), modifiers)),
        Value::String(text) => Some(text_op(text, modifiers)),
        Value::Null | Value::Seq(_) | Value::Map(_) => {
            reader.error(node.span, format!("a value cannot be {}", node.kind()));
            None
        }
    }
}

fn number(value: &Value) -> Option<Number> {
    match value {
        Value::Int(number) => Some(Number::Whole(*number)),
        Value::Float(number) => Some(Number::Float(*number)),
        _ => None,
    }
}

fn special(reader: &mut Reader<'_>, modifiers: &Modifiers, node: &Node, text: &str) -> Option<Op> {
    if modifiers.regex {
        let pattern =
            if modifiers.flags.is_empty() { text.to_owned() } else { format!("(?{}){text}", modifiers.flags) };
        return match regex::RegexBuilder::new(&pattern).size_limit(1 << 20).build() {
            Ok(regex) => Some(Op::Regex(Regex(regex))),
            Err(error) => {
                let message = error.to_string();
                let last = message.lines().last().unwrap_or("not a regular expression").trim_start_matches("error: ");
                reader.error(node.span, format!("the regular expression is wrong: {last}"));
                None
            }
        };
    }
    if modifiers.cidr {
        let network = text.parse().or_else(|_| text.parse::<std::net::IpAddr>().map(ipnet::IpNet::from));
        return match network {
            Ok(network) => Some(Op::Cidr(network)),
            Err(_) => {
                reader.error_with_help(node.span, format!("`{text}` is no network"), "write it like 10.0.0.0/8");
                None
            }
        };
    }
    match FieldPath::parse(text) {
        Ok(_) if text.contains(['*', '?']) => {
            reader.error(node.span, "`fieldref` names one field, without wildcards");
            None
        }
        Ok(other) => {
            reader.note_misnamed(node.span, misnamed(&other));
            let how = modifiers.relation.unwrap_or(Relation::Is);
            Some(Op::Field { other: other.into(), how, cased: modifiers.cased })
        }
        Err(message) => {
            reader.error(node.span, message);
            None
        }
    }
}

fn text_op(text: &str, modifiers: &Modifiers) -> Op {
    pieces_op(pieces_of(text), modifiers)
}

fn pieces_op(mut pieces: Vec<Glob>, modifiers: &Modifiers) -> Op {
    if matches!(modifiers.relation, Some(Relation::Contains | Relation::EndsWith)) {
        pieces.insert(0, Glob::Many);
    }
    if matches!(modifiers.relation, Some(Relation::Contains | Relation::StartsWith)) {
        pieces.push(Glob::Many);
    }
    Op::Text { pattern: Text::from_pieces(pieces, modifiers.cased), cased: modifiers.cased }
}

/// Wildcards and escapes: `\*` and `\?` are the characters, `\\` one backslash, any other `\` itself.
fn pieces_of(text: &str) -> Vec<Glob> {
    let mut pieces = Vec::new();
    let mut literal = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let wildcard = match c {
            '\\' => {
                let escaped = chars.next_if(|next| matches!(next, '*' | '?' | '\\'));
                literal.push(escaped.unwrap_or('\\'));
                continue;
            }
            '*' => Glob::Many,
            '?' => Glob::One,
            c => {
                literal.push(c);
                continue;
            }
        };
        if !literal.is_empty() {
            pieces.push(Glob::Literal(std::mem::take(&mut literal)));
        }
        pieces.push(wildcard);
    }
    if !literal.is_empty() {
        pieces.push(Glob::Literal(literal));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rule::load::load_text;

    #[test]
    fn a_condition_cannot_blow_up() {
        let searches: String = (0..1_000).map(|n| format!("  s{n}: {{verb: get}}\n")).collect();
        for (times, fits) in [(40, true), (4_000, false)] {
            let condition = vec!["1 of them"; times].join(" or ");
            let head = "title: T\nlogsource: {product: kubernetes}\ndetection:\n";
            let loaded = load_text(Path::new("rule.yml"), &format!("{head}{searches}  condition: {condition}\n"));
            assert_eq!(loaded.rules.rules.len(), usize::from(fits), "{:?}", loaded.findings.first());
            assert!(fits || loaded.findings[0].message.contains("more than 100000 tests"), "{}", loaded.findings[0]);
        }
    }

    #[test]
    fn escapes_follow_the_specification() {
        let literal = |text: &str| Glob::Literal(text.to_owned());
        for (text, expected) in [
            (r"a\*b", vec![literal("a*b")]),
            (r"a\\*", vec![literal(r"a\"), Glob::Many]),
            (r"a\b", vec![literal(r"a\b")]),
            (r"a\\\*", vec![literal(r"a\*")]),
            (r"\\\\", vec![literal(r"\\")]),
            ("?x*", vec![Glob::One, literal("x"), Glob::Many]),
            (r"end\", vec![literal(r"end\")]),
        ] {
            assert_eq!(pieces_of(text), expected, "{text}");
        }
    }
}
