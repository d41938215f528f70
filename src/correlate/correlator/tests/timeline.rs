//! What alerts of several rules tell of what happened.

use super::*;
use crate::alert::Step;

const BOTH: &str = "title: C\nid: c\ncorrelation: {type: temporal, rules: [base, other], group-by: [user.username], timespan: 60s, condition: {gte: 2}, generate: true}\n";

fn steps(alert: &Alert) -> Vec<String> {
    let told = |step: &Step| {
        let Step { time, rule, summary, count } = step;
        format!("{} {} {} x{count} {summary}", time.0 / SECOND, rule.id, rule.level)
    };
    alert.timeline.iter().map(told).collect()
}

fn told(correlator: &mut Correlator) -> Vec<Change> {
    correlator.drain().into_iter().filter(|change| change.alert.rule.id == "c").collect()
}

fn named(rule: &str, second: i64, request: u64) -> Match {
    at(rule, "a", second, request).showing(|shown| shown.said = Some(format!("request {request}")))
}

fn run(matches: &[Match]) -> Correlator {
    let mut correlator = Correlator::new(rules(BOTH), Limits { lateness: Duration::from_secs(30), max_keys: 100 });
    matches.iter().for_each(|found| correlator.take(std::slice::from_ref(found), None));
    correlator
}

#[test]
fn an_alert_of_several_rules_tells_which_were_true_when_and_how_often() {
    let mut correlator = run(&[
        named("base", 1, 1),
        named("base", 2, 2),
        named("other", 5, 3),
        named("other", 9, 4),
        named("base", 9, 5),
    ]);
    let changes = told(&mut correlator);
    assert_eq!(steps(&changes[0].alert), ["1 base low x2 request 1", "5 other low x1 request 3"]);
    assert_eq!(steps(&changes.last().unwrap().alert), ["1 base low x3 request 1", "5 other low x2 request 3"]);
    let mut alone = Correlator::new(rules(&count("{gte: 1}")), Limits::default());
    alone.take(&[named("base", 1, 1)], None);
    assert!(told(&mut alone)[0].alert.timeline.is_empty(), "one rule has no story");
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let matches =
        [named("base", 1, 1), named("base", 2, 2), named("other", 2, 3), named("other", 9, 4), named("base", 9, 5)];
    let last = |matches: &[Match]| {
        let mut correlator = run(matches);
        steps(&told(&mut correlator).last().unwrap().alert)
    };
    let expected = last(&matches);
    assert_eq!(expected, ["1 base low x3 request 1", "2 other low x2 request 3"]);
    for at in 0..matches.len() {
        let mut other = matches.to_vec();
        other.rotate_left(at);
        assert_eq!(last(&other), expected, "{at}");
        other.reverse();
        assert_eq!(last(&other), expected, "{at} backwards");
    }
}

#[test]
fn a_crash_loses_nothing_of_it() {
    let matches = [named("base", 1, 1), named("other", 5, 2), named("base", 50, 3)];
    let next = |correlator: &mut Correlator| {
        correlator.take(&[named("other", 55, 4)], None);
        told(correlator).pop().unwrap().alert
    };
    let mut whole = run(&matches);
    let stored = told(&mut whole).pop().unwrap().alert;
    let whole = next(&mut whole);
    assert_eq!(steps(&whole), ["1 base low x2 request 1", "5 other low x2 request 2"]);
    for reaches_back in [true, false] {
        let mut again = run(if reaches_back { &matches } else { &[] });
        again.adopt(std::slice::from_ref(&stored));
        assert_eq!(next(&mut again), whole, "{reaches_back}");
    }
}

#[test]
fn an_episode_of_a_correlation_is_a_step() {
    let text = "title: D\nid: d\nname: d\nlevel: high\ncorrelation: {type: event_count, rules: [other], group-by: [user.username], timespan: 60s, condition: {gte: 2}}\n---\n";
    let both = BOTH.replace("[base, other]", "[base, d]");
    let mut correlator = Correlator::new(rules(&format!("{text}{both}")), Limits::default());
    correlator.take(&[named("base", 1, 1), named("other", 2, 2), named("other", 3, 3), named("base", 200, 4)], None);
    let changes = told(&mut correlator);
    assert_eq!(steps(&changes[0].alert), ["1 base low x1 request 1", "3 d high x1 request 3"]);
}
