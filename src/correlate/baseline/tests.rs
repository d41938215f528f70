//! Baselines against the obvious: all values with their times, and rhythms that are told what they are.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;

mod rhythms;

const HOUR: i64 = 3_600_000_000;

fn observed(hour: i64, minute: i64, value: u64, request: u64) -> Observed {
    Observed { key: 1, time: Timestamp(hour * HOUR + minute * 60_000_000), value, request, again: false }
}

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3_600)
}

proptest! {
    /// In order, a value is new exactly if it was not there for so long, give or take the grain of an hour.
    #[test]
    fn a_value_is_new_if_and_only_if_it_was_away(
        steps in prop::collection::vec((0_i64..30, 0_u64..6), 1..200),
        forget in 24_u64..200,
        learning in 0_u64..50,
    ) {
        let rule = FirstSeen { fields: Vec::new(), learning: hours(learning), forget: hours(forget) };
        let mut values: Option<Values> = None;
        let mut naive: HashMap<u64, i64> = HashMap::new();
        let (mut hour, mut first) = (0, None);
        for (n, (step, value)) in steps.into_iter().enumerate() {
            hour += step;
            let first = *first.get_or_insert(hour);
            let seen = observed(hour, 0, value, n as u64);
            let (new, _) = values.get_or_insert_with(|| Values::new(seen.time)).take(&seen, &rule);
            let away = naive.insert(value, hour).is_none_or(|last| hour > last + forget as i64 + 1);
            prop_assert_eq!(new, away && hour >= first + learning as i64);
        }
    }

    /// Whatever is written comes back as it was.
    #[test]
    fn states_survive_being_stored(steps in prop::collection::vec((0_i64..90, 0_u64..9), 0..100)) {
        let rule = FirstSeen { fields: Vec::new(), learning: hours(1), forget: hours(48) };
        let spike = Spike { at_least: 2, times: 3.0, learning: hours(1) };
        let (mut values, mut rhythm) = (Values::new(Timestamp(0)), Rhythm::new(Timestamp(0)));
        let mut minute = 0;
        for (step, value) in steps {
            minute += step;
            values.take(&observed(0, minute, value, 7), &rule);
            rhythm.take(observed(0, minute, 0, 0).time, Duration::from_secs(600), &spike);
        }
        let bytes = postcard::to_allocvec(&State::Rhythm(rhythm.clone())).expect("bytes");
        let Ok(State::Rhythm(back)) = postcard::from_bytes(&bytes) else { panic!("no rhythm") };
        prop_assert_eq!(back, rhythm);
        let bytes = postcard::to_allocvec(&State::Values(values.clone())).expect("bytes");
        let Ok(State::Values(back)) = postcard::from_bytes(&bytes) else { panic!("no values") };
        prop_assert_eq!(back, values);
    }

    /// A steady number by the hour, however it varies over the day, grows by a tenth a day and is spread within the hour,
    /// is never a spike; ten times as much is one in every hour, once the days are known.
    #[test]
    fn what_happens_every_day_is_no_spike_and_ten_times_as_much_is(
        by_hour in prop::collection::vec(0_u32..40, 24),
        growth in 0.0..0.1_f64,
        spread in 1_i64..8,
        at in 0_usize..24,
    ) {
        let spike = Spike { at_least: 10, times: 3.0, learning: hours(72) };
        let timespan = Duration::from_secs(600);
        let mut rhythm = Rhythm::new(Timestamp(0));
        let minute = |hour: i64, number: i64| Timestamp(hour * HOUR + number * 60_000_000);
        let most = |many: u32| u64::from(many);
        for day in 0..14_i64 {
            for (hour, many) in by_hour.iter().enumerate() {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
                let many = (f64::from(*many) * (1.0 + growth).powi(day as i32)) as u32;
                for n in 0..many {
                    let time = minute(day * 24 + hour as i64, i64::from(n) % spread);
                    let bound = rhythm.take(time, timespan, &spike);
                    prop_assert!(bound > most(many), "day {day}, hour {hour}: {many} of {bound}");
                }
            }
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        let usual = (0..24).map(|d| by_hour[d]).max().map_or(0, |many| (f64::from(many) * (1.0 + growth).powi(14)) as u64);
        let bound = rhythm.take(minute(14 * 24 + at as i64, 0), timespan, &spike);
        prop_assert!(bound <= (usual * 10).max(10), "{bound} where {usual} are the most of a day");
    }
}

#[test]
fn a_flood_of_values_or_groups_is_bounded() {
    let rule = FirstSeen { fields: Vec::new(), learning: Duration::ZERO, forget: hours(1_000) };
    let mut values = Values::new(Timestamp(0));
    for value in 0..5_000 {
        values.take(&observed(0, 0, value, value), &rule);
    }
    assert!(postcard::to_allocvec(&values).expect("bytes").len() < 25_000);
    let mut of_rule = OfRule::default();
    let mut evicted = 0;
    for key in 0..500 {
        let seen = Observed { key, ..observed(0, i64::try_from(key).expect("small"), 0, 0) };
        let lasts = Lasts { kept: hours(100), learning: hours(24) };
        of_rule.add(&seen, lasts, 100, &mut evicted, || State::Values(Values::new(seen.time)));
    }
    assert!(of_rule.keys.len() <= 100 && of_rule.order.len() == of_rule.keys.len());
    assert!(evicted > 0 && of_rule.dirty.len() == 400, "what was let go is forgotten by the store too");
}

#[test]
fn a_long_silence_is_a_new_beginning() {
    let spike = Spike { at_least: 2, times: 3.0, learning: hours(24) };
    let mut rhythm = Rhythm::new(Timestamp(0));
    for hour in 0..100 {
        rhythm.take(Timestamp(hour * HOUR), Duration::from_secs(60), &spike);
    }
    assert_eq!(rhythm.take(Timestamp(100 * HOUR), Duration::from_secs(60), &spike), 3);
    assert_eq!(rhythm.take(Timestamp(10_000 * HOUR), Duration::from_secs(60), &spike), u64::MAX);
}

#[test]
fn a_flood_of_groups_pushes_out_itself() {
    let (max_keys, mut evicted) = (100, 0);
    let lasts = Lasts { kept: hours(1_000), learning: hours(24) };
    let mut of_rule = OfRule::default();
    let mut add = |key, hour, minute| {
        let seen = Observed { key, ..observed(hour, minute, 0, 0) };
        of_rule.add(&seen, lasts, max_keys, &mut evicted, || State::Values(Values::new(seen.time)));
        of_rule.keys.len()
    };
    // Forty that are known and then quiet, forty that are learned, and ten times as many as there may be that are neither.
    for key in 0..40 {
        add(key, 0, 0);
        add(key, 30, 0);
    }
    for key in 40..80 {
        add(key, 100, 0);
        add(key, 102, 0);
    }
    for key in 0..1_000 {
        assert!(add(1_000 + key, 110, i64::try_from(key / 20).expect("small")) <= max_keys);
    }
    assert!((0..80).all(|key| of_rule.keys.contains_key(&key)), "of the flood alone twenty are there");
    assert_eq!((of_rule.keys.len(), of_rule.order.len(), evicted), (100, 100, 980));
    // What comes back again and again takes the place of what is still learned, and at last of what is known.
    let mut add = |key, hour| {
        let seen = Observed { key, ..observed(hour, 0, 0, 0) };
        of_rule.add(&seen, lasts, max_keys, &mut evicted, || State::Values(Values::new(seen.time)));
    };
    for hour in [111, 113, 115] {
        (2_000..2_050).for_each(|key| add(key, hour));
    }
    assert!((0..40).all(|key| of_rule.keys.contains_key(&key)));
}
