//! Records in base64, with or without gzip: Kinesis, Firehose, Lambda and Pub/Sub carry bytes in JSON like this.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;

use super::compress::{DecompressError, Encoding, decompress};
use super::frame::{Reason, Refusal};

/// Letters that say how the bytes begin: four of them are three bytes.
const LETTERS: usize = 4;

/// Whether a value may be something packed that holds JSON, told by its first letters.
pub(super) fn may_be(value: &RawValue) -> bool {
    let letters = value.get().strip_prefix('"').and_then(|text| text.get(..LETTERS));
    let first = letters.and_then(|letters| STANDARD.decode(letters).ok());
    first.is_some_and(|bytes| matches!(bytes[..], [b'{' | b'[', ..] | [0x1f, 0x8b, ..]))
}

/// Unpacks a text to at most `limit` bytes, which is what is left of what one body may have; the error says why not,
/// without content.
pub(super) fn unpack(value: &RawValue, limit: usize) -> Result<Vec<u8>, Refusal> {
    let wrong = |what: &str| (Reason::Syntax, format!("`data` {what}"));
    let text: Cow<'_, str> = serde_json::from_str(value.get()).map_err(|_| wrong("must be text"))?;
    let bytes = STANDARD.decode(text.as_bytes()).map_err(|_| wrong("is not valid base64"))?;
    match decompress(&bytes, Encoding::Detect, limit as u64) {
        Ok(Cow::Owned(unpacked)) => Ok(unpacked),
        // It was not compressed.
        Ok(Cow::Borrowed(_)) => Ok(bytes),
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
    fn what_is_packed_is_told_by_its_first_bytes_and_bounded() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"{\"a\":1}").unwrap();
        for packed in [value(b"{\"a\":1}"), value(&gzip.finish().unwrap())] {
            assert!(may_be(&packed));
            assert_eq!(unpack(&packed, 7).unwrap(), b"{\"a\":1}");
            assert_eq!(unpack(&packed, 6).unwrap_err().0, Reason::TooLarge);
        }
        for other in ["\"hello\"", "7", "\"\"", "\"eyJ\"", "\"ü€ü€\""] {
            assert!(!may_be(&RawValue::from_string(other.to_owned()).unwrap()), "{other}");
        }
        let broken = RawValue::from_string("\"eyJhIjo!\"".to_owned()).unwrap();
        assert_eq!(unpack(&broken, 9).unwrap_err(), (Reason::Syntax, "`data` is not valid base64".to_owned()));
    }
}
