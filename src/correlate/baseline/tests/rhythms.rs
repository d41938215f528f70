//! Groups that live through weeks: when they would have fired.

use std::collections::VecDeque;

use super::*;

const DAY: i64 = 24;
const WEEK: i64 = 168;

/// A group, the matches within its timespan, and the hours in which they were a spike.
struct Group {
    rhythm: Rhythm,
    spike: Spike,
    within: VecDeque<i64>,
    fired: Vec<i64>,
    /// Whether the store has it back between any two hours.
    restarts: bool,
}

const MINUTES: i64 = 10;

impl Group {
    fn new(first_hour: i64) -> Self {
        let spike = Spike { at_least: 10, times: 3.0, learning: hours(7 * 24) };
        let rhythm = Rhythm::new(Timestamp(first_hour * HOUR));
        Self { rhythm, spike, within: VecDeque::new(), fired: Vec::new(), restarts: false }
    }

    /// So many matches within eight minutes from a minute of an hour on.
    fn hour(&mut self, hour: i64, minute: i64, many: u32) {
        if self.restarts {
            let rhythm = self.rhythm.clone();
            let bytes = postcard::to_allocvec(&State::Rhythm(rhythm)).expect("bytes");
            let Ok(State::Rhythm(back)) = postcard::from_bytes(&bytes) else { panic!("no rhythm") };
            self.rhythm = back;
        }
        for n in 0..i64::from(many) {
            let time = hour * HOUR + minute * 60_000_000 + n * 8 * 60_000_000 / i64::from(many);
            self.within.push_back(time);
            while self.within.pop_front_if(|first| *first < time - MINUTES * 60_000_000).is_some() {}
            let bound = self.rhythm.take(Timestamp(time), Duration::from_secs(600), &self.spike);
            if self.within.len() as u64 >= bound && self.fired.last() != Some(&hour) {
                self.fired.push(hour);
            }
        }
    }

    /// The same for each hour from one on to another.
    fn live(&mut self, from: i64, to: i64, many: impl Fn(i64) -> u32) {
        (from..to).for_each(|hour| self.hour(hour, 17, many(hour)));
    }
}

/// Few on working days between eight and eighteen.
fn office(hour: i64, many: u32) -> u32 {
    let (day, of_day) = (hour.div_euclid(DAY).rem_euclid(7), hour.rem_euclid(DAY));
    if day < 5 && (8..18).contains(&of_day) { many } else { 0 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// However long it was silent, the usual number is usual, and ten times as much is not.
    #[test]
    fn silence_is_not_learned(
        start in 0_i64..DAY, known in 8_i64..30, silent in 1_i64..27, many in 1_u32..60, all_day in any::<bool>(),
    ) {
        let usual = |hour| if all_day { many } else { office(hour, many) };
        let mut group = Group::new(start);
        group.live(start, start + known * DAY, usual);
        let back = start + (known + silent) * DAY;
        group.live(back, back + 14 * DAY, usual);
        prop_assert_eq!(&group.fired, &[] as &[i64]);
        let spike = (0..).map(|n| back + 14 * DAY + n).find(|hour| usual(*hour) > 0).unwrap_or_default();
        group.hour(spike, 0, (many * 10).max(100));
        prop_assert_eq!(&group.fired, &[spike]);
    }

    /// What runs once a week is told at first, unless it ran in the first week, and not after it has come twice; it may be
    /// missing once. At any other time it is told.
    #[test]
    fn what_comes_once_a_week_is_known_from_the_third_time_on(
        base in 0_u32..30, at in 0_i64..WEEK, begins in 0_i64..5, missing in 4_i64..8, job in 100_u32..1_000,
        apart in 2_i64..(WEEK - 1), restarts in any::<bool>(),
    ) {
        let usual = |hour: i64| office(hour, base);
        let mut group = Group { restarts, ..Group::new(0) };
        let weeks = begins + 10;
        let runs = |hour: i64| {
            let week = hour.div_euclid(WEEK);
            hour.rem_euclid(WEEK) == at && week >= begins && week != begins + missing
        };
        group.live(0, weeks * WEEK, |hour| usual(hour) + if runs(hour) { job } else { 0 });
        let third = (begins + 2) * WEEK + at;
        prop_assert!(group.fired.iter().all(|hour| *hour < third), "{:?} before {third}", group.fired);
        if begins == 0 {
            prop_assert_eq!(&group.fired, &[] as &[i64]);
        }
        let other = weeks * WEEK + (at + apart).rem_euclid(WEEK);
        group.live(weeks * WEEK, other, usual);
        let before = group.fired.len();
        // By day it may be the hour before or after that of the job.
        if (apart.rem_euclid(DAY) - 12).abs() < 11 {
            group.hour(other, 0, (base + 10) * 10);
            prop_assert_eq!(group.fired.len(), before + 1, "{} at another time", (base + 10) * 10);
        }
    }

    /// A single spike does not teach that spikes are usual at its time.
    #[test]
    fn a_spike_teaches_little(many in 1_u32..30, at in 0_i64..WEEK, much in 20_u32..200) {
        let mut group = Group::new(0);
        let spike = 4 * WEEK + at;
        group.live(0, spike, |_| many);
        group.hour(spike, 0, (many * much).max(10));
        group.live(spike + 1, spike + WEEK, |_| many);
        group.hour(spike + WEEK, 0, (many * much).max(10));
        prop_assert_eq!(group.fired, [spike, spike + WEEK]);
    }

    /// Whenever the first match came, nothing is told while it is learned, and nothing after it that was the same.
    #[test]
    fn a_beginning_is_quiet(start in 0_i64..WEEK, minute in 0_i64..60, many in 1_u32..300, factor in 1_u32..40) {
        let mut group = Group::new(start);
        group.hour(start, minute, many);
        group.live(start + 1, start + 6 * DAY, |hour| if hour % 7 == 0 { many * factor } else { many });
        prop_assert_eq!(&group.fired, &[] as &[i64]);
        let mut group = Group::new(start);
        group.hour(start, minute, many);
        group.live(start + 1, start + 30 * DAY, |_| many);
        prop_assert_eq!(&group.fired, &[] as &[i64]);
    }

    /// What grows by some percent a day, or falls, is followed.
    #[test]
    fn slow_growth_is_followed(many in 1.0..50.0_f64, by in -0.1..0.1_f64, days in 10_i64..60) {
        let mut group = Group::new(0);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
        group.live(0, days * DAY, |hour| (many * (1.0 + by).powi((hour / DAY) as i32)).min(2_000.0) as u32);
        prop_assert_eq!(&group.fired, &[] as &[i64]);
    }
}

#[test]
fn a_rhythm_from_before_weeks_were_kept_goes_on() {
    let mut group = Group::new(0);
    group.live(0, 10 * DAY, |_| 20);
    let state = State::Rhythm(group.rhythm.clone());
    let mut bytes = postcard::to_allocvec(&state).expect("bytes");
    // As it was: the kind before, and no weeks at the end.
    bytes[0] = 1;
    assert_eq!(bytes.pop(), Some(0));
    let Ok(back) = postcard::from_bytes::<State>(&bytes) else { panic!("no state") };
    assert!(matches!(back.current(), State::Rhythm(rhythm) if rhythm == group.rhythm));
}

#[test]
fn a_rhythm_is_small_whatever_happens() {
    let mut group = Group::new(0);
    // As irregular as can be.
    group.live(0, 10 * WEEK, |hour| if hour * hour % 13 < 4 { 900 } else { 1 });
    let bytes = postcard::to_allocvec(&State::Rhythm(group.rhythm)).expect("bytes");
    assert!(bytes.len() < 2_500, "{}", bytes.len());
}
