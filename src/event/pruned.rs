//! An event as a [`Value`] that holds only what some paths need: of a large event hardly anything.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::project::Projection;

/// Reads an event; of objects only the keys that paths of `wanted` go through. Every path of it yields what it yields in
/// the whole event. `None` if there is anything unusual about the text: then it must be read as a whole.
#[must_use]
pub fn pruned(text: &str, wanted: &Projection) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let event = (Wanted { wanted, node: Projection::ROOT }).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok().map(|()| event)
}

/// A value at a node of the trie.
#[derive(Clone, Copy)]
struct Wanted<'w> {
    wanted: &'w Projection,
    node: u32,
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            match self.wanted.child(self.node, &key) {
                Some(node) => {
                    members.insert(key.into_owned(), map.next_value_seed(Self { node, ..self })?);
                }
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(Value::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
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
