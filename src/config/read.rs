//! From the tree to structs. serde stops at its first error; here each one is recorded, the entry it is about is
//! taken away, and the rest is read again, until nothing is left to complain of.

use serde::de::DeserializeOwned;

use super::de::{Error, Kind, NodeDeserializer};
use super::tree::{Step, Tree, at_mut, empty, take};
use super::{Config, JournalConfig};
use crate::diagnose::{Span, closest};
use crate::sink::{SinkConfig, SinkKind};
use crate::source::SourceConfig;
use crate::yaml::{Key, Node, Value};

/// Mistakes that one item may have: bounds the work on hostile input.
const MISTAKES_MAX: usize = 200;

/// One item of `sources:` or `sinks:`, with its node.
pub(super) struct Item<T> {
    pub(super) node: Node,
    /// `None` when it has mistakes, which are reported.
    pub(super) value: Option<T>,
}

/// The configuration in the pieces that are read apart.
pub(super) struct Parts {
    /// Everything but `sources`, `sinks` and `journal`.
    pub(super) rest: Option<Config>,
    /// The mapping `rest` was read from, without what was wrong in it.
    pub(super) root: Node,
    pub(super) sources: Option<Vec<Item<SourceConfig>>>,
    pub(super) sinks: Option<Vec<Item<SinkConfig>>>,
    journal: Option<Item<JournalConfig>>,
}

impl Parts {
    /// The journal's settings, where they are written and right.
    pub(super) fn journal(&self) -> Option<&JournalConfig> {
        self.journal.as_ref()?.value.as_ref()
    }

    /// Where they are written.
    pub(super) fn journal_node(&self) -> Option<&Node> {
        self.journal.as_ref().map(|item| &item.node)
    }

    /// The whole, when every piece is there.
    pub(super) fn into_config(self) -> Option<Config> {
        let mut config = self.rest?;
        if let Some(sources) = self.sources {
            config.sources = sources.into_iter().map(|item| item.value).collect::<Option<_>>()?;
        }
        if let Some(sinks) = self.sinks {
            config.sinks = sinks.into_iter().map(|item| item.value).collect::<Option<_>>()?;
        }
        if let Some(journal) = self.journal {
            config.journal = journal.value?;
        }
        Some(config)
    }
}

/// Reads all pieces of the tree, whose root is taken.
pub(super) fn parts(tree: &mut Tree) -> Parts {
    let mut root = std::mem::replace(&mut tree.root, empty());
    let sources = take(&mut root, "sources").map(|entry| items(tree, entry, source));
    let sinks = take(&mut root, "sinks").map(|entry| items(tree, entry, sink));
    let journal = take(&mut root, "journal").map(|(_, mut node)| {
        let value = journal(tree, &mut node);
        Item { node, value }
    });
    let rest = read(tree, &mut root).value;
    Parts { rest, root, sources, sinks, journal }
}

/// Reads each item of a list.
fn items<T>(tree: &mut Tree, (key, node): (Key, Node), read: fn(&mut Tree, &mut Node) -> Option<T>) -> Vec<Item<T>> {
    let Value::Seq(nodes) = node.value else {
        tree.report(node.span, format!("`{}` is a list; this is {}", key.text, node.kind()), None);
        return vec![Item { node, value: None }];
    };
    let read_one = |mut node: Node| {
        let value = read(tree, &mut node);
        Item { node, value }
    };
    nodes.into_iter().map(read_one).collect()
}

/// Reads an item whose `type` decides what it is: the variant's own struct is read from the node, because serde's
/// way through a buffer forgets the places.
macro_rules! by_type {
    ($tree:ident, $node:ident, $what:literal, $hidden:expr, { $($name:literal => $variant:path),+ $(,)? }) => {{
        const KNOWN: &[&str] = &[$($name),+];
        match type_of($tree, $node, $what, KNOWN)?.as_str() {
            $($name => {
                let mut body = $node.clone();
                for hidden in $hidden {
                    take(&mut body, hidden);
                }
                read($tree, &mut body).clean().map($variant)
            })+
            _ => None,
        }
    }};
}

fn source(tree: &mut Tree, node: &mut Node) -> Option<SourceConfig> {
    by_type!(tree, node, "source", ["type"], {
        "webhook" => SourceConfig::Webhook,
        "kafka" => SourceConfig::Kafka,
        "file" => SourceConfig::File,
    })
}

fn sink(tree: &mut Tree, node: &mut Node) -> Option<SinkConfig> {
    let name = name(tree, node);
    let kind = by_type!(tree, node, "sink", ["type", "name"], {
        "stdout" => SinkKind::Stdout,
        "slack" => SinkKind::Slack,
        "alertmanager" => SinkKind::Alertmanager,
        "webhook" => SinkKind::Webhook,
        "kafka" => SinkKind::Kafka,
        "pagerduty" => SinkKind::PagerDuty,
        "elasticsearch" => SinkKind::Elasticsearch,
        "splunk" => SinkKind::Splunk,
        "loki" => SinkKind::Loki,
        "falcosidekick" => SinkKind::Falcosidekick,
        "teams" => SinkKind::Teams,
        "opsgenie" => SinkKind::Opsgenie,
        "syslog" => SinkKind::Syslog,
        "email" => SinkKind::Email,
    });
    Some(SinkConfig { name: name?, kind: kind? })
}

fn journal(tree: &mut Tree, node: &mut Node) -> Option<JournalConfig> {
    by_type!(tree, node, "journal", ["type"], {
        "embedded" => JournalConfig::Embedded,
        "kafka" => JournalConfig::Kafka,
    })
}

/// A sink's name: any text that is not empty.
fn name(tree: &mut Tree, node: &Node) -> Option<String> {
    node.as_map()?;
    match node.get("name") {
        None => {
            tree.report(head(node), "this sink has no `name`", Some("routes and metrics use it".to_owned()));
            None
        }
        Some(given) => match given.as_str() {
            Some(name) if !name.trim().is_empty() => Some(name.to_owned()),
            _ => {
                tree.report(given.span, "a sink's `name` is text that is not empty", None);
                None
            }
        },
    }
}

/// The `type` of an item, when it is one of those known.
fn type_of(tree: &mut Tree, node: &Node, what: &str, known: &[&str]) -> Option<String> {
    let list = known.join(", ");
    if node.as_map().is_none() {
        tree.report(node.span, format!("a {what} is a mapping with a `type`; this is {}", node.kind()), None);
        return None;
    }
    let Some(given) = node.get("type") else {
        tree.report(head(node), format!("this {what} has no `type`"), Some(format!("the types are: {list}")));
        return None;
    };
    match given.as_str() {
        Some(name) if known.contains(&name) => Some(name.to_owned()),
        Some(name) => {
            let help = did_you_mean(name, known).unwrap_or_else(|| format!("the types are: {list}"));
            tree.report(given.span, format!("there is no {what} of type `{name}`"), Some(help));
            None
        }
        None => {
            tree.report(given.span, format!("`type` is one of: {list}"), None);
            None
        }
    }
}

/// What reading a node gave.
pub(super) struct Reading<T> {
    /// What could be read once mistakes were taken away.
    value: Option<T>,
    mistakes: usize,
}

impl<T> Reading<T> {
    /// The value, when there was no mistake.
    fn clean(self) -> Option<T> {
        self.value.filter(|_| self.mistakes == 0)
    }
}

/// Reads a node, and reports and removes whatever is wrong in it.
fn read<T: DeserializeOwned>(tree: &mut Tree, node: &mut Node) -> Reading<T> {
    let mut mistakes = 0;
    while mistakes < MISTAKES_MAX {
        let error = match T::deserialize(NodeDeserializer(node)) {
            Ok(value) => return Reading { value: Some(value), mistakes },
            Err(error) => error,
        };
        mistakes += 1;
        report(tree, node, &error);
        if !repair::<T>(tree, node, &error) {
            break;
        }
    }
    Reading { value: None, mistakes: mistakes.max(1) }
}

/// Says what is wrong, where.
fn report(tree: &mut Tree, node: &mut Node, error: &Error) {
    let place = at_mut(node, &error.path).map(|at| (head(at), at.span)).unwrap_or_default();
    match &error.kind {
        Kind::UnknownField { field, known } => {
            let span = at_mut(node, &error.path).and_then(|at| key_span(at, field)).unwrap_or(place.1);
            let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let help = did_you_mean(field, known).unwrap_or_else(|| format!("the keys here are: {list}"));
            tree.report(span, format!("there is no key `{field}` here"), Some(help));
        }
        Kind::MissingField(field) => tree.report(place.0, format!("`{field}` is missing here"), None),
        Kind::UnknownVariant { variant, known } => {
            let help = did_you_mean(variant, known);
            tree.report(place.1, format!("`{variant}` is none of: {}", known.join(", ")), help);
        }
        Kind::Other(message) => {
            let key = error.path.iter().rev().find_map(|step| match step {
                Step::Key(key) => Some(key),
                Step::Index(_) => None,
            });
            let message = key.map_or_else(|| message.clone(), |key| format!("`{key}`: {message}"));
            tree.report(place.1, message, None);
        }
    }
}

/// Makes the node such that the same error does not come again; `false` when that cannot be.
fn repair<T: DeserializeOwned>(tree: &mut Tree, node: &mut Node, error: &Error) -> bool {
    match &error.kind {
        Kind::UnknownField { field, .. } => match at_mut(node, &error.path).and_then(|at| take(at, field)) {
            Some((_, value)) => {
                tree.hide(value.span);
                true
            }
            None => false,
        },
        Kind::MissingField(field) => fill::<T>(node, &error.path, field),
        Kind::UnknownVariant { .. } | Kind::Other(_) => remove(node, &error.path),
    }
}

/// Puts a stand-in where a key is missing, so that further missing keys are found. The result is thrown away.
fn fill<T: DeserializeOwned>(node: &mut Node, path: &[Step], field: &str) -> bool {
    let mut below = path.to_vec();
    below.push(Step::Key(field.to_owned()));
    let stand_ins = [
        Value::String(String::new()),
        Value::Seq(Vec::new()),
        Value::Map(Vec::new()),
        Value::Int(1),
        Value::Bool(true),
    ];
    for value in stand_ins {
        let Some(Value::Map(entries)) = at_mut(node, path).map(|at| &mut at.value) else { return false };
        let key = Key { text: field.to_owned(), span: Span::default() };
        entries.push((key, Node { value, span: Span::default() }));
        match T::deserialize(NodeDeserializer(node)) {
            Err(error) if error.path.starts_with(&below) => {
                at_mut(node, path).and_then(|at| take(at, field));
            }
            _ => return true,
        }
    }
    false
}

/// Takes the node at a path away from its parent.
fn remove(node: &mut Node, path: &[Step]) -> bool {
    let Some((last, parent)) = path.split_last() else { return false };
    match (at_mut(node, parent).map(|parent| &mut parent.value), last) {
        (Some(Value::Map(entries)), Step::Key(key)) => {
            let before = entries.len();
            entries.retain(|(k, _)| k.text != *key);
            entries.len() < before
        }
        (Some(Value::Seq(items)), Step::Index(index)) if *index < items.len() => {
            items.remove(*index);
            true
        }
        _ => false,
    }
}

fn did_you_mean(name: &str, known: &[&str]) -> Option<String> {
    closest(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"))
}

fn key_span(node: &Node, key: &str) -> Option<Span> {
    node.as_map()?.iter().find(|(k, _)| k.text == key).map(|(k, _)| k.span)
}

/// Where to point for a whole mapping: its start, so that no finding draws ten lines.
pub(super) fn head(node: &Node) -> Span {
    Span { start: node.span.start, end: node.span.start }
}
