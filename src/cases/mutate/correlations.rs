//! The parts of a correlation that can be changed: what it counts, how many, by what and within which time.

use crate::rule::ir::{
    Awaited, Condition, Correlation, CorrelationKind, Expr, FirstSeen, GroupField, Members, Ordering, Spike,
};

/// How many times as long, and as short, a span of time is made: a case must show that it is neither.
const SPAN_TIMES: u32 = 10;

/// All changes: what is changed, in words, and what the correlation is then.
pub(super) fn changes(of: &Correlation) -> Vec<(String, Correlation)> {
    let mut changed = Vec::new();
    let mut add = |part: String, change: &dyn Fn(&mut Correlation)| {
        let mut correlation = of.clone();
        change(&mut correlation);
        changed.push((part, correlation));
    };
    // Of one that takes whatever alerts nobody has written which rules those are.
    let names_rules = of.rules.len() > 1 && of.any.is_none();
    for (at, id) in of.rules.iter().enumerate().filter(|_| names_rules) {
        add(format!("rule {id}: left out"), &|correlation| without(correlation, at));
    }
    for (at, field) in of.group_by.iter().enumerate() {
        add(format!("group-by {}: left out", field.name), &|correlation| {
            correlation.group_by.remove(at);
        });
    }
    for (more, named) in [(true, "longer"), (false, "shorter")] {
        let factor = if more { f64::from(SPAN_TIMES) } else { f64::from(SPAN_TIMES).recip() };
        add(format!("timespan: {SPAN_TIMES} times {named}"), &|correlation| {
            correlation.timespan = correlation.timespan.mul_f64(factor);
            if let CorrelationKind::FirstSeen(first) = &mut correlation.kind {
                first.forget = first.forget.mul_f64(factor);
            }
        });
        if let CorrelationKind::FirstSeen(FirstSeen { learning, .. }) | CorrelationKind::Spike(Spike { learning, .. }) =
            &of.kind
        {
            let learning = learning.mul_f64(factor);
            add(format!("learning: {SPAN_TIMES} times {named}"), &|correlation| match &mut correlation.kind {
                CorrelationKind::FirstSeen(first) => first.learning = learning,
                CorrelationKind::Spike(spike) => spike.learning = learning,
                _ => {}
            });
        }
    }
    for (part, kind) in kinds(&of.kind) {
        add(part, &|correlation| correlation.kind = kind.clone());
    }
    changed
}

/// Takes a rule out. Where the condition names it, it has never matched.
fn without(correlation: &mut Correlation, at: usize) {
    let fields: Vec<&mut GroupField> = match &mut correlation.kind {
        CorrelationKind::ValueCount(fields, _) | CorrelationKind::FirstSeen(FirstSeen { fields, .. }) => {
            fields.iter_mut().collect()
        }
        CorrelationKind::Value(_, field, _) => vec![field],
        CorrelationKind::Temporal(Awaited::These(members))
        | CorrelationKind::TemporalOrdered(Awaited::These(members)) => {
            leave_out(members, at);
            return;
        }
        _ => Vec::new(),
    };
    for field in fields.into_iter().chain(&mut correlation.group_by) {
        field.fields.remove(at);
    }
    correlation.rules.remove(at);
}

fn leave_out(members: &mut Members, at: usize) {
    match members {
        Members::All(parts) | Members::Any(parts) => parts.iter_mut().for_each(|part| leave_out(part, at)),
        Members::Not(part) => leave_out(part, at),
        Members::Member(member) if *member == at => *members = Members::Any(Vec::new()),
        Members::Member(_) => {}
    }
}

/// The kinds that are next to this one.
fn kinds(kind: &CorrelationKind) -> Vec<(String, CorrelationKind)> {
    use CorrelationKind as Kind;
    match kind {
        Kind::EventCount(condition) => bounds(condition, &|condition| Kind::EventCount(condition)),
        Kind::ValueCount(fields, condition) => {
            let mut all = bounds(condition, &|condition| Kind::ValueCount(fields.clone(), condition));
            all.push(("different values: any matches".to_owned(), Kind::EventCount(condition.clone())));
            all.extend(fewer(fields).map(|(part, fields)| (part, Kind::ValueCount(fields, condition.clone()))));
            all
        }
        Kind::Value(measure, field, condition) => {
            bounds(condition, &|condition| Kind::Value(*measure, field.clone(), condition))
        }
        Kind::Temporal(Awaited::Number(condition)) => {
            bounds(condition, &|condition| Kind::Temporal(Awaited::Number(condition)))
        }
        Kind::Temporal(_) => Vec::new(),
        Kind::TemporalOrdered(awaited) => vec![("order: any".to_owned(), Kind::Temporal(awaited.clone()))],
        Kind::FirstSeen(first) => fewer(&first.fields)
            .map(|(part, fields)| (part, Kind::FirstSeen(FirstSeen { fields, ..first.clone() })))
            .collect(),
        Kind::Spike(spike) => {
            let mut all: Vec<(String, CorrelationKind)> = [(1, "more"), (-1, "less")]
                .into_iter()
                .filter_map(|(by, named)| Some((spike.at_least.checked_add_signed(by)?, named)))
                .map(|(at_least, named)| {
                    (format!("gte: one {named}"), Kind::Spike(Spike { at_least, ..spike.clone() }))
                })
                .collect();
            for (factor, named) in [(2.0, "twice"), (0.5, "half")] {
                let times = spike.times * factor;
                all.push((format!("times: {named}"), Kind::Spike(Spike { times, ..spike.clone() })));
            }
            all
        }
    }
}

/// Each bound one more and one less.
fn bounds(condition: &Condition, kind: &dyn Fn(Condition) -> CorrelationKind) -> Vec<(String, CorrelationKind)> {
    let mut all = Vec::new();
    for (at, (ordering, _)) in condition.bounds.iter().enumerate() {
        let name = Ordering::NAMES.iter().find(|(_, known)| known == ordering).map_or("", |(name, _)| name);
        for (by, named) in [(1.0, "more"), (-1.0, "less")] {
            let mut condition = condition.clone();
            condition.bounds[at].1 += by;
            // A window holds one match at least: what is true of it anyway is no other condition.
            if condition.bounds[at].1 >= 1.0 {
                all.push((format!("{name}: one {named}"), kind(condition)));
            }
        }
    }
    all
}

/// Each of several fields left out.
fn fewer(fields: &[GroupField]) -> impl Iterator<Item = (String, Vec<GroupField>)> {
    (0..fields.len()).filter(|_| fields.len() > 1).map(|at| {
        let mut fields = fields.to_vec();
        let field = fields.remove(at);
        (format!("field {}: left out", field.name), fields)
    })
}

/// A rule that is true of everything: what it matches is chosen later.
pub(super) fn anything() -> Expr {
    Expr::All(Vec::new())
}
