//! Two sides of one run, taking turns, so that a machine that is slow for a while is slow for both.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::collections::HashMap;
use std::hint::black_box;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::Child;
use std::time::{Duration, Instant};

/// What one side of a turn takes at least: the kernel may count in ticks of 4 ms.
const TURN_MIN: Duration = Duration::from_millis(250);

/// User CPU of this thread so far, from the kernel's accounting.
pub(crate) fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// CPU, user and system, of the processes that this one started and waited for.
pub(crate) fn children() -> Duration {
    // `cutime` and `cstime` of proc_pid_stat(5), counted from the field after the name.
    ticks("self", 14)
}

/// CPU, user and system, of a process that runs.
pub(crate) fn process(id: u32) -> Duration {
    // `utime` and `stime`.
    ticks(&id.to_string(), 12)
}

/// Two fields of a process in ticks of the kernel's, 10 ms.
fn ticks(process: &str, at: usize) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split_whitespace().collect();
    let ticks: u64 = fields[at].parse::<u64>().unwrap() + fields[at + 1].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// Reads what a daemon logs up to the message `last`: its listeners by their names. Whatever comes later is read and
/// forgotten, as a full pipe would stop it.
pub(crate) fn listeners(child: &mut Child, last: &str) -> HashMap<String, SocketAddr> {
    let mut found = HashMap::new();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    for line in lines.by_ref().map_while(Result::ok) {
        let line: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        let message = line["message"].as_str().unwrap_or_default();
        if let Some(name) = message.strip_suffix(" listens") {
            found.insert(name.to_owned(), line["address"].as_str().unwrap().parse().unwrap());
        }
        if message == last {
            break;
        }
    }
    std::thread::spawn(move || lines.for_each(drop));
    found
}

/// Time since the first call.
pub(crate) fn wall() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// The median of each side, in seconds. With one turn everything is run once, and the figures mean nothing.
pub(crate) fn ratio(
    turns: usize,
    clock: fn() -> Duration,
    ours: &dyn Fn() -> u64,
    theirs: &dyn Fn() -> u64,
) -> (f64, f64) {
    let side = |run: &dyn Fn() -> u64| {
        let (start, mut passes) = (clock(), 0);
        loop {
            black_box(run());
            passes += 1;
            let taken = clock() - start;
            if turns == 1 || taken >= TURN_MIN {
                return taken / passes;
            }
        }
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        a.push(side(ours));
        b.push(side(theirs));
    }
    (median(a), median(b))
}

pub(crate) fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
