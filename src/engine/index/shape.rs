//! Regular expressions that say of each character of a text of one length what it may be, as of a UUID: told without an automaton.

use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// Longer texts are no shapes.
const LENGTH_MAX: usize = 64;

/// What the text at each place may be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    /// Of each byte a bit for each kind of place at which it may not stand.
    strange: Box<[u8; 256]>,
    /// Of each place the bit of its kind.
    places: Box<[u8]>,
}

impl Shape {
    /// `None` if the expression is none, or not of the whole text, or not of ASCII alone.
    pub(super) fn of(pattern: &str) -> Option<Self> {
        let hir = regex_syntax::parse(pattern).ok()?;
        let HirKind::Concat(parts) = hir.kind() else { return None };
        let [start, within @ .., end] = parts.as_slice() else { return None };
        let (HirKind::Look(Look::Start), HirKind::Look(Look::End)) = (start.kind(), end.kind()) else { return None };
        let mut sets: Vec<[bool; 256]> = Vec::new();
        within.iter().try_for_each(|part| put(part, &mut sets))?;
        let mut known: Vec<[bool; 256]> = Vec::new();
        let mut shape = Self { strange: Box::new([u8::MAX; 256]), places: vec![0; sets.len()].into() };
        for (place, set) in shape.places.iter_mut().zip(sets) {
            let kind = known.iter().position(|other| *other == set).unwrap_or(known.len());
            if kind == known.len() {
                known.push(set);
            }
            *place = 1_u8.checked_shl(u32::try_from(kind).ok()?)?;
            let of_kind = shape.strange.iter_mut().zip(set);
            of_kind.filter(|(_, is)| *is).for_each(|(kinds, _)| *kinds &= !*place);
        }
        Some(shape)
    }

    /// Whether it is the shape of this text: then the expression matches it.
    pub(super) fn is_of(&self, text: &str) -> bool {
        // Nearly all texts that are asked about are: to stop at the first strange byte would only cost.
        let both = text.bytes().zip(&*self.places);
        let strange = || both.fold(0, |any, (byte, place)| any | self.strange[usize::from(byte)] & place);
        text.len() == self.places.len() && strange() == 0
    }
}

/// Adds what may stand at the places of a part.
fn put(part: &Hir, sets: &mut Vec<[bool; 256]>) -> Option<()> {
    match part.kind() {
        HirKind::Literal(literal) => literal.0.iter().try_for_each(|byte| put_range(&[(*byte, *byte)], sets)),
        HirKind::Class(Class::Unicode(class)) => {
            let ranges: Option<Vec<(u8, u8)>> = class
                .ranges()
                .iter()
                .map(|range| Some((u8::try_from(range.start()).ok()?, u8::try_from(range.end()).ok()?)))
                .collect();
            put_range(&ranges?, sets)
        }
        HirKind::Capture(capture) => put(&capture.sub, sets),
        HirKind::Concat(parts) => parts.iter().try_for_each(|part| put(part, sets)),
        HirKind::Repetition(repetition) if repetition.max == Some(repetition.min) => {
            (0..repetition.min).try_for_each(|_| put(&repetition.sub, sets))
        }
        _ => None,
    }
}

fn put_range(ranges: &[(u8, u8)], sets: &mut Vec<[bool; 256]>) -> Option<()> {
    let mut set = [false; 256];
    for (start, end) in ranges.iter().filter(|(_, end)| end.is_ascii()) {
        set[usize::from(*start)..=usize::from(*end)].fill(true);
    }
    let ascii = ranges.iter().all(|(_, end)| end.is_ascii());
    (ascii && sets.len() < LENGTH_MAX).then(|| sets.push(set))
}

#[cfg(test)]
mod tests {
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
        for pattern in ["abc", "^a+$", "^a|b$", "^ab", "(?m)^ab$", "^[^a]b$", "^é1$", "^a{65}$", "^(?:ab|c)d$", "("] {
            assert_eq!(Shape::of(pattern), None, "{pattern}");
        }
    }
}
