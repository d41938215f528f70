//! Points in time, and the one place where the wall clock is read.
//!
//! Everything that decides (windows, episodes, retries) takes the time as an argument, so that tests and
//! replays are deterministic.

use std::borrow::Cow;
use std::fmt;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Microseconds since the Unix epoch, UTC: the resolution of `stageTimestamp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

impl Timestamp {
    /// Before every event.
    pub const MIN: Self = Self(i64::MIN / 4);

    /// Reads an RFC 3339 time such as `2026-11-21T04:15:56.715875Z`; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        parse_canonical(text.as_bytes())
            .or_else(|| text.parse::<jiff::Timestamp>().ok().map(|t| t.as_microsecond()))
            .map(Self)
    }

    /// This time moved by `by`; never wraps.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(micros(by)))
    }

    /// This time moved back by `by`; never wraps.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(micros(by)))
    }

    /// How much later this is than `earlier`, zero if it is not.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        let span = self.0.saturating_sub(earlier.0).max(0);
        Duration::from_micros(u64::try_from(span).unwrap_or(0))
    }

    /// How far apart two times are, whichever is later: also right after the clock was set back.
    #[must_use]
    pub fn apart(self, other: Self) -> Duration {
        self.since(other).max(other.since(self))
    }

    /// Seconds since the epoch, as metrics want it.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a gauge in seconds needs no more than f64 holds")]
    pub fn as_seconds(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}

/// The shape every kube-apiserver writes, read without a general parser: 20 digits at fixed places.
fn parse_canonical(text: &[u8]) -> Option<i64> {
    if text.len() != 27 || text[26] != b'Z' || text[10] != b'T' || text[19] != b'.' {
        return None;
    }
    if text[4] != b'-' || text[7] != b'-' || text[13] != b':' || text[16] != b':' {
        return None;
    }
    let number = |from: usize, to: usize| {
        text[from..to]
            .iter()
            .try_fold(0_i64, |n, &digit| digit.is_ascii_digit().then(|| n * 10 + i64::from(digit - b'0')))
    };
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if !(1..=12).contains(&month) || !(1..=28).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None; // Month ends and leap seconds are left to the general parser.
    }
    let days = days_from_civil(year, month, day);
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + number(20, 26)?)
}

/// Days since 1970-01-01 of a date of the proleptic Gregorian calendar, by counting from 1 March of year 0.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_microsecond(self.0) {
            Ok(time) => write!(f, "{time:.6}"),
            Err(_) => f.write_str("invalid time"),
        }
    }
}

impl JsonSchema for Timestamp {
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

/// The wall clock, now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
pub fn now() -> Timestamp {
    Timestamp(jiff::Timestamp::now().as_microsecond())
}

/// Time that nobody can set: since the first call, without what the machine slept.
#[must_use]
pub fn steady() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_short_way_and_the_general_parser_agree() {
        for text in [
            "2026-11-21T04:15:56.715875Z",
            "1970-01-01T00:00:00.000001Z",
            "2024-02-28T23:59:59.999999Z",
            "2000-03-01T00:00:00.000000Z",
        ] {
            let general = text.parse::<jiff::Timestamp>().expect("a time").as_microsecond();
            assert_eq!(parse_canonical(text.as_bytes()), Some(general), "{text}");
            assert_eq!(Timestamp(general).to_string(), text);
        }
    }

    #[test]
    fn other_shapes_go_to_the_general_parser() {
        assert_eq!(Timestamp::parse("2026-11-21T05:15:56+01:00"), Timestamp::parse("2026-11-21T04:15:56.000000Z"));
        assert_eq!(
            Timestamp::parse("2024-02-29T00:00:00.000000Z").map(|t| t.to_string()).as_deref(),
            Some("2024-02-29T00:00:00.000000Z")
        );
        assert_eq!(Timestamp::parse("yesterday"), None);
    }
}
