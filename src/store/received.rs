//! What was read of a topic of alerts that several instances share: every one knows all alerts, and each sees to the
//! deliveries of the parts that it has claimed.

use rusqlite::{Connection, OptionalExtension, params};

use super::writer::Writing;
use super::{Reached, Received, StoreError, outbox};

/// The tables, in the schema's fourth version.
pub(super) const MIGRATION: &str = "
-- With a journal in Kafka deliveries come from its topic of alerts, and each instance sees to those of some partitions.
ALTER TABLE deliveries ADD COLUMN part TEXT;     -- TOPIC/PARTITION that it came from
ALTER TABLE deliveries ADD COLUMN place INTEGER; -- its offset there
CREATE INDEX deliveries_part ON deliveries (sink, part, place) WHERE part IS NOT NULL;
CREATE TABLE claims ( -- whose deliveries this instance sees to
  sink TEXT NOT NULL,
  part TEXT NOT NULL,
  PRIMARY KEY (sink, part)
) WITHOUT ROWID;
CREATE TABLE received ( -- how far each partition of alerts has been read
  part    TEXT PRIMARY KEY,
  next    INTEGER NOT NULL, -- the offset that is read next
  matches INTEGER NOT NULL  -- the offset in the topic of matches up to which these had been correlated
) WITHOUT ROWID;
";

/// A piece, ready to be written.
pub(super) struct Piece {
    part: String,
    place: i64,
    reached: Reached,
    rows: Vec<outbox::Row>,
}

/// Turns what was read into rows on the caller's time, not the writer's.
pub(super) fn piece(received: Received) -> Result<Piece, StoreError> {
    let Received { part, place, next, at, changes } = received;
    Ok(Piece { part, place, reached: Reached { next, at }, rows: outbox::rows(changes)? })
}

/// Writes pieces, and how far they lead.
pub(super) fn receive(writing: &mut Writing<'_>, pieces: &[Piece]) -> Result<(), StoreError> {
    for Piece { part, place, reached, rows } in pieces {
        writing.from = Some((part.clone(), *place));
        let applied = outbox::apply(writing, rows);
        writing.from = None;
        applied?;
        let mut upsert = writing.transaction.prepare_cached(
            "INSERT INTO received (part, next, matches) VALUES (?1, ?2, ?3)
             ON CONFLICT (part) DO UPDATE SET next = excluded.next, matches = excluded.matches",
        )?;
        upsert.execute(params![part, reached.next, reached.at])?;
    }
    Ok(())
}

/// Whether this instance sees to what is being written for `sink`.
pub(super) fn is_ours(writing: &Writing<'_>, sink: &str) -> rusqlite::Result<bool> {
    let Some((part, _)) = &writing.from else { return Ok(true) };
    let mut claimed = writing.transaction.prepare_cached("SELECT 1 FROM claims WHERE sink = ?1 AND part = ?2")?;
    claimed.exists([sink, part])
}

/// From `from` on nobody has told the sink for certain.
pub(super) fn claim(writing: &mut Writing<'_>, sink: &str, part: &str, from: i64) -> Result<(), StoreError> {
    let transaction = &writing.transaction;
    transaction.execute("INSERT OR IGNORE INTO claims (sink, part) VALUES (?1, ?2)", [sink, part])?;
    transaction.execute(
        "UPDATE deliveries SET state = 'pending', settled = NULL, attempts = 0, not_before = 0, reason = NULL
         WHERE sink = ?1 AND part = ?2 AND place >= ?3 AND state = 'sent'",
        params![sink, part, from],
    )?;
    writing.wake.insert(sink.to_owned());
    Ok(())
}

/// Whoever claims it next tells what was not told.
pub(super) fn release(writing: &mut Writing<'_>, which: Option<&(String, String)>) -> Result<(), StoreError> {
    let (transaction, now) = (&writing.transaction, writing.now.0);
    match which {
        Some((sink, part)) => {
            transaction.execute("DELETE FROM claims WHERE sink = ?1 AND part = ?2", [sink, part])?;
            transaction.execute(
                "UPDATE deliveries SET state = 'sent', settled = ?3 WHERE sink = ?1 AND part = ?2 AND state = 'pending'",
                params![sink, part, now],
            )?;
        }
        None => {
            transaction.execute("DELETE FROM claims", [])?;
            transaction.execute(
                "UPDATE deliveries SET state = 'sent', settled = ?1 WHERE part IS NOT NULL AND state = 'pending'",
                [now],
            )?;
        }
    }
    Ok(())
}

/// How far a part has been read; from the beginning if it never was.
pub(super) fn reached(connection: &Connection, part: &str) -> Result<Reached, StoreError> {
    let mut select = connection.prepare_cached("SELECT next, matches FROM received WHERE part = ?1")?;
    let found = select.query_row([part], |row| Ok(Reached { next: row.get(0)?, at: row.get(1)? })).optional()?;
    Ok(found.unwrap_or_default())
}

/// The place of the oldest delivery that waits, or else how far the part has been read.
pub(super) fn told_until(connection: &Connection, sink: &str, part: &str) -> Result<i64, StoreError> {
    let _transaction = connection.unchecked_transaction()?; // Both must be of one moment.
    let mut oldest = connection
        .prepare_cached("SELECT min(place) FROM deliveries WHERE sink = ?1 AND part = ?2 AND state = 'pending'")?;
    let waiting: Option<i64> = oldest.query_row([sink, part], |row| row.get(0))?;
    match waiting {
        Some(place) => Ok(place),
        None => Ok(reached(connection, part)?.next),
    }
}
