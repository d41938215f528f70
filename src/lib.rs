//! Kubesiren: from Kubernetes audit events to the people on call.
//!
//! # The data path
//!
//! ```text
//! source      webhook · kafka · file            bytes in; answers when ingest returns
//!   │ batch of bytes + origin (source, cluster)
//! detect      frame → project → index → match   stateless, on the caller's own task, scratch reused
//!   │ matches (few)
//! journal     append-only log of matches        append returns when durable = the acknowledgement
//!   │ in order
//! correlate   windows · episodes                event time; the only mutable state
//!   │ alerts
//! outbox      alert + its deliveries            one transaction with the journal cursor
//!   │
//! notify      route → group → render → send     one worker per sink; retry, rate, resolve
//! ```
//!
//! With a journal in Kafka the two logs are topics that several instances share (`store::kafka`, `pipeline::shared`); nothing
//! else changes.
//!
//! # Layers
//!
//! A module uses modules of lower layers, or of its own folder, only. `tests/layers.rs` reads this table.
//!
//! | layer | modules |
//! |---|---|
//! | 1 | clock, diagnose, hash |
//! | 2 | alert, https, metrics, text, units, yaml |
//! | 3 | event, kafka, token |
//! | 4 | rule |
//! | 5 | engine, policy |
//! | 6 | correlate |
//! | 7 | cases, scan, store |
//! | 8 | sink, pipeline, tune |
//! | 9 | notify, source |
//! | 10 | config |
//! | 11 | admin |
//! | 12 | app |
//! | 13 | cli |
//!
//! # Invariants
//!
//! - There are two logs (journal, outbox) and no other queue.
//! - `Ingest::ingest` returning `Ok` is the only acknowledgement: everything an alert may need is durable by then.
//! - An event that matches nothing costs no write and no lock, and no copy of it is made.
//! - A `RuleSet` never changes; a reload compiles a new one and swaps it whole, or keeps the old one and says why.
//! - Time is an argument: only `clock::now` reads the wall clock.
//! - An alert's id is a pure function of rule, cluster, group and evidence.
//! - `unsafe` stands in `event::skip::avx2` alone, which portable code is the judge of.
//! - Bodies of requests and responses never leave `engine`, but for the values a predicate matched, redacted.

pub mod admin;
pub mod alert;
pub mod app;
pub mod cases;
pub mod cli;
pub mod clock;
pub mod config;
pub mod correlate;
pub mod diagnose;
pub mod engine;
pub mod event;
pub mod hash;
pub mod https;
pub mod kafka;
pub mod metrics;
pub mod notify;
pub mod pipeline;
pub mod policy;
pub mod rule;
pub mod scan;
pub mod sink;
pub mod source;
pub mod store;
pub mod text;
pub mod token;
pub mod tune;
pub mod units;
pub mod yaml;
