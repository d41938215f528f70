//! An event as a [`Value`], for the slow paths: what lies too deep is cut off instead of refused.
//!
//! The apiserver reads nesting of any depth, `serde_json` only so much. A client must not be able to blind a rule or an
//! alert by a deep value that nobody asked for, so such values are there, but hold nothing.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

use super::project::CLUSTER;

/// Containers within each other, the event's own the first; below it everything is one empty object.
pub(super) const DEPTH_MAX: u32 = 100;

/// Reads a JSON text.
pub fn value(text: &[u8]) -> Result<Value, serde_json::Error> {
    let text = serde_json::from_slice::<&RawValue>(text)?;
    Ok(section(text, 1))
}

/// Puts the label of its cluster into an event, where rules read it.
pub fn label(event: &mut Value, cluster: &str) {
    if let Value::Object(map) = event {
        map.insert(CLUSTER.to_owned(), cluster.into());
    }
}

/// Reads a part of an event of which the container would be the `depth`th.
pub(super) fn section(text: &RawValue, depth: u32) -> Value {
    let mut deserializer = serde_json::Deserializer::from_str(text.get());
    match (Bounded { depth }).deserialize(&mut deserializer) {
        Ok(value) => value,
        Err(_) => lenient(text, depth),
    }
}

/// JSON by its grammar, but with half a surrogate pair or a number beyond all bounds, which the apiserver passes on in
/// patches: only that text or number suffers.
fn lenient(text: &RawValue, depth: u32) -> Value {
    let text = text.get();
    match text.as_bytes().first() {
        Some(b'{') if depth <= DEPTH_MAX => serde_json::from_str::<Members<'_>>(text)
            .map(|members| members.0.into_iter().map(|(key, value)| (key.0, lenient(value, depth + 1))).collect())
            .unwrap_or_default(),
        Some(b'[') if depth <= DEPTH_MAX => serde_json::from_str::<Vec<&RawValue>>(text)
            .map(|items| items.into_iter().map(|item| lenient(item, depth + 1)).collect())
            .unwrap_or_default(),
        Some(b'{' | b'[') => Value::Object(Map::new()),
        Some(b'"') => serde_json::from_str::<Text>(text).map_or(Value::Null, |text| text.0.into()),
        _ => serde_json::from_str(text).unwrap_or_default(),
    }
}

/// Text with U+FFFD for what is none.
pub(super) struct Text(pub(super) String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Asked for bytes, serde_json does not insist on whole characters.
        deserializer.deserialize_bytes(TextVisitor)
    }
}

struct TextVisitor;

impl Visitor<'_> for TextVisitor {
    type Value = Text;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Text, E> {
        Ok(Text(String::from_utf8_lossy(bytes).into_owned()))
    }
}

/// The members of an object, in order.
pub(super) struct Members<'b>(pub(super) Vec<(Text, &'b RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Members(members))
    }
}

/// Any value, of which the container would be the `depth`th.
#[derive(Clone, Copy)]
struct Bounded {
    depth: u32,
}

impl<'de> DeserializeSeed<'de> for Bounded {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if self.depth > DEPTH_MAX {
                map.next_value::<IgnoredAny>()?;
            } else {
                members.insert(key, map.next_value_seed(Self { depth: self.depth + 1 })?);
            }
        }
        Ok(Value::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        if self.depth > DEPTH_MAX {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Object(Map::new()));
        }
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self { depth: self.depth + 1 })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
        let text = r#"{"a":[1,-2,1.5,18446744073709551615,true,null,"ä\n",{}],"b":{"c":[[]]},"a":2}"#;
        assert_eq!(value(text.as_bytes()).expect("JSON"), serde_json::from_str::<Value>(text).expect("JSON"));
        assert!(value(b"{").is_err() && value(b"{} x").is_err());
    }

    #[test]
    fn what_is_too_deep_is_cut_off() {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let text = format!("{{\"x\":{}1{},\"y\":2}}", open.repeat(5_000), close.repeat(5_000));
            let read = value(text.as_bytes()).expect("JSON");
            assert_eq!(read["y"], 2);
            let (mut depth, mut at) = (0, &read["x"]);
            while let Some(next) = at.get(0).or_else(|| at.get("a")) {
                (depth, at) = (depth + 1, next);
            }
            assert_eq!((depth, at), (99, &Value::Object(Map::new())));
        }
    }

    #[test]
    fn what_is_no_character_or_number_hides_nothing_else() {
        let text = r#"{"a\ud800":[1,"x\ud800y",{"b":1e999}],"c":{"d":"good"},"e":-1.5}"#;
        let read = value(text.as_bytes()).expect("JSON");
        assert_eq!(
            (&read["c"]["d"], &read["e"], &read["a\u{fffd}\u{fffd}\u{fffd}"][0]),
            (&"good".into(), &(-1.5).into(), &1.into())
        );
        let text = format!(r#"{{"a":"\ud800","x":{}1{},"y":2}}"#, "[".repeat(5_000), "]".repeat(5_000));
        assert_eq!(value(text.as_bytes()).expect("JSON")["y"], 2);
    }
}
