//! What a group does but once a week, which its days do not know.
//!
//! Of an hour that had half of what would be a spike by its day's measure, or more, the figures of the last weeks are kept
//! as they were, for this hour of the week. Usual is their median: it is what the week before says (the seasonal naïve forecast: R.
//! Hyndman and G. Athanasopoulos, "Forecasting: Principles and Practice", 5.2), made robust against one outlier by
//! taking the middle of three (J. Tukey, "Exploratory Data Analysis", 1977). So what came twice is known, may be missing
//! once, and what came but once teaches nothing.

use serde::{Deserialize, Serialize};

/// Hours of a week.
const WEEK: i64 = 168;

/// Weeks whose figures are kept.
const KEPT: usize = 3;

/// The hours of the week that are not like their days; at most [`WEEK`].
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Weeks {
    /// In the order of their hours.
    hours: Vec<OfWeek>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct OfWeek {
    hour: u8,
    /// Of the last weeks, oldest first.
    figures: Vec<u32>,
}

impl Weeks {
    /// The number that is usual in an hour (since 1970), if it is more than its days say.
    pub(super) fn usual(&self, hour: i64) -> u32 {
        let found = self.hours.binary_search_by_key(&of_week(hour), |known| known.hour);
        found.map_or(0, |at| self.hours[at].middle())
    }

    /// Learns the figure of an hour, of which `bound` would be a spike by the days' measure. `weeks`: how many whole weeks
    /// the group was known before it.
    pub(super) fn learn(&mut self, hour: i64, figure: u32, bound: u64, weeks: i64) {
        // Half of it, so that what is now a little below the bound and now above it is not forgotten in between.
        let is_much = |figure: u32| u64::from(figure) >= bound.div_ceil(2);
        match self.hours.binary_search_by_key(&of_week(hour), |known| known.hour) {
            Ok(at) => {
                let figures = &mut self.hours[at].figures;
                figures.push(figure);
                if figures.len() > KEPT {
                    figures.remove(0);
                }
                // The days know by themselves what this hour is like.
                if !figures.iter().any(|figure| is_much(*figure)) {
                    self.hours.remove(at);
                }
            }
            Err(at) if is_much(figure) => {
                let before = usize::try_from(weeks).unwrap_or_default().min(KEPT - 1);
                let mut figures = vec![0; before];
                figures.push(figure);
                self.hours.insert(at, OfWeek { hour: of_week(hour), figures });
            }
            Err(_) => {}
        }
    }
}

impl OfWeek {
    /// The median; of two the lower.
    fn middle(&self) -> u32 {
        let mut figures = self.figures.clone();
        figures.sort_unstable();
        figures.get(figures.len().saturating_sub(1) / 2).copied().unwrap_or(0)
    }
}

fn of_week(hour: i64) -> u8 {
    u8::try_from(hour.rem_euclid(WEEK)).unwrap_or_default()
}
