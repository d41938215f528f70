//! The journal of matches: batches become rows, rows become batches again.
//!
//! Matches of one batch to the same rule, cluster and `fields` share a row: a script that reads a thousand secrets
//! in one batch must not cost a thousand rows. The row keeps the first match whole, and of the others how they differ
//! from it. Nothing is lost: which of them an alert shows is only decided later, and it must be shown as it was.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::writer::Writing;
use super::{FilePosition, JournalBatch, StoreError};
use crate::clock::Timestamp;
use crate::correlate::{Fields, Match, Packed, Rest};

/// One journal row, ready to be written.
pub(super) struct Row {
    rule: Arc<str>,
    cluster: Arc<str>,
    event_time: Timestamp,
    matches: usize,
    payload: String,
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only the keys of records are made of it"))]
    fields: Box<RawValue>,
}

#[cfg(feature = "kafka")]
impl Row {
    pub(super) fn rule(&self) -> &Arc<str> {
        &self.rule
    }

    pub(super) fn cluster(&self) -> &Arc<str> {
        &self.cluster
    }

    /// The values that its matches are grouped by, as JSON.
    pub(super) fn fields(&self) -> &str {
        self.fields.get()
    }

    /// Its matches, as JSON.
    pub(super) fn payload(&self) -> &str {
        &self.payload
    }
}

/// The JSON of a row. `event` and `matched` are what is shown of its first match.
#[derive(Serialize, Deserialize)]
struct Payload<'a> {
    source: Arc<str>,
    #[serde(borrow)]
    fields: &'a RawValue,
    #[serde(borrow)]
    event: &'a RawValue,
    #[serde(borrow)]
    matched: &'a RawValue,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    said: Option<&'a RawValue>,
    #[serde(borrow)]
    matches: Vec<Entry<'a>>,
}

/// What tells one match of a row from the others.
#[derive(Serialize, Deserialize)]
struct Entry<'a> {
    /// Index in the batch.
    n: usize,
    /// Microseconds, so that any time comes back as it went in.
    time: i64,
    delivery: u64,
    request: u64,
    /// What to change in the first match's event: members to set, and `null` for those to leave out.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    event: Map<String, Value>,
    /// Absent where they are the first match's.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    matched: Option<&'a RawValue>,
    /// The same: a rule says something of all its matches, or of none.
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    said: Option<&'a RawValue>,
}

impl<'a> Entry<'a> {
    fn new(n: usize, found: &'a Match, first: &First<'_>) -> Result<Self, StoreError> {
        let event = found.shown.event_json();
        let event = if event == first.event { Map::new() } else { difference(&first.members, members(event)?) };
        let (rest, first) = (found.shown.rest_json(), &first.rest);
        let differs = |one: &&RawValue, other: Option<&RawValue>| other.is_none_or(|other| one.get() != other.get());
        Ok(Self {
            n,
            time: found.time.0,
            delivery: found.delivery,
            request: found.request,
            event,
            matched: Some(rest.matched).filter(|matched| differs(matched, Some(first.matched))),
            said: rest.said.filter(|said| differs(said, first.said)),
        })
    }
}

/// What is shown of a row's first match.
struct First<'a> {
    event: &'a Arc<str>,
    /// Those of the event, where there are others to compare.
    members: Map<String, Value>,
    rest: Rest<'a>,
}

/// The members of an event.
fn members(event: &str) -> Result<Map<String, Value>, StoreError> {
    serde_json::from_str(event)
        .map_err(|error| StoreError::Database(format!("an event of the journal cannot be read: {error}")))
}

/// What turns `first` into `other`.
fn difference(first: &Map<String, Value>, mut other: Map<String, Value>) -> Map<String, Value> {
    let gone: Vec<String> = first.keys().filter(|&name| !other.contains_key(name)).cloned().collect();
    other.retain(|name, value| first.get(name) != Some(value));
    other.extend(gone.into_iter().map(|name| (name, Value::Null)));
    other
}

/// The event that differs so from `first`, as JSON.
fn changed(first: &Map<String, Value>, difference: &Map<String, Value>) -> Result<Arc<str>, StoreError> {
    let mut members: BTreeMap<&String, &Value> = first.iter().chain(difference).collect();
    members.retain(|_, value| !value.is_null());
    Ok(serde_json::to_string(&members).map_err(unwritable)?.into())
}

/// Groups a batch's matches into rows, in the order of their first matches.
pub(super) fn rows(matches: &[Match]) -> Result<Vec<Row>, StoreError> {
    let mut groups: Vec<(Box<RawValue>, Vec<usize>)> = Vec::new();
    let mut places: HashMap<(&str, &str, String), usize> = HashMap::new();
    for (n, found) in matches.iter().enumerate() {
        let fields = serde_json::value::to_raw_value(&*found.fields).map_err(unwritable)?;
        let place = *places.entry((&found.rule, &found.cluster, fields.get().to_owned())).or_insert(groups.len());
        match groups.get_mut(place) {
            Some((_, members)) => members.push(n),
            None => groups.push((fields, vec![n])),
        }
    }
    groups.iter().map(|(fields, members)| row(matches, fields, members)).collect()
}

fn row(matches: &[Match], fields: &RawValue, places: &[usize]) -> Result<Row, StoreError> {
    let first = &matches[places[0]];
    let event = first.shown.event_json();
    let members = if places.len() > 1 { members(event)? } else { Map::new() };
    let shown = First { event, members, rest: first.shown.rest_json() };
    let entries = places.iter().map(|&n| Entry::new(n, &matches[n], &shown));
    let payload = Payload {
        source: Arc::clone(&first.source),
        fields,
        event: serde_json::from_str(event).map_err(unwritable)?,
        matched: shown.rest.matched,
        said: shown.rest.said,
        matches: entries.collect::<Result<_, _>>()?,
    };
    Ok(Row {
        rule: Arc::clone(&first.rule),
        cluster: Arc::clone(&first.cluster),
        event_time: first.time,
        matches: places.len(),
        payload: serde_json::to_string(&payload).map_err(unwritable)?,
        fields: fields.to_owned(),
    })
}

#[expect(clippy::needless_pass_by_value, reason = "the shape `map_err` wants")]
fn unwritable(error: serde_json::Error) -> StoreError {
    StoreError::Database(format!("a match cannot be written as JSON: {error}"))
}

/// Writes a batch and the position of the file it came from.
pub(super) fn append(
    writing: &mut Writing<'_>,
    rows: &[Row],
    position: Option<&FilePosition>,
) -> Result<(), StoreError> {
    let marks = &mut writing.marks;
    if !rows.is_empty() {
        // Sequence numbers are given here, not by the database, so that none at or below the cursor is ever used.
        marks.batch += 1;
        let mut insert = writing.transaction.prepare_cached(
            "INSERT INTO journal (seq, batch, received, rule, cluster, event_time, matches, payload)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for row in rows {
            marks.last += 1;
            insert.execute(params![
                marks.last,
                marks.batch,
                writing.now.0,
                &*row.rule,
                &*row.cluster,
                row.event_time.0,
                i64::try_from(row.matches).unwrap_or(i64::MAX),
                row.payload
            ])?;
        }
    }
    if let Some(position) = position {
        let mut upsert = writing.transaction.prepare_cached(
            "INSERT INTO file_positions (path, identity, position) VALUES (?1, ?2, ?3)
             ON CONFLICT (path) DO UPDATE SET identity = excluded.identity, position = excluded.position",
        )?;
        let offset = i64::try_from(position.offset).unwrap_or(i64::MAX); // No file is that long.
        upsert.execute(params![position.path, position.identity, offset])?;
    }
    Ok(())
}

/// Writes what a batch would, and takes it back; something stays to be written, so that the disk is asked too.
pub(super) fn probe(writing: &Writing<'_>) -> Result<(), StoreError> {
    writing.transaction.execute_batch(
        "SAVEPOINT probe;
         INSERT INTO journal (batch, received, rule, cluster, event_time, matches, payload)
         VALUES (0, 0, '', '', 0, 0, '');
         ROLLBACK TO probe;
         RELEASE probe;
         UPDATE meta SET value = value WHERE key = 'cursor';",
    )?;
    Ok(())
}

/// Batches whose last row is after `seq`, oldest first, at most `limit`, each one whole.
pub(super) fn after(connection: &Connection, seq: i64, limit: usize) -> Result<Vec<JournalBatch>, StoreError> {
    if limit == 0 {
        return Ok(Vec::new());
    }
    let transaction = connection.unchecked_transaction()?; // Both statements must see the same journal.
    let Some(start) = start_of_batch_after(&transaction, seq)? else { return Ok(Vec::new()) };
    let mut select = transaction.prepare_cached(
        "SELECT seq, batch, received, rule, cluster, payload FROM journal WHERE seq >= ?1 ORDER BY seq",
    )?;
    let mut rows = select.query([start])?;
    let mut batches: Vec<Collected> = Vec::new();
    let mut seen = None;
    while let Some(row) = rows.next()? {
        let (seq, number): (i64, i64) = (row.get(0)?, row.get(1)?);
        if seen != Some(number) {
            if batches.len() == limit {
                break;
            }
            seen = Some(number);
            batches.push(Collected { seq, received: Timestamp(row.get(2)?), matches: Vec::new() });
        }
        if let Some(batch) = batches.last_mut() {
            batch.seq = seq;
            let (rule, cluster): (String, String) = (row.get(3)?, row.get(4)?);
            let payload = row.get_ref(5)?.as_str().map_err(rusqlite::Error::from)?;
            unpack(seq, &rule.into(), &cluster.into(), payload, &mut batch.matches)?;
        }
    }
    Ok(batches.into_iter().map(Collected::into_batch).collect())
}

/// The first row of the first batch that ends after `seq`, which may lie before `seq`.
fn start_of_batch_after(connection: &Connection, seq: i64) -> rusqlite::Result<Option<i64>> {
    let mut next = connection.prepare_cached("SELECT seq, batch FROM journal WHERE seq > ?1 ORDER BY seq LIMIT 1")?;
    let found: Option<(i64, i64)> = next.query_row([seq], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((mut start, batch)) = found else { return Ok(None) };
    let mut back = connection.prepare_cached("SELECT seq, batch FROM journal WHERE seq <= ?1 ORDER BY seq DESC")?;
    let mut rows = back.query([seq])?;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(1)? != batch {
            break;
        }
        start = row.get(0)?;
    }
    Ok(Some(start))
}

/// A batch while its rows are read.
struct Collected {
    seq: i64,
    received: Timestamp,
    matches: Vec<(usize, Match)>,
}

impl Collected {
    fn into_batch(mut self) -> JournalBatch {
        self.matches.sort_by_key(|(n, _)| *n);
        let matches = self.matches.into_iter().map(|(_, found)| found).collect();
        JournalBatch { seq: self.seq, received: self.received, matches }
    }
}

/// The matches of a row, each with its index in the batch.
pub(super) fn unpack(
    seq: i64,
    rule: &Arc<str>,
    cluster: &Arc<str>,
    payload: &str,
    into: &mut Vec<(usize, Match)>,
) -> Result<(), StoreError> {
    let unreadable = |error| StoreError::Database(format!("journal row {seq} cannot be read: {error}"));
    let Payload { source, fields, event, matched, said, matches } =
        serde_json::from_str(payload).map_err(unreadable)?;
    let carried: Arc<Fields> = Arc::new(serde_json::from_str(fields.get()).map_err(unreadable)?);
    let first: Arc<str> = event.get().into();
    let first_event = if matches.len() > 1 { members(&first)? } else { Map::new() };
    for entry in matches {
        let event = if entry.event.is_empty() { Arc::clone(&first) } else { changed(&first_event, &entry.event)? };
        let rest = Rest { matched: entry.matched.unwrap_or(matched), said: entry.said.or(said), fields };
        let found = Match {
            rule: Arc::clone(rule),
            cluster: Arc::clone(cluster),
            source: Arc::clone(&source),
            time: Timestamp(entry.time),
            delivery: entry.delivery,
            request: entry.request,
            audit_id: audit_id(&event).map_err(unreadable)?,
            fields: Arc::clone(&carried),
            shown: Packed::from_json(event, rest),
        };
        into.push((entry.n, found));
    }
    Ok(())
}

/// The Audit-ID of an event.
fn audit_id(event: &str) -> Result<Arc<str>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "auditID")]
        audit_id: Arc<str>,
    }
    serde_json::from_str(event).map(|Named { audit_id }| audit_id)
}

/// When the newest row was received.
pub(super) fn newest(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let mut select = connection.prepare_cached("SELECT received FROM journal ORDER BY seq DESC LIMIT 1")?;
    Ok(select.query_row([], |row| row.get(0)).optional()?.map(Timestamp))
}

/// The cursor.
pub(super) fn cursor(connection: &Connection) -> rusqlite::Result<i64> {
    let mut select = connection.prepare_cached("SELECT value FROM meta WHERE key = 'cursor'")?;
    select.query_row([], |row| row.get(0))
}

/// The highest sequence number ever given.
pub(super) fn last(connection: &Connection) -> rusqlite::Result<i64> {
    let mut select = connection.prepare_cached("SELECT seq FROM sqlite_sequence WHERE name = 'journal'")?;
    Ok(select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// The number of the newest batch that is kept.
pub(super) fn last_batch(connection: &Connection) -> rusqlite::Result<i64> {
    let mut select = connection.prepare_cached("SELECT batch FROM journal ORDER BY seq DESC LIMIT 1")?;
    Ok(select.query_row([], |row| row.get(0)).optional()?.unwrap_or(0))
}

/// Batches beyond the cursor: they are numbered without gaps, so none has to be counted.
pub(super) fn backlog(connection: &Connection) -> Result<u64, StoreError> {
    let transaction = connection.unchecked_transaction()?;
    let cursor = cursor(&transaction)?;
    let mut next = transaction.prepare_cached("SELECT batch FROM journal WHERE seq > ?1 ORDER BY seq LIMIT 1")?;
    let first: Option<i64> = next.query_row([cursor], |row| row.get(0)).optional()?;
    let waiting = match first {
        Some(first) => last_batch(&transaction)? - first + 1,
        None => 0,
    };
    Ok(u64::try_from(waiting).unwrap_or(0))
}

/// Where a followed file had been read up to.
pub(super) fn file_position(connection: &Connection, path: &str) -> Result<Option<FilePosition>, StoreError> {
    let mut select = connection.prepare_cached("SELECT identity, position FROM file_positions WHERE path = ?1")?;
    let found = select.query_row([path], |row| {
        let offset: i64 = row.get(1)?;
        Ok(FilePosition { path: path.to_owned(), identity: row.get(0)?, offset: u64::try_from(offset).unwrap_or(0) })
    });
    Ok(found.optional()?)
}
