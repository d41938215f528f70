//! Texts within rule files, and where in the files their words stand.

use std::sync::Arc;

use super::condition::Place;
use crate::diagnose::{Diagnostic, SourceText, Span};

/// A text as it is used: put together of what is written at one or several places.
#[derive(Clone, Debug, Default)]
pub(super) struct Written {
    pub(super) text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
struct Part {
    /// Where in the text it begins.
    start: usize,
    source: Arc<SourceText>,
    span: Span,
}

impl Written {
    pub(super) fn new(text: &str, source: &Arc<SourceText>, span: Span) -> Self {
        Self { text: text.to_owned(), parts: vec![Part { start: 0, source: Arc::clone(source), span }] }
    }

    /// Adds more behind a blank.
    pub(super) fn append(&mut self, more: Self) {
        if !self.text.is_empty() {
            self.text.push(' ');
        }
        let start = self.text.len();
        self.text.push_str(&more.text);
        self.parts.extend(more.parts.into_iter().map(|part| Part { start: start + part.start, ..part }));
    }

    /// An error about a place in the text.
    pub(super) fn error(&self, (at, len): Place, message: impl Into<String>) -> Diagnostic {
        let part = self.parts.iter().rfind(|part| part.start <= at).or(self.parts.first());
        let Some(part) = part else {
            return Diagnostic::error(
                &SourceText::new(std::path::Path::new(""), String::new()),
                Span::default(),
                message,
            );
        };
        let raw = part.source.text.get(part.span.start..).unwrap_or_default();
        let text = &self.text[part.start..];
        let start = part.span.start + offset(raw, text, at - part.start);
        let end = part.span.start + offset(raw, text, (at - part.start + len).min(text.len()));
        Diagnostic::error(&part.source, Span { start, end: end.max(start) }, message)
    }
}

/// Where in a scalar as it is written (`raw`) the byte `at` of its value stands. YAML folds blanks and lines, so the
/// characters between them are counted.
fn offset(raw: &str, value: &str, at: usize) -> usize {
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
