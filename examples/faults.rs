//! Kills the daemon under full load, again and again, and counts what was lost: `docs/reliability.md`.
//!
//! `cargo run --release --example faults -- --kills 500 --seed 1`; with `--latency 500` instead, how long so many
//! alerts take to three sinks while a fourth one is dead.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "a harness, not the product"
)]

#[path = "../tests/fake/mod.rs"]
mod fake;
#[path = "../tests/faults/mod.rs"]
mod faults;

use std::process::ExitCode;

use faults::latency::{Fourth, measure};

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // The daemon that is killed is this very program: whatever is tested was built with it.
    if matches!(args.first().map(String::as_str), Some("run" | "scan")) {
        return kubesiren::cli::main();
    }
    let number = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        args.get(at + 1).map(|value| value.parse::<u64>().unwrap_or_else(|_| panic!("{name} takes a number")))
    };
    let program = std::env::current_exe().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if let Some(alerts) = number("--latency") {
        for fourth in [Fourth::Alive, Fourth::Broken, Fourth::Gone, Fourth::Hangs, Fourth::Alive] {
            let latency = runtime.block_on(measure(&program, fourth, alerts));
            println!("fourth sink {fourth:?}: median {:.2?}, 99 % {:.2?}", latency.median, latency.most);
        }
        return ExitCode::SUCCESS;
    }
    let (kills, seed) = (number("--kills").unwrap_or(100), number("--seed").unwrap_or(1));
    println!("seed {seed}");
    let progress = |kills: u64, batches| {
        if kills.is_multiple_of(50) {
            eprintln!("{kills} kills, {batches} batches acknowledged");
        }
    };
    let report = runtime.block_on(faults::run(faults::Options { program, kills, seed, progress }));
    println!("{report}");
    report.errors.iter().take(20).for_each(|error| println!("{error}"));
    let broken = report.missing + report.invented + report.duplicates + report.undelivered;
    ExitCode::from(u8::from(broken > 0))
}
