//! The keys that followed one another in the events before. The apiserver writes an object's keys in one order, so the next
//! one is guessed: a comparison, instead of looking for its end and looking it up.

use wide::u8x16;

/// A key with its quotes and colon is guessed up to this length.
const KEY_MAX: usize = 32;

/// Keys of one object that are remembered.
const STEPS_MAX: usize = 24;

/// How many keys may be left out between two that are guessed.
const AHEAD: usize = 8;

/// The keys of the objects at one node, in their order.
#[derive(Debug, Default)]
pub(super) struct Trail(Vec<Step>);

#[derive(Debug)]
struct Step {
    /// `"key":`.
    text: [u8; KEY_MAX],
    len: u32,
    /// A bit for each byte of it.
    mask: u32,
    leads_to: Option<(u32, u32)>,
}

impl Step {
    #[inline]
    fn begins(&self, here: &[u8; KEY_MAX]) -> bool {
        let (here, _) = here.as_chunks::<16>();
        let (text, _) = self.text.as_chunks::<16>();
        let equal = |half: usize| u8x16::from(here[half]).simd_eq(u8x16::from(text[half])).to_bitmask();
        (equal(0) | equal(1) << 16) & self.mask == self.mask
    }

    #[inline]
    fn guessed(&self) -> Guessed {
        Guessed { len: self.len as usize, leads_to: self.leads_to }
    }
}

/// A key that was guessed.
pub(super) struct Guessed {
    /// Its length with quotes and colon.
    pub(super) len: usize,
    /// Its ordinal and child, if it is a key of the node.
    pub(super) leads_to: Option<(u32, u32)>,
}

impl Trail {
    /// The key that `bytes` begin with, if it is one of the next; `at` is how far along the trail the object is.
    #[inline]
    pub(super) fn guess(&self, at: &mut usize, bytes: &[u8]) -> Option<Guessed> {
        let here = bytes.first_chunk::<KEY_MAX>()?;
        let next = self.0.get(*at)?;
        if next.begins(here) {
            *at += 1;
            return Some(next.guessed());
        }
        self.guess_further(at, here)
    }

    /// Some keys are left out.
    fn guess_further(&self, at: &mut usize, here: &[u8; KEY_MAX]) -> Option<Guessed> {
        let further = self.0.iter().enumerate().skip(*at + 1).take(AHEAD);
        let (number, step) = further.into_iter().find(|(_, step)| step.begins(here))?;
        *at = number + 1;
        Some(step.guessed())
    }

    /// Remembers a key, written with its quotes and colon, and without escapes.
    #[cold]
    pub(super) fn learn(&mut self, at: &mut usize, text: &[u8], leads_to: Option<(u32, u32)>) {
        if self.0.len() >= STEPS_MAX || text.len() > KEY_MAX {
            return;
        }
        if self.0.is_empty() {
            // Once and for all: orders of keys that vary are learned for a while.
            self.0.reserve_exact(STEPS_MAX);
        }
        let mask = u32::MAX >> (KEY_MAX - text.len());
        let mut step = Step { text: [0; KEY_MAX], len: mask.count_ones(), mask, leads_to };
        step.text[..text.len()].copy_from_slice(text);
        let here = (*at).min(self.0.len());
        self.0.insert(here, step);
        *at = here + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn padded(text: &str) -> Vec<u8> {
        [text.as_bytes(), &[b' '; KEY_MAX]].concat()
    }

    #[test]
    fn a_key_is_guessed_where_it_comes_next_and_nowhere_else() {
        let mut trail = Trail::default();
        let mut at = 0;
        for (number, key) in ["\"a\":", "\"ab\":", "\"c\":"].into_iter().enumerate() {
            assert!(trail.guess(&mut at, &padded(key)).is_none());
            trail.learn(&mut at, key.as_bytes(), (number != 1).then_some((number as u32, 7)));
        }
        let mut at = 0;
        let guessed = trail.guess(&mut at, &padded("\"a\":1")).expect("the first");
        assert_eq!((guessed.len, guessed.leads_to, at), (4, Some((0, 7)), 1));
        let guessed = trail.guess(&mut at, &padded("\"c\":1")).expect("one is left out");
        assert_eq!((guessed.len, guessed.leads_to, at), (4, Some((2, 7)), 3));
        for (mut at, other) in [(1, "\"a\":"), (0, "\"a\" :"), (0, "\"abc\":"), (0, "a"), (3, "\"c\":")] {
            assert!(trail.guess(&mut at, &padded(other)).is_none(), "{other}");
        }
        let guessed = trail.guess(&mut 0, &padded("\"ab\":")).expect("one that leads nowhere");
        assert_eq!((guessed.len, guessed.leads_to), (5, None));
        assert!(trail.guess(&mut 0, b"\"a\":1}").is_none(), "too near to the end to be compared");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut trail = Trail::default();
        for n in 0..1_000 {
            trail.learn(&mut 0, format!("\"{n}\":").as_bytes(), None);
        }
        trail.learn(&mut 0, &[b'x'; KEY_MAX + 1], None);
        assert_eq!(trail.0.len(), STEPS_MAX);
    }
}
