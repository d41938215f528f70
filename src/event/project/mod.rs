//! Projection: one walk over an event that keeps the values of the paths which rules read, and skips the rest.
//!
//! Two steps: the envelope always; `requestObject` and `responseObject` only when a candidate rule asks for one of
//! their paths. Values are kept as ranges of the event's bytes (or of an arena, when they were escaped), so
//! that the scratch is reused for every event and nothing is allocated once it has grown.
//!
//! Two ways to walk, which yield the same: `scan` is fast and gives up on whatever is unusual; `twin` goes through
//! `serde_json`, decides about the unusual and words the errors. The fast one checks the syntax of everything it walks,
//! and of what it passes over that strings end and brackets balance. So an event that is broken inside something nobody
//! reads counts as an event; one that is broken where a rule or an alert looks is refused.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::value::RawValue;

use super::frame::{Reason, describe};

mod keys;
mod scan;
#[cfg(test)]
mod tests;
mod trail;
mod twin;

use keys::Keys;
pub(super) use scan::unescape;
use trail::Trail;

/// The keys of an event whose values are parsed only on demand.
const SECTIONS: [&str; 2] = ["requestObject", "responseObject"];

/// The path of the event's cluster label, which is no part of the event.
pub const CLUSTER: &str = "cluster";

/// Which path: an index into a [`Projection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u32);

impl Slot {
    /// Below [`Projection::slots`].
    #[must_use]
    pub fn number(self) -> usize {
        self.0 as usize
    }
}

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
    section_nodes: [Option<u32>; 2],
    /// When the rest of an event need not be looked at.
    gate: Gate,
    /// Tells this trie from others, whose nodes have the same numbers.
    id: u64,
}

/// Values of one key of the event that make all of the event but some keys uninteresting: of a stage at which no rule can be
/// true, only what every event must have is kept.
#[derive(Debug, Default)]
struct Gate {
    /// The root's child for the key, if there is a gate.
    node: Option<u32>,
    /// The values, as they are written, with their quotes.
    closed_by: Vec<Box<[u8]>>,
    /// The root's children that are kept even so.
    kept: Vec<u32>,
}

/// Numbers for tries.
static TRIES: AtomicU64 = AtomicU64::new(1);

#[derive(Debug, Default)]
struct Node {
    children: Keys,
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
        let section_nodes = SECTIONS.map(|name| nodes[0].children.get(name.as_bytes()).map(|(_, child)| child));
        let (gate, id) = (Gate::default(), TRIES.fetch_add(1, Ordering::Relaxed));
        Self { paths: names, sections, nodes, section_nodes, gate, id }
    }

    /// Leaves out all but the keys `kept` of events whose key `name`, which comes before most others, has one of `values`.
    #[must_use]
    pub fn closed_by(mut self, name: &str, values: &[&str], kept: &[&str]) -> Self {
        let node = |name: &&str| self.child(Self::ROOT, name);
        self.gate = Gate {
            node: if values.is_empty() { None } else { node(&name) },
            closed_by: values.iter().map(|value| format!("\"{value}\"").into_bytes().into()).collect(),
            kept: kept.iter().filter_map(node).collect(),
        };
        self
    }

    /// Tells this one from all others.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The node of the event itself, for [`Self::child`].
    pub(super) const ROOT: u32 = 0;

    /// The node under a key of a node, if any path goes on there.
    pub(super) fn child(&self, node: u32, key: &str) -> Option<u32> {
        self.nodes.get(node as usize)?.children.get(key.as_bytes()).map(|(_, child)| child)
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

    /// The path of a slot.
    #[must_use]
    pub fn path(&self, slot: Slot) -> &str {
        &self.paths[slot.number()]
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.paths.len()
    }

    /// Whether reading `slot` means parsing a body.
    #[must_use]
    pub fn is_lazy(&self, slot: Slot) -> bool {
        self.section(slot).is_some()
    }

    /// The body that a slot is in, if it is in one: all slots of a body are there or not together, as far as is known before
    /// the body is parsed.
    #[must_use]
    pub fn section(&self, slot: Slot) -> Option<u8> {
        self.sections[slot.0 as usize]
    }
}

/// Whether a path goes into a body, or can: wherever it begins with a key of one, as one text or as several.
#[must_use]
pub fn is_in_a_body(path: &str) -> bool {
    SECTIONS.iter().any(|section| path.starts_with(section))
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
        // Names with dots are mostly ways to read a path that no event takes: the others get the first numbers.
        children.sort_unstable_by(|(a, _), (b, _)| (a.contains('.'), a).cmp(&(b.contains('.'), b)));
        let children = children.into_iter().map(|(key, suffixes)| (key.into(), self.node(suffixes))).collect();
        self.nodes[id as usize] = Node { children: Keys::new(children), slots };
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
    /// Something being unescaped or folded.
    spare: String,
    sections: [Section; 2],
    /// What was learned about the keys of each node, and of which trie.
    trails: Vec<Trail>,
    trie: u64,
    /// A body was asked for and is no JSON.
    broken: bool,
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
    /// Walks over the envelope of an event and keeps its values; returns the event as text.
    pub fn load<'e>(&mut self, projection: &Projection, event: &'e [u8]) -> Result<&'e str, ProjectError> {
        let Ok(text) = simdutf8::basic::from_utf8(event) else {
            return Err(ProjectError { reason: Reason::Syntax, detail: "not valid UTF-8".to_owned() });
        };
        let blank = |rest: &[u8]| rest.iter().all(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t'));
        if !self.load_first(projection, event).is_some_and(|end| blank(&event[end..])) {
            self.load_slowly(projection, text)?;
        }
        Ok(text)
    }

    /// Walks over the event that `bytes` begin with and returns its length; `None` if there is anything unusual about it.
    /// Whether the event is UTF-8 is for the caller to find out.
    pub fn load_first(&mut self, projection: &Projection, bytes: &[u8]) -> Option<usize> {
        self.clear(projection);
        scan::event(projection, self, bytes)
    }

    /// [`Self::load`] by the twin alone.
    fn load_slowly(&mut self, projection: &Projection, text: &str) -> Result<(), ProjectError> {
        self.clear(projection);
        twin::event(projection, self, text)
    }

    fn clear(&mut self, projection: &Projection) {
        if self.trie != projection.id {
            self.trie = projection.id;
            self.trails.clear();
            self.trails.resize_with(projection.nodes.len(), Trail::default);
        }
        for slot in self.touched.drain(..) {
            if let Some(head) = self.heads.get_mut(slot as usize) {
                *head = (NONE, NONE);
            }
        }
        self.heads.resize(projection.paths.len(), (NONE, NONE));
        self.entries.clear();
        self.arena.clear();
        self.sections = [Section::Absent; 2];
        self.broken = false;
    }

    /// Why the event is no JSON after all, if something that was passed over at first turned out to be none.
    #[must_use]
    pub fn broken(&self, event: &str) -> Option<ProjectError> {
        self.broken.then(|| broken(event))
    }

    /// Notes that the event could not be read as a whole.
    pub fn break_off(&mut self) {
        self.broken = true;
    }

    /// Adds a value that is no part of the event.
    pub fn inject(&mut self, slot: Slot, text: &str) {
        let start = self.arena.len();
        self.arena.push_str(text);
        let end = self.arena.len();
        self.push(&[slot.0], Kept::Arena(short(start), short(end)));
    }

    /// Whether the event has the body that `slot` is in; of what is in no body it may have anything.
    #[must_use]
    pub fn may_have(&self, projection: &Projection, slot: Slot) -> bool {
        projection.sections[slot.0 as usize]
            .is_none_or(|section| self.sections[usize::from(section)] != Section::Absent)
    }

    /// Parses the body that `slot` is in, unless that was done.
    #[inline]
    pub fn demand(&mut self, projection: &Projection, slot: Slot, event: &str) {
        let Some(section) = projection.sections[slot.0 as usize] else { return };
        let section = usize::from(section);
        let Section::Raw(start, end) = self.sections[section] else { return };
        self.sections[section] = Section::Parsed;
        let Some(node) = projection.section_nodes[section] else { return };
        let (entries, arena) = (self.entries.len(), self.arena.len());
        let walked = scan::section(projection, self, &event.as_bytes()[..end as usize], start as usize, node);
        if walked.is_none() {
            self.entries.truncate(entries);
            self.arena.truncate(arena);
            self.section_slowly(projection, section, node, &event[start as usize..end as usize]);
        }
    }

    /// A body with doubled keys, where the last one counts (as the apiserver reads it), broken texts or depths: the slow
    /// way.
    fn section_slowly(&mut self, projection: &Projection, section: usize, node: u32, text: &str) {
        for (slot, of) in projection.sections.iter().enumerate() {
            if of.is_some_and(|s| usize::from(s) == section) {
                self.heads[slot] = (NONE, NONE);
            }
        }
        match serde_json::from_str::<&RawValue>(text) {
            Ok(raw) => twin::section(projection, self, node, raw),
            Err(_) => self.broken = true,
        }
    }

    /// The values of a slot, in the order of the event.
    pub fn values<'s>(&'s self, slot: Slot, event: &'s str) -> impl Iterator<Item = Val<'s>> + 's {
        let mut at = self.heads.get(slot.0 as usize).map_or(NONE, |head| head.0);
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.next;
            Some(self.view(entry.kept, event))
        })
    }

    /// The slots that have values, one after the other, in the order of the event; of bodies only of those that were parsed.
    #[must_use]
    pub fn touched(&self, number: usize) -> Option<Slot> {
        self.touched.get(number).copied().map(Slot)
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
    pub fn at<'s>(&'s self, at: u32, event: &'s str) -> Val<'s> {
        self.view(self.entries[at as usize].kept, event)
    }

    /// The text at a position in lower case, made once; `None` if it is no scalar.
    pub fn folded<'s>(&'s mut self, at: u32, event: &'s str) -> Option<&'s str> {
        if self.entries[at as usize].folded.is_none() {
            let start = self.arena.len();
            match self.entries[at as usize].kept {
                Kept::Raw(from, to) => {
                    fold_into(event.get(from as usize..to as usize).unwrap_or_default(), &mut self.arena);
                }
                Kept::Arena(from, to) => {
                    self.spare.clear();
                    self.spare.push_str(self.arena.get(from as usize..to as usize).unwrap_or_default());
                    fold_into(&self.spare, &mut self.arena);
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

    fn view<'s>(&'s self, kept: Kept, event: &'s str) -> Val<'s> {
        match kept {
            Kept::Null => Val::Null,
            Kept::Bool(value) => Val::Bool(value),
            Kept::Int(value) => Val::Int(value),
            Kept::Float(value) => Val::Float(value),
            // Strings begin and end between characters.
            Kept::Raw(from, to) => Val::Str(event.get(from as usize..to as usize).unwrap_or_default()),
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

/// What is wrong with an event that is no JSON.
fn broken(event: &str) -> ProjectError {
    let detail = match serde_json::from_str::<serde::de::IgnoredAny>(event) {
        Ok(_) => "not valid JSON".to_owned(),
        Err(error) => describe(&error),
    };
    ProjectError { reason: Reason::Syntax, detail }
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
