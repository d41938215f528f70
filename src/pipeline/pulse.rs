//! Whether the pipeline lives: what the watchdog asks before it says that all is well.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Correlation looks at the journal at least once a second; a step that takes longer than this is stuck.
const BEAT_MAX: Duration = Duration::from_secs(60);

/// When each part was last seen to work. Times are those of the steady clock.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Seen>);

#[derive(Debug, Default)]
struct Seen {
    /// The last step of correlation that ended well.
    correlated: Option<Duration>,
    /// Until when each canary's last success counts, by its source; `None` where there is none that counts.
    canaries: BTreeMap<String, Option<Duration>>,
}

impl Pulse {
    /// Correlation has read the journal, and written what came of it.
    pub fn correlated(&self, steady: Duration) {
        self.seen().correlated = Some(steady);
    }

    /// A canary goes through this source: from now on nothing is well before it has arrived.
    pub fn expect_canary(&self, source: &str) {
        self.seen().canaries.entry(source.to_owned()).or_default();
    }

    /// A canary has arrived, which counts until then, or (`None`) it is lost.
    pub fn canary(&self, source: &str, good_until: Option<Duration>) {
        self.seen().canaries.insert(source.to_owned(), good_until);
    }

    /// What does not work, in words for people; `None` while all is well.
    #[must_use]
    pub fn stopped(&self, steady: Duration) -> Option<String> {
        let seen = self.seen();
        match seen.correlated {
            None => return Some("correlation has not begun".to_owned()),
            Some(at) if steady.saturating_sub(at) > BEAT_MAX => return Some("correlation is stuck".to_owned()),
            Some(_) => {}
        }
        let lost = seen.canaries.iter().find(|(_, good_until)| good_until.is_none_or(|until| until < steady));
        lost.map(|(source, _)| format!("no canary arrives through {source}"))
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_well_while_everything_works_and_no_longer() {
        let (pulse, second) = (Pulse::default(), Duration::from_secs);
        let well = |at| pulse.stopped(second(at)).is_none();
        assert!(!well(0), "nothing has been seen yet");
        pulse.correlated(second(10));
        assert!(well(70) && !well(71));
        pulse.expect_canary("webhook");
        assert!(!well(20), "the first canary is still to come");
        pulse.canary("webhook", Some(second(30)));
        assert!(well(30) && !well(31));
        pulse.canary("webhook", None);
        assert_eq!(pulse.stopped(second(20)).as_deref(), Some("no canary arrives through webhook"));
        pulse.canary("webhook", Some(second(40)));
        assert!(well(20), "it is well again");
    }
}
