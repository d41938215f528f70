//! The judge: rules over `serde_json::Value`, obviously right and slow. The compiled path must agree with it.

use serde_json::Value;

use super::ir::{Expr, Op, Regex, Rule, STAGES_DECIDED, Test, address};
use crate::event::FieldPath;
use crate::event::path::Found;
use crate::event::project::fold;

/// Whether a rule is true of an event.
#[must_use]
pub fn rule_holds(rule: &Rule, event: &Value) -> bool {
    let stage = event.get("stage").and_then(Value::as_str).unwrap_or_default();
    (rule.names_stage || STAGES_DECIDED.contains(&fold(stage).as_str())) && holds(&rule.expr, event)
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
    let found = test.field.resolve(event);
    match &test.op {
        Op::Exists => !found.is_empty(),
        Op::Null => found.is_empty() || found.contains(&Found::Scalar(&Value::Null)),
        op => found.into_iter().any(|value| value_holds(op, value, event)),
    }
}

/// The values for which a test is true: what an alert shows as matched.
#[must_use]
pub fn witnesses<'e>(test: &Test, event: &'e Value) -> Vec<&'e Value> {
    let scalars = test.field.resolve(event).into_iter().filter_map(|found| match found {
        Found::Scalar(value) if matches!(test.op, Op::Exists) || value_holds(&test.op, found, event) => Some(value),
        _ => None,
    });
    scalars.collect()
}

fn value_holds(op: &Op, found: Found<'_>, event: &Value) -> bool {
    let Found::Scalar(value) = found else { return false };
    let Some(text) = text_of(value) else { return false };
    match op {
        Op::Exists | Op::Null => false,
        Op::Text { pattern, cased } => pattern.matches(&cased_text(&text, *cased)),
        #[expect(clippy::float_cmp, reason = "a rule that names a number means exactly that number")]
        Op::Number(number) => number_of(value).is_some_and(|n| n == *number),
        Op::Compare(ordering, bound) => number_of(value).is_some_and(|n| ordering.holds(&n, bound)),
        Op::Regex(Regex(regex)) => regex.is_match(&text),
        Op::Cidr(network) => address(&text).is_some_and(|address| network.contains(&address)),
        Op::Field { other, how, cased } => {
            let text = cased_text(&text, *cased);
            texts(other, event).iter().any(|other| how.holds(&text, &cased_text(other, *cased)))
        }
    }
}

fn texts(field: &FieldPath, event: &Value) -> Vec<String> {
    let scalars = field.resolve(event).into_iter().filter_map(|found| match found {
        Found::Scalar(value) => text_of(value),
        Found::Container => None,
    });
    scalars.collect()
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

/// The number that a text is, if it is one: `inf` and `nan` are names.
#[must_use]
pub fn number_in(text: &str) -> Option<f64> {
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn number_of(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => number_in(text),
        _ => None,
    }
}
