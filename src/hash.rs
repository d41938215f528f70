//! Hashes that identify things: deliveries, requests, alerts, rules.

/// Parts that are together at most so long are hashed in one go, which takes three quarters of the instructions.
const SHORT: usize = 512;

/// Hash of several parts; their lengths keep them apart.
#[must_use]
pub fn of(parts: &[&[u8]]) -> blake3::Hash {
    let mut short = [0; SHORT];
    if let Some(len) = put(parts, &mut short) {
        return blake3::hash(&short[..len]);
    }
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize()
}

/// Puts the parts, each behind its length, one after the other; how long they are together, if there is room.
fn put(parts: &[&[u8]], out: &mut [u8]) -> Option<usize> {
    let mut at = 0;
    for part in parts {
        let begin = at + size_of::<u64>();
        out.get_mut(at..begin)?.copy_from_slice(&(part.len() as u64).to_le_bytes());
        at = begin + part.len();
        out.get_mut(begin..at)?.copy_from_slice(part);
    }
    Some(at)
}

/// The first 64 bits of [`of`], for what is looked up in a table.
#[must_use]
pub fn short(parts: &[&[u8]]) -> u64 {
    u64::from_le_bytes(of(parts).as_bytes()[..8].try_into().unwrap_or_default())
}

/// Hash of what may be long, and need only be told from what else has the same name: many times as fast as [`of`], but
/// whoever tries can find two texts that have one hash.
#[must_use]
pub fn content(bytes: &[u8]) -> u64 {
    twox_hash::XxHash3_64::oneshot(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_kept_apart() {
        assert_ne!(short(&[b"ab", b"c"]), short(&[b"a", b"bc"]));
        assert_ne!(short(&[b"ab"]), short(&[b"ab", b""]));
        assert_eq!(of(&[b"a"]), of(&[b"a"]));
    }

    #[test]
    fn hashes_do_not_depend_on_how_they_are_made() {
        for len in [0, 1, SHORT - 17, SHORT - 16, SHORT - 15, 3 * SHORT] {
            let part = vec![b'x'; len];
            let mut hasher = blake3::Hasher::new();
            for part in [part.as_slice(), b""] {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            assert_eq!(of(&[&part, b""]), hasher.finalize(), "{len}");
        }
    }
}
