//! Which file is which, when rotation renames, copies and truncates them.
//!
//! A file is known by its first bytes: audit events carry unique ids, so no two logs start alike, and a copy that
//! `copytruncate` made is as good as the original. Device and inode only decide between files that start alike, and
//! tell at run time that the path leads elsewhere now.

use std::cmp::Reverse;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::store::FilePosition;

/// How many of a file's first bytes identify it.
pub(super) const HEAD_MAX: usize = 1024;

/// Device and inode.
pub(super) type Node = (u64, u64);

pub(super) fn node(metadata: &Metadata) -> Node {
    (metadata.dev(), metadata.ino())
}

/// A file, by its first bytes and its node. Only bytes that have been ingested count: they do not change any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    node: Node,
    head_len: usize,
    head_hash: String,
}

impl Identity {
    /// `head` is what is known of the first [`HEAD_MAX`] bytes.
    pub(super) fn new(node: Node, head: &[u8]) -> Self {
        let head = &head[..head.len().min(HEAD_MAX)];
        Self { node, head_len: head.len(), head_hash: hash(head) }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
        let (node, head_len) = ((number()?, number()?), usize::try_from(number()?).ok()?);
        let head_hash = parts.next()?.to_owned();
        (head_len > 0 && head_len <= HEAD_MAX).then_some(Self { node, head_len, head_hash })
    }

    /// Whether `file` starts with the same bytes.
    fn starts(&self, file: &File) -> bool {
        read_head(file, self.head_len).is_ok_and(|head| head.len() == self.head_len && hash(&head) == self.head_hash)
    }
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:x}-{:x}-{:x}-{}", self.node.0, self.node.1, self.head_len, self.head_hash)
    }
}

fn hash(head: &[u8]) -> String {
    blake3::hash(head).to_hex()[..32].to_owned()
}

/// The first bytes of a file, at most `len`.
pub(super) fn read_head(file: &File, len: usize) -> io::Result<Vec<u8>> {
    let mut head = vec![0; len];
    let mut filled = 0;
    while filled < len {
        match file.read_at(&mut head[filled..], filled as u64)? {
            0 => break,
            read => filled += read,
        }
    }
    head.truncate(filled);
    Ok(head)
}

/// One file to read, and from where.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) offset: u64,
}

/// The files to read, oldest first: what was rotated away since `position`, then the file at `path` itself.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) rotated: Vec<Part>,
    /// The error of opening the path: often it is only not there yet.
    pub(super) live: io::Result<Part>,
    /// The file that had been read up to `position` is gone, or cannot be told any more.
    pub(super) lost: bool,
}

/// Finds out where to go on.
pub(super) fn plan(path: &Path, position: Option<&FilePosition>) -> Plan {
    let mut live = open(path);
    let Some((identity, offset)) = position.and_then(|at| Some((Identity::parse(&at.identity)?, at.offset))) else {
        return Plan { rotated: Vec::new(), live, lost: position.is_some() };
    };
    let goes_on = |part: &Part| identity.starts(&part.file) && length(&part.file) >= offset;
    if let Ok(part) = live.as_mut().map_err(|_| ()).and_then(|part| goes_on(part).then_some(part).ok_or(())) {
        part.offset = offset;
        return Plan { rotated: Vec::new(), live, lost: false };
    }
    let live_node = live.as_ref().ok().and_then(|part| part.file.metadata().ok()).map(|metadata| node(&metadata));
    let mut siblings: Vec<(SystemTime, Node, Part)> = siblings(path)
        .into_iter()
        .filter_map(|path| {
            let part = open(&path).ok()?;
            let metadata = part.file.metadata().ok()?;
            Some((metadata.modified().ok()?, node(&metadata), part))
        })
        .filter(|(_, node, _)| Some(*node) != live_node)
        .collect();
    siblings.sort_by_key(|(modified, ..)| *modified);
    let found = siblings
        .iter()
        .enumerate()
        .filter(|(_, (_, _, part))| goes_on(part))
        .max_by_key(|(index, (_, node, _))| (*node == identity.node, Reverse(*index)))
        .map(|(index, (modified, ..))| (index, *modified));
    let Some((index, modified)) = found else { return Plan { rotated: Vec::new(), live, lost: true } };
    let rotated = siblings.into_iter().enumerate().filter_map(|(other, (time, _, mut part))| {
        if other == index {
            part.offset = offset;
        }
        (other == index || time > modified).then_some(part)
    });
    Plan { rotated: rotated.collect(), live, lost: false }
}

fn open(path: &Path) -> io::Result<Part> {
    Ok(Part { path: path.to_owned(), file: File::open(path)?, offset: 0 })
}

fn length(file: &File) -> u64 {
    file.metadata().map_or(0, |metadata| metadata.len())
}

/// Files in the same folder that rotation may have made of `path`: `audit.log.1`, `audit.log-20261121` (logrotate)
/// and `audit-2026-11-21T04-00-00.000.log` (kube-apiserver). Compressed ones are whole, so they were read before.
fn siblings(path: &Path) -> Vec<PathBuf> {
    let (Some(name), Some(stem)) =
        (path.file_name().and_then(|n| n.to_str()), path.file_stem().and_then(|s| s.to_str()))
    else {
        return Vec::new();
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let suffix = &name[stem.len()..];
    let dated = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
    let is_sibling = |other: &str| {
        let numbered = other.strip_prefix(name).and_then(|rest| rest.strip_prefix(['.', '-'])).is_some_and(dated);
        let renamed = other
            .strip_prefix(stem)
            .and_then(|rest| rest.strip_prefix('-'))
            .is_some_and(|rest| dated(rest) && rest.ends_with(suffix));
        let compressed = [".gz", ".zst", ".bz2", ".xz"].iter().any(|end| other.ends_with(end));
        (numbered || renamed) && !compressed
    };
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_str().is_some_and(is_sibling))
        .map(|entry| entry.path())
        .filter(|path| path.is_file())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn siblings_are_what_rotation_makes() {
        let folder = tempfile::tempdir().unwrap();
        let ours = ["audit.log.1", "audit.log-20261121", "audit-2026-11-21T04-00-00.000.log"];
        let others = ["audit.log", "audit.log.2.gz", "audit-policy.log", "audit.log.bak", "other.log.1", "audit-1.txt"];
        for name in ours.iter().chain(&others) {
            fs::write(folder.path().join(name), "x").unwrap();
        }
        let mut found: Vec<_> = siblings(&folder.path().join("audit.log"))
            .into_iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect();
        found.sort();
        let mut ours = ours.to_vec();
        ours.sort_unstable();
        assert_eq!(found, ours);
    }

    #[test]
    fn identities_are_read_back() {
        let identity = Identity::new((7, 0xab), b"{\"kind\":\"Event\"");
        assert_eq!(Identity::parse(&identity.to_string()), Some(identity));
        for wrong in ["", "1-2", "1-2-0-aa", "x-2-3-aa", "1-2-ffff-aa"] {
            assert_eq!(Identity::parse(wrong), None, "{wrong}");
        }
    }
}
