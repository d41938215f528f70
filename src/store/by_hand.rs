//! The outbox by hand: what a person may look at and change from another process, whether the daemon runs or not.
//!
//! It is done on the database, not over the admin listener: it works with a daemon that is down, and whoever may do it
//! is whoever may open the file. SQLite lets two processes write in turn; every transaction here is short, so that the
//! daemon never waits long for its own, and it looks at what is due once a second anyway.

use std::collections::BTreeMap;
use std::path::Path;

use rusqlite::types::Value as Sql;
use rusqlite::{Connection, Transaction, TransactionBehavior, params, params_from_iter};

use super::{Kind, Limits, StoreError, outbox, schema};
use crate::alert::Alert;
use crate::clock::Timestamp;

/// Deliveries that one transaction changes: the daemon waits for it.
const STEP_ROWS: usize = 500;

/// What a delivery that is not sent is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It is to be sent, now or later.
    Waiting,
    /// It was given up.
    Dead,
}

impl State {
    /// As people call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Dead => "dead",
        }
    }

    fn stored(self) -> &'static str {
        match self {
            Self::Waiting => "pending",
            Self::Dead => "dead",
        }
    }
}

/// Which deliveries are meant. Everything that is set must hold; an empty list says nothing.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Those of these sinks.
    pub sinks: Vec<String>,
    /// Those of alerts with these ids.
    pub ids: Vec<String>,
    /// Those in this state.
    pub state: Option<State>,
}

/// A delivery that was not sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Unsent {
    /// Identifies the delivery.
    pub seq: i64,
    /// Where to.
    pub sink: String,
    /// Waiting or dead.
    pub state: State,
    /// Why the sink should be told.
    pub kind: Kind,
    /// The alert as it is now.
    pub alert: Alert,
    /// Attempts that failed.
    pub attempts: u32,
    /// Of the last failure.
    pub reason: Option<String>,
    /// When it was queued, wall clock.
    pub queued: Timestamp,
    /// Of one that waits, not before this time, wall clock.
    pub not_before: Option<Timestamp>,
    /// Of a dead one, when it was given up, wall clock.
    pub died: Option<Timestamp>,
}

/// What [`ByHand::retry`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Retried {
    /// Deliveries that wait again.
    pub back: u64,
    /// Deliveries that stay dead, because too many wait for their sink already.
    pub no_room: u64,
}

/// The outbox of a state directory.
pub struct ByHand {
    connection: Connection,
    limits: Limits,
}

impl ByHand {
    /// Opens the database in `dir`, which must be there and of this version.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, Limits::default())
    }

    /// Like [`ByHand::open`], with limits of one's own.
    pub fn open_with(dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        Ok(Self { connection: schema::open_beside(&dir.join(schema::FILE))?, limits })
    }

    /// What is selected, oldest first, at most `limit`, and how many there are.
    pub fn list(&self, selection: &Selection, limit: usize) -> Result<(Vec<Unsent>, u64), StoreError> {
        let transaction = self.connection.unchecked_transaction()?; // Both statements must see the same outbox.
        let (condition, values) = condition(selection);
        let count: i64 = transaction.query_row(
            &format!("SELECT count(*) FROM deliveries d WHERE {condition}"),
            params_from_iter(values.clone()),
            |row| row.get(0),
        )?;
        let mut select = transaction.prepare(&format!(
            "SELECT d.seq, d.sink, d.state, d.kind, a.body, d.attempts, d.reason, d.queued, d.not_before, d.settled
             FROM deliveries d JOIN alerts a ON a.id = d.alert_id WHERE {condition} ORDER BY d.seq LIMIT {limit}"
        ))?;
        let mut rows = select.query(params_from_iter(values))?;
        let mut unsent = Vec::new();
        while let Some(row) = rows.next()? {
            unsent.push(read(row)?);
        }
        Ok((unsent, u64::try_from(count).unwrap_or(0)))
    }

    /// Puts dead deliveries back, as if they had never been tried, at `now`. Where the alert has ended by now, its end is
    /// put behind its beginning: no sink shall be left with an alert that fires for ever.
    pub fn retry(&mut self, selection: &Selection, now: Timestamp) -> Result<Retried, StoreError> {
        let bound = self.limits.outbox_max_per_sink;
        let mut retried = Retried::default();
        self.each(selection, State::Dead, |transaction, rows| {
            let mut room: BTreeMap<&str, u64> = BTreeMap::new();
            for row in rows {
                if !room.contains_key(row.sink.as_str()) {
                    room.insert(&row.sink, bound.saturating_sub(outbox::waiting(transaction, &row.sink)?));
                }
                match room.get_mut(row.sink.as_str()) {
                    Some(left) if *left > 0 => *left -= 1,
                    _ => {
                        retried.no_room += 1;
                        continue;
                    }
                }
                revive(transaction, row, now)?;
                retried.back += 1;
            }
            Ok(())
        })?;
        Ok(retried)
    }

    /// Forgets deliveries: their sinks will not hear of them, and with the beginning of an alert goes whatever else waits
    /// to be told of it. The alerts themselves are kept. What is being sent at this moment is sent all the same. Says how
    /// many of the selected there were.
    pub fn drop(&mut self, selection: &Selection) -> Result<u64, StoreError> {
        let mut dropped = 0;
        for state in [State::Waiting, State::Dead] {
            if selection.state.is_some_and(|only| only != state) {
                continue;
            }
            self.each(selection, state, |transaction, rows| {
                let mut delete = transaction.prepare_cached("DELETE FROM deliveries WHERE seq = ?1")?;
                let mut followers = transaction
                    .prepare_cached("DELETE FROM deliveries WHERE alert_id = ?1 AND sink = ?2 AND state = 'pending'")?;
                for row in rows {
                    dropped += delete.execute([row.seq])? as u64;
                    if row.firing {
                        dropped += followers.execute([&row.alert_id, &row.sink])? as u64;
                    }
                }
                Ok(())
            })?;
        }
        Ok(dropped)
    }

    /// Hands out the selected deliveries of one state in steps, each in a transaction of its own.
    fn each(
        &mut self,
        selection: &Selection,
        state: State,
        mut change: impl FnMut(&Transaction<'_>, &[Row]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (condition, values) = condition(&Selection { state: Some(state), ..selection.clone() });
        let sql = format!(
            "SELECT d.seq, d.sink, d.alert_id, d.kind = 'firing' FROM deliveries d
             WHERE {condition} AND d.seq > ? ORDER BY d.seq LIMIT {STEP_ROWS}"
        );
        let mut last = 0_i64;
        loop {
            let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let mut select = transaction.prepare_cached(&sql)?;
            let values = values.iter().cloned().chain([Sql::from(last)]);
            let rows = select.query_map(params_from_iter(values), |row| {
                Ok(Row { seq: row.get(0)?, sink: row.get(1)?, alert_id: row.get(2)?, firing: row.get(3)? })
            })?;
            let rows = rows.collect::<Result<Vec<_>, _>>()?;
            drop(select);
            let Some(end) = rows.last().map(|row| row.seq) else { return Ok(()) };
            change(&transaction, &rows)?;
            transaction.commit()?;
            last = end;
        }
    }
}

/// A delivery that is to be changed.
struct Row {
    seq: i64,
    sink: String,
    alert_id: String,
    /// Whether it is the first message of its alert.
    firing: bool,
}

fn revive(transaction: &Transaction<'_>, row: &Row, now: Timestamp) -> Result<(), StoreError> {
    let mut update = transaction.prepare_cached(
        "UPDATE deliveries SET state = 'pending', part = NULL, attempts = 0, not_before = 0, reason = NULL, settled = NULL,
           queued = ?2, wants = (SELECT revision FROM alerts WHERE id = alert_id)
         WHERE seq = ?1",
    )?;
    update.execute(params![row.seq, now.0])?;
    if row.firing {
        let mut end = transaction.prepare_cached(
            "INSERT INTO deliveries (sink, alert_id, kind, state, wants, queued)
             SELECT ?2, id, 'resolved', 'pending', revision, ?3 FROM alerts WHERE id = ?1 AND status = 'resolved'
             ON CONFLICT DO NOTHING",
        )?;
        end.execute(params![row.alert_id, row.sink, now.0])?;
    }
    Ok(())
}

/// The selection in SQL: its text holds no value of the caller's.
fn condition(selection: &Selection) -> (String, Vec<Sql>) {
    let mut sql = match selection.state {
        Some(state) => format!("d.state = '{}'", state.stored()),
        None => "d.state IN ('pending', 'dead')".to_owned(),
    };
    let mut values = Vec::new();
    for (column, wanted) in [("d.sink", &selection.sinks), ("d.alert_id", &selection.ids)] {
        if !wanted.is_empty() {
            sql.push_str(&format!(" AND {column} IN ({})", vec!["?"; wanted.len()].join(", ")));
            values.extend(wanted.iter().cloned().map(Sql::from));
        }
    }
    (sql, values)
}

fn read(row: &rusqlite::Row<'_>) -> Result<Unsent, StoreError> {
    let text = |at| -> Result<&str, StoreError> { Ok(row.get_ref(at)?.as_str().map_err(rusqlite::Error::from)?) };
    let state = if text(2)? == "dead" { State::Dead } else { State::Waiting };
    let not_before: i64 = row.get(8)?;
    Ok(Unsent {
        seq: row.get(0)?,
        sink: row.get(1)?,
        state,
        kind: outbox::kind_of(text(3)?),
        alert: outbox::alert(text(4)?)?,
        attempts: row.get(5)?,
        reason: row.get(6)?,
        queued: Timestamp(row.get(7)?),
        not_before: (state == State::Waiting && not_before > 0).then_some(Timestamp(not_before)),
        died: row.get::<_, Option<i64>>(9)?.filter(|_| state == State::Dead).map(Timestamp),
    })
}
