//! Two sides of one run, taking turns, so that a machine that is slow for a while is slow for both.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::hint::black_box;
use std::time::{Duration, Instant};

/// What one side of a turn takes at least: the kernel may count in ticks of 4 ms.
const TURN_MIN: Duration = Duration::from_millis(250);

/// User CPU of this thread so far, from the kernel's accounting.
pub(crate) fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split_whitespace().next().unwrap().parse().unwrap())
}

/// CPU, user and system, of the processes that this one started and waited for; in ticks of the kernel's, 10 ms.
pub(crate) fn children() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split_whitespace().collect();
    // `cutime` and `cstime` of proc_pid_stat(5), counted from the field after the name.
    let ticks: u64 = fields[14].parse::<u64>().unwrap() + fields[15].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
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
