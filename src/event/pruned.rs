//! An event as a [`Value`] that holds only what some paths need: of a large event hardly anything.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::project::{Projection, unescape};
use super::skip;
use super::value::DEPTH_MAX;

/// Reads an event; of objects only the keys that paths of `wanted` go through. Every path of it yields what it yields in
/// the whole event. `None` if there is anything unusual about the text: then it must be read as a whole. What no path goes
/// through is passed over as the projection does it, without being validated.
#[must_use]
pub fn pruned(text: &str, wanted: &Projection) -> Option<Value> {
    let mut reader = Reader { wanted, text, at: 0 };
    let event = reader.value(Projection::ROOT, 1)?;
    reader.blank();
    (reader.at == text.len()).then_some(event)
}

struct Reader<'r> {
    wanted: &'r Projection,
    text: &'r str,
    at: usize,
}

impl<'r> Reader<'r> {
    fn blank(&mut self) {
        let rest = &self.text.as_bytes()[self.at..];
        self.at += rest.iter().take_while(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')).count();
    }

    /// Takes this byte, and blanks before it; false if there is another.
    fn eat(&mut self, byte: u8) -> bool {
        self.blank();
        let hit = self.text.as_bytes().get(self.at) == Some(&byte);
        self.at += usize::from(hit);
        hit
    }

    /// A value at a node of the trie.
    fn value(&mut self, node: u32, depth: u32) -> Option<Value> {
        self.blank();
        match self.text.as_bytes().get(self.at)? {
            b'{' if depth <= DEPTH_MAX => self.object(node, depth),
            b'[' if depth <= DEPTH_MAX => self.list(node, depth),
            b'"' => self.string().map(|text| Value::String(text.into_owned())),
            b'{' | b'[' => None,
            _ => serde_json::from_str(self.passed()?.trim_ascii_end()).ok(),
        }
    }

    fn object(&mut self, node: u32, depth: u32) -> Option<Value> {
        let mut members = Map::new();
        self.at += 1;
        if self.eat(b'}') {
            return Some(Value::Object(members));
        }
        loop {
            self.blank();
            let key = self.string()?;
            if !self.eat(b':') {
                return None;
            }
            match self.wanted.child(node, &key) {
                Some(node) => {
                    let value = self.value(node, depth + 1)?;
                    members.insert(key.into_owned(), value);
                }
                None => {
                    self.blank();
                    self.passed()?;
                }
            }
            if self.eat(b'}') {
                return Some(Value::Object(members));
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    /// The elements of a list are at its own node.
    fn list(&mut self, node: u32, depth: u32) -> Option<Value> {
        let mut items = Vec::new();
        self.at += 1;
        if self.eat(b']') {
            return Some(Value::Array(items));
        }
        loop {
            items.push(self.value(node, depth + 1)?);
            if self.eat(b']') {
                return Some(Value::Array(items));
            }
            if !self.eat(b',') {
                return None;
            }
        }
    }

    /// The string that begins here.
    fn string(&mut self) -> Option<Cow<'r, str>> {
        if self.text.as_bytes().get(self.at) != Some(&b'"') {
            return None;
        }
        let found = skip::string(self.text.as_bytes(), self.at)?;
        self.at = found.end + 1;
        let raw = self.text.get(found.start..found.end)?;
        if !found.escaped {
            return Some(raw.into());
        }
        let mut text = String::with_capacity(raw.len());
        unescape(raw.as_bytes(), &mut text)?;
        Some(text.into())
    }

    /// Passes over the value that begins here.
    fn passed(&mut self) -> Option<&'r str> {
        let rest = self.text.get(self.at..)?;
        let len = skip::value(rest.as_bytes()).filter(|len| *len > 0)?;
        self.at += len;
        rest.get(..len)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::FieldPath;

    #[test]
    fn paths_yield_what_they_yield_in_the_whole() {
        let event =
            json!({"a": {"b.c": [{"d": 1, "x": 2}, {"d": [true, {"y": 1}]}, []], "e": {"f": 1}}, "g": "h", "n": null});
        let paths = ["a.b.c.d", "a.e", "g", "n", "none"];
        let kept = pruned(&event.to_string(), &Projection::new(paths)).expect("nothing unusual");
        for path in paths {
            let path = FieldPath::parse(path).expect("a path");
            assert_eq!(path.resolve(&kept), path.resolve(&event), "{path}");
        }
        assert_eq!(kept["a"]["e"], json!({}));
        assert!(pruned("{\"a\":1} x", &Projection::new(["a"])).is_none());
        assert!(pruned("{\"a\":\"\\ud800\"}", &Projection::new(["a"])).is_none());
    }
}
