//! YAML as a tree in which every node knows its place, so that all mistakes can be reported where they are.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use saphyr_parser::{Event, Parser, ScalarStyle};

use crate::diagnose::{Diagnostic, SourceText, Span};

/// Nodes that one text may hold once its aliases are expanded: bounds "billion laughs".
const NODES_MAX: usize = 1_000_000;

/// The key that takes over the entries of other mappings (<https://yaml.org/type/merge.html>).
const MERGE: &str = "<<";

/// Bytes of text that count as one more node: an alias may stand for a long text, again and again.
const NODE_BYTES: usize = 256;

/// Collections within each other: whoever walks a tree does so on the stack.
const DEPTH_MAX: usize = 100;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Where it is written.
    pub span: Span,
}

/// A YAML value of the core schema.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A number with a fraction or exponent.
    Float(f64),
    /// Everything else, and whatever is quoted.
    String(String),
    /// A list.
    Seq(Vec<Node>),
    /// A mapping, in the order written; keys are scalars, as text.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its text.
    pub text: String,
    /// Where it is written.
    pub span: Span,
}

impl Node {
    /// What kind of value it is, for messages.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Null => "nothing",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(_) => "a number",
            Value::String(_) => "text",
            Value::Seq(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    /// The text of a string node.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// The entries of a mapping.
    #[must_use]
    pub fn as_map(&self) -> Option<&[(Key, Self)]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// The value under a mapping's key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        self.as_map()?.iter().find(|(k, _)| k.text == key).map(|(_, node)| node)
    }

    /// Writes bytes that equal values have in common, whatever their places and the order of their keys.
    pub fn canonical(&self, out: &mut Vec<u8>) {
        fn sized(out: &mut Vec<u8>, kind: u8, len: usize) {
            out.push(kind);
            out.extend_from_slice(&len.to_le_bytes());
        }
        match &self.value {
            Value::Null => out.push(b'n'),
            Value::Bool(bit) => out.push(if *bit { b't' } else { b'f' }),
            Value::Int(number) => {
                out.push(b'i');
                out.extend_from_slice(&number.to_le_bytes());
            }
            Value::Float(number) => {
                out.push(b'd');
                out.extend_from_slice(&number.to_le_bytes());
            }
            Value::String(text) => {
                sized(out, b's', text.len());
                out.extend_from_slice(text.as_bytes());
            }
            Value::Seq(items) => {
                sized(out, b'l', items.len());
                items.iter().for_each(|item| item.canonical(out));
            }
            Value::Map(entries) => {
                sized(out, b'm', entries.len());
                let mut entries: Vec<_> = entries.iter().map(|(key, node)| (key.text.as_str(), node)).collect();
                entries.sort_unstable_by_key(|(key, _)| *key);
                for (key, node) in entries {
                    sized(out, b'k', key.len());
                    out.extend_from_slice(key.as_bytes());
                    node.canonical(out);
                }
            }
        }
    }

    /// The same value as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(n) => (*n).into(),
            Value::Float(n) => (*n).into(),
            Value::String(s) => s.as_str().into(),
            Value::Seq(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(entries) => {
                serde_json::Value::Object(entries.iter().map(|(k, v)| (k.text.clone(), v.to_json())).collect())
            }
        }
    }
}

/// Reads all documents of a text. On a syntax error, the documents before it are returned with the finding.
pub fn parse(source: &Arc<SourceText>) -> (Vec<Node>, Vec<Diagnostic>) {
    let offsets = CharOffsets::new(&source.text);
    let mut builder = Builder {
        source,
        offsets,
        anchors: HashMap::new(),
        stack: Vec::new(),
        documents: Vec::new(),
        findings: Vec::new(),
        nodes: 0,
    };
    for event in Parser::new_from_str(&source.text) {
        match event {
            Ok((event, span)) => {
                let span = builder.offsets.span(span);
                if !builder.event(event, span) {
                    break;
                }
            }
            Err(error) => {
                let at = builder.offsets.byte(error.marker().index());
                builder.findings.push(Diagnostic::error(
                    source,
                    Span { start: at, end: at },
                    format!("not valid YAML: {}", error.info()),
                ));
                break;
            }
        }
    }
    (builder.documents, builder.findings)
}

/// The document of a text that holds byte `at`, as it is written, comments included. Looks at nothing but that document.
#[must_use]
pub fn document_text(text: &str, at: usize) -> &str {
    // Such a line ends every document, wherever it stands: nothing in YAML may hold it.
    let divides = |line: &str| line.trim_end() == "---" || line.starts_with("--- ");
    let (before, after) = text.split_at(at.min(text.len()));
    let mut from = before.rfind('\n').map_or(0, |end| end + 1);
    while from > 0 {
        let start = text[..from - 1].rfind('\n').map_or(0, |end| end + 1);
        if divides(&text[start..from]) {
            break;
        }
        from = start;
    }
    // The line in which it begins may be the one that divides.
    let mut to = before.len() + after.find('\n').map_or(after.len(), |end| end + 1);
    while to < text.len() {
        let line = text[to..].split_inclusive('\n').next().unwrap_or_default();
        if divides(line) {
            break;
        }
        to += line.len();
    }
    let first = text[from..].split_inclusive('\n').next().unwrap_or_default();
    let from = if divides(first) { from + first.len() } else { from };
    text[from.min(to)..to].trim_start_matches('\n')
}

/// Turns the parser's character indices into byte offsets.
struct CharOffsets {
    /// `None` for ASCII texts, where they are the same.
    bytes: Option<Vec<usize>>,
    len: usize,
}

impl CharOffsets {
    fn new(text: &str) -> Self {
        let bytes = (!text.is_ascii()).then(|| text.char_indices().map(|(at, _)| at).collect());
        Self { bytes, len: text.len() }
    }

    fn byte(&self, index: usize) -> usize {
        match &self.bytes {
            None => index.min(self.len),
            Some(bytes) => bytes.get(index).copied().unwrap_or(self.len),
        }
    }

    fn span(&self, span: saphyr_parser::Span) -> Span {
        Span { start: self.byte(span.start.index()), end: self.byte(span.end.index()) }
    }
}

/// A collection under construction.
enum Open {
    Seq {
        items: Vec<Node>,
        span: Span,
        anchor: usize,
    },
    Map {
        entries: Vec<(Key, Node)>,
        known: HashSet<String, RandomState>,
        key: Option<Key>,
        merged: Vec<Node>,
        span: Span,
        anchor: usize,
    },
}

struct Builder<'a> {
    source: &'a Arc<SourceText>,
    offsets: CharOffsets,
    anchors: HashMap<usize, Node>,
    stack: Vec<Open>,
    documents: Vec<Node>,
    findings: Vec<Diagnostic>,
    nodes: usize,
}

impl Builder<'_> {
    /// Takes one event; `false` when the text is refused.
    fn event(&mut self, event: Event<'_>, span: Span) -> bool {
        match event {
            Event::Scalar(text, style, anchor, _) => {
                let node = Node { value: scalar(&text, style), span };
                self.finish(node, anchor, Some(&text))
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if self.stack.len() >= DEPTH_MAX => {
                self.refuse(span, "nested too deep")
            }
            Event::SequenceStart(anchor, _) => {
                self.stack.push(Open::Seq { items: Vec::new(), span, anchor });
                true
            }
            Event::MappingStart(anchor, _) => {
                self.stack.push(Open::Map {
                    entries: Vec::new(),
                    known: HashSet::default(),
                    key: None,
                    merged: Vec::new(),
                    span,
                    anchor,
                });
                true
            }
            Event::SequenceEnd | Event::MappingEnd => match self.stack.pop() {
                Some(Open::Seq { items, span: start, anchor }) => self.finish(
                    Node {
                        value: Value::Seq(items),
                        span: Span { start: start.start, end: span.start.max(start.start) },
                    },
                    anchor,
                    None,
                ),
                Some(Open::Map { mut entries, mut known, merged, span: start, anchor, .. }) => {
                    for node in merged {
                        if !merge(&mut entries, &mut known, &node) {
                            return self.refuse(node.span, "`<<` takes a mapping, or a list of mappings");
                        }
                    }
                    let span = Span { start: start.start, end: span.start.max(start.start) };
                    self.finish(Node { value: Value::Map(entries), span }, anchor, None)
                }
                None => true,
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.nodes += size(&node);
                    let text = node.as_str().map(str::to_owned);
                    self.finish(Node { span, ..node }, 0, text.as_deref())
                }
                None => self.refuse(span, "this alias names an anchor that is not complete yet"),
            },
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {
                true
            }
        }
    }

    fn refuse(&mut self, span: Span, message: &str) -> bool {
        self.findings.push(Diagnostic::error(self.source, span, message));
        false
    }

    /// Puts a finished node into its parent. `text` is a scalar's text, which alone may be a key.
    fn finish(&mut self, node: Node, anchor: usize, text: Option<&str>) -> bool {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return self.refuse(node.span, "too many values once aliases are expanded");
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut() {
            None => self.documents.push(node),
            Some(Open::Seq { items, .. }) => items.push(node),
            Some(Open::Map { entries, known, key, merged, .. }) => match key.take() {
                // In quotes it is a key like others.
                Some(key) if key.text == MERGE && written(self.source, key.span).starts_with(MERGE) => {
                    merged.push(node);
                }
                Some(key) => entries.push((key, node)),
                None => match text {
                    Some(text) => {
                        if !known.insert(text.to_owned()) {
                            let message = format!("the key `{text}` is here twice");
                            self.findings.push(Diagnostic::error(self.source, node.span, message));
                        }
                        *key = Some(Key { text: text.to_owned(), span: node.span });
                    }
                    None => return self.refuse(node.span, "a mapping's key must be plain text"),
                },
            },
        }
        true
    }
}

fn written(source: &SourceText, span: Span) -> &str {
    source.text.get(span.start..span.end).unwrap_or_default()
}

/// Takes over those entries of a mapping, or of several, whose keys are not there yet; false if it is none.
fn merge(entries: &mut Vec<(Key, Node)>, known: &mut HashSet<String, RandomState>, node: &Node) -> bool {
    match &node.value {
        Value::Map(others) => {
            for (key, value) in others {
                if known.insert(key.text.clone()) {
                    entries.push((key.clone(), value.clone()));
                }
            }
            true
        }
        Value::Seq(items) => items.iter().all(|item| item.as_map().is_some() && merge(entries, known, item)),
        _ => false,
    }
}

fn size(node: &Node) -> usize {
    match &node.value {
        Value::Seq(items) => 1 + items.iter().map(size).sum::<usize>(),
        Value::Map(entries) => 1 + entries.iter().map(|(_, v)| size(v)).sum::<usize>(),
        Value::String(text) => 1 + text.len() / NODE_BYTES,
        Value::Null | Value::Bool(_) | Value::Int(_) | Value::Float(_) => 1,
    }
}

/// Resolves a scalar by YAML 1.2's core schema; quoted and block scalars are text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::String(text.to_owned());
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "true" | "True" | "TRUE" => return Value::Bool(true),
        "false" | "False" | "FALSE" => return Value::Bool(false),
        _ => {}
    }
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits.starts_with(|c: char| c.is_ascii_digit()) || digits.starts_with('.') {
        if let Some(hex) = text.strip_prefix("0x").and_then(|hex| i64::from_str_radix(hex, 16).ok()) {
            return Value::Int(hex);
        }
        if let Some(octal) = text.strip_prefix("0o").and_then(|octal| i64::from_str_radix(octal, 8).ok()) {
            return Value::Int(octal);
        }
        if let Ok(int) = text.parse() {
            return Value::Int(int);
        }
        if digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
            && let Ok(float) = text.parse()
        {
            return Value::Float(float);
        }
    }
    Value::String(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_document_is_what_stands_between_its_dividers() {
        let text = "# head\na: 1\n---\n# of b\nb: 2\n\n---\nc: 3";
        for (word, expected) in [("a:", "# head\na: 1\n"), ("b:", "# of b\nb: 2\n\n"), ("c:", "c: 3")] {
            assert_eq!(document_text(text, text.find(word).expect("there")), expected, "{word}");
        }
        assert_eq!((document_text("a: 1", 0), document_text("---\na: 1\n", 4)), ("a: 1", "a: 1\n"));
        assert_eq!(document_text("", 0), "");
    }

    fn read(text: &str) -> (Vec<Node>, Vec<Diagnostic>) {
        parse(&SourceText::new(Path::new("t.yml"), text.to_owned()))
    }

    #[test]
    fn scalars_follow_the_core_schema() {
        let (documents, findings) = read("a: 1\nb: '1'\nc: true\nd: ~\ne: 1.5\nf: 0x10\ng: 1.2.3\nh: no\n");
        assert!(findings.is_empty());
        assert_eq!(
            documents[0].to_json(),
            serde_json::json!({"a": 1, "b": "1", "c": true, "d": null, "e": 1.5, "f": 16, "g": "1.2.3", "h": "no"})
        );
    }

    #[test]
    fn documents_anchors_and_places() {
        let (documents, findings) = read("é: &x [1, 2]\nb: *x\n---\nc: 3\n");
        assert!(findings.is_empty());
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].to_json(), serde_json::json!({"é": [1, 2], "b": [1, 2]}));
        let c = documents[1].get("c").expect("there");
        assert_eq!((c.span.start, c.span.end), (27, 28));
    }

    #[test]
    fn merge_keys_take_over_what_is_not_there() {
        for (text, expected) in [
            ("a: &a {x: 1, y: 2}\nb: {y: 3, <<: *a}\n", r#"{"a":{"x":1,"y":2},"b":{"x":1,"y":3}}"#),
            ("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3, z: 4}\n", r#"{"a":{"x":1,"y":2},"b":{"x":1,"y":3,"z":4}}"#),
            ("- &a {x: 1}\n- &b {x: 2, y: 2}\n- <<: [*a, *b]\n", r#"[{"x":1},{"x":2,"y":2},{"x":1,"y":2}]"#),
            ("'<<': 1\n", r#"{"<<":1}"#),
            ("a: <<\n", r#"{"a":"<<"}"#),
        ] {
            let (documents, findings) = read(text);
            assert!(findings.is_empty(), "{text}: {findings:?}");
            assert_eq!(documents[0].to_json().to_string(), expected, "{text}");
        }
        for (text, expected) in [
            ("b:\n  <<: 1\n", "t.yml:2:7: `<<` takes a mapping, or a list of mappings"),
            ("a: &a [[{x: 1}]]\nb: {<<: *a}\n", "t.yml:2:9: `<<` takes a mapping, or a list of mappings"),
            ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "t.yml:4:3: the key `<<` is here twice"),
            ("a: *b\n", "t.yml:1:4: not valid YAML: while parsing node, found unknown anchor"),
            ("a: &a {x: *a}\n", "t.yml:1:11: this alias names an anchor that is not complete yet"),
        ] {
            assert_eq!(read(text).1[0].to_string(), expected, "{text}");
        }
    }

    #[test]
    fn the_text_of_a_document_is_found() {
        let text = "# one\na: 1\n---\n# two\nb: |\n  --- x\n---\nc: 3\n";
        let at = |what: &str| document_text(text, text.find(what).expect("there"));
        assert_eq!((at("a:"), at("b:"), at("c:")), ("# one\na: 1\n", "# two\nb: |\n  --- x\n", "c: 3\n"));
    }

    #[test]
    fn double_keys_and_broken_syntax_are_findings() {
        let (_, findings) = read("a: 1\na: 2\n");
        assert_eq!(findings[0].to_string(), "t.yml:2:1: the key `a` is here twice");
        let (documents, findings) = read("a: 1\n---\nb: [1\n");
        assert_eq!((documents.len(), findings.len()), (1, 1));
        assert!(findings[0].to_string().starts_with("t.yml:"), "{}", findings[0]);
    }

    #[test]
    fn aliases_cannot_blow_up() {
        let mut text = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for (i, c) in ('b'..='i').enumerate() {
            let before = char::from(b'a' + u8::try_from(i).expect("small"));
            text.push_str(&format!("{c}: &{c} [{}]\n", vec![format!("*{before}"); 10].join(",")));
        }
        let (_, findings) = read(&text);
        assert!(findings[0].message.contains("too many values"));
        let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 100_000].join(","));
        let (_, findings) = read(&long);
        assert!(findings[0].message.contains("too many values"));
    }

    #[test]
    fn depth_costs_no_stack() {
        let flow = "[".repeat(100_000);
        let block = format!("{}x", "- ".repeat(100_000));
        let keys = format!("{}x", "? ".repeat(100_000));
        for text in [flow, block, keys] {
            let (documents, findings) = read(&text);
            assert!(documents.is_empty() && findings.len() == 1, "{findings:?}");
        }
        let (documents, findings) = read(&format!("{}x", "- ".repeat(DEPTH_MAX)));
        assert!(documents.len() == 1 && findings.is_empty());
    }
}
