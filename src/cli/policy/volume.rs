//! What a policy would have written of recorded events.

use std::io::Write;
use std::path::PathBuf;

use crate::cli::{Failure, scan};
use crate::event;
use crate::policy::Policy;
use crate::policy::estimate::{Estimate, Volume};
use crate::scan::each_event;

/// Lines of the policy that are shown, those that write most first.
const LINES_MAX: usize = 8;

/// Applies the policy to every event of the logs; what cannot be read is the failure.
pub(super) fn estimate(policy: &Policy, files: &[PathBuf]) -> Result<Estimate, Failure> {
    let mut estimate = Estimate::default();
    let mut broken = 0;
    let pieces = each_event(scan::inputs(files)?, &mut |bytes| {
        match event::value(bytes) {
            Ok(event) => estimate.take(policy, &event, bytes.len() as u64),
            Err(_) => broken += 1,
        }
        true
    })
    .map_err(|(name, reason)| anyhow::anyhow!("{name}: {reason}"))?;
    estimate.no_events = pieces + broken;
    if estimate.before.events == 0 {
        let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        return Err(anyhow::anyhow!("{}: there is no audit event to estimate with", names.join(", ")).into());
    }
    Ok(estimate)
}

/// A few lines for people.
pub(super) fn table(out: &mut impl Write, estimate: &Estimate) -> Result<(), Failure> {
    let Estimate { before, after, dropped, stages_omitted, lowered, recorded_lower, no_events, by_line } = estimate;
    let row = |out: &mut dyn Write, what: &str, volume: &Volume| {
        writeln!(out, "  {what:<22} {:>9}  {:>10}", volume.events, size(volume.bytes))
    };
    writeln!(out, "ESTIMATE                  EVENTS       BYTES")?;
    row(out, "recorded", before)?;
    row(out, "not logged", dropped)?;
    row(out, "stage omitted", stages_omitted)?;
    row(out, "without their bodies", lowered)?;
    row(out, "written", after)?;
    writeln!(
        out,
        "  {} of the events, {} of the bytes",
        percent(after.events, before.events),
        percent(after.bytes, before.bytes)
    )?;
    let mut lines: Vec<_> = by_line.iter().collect();
    lines.sort_by_key(|(_, volume)| std::cmp::Reverse(volume.bytes));
    for (line, volume) in lines.into_iter().take(LINES_MAX) {
        row(out, &format!("by line {line}"), volume)?;
    }
    if *recorded_lower > 0 {
        writeln!(
            out,
            "  {recorded_lower} events were recorded without bodies that this policy wants: it writes more than is told here"
        )?;
    }
    if *no_events > 0 {
        writeln!(out, "  {no_events} pieces of the recording are no events, and are not counted")?;
    }
    Ok(())
}

fn size(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn percent(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}
