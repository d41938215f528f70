//! When to try again, and how often at all: backoff, breaker and bucket. Nothing here reads a clock.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::clock::Timestamp;
use crate::sink::Rate;

/// No retry comes sooner.
pub const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// No retry comes later, unless the other side asks for it.
pub const BACKOFF_MAX: Duration = Duration::from_secs(300);
/// What the other side may ask for at most.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);

/// Buckets that may be taken ahead.
const DEBT_MAX: u32 = 10;

/// How long to wait after the `failures`-th failure in a row: anything from [`BACKOFF_MIN`] to twice as much each time,
/// up to [`BACKOFF_MAX`], as `jitter` (0 to 1) says. Full jitter, so that many senders do not come back together.
#[must_use]
pub fn backoff(failures: u32, jitter: f64) -> Duration {
    let top = BACKOFF_MIN.saturating_mul(1_u32 << failures.clamp(1, 16)).min(BACKOFF_MAX);
    BACKOFF_MIN + (top - BACKOFF_MIN).mul_f64(jitter.clamp(0.0, 1.0))
}

/// What `Retry-After` asks for, within bounds, or the backoff.
#[must_use]
pub fn wait(after: Option<Duration>, failures: u32, jitter: f64) -> Duration {
    after.map_or_else(|| backoff(failures, jitter), |after| after.clamp(BACKOFF_MIN, RETRY_AFTER_MAX))
}

/// A number from 0 to 1, another one each time.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "52 bits of chance are plenty")]
pub fn jitter() -> f64 {
    // The standard library seeds its hashers from the system's randomness and counts on.
    let bits = RandomState::new().hash_one(0_u8) >> 12;
    bits as f64 / (1_u64 << 52) as f64
}

/// Guards a destination: after a failure nothing is sent for a while, then one message is the probe, and only when it
/// is taken do the others follow.
#[derive(Clone, Copy, Debug)]
pub struct Breaker {
    failures: u32,
    open_until: Timestamp,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 0, open_until: Timestamp::MIN }
    }
}

impl Breaker {
    /// How much longer nothing is sent. More than anybody may ask for means that the clock was set back.
    #[must_use]
    pub fn open_for(&self, now: Timestamp) -> Option<Duration> {
        let left = self.open_until.since(now);
        (!left.is_zero() && left <= RETRY_AFTER_MAX).then_some(left)
    }

    /// Failures in a row.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The destination took, or judged, a message: it is there. Returns how often it had failed.
    pub fn close(&mut self) -> u32 {
        std::mem::take(self).failures
    }

    /// The destination failed.
    pub fn fail(&mut self, after: Option<Duration>, now: Timestamp, jitter: f64) {
        self.failures = self.failures.saturating_add(1);
        self.open_until = now.plus(wait(after, self.failures, jitter));
    }
}

/// A token bucket, full at the start.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    rate: Option<Rate>,
    /// When the bucket will be full: the only state that is needed.
    full_at: Timestamp,
}

impl Bucket {
    /// A full one; without a rate it never empties.
    #[must_use]
    pub fn new(rate: Option<Rate>) -> Self {
        Self { rate, full_at: Timestamp::MIN }
    }

    /// Messages that may be sent now.
    #[must_use]
    pub fn tokens(&self, now: Timestamp) -> usize {
        let Some(rate) = self.rate else { return usize::MAX };
        let wait = self.full_at.since(now);
        if wait > rate.every.saturating_mul(rate.burst).saturating_mul(DEBT_MAX) {
            return rate.burst as usize; // Nobody takes so many ahead: the clock was set back.
        }
        let missing = wait.as_micros().div_ceil(rate.every.as_micros().max(1));
        (rate.burst as usize).saturating_sub(usize::try_from(missing).unwrap_or(usize::MAX))
    }

    /// One was sent. May be more than there were: then the next ones wait longer.
    pub fn take(&mut self, now: Timestamp) {
        if let Some(rate) = self.rate {
            let full = self.tokens(now) >= rate.burst as usize;
            self.full_at = if full { now } else { self.full_at.max(now) }.plus(rate.every);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_five_minutes_with_full_jitter() {
        let tops: Vec<_> = (1..=12).map(|n| backoff(n, 1.0).as_secs()).collect();
        assert_eq!(tops, [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300]);
        assert!((1..=40).all(|n| backoff(n, 0.0) == BACKOFF_MIN));
        assert_eq!(backoff(u32::MAX, 1.0), BACKOFF_MAX);
    }

    #[test]
    fn retry_after_goes_before_backoff_within_bounds() {
        assert_eq!(wait(Some(30 * SECOND), 9, 1.0), 30 * SECOND);
        assert_eq!(wait(Some(Duration::ZERO), 9, 1.0), BACKOFF_MIN);
        assert_eq!(wait(Some(1_000_000 * SECOND), 1, 1.0), RETRY_AFTER_MAX);
    }

    #[test]
    fn jitter_is_between_zero_and_one_and_varies() {
        let some: Vec<f64> = (0..100).map(|_| jitter()).collect();
        assert!(some.iter().all(|n| (0.0..1.0).contains(n)));
        assert!(some.iter().any(|n| *n < 0.4) && some.iter().any(|n| *n > 0.6));
    }

    #[test]
    fn a_bad_destination_is_probed_and_not_hammered() {
        let mut breaker = Breaker::default();
        let (mut now, mut probes) = (Timestamp(0), 0);
        let end = now.plus(3_600 * SECOND);
        while now < end {
            if breaker.open_for(now).is_none() {
                probes += 1;
                breaker.fail(None, now, 0.5);
            }
            now = now.plus(SECOND);
        }
        assert!((20..40).contains(&probes), "{probes} probes in an hour");
        assert_eq!(breaker.close(), probes);
        assert!(breaker.open_for(now).is_none() && breaker.failures() == 0);
    }

    #[test]
    fn a_clock_that_is_set_back_blocks_nothing() {
        let (now, earlier) = (Timestamp(2_000_000_000_000_000), Timestamp(1_000_000_000_000_000));
        let mut breaker = Breaker::default();
        breaker.fail(None, now, 1.0);
        assert!(breaker.open_for(now).is_some());
        assert_eq!(breaker.open_for(earlier), None);
        let mut bucket = Bucket::new(Some(Rate { every: SECOND, burst: 3 }));
        (0..3).for_each(|_| bucket.take(now));
        assert_eq!((bucket.tokens(now), bucket.tokens(earlier)), (0, 3));
        bucket.take(earlier);
        assert_eq!(bucket.tokens(earlier), 2);
    }

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let mut bucket = Bucket::new(Some(Rate { every: SECOND, burst: 3 }));
        let now = Timestamp(1_000_000_000);
        for left in (0..3).rev() {
            bucket.take(now);
            assert_eq!(bucket.tokens(now), left);
        }
        assert_eq!(bucket.tokens(now.plus(SECOND - Duration::from_micros(1))), 0);
        assert_eq!(bucket.tokens(now.plus(SECOND)), 1);
        assert_eq!(bucket.tokens(now.plus(60 * SECOND)), 3);
        assert_eq!(Bucket::new(None).tokens(now), usize::MAX);
    }
}
