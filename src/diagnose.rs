//! Mistakes in what users wrote, at their places.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use annotate_snippets::{AnnotationKind, Group, Level as Title, Renderer, Snippet};

/// A text that users wrote, with the name they know it by.
#[derive(Debug, PartialEq, Eq)]
pub struct SourceText {
    /// Path, or a name in angle brackets for what is no file.
    pub name: PathBuf,
    /// The whole text.
    pub text: String,
}

impl SourceText {
    /// A text and its name.
    #[must_use]
    pub fn new(name: &Path, text: String) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), text })
    }
}

/// A range of bytes in a [`SourceText`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// It is not loaded.
    Error,
    /// It is loaded, but probably not what was meant.
    Warning,
}

/// One finding: what is wrong, where, and what to do.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// The text it is about.
    pub source: Arc<SourceText>,
    /// The place.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error at a place.
    pub fn error(source: &Arc<SourceText>, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, source: Arc::clone(source), span, message: message.into(), help: None }
    }

    /// A warning at a place.
    pub fn warning(source: &Arc<SourceText>, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(source, span, message) }
    }

    /// Adds what to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Line and column, both from 1, the column in characters.
    #[must_use]
    pub fn line_column(&self) -> (usize, usize) {
        let start = self.span.start.min(self.source.text.len());
        let before = &self.source.text[..start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// Draws the finding with the line it is about, for a terminal.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let renderer = if color { Renderer::styled() } else { Renderer::plain() };
        let len = self.source.text.len();
        let range = self.span.start.min(len)..self.span.end.clamp(self.span.start.min(len), len);
        let level = match self.severity {
            Severity::Error => Title::ERROR,
            Severity::Warning => Title::WARNING,
        };
        let name = self.source.name.display().to_string();
        // A finding about a file that has no text, such as one that cannot be read: there is no line to draw.
        if len == 0 {
            return renderer.render(&[Group::with_title(level.primary_title(format!("{name}: {}", self.message)))]);
        }
        let snippet = Snippet::source(&self.source.text).path(&name).annotation(AnnotationKind::Primary.span(range));
        let mut report: Group<'_> = level.primary_title(&self.message).element(snippet);
        if let Some(help) = &self.help {
            report = report.element(Title::HELP.message(help));
        }
        renderer.render(&[report])
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.line_column();
        write!(f, "{}:{line}:{column}: {}", self.source.name.display(), self.message)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// `a`, `b` and `c` closest to `wanted`, for "did you mean".
#[must_use]
pub fn closest<'a>(wanted: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = wanted.chars().count() / 3 + 1;
    known
        .into_iter()
        .map(|name| (distance(wanted, name), name))
        .filter(|(d, _)| *d <= limit)
        .min()
        .map(|(_, name)| name)
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let substitution = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substitution.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_names_file_line_and_column() {
        let source = SourceText::new(Path::new("a.yml"), "ä: 1\nbé: 2\n".to_owned());
        let at = source.text.find('2').expect("there");
        let finding = Diagnostic::error(&source, Span { start: at, end: at + 1 }, "too many").help("use 1");
        assert_eq!(finding.to_string(), "a.yml:2:5: too many (use 1)");
        let drawn = finding.render(false);
        assert!(drawn.contains("a.yml:2:5") && drawn.contains("bé: 2") && drawn.contains("use 1"), "{drawn}");
    }

    #[test]
    fn a_finding_about_a_file_without_text_names_it() {
        let source = SourceText::new(Path::new("a.yml"), String::new());
        let finding = Diagnostic::error(&source, Span::default(), "cannot read it");
        assert_eq!(finding.render(false), "error: a.yml: cannot read it");
    }

    #[test]
    fn the_closest_name_is_found_and_far_ones_are_not() {
        assert_eq!(closest("conatins", ["contains", "cidr"]), Some("contains"));
        assert_eq!(closest("xyz", ["contains", "cidr"]), None);
    }
}
