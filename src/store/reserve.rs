//! Room kept back for the day the disk is full.
//!
//! A full database cannot even shrink: deleting takes space in the log first. So a file of zeros lies in the state
//! directory; when the disk is full it is removed, and what lowers the load (correlating, delivering, pruning) goes
//! on in its place. The journal does not grow again before the file is back.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::schema;
use crate::clock::Timestamp;

/// The file's name within the state directory.
const FILE: &str = "reserve";
/// How often it is tried to get the room back.
const RETRY: Duration = Duration::from_secs(1);
const CHUNK: usize = 64 * 1024;

/// The file, or the wish to have it.
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    held: bool,
    tried: Timestamp,
}

impl Reserve {
    /// A reserve of `bytes` in `dir`, taken if there is room; with 0 bytes there is always room.
    pub(super) fn new(dir: &Path, bytes: u64, now: Timestamp) -> Self {
        let mut reserve = Self { path: dir.join(FILE), bytes, held: false, tried: now };
        reserve.take();
        reserve
    }

    /// Whether the room is there; if it is not, now and then tries to get it back.
    pub(super) fn hold(&mut self, now: Timestamp) -> bool {
        if !self.held && now.apart(self.tried) >= RETRY {
            self.tried = now;
            self.take();
        }
        self.held
    }

    /// Gives the room to who needs it now; `false` if there is none to give.
    pub(super) fn release(&mut self, now: Timestamp) -> bool {
        if !self.held || self.bytes == 0 {
            return false;
        }
        self.held = false;
        self.tried = now;
        fs::remove_file(&self.path).is_ok()
    }

    /// Tries to get the room.
    pub(super) fn take(&mut self) {
        self.held = self.bytes == 0 || self.fill().is_ok();
        if !self.held {
            let _ = fs::remove_file(&self.path); // Half a reserve would only be in the way.
        }
    }

    fn fill(&self) -> io::Result<()> {
        let mut file: File = schema::private(&self.path).map_err(io::Error::other)?;
        if file.metadata()?.len() == self.bytes {
            return Ok(()); // From the last run.
        }
        file.set_len(0)?;
        // Written, not only given a length: a hole in a file keeps no room. Half as much again must be there for a moment:
        // on a disk that is full the reserve's own room is free once it is released, and says nothing of any other.
        let zeros = [0_u8; CHUNK];
        let mut left = self.bytes + self.bytes / 2;
        while left > 0 {
            let chunk = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            file.write_all(&zeros[..chunk])?;
            left -= chunk as u64;
        }
        file.set_len(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_once_and_taken_back_after_a_while() {
        let dir = tempfile::TempDir::new().unwrap();
        let at = |micros: i64| Timestamp(10_000_000 + micros);
        let mut reserve = Reserve::new(dir.path(), 100_000, at(0));
        let path = dir.path().join(FILE);
        assert_eq!(fs::metadata(&path).unwrap().len(), 100_000);
        assert!(reserve.hold(at(0)));
        assert!(reserve.release(at(5)));
        assert!(!path.exists());
        assert!(!reserve.release(at(5)));
        assert!(!reserve.hold(at(999_999)));
        assert!(reserve.hold(at(1_000_005)));
        assert!(path.exists());
        assert!(reserve.release(at(1_000_005)));
        assert!(reserve.hold(at(-5_000_000)), "a clock that was set back does not stop it");
    }

    #[test]
    fn no_reserve_is_always_there_and_never_given() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut reserve = Reserve::new(dir.path(), 0, Timestamp(0));
        assert!(reserve.hold(Timestamp(0)));
        assert!(!reserve.release(Timestamp(0)));
    }

    #[test]
    fn without_room_there_is_no_reserve() {
        let dir = tempfile::TempDir::new().unwrap();
        let mut reserve = Reserve::new(&dir.path().join("missing"), 1, Timestamp(0));
        assert!(!reserve.hold(Timestamp(0)));
    }
}
