//! Falco rule files: lists, macros and rules for `source: k8s_audit`, with `append` and `override`.
//!
//! Files are read in their order, later ones change what earlier ones said; only then names are put in. Rules for other
//! sources are skipped and counted.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::condition::{Condition, Operator};
use self::lower::{Lowering, Macro, Names};
use self::written::Written;
use super::ir::{Expr, Rule};
use super::reader::Reader;
use crate::alert::{Level, RuleInfo};
use crate::diagnose::{Diagnostic, Severity, SourceText, Span, closest};
use crate::hash;
use crate::yaml::{Node, Value};

mod condition;
mod exceptions;
mod fields;
mod lower;
mod output;
mod pattern;
mod written;

use exceptions::Exception;

/// The source of the rules that are for us.
const SOURCE: &str = "k8s_audit";

/// What an item can be, told by its first key.
const ITEMS: [&str; 5] = ["rule", "macro", "list", "required_engine_version", "required_plugin_versions"];

const RULE_KEYS: [&str; 15] = [
    "rule",
    "condition",
    "output",
    "desc",
    "priority",
    "source",
    "tags",
    "enabled",
    "exceptions",
    "append",
    "override",
    "warn_evttypes",
    "skip-if-unknown-filter",
    "capture",
    "capture_duration",
];

/// Lists within each other.
const WITHIN_MAX: usize = 100;

/// What `append: true` appends to; what else stands there Falco ignores.
const WITH_APPEND: [&str; 3] = ["items", "condition", "exceptions"];

/// What `override` may append to, and what it may replace.
const APPENDED: [&str; 6] = ["items", "condition", "output", "desc", "tags", "exceptions"];

const PRIORITIES: [(&str, Level); 9] = [
    ("emergency", Level::Critical),
    ("alert", Level::Critical),
    ("critical", Level::Critical),
    ("error", Level::High),
    ("warning", Level::Medium),
    ("notice", Level::Low),
    ("informational", Level::Informational),
    ("info", Level::Informational),
    ("debug", Level::Informational),
];

/// The items of lists, and where each stands.
type Lists = HashMap<String, Vec<(String, Arc<SourceText>, Span)>>;

/// Everything that the files said so far.
#[derive(Default)]
pub struct Collected {
    lists: Lists,
    macros: HashMap<String, Written>,
    rules: Vec<Item>,
}

/// A rule as it stands after all files so far.
#[derive(Clone, Default)]
struct Item {
    name: String,
    ours: bool,
    condition: Written,
    output: Written,
    level: Level,
    tags: Vec<String>,
    enabled: bool,
    exceptions: Vec<Exception>,
    /// `skip-if-unknown-filter`: with a field that is not known here it is left out, which is no mistake.
    optional: bool,
    file: PathBuf,
    text: String,
    /// Something about it was wrong: it is not to be used.
    broken: bool,
}

/// What the collected rules come to.
pub struct Finished {
    /// Rules without errors.
    pub rules: Vec<Rule>,
    /// Rules for other sources: file and name.
    pub skipped: Vec<(PathBuf, String)>,
}

/// Whether a document is one of Falco's: a list of items.
#[must_use]
pub fn is_falco(document: &Node) -> bool {
    let Value::Seq(items) = &document.value else { return false };
    items.iter().any(|item| ITEMS.iter().any(|key| item.get(key).is_some()))
}

/// How an item is joined to what was there under its name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Joined {
    Append,
    Replace,
}

impl Collected {
    /// Takes the items of a document.
    pub fn document(&mut self, reader: &mut Reader<'_>, document: &Node, file: &Path) {
        let Value::Seq(items) = &document.value else { return };
        for item in items {
            if item.get("rule").is_some() {
                self.rule(reader, item, file);
            } else if item.get("macro").is_some() {
                self.macro_item(reader, item);
            } else if item.get("list").is_some() {
                self.list(reader, item);
            } else if !ITEMS.iter().any(|key| item.get(key).is_some()) {
                let span = Span { start: item.span.start, end: item.span.start + 1 };
                reader.error(span, "an item must be a `rule`, a `macro` or a `list`");
            }
        }
    }

    fn list(&mut self, reader: &mut Reader<'_>, item: &Node) {
        let Some(name) = reader.text(item, "list") else { return };
        let Some(joined) = joined(reader, item, &["list", "items"]) else { return };
        if item.get("items").is_none() {
            reader.error(item.span, format!("the list `{name}` has no `items`"));
            return;
        }
        let items = scalars(reader, item, "items");
        let items = items.into_iter().map(|(text, span)| (text, Arc::clone(reader.source), span));
        match (joined.get("items"), self.lists.get_mut(&name)) {
            (Some(Joined::Append), Some(list)) => list.extend(items),
            (Some(_), None) => nothing_there(reader, item, "list", &name, self.lists.keys()),
            (_, _) => {
                self.lists.insert(name, items.collect());
            }
        }
    }

    fn macro_item(&mut self, reader: &mut Reader<'_>, item: &Node) {
        let Some(name) = reader.text(item, "macro") else { return };
        let Some(joined) = joined(reader, item, &["macro", "condition"]) else { return };
        let Some(condition) = written(reader, item, "condition") else {
            reader.error(item.span, format!("the macro `{name}` has no `condition`"));
            return;
        };
        match (joined.get("condition"), self.macros.get_mut(&name)) {
            (Some(Joined::Append), Some(known)) => known.append(condition),
            (Some(_), None) => nothing_there(reader, item, "macro", &name, self.macros.keys()),
            (_, _) => {
                self.macros.insert(name, condition);
            }
        }
    }

    fn rule(&mut self, reader: &mut Reader<'_>, item: &Node, file: &Path) {
        let before = errors(reader.findings);
        let Some(name) = reader.text(item, "rule") else { return };
        let joined = joined(reader, item, &RULE_KEYS);
        let known = self.rules.iter().position(|rule| rule.name == name);
        // A rule that only says whether it is enabled changes nothing else.
        let only_enabled = item.as_map().is_some_and(|keys| keys.len() == 2) && item.get("enabled").is_some();
        let ours = item.get("source").and_then(Node::as_str) == Some(SOURCE);
        let was_ours = known.is_some_and(|at| self.rules[at].ours);
        let mut changed = Item { name, ours, file: file.to_owned(), text: text_of(reader, item), ..Item::default() };
        match (joined, known) {
            (None, _) => (changed.broken, changed.ours) = (true, ours || was_ours),
            (Some(joined), Some(at)) if only_enabled || !joined.is_empty() => {
                let appends = joined.values().all(|how| *how == Joined::Append) && joined.contains_key("items");
                if appends && WITH_APPEND.iter().all(|key| item.get(key).is_none()) {
                    let span = item.get("append").map_or(item.span, |node| node.span);
                    reader.error(span, "`append: true` needs a `condition` or `exceptions` to append");
                }
                let base = std::mem::take(&mut self.rules[at]);
                let text = format!("{}\n\n{}", base.text, changed.text);
                changed = Item { text, ..base };
                changed.change(reader, item, &joined);
            }
            (Some(joined), None) if only_enabled || !joined.is_empty() => {
                let names = self.rules.iter().map(|rule| &rule.name);
                nothing_there(reader, item, "rule", &changed.name, names);
                return;
            }
            (Some(_), Some(_)) if was_ours && !ours => {
                let message = format!(
                    "the rule `{}` stands here again without `source: {SOURCE}`, and would be gone; `override` or `append: true` changes it",
                    changed.name
                );
                reader.error(item.get("rule").map_or(item.span, |node| node.span), message);
                (changed.broken, changed.ours) = (true, true);
            }
            (Some(_), _) => changed.define(reader, item),
        }
        changed.broken |= errors(reader.findings) > before;
        match known {
            Some(at) => self.rules[at] = changed,
            None => self.rules.push(changed),
        }
    }

    /// Puts macros and lists in.
    #[must_use]
    pub fn finish(self, findings: &mut Vec<Diagnostic>) -> Finished {
        let lists = flattened(&self.lists, findings);
        let macros: HashMap<String, Macro> =
            self.macros.into_iter().map(|(name, written)| (name, read_macro(written, findings))).collect();
        let names = Names { macros: &macros, lists: &lists };
        let mut finished = Finished { rules: Vec::new(), skipped: Vec::new() };
        for item in self.rules {
            if !item.ours {
                finished.skipped.push((item.file, item.name));
            } else if item.enabled && !item.condition.text.is_empty() {
                // Of one that is not to be used the other mistakes are told all the same.
                let (broken, optional, before) = (item.broken, item.optional, findings.len());
                finished.rules.extend(item.finish(&names, findings).filter(|_| !broken));
                let unknown = findings[before..].iter_mut().filter(|finding| fields::says_unknown(&finding.message));
                unknown.filter(|_| optional).for_each(|finding| finding.severity = Severity::Warning);
            }
        }
        finished
    }
}

impl Item {
    /// A rule of its own.
    fn define(&mut self, reader: &mut Reader<'_>, item: &Node) {
        self.enabled = flag(reader, item, "enabled").unwrap_or(true);
        if !self.ours {
            if let Some(node) = item.get("source").filter(|node| is_near(node)) {
                let message = format!("this is for another source (`{SOURCE}` is ours), so it is skipped");
                reader.findings.push(Diagnostic::warning(reader.source, node.span, message));
            }
            return;
        }
        for key in ["condition", "output", "priority"] {
            if item.get(key).is_none() {
                let start = item.span.start;
                reader.error(Span { start, end: start + 4 }, format!("the rule `{}` has no `{key}`", self.name));
            }
        }
        self.condition = written(reader, item, "condition").unwrap_or_default();
        self.output = written(reader, item, "output").unwrap_or_default();
        self.level = priority(reader, item).unwrap_or_default();
        self.tags = reader.texts(item, "tags").into_iter().map(|(tag, _)| tag).collect();
        self.exceptions = exceptions::read(reader, item);
        self.optional = flag(reader, item, "skip-if-unknown-filter").unwrap_or(false);
    }

    /// A change of a rule that is there: with `override`, or with `append: true`.
    fn change(&mut self, reader: &mut Reader<'_>, item: &Node, joined: &HashMap<String, Joined>) {
        // Without `append` and `override` it is all that is said.
        if joined.is_empty() || joined.contains_key("enabled") {
            self.enabled = flag(reader, item, "enabled").unwrap_or(self.enabled);
        }
        if !self.ours {
            return;
        }
        if let Some(node) = item.get("source").filter(|node| node.as_str() != Some(SOURCE)) {
            reader.error(node.span, format!("the rule `{}` is for `{SOURCE}`: a change keeps its source", self.name));
        }
        if joined.contains_key("skip-if-unknown-filter") {
            self.optional = flag(reader, item, "skip-if-unknown-filter").unwrap_or(self.optional);
        }
        for key in ["condition", "output"] {
            let Some(more) = written(reader, item, key) else { continue };
            let text = if key == "condition" { &mut self.condition } else { &mut self.output };
            match joined.get(key) {
                Some(Joined::Append) => text.append(more),
                Some(Joined::Replace) => *text = more,
                None => {}
            }
        }
        if joined.contains_key("priority") {
            self.level = priority(reader, item).unwrap_or(self.level);
        }
        if let Some(how) = joined.get("tags") {
            let tags = reader.texts(item, "tags").into_iter().map(|(tag, _)| tag);
            if *how == Joined::Replace {
                self.tags.clear();
            }
            self.tags.extend(tags);
        }
        if let Some(how) = joined.get("exceptions") {
            let more = exceptions::read(reader, item);
            if *how == Joined::Replace {
                self.exceptions = more;
            } else {
                exceptions::append(&mut self.exceptions, more, reader);
            }
        }
    }

    fn finish(self, names: &Names<'_>, findings: &mut Vec<Diagnostic>) -> Option<Rule> {
        let before = errors(findings);
        let condition = match condition::parse(&self.condition.text) {
            Ok(condition) => Some(condition),
            Err(mistake) => {
                findings.push(self.condition.error(mistake.place, mistake.message));
                None
            }
        };
        let expr =
            condition.and_then(|condition| Lowering::new(names, findings).condition(&condition, &self.condition));
        let excepted: Vec<Expr> =
            self.exceptions.iter().filter_map(|exception| exception.lower(names, findings)).collect();
        let output = match output::parse(&self.output.text) {
            Ok(output) => output,
            Err((message, place)) => {
                findings.push(self.output.error(place, message));
                return None;
            }
        };
        if errors(findings) > before {
            return None;
        }
        let mut expr = expr?;
        if !excepted.is_empty() {
            expr = Expr::All(vec![expr, Expr::Not(Box::new(Expr::Any(excepted)))]);
        }
        let fingerprint = hash::short(&[format!("{expr:?}").as_bytes()]);
        let info = RuleInfo {
            id: self.name.clone(),
            title: self.name,
            level: self.level,
            tags: self.tags,
            ..RuleInfo::default()
        };
        Some(Rule {
            info: Arc::new(info),
            name: None,
            logsource: [("product", "kubernetes"), ("service", "audit")]
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
                .into(),
            expr,
            narrowed: 0,
            shown: Vec::new(),
            output: Some(output),
            // Falco asks at every stage; its rules say themselves which they mean.
            names_stage: true,
            profile: None,
            file: self.file,
            text: self.text.into(),
            fingerprint,
        })
    }
}

fn errors(findings: &[Diagnostic]) -> usize {
    findings.iter().filter(|finding| finding.severity == Severity::Error).count()
}

fn read_macro(written: Written, findings: &mut Vec<Diagnostic>) -> Macro {
    let condition: Option<Condition> = match condition::parse(&written.text) {
        Ok(condition) => Some(condition),
        Err(mistake) => {
            findings.push(written.error(mistake.place, mistake.message));
            None
        }
    };
    Macro { written, condition }
}

/// The items of each list, with those of the lists that it names.
fn flattened(lists: &Lists, findings: &mut Vec<Diagnostic>) -> HashMap<String, BTreeSet<String>> {
    let mut flat = HashMap::new();
    for name in lists.keys() {
        flatten(name, lists, &mut flat, &mut Vec::new(), findings);
    }
    flat
}

fn flatten(
    name: &str,
    lists: &Lists,
    flat: &mut HashMap<String, BTreeSet<String>>,
    within: &mut Vec<String>,
    findings: &mut Vec<Diagnostic>,
) {
    if flat.contains_key(name) {
        return;
    }
    within.push(name.to_owned());
    let mut items = BTreeSet::new();
    for (item, source, span) in lists.get(name).into_iter().flatten() {
        if !lists.contains_key(item) {
            items.insert(item.clone());
        } else if within.contains(item) {
            findings.push(Diagnostic::error(source, *span, format!("the list `{item}` is made of itself")));
        } else if within.len() >= WITHIN_MAX {
            findings.push(Diagnostic::error(source, *span, "lists are nested too deep"));
        } else {
            flatten(item, lists, flat, within, findings);
            items.extend(flat.get(item).into_iter().flatten().cloned());
        }
    }
    within.pop();
    flat.insert(name.to_owned(), items);
}

/// Which keys are appended to or replaced; nothing if the item stands for itself. `None` if that could not be read.
fn joined(reader: &mut Reader<'_>, item: &Node, keys: &[&str]) -> Option<HashMap<String, Joined>> {
    let mut good = true;
    for (key, _) in item.as_map().unwrap_or_default() {
        let known = keys.contains(&key.text.as_str()) || ["append", "override"].contains(&key.text.as_str());
        if !known {
            let near = closest(&key.text, keys.iter().copied());
            let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            let message = format!("`{}` has no key `{}`{near}, so it is ignored", keys[0], key.text);
            reader.findings.push(Diagnostic::warning(reader.source, key.span, message));
        }
    }
    let mut joined = HashMap::new();
    if flag(reader, item, "append") == Some(true) {
        joined.extend(WITH_APPEND.map(|key| (key.to_owned(), Joined::Append)));
    }
    let Some(node) = item.get("override") else {
        if !joined.is_empty() {
            ignored_by_append(reader, item, keys);
        }
        return Some(joined);
    };
    if !joined.is_empty() {
        reader.error(node.span, "`append` and `override` contradict each other");
        return None;
    }
    for (key, how) in node.as_map().unwrap_or_default() {
        let how = match how.as_str() {
            Some("append") if APPENDED.contains(&key.text.as_str()) => Joined::Append,
            Some("replace") => Joined::Replace,
            Some("append") => {
                reader.error(how.span, format!("`{}` can be replaced, not appended to", key.text));
                good = false;
                continue;
            }
            _ => {
                reader.error(how.span, "it is either `append` or `replace`");
                good = false;
                continue;
            }
        };
        if item.get(&key.text).is_none() {
            reader.error(key.span, format!("`override` names `{}`, which the item does not have", key.text));
            good = false;
        }
        joined.insert(key.text.clone(), how);
    }
    for (key, _) in item.as_map().unwrap_or_default().iter().skip(1) {
        let named = node.get(&key.text).is_some() || ["override", "source", keys[0]].contains(&key.text.as_str());
        if !named && keys.contains(&key.text.as_str()) {
            reader.error(key.span, format!("`override` does not say what becomes of `{}`", key.text));
            good = false;
        }
    }
    good.then_some(joined)
}

/// Tells what `append: true` does not change, as Falco does not.
fn ignored_by_append(reader: &mut Reader<'_>, item: &Node, keys: &[&str]) {
    for (key, _) in item.as_map().unwrap_or_default() {
        let name = key.text.as_str();
        let used = WITH_APPEND.contains(&name) || ["append", "source", keys[0]].contains(&name);
        if !used && keys.contains(&name) {
            let message = format!("`append: true` does not change `{name}`, so it is ignored: `override` changes it");
            reader.findings.push(Diagnostic::warning(reader.source, key.span, message));
        }
    }
}

/// What a key says that is true or false, in all ways in which Falco reads it.
fn flag(reader: &mut Reader<'_>, item: &Node, key: &str) -> Option<bool> {
    let node = item.get(key)?;
    let text = scalar(node).unwrap_or_default().to_lowercase();
    match text.as_str() {
        "true" | "yes" | "y" | "on" => Some(true),
        "false" | "no" | "n" | "off" => Some(false),
        _ => {
            reader.error(node.span, format!("`{key}` is true or false, not {}", node.kind()));
            None
        }
    }
}

/// Whether a source is most likely ours, misspelled.
fn is_near(source: &Node) -> bool {
    let text = source.as_str().unwrap_or_default();
    text != SOURCE && closest(text, [SOURCE]).is_some()
}

fn nothing_there<'n>(
    reader: &mut Reader<'_>,
    item: &Node,
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'n String>,
) {
    let span = item.get(kind).map_or(item.span, |node| node.span);
    let near = closest(name, known.map(String::as_str)).map(|near| format!(" (did you mean `{near}`?)"));
    let near = near.unwrap_or_default();
    reader.error(span, format!("there is no {kind} `{name}` before this that could be changed{near}"));
}

fn priority(reader: &mut Reader<'_>, item: &Node) -> Option<Level> {
    let node = item.get("priority")?;
    let text = node.as_str().unwrap_or_default();
    let known = PRIORITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
    if known.is_none() {
        let names: Vec<&str> = PRIORITIES.iter().map(|(name, _)| *name).collect();
        reader.error(node.span, format!("`{text}` is no priority; the priorities are {}", names.join(", ")));
    }
    known.map(|(_, level)| *level)
}

/// The text under a key, with its place. Numbers and booleans are texts too: `condition: evt` and `output: 1`.
fn written(reader: &mut Reader<'_>, item: &Node, key: &str) -> Option<Written> {
    let node = item.get(key)?;
    let text = scalar(node).or_else(|| {
        reader.error(node.span, format!("`{key}` must be text, not {}", node.kind()));
        None
    })?;
    Some(Written::new(&text, reader.source, node.span))
}

/// The text of a scalar: Falco reads numbers and booleans as they are written.
fn scalar(node: &Node) -> Option<String> {
    match &node.value {
        Value::String(text) => Some(text.clone()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Null | Value::Seq(_) | Value::Map(_) => None,
    }
}

fn scalars(reader: &mut Reader<'_>, item: &Node, key: &str) -> Vec<(String, Span)> {
    let Some(node) = item.get(key) else { return Vec::new() };
    let items = match &node.value {
        Value::Seq(items) => items.as_slice(),
        Value::Null => &[],
        _ => std::slice::from_ref(node),
    };
    let mut texts = Vec::new();
    for item in items {
        match scalar(item) {
            Some(text) => texts.push((text, item.span)),
            None => reader.error(item.span, format!("`{key}` holds {} where text belongs", item.kind())),
        }
    }
    texts
}

/// An item as it is written.
fn text_of(reader: &Reader<'_>, item: &Node) -> String {
    let text = reader.source.text.get(item.span.start..item.span.end).unwrap_or_default();
    // What follows up to the next item belongs to that: its comments.
    let end = text.find("\n\n#").unwrap_or(text.len());
    format!("- {}", text[..end].trim_end())
}

/// The operator that an exception names.
fn comparison(reader: &mut Reader<'_>, text: &str, span: Span) -> Option<Operator> {
    let operator = Operator::named(text);
    if operator.is_none() {
        reader.error(span, format!("there is no operator `{text}`"));
    }
    operator
}

#[cfg(test)]
mod tests;
