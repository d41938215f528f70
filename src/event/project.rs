//! Projection: one walk over an event that keeps the values of the paths which rules read, and skips the rest.
//!
//! Two steps: the envelope always; `requestObject`, `responseObject` and `annotations` only when a candidate rule asks
//! for one of their paths. Values are kept as ranges of the event's bytes (or of an arena, when they were escaped), so
//! that the scratch is reused for every event and nothing is allocated once it has grown.

use std::collections::HashMap;

use foldhash::fast::FixedState;
use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::frame::{Reason, describe, offset_of};
use super::value::{DEPTH_MAX, section as section_value};

/// The keys of an event whose values are parsed only on demand.
const SECTIONS: [&str; 3] = ["requestObject", "responseObject", "annotations"];

/// The path of the event's cluster label, which is no part of the event.
pub const CLUSTER: &str = "cluster";

/// Children of one node whose doubles are noticed.
const CHILDREN_MAX: usize = 256;

/// Which path: an index into a [`Projection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

/// One value that a path yielded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Val<'a> {
    /// JSON null.
    Null,
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// Unescaped text.
    Str(&'a str),
    /// An object or an empty array.
    Container,
}

/// All paths that anything reads, made into one trie.
#[derive(Debug)]
pub struct Projection {
    paths: Vec<String>,
    sections: Vec<Option<u8>>,
    nodes: Vec<Node>,
    /// The root's child for each of [`SECTIONS`].
    section_nodes: [Option<u32>; 3],
}

#[derive(Debug, Default)]
struct Node {
    /// Key to (ordinal among the children, child).
    children: HashMap<Box<str>, (u16, u32), FixedState>,
    /// Paths that end here.
    slots: Vec<u32>,
}

impl Projection {
    /// Makes the trie of `paths` (without indices; doubles share a slot).
    #[must_use]
    pub fn new<'p>(paths: impl IntoIterator<Item = &'p str>) -> Self {
        let mut names: Vec<String> = paths.into_iter().map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        let sections = names.iter().map(|name| section_of(name)).collect();
        let mut builder = Builder { paths: &names, nodes: Vec::new(), known: HashMap::new() };
        // Labels are put in by [`Scratch::inject`], never read from the event.
        let all = (0..names.len()).filter(|slot| names[*slot] != CLUSTER).map(|slot| (slot, 0)).collect();
        builder.node(all);
        let nodes = builder.nodes;
        let section_nodes = SECTIONS.map(|name| nodes[0].children.get(name).map(|(_, child)| *child));
        Self { paths: names, sections, nodes, section_nodes }
    }

    /// The slot of a path that was given to `new`.
    #[must_use]
    pub fn slot(&self, path: &str) -> Option<Slot> {
        self.paths
            .binary_search_by(|probe| probe.as_str().cmp(path))
            .ok()
            .and_then(|at| u32::try_from(at).ok())
            .map(Slot)
    }

    /// Whether reading `slot` means parsing a body.
    #[must_use]
    pub fn is_lazy(&self, slot: Slot) -> bool {
        self.sections[slot.0 as usize].is_some()
    }
}

fn section_of(path: &str) -> Option<u8> {
    let head = path.split('.').next()?;
    SECTIONS.iter().position(|section| *section == head).and_then(|at| u8::try_from(at).ok())
}

/// Builds the trie. A node stands for a set of path suffixes: equal sets share one node, so that the many ways to read
/// the dots of a path do not multiply.
struct Builder<'p> {
    paths: &'p [String],
    nodes: Vec<Node>,
    known: HashMap<Vec<(usize, usize)>, u32>,
}

impl Builder<'_> {
    fn node(&mut self, mut suffixes: Vec<(usize, usize)>) -> u32 {
        suffixes.sort_unstable();
        suffixes.dedup();
        if let Some(node) = self.known.get(&suffixes) {
            return *node;
        }
        let id = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
        self.known.insert(suffixes.clone(), id);
        self.nodes.push(Node::default());
        let mut children: HashMap<&str, Vec<(usize, usize)>> = HashMap::new();
        let mut slots = Vec::new();
        for (path, from) in suffixes {
            let text = &self.paths[path];
            if from > text.len() {
                slots.push(u32::try_from(path).unwrap_or(u32::MAX));
                continue;
            }
            let rest = &text[from..];
            let ends = rest.match_indices('.').map(|(at, _)| at).chain([rest.len()]);
            for end in ends {
                children.entry(&rest[..end]).or_default().push((path, from + end + 1));
            }
        }
        let mut children: Vec<_> = children.into_iter().map(|(key, suffixes)| (key.to_owned(), suffixes)).collect();
        children.sort_unstable();
        for (ordinal, (key, suffixes)) in children.into_iter().enumerate() {
            let child = self.node(suffixes);
            let ordinal = u16::try_from(ordinal).unwrap_or(u16::MAX);
            self.nodes[id as usize].children.insert(key.into(), (ordinal, child));
        }
        self.nodes[id as usize].slots = slots;
        id
    }
}

/// A value as the scratch keeps it.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    /// A range of the event's bytes.
    Raw(u32, u32),
    /// A range of the arena.
    Arena(u32, u32),
    Container,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    kept: Kept,
    /// Its text in lower case, in the arena, once somebody asked.
    folded: Option<(u32, u32)>,
    next: u32,
}

const NONE: u32 = u32::MAX;

/// The values of one event; reused for the next.
#[derive(Debug, Default)]
pub struct Scratch {
    entries: Vec<Entry>,
    /// First and last entry of each slot.
    heads: Vec<(u32, u32)>,
    touched: Vec<u32>,
    arena: String,
    sections: [Section; 3],
}

/// A body: not there, there but not looked at, or parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Section {
    #[default]
    Absent,
    Raw(u32, u32),
    Parsed,
}

/// Why an event could not be projected.
#[derive(Debug, PartialEq, Eq)]
pub struct ProjectError {
    /// For the metrics.
    pub reason: Reason,
    /// For people, without content of the event.
    pub detail: String,
}

impl Scratch {
    /// Walks over the envelope of an event and keeps its values.
    pub fn load(&mut self, projection: &Projection, event: &[u8]) -> Result<(), ProjectError> {
        self.clear(projection.paths.len());
        let Ok(text) = std::str::from_utf8(event) else {
            return Err(ProjectError { reason: Reason::Syntax, detail: "not valid UTF-8".to_owned() });
        };
        let mut doubled = false;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let root = Root { projection, scratch: self, base: event, doubled: &mut doubled };
        let walked = deserializer.deserialize_any(root).and_then(|()| deserializer.end());
        match walked {
            Ok(()) => Ok(()),
            Err(_) if doubled => Err(ProjectError {
                reason: Reason::Duplicate,
                detail: "a key of the envelope is there twice".to_owned(),
            }),
            Err(error) if error.is_data() => Err(ProjectError { reason: Reason::Shape, detail: describe(&error) }),
            Err(error) => Err(ProjectError { reason: Reason::Syntax, detail: describe(&error) }),
        }
    }

    fn clear(&mut self, slots: usize) {
        for slot in self.touched.drain(..) {
            if let Some(head) = self.heads.get_mut(slot as usize) {
                *head = (NONE, NONE);
            }
        }
        self.heads.resize(slots, (NONE, NONE));
        self.entries.clear();
        self.arena.clear();
        self.sections = [Section::Absent; 3];
    }

    /// Adds a value that is no part of the event.
    pub fn inject(&mut self, slot: Slot, text: &str) {
        let start = self.arena.len();
        self.arena.push_str(text);
        let end = self.arena.len();
        self.push(&[slot.0], Kept::Arena(short(start), short(end)));
    }

    /// Parses the body that `slot` is in, unless that was done.
    pub fn demand(&mut self, projection: &Projection, slot: Slot, event: &[u8]) {
        let Some(section) = projection.sections[slot.0 as usize] else { return };
        let section = usize::from(section);
        let Section::Raw(start, end) = self.sections[section] else { return };
        self.sections[section] = Section::Parsed;
        let Some(node) = projection.section_nodes[section] else { return };
        let Ok(text) = std::str::from_utf8(&event[start as usize..end as usize]) else { return };
        let (entries, arena) = (self.entries.len(), self.arena.len());
        let mut doubled = false;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let walk =
            Walk { projection, scratch: self, base: event, node, doubled: &mut doubled, strict: false, depth: 1 };
        // The section was validated as JSON when it was found, and what lies too deep is passed over; but half a
        // surrogate pair ends the walk, and must not hide what follows.
        if walk.deserialize(&mut deserializer).is_err() || doubled {
            self.again_last_wins(projection, section, node, text, (entries, arena));
        }
    }

    /// A body with doubled keys, where the last one counts (as the apiserver reads it), or broken texts: the slow way.
    fn again_last_wins(
        &mut self,
        projection: &Projection,
        section: usize,
        node: u32,
        text: &str,
        mark: (usize, usize),
    ) {
        self.entries.truncate(mark.0);
        self.arena.truncate(mark.1);
        for (slot, of) in projection.sections.iter().enumerate() {
            if of.is_some_and(|s| usize::from(s) == section) {
                self.heads[slot] = (NONE, NONE);
            }
        }
        let Ok(raw) = serde_json::from_str::<&RawValue>(text) else { return };
        let value = section_value(raw, 2);
        let mut doubled = false;
        let walk = Walk { projection, scratch: self, base: &[], node, doubled: &mut doubled, strict: false, depth: 1 };
        let _ = walk.deserialize(&value);
    }

    /// The values of a slot, in the order of the event.
    pub fn values<'s>(&'s self, slot: Slot, event: &'s [u8]) -> impl Iterator<Item = Val<'s>> + 's {
        let mut at = self.heads.get(slot.0 as usize).map_or(NONE, |head| head.0);
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            Some(self.view(entry.kept, event))
        })
    }

    /// How many values a slot has.
    #[must_use]
    pub fn count(&self, slot: Slot) -> usize {
        let mut count = 0;
        let mut at = self.heads.get(slot.0 as usize).map_or(NONE, |head| head.0);
        while let Some(entry) = self.entries.get(at as usize) {
            count += 1;
            at = entry.next;
        }
        count
    }

    /// Positions of a slot's entries, for [`Self::at`] and [`Self::folded`]: the first, then [`Self::following`].
    #[must_use]
    pub fn first(&self, slot: Slot) -> Option<u32> {
        self.heads.get(slot.0 as usize).map(|head| head.0).filter(|at| *at != NONE)
    }

    /// The entry after `at` of the same slot.
    #[must_use]
    pub fn following(&self, at: u32) -> Option<u32> {
        Some(self.entries[at as usize].next).filter(|at| *at != NONE)
    }

    /// The value at a position.
    #[must_use]
    pub fn at<'s>(&'s self, at: u32, event: &'s [u8]) -> Val<'s> {
        self.view(self.entries[at as usize].kept, event)
    }

    /// The text at a position in lower case, made once; `None` if it is no scalar.
    pub fn folded<'s>(&'s mut self, at: u32, event: &'s [u8]) -> Option<&'s str> {
        if self.entries[at as usize].folded.is_none() {
            let start = self.arena.len();
            match self.entries[at as usize].kept {
                Kept::Raw(from, to) => {
                    let text = std::str::from_utf8(&event[from as usize..to as usize]).unwrap_or_default();
                    fold_into(text, &mut self.arena);
                }
                Kept::Arena(from, to) => {
                    let text = self.arena[from as usize..to as usize].to_owned();
                    fold_into(&text, &mut self.arena);
                }
                Kept::Bool(value) => self.arena.push_str(if value { "true" } else { "false" }),
                Kept::Int(value) => push_number(&mut self.arena, &value.into()),
                Kept::Float(value) => push_number(&mut self.arena, &number(value)),
                Kept::Null | Kept::Container => return None,
            }
            self.entries[at as usize].folded = Some((short(start), short(self.arena.len())));
        }
        let (from, to) = self.entries[at as usize].folded?;
        self.arena.get(from as usize..to as usize)
    }

    fn view<'s>(&'s self, kept: Kept, event: &'s [u8]) -> Val<'s> {
        match kept {
            Kept::Null => Val::Null,
            Kept::Bool(value) => Val::Bool(value),
            Kept::Int(value) => Val::Int(value),
            Kept::Float(value) => Val::Float(value),
            // `load` found the event to be UTF-8 as a whole, and strings begin and end between characters.
            Kept::Raw(from, to) => {
                Val::Str(std::str::from_utf8(&event[from as usize..to as usize]).unwrap_or_default())
            }
            Kept::Arena(from, to) => Val::Str(self.arena.get(from as usize..to as usize).unwrap_or_default()),
            Kept::Container => Val::Container,
        }
    }

    fn push(&mut self, slots: &[u32], kept: Kept) {
        for &slot in slots {
            let at = short(self.entries.len());
            self.entries.push(Entry { kept, folded: None, next: NONE });
            let head = &mut self.heads[slot as usize];
            if head.0 == NONE {
                *head = (at, at);
                self.touched.push(slot);
            } else {
                self.entries[head.1 as usize].next = at;
                head.1 = at;
            }
        }
    }
}

fn short(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(NONE)
}

fn number(value: f64) -> serde_json::Value {
    serde_json::Value::from(value)
}

fn push_number(arena: &mut String, number: &serde_json::Value) {
    use std::fmt::Write;
    // Writing to a String cannot fail.
    let _ = write!(arena, "{number}");
}

/// Lower case, character by character: how Sigma's comparisons ignore case.
pub fn fold_into(text: &str, out: &mut String) {
    if text.is_ascii() {
        let start = out.len();
        out.push_str(text);
        out[start..].make_ascii_lowercase();
    } else {
        out.extend(text.chars().flat_map(char::to_lowercase));
    }
}

/// Lower case, as [`fold_into`] makes it.
#[must_use]
pub fn fold(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    fold_into(text, &mut out);
    out
}

/// The set of a node's children seen so far in one object.
struct Seen([u64; CHILDREN_MAX / 64]);

impl Seen {
    fn new() -> Self {
        Self([0; CHILDREN_MAX / 64])
    }

    /// Marks a child; true if it was marked before.
    fn mark(&mut self, ordinal: u16) -> bool {
        let Some(word) = self.0.get_mut(usize::from(ordinal) / 64) else { return false };
        let bit = 1 << (ordinal % 64);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }
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
        let mut seen = Seen::new();
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
                map.next_value_seed(Walk { projection, scratch, base, node: child, doubled, strict: true, depth: 1 })?;
            }
        }
        Ok(())
    }
}

/// Finds a key among a node's children without copying it.
struct Child<'p>(&'p Projection, u32);

impl<'de> DeserializeSeed<'de> for Child<'_> {
    type Value = Option<(u16, u32)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Child<'_> {
    type Value = Option<(u16, u32)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.nodes[self.1 as usize].children.get(key).copied())
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
    /// In the envelope a doubled key is an error; in bodies it is noted, and the last one counts.
    strict: bool,
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
        let Self { projection, scratch, base, node, doubled, strict, depth } = self;
        let depth = depth + 1;
        scratch.push(&projection.nodes[node as usize].slots, Kept::Container);
        if depth > DEPTH_MAX {
            while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
            return Ok(());
        }
        let mut seen = Seen::new();
        while let Some(found) = map.next_key_seed(Child(projection, node))? {
            let Some((ordinal, child)) = found else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if seen.mark(ordinal) {
                *doubled = true;
                if strict {
                    return Err(de::Error::custom("a key is there twice"));
                }
            }
            map.next_value_seed(Walk { projection, scratch, base, node: child, doubled, strict, depth })?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { projection, scratch, base, node, doubled, strict, depth } = self;
        let depth = depth + 1;
        let mut empty = true;
        if depth > DEPTH_MAX {
            while seq.next_element::<IgnoredAny>()?.is_some() {}
            scratch.push(&projection.nodes[node as usize].slots, Kept::Container);
            return Ok(());
        }
        while seq.next_element_seed(Walk { projection, scratch, base, node, doubled, strict, depth })?.is_some() {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::path::{FieldPath, Found};
    use super::*;

    const PATHS: [&str; 9] = [
        "verb",
        "user",
        "user.username",
        "user.extra.a.b/c",
        "annotations.authorization.k8s.io/decision",
        "requestObject.spec.containers.image",
        "requestObject.spec.containers",
        "requestObject.data.x.y",
        "objectRef.name",
    ];

    /// Compiled and obvious way side by side.
    fn both(text: &str) -> (Vec<String>, Vec<String>) {
        let projection = Projection::new(PATHS);
        let mut scratch = Scratch::default();
        scratch.load(&projection, text.as_bytes()).expect("an event");
        let event: serde_json::Value = serde_json::from_str(text).expect("json");
        let mut fast = Vec::new();
        let mut slow = Vec::new();
        for path in PATHS {
            let slot = projection.slot(path).expect("known");
            scratch.demand(&projection, slot, text.as_bytes());
            fast.extend(scratch.values(slot, text.as_bytes()).map(|value| format!("{path}={}", show(value))));
            for found in FieldPath::parse(path).expect("a path").resolve(&event) {
                slow.push(match found {
                    Found::Container => format!("{path}=container"),
                    Found::Scalar(value) => format!("{path}={value}"),
                });
            }
        }
        (fast, slow)
    }

    fn show(value: Val<'_>) -> String {
        match value {
            Val::Null => "null".to_owned(),
            Val::Bool(b) => b.to_string(),
            Val::Int(n) => n.to_string(),
            Val::Float(n) => number(n).to_string(),
            Val::Str(s) => json!(s).to_string(),
            Val::Container => "container".to_owned(),
        }
    }

    #[test]
    fn agrees_with_the_obvious_way() {
        for event in [
            json!({"verb": "get", "user": {"username": "a", "extra": {"a.b/c": ["x", "y"]}}}),
            json!({"verb": 7, "user": [], "annotations": {"authorization.k8s.io/decision": "allow"}}),
            json!({"requestObject": {"spec": {"containers": [{"image": "a"}, {"image": null}, [{"image": 1.5}]]}}}),
            json!({"requestObject": {"spec.containers": {"image": "literal"}, "data": {"x.y": 1, "x": {"y": 2}}}}),
            json!({"requestObject": {"spec": {"containers": []}}, "objectRef": {"name": "tr\u{fc}gt \"q\" <"}}),
            json!({"user": null, "verb": true}),
        ] {
            let (fast, slow) = both(&event.to_string());
            assert_eq!(fast, slow, "{event}");
            assert!(!slow.is_empty());
        }
    }

    #[test]
    fn escapes_are_undone_in_keys_and_values() {
        let (fast, slow) = both(r#"{"v\u0065rb":"g\u0065t","user":{"usern\u0061me":"\u003ca\u003e"}}"#);
        assert_eq!(fast, slow);
        let mut sorted = fast;
        sorted.sort();
        assert_eq!(sorted, ["user.username=\"<a>\"", "user=container", "verb=\"get\""]);
    }

    #[test]
    fn doubled_keys_are_refused_in_the_envelope_and_the_last_counts_in_bodies() {
        let projection = Projection::new(PATHS);
        let mut scratch = Scratch::default();
        let error = scratch.load(&projection, br#"{"verb":"get","verb":"list"}"#).expect_err("twice");
        assert_eq!(error.reason, Reason::Duplicate);
        let (fast, slow) =
            both(r#"{"requestObject":{"spec":{"containers":[{"image":"a"}],"containers":[{"image":"b"}]}}}"#);
        assert_eq!(fast, slow);
        assert!(fast.contains(&"requestObject.spec.containers.image=\"b\"".to_owned()));
    }

    #[test]
    fn folding_is_done_once_and_covers_every_scalar() {
        let projection = Projection::new(["verb"]);
        let mut scratch = Scratch::default();
        for (event, folded) in [
            (r#"{"verb":"GET"}"#, Some("get")),
            (r#"{"verb":"\u00c4B"}"#, Some("äb")),
            (r#"{"verb":true}"#, Some("true")),
            (r#"{"verb":-7}"#, Some("-7")),
            (r#"{"verb":1.50}"#, Some("1.5")),
            (r#"{"verb":null}"#, None),
        ] {
            scratch.load(&projection, event.as_bytes()).expect("an event");
            let at = scratch.first(projection.slot("verb").expect("known")).expect("there");
            assert_eq!(scratch.folded(at, event.as_bytes()), folded);
            assert_eq!(scratch.folded(at, event.as_bytes()), folded);
        }
    }

    #[test]
    fn broken_events_say_where() {
        let projection = Projection::new(PATHS);
        let mut scratch = Scratch::default();
        let error = scratch.load(&projection, br#"{"verb":}"#).expect_err("broken");
        assert_eq!(
            error,
            ProjectError { reason: Reason::Syntax, detail: "expected value at line 1 column 9".to_owned() }
        );
        assert_eq!(scratch.load(&projection, b"{\"verb\":\"\xff\"}").expect_err("utf8").detail, "not valid UTF-8");
        assert_eq!(scratch.load(&projection, b"[]").expect_err("no object").reason, Reason::Shape);
    }
}
