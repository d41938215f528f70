//! Inputs cut into blocks of whole lines.

use std::io::{self, BufReader, Read};
use std::sync::Arc;

use super::{Failure, Input};
use crate::event::{compress, frame};

/// Lines are looked at in blocks of about this many bytes.
const BLOCK: usize = 2 << 20;

/// A single document (a pretty-printed list, or one line) may be this long.
const DOCUMENT_MAX: usize = 1 << 30;

/// Bytes of one input that can be looked at by themselves.
pub(super) struct Block {
    pub(super) name: Arc<str>,
    pub(super) bytes: Vec<u8>,
    pub(super) lines_before: usize,
    /// The whole input is one document.
    pub(super) whole: bool,
}

/// The inputs, one after the other, in blocks.
pub(super) struct Blocks {
    inputs: std::vec::IntoIter<Input>,
    current: Option<Cutter>,
}

impl Blocks {
    pub(super) fn new(inputs: Vec<Input>) -> Self {
        Self { inputs: inputs.into_iter(), current: None }
    }

    /// The next block, in the memory of `buffer` where there is one; none when all are read.
    pub(super) fn next(&mut self, buffer: &mut Vec<u8>) -> Option<Result<Block, Failure>> {
        loop {
            if self.current.is_none() {
                let input = self.inputs.next()?;
                match Cutter::new(&input.name, input.reader) {
                    Ok(cutter) => self.current = Some(cutter),
                    Err(error) => return Some(Err((input.name, error.to_string()))),
                }
            }
            let cutter = self.current.as_mut()?;
            match cutter.next(buffer) {
                Ok(Some(block)) => return Some(Ok(block)),
                Ok(None) => self.current = None,
                Err(error) => {
                    let name = cutter.name.to_string();
                    self.current = None;
                    return Some(Err((name, error.to_string())));
                }
            }
        }
    }
}

/// One input: cut into whole lines, or taken whole if it is no sequence of lines.
struct Cutter {
    name: Arc<str>,
    reader: Filling,
    ended: bool,
    lines_before: usize,
    /// The beginning of the next block.
    carried: Vec<u8>,
}

impl Cutter {
    fn new(name: &str, reader: Box<dyn Read + Send>) -> io::Result<Self> {
        let reader = compress::reader(BufReader::with_capacity(256 << 10, reader))?;
        let reader = Filling { reader, failed: None };
        Ok(Self { name: name.into(), reader, ended: false, lines_before: 0, carried: Vec::new() })
    }

    fn next(&mut self, buffer: &mut Vec<u8>) -> io::Result<Option<Block>> {
        let mut bytes = std::mem::take(buffer);
        bytes.clear();
        bytes.append(&mut self.carried);
        let mut want = BLOCK;
        let end = loop {
            self.ended = self.ended || self.reader.fill(&mut bytes, want);
            if let Some(end) = self.end(&bytes) {
                break end;
            }
            if bytes.len() > DOCUMENT_MAX {
                return Err(io::Error::other("a line or document is longer than 1 GiB"));
            }
            want = bytes.len();
        };
        if end == 0 {
            *buffer = bytes;
            return self.reader.failed.take().map_or(Ok(None), Err);
        }
        self.carried.extend_from_slice(&bytes[end..]);
        bytes.truncate(end);
        let whole = self.ended && self.lines_before == 0;
        let block = Block { name: Arc::clone(&self.name), lines_before: self.lines_before, whole, bytes };
        self.lines_before += memchr::memchr_iter(b'\n', &block.bytes).count();
        Ok(Some(block))
    }

    /// Where a block ends: with its last whole line; what follows begins the next one.
    fn end(&self, bytes: &[u8]) -> Option<usize> {
        if self.ended {
            return Some(bytes.len());
        }
        let end = memchr::memrchr(b'\n', bytes)? + 1;
        // A line that is not there to its end tells nothing.
        (self.lines_before > 0 || frame::is_lines(&bytes[..end])).then_some(end)
    }
}

/// An input that may break off: a log that was being packed when the machine went down still has its beginning.
struct Filling {
    reader: Box<dyn Read + Send>,
    failed: Option<io::Error>,
}

impl Filling {
    /// Reads until `want` more bytes are there; true at the end of the input, or where it breaks off.
    fn fill(&mut self, bytes: &mut Vec<u8>, want: usize) -> bool {
        match self.reader.by_ref().take(want as u64).read_to_end(bytes) {
            Ok(read) => read < want,
            Err(error) => {
                self.failed = Some(error);
                true
            }
        }
    }
}
