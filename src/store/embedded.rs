//! The embedded store: SQLite in WAL mode, one writer thread with group commit.
//!
//! `state.db` can be opened with the `sqlite3` shell at any time; `.schema` explains the tables. What a call returned
//! `Ok` for is on disk (`synchronous=FULL`); a crash loses only what nobody was told of. On a full disk appends
//! answer [`StoreError::Full`] until there is room again; what lowers the load goes on in the room held back for it.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::timeout as within;

use super::outbox::{Handed, Settled};
use super::readers::Readers;
use super::writer::{Outcome, Work, Writer};
use super::{
    AlertQuery, Append, Arrived, Backlog, Commit, DeadLetter, Deed, Delivery, Figures, FilePosition, JournalBatch,
    Limits, Listed, NewSilence, Progress, Pruned, Reached, Received, Related, Settlement, Silence, StoreError, alerts,
    baselines, figures, journal, outbox, received, schema, triage,
};
use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::correlate::Baseline;

/// People's questions that are answered at once; each may walk over all alerts, and further ones wait.
const LOOKS_MAX: usize = 2;

/// A handle to the embedded store; cheap to clone. Dropping the last one waits for what was handed to the writer.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    readers: Arc<Readers>,
    /// For those who look at alerts: they leave readers to the daemon's own work.
    looks: Arc<Semaphore>,
    writer: Writer,
    /// Deliveries on the wire by their `seq`. Only memory: after a restart nothing is on the wire.
    handed: Mutex<HashMap<i64, Handed>>,
    /// What went wrong the last time it was tried, and how.
    trouble: Mutex<BTreeMap<Part, String>>,
    /// How often deliveries were given to others.
    released: AtomicU64,
}

/// What may go wrong while the daemon runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Append,
    Read,
    Commit,
    Settle,
}

impl Part {
    /// What it means.
    fn words(self) -> &'static str {
        match self {
            Self::Append => "batches are refused",
            Self::Read => "matches wait to be correlated",
            Self::Commit => "alerts wait to be written",
            Self::Settle => "alerts may be sent twice",
        }
    }
}

impl Inner {
    fn handed(&self) -> MutexGuard<'_, HashMap<i64, Handed>> {
        self.handed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trouble(&self) -> MutexGuard<'_, BTreeMap<Part, String>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers how it went.
    fn went<T>(&self, part: Part, result: Result<T, StoreError>) -> Result<T, StoreError> {
        match &result {
            Ok(_) => {
                self.trouble().remove(&part);
            }
            Err(error @ (StoreError::Database(_) | StoreError::Damaged(_))) => {
                self.trouble().insert(part, error.to_string());
            }
            // No room is told by itself, and a closed store is not asked again.
            Err(StoreError::Full(_) | StoreError::Closed) => {}
        }
        result
    }
}

impl Store {
    /// Opens or creates `state.db` in `dir`, with the default [`Limits`].
    ///
    /// Fails if another daemon uses the directory, and if the file is damaged ([`StoreError::Damaged`]), another
    /// program's or a newer version's; it is left as it is then.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        Self::open_with(dir, Limits::default())
    }

    /// Like [`Store::open`], with limits of one's own.
    pub fn open_with(dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        let lock = schema::lock(dir)?;
        let writer = Writer::start(dir, lock, limits)?;
        let readers = Readers::new(dir.join(schema::FILE));
        let (handed, trouble, released) = (Mutex::default(), Mutex::default(), AtomicU64::new(0));
        let looks = Arc::new(Semaphore::new(LOOKS_MAX));
        Ok(Self { inner: Arc::new(Inner { readers, looks, writer, handed, trouble, released }) })
    }

    /// Moves the database in `dir` out of the way, so that the next [`Store::open`] makes a new one; says where it is now.
    /// For one that answered [`StoreError::Damaged`].
    pub fn set_aside(dir: &Path, now: Timestamp) -> Result<Vec<PathBuf>, StoreError> {
        schema::set_aside(dir, now)
    }

    /// Appends a batch; `Ok` when it is durable.
    pub async fn append(&self, append: Append) -> Result<(), StoreError> {
        let Append { matches, position } = append;
        if matches.is_empty() && position.is_none() {
            return Ok(());
        }
        let rows = journal::rows(&matches)?;
        let appended = self.inner.writer.write(Work::Append { rows, position }).await;
        self.inner.went(Part::Append, appended).map(drop)
    }

    /// What does not work, while the database answers with errors. Whoever is not ready may be sent nothing that would show
    /// that it works again, so that is tried here.
    pub async fn trouble(&self) -> Option<String> {
        let refused = self.inner.trouble().contains_key(&Part::Append);
        if refused {
            let _ = self.inner.went(Part::Append, self.inner.writer.write(Work::Probe).await);
        }
        let trouble = self.inner.trouble();
        trouble.iter().next().map(|(part, error)| format!("{error}: {}", part.words()))
    }

    /// [`StoreError::Full`] if a batch with matches would be refused for want of room.
    pub async fn room(&self) -> Result<(), StoreError> {
        self.inner.writer.write(Work::Room).await.map(drop)
    }

    /// Writes alerts, deliveries and the cursor in one transaction.
    ///
    /// A new alert that is known already comes from a replay and is ignored with its deliveries; so is any change to
    /// an alert that is not known, and one that would reopen a resolved alert. The cursor never moves back.
    pub async fn commit(&self, commit: Commit) -> Result<(), StoreError> {
        let changes = outbox::rows(commit.changes)?;
        let work = Work::Commit { cursor: commit.cursor, changes, baselines: commit.baselines };
        self.inner.went(Part::Commit, self.inner.writer.write(work).await).map(drop)
    }

    /// Batches after `seq`, oldest first, at most `limit`. A batch is never split: one that ends after `seq` is
    /// whole.
    pub async fn journal_after(&self, seq: i64, limit: usize) -> Result<Vec<JournalBatch>, StoreError> {
        let read = self.inner.readers.run(move |connection| journal::after(connection, seq, limit)).await;
        self.inner.went(Part::Read, read)
    }

    /// The newest record ever appended: once the cursor is there, everything that is acknowledged now is correlated.
    pub async fn journal_last(&self) -> Result<i64, StoreError> {
        self.inner.readers.run(|connection| Ok(journal::last(connection)?)).await
    }

    /// When the newest batch that is kept was received.
    pub async fn journal_newest(&self) -> Result<Option<Timestamp>, StoreError> {
        self.inner.readers.run(journal::newest).await
    }

    /// Batches beyond the cursor.
    pub async fn journal_backlog(&self) -> Result<u64, StoreError> {
        self.inner.readers.run(journal::backlog).await
    }

    /// The cursor: everything up to it has been correlated.
    pub async fn cursor(&self) -> Result<i64, StoreError> {
        self.inner.readers.run(|connection| Ok(journal::cursor(connection)?)).await
    }

    /// Resolves when something was appended after `seq`, or after `timeout`.
    pub async fn appended_after(&self, seq: i64, timeout: Duration) {
        let mut appended = self.inner.writer.wakes.appended.subscribe();
        let _ = within(timeout, appended.wait_for(|last| *last > seq)).await;
    }

    /// What is usual, as of the cursor.
    pub async fn baselines(&self) -> Result<Vec<Baseline>, StoreError> {
        self.inner.readers.run(baselines::all).await
    }

    /// Alerts that are still firing, in the order of their times.
    pub async fn firing(&self) -> Result<Vec<Alert>, StoreError> {
        self.inner.readers.run(alerts::firing).await
    }

    /// One alert by its id.
    pub async fn alert(&self, id: &str) -> Result<Option<Alert>, StoreError> {
        let id = id.to_owned();
        self.inner.readers.run(move |connection| alerts::one(connection, &id)).await
    }

    /// Alerts that answer `query`, newest first by `(time, id)`.
    pub async fn alerts(&self, query: AlertQuery) -> Result<Vec<Alert>, StoreError> {
        self.inner.readers.run(move |connection| alerts::list(connection, &query)).await
    }

    /// The same as [`Store::alerts`] for whoever passes them on, with what people did about them.
    pub async fn listed(&self, query: AlertQuery) -> Result<Vec<Listed>, StoreError> {
        self.look(move |connection| alerts::listed(connection, &query)).await
    }

    /// Alerts that answer `query` in the order in which they arrived, after the place that it names.
    pub async fn arrived(&self, query: AlertQuery) -> Result<Arrived, StoreError> {
        self.look(move |connection| alerts::arrived(connection, &query)).await
    }

    /// The place of the alert that arrived last.
    pub async fn arrival(&self) -> Result<i64, StoreError> {
        self.inner.readers.run(alerts::newest).await
    }

    /// Runs a read that may take long, behind others of its kind.
    async fn look<T, F>(&self, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&rusqlite::Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let permit = Arc::clone(&self.inner.looks).acquire_owned().await.map_err(|_| StoreError::Closed)?;
        let read = move |connection: &rusqlite::Connection| {
            let _permit = permit; // Until the read ends, also where nobody waits for it any more.
            read(connection)
        };
        self.inner.readers.run(read).await
    }

    /// One of them, and what was done about it, oldest first.
    pub async fn listed_one(&self, id: &str) -> Result<Option<(Listed, Vec<Deed>)>, StoreError> {
        let id = id.to_owned();
        let read = move |connection: &rusqlite::Connection| {
            let Some(listed) = alerts::listed_one(connection, &id)? else { return Ok(None) };
            Ok(Some((listed, triage::deeds(connection, &id)?)))
        };
        self.inner.readers.run(read).await
    }

    /// What else the user of an alert did, and what else was done to its object; `None` if there is no such alert.
    pub async fn related(&self, id: &str) -> Result<Option<Related>, StoreError> {
        let id = id.to_owned();
        self.look(move |connection| alerts::related(connection, &id)).await
    }

    /// How many alerts answer `query`, by what and when, in `bars` spans of time up to `now`.
    pub async fn figures(&self, query: AlertQuery, now: Timestamp, bars: usize) -> Result<Figures, StoreError> {
        self.look(move |connection| figures::count(connection, &query, now, bars)).await
    }

    /// A number that changes whenever an alert does, or what people did about one.
    #[must_use]
    pub fn alert_changes(&self) -> watch::Receiver<u64> {
        self.inner.writer.wakes.alerts.subscribe()
    }

    /// Writes what somebody did about an alert; `false` if there is no such alert, or too much is on record for it.
    pub async fn deed(&self, alert_id: &str, deed: Deed) -> Result<bool, StoreError> {
        let work = Work::Deed { alert_id: alert_id.to_owned(), deed };
        Ok(matches!(self.inner.writer.write(work).await?, Outcome::Row(Some(_))))
    }

    /// Keeps new alerts from the sinks; the silence's id, or `None` if too many are in force.
    pub async fn silence(&self, new: NewSilence) -> Result<Option<i64>, StoreError> {
        let Outcome::Row(id) = self.inner.writer.write(Work::Silence(new)).await? else { return Ok(None) };
        Ok(id)
    }

    /// Ends a silence before its time; `false` if none of this id is in force.
    pub async fn end_silence(&self, id: i64, who: &str, at: Timestamp) -> Result<bool, StoreError> {
        let work = Work::EndSilence { id, who: who.to_owned(), at };
        Ok(matches!(self.inner.writer.write(work).await?, Outcome::Row(Some(_))))
    }

    /// Silences in force at `now`, then those that are over, the newest first.
    pub async fn silences(&self, now: Timestamp) -> Result<Vec<Silence>, StoreError> {
        self.inner.readers.run(move |connection| triage::silences(connection, now)).await
    }

    /// Deliveries of `sink` that are due at `now`, oldest first, at most `limit`.
    ///
    /// An update or a resolve is not due before the alert's first message to the same sink is settled. What was
    /// handed out and not settled is handed out again.
    pub async fn due(&self, sink: &str, now: Timestamp, limit: usize) -> Result<Vec<Delivery>, StoreError> {
        let sink = sink.to_owned();
        let due = self.inner.readers.run(move |connection| outbox::due(connection, &sink, now, limit)).await?;
        let mut on_the_wire = self.inner.handed();
        let handed = due.into_iter().map(|(delivery, handed)| {
            // The older state stays noted: at worst an update is sent twice, never too few times.
            on_the_wire.entry(delivery.seq).or_insert(handed);
            delivery
        });
        Ok(handed.collect())
    }

    /// Settles deliveries of `sink`. Those that are settled already, or were overtaken, are passed over.
    pub async fn settle(&self, sink: &str, settled: Vec<(i64, Settlement)>) -> Result<(), StoreError> {
        let seqs: Vec<i64> = settled.iter().map(|(seq, _)| *seq).collect();
        let settled = {
            let on_the_wire = self.inner.handed();
            let with_handed = |(seq, settlement)| Settled { seq, handed: on_the_wire.get(&seq).cloned(), settlement };
            settled.into_iter().map(with_handed).collect()
        };
        let work = Work::Settle { sink: sink.to_owned(), settled };
        self.inner.went(Part::Settle, self.inner.writer.write(work).await)?;
        let mut on_the_wire = self.inner.handed();
        for seq in seqs {
            on_the_wire.remove(&seq);
        }
        Ok(())
    }

    /// Resolves when a commit queued deliveries for `sink` since the last call, or a settlement made some due that
    /// had been held back, or after `timeout`. One caller per sink.
    pub async fn queued(&self, sink: &str, timeout: Duration) {
        let bell = self.inner.writer.wakes.sink(sink);
        let _ = within(timeout, bell.notified()).await;
    }

    /// Alerts whose `firing` was sent to `sink` and that fire still, or ended at `since` or later by the wall clock:
    /// what Alertmanager is told again.
    pub async fn told(&self, sink: &str, since: Timestamp) -> Result<Vec<Alert>, StoreError> {
        let sink = sink.to_owned();
        self.inner.readers.run(move |connection| outbox::told(connection, &sink, since)).await
    }

    /// Alerts of a rule of which `sink` remembers the same: one message told of all of them.
    pub async fn told_together(&self, sink: &str, remembered: &str, rule: &str) -> Result<Vec<Alert>, StoreError> {
        let (sink, remembered, rule) = (sink.to_owned(), remembered.to_owned(), rule.to_owned());
        let read =
            move |connection: &rusqlite::Connection| outbox::told_together(connection, &sink, &remembered, &rule);
        self.inner.readers.run(read).await
    }

    /// Why `sink` did not take something when it was last tried, of what waits or else of what was given up.
    pub async fn refusal(&self, sink: &str) -> Result<Option<String>, StoreError> {
        let sink = sink.to_owned();
        self.inner.readers.run(move |connection| outbox::refusal(connection, &sink)).await
    }

    /// Names all sinks there are. What waits for others becomes dead letters, and nothing is queued for them from now on:
    /// nobody would ever take it, and its alerts would be kept for ever. Says how many deliveries that were.
    pub async fn retire_sinks(&self, known: &[String]) -> Result<u64, StoreError> {
        let known = Arc::new(known.iter().cloned().collect());
        match self.inner.writer.write(Work::Retire { known }).await? {
            Outcome::Retired(count) => Ok(count),
            Outcome::Pruned(_) | Outcome::Row(_) | Outcome::Done => Ok(0),
        }
    }

    /// What became of telling `sink` that an alert fires.
    pub async fn progress(&self, sink: &str, alert_id: &str) -> Result<Progress, StoreError> {
        let (sink, alert_id) = (sink.to_owned(), alert_id.to_owned());
        self.inner.readers.run(move |connection| Ok(outbox::progress(connection, &sink, &alert_id)?)).await
    }

    /// Writes what was read of a topic of alerts, in one transaction with how far it was read. What another instance sees
    /// to counts as told.
    pub async fn receive(&self, pieces: Vec<Received>) -> Result<(), StoreError> {
        let pieces = pieces.into_iter().map(received::piece).collect::<Result<Vec<_>, _>>()?;
        self.inner.went(Part::Commit, self.inner.writer.write(Work::Receive(pieces)).await).map(drop)
    }

    /// This instance sees to the deliveries of `sink` from `part`: those from the place `from` on are still to be told.
    pub async fn claim(&self, sink: &str, part: &str, from: i64) -> Result<(), StoreError> {
        let (sink, part) = (sink.to_owned(), part.to_owned());
        self.inner.writer.write(Work::Claim { sink, part, from }).await.map(drop)
    }

    /// It does not any longer; `None`: it sees to none.
    pub async fn release(&self, which: Option<(&str, &str)>) -> Result<(), StoreError> {
        let which = which.map(|(sink, part)| (sink.to_owned(), part.to_owned()));
        self.inner.released.fetch_add(1, Ordering::Release);
        self.inner.writer.write(Work::Release(which)).await.map(drop)
    }

    /// How often deliveries were given to others: whoever sends some must look whether they are still his.
    #[must_use]
    pub fn releases(&self) -> u64 {
        self.inner.released.load(Ordering::Acquire)
    }

    /// How far a part has been read.
    pub async fn reached(&self, part: &str) -> Result<Reached, StoreError> {
        let part = part.to_owned();
        self.inner.readers.run(move |connection| received::reached(connection, &part)).await
    }

    /// Where everything of `part` before it has been told to `sink`, or given up.
    pub async fn told_until(&self, sink: &str, part: &str) -> Result<i64, StoreError> {
        let (sink, part) = (sink.to_owned(), part.to_owned());
        self.inner.readers.run(move |connection| received::told_until(connection, &sink, &part)).await
    }

    /// Alerts that are still firing, and how far `part` has been read, as of one moment.
    pub async fn firing_at(&self, part: &str) -> Result<(Vec<Alert>, Reached), StoreError> {
        let part = part.to_owned();
        let read = move |connection: &rusqlite::Connection| {
            let _transaction = connection.unchecked_transaction()?;
            Ok((alerts::firing(connection)?, received::reached(connection, &part)?))
        };
        self.inner.readers.run(read).await
    }

    /// How much waits for `sink`.
    pub async fn backlog(&self, sink: &str) -> Result<Backlog, StoreError> {
        let sink = sink.to_owned();
        self.inner.readers.run(move |connection| outbox::backlog(connection, &sink)).await
    }

    /// What `sink` was never told, with the reasons; newest first, at most a thousand.
    pub async fn dead_letters(&self, sink: &str) -> Result<Vec<DeadLetter>, StoreError> {
        let sink = sink.to_owned();
        self.inner.readers.run(move |connection| outbox::dead_letters(connection, &sink)).await
    }

    /// Where a followed file had been read up to.
    pub async fn file_position(&self, path: &str) -> Result<Option<FilePosition>, StoreError> {
        let path = path.to_owned();
        self.inner.readers.run(move |connection| journal::file_position(connection, &path)).await
    }

    /// Removes what [`Limits`] no longer keeps at `now`, and the correlated part of the journal received before
    /// `journal_keep_from`. Goes in small steps, between which batches are accepted.
    pub async fn prune(&self, now: Timestamp, journal_keep_from: Timestamp) -> Result<Pruned, StoreError> {
        let mut total = Pruned::default();
        loop {
            match self.inner.writer.write(Work::Prune { now, journal_keep_from }).await? {
                Outcome::Pruned(step) if !step.is_nothing() => total.add(step),
                Outcome::Pruned(_) | Outcome::Retired(_) | Outcome::Row(_) | Outcome::Done => return Ok(total),
            }
        }
    }

    /// Writes what was handed over, folds the log into the database and lets go of the directory. Later calls, on any
    /// handle, answer [`StoreError::Closed`].
    pub async fn close(&self) {
        self.inner.readers.close().await; // First: the writer, the last to go, cleans up the log.
        let _ = self.inner.writer.write(Work::Close).await;
    }

    /// Runs any statement on the writer's connection, in a transaction of its own or of a group.
    #[cfg(test)]
    pub(super) async fn sql(&self, sql: &str) -> Result<(), StoreError> {
        self.inner.writer.write(Work::Sql(sql.to_owned())).await.map(drop)
    }
}
