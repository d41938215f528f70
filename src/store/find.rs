//! Free text among an alert's values, as a function of SQL: a walk through every alert's JSON within SQLite would take
//! seconds where this takes a fraction of one.

use std::error::Error;

use aho_corasick::AhoCorasick;
use memchr::memchr2;
use rusqlite::Connection;
use rusqlite::functions::FunctionFlags;

/// What is looked for.
struct Needle {
    /// As it stands in JSON, so that most alerts are passed over without looking at their values.
    written: AhoCorasick,
    /// As it is.
    plain: AhoCorasick,
}

impl Needle {
    fn new(text: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let quoted = serde_json::to_string(text)?;
        let finder = |text: &str| AhoCorasick::builder().ascii_case_insensitive(true).build([text]);
        Ok(Self { written: finder(&quoted[1..quoted.len() - 1])?, plain: finder(text)? })
    }

    /// Whether it stands in any value of an object, but not in a key. `body` is JSON without spaces between its tokens.
    fn is_in(&self, body: &str) -> bool {
        self.written.is_match(body) && Values(body).any(|value| self.is_in_value(value))
    }

    fn is_in_value(&self, value: &str) -> bool {
        let Some(inside) = value.strip_prefix('"') else { return value != "null" && self.plain.is_match(value) };
        if !inside.contains('\\') {
            return self.plain.is_match(&inside[..inside.len().saturating_sub(1)]);
        }
        serde_json::from_str::<String>(value).is_ok_and(|text| self.plain.is_match(&text))
    }
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
                end_of_text(rest)?
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

/// Where a quoted text ends, its closing quote included.
fn end_of_text(text: &str) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', text.as_bytes().get(at..)?)?;
        if text.as_bytes()[at] == b'"' {
            return Some(at + 1);
        }
        at += 2;
    }
}

/// Makes `holds(body, text)` known to a connection.
pub(super) fn install(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_DIRECTONLY;
    connection.create_scalar_function("holds", 2, flags, |arguments| {
        let needle = arguments.get_or_create_aux(1, |text| Needle::new(text.as_str()?))?;
        Ok(needle.is_in(arguments.get_raw(0).as_str()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let needle = Needle::new("b").expect("a needle");
        for body in ["\"b", "\"b\\", "{\"b\":", "", "b\""] {
            needle.is_in(body);
        }
    }
}
