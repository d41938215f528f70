//! How many matches a group usually has, by the hour of the day.
//!
//! Every hour of every day yields one figure: the most matches that fell within one timespan in it. For each of the 24
//! hours of a day two exponentially weighted means go along: of that figure, and of its deviation. This is the seasonal
//! part of the Holt-Winters bands of J. Brutlag, "Aberrant Behavior Detection in Time Series for Network Monitoring"
//! (LISA 2000), without a trend: growth over days moves the means. A figure is cut off at what would have been a spike
//! before it is learned (winsorized), so that a spike does not teach that spikes are usual. What was cut off may be
//! usual for a weekday: [`Weeks`] sees to it. A day of silence, or more, teaches nothing about hours that are known: a
//! group that is away comes back as it was.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::weeks::Weeks;
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
const DEVIATIONS: f64 = 4.0;

/// Hours of silence that are not learned as hours in which nothing happens.
const DAY: i64 = 24;

/// Hours after which what is known is of no use; a longer silence is a beginning.
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
    weeks: Weeks,
}

/// A rhythm as it was kept before there were weeks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Daily {
    first: i64,
    learned: i64,
    hours: Vec<Hour>,
    parts: VecDeque<(i64, u32)>,
}

impl From<Daily> for Rhythm {
    fn from(Daily { first, learned, hours, parts }: Daily) -> Self {
        Self { first, learned, hours, parts, weeks: Weeks::default() }
    }
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
            weeks: Weeks::default(),
        }
    }

    /// When the group was first seen.
    pub(super) fn first(&self) -> Timestamp {
        Timestamp(self.first)
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
        if hour <= self.learned {
            return;
        }
        let silent = self.learned + 1..hour;
        if hour - self.learned > SILENCE_MAX {
            *self = Self::new(Timestamp(hour * HOUR));
            return;
        }
        self.learn(self.learned, self.peak(self.learned, length), spike);
        if hour - self.learned > DAY {
            // Nothing but where nothing is known.
            for hour in silent.take(self.hours.len()) {
                self.hours[of_day(hour)].learn_silence();
            }
        } else {
            silent.for_each(|hour| self.learn(hour, 0, spike));
        }
        self.learned = hour;
        let oldest = (hour * HOUR).div_euclid(length) - PARTS;
        while self.parts.pop_front_if(|(part, _)| *part <= oldest).is_some() {}
    }

    /// Learns the figure of an hour.
    fn learn(&mut self, hour: i64, peak: u32, spike: &Spike) {
        if !self.hours.iter().any(|hour| hour.days > 0) {
            return self.hours[of_day(hour)].learn(peak);
        }
        let bound = spike_above(self.daily(hour), spike);
        self.hours[of_day(hour)].learn(peak.min(u32::try_from(bound).unwrap_or(u32::MAX)));
        let weeks = (hour - self.first.div_euclid(HOUR)) / (7 * DAY);
        self.weeks.learn(hour, peak, bound, weeks);
    }

    /// The most matches within a timespan that ends in an hour.
    fn peak(&self, hour: i64, length: i64) -> u32 {
        let (from, to) = ((hour * HOUR).div_euclid(length), ((hour + 1) * HOUR - 1).div_euclid(length));
        let ends = self.parts.iter().enumerate().filter(|(_, (part, _))| (from..=to).contains(part));
        let sums = ends.map(|(at, (part, _))| {
            let within = self.parts.iter().take(at + 1).rev().take_while(|(other, _)| *other > part - PARTS);
            within.map(|(_, count)| *count).fold(0_u32, u32::saturating_add)
        });
        sums.max().unwrap_or(0)
    }

    /// How many matches within a timespan would be a spike in an hour.
    fn bound(&self, hour: i64, spike: &Spike) -> u64 {
        let of_week = [hour - 1, hour, hour + 1].map(|hour| self.weeks.usual(hour)).into_iter().max().unwrap_or(0);
        spike_above((f64::from(of_week), 0.0), spike).max(spike_above(self.daily(hour), spike))
    }

    /// Mean and mean deviation of what is usual in an hour of the day, the one before and the one after.
    fn daily(&self, hour: i64) -> (f64, f64) {
        let around = [hour - 1, hour, hour + 1].map(|hour| self.hours[of_day(hour)]);
        // Until these hours are known, the busiest ones must do.
        let hours = if around.iter().all(|hour| hour.days > 1) { around.as_slice() } else { &self.hours };
        let highest = |figure: fn(&Hour) -> f32| hours.iter().map(figure).fold(0.0, f32::max);
        (f64::from(highest(|hour| hour.mean)), f64::from(highest(|hour| hour.deviation)))
    }
}

/// How many are a spike where mean and mean deviation are such.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive number of matches")]
fn spike_above((mean, deviation): (f64, f64), spike: &Spike) -> u64 {
    let usual = (mean * spike.times).max(mean + DEVIATIONS * deviation);
    (usual.ceil() as u64).max(spike.at_least)
}

impl Hour {
    #[expect(clippy::cast_precision_loss, reason = "counts of matches")]
    fn learn(&mut self, figure: u32) {
        let figure = figure as f32;
        self.days = self.days.saturating_add(1);
        // The first days count alike.
        let weight = WEIGHT.max(1.0 / f32::from(self.days));
        let apart = (figure - self.mean).abs();
        self.mean += weight * (figure - self.mean);
        if self.days > 1 {
            self.deviation += weight * (apart - self.deviation);
        }
    }

    /// A long silence says of an hour of which nothing is known that it is a quiet one.
    fn learn_silence(&mut self) {
        if self.days < 2 && self.mean == 0.0 {
            self.days += 1;
        }
    }
}

fn of_day(hour: i64) -> usize {
    usize::try_from(hour.rem_euclid(24)).unwrap_or_default()
}

fn part_length(timespan: Duration) -> i64 {
    (i64::try_from(timespan.as_micros()).unwrap_or(i64::MAX) / PARTS).max(PART_MIN)
}
