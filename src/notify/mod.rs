//! Delivery: routes, grouping, retry, rate; one worker per sink, so that one slow sink delays no other.

pub mod route;
