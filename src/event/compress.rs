//! Undoing gzip and Zstandard, never past a bound.

use std::borrow::Cow;
use std::io::{self, BufRead, Read};

/// How a body is compressed, where the transport says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Not said: told from the first bytes.
    #[default]
    Detect,
    /// As it is.
    Identity,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

impl Encoding {
    /// What the first bytes say.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        match bytes {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            _ => Self::Identity,
        }
    }
}

/// Why a body could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// It grows past the bound.
    #[error("larger than {0} bytes after decompression")]
    TooLarge(u64),
    /// It is not what it claims to be.
    #[error("not valid {0}: {1}")]
    Corrupt(&'static str, io::Error),
}

/// Unpacks a body; neither of its layers may have more than `limit` bytes. What is packed twice is unpacked twice:
/// CloudWatch packs what Firehose packs again, and a client may pack a file that was.
pub fn decompress(body: &[u8], encoding: Encoding, limit: u64) -> Result<Cow<'_, [u8]>, DecompressError> {
    decompress_counting(body, encoding, limit, &mut 0)
}

/// The same; adds to `unpacked` how many bytes came out of all layers, also of one that turns out to be broken or too large.
pub(super) fn decompress_counting<'b>(
    body: &'b [u8],
    encoding: Encoding,
    limit: u64,
    unpacked: &mut u64,
) -> Result<Cow<'b, [u8]>, DecompressError> {
    let outer = decompress_once(body, encoding, limit, unpacked)?;
    match &outer {
        Cow::Owned(inner) if Encoding::of(inner) == Encoding::Gzip => {
            decompress_once(inner, Encoding::Gzip, limit, unpacked).map(|inner| Cow::Owned(inner.into_owned()))
        }
        _ => Ok(outer),
    }
}

fn decompress_once<'b>(
    body: &'b [u8],
    encoding: Encoding,
    limit: u64,
    unpacked: &mut u64,
) -> Result<Cow<'b, [u8]>, DecompressError> {
    let encoding = if encoding == Encoding::Detect { Encoding::of(body) } else { encoding };
    match encoding {
        Encoding::Detect | Encoding::Identity if body.len() as u64 > limit => Err(DecompressError::TooLarge(limit)),
        Encoding::Detect | Encoding::Identity => Ok(Cow::Borrowed(body)),
        Encoding::Gzip => read_all(flate2::bufread::MultiGzDecoder::new(body), "gzip", limit, unpacked).map(Cow::Owned),
        Encoding::Zstd => {
            let decoder = zstd::stream::read::Decoder::with_buffer(body);
            let decoder = decoder.map_err(|error| DecompressError::Corrupt("zstd", error))?;
            read_all(decoder, "zstd", limit, unpacked).map(Cow::Owned)
        }
    }
}

fn read_all(
    reader: impl Read,
    format: &'static str,
    limit: u64,
    unpacked: &mut u64,
) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    let read = reader.take(limit.saturating_add(1)).read_to_end(&mut out);
    *unpacked += out.len() as u64;
    read.map_err(|error| DecompressError::Corrupt(format, error))?;
    if out.len() as u64 > limit { Err(DecompressError::TooLarge(limit)) } else { Ok(out) }
}

/// A reader that unpacks what it finds by its first bytes; for files and standard input.
pub fn reader<'r>(mut input: impl BufRead + Send + 'r) -> io::Result<Box<dyn Read + Send + 'r>> {
    let unpacked: Box<dyn Read + Send + 'r> = match Encoding::of(input.fill_buf()?) {
        Encoding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
        Encoding::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(input)?),
        Encoding::Detect | Encoding::Identity => return Ok(Box::new(input)),
    };
    Ok(Box::new(Inner::Unknown(unpacked)))
}

/// All of what was packed, its first bytes read before.
type Whole<'r> = io::Chain<io::Cursor<Vec<u8>>, Box<dyn Read + Send + 'r>>;

/// What was packed, of which the first bytes tell whether it is packed once more.
enum Inner<'r> {
    Unknown(Box<dyn Read + Send + 'r>),
    Plain(Whole<'r>),
    Packed(Box<flate2::read::MultiGzDecoder<Whole<'r>>>),
}

/// Says what it means that something ends too early.
fn cut_off(error: io::Error) -> io::Error {
    let text = "the compressed data end in the middle: the file is cut off, or still being written";
    if error.kind() == io::ErrorKind::UnexpectedEof { io::Error::new(error.kind(), text) } else { error }
}

impl Read for Inner<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.unpack(buffer).map_err(cut_off)
    }
}

impl Inner<'_> {
    fn unpack(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Self::Unknown(unpacked) = self {
            let mut unpacked = std::mem::replace(unpacked, Box::new(io::empty()));
            let mut first = Vec::new();
            unpacked.by_ref().take(2).read_to_end(&mut first)?;
            let packed = Encoding::of(&first) == Encoding::Gzip;
            let whole = io::Cursor::new(first).chain(unpacked);
            *self = match packed {
                true => Self::Packed(Box::new(flate2::read::MultiGzDecoder::new(whole))),
                false => Self::Plain(whole),
            };
        }
        match self {
            Self::Unknown(_) => Ok(0),
            Self::Plain(unpacked) => unpacked.read(buffer),
            Self::Packed(unpacked) => unpacked.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn both_formats_are_told_from_their_bytes_and_bounded() {
        let text = b"{}".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).expect("memory");
        let packed = [gzip.finish().expect("memory"), zstd::encode_all(&text[..], 1).expect("memory"), text.clone()];
        for body in packed {
            assert_eq!(decompress(&body, Encoding::Detect, 2000).expect("fits").as_ref(), text);
            assert!(matches!(decompress(&body, Encoding::Detect, 1999), Err(DecompressError::TooLarge(1999))));
            let mut read = Vec::new();
            reader(&body[..]).expect("opens").read_to_end(&mut read).expect("reads");
            assert_eq!(read, text);
        }
    }

    #[test]
    fn what_is_packed_twice_is_unpacked_twice_and_bounded() {
        let pack = |bytes: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            gzip.write_all(bytes).expect("memory");
            gzip.finish().expect("memory")
        };
        let text = b"{}".repeat(1000);
        let twice = [pack(&pack(&text)), zstd::encode_all(&pack(&text)[..], 1).expect("memory")];
        for body in twice {
            assert_eq!(decompress(&body, Encoding::Detect, 2000).expect("fits").as_ref(), text);
            assert!(matches!(decompress(&body, Encoding::Detect, 1999), Err(DecompressError::TooLarge(1999))));
            let mut read = Vec::new();
            reader(&body[..]).expect("opens").read_to_end(&mut read).expect("reads");
            assert_eq!(read, text);
        }
        let thrice = pack(&pack(&pack(&text)));
        assert_eq!(decompress(&thrice, Encoding::Detect, 2000).expect("fits").as_ref(), pack(&text));
    }

    #[test]
    fn of_what_is_cut_off_the_beginning_is_read_and_the_end_is_missed() {
        let text: Vec<u8> =
            (0..100_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_string().into_bytes()).collect();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&text).expect("memory");
        for packed in [gzip.finish().expect("memory"), zstd::encode_all(&text[..], 1).expect("memory")] {
            let mut read = Vec::new();
            let error =
                reader(&packed[..packed.len() - 9]).expect("opens").read_to_end(&mut read).expect_err("cut off");
            assert!(error.to_string().contains("cut off"), "{error}");
            assert!(!read.is_empty() && text.starts_with(&read), "{} bytes", read.len());
        }
    }

    #[test]
    fn a_broken_stream_is_named() {
        let error = decompress(&[0x1f, 0x8b, 1, 2, 3], Encoding::Detect, 100).expect_err("broken");
        assert!(error.to_string().starts_with("not valid gzip"), "{error}");
    }
}
