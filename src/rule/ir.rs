//! What every front end compiles to, and nothing below knows where a rule came from.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::field::Field;
use super::number::Number;
use super::profile::Profile;
use super::template::Template;
use crate::alert::{Level, RuleInfo};
use crate::clock::Timestamp;
use crate::event::FieldPath;
use crate::event::project::fold;

/// The stages at which something has been decided about a request, in lower case. `RequestReceived` comes before: a rule
/// such as "not denied" would be true there of every request.
pub const STAGES_DECIDED: [&str; 3] = ["responsestarted", "responsecomplete", "panic"];

/// Matches that the window of a correlation keeps; beyond it the oldest go, so that no condition may ask for more.
pub const WINDOW_MAX: usize = 10_000;

/// A rule about single events.
#[derive(Clone, Debug)]
pub struct Rule {
    /// What alerts say of it; holds the id.
    pub info: Arc<RuleInfo>,
    /// The name by which correlations may refer to it.
    pub name: Option<String>,
    /// What logs it is for, as it says: attribute and value.
    pub logsource: Vec<(String, String)>,
    /// When it is true, with what filters leave of it.
    pub expr: Expr,
    /// How many filters narrow it, each around what was there: see [`Self::own`].
    pub narrowed: usize,
    /// Fields that an alert shows beside what the predicates matched: Sigma's `fields`.
    pub shown: Vec<FieldPath>,
    /// What its alerts say instead of a sentence about the event.
    pub output: Option<Template>,
    /// Whether it names the stage itself. If not, it is asked only about [`STAGES_DECIDED`].
    pub names_stage: bool,
    /// The least profile that it runs in: as it is written, and once it is loaded as it is.
    pub profile: Option<Profile>,
    /// The file it is from.
    pub file: PathBuf,
    /// The document as it is written.
    pub text: Arc<str>,
    /// Hash of all that decides what it matches.
    pub fingerprint: u64,
}

impl Rule {
    /// What the rule itself says, and what the filters around it say, the outermost first.
    #[must_use]
    pub fn own(&self) -> (&Expr, Vec<&Expr>) {
        let (mut own, mut filters) = (&self.expr, Vec::new());
        for _ in 0..self.narrowed {
            let Expr::All(parts) = own else { break };
            let [inner, filter] = &parts[..] else { break };
            filters.push(filter);
            own = inner;
        }
        (own, filters)
    }
}

/// A rule about several events.
#[derive(Clone, Debug)]
pub struct Correlation {
    /// What alerts say of it; holds the id.
    pub info: Arc<RuleInfo>,
    /// What is counted or awaited.
    pub kind: CorrelationKind,
    /// The ids of the rules whose matches take part, and of the correlations whose episodes do, in the order written.
    pub rules: Vec<Arc<str>>,
    /// Matches with equal values here belong together.
    pub group_by: Vec<GroupField>,
    /// Length of the sliding window, and of the quiet that ends an episode.
    pub timespan: Duration,
    /// Whether the referenced rules also alert by themselves.
    pub generate: bool,
    /// `rules: any`: it is made of whatever alerts at this level or above.
    pub any: Option<Level>,
    /// The least profile that it runs in: as it is written, and once it is loaded as it is.
    pub profile: Option<Profile>,
    /// The file it is from.
    pub file: PathBuf,
    /// The document as it is written.
    pub text: Arc<str>,
    /// Hash of all that decides what it does.
    pub fingerprint: u64,
}

/// The kinds of correlation.
#[derive(Clone, Debug, PartialEq)]
pub enum CorrelationKind {
    /// The number of matches.
    EventCount(Condition),
    /// The number of different values of a field, or of combinations of several.
    ValueCount(Vec<GroupField>, Condition),
    /// A figure made of the numbers that a field has.
    Value(Measure, GroupField, Condition),
    /// Several rules within the window.
    Temporal(Awaited),
    /// The same, one after the other.
    TemporalOrdered(Awaited),
    /// A value that was not there before.
    FirstSeen(FirstSeen),
    /// A number of matches far above what is usual.
    Spike(Spike),
}

/// What is made of the numbers in a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// All together.
    Sum,
    /// Their mean.
    Avg,
    /// The one in the middle, or the mean of the two there.
    Median,
    /// The smallest that this percentage of them does not exceed (nearest rank), from 0 to 100.
    Percentile(f64),
}

/// Which of a correlation's rules are awaited.
#[derive(Clone, Debug, PartialEq)]
pub enum Awaited {
    /// All of them.
    All,
    /// So many of them.
    Number(Condition),
    /// Those that make this true.
    These(Members),
}

/// A boolean expression over the places of a correlation's rules.
#[derive(Clone, Debug, PartialEq)]
pub enum Members {
    /// All of these.
    All(Vec<Self>),
    /// One of these.
    Any(Vec<Self>),
    /// Not this.
    Not(Box<Self>),
    /// This rule has matched.
    Member(usize),
}

/// When a value is new.
#[derive(Clone, Debug, PartialEq)]
pub struct FirstSeen {
    /// The fields whose value, or combination of values, is looked at.
    pub fields: Vec<GroupField>,
    /// After the first match of a group nothing is new for so long.
    pub learning: Duration,
    /// A value that was away for so long is new again.
    pub forget: Duration,
}

/// When a number of matches is unusual.
#[derive(Clone, Debug, PartialEq)]
pub struct Spike {
    /// Fewer are never unusual.
    pub at_least: u64,
    /// How many times the usual number it must be.
    pub times: f64,
    /// After the first match of a group nothing is unusual for so long.
    pub learning: Duration,
}

impl CorrelationKind {
    /// Whether so many matches, and any fewer, can never be enough, whenever they come.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "windows are small")]
    pub fn is_never_true_of(&self, matches: u64) -> bool {
        matches!(self, Self::EventCount(condition) if condition.is_monotone() && !condition.holds(matches as f64))
    }

    /// As Sigma writes it, or as we do.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::EventCount(_) => "event_count",
            Self::ValueCount(..) => "value_count",
            Self::Value(Measure::Sum, ..) => "value_sum",
            Self::Value(Measure::Avg, ..) => "value_avg",
            Self::Value(Measure::Median, ..) => "value_median",
            Self::Value(Measure::Percentile(_), ..) => "value_percentile",
            Self::Temporal(_) => "temporal",
            Self::TemporalOrdered(_) => "temporal_ordered",
            Self::FirstSeen(_) => "first_seen",
            Self::Spike(_) => "spike",
        }
    }

    /// The fewest matches, or different values, with which it holds; none where it is no count, or holds with no number
    /// that a window may hold.
    #[must_use]
    pub fn least(&self) -> Option<u32> {
        let (Self::EventCount(condition) | Self::ValueCount(_, condition)) = self else { return None };
        (1..=u32::try_from(WINDOW_MAX).unwrap_or(u32::MAX)).find(|number| condition.holds(f64::from(*number)))
    }

    /// The fields of which different values are counted, as the first rule has them.
    #[must_use]
    pub fn counts(&self) -> Vec<&str> {
        let Self::ValueCount(fields, _) = self else { return Vec::new() };
        fields.iter().filter_map(|field| Some(field.fields.first()?.as_str())).collect()
    }

    /// Whether more matches in a window never make untrue what was true of it.
    #[must_use]
    pub fn is_monotone(&self) -> bool {
        match self {
            Self::EventCount(condition) | Self::ValueCount(_, condition) => condition.is_monotone(),
            Self::Value(..) => false,
            Self::Temporal(awaited) | Self::TemporalOrdered(awaited) => match awaited {
                Awaited::All => true,
                Awaited::Number(condition) => condition.is_monotone(),
                Awaited::These(members) => members.is_monotone(),
            },
            // They get their matches in order.
            Self::FirstSeen(_) | Self::Spike(_) => true,
        }
    }

    /// The fields whose values are looked at, beside those that group.
    #[must_use]
    pub fn fields(&self) -> &[GroupField] {
        match self {
            Self::ValueCount(fields, _) | Self::FirstSeen(FirstSeen { fields, .. }) => fields,
            Self::Value(_, field, _) => std::slice::from_ref(field),
            Self::EventCount(_) | Self::Temporal(_) | Self::TemporalOrdered(_) | Self::Spike(_) => &[],
        }
    }
}

/// One `group-by` entry, or a field whose values are counted: its name, and the field that each rule has for it.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupField {
    /// The field, or the alias.
    pub name: Arc<str>,
    /// The field for each of the correlation's rules, in their order.
    pub fields: Vec<FieldPath>,
}

/// Bounds on a number; all of them hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Condition {
    /// Comparison and number.
    pub bounds: Vec<(Ordering, f64)>,
}

impl Condition {
    /// Whether a number satisfies every bound.
    #[must_use]
    pub fn holds(&self, number: f64) -> bool {
        self.bounds.iter().all(|(ordering, bound)| ordering.holds(&number, bound))
    }

    /// Whether there is a whole number from `least` on that satisfies every bound.
    #[must_use]
    pub fn may_hold(&self, least: f64) -> bool {
        let near = self.bounds.iter().flat_map(|(_, bound)| [-1.0, 0.0, 1.0].map(|more| bound.floor() + more));
        near.chain([least, least + self.bounds.len() as f64]).any(|number| number >= least && self.holds(number))
    }

    /// Whether what holds for a number holds for all greater ones.
    fn is_monotone(&self) -> bool {
        self.bounds.iter().all(|(ordering, _)| matches!(ordering, Ordering::Gt | Ordering::Gte))
    }
}

impl Members {
    fn is_monotone(&self) -> bool {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().all(Self::is_monotone),
            Self::Not(_) => false,
            Self::Member(_) => true,
        }
    }
}

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ordering {
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
}

impl Ordering {
    /// All of them with the names Sigma has for them.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("lt", Self::Lt),
        ("lte", Self::Lte),
        ("gt", Self::Gt),
        ("gte", Self::Gte),
        ("eq", Self::Eq),
        ("neq", Self::Neq),
    ];

    /// By Sigma's name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        by_name(&Self::NAMES, name)
    }

    /// Whether `left` compares so to `right`.
    pub fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Lt => left < right,
            Self::Lte => left <= right,
            Self::Gt => left > right,
            Self::Gte => left >= right,
            Self::Eq => left == right,
            Self::Neq => left != right,
        }
    }
}

/// A boolean expression over tests.
#[derive(Clone, Debug)]
pub enum Expr {
    /// True when all are; true when there are none.
    All(Vec<Self>),
    /// True when one is; false when there are none.
    Any(Vec<Self>),
    /// True when it is not.
    Not(Box<Self>),
    /// A leaf.
    Test(Test),
}

impl Expr {
    /// Calls `each` for every test in it.
    pub fn each_test<'e>(&'e self, each: &mut dyn FnMut(&'e Test)) {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().for_each(|part| part.each_test(each)),
            Self::Not(part) => part.each_test(each),
            Self::Test(test) => each(test),
        }
    }
}

/// One question about one field.
#[derive(Clone, Debug)]
pub struct Test {
    /// The field.
    pub field: Field,
    /// The question.
    pub op: Op,
    /// Of how many of the field's values it must be true.
    pub of: Quantifier,
}

/// Of how many of a field's values a question must be true.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Quantifier {
    /// One at least: Sigma's way.
    #[default]
    Any,
    /// Every one, and there is one.
    Every,
}

impl Test {
    /// A question that must be true of one value.
    pub fn new(field: impl Into<Field>, op: Op) -> Self {
        Self { field: field.into(), op, of: Quantifier::Any }
    }
}

/// The questions a test can ask.
#[derive(Clone, Debug)]
pub enum Op {
    /// The path yields anything at all.
    Exists,
    /// The path yields nothing, or a null.
    Null,
    /// The scalar's text, compared in lower case unless `cased`.
    Text {
        /// How.
        pattern: Text,
        /// Case matters.
        cased: bool,
    },
    /// The scalar's text is one of these; sorted, and in lower case unless `cased`.
    OneOf {
        /// The texts.
        texts: Vec<String>,
        /// Case matters.
        cased: bool,
    },
    /// The scalar is this number, or its text is.
    Number(Number),
    /// The scalar is a number, or reads as one, and compares so.
    Compare(Ordering, Number),
    /// The regular expression is found in the scalar's text.
    Regex(Regex),
    /// The scalar's text is a time (RFC 3339) of which this part, in UTC, compares so.
    Time(TimePart, Ordering, i64),
    /// The scalar's text is an address within this network.
    Cidr(IpNet),
    /// The scalar's text compares so to that of any value of another field.
    Field {
        /// The other field.
        other: Field,
        /// How.
        how: Relation,
        /// Case matters.
        cased: bool,
    },
}

fn by_name<T: Copy>(names: &[(&str, T)], name: &str) -> Option<T> {
    names.iter().find(|(known, _)| *known == name).map(|(_, named)| *named)
}

/// A part of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimePart {
    /// 0 to 59.
    Minute,
    /// 0 to 23.
    Hour,
    /// Of the month, from 1.
    Day,
    /// Of the year, from 1 (ISO 8601).
    Week,
    /// From 1.
    Month,
    /// As it is.
    Year,
}

impl TimePart {
    /// All of them with the names Sigma has for them.
    pub const NAMES: [(&'static str, Self); 6] = [
        ("minute", Self::Minute),
        ("hour", Self::Hour),
        ("day", Self::Day),
        ("week", Self::Week),
        ("month", Self::Month),
        ("year", Self::Year),
    ];

    /// By Sigma's name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        by_name(&Self::NAMES, name)
    }

    /// Sigma's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES.into_iter().find(|(_, part)| *part == self).map_or("", |(name, _)| name)
    }

    /// This part of a time, in UTC; `None` if the text is none.
    #[must_use]
    pub fn of(self, text: &str) -> Option<i64> {
        let time = Timestamp::parse(text)?;
        let time = jiff::Timestamp::from_microsecond(time.0).ok()?;
        let time = jiff::tz::Offset::UTC.to_datetime(time);
        Some(match self {
            Self::Minute => time.minute().into(),
            Self::Hour => time.hour().into(),
            Self::Day => time.day().into(),
            Self::Week => time.date().iso_week_date().week().into(),
            Self::Month => time.month().into(),
            Self::Year => time.year().into(),
        })
    }
}

/// How two texts are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// Equal.
    Is,
    /// The field's text contains the other.
    Contains,
    /// It starts with the other.
    StartsWith,
    /// It ends with the other.
    EndsWith,
}

impl Relation {
    /// Whether `text` stands in this relation to `other`.
    #[must_use]
    pub fn holds(self, text: &str, other: &str) -> bool {
        match self {
            Self::Is => text == other,
            Self::Contains => text.contains(other),
            Self::StartsWith => text.starts_with(other),
            Self::EndsWith => text.ends_with(other),
        }
    }
}

/// A text to compare with; in lower case unless the test is `cased`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Text {
    /// A plain text in some relation.
    Plain(Relation, String),
    /// Wildcards: `*` any characters, `?` one.
    Glob(Vec<Glob>),
}

/// A piece of a wildcard pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Glob {
    /// These characters.
    Literal(String),
    /// Any characters, or none.
    Many,
    /// One character.
    One,
}

impl Text {
    /// Makes a pattern from its pieces: plain where wildcards stand only at the ends.
    #[must_use]
    pub fn from_pieces(pieces: Vec<Glob>, cased: bool) -> Self {
        let mut merged: Vec<Glob> = Vec::new();
        for piece in pieces {
            match (merged.last_mut(), piece) {
                (Some(Glob::Literal(before)), Glob::Literal(more)) => before.push_str(&more),
                (Some(Glob::Many), Glob::Many) => {}
                (_, piece) => merged.push(piece),
            }
        }
        if !cased {
            for piece in &mut merged {
                if let Glob::Literal(text) = piece {
                    *text = fold(text);
                }
            }
        }
        match merged.as_mut_slice() {
            [] => Self::Plain(Relation::Is, String::new()),
            [Glob::Literal(text)] => Self::Plain(Relation::Is, std::mem::take(text)),
            [Glob::Many, Glob::Literal(text)] => Self::Plain(Relation::EndsWith, std::mem::take(text)),
            [Glob::Literal(text), Glob::Many] => Self::Plain(Relation::StartsWith, std::mem::take(text)),
            [Glob::Many, Glob::Literal(text), Glob::Many] => Self::Plain(Relation::Contains, std::mem::take(text)),
            [Glob::Many] => Self::Plain(Relation::Contains, String::new()),
            _ => Self::Glob(merged),
        }
    }

    /// Whether `text` matches; both in lower case unless the test is `cased`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Plain(relation, other) => relation.holds(text, other),
            Self::Glob(pieces) => glob(pieces, text),
        }
    }
}

/// Greedy wildcard matching with one point to go back to: linear in pieces times characters.
fn glob(pieces: &[Glob], text: &str) -> bool {
    let (mut at, mut rest) = (0, text);
    let mut back: Option<(usize, &str)> = None;
    loop {
        let step = match pieces.get(at) {
            Some(Glob::Many) => {
                back = Some((at, rest));
                at += 1;
                continue;
            }
            Some(Glob::Literal(literal)) => rest.strip_prefix(literal.as_str()),
            Some(Glob::One) => rest.chars().next().map(|c| &rest[c.len_utf8()..]),
            None if rest.is_empty() => return true,
            None => None,
        };
        if let Some(after) = step {
            rest = after;
            at += 1;
            continue;
        }
        // Let the last `*` take one character more.
        let Some((star, from)) = back else { return false };
        let Some(c) = from.chars().next() else { return false };
        rest = &from[c.len_utf8()..];
        back = Some((star, rest));
        at = star + 1;
    }
}

/// A compiled regular expression that knows its text.
#[derive(Clone, Debug)]
pub struct Regex(pub regex::Regex);

/// Reads an address, also one with a port or in brackets. One of version 4 that is wrapped in version 6 is unwrapped.
#[must_use]
pub fn address(text: &str) -> Option<IpAddr> {
    let address = text.parse().ok().or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|socket| socket.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

/// Everything that was loaded, before it is compiled.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Rules about single events.
    pub rules: Vec<Rule>,
    /// Rules about several events.
    pub correlations: Vec<Correlation>,
    /// Rules for other products, skipped: file and title.
    pub skipped: Vec<(PathBuf, String)>,
    /// Ids of those that do not alert by themselves, because they are disabled or out of the profile, and are only there
    /// for the correlations that need them.
    pub silent: BTreeSet<Arc<str>>,
}

impl Rules {
    /// Ids of the rules and correlations, and whether they alert by themselves: those that no correlation uses do, or
    /// only ones that say `generate`, unless they are silent.
    #[must_use]
    pub fn alerting(&self) -> BTreeMap<Arc<str>, bool> {
        let ids = self.rules.iter().map(|rule| &rule.info).chain(self.correlations.iter().map(|c| &c.info));
        let mut alerting: BTreeMap<Arc<str>, bool> = ids.map(|info| (Arc::from(info.id.as_str()), true)).collect();
        for correlation in &self.correlations {
            for id in &correlation.rules {
                if let Some(alone) = alerting.get_mut(id) {
                    *alone &= correlation.generate;
                }
            }
        }
        for id in &self.silent {
            alerting.insert(Arc::clone(id), false);
        }
        alerting
    }

    /// The correlation of this id.
    #[must_use]
    pub fn correlation(&self, id: &str) -> Option<&Correlation> {
        self.correlations.iter().find(|correlation| correlation.info.id == id)
    }

    /// The rules about single events that a rule or correlation comes down to.
    #[must_use]
    pub fn base(&self, id: &Arc<str>) -> Vec<Arc<str>> {
        let Some(correlation) = self.correlation(id) else { return vec![Arc::clone(id)] };
        let mut base: Vec<Arc<str>> = Vec::new();
        for id in correlation.rules.iter().flat_map(|id| self.base(id)) {
            if !base.contains(&id) {
                base.push(id);
            }
        }
        base
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        let glob = |pattern: &str| {
            let pieces = pattern.chars().map(|c| match c {
                '*' => Glob::Many,
                '?' => Glob::One,
                c => Glob::Literal(c.to_string()),
            });
            Text::from_pieces(pieces.collect(), false)
        };
        for (pattern, text, expected) in [
            ("a*b", "ab", true),
            ("a*b", "axxb", true),
            ("a*b", "axxbc", false),
            ("a*b*c", "a-b-b-c", true),
            ("?b", "éb", true),
            ("?b", "b", false),
            ("*a?c*", "xxabcxx", true),
            ("*a?c*", "xxacxx", false),
            ("a**", "abc", true),
            ("*", "", true),
            ("x", "X", false),
        ] {
            assert_eq!(glob(pattern).matches(text), expected, "{pattern} {text}");
        }
        assert_eq!(glob("*ABC"), Text::Plain(Relation::EndsWith, "abc".to_owned()));
    }

    #[test]
    fn addresses() {
        assert!(address("10.0.0.1").is_some() && address("[::1]:80").is_some() && address("10.0.0.1:443").is_some());
        assert!(address("alice").is_none());
    }
}
