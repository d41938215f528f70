//! The types of correlations and their conditions.

use std::time::Duration;

use super::{Body, span_of};
use crate::diagnose::{Span, closest};
use crate::rule::condition::{self, Condition as Names};
use crate::rule::ir::{Condition, Measure, Ordering, WINDOW_MAX};
use crate::rule::reader::Reader;
use crate::yaml::{Node, Value};

/// Sigma's types, and two of our own.
const TYPES: [&str; 12] = [
    "event_count",
    "value_count",
    "value_sum",
    "value_avg",
    "value_median",
    "value_percentile",
    "temporal",
    "temporal_ordered",
    "temporal_extended",
    "temporal_ordered_extended",
    "first_seen",
    "spike",
];

/// How much history a group needs, unless the correlation says.
const LEARNING: Duration = Duration::from_secs(7 * 24 * 3_600);

/// How many times the usual number is a spike, unless the correlation says.
const TIMES: f64 = 3.0;

/// The most that `gte` of a spike can ask for.
const SPIKE_MAX: f64 = 1e9;

/// A type with its condition; rules and fields are still the names that were written.
#[derive(Debug)]
pub(super) enum Kind {
    EventCount(Condition),
    ValueCount(Fields, Condition),
    Value(Measure, Fields, Condition),
    Temporal { ordered: bool, awaited: Awaits },
    FirstSeen { fields: Fields, learning: Duration },
    Spike { at_least: u64, times: f64, learning: Duration },
}

/// Names of fields or aliases, and their places.
pub(super) type Fields = Vec<(String, Span)>;

/// Which rules are awaited.
#[derive(Debug)]
pub(super) enum Awaits {
    All,
    Number(Condition),
    /// An expression of their names.
    Names(Names),
}

/// What a condition says.
#[derive(Default)]
struct Written {
    bounds: Condition,
    fields: Fields,
    percentile: Option<f64>,
    times: Option<f64>,
}

impl Kind {
    /// Whether it can be made of whatever there is, instead of rules that it names.
    pub(super) fn takes_any(&self) -> bool {
        match self {
            Self::EventCount(_) | Self::ValueCount(..) => true,
            Self::Temporal { ordered, awaited } => !ordered && matches!(awaited, Awaits::Number(_)),
            Self::Value(..) | Self::FirstSeen { .. } | Self::Spike { .. } => false,
        }
    }
}

/// Reads `type` and `condition`.
pub(super) fn read(reader: &mut Reader<'_>, body: &Node, timespan: Option<Duration>) -> Option<Kind> {
    let Some(node) = body.get("type") else {
        reader.error(body.span, "a correlation needs a `type`");
        return None;
    };
    let name = node.as_str().unwrap_or_default();
    if !TYPES.contains(&name) {
        let message = format!("there is no correlation type `{name}`");
        match closest(name, TYPES) {
            Some(near) => reader.error_with_help(node.span, message, format!("did you mean `{near}`?")),
            None => reader.error_with_help(node.span, message, format!("the types are {}", TYPES.join(", "))),
        }
        // What else is wrong is told at the same time.
        body.get("condition").filter(|node| node.as_map().is_some()).and_then(|node| written(reader, node));
        return None;
    }
    let condition = body.get("condition");
    if name.starts_with("temporal") {
        let ordered = name.starts_with("temporal_ordered");
        return Some(Kind::Temporal { ordered, awaited: awaited(reader, condition)? });
    }
    let Some(condition) = condition else {
        let example = match name {
            "event_count" => "such as `condition: {gte: 10}`",
            "first_seen" => "such as `condition: {field: sourceIPs[-1]}`",
            "spike" => "such as `condition: {gte: 20}`",
            _ => "such as `condition: {field: objectRef.name, gte: 10}`",
        };
        reader.error_with_help(node.span, format!("`{name}` needs a `condition`"), example);
        return None;
    };
    let learning = span_of(reader, body, "learning");
    let written = written(reader, condition)?;
    let body = Body { reader, name, condition };
    match name {
        "first_seen" => {
            let learning = learning.ok()?.unwrap_or_else(|| timespan.unwrap_or(LEARNING).min(LEARNING));
            body.first_seen(written, learning)
        }
        "spike" => body.spike(&written, learning.ok()?.unwrap_or(LEARNING)),
        _ => body.counted(written),
    }
}

impl Body<'_, '_> {
    fn refuse(self, message: String) -> Option<Kind> {
        self.reader.error(self.condition.span, message);
        None
    }

    /// The types that compare a number with bounds.
    fn counted(self, written: Written) -> Option<Kind> {
        let Written { bounds, fields, percentile, times } = written;
        let (name, of_values) = (self.name, self.name.starts_with("value_"));
        if times.is_some() || (percentile.is_some() && name != "value_percentile") || (!of_values && !fields.is_empty())
        {
            return self.refuse(format!("`{name}` does not take this condition"));
        }
        if of_values && fields.is_empty() {
            return self.refuse(format!("`{name}` needs the `field` whose values are counted"));
        }
        if bounds.bounds.is_empty() {
            return self.refuse("the condition has no bound such as `gte: 10`".to_owned());
        }
        if name.ends_with("_count") && bounds.bounds.iter().any(|(_, bound)| bound.fract() != 0.0 || *bound < 0.0) {
            return self.refuse("a number of things must be a whole number from 0".to_owned());
        }
        if name.ends_with("_count") {
            if bounds.bounds.iter().any(|(ordering, bound)| is_least(*ordering) && *bound > most()) {
                return self.refuse(format!("a window holds at most {WINDOW_MAX} matches"));
            }
            if !bounds.may_hold(if of_values { 0.0 } else { 1.0 }) {
                return self.refuse("this can never be: a match is the first of its window at least".to_owned());
            }
        }
        let measure = match name {
            "event_count" => return Some(Kind::EventCount(bounds)),
            "value_count" => return Some(Kind::ValueCount(fields, bounds)),
            "value_sum" => Measure::Sum,
            "value_avg" => Measure::Avg,
            "value_median" => Measure::Median,
            _ => Measure::Percentile(percentile.unwrap_or(50.0)),
        };
        if fields.len() > 1 {
            return self.refuse(format!("`{name}` takes one field"));
        }
        Some(Kind::Value(measure, fields, bounds))
    }

    fn first_seen(self, written: Written, learning: Duration) -> Option<Kind> {
        if written.fields.is_empty() {
            return self.refuse("`first_seen` needs the `field` whose values may be new".to_owned());
        }
        if !written.bounds.bounds.is_empty() || written.percentile.is_some() || written.times.is_some() {
            return self.refuse("`first_seen` takes nothing but `field`".to_owned());
        }
        Some(Kind::FirstSeen { fields: written.fields, learning })
    }

    fn spike(self, written: &Written, learning: Duration) -> Option<Kind> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be whole and small")]
        let at_least = match written.bounds.bounds.as_slice() {
            [(Ordering::Gte, bound)] if bound.fract() == 0.0 && (1.0..=SPIKE_MAX).contains(bound) => *bound as u64,
            _ => return self.refuse("`spike` needs the smallest number that may be one, such as `gte: 20`".to_owned()),
        };
        let times = written.times.unwrap_or(TIMES);
        if !written.fields.is_empty() || written.percentile.is_some() || times < 1.0 {
            return self.refuse("`spike` takes `gte`, and `times` from 1".to_owned());
        }
        Some(Kind::Spike { at_least, times, learning })
    }
}

/// Whether a bound asks for so many at least.
fn is_least(ordering: Ordering) -> bool {
    matches!(ordering, Ordering::Gt | Ordering::Gte | Ordering::Eq)
}

#[expect(clippy::cast_precision_loss, reason = "a small number")]
fn most() -> f64 {
    WINDOW_MAX as f64
}

fn awaited(reader: &mut Reader<'_>, condition: Option<&Node>) -> Option<Awaits> {
    let Some(node) = condition else { return Some(Awaits::All) };
    let Value::String(text) = &node.value else {
        let written = written(reader, node)?;
        if written.bounds.bounds.is_empty() || !written.fields.is_empty() {
            let help = "write bounds such as `{gte: 2}`, or an expression such as `a and (b or c)`";
            reader.error_with_help(node.span, "a condition about rules is a number of them, or names them", help);
            return None;
        }
        return Some(Awaits::Number(written.bounds));
    };
    match condition::parse(text) {
        Ok(mut names) => {
            names.place(&|at| reader.place(node, at));
            Some(Awaits::Names(names))
        }
        Err(error) => {
            let start = reader.place(node, error.at);
            reader.error(Span { start, end: start + error.len.max(1) }, error.message);
            None
        }
    }
}

/// The bounds and fields of a condition.
fn written(reader: &mut Reader<'_>, node: &Node) -> Option<Written> {
    let Some(entries) = node.as_map() else {
        reader.error(node.span, "this condition must be a mapping such as `{gte: 10}`");
        return None;
    };
    let (mut written, mut good) = (Written::default(), true);
    for (key, value) in entries {
        let number = match &value.value {
            #[expect(clippy::cast_precision_loss, reason = "rules compare counts, far below 2^53")]
            Value::Int(number) => Some(*number as f64),
            Value::Float(number) => Some(*number),
            _ => None,
        };
        let problem = match (key.text.as_str(), number) {
            ("field", _) => {
                written.fields = reader.texts(node, "field");
                good &= !written.fields.is_empty();
                continue;
            }
            ("percentile", Some(percentile)) if (0.0..=100.0).contains(&percentile) => {
                written.percentile = Some(percentile);
                continue;
            }
            ("percentile", _) => "a percentile is a number from 0 to 100".to_owned(),
            ("times", Some(times)) => {
                written.times = Some(times);
                continue;
            }
            (name, number) => match (Ordering::named(name), number) {
                (Some(ordering), Some(bound)) => {
                    written.bounds.bounds.push((ordering, bound));
                    continue;
                }
                (None, _) if name != "times" => {
                    format!("a condition has no key `{name}`; it has gte, gt, lte, lt, eq, neq and field")
                }
                _ => "a bound must be a number".to_owned(),
            },
        };
        good = false;
        reader.error(value.span, problem);
    }
    good.then_some(written)
}
