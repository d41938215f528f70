//! Reading the parts of rule files: values of the wrong type are noted at their places.

use std::sync::Arc;

use super::sigma::Placeholders;
use crate::diagnose::{Diagnostic, SourceText, Span};
use crate::yaml::{Node, Value};

/// Where findings go while a text is read.
pub struct Reader<'r> {
    /// The text.
    pub source: &'r Arc<SourceText>,
    /// What was found wrong in it.
    pub findings: &'r mut Vec<Diagnostic>,
    /// What `%placeholders%` stand for.
    pub placeholders: &'r Placeholders,
}

impl Reader<'_> {
    /// Notes an error at a place.
    pub fn error(&mut self, span: Span, message: impl Into<String>) {
        self.findings.push(Diagnostic::error(self.source, span, message));
    }

    /// Notes an error with what to do about it.
    pub fn error_with_help(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Diagnostic::error(self.source, span, message).help(help));
    }

    /// The text under a key, if the key is there; a value of another type is an error.
    pub fn text(&mut self, map: &Node, key: &str) -> Option<String> {
        let node = map.get(key)?;
        match &node.value {
            Value::String(text) => Some(text.clone()),
            Value::Int(number) => Some(number.to_string()),
            _ => {
                self.error(node.span, format!("`{key}` must be text, not {}", node.kind()));
                None
            }
        }
    }

    /// The texts under a key; a single text counts as a list of one.
    pub fn texts(&mut self, map: &Node, key: &str) -> Vec<(String, Span)> {
        let Some(node) = map.get(key) else { return Vec::new() };
        let items = match &node.value {
            Value::Seq(items) => items.as_slice(),
            Value::Null => &[],
            _ => std::slice::from_ref(node),
        };
        let mut texts = Vec::new();
        for item in items {
            match &item.value {
                Value::String(text) => texts.push((text.clone(), item.span)),
                Value::Int(number) => texts.push((number.to_string(), item.span)),
                _ => self.error(item.span, format!("`{key}` holds {} where text belongs", item.kind())),
            }
        }
        texts
    }
}
