//! The index: which rules can still match an event, told from a few fields of its envelope.
//!
//! For each indexed field, every value that some rule insists on has the set of rules that admit it; an event's
//! candidates are the intersection over the fields. It may let a rule through that does not match, never the reverse.

mod familiar;
mod inside;
mod memo;
mod regexes;
mod shape;
mod witness;

use std::collections::{BTreeSet, HashMap};

use super::predicate::{Case, Interner};
use crate::event::project::fold;
use crate::event::{Projection, Scratch, Slot, Val};
use crate::rule::ir::{Expr, Op, Relation, Rule, STAGES_DECIDED, Test, Text};
use familiar::{Known, Part};
use foldhash::fast::FixedState;
use inside::Inside;
use memo::{Memo, write_key};
use regexes::Matching;
use witness::{OfField, Witnesses};

/// The fields that rules usually insist on.
pub(super) const FIELDS: [&str; 7] = [
    "stage",
    "verb",
    "objectRef.resource",
    "objectRef.subresource",
    "objectRef.apiGroup",
    "responseStatus.code",
    "annotations.authorization.k8s.io/decision",
];

/// The stages that an apiserver writes.
const STAGES: [&str; 4] = ["RequestReceived", "ResponseStarted", "ResponseComplete", "Panic"];

const NUMERIC: &str = "responseStatus.code";

/// Longer values than this are in no rule's list, or are looked at by every rule.
const VALUE_MAX: usize = 64;

/// The field that tells most rules apart, and how many of its values a rule may admit and still be told apart by it.
const NARROWING: &str = "objectRef.resource";
const FEW: usize = 8;

/// A set of rules.
type Bits = Box<[u64]>;

/// Longer values of the index's fields, all together, are not remembered.
const KEY_MAX: usize = 192;

/// The rules that may match an event, and what was learned about the events before.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    pub(super) rules: Vec<u64>,
    spare: Vec<u64>,
    /// Where it is worth to look for these rules: a bit for each part of what is familiar, then for each field.
    places: Vec<u64>,
    /// Of which trie the rest is.
    trie: u64,
    /// The values of the index's fields, one after the other.
    key: Vec<u8>,
    /// The rules that admit them, those whose witness need not be looked for elsewhere, and where to look for the others.
    admitted: Memo,
    /// What is known of what comes again.
    known: Vec<Known>,
    /// For each other field.
    matching: Vec<Option<Matching>>,
}

#[derive(Debug)]
pub(super) struct Index {
    fields: Vec<FieldIndex>,
    familiar: Vec<Part>,
    /// Witnesses in the index's own fields.
    own: Vec<OfField>,
    witnesses: Vec<OfField>,
    /// Rules that have no witness.
    without: Bits,
    inside: Inside,
    words: usize,
}

#[derive(Debug)]
struct FieldIndex {
    slot: Slot,
    /// The field is a number in every real event.
    numeric: bool,
    values: HashMap<Box<str>, Bits, FixedState>,
    /// For values that no rule names.
    other: Bits,
    /// For events without the field.
    absent: Bits,
}

/// What a rule admits in one field; `None` is anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Admitted {
    values: BTreeSet<String>,
    absent: bool,
}

impl Index {
    /// `exprs`: those of the rules, simplified.
    pub(super) fn new(rules: &[Rule], exprs: &[Expr], interner: &mut Interner<'_>) -> Self {
        let projection = interner.projection;
        let words = rules.len().div_ceil(64);
        let mut narrowed = vec![false; rules.len()];
        let fields = FIELDS.iter().filter_map(|field| {
            let slot = projection.slot(field)?;
            let admitted = rules.iter().zip(exprs).map(|(rule, expr)| admitted_by(rule, expr, field));
            let admitted: Vec<Option<Admitted>> = admitted.collect();
            if *field == NARROWING {
                let few = |admitted: &Option<Admitted>| {
                    admitted.as_ref().is_some_and(|admitted| !admitted.absent && admitted.values.len() <= FEW)
                };
                narrowed = admitted.iter().map(few).collect();
            }
            Some(FieldIndex::new(slot, *field == NUMERIC, &admitted, words))
        });
        let fields: Vec<FieldIndex> = fields.collect();
        let indexed: Vec<Slot> = fields.iter().map(|field| field.slot).collect();
        let familiar: Vec<Vec<Slot>> = familiar::slots(projection).collect();
        let Witnesses { fields: mut witnesses, without } =
            Witnesses::new(exprs, &narrowed, &indexed, &familiar.concat(), projection);
        let own = witnesses.extract_if(.., |field| indexed.contains(&field.slot)).collect();
        let familiar = familiar.into_iter().filter_map(|slots| {
            let here: Vec<OfField> = witnesses.extract_if(.., |field| slots.contains(&field.slot)).collect();
            Part::new(slots, exprs, here, interner)
        });
        let familiar = familiar.collect();
        Self { fields, familiar, own, witnesses, without, inside: Inside::new(exprs, projection), words }
    }

    /// The stages at which no rule can be true.
    pub(super) fn quiet_stages(rules: &[Rule], exprs: &[Expr]) -> Vec<&'static str> {
        let admits = |stage: &str| {
            rules.iter().zip(exprs).any(|(rule, expr)| {
                admitted_by(rule, expr, "stage").is_none_or(|admitted| admitted.values.contains(&fold(stage)))
            })
        };
        STAGES.into_iter().filter(|stage| !admits(stage)).collect()
    }

    /// Writes the rules that may match into `candidates`; false if there are none.
    pub(super) fn candidates(
        &self,
        projection: &Projection,
        scratch: &mut Scratch,
        event: &str,
        candidates: &mut Candidates,
    ) -> bool {
        if candidates.trie != projection.id() {
            candidates.begin(projection, self);
        }
        let Candidates { rules, spare, places, key, admitted, .. } = candidates;
        let slots = self.fields.iter().map(|field| field.slot);
        let remembered = if write_key(slots, scratch, event, key) { admitted.entry(key) } else { None };
        match remembered {
            Some((entry, fresh)) => {
                let (set, rest) = admitted.set(entry).split_at_mut(self.words);
                let (here, where_to) = rest.split_at_mut(self.words);
                if fresh {
                    self.admitting(scratch, event, set);
                    self.witnessed(scratch, event, here);
                    self.places(set, where_to);
                }
                rules.copy_from_slice(set);
                spare.copy_from_slice(here);
                places.copy_from_slice(where_to);
            }
            None => {
                self.admitting(scratch, event, rules);
                self.witnessed(scratch, event, spare);
                self.places(rules, places);
            }
        }
        rules.iter().any(|word| *word != 0) && self.look(projection, scratch, event, candidates)
    }

    /// Writes the rules that have no witness, or have it in the index's own fields: what is compared as numbers there.
    fn witnessed(&self, scratch: &mut Scratch, event: &str, rules: &mut [u64]) {
        rules.copy_from_slice(&self.without);
        self.own.iter().for_each(|field| field.look_at_values(scratch, event, rules, &mut None));
    }

    /// Marks where it is worth to look for these rules.
    fn places(&self, rules: &[u64], places: &mut [u64]) {
        places.fill(0);
        let all = self.familiar.iter().map(|part| &part.rules).chain(self.witnesses.iter().map(|field| &field.rules));
        for (place, here) in all.enumerate() {
            let any = here.iter().zip(rules).any(|(here, rules)| here & rules != 0);
            places[place / 64] |= u64::from(any) << (place % 64);
        }
    }

    /// Takes those rules out of the candidates whose witness the event lacks; false if none is left. Those that need none are
    /// in `spare`.
    fn look(&self, projection: &Projection, scratch: &mut Scratch, event: &str, candidates: &mut Candidates) -> bool {
        let Candidates { rules, spare, places, known, matching, .. } = candidates;
        known.iter_mut().for_each(Known::forget);
        for (word, places) in places.iter().enumerate() {
            let mut places = *places;
            while places != 0 {
                let place = word * 64 + places.trailing_zeros() as usize;
                places &= places - 1;
                match self.familiar.get(place) {
                    Some(part) => part.look(scratch, event, spare, &mut known[place]),
                    None => {
                        let number = place - self.familiar.len();
                        let field = &self.witnesses[number];
                        // Most annotations are in few events.
                        if field.is_lazy || scratch.first(field.slot).is_some() {
                            field.look(projection, scratch, event, spare, &mut matching[number]);
                        }
                    }
                }
            }
        }
        and(rules, spare)
    }

    /// Takes those rules out of the candidates that demand something else of what is familiar, or of what is in bodies;
    /// false if none is left.
    pub(super) fn narrow(&self, case: &mut Case<'_>, candidates: &mut Candidates) -> bool {
        let Candidates { rules, spare, known, .. } = candidates;
        for (part, known) in self.familiar.iter().zip(known) {
            part.narrow(case, rules, known);
        }
        if rules.iter().all(|word| *word == 0) {
            return false;
        }
        self.inside.narrow(case, rules, spare);
        rules.iter().any(|word| *word != 0)
    }

    /// Writes the rules that admit the event's values into `rules`.
    fn admitting(&self, scratch: &mut Scratch, event: &str, rules: &mut [u64]) {
        rules.fill(u64::MAX);
        for field in &self.fields {
            let Some(bits) = field.admitting(scratch, event) else { continue };
            if !and(rules, bits) {
                return;
            }
        }
    }
}

impl Candidates {
    /// Begins with a set of rules.
    fn begin(&mut self, projection: &Projection, index: &Index) {
        let places = (index.familiar.len() + index.witnesses.len()).div_ceil(64);
        *self = Self {
            rules: vec![0; index.words],
            spare: vec![0; index.words],
            places: vec![0; places],
            trie: projection.id(),
            key: std::mem::take(&mut self.key),
            admitted: Memo::new(2 * index.words + places, KEY_MAX),
            known: index.familiar.iter().map(Part::known).collect(),
            matching: index.witnesses.iter().map(OfField::matching).collect(),
        };
    }
}

/// A set of those rules, by their numbers, for which it says so.
fn bits_of(rules: impl ExactSizeIterator<Item = bool>) -> Bits {
    let mut bits = vec![0_u64; rules.len().div_ceil(64)].into_boxed_slice();
    rules.enumerate().for_each(|(rule, is)| bits[rule / 64] |= u64::from(is) << (rule % 64));
    bits
}

/// Leaves in `rules` those that are in `others` too; false if there are none.
fn and(rules: &mut [u64], others: &[u64]) -> bool {
    let mut any = 0;
    for (rules, others) in rules.iter_mut().zip(others) {
        *rules &= others;
        any |= *rules;
    }
    any != 0
}

impl FieldIndex {
    fn new(slot: Slot, numeric: bool, admitted: &[Option<Admitted>], words: usize) -> Self {
        let empty = || vec![0_u64; words].into_boxed_slice();
        let named: BTreeSet<&String> = admitted.iter().flatten().flat_map(|a| &a.values).collect();
        let mut values: HashMap<Box<str>, Bits, FixedState> =
            named.into_iter().map(|value| (value.as_str().into(), empty())).collect();
        let (mut other, mut absent) = (empty(), empty());
        for (rule, admitted) in admitted.iter().enumerate() {
            let (word, bit) = (rule / 64, 1_u64 << (rule % 64));
            match admitted {
                None => {
                    other[word] |= bit;
                    absent[word] |= bit;
                    values.values_mut().for_each(|bits| bits[word] |= bit);
                }
                Some(admitted) => {
                    if admitted.absent {
                        absent[word] |= bit;
                    }
                    for value in &admitted.values {
                        if let Some(bits) = values.get_mut(value.as_str()) {
                            bits[word] |= bit;
                        }
                    }
                }
            }
        }
        Self { slot, numeric, values, other, absent }
    }

    /// The rules that admit the event's value; `None` when the value says nothing.
    fn admitting(&self, scratch: &mut Scratch, event: &str) -> Option<&Bits> {
        let Some(at) = scratch.first(self.slot) else { return Some(&self.absent) };
        // Several values, nulls and odd types happen in no real envelope: let every rule look. A code must be a number,
        // because texts that read as one number are many.
        let usual = match scratch.at(at, event) {
            Val::Str(_) => !self.numeric,
            Val::Int(_) => self.numeric,
            _ => false,
        };
        if !usual || scratch.following(at).is_some() {
            return None;
        }
        let value = scratch.folded(at, event)?;
        if value.len() > VALUE_MAX {
            return Some(&self.other);
        }
        Some(self.values.get(value).unwrap_or(&self.other))
    }
}

/// What a rule's expression, and its silence about stages, admits in a field.
fn admitted_by(rule: &Rule, expr: &Expr, field: &str) -> Option<Admitted> {
    if field == "stage" && !rule.names_stage {
        return Some(Admitted { values: STAGES_DECIDED.map(str::to_owned).into(), absent: false });
    }
    admitted(expr, field)
}

fn admitted(expr: &Expr, field: &str) -> Option<Admitted> {
    match expr {
        Expr::All(parts) => parts.iter().filter_map(|part| admitted(part, field)).reduce(|a, b| Admitted {
            values: a.values.intersection(&b.values).cloned().collect(),
            absent: a.absent && b.absent,
        }),
        Expr::Any(parts) => {
            let mut union = Admitted::default();
            for part in parts {
                let part = admitted(part, field)?;
                union.values.extend(part.values);
                union.absent |= part.absent;
            }
            Some(union)
        }
        Expr::Not(part) => match &**part {
            Expr::Test(Test { field: tested, op: Op::Exists, .. }) if tested.as_str() == field => {
                Some(Admitted { values: BTreeSet::new(), absent: true })
            }
            _ => None,
        },
        Expr::Test(test) if test.field.as_str() == field => match &test.op {
            Op::Text { pattern: Text::Plain(Relation::Is, text), cased } => {
                let text = if *cased { fold(text) } else { text.clone() };
                // The length that counts is the one in lower case: some characters grow.
                (text.len() <= VALUE_MAX).then(|| Admitted { values: [text].into(), absent: false })
            }
            Op::OneOf { texts, .. } => {
                let texts: BTreeSet<String> = texts.iter().map(|text| fold(text)).collect();
                texts.iter().all(|text| text.len() <= VALUE_MAX).then_some(Admitted { values: texts, absent: false })
            }
            Op::Number(number) if field == NUMERIC => {
                let number = number.whole()?.to_string();
                Some(Admitted { values: [number].into(), absent: false })
            }
            Op::Null => Some(Admitted { values: BTreeSet::new(), absent: true }),
            _ => None,
        },
        Expr::Test(_) => None,
    }
}
