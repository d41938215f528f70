//! JSON that is written member by member. Nearly no text of an event needs an escape, which is told of several bytes at
//! once: to look at one after the other took a tenth of what a match costs.

use std::borrow::Borrow;
use std::sync::Arc;

use serde_json::Value;

/// An object as JSON. It is written into `out`, whose memory is kept for the next: to get a kilobyte each time has the
/// allocator tidy up.
pub(super) fn object(out: &mut String, members: impl FnOnce(&mut Object<'_>)) -> Arc<str> {
    out.clear();
    Object::write(out, members);
    out.as_str().into()
}

/// An object that is being written.
pub(super) struct Object<'o> {
    out: &'o mut String,
    begin: usize,
}

impl<'o> Object<'o> {
    fn begin(out: &'o mut String) -> Self {
        out.push('{');
        Self { begin: out.len(), out }
    }

    /// Writes one, as a whole.
    fn write(out: &mut String, members: impl FnOnce(&mut Object<'_>)) {
        members(&mut Object::begin(out));
        out.push('}');
    }

    fn is_empty(&self) -> bool {
        self.out.len() == self.begin
    }

    fn key(&mut self, key: &str) {
        if !self.is_empty() {
            self.out.push(',');
        }
        text(self.out, key);
        self.out.push(':');
    }

    pub(super) fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        text(self.out, value);
    }

    pub(super) fn value(&mut self, key: &str, of: &Value) {
        self.key(key);
        value(self.out, of);
    }

    /// A list of what the items are written as.
    pub(super) fn list<T>(&mut self, key: &str, items: impl Iterator<Item = T>, write: impl FnMut(&mut String, T)) {
        self.key(key);
        list(self.out, items, write);
    }

    pub(super) fn object(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        self.key(key);
        Object::write(self.out, members);
    }

    /// The same, but for one that would be empty.
    pub(super) fn object_if_any(&mut self, key: &str, members: impl FnOnce(&mut Object<'_>)) {
        let before = self.out.len();
        self.key(key);
        let mut object = Object::begin(self.out);
        members(&mut object);
        if object.is_empty() {
            self.out.truncate(before);
        } else {
            self.out.push('}');
        }
    }
}

fn list<T>(out: &mut String, items: impl Iterator<Item = T>, mut write: impl FnMut(&mut String, T)) {
    out.push('[');
    for (number, item) in items.enumerate() {
        if number > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(']');
}

/// A text as a JSON string.
pub(super) fn text(out: &mut String, text: &str) {
    if has_odd(text.as_bytes()) {
        // Writing a text into memory cannot fail.
        out.push_str(&serde_json::to_string(text).unwrap_or_default());
        return;
    }
    out.push('"');
    out.push_str(text);
    out.push('"');
}

/// Whether there is a control character, a quote or a backslash, told of eight bytes at a time. A byte beside one may be
/// taken for one as well, which changes nothing.
fn has_odd(text: &[u8]) -> bool {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const TOPS: u64 = u64::from_ne_bytes([0x80; 8]);
    let below = |word: u64, byte: u8| word.wrapping_sub(ONES * u64::from(byte)) & !word & TOPS;
    let odd = |bytes: [u8; 8]| {
        let word = u64::from_ne_bytes(bytes);
        let is = |byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
        below(word, b' ') | is(b'"') | is(b'\\')
    };
    let (words, rest) = text.as_chunks();
    let mut last = [b' '; 8];
    last[..rest.len()].copy_from_slice(rest);
    words.iter().fold(odd(last), |any, word| any | odd(*word)) != 0
}

/// Values as a list.
pub fn listed(values: impl Iterator<Item = impl Borrow<Value>>) -> String {
    let mut out = String::with_capacity(128);
    list(&mut out, values, |out, of| value(out, of.borrow()));
    out
}

/// Any value.
pub(super) fn value(out: &mut String, of: &Value) {
    match of {
        Value::String(of) => text(out, of),
        Value::Array(items) => list(out, items.iter(), value),
        Value::Object(members) => Object::write(out, |object| {
            members.iter().for_each(|(key, of)| object.value(key, of));
        }),
        other => out.push_str(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn objects_are_written_member_by_member() {
        let out = object(&mut "before".to_owned(), |object| {
            object.object_if_any("nothing", |_| {});
            object.text("a\"", "b\n");
            object.object_if_any("some", |object| object.value("c", &json!([1, null, {"d": -1.5}])));
            object.object("none", |_| {});
            object.list("e", ["f", "g"].into_iter(), text);
        });
        let expected = json!({"a\"": "b\n", "some": {"c": [1, null, {"d": -1.5}]}, "none": {}, "e": ["f", "g"]});
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), expected, "{out}");
    }

    #[test]
    fn values_are_listed_as_others_do() {
        let values = json!(["a", "b\"\n", null, true, -1, 1.5, u64::MAX, 1e300, ["c", []], {"e": {}, "d": "f"}]);
        assert_eq!(listed(values.as_array().unwrap().iter()), values.to_string());
        assert_eq!(listed(std::iter::empty::<Value>()), "[]");
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_others_do(text in "(\\PC|[\"\\\\\u{0}-\u{1f}]){0,80}") {
            let mut out = String::new();
            super::text(&mut out, &text);
            prop_assert_eq!(out, serde_json::to_string(&text).unwrap());
        }
    }
}
