//! The outbox: alerts, and what each sink is still owed of them.
//!
//! Every alert has a revision that grows with each change, and every delivery says which revision it wants told. A
//! sink is always told the newest one, so whatever was sent settles a waiting update of that revision or an older
//! one, and an update that comes in while an older state is on the wire stays.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};

use super::writer::Writing;
use super::{Backlog, Change, DeadLetter, Delivery, Kind, Progress, Settlement, StoreError, alerts, received, triage};
use crate::alert::{Alert, Level, Status};
use crate::clock::Timestamp;

/// Why nothing goes to a sink that is gone.
const RETIRED: &str = "no sink of this name is configured any more";

/// Why an alert was not even queued, or made way for a worse one.
const CROWDED_OUT: &str = "too many deliveries waited for this sink already";

/// How the reason of a delivery begins that waits without having failed.
pub const HELD_BACK: &str = "held back: ";

/// Deliveries, the oldest ones, among which the reason is looked for why a sink takes none.
const LOOKED_AT_MAX: i64 = 1_000;

/// Alerts that one message tells of, at most.
const TOGETHER_MAX: i64 = 100;

/// Dead letters that one call gives back.
const DEAD_LETTERS_MAX: i64 = 1_000;

/// One change, ready to be written.
pub(super) struct Row {
    alert: Alert,
    body: String,
    kind: Kind,
    sinks: Vec<String>,
}

/// What was handed out: the alert and the revision of it that the sink is being told.
#[derive(Clone)]
pub(super) struct Handed {
    pub(super) alert_id: String,
    pub(super) revision: i64,
}

/// One delivery's end or postponement.
pub(super) struct Settled {
    pub(super) seq: i64,
    pub(super) handed: Option<Handed>,
    pub(super) settlement: Settlement,
}

/// Turns changes into rows on the caller's time, not the writer's.
pub(super) fn rows(changes: Vec<Change>) -> Result<Vec<Row>, StoreError> {
    changes.into_iter().map(row).collect()
}

fn row(change: Change) -> Result<Row, StoreError> {
    let Change { mut alert, kind, sinks } = change;
    if kind == Kind::Resolved {
        alert.status = Status::Resolved;
    }
    let body = serde_json::to_string(&alert)
        .map_err(|error| StoreError::Database(format!("alert {} cannot be written as JSON: {error}", alert.id)))?;
    Ok(Row { alert, body, kind, sinks })
}

pub(super) fn kind_of(name: &str) -> Kind {
    match name {
        "firing" => Kind::Firing,
        "resolved" => Kind::Resolved,
        _ => Kind::Update, // The table's check leaves nothing else.
    }
}

/// Reads an alert from its JSON.
pub(super) fn alert(body: &str) -> Result<Alert, StoreError> {
    serde_json::from_str(body).map_err(|error| StoreError::Database(format!("an alert cannot be read: {error}")))
}

/// Writes alerts, their deliveries and the cursor.
pub(super) fn commit(writing: &mut Writing<'_>, cursor: i64, changes: &[Row]) -> Result<(), StoreError> {
    apply(writing, changes)?;
    let marks = &mut writing.marks;
    if cursor > marks.cursor {
        marks.cursor = cursor;
        marks.last = marks.last.max(cursor);
        let mut update = writing.transaction.prepare_cached("UPDATE meta SET value = ?1 WHERE key = 'cursor'")?;
        update.execute([cursor])?;
    }
    Ok(())
}

/// Writes alerts and their deliveries.
pub(super) fn apply(writing: &mut Writing<'_>, changes: &[Row]) -> Result<(), StoreError> {
    let mut waiting = Waiting::default();
    writing.alerts_changed |= !changes.is_empty();
    for change in changes {
        match change.kind {
            Kind::Firing => open(writing, change, &mut waiting)?,
            Kind::Update => grow(writing, change, &mut waiting)?,
            Kind::Resolved => end(writing, change)?,
        }
    }
    Ok(())
}

/// How many deliveries wait for `sink`.
pub(super) fn waiting(connection: &Connection, sink: &str) -> rusqlite::Result<u64> {
    let mut count =
        connection.prepare_cached("SELECT count(*) FROM deliveries WHERE sink = ?1 AND state = 'pending'")?;
    let waiting: i64 = count.query_row([sink], |row| row.get(0))?;
    Ok(u64::try_from(waiting).unwrap_or(0))
}

/// What became of the first message of an alert.
pub(super) fn progress(connection: &Connection, sink: &str, alert_id: &str) -> rusqlite::Result<Progress> {
    let mut state = connection
        .prepare_cached("SELECT state FROM deliveries WHERE alert_id = ?1 AND sink = ?2 AND kind = 'firing'")?;
    let state: Option<String> = state.query_row([alert_id, sink], |row| row.get(0)).optional()?;
    Ok(match state.as_deref() {
        Some("sent") => Progress::Sent,
        Some("pending") => Progress::Waits,
        _ => Progress::GivenUp,
    })
}

/// How many deliveries wait per sink, counted at most once per commit.
#[derive(Default)]
struct Waiting {
    counts: HashMap<String, u64>,
    /// Nothing below this level waits for the sink: each level is found empty once.
    least: HashMap<String, Level>,
}

impl Waiting {
    /// Whether there is room for one more; if so it is counted.
    fn room(&mut self, writing: &Writing<'_>, sink: &str) -> rusqlite::Result<bool> {
        if !self.counts.contains_key(sink) {
            self.counts.insert(sink.to_owned(), waiting(&writing.transaction, sink)?);
        }
        let room = self.counts.get_mut(sink).filter(|waiting| **waiting < writing.limits.outbox_max_per_sink);
        Ok(room.map(|waiting| *waiting += 1).is_some())
    }

    /// Makes room for one of `level` where something of a lower level waits: of the lowest level the newest, which is the
    /// least likely to be on its way already. Says whether there was any.
    fn crowd_out(&mut self, writing: &Writing<'_>, sink: &str, level: Level) -> rusqlite::Result<bool> {
        let least = self.least.get(sink).copied().unwrap_or(Level::Informational);
        for lower in Level::ALL.into_iter().filter(|lower| (least..level).contains(lower)) {
            let mut newest = writing.transaction.prepare_cached(
                "SELECT d.seq, d.alert_id FROM deliveries d JOIN alerts a ON a.id = d.alert_id
                 WHERE d.sink = ?1 AND d.state = 'pending' AND d.kind = 'firing' AND a.level = ?2
                 ORDER BY d.seq DESC LIMIT 1",
            )?;
            let found: Option<(i64, String)> =
                newest.query_row([sink, lower.as_str()], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            self.least.insert(sink.to_owned(), lower);
            let Some((seq, alert_id)) = found else { continue };
            let mut bury = writing
                .transaction
                .prepare_cached("UPDATE deliveries SET state = 'dead', settled = ?2, reason = ?3 WHERE seq = ?1")?;
            bury.execute(params![seq, writing.now.0, CROWDED_OUT])?;
            forget_followers(writing, sink, &alert_id)?;
            return Ok(true);
        }
        Ok(false)
    }
}

/// What a sink does not hear of needs neither news nor an end.
fn forget_followers(writing: &Writing<'_>, sink: &str, alert_id: &str) -> rusqlite::Result<()> {
    let mut delete = writing
        .transaction
        .prepare_cached("DELETE FROM deliveries WHERE alert_id = ?1 AND sink = ?2 AND state = 'pending'")?;
    delete.execute([alert_id, sink])?;
    Ok(())
}

/// A new alert. One that is known comes from a replay: neither it nor its deliveries are written again.
fn open(writing: &mut Writing<'_>, change: &Row, waiting: &mut Waiting) -> Result<(), StoreError> {
    let alert = &change.alert;
    let impersonated = alert.event.impersonated_user.as_ref().and_then(|user| user.username.as_deref());
    let namespace = alert.event.object_ref.as_ref().and_then(|object| object.namespace.as_deref());
    let mut insert = writing.transaction.prepare_cached(
        "INSERT INTO alerts (id, status, level, rule, cluster, time, last_seen, username, acting_as, namespace,
                             verb, object, revision, changed, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, 1, ?13, ?14) ON CONFLICT (id) DO NOTHING",
    )?;
    let new = insert.execute(params![
        alert.id,
        alert.status.as_str(),
        alert.rule.level.as_str(),
        alert.rule.id,
        alert.cluster,
        alert.time.0,
        alert.last_seen.0,
        alert.event.user.username,
        impersonated,
        namespace,
        alert.event.verb,
        alerts::object(alert),
        writing.now.0,
        change.body
    ])?;
    drop(insert);
    if new == 0 {
        return Ok(());
    }
    if let Some(silence) = triage::silencing(writing, alert)? {
        return Ok(triage::mark_silenced(writing, &alert.id, silence)?);
    }
    for sink in &change.sinks {
        if !received::is_ours(writing, sink)? {
            queue(writing, sink, &alert.id, "firing", 1)?;
        } else if !is_known(writing, sink) {
            bury(writing, sink, &alert.id, RETIRED)?;
        } else if waiting.room(writing, sink)? || waiting.crowd_out(writing, sink, alert.rule.level)? {
            queue(writing, sink, &alert.id, "firing", 1)?;
        } else {
            bury(writing, sink, &alert.id, CROWDED_OUT)?;
        }
    }
    Ok(())
}

/// An alert that grew. A resolved one never fires again, whatever a replay says.
fn grow(writing: &mut Writing<'_>, change: &Row, waiting: &mut Waiting) -> Result<(), StoreError> {
    let Some(revision) = rewrite(writing, change)? else {
        // A topic may no longer keep how it began.
        return if writing.from.is_some() { open(writing, change, waiting) } else { Ok(()) };
    };
    let id = &change.alert.id;
    for sink in &change.sinks {
        if !is_known(writing, sink) {
            continue;
        }
        let mut renew = writing.transaction.prepare_cached(
            "UPDATE deliveries SET wants = ?3
             WHERE alert_id = ?1 AND sink = ?2 AND kind = 'update' AND state = 'pending'",
        )?;
        let mut told = writing.transaction.prepare_cached(
            "SELECT 1 FROM deliveries WHERE alert_id = ?1 AND sink = ?2 AND kind = 'firing' AND state != 'dead'",
        )?;
        if renew.execute(params![id, sink, revision])? == 1 || !told.exists(params![id, sink])? {
            continue;
        }
        drop((renew, told));
        // News of an alert the sink knows of: where there is no room, the next change brings it.
        if !received::is_ours(writing, sink)? || waiting.room(writing, sink)? {
            queue(writing, sink, id, "update", revision)?;
        }
    }
    Ok(())
}

/// An alert that ended. Who was told of its beginning, or is about to be, is told of its end: whatever the routes say by
/// now, no sink is left with an alert that fires for ever, and none hears the end of what it never heard of.
fn end(writing: &mut Writing<'_>, change: &Row) -> Result<(), StoreError> {
    let Some(revision) = rewrite(writing, change)? else { return Ok(()) };
    let id = &change.alert.id;
    let mut delete = writing
        .transaction
        .prepare_cached("DELETE FROM deliveries WHERE alert_id = ?1 AND kind = 'update' AND state = 'pending'")?;
    delete.execute([id])?;
    let mut select = writing.transaction.prepare_cached(
        "SELECT sink FROM deliveries AS told WHERE alert_id = ?1 AND kind = 'firing' AND state != 'dead'
           AND NOT EXISTS (
             SELECT 1 FROM deliveries WHERE alert_id = ?1 AND sink = told.sink AND kind = 'resolved')
         ORDER BY seq",
    )?;
    let sinks: Vec<String> = select.query_map([id], |row| row.get(0))?.collect::<Result<_, _>>()?;
    drop((delete, select));
    for sink in sinks {
        if is_known(writing, &sink) {
            queue(writing, &sink, id, "resolved", revision)?;
        }
    }
    Ok(())
}

/// Writes an alert's new state; its revision, or `None` if it is not known or has ended already.
fn rewrite(writing: &Writing<'_>, change: &Row) -> rusqlite::Result<Option<i64>> {
    let alert = &change.alert;
    let mut update = writing.transaction.prepare_cached(
        "UPDATE alerts SET status = ?2, level = ?3, last_seen = ?4, body = ?5, changed = ?6, revision = revision + 1
         WHERE id = ?1 AND (status = 'firing' OR ?2 = 'resolved') RETURNING revision",
    )?;
    let status = alert.status.as_str();
    let level = alert.rule.level.as_str();
    update
        .query_row(params![alert.id, status, level, alert.last_seen.0, change.body, writing.now.0], |row| row.get(0))
        .optional()
}

/// Queues a delivery behind all others; one of the same kind that was settled makes way.
fn queue(writing: &mut Writing<'_>, sink: &str, id: &str, kind: &str, wants: i64) -> rusqlite::Result<()> {
    // What another instance sees to counts as told here, until this one takes over.
    let ours = received::is_ours(writing, sink)?;
    let (state, settled) = if ours { ("pending", None) } else { ("sent", Some(writing.now.0)) };
    let (part, place) = writing.from.as_ref().map(|(part, place)| (part.as_str(), *place)).unzip();
    let mut insert = writing.transaction.prepare_cached(
        "INSERT OR REPLACE INTO deliveries (sink, alert_id, kind, state, wants, queued, settled, part, place)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    insert.execute(params![sink, id, kind, state, wants, writing.now.0, settled, part, place])?;
    drop(insert);
    if ours {
        writing.wake.insert(sink.to_owned());
    }
    Ok(())
}

/// The first message of an alert is given up, for people to see.
fn bury(writing: &Writing<'_>, sink: &str, id: &str, reason: &str) -> rusqlite::Result<()> {
    let mut insert = writing.transaction.prepare_cached(
        "INSERT INTO deliveries (sink, alert_id, kind, state, wants, queued, settled, reason)
         VALUES (?1, ?2, 'firing', 'dead', 1, ?3, ?3, ?4) ON CONFLICT DO NOTHING",
    )?;
    insert.execute(params![sink, id, writing.now.0, reason])?;
    Ok(())
}

/// Whether there is a sink of this name, as far as anybody has said.
fn is_known(writing: &Writing<'_>, sink: &str) -> bool {
    writing.known.as_ref().is_none_or(|known| known.contains(sink))
}

/// Gives up what waits for sinks other than `known`; the number of deliveries.
pub(super) fn retire(writing: &mut Writing<'_>, known: &Arc<BTreeSet<String>>) -> Result<u64, StoreError> {
    writing.known = Some(Arc::clone(known));
    let mut select =
        writing.transaction.prepare_cached("SELECT DISTINCT sink FROM deliveries WHERE state = 'pending'")?;
    let waiting: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut update = writing.transaction.prepare_cached(
        "UPDATE deliveries SET state = 'dead', settled = ?2, reason = ?3 WHERE sink = ?1 AND state = 'pending'",
    )?;
    let mut retired = 0;
    for sink in waiting.iter().filter(|sink| !known.contains(*sink)) {
        retired += update.execute(params![sink, writing.now.0, RETIRED])?;
    }
    Ok(retired as u64)
}

/// Settles deliveries of `sink`; those it does not have, or not any more, are passed over.
pub(super) fn settle(writing: &mut Writing<'_>, sink: &str, settled: &[Settled]) -> Result<(), StoreError> {
    for one in settled {
        let mut select = writing.transaction.prepare_cached(
            "SELECT alert_id, kind, wants FROM deliveries WHERE seq = ?1 AND sink = ?2 AND state = 'pending'",
        )?;
        let found: Option<(String, String, i64)> =
            select.query_row(params![one.seq, sink], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
        drop(select);
        let Some((alert_id, kind, wants)) = found else {
            // Overtaken while it was on the wire, say by the end of the episode: what the sink said of it counts all
            // the same.
            if let (Some(handed), Settlement::Sent { remember: Some(value) }) = (&one.handed, &one.settlement) {
                remember(writing, sink, &handed.alert_id, value)?;
            }
            if matches!(one.settlement, Settlement::Sent { .. }) && is_known(writing, sink) {
                sent_after_all(writing, sink, one.seq)?;
            }
            continue;
        };
        match &one.settlement {
            Settlement::Sent { remember: value } => {
                if let Some(value) = value {
                    remember(writing, sink, &alert_id, value)?;
                }
                let told = one.handed.as_ref().map_or(wants, |handed| handed.revision);
                sent(writing, sink, one.seq, &alert_id, &kind, told)?;
            }
            Settlement::Retry { not_before, reason } => {
                let mut update = writing.transaction.prepare_cached(
                    "UPDATE deliveries SET attempts = attempts + 1, not_before = ?2, reason = ?3 WHERE seq = ?1",
                )?;
                update.execute(params![one.seq, not_before.0, reason])?;
                continue;
            }
            Settlement::Dead { reason } => {
                let mut update = writing.transaction.prepare_cached(
                    "UPDATE deliveries SET state = 'dead', attempts = attempts + 1, settled = ?2, reason = ?3
                     WHERE seq = ?1",
                )?;
                update.execute(params![one.seq, writing.now.0, reason])?;
                if kind == "firing" {
                    forget_followers(writing, sink, &alert_id)?;
                }
            }
        }
        wake_for_more(writing, sink, &alert_id)?;
    }
    Ok(())
}

/// The sink was told of `told`: this delivery is done, and so is a waiting update that wants no more than that.
fn sent(writing: &Writing<'_>, sink: &str, seq: i64, alert_id: &str, kind: &str, told: i64) -> rusqlite::Result<()> {
    if kind == "update" {
        // What is left of it is a new one: its failures were the old one's.
        let mut renew = writing.transaction.prepare_cached(
            "UPDATE deliveries SET attempts = 0, not_before = 0, reason = NULL WHERE seq = ?1 AND wants > ?2",
        )?;
        renew.execute([seq, told])?;
    } else {
        let mut update = writing
            .transaction
            .prepare_cached("UPDATE deliveries SET state = 'sent', settled = ?2, reason = NULL WHERE seq = ?1")?;
        update.execute([seq, writing.now.0])?;
    }
    let mut updates = writing.transaction.prepare_cached(
        "UPDATE deliveries SET state = 'sent', settled = ?4, reason = NULL
         WHERE alert_id = ?1 AND sink = ?2 AND kind = 'update' AND state = 'pending' AND wants <= ?3",
    )?;
    updates.execute(params![alert_id, sink, told, writing.now.0])?;
    Ok(())
}

/// Given up while it was on the wire, and taken all the same: then the sink is told of the end too.
fn sent_after_all(writing: &mut Writing<'_>, sink: &str, seq: i64) -> rusqlite::Result<()> {
    let mut update = writing.transaction.prepare_cached(
        "UPDATE deliveries SET state = 'sent', settled = ?3, reason = NULL
         WHERE seq = ?1 AND sink = ?2 AND state = 'dead' AND kind = 'firing' RETURNING alert_id",
    )?;
    let alert_id: Option<String> = update.query_row(params![seq, sink, writing.now.0], |row| row.get(0)).optional()?;
    drop(update);
    let Some(alert_id) = alert_id else { return Ok(()) };
    let mut ended =
        writing.transaction.prepare_cached("SELECT revision FROM alerts WHERE id = ?1 AND status = 'resolved'")?;
    let revision: Option<i64> = ended.query_row([&alert_id], |row| row.get(0)).optional()?;
    drop(ended);
    match revision {
        Some(revision) => queue(writing, sink, &alert_id, "resolved", revision),
        None => Ok(()),
    }
}

fn remember(writing: &Writing<'_>, sink: &str, alert_id: &str, value: &str) -> rusqlite::Result<()> {
    let mut upsert = writing.transaction.prepare_cached(
        "INSERT OR REPLACE INTO memories (alert_id, sink, value) SELECT id, ?2, ?3 FROM alerts WHERE id = ?1",
    )?;
    upsert.execute([alert_id, sink, value])?;
    Ok(())
}

/// What was held back behind a delivery may go now.
fn wake_for_more(writing: &mut Writing<'_>, sink: &str, alert_id: &str) -> rusqlite::Result<()> {
    let mut more = writing
        .transaction
        .prepare_cached("SELECT 1 FROM deliveries WHERE alert_id = ?1 AND sink = ?2 AND state = 'pending'")?;
    let waits = more.exists([alert_id, sink])?;
    drop(more);
    if waits {
        writing.wake.insert(sink.to_owned());
    }
    Ok(())
}

/// Nothing waits longer for its next attempt; what seems to was put off before the clock was set back, and is due.
const NOT_BEFORE_MAX: Duration = Duration::from_secs(3_600);

/// Deliveries of `sink` that are due at `now`, with what is handed out of each. An alert's first message goes before
/// all its others, and the others wait until it is settled.
pub(super) fn due(
    connection: &Connection,
    sink: &str,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<(Delivery, Handed)>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT d.seq, d.kind, d.attempts, a.body, a.revision, m.value
         FROM deliveries d JOIN alerts a ON a.id = d.alert_id
         LEFT JOIN memories m ON m.alert_id = d.alert_id AND m.sink = d.sink
         WHERE d.sink = ?1 AND d.state = 'pending' AND (d.not_before <= ?2 OR d.not_before > ?4)
           AND (d.kind = 'firing' OR NOT EXISTS (
             SELECT 1 FROM deliveries f
             WHERE f.alert_id = d.alert_id AND f.sink = d.sink AND f.kind = 'firing' AND f.state = 'pending'))
         ORDER BY d.seq LIMIT ?3",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut rows = select.query(params![sink, now.0, limit, now.plus(NOT_BEFORE_MAX).0])?;
    let mut due = Vec::new();
    while let Some(row) = rows.next()? {
        let alert = alert(row.get_ref(3)?.as_str().map_err(rusqlite::Error::from)?)?;
        let handed = Handed { alert_id: alert.id.clone(), revision: row.get(4)? };
        let kind = kind_of(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?);
        let delivery = Delivery { seq: row.get(0)?, kind, alert, attempts: row.get(2)?, remembered: row.get(5)? };
        due.push((delivery, handed));
    }
    Ok(due)
}

/// Alerts whose first message reached `sink` and that fire still, or changed for the last time at `since` or later.
pub(super) fn told(connection: &Connection, sink: &str, since: Timestamp) -> Result<Vec<Alert>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT a.body FROM alerts a CROSS JOIN deliveries d ON d.alert_id = a.id AND d.sink = ?1 AND d.kind = 'firing'
         WHERE d.state = 'sent'
           AND (d.part IS NULL OR EXISTS (SELECT 1 FROM claims c WHERE c.sink = d.sink AND c.part = d.part))
           AND (a.status = 'firing' OR (a.status = 'resolved' AND a.changed >= ?2))
         ORDER BY d.seq",
    )?;
    alerts::collect(select.query(params![sink, since.0])?)
}

/// Alerts of `rule` of which `sink` remembers the same, in the order of their beginnings.
pub(super) fn told_together(
    connection: &Connection,
    sink: &str,
    remembered: &str,
    rule: &str,
) -> Result<Vec<Alert>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT a.body FROM alerts a CROSS JOIN memories m ON m.alert_id = a.id AND m.sink = ?1
         WHERE a.rule = ?2 AND m.value = ?3 ORDER BY a.time, a.id LIMIT ?4",
    )?;
    alerts::collect(select.query(params![sink, rule, remembered, TOGETHER_MAX])?)
}

/// Why `sink` did not take something when it was last tried: of what waits, or else of what was given up.
pub(super) fn refusal(connection: &Connection, sink: &str) -> Result<Option<String>, StoreError> {
    let mut waits = connection.prepare_cached(
        "SELECT reason FROM (
           SELECT reason, not_before FROM deliveries WHERE sink = ?1 AND state = 'pending' ORDER BY seq LIMIT ?2)
         WHERE reason NOT LIKE ?3 || '%' ORDER BY not_before DESC LIMIT 1",
    )?;
    let waits: Option<String> =
        waits.query_row(params![sink, LOOKED_AT_MAX, HELD_BACK], |row| row.get(0)).optional()?;
    if waits.is_some() {
        return Ok(waits);
    }
    let mut dead = connection.prepare_cached(
        "SELECT reason FROM deliveries WHERE sink = ?1 AND state = 'dead' ORDER BY settled DESC, seq DESC LIMIT 1",
    )?;
    Ok(dead.query_row([sink], |row| row.get(0)).optional()?.flatten())
}

/// How much waits for `sink`.
pub(super) fn backlog(connection: &Connection, sink: &str) -> Result<Backlog, StoreError> {
    let mut waiting = connection
        .prepare_cached("SELECT count(*), min(queued) FROM deliveries WHERE sink = ?1 AND state = 'pending'")?;
    let (records, oldest): (i64, Option<i64>) = waiting.query_row([sink], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut dead = connection.prepare_cached("SELECT count(*) FROM deliveries WHERE sink = ?1 AND state = 'dead'")?;
    let dead: i64 = dead.query_row([sink], |row| row.get(0))?;
    let mut crowded = connection
        .prepare_cached("SELECT count(*) FROM deliveries WHERE sink = ?1 AND state = 'dead' AND reason = ?2")?;
    let crowded: i64 = crowded.query_row([sink, CROWDED_OUT], |row| row.get(0))?;
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let (records, dead, crowded_out) = (count(records), count(dead), count(crowded));
    Ok(Backlog { records, oldest: oldest.map(Timestamp), dead, crowded_out })
}

/// What `sink` was never told, newest first.
pub(super) fn dead_letters(connection: &Connection, sink: &str) -> Result<Vec<DeadLetter>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT d.seq, d.kind, a.body, d.attempts, d.reason, d.queued, d.settled
         FROM deliveries d JOIN alerts a ON a.id = d.alert_id
         WHERE d.sink = ?1 AND d.state = 'dead' ORDER BY d.settled DESC, d.seq DESC LIMIT ?2",
    )?;
    let mut rows = select.query(params![sink, DEAD_LETTERS_MAX])?;
    let mut letters = Vec::new();
    while let Some(row) = rows.next()? {
        letters.push(DeadLetter {
            seq: row.get(0)?,
            kind: kind_of(row.get_ref(1)?.as_str().map_err(rusqlite::Error::from)?),
            alert: alert(row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?)?,
            attempts: row.get(3)?,
            reason: row.get::<_, Option<String>>(4)?.unwrap_or_default(),
            queued: Timestamp(row.get(5)?),
            died: Timestamp(row.get(6)?),
        });
    }
    Ok(letters)
}
