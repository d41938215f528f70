//! The walk by `serde_json`: slow, and right about everything.

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::keys::Seen;
use super::{Kept, ProjectError, Projection, Scratch, Section, short};
use crate::event::frame::{Reason, describe, offset_of};
use crate::event::value::{DEPTH_MAX, section as section_value};

/// Walks over the envelope of an event.
pub(super) fn event(projection: &Projection, scratch: &mut Scratch, text: &str) -> Result<(), ProjectError> {
    let mut doubled = false;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let root = Root { projection, scratch, base: text.as_bytes(), doubled: &mut doubled };
    let walked = deserializer.deserialize_any(root).and_then(|()| deserializer.end());
    match walked {
        Ok(()) => Ok(()),
        Err(_) if doubled => {
            Err(ProjectError { reason: Reason::Duplicate, detail: "a key of the envelope is there twice".to_owned() })
        }
        Err(error) if error.is_data() => Err(ProjectError { reason: Reason::Shape, detail: describe(&error) }),
        Err(error) => Err(ProjectError { reason: Reason::Syntax, detail: describe(&error) }),
    }
}

/// Walks over a body, of which the last of doubled keys counts.
pub(super) fn section(projection: &Projection, scratch: &mut Scratch, node: u32, text: &RawValue) {
    let value = section_value(text, 2);
    let mut doubled = false;
    let walk = Walk { projection, scratch, base: &[], node, doubled: &mut doubled, depth: 1 };
    // A value in memory has nothing that could go wrong, and no key twice.
    let _ = walk.deserialize(&value);
}

/// The event itself: an object whose sections are put by.
struct Root<'p, 's, 'b> {
    projection: &'p Projection,
    scratch: &'s mut Scratch,
    base: &'b [u8],
    doubled: &'s mut bool,
}

impl<'de> Visitor<'de> for Root<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an audit event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { projection, scratch, base, doubled } = self;
        let mut seen = Seen::default();
        while let Some(found) = map.next_key_seed(Child(projection, 0))? {
            let Some((ordinal, child)) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.mark(ordinal) {
                *doubled = true;
                return Err(de::Error::custom("a key is there twice"));
            }
            if let Some(section) = projection.section_nodes.iter().position(|node| *node == Some(child)) {
                let raw: &RawValue = map.next_value()?;
                let start = offset_of(base, raw.get().as_bytes());
                scratch.sections[section] = Section::Raw(short(start), short(start + raw.get().len()));
            } else {
                map.next_value_seed(Walk { projection, scratch, base, node: child, doubled, depth: 1 })?;
            }
        }
        Ok(())
    }
}

/// Finds a key among a node's children without copying it.
struct Child<'p>(&'p Projection, u32);

impl<'de> DeserializeSeed<'de> for Child<'_> {
    type Value = Option<(u32, u32)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Child<'_> {
    type Value = Option<(u32, u32)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.nodes[self.1 as usize].children.get(key.as_bytes()))
    }
}

/// Any value below the root.
struct Walk<'p, 's, 'b> {
    projection: &'p Projection,
    scratch: &'s mut Scratch,
    /// The event, to which borrowed strings are offsets; empty when they are not part of it.
    base: &'b [u8],
    node: u32,
    doubled: &'s mut bool,
    /// Containers around it.
    depth: u32,
}

impl<'p> Walk<'p, '_, '_> {
    fn keep(self, kept: Kept) {
        let projection: &'p Projection = self.projection;
        self.scratch.push(&projection.nodes[self.node as usize].slots, kept);
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { projection, scratch, base, node, doubled, depth } = self;
        let depth = depth + 1;
        scratch.push(&projection.nodes[node as usize].slots, Kept::Container);
        if depth > DEPTH_MAX {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let mut seen = Seen::default();
        while let Some(found) = map.next_key_seed(Child(projection, node))? {
            let Some((ordinal, child)) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.mark(ordinal) {
                *doubled = true;
                return Err(de::Error::custom("a key is there twice"));
            }
            map.next_value_seed(Walk { projection, scratch, base, node: child, doubled, depth })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { projection, scratch, base, node, doubled, depth } = self;
        let depth = depth + 1;
        let mut empty = true;
        if depth > DEPTH_MAX {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            scratch.push(&projection.nodes[node as usize].slots, Kept::Container);
            return Ok(());
        }
        while seq.next_element_seed(Walk { projection, scratch, base, node, doubled, depth })?.is_some() {
            empty = false;
        }
        if empty {
            scratch.push(&projection.nodes[node as usize].slots, Kept::Container);
        }
        Ok(())
    }

    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<(), E> {
        if self.base.is_empty() {
            return self.visit_str(text);
        }
        let start = offset_of(self.base, text.as_bytes());
        self.keep(Kept::Raw(short(start), short(start + text.len())));
        Ok(())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if self.projection.nodes[self.node as usize].slots.is_empty() {
            return Ok(());
        }
        let start = self.scratch.arena.len();
        self.scratch.arena.push_str(text);
        let end = self.scratch.arena.len();
        self.keep(Kept::Arena(short(start), short(end)));
        Ok(())
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<(), E> {
        self.keep(Kept::Bool(value));
        Ok(())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<(), E> {
        self.keep(Kept::Int(value));
        Ok(())
    }

    #[expect(clippy::cast_precision_loss, reason = "numbers past i64 are compared as floats, in the judge too")]
    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.keep(Kept::Int(value)),
            Err(_) => self.keep(Kept::Float(value as f64)),
        }
        Ok(())
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<(), E> {
        self.keep(Kept::Float(value));
        Ok(())
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        self.keep(Kept::Null);
        Ok(())
    }
}
