//! Reading the parts of rule files: values of the wrong type are noted at their places.

use std::sync::Arc;

use super::sigma::Placeholders;
use crate::diagnose::{Diagnostic, SourceText, Span};
use crate::event::members::Misnamed;
use crate::yaml::{Node, Value};

/// Where findings go while a text is read.
pub struct Reader<'r> {
    /// The text.
    pub source: &'r Arc<SourceText>,
    /// What was found wrong in it.
    pub findings: &'r mut Vec<Diagnostic>,
    /// What `%placeholders%` stand for.
    pub placeholders: &'r Placeholders,
    /// Hash of what those that were read stand for; 0 if there were none.
    pub expanded: u64,
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

    /// Warns of a field that no event has.
    pub fn note_misnamed(&mut self, span: Span, misnamed: Option<Misnamed>) {
        let finding =
            misnamed.map(|Misnamed { message, help }| Diagnostic::warning(self.source, span, message).help(help));
        self.findings.extend(finding);
    }

    /// Where in the file the byte `at` of a text stands, which is the value of `node`.
    pub fn place(&self, node: &Node, at: usize) -> usize {
        let raw = self.source.text.get(node.span.start..).unwrap_or_default();
        node.span.start + offset(raw, node.as_str().unwrap_or_default(), at)
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

/// Where in a scalar as it is written (`raw`) the byte `at` of its value stands. YAML folds blanks and lines, so the
/// characters between them are counted.
pub(super) fn offset(raw: &str, value: &str, at: usize) -> usize {
    let mut skipped = match raw.chars().next() {
        Some('"' | '\'') => 1,
        Some('>' | '|') => raw.find('\n').map_or(raw.len(), |at| at + 1),
        _ => 0,
    };
    let before = value.get(..at).unwrap_or(value);
    for wanted in before.chars().filter(|c| !c.is_whitespace()) {
        let Some(rest) = raw.get(skipped..) else { break };
        // An escape stands before what it makes.
        let Some((found, c)) = rest.char_indices().find(|(_, c)| *c == wanted) else { break };
        skipped += found + c.len_utf8();
    }
    let rest = raw.get(skipped..).unwrap_or_default();
    // A word begins behind the blanks before it; an end is where the last character was.
    let next = value.get(at..).unwrap_or_default();
    if next.starts_with(|c: char| !c.is_whitespace()) {
        skipped += rest.len() - rest.trim_start().len();
    }
    skipped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_behind_folded_lines_and_quotes() {
        for (raw, value, at, expected) in [
            ("a and b", "a and b", 6, 6),
            (">\n    a\n    and b\n", "a and b\n", 6, 16),
            ("'a and b'", "a and b", 6, 7),
            ("a\n      and b", "a and b", 2, 8),
            ("\"a = \\\"x\\\" b\"", "a = \"x\" b", 8, 11),
        ] {
            assert_eq!(offset(raw, value, at), expected, "{raw:?}");
        }
    }
}
