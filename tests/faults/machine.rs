//! What else the machine did meanwhile: a figure that other work has spoiled should say so.

/// Clock ticks of all processors so far, from `/proc`.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ticks {
    /// Of everything, idleness too.
    all: u64,
    /// Taken by other processes, by the system for them, and by other machines on the same hardware.
    others: u64,
}

impl Ticks {
    /// So far. Work of this process and of the one that it watches is not others'.
    pub(crate) fn now(watched: u32) -> Self {
        let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        // user, nice, system, idle, iowait, irq, softirq, steal. Interrupts are mostly those of the load itself.
        let fields: Vec<u64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .map(|field| field.parse().unwrap_or(0))
            .collect();
        let at = |n: usize| fields.get(n).copied().unwrap_or(0);
        let own = spent("self") + spent(&watched.to_string());
        Self { all: fields.iter().take(8).sum(), others: (at(0) + at(1) + at(2) + at(7)).saturating_sub(own) }
    }

    /// The share of the machine that others took since `before`, in per cent.
    pub(crate) fn others_since(self, before: Self) -> f64 {
        100.0 * self.others.saturating_sub(before.others) as f64 / self.all.saturating_sub(before.all).max(1) as f64
    }
}

/// Ticks that a process has taken for itself and in the system.
fn spent(process: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may hold anything.
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(2).map(|field| field.parse().unwrap_or(0)).sum()
}
