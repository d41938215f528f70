//! The detections that come with the binary: `detections/`, as `build.rs` finds them.

include!(concat!(env!("OUT_DIR"), "/builtin.rs"));
