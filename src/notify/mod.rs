//! Delivery: routes, grouping, retry, rate; one worker per sink, so that one slow sink delays no other.

pub mod group;
pub mod retry;
pub mod route;
mod watchdog;
pub mod worker;

pub use worker::{send_test, spawn};

#[cfg(test)]
mod failing;
#[cfg(test)]
mod flow;
