//! Every type against an evaluator that keeps everything, looks at all of it again for every match, and knows no lateness.
//! Many matches have the same time.

use super::*;
use crate::rule::ir::{Awaited, Measure, Members};

/// A match or an episode, for one group.
#[derive(Clone, Debug)]
struct Event {
    time: i64,
    member: usize,
    request: u64,
    uid: u64,
    number: u64,
}

impl Event {
    fn order(&self) -> (i64, usize, u64) {
        (self.time, self.member, self.request)
    }
}

/// When it opened, and its first and last match and their number.
type Episode = (i64, i64, i64, usize);

/// The episodes of one group, in order.
fn brute(kind: &CorrelationKind, members: usize, timespan: i64, mut events: Vec<Event>) -> Vec<Episode> {
    events.sort_by_key(Event::order);
    let mut episodes: Vec<Episode> = Vec::new();
    let (mut open, mut begin) = (false, 0);
    for (at, event) in events.iter().enumerate() {
        if open && let Some((_, _, last, count)) = episodes.last_mut() {
            if event.time <= *last + timespan {
                (*last, *count) = (event.time, *count + 1);
                continue;
            }
            (open, begin) = (false, at);
        }
        let window: Vec<&Event> = events[begin..=at].iter().filter(|e| e.time >= event.time - timespan).collect();
        if holds(kind, members, &window) {
            open = true;
            episodes.push((event.time, window[0].time, event.time, window.len()));
        }
    }
    episodes
}

#[expect(clippy::cast_precision_loss, reason = "small numbers")]
fn holds(kind: &CorrelationKind, members: usize, window: &[&Event]) -> bool {
    let there = |member: usize| window.iter().any(|event| event.member == member);
    match kind {
        CorrelationKind::EventCount(condition) => condition.holds(window.len() as f64),
        CorrelationKind::ValueCount(_, condition) => {
            condition.holds(window.iter().map(|event| event.uid).collect::<BTreeSet<_>>().len() as f64)
        }
        CorrelationKind::Value(measure, _, condition) => {
            let mut numbers: Vec<f64> = window.iter().map(|event| event.number as f64).collect();
            numbers.sort_by(f64::total_cmp);
            let sum: f64 = numbers.iter().sum();
            let len = numbers.len();
            condition.holds(match measure {
                Measure::Sum => sum,
                Measure::Avg => sum / len as f64,
                Measure::Median => f64::midpoint(numbers[(len - 1) / 2], numbers[len / 2]),
                // The smallest of which at least so many are not greater.
                Measure::Percentile(of) => {
                    let enough = |n: &f64| numbers.iter().filter(|o| *o <= n).count() as f64 >= of / 100.0 * len as f64;
                    numbers.iter().copied().find(enough).unwrap()
                }
            })
        }
        CorrelationKind::Temporal(Awaited::All) => (0..members).all(there),
        CorrelationKind::Temporal(Awaited::Number(condition)) => {
            condition.holds((0..members).filter(|member| there(*member)).count() as f64)
        }
        CorrelationKind::Temporal(Awaited::These(wanted)) => true_of(wanted, &there),
        CorrelationKind::TemporalOrdered(Awaited::All) => rows(window).contains(&(0..members).collect::<Vec<_>>()),
        CorrelationKind::TemporalOrdered(Awaited::Number(condition)) => {
            condition.holds(rows(window).iter().map(Vec::len).max().unwrap_or(0) as f64)
        }
        CorrelationKind::TemporalOrdered(Awaited::These(wanted)) => {
            true_of(wanted, &there) && !ends(wanted, window, &BTreeSet::from([0]), &there).is_empty()
        }
        CorrelationKind::FirstSeen(_) | CorrelationKind::Spike(_) => unreachable!(),
    }
}

fn true_of(wanted: &Members, there: &dyn Fn(usize) -> bool) -> bool {
    match wanted {
        Members::All(parts) => parts.iter().all(|part| true_of(part, there)),
        Members::Any(parts) => parts.iter().any(|part| true_of(part, there)),
        Members::Not(part) => !true_of(part, there),
        Members::Member(member) => there(*member),
    }
}

/// Every increasing row of members that the window has, one after the other.
fn rows(window: &[&Event]) -> BTreeSet<Vec<usize>> {
    let mut rows = BTreeSet::from([Vec::new()]);
    for event in window {
        let longer: Vec<Vec<usize>> = rows
            .iter()
            .filter(|row| row.last().is_none_or(|last| *last < event.member))
            .map(|row| [row.clone(), vec![event.member]].concat())
            .collect();
        rows.extend(longer);
    }
    rows
}

/// Everywhere that an expression may be behind, if it begins at one of `from`.
fn ends(wanted: &Members, window: &[&Event], from: &BTreeSet<usize>, there: &dyn Fn(usize) -> bool) -> BTreeSet<usize> {
    match wanted {
        Members::All(parts) => parts.iter().fold(from.clone(), |from, part| ends(part, window, &from, there)),
        Members::Any(parts) => parts.iter().flat_map(|part| ends(part, window, from, there)).collect(),
        Members::Not(part) => {
            if true_of(part, there) {
                BTreeSet::new()
            } else {
                from.clone()
            }
        }
        Members::Member(member) => (0..window.len())
            .filter(|at| window[*at].member == *member && from.iter().any(|from| from <= at))
            .map(|at| at + 1)
            .collect(),
    }
}

/// What the correlator makes of matches in the order in which they are: user, span and count of every episode.
fn found(rules: &Arc<RuleSet>, matches: &[Match]) -> BTreeSet<(String, Episode)> {
    let mut correlator =
        Correlator::new(Arc::clone(rules), Limits { lateness: Duration::from_secs(20), max_keys: 100 });
    let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
    let mut keep = |correlator: &mut Correlator| {
        alerts.extend(correlator.drain().into_iter().map(|change| (change.alert.id.clone(), change.alert)));
    };
    for found in matches {
        correlator.take(std::slice::from_ref(found), None);
        keep(&mut correlator);
    }
    correlator.finish();
    keep(&mut correlator);
    let second = |time: Timestamp| time.0 / SECOND;
    let episode =
        |a: &Alert| (second(a.time), second(a.first_seen), second(a.last_seen), usize::try_from(a.count).unwrap());
    let user = |alert: &Alert| alert.group["user.username"].as_str().unwrap().to_owned();
    alerts.values().filter(|alert| alert.rule.id == "c").map(|alert| (user(alert), episode(alert))).collect()
}

/// Second, user, which rule, delay.
type Step = (i64, u8, bool, i64);

/// Matches in the order of their arrival.
fn matches(steps: &[Step]) -> Vec<Match> {
    let made = steps.iter().enumerate().map(|(n, (second, user, other, delay))| {
        let found = at(if *other { "other" } else { "base" }, &format!("u{user}"), *second, n as u64 + 1);
        (second + delay, found)
    });
    let mut arrivals: Vec<(i64, Match)> = made.collect();
    arrivals.sort_by_key(|(arrival, found)| (*arrival, found.request % 5, found.request));
    arrivals.into_iter().map(|(_, found)| found).collect()
}

/// The events of one user, of the rules that a correlation is of.
fn events(matches: &[Match], user: &str, rules: &[Arc<str>]) -> Vec<Event> {
    let of_user = matches.iter().filter(|found| found.fields["user.username"][0] == user);
    of_user
        .filter_map(|found| {
            let member = rules.iter().position(|rule| *rule == found.rule)?;
            let request = found.request;
            Some(Event { time: found.time.0 / SECOND, member, request, uid: request % 7, number: request % 11 })
        })
        .collect()
}

const KINDS: [(&str, &str); 17] = [
    ("event_count", "rules: [base], condition: {gte: 3}"),
    ("event_count", "rules: [base, other], condition: {gt: 1, lte: 3, neq: 2}"),
    ("event_count", "rules: [base], condition: {eq: 2}"),
    ("value_count", "rules: [base], condition: {field: objectRef.uid, gte: 3}"),
    ("value_count", "rules: [other, base], condition: {field: objectRef.uid, lt: 3, gt: 1}"),
    ("value_sum", "rules: [base], condition: {field: number, gte: 20}"),
    ("value_avg", "rules: [base, other], condition: {field: number, gt: 6, lte: 9}"),
    ("value_median", "rules: [base], condition: {field: number, gte: 7}"),
    ("value_percentile", "rules: [base], condition: {field: number, percentile: 70, gte: 8}"),
    ("temporal", "rules: [base, other]"),
    ("temporal", "rules: [base, other], condition: {eq: 1}"),
    ("temporal", "condition: base and not other"),
    ("temporal_ordered", "rules: [base, other]"),
    ("temporal_ordered", "rules: [other, base], condition: {gte: 2}"),
    ("temporal_ordered", "condition: other and (base or not base) and other"),
    ("temporal_ordered", "condition: base and not other or other and base"),
    ("temporal_extended", "rules: [base, other], condition: not (base and other)"),
];

proptest! {
    #[test]
    fn every_type_says_what_it_says_of_everything_at_once(
        steps in prop::collection::vec((0_i64..120, 0_u8..2, any::<bool>(), 0_i64..=20), 0..50),
        kind in 0..KINDS.len(),
        timespan in 1_i64..40,
    ) {
        let (name, more) = KINDS[kind];
        let rules = rules(&correlation(name, &format!("timespan: {timespan}s, {more}")));
        let correlation = rules.loaded().correlation("c").unwrap().clone();
        let matches = matches(&steps);
        let mut expected = BTreeSet::new();
        for user in ["u0", "u1"] {
            let events = events(&matches, user, &correlation.rules);
            let episodes = brute(&correlation.kind, correlation.rules.len(), timespan, events);
            expected.extend(episodes.into_iter().map(|episode| (user.to_owned(), episode)));
        }
        prop_assert_eq!(found(&rules, &matches), expected, "{} {}", name, more);
    }

    #[test]
    fn correlations_of_correlations_count_their_episodes(
        steps in prop::collection::vec((0_i64..120, 0_u8..2, any::<bool>(), 0_i64..=20), 0..50),
        ordered in any::<bool>(),
        generate in any::<bool>(),
    ) {
        let (kind, more) = if ordered {
            ("temporal_ordered", "rules: [inner, other], timespan: 20s")
        } else {
            ("event_count", "rules: [inner, other], timespan: 20s, condition: {gte: 2}")
        };
        let inner = INNER.replace("60s", "10s");
        let rules = rules(&format!("{inner}{}", correlation(kind, &format!("{more}, generate: {generate}"))));
        let loaded = rules.loaded();
        let (inner, outer) = (loaded.correlation("inner").unwrap(), loaded.correlation("c").unwrap());
        let matches = matches(&steps);
        let mut expected = BTreeSet::new();
        for user in ["u0", "u1"] {
            let opened = brute(&inner.kind, 1, 10, events(&matches, user, &inner.rules)).into_iter();
            let opened = opened.map(|(time, ..)| Event { time, member: 0, request: 0, uid: 0, number: 0 });
            let fed = events(&matches, user, &outer.rules).into_iter().chain(opened).collect();
            let episodes = brute(&outer.kind, 2, 20, fed);
            expected.extend(episodes.into_iter().map(|episode| (user.to_owned(), episode)));
        }
        prop_assert_eq!(found(&rules, &matches), expected);
    }

    /// In the order of their times, whatever the order of their arrival; a value is not told again for five minutes.
    #[test]
    fn a_value_is_first_seen_once(
        steps in prop::collection::vec((0_i64..2_000, 0_u8..2, any::<bool>(), 0_i64..=20), 0..50),
    ) {
        let more = "rules: [base, other], timespan: 30d, learning: 3m, condition: {field: objectRef.uid}";
        let rules = rules(&correlation("first_seen", more));
        let matches = matches(&steps);
        let mut expected = BTreeSet::new();
        for user in ["u0", "u1"] {
            let mut events = events(&matches, user, &["base".into(), "other".into()]);
            events.sort_by_key(Event::order);
            let first = events.first().map_or(0, |event| event.time);
            for uid in 0..7 {
                let times: Vec<i64> = events.iter().filter(|event| event.uid == uid).map(|event| event.time).collect();
                let Some(new) = times.first().filter(|time| **time >= first + 180) else { continue };
                let gap = times.windows(2).position(|pair| pair[1] > pair[0] + 300);
                let together = &times[..gap.map_or(times.len(), |gap| gap + 1)];
                let (last, count) = (*together.last().unwrap(), together.len());
                expected.insert((user.to_owned(), (*new, *new, last, count)));
            }
        }
        prop_assert_eq!(found(&rules, &matches), expected);
    }
}
