//! The judge: rules over `serde_json::Value`, obviously right and slow. The compiled path must agree with it. It also says
//! what an alert shows as matched: that is asked of the few events that match.

use std::borrow::Cow;

use serde_json::Value;

use super::field::{Field, Got};
use super::ir::{Expr, Op, Quantifier, Regex, Rule, STAGES_DECIDED, Test, address};
use super::number::Number;
use crate::event::project::fold;

/// Whether a rule is true of an event.
#[must_use]
pub fn rule_holds(rule: &Rule, event: &Value) -> bool {
    is_asked(rule, event) && holds(&rule.expr, event)
}

/// Whether a rule is asked about an event at all: see [`STAGES_DECIDED`].
#[must_use]
pub fn is_asked(rule: &Rule, event: &Value) -> bool {
    let stage = event.get("stage").and_then(Value::as_str).unwrap_or_default();
    rule.names_stage || STAGES_DECIDED.contains(&fold(stage).as_str())
}

/// Whether an expression is true of an event.
#[must_use]
pub fn holds(expr: &Expr, event: &Value) -> bool {
    match expr {
        Expr::All(parts) => parts.iter().all(|part| holds(part, event)),
        Expr::Any(parts) => parts.iter().any(|part| holds(part, event)),
        Expr::Not(part) => !holds(part, event),
        Expr::Test(test) => test_holds(test, event),
    }
}

/// Whether a single test is true of an event.
#[must_use]
pub fn test_holds(test: &Test, event: &Value) -> bool {
    holds_of(test, &test.field.resolve(event), event)
}

/// Whether a test is true of an event in which its field has these values.
#[must_use]
pub fn holds_of(test: &Test, found: &[Got<'_>], event: &Value) -> bool {
    match (&test.op, test.of) {
        (Op::Exists, _) => !found.is_empty(),
        (Op::Null, _) => found.is_empty() || found.contains(&Got::Scalar(Cow::Owned(Value::Null))),
        (op, Quantifier::Any) => found.iter().any(|value| value_holds(op, value, event)),
        (op, Quantifier::Every) => !found.is_empty() && found.iter().all(|value| value_holds(op, value, event)),
    }
}

/// Those of the values of its field for which a test is true: what an alert shows as matched.
pub fn witnesses<'f>(test: &Test, found: &'f [Got<'_>], event: &Value) -> impl Iterator<Item = &'f Value> {
    scalars(found.iter().filter(|value| matches!(test.op, Op::Exists) || value_holds(&test.op, value, event)))
}

fn scalars<'f>(found: impl Iterator<Item = &'f Got<'f>>) -> impl Iterator<Item = &'f Value> {
    found.filter_map(|found| match found {
        Got::Scalar(value) => Some(&**value),
        Got::Container => None,
    })
}

fn value_holds(op: &Op, found: &Got<'_>, event: &Value) -> bool {
    let Got::Scalar(value) = found else { return false };
    let Some(text) = text_of(value) else { return false };
    match op {
        Op::Exists | Op::Null => false,
        Op::Text { pattern, cased } => pattern.matches(&cased_text(&text, *cased)),
        Op::OneOf { texts, cased } => texts.contains(&cased_text(&text, *cased)),
        Op::Number(number) => Number::of(value).is_some_and(|n| n == *number),
        Op::Compare(ordering, bound) => Number::of(value).is_some_and(|n| ordering.holds(&n, bound)),
        Op::Regex(Regex(regex)) => regex.is_match(&text),
        Op::Time(part, ordering, bound) => part.of(&text).is_some_and(|part| ordering.holds(&part, bound)),
        Op::Cidr(network) => address(&text).is_some_and(|address| network.contains(&address)),
        Op::Field { other, how, cased } => {
            let text = cased_text(&text, *cased);
            texts(other, event).iter().any(|other| how.holds(&text, &cased_text(other, *cased)))
        }
    }
}

fn texts(field: &Field, event: &Value) -> Vec<String> {
    scalars(field.resolve(event).iter()).filter_map(text_of).collect()
}

fn cased_text(text: &str, cased: bool) -> String {
    if cased { text.to_owned() } else { fold(text) }
}

/// A scalar as text; null has none.
#[must_use]
pub fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(value) => Some(value.to_string()),
        Value::Number(number) => Some(match (number.as_i64(), number.as_f64()) {
            (None, Some(float)) => Value::from(float).to_string(),
            _ => number.to_string(),
        }),
        _ => None,
    }
}
