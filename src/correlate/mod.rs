//! Windows and episodes: from matches to alerts, in event time.

pub use crate::engine::Match;
