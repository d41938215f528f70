//! Witnesses: for rules that a few fields of the envelope do not narrow down, something that must be true of the event
//! somewhere if the rule is. What it is is told from the rule's expression, and all of one field are looked up at once.

use std::collections::{BTreeMap, HashMap};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use foldhash::fast::FixedState;
use ipnet::IpNet;
use regex_syntax::hir::{Hir, HirKind};

use super::regexes::{Matching, Regexes};
use super::shape::Shape;
use super::{Bits, VALUE_MAX};
use crate::engine::predicate::{longest_literal, number};
use crate::event::project::fold;
use crate::event::{Projection, Scratch, Slot, Val};
use crate::rule::ir::{Expr, Op, Ordering, Quantifier, Regex, Relation, Test, Text, address};
use crate::rule::number::Number;

/// Alternatives that a witness may consist of.
const ATOMS_MAX: usize = 2_000;

/// Shorter literals than this are in too many texts.
const LITERAL_MIN: usize = 3;

/// Bytes of all patterns of a field up to which their automaton is made for speed instead of size.
const PATTERNS_FAST_MAX: usize = 20_000;

/// What one event must have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Atom {
    slot: Slot,
    asks: Asks,
}

#[derive(Clone, Debug, PartialEq)]
enum Asks {
    /// A value is this text, in lower case.
    Is(String),
    /// A value has this text in it, in lower case; at its start or end only, if so.
    Has(String, Relation),
    /// A value is an address within this network.
    Net(IpNet),
    /// A value is a number that compares so.
    Number(Ordering, Number),
    /// A value matches this regular expression.
    Matches(String),
    /// A value is of another shape.
    Lacks(Shape),
    /// There is a value, or the body that it would be in.
    Present,
}

impl Asks {
    /// How many events it lets through and what it costs to ask, roughly: less is better.
    fn cost(&self) -> u32 {
        match self {
            Self::Is(_) => 1,
            Self::Net(_) => 3,
            Self::Has(..) => 4,
            Self::Number(..) => 6,
            Self::Matches(_) | Self::Lacks(_) => 7,
            Self::Present => 8,
        }
    }

    /// The same of what is asked at a path: few events have an annotation, but for those of the authorizer.
    fn cost_at(&self, path: &str) -> u32 {
        match self {
            Self::Present if path.starts_with("annotations.") && !path.contains("authorization.k8s.io/") => 2,
            asks => asks.cost(),
        }
    }
}

/// What must be looked at for all rules.
#[derive(Debug, Default)]
pub(super) struct Witnesses {
    /// By the fields that must be looked at.
    pub(super) fields: Vec<OfField>,
    /// The rules that have none.
    pub(super) without: Bits,
}

/// The rules of each network, by the bits of its prefix.
type ByBits = HashMap<u128, Box<[u32]>, FixedState>;

/// What is looked up about one field.
#[derive(Debug)]
pub(super) struct OfField {
    pub(super) slot: Slot,
    /// It is in a body.
    pub(super) is_lazy: bool,
    /// Rules that have a witness here.
    pub(super) rules: Bits,
    equal: HashMap<Box<str>, Box<[u32]>, FixedState>,
    /// Longer values are none of `equal`.
    longest: usize,
    literals: Option<Literals>,
    /// By the length of their prefix, networks of the version of IP.
    networks: Vec<(bool, u8, ByBits)>,
    numbers: Vec<(Ordering, Number, Box<[u32]>)>,
    regexes: Option<Regexes>,
    shapes: Vec<(Shape, Vec<u32>)>,
    present: Box<[u32]>,
}

#[derive(Debug)]
struct Literals {
    automaton: AhoCorasick,
    /// Most texts need not be put into lower case for it.
    guard: Option<Guard>,
    /// Of each pattern: where in the text it must be, and the rules.
    rules: Vec<Vec<(Relation, u32)>>,
}

impl Witnesses {
    /// `narrowed`: for each rule, whether what the index knows of it lets few events through anyway.
    /// `indexed`: fields of which the index knows what rules admit.
    /// `familiar`: fields whose values are remembered.
    pub(super) fn new(
        exprs: &[Expr],
        narrowed: &[bool],
        indexed: &[Slot],
        familiar: &[Slot],
        projection: &Projection,
    ) -> Self {
        let looked_for = Search { projection, indexed, inside: false };
        let words = exprs.len().div_ceil(64);
        let mut without = vec![0_u64; words].into_boxed_slice();
        let mut all = Vec::new();
        let mut of_section: BTreeMap<u8, Slot> = BTreeMap::new();
        for (rule, (expr, narrowed)) in exprs.iter().zip(narrowed).enumerate() {
            let found = looked_for.witness(expr).filter(|atoms| {
                // Looking a value up costs next to nothing, and so does what is remembered; more must be worth it.
                let cheap =
                    |atom: &Atom| matches!(atom.asks, Asks::Is(_) | Asks::Present) || familiar.contains(&atom.slot);
                !narrowed || atoms.iter().all(cheap)
            });
            let number = u32::try_from(rule).unwrap_or(u32::MAX);
            match found {
                Some(atoms) => {
                    for Atom { slot, asks } in atoms {
                        // Of a body it is only asked whether it is there: once for all that is in it.
                        let section = projection.section(slot);
                        let slot = section.map_or(slot, |section| *of_section.entry(section).or_insert(slot));
                        all.push((Atom { slot, asks }, number));
                    }
                }
                None => without[rule / 64] |= 1 << (rule % 64),
            }
        }
        Self { fields: fields_of(all, words, projection), without }
    }
}

/// What is to be looked up, with the numbers of the rules, by field.
pub(super) fn fields_of(atoms: Vec<(Atom, u32)>, words: usize, projection: &Projection) -> Vec<OfField> {
    let mut by_slot: BTreeMap<Slot, Vec<(Asks, u32)>> = BTreeMap::new();
    for (Atom { slot, asks }, rule) in atoms {
        by_slot.entry(slot).or_default().push((asks, rule));
    }
    by_slot.into_iter().map(|(slot, atoms)| OfField::new(slot, projection.is_lazy(slot), atoms, words)).collect()
}

fn grouped<K: Ord>(atoms: impl Iterator<Item = (K, u32)>) -> BTreeMap<K, Vec<u32>> {
    let mut groups: BTreeMap<K, Vec<u32>> = BTreeMap::new();
    for (key, rule) in atoms {
        groups.entry(key).or_default().push(rule);
    }
    groups
}

impl OfField {
    fn new(slot: Slot, is_lazy: bool, atoms: Vec<(Asks, u32)>, words: usize) -> Self {
        let mut rules = vec![0_u64; words].into_boxed_slice();
        let (mut equal, mut literals, mut nets, mut numbers, mut regexes, mut shapes, mut present) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (asks, rule) in atoms {
            rules[rule as usize / 64] |= 1 << (rule % 64);
            match asks {
                Asks::Is(text) => equal.push((text, rule)),
                Asks::Has(text, how) => literals.push((text, how, rule)),
                Asks::Net(net) => nets.push((net, rule)),
                Asks::Number(ordering, bound) => numbers.push((ordering, bound, rule)),
                Asks::Matches(pattern) => regexes.push((pattern, rule)),
                Asks::Lacks(shape) => shapes.push((shape, rule)),
                Asks::Present => present.push(rule),
            }
        }
        let regexes: Vec<(String, Vec<u32>)> = grouped(regexes.into_iter()).into_iter().collect();
        let together = if regexes.is_empty() { None } else { Regexes::new(&regexes) };
        if together.is_none() {
            present.extend(regexes.iter().flat_map(|(_, rules)| rules));
        }
        let equal: HashMap<Box<str>, Box<[u32]>, FixedState> =
            grouped(equal.into_iter()).into_iter().map(|(text, rules)| (text.into(), rules.into())).collect();
        Self {
            slot,
            is_lazy,
            rules,
            longest: equal.keys().map(|text| text.len()).max().unwrap_or(0),
            equal,
            literals: Literals::new(literals),
            networks: networks(nets),
            numbers: numbers_of(numbers),
            regexes: together,
            shapes: grouped(shapes.into_iter()).into_iter().collect(),
            present: present.into(),
        }
    }

    /// What a worker keeps.
    pub(super) fn matching(&self) -> Option<Matching> {
        self.regexes.as_ref().map(Regexes::matching)
    }

    /// Sets the bits of the rules whose witness is here.
    pub(super) fn look(
        &self,
        projection: &Projection,
        scratch: &mut Scratch,
        event: &str,
        found: &mut [u64],
        matching: &mut Option<Matching>,
    ) {
        if !self.is_lazy {
            self.look_at_values(scratch, event, found, matching);
        } else if scratch.may_have(projection, self.slot) {
            set(found, &self.present);
        }
    }

    /// Like [`Self::look`], for a field outside of bodies.
    pub(super) fn look_at_values(
        &self,
        scratch: &mut Scratch,
        event: &str,
        found: &mut [u64],
        matching: &mut Option<Matching>,
    ) {
        let Some(first) = scratch.first(self.slot) else { return };
        set(found, &self.present);
        let mut next = Some(first);
        while let Some(at) = next {
            self.look_at(scratch, at, event, found, matching);
            next = scratch.following(at);
        }
    }

    fn look_at(&self, scratch: &mut Scratch, at: u32, event: &str, found: &mut [u64], matching: &mut Option<Matching>) {
        if let (Some(regexes), Some(matching)) = (&self.regexes, matching) {
            match scratch.at(at, event) {
                Val::Str(text) => regexes.look(text, matching).for_each(|rules| set(found, rules)),
                _ => regexes.rules().for_each(|rules| set(found, rules)),
            }
        }
        for (shape, rules) in &self.shapes {
            if !matches!(scratch.at(at, event), Val::Str(text) if shape.is_of(text)) {
                set(found, rules);
            }
        }
        if !self.numbers.is_empty()
            && let Some(number) = number(scratch.at(at, event))
        {
            for (ordering, bound, rules) in &self.numbers {
                if ordering.holds(&number, bound) {
                    set(found, rules);
                }
            }
        }
        if !self.networks.is_empty()
            && let Val::Str(text) = scratch.at(at, event)
            && let Some(address) = address(text)
        {
            let (v4, bits) = match address {
                std::net::IpAddr::V4(address) => (true, u128::from(u32::from(address)) << 96),
                std::net::IpAddr::V6(address) => (false, u128::from(address)),
            };
            for (_, length, nets) in self.networks.iter().filter(|(of_v4, ..)| *of_v4 == v4) {
                if let Some(rules) = nets.get(&masked(bits, *length)) {
                    set(found, rules);
                }
            }
        }
        if self.equal.is_empty() {
            let Some(literals) = &self.literals else { return };
            if matches!(scratch.at(at, event), Val::Str(text) if !literals.may_be_in(text)) {
                return;
            }
        }
        let Some(text) = scratch.folded(at, event) else { return };
        if text.len() <= self.longest
            && let Some(rules) = self.equal.get(text)
        {
            set(found, rules);
        }
        if let Some(literals) = &self.literals {
            literals.look(text, found);
        }
    }
}

fn set(found: &mut [u64], rules: &[u32]) {
    for rule in rules {
        found[*rule as usize / 64] |= 1 << (rule % 64);
    }
}

/// An address without what is behind the prefix.
fn masked(bits: u128, length: u8) -> u128 {
    bits & u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0)
}

fn networks(nets: Vec<(IpNet, u32)>) -> Vec<(bool, u8, ByBits)> {
    let keyed = nets.into_iter().map(|(net, rule)| {
        let (v4, bits) = match net {
            IpNet::V4(net) => (true, u128::from(u32::from(net.network())) << 96),
            IpNet::V6(net) => (false, u128::from(net.network())),
        };
        ((v4, net.prefix_len(), bits), rule)
    });
    let mut tables: BTreeMap<(bool, u8), ByBits> = BTreeMap::new();
    for ((v4, length, bits), rules) in grouped(keyed) {
        tables.entry((v4, length)).or_default().insert(bits, rules.into());
    }
    tables.into_iter().map(|((v4, length), table)| (v4, length, table)).collect()
}

fn numbers_of(numbers: Vec<(Ordering, Number, u32)>) -> Vec<(Ordering, Number, Box<[u32]>)> {
    let mut tables: Vec<(Ordering, Number, Vec<u32>)> = Vec::new();
    for (ordering, bound, rule) in numbers {
        match tables.iter_mut().find(|(known, of, _)| *known == ordering && *of == bound) {
            Some((.., rules)) => rules.push(rule),
            None => tables.push((ordering, bound, vec![rule])),
        }
    }
    tables.into_iter().map(|(ordering, bound, rules)| (ordering, bound, rules.into())).collect()
}

impl Literals {
    fn new(literals: Vec<(String, Relation, u32)>) -> Option<Self> {
        if literals.is_empty() {
            return None;
        }
        let mut patterns: BTreeMap<String, Vec<(Relation, u32)>> = BTreeMap::new();
        for (text, how, rule) in literals {
            patterns.entry(text).or_default().push((how, rule));
        }
        let bytes: usize = patterns.keys().map(String::len).sum();
        let kind = if bytes > PATTERNS_FAST_MAX { AhoCorasickKind::ContiguousNFA } else { AhoCorasickKind::DFA };
        let automaton = AhoCorasick::builder().match_kind(MatchKind::Standard).kind(Some(kind)).build(patterns.keys());
        let guard = Guard::new(patterns.keys());
        let rules = patterns.into_values().collect();
        Some(Self { automaton: automaton.ok()?, guard, rules })
    }

    /// Whether any may be in a text, in whatever case.
    fn may_be_in(&self, text: &str) -> bool {
        self.guard.as_ref().is_none_or(|guard| guard.may_be_in(text))
    }

    fn look(&self, text: &str, found: &mut [u64]) {
        for hit in self.automaton.find_overlapping_iter(text) {
            for (how, rule) in &self.rules[hit.pattern().as_usize()] {
                let there = match how {
                    Relation::StartsWith => hit.start() == 0,
                    Relation::EndsWith => hit.end() == text.len(),
                    Relation::Is | Relation::Contains => true,
                };
                if there {
                    found[*rule as usize / 64] |= 1 << (rule % 64);
                }
            }
        }
    }
}

/// Patterns that have a byte in common which no letter is: they are looked for where it stands.
#[derive(Debug)]
struct Guard {
    byte: u8,
    /// Each pattern, and where in it the byte first stands.
    patterns: Vec<(Box<str>, usize)>,
}

impl Guard {
    /// With more patterns than these it is as cheap to look for all of them at once.
    const PATTERNS_MAX: usize = 4;

    fn new<'p>(patterns: impl ExactSizeIterator<Item = &'p String> + Clone) -> Option<Self> {
        let few = patterns.len() <= Self::PATTERNS_MAX;
        let mut signs = patterns.clone().next().filter(|_| few)?.bytes().filter(u8::is_ascii_punctuation);
        let byte = signs.find(|sign| patterns.clone().all(|text| text.as_bytes().contains(sign)))?;
        let placed = patterns.filter_map(|text| Some((text.as_str().into(), memchr::memchr(byte, text.as_bytes())?)));
        Some(Self { byte, patterns: placed.collect() })
    }

    /// Other letters than those of ASCII may become letters of ASCII in lower case: then it is not looked closer.
    fn may_be_in(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        let stands = |at: usize| {
            self.patterns.iter().any(|(pattern, place)| {
                let here = at.checked_sub(*place).and_then(|begin| bytes.get(begin..begin + pattern.len()));
                here.is_some_and(|here| here.eq_ignore_ascii_case(pattern.as_bytes()))
            })
        };
        !text.is_ascii() || memchr::memchr_iter(self.byte, bytes).any(stands)
    }
}

/// Looks for witnesses in expressions.
pub(super) struct Search<'s> {
    pub(super) projection: &'s Projection,
    /// Fields of which the index knows what rules admit.
    pub(super) indexed: &'s [Slot],
    /// Look inside of bodies, and nowhere else; not, only whether they are there.
    pub(super) inside: bool,
}

impl Search<'_> {
    /// What must be true of an event somewhere if the expression is: one of these.
    pub(super) fn witness(&self, expr: &Expr) -> Option<Vec<Atom>> {
        match expr {
            Expr::All(parts) => {
                let other_shapes = parts.iter().filter_map(|part| self.other_shape(part, parts));
                parts
                    .iter()
                    .filter_map(|part| self.witness(part))
                    .chain(other_shapes)
                    .min_by_key(|atoms| self.cost(atoms))
            }
            Expr::Any(parts) => {
                let mut atoms = Vec::new();
                for part in parts {
                    atoms.extend(self.witness(part)?);
                }
                (atoms.len() <= ATOMS_MAX).then_some(atoms)
            }
            Expr::Not(_) => None,
            Expr::Test(test) => {
                let slot = self.projection.slot(test.field.plain()?.path())?;
                let asks = match self.projection.is_lazy(slot) {
                    true if self.inside => inside(of_op(&test.op)?),
                    true => vec![Asks::Present],
                    false if self.inside => return None,
                    false => of_op(&test.op)?,
                };
                // What the index knows need not be looked up again.
                let known = self.indexed.contains(&slot) && !asks.iter().all(|asks| matches!(asks, Asks::Number(..)));
                let is_null = matches!(test.op, Op::Null);
                (!known && !is_null).then(|| asks.into_iter().map(|asks| Atom { slot, asks }).collect())
            }
        }
    }

    fn cost(&self, atoms: &[Atom]) -> (u32, usize) {
        let of_atom = |atom: &Atom| atom.asks.cost_at(self.projection.path(atom.slot));
        (atoms.iter().map(of_atom).max().unwrap_or(0), atoms.len())
    }

    /// Where a value must be there that an expression does not match: of an expression that is a [`Shape`], and if all of
    /// `parts` hold, of which `part` is one.
    fn other_shape(&self, part: &Expr, parts: &[Expr]) -> Option<Vec<Atom>> {
        let Expr::Not(part) = part else { return None };
        let Expr::Test(Test { field, op: Op::Regex(Regex(regex)), of: Quantifier::Any }) = &**part else { return None };
        let is_there =
            |part: &Expr| matches!(part, Expr::Test(Test { field: other, op: Op::Exists, .. }) if other == field);
        let slot = self.projection.slot(field.plain()?.path())?;
        let looked_at = !self.inside && !self.projection.is_lazy(slot) && !self.indexed.contains(&slot);
        if !looked_at || !parts.iter().any(is_there) {
            return None;
        }
        Some(vec![Atom { slot, asks: Asks::Lacks(Shape::of(regex.as_str())?) }])
    }
}

/// What a value must be that makes a question true: one of these.
fn of_op(op: &Op) -> Option<Vec<Asks>> {
    let present = || vec![Asks::Present];
    Some(match op {
        Op::Null => return None,
        Op::Text { pattern: Text::Plain(how, text), .. } => {
            of_text(*how, &fold(text)).map_or_else(present, |asks| vec![asks])
        }
        Op::Text { pattern: Text::Glob(pieces), .. } => {
            let longest = longest_literal(pieces).unwrap_or_default();
            of_text(Relation::Contains, &longest).map_or_else(present, |asks| vec![asks])
        }
        Op::OneOf { texts, .. } if texts.len() <= ATOMS_MAX => {
            let asks = texts.iter().map(|text| of_text(Relation::Is, &fold(text)));
            asks.collect::<Option<Vec<Asks>>>().unwrap_or_else(present)
        }
        Op::Regex(Regex(regex)) => {
            let literal = regex_syntax::parse(regex.as_str()).ok().and_then(|hir| required(&hir));
            let text = literal.map(|literal| fold(&literal)).unwrap_or_default();
            vec![of_text(Relation::Contains, &text).unwrap_or_else(|| Asks::Matches(regex.as_str().to_owned()))]
        }
        Op::Cidr(net) => vec![Asks::Net(*net)],
        Op::Compare(ordering, bound) => vec![Asks::Number(*ordering, *bound)],
        Op::Number(number) => vec![Asks::Number(Ordering::Eq, *number)],
        Op::Exists | Op::OneOf { .. } | Op::Time(..) | Op::Field { .. } => present(),
    })
}

/// Of what is inside of bodies only whole texts are looked up: everything else is asked soon enough.
fn inside(asks: Vec<Asks>) -> Vec<Asks> {
    if asks.iter().all(|asks| matches!(asks, Asks::Is(_))) { asks } else { vec![Asks::Present] }
}

/// A text in lower case, looked for in some way; `None` if it is in too many texts, or too long to be looked up.
fn of_text(how: Relation, text: &str) -> Option<Asks> {
    match how {
        Relation::Is if text.len() <= VALUE_MAX * 4 => Some(Asks::Is(text.to_owned())),
        Relation::Is => None,
        how if text.len() >= LITERAL_MIN => Some(Asks::Has(text.to_owned(), how)),
        _ => None,
    }
}

/// The longest text that everything has which a regular expression matches.
fn required(hir: &Hir) -> Option<String> {
    match hir.kind() {
        HirKind::Literal(literal) => String::from_utf8(literal.0.to_vec()).ok(),
        HirKind::Capture(capture) => required(&capture.sub),
        HirKind::Repetition(repetition) if repetition.min > 0 => required(&repetition.sub),
        HirKind::Concat(parts) => parts.iter().filter_map(required).max_by_key(String::len),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_pattern_hides_from_the_guard(
            patterns in prop::collection::btree_set("[ab=&]{1,4}", 1..6),
            text in "[aAbB=&éİ]{0,12}",
        ) {
            let patterns: Vec<String> = patterns.into_iter().collect();
            if let Some(guard) = Guard::new(patterns.iter()) {
                let there = patterns.iter().any(|pattern| fold(&text).contains(pattern));
                prop_assert!(guard.may_be_in(&text) || !there);
                prop_assert!(there || !text.is_ascii() || !guard.may_be_in(&text));
            }
        }
    }
}
