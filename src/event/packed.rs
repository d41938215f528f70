//! Records in base64, with or without gzip: Kinesis, Firehose, Lambda and Pub/Sub carry bytes in JSON like this.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::compress::{DecompressError, Encoding, decompress_counting};
use super::frame::{Reason, Refusal};

/// Letters that say how the bytes begin: four of them are three bytes.
const LETTERS: usize = 4;

/// Bytes that one record may have, unpacked, and so all those of a small body.
const UNPACKED_MAX: u64 = 64 << 20;
/// Those of a large body may have so many times its own size.
const UNPACKED_FACTOR: u64 = 4;

/// Bytes that all packed records of one body may have, unpacked.
pub(super) fn unpacked_max(body_len: usize) -> u64 {
    (body_len as u64).saturating_mul(UNPACKED_FACTOR).max(UNPACKED_MAX)
}

/// Whether a value may be something packed that holds JSON, told by its first letters.
pub(super) fn may_be(value: &RawValue) -> bool {
    let letters = value.get().strip_prefix('"').and_then(|text| text.get(..LETTERS));
    let first = letters.and_then(|letters| STANDARD.decode(letters).ok());
    first.is_some_and(|bytes| matches!(bytes[..], [b'{' | b'[', ..] | [0x1f, 0x8b, ..]))
}

/// Unpacks a text; the error says why not, without content. What comes out of it goes off what is `left` for the body, good
/// or bad: a thousand records that are too large, or broken at their end, would otherwise cost a thousand times the bound.
pub(super) fn unpack(value: &RawValue, left: &mut u64) -> Result<Vec<u8>, Refusal> {
    let wrong = |what: &str| (Reason::Syntax, format!("`data` {what}"));
    let text: Cow<'_, str> = serde_json::from_str(value.get()).map_err(|_| wrong("must be text"))?;
    let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| wrong("is not valid base64"))?;
    let mut used = 0;
    let unpacked = decompress_counting(&bytes, Encoding::Detect, (*left).min(UNPACKED_MAX), &mut used);
    let unpacked = unpacked.map(Cow::into_owned);
    // What was not compressed has not been counted.
    let used = used.max(unpacked.as_ref().map_or(0, Vec::len) as u64);
    *left = left.saturating_sub(used);
    match unpacked {
        Ok(unpacked) => Ok(unpacked),
        Err(DecompressError::TooLarge(_)) => {
            let words = "unpacks to more than one body may hold; send fewer records in one body";
            Err((Reason::TooLarge, format!("`data` {words}")))
        }
        Err(error @ DecompressError::Corrupt(..)) => Err(wrong(&format!("is {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn value(bytes: &[u8]) -> Box<RawValue> {
        RawValue::from_string(format!("\"{}\"", STANDARD.encode(bytes))).unwrap()
    }

    #[test]
    fn what_is_too_large_or_broken_is_counted_too() {
        let pack = |bytes: &[u8]| {
            let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
            gzip.write_all(bytes).unwrap();
            gzip.finish().unwrap()
        };
        let whole = pack(&[b' '; 1000]);
        let (torn, twice) = (value(&whole[..whole.len() - 4]), value(&pack(&pack(&[b' '; 500]))));
        let mut left = 5000;
        assert_eq!(unpack(&torn, &mut left).unwrap_err().0, Reason::Syntax);
        assert_eq!(left, 4000);
        assert_eq!(unpack(&twice, &mut left).unwrap().len(), 500);
        assert!(left < 3000, "both layers: {left}");
        left = 999;
        assert_eq!(unpack(&value(&whole), &mut left).unwrap_err().0, Reason::TooLarge);
        assert_eq!(left, 0);
    }

    #[test]
    fn what_is_packed_is_told_by_its_first_bytes_and_bounded() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"{\"a\":1}").unwrap();
        for packed in [value(b"{\"a\":1}"), value(&gzip.finish().unwrap())] {
            assert!(may_be(&packed));
            let (mut enough, mut less) = (10, 6);
            assert_eq!(unpack(&packed, &mut enough).unwrap(), b"{\"a\":1}");
            assert_eq!(enough, 3);
            assert_eq!(unpack(&packed, &mut less).unwrap_err().0, Reason::TooLarge);
        }
        for other in ["\"hello\"", "7", "\"\"", "\"eyJ\"", "\"ü€ü€\""] {
            assert!(!may_be(&RawValue::from_string(other.to_owned()).unwrap()), "{other}");
        }
        let broken = RawValue::from_string("\"eyJhIjo!\"".to_owned()).unwrap();
        assert_eq!(unpack(&broken, &mut 9).unwrap_err(), (Reason::Syntax, "`data` is not valid base64".to_owned()));
    }
}
