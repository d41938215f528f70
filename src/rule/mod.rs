//! Rules: from the text that users write to the IR that the engine compiles, with every mistake at its place.

pub mod builtin;
pub mod condition;
pub mod correlation;
pub mod coverage;
pub mod explain;
pub mod falco;
pub mod field;
pub mod filter;
pub mod framework;
pub mod ir;
pub mod lists;
pub mod load;
pub mod make;
pub mod naive;
pub mod number;
pub mod profile;
pub mod reader;
mod select;
pub mod sigma;
pub mod template;
pub mod wanted;

pub use ir::{Correlation, Rule, Rules};
pub use load::{Loaded, Options, load};
pub use profile::Profile;
