//! Detection: a compiled, immutable rule set, and the scratch of the worker that asks it.

mod compile;
mod credentials;
mod detect;
mod evidence;
mod excerpt;
mod harmless;
mod index;
mod json;
mod predicate;
mod redact;
mod rejections;
mod shown;
mod simplify;
mod substrings;

pub use compile::{Consumer, RuleSet};
pub use detect::{Detected, Detector, Match, Seen};
pub use json::listed;
pub use redact::{REDACTED, show};
pub use rejections::{Rejected, Rejections};
pub use shown::{Fields, Packed, Rest, Shown};
