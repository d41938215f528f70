//! How many matches a group usually has, by the hour of the day.
//!
//! Every hour of every day yields one figure: the most matches that fell within one timespan in it. For each of the 24
//! hours of a day two exponentially weighted means go along: of that figure, and of its deviation. This is the seasonal
//! part of the Holt-Winters bands of J. Brutlag, "Aberrant Behavior Detection in Time Series for Network Monitoring"
//! (LISA 2000), without a trend: growth over days moves the means. A figure is cut off at what would have been a spike
//! before it is learned (winsorized), so that a spike does not teach that spikes are usual.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;
use crate::rule::ir::Spike;

const HOUR: i64 = 3_600_000_000;

/// Parts of a timespan in which matches are counted.
const PARTS: i64 = 4;

/// The shortest part, in microseconds; bounds how many an hour has.
const PART_MIN: i64 = 15_000_000;

/// The weight of a new day; about the last week counts.
const WEIGHT: f32 = 0.25;

/// Mean deviations above the mean that are still usual.
const DEVIATIONS: f32 = 4.0;

/// Hours that are learned one by one; a longer silence is a beginning.
const SILENCE_MAX: i64 = 28 * 24;

/// The rhythm of one group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Rhythm {
    /// When the group was first seen, in microseconds.
    first: i64,
    /// The hour (since 1970) up to which is learned; that one is not.
    learned: i64,
    /// Of the hours of the day.
    hours: Vec<Hour>,
    /// Counts of the parts that are not learned yet: number of the part, and matches; in order.
    parts: VecDeque<(i64, u32)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Hour {
    mean: f32,
    deviation: f32,
    days: u8,
}

impl Rhythm {
    pub(super) fn new(time: Timestamp) -> Self {
        Self {
            first: time.0,
            learned: time.0.div_euclid(HOUR),
            hours: vec![Hour::default(); 24],
            parts: VecDeque::new(),
        }
    }

    /// Counts a match; how many within a timespan would be a spike at its time.
    pub(super) fn take(&mut self, time: Timestamp, timespan: Duration, spike: &Spike) -> u64 {
        let length = part_length(timespan);
        self.first = self.first.min(time.0);
        let hour = time.0.div_euclid(HOUR);
        self.learn_up_to(hour, length, spike);
        let part = time.0.div_euclid(length);
        // What is older than all that is not learned yet is too late to teach anything.
        if hour >= self.learned {
            let at = self.parts.partition_point(|(other, _)| *other < part);
            match self.parts.get_mut(at) {
                Some((other, count)) if *other == part => *count = count.saturating_add(1),
                _ => self.parts.insert(at, (part, 1)),
            }
        }
        if time < Timestamp(self.first).plus(spike.learning) {
            return u64::MAX;
        }
        self.bound(hour, spike)
    }

    /// Learns the hours before this one.
    fn learn_up_to(&mut self, hour: i64, length: i64, spike: &Spike) {
        if hour - self.learned > SILENCE_MAX {
            *self =
                Self { learned: hour, hours: vec![Hour::default(); 24], first: hour * HOUR, parts: VecDeque::new() };
            return;
        }
        while self.learned < hour {
            let peak = self.peak(self.learned, length);
            // The first hour was not seen whole.
            if self.learned > self.first.div_euclid(HOUR) {
                let bound = self.bound(self.learned, spike);
                #[expect(clippy::cast_precision_loss, reason = "a bound is a few times what was counted")]
                let peak = if self.days() > 0 { peak.min(bound as f32) } else { peak };
                self.hours[of_day(self.learned)].learn(peak);
            }
            self.learned += 1;
            let oldest = (self.learned * HOUR).div_euclid(length) - PARTS;
            while self.parts.front().is_some_and(|(part, _)| *part <= oldest) {
                self.parts.pop_front();
            }
        }
    }

    /// The most matches within a timespan that ends in an hour.
    #[expect(clippy::cast_precision_loss, reason = "counts of matches")]
    fn peak(&self, hour: i64, length: i64) -> f32 {
        let (from, to) = ((hour * HOUR).div_euclid(length), ((hour + 1) * HOUR - 1).div_euclid(length));
        let ends = self.parts.iter().enumerate().filter(|(_, (part, _))| (from..=to).contains(part));
        let sums = ends.map(|(at, (part, _))| {
            let within = self.parts.iter().take(at + 1).rev().take_while(|(other, _)| *other > part - PARTS);
            within.map(|(_, count)| *count).fold(0_u32, u32::saturating_add)
        });
        sums.max().unwrap_or(0) as f32
    }

    /// Days that were seen of the hour that is known best.
    fn days(&self) -> u8 {
        self.hours.iter().map(|hour| hour.days).max().unwrap_or(0)
    }

    /// How many matches would be a spike in an hour: from what is usual in it, the one before and the one after.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of matches")]
    fn bound(&self, hour: i64, spike: &Spike) -> u64 {
        let around = [hour - 1, hour, hour + 1].map(|hour| self.hours[of_day(hour)]);
        // Until these hours are known, the busiest ones must do.
        let hours = if around.iter().all(|hour| hour.days > 1) { around.as_slice() } else { &self.hours };
        let highest = |figure: fn(&Hour) -> f32| hours.iter().map(figure).fold(0.0, f32::max);
        let (mean, deviation) = (highest(|hour| hour.mean), highest(|hour| hour.deviation));
        let times = f64::from(mean) * spike.times;
        let usual = f64::from(mean + DEVIATIONS * deviation);
        (times.max(usual).ceil() as u64).max(spike.at_least)
    }
}

impl Hour {
    fn learn(&mut self, figure: f32) {
        self.days = self.days.saturating_add(1);
        // The first days count alike.
        let weight = WEIGHT.max(1.0 / f32::from(self.days));
        let apart = (figure - self.mean).abs();
        self.mean += weight * (figure - self.mean);
        if self.days > 1 {
            self.deviation += weight * (apart - self.deviation);
        }
    }
}

fn of_day(hour: i64) -> usize {
    usize::try_from(hour.rem_euclid(24)).unwrap_or_default()
}

fn part_length(timespan: Duration) -> i64 {
    (i64::try_from(timespan.as_micros()).unwrap_or(i64::MAX) / PARTS).max(PART_MIN)
}
