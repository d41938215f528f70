//! Untrusted text for people: user names, user agents, object names and URIs are chosen by whoever is being watched.

use std::fmt::{Display, Write as _};

use percent_encoding::percent_decode_str;
use serde_json::Value;

/// Shows what would not be seen, or would change how its neighbours are seen: control characters, bidirectional
/// overrides and invisible characters, as `\n` or `\u{202e}`.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push_visible(&mut out, c);
    }
    out
}

/// A value of JSON for people: a text as it is, anything else as it is written.
#[must_use]
pub fn of_value(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// So many of something, in words: `1 rule`, `2 rules`.
#[must_use]
pub fn counted<N: Copy + Display + PartialEq + From<u8>>(number: N, what: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// A URI's query as the API server understands it: without percent-encoding, and with spaces for plus signs.
#[must_use]
pub fn query_decoded(text: &str) -> String {
    let mut out = String::new();
    query_decode_into(text, &mut out);
    out
}

/// Writes what [`query_decoded`] gives into `out`, whose memory is used again.
pub fn query_decode_into(text: &str, out: &mut String) {
    let mut bytes = std::mem::take(out).into_bytes();
    bytes.clear();
    for (number, part) in text.split('+').enumerate() {
        if number > 0 {
            bytes.push(b' ');
        }
        bytes.extend(percent_decode_str(part));
    }
    *out = String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
}

fn push_visible(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        _ if is_hidden(c) => {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
        }
        _ => out.push(c),
    }
}

/// JSON whose texts hide nothing from whoever looks at it in a terminal: hidden characters become JSON's own escapes, so
/// that the values stay what they are.
#[must_use]
pub fn visible_json(json: String) -> String {
    if json.is_ascii() && !json.contains('\u{7f}') {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_hidden(c) && c != '\n' {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that show nothing themselves, or reorder or join what is around them.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

/// What a character counts towards the limits of HTTP APIs written in JavaScript, Java or Go: UTF-16 units are the
/// most that any of them counts for text within the basic plane, and emoji count twice.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(char::len_utf16).sum()
}

/// `text` with hidden characters shown, each character passed through `escape`, and the middle left out so that the
/// result is at most `max` wide. Cutting happens between rendered characters, never inside `&amp;` or `\u{202e}`.
#[must_use]
pub fn fit(text: &str, max: usize, escape: impl Fn(char, &str) -> Option<&'static str>) -> String {
    // No more than `max` characters from either end can be shown, so no more are looked at.
    let long = text.len() > 8 * max + 8;
    let head_len = text.floor_char_boundary(if long { 4 * max + 4 } else { text.len() });
    let tail_start = if long { text.ceil_char_boundary(text.len() - (4 * max + 4)) } else { text.len() };
    let head = pieces(&text[..head_len], &escape);
    let tail = pieces(&text[tail_start..], &escape);
    let total: usize = head.iter().chain(&tail).map(|piece| width(piece)).sum();
    if !long && total <= max {
        return head.concat();
    }
    let from_end = if long { &tail } else { &head };
    let budget = max.saturating_sub(1);
    let front = take(head.iter(), budget - budget / 3);
    let back = take(from_end.iter().rev(), budget / 3);
    let mut out: String = head[..front].concat();
    out.push('…');
    out.extend(from_end[from_end.len() - back..].iter().map(String::as_str));
    out
}

/// How many of the pieces are together at most `budget` wide.
fn take<'a>(pieces: impl Iterator<Item = &'a String>, budget: usize) -> usize {
    let mut used = 0;
    pieces
        .take_while(|piece| {
            used += width(piece);
            used <= budget
        })
        .count()
}

/// The text, one rendered character each.
fn pieces(text: &str, escape: impl Fn(char, &str) -> Option<&'static str>) -> Vec<String> {
    text.char_indices()
        .map(|(at, c)| {
            if let Some(escaped) = escape(c, &text[at + c.len_utf8()..]) {
                return escaped.to_owned();
            }
            let mut piece = String::new();
            push_visible(&mut piece, c);
            piece
        })
        .collect()
}

/// `text` with hidden characters shown, at most `max` wide.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    fit(text, max, |_, _| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_characters_are_shown() {
        assert_eq!(visible("a\u{202e}b\nc\u{0}\u{200b}"), "a\\u{202e}b\\nc\\u{0}\\u{200b}");
        assert_eq!(visible("Ünïcödé 東京 🙂"), "Ünïcödé 東京 🙂");
    }

    #[test]
    fn json_shows_hidden_characters_and_means_the_same() {
        let value = serde_json::json!({"a\u{202e}": "x\u{200b}\u{e0001}\n\u{7f}é🙂"});
        let json = visible_json(value.to_string());
        assert_eq!(json, r#"{"a\u202e":"x\u200b\udb40\udc01\n\u007fé🙂"}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).ok(), Some(value));
    }

    #[test]
    fn long_text_loses_its_middle() {
        let long: String = ('a'..='z').cycle().take(10_000).collect();
        let short = shorten(&long, 20);
        assert_eq!(width(&short), 20);
        assert!(short.starts_with("abcdef") && short.contains('…') && short.ends_with(&long[9_995..]), "{short}");
        assert_eq!(shorten("short", 20), "short");
        assert_eq!(shorten("exactly-20-chars-xxx", 20), "exactly-20-chars-xxx");
        for max in 0..40 {
            let text = "🙂\u{202e}é&".repeat(30);
            assert!(width(&shorten(&text, max)) <= max.max(1), "{max}");
        }
    }

    #[test]
    fn escapes_are_never_cut() {
        let escape = |c: char, _: &str| (c == '&').then_some("&amp;");
        for max in 1..60 {
            let cut = fit(&"&".repeat(40), max, escape);
            assert!(width(&cut) <= max);
            assert_eq!(cut.replace("&amp;", "").replace('…', ""), "", "{cut}");
        }
    }
}
