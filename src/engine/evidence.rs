//! What an alert shows beside the envelope: the values for which its rule is true, and those that its matches carry.
//! Redacted.
//!
//! Most is taken from where the projection has it: nothing but the value and its place decide how it is shown. For the
//! rest, and of what is about Secrets, the event is read as a tree, which costs more than all else of a match. In debug
//! builds everything is taken from the tree once more, and must be the same.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::mem::discriminant;
use std::sync::Arc;

use serde_json::Value;

use super::compile::{CompiledRule, RuleSet};
use super::detect::whole;
use super::predicate::{Case, Interner, Program};
use super::redact::{self, Plain, show_all, show_path_all};
use super::shown::Fields;
use crate::event::frame::Refusal;
use crate::event::path::Found;
use crate::event::{FieldPath, Projection, Slot, Val, label, pruned};
use crate::rule::field::{Field, Got};
use crate::rule::ir::{Expr, Op, Quantifier, Test};
use crate::rule::make::Make;
use crate::rule::{explain, naive};

const VALUES_MAX: usize = 16;

/// What a rule's matches show and carry.
#[derive(Debug)]
pub(super) struct Evidence {
    asked: Asked,
    /// Fields that alerts show besides.
    shown: Vec<Carried>,
    /// Fields for grouping and counting.
    carried: Vec<Carried>,
}

/// The positive tests of an expression that holds.
#[derive(Debug)]
enum Asked {
    /// All of them hold.
    All(Vec<Self>),
    /// They hold if a program is true.
    If(Program, Box<Self>),
    /// Tests of one field.
    Of(Tests),
}

#[derive(Debug)]
struct Tests {
    field: Field,
    place: Place,
    tests: Vec<Test>,
    /// That they hold is known.
    certain: bool,
}

/// A field of which all values are shown.
#[derive(Debug)]
struct Carried {
    field: FieldPath,
    name: Arc<str>,
    place: Place,
}

/// Where the values of a field are taken from.
#[derive(Debug)]
enum Place {
    /// From the projection.
    Slot(Slot, Plain),
    /// From the tree.
    Tree,
}

impl Place {
    fn of(field: &FieldPath, projection: &Projection) -> Self {
        match projection.slot(field.path()).zip(Plain::of(field)) {
            Some((slot, plain)) => Self::Slot(slot, plain),
            None => Self::Tree,
        }
    }
}

impl Evidence {
    /// `expr`: as it is written. `shown` and `carried`: the fields whose values are shown besides, and those for grouping.
    pub(super) fn new(expr: &Expr, shown: &[FieldPath], carried: &[FieldPath], interner: &mut Interner<'_>) -> Self {
        let projection = interner.projection;
        let carry = |field: &FieldPath| Carried {
            name: field.shared(),
            place: Place::of(field, projection),
            field: field.clone(),
        };
        Self {
            shown: shown.iter().map(carry).collect(),
            carried: carried.iter().map(carry).collect(),
            asked: Asked::of(expr, interner).unwrap_or(Asked::All(Vec::new())),
        }
    }

    /// What the event matched. Of what comes several times the last one counts.
    pub(super) fn matched(&self, sight: &mut Sight<'_, '_>) -> Result<BTreeMap<&str, Value>, Refusal> {
        let mut found = BTreeMap::new();
        self.asked.collect(sight, &mut found)?;
        for field in &self.shown {
            if found.contains_key(&*field.name) {
                continue;
            }
            let values = field.values(sight)?;
            if !values.is_empty() {
                found.insert(&field.name, one_or_list(values));
            }
        }
        Ok(found)
    }

    /// The fields for grouping and counting.
    pub(super) fn carried(&self) -> impl Iterator<Item = &FieldPath> {
        self.carried.iter().map(|carried| &carried.field)
    }

    /// The values of the fields for grouping and counting.
    pub(super) fn fields(&self, sight: &mut Sight<'_, '_>) -> Result<Fields, Refusal> {
        self.carried.iter().map(|field| Ok((Arc::clone(&field.name), field.values(sight)?))).collect()
    }
}

impl Asked {
    /// `None` where there is nothing to show.
    fn of(expr: &Expr, interner: &mut Interner<'_>) -> Option<Self> {
        match expr {
            Expr::All(parts) => {
                let parts: Vec<Self> = parts.iter().filter_map(|part| Self::of(part, interner)).collect();
                (!parts.is_empty()).then_some(Self::All(parts))
            }
            Expr::Any(parts) => {
                let parts = Self::alternatives(parts, interner);
                (!parts.is_empty()).then_some(Self::All(parts))
            }
            Expr::Not(_) => None,
            Expr::Test(test) => Tests::of(test, true, interner.projection).map(Self::Of),
        }
    }

    /// Among alternatives it must be asked which of them hold. Many of them ask for one field, whose values are then looked
    /// up once.
    fn alternatives(parts: &[Expr], interner: &mut Interner<'_>) -> Vec<Self> {
        let mut alternatives: Vec<Self> = Vec::new();
        for part in parts {
            let Expr::Test(test) = part else {
                if let Some(asked) = Self::of(part, interner) {
                    alternatives.push(Self::If(interner.program(part), Box::new(asked)));
                }
                continue;
            };
            let Some(tests) = Tests::of(test, false, interner.projection) else { continue };
            match alternatives.last_mut() {
                Some(Self::Of(last)) if last.goes_with(&tests) => last.tests.extend(tests.tests),
                _ => alternatives.push(Self::Of(tests)),
            }
        }
        alternatives
    }

    fn collect<'a>(&'a self, sight: &mut Sight<'_, '_>, found: &mut BTreeMap<&'a str, Value>) -> Result<(), Refusal> {
        match self {
            Self::All(parts) => parts.iter().try_for_each(|part| part.collect(sight, found)),
            Self::If(program, part) if sight.case.holds(program) => part.collect(sight, found),
            Self::If(..) => Ok(()),
            Self::Of(tests) => tests.collect(sight, found),
        }
    }
}

impl Tests {
    /// Whether both ask for one field, and take it from the same place.
    fn goes_with(&self, other: &Self) -> bool {
        self.field == other.field && discriminant(&self.place) == discriminant(&other.place)
    }

    fn of(test: &Test, certain: bool, projection: &Projection) -> Option<Self> {
        let place = match (&test.field, &test.op) {
            (_, Op::Null) => return None,
            // Every event has a time: that it has one says nothing.
            (Field::Derived(derived), _) if derived.make == Make::Time => return None,
            (Field::Path(_), Op::Field { .. }) => Place::Tree,
            (Field::Path(path), _) => Place::of(path, projection),
            _ => Place::Tree,
        };
        Some(Self { field: test.field.clone(), place, tests: vec![test.clone()], certain })
    }

    fn collect<'a>(&'a self, sight: &mut Sight<'_, '_>, found: &mut BTreeMap<&'a str, Value>) -> Result<(), Refusal> {
        // What the event has there may be a secret; the keyword is the rule's.
        if self.field == Field::Anything && self.certain {
            self.tests.iter().for_each(|test| keyword(&test.op, found));
            return Ok(());
        }
        if let Place::Slot(slot, plain) = &self.place
            && let Some(taken) = sight.take(*slot, self.field.plain())
        {
            match taken {
                // If one of them holds, then for this text.
                Taken::Text(at) => {
                    if self.certain || self.tests.iter().any(|test| sight.case.text_holds(&test.op, at)) {
                        found.insert(self.field.as_str(), sight.show(plain, at));
                    }
                }
                Taken::Texts(places) => self.ask_texts(&places, sight, plain, found),
                Taken::Values(values) => {
                    let harmless = &mut sight.case.answers.harmless;
                    let mut show = |value: &Value| plain.show(value, harmless);
                    self.ask(&values, &Value::Null, |values| values.into_iter().map(&mut show).collect(), found);
                }
            }
            return Ok(());
        }
        let event = sight.tree()?;
        let show = |values: Vec<&Value>| show_all(&self.field, values.into_iter(), &event);
        self.ask(&self.field.resolve(&event), &event, show, found);
        Ok(())
    }

    /// Shows for which texts the tests hold.
    fn ask_texts<'a>(
        &'a self,
        places: &[u32],
        sight: &mut Sight<'_, '_>,
        plain: &Plain,
        found: &mut BTreeMap<&'a str, Value>,
    ) {
        for test in &self.tests {
            let holding = places.iter().copied().filter(|at| sight.case.text_holds(&test.op, *at));
            let holding: Vec<u32> = holding.collect();
            let holds = match test.of {
                Quantifier::Any => !holding.is_empty(),
                Quantifier::Every => holding.len() == places.len(),
            };
            if self.certain || holds {
                let values = holding.into_iter().take(VALUES_MAX).map(|at| sight.show(plain, at));
                found.insert(self.field.as_str(), shown(values.collect()));
            }
        }
    }

    /// Shows for which values the tests hold.
    fn ask<'a>(
        &'a self,
        values: &[Got<'_>],
        event: &Value,
        mut show: impl FnMut(Vec<&Value>) -> Vec<Value>,
        found: &mut BTreeMap<&'a str, Value>,
    ) {
        for test in &self.tests {
            if !self.certain && !naive::holds_of(test, values, event) {
                continue;
            }
            if self.field == Field::Anything {
                keyword(&test.op, found);
                continue;
            }
            let values = show(naive::witnesses(test, values, event).take(VALUES_MAX).collect());
            found.insert(self.field.as_str(), shown(values));
        }
    }
}

/// The values for which a test holds; a test may hold without any.
fn shown(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Bool(true) } else { one_or_list(values) }
}

fn one_or_list(mut values: Vec<Value>) -> Value {
    if values.len() == 1 { values.swap_remove(0) } else { Value::Array(values) }
}

fn keyword(op: &Op, found: &mut BTreeMap<&str, Value>) {
    let known = found.entry("keywords").or_insert_with(|| Value::Array(Vec::new()));
    if let Value::Array(known) = known {
        known.push(explain::asked(op).into());
    }
}

impl Carried {
    fn values(&self, sight: &mut Sight<'_, '_>) -> Result<Vec<Value>, Refusal> {
        if let Place::Slot(slot, plain) = &self.place
            && let Some(taken) = sight.take(*slot, Some(&self.field))
        {
            return Ok(match taken {
                Taken::Text(at) => vec![sight.show(plain, at)],
                Taken::Texts(places) => places.into_iter().take(VALUES_MAX).map(|at| sight.show(plain, at)).collect(),
                Taken::Values(values) => {
                    let harmless = &mut sight.case.answers.harmless;
                    let scalars = values.iter().filter_map(|value| match value {
                        Got::Scalar(value) if !value.is_null() => Some(plain.show(value, harmless)),
                        _ => None,
                    });
                    scalars.take(VALUES_MAX).collect()
                }
            });
        }
        let event = sight.tree()?;
        let found = self.field.resolve(&event);
        let scalars = found.into_iter().filter_map(|found| match found {
            Found::Scalar(Value::Null) | Found::Container => None,
            Found::Scalar(value) => Some(value),
        });
        Ok(show_path_all(&self.field, scalars.take(VALUES_MAX), &event))
    }
}

/// What there is at a slot.
enum Taken {
    /// One text, here, and nothing else.
    Text(u32),
    /// Several, and nothing else.
    Texts(Vec<u32>),
    Values(Vec<Got<'static>>),
}

/// An event as one of the rules that are true of it sees it.
pub(super) struct Sight<'s, 'c> {
    case: &'s mut Case<'c>,
    rules: &'s RuleSet,
    /// The rule's number.
    rule: usize,
    /// What the rule reads of it, once it was needed.
    tree: Option<Arc<Value>>,
    /// Everything is taken from the tree.
    #[cfg(debug_assertions)]
    pub(super) by_tree: bool,
}

impl<'s, 'c> Sight<'s, 'c> {
    pub(super) fn new(case: &'s mut Case<'c>, rules: &'s RuleSet, rule: usize) -> Self {
        Self {
            case,
            rules,
            rule,
            tree: None,
            #[cfg(debug_assertions)]
            by_tree: false,
        }
    }

    pub(super) fn rule(&self) -> &'s CompiledRule {
        &self.rules.rules[self.rule]
    }

    /// What a rule and its alerts read of the event, with the label of its cluster. What is unusual is read as a whole.
    pub(super) fn tree(&mut self) -> Result<Arc<Value>, Refusal> {
        if let Some(tree) = &self.tree {
            return Ok(Arc::clone(tree));
        }
        let Case { event, cluster, .. } = *self.case;
        let needed = if self.rule().needs_whole { None } else { pruned(event, self.rules.reads(self.rule)) };
        let tree = match needed {
            Some(mut event) => {
                label(&mut event, cluster);
                Arc::new(event)
            }
            None => whole(self.case.answers, cluster, event)?,
        };
        Ok(Arc::clone(self.tree.insert(tree)))
    }

    /// What the rule says of it, if it says anything itself.
    pub(super) fn said(&mut self) -> Result<Option<String>, Refusal> {
        let Some(output) = &self.rule().output else { return Ok(None) };
        Ok(Some(output.render(&*self.tree()?, redact::show)))
    }

    /// Memory for JSON.
    pub(super) fn out(&mut self) -> &mut String {
        &mut self.case.answers.json
    }

    fn is_of_secrets(&mut self) -> bool {
        let Case { projection, scratch, answers, event, .. } = &mut *self.case;
        *answers.of_secrets.get_or_insert_with(|| self.rules.of_secrets.may_hold(projection, scratch, event))
    }

    /// What a field yields at a slot; `None` where it has to be taken from the tree.
    fn take(&mut self, slot: Slot, field: Option<&FieldPath>) -> Option<Taken> {
        #[cfg(debug_assertions)]
        if self.by_tree {
            return None;
        }
        let Case { projection, scratch, event, .. } = &mut *self.case;
        scratch.demand(projection, slot, event);
        let field = field?;
        if projection.is_lazy(slot) && self.is_of_secrets() {
            return None;
        }
        if field.picks_all()
            && let Some(texts) = self.texts(slot)
        {
            return Some(texts);
        }
        let Case { scratch, event, .. } = &*self.case;
        let flags = scratch.values(slot, event).any(|value| matches!(value, Val::Bool(_)));
        if flags && self.is_of_secrets() {
            return None;
        }
        self.values(slot, field).map(Taken::Values)
    }

    /// Where the texts of a slot are, unless there is anything else, or nothing.
    fn texts(&self, slot: Slot) -> Option<Taken> {
        let Case { scratch, event, .. } = &*self.case;
        let is_text = |at: u32| matches!(scratch.at(at, event), Val::Str(_));
        let first = scratch.first(slot).filter(|at| is_text(*at))?;
        if scratch.following(first).is_none() {
            return Some(Taken::Text(first));
        }
        let places = std::iter::successors(Some(first), |at| scratch.following(*at));
        places.map(|at| is_text(at).then_some(at)).collect::<Option<_>>().map(Taken::Texts)
    }

    /// A text as it may be shown.
    fn show(&mut self, plain: &Plain, at: u32) -> Value {
        let Case { scratch, answers, event, .. } = &mut *self.case;
        match scratch.at(at, event) {
            Val::Str(text) => plain.show_text(text, &mut answers.harmless),
            _ => Value::Null,
        }
    }

    /// `None` where there is a number beyond 64 bits, which would not be what it was.
    fn values(&self, slot: Slot, field: &FieldPath) -> Option<Vec<Got<'static>>> {
        let Case { scratch, event, .. } = &*self.case;
        let range = field.picked(|| scratch.count(slot));
        let picked = scratch.values(slot, event).skip(range.start).take(range.len());
        let values = picked.map(|value| {
            let value = match value {
                Val::Container => return Some(Got::Container),
                Val::Float(_) => return None,
                Val::Null => Value::Null,
                Val::Bool(flag) => flag.into(),
                Val::Int(number) => number.into(),
                Val::Str(text) => text.into(),
            };
            Some(Got::Scalar(Cow::Owned(value)))
        });
        values.collect()
    }
}
