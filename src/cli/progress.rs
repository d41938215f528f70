//! How far a command is with its files: a bar where somebody looks at it.
//!
//! Bytes are counted as they lie in the files, packed or not: their sum is known before anything is read, so that it can be
//! said how much is left.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::Globals;
use crate::scan::Input;

/// Between two pictures.
const TICK: Duration = Duration::from_millis(100);

/// A bar on standard error, gone when this is dropped.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// One for these files; hidden without a terminal, and from those who want to hear less.
    pub(super) fn new(files: &[PathBuf], globals: Globals) -> Self {
        if !std::io::stderr().is_terminal() || globals.quiet > 0 {
            return Self(ProgressBar::hidden());
        }
        let (bar, template) = match size(files) {
            Some(size) => (
                ProgressBar::new(size),
                "{bar:30} {percent:>3}%  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {bytes} read, {bytes_per_sec}, {elapsed}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(bar)
    }

    /// The inputs, of which every byte that is read is counted.
    pub(super) fn watch(&self, inputs: Vec<Input>) -> Vec<Input> {
        if self.0.is_hidden() { inputs } else { self.counted(inputs) }
    }

    fn counted(&self, inputs: Vec<Input>) -> Vec<Input> {
        let watched = |input: Input| Input { name: input.name, reader: Box::new(self.0.wrap_read(input.reader)) };
        inputs.into_iter().map(watched).collect()
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Bytes of all files; none where a pipe or standard input is among them, whose end nobody knows.
fn size(files: &[PathBuf]) -> Option<u64> {
    let sizes = files.iter().map(|file| {
        // A file may be called `-` only where a folder stands before it.
        let known = (file.as_os_str() != "-").then(|| std::fs::metadata(file).ok()).flatten()?;
        known.is_file().then_some(known.len())
    });
    let total: Option<u64> = sizes.sum();
    total.filter(|_| !files.is_empty())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    #[test]
    fn the_whole_is_known_of_files_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = ["a", "b"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], "12345").expect("written");
        std::fs::write(&files[1], "678").expect("written");
        assert_eq!(size(&files), Some(8));
        assert_eq!(size(&[]), None);
        for other in ["-", "/dev/null", "/no/such/file"] {
            assert_eq!(size(&[files[0].clone(), other.into()]), None, "{other}");
        }
    }

    #[test]
    fn bytes_are_counted_before_they_are_unpacked() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(&[b'x'; 100_000]).expect("into memory");
        let packed = packed.finish().expect("into memory");
        let size = packed.len() as u64;
        let progress = Progress(ProgressBar::hidden());
        let input = Input { name: "packed".to_owned(), reader: Box::new(std::io::Cursor::new(packed)) };
        let mut watched = progress.counted(vec![input]);
        let mut unpacked = Vec::new();
        flate2::read::GzDecoder::new(&mut watched[0].reader).read_to_end(&mut unpacked).expect("whole");
        assert_eq!((unpacked.len(), progress.0.position()), (100_000, size));
    }
}
