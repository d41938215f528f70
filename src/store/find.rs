//! Free text among an alert's values, as a function of SQL: a walk through every alert's JSON within SQLite would take
//! seconds where this takes a fraction of one.

use std::error::Error;

use memchr::memchr2;
use memchr::memmem::Finder;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

/// What stands between the values of JSON, and in its numbers.
const BETWEEN: &[u8] = b"{}[]:,+-.0123456789";
/// What stands in JSON without quotes.
const WORDS: [&str; 3] = ["true", "false", "null"];
/// The longest way to write a letter is `\u001f`.
const ESCAPE_MAX: usize = 6;

/// What is looked for, in small letters.
struct Needle {
    /// As it stands in JSON, so that most alerts are passed over without looking at their values.
    written: Finder<'static>,
    /// As it is.
    plain: Finder<'static>,
    /// Whether it stands in JSON as it is, and only between quotes: where it stands then says whether that is a value.
    is_quoted: bool,
}

impl Needle {
    fn new(text: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let text = text.to_ascii_lowercase();
        let quoted = serde_json::to_string(&text)?;
        let written = &quoted[1..quoted.len() - 1];
        let finder = |text: &str| Finder::new(text.as_bytes()).into_owned();
        Ok(Self { written: finder(written), plain: finder(&text), is_quoted: written == text && is_quoted(&text) })
    }

    /// Whether it stands in any value of an object, but not in a key. `body` is JSON without spaces between its tokens.
    fn is_in(&self, body: &str) -> bool {
        let folded = body.to_ascii_lowercase();
        let folded = folded.as_bytes();
        let mut from = 0;
        while let Some(found) = self.written.find(&folded[from..]) {
            let (at, end) = (from + found, from + found + self.written.needle().len());
            if !self.is_quoted || folded[at.saturating_sub(ESCAPE_MAX)..at].contains(&b'\\') {
                return Values(body).any(|value| self.is_in_value(value));
            }
            let Some(quote) = end_quote(body, end) else { return false };
            if folded.get(quote + 1) != Some(&b':') {
                return true;
            }
            from = quote;
        }
        false
    }

    fn is_in_value(&self, value: &str) -> bool {
        let holds = |text: &str| self.plain.find(text.to_ascii_lowercase().as_bytes()).is_some();
        let Some(inside) = value.strip_prefix('"') else { return value != "null" && holds(value) };
        if !inside.contains('\\') {
            return holds(&inside[..inside.len().saturating_sub(1)]);
        }
        serde_json::from_str::<String>(value).is_ok_and(|text| holds(&text))
    }
}

/// Whether a text that JSON writes as it is can stand nowhere but between quotes.
fn is_quoted(text: &str) -> bool {
    let in_words = |byte: &u8| WORDS.iter().any(|word| word.as_bytes().contains(byte));
    let outside = |byte: &u8| BETWEEN.contains(byte) || in_words(byte);
    !text.as_bytes().iter().all(outside)
        || text.as_bytes().iter().all(in_words) && !WORDS.iter().any(|word| word.contains(text))
}

/// The texts, numbers and words of a JSON text that are no keys, as they are written.
struct Values<'j>(&'j str);

impl<'j> Iterator for Values<'j> {
    type Item = &'j str;

    fn next(&mut self) -> Option<&'j str> {
        loop {
            let start =
                self.0.bytes().position(|byte| !matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b' '))?;
            let rest = &self.0[start..];
            let end = if rest.starts_with('"') {
                end_quote(rest, 1)? + 1
            } else {
                rest.bytes().position(|byte| matches!(byte, b'}' | b']' | b',')).unwrap_or(rest.len())
            };
            let (value, after) = rest.split_at(end);
            self.0 = after;
            if !after.starts_with(':') {
                return Some(value);
            }
        }
    }
}

/// The quote that ends a text, from a place within it on.
fn end_quote(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr2(b'"', b'\\', text.as_bytes().get(at..)?)?;
        if text.as_bytes()[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Makes `holds(body, text)` known to a connection.
pub(super) fn install(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("holds", 2, flags, |arguments| {
        let needle = arguments.get_or_create_aux(1, |text| Needle::new(text.as_str()?))?;
        #[cfg(test)]
        tests::LOOKED_AT.set(tests::LOOKED_AT.get() + 1);
        Ok(needle.is_in(arguments.get_raw(0).as_str()?))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    thread_local! {
        /// Bodies that this thread has looked into.
        pub(in crate::store) static LOOKED_AT: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn values_are_searched_and_keys_are_not() {
        let body = r#"{"id":"a1","event":{"userAgent":"Mozilla \"X\"\n\\u","code":403,"flag":true,"none":null},"list":["Zo\u00eb","b:c,d"]}"#;
        let holds = |text: &str| Needle::new(text).expect("a needle").is_in(body);
        for text in ["a1", "A1", "mozilla \"x\"", "\"\n", "\n\\u", "403", "40", "true", "b:c,d", "a"] {
            assert!(holds(text), "{text}");
        }
        for text in ["userAgent", "event", "null", "a2", "\"event\"", "{", "x\\", "nu", "n\\\\u"] {
            assert!(!holds(text), "{text}");
        }
    }

    #[test]
    fn broken_json_ends_the_search() {
        for needle in ["b", "e"].map(|text| Needle::new(text).expect("a needle")) {
            for body in ["\"b", "\"b\\", "{\"b\":", "", "b\"", "\"e", "\"e\\"] {
                needle.is_in(body);
            }
        }
    }

    /// What takes no shortcut.
    fn plainly(value: &Value, text: &str) -> bool {
        let holds = |value: &str| value.to_ascii_lowercase().contains(&text.to_ascii_lowercase());
        match value {
            Value::Null => false,
            Value::String(value) => holds(value),
            Value::Array(items) => items.iter().any(|item| plainly(item, text)),
            Value::Object(members) => members.values().any(|member| plainly(member, text)),
            other => holds(&other.to_string()),
        }
    }

    fn word() -> impl Strategy<Value = String> {
        // Few letters, and those that JSON writes in its own way, so that words are found in words.
        proptest::collection::vec(
            proptest::sample::select(vec!["a", "U", "e", "0", "1", "n", ":", "\"", "\\", "\n", "\u{1}", "é", "k"]),
            1..5,
        )
        .prop_map(|letters| letters.concat())
    }

    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            (0_u32..2_000).prop_map(Value::from),
            word().prop_map(Value::String)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::Array),
                proptest::collection::btree_map(word(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect()))
            ]
        })
    }

    proptest! {
        #[test]
        fn shortcuts_find_what_a_look_at_every_value_finds(value in json(), text in word()) {
            let body = serde_json::to_string(&value).expect("JSON");
            let needle = Needle::new(&text).expect("a needle");
            prop_assert_eq!(needle.is_in(&body), plainly(&value, &text), "{} in {}", text, body);
        }
    }
}
