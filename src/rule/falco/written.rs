//! Texts within rule files, and where in the files their words stand.

use std::sync::Arc;

use super::condition::Place;
use crate::diagnose::{Diagnostic, SourceText, Span};
use crate::rule::reader::offset;

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
