//! Hashes that identify things: deliveries, requests, alerts, rules.

/// Hash of several parts; their lengths keep them apart.
#[must_use]
pub fn of(parts: &[&[u8]]) -> blake3::Hash {
    // The hasher costs more for each piece that it is given than for the bytes of a small one.
    let (mut small, mut len) = ([0; 256], 0);
    let mut hasher = None;
    for part in parts {
        for piece in [&(part.len() as u64).to_le_bytes()[..], part] {
            if let Some(room) = small.get_mut(len..len + piece.len()) {
                room.copy_from_slice(piece);
                len += piece.len();
                continue;
            }
            let hasher = hasher.get_or_insert_with(blake3::Hasher::new);
            hasher.update(&small[..len]);
            len = 0;
            hasher.update(piece);
        }
    }
    match hasher {
        Some(mut hasher) => hasher.update(&small[..len]).finalize(),
        None => blake3::hash(&small[..len]),
    }
}

/// The first 64 bits of [`of`], for what is looked up in a table.
#[must_use]
pub fn short(parts: &[&[u8]]) -> u64 {
    u64::from_le_bytes(of(parts).as_bytes()[..8].try_into().unwrap_or_default())
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
    fn hashes_are_those_of_the_parts_one_after_the_other() {
        let long = vec![b'x'; 3_000];
        for cut in [0, 1, 7, 100, 239, 240, 241, 247, 248, 249, 255, 256, 257, 1_024, 3_000] {
            let parts: [&[u8]; 5] = [b"a", &long[..cut], b"", &long[cut..], b"id"];
            let mut hasher = blake3::Hasher::new();
            for part in parts {
                hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
            }
            assert_eq!(of(&parts), hasher.finalize(), "{cut}");
            let (few, mut hasher) = ([&long[..cut]], blake3::Hasher::new());
            hasher.update(&(cut as u64).to_le_bytes()).update(few[0]);
            assert_eq!(of(&few), hasher.finalize(), "{cut}");
        }
    }
}
