//! Detection: a compiled, immutable rule set, and the scratch of the worker that asks it.

mod compile;
mod credentials;
mod detect;
mod excerpt;
mod index;
mod predicate;
mod redact;
mod rejections;
mod simplify;

pub use compile::{Consumer, RuleSet};
pub use detect::{Detected, Detector, Match};
pub use redact::{REDACTED, show};
pub use rejections::{Rejected, Rejections};
