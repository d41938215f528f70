//! Numbers as rules compare them: whole ones exactly, all others as floats.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// A number.
#[derive(Clone, Copy, Debug)]
pub enum Number {
    /// A whole number, exact: 64 bits are more than a float has room for.
    Whole(i64),
    /// Any other, or one beyond 64 bits.
    Float(f64),
}

impl Number {
    /// The number that a text is, if it is one: `inf` and `nan` are names.
    #[must_use]
    pub fn in_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let float = || text.parse().ok().filter(|number: &f64| number.is_finite()).map(Self::Float);
        text.parse().map(Self::Whole).ok().or_else(float)
    }

    /// The number that a scalar is, or that its text is.
    #[must_use]
    pub fn of(value: &Value) -> Option<Self> {
        match value {
            Value::Number(number) => number.as_i64().map(Self::Whole).or_else(|| number.as_f64().map(Self::Float)),
            Value::String(text) => Self::in_text(text),
            _ => None,
        }
    }

    /// The nearest float.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "asked for")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Whole(number) => number as f64,
            Self::Float(number) => number,
        }
    }

    /// The whole number that it is, if it surely is one.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "checked")]
    pub fn whole(self) -> Option<i64> {
        match self {
            Self::Whole(number) => Some(number),
            Self::Float(number) => (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64),
        }
    }
}

impl PartialEq for Number {
    fn eq(&self, other: &Self) -> bool {
        self.partial_cmp(other) == Some(Ordering::Equal)
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match (*self, *other) {
            (Self::Whole(left), Self::Whole(right)) => Some(left.cmp(&right)),
            (Self::Float(left), Self::Float(right)) => left.partial_cmp(&right),
            (Self::Whole(left), Self::Float(right)) => compare(left, right),
            (Self::Float(left), Self::Whole(right)) => compare(right, left).map(Ordering::reverse),
        }
    }
}

/// Compares exactly: every float below 2^63 has a whole part that 64 bits hold.
#[expect(clippy::cast_possible_truncation, reason = "the whole part of what is within the bounds")]
fn compare(whole: i64, float: f64) -> Option<Ordering> {
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    if float.is_nan() {
        return None;
    }
    if float >= BEYOND {
        return Some(Ordering::Less);
    }
    if float < -BEYOND {
        return Some(Ordering::Greater);
    }
    let part = float - float.trunc();
    Some(whole.cmp(&(float.trunc() as i64)).then(0.0_f64.partial_cmp(&part)?))
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(number) => number.fmt(f),
            Self::Float(number) => number.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_whole_number_is_compared_with_a_float_exactly(
            whole in prop_oneof![any::<i64>(), -5_i64..5, Just(i64::MAX), Just(i64::MIN), Just((1 << 53) + 1)],
            float in prop_oneof![any::<f64>(), -5.0..5.0_f64, -1e19..1e19, Just(9_007_199_254_740_992.0)],
        ) {
            let expected = if float.abs() > 1e30 {
                0.0.partial_cmp(&float)
            } else if float.fract() == 0.0 {
                #[expect(clippy::cast_possible_truncation, reason = "it is whole and small enough")]
                Some(i128::from(whole).cmp(&(float as i128)))
            } else {
                #[expect(clippy::cast_possible_truncation, reason = "it is small enough")]
                let below = float.floor() as i128;
                Some(if i128::from(whole) <= below { Ordering::Less } else { Ordering::Greater })
            };
            prop_assert_eq!(Number::Whole(whole).partial_cmp(&Number::Float(float)), expected);
            prop_assert_eq!(Number::Float(float).partial_cmp(&Number::Whole(whole)), expected.map(Ordering::reverse));
        }
    }
}
