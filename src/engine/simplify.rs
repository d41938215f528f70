//! Expressions without the parts whose answer is known before any event is seen.
//!
//! Falco's rules are full of them: `jevt.rawtime exists` is how they say "always", `jevt.rawtime=0` how they say "never".

use crate::rule::field::Field;
use crate::rule::ir::{Expr, Op, Test};
use crate::rule::make::Make;
use crate::rule::number::Number;

/// The same expression with fewer parts: `All` of nothing is true, `Any` of nothing false.
pub(super) fn simplified(expr: &Expr) -> Expr {
    match expr {
        Expr::All(parts) => joined(parts, false),
        Expr::Any(parts) => joined(parts, true),
        Expr::Not(part) => match simplified(part) {
            Expr::Not(inner) => *inner,
            part => match known(&part) {
                Some(holds) => constant(!holds),
                None => Expr::Not(Box::new(part)),
            },
        },
        Expr::Test(test) => decided(test).map_or_else(|| expr.clone(), constant),
    }
}

/// `All` (decided by a false part) or `Any` (decided by a true one), with the parts of the like within it.
fn joined(parts: &[Expr], decides: bool) -> Expr {
    let mut kept = Vec::new();
    for part in parts {
        match simplified(part) {
            part if known(&part) == Some(decides) => return constant(decides),
            part if known(&part).is_some() => {}
            Expr::All(inner) if !decides => kept.extend(inner),
            Expr::Any(inner) if decides => kept.extend(inner),
            part => kept.push(part),
        }
    }
    match kept.len() {
        1 => kept.remove(0),
        _ if decides => Expr::Any(kept),
        _ => Expr::All(kept),
    }
}

fn constant(holds: bool) -> Expr {
    if holds { Expr::All(Vec::new()) } else { Expr::Any(Vec::new()) }
}

fn known(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::All(parts) if parts.is_empty() => Some(true),
        Expr::Any(parts) if parts.is_empty() => Some(false),
        _ => None,
    }
}

/// What every event answers the same: all have a time, or they are refused before any rule is asked, and none is 0.
fn decided(test: &Test) -> Option<bool> {
    let Field::Derived(derived) = &test.field else { return None };
    match (&derived.make, &test.op) {
        (Make::Time, Op::Exists) => Some(true),
        (Make::Time, Op::Number(number)) if *number == Number::Whole(0) => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::FieldPath;
    use crate::rule::field::Derived;

    #[test]
    fn what_is_known_is_left_out() {
        let time = |op| {
            let derived = Derived { name: "jevt.rawtime".into(), reads: Vec::new(), make: Make::Time };
            Expr::Test(Test::new(Field::Derived(Arc::new(derived)), op))
        };
        let (always, never) = (|| time(Op::Exists), || time(Op::Number(Number::Whole(0))));
        let verb = || Expr::Test(Test::new(FieldPath::parse("verb").expect("a path"), Op::Exists));
        let not = |part| Expr::Not(Box::new(part));
        let show = |expr: &Expr| format!("{:?}", simplified(expr));
        for (expr, expected) in [
            (Expr::All(vec![verb(), always()]), verb()),
            (Expr::All(vec![verb(), never()]), constant(false)),
            (Expr::Any(vec![verb(), never()]), verb()),
            (Expr::Any(vec![verb(), not(never())]), constant(true)),
            (not(not(verb())), verb()),
            (Expr::All(vec![Expr::All(vec![verb(), verb()]), verb()]), Expr::All(vec![verb(), verb(), verb()])),
            (Expr::Any(vec![Expr::Any(Vec::new()), Expr::All(vec![])]), constant(true)),
        ] {
            assert_eq!(show(&expr), format!("{expected:?}"), "{expr:?}");
        }
    }
}
