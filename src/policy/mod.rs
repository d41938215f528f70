//! Audit policies: what kube-apiserver must log so that rules can be true, which rules a policy blinds, and what it costs.
//!
//! `needs` tells from a rule's expression of which requests it can be true and which fields that takes; `known` is how it
//! asks. `evaluate` is the judge: what kube-apiserver logs of a request.

pub mod api;
pub mod check;
pub mod estimate;
pub mod evaluate;
pub mod generate;
pub mod known;
pub mod model;
pub mod needs;
mod noise;
mod probe;
pub mod render;

pub use model::Policy;
