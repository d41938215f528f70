//! What is wrong with a source, sink or journal of Kafka, each mistake at its place.

use super::read::Parts;
#[cfg(feature = "kafka")]
use super::read::head;
use super::tree::Tree;
use super::validate::place;
use crate::diagnose::Span;
use crate::kafka::{Connection, Owned, wrong_brokers};
use crate::sink::kafka::KafkaConfig as SinkConfig;
#[cfg(feature = "kafka")]
use crate::sink::{Sink, SinkKind};
use crate::source::kafka::KafkaConfig as SourceConfig;
use crate::store::kafka::{KafkaConfig as JournalConfig, PARTITIONS_MAX};
use crate::yaml::{Node, Value};

/// What stands still where these are 0, which is `never` for librdkafka.
const NEVER_ZERO: [(&str, &str); 2] = [
    ("statistics.interval.ms", "the metrics and `/readyz` would never hear of brokers"),
    ("auto.commit.interval.ms", "offsets would not be committed before the end"),
];

pub(super) fn source(node: &Node, config: &SourceConfig, tree: &mut Tree) {
    connection(node, config.connection(), &SourceConfig::owned(), tree);
    for (at, message) in config.wrong_topics() {
        tree.report(item(node, "topics", at), message, None);
    }
    if config.group.trim().is_empty() {
        tree.report(place(node, "group"), "`group` is empty: offsets are kept under its name", None);
    }
    for (name, why) in NEVER_ZERO {
        let properties = node.get("properties").filter(|_| config.properties.get(name) == Some("0"));
        if let Some(properties) = properties {
            tree.report(place(properties, name), format!("`{name}` is 0: {why}"), None);
        }
    }
    if config.max_body.0 == 0 {
        tree.report(place(node, "max_body"), "`max_body` is 0: no event would fit", None);
    }
}

pub(super) fn sink(node: &Node, config: &SinkConfig, tree: &mut Tree) {
    connection(node, config.connection(), &SinkConfig::owned(), tree);
    if let Some(why) = crate::kafka::wrong_topic(&config.topic) {
        tree.report(place(node, "topic"), format!("`topic`: {why}"), None);
    }
}

pub(super) fn journal(node: &Node, config: &JournalConfig, tree: &mut Tree) {
    connection(node, config.connection(), &JournalConfig::owned(), tree);
    if let Some(why) = crate::kafka::wrong_topic(&config.baselines()) {
        tree.report(place(node, "topic_prefix"), format!("`topic_prefix`: {why}"), None);
    }
    if config.topic_prefix.is_empty() {
        tree.report(place(node, "topic_prefix"), "`topic_prefix` is empty: topics and groups are named after it", None);
    }
    if config.partitions == 0 || config.partitions > PARTITIONS_MAX {
        let message = format!("`partitions` is a number from 1 to {PARTITIONS_MAX}");
        tree.report(place(node, "partitions"), message, None);
    }
    if config.replication_factor == 0 {
        tree.report(place(node, "replication_factor"), "`replication_factor` is 0: nothing would be kept", None);
    }
}

fn connection(node: &Node, connection: Connection<'_>, owned: &[Owned], tree: &mut Tree) {
    for (at, message) in wrong_brokers(connection.brokers) {
        tree.report(item(node, "brokers", at), message, None);
    }
    let Some(written) = node.get("properties").and_then(Node::as_map) else { return };
    let span =
        |name: &str| written.iter().find(|(key, _)| key.text == name).map_or_else(Span::default, |(key, _)| key.span);
    for name in connection.properties.names() {
        if let Some((_, instead)) = owned.iter().find(|(owned, _)| *owned == name) {
            tree.report(span(name), format!("`{name}` is not to be set here"), Some((*instead).to_owned()));
        }
    }
    for (name, message, help) in properties(connection) {
        tree.report(span(&name), message, Some(help));
        // It may be a secret under a mistyped name.
        if let Some((_, value)) = written.iter().find(|(key, _)| key.text == name) {
            tree.hide(value.span);
        }
    }
}

/// Lets librdkafka look at each source and sink as a whole: what is missing, what does not go together, certificates. Not
/// where single properties are wrong: it would say that again, and worse.
#[cfg(feature = "kafka")]
pub(super) fn clients(parts: &Parts, tree: &mut Tree) {
    let wrong = |node: &Node, tree: &Tree| node.get("properties").is_some_and(|properties| tree.is_wrong(properties));
    for item in parts.sources.iter().flatten().filter(|item| !wrong(&item.node, tree)).collect::<Vec<_>>() {
        if let Some(crate::source::SourceConfig::Kafka(source)) = &item.value
            && let Err(message) = source.look_at()
        {
            tree.report(head(&item.node), message, None);
        }
    }
    if let (Some(super::JournalConfig::Kafka(journal)), Some(node)) = (parts.journal(), parts.journal_node())
        && !wrong(node, tree)
        && let Err(message) = journal.look_at()
    {
        tree.report(head(node), message, None);
    }
    for item in parts.sinks.iter().flatten().filter(|item| !wrong(&item.node, tree)).collect::<Vec<_>>() {
        if let Some(sink) = item.value.as_ref().filter(|sink| matches!(sink.kind, SinkKind::Kafka(_)))
            && let Err(message) = Sink::build(sink)
        {
            tree.report(head(&item.node), message, None);
        }
    }
}

#[cfg(not(feature = "kafka"))]
pub(super) fn clients(_: &Parts, _: &mut Tree) {}

#[cfg(feature = "kafka")]
const PROPERTIES: &str = "the properties are those of librdkafka's CONFIGURATION.md";

#[cfg(feature = "kafka")]
fn properties(connection: Connection<'_>) -> Vec<(String, String, String)> {
    let wrong = crate::kafka::client::wrong_properties(connection.properties).into_iter();
    wrong.map(|(name, message)| (name, message, PROPERTIES.to_owned())).collect()
}

/// Nobody here knows them.
#[cfg(not(feature = "kafka"))]
fn properties(_: Connection<'_>) -> Vec<(String, String, String)> {
    Vec::new()
}

/// Where an item of a list is written, or the list.
fn item(node: &Node, key: &str, at: Option<usize>) -> Span {
    let item = node.get(key).and_then(|list| match &list.value {
        Value::Seq(items) => items.get(at?),
        _ => None,
    });
    item.map_or_else(|| place(node, key), |item| item.span)
}
