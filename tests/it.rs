//! Integration tests: one binary, so that the library is linked once.

#[path = "it/cli.rs"]
mod cli;
#[path = "it/deploy.rs"]
mod deploy;
#[path = "it/docs.rs"]
mod docs;
#[path = "it/rules.rs"]
mod rules;
#[path = "it/semantics.rs"]
mod semantics;
