//! What people do about alerts: they take one on, close it, write a note, or silence what they know.
//!
//! A silence is looked at in the transaction that writes an alert: what it hides is written and shown like any other
//! alert, but nothing is queued for a sink. Who did what stays on record.

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::writer::Writing;
use super::{Conditions, Deed, Handling, NewSilence, Silence, StoreError, alerts};
use crate::alert::{Alert, CANARY};
use crate::clock::Timestamp;

/// Silences that may be in force at once: each is looked at for every new alert.
pub(super) const SILENCES_MAX: i64 = 500;
/// Deeds on record for one alert.
pub(super) const DEEDS_MAX: i64 = 200;
/// Silences that are over and told.
const PAST_SILENCES_MAX: i64 = 200;

/// The tables, in the schema's third version.
pub(super) const MIGRATION: &str = "
ALTER TABLE alerts ADD COLUMN verb TEXT;
ALTER TABLE alerts ADD COLUMN object TEXT; -- resource/name
UPDATE alerts SET verb = json_extract(body, '$.event.verb'),
  object = json_extract(body, '$.event.objectRef.resource') || '/' || json_extract(body, '$.event.objectRef.name');
ALTER TABLE alerts ADD COLUMN handling TEXT CHECK (handling IN ('acknowledged', 'closed')); -- NULL: open
ALTER TABLE alerts ADD COLUMN silence INTEGER; -- the silence that kept it from the sinks
DROP INDEX alerts_time;
CREATE INDEX alerts_time ON alerts ( -- all that is filtered and counted by, so that neither reads bodies
  time, id, level, rule, cluster, username, acting_as, namespace, verb, object, handling, silence);
CREATE INDEX alerts_object ON alerts (object, time, id) WHERE object IS NOT NULL;
CREATE INDEX alerts_silence ON alerts (silence) WHERE silence IS NOT NULL;

CREATE TABLE deeds ( -- what people did about alerts
  seq      INTEGER PRIMARY KEY AUTOINCREMENT,
  alert_id TEXT NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
  at       INTEGER NOT NULL, -- wall clock, microseconds
  who      TEXT NOT NULL,
  handling TEXT,             -- the state from then on: open, acknowledged, closed; NULL: a note alone
  note     TEXT NOT NULL
);
CREATE INDEX deeds_alert ON deeds (alert_id, seq);

CREATE TABLE silences ( -- new alerts for which all that is set holds are kept from the sinks
  id        INTEGER PRIMARY KEY AUTOINCREMENT,
  rule      TEXT,
  cluster   TEXT,
  username  TEXT,             -- who authenticated, or whom they acted as
  namespace TEXT,
  verb      TEXT,
  object    TEXT,             -- resource/name
  reason    TEXT NOT NULL,
  who       TEXT NOT NULL,
  created   INTEGER NOT NULL, -- wall clock, microseconds
  expires   INTEGER NOT NULL, -- wall clock, microseconds
  ended     INTEGER,          -- when somebody ended it early
  ended_by  TEXT
);
CREATE INDEX silences_expires ON silences (expires) WHERE ended IS NULL;
";

/// Writes what somebody did; `false` when there is no such alert, or too much is on record for it.
pub(super) fn deed(writing: &mut Writing<'_>, alert_id: &str, deed: &Deed) -> Result<bool, StoreError> {
    let mut insert = writing.transaction.prepare_cached(
        "INSERT INTO deeds (alert_id, at, who, handling, note)
         SELECT id, ?2, ?3, ?4, ?5 FROM alerts
         WHERE id = ?1 AND (SELECT count(*) FROM deeds WHERE alert_id = ?1) < ?6",
    )?;
    let handling = deed.handling.map(Handling::as_str);
    let written = insert.execute(params![alert_id, deed.at.0, deed.who, handling, deed.note, DEEDS_MAX])?;
    drop(insert);
    if written > 0
        && let Some(handling) = deed.handling
    {
        let mut update = writing.transaction.prepare_cached("UPDATE alerts SET handling = ?2 WHERE id = ?1")?;
        let stored = (handling != Handling::Open).then(|| handling.as_str());
        update.execute(params![alert_id, stored])?;
    }
    writing.alerts_changed |= written > 0;
    Ok(written > 0)
}

/// What was done about an alert, oldest first.
pub(super) fn deeds(connection: &Connection, alert_id: &str) -> Result<Vec<Deed>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT at, who, handling, note FROM deeds WHERE alert_id = ?1 ORDER BY seq")?;
    let rows = select.query_map([alert_id], |row| {
        let handling: Option<String> = row.get(2)?;
        let handling = handling.as_deref().and_then(Handling::of_name);
        Ok(Deed { at: Timestamp(row.get(0)?), who: row.get(1)?, handling, note: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Writes a silence; its id, or `None` when too many are in force.
pub(super) fn silence(writing: &mut Writing<'_>, new: &NewSilence) -> Result<Option<i64>, StoreError> {
    let mut insert = writing.transaction.prepare_cached(
        "INSERT INTO silences (rule, cluster, username, namespace, verb, object, reason, who, created, expires)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
         WHERE (SELECT count(*) FROM silences WHERE ended IS NULL AND expires > ?9) < ?11 RETURNING id",
    )?;
    let Conditions { rule, cluster, user, namespace, verb, object } = &new.conditions;
    let values = params![
        rule,
        cluster,
        user,
        namespace,
        verb,
        object,
        new.reason,
        new.who,
        new.created.0,
        new.expires.0,
        SILENCES_MAX
    ];
    let id = insert.query_row(values, |row| row.get(0)).optional()?;
    writing.alerts_changed |= id.is_some();
    Ok(id)
}

/// Ends a silence before its time; `false` when none of this id is in force.
pub(super) fn end_silence(writing: &mut Writing<'_>, id: i64, who: &str, at: Timestamp) -> Result<bool, StoreError> {
    let mut update = writing.transaction.prepare_cached(
        "UPDATE silences SET ended = ?2, ended_by = ?3 WHERE id = ?1 AND ended IS NULL AND expires > ?2",
    )?;
    let ended = update.execute(params![id, at.0, who])? > 0;
    writing.alerts_changed |= ended;
    Ok(ended)
}

/// Silences in force, those that end first at the top, then those that are over, the newest first.
pub(super) fn silences(connection: &Connection, now: Timestamp) -> Result<Vec<Silence>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT id, rule, cluster, username, namespace, verb, object, reason, who, created, expires, ended, ended_by,
                (SELECT count(*) FROM alerts WHERE silence = silences.id), ended IS NULL AND expires > ?1 AS lasts
         FROM silences ORDER BY lasts DESC, CASE WHEN lasts THEN expires ELSE -coalesce(ended, expires) END, id
         LIMIT ?2",
    )?;
    let rows = select.query_map([now.0, SILENCES_MAX + PAST_SILENCES_MAX], read_silence)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read_silence(row: &Row<'_>) -> rusqlite::Result<Silence> {
    let conditions = Conditions {
        rule: row.get(1)?,
        cluster: row.get(2)?,
        user: row.get(3)?,
        namespace: row.get(4)?,
        verb: row.get(5)?,
        object: row.get(6)?,
    };
    let new = NewSilence {
        conditions,
        reason: row.get(7)?,
        who: row.get(8)?,
        created: Timestamp(row.get(9)?),
        expires: Timestamp(row.get(10)?),
    };
    let ended: Option<i64> = row.get(11)?;
    Ok(Silence {
        id: row.get(0)?,
        silence: new,
        ended: ended.map(Timestamp),
        ended_by: row.get(12)?,
        hidden: u64::try_from(row.get::<_, i64>(13)?).unwrap_or(0),
        lasts: row.get(14)?,
    })
}

/// The silence that keeps a new alert from the sinks. The daemon's own canary is never kept from its sink: it would look
/// as though nothing arrived.
pub(super) fn silencing(writing: &Writing<'_>, alert: &Alert) -> rusqlite::Result<Option<i64>> {
    if alert.rule.id == CANARY {
        return Ok(None);
    }
    let event = &alert.event;
    let acting_as = event.impersonated_user.as_ref().and_then(|user| user.username.as_deref());
    let namespace = event.object_ref.as_ref().and_then(|object| object.namespace.as_deref());
    let mut select = writing.transaction.prepare_cached(
        "SELECT id FROM silences WHERE ended IS NULL AND expires > ?1
           AND (rule IS NULL OR rule = ?2) AND (cluster IS NULL OR cluster = ?3)
           AND (username IS NULL OR username = ?4 OR username = ?5) AND (namespace IS NULL OR namespace = ?6)
           AND (verb IS NULL OR verb = ?7) AND (object IS NULL OR object = ?8)
         ORDER BY expires DESC LIMIT 1",
    )?;
    let values = params![
        writing.now.0,
        alert.rule.id,
        alert.cluster,
        event.user.username,
        acting_as,
        namespace,
        event.verb,
        alerts::object(alert)
    ];
    select.query_row(values, |row| row.get(0)).optional()
}

/// Notes on an alert which silence hides it.
pub(super) fn mark_silenced(writing: &Writing<'_>, alert_id: &str, silence: i64) -> rusqlite::Result<()> {
    let mut update = writing.transaction.prepare_cached("UPDATE alerts SET silence = ?2 WHERE id = ?1")?;
    update.execute(params![alert_id, silence])?;
    Ok(())
}

/// Forgets silences that were over long ago.
pub(super) fn prune(writing: &Writing<'_>, over_before: Timestamp, limit: i64) -> rusqlite::Result<u64> {
    let mut delete = writing.transaction.prepare_cached(
        "DELETE FROM silences WHERE id IN (SELECT id FROM silences WHERE coalesce(ended, expires) < ?1 LIMIT ?2)",
    )?;
    Ok(delete.execute([over_before.0, limit])? as u64)
}

impl Conditions {
    /// The conditions that are set, each with the name it has in the API.
    pub fn set(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let Self { rule, cluster, user, namespace, verb, object } = self;
        let all = [
            ("rule", rule),
            ("cluster", cluster),
            ("user", user),
            ("namespace", namespace),
            ("verb", verb),
            ("object", object),
        ];
        all.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?)))
    }
}
