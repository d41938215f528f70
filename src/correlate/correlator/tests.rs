//! Virtual time: matches are made by hand, and the alerts that come out are told in one line each.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::engine::Shown;
use crate::rule::load::load_text;

mod brute;
mod busy;
mod timeline;

const SECOND: i64 = 1_000_000;

/// A rule set with one base rule `base` and a correlation over it.
fn rules(correlation: &str) -> Arc<RuleSet> {
    let head = "logsource: {product: kubernetes, service: audit}";
    let rule = |id: &str, verb: &str| {
        format!("title: {id}\nid: {id}\nlevel: low\n{head}\ndetection: {{s: {{verb: {verb}}}, condition: s}}\n---\n")
    };
    let text = format!("{}{}{correlation}", rule("base", "get"), rule("other", "list"));
    let loaded = load_text(Path::new("t.yml"), &text);
    assert!(!loaded.has_errors(), "{:?}", loaded.findings);
    Arc::new(RuleSet::compile(loaded.rules, Duration::from_secs(300)))
}

fn count(condition: &str) -> String {
    format!(
        "title: C\nid: c\ncorrelation: {{type: event_count, rules: [base], group-by: [user.username], timespan: 60s, condition: {condition}}}\n"
    )
}

/// A match of `rule` by `user` at a second.
fn at(rule: &str, user: &str, second: i64, request: u64) -> Match {
    Match {
        rule: rule.into(),
        cluster: "k".into(),
        source: "s".into(),
        time: Timestamp(second * SECOND),
        delivery: request * 10,
        request,
        fields: Arc::new(BTreeMap::from([
            ("user.username".into(), vec![json!(user)]),
            ("objectRef.uid".into(), vec![json!(format!("n{}", request % 7))]),
            ("number".into(), vec![json!(request % 11)]),
        ])),
        audit_id: Arc::default(),
        shown: Shown::default().into(),
    }
    .showing(|shown| shown.event.audit_id = format!("a{request}"))
}

fn show(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|Change { kind, alert }| {
            let seconds = |time: Timestamp| time.0 / SECOND;
            let (first, last) = (seconds(alert.first_seen), seconds(alert.last_seen));
            format!("{kind:?} {} x{} {first}-{last}", alert.rule.id, alert.count).to_lowercase()
        })
        .collect()
}

struct Run(Correlator, u64);

impl Run {
    fn new(rules: Arc<RuleSet>) -> Self {
        Self(Correlator::new(rules, Limits { lateness: Duration::from_secs(10), max_keys: 100 }), 0)
    }

    fn take(&mut self, rule: &str, user: &str, second: i64) -> Vec<String> {
        self.1 += 1;
        self.0.take(&[at(rule, user, second, self.1)], None);
        show(&self.0.drain())
    }

    fn advance(&mut self, second: i64) -> Vec<String> {
        self.0.advance(&"k".into(), Timestamp(second * SECOND));
        show(&self.0.drain())
    }
}

#[test]
fn a_single_rule_fires_grows_and_resolves_after_a_quiet_timespan() {
    let mut run = Run::new(rules(""));
    assert_eq!(run.take("base", "a", 0), ["firing base x1 0-0"]);
    assert_eq!(run.take("base", "a", 200), ["update base x2 0-200"]);
    assert_eq!(run.take("base", "b", 210), ["firing base x1 210-210"], "another user is another episode");
    assert_eq!(run.advance(510), [""; 0], "a match within lateness could still join");
    assert_eq!(run.advance(511), ["resolved base x2 0-200"]);
    assert_eq!(run.advance(600), ["resolved base x1 210-210"]);
    assert_eq!(run.0.keys().map(|(_, keys)| keys).sum::<usize>(), 0, "nothing is kept of what is over");
}

#[test]
fn a_count_fires_when_it_is_reached_and_the_window_slides() {
    let mut run = Run::new(rules(&count("{gte: 3}")));
    assert_eq!(run.take("base", "a", 0), [""; 0]);
    assert_eq!(run.take("base", "a", 50), [""; 0]);
    assert_eq!(run.take("base", "a", 61), [""; 0], "the first has left the window");
    assert_eq!(run.take("base", "a", 100), ["firing c x3 50-100"]);
    assert_eq!(
        run.take("base", "a", 160),
        ["update c x4 50-160"],
        "it counts on while no gap is longer than the timespan"
    );
    assert_eq!(run.advance(231), ["resolved c x4 50-160"]);
    assert_eq!(run.take("base", "a", 240), [""; 0], "a new episode needs new evidence");
}

#[test]
fn out_of_order_evidence_within_lateness_counts_where_it_belongs() {
    let mut run = Run::new(rules(&count("{gte: 3}")));
    run.take("base", "a", 5);
    run.take("base", "a", 8);
    assert_eq!(run.take("base", "a", 1), ["firing c x3 1-8"]);
    assert_eq!(run.take("base", "a", 0), ["update c x4 0-8"]);
}

#[test]
fn a_second_episode_waits_until_no_late_match_can_join_it_to_the_first() {
    let mut run = Run::new(rules(""));
    run.take("base", "a", 0);
    assert_eq!(run.take("base", "a", 305), [""; 0], "a match at 4 could still bridge the gap");
    assert_eq!(run.take("base", "a", 299), ["update base x3 0-305"], "and here it comes");
    let mut run = Run::new(rules(""));
    run.take("base", "a", 0);
    run.take("base", "a", 305);
    assert_eq!(run.advance(311), ["resolved base x1 0-0", "firing base x1 305-305"]);
}

#[test]
fn temporal_rules_need_all_and_ordered_ones_in_order() {
    let correlation = |kind: &str| {
        format!(
            "title: C\nid: c\ncorrelation: {{type: {kind}, rules: [base, other], group-by: [user.username], timespan: 60s}}\n"
        )
    };
    let mut run = Run::new(rules(&correlation("temporal")));
    run.take("other", "a", 0);
    assert_eq!(run.take("base", "b", 5), [""; 0], "another group");
    assert_eq!(run.take("base", "a", 5), ["firing c x2 0-5"]);
    let mut run = Run::new(rules(&correlation("temporal_ordered")));
    run.take("other", "a", 0);
    assert_eq!(run.take("base", "a", 5), [""; 0], "the wrong way round");
    assert_eq!(run.take("other", "a", 9), ["firing c x3 0-9"]);
}

#[test]
fn different_values_are_counted_once() {
    let mut run = Run::new(rules(
        "title: C\nid: c\ncorrelation: {type: value_count, rules: [base], group-by: [user.username], timespan: 60s, condition: {field: objectRef.uid, gte: 3}}\n",
    ));
    let mut fired = Vec::new();
    for (second, request) in [(0, 1), (1, 8), (2, 15), (3, 2), (4, 3)] {
        run.0.take(&[at("base", "a", second, request)], None);
        fired.extend(show(&run.0.drain()));
    }
    assert_eq!(fired, ["firing c x5 0-4"], "1, 8 and 15 have the same name");
}

#[test]
fn stages_and_deliveries_of_one_request_count_once() {
    let mut run = Run::new(rules(""));
    let first = at("base", "a", 0, 1);
    run.0.take(&[first.clone(), first.clone()], None);
    run.0.take(&[Match { delivery: 99, time: Timestamp(SECOND), ..first }], None);
    assert_eq!(show(&run.0.drain()), ["firing base x1 0-0"]);
    let stats = run.0.take_stats();
    assert_eq!((stats.duplicates["s"], stats.matches["base"]), (1, 1));
}

#[test]
fn a_flood_of_names_does_not_push_out_a_group_that_is_about_to_fire() {
    let mut run = Run::new(rules(&count("{gte: 3}")));
    run.take("base", "slow", 0);
    run.take("base", "slow", 1);
    for n in 0..1_000 {
        run.take("base", &format!("flood{n}"), 2);
    }
    assert_eq!(run.take("base", "slow", 30), ["firing c x3 0-30"]);
    assert!(run.0.keys().all(|(_, keys)| keys <= 100));
    assert!(run.0.take_stats().evictions["c"] > 800);
}

#[test]
fn a_reload_keeps_unchanged_rules_and_resolves_those_that_are_gone() {
    let mut run = Run::new(rules(&count("{gte: 2}")));
    run.take("base", "a", 0);
    run.0.reload(rules(&count("{gte: 2}")));
    assert_eq!(run.take("base", "a", 1), ["firing c x2 0-1"]);
    run.0.reload(rules(&count("{gte: 9}")));
    assert_eq!(show(&run.0.drain()), ["resolved c x2 0-1"]);
}

#[test]
fn an_event_from_the_future_moves_event_time_only_as_far_as_the_skew_allows() {
    let mut run = Run::new(rules(""));
    run.0.take(&[at("base", "a", 0, 1)], Some(Timestamp(0)));
    run.0.take(&[at("base", "b", 1_000_000, 2)], Some(Timestamp(SECOND)));
    assert_eq!(run.0.watermarks().map(|(_, time)| time.0 / SECOND).max(), Some(301));
}

#[test]
fn a_rebuild_takes_over_what_the_store_knows() {
    let mut run = Run::new(rules(&count("{gte: 2}")));
    run.take("base", "a", 0);
    run.take("base", "a", 5);
    run.take("base", "b", 9);
    run.0.take(&[at("base", "a", 20, 77)], None);
    let firing: Vec<Alert> = run.0.drain().into_iter().map(|change| change.alert).collect();
    let firing = vec![Alert { count: 40, first_seen: Timestamp(-100 * SECOND), ..firing[0].clone() }];

    let mut again = Run::new(rules(&count("{gte: 2}")));
    again.0.take(&[at("base", "a", 5, 2), at("base", "b", 9, 3), at("base", "a", 20, 77)], None);
    again.0.adopt(&firing);
    again.1 = 100;
    assert!(again.0.drain().is_empty(), "a replay tells nothing");
    assert_eq!(again.take("base", "a", 30), ["update c x41 -100-30"], "the count goes on");
    assert_eq!(again.take("base", "b", 31), ["firing c x2 9-31"], "windows were rebuilt");
    let mut empty = Run::new(rules(&count("{gte: 2}")));
    empty.0.adopt(&firing);
    assert_eq!(empty.take("base", "a", 31), ["update c x41 -100-31"], "even when nothing of it is in the journal");
}

#[test]
fn a_group_that_is_fed_late_gets_its_quiet_timespan() {
    let mut run = Run::new(rules(""));
    run.take("base", "other", 1_000);
    assert_eq!(run.take("base", "a", 100), ["firing base x1 100-100"], "late, and told at once");
    assert_eq!(run.take("base", "a", 105), ["update base x2 100-105"]);
    assert_eq!(run.advance(1_200), [""; 0]);
    assert_eq!(run.take("base", "a", 250), ["update base x3 100-250"]);
    let resolved = run.advance(1_501);
    assert!(resolved.contains(&"resolved base x3 100-250".to_owned()), "{resolved:?}");
    let mut run = Run::new(rules(&count("{gte: 3}")));
    run.take("base", "other", 1_000);
    run.take("base", "a", 100);
    run.take("base", "a", 110);
    assert_eq!(run.take("base", "a", 120), ["firing c x3 100-120"]);
}

#[test]
fn a_match_far_older_than_an_open_episode_is_told_by_itself() {
    let mut run = Run::new(rules(""));
    run.take("base", "a", 1_000);
    run.take("base", "a", 1_011);
    assert_eq!(run.take("base", "a", 300), [""; 0], "it might still turn out to be the same episode");
    assert_eq!(
        run.advance(5_000),
        ["firing base x1 300-300", "resolved base x1 300-300", "resolved base x2 1000-1011"]
    );
}

#[test]
fn an_event_from_the_future_does_not_hold_its_group() {
    let mut run = Run::new(rules(""));
    run.0.take(&[at("base", "a", 1_000_000, 1)], Some(Timestamp(0)));
    assert_eq!(show(&run.0.drain()), ["firing base x1 300-300"]);
    assert_eq!(run.advance(700), ["resolved base x1 300-300"]);
}

#[test]
fn many_matches_out_of_order_are_still_counted_one_by_one() {
    let mut run = Run::new(rules(""));
    for second in (0..6_000).rev() {
        let mut found = at("base", "a", 0, second);
        found.time = Timestamp(i64::try_from(second).unwrap() * 1_000);
        run.0.take(&[found], None);
    }
    let changes = run.0.drain();
    let alert = &changes.last().unwrap().alert;
    assert_eq!((alert.count, changes.iter().filter(|change| change.kind == Kind::Firing).count()), (6_000, 1));
}

/// A correlation of the rules `base` and `other` by user.
fn correlation(kind: &str, more: &str) -> String {
    format!("title: C\nid: c\ncorrelation: {{type: {kind}, group-by: [user.username], {more}}}\n")
}

#[test]
fn expressions_of_rules_are_awaited() {
    let mut run = Run::new(rules(&correlation("temporal", "timespan: 60s, condition: base and not other")));
    run.take("other", "a", 0);
    assert_eq!(run.take("base", "a", 5), [""; 0], "not while the other is there");
    assert_eq!(run.take("base", "a", 61), [""; 0], "the other might still come late");
    assert_eq!(run.advance(72), ["firing c x2 5-61"], "it has left the window");
    let mut run = Run::new(rules(&correlation("temporal", "timespan: 60s, condition: base or other")));
    assert_eq!(run.take("other", "a", 0), ["firing c x1 0-0"]);
    let mut run = Run::new(rules(&correlation("temporal_ordered", "timespan: 60s, condition: other and base")));
    run.take("base", "a", 0);
    assert_eq!(run.take("other", "a", 5), [""; 0], "the wrong way round");
    assert_eq!(run.take("base", "a", 6), ["firing c x3 0-6"]);
    let counted = "rules: [base, other], timespan: 60s, condition: {gte: 1, lt: 2}";
    let mut run = Run::new(rules(&correlation("temporal", counted)));
    run.take("base", "a", 0);
    assert_eq!(run.advance(11), ["firing c x1 0-0"]);
}

#[test]
fn figures_of_values_are_compared() {
    let fired = |kind: &str, condition: &str| {
        let more = format!("rules: [base], timespan: 60s, condition: {{field: number, {condition}}}");
        let rules = rules(&correlation(kind, &more));
        let mut run = Run::new(rules);
        let mut fired = Vec::new();
        for (second, number) in [(0, json!(10)), (1, json!("2.5")), (2, json!("none")), (3, json!(40)), (100, json!(1))]
        {
            run.1 += 1;
            let mut found = at("base", "a", second, run.1);
            Arc::make_mut(&mut found.fields).insert("number".into(), vec![number]);
            run.0.take(&[found], None);
            fired.extend(show(&run.0.drain()));
        }
        fired.extend(run.advance(111));
        fired
    };
    assert_eq!(fired("value_sum", "gte: 52.5")[0], "firing c x4 0-3");
    assert_eq!(fired("value_sum", "gt: 52.5"), [""; 0]);
    assert_eq!(fired("value_avg", "gte: 17, lte: 18")[0], "firing c x4 0-3");
    assert_eq!(fired("value_median", "eq: 6.25")[0], "firing c x4 0-3", "told when nothing can change it");
    assert_eq!(fired("value_percentile", "percentile: 99, gte: 40")[0], "firing c x4 0-3");
    assert_eq!(fired("value_avg", "lt: 2"), ["firing c x1 100-100"]);
}

const INNER: &str = "title: Inner\nid: inner\nname: inner\ncorrelation: {type: event_count, rules: [base], group-by: [user.username], timespan: 60s, condition: {gte: 2}}\n---\n";

#[test]
fn the_episodes_of_a_correlation_are_events_of_another() {
    let outer = correlation("temporal_ordered", "rules: [inner, other], timespan: 5m");
    let mut run = Run::new(rules(&format!("{outer}---\n{INNER}")));
    assert_eq!(run.take("other", "a", 0), [""; 0]);
    assert_eq!(run.take("base", "a", 1), [""; 0]);
    assert_eq!(run.take("base", "a", 2), [""; 0], "the inner one does not alert by itself");
    assert_eq!(run.take("other", "b", 20), [""; 0]);
    assert_eq!(run.take("other", "a", 21), ["firing c x3 0-21"], "the episode opened before it");
    assert_eq!(run.take("base", "a", 22), [""; 0], "more of the same episode is nothing new");
    let generating = correlation("event_count", "rules: [inner], timespan: 1h, condition: {gte: 2}, generate: true");
    let mut run = Run::new(rules(&format!("{INNER}{generating}")));
    run.take("base", "a", 0);
    assert_eq!(run.take("base", "a", 1), ["firing inner x2 0-1"]);
    run.take("base", "a", 100);
    run.take("base", "a", 101);
    let told = run.advance(200);
    assert_eq!(told, ["firing c x2 1-101", "resolved inner x2 100-101"], "{told:?}");
}

#[test]
fn episodes_are_grouped_and_counted_by_the_aliases_of_the_correlation_they_are_of() {
    let inner = INNER.replace("group-by: [user.username]", "group-by: [who], aliases: {who: {base: user.username}}");
    let outer = "title: C\nid: c\ncorrelation: {type: temporal_ordered, rules: [inner, other], group-by: [actor], aliases: {actor: {inner: who, other: user.username}}, timespan: 5m}\n";
    let mut run = Run::new(rules(&format!("{inner}{outer}")));
    run.take("base", "a", 0);
    run.take("base", "a", 1);
    assert_eq!(run.take("other", "b", 20), [""; 0], "somebody else");
    assert_eq!(run.take("other", "a", 21), ["firing c x2 1-21"]);
    let outer = "title: C\nid: c\ncorrelation: {type: value_count, rules: [inner], timespan: 5m, condition: {field: who, gte: 2}}\n";
    let mut run = Run::new(rules(&format!("{inner}{outer}")));
    for (user, second) in [("a", 0), ("a", 1), ("b", 2), ("b", 3)] {
        run.take("base", user, second);
    }
    assert_eq!(run.advance(20), ["firing c x2 1-3"]);
}

#[test]
fn what_happens_at_once_is_in_order() {
    for arrival in [["base", "other"], ["other", "base"]] {
        let mut run = Run::new(rules(&correlation("temporal_ordered", "rules: [base, other], timespan: 60s")));
        run.take(arrival[0], "a", 5);
        assert_eq!(run.take(arrival[1], "a", 5), ["firing c x2 5-5"], "{arrival:?}");
    }
}

const FIRST_SEEN: &str = "rules: [base, other], timespan: 30d, learning: 1h, condition: {field: objectRef.uid}";

#[test]
fn a_value_is_told_when_it_is_new_for_its_group_and_the_group_is_known() {
    let mut run = Run::new(rules(&correlation("first_seen", FIRST_SEEN)));
    // Told when nothing older can come any more.
    let mut take = |user: &str, second: i64, name: u64| {
        run.1 += 7;
        run.0.take(&[at("base", user, second, run.1 + name)], None);
        run.advance(second + 11)
    };
    let day = 86_400;
    assert_eq!(take("a", 0, 1), [""; 0], "the first is not new, it is all there is");
    assert_eq!(take("a", 3_000, 2), [""; 0], "still learning");
    assert_eq!(take("a", 4_000, 3), ["firing c x1 4000-4000"]);
    assert_eq!(take("a", 4_100, 3), ["update c x2 4000-4100"], "the same episode");
    assert_eq!(take("a", 9_000, 3), ["resolved c x2 4000-4100"], "known now");
    assert_eq!(take("a", 9_000, 1), [""; 0]);
    assert_eq!(take("b", 9_000, 3), [""; 0], "another group learns by itself");
    assert_eq!(take("a", 20 * day, 1), [""; 0]);
    assert_eq!(take("a", 40 * day, 1), [""; 0], "seen within 30 days");
    assert_eq!(take("a", 40 * day, 2).len(), 1, "away for more than 30 days");
}

#[test]
fn nothing_is_new_about_an_event_that_lacks_the_field() {
    let mut run = Run::new(rules(&correlation("first_seen", FIRST_SEEN)));
    run.take("base", "a", 0);
    let mut found = at("base", "a", 9_000, 50);
    Arc::make_mut(&mut found.fields).remove("objectRef.uid");
    run.0.take(&[found], None);
    assert_eq!(run.advance(9_011), [""; 0]);
}

#[test]
fn a_spike_is_told_when_there_is_much_more_than_usual() {
    let more = "rules: [base], timespan: 10m, learning: 2d, condition: {gte: 5}";
    let mut run = Run::new(rules(&correlation("spike", more)));
    let mut fired = Vec::new();
    let hour = 3_600;
    for day in 0..6_i64 {
        for n in 0..24 {
            // Ten in ten minutes by day, one by night.
            let many = if (8..18).contains(&n) { 10 } else { 1 };
            for k in 0..many {
                fired.extend(run.take("base", "a", day * 24 * hour + n * hour + k * 50));
            }
        }
    }
    assert_eq!(fired, [""; 0], "every day is like the others");
    let noon = (6 * 24 + 12) * hour;
    for k in 0..25 {
        fired.extend(run.take("base", "a", noon + k * 20));
    }
    assert_eq!(fired, [""; 0], "25 are no spike where 10 are usual");
    let night = (7 * 24 + 2) * hour;
    for k in 0..6 {
        fired.extend(run.take("base", "a", night + k * 20));
    }
    assert_eq!(fired, ["firing c x5 612000-612080"], "by night they are");
}

#[test]
fn what_time_alone_has_decided_is_not_learned_again_after_a_restart() {
    let rules = rules(&correlation("first_seen", &FIRST_SEEN.replace("30d", "1h")));
    let seen = [at("base", "a", 0, 1), at("base", "a", 4_000, 2)];
    let mut run = Run::new(Arc::clone(&rules));
    run.0.take(&seen, None);
    let firing: Vec<Alert> = {
        run.0.advance(&"k".into(), Timestamp(4_500 * SECOND));
        run.0.drain().into_iter().filter(|change| change.kind == Kind::Firing).map(|change| change.alert).collect()
    };
    assert_eq!(firing.len(), 1);
    let kept = run.0.drain_baselines();
    let mut again = Run::new(rules);
    again.0.rebuild(kept);
    again.0.take(&seen, None);
    again.0.adopt(&firing);
    assert_eq!(again.advance(4_290), [""; 0], "time went further than the last match before");
    assert!(again.0.drain_baselines().is_empty());
    assert_eq!(again.advance(4_500), ["resolved c x1 4000-4000"]);
}

/// Episodes, however they came about: rule, group, span, count.
fn episodes(rules: &Arc<RuleSet>, matches: &[Match], lateness: u64) -> BTreeSet<String> {
    let limits = Limits { lateness: Duration::from_secs(lateness), max_keys: 1_000 };
    let mut correlator = Correlator::new(Arc::clone(rules), limits);
    let mut alerts: BTreeMap<String, Alert> = BTreeMap::new();
    for found in matches {
        correlator.take(std::slice::from_ref(found), None);
        for change in correlator.drain() {
            alerts.insert(change.alert.id.clone(), change.alert);
        }
    }
    correlator.finish();
    for change in correlator.drain() {
        alerts.insert(change.alert.id.clone(), change.alert);
    }
    let show = |alert: &Alert| {
        format!("{} {:?} {}..{} x{}", alert.rule.id, alert.group, alert.first_seen, alert.last_seen, alert.count)
    };
    alerts.values().map(show).collect()
}

/// The alerts of a run that is killed after `crash` matches and started again from what the store has.
fn alerts(rules: &Arc<RuleSet>, matches: &[Match], crash: Option<usize>) -> BTreeMap<String, Alert> {
    let limits = Limits { lateness: Duration::from_secs(20), max_keys: 1_000 };
    let mut correlator = Correlator::new(Arc::clone(rules), limits);
    let mut stored: BTreeMap<String, Alert> = BTreeMap::new();
    let mut baselines: BTreeMap<u64, Baseline> = BTreeMap::new();
    let keep = |correlator: &mut Correlator, stored: &mut BTreeMap<String, Alert>| {
        for Change { kind, alert } in correlator.drain() {
            // As the store does it: an alert that is known is not opened again, and one that ended does not grow.
            match stored.get(&alert.id).map(|known| known.status) {
                Some(Status::Resolved) => {}
                Some(Status::Firing) if kind == Kind::Firing => {}
                _ => drop(stored.insert(alert.id.clone(), alert)),
            }
        }
    };
    for (n, found) in matches.iter().enumerate() {
        if crash == Some(n) {
            correlator = Correlator::new(Arc::clone(rules), limits);
            correlator.rebuild(baselines.values().cloned().collect());
            for found in &matches[..n] {
                correlator.take(std::slice::from_ref(found), None);
                correlator.drain();
            }
            let firing: Vec<Alert> = stored.values().filter(|a| a.status == Status::Firing).cloned().collect();
            correlator.adopt(&firing);
        }
        correlator.take(std::slice::from_ref(found), None);
        keep(&mut correlator, &mut stored);
        for baseline in correlator.drain_baselines() {
            match baseline.state {
                Some(_) => baselines.insert(baseline.key, baseline),
                None => baselines.remove(&baseline.key),
            };
        }
    }
    correlator.finish();
    keep(&mut correlator, &mut stored);
    stored
}

proptest! {
    #[test]
    fn a_crash_changes_no_alert(
        times in prop::collection::vec((0_i64..400, 0_u8..2, any::<bool>()), 1..60),
        kind in 0_usize..6,
        crash in 0_usize..60,
    ) {
        let rules = rules(&[
            count("{gte: 3}"),
            String::new(),
            format!("{INNER}{}", correlation("event_count", "rules: [inner, other], timespan: 2m, condition: {gte: 2}")),
            format!("{INNER}{}", correlation("temporal", "rules: [inner, other], timespan: 2m, generate: true")),
            correlation("first_seen", &FIRST_SEEN.replace("1h", "1m")),
            correlation("spike", "rules: [base, other], timespan: 1m, learning: 1m, condition: {gte: 3}"),
        ][kind]);
        let mut matches: Vec<Match> = times.iter().enumerate().map(|(n, (second, user, other))| {
            let mut found = at(if *other { "other" } else { "base" }, &format!("u{user}"), *second, n as u64 + 1);
            found.time = Timestamp(found.time.0 + n as i64);
            found
        }).collect();
        matches.sort_by_key(|found| found.time);
        let crashed = alerts(&rules, &matches, Some(crash));
        let whole = alerts(&rules, &matches, None);
        prop_assert_eq!(crashed, whole);
    }

    #[test]
    fn episodes_do_not_depend_on_the_order_of_arrival(
        times in prop::collection::vec((0_i64..400, 0_u8..2, any::<bool>(), 0_i64..20), 0..60),
        kind in 0_usize..10,
    ) {
        let correlation = [
            count("{gte: 3}"),
            "title: C\nid: c\ncorrelation: {type: value_count, rules: [base], group-by: [user.username], timespan: 30s, condition: {field: objectRef.uid, gte: 3}}\n".to_owned(),
            "title: C\nid: c\ncorrelation: {type: temporal, rules: [base, other], group-by: [user.username], timespan: 15s}\n".to_owned(),
            "title: C\nid: c\ncorrelation: {type: temporal_ordered, rules: [base, other], group-by: [user.username], timespan: 15s}\n".to_owned(),
            format!("{INNER}{}", correlation("event_count", "rules: [inner, other], timespan: 2m, condition: {gte: 2}")),
            format!("{INNER}{}", correlation("temporal", "rules: [inner, other], timespan: 2m, generate: true")),
            correlation("temporal_ordered", "timespan: 30s, condition: base and not other or other and base"),
            correlation("first_seen", &FIRST_SEEN.replace("1h", "1m")),
            correlation("value_percentile", "rules: [base], timespan: 30s, condition: {field: number, percentile: 70, gte: 5}"),
            correlation("spike", "rules: [base, other], timespan: 1m, learning: 1m, condition: {gte: 3}"),
        ][kind].clone();
        let rules = rules(&correlation);
        let mut arrivals: Vec<(i64, Match)> = times.iter().enumerate().map(|(n, (second, user, other, delay))| {
            // Many are at the same time.
            let found = at(if *other { "other" } else { "base" }, &format!("u{user}"), *second, n as u64 + 1);
            (second + delay, found)
        }).collect();
        arrivals.sort_by_key(|(arrival, found)| (*arrival, found.request));
        let mixed: Vec<Match> = arrivals.iter().map(|(_, found)| found.clone()).collect();
        let mut ordered = mixed.clone();
        ordered.sort_by_key(|found| found.time);
        prop_assert_eq!(episodes(&rules, &mixed, 20), episodes(&rules, &ordered, 20));
        prop_assert_eq!(episodes(&rules, &ordered, 0), episodes(&rules, &ordered, 20));
    }
}

/// `flood` invented users within a minute, each once, while one user is slow; a tenth of them may be kept.
fn flooded(flood: u64) {
    let max_keys = usize::try_from(flood / 10).unwrap();
    let mut correlator = Correlator::new(rules(&count("{gte: 5}")), Limits { max_keys, ..Limits::default() });
    let (mut fired, mut most) = (Vec::new(), 0);
    for n in 0..flood {
        let second = i64::try_from(n * 60 / flood).unwrap();
        let found = at("base", &format!("u{n}"), second, n + 10);
        let found = found.showing(|shown| shown.event = crate::alert::EventExcerpt::default());
        correlator.take(&[found], None);
        if n % (flood / 5) == 0 {
            correlator.take(&[at("base", "mallory", second, n * 5 / flood)], None);
        }
        if n % 1_000 == 0 {
            most = most.max(correlator.keys().filter(|(id, _)| *id == "c").map(|(_, keys)| keys).sum());
        }
        fired.extend(correlator.drain().into_iter().filter(|change| change.alert.rule.id == "c"));
    }
    let told: Vec<_> = fired.iter().map(|change| (change.kind, change.alert.group["user.username"].clone())).collect();
    assert_eq!(told, [(Kind::Firing, json!("mallory"))]);
    assert_eq!(fired[0].alert.count, 5);
    assert!(most <= max_keys, "{most}");
    assert!(correlator.take_stats().evictions["c"] > flood / 2);
}

#[test]
fn what_is_decided_early_is_counted() {
    let crowd = |from: u64, to: u64| (from..to).map(|n| at("base", "u", 1, n)).collect::<Vec<_>>();
    let mut correlator = Correlator::new(rules(&count("{gte: 5000}")), Limits::default());
    correlator.take(&crowd(1, 2_001), None);
    assert_eq!(correlator.take_stats().bounds.get("reordered"), None);
    correlator.take(&crowd(2_001, 2_002), None);
    assert_eq!(correlator.take_stats().bounds["reordered"], 1);

    let mut correlator = Correlator::new(rules(&correlation("first_seen", FIRST_SEEN)), Limits::default());
    let found = crowd(1, WAITING_MAX as u64 + 1);
    correlator.take(&found, None);
    assert_eq!(correlator.take_stats().bounds.get("baseline_turns"), None);
    correlator.take(&crowd(WAITING_MAX as u64 + 1, WAITING_MAX as u64 + 4), None);
    assert_eq!(correlator.take_stats().bounds["baseline_turns"], 3);
}

#[test]
fn a_flood_of_invented_keys_hides_no_slow_attack() {
    flooded(100_000);
}

#[test]
#[ignore = "a million keys take a minute without optimisation"]
fn a_flood_of_a_million_invented_keys_hides_no_slow_attack() {
    flooded(1_000_000);
}
