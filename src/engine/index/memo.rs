//! Answers about values that come again and again: which rules go on for a verb and resource, for a user, for a client.
//! Bounded, and of every value that does not come again it only forgets another.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use crate::event::{Scratch, Slot, Val};

/// Longer texts are no part of a key; what follows is their length.
const TEXT_MAX: usize = u16::MAX as usize - 2;
/// Stands before a number, where the length of a text would be.
const NUMBER: [u8; 2] = u16::MAX.to_le_bytes();
/// Stands behind the values of a field.
const END: [u8; 2] = [0, 0];

/// Keys that are remembered, at most. A power of two.
const ENTRIES: usize = 512;

/// Writes all that an event has in these fields into `key`, so that no two rows of values make the same; false if that is
/// nothing to remember.
#[inline]
pub(super) fn write_key(slots: impl Iterator<Item = Slot>, scratch: &Scratch, event: &str, key: &mut Vec<u8>) -> bool {
    key.clear();
    for slot in slots {
        let mut next = scratch.first(slot);
        while let Some(at) = next {
            match scratch.at(at, event) {
                // The length comes first; one more, because none is the end.
                Val::Str(text) if text.len() <= TEXT_MAX => {
                    let Ok(len) = u16::try_from(text.len() + 1) else { return false };
                    key.extend_from_slice(&len.to_le_bytes());
                    key.extend_from_slice(text.as_bytes());
                }
                Val::Int(number) => {
                    key.extend_from_slice(&NUMBER);
                    key.extend_from_slice(&number.to_le_bytes());
                }
                _ => return false,
            }
            next = scratch.following(at);
        }
        key.extend_from_slice(&END);
    }
    true
}

/// From a key to a set of rules. One worker's; filled as it goes.
#[derive(Debug, Default)]
pub(super) struct Memo {
    /// Of each entry: its key's hash, and its length plus one; 0 is nothing.
    heads: Vec<(u64, u32)>,
    keys: Vec<u8>,
    /// Words of the sets, one after the other.
    sets: Vec<u64>,
    words: usize,
    key_max: usize,
}

impl Memo {
    /// For sets of so many words, and keys of at most so many bytes.
    pub(super) fn new(words: usize, key_max: usize) -> Self {
        let (keys, sets) = (vec![0; ENTRIES * key_max], vec![0; ENTRIES * words]);
        Self { heads: vec![(0, 0); ENTRIES], keys, sets, words, key_max }
    }

    /// The entry of a key, and whether its set is still to be filled: then it is empty. `None` if the key is too long to be
    /// remembered.
    #[inline]
    pub(super) fn entry(&mut self, key: &[u8]) -> Option<(usize, bool)> {
        if key.len() > self.key_max {
            return None;
        }
        let hash = FixedState::default().hash_one(key);
        #[expect(clippy::cast_possible_truncation, reason = "a hash")]
        let entry = hash as usize % ENTRIES;
        let head = (hash, u32::try_from(key.len()).ok()? + 1);
        let known = self.keys.get_mut(entry * self.key_max..entry * self.key_max + key.len())?;
        if self.heads[entry] == head && known == key {
            return Some((entry, false));
        }
        self.heads[entry] = head;
        known.copy_from_slice(key);
        self.set(entry).fill(0);
        Some((entry, true))
    }

    /// The set of an entry.
    #[inline]
    pub(super) fn set(&mut self, entry: usize) -> &mut [u64] {
        &mut self.sets[entry * self.words..(entry + 1) * self.words]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY_MAX: usize = 192;

    #[test]
    fn what_is_remembered_is_what_was_answered() {
        let mut memo = Memo::new(2, KEY_MAX);
        for n in (0..4 * ENTRIES as u64).chain(0..4 * ENTRIES as u64) {
            let (entry, fresh) = memo.entry(n.to_string().as_bytes()).expect("short");
            assert!(!fresh || memo.set(entry) == [0, 0]);
            memo.set(entry)[1] = n;
            let (again, fresh) = memo.entry(n.to_string().as_bytes()).expect("short");
            assert_eq!((again, fresh, &*memo.set(again)), (entry, false, [0, n].as_slice()));
        }
        assert_eq!(memo.entry(&[b'x'; KEY_MAX + 1]), None);
        assert_eq!(memo.heads.len(), ENTRIES);
    }
}
