//! A second look, into bodies: rules about a kind of workload ask for much that most of them lack, and what they must have
//! in common is looked up in one pass over what is there.

use super::witness::{OfField, Search, fields_of};
use super::{Bits, and};
use crate::engine::predicate::Case;
use crate::event::{Projection, Slot};
use crate::rule::ir::Expr;

/// With fewer candidates it is as cheap to ask each.
const WORTH: u32 = 4;

/// No field.
const NONE: u16 = u16::MAX;

/// What rules must find inside of bodies.
#[derive(Debug)]
pub(super) struct Inside {
    /// Rules that have no witness there.
    without: Bits,
    fields: Vec<OfField>,
    /// By the number of a slot, the place in `fields`.
    places: Box<[u16]>,
    /// A slot of each body that is asked for.
    bodies: Vec<Slot>,
}

impl Inside {
    pub(super) fn new(exprs: &[Expr], projection: &Projection) -> Self {
        let search = Search { projection, indexed: &[], inside: true };
        let mut without = vec![0_u64; exprs.len().div_ceil(64)].into_boxed_slice();
        let mut atoms = Vec::new();
        for (rule, expr) in exprs.iter().enumerate() {
            match (search.witness(expr), u32::try_from(rule)) {
                (Some(found), Ok(number)) => atoms.extend(found.into_iter().map(|atom| (atom, number))),
                _ => without[rule / 64] |= 1 << (rule % 64),
            }
        }
        let fields = fields_of(atoms, without.len(), projection);
        let mut places = vec![NONE; projection.slots()].into_boxed_slice();
        let mut bodies: Vec<Slot> = Vec::new();
        for (at, field) in fields.iter().enumerate() {
            places[field.slot.number()] = u16::try_from(at).unwrap_or(NONE);
            let section = projection.section(field.slot);
            if bodies.iter().all(|known| projection.section(*known) != section) {
                bodies.push(field.slot);
            }
        }
        // More fields than have numbers: then the bodies are not looked into.
        if fields.len() >= usize::from(NONE) {
            without.fill(u64::MAX);
        }
        Self { without, fields, places, bodies }
    }

    /// Takes those rules out whose witness the bodies lack, if there are enough of them.
    pub(super) fn narrow(&self, case: &mut Case<'_>, rules: &mut [u64], spare: &mut [u64]) {
        let here: u32 = rules.iter().zip(&self.without).map(|(rules, without)| (rules & !without).count_ones()).sum();
        if here < WORTH {
            return;
        }
        for slot in &self.bodies {
            case.scratch.demand(case.projection, *slot, case.event);
        }
        spare.copy_from_slice(&self.without);
        let mut number = 0;
        while let Some(slot) = case.scratch.touched(number) {
            number += 1;
            if let Some(field) = self.fields.get(usize::from(self.places[slot.number()])) {
                field.look_at_values(case.scratch, case.event, spare, &mut None);
            }
        }
        and(rules, spare);
    }
}
