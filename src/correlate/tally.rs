//! What a window knows of the values of its matches.

use std::collections::{BTreeMap, HashMap};
use std::ops::{AddAssign, SubAssign};

use foldhash::fast::RandomState;
use serde_json::Value;

use crate::hash;
use crate::rule::ir::{CorrelationKind, Measure};
use crate::rule::number::Number;

/// Numbers are kept in millionths, so that their sum does not depend on the order of their arrival.
const PART: f64 = 1e6;

/// Numbers beyond this are taken as this.
const NUMBER_MAX: f64 = 9e12;

/// The sum of numbers, in millionths, and how many they are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    sum: i128,
    count: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.sum += other.sum;
        self.count += other.count;
    }
}

impl SubAssign for Figures {
    fn sub_assign(&mut self, other: Self) {
        self.sum -= other.sum;
        self.count -= other.count;
    }
}

/// Values in a window.
#[derive(Clone, Debug, Default)]
pub(super) struct Tally {
    /// How often each counted value is there.
    different: HashMap<u64, u32, RandomState>,
    /// How often each number is there, in millionths.
    numbers: BTreeMap<i64, u32>,
    of_numbers: Figures,
    /// Of the numbers of matches that are not kept one by one.
    older: Figures,
}

/// The values of a match as a window keeps them: hashes of what is counted, or numbers in millionths.
pub(super) fn values(kind: &CorrelationKind, found: &[&[Value]]) -> Box<[u64]> {
    match (kind, found) {
        (CorrelationKind::ValueCount(..), [one]) => {
            one.iter().map(|value| hash::short(&[value.to_string().as_bytes()])).collect()
        }
        // Several fields: their combination, if any of them has a value.
        (CorrelationKind::ValueCount(..), several) if several.iter().any(|values| !values.is_empty()) => {
            let text = serde_json::to_string(several).unwrap_or_default();
            [hash::short(&[text.as_bytes()])].into()
        }
        (CorrelationKind::Value(..), [one]) => one.iter().filter_map(number).map(i64::cast_unsigned).collect(),
        _ => Box::default(),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "clamped to what fits")]
fn number(value: &Value) -> Option<i64> {
    let number = Number::of(value)?.as_f64();
    Some((number.clamp(-NUMBER_MAX, NUMBER_MAX) * PART).round() as i64)
}

fn figures(kind: &CorrelationKind, values: &[u64]) -> Figures {
    match kind {
        CorrelationKind::Value(..) => Figures {
            sum: values.iter().map(|value| i128::from(value.cast_signed())).sum(),
            count: values.len() as u64,
        },
        _ => Figures::default(),
    }
}

impl Tally {
    pub(super) fn add(&mut self, kind: &CorrelationKind, values: &[u64]) {
        match kind {
            CorrelationKind::Value(..) => {
                for value in values.iter().map(|value| value.cast_signed()) {
                    *self.numbers.entry(value).or_default() += 1;
                }
                self.of_numbers += figures(kind, values);
            }
            _ => values.iter().for_each(|value| *self.different.entry(*value).or_default() += 1),
        }
    }

    pub(super) fn remove(&mut self, kind: &CorrelationKind, values: &[u64]) {
        match kind {
            CorrelationKind::Value(..) => {
                for value in values.iter().map(|value| value.cast_signed()) {
                    if let Some(count) = self.numbers.get_mut(&value) {
                        *count -= 1;
                        if *count == 0 {
                            self.numbers.remove(&value);
                        }
                    }
                }
                self.of_numbers -= figures(kind, values);
            }
            _ => {
                for value in values {
                    if let Some(count) = self.different.get_mut(value) {
                        *count -= 1;
                        if *count == 0 {
                            self.different.remove(value);
                        }
                    }
                }
            }
        }
    }

    /// Takes out the values of a match that is not kept any longer, though it is still in the window; sum and mean go on
    /// counting what is returned.
    pub(super) fn fold(&mut self, kind: &CorrelationKind, values: &[u64]) -> Figures {
        self.remove(kind, values);
        let figures = figures(kind, values);
        self.older += figures;
        figures
    }

    /// Takes out what was returned by [`Self::fold`].
    pub(super) fn forget_older(&mut self, figures: Figures) {
        self.older -= figures;
    }

    /// How many different values there are.
    pub(super) fn different(&self) -> usize {
        self.different.len()
    }

    /// A figure of the numbers; `None` if there are none.
    #[expect(clippy::cast_precision_loss, reason = "compared with bounds that people write")]
    pub(super) fn measure(&self, measure: Measure) -> Option<f64> {
        let kept = self.of_numbers.count;
        let mut all = self.of_numbers;
        all += self.older;
        let counts_older = matches!(measure, Measure::Sum | Measure::Avg);
        if (if counts_older { all.count } else { kept }) == 0 {
            return None;
        }
        let sum = all.sum as f64 / PART;
        Some(match measure {
            Measure::Sum => sum,
            Measure::Avg => sum / all.count as f64,
            Measure::Median => f64::midpoint(self.ranked((kept - 1) / 2), self.ranked(kept / 2)),
            Measure::Percentile(percentile) => self.ranked(rank(percentile, kept)),
        })
    }

    /// The number at a place in their order, from 0.
    #[expect(clippy::cast_precision_loss, reason = "as it came in")]
    fn ranked(&self, place: u64) -> f64 {
        let mut before = 0;
        for (number, count) in &self.numbers {
            before += u64::from(*count);
            if before > place {
                return *number as f64 / PART;
            }
        }
        self.numbers.last_key_value().map_or(0.0, |(number, _)| *number as f64 / PART)
    }
}

/// The place of a percentile by nearest rank.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of it"
)]
fn rank(percentile: f64, count: u64) -> u64 {
    ((percentile / 100.0 * count as f64).ceil() as u64).clamp(1, count) - 1
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::FieldPath;
    use crate::rule::ir::{Condition, GroupField};

    fn kind(measure: Measure) -> CorrelationKind {
        let field = FieldPath::parse("x").expect("a path");
        CorrelationKind::Value(measure, GroupField { name: "x".into(), fields: vec![field] }, Condition::default())
    }

    #[test]
    fn figures_are_those_of_the_numbers_that_are_there() {
        let sum = kind(Measure::Sum);
        let mut tally = Tally::default();
        assert_eq!(tally.measure(Measure::Sum), None);
        for number in [json!(1), json!("2.5"), json!(10), json!(3), json!("no number"), json!(true)] {
            tally.add(&sum, &values(&sum, &[&[number]]));
        }
        let figures = |tally: &Tally| {
            [Measure::Sum, Measure::Avg, Measure::Median, Measure::Percentile(95.0), Measure::Percentile(50.0)]
                .map(|measure| tally.measure(measure).expect("numbers"))
        };
        assert_eq!(figures(&tally), [16.5, 4.125, 2.75, 10.0, 2.5]);
        tally.remove(&sum, &values(&sum, &[&[json!(10)]]));
        assert_eq!(figures(&tally), [6.5, 6.5 / 3.0, 2.5, 3.0, 2.5]);
        let older = tally.fold(&sum, &values(&sum, &[&[json!(3)]]));
        assert_eq!(figures(&tally), [6.5, 6.5 / 3.0, 1.75, 2.5, 1.0], "sum and mean still count what is not kept");
        tally.forget_older(older);
        assert_eq!(figures(&tally), [3.5, 1.75, 1.75, 2.5, 1.0]);
    }

    #[test]
    fn combinations_count_once() {
        let fields = ["x", "y"].map(|path| FieldPath::parse(path).expect("a path"));
        let group = |field| GroupField { name: "f".into(), fields: vec![field] };
        let count = CorrelationKind::ValueCount(fields.map(group).into(), Condition::default());
        let mut tally = Tally::default();
        for (x, y) in [("a", "b"), ("a", "c"), ("a", "b")] {
            tally.add(&count, &values(&count, &[&[json!(x)], &[json!(y)]]));
        }
        assert_eq!(tally.different(), 2);
        assert!(values(&count, &[&[], &[]]).is_empty());
    }
}
