//! A proposal as the YAML of a Sigma filter.

use std::fmt::Write as _;

use super::{Known, Proposal, Values};
use crate::text::counted;

/// The document, ready to be put into a folder of `detections.paths`.
#[must_use]
pub fn document(proposal: &Proposal) -> String {
    let mut text = String::new();
    for note in &proposal.notes {
        let _ = writeln!(text, "# {}", one_line(note));
    }
    let _ = writeln!(text, "title: {}", quoted(&format!("Known and harmless: {}", proposal.title)));
    let _ = writeln!(text, "logsource: {{product: kubernetes, service: audit}}");
    let _ = writeln!(text, "filter:\n  rules:");
    for rule in &proposal.narrows {
        let _ = writeln!(text, "    - {}", quoted(rule));
    }
    text.push_str(&selections(&proposal.known));
    text.push_str("  condition: not 1 of known_*\n");
    text
}

/// The same selections as a rule that is true of what is left out.
pub(super) fn inverse(proposal: &Proposal) -> String {
    let selections = selections(&proposal.known);
    format!(
        "title: known\nid: known\nlogsource: {{product: kubernetes, service: audit}}\ndetection:\n{selections}  condition: 1 of known_*\n"
    )
}

fn selections(all: &[Known]) -> String {
    let mut text = String::new();
    for (at, known) in all.iter().enumerate() {
        let _ = writeln!(text, "  known_{}:   # {}", at + 1, counted(known.alerts, "alert"));
        for (field, values) in &known.fields {
            let _ = match values {
                Values::Like(regex) => writeln!(text, "    {field}|re: {}", quoted(regex)),
                Values::These(values) => match values.as_slice() {
                    [one] => writeln!(text, "    {field}|cased: {}", quoted(&literal(one))),
                    several => {
                        let several: Vec<String> = several.iter().map(|value| quoted(&literal(value))).collect();
                        writeln!(text, "    {field}|cased: [{}]", several.join(", "))
                    }
                },
            };
        }
    }
    text
}

/// A value as Sigma's pattern for it alone: stars, question marks and backslashes are themselves.
fn literal(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        if matches!(c, '*' | '?' | '\\') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

/// A text in YAML's double quotes: whoever chose a name has no say in what the file means.
fn quoted(text: &str) -> String {
    // JSON's strings are YAML's, but for characters that YAML wants escaped and JSON does not.
    let json = serde_json::to_string(text).unwrap_or_default();
    let mut quoted = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted
}

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() || matches!(c, '\u{85}' | '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .collect()
}
