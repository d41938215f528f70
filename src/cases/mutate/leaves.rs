//! The parts of a condition that can be taken away: its tests, and the values of its lists.

use crate::rule::explain::asked;
use crate::rule::ir::{Expr, Op, Quantifier, Relation, Test, Text};
use crate::rule::lists;

/// Characters of a value that the name of a part shows.
const VALUE_MAX: usize = 80;

/// A condition whose tests are numbered in the order in which they are written.
pub(super) struct Leaves<'r> {
    shape: Shape,
    /// The tests by their numbers.
    pub(super) tests: Vec<&'r Test>,
    /// What can be changed.
    pub(super) changes: Vec<Forced>,
}

enum Shape {
    All(Vec<Self>),
    Any(Vec<Self>),
    Not(Box<Self>),
    Test(usize),
}

/// Some tests that answer the same whatever they are asked about.
pub(super) struct Forced {
    /// The part and what becomes of it, in words; the same for the same rule, whatever else is in it.
    pub(super) part: String,
    from: usize,
    to: usize,
    answer: bool,
}

impl<'r> Leaves<'r> {
    pub(super) fn of(expr: &'r Expr) -> Self {
        let mut leaves = Self { shape: Shape::All(Vec::new()), tests: Vec::new(), changes: Vec::new() };
        leaves.shape = leaves.add(expr);
        number_repeated(&mut leaves.changes);
        leaves
    }

    fn add(&mut self, expr: &'r Expr) -> Shape {
        match expr {
            Expr::All(parts) if is_list(parts) => Shape::All(self.list(parts, true)),
            Expr::Any(parts) if is_list(parts) => Shape::Any(self.list(parts, false)),
            Expr::All(parts) => Shape::All(parts.iter().map(|part| self.add(part)).collect()),
            Expr::Any(parts) => Shape::Any(parts.iter().map(|part| self.add(part)).collect()),
            Expr::Not(part) => Shape::Not(Box::new(self.add(part))),
            Expr::Test(test) => {
                let at = self.tests.len();
                let named = format!("{} {}", test.field, short(&asked(&test.op)));
                for answer in [true, false] {
                    self.force(&named, if answer { "always true" } else { "always false" }, at, answer);
                }
                self.tests.push(test);
                // What was forced ends behind the test.
                self.changes.iter_mut().rev().take(2).for_each(|change| change.to = at + 1);
                Shape::Test(at)
            }
        }
    }

    /// The values of one field: each is left out, and what they ask is left out as a whole. `all`: all of them must be.
    /// The accounts of the system are one class, of which any stands for all: no rule has a case for each.
    fn list(&mut self, parts: &'r [Expr], all: bool) -> Vec<Shape> {
        let start = self.tests.len();
        let mut shapes = Vec::with_capacity(parts.len());
        for class in parts.chunk_by(|one, next| is_system_account(one) && is_system_account(next)) {
            let from = self.tests.len();
            shapes.extend(class.iter().map(|part| self.value(part)));
            let test = self.tests[from];
            let named = format!("{} {}", test.field, short(&asked(&test.op)));
            self.force(&named, "left out", from, all);
        }
        let first = self.tests[start];
        let named = format!("{} {}, …", first.field, short(&asked(&first.op)));
        self.force(&named, if all { "always false" } else { "always true" }, start, !all);
        shapes
    }

    /// One value of a list; what its modifiers make several of counts as one.
    fn value(&mut self, part: &'r Expr) -> Shape {
        match part {
            Expr::Any(parts) => Shape::Any(parts.iter().map(|part| self.value(part)).collect()),
            Expr::Test(test) => {
                self.tests.push(test);
                Shape::Test(self.tests.len() - 1)
            }
            Expr::All(_) | Expr::Not(_) => Shape::Any(Vec::new()), // No list has such.
        }
    }

    fn force(&mut self, named: &str, what: &str, from: usize, answer: bool) {
        self.changes.push(Forced { part: format!("{named}: {what}"), from, to: self.tests.len(), answer });
    }

    /// Whether the condition holds where the tests have these answers, but for those that are forced.
    pub(super) fn holds(&self, answers: &[bool], forced: &Forced) -> bool {
        holds(&self.shape, &|at| if (forced.from..forced.to).contains(&at) { forced.answer } else { answers[at] })
    }
}

impl Forced {
    /// Whether it changes any of the answers.
    pub(super) fn changes(&self, answers: &[bool]) -> bool {
        answers[self.from..self.to].iter().any(|answer| *answer != self.answer)
    }
}

fn holds(shape: &Shape, answer: &dyn Fn(usize) -> bool) -> bool {
    match shape {
        Shape::All(parts) => parts.iter().all(|part| holds(part, answer)),
        Shape::Any(parts) => parts.iter().any(|part| holds(part, answer)),
        Shape::Not(part) => !holds(part, answer),
        Shape::Test(at) => answer(*at),
    }
}

/// Whether these are the values that one item of a rule lists.
fn is_list(parts: &[Expr]) -> bool {
    let fields: Option<Vec<_>> = parts.iter().map(asked_of).collect();
    parts.len() > 1 && fields.is_some_and(|fields| fields.windows(2).all(|two| two[0] == two[1]))
}

/// Whether this is a value of the named list of such accounts.
fn is_system_account(part: &Expr) -> bool {
    let Expr::Test(Test { op: Op::Text { pattern: Text::Plain(Relation::Is, text), .. }, .. }) = part else {
        return false;
    };
    lists::is_system_account(text)
}

/// The field that a value is compared with.
fn asked_of(part: &Expr) -> Option<(&crate::rule::field::Field, Quantifier)> {
    match part {
        Expr::Test(test) => Some((&test.field, test.of)),
        Expr::Any(parts) => {
            let fields: Option<Vec<_>> = parts.iter().map(asked_of).collect();
            fields.filter(|fields| fields.windows(2).all(|two| two[0] == two[1]))?.first().copied()
        }
        Expr::All(_) | Expr::Not(_) => None,
    }
}

/// A part that a rule has several times is told by its number.
fn number_repeated(changes: &mut [Forced]) {
    let mut seen = std::collections::HashMap::new();
    for change in changes {
        let times: &mut usize = seen.entry(change.part.clone()).or_default();
        *times += 1;
        if *times > 1 {
            change.part.push_str(&format!(" ({times})"));
        }
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= VALUE_MAX {
        return text.to_owned();
    }
    text.chars().take(VALUE_MAX).chain(['…']).collect()
}
