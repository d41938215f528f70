//! Regular expressions that say of each character of a text of one length what it may be, as of a UUID: told without an automaton.

use regex_syntax::hir::{Class, ClassUnicodeRange, Hir, HirKind, Look};

/// Longer texts are no shapes.
const LENGTH_MAX: usize = 64;

/// Ranges of characters that a place may have, at most.
const RANGES: usize = 3;

/// Each byte of a word.
const ONES: u64 = u64::from_ne_bytes([1; 8]);
/// The highest bit of each byte, which no character of ASCII has.
const TOPS: u64 = ONES << 7;

/// What the text at each place may be: told of eight places at once, as most texts that are asked about are of the shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    len: usize,
    /// Of every eight places, one after the other, and then of the last ones with what of them is before: each byte must be
    /// in one of its ranges.
    words: Box<[[Ranges; RANGES]]>,
}

/// A range of characters for each byte of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ranges {
    /// What makes the highest bit of a byte 1 if the character is the first of its range, or after it.
    from: u64,
    /// The same, if it is after the last one.
    beyond: u64,
}

impl Ranges {
    /// `range`: that of each byte.
    fn new(range: impl Fn(usize) -> (u8, u8)) -> Self {
        let each = |of: &dyn Fn((u8, u8)) -> u8| u64::from_ne_bytes(std::array::from_fn(|byte| of(range(byte))));
        Self { from: each(&|(first, _)| 0x80 - first), beyond: each(&|(_, last)| 0x7f - last) }
    }

    /// The highest bit of each byte that is in its range. All are of ASCII, so that nothing is carried to the next.
    fn holds(self, word: u64) -> u64 {
        word.wrapping_add(self.from) & !word.wrapping_add(self.beyond) & TOPS
    }
}

impl Shape {
    /// `None` if the expression is none, or not of the whole text, or not of ASCII alone, or of more ranges of characters
    /// at one place than are looked for.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let hir = regex_syntax::parse(pattern).ok()?;
        let HirKind::Concat(parts) = hir.kind() else { return None };
        let [start, within @ .., end] = parts.as_slice() else { return None };
        let (HirKind::Look(Look::Start), HirKind::Look(Look::End)) = (start.kind(), end.kind()) else { return None };
        let mut sets: Vec<Vec<(u8, u8)>> = Vec::new();
        within.iter().try_for_each(|part| put(part, &mut sets))?;
        if sets.is_empty() || sets.iter().any(|ranges| ranges.len() > RANGES) {
            return None;
        }
        let range = |place: usize, number: usize| match sets.get(place) {
            // Where nothing may stand: no byte is in it.
            Some(ranges) => ranges.get(number).or_else(|| ranges.first()).copied().unwrap_or((0x7f, 0)),
            // Places that a short text does not have are 0.
            None => (0, 0),
        };
        let len = sets.len();
        let whole = (0..len / 8).map(|word| word * 8);
        let begins = whole.chain((!len.is_multiple_of(8)).then_some(len.saturating_sub(8)));
        let words = begins.map(|begin| std::array::from_fn(|number| Ranges::new(|byte| range(begin + byte, number))));
        Some(Self { len, words: words.collect() })
    }

    /// Whether it is the shape of this text: then the expression matches it.
    pub(super) fn is_of(&self, text: &str) -> bool {
        let text = text.as_bytes();
        if text.len() != self.len {
            return false;
        }
        let (whole, rest) = text.as_chunks::<8>();
        let mut last = [0; 8];
        match text.last_chunk() {
            Some(chunk) => last = *chunk,
            None => last[..rest.len()].copy_from_slice(rest),
        }
        let strange = |word: [u8; 8], ranges: &[Ranges; RANGES]| {
            let word = u64::from_ne_bytes(word);
            let held = ranges.iter().fold(0, |held, ranges| held | ranges.holds(word));
            (word & TOPS) | (held ^ TOPS)
        };
        let all = whole.iter().zip(&self.words).fold(0, |any, (word, ranges)| any | strange(*word, ranges));
        let rest = self.words.get(whole.len()).map_or(0, |ranges| strange(last, ranges));
        all | rest == 0
    }
}

/// Adds what may stand at the places of a part.
fn put(part: &Hir, sets: &mut Vec<Vec<(u8, u8)>>) -> Option<()> {
    match part.kind() {
        HirKind::Literal(literal) => literal.0.iter().try_for_each(|byte| put_ranges(vec![(*byte, *byte)], sets)),
        HirKind::Class(Class::Unicode(class)) => {
            let ends = |range: &ClassUnicodeRange| Some((range.start().try_into().ok()?, range.end().try_into().ok()?));
            put_ranges(class.ranges().iter().map(ends).collect::<Option<_>>()?, sets)
        }
        HirKind::Capture(capture) => put(&capture.sub, sets),
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| put(part, sets)),
        HirKind::Repetition(repetition) if repetition.max == Some(repetition.min) => {
            (0..repetition.min).try_for_each(|_| put(&repetition.sub, sets))
        }
        _ => None,
    }
}

fn put_ranges(ranges: Vec<(u8, u8)>, sets: &mut Vec<Vec<(u8, u8)>>) -> Option<()> {
    let ascii = ranges.iter().all(|(_, last)| last.is_ascii());
    (ascii && sets.len() < LENGTH_MAX).then(|| sets.push(ranges))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UUID: &str = "^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$";

    #[test]
    fn a_shape_is_of_what_its_expression_matches() {
        let texts = [
            "01234567-89ab-cdef-0123-456789ABCDEF",
            "01234567-89ab-cdef-0123-456789ABCDEF\n",
            "01234567-89ab-cdef-0123-456789ABCDEg",
            "01234567089ab-cdef-0123-456789ABCDEF",
            "01234567-89ab-cdef-0123-456789ABCDé",
            "",
            "ab1",
            "ac2",
            "AB1",
            "ab",
        ];
        for pattern in [UUID, "^a[bc][0-9]$", "^(?i)a[bc][0-9]$", "^(a(?:b|c)){1}[0-9]$"] {
            let (shape, regex) = (Shape::of(pattern).expect(pattern), regex::Regex::new(pattern).expect(pattern));
            for text in texts {
                assert_eq!(shape.is_of(text), regex.is_match(text), "{pattern} of {text:?}");
            }
        }
    }

    #[test]
    fn what_is_no_shape_is_none() {
        for pattern in [
            "abc",
            "^a+$",
            "^a|b$",
            "^ab",
            "(?m)^ab$",
            "^[^a]b$",
            "^é1$",
            "^[a-zé]1$",
            "^[acegi]1$",
            "^a{65}$",
            "^(?:ab|c)d$",
            "(",
        ] {
            assert_eq!(Shape::of(pattern), None, "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn of_any_text_it_says_what_its_expression_says(
            near in "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
            at in 0_usize..36,
            other in any::<char>(),
            short in "[!-~é]{0,9}",
        ) {
            let mut changed: Vec<char> = near.chars().collect();
            changed[at] = other;
            for pattern in [UUID, "^[!-+a-z]{5}$", "^[!-+a-z]{8}$", "^[0-Z]{2}x[a-~]{6}$"] {
                let (shape, regex) = (Shape::of(pattern).unwrap(), regex::Regex::new(pattern).unwrap());
                for text in [&near, &short, &changed.iter().collect()] {
                    prop_assert_eq!(shape.is_of(text), regex.is_match(text), "{} of {:?}", pattern, text);
                }
            }
        }
    }
}
