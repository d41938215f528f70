//! What is usual, as correlations learn it: one row per rule and group.

use rusqlite::{Connection, params};

use super::StoreError;
use super::writer::Writing;
use crate::clock::Timestamp;
use crate::correlate::Baseline;

/// Writes what has changed; part of the transaction that moves the cursor past the matches that changed it.
pub(super) fn write(writing: &Writing<'_>, changed: &[Baseline]) -> rusqlite::Result<()> {
    if changed.is_empty() {
        return Ok(());
    }
    let mut upsert = writing.transaction.prepare_cached(
        "INSERT INTO baselines (rule, key, shape, seen, written, state) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (rule, key) DO UPDATE SET
           shape = excluded.shape, seen = excluded.seen, written = excluded.written, state = excluded.state",
    )?;
    let mut delete = writing.transaction.prepare_cached("DELETE FROM baselines WHERE rule = ?1 AND key = ?2")?;
    for Baseline { rule, key, shape, seen, state } in changed {
        let (key, shape) = (key.cast_signed(), shape.cast_signed());
        match state {
            Some(state) => upsert.execute(params![rule, key, shape, seen.0, writing.now.0, state])?,
            None => delete.execute(params![rule, key])?,
        };
    }
    Ok(())
}

/// All of them.
pub(super) fn all(connection: &Connection) -> Result<Vec<Baseline>, StoreError> {
    let mut select = connection.prepare_cached("SELECT rule, key, shape, seen, state FROM baselines")?;
    let rows = select.query_map([], |row| {
        let (key, shape): (i64, i64) = (row.get(1)?, row.get(2)?);
        let (rule, seen, state) = (row.get(0)?, Timestamp(row.get(3)?), Some(row.get(4)?));
        Ok(Baseline { rule, key: key.cast_unsigned(), shape: shape.cast_unsigned(), seen, state })
    })?;
    Ok(rows.collect::<Result<Vec<Baseline>, rusqlite::Error>>()?)
}
