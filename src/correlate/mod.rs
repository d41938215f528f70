//! Windows and episodes: from matches to alerts, in event time.
//!
//! Every consumer (a rule by itself, or a correlation) keeps one `key::Key` per cluster and group. A key runs the same
//! small state machine over its matches in the order of their times: idle with a sliding window, until the condition
//! holds; then open, until a gap longer than the timespan. Matches within `lateness` may come in any order: what has been
//! decided past that bound is frozen, the rest is run again when one comes late. So the episodes depend on the matches,
//! not on the order of their arrival.

use std::time::Duration;

mod baseline;
mod correlator;
mod key;
mod recent;
mod reuse;
mod seen;
mod summary;
mod tally;
mod timeline;
mod window;

pub use baseline::Baseline;
pub use correlator::relay::{Episode, Share, share_of_alert, shares_of_episode, shares_of_match};
pub use correlator::{Change, Correlator, Limits, Stats};
pub use summary::sentence;

pub use crate::engine::{Fields, Match, Packed, Rest, Shown};

/// How far ahead of the wall clock an event may push event time.
pub const SKEW_MAX: Duration = Duration::from_secs(300);

/// How long matches of a single-event rule join the same alert, unless configured.
pub const REPEAT_AFTER: Duration = Duration::from_secs(300);
