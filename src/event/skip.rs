//! Passing over JSON without looking into it: where a string or a container ends, told 16 and 64 bytes at a time.
//!
//! What is passed over is not validated: its strings must end and its brackets must balance, no more. Everything here is
//! iterative, so that no depth of nesting costs stack, and looks at every byte once.

#[cfg(target_arch = "x86_64")]
mod avx2;

use wide::u8x16;

/// Bytes of one step over a container: as many as a mask has bits.
const STEP: usize = 64;

/// Bytes of one step over a string.
const LANES: usize = 16;

/// A string without its quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quoted {
    /// Where its content begins.
    pub(super) start: usize,
    /// Where it ends: the closing quote.
    pub(super) end: usize,
    /// Whether it has a backslash.
    pub(super) escaped: bool,
}

/// The string whose opening quote is at `at`; `None` if it does not end, or holds a control character.
#[inline]
pub(super) fn string(bytes: &[u8], at: usize) -> Option<Quoted> {
    let start = at + 1;
    let mut at = start;
    let mut escaped = false;
    loop {
        let (byte, here) = first_special(bytes, at)?;
        match byte {
            b'"' => return Some(Quoted { start, end: here, escaped }),
            b'\\' => {
                escaped = true;
                at = here + 2;
            }
            _ => return None,
        }
    }
}

/// The first quote, backslash or control character from `at` on.
#[inline]
fn first_special(bytes: &[u8], mut at: usize) -> Option<(u8, usize)> {
    while let Some(lanes) = bytes.get(at..).and_then(<[u8]>::first_chunk::<LANES>) {
        let lanes = u8x16::from(*lanes);
        let controls = lanes.min(u8x16::splat(0x1f)).simd_eq(lanes);
        let special = lanes.simd_eq(u8x16::splat(b'"')) | lanes.simd_eq(u8x16::splat(b'\\')) | controls;
        let mask = special.to_bitmask();
        if mask != 0 {
            let here = at + mask.trailing_zeros() as usize;
            return Some((*bytes.get(here)?, here));
        }
        at += LANES;
    }
    let rest = bytes.get(at..)?;
    let here = at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f))?;
    Some((*bytes.get(here)?, here))
}

/// The length of the value that `bytes` begin with; what is neither string nor container ends where it can go on no more.
pub(super) fn value(bytes: &[u8]) -> Option<usize> {
    match bytes.first()? {
        b'"' => string(bytes, 0).map(|found| found.end + 1),
        b'{' | b'[' => container(bytes, 0),
        _ => Some(bytes.iter().position(|byte| matches!(byte, b',' | b']' | b'}' | b':')).unwrap_or(bytes.len())),
    }
}

/// Where the container that opens at `at` has been closed: the index after its last bracket.
#[inline]
pub(super) fn container(bytes: &[u8], at: usize) -> Option<usize> {
    #[cfg(target_arch = "x86_64")]
    if let Some(ended) = avx2::container(bytes, at) {
        return ended;
    }
    portable(bytes, at)
}

/// [`container`] for every machine: what the faster way is held to.
fn portable(bytes: &[u8], at: usize) -> Option<usize> {
    container_by(bytes, at, Masks::of, prefix_xor)
}

/// [`container`], by a way to find the bytes that matter in one step, and a way to make of bits their parity so far.
#[inline(always)]
fn container_by(
    bytes: &[u8],
    at: usize,
    masks: impl Fn(&[u8; STEP]) -> Masks,
    parity: impl Fn(u64) -> u64,
) -> Option<usize> {
    let mut walk = Walk::default();
    let mut at = at;
    while let Some(step) = bytes.get(at..).and_then(<[u8]>::first_chunk::<STEP>) {
        if let Some(end) = walk.step(masks(step), &parity) {
            return Some(at + end);
        }
        at += STEP;
    }
    let rest = bytes.get(at..)?;
    let mut last = [b' '; STEP];
    last.get_mut(..rest.len())?.copy_from_slice(rest);
    walk.step(masks(&last), &parity).map(|end| at + end)
}

/// What one step must know of those before it.
#[derive(Default)]
struct Walk {
    /// Brackets that are open.
    depth: u64,
    /// All ones within a string.
    in_string: u64,
    /// One if the first byte is escaped.
    escaped: u64,
}

impl Walk {
    /// Goes over one step; the index after the bracket that closes the first one, if it is in here.
    #[inline(always)]
    fn step(&mut self, masks: Masks, parity: impl Fn(u64) -> u64) -> Option<usize> {
        let Masks { quotes, backslashes, opening, closing } = masks;
        let quotes = quotes & !self.escaped_by(backslashes);
        let inside = parity(quotes) ^ self.in_string;
        self.in_string = 0_u64.wrapping_sub(inside >> 63);
        let (opening, closing) = (opening & !inside, closing & !inside);
        let (opened, closed) = (u64::from(opening.count_ones()), u64::from(closing.count_ones()));
        if closed < self.depth {
            self.depth = self.depth + opened - closed;
            return None;
        }
        self.close_within(opening, closing)
    }

    /// Bracket by bracket, because the last one may be among them.
    #[inline(always)]
    fn close_within(&mut self, opening: u64, mut closing: u64) -> Option<usize> {
        let mut before = 0_u64;
        while closing != 0 {
            let bit = closing & closing.wrapping_neg();
            let below = bit - 1;
            self.depth += u64::from((opening & below & !before).count_ones());
            before = below;
            self.depth = self.depth.saturating_sub(1);
            if self.depth == 0 {
                return Some(closing.trailing_zeros() as usize + 1);
            }
            closing &= closing - 1;
        }
        self.depth += u64::from((opening & !before).count_ones());
        None
    }

    /// The bytes that a backslash stands before which is not escaped itself.
    #[inline(always)]
    fn escaped_by(&mut self, mut backslashes: u64) -> u64 {
        let mut escaped = self.escaped;
        self.escaped = 0;
        if backslashes == 0 {
            return escaped;
        }
        backslashes &= !escaped;
        while backslashes != 0 {
            let bit = backslashes & backslashes.wrapping_neg();
            if bit == 1 << 63 {
                self.escaped = 1;
                break;
            }
            escaped |= bit << 1;
            backslashes &= !(bit | bit << 1);
        }
        escaped
    }
}

/// A bit for each byte of a step.
#[derive(Clone, Copy)]
struct Masks {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

impl Masks {
    #[inline]
    fn of(bytes: &[u8; STEP]) -> Self {
        let mut masks = Self { quotes: 0, backslashes: 0, opening: 0, closing: 0 };
        for (number, lanes) in bytes.as_chunks::<LANES>().0.iter().enumerate() {
            let lanes = u8x16::from(*lanes);
            let shift = number * LANES;
            // The two kinds of brackets differ in one bit.
            let brackets = lanes | u8x16::splat(0x20);
            let mask = |lanes: u8x16, byte: u8| u64::from(lanes.simd_eq(u8x16::splat(byte)).to_bitmask()) << shift;
            masks.quotes |= mask(lanes, b'"');
            masks.backslashes |= mask(lanes, b'\\');
            masks.opening |= mask(brackets, b'{');
            masks.closing |= mask(brackets, b'}');
        }
        masks
    }
}

/// Each bit is the parity of the bits up to it: with quotes, the bytes inside strings and their opening quotes.
fn prefix_xor(mut bits: u64) -> u64 {
    for shift in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << shift;
    }
    bits
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn strings_end_at_their_quote() {
        for (text, end, escaped) in [
            (r#""""#, 1, false),
            (r#""abc" "#, 4, false),
            (r#""a\"b""#, 5, true),
            (r#""0123456789abcdef0123456789\\"x"#, 29, true),
        ] {
            assert_eq!(string(text.as_bytes(), 0), Some(Quoted { start: 1, end, escaped }), "{text}");
        }
        for text in [r#"""#, r#""abc"#, r#""abc\""#, "\"a\nb\"", r#""0123456789abcdef\"#] {
            assert_eq!(string(text.as_bytes(), 0), None, "{text}");
        }
    }

    #[test]
    fn containers_that_are_not_closed_have_no_end() {
        for text in ["{", "[[]", r#"{"a":"}"#, &"[".repeat(200), &format!("{{\"{}", "\\\"}".repeat(100))] {
            assert_eq!(container(text.as_bytes(), 0), None, "{text}");
        }
    }

    /// Containers with everything that can hide a bracket, at every offset in a step.
    fn json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i32>().prop_map(Value::from),
            r#"[a\\"{}\[\]\n\t ü]{0,40}"#.prop_map(Value::from),
        ];
        let inner = leaf.prop_recursive(6, 60, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::hash_map(r#"[a\\"{}]{0,9}"#, inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        inner.prop_map(|value| Value::from(vec![value]))
    }

    proptest! {
        #[test]
        fn containers_end_where_the_parser_says(value in json(), before in 0_usize..70, after in "[\\]}\", x]{0,80}") {
            let text = value.to_string();
            let all = format!("{}{text}{after}", " ".repeat(before));
            let ended = Some(before + text.len());
            prop_assert_eq!((container(all.as_bytes(), before), portable(all.as_bytes(), before)), (ended, ended));
            for cut in 0..text.len() {
                let cut = &text.as_bytes()[..cut];
                prop_assert_eq!((container(cut, 0), portable(cut, 0)), (None, None));
            }
        }

        #[test]
        fn strings_end_where_the_parser_says(text in r#"[a\\"\u{0}-\u{1f}ü]{0,70}"#, before in 0_usize..20) {
            let printed = Value::from(text).to_string();
            let all = format!("{}{printed}\"", " ".repeat(before));
            let found = string(all.as_bytes(), before).map(|found| found.end + 1);
            prop_assert_eq!(found, Some(before + printed.len()));
        }
    }
}
