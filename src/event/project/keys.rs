//! The keys of a trie's node, found by a hash of their ends and compared whole.

/// Children of one node that are marked without allocating.
const MARKS: usize = 256;

/// Keys with the children they lead to. An event's keys are looked up, never kept, so nobody can make it slow.
#[derive(Debug, Default)]
pub(super) struct Keys {
    entries: Box<[(Box<str>, u32)]>,
    /// Open addressing: the entry's index plus one, or 0.
    table: Box<[u32]>,
}

impl Keys {
    pub(super) fn new(entries: Vec<(Box<str>, u32)>) -> Self {
        let mut table = vec![0; if entries.is_empty() { 0 } else { (entries.len() * 2).next_power_of_two() }];
        for (number, (key, _)) in (1..).zip(&entries) {
            let mut at = place(key.as_bytes(), table.len());
            while table[at] != 0 {
                at = (at + 1) & (table.len() - 1);
            }
            table[at] = number;
        }
        Self { entries: entries.into(), table: table.into() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// A key's ordinal among the keys, and its child.
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<(u32, u32)> {
        if self.table.is_empty() {
            return None;
        }
        let mut at = place(key, self.table.len());
        loop {
            let ordinal = self.table.get(at)?.checked_sub(1)?;
            let (known, child) = self.entries.get(ordinal as usize)?;
            if known.as_bytes() == key {
                return Some((ordinal, *child));
            }
            at = (at + 1) & (self.table.len() - 1);
        }
    }
}

/// Where a key stands in a table, whose length is a power of two.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "a hash")]
fn place(key: &[u8], len: usize) -> usize {
    let (first, last) = match (key.first_chunk::<8>(), key.last_chunk::<8>()) {
        (Some(first), Some(last)) => (u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
        _ => match (key.first_chunk::<4>(), key.last_chunk::<4>()) {
            (Some(first), Some(last)) => (u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into()),
            _ => key.iter().fold((0, 0), |(word, _), byte| (word << 8 | u64::from(*byte), 0)),
        },
    };
    let mixed = first.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ last.wrapping_mul(0xc2b2_ae3d_27d4_eb4f).rotate_left(31);
    (mixed ^ mixed >> 32).wrapping_add(key.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(20) as usize
        & (len - 1)
}

/// The set of a node's children seen so far in one object: one bit for each, so bounded by the trie.
#[derive(Default)]
pub(super) struct Seen {
    first: [u64; MARKS / 64],
    /// Those after [`MARKS`], which have dots in their names and hardly ever occur.
    further: Vec<u64>,
}

impl Seen {
    /// Marks a child; true if it was marked before.
    #[inline]
    pub(super) fn mark(&mut self, ordinal: u32) -> bool {
        let at = ordinal as usize / 64;
        let word = match self.first.get_mut(at) {
            Some(word) => word,
            None => self.further(at - MARKS / 64),
        };
        let bit = 1 << (ordinal % 64);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    #[cold]
    fn further(&mut self, at: usize) -> &mut u64 {
        if self.further.len() <= at {
            self.further.resize(at + 1, 0);
        }
        &mut self.further[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        let names = ["", "a", "b", "ab", "verb", "stage", "requestURI", "responseObject", "responseStatus", "x.y/z"];
        let keys = Keys::new(names.iter().zip(0..).map(|(name, child)| ((*name).into(), child)).collect());
        for (name, child) in names.iter().zip(0..) {
            assert_eq!(keys.get(name.as_bytes()), Some((child, child)), "{name}");
        }
        for other in ["c", "ba", "verbs", "responseXbject", "requestuRI"] {
            assert_eq!(keys.get(other.as_bytes()), None, "{other}");
        }
        assert!(Keys::default().is_empty() && Keys::default().get(b"a").is_none());
    }

    #[test]
    fn every_child_is_marked_once_however_many_there_are() {
        let mut seen = Seen::default();
        for ordinal in [0, 63, 64, 255, 256, 257, 5_000, 300] {
            assert!(!seen.mark(ordinal), "{ordinal}");
        }
        for ordinal in [300, 0, 63, 64, 255, 256, 257, 5_000] {
            assert!(seen.mark(ordinal), "{ordinal}");
        }
        assert!(!seen.mark(258));
    }
}
