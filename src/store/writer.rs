//! The one thread that writes, with group commit: whatever has come in while the disk was busy becomes one
//! transaction, so one fsync, however many batches wait for it.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::{Connection, Transaction, TransactionBehavior};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::reserve::Reserve;
use super::{
    Deed, FilePosition, Limits, NewSilence, Pruned, StoreError, baselines, journal, outbox, prune, received, schema,
    triage,
};
use crate::clock::{self, Timestamp};
use crate::correlate::Baseline;

/// Requests that wait for the writer; further callers wait for a place.
const QUEUE_MAX: usize = 1_024;
/// Requests in one transaction: a bound on how long the first of them waits for the last.
const GROUP_MAX: usize = 512;

/// Something to write.
pub(super) enum Work {
    Append {
        rows: Vec<journal::Row>,
        position: Option<FilePosition>,
    },
    Commit {
        cursor: i64,
        changes: Vec<outbox::Row>,
        baselines: Vec<Baseline>,
    },
    Settle {
        sink: String,
        settled: Vec<outbox::Settled>,
    },
    Prune {
        now: Timestamp,
        journal_keep_from: Timestamp,
    },
    /// Nothing but the question whether there is room for matches.
    Room,
    /// Nothing but the question whether a batch could be written.
    Probe,
    Retire {
        known: Arc<BTreeSet<String>>,
    },
    /// What was read of a topic of alerts.
    Receive(Vec<received::Piece>),
    /// The deliveries of a sink from a part and a place in it on are ours.
    Claim {
        sink: String,
        part: String,
        from: i64,
    },
    /// They are no longer; `None`: none of any sink and part is.
    Release(Option<(String, String)>),
    Deed {
        alert_id: String,
        deed: Deed,
    },
    Silence(NewSilence),
    EndSilence {
        id: i64,
        who: String,
        at: Timestamp,
    },
    Close,
    #[cfg(test)]
    Sql(String),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Done,
    Pruned(Pruned),
    /// So many deliveries were given up.
    Retired(u64),
    /// The row that was written or changed, if one was.
    Row(Option<i64>),
}

struct Request {
    work: Work,
    reply: oneshot::Sender<Result<Outcome, StoreError>>,
}

/// Pages that are given back to the disk at once, and how often after one step of pruning.
const VACUUM_PAGES: u32 = 250;
const VACUUM_ROUNDS: u32 = 20;

/// Who waits for what the writer writes.
pub(super) struct Wakes {
    /// The highest sequence number that is durable.
    pub(super) appended: watch::Sender<i64>,
    /// Grows with every transaction that changes an alert, or what people did about one.
    pub(super) alerts: watch::Sender<u64>,
    sinks: Mutex<HashMap<String, Arc<Notify>>>,
}

impl Wakes {
    /// The bell of one sink; a ring that nobody hears is kept for the next who listens.
    pub(super) fn sink(&self, name: &str) -> Arc<Notify> {
        let mut sinks = self.sinks.lock().unwrap_or_else(PoisonError::into_inner);
        match sinks.get(name) {
            Some(bell) => Arc::clone(bell),
            None => Arc::clone(sinks.entry(name.to_owned()).or_default()),
        }
    }
}

/// How far the journal goes.
#[derive(Clone, Copy)]
pub(super) struct Marks {
    /// The highest sequence number given, at least the cursor.
    pub(super) last: i64,
    /// The number of the newest batch.
    pub(super) batch: i64,
    /// Everything up to here has been correlated.
    pub(super) cursor: i64,
}

/// A transaction in the making; nothing of it counts before it is committed.
pub(super) struct Writing<'a> {
    pub(super) transaction: Transaction<'a>,
    pub(super) limits: &'a Limits,
    pub(super) now: Timestamp,
    pub(super) marks: Marks,
    /// The disk is full: what is left of it is not for the journal.
    starving: bool,
    /// The sinks there are, once they have been named; nothing is queued for others.
    pub(super) known: Option<Arc<BTreeSet<String>>>,
    /// Sinks that have something to do.
    pub(super) wake: BTreeSet<String>,
    /// Where what is being written was received from.
    pub(super) from: Option<(String, i64)>,
    /// Whether somebody who looks at alerts would see something new.
    pub(super) alerts_changed: bool,
}

/// The callers' end of the writer. Dropping it waits for what was handed over.
pub(super) struct Writer {
    requests: Option<mpsc::Sender<Request>>,
    thread: Option<JoinHandle<()>>,
    pub(super) wakes: Arc<Wakes>,
}

impl Writer {
    /// Starts the thread on the database in `dir`. `lock` is let go when it has ended.
    pub(super) fn start(dir: &Path, lock: File, limits: Limits) -> Result<Self, StoreError> {
        let mut reserve = Reserve::new(dir, limits.reserve_bytes, clock::now());
        let path = dir.join(schema::FILE);
        let connection = match schema::open_writer(&path) {
            Err(StoreError::Full(_)) if reserve.release(clock::now()) => schema::open_writer(&path)?,
            opened => opened?,
        };
        let cursor = journal::cursor(&connection)?;
        let last = journal::last(&connection)?.max(cursor);
        let marks = Marks { last, batch: journal::last_batch(&connection)?, cursor };
        let wakes = Arc::new(Wakes {
            appended: watch::Sender::new(last),
            alerts: watch::Sender::new(0),
            sinks: Mutex::default(),
        });
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        let mut state = State { connection, limits, reserve, marks, known: None, wakes: Arc::clone(&wakes) };
        let run = move || {
            let closers = state.run(queue);
            drop(state); // The last connection to go folds the WAL into the database.
            drop(lock);
            for closer in closers {
                let _ = closer.send(Ok(Outcome::Done));
            }
        };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(run)
            .map_err(|error| StoreError::Database(format!("the writer thread cannot be started: {error}")))?;
        Ok(Self { requests: Some(requests), thread: Some(thread), wakes })
    }

    /// Hands `work` over and waits until it is durable or refused.
    pub(super) async fn write(&self, work: Work) -> Result<Outcome, StoreError> {
        let (reply, answer) = oneshot::channel();
        let requests = self.requests.as_ref().ok_or(StoreError::Closed)?;
        requests.send(Request { work, reply }).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.requests = None; // The thread ends when its queue has ended.
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The thread's own.
struct State {
    connection: Connection,
    limits: Limits,
    reserve: Reserve,
    marks: Marks,
    known: Option<Arc<BTreeSet<String>>>,
    wakes: Arc<Wakes>,
}

impl State {
    /// Writes until it is told to close or everybody has gone; returns who waits for the end.
    fn run(&mut self, mut queue: mpsc::Receiver<Request>) -> Vec<oneshot::Sender<Result<Outcome, StoreError>>> {
        let mut closers = Vec::new();
        while let Some(first) = queue.blocking_recv() {
            let mut group = Vec::new();
            let mut next = Some(first);
            while let Some(request) = next {
                if matches!(request.work, Work::Close) {
                    queue.close(); // What is in the queue by now is still written.
                    closers.push(request.reply);
                } else {
                    group.push(request);
                }
                next = if group.len() < GROUP_MAX { queue.try_recv().ok() } else { None };
            }
            self.write(group, true);
        }
        closers
    }

    /// Writes `group` and answers it. `first` unless the disk was full a moment ago.
    fn write(&mut self, group: Vec<Request>, first: bool) {
        let work: Vec<&Work> = group.iter().map(|request| &request.work).collect();
        match self.transact(&work) {
            Ok(results) => {
                if work.iter().any(|work| matches!(work, Work::Prune { .. })) && !self.reserve.hold(clock::now()) {
                    self.shrink();
                }
                for (request, result) in group.into_iter().zip(results) {
                    let _ = request.reply.send(result);
                }
            }
            Err(StoreError::Full(_)) if self.reserve.release(clock::now()) => {
                self.fold();
                if first {
                    self.reserve.take(); // Often the log was all that was in the way.
                }
                self.write(group, false); // Without the reserve the journal's part is refused; the rest has room.
            }
            Err(StoreError::Database(_) | StoreError::Damaged(_)) if group.len() > 1 => {
                // One of them is at fault; the others must not suffer for it.
                for request in group {
                    self.write(vec![request], first);
                }
            }
            Err(error) => {
                for request in group {
                    let _ = request.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Copies the log into the database and empties it. At worst it stays, and with it the space it takes.
    fn fold(&self) {
        let _ = self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
    }

    /// Gives pages that pruning has freed back to the disk. Otherwise they are kept for what comes next.
    ///
    /// In small rounds, as every page given back passes through the log, for which there is little room.
    fn shrink(&self) {
        let vacuum = || -> rusqlite::Result<usize> {
            let mut vacuum = self.connection.prepare(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
            let mut pages = vacuum.query([])?;
            let mut freed = 0;
            while pages.next()?.is_some() {
                freed += 1;
            }
            Ok(freed)
        };
        for _ in 0..VACUUM_ROUNDS {
            self.fold();
            if !vacuum().is_ok_and(|freed| freed > 0) {
                break; // Done, or no room even for this; nothing depends on it.
            }
        }
        self.fold();
    }

    /// All of `work` in one transaction. An inner error was refused before anything of it was written.
    fn transact(&mut self, work: &[&Work]) -> Result<Vec<Result<Outcome, StoreError>>, StoreError> {
        let now = clock::now();
        let starving = !self.reserve.hold(now);
        let mut writing = Writing {
            transaction: self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?,
            limits: &self.limits,
            now,
            marks: self.marks,
            starving,
            known: self.known.clone(),
            wake: BTreeSet::new(),
            from: None,
            alerts_changed: false,
        };
        let mut results = Vec::with_capacity(work.len());
        for work in work {
            results.push(match writing.refusal(work) {
                Some(refusal) => Err(refusal),
                None => Ok(writing.apply(work)?),
            });
        }
        let Writing { transaction, marks, known, wake, alerts_changed, .. } = writing;
        transaction.commit()?;
        self.marks = marks;
        self.known = known;
        self.wakes.appended.send_if_modified(|last| std::mem::replace(last, marks.last) != marks.last);
        if alerts_changed {
            self.wakes.alerts.send_modify(|changes| *changes += 1);
        }
        for sink in wake {
            self.wakes.sink(&sink).notify_one();
        }
        Ok(results)
    }
}

impl Writing<'_> {
    /// Why `work` is not even begun.
    fn refusal(&self, work: &Work) -> Option<StoreError> {
        let waiting = u64::try_from(self.marks.last - self.marks.cursor).unwrap_or(0);
        let bound = self.limits.journal_rows_max;
        match work {
            Work::Append { rows, .. } if rows.is_empty() => None,
            Work::Append { .. } | Work::Room if waiting >= bound => Some(StoreError::Full(format!(
                "{waiting} journal rows wait to be correlated, the bound is {bound} (journal_rows_max)"
            ))),
            Work::Append { .. } | Work::Room if self.starving => {
                Some(StoreError::Full("the disk is full: less than reserve_bytes is left".to_owned()))
            }
            _ => None,
        }
    }

    fn apply(&mut self, work: &Work) -> Result<Outcome, StoreError> {
        match work {
            Work::Append { rows, position } => journal::append(self, rows, position.as_ref())?,
            Work::Commit { cursor, changes, baselines } => {
                baselines::write(self, baselines)?;
                outbox::commit(self, *cursor, changes)?;
            }
            Work::Settle { sink, settled } => outbox::settle(self, sink, settled)?,
            Work::Prune { now, journal_keep_from } => {
                // Somebody may have put back by hand what nobody will ever take.
                if let Some(known) = self.known.clone() {
                    outbox::retire(self, &known)?;
                }
                return Ok(Outcome::Pruned(prune::step(self, *now, *journal_keep_from)?));
            }
            Work::Retire { known } => return Ok(Outcome::Retired(outbox::retire(self, known)?)),
            Work::Receive(pieces) => received::receive(self, pieces)?,
            Work::Claim { sink, part, from } => received::claim(self, sink, part, *from)?,
            Work::Release(which) => received::release(self, which.as_ref())?,
            Work::Deed { alert_id, deed } => {
                return Ok(Outcome::Row(triage::deed(self, alert_id, deed)?.then_some(0)));
            }
            Work::Silence(new) => return Ok(Outcome::Row(triage::silence(self, new)?)),
            Work::EndSilence { id, who, at } => {
                return Ok(Outcome::Row(triage::end_silence(self, *id, who, *at)?.then_some(*id)));
            }
            Work::Probe => journal::probe(self)?,
            Work::Room | Work::Close => {}
            #[cfg(test)]
            Work::Sql(sql) => self.transaction.execute_batch(sql)?,
        }
        Ok(Outcome::Done)
    }
}
