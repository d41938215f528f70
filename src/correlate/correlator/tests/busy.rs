//! Groups with more matches in a window than it keeps one by one.

use super::*;

/// Correlations over `base` by user, in an hour.
fn run(kind: &str, condition: &str) -> Run {
    Run::new(rules(&correlation(kind, &format!("rules: [base, other], timespan: 1h, {condition}"))))
}

impl Run {
    /// So many matches of a rule, evenly over so many seconds from a time on.
    fn take_many(&mut self, rule: &str, from: i64, seconds: i64, many: i64) -> Vec<Change> {
        let mut changes = Vec::new();
        for n in 0..many {
            self.1 += 1;
            let mut found = at(rule, "a", 0, self.1);
            found.time = Timestamp(from * SECOND + seconds * SECOND * n / many);
            Arc::make_mut(&mut found.fields).insert("number".into(), vec![json!(2)]);
            self.0.take(&[found], None);
            changes.extend(self.0.drain());
        }
        changes
    }
}

/// How many matches an episode had when it was told.
fn first_count(changes: &[Change]) -> Option<u64> {
    changes.first().map(|change| change.alert.count)
}

#[test]
fn a_sum_is_that_of_all_matches_within_a_part_of_the_timespan() {
    let mut sum = run("value_sum", "condition: {field: number, gte: 30000}");
    assert!(sum.take_many("base", 0, 7_200, 2 * 14_900).is_empty(), "there are never so many in an hour");
    assert!(sum.0.take_stats().overfull["c"] > 19_000);
    let changes = sum.take_many("base", 20_000, 3_600, 15_200);
    let opened = changes[0].alert.time.0 / SECOND - 20_000;
    assert!((3_600 * 15_000 / 15_200..=3_600 * 15_062 / 15_200).contains(&opened), "{opened}");
}

#[test]
fn a_rule_is_not_forgotten_because_another_one_floods_the_window() {
    for kind in ["temporal", "temporal_ordered"] {
        let mut run = run(kind, "");
        assert!(run.take_many("base", 0, 1, 1).is_empty());
        assert!(run.take_many("base", 60, 1_200, 12_000).is_empty());
        let told = run.take_many("other", 1_300, 1, 1);
        assert_eq!(first_count(&told), Some(12_002), "{kind}");
        assert_eq!(told[0].alert.first_seen, Timestamp(0), "{kind}");
    }
    // A match of the first rule, then a flood of the second: still in order.
    let mut run = run("temporal_ordered", "condition: base and other and base");
    run.take("base", "a", 0);
    run.take_many("other", 60, 1_200, 12_000);
    assert_eq!(run.take("base", "a", 1_300), ["firing c x12002 0-1300"]);
}

#[test]
fn a_spike_above_more_than_a_window_keeps_is_told() {
    let mut run = run("spike", "learning: 1d, condition: {gte: 100}");
    let day = 86_400;
    for n in 0..2 {
        assert!(run.take_many("base", n * day, 1_800, 20_000).is_empty());
    }
    let told = run.take_many("base", 2 * day, 1_800, 61_000);
    let count = first_count(&told).unwrap_or_default();
    assert!((60_000..60_300).contains(&count), "three times 20 000, and what a 256th of the hour may hide: {count}");
}

#[test]
fn a_flood_of_invented_users_does_not_make_a_known_one_unknown() {
    let mut run = Run::new(rules(&correlation("first_seen", FIRST_SEEN)));
    run.take("base", "known", 0);
    run.take("base", "known", 2 * 86_400);
    for n in 0..1_000 {
        run.take("base", &format!("flood{n}"), 3 * 86_400);
    }
    run.advance(3 * 86_400 + 100);
    assert!(run.0.take_stats().evictions["c"] > 800);
    let mut new = at("base", "known", 4 * 86_400, 5_000);
    Arc::make_mut(&mut new.fields).insert("objectRef.uid".into(), vec![json!("another")]);
    run.0.take(&[new], None);
    assert_eq!(run.advance(4 * 86_400 + 20).len(), 1, "something new of a user who is known");
}

#[test]
fn a_crash_does_not_change_what_a_busy_window_counts() {
    let more = "rules: [base, other], timespan: 1h, condition: {field: number, gte: 26000}";
    let rules = rules(&correlation("value_sum", more));
    let made = (0..14_000_i64).map(|n| {
        let mut found = at("base", "a", 0, u64::try_from(n).expect("small") + 1);
        found.time = Timestamp(n * SECOND * 3_600 / 13_500);
        Arc::make_mut(&mut found.fields).insert("number".into(), vec![json!(2)]);
        found
    });
    let matches: Vec<Match> = made.collect();
    let whole = alerts(&rules, &matches, None);
    assert_eq!(whole.len(), 1);
    assert_eq!(alerts(&rules, &matches, Some(12_500)), whole, "before it opens");
    assert_eq!(alerts(&rules, &matches, Some(13_800)), whole, "after it");
}
