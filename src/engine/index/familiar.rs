//! What comes again and again: the same few hundred users, programs and addresses, in the same namespaces.
//!
//! Two things are remembered of them. Which witnesses are in their values. And which rules can still be true of them: most
//! rules that a verb and a resource do not decide are about who asks, and many by whom they leave out, which no witness
//! tells. So of each rule is also kept what it demands here: the rule without all that it asks about anything else.

use super::memo::{Memo, write_key};
use super::regexes::Matching;
use super::witness::OfField;
use super::{Bits, bits_of};
use crate::engine::predicate::{Case, Interner, Program};
use crate::engine::simplify::simplified;
use crate::event::{Projection, Scratch, Slot};
use crate::rule::ir::{Expr, Op, Test};

/// Fields whose values come again, those together that come again together.
const PARTS: [&[&str]; 4] = [
    &["user.username", "user.groups", "impersonatedUser.username", "impersonatedUser.groups"],
    &["userAgent"],
    &["sourceIPs"],
    &["objectRef.namespace", "objectRef.apiVersion"],
];

/// Where the projection has each of the parts.
pub(super) fn slots(projection: &Projection) -> impl Iterator<Item = Vec<Slot>> {
    PARTS.iter().map(|fields| fields.iter().filter_map(|field| projection.slot(field)).collect())
}

/// Longer keys are not remembered: a user of many groups.
const KEY_MAX: usize = 384;

/// Some fields, and what rules say of them.
#[derive(Debug)]
pub(super) struct Part {
    slots: Vec<Slot>,
    witnesses: Vec<OfField>,
    /// For each rule, what must be true here if the rule is; `None` if that is nothing.
    demands: Vec<Option<Program>>,
    /// The rules that demand something.
    demanding: Bits,
    /// The rules for which it is worth to look here.
    pub(super) rules: Bits,
}

/// What a worker remembers of a part.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of what was seen here, three sets of rules: those whose witness it is, those that were asked whether it is what they
    /// demand, and those of them that said yes.
    memo: Memo,
    key: Vec<u8>,
    matching: Vec<Option<Matching>>,
    /// Where the current event's is remembered.
    entry: Option<usize>,
}

impl Known {
    /// Begins another event.
    pub(super) fn forget(&mut self) {
        self.entry = None;
    }
}

impl Part {
    /// `exprs`: those of the rules, simplified. `witnesses`: those of these fields. `None` if no rule says anything of them.
    pub(super) fn new(
        slots: Vec<Slot>,
        exprs: &[Expr],
        witnesses: Vec<OfField>,
        interner: &mut Interner<'_>,
    ) -> Option<Self> {
        let projection = interner.projection;
        let demands = exprs.iter().map(|expr| {
            let demand = simplified(&possible(expr, true, &|test| is_about(test, &slots, projection)));
            let nothing = matches!(&demand, Expr::All(parts) if parts.is_empty());
            (!nothing).then(|| interner.program(&demand))
        });
        let demands: Vec<Option<Program>> = demands.collect();
        let demanding = bits_of(demands.iter().map(Option::is_some));
        let mut rules = demanding.clone();
        for field in &witnesses {
            rules.iter_mut().zip(&field.rules).for_each(|(rules, more)| *rules |= more);
        }
        let any = rules.iter().any(|word| *word != 0);
        any.then_some(Self { slots, witnesses, demands, demanding, rules })
    }

    /// What a worker remembers.
    pub(super) fn known(&self) -> Known {
        Known {
            memo: Memo::new(3 * self.rules.len(), KEY_MAX),
            matching: self.witnesses.iter().map(OfField::matching).collect(),
            ..Known::default()
        }
    }

    /// Sets the bits of the rules whose witness is here.
    pub(super) fn look(&self, scratch: &mut Scratch, event: &str, found: &mut [u64], known: &mut Known) {
        let Known { memo, key, matching, entry } = known;
        *entry = None;
        let slots = self.slots.iter().copied();
        let remembered = if write_key(slots, scratch, event, key) { memo.entry(key) } else { None };
        let Some((here, fresh)) = remembered else {
            return self.look_afresh(scratch, event, found, matching);
        };
        *entry = Some(here);
        let seen = &mut memo.set(here)[..found.len()];
        if fresh {
            self.look_afresh(scratch, event, seen, matching);
        }
        found.iter_mut().zip(seen).for_each(|(found, seen)| *found |= *seen);
    }

    fn look_afresh(&self, scratch: &mut Scratch, event: &str, found: &mut [u64], matching: &mut [Option<Matching>]) {
        for (field, matching) in self.witnesses.iter().zip(matching) {
            field.look_at_values(scratch, event, found, matching);
        }
    }

    /// Takes those rules out of the candidates that demand something else of what was last looked at.
    pub(super) fn narrow(&self, case: &mut Case<'_>, candidates: &mut [u64], known: &mut Known) {
        let Some(entry) = known.entry else { return };
        let (_, sets) = known.memo.set(entry).split_at_mut(candidates.len());
        let (asked, possible) = sets.split_at_mut(candidates.len());
        for (word, candidates) in candidates.iter_mut().enumerate() {
            let demanding = self.demanding[word];
            if *candidates & demanding == 0 {
                continue;
            }
            let mut open = *candidates & demanding & !asked[word];
            asked[word] |= open;
            while open != 0 {
                let bit = open.trailing_zeros() as usize;
                open &= open - 1;
                let meets = self.demands[word * 64 + bit].as_ref().is_none_or(|demand| case.holds(demand));
                possible[word] |= u64::from(meets) << bit;
            }
            *candidates &= possible[word] | !demanding;
        }
    }
}

/// Whether a test reads nothing but these fields.
fn is_about(test: &Test, slots: &[Slot], projection: &Projection) -> bool {
    let here = |path: &str| projection.slot(path).is_some_and(|slot| slots.contains(&slot));
    let other = match &test.op {
        Op::Field { other, .. } => other.plain().is_some_and(|other| here(other.path())),
        _ => true,
    };
    other && test.field.plain().is_some_and(|field| here(field.path()))
}

/// The expression with every other test answered in the way that makes it true.
fn possible(expr: &Expr, wanted: bool, is_known: &impl Fn(&Test) -> bool) -> Expr {
    let each = |parts: &[Expr]| parts.iter().map(|part| possible(part, wanted, is_known)).collect();
    match expr {
        Expr::All(parts) => Expr::All(each(parts)),
        Expr::Any(parts) => Expr::Any(each(parts)),
        Expr::Not(part) => Expr::Not(Box::new(possible(part, !wanted, is_known))),
        Expr::Test(test) if is_known(test) => expr.clone(),
        Expr::Test(_) if wanted => Expr::All(Vec::new()),
        Expr::Test(_) => Expr::Any(Vec::new()),
    }
}
