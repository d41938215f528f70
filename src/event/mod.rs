//! Audit events as bytes: framing a body into events, and projecting an event onto the paths that rules read.

mod cluster;
pub mod compress;
mod cut;
pub mod frame;
mod google;
pub mod members;
mod packed;
pub mod path;
pub mod project;
mod pruned;
mod scalars;
mod skip;
mod value;

pub use cluster::{CLUSTER_NAME_MAX, cluster_name};
pub use frame::{Frame, FrameError, Framed, frame};
pub use path::FieldPath;
pub use project::{Projection, Scratch, Slot, Val};
pub use pruned::pruned;
pub use scalars::any_scalar;
pub use value::{label, value};
