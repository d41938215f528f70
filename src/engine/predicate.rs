//! Predicates: the tests of all rules, each kept once, asked at most once per event.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write};
use std::sync::Arc;

use foldhash::fast::FixedState;
use serde_json::Value;

use super::harmless::Harmless;
use super::substrings::Substrings;
use crate::event::project::{fold, fold_into};
use crate::event::{FieldPath, Projection, Scratch, Slot, Val, any_scalar, label, value};
use crate::rule::field::Field;
use crate::rule::ir::{Expr, Glob, Op, Quantifier, Regex, Relation, Test, Text, address};
use crate::rule::naive;
use crate::rule::number::Number;
use crate::text::query_decode_into;

/// Reading a whole event costs more than anything else.
const WHOLE_COST: u8 = 200;
/// Looking at every scalar.
const KEYWORDS_COST: u8 = 100;
/// Decoding one text, once for all who ask about it.
const DECODED_COST: u8 = 10;

/// A predicate's number in its rule set.
pub(super) type PredicateId = u32;

/// One test, ready to be asked.
#[derive(Debug)]
pub(super) struct Predicate {
    asks: Asks,
    /// What asking costs, roughly; cheap ones are asked first.
    pub(super) cost: u8,
}

#[derive(Debug)]
enum Asks {
    /// The values of a path.
    Path { slot: Slot, field: FieldPath, question: Question, of: Quantifier },
    /// The text of a path without percent-encoding; of what is unusual there, as [`Asks::Whole`].
    Decoded { slot: Slot, question: Question, test: Test },
    /// The event as a whole: what the judge alone can answer.
    Whole(Test),
    /// Whether one of several keywords may be in the event: parts of them, in lower case, looked for in one go.
    Keywords(Substrings),
}

#[derive(Debug)]
enum Question {
    Exists,
    Null,
    /// One of these texts; in lower case unless `cased`.
    OneOf {
        texts: HashSet<Box<str>, FixedState>,
        cased: bool,
    },
    /// One of these texts is in it; in lower case unless `cased`.
    ContainsAny {
        texts: Substrings,
        cased: bool,
    },
    /// It begins with one of these texts; in lower case unless `cased`.
    BeginsWithAny {
        prefixes: Prefixes,
        cased: bool,
    },
    /// Whatever else is asked of a scalar.
    Scalar(Op),
    Field {
        slot: Slot,
        other: FieldPath,
        how: Relation,
        cased: bool,
    },
}

/// Texts in their order, none of which another one begins with: so only the last one that is not after a text can be what
/// that text begins with.
#[derive(Debug)]
struct Prefixes(Box<[Box<str>]>);

impl Prefixes {
    /// `texts`: in their order.
    fn new(texts: &[&str]) -> Self {
        let mut kept: Vec<Box<str>> = Vec::new();
        for text in texts {
            if kept.last().is_none_or(|last| !text.starts_with(&**last)) {
                kept.push((*text).into());
            }
        }
        Self(kept.into())
    }

    fn matches(&self, text: &str) -> bool {
        let after = self.0.partition_point(|prefix| **prefix <= *text);
        after.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|prefix| text.starts_with(&**prefix))
    }
}

/// The number that a value is, or that its text is.
pub(super) fn number(value: Val<'_>) -> Option<Number> {
    match value {
        Val::Int(number) => Some(Number::Whole(number)),
        Val::Float(number) => Some(Number::Float(number)),
        Val::Str(text) => Number::in_text(text),
        Val::Null | Val::Bool(_) | Val::Container => None,
    }
}

/// A rule's expression over predicates.
#[derive(Debug)]
pub(super) enum Program {
    All(Box<[Self]>),
    Any(Box<[Self]>),
    Not(Box<Self>),
    Ask {
        predicate: PredicateId,
        /// Where nothing is here, the answer is no: so it is of most predicates, which then need not be looked at.
        needs: Option<Slot>,
    },
}

/// Interns the predicates of a rule set.
pub(super) struct Interner<'p> {
    pub(super) projection: &'p Projection,
    known: HashMap<Box<str>, PredicateId, FixedState>,
    /// The text of a predicate that is being looked up: what they are told apart by.
    key: String,
    pub(super) predicates: Vec<Predicate>,
}

impl<'p> Interner<'p> {
    pub(super) fn new(projection: &'p Projection) -> Self {
        Self { projection, known: HashMap::default(), key: String::new(), predicates: Vec::new() }
    }

    /// Compiles an expression; alternatives on one field become one predicate, and cheap questions come first.
    pub(super) fn program(&mut self, expr: &Expr) -> Program {
        match expr {
            Expr::Test(test) => self.ask(test),
            Expr::Not(part) => Program::Not(Box::new(self.program(part))),
            Expr::All(parts) => {
                let parts = parts.iter().map(|part| self.program(part)).collect();
                Program::All(self.cheapest_first(parts))
            }
            Expr::Any(parts) => {
                let (keywords, others): (Vec<&Expr>, Vec<&Expr>) =
                    parts.iter().partition(|part| keyword(part).is_some());
                let mut parts = self.alternatives(&others);
                parts.extend(self.keywords(&keywords));
                let mut parts = self.cheapest_first(parts).into_vec();
                if parts.len() == 1 { parts.remove(0) } else { Program::Any(parts.into()) }
            }
        }
    }

    /// Alternative keywords: each is only looked for if a part of any is there.
    fn keywords(&mut self, keywords: &[&Expr]) -> Vec<Program> {
        let each: Vec<Program> = keywords.iter().map(|part| self.program(part)).collect();
        let literals = keywords.iter().filter_map(|part| match keyword(part)? {
            Text::Plain(_, text) => Some(fold(text)),
            Text::Glob(pieces) => longest_literal(pieces),
        });
        let literals: Vec<String> = literals.filter(|text| !text.is_empty()).collect();
        if each.len() < 2 || literals.len() < each.len() {
            return each;
        }
        let Some(parts) = Substrings::new(&literals) else { return each };
        self.key(format_args!("keywords {literals:?}"));
        let guard = self.known();
        let guard = guard.unwrap_or_else(|| self.add(Predicate { asks: Asks::Keywords(parts), cost: KEYWORDS_COST }));
        vec![Program::All([guard, Program::Any(each.into())].into())]
    }

    fn cheapest_first(&self, mut parts: Vec<Program>) -> Box<[Program]> {
        parts.sort_by_key(|part| self.cost(part));
        parts.into()
    }

    fn cost(&self, program: &Program) -> u32 {
        match program {
            Program::Ask { predicate, .. } => u32::from(self.predicates[*predicate as usize].cost),
            Program::Not(part) => self.cost(part),
            Program::All(parts) | Program::Any(parts) => parts.iter().map(|part| self.cost(part)).sum(),
        }
    }

    /// The parts of an `Any`; plain texts on the same field are put together.
    fn alternatives(&mut self, parts: &[&'_ Expr]) -> Vec<Program> {
        let mut sets: Vec<Set<'_>> = Vec::new();
        let mut programs = Vec::new();
        for part in parts {
            match Set::of(part) {
                Some(set) => match sets.iter_mut().find(|other| other.goes_with(&set)) {
                    Some(other) => other.texts.extend(set.texts),
                    None => sets.push(set),
                },
                None => programs.push(self.program(part)),
            }
        }
        programs.extend(sets.into_iter().map(|set| self.set(set)));
        programs
    }

    fn set(&mut self, set: Set<'_>) -> Program {
        let Set { field, how, cased, mut texts } = set;
        texts.sort_unstable();
        texts.dedup();
        if let [text] = texts.as_slice() {
            let pattern = Text::Plain(how, (*text).to_owned());
            return self.ask(&Test::new(field.clone(), Op::Text { pattern, cased }));
        }
        self.key(format_args!("{field:?} {how:?} {cased} any {texts:?}"));
        self.intern(field, Quantifier::Any, |_| match how {
            Relation::Contains => match Substrings::new(&texts) {
                Some(texts) => (Question::ContainsAny { texts, cased }, 3),
                // Then there is nothing that could match.
                None => (one_of::<&str>(&[], cased), 1),
            },
            Relation::StartsWith => (Question::BeginsWithAny { prefixes: Prefixes::new(&texts), cased }, 2),
            _ => (one_of(&texts, cased), 1),
        })
    }

    fn ask(&mut self, test: &Test) -> Program {
        self.key(format_args!("{test:?}"));
        let Field::Path(field) = &test.field else { return self.decoded(test).unwrap_or_else(|| self.whole(test)) };
        if matches!(&test.op, Op::Field { other, .. } if other.plain().is_none()) {
            return self.whole(test);
        }
        self.intern(field, test.of, |interner| match &test.op {
            Op::Exists => (Question::Exists, 0),
            Op::Null => (Question::Null, 0),
            Op::OneOf { texts, cased } => (one_of(texts, *cased), 1),
            Op::Text { pattern: Text::Plain(Relation::Is, _), .. } | Op::Number(_) | Op::Compare(..) => {
                (Question::Scalar(test.op.clone()), 1)
            }
            Op::Text { .. } => (Question::Scalar(test.op.clone()), 2),
            Op::Regex(_) => (Question::Scalar(test.op.clone()), 8),
            Op::Cidr(_) | Op::Time(..) => (Question::Scalar(test.op.clone()), 4),
            Op::Field { other, how, cased } => {
                match other.plain().and_then(|other| Some((other, interner.projection.slot(other.path())?))) {
                    Some((other, slot)) => {
                        let cost = if interner.projection.is_lazy(slot) { 40 } else { 4 };
                        (Question::Field { slot, other: other.clone(), how: *how, cased: *cased }, cost)
                    }
                    None => (one_of::<&str>(&[], true), 1),
                }
            }
        })
    }

    fn key(&mut self, text: fmt::Arguments<'_>) {
        self.key.clear();
        // Writing to a text cannot fail.
        let _ = self.key.write_fmt(text);
    }

    fn intern(&mut self, field: &FieldPath, of: Quantifier, make: impl FnOnce(&Self) -> (Question, u8)) -> Program {
        if let Some(known) = self.known() {
            return known;
        }
        let (question, cost) = make(self);
        let Some(slot) = self.projection.slot(field.path()) else { return Program::Any(Box::default()) };
        let cost = cost + if self.projection.is_lazy(slot) { 30 } else { 0 };
        self.add(Predicate { asks: Asks::Path { slot, field: field.clone(), question, of }, cost })
    }

    /// A question about a text without percent-encoding, where it is one about its characters.
    fn decoded(&mut self, test: &Test) -> Option<Program> {
        let slot = self.projection.slot(test.field.decoded()?.path())?;
        if let Some(known) = self.known() {
            return Some(known);
        }
        let question = match &test.op {
            Op::OneOf { texts, cased } => one_of(texts, *cased),
            Op::Text { .. } | Op::Regex(_) => Question::Scalar(test.op.clone()),
            _ => return None,
        };
        Some(self.add(Predicate { asks: Asks::Decoded { slot, question, test: test.clone() }, cost: DECODED_COST }))
    }

    fn whole(&mut self, test: &Test) -> Program {
        let known = self.known();
        known.unwrap_or_else(|| self.add(Predicate { asks: Asks::Whole(test.clone()), cost: WHOLE_COST }))
    }

    /// The predicate whose key was written last, if there is one.
    fn known(&self) -> Option<Program> {
        self.known.get(self.key.as_str()).map(|id| self.asking(*id))
    }

    fn asking(&self, predicate: PredicateId) -> Program {
        Program::Ask { predicate, needs: self.predicates[predicate as usize].needs() }
    }

    fn add(&mut self, predicate: Predicate) -> Program {
        let id = PredicateId::try_from(self.predicates.len()).unwrap_or(PredicateId::MAX);
        self.predicates.push(predicate);
        self.known.insert(self.key.as_str().into(), id);
        self.asking(id)
    }
}

impl Predicate {
    /// The path without whose values the answer is no.
    fn needs(&self) -> Option<Slot> {
        match &self.asks {
            Asks::Path { slot, question, .. } => (!matches!(question, Question::Null)).then_some(*slot),
            Asks::Decoded { .. } | Asks::Whole(_) | Asks::Keywords(_) => None,
        }
    }
}

/// Alternatives that one question can ask about.
struct Set<'e> {
    field: &'e FieldPath,
    how: Relation,
    cased: bool,
    texts: Vec<&'e str>,
}

impl<'e> Set<'e> {
    fn of(part: &'e Expr) -> Option<Self> {
        let Expr::Test(Test { field: Field::Path(field), op, of: Quantifier::Any }) = part else { return None };
        match op {
            Op::Text {
                pattern: Text::Plain(how @ (Relation::Is | Relation::StartsWith | Relation::Contains), text),
                cased,
            } => Some(Self { field, how: *how, cased: *cased, texts: vec![text] }),
            Op::OneOf { texts, cased } => {
                let texts = texts.iter().map(String::as_str).collect();
                Some(Self { field, how: Relation::Is, cased: *cased, texts })
            }
            _ => None,
        }
    }

    fn goes_with(&self, other: &Self) -> bool {
        (self.field, self.how, self.cased) == (other.field, other.how, other.cased)
    }
}

/// What is looked for anywhere in an event, if that is what an expression does.
fn keyword(expr: &Expr) -> Option<&Text> {
    match expr {
        Expr::Test(Test { field: Field::Anything, op: Op::Text { pattern, .. }, of: Quantifier::Any }) => Some(pattern),
        _ => None,
    }
}

/// The longest text, in lower case, that everything has in it which the pattern matches.
pub(super) fn longest_literal(pieces: &[Glob]) -> Option<String> {
    let literals = pieces.iter().filter_map(|piece| match piece {
        Glob::Literal(text) => Some(fold(text)),
        Glob::Many | Glob::One => None,
    });
    literals.max_by_key(String::len)
}

fn one_of<T: AsRef<str>>(texts: &[T], cased: bool) -> Question {
    Question::OneOf { texts: texts.iter().map(|text| Box::from(text.as_ref())).collect(), cased }
}

/// The answers already given about the current event.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Per predicate: the event's number shifted left, and the answer.
    given: Vec<u64>,
    event: u64,
    /// Text of the other field of a field comparison.
    other: String,
    /// A text in lower case.
    folded: String,
    /// Whether the current event may be about Secrets, once somebody asked.
    pub(super) of_secrets: Option<bool>,
    /// The current event as a whole, once somebody asked.
    whole: Option<Arc<Value>>,
    /// A text without percent-encoding, and the same in lower case.
    decoded: [String; 2],
    /// Of which event's which path they are.
    decoded_of: Option<(u64, Slot)>,
    /// What is known of texts of the events before.
    pub(super) harmless: Harmless,
    /// Memory for what is shown of an event.
    pub(super) json: String,
}

impl Answers {
    /// Forgets all answers.
    pub(super) fn next_event(&mut self, predicates: usize) {
        self.event += 1;
        self.given.resize(predicates, 0);
        (self.whole, self.of_secrets) = (None, None);
    }

    /// The current event as a whole, with the label of its cluster; read once.
    pub(super) fn whole(&mut self, event: &str, cluster: &str) -> Result<Arc<Value>, serde_json::Error> {
        if let Some(whole) = &self.whole {
            return Ok(Arc::clone(whole));
        }
        let mut whole = value(event.as_bytes())?;
        label(&mut whole, cluster);
        Ok(Arc::clone(self.whole.insert(Arc::new(whole))))
    }
}

/// An event and what is known about it.
pub(super) struct Case<'c> {
    pub(super) projection: &'c Projection,
    pub(super) predicates: &'c [Predicate],
    pub(super) scratch: &'c mut Scratch,
    pub(super) answers: &'c mut Answers,
    pub(super) event: &'c str,
    pub(super) cluster: &'c str,
}

impl Case<'_> {
    /// Whether a program is true of the event.
    pub(super) fn holds(&mut self, program: &Program) -> bool {
        match program {
            Program::All(parts) => parts.iter().all(|part| self.part_holds(part)),
            Program::Any(parts) => parts.iter().any(|part| self.part_holds(part)),
            Program::Not(part) => !self.part_holds(part),
            Program::Ask { predicate, needs } => self.asked(*predicate, *needs),
        }
    }

    /// Most parts are predicates, for which no call is made.
    #[inline]
    fn part_holds(&mut self, part: &Program) -> bool {
        match part {
            Program::Ask { predicate, needs } => self.asked(*predicate, *needs),
            part => self.holds(part),
        }
    }

    #[inline]
    fn asked(&mut self, predicate: PredicateId, needs: Option<Slot>) -> bool {
        if needs.is_some_and(|slot| !self.has(slot)) {
            return false;
        }
        let given = self.answers.given[predicate as usize];
        if given >> 1 == self.answers.event { given & 1 == 1 } else { self.answer(predicate) }
    }

    /// Whether there is anything at a path.
    #[inline]
    fn has(&mut self, slot: Slot) -> bool {
        self.scratch.first(slot).is_some() || {
            self.scratch.demand(self.projection, slot, self.event);
            self.scratch.first(slot).is_some()
        }
    }

    /// Asks for the first time.
    #[inline(never)]
    fn answer(&mut self, id: PredicateId) -> bool {
        let predicates = self.predicates;
        let answer = self.ask(&predicates[id as usize]);
        self.answers.given[id as usize] = self.answers.event << 1 | u64::from(answer);
        answer
    }

    fn ask(&mut self, predicate: &Predicate) -> bool {
        match &predicate.asks {
            Asks::Path { slot, field, question, of } => self.ask_path(*slot, field, question, *of),
            Asks::Decoded { slot, question, test } => {
                self.ask_decoded(*slot, question).unwrap_or_else(|| self.ask_whole(test))
            }
            Asks::Whole(test) => self.may_hold(test) && self.ask_whole(test),
            Asks::Keywords(parts) => self.anywhere(false, |text| parts.any_in(text)),
        }
    }

    fn ask_whole(&mut self, test: &Test) -> bool {
        match self.answers.whole(self.event, self.cluster) {
            Ok(whole) => naive::test_holds(test, &whole),
            // Whatever is answered, the event will be refused.
            Err(_) => {
                self.scratch.break_off();
                false
            }
        }
    }

    /// `None` where there is not exactly one text.
    fn ask_decoded(&mut self, slot: Slot, question: &Question) -> Option<bool> {
        self.scratch.demand(self.projection, slot, self.event);
        let at = self.scratch.first(slot).filter(|at| self.scratch.following(*at).is_none())?;
        let Val::Str(text) = self.scratch.at(at, self.event) else { return None };
        let Answers { event, decoded: [decoded, folded], decoded_of, .. } = self.answers;
        if *decoded_of != Some((*event, slot)) {
            query_decode_into(text, decoded);
            folded.clear();
            fold_into(decoded, folded);
            *decoded_of = Some((*event, slot));
        }
        let in_case = |cased: bool| if cased { decoded.as_str() } else { folded.as_str() };
        match question {
            Question::OneOf { texts, cased } => Some(texts.contains(in_case(*cased))),
            Question::Scalar(Op::Text { pattern, cased }) => Some(pattern.matches(in_case(*cased))),
            Question::Scalar(Op::Regex(Regex(regex))) => Some(regex.is_match(decoded)),
            _ => None,
        }
    }

    /// Whether it is worth to ask about the whole event: of a keyword that is nowhere in it, it is not.
    fn may_hold(&mut self, test: &Test) -> bool {
        let Test { field: Field::Anything, op: Op::Text { pattern, cased }, of: Quantifier::Any } = test else {
            return true;
        };
        self.anywhere(*cased, |text| pattern.matches(text))
    }

    /// Whether a test may be true of any scalar's text, in lower case unless `cased`. A no is certain.
    fn anywhere(&mut self, cased: bool, test: impl Fn(&str) -> bool) -> bool {
        let Answers { other: spare, folded, .. } = self.answers;
        let mut holds = |text: &str| {
            if cased {
                return test(text);
            }
            folded.clear();
            fold_into(text, folded);
            test(folded)
        };
        holds(self.cluster) || any_scalar(self.event, spare, &mut holds)
    }

    fn ask_path(&mut self, slot: Slot, field: &FieldPath, question: &Question, of: Quantifier) -> bool {
        if !self.has(slot) {
            return matches!(question, Question::Null);
        }
        let range = field.picked(|| self.scratch.count(slot));
        match question {
            Question::Exists => return !range.is_empty(),
            Question::Null if range.is_empty() => return true,
            Question::Field { slot, other, .. } => {
                self.scratch.demand(self.projection, *slot, self.event);
                let none = self.scratch.first(*slot).is_none();
                if none || other.picked(|| self.scratch.count(*slot)).is_empty() {
                    return false;
                }
            }
            _ => {}
        }
        // With `Any` the first yes decides, with `Every` the first no.
        let decides = of == Quantifier::Any;
        let mut next = self.scratch.first(slot);
        let mut number = 0;
        while let Some(at) = next {
            if range.contains(&number) && self.value_holds(question, at) == decides {
                return decides;
            }
            number += 1;
            next = self.scratch.following(at);
        }
        !decides && !range.is_empty()
    }

    fn value_holds(&mut self, question: &Question, at: u32) -> bool {
        let event = self.event;
        match question {
            Question::Exists => false,
            Question::Null => self.scratch.at(at, event) == Val::Null,
            Question::OneOf { texts, cased } => self.in_case(at, *cased, |text| texts.contains(text)),
            Question::ContainsAny { texts, cased } => self.in_case(at, *cased, |text| texts.any_in(text)),
            Question::BeginsWithAny { prefixes, cased } => self.in_case(at, *cased, |text| prefixes.matches(text)),
            Question::Scalar(op) => self.scalar_holds(op, at),
            Question::Field { slot, other, how, cased } => self.compare(at, *slot, other, *how, *cased),
        }
    }

    /// What is asked of one scalar; what is asked of more has questions of its own.
    fn scalar_holds(&mut self, op: &Op, at: u32) -> bool {
        match op {
            Op::Text { pattern, cased } => self.in_case(at, *cased, |text| pattern.matches(text)),
            Op::Number(number) => self.number(at).is_some_and(|n| n == *number),
            Op::Compare(ordering, bound) => self.number(at).is_some_and(|n| ordering.holds(&n, bound)),
            Op::Regex(Regex(regex)) => self.with_text(at, |text| regex.is_match(text)),
            Op::Time(part, ordering, bound) => {
                self.with_text(at, |text| part.of(text).is_some_and(|part| ordering.holds(&part, bound)))
            }
            Op::Cidr(network) => self.with_text(at, |text| address(text).is_some_and(|a| network.contains(&a))),
            Op::Exists | Op::Null | Op::OneOf { .. } | Op::Field { .. } => false,
        }
    }

    /// Whether a test of nothing but a text holds.
    pub(super) fn text_holds(&mut self, op: &Op, at: u32) -> bool {
        match op {
            Op::Exists => true,
            Op::OneOf { texts, cased } => self.in_case(at, *cased, |text| texts.iter().any(|one| one == text)),
            op => self.scalar_holds(op, at),
        }
    }

    /// The scalar's text in its own case, or in lower case.
    fn in_case(&mut self, at: u32, cased: bool, test: impl Fn(&str) -> bool) -> bool {
        match cased {
            true => self.with_text(at, test),
            false => self.scratch.folded(at, self.event).is_some_and(test),
        }
    }

    /// The scalar's text in its own case; other scalars than strings have only one case.
    fn with_text(&mut self, at: u32, test: impl Fn(&str) -> bool) -> bool {
        match self.scratch.at(at, self.event) {
            Val::Str(text) => test(text),
            Val::Null | Val::Container => false,
            Val::Bool(_) | Val::Int(_) | Val::Float(_) => self.scratch.folded(at, self.event).is_some_and(test),
        }
    }

    fn number(&mut self, at: u32) -> Option<Number> {
        number(self.scratch.at(at, self.event))
    }

    fn compare(&mut self, at: u32, slot: Slot, other: &FieldPath, how: Relation, cased: bool) -> bool {
        let range = other.picked(|| self.scratch.count(slot));
        let mut next = self.scratch.first(slot);
        let mut number = 0;
        let mut buffer = std::mem::take(&mut self.answers.other);
        let mut hit = false;
        while let Some(there) = next {
            if range.contains(&number) && self.copy_text(there, cased, &mut buffer) {
                hit = if cased {
                    self.with_text(at, |text| how.holds(text, &buffer))
                } else {
                    self.scratch.folded(at, self.event).is_some_and(|text| how.holds(text, &buffer))
                };
                if hit {
                    break;
                }
            }
            number += 1;
            next = self.scratch.following(there);
        }
        self.answers.other = buffer;
        hit
    }

    /// Puts the text of a value into `buffer`; false if it has none.
    fn copy_text(&mut self, at: u32, cased: bool, buffer: &mut String) -> bool {
        buffer.clear();
        let text = match self.scratch.at(at, self.event) {
            Val::Str(text) if cased => Some(text),
            Val::Null | Val::Container => None,
            _ => self.scratch.folded(at, self.event),
        };
        text.is_some_and(|text| {
            buffer.push_str(text);
            true
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_found_wherever_they_stand_in_the_order() {
        let texts = ["", "a", "ab", "abc", "b", "eks:", "eks:node", "system:", "system:kube-", "z"];
        let asked = ["", "a", "ab", "abz", "az", "eks", "eks:x", "system:kube-proxy", "systen", "zz", "\u{fc}"];
        for skipped in 0..texts.len() {
            let kept = &texts[skipped..];
            let prefixes = Prefixes::new(kept);
            for text in asked {
                let expected = kept.iter().any(|prefix| text.starts_with(prefix));
                assert_eq!(prefixes.matches(text), expected, "{text} begins with one of {kept:?}");
            }
        }
        assert!(!Prefixes::new(&[]).matches("a"));
    }
}
