//! Kills the daemon under full load, again and again, and counts what was lost: `docs/reliability.md`.
//!
//! `cargo run --release --example faults -- --kills 500 --seed 1`; with `--latency 500` instead, how long so many
//! alerts take to three sinks while a fourth one is dead; with `--load 10`, what 10 minutes at 80 % of what the machine
//! can take do, and half a minute at three times of it; with `--users 1000000`, what a flood of so many groups takes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "a harness, not the product"
)]

#[path = "../benches/corpus/mod.rs"]
mod corpus;
#[path = "../tests/fake/mod.rs"]
mod fake;
#[path = "../tests/faults/mod.rs"]
mod faults;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use faults::flood;
use faults::latency::{Fourth, measure};
use faults::pressure::{LIST, Load, Pressure};

/// Longer than a turn to be read, so that bodies pile up in the daemon.
const PAUSE: Duration = Duration::from_secs(2);

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
    if let Some(users) = number("--users") {
        let flood::Flood { seconds, memory, told } = runtime.block_on(flood::measure(&program, users));
        println!("{users} users in {seconds:.0} s, {memory:.0} MiB at most; told of: {told:?}");
        return ExitCode::from(u8::from(told != ["slow"]));
    }
    if let Some(minutes) = number("--load") {
        return runtime.block_on(load(&program, minutes));
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

/// Load, then overload of two kinds, then the count. `minutes` of 0 is a smoke run.
async fn load(program: &Path, minutes: u64) -> ExitCode {
    let smoke = minutes == 0;
    let lines = corpus::synthetic(20_000);
    let mib = lines.len() as f64 / (20_000.0 / LIST as f64) / 1024.0 / 1024.0;
    let pressure = Arc::new(Pressure::start(program, &lines).await);
    let seconds = |long| Duration::from_secs(if smoke { 2 } else { long });
    let ceiling = pressure.ceiling(seconds(120)).await;
    println!("ceiling: {ceiling:.0} lists of {LIST} events ({mib:.2} MiB) a second");
    pressure.rest().await;
    let steady = Load { a_second: ceiling * 0.8, plant_every: 100, pause: Duration::ZERO };
    println!("at 80 % of it:");
    let steady = pressure.stretch(steady, seconds(minutes * 60)).await;
    println!("{steady}");
    let over = Load { a_second: ceiling * 3.0, plant_every: 1, pause: Duration::ZERO };
    println!("at three times of it:");
    let over_time = Duration::from_secs(if smoke { 5 } else { 30 });
    let (fast, slow) = (pressure.stretch(over, over_time).await, Load { pause: PAUSE, ..over });
    println!("{fast}");
    println!("at three times of it, from senders that pause for {PAUSE:?} in mid-body:");
    let slow = pressure.stretch(slow, over_time).await;
    println!("{slow}");
    let (missing, leaked, twice) = pressure.judge().await;
    println!("{missing} acknowledged without their alert, {leaked} refused with one, {twice} with two");
    let errors = pressure.errors();
    println!("{} errors in the log", errors.len());
    errors.iter().take(20).for_each(|error| println!("{error}"));
    let broken = missing + leaked + twice + errors.len();
    ExitCode::from(u8::from(
        broken > 0 || fast.refused_badly + slow.refused_badly > 0 || (!smoke && steady.refused > 0),
    ))
}
