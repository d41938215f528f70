//! Detection: a compiled, immutable rule set, and the scratch of the worker that asks it.

mod compile;
mod detect;
mod excerpt;
mod index;
mod predicate;
mod simplify;

pub use compile::{Consumer, RuleSet};
pub use detect::{Detected, Detector, Match, Rejected};
pub use excerpt::{REDACTED, show};
