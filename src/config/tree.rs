//! The tree of one configuration, made of the file and of variables, and the findings about it.

use std::path::Path;
use std::sync::Arc;

use super::mask;
use crate::diagnose::{Diagnostic, SourceText, Span};
use crate::yaml::{self, Key, Node, Value};

/// One step from a node to a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

/// A tree whose nodes may come from several texts. The texts are laid end to end, so that a node's span alone
/// tells which one it is from.
pub(super) struct Tree {
    /// The file's root and, by [`Tree::adopt`], what variables added.
    pub(super) root: Node,
    /// Each text with the offset at which it starts. Secrets are masked.
    texts: Vec<(usize, Arc<SourceText>)>,
    /// One past the last text.
    end: usize,
    findings: Vec<Diagnostic>,
}

impl Tree {
    /// Reads the file. A text that is no YAML gives an empty tree and a finding.
    pub(super) fn parse(written: &Arc<SourceText>) -> Self {
        let (documents, findings) = yaml::parse(written);
        let count = documents.len();
        let mut documents = documents.into_iter();
        let root = documents.next().filter(|root| !matches!(root.value, Value::Null)).unwrap_or_else(empty);
        let shown = mask::text(written, &root);
        let findings: Vec<_> =
            findings.into_iter().map(|finding| Diagnostic { source: Arc::clone(&shown), ..finding }).collect();
        let end = written.text.len() + 1;
        let mut tree = Self { root, texts: vec![(0, shown)], end, findings };
        if let Some(second) = documents.next().filter(|_| count > 1) {
            tree.report(second.span, "a configuration is one document; this is a second one", None);
        }
        if tree.root.as_map().is_none() {
            let message = format!("a configuration is a mapping; this is {}", tree.root.kind());
            tree.report(tree.root.span, message, None);
            tree.root = empty();
        }
        tree
    }

    /// Adds the text of a variable and reads it as YAML; its nodes get spans of their own. `secret` text is taken
    /// as it is and never shown.
    pub(super) fn adopt(&mut self, variable: &str, text: &str, secret: bool) -> Option<Node> {
        let name = format!("<environment {variable}>");
        let base = self.end;
        self.end += text.len() + 1;
        if secret {
            let shown = SourceText::new(Path::new(&name), "*".repeat(text.len()));
            self.texts.push((base, shown));
            return Some(Node {
                value: Value::String(text.to_owned()),
                span: Span { start: base, end: base + text.len() },
            });
        }
        let written = SourceText::new(Path::new(&name), text.to_owned());
        let (documents, findings) = yaml::parse(&written);
        let mut node = documents.into_iter().next().unwrap_or_else(null);
        let shown = mask::text(&written, &node);
        let failed = !findings.is_empty();
        self.findings.extend(findings.into_iter().map(|found| Diagnostic { source: Arc::clone(&shown), ..found }));
        self.texts.push((base, shown));
        move_spans(&mut node, base);
        (!failed).then_some(node)
    }

    /// Records a mistake.
    pub(super) fn report(&mut self, span: Span, message: impl Into<String>, help: Option<String>) {
        let at = self.texts.partition_point(|(base, _)| *base <= span.start).saturating_sub(1);
        let (base, source) = &self.texts[at];
        let span = Span { start: span.start - base, end: span.end.saturating_sub(*base) };
        let mut finding = Diagnostic::error(source, span, message);
        finding.help = help;
        self.findings.push(finding);
    }

    /// Whether a mistake was found within a node.
    pub(super) fn is_wrong(&self, node: &Node) -> bool {
        let at = self.texts.partition_point(|(base, _)| *base <= node.span.start).saturating_sub(1);
        let (base, source) = &self.texts[at];
        let within = |span: Span| node.span.start <= span.start + base && span.end + base <= node.span.end;
        self.findings.iter().any(|finding| Arc::ptr_eq(&finding.source, source) && within(finding.span))
    }

    /// Hides what is written at `span` from all findings: a value under a key that is not known may be a secret
    /// under a mistyped name.
    pub(super) fn hide(&mut self, span: Span) {
        let at = self.texts.partition_point(|(base, _)| *base <= span.start).saturating_sub(1);
        let (base, source) = &mut self.texts[at];
        let hidden = mask::range(source, span.start - *base, span.end.saturating_sub(*base));
        for finding in &mut self.findings {
            if Arc::ptr_eq(&finding.source, source) {
                finding.source = Arc::clone(&hidden);
            }
        }
        *source = hidden;
    }

    /// All findings, in the order of their places.
    pub(super) fn into_findings(self) -> Vec<Diagnostic> {
        let mut findings = self.findings;
        findings.sort_by(|a, b| (&a.source.name, a.span.start).cmp(&(&b.source.name, b.span.start)));
        findings
    }
}

/// A mapping without entries, written nowhere.
pub(super) fn empty() -> Node {
    Node { value: Value::Map(Vec::new()), span: Span::default() }
}

fn null() -> Node {
    Node { value: Value::Null, span: Span::default() }
}

fn move_spans(node: &mut Node, by: usize) {
    let shift = |span: &mut Span| {
        span.start += by;
        span.end += by;
    };
    shift(&mut node.span);
    match &mut node.value {
        Value::Seq(items) => items.iter_mut().for_each(|item| move_spans(item, by)),
        Value::Map(entries) => entries.iter_mut().for_each(|(key, value)| {
            shift(&mut key.span);
            move_spans(value, by);
        }),
        _ => {}
    }
}

/// The node at a path, for changing.
pub(super) fn at_mut<'a>(root: &'a mut Node, path: &[Step]) -> Option<&'a mut Node> {
    path.iter().try_fold(root, |node, step| match (&mut node.value, step) {
        (Value::Map(entries), Step::Key(key)) => entries.iter_mut().find(|(k, _)| k.text == *key).map(|(_, v)| v),
        (Value::Seq(items), Step::Index(index)) => items.get_mut(*index),
        _ => None,
    })
}

/// Takes an entry out of a mapping.
pub(super) fn take(node: &mut Node, key: &str) -> Option<(Key, Node)> {
    let Value::Map(entries) = &mut node.value else { return None };
    let at = entries.iter().position(|(k, _)| k.text == key)?;
    Some(entries.remove(at))
}

/// Calls `visit` for every entry of every mapping below `node`, with the mapping it is in.
pub(super) fn each_entry<'a>(node: &'a Node, visit: &mut dyn FnMut(&'a Node, &'a Key, &'a Node)) {
    match &node.value {
        Value::Seq(items) => items.iter().for_each(|item| each_entry(item, visit)),
        Value::Map(entries) => entries.iter().for_each(|(key, value)| {
            visit(node, key, value);
            each_entry(value, visit);
        }),
        _ => {}
    }
}
