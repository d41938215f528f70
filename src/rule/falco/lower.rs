//! From Falco's conditions to expressions: macros and lists put in, fields and operators given their meaning.
//!
//! A comparison with a field that the event lacks is false, also `!=`; `not` turns it around like any other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::condition::{Condition, Modifier, Operand, OperandKind, Operator, Place, Right, Word, as_number};
use super::fields::{self, Known};
use super::pattern;
use super::written::Written;
use crate::diagnose::{Diagnostic, closest};
use crate::event::FieldPath;
use crate::rule::field::{Derived, Field};
use crate::rule::ir::{Expr, Op, Ordering, Quantifier, Relation, Test};
use crate::rule::make::{Apply, Make};
use crate::rule::number::Number;

/// Parts that one condition may have once its macros are put in.
const PARTS_MAX: usize = 100_000;

/// Macros within each other, as deep as brackets may be.
const WITHIN_MAX: usize = 100;

/// Texts that `oneof` takes: it is put as a question about every pair of them.
const ONE_OF_MAX: usize = 100;

/// A macro: its text, and what it says if it could be read.
pub(super) struct Macro {
    pub(super) written: Written,
    pub(super) condition: Option<Condition>,
}

/// What names in conditions stand for.
pub(super) struct Names<'c> {
    pub(super) macros: &'c HashMap<String, Macro>,
    /// The items of each list, with those of the lists within it.
    pub(super) lists: &'c HashMap<String, BTreeSet<String>>,
}

/// Puts one rule's condition into the IR.
pub(super) struct Lowering<'c> {
    names: &'c Names<'c>,
    findings: &'c mut Vec<Diagnostic>,
    /// The macros that are being put in: one within itself would never end.
    within: Vec<String>,
    parts: usize,
}

/// What is wrong, and where in the text.
type Refused = (String, Place);

impl<'c> Lowering<'c> {
    pub(super) fn new(names: &'c Names<'c>, findings: &'c mut Vec<Diagnostic>) -> Self {
        Self { names, findings, within: Vec::new(), parts: 0 }
    }

    /// The expression of a condition; `None` if anything in it was refused.
    pub(super) fn condition(&mut self, condition: &Condition, written: &Written) -> Option<Expr> {
        self.parts += 1;
        if self.parts > PARTS_MAX {
            self.refuse(written, ("the condition is too large with its macros put in".to_owned(), (0, 0)));
            return None;
        }
        let all = |this: &mut Self, parts: &[Condition]| {
            let parts: Vec<Option<Expr>> = parts.iter().map(|part| this.condition(part, written)).collect();
            parts.into_iter().collect::<Option<Vec<Expr>>>()
        };
        match condition {
            Condition::And(parts) => all(self, parts).map(Expr::All),
            Condition::Or(parts) => all(self, parts).map(Expr::Any),
            Condition::Not(part) => self.condition(part, written).map(|part| Expr::Not(Box::new(part))),
            Condition::Macro(word) => self.macro_named(word, written),
            Condition::Exists(operand) => {
                let known = known(operand);
                self.taken(written, known).map(|known| Expr::Test(Test::new(known.field, Op::Exists)))
            }
            Condition::Compare { left, operator, modifier, right } => {
                let known = known(left);
                let known = self.taken(written, known)?;
                let compared = self.compare(&known, left, *operator, *modifier, right);
                let expr = self.taken(written, compared)?;
                self.parts += size(&expr);
                Some(expr)
            }
        }
    }

    fn refuse(&mut self, written: &Written, (message, place): Refused) {
        let finding = written.error(place, message);
        // A macro that many rules use has its mistake once.
        let same = |known: &Diagnostic| known.span == finding.span && known.message == finding.message;
        if !self.findings.iter().any(same) {
            self.findings.push(finding);
        }
    }

    fn taken<T>(&mut self, written: &Written, result: Result<T, Refused>) -> Option<T> {
        result.map_err(|refused| self.refuse(written, refused)).ok()
    }

    fn macro_named(&mut self, word: &Word, written: &Written) -> Option<Expr> {
        let Some(known) = self.names.macros.get(&word.text) else {
            let near = closest(&word.text, self.names.macros.keys().map(String::as_str));
            let near = near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
            self.refuse(written, (format!("there is no macro `{}`{near}", word.text), word.place));
            return None;
        };
        if self.within.contains(&word.text) {
            self.refuse(written, (format!("the macro `{}` is made of itself", word.text), word.place));
            return None;
        }
        if self.within.len() >= WITHIN_MAX {
            self.refuse(written, ("macros are nested too deep".to_owned(), word.place));
            return None;
        }
        self.within.push(word.text.clone());
        let expr = known.condition.as_ref().and_then(|condition| self.condition(condition, &known.written));
        self.within.pop();
        expr
    }

    fn compare(
        &self,
        known: &Known,
        left: &Operand,
        operator: Operator,
        modifier: Option<Modifier>,
        right: &Right,
    ) -> Result<Expr, Refused> {
        if known.list && !matches!(operator, Operator::In | Operator::Intersects) {
            let operator = operator.as_str();
            let message = format!("`{left}` is a list: ask it with `in`, `intersects` or `exists`, not `{operator}`");
            return Err((message, left.place));
        }
        match (right, modifier) {
            (Right::Operand(other), None) => with_field(known, operator, other),
            (Right::Operand(other), Some(modifier)) => {
                Err((format!("`{}` takes a list of texts", modifier.as_str()), other.place))
            }
            (Right::Word(word), _) => {
                let word = self.single(word)?;
                with_text(known, operator, &word.0, word.1)
            }
            (Right::Words(words), None) => self.with_list(known, operator, words),
            (Right::Words(words), Some(modifier)) => {
                let texts = self.texts(words);
                if modifier == Modifier::One && texts.len() > ONE_OF_MAX {
                    return Err((format!("`oneof` takes at most {ONE_OF_MAX} texts"), left.place));
                }
                let tests = texts.into_iter().map(|(text, place)| with_text(known, operator, &text, place));
                Ok(modified(modifier, tests.collect::<Result<Vec<Expr>, Refused>>()?))
            }
        }
    }

    /// A word on its own; the name of a list with one item stands for that.
    fn single(&self, word: &Word) -> Result<(String, Place), Refused> {
        match self.names.lists.get(&word.text).filter(|_| word.bare) {
            None => Ok((word.text.clone(), word.place)),
            Some(list) if list.len() == 1 => Ok((list.first().cloned().unwrap_or_default(), word.place)),
            Some(_) => Err((format!("`{0}` is a list: compare with `in ({0})`", word.text), word.place)),
        }
    }

    /// Words with lists put in.
    fn texts(&self, words: &[Word]) -> Vec<(String, Place)> {
        let mut texts = Vec::new();
        for word in words {
            match self.names.lists.get(&word.text).filter(|_| word.bare) {
                Some(list) => texts.extend(list.iter().map(|text| (text.clone(), word.place))),
                None => texts.push((word.text.clone(), word.place)),
            }
        }
        texts
    }

    fn with_list(&self, known: &Known, operator: Operator, words: &[Word]) -> Result<Expr, Refused> {
        let texts = self.texts(words);
        if operator == Operator::PMatch {
            let tests = texts.iter().map(|(text, place)| pattern::path(&known.field, text).map_err(|e| (e, *place)));
            return tests.collect::<Result<Vec<Expr>, Refused>>().map(Expr::Any);
        }
        let mut set: Vec<String> = Vec::with_capacity(texts.len());
        for (text, place) in texts {
            set.push(if known.number { numeric(&text, place)? } else { text });
        }
        set.sort_unstable();
        set.dedup();
        let of = if known.list && operator == Operator::In { Quantifier::Every } else { Quantifier::Any };
        Ok(Expr::Test(Test { field: known.field.clone(), op: Op::OneOf { texts: set, cased: true }, of }))
    }
}

/// The field or transformer that an operand is.
pub(super) fn known(operand: &Operand) -> Result<Known, Refused> {
    let refused = |message: String| (message, operand.place);
    match &operand.kind {
        OperandKind::Field { name, argument } => fields::field(name, argument.as_deref()).map_err(refused),
        OperandKind::Call { name, operands, argument } => call(operand, name, operands, argument.as_deref()),
        OperandKind::Text(_) | OperandKind::List(_) => Err(refused("expected a field".to_owned())),
    }
}

fn call(operand: &Operand, name: &str, operands: &[Operand], argument: Option<&str>) -> Result<Known, Refused> {
    let refused = |message: String| Err((message, operand.place));
    if argument.is_some() && name != "getopt" {
        return refused(format!("`{name}` takes no argument in brackets"));
    }
    let parts = operands.iter().map(part).collect::<Result<Vec<Part>, Refused>>()?;
    let reads = parts.iter().flat_map(|part| part.reads.clone()).collect();
    let (list, number, make) = match (name, parts.as_slice()) {
        ("tolower" | "toupper" | "b64" | "basename", [part]) if !part.number => {
            let apply = match name {
                "tolower" => Apply::Lower,
                "toupper" => Apply::Upper,
                "b64" => Apply::Base64,
                _ => Apply::Basename,
            };
            (part.list, false, Make::Apply(apply, part.make.clone().into()))
        }
        ("len", [part]) if !part.number => {
            let apply = if part.list { Apply::Count } else { Apply::Length };
            (false, true, Make::Apply(apply, part.make.clone().into()))
        }
        ("join", [between, list]) if !between.list && list.list => {
            (false, false, Make::Join(between.make.clone().into(), list.make.clone().into()))
        }
        ("concat", [_, _, ..]) if parts.iter().all(|part| !part.list) => {
            (false, false, Make::Concat(parts.into_iter().map(|part| part.make).collect()))
        }
        ("getopt", [arguments, Part { make: Make::Text(known), .. }]) if arguments.list => {
            let mut only = argument.unwrap_or_default().chars();
            let (first, more) = (only.next(), only.next().is_some());
            if more {
                return refused("the argument of `getopt` is one character".to_owned());
            }
            let make = Make::Options { arguments: arguments.make.clone().into(), known: known.clone(), only: first };
            (first.is_none(), false, make)
        }
        _ => {
            let usage = match name {
                "join" => "join(separator, list)",
                "concat" => "concat(text, text, …)",
                "getopt" => "getopt(list, \"options\")",
                "val" => "a field on the right-hand side: x = val(field)",
                "len" => "len(field)",
                _ => return refused(format!("`{name}` takes one text or list: {name}(field)")),
            };
            return refused(format!("`{name}` is written so: {usage}"));
        }
    };
    let field = Field::Derived(Arc::new(Derived { name: operand.to_string().into(), reads, make }));
    Ok(Known { field, list, number })
}

/// What stands in the brackets of a call.
struct Part {
    make: Make,
    reads: Vec<FieldPath>,
    list: bool,
    number: bool,
}

fn part(operand: &Operand) -> Result<Part, Refused> {
    match &operand.kind {
        OperandKind::Text(text) => {
            Ok(Part { make: Make::Text(text.clone()), reads: Vec::new(), list: false, number: false })
        }
        OperandKind::List(operands) => {
            let parts = operands.iter().map(part).collect::<Result<Vec<Part>, Refused>>()?;
            let reads = parts.iter().flat_map(|part| part.reads.clone()).collect();
            let make = Make::List(parts.into_iter().map(|part| part.make).collect());
            Ok(Part { make, reads, list: true, number: false })
        }
        OperandKind::Field { .. } | OperandKind::Call { .. } => {
            let Known { field, list, number } = known(operand)?;
            let reads = field.reads().to_vec();
            let make = match field {
                Field::Path(path) => Make::Path(path),
                Field::Derived(derived) => derived.make.clone(),
                Field::Anything => Make::Event,
            };
            Ok(Part { make, reads, list, number })
        }
    }
}

fn numeric(text: &str, place: Place) -> Result<String, Refused> {
    as_number(text).ok_or_else(|| (format!("`{text}` is no number"), place))
}

fn ordering(operator: Operator) -> Option<Ordering> {
    Some(match operator {
        Operator::Lt => Ordering::Lt,
        Operator::Le => Ordering::Lte,
        Operator::Gt => Ordering::Gt,
        Operator::Ge => Ordering::Gte,
        _ => return None,
    })
}

/// Whether it has a value, and that is not so.
fn but_not(field: &Field, expr: Expr) -> Expr {
    let exists = Expr::Test(Test::new(field.clone(), Op::Exists));
    Expr::All(vec![exists, Expr::Not(Box::new(expr))])
}

fn exact(text: &str, place: Place) -> Result<Number, Refused> {
    Number::in_text(&numeric(text, place)?).ok_or_else(|| (format!("`{text}` is no number"), place))
}

/// A comparison with one text.
fn with_text(known: &Known, operator: Operator, text: &str, place: Place) -> Result<Expr, Refused> {
    let refused = |message: String| (message, place);
    let test = |op| Expr::Test(Test::new(known.field.clone(), op));
    if let Some(ordering) = ordering(operator) {
        return Ok(test(Op::Compare(ordering, exact(text, place)?)));
    }
    if known.number && !matches!(operator, Operator::Eq | Operator::Ne) {
        return Err(refused(format!(
            "`{}` is a number: it cannot be compared with `{}`",
            known.field,
            operator.as_str()
        )));
    }
    let op = match operator {
        Operator::Eq | Operator::Ne if known.number => Op::Number(exact(text, place)?),
        Operator::Contains => pattern::text(Relation::Contains, text, true),
        Operator::IContains => pattern::text(Relation::Contains, text, false),
        Operator::StartsWith => pattern::text(Relation::StartsWith, text, true),
        Operator::EndsWith => pattern::text(Relation::EndsWith, text, true),
        Operator::BContains => pattern::text(Relation::Contains, &pattern::bytes(text).map_err(refused)?, true),
        Operator::BStartsWith => pattern::text(Relation::StartsWith, &pattern::bytes(text).map_err(refused)?, true),
        Operator::Glob => pattern::glob(text, true).map_err(refused)?,
        Operator::IGlob => pattern::glob(text, false).map_err(refused)?,
        Operator::Regex => pattern::whole_regex(text).map_err(refused)?,
        _ => pattern::text(Relation::Is, text, true),
    };
    Ok(if operator == Operator::Ne { but_not(&known.field, test(op)) } else { test(op) })
}

/// A comparison with another field.
fn with_field(known: &Known, operator: Operator, other: &Operand) -> Result<Expr, Refused> {
    let target = match &other.kind {
        OperandKind::Call { name, operands, .. } if name == "val" && operands.len() == 1 => &operands[0],
        _ => other,
    };
    let right = self::known(target)?;
    let (how, cased) = match operator {
        Operator::Eq | Operator::Ne | Operator::In | Operator::Intersects => (Relation::Is, true),
        Operator::Contains => (Relation::Contains, true),
        Operator::IContains => (Relation::Contains, false),
        Operator::StartsWith => (Relation::StartsWith, true),
        Operator::EndsWith => (Relation::EndsWith, true),
        _ => return Err((format!("`{}` cannot be asked of another field", operator.as_str()), other.place)),
    };
    if right.list && !operator.takes_list() {
        let message = format!("`{}` is a list: compare with `in` or `intersects`", right.field);
        return Err((message, other.place));
    }
    let of = if known.list && operator == Operator::In { Quantifier::Every } else { Quantifier::Any };
    let test = |how| {
        let op = Op::Field { other: right.field.clone(), how, cased };
        Expr::Test(Test { field: known.field.clone(), op, of })
    };
    if operator == Operator::Ne {
        // Both must be there, or nothing is said.
        let there = Expr::Test(Test::new(right.field.clone(), Op::Exists));
        return Ok(Expr::All(vec![there, but_not(&known.field, test(Relation::Is))]));
    }
    Ok(test(how))
}

/// How many tests an expression has, and how many texts they compare with.
fn size(expr: &Expr) -> usize {
    let mut size = 0;
    expr.each_test(&mut |test| {
        size += match &test.op {
            Op::OneOf { texts, .. } => 1 + texts.len(),
            _ => 1,
        }
    });
    size
}

/// Of how many it must be true.
fn modified(modifier: Modifier, tests: Vec<Expr>) -> Expr {
    if tests.is_empty() {
        return Expr::Any(Vec::new());
    }
    match modifier {
        Modifier::Any => Expr::Any(tests),
        Modifier::All => Expr::All(tests),
        Modifier::One => {
            let alone = |at: usize| {
                let others = tests.iter().enumerate().filter(|(other, _)| *other != at);
                let others: Vec<Expr> = others.map(|(_, test)| test.clone()).collect();
                Expr::All(vec![tests[at].clone(), Expr::Not(Box::new(Expr::Any(others)))])
            };
            Expr::Any((0..tests.len()).map(alone).collect())
        }
    }
}
