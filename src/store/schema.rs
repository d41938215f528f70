//! The database file: where it lives, who may open it, and its tables.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, ffi};

use super::{StoreError, find, received, triage};
use crate::clock::Timestamp;

/// The database's name within the state directory.
pub(super) const FILE: &str = "state.db";
/// Locked, never read: held for as long as a daemon uses the directory.
const LOCK: &str = "lock";

/// `KSRN`: tells this database from any other program's.
const APPLICATION_ID: i32 = 0x4b53_524e;
/// Kept in `user_version`; raised with every change of the tables.
const VERSION: i32 = 4;

/// A reader never waits for the writer in WAL mode; this covers a shell that holds the file.
const BUSY_MAX: Duration = Duration::from_secs(5);
/// A database of at most this size is looked through at every start, which takes a second or two; a larger one is taken
/// as it is, and what is wrong with it shows where it is read.
const CHECKED_MAX: i64 = 256 << 20;
/// More than the statements the store has, so that each is compiled once.
const STATEMENTS_MAX: usize = 64;

/// The comments inside the statements are for people: `.schema` shows them in the sqlite3 shell.
const TABLES: &str = "
CREATE TABLE meta (
  key   TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO meta VALUES ('cursor', 0); -- the journal up to this seq has been correlated

CREATE TABLE journal (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  batch      INTEGER NOT NULL, -- rows of one accepted batch share it
  received   INTEGER NOT NULL, -- wall clock, microseconds: datetime(received / 1000000, 'unixepoch')
  rule       TEXT NOT NULL,
  cluster    TEXT NOT NULL,
  event_time INTEGER NOT NULL, -- stageTimestamp of the first match, microseconds
  matches    INTEGER NOT NULL, -- how many matches of this rule and group the row stands for
  payload    TEXT NOT NULL     -- JSON: the first match whole, then what tells the others apart
);
CREATE INDEX journal_received ON journal (received);

CREATE TABLE alerts (
  id        TEXT PRIMARY KEY,
  status    TEXT NOT NULL CHECK (status IN ('firing', 'resolved')),
  level     TEXT NOT NULL,
  rule      TEXT NOT NULL,
  cluster   TEXT NOT NULL,
  time      INTEGER NOT NULL, -- event time, microseconds: datetime(time / 1000000, 'unixepoch')
  last_seen INTEGER NOT NULL, -- event time, microseconds
  username  TEXT,
  acting_as TEXT,             -- the impersonated user
  namespace TEXT,
  revision  INTEGER NOT NULL, -- grows by one with every change
  changed   INTEGER NOT NULL, -- wall clock of the last change, microseconds
  body      TEXT NOT NULL     -- JSON: the alert as sinks and the API show it
);
CREATE INDEX alerts_time ON alerts (time, id);
CREATE INDEX alerts_rule ON alerts (rule, time, id);
CREATE INDEX alerts_cluster ON alerts (cluster, time, id);
CREATE INDEX alerts_username ON alerts (username, time, id);
CREATE INDEX alerts_acting_as ON alerts (acting_as, time, id) WHERE acting_as IS NOT NULL;
CREATE INDEX alerts_namespace ON alerts (namespace, time, id);
CREATE INDEX alerts_status ON alerts (status, changed);

CREATE TABLE deliveries (
  seq        INTEGER PRIMARY KEY AUTOINCREMENT,
  sink       TEXT NOT NULL,
  alert_id   TEXT NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
  kind       TEXT NOT NULL CHECK (kind IN ('firing', 'update', 'resolved')),
  state      TEXT NOT NULL CHECK (state IN ('pending', 'sent', 'dead')),
  wants      INTEGER NOT NULL,           -- the revision of the alert that the sink shall hear of
  attempts   INTEGER NOT NULL DEFAULT 0, -- failed ones
  not_before INTEGER NOT NULL DEFAULT 0, -- wall clock, microseconds; 0 = at once
  queued     INTEGER NOT NULL,           -- wall clock, microseconds
  settled    INTEGER,                    -- wall clock, microseconds
  reason     TEXT,                       -- of the last failure
  UNIQUE (alert_id, sink, kind)
);
CREATE INDEX deliveries_pending ON deliveries (sink, seq, not_before, queued) WHERE state = 'pending';
CREATE INDEX deliveries_dead ON deliveries (sink, settled) WHERE state = 'dead';

CREATE TABLE memories ( -- what a sink asked to remember of an alert, such as a message id
  alert_id TEXT NOT NULL REFERENCES alerts (id) ON DELETE CASCADE,
  sink     TEXT NOT NULL,
  value    TEXT NOT NULL,
  PRIMARY KEY (alert_id, sink)
) WITHOUT ROWID;

CREATE TABLE file_positions (
  path     TEXT PRIMARY KEY,
  identity TEXT NOT NULL,
  position INTEGER NOT NULL -- offset of the first byte not yet ingested
) WITHOUT ROWID;
";

/// What each version added to the one before: the first is for databases of version 1. New databases get all of them.
const MIGRATIONS: [&str; 3] = [BASELINES, triage::MIGRATION, received::MIGRATION];

const BASELINES: &str = "
CREATE TABLE baselines ( -- what first_seen and spike have learned, up to the cursor
  rule    TEXT NOT NULL,
  key     INTEGER NOT NULL, -- hash of cluster and group
  shape   INTEGER NOT NULL, -- hash of what the rule looks at
  seen    INTEGER NOT NULL, -- event time of the newest match, microseconds
  written INTEGER NOT NULL, -- wall clock, microseconds
  state   BLOB NOT NULL,
  PRIMARY KEY (rule, key)
) WITHOUT ROWID;
CREATE INDEX baselines_written ON baselines (written);
";

/// Makes the state directory if need be and takes its lock, which lasts as long as the returned file.
pub(super) fn lock(dir: &Path) -> Result<File, StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| io_error(dir, &error))?;
    let path = dir.join(LOCK);
    let file = private(&path)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Database(format!(
            "{} is in use by another kubesiren: stop that one, or give this one its own state_dir",
            dir.display()
        ))),
        Err(TryLockError::Error(error)) => Err(io_error(&path, &error)),
    }
}

/// Opens the database for the writer; makes its tables if it is new. Never deletes anything.
pub(super) fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    private(path)?; // SQLite gives its side files the mode of this one.
    let mut connection = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
        .map_err(|error| at(path, &error))?;
    prepare(&mut connection, path).map_err(|error| match error {
        Refused::Sqlite(error) => at(path, &error),
        Refused::Because(reason) => StoreError::Database(format!("{}: {reason}", path.display())),
        Refused::Damaged(found) => damaged(path, &found),
    })?;
    if let Some(dir) = path.parent() {
        // Without this a crash of the machine could take the new file's name with it.
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_error(dir, &error))?;
    }
    Ok(connection)
}

/// Opens the database for somebody beside the daemon, who changes no table; it must be there.
pub(super) fn open_beside(path: &Path) -> Result<Connection, StoreError> {
    if !path.exists() {
        let dir = path.parent().unwrap_or(path).display();
        return Err(StoreError::Database(format!("there is no {FILE} in {dir}; name the state_dir of the daemon")));
    }
    let connection = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_WRITE))
        .map_err(|error| at(path, &error))?;
    let asked = || -> Result<(i32, i32), rusqlite::Error> {
        connection.busy_timeout(BUSY_MAX)?;
        connection.pragma_update(None, "synchronous", "full")?;
        let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0));
        Ok((pragma("application_id")?, pragma("user_version")?))
    };
    match asked().map_err(|error| at(path, &error))? {
        (APPLICATION_ID, VERSION) => Ok(connection),
        (APPLICATION_ID, version) => Err(StoreError::Database(format!(
            "{} has schema version {version}, this kubesiren works on {VERSION}: use the one that the daemon runs",
            path.display()
        ))),
        _ => Err(StoreError::Database(format!("{} is another program's database", path.display()))),
    }
}

/// Opens one more connection that only reads.
pub(super) fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, flags(OpenFlags::SQLITE_OPEN_READ_ONLY))?;
    connection.busy_timeout(BUSY_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    find::install(&connection)?;
    Ok(connection)
}

/// A connection is used by one thread at a time, so SQLite's own mutexes are not needed.
fn flags(mode: OpenFlags) -> OpenFlags {
    mode | OpenFlags::SQLITE_OPEN_NO_MUTEX
}

/// Why a database file is not taken.
enum Refused {
    Sqlite(rusqlite::Error),
    Because(String),
    Damaged(String),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), Refused> {
    connection.busy_timeout(BUSY_MAX)?;
    connection.set_prepared_statement_cache_capacity(STATEMENTS_MAX);
    let application: i32 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let fresh = application == 0 && version == 0 && tables == 0;
    if !fresh && application != APPLICATION_ID {
        return Err(Refused::Because(format!("this is another program's database; {}", remedy(path))));
    }
    if version > VERSION {
        return Err(Refused::Because(format!(
            "schema version {version} was written by a newer kubesiren, this one reads up to {VERSION}; \
             run the newer one, or {}",
            remedy(path)
        )));
    }
    if fresh {
        connection.pragma_update(None, "auto_vacuum", "incremental")?; // Can be chosen before the first table only.
    }
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    if !fresh {
        check(connection)?;
    }
    if fresh || version < VERSION {
        let transaction = connection.transaction()?;
        if fresh {
            transaction.execute_batch(TABLES)?;
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        }
        let there = usize::try_from(version.max(1)).unwrap_or(1);
        for migration in MIGRATIONS.iter().skip(there - 1) {
            transaction.execute_batch(migration)?;
        }
        transaction.pragma_update(None, "user_version", VERSION)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Looks through the whole file: a page that is damaged would otherwise be found by whoever reads it, some day.
fn check(connection: &Connection) -> Result<(), Refused> {
    let size = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    if size("PRAGMA page_count")? * size("PRAGMA page_size")? > CHECKED_MAX {
        return Ok(());
    }
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if found == "ok" { Ok(()) } else { Err(Refused::Damaged(found.replace('\n', " "))) }
}

/// Moves a database out of the way, for people to look at. `now` makes its new name; the renamed files are given back.
pub(super) fn set_aside(dir: &Path, now: Timestamp) -> Result<Vec<PathBuf>, StoreError> {
    let _lock = lock(dir)?; // Nobody else may be using it.
    let mut moved = Vec::new();
    // The log last: without its database it means nothing, and with it it is needed.
    for suffix in ["", "-wal", "-shm"] {
        let (from, to) =
            (dir.join(format!("{FILE}{suffix}")), dir.join(format!("{FILE}.damaged-{}{suffix}", now.0 / 1_000_000)));
        match std::fs::rename(&from, &to) {
            Ok(()) => moved.push(to),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error(&from, &error)),
        }
    }
    Ok(moved)
}

fn damaged(path: &Path, found: &str) -> StoreError {
    StoreError::Damaged(format!(
        "{path} is damaged or no SQLite database ({found}). It is left as it is: `sqlite3 {path} .recover` saves what can be \
         read. To start without what it holds, run with --set-damaged-aside, which keeps it under another name",
        path = path.display()
    ))
}

fn remedy(path: &Path) -> String {
    format!("move {} and its -wal and -shm files away and a new one is made at the next start", path.display())
}

/// An error while opening, with the file's name; afterwards the name goes without saying.
fn at(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        _ if error.sqlite_error().is_some_and(is_full) => StoreError::Full(format!("{}: {error}", path.display())),
        Some(ffi::ErrorCode::NotADatabase | ffi::ErrorCode::DatabaseCorrupt) => damaged(path, &error.to_string()),
        _ => StoreError::Database(format!("{}: {error}", path.display())),
    }
}

/// A quota that is used up, and the index of the WAL that cannot grow, come without the code for full.
fn is_full(cause: &ffi::Error) -> bool {
    cause.code == ffi::ErrorCode::DiskFull
        || matches!(cause.extended_code, ffi::SQLITE_IOERR_WRITE | ffi::SQLITE_IOERR_SHMSIZE)
}

fn io_error(path: &Path, error: &io::Error) -> StoreError {
    let text = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(text),
        _ => StoreError::Database(text),
    }
}

/// Opens a file, making it readable to its owner alone if it is new.
pub(super) fn private(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(path).map_err(|error| io_error(path, &error))
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        let Some(cause) = error.sqlite_error() else { return Self::Database(error.to_string()) };
        match cause.code {
            _ if is_full(cause) => Self::Full(error.to_string()),
            ffi::ErrorCode::NotADatabase | ffi::ErrorCode::DatabaseCorrupt => Self::Damaged(format!(
                "{error}: {FILE} is damaged; stop the daemon, then `sqlite3 {FILE} .recover` saves what can be read"
            )),
            _ => Self::Database(error.to_string()),
        }
    }
}
