//! Variables over the file: `KUBESIREN_SECTION__KEY=value`, list items by number.
//!
//! Kubernetes puts `KUBESIREN_PORT`, `KUBESIREN_SERVICE_HOST` and the like into pods beside a Service named
//! `kubesiren`; therefore a name without `__` counts only if it is a top-level value.

use super::mask::is_secret;
use super::tree::{Tree, empty};
use super::{Config, Environment};
use crate::diagnose::Span;
use crate::yaml::{Key, Node, Value};

const PREFIX: &str = "KUBESIREN_";
const PLAIN: [&str; 2] = ["cluster", "state_dir"];

/// Lays all variables over the tree, in the order of their names, so that `…__0__…` comes before `…__1__…`.
pub(super) fn overlay(tree: &mut Tree, environment: &Environment) {
    let mut ours: Vec<_> = environment.iter().filter_map(|(name, value)| Some((name, steps(name)?, value))).collect();
    ours.sort_by_key(|(_, steps, _)| {
        steps.iter().map(|step| (step.parse::<usize>().ok(), step.clone())).collect::<Vec<_>>()
    });
    for (name, steps, value) in ours {
        let secret = steps.iter().any(|step| is_secret(step) || step == "headers");
        let Some(node) = tree.adopt(name, value, secret) else { continue };
        let span = node.span;
        let mut root = std::mem::replace(&mut tree.root, empty());
        seed_defaults(&mut root, &steps);
        if let Err(message) = put(&mut root, &steps, node) {
            tree.report(span, format!("{name}: {message}"), None);
        }
        tree.root = root;
    }
}

/// The path a variable's name stands for; `None` when it is not ours.
fn steps(name: &str) -> Option<Vec<String>> {
    let rest = name.strip_prefix(PREFIX)?.to_ascii_lowercase();
    let mut steps: Vec<_> = rest.split("__").map(str::to_owned).collect();
    if let Some(at) = steps.iter().position(|step| step == "properties")
        && let Some(property) = steps.get_mut(at + 1)
    {
        *property = dotted(property);
    }
    (steps.len() > 1 || PLAIN.contains(&rest.as_str())).then_some(steps)
}

/// A property of librdkafka is written with dots, which no shell takes in a variable's name: `SASL_PASSWORD_FILE` is
/// `sasl.password_file`.
fn dotted(name: &str) -> String {
    let (name, file) = name.strip_suffix("_file").map_or((name, ""), |name| (name, "_file"));
    name.replace('_', ".") + file
}

/// A variable that changes an item of the default list needs that item to be there.
fn seed_defaults(root: &mut Node, steps: &[String]) {
    let section = steps[0].as_str();
    if !matches!(section, "sources" | "sinks") || root.get(section).is_some() {
        return;
    }
    let Ok(serde_json::Value::Object(mut defaults)) = serde_json::to_value(Config::default()) else { return };
    if let (Some(list), Value::Map(entries)) = (defaults.remove(section), &mut root.value) {
        entries.push((Key { text: section.to_owned(), span: Span::default() }, from_json(list)));
    }
}

fn from_json(json: serde_json::Value) -> Node {
    let value = match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => match number.as_i64() {
            Some(int) => Value::Int(int),
            None => Value::Float(number.as_f64().unwrap_or_default()),
        },
        serde_json::Value::String(text) => Value::String(text),
        serde_json::Value::Array(items) => Value::Seq(items.into_iter().map(from_json).collect()),
        serde_json::Value::Object(entries) => Value::Map(
            entries.into_iter().map(|(text, value)| (Key { text, span: Span::default() }, from_json(value))).collect(),
        ),
    };
    Node { value, span: Span::default() }
}

/// Puts a value at its path; mappings on the way are made.
fn put(node: &mut Node, steps: &[String], value: Node) -> Result<(), String> {
    let Some((step, rest)) = steps.split_first() else {
        *node = value;
        return Ok(());
    };
    if step.is_empty() {
        return Err("the name has an empty part".to_owned());
    }
    if matches!(node.value, Value::Null) {
        let value = if step.parse::<usize>().is_ok() { Value::Seq(Vec::new()) } else { Value::Map(Vec::new()) };
        *node = Node { value, span: node.span };
    }
    match &mut node.value {
        Value::Map(entries) => {
            if !entries.iter().any(|(key, _)| key.text == *step) {
                let child = Node { value: Value::Null, span: value.span };
                entries.push((Key { text: step.clone(), span: value.span }, child));
            }
            let child = entries.iter_mut().find(|(key, _)| key.text == *step).map(|(_, child)| child);
            child.map_or(Ok(()), |child| put(child, rest, value))
        }
        Value::Seq(items) => {
            let index: usize =
                step.parse().map_err(|_| format!("`{step}` stands for an item of a list: write its number, from 0"))?;
            if index > items.len() {
                return Err(format!("there is no item {index}: the list has {}", items.len()));
            }
            if index == items.len() {
                items.push(Node { value: Value::Null, span: value.span });
            }
            put(&mut items[index], rest, value)
        }
        _ => Err(format!("there is nothing below `{step}`'s parent, which is a single value")),
    }
}
