//! Pruning by age and number, in steps: the writer must be free for the next batch soon.

use std::time::Duration;

use rusqlite::{OptionalExtension, params};

use super::writer::Writing;
use super::{Pruned, StoreError, triage};
use crate::alert::CANARY;
use crate::clock::Timestamp;

/// Baselines that nothing was added to for so long are those of rules or groups that are gone.
const BASELINES_KEPT: Duration = Duration::from_secs(180 * 24 * 3_600);

/// How long an alert of the daemon's own canary is kept once it is over.
const CANARIES_KEPT: Duration = Duration::from_secs(3_600);

/// How long a silence stays on record once it is over.
const SILENCES_KEPT: Duration = Duration::from_secs(180 * 24 * 3_600);

/// Rows of a kind that one transaction removes.
const STEP_ROWS: i64 = 2_000;

impl Pruned {
    pub(super) fn is_nothing(self) -> bool {
        self == Self::default()
    }

    pub(super) fn add(&mut self, other: Self) {
        self.journal_rows += other.journal_rows;
        self.alerts += other.alerts;
        self.dead_letters += other.dead_letters;
        self.baselines += other.baselines;
    }
}

/// Removes some of what may go; nothing when all of it has gone.
pub(super) fn step(writing: &Writing<'_>, now: Timestamp, journal_keep_from: Timestamp) -> Result<Pruned, StoreError> {
    triage::prune(writing, now.minus(SILENCES_KEPT), STEP_ROWS)?; // There are few, so that one step is enough.
    Ok(Pruned {
        journal_rows: journal(writing, journal_keep_from)?,
        alerts: canaries(writing, now.minus(CANARIES_KEPT))? + alerts(writing, now.minus(writing.limits.alerts_keep))?,
        dead_letters: dead_letters(writing, now.minus(writing.limits.dead_keep))?,
        baselines: baselines(writing, now.minus(BASELINES_KEPT))?,
    })
}

/// Whole batches only: what shares a batch shares `received`, so a step ends where that changes.
fn journal(writing: &Writing<'_>, keep_from: Timestamp) -> rusqlite::Result<u64> {
    let mut nth = writing.transaction.prepare_cached(
        "SELECT received FROM journal WHERE received < ?1 AND seq <= ?2 ORDER BY received LIMIT 1 OFFSET ?3",
    )?;
    let cursor = writing.marks.cursor;
    let end: Option<i64> = nth.query_row(params![keep_from.0, cursor, STEP_ROWS], |row| row.get(0)).optional()?;
    let mut delete = writing.transaction.prepare_cached("DELETE FROM journal WHERE received < ?1 AND seq <= ?2")?;
    let mut removed = match end {
        Some(end) => delete.execute([end, cursor])?,
        None => delete.execute([keep_from.0, cursor])?,
    };
    if let (Some(end), 0) = (end, removed) {
        // Everything oldest came at the same microsecond.
        removed = delete.execute([end + 1, cursor])?;
    }
    Ok(removed as u64)
}

/// Resolved alerts that nobody waits for: the ones too old, then the oldest of those too many.
fn alerts(writing: &Writing<'_>, changed_before: Timestamp) -> rusqlite::Result<u64> {
    let mut delete = writing.transaction.prepare_cached(
        "DELETE FROM alerts WHERE id IN (
           SELECT id FROM alerts WHERE status = 'resolved' AND changed < ?1 AND NOT EXISTS (
             SELECT 1 FROM deliveries WHERE alert_id = alerts.id AND state = 'pending')
           ORDER BY changed LIMIT ?2)",
    )?;
    let removed = delete.execute([changed_before.0, STEP_ROWS])?;
    let mut count = writing.transaction.prepare_cached("SELECT count(*) FROM alerts")?;
    let kept: i64 = count.query_row([], |row| row.get(0))?;
    let too_many = kept.saturating_sub(i64::try_from(writing.limits.alerts_max).unwrap_or(i64::MAX));
    let more = if too_many > 0 { delete.execute([i64::MAX, too_many.min(STEP_ROWS)])? } else { 0 };
    Ok((removed + more) as u64)
}

/// The daemon's own alerts go soon: over months they would push out those of people.
fn canaries(writing: &Writing<'_>, changed_before: Timestamp) -> rusqlite::Result<u64> {
    let mut delete = writing.transaction.prepare_cached(
        "DELETE FROM alerts WHERE id IN (
           SELECT id FROM alerts WHERE rule = ?1 AND status = 'resolved' AND changed < ?2 AND NOT EXISTS (
             SELECT 1 FROM deliveries WHERE alert_id = alerts.id AND state = 'pending')
           LIMIT ?3)",
    )?;
    Ok(delete.execute(params![CANARY, changed_before.0, STEP_ROWS])? as u64)
}

fn baselines(writing: &Writing<'_>, written_before: Timestamp) -> rusqlite::Result<u64> {
    let mut delete = writing.transaction.prepare_cached(
        "DELETE FROM baselines WHERE (rule, key) IN (SELECT rule, key FROM baselines WHERE written < ?1 LIMIT ?2)",
    )?;
    Ok(delete.execute([written_before.0, STEP_ROWS])? as u64)
}

fn dead_letters(writing: &Writing<'_>, died_before: Timestamp) -> rusqlite::Result<u64> {
    let mut delete = writing.transaction.prepare_cached(
        "DELETE FROM deliveries WHERE seq IN (
           SELECT seq FROM deliveries WHERE state = 'dead' AND settled < ?1 LIMIT ?2)",
    )?;
    Ok(delete.execute([died_before.0, STEP_ROWS])? as u64)
}
