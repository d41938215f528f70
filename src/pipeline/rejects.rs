//! What was refused, kept for people: `rejects.jsonl` in the state directory, place and reason, never the content.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use super::Origin;
use crate::clock::{self, Timestamp};
use crate::engine::Rejected;

/// At this size the file becomes `rejects.jsonl.1`, and a new one begins.
const FILE_MAX: u64 = 16 << 20;

/// The file of refused events.
pub struct Rejects {
    path: PathBuf,
    file: Mutex<Option<(File, u64)>>,
}

#[derive(Serialize)]
struct Line<'r> {
    time: Timestamp,
    source: &'r str,
    cluster: &'r str,
    #[serde(flatten)]
    rejected: &'r Rejected,
}

impl Rejects {
    /// The file in a state directory; it is made when the first event is refused.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self { path: state_dir.join("rejects.jsonl"), file: Mutex::new(None) }
    }

    /// Adds what is described of a batch's. Best effort: a full disk must not refuse the good events too.
    pub fn keep(&self, rejected: &[Rejected], origin: &Origin) {
        if rejected.is_empty() {
            return;
        }
        let mut text = String::new();
        for rejected in rejected {
            let (source, cluster) = (&*origin.source, &*origin.cluster);
            let line = Line { time: clock::now(), source, cluster, rejected };
            text.push_str(&serde_json::to_string(&line).unwrap_or_default());
            text.push('\n');
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = self.append(&mut file, &text) {
            tracing::warn!(%error, path = %self.path.display(), "refused events could not be kept");
            *file = None;
        }
    }

    fn append(&self, file: &mut Option<(File, u64)>, text: &str) -> std::io::Result<()> {
        if file.as_ref().is_some_and(|(_, size)| *size >= FILE_MAX) {
            *file = None;
            fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
        }
        let (file, size) = match file {
            Some(open) => open,
            None => {
                let opened = open(&self.path)?;
                let size = opened.metadata()?.len();
                file.insert((opened, size))
            }
        };
        file.write_all(text.as_bytes())?;
        *size += text.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).append(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn place_and_reason_are_kept_and_the_file_is_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let rejects = Rejects::new(dir.path());
        let origin = Origin { source: "webhook".into(), cluster: "prod".into(), max_body: 1 };
        let one = Rejected {
            place: "item 3".to_owned(),
            reason: "shape",
            detail: "d".repeat(1 << 20),
            bytes: 7,
            hash: "h".to_owned(),
        };
        rejects.keep(std::slice::from_ref(&one), &origin);
        let text = fs::read_to_string(dir.path().join("rejects.jsonl")).unwrap();
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&line["place"], &line["reason"], &line["cluster"]),
            (&"item 3".into(), &"shape".into(), &"prod".into())
        );
        for _ in 0..20 {
            rejects.keep(std::slice::from_ref(&one), &origin);
        }
        assert!(dir.path().join("rejects.jsonl.1").exists());
        assert!(fs::metadata(dir.path().join("rejects.jsonl")).unwrap().len() < FILE_MAX);
    }
}
