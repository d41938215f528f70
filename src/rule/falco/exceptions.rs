//! Exceptions of Falco rules: fields, how they are compared, and the values that are let through.

use super::condition::{self, Condition, Operand, Operator, Right, Word};
use super::lower::{Lowering, Names};
use super::written::Written;
use super::{comparison, scalar};
use crate::diagnose::{Diagnostic, Span};
use crate::rule::ir::Expr;
use crate::rule::reader::Reader;
use crate::yaml::{Node, Value};

/// One exception.
#[derive(Clone, Debug)]
pub(super) struct Exception {
    name: String,
    /// Fields and how each is compared; none where values are added to an exception that is there.
    fields: Vec<(Operand, Operator)>,
    /// The fields are one, and the values its list.
    single: bool,
    values: Vec<Node>,
    written: Written,
}

/// The exceptions of a rule.
pub(super) fn read(reader: &mut Reader<'_>, item: &Node) -> Vec<Exception> {
    let Some(node) = item.get("exceptions") else { return Vec::new() };
    let Value::Seq(items) = &node.value else {
        if node.value != Value::Null {
            reader.error(node.span, format!("`exceptions` must be a list, not {}", node.kind()));
        }
        return Vec::new();
    };
    items.iter().filter_map(|item| one(reader, item)).collect()
}

/// Adds exceptions; those of a known name add their values to it.
pub(super) fn append(exceptions: &mut Vec<Exception>, more: Vec<Exception>, reader: &mut Reader<'_>) {
    for exception in more {
        match exceptions.iter_mut().find(|known| known.name == exception.name) {
            Some(known) if exception.fields.is_empty() => known.values.extend(exception.values),
            Some(_) => {
                let message = format!(
                    "the rule has the exception `{}` already: only `values` can be added to it",
                    exception.name
                );
                reader.findings.push(exception.written.error((0, 0), message));
            }
            None if exception.fields.is_empty() => {
                let message = format!("the rule has no exception `{}` to add values to", exception.name);
                let finding = exception.written.error((0, 0), message);
                reader.findings.push(finding);
            }
            None => exceptions.push(exception),
        }
    }
}

const KEYS: [&str; 4] = ["name", "fields", "comps", "values"];

fn one(reader: &mut Reader<'_>, item: &Node) -> Option<Exception> {
    for (key, _) in item.as_map().unwrap_or_default() {
        if !KEYS.contains(&key.text.as_str()) {
            let message = format!("an exception has no key `{}`; it has {}", key.text, KEYS.join(", "));
            reader.error(key.span, message);
        }
    }
    if item.get("name").is_none() {
        reader.error(item.span, "an exception needs a `name`");
        return None;
    }
    let name = reader.text(item, "name")?;
    let span = item.get("name").map_or(item.span, |node| node.span);
    let single = item.get("fields").is_some_and(|node| !matches!(node.value, Value::Seq(_)));
    let names = reader.texts(item, "fields");
    let mut operators: Vec<Option<Operator>> = Vec::new();
    for (text, span) in reader.texts(item, "comps") {
        operators.push(comparison(reader, &text, span));
    }
    if operators.is_empty() {
        operators = vec![Some(if single { Operator::In } else { Operator::Eq }); names.len()];
    }
    if operators.len() != names.len() {
        let message = format!("the exception `{name}` has {} fields and {} comps", names.len(), operators.len());
        reader.error(span, message);
        return None;
    }
    let mut fields = Vec::new();
    for ((text, span), operator) in names.into_iter().zip(operators) {
        fields.push((field(reader, &text, span)?, operator?));
    }
    let values = match item.get("values").map(|node| &node.value) {
        Some(Value::Seq(values)) => values.clone(),
        None | Some(Value::Null) => Vec::new(),
        Some(_) => {
            reader.error(span, format!("the `values` of the exception `{name}` must be a list"));
            Vec::new()
        }
    };
    let written = Written::new(&name, reader.source, span);
    Some(Exception { name, fields, single, values, written })
}

fn field(reader: &mut Reader<'_>, text: &str, span: Span) -> Option<Operand> {
    match condition::operand(text) {
        Some(Ok((operand, len))) if len == text.len() => Some(operand),
        Some(Err(mistake)) => {
            reader.error(span, mistake.message);
            None
        }
        _ => {
            reader.error(span, format!("`{text}` is no field"));
            None
        }
    }
}

impl Exception {
    /// What it lets through; nothing if it has no values.
    pub(super) fn lower(&self, names: &Names<'_>, findings: &mut Vec<Diagnostic>) -> Option<Expr> {
        if self.values.is_empty() {
            return None;
        }
        if self.fields.is_empty() {
            findings.push(
                self.written.error((0, self.name.len()), format!("the exception `{}` has no `fields`", self.name)),
            );
            return None;
        }
        let tuples: Option<Vec<Condition>> = if self.single {
            let (field, operator) = self.fields.first()?;
            let right = self.right(*operator, &self.values, findings)?;
            Some(vec![compare(field, *operator, right)])
        } else {
            self.values.iter().map(|tuple| self.tuple(tuple, findings)).collect()
        };
        Lowering::new(names, findings).condition(&Condition::Or(tuples?), &self.written)
    }

    /// One entry of `values`: a value for each field.
    fn tuple(&self, tuple: &Node, findings: &mut Vec<Diagnostic>) -> Option<Condition> {
        let items = match &tuple.value {
            Value::Seq(items) if items.len() == self.fields.len() => items,
            _ => {
                let message =
                    format!("the exception `{}` has {} fields: a value for each", self.name, self.fields.len());
                findings.push(self.written.error((0, self.name.len()), message));
                return None;
            }
        };
        let mut parts = Vec::new();
        for ((field, operator), item) in self.fields.iter().zip(items) {
            let items = match &item.value {
                Value::Seq(items) => items.as_slice(),
                _ => std::slice::from_ref(item),
            };
            parts.push(compare(field, *operator, self.right(*operator, items, findings)?));
        }
        Some(Condition::And(parts))
    }

    fn right(&self, operator: Operator, items: &[Node], findings: &mut Vec<Diagnostic>) -> Option<Right> {
        let words: Option<Vec<Word>> = items
            .iter()
            .map(|item| Some(Word { text: scalar(item)?, bare: true, place: (0, self.name.len()) }))
            .collect();
        let right = match words {
            Some(words) if operator.takes_list() => {
                Some(Right::Words(words.into_iter().flat_map(in_brackets).collect()))
            }
            Some(mut words) if words.len() == 1 => Some(Right::Word(words.remove(0))),
            _ => None,
        };
        if right.is_none() {
            let message = format!("the exception `{}` has a value that `{}` cannot take", self.name, operator.as_str());
            findings.push(self.written.error((0, self.name.len()), message));
        }
        right
    }
}

/// A list may also be written as text: `(a, b)`.
fn in_brackets(word: Word) -> Vec<Word> {
    let Some(inner) = word.text.strip_prefix('(').and_then(|text| text.strip_suffix(')')) else { return vec![word] };
    let texts = inner.split(',').map(|text| text.trim().trim_matches(['"', '\'']).to_owned());
    texts.filter(|text| !text.is_empty()).map(|text| Word { text, ..word.clone() }).collect()
}

fn compare(field: &Operand, operator: Operator, right: Right) -> Condition {
    Condition::Compare { left: field.clone(), operator, modifier: None, right }
}
