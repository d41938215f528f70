//! The fast walk, straight over the bytes. It gives up (`None`) on everything unusual: wrong syntax, doubled keys, odd
//! depths, odd numbers, halves of surrogate pairs. Then the twin decides.

use super::keys::Seen;
use super::{Kept, Projection, Scratch, Section, short};
use crate::event::skip::{self, Quoted};
use crate::event::value::DEPTH_MAX;

/// Digits that fit into 64 bits whatever they are.
const DIGITS_MAX: usize = 18;

/// Walks over the envelope of the event that `bytes` begin with; returns its length.
pub(super) fn event(projection: &Projection, scratch: &mut Scratch, bytes: &[u8]) -> Option<usize> {
    let mut walk = Walk { projection, scratch, bytes, at: 0 };
    walk.blank();
    walk.root()?;
    Some(walk.at)
}

/// Walks over a body that lies between `start` and the end of `bytes`.
pub(super) fn section(
    projection: &Projection,
    scratch: &mut Scratch,
    bytes: &[u8],
    start: usize,
    node: u32,
) -> Option<()> {
    let mut walk = Walk { projection, scratch, bytes, at: start };
    walk.value(node, 1)?;
    (walk.at == bytes.len()).then_some(())
}

/// Undoes a string's escapes; `None` if one is wrong.
pub(in crate::event) fn unescape(raw: &[u8], out: &mut String) -> Option<()> {
    let mut rest = raw;
    while !rest.is_empty() {
        // Where there is one escape there are often more.
        let at = if rest[0] == b'\\' { 0 } else { memchr::memchr(b'\\', rest).unwrap_or(rest.len()) };
        if at > 0 {
            out.push_str(std::str::from_utf8(rest.get(..at)?).ok()?);
            if at == rest.len() {
                break;
            }
        }
        let plain = match rest.get(at + 1)? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let (c, len) = unicode(rest.get(at..)?)?;
                out.push(c);
                rest = rest.get(at + len..)?;
                continue;
            }
            _ => return None,
        };
        out.push(plain);
        rest = rest.get(at + 2..)?;
    }
    Some(())
}

/// The character of a `\uXXXX`, or of two that make a pair, and how long that is.
fn unicode(escape: &[u8]) -> Option<(char, usize)> {
    let unit = |at: usize| -> Option<u32> {
        let digits = escape.get(at..at + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, digit| Some(unit << 4 | char::from(*digit).to_digit(16)?))
    };
    let first = unit(0)?;
    if !(0xd800..0xdc00).contains(&first) {
        return Some((char::from_u32(first)?, 6));
    }
    let second = unit(6)?;
    let second = (0xdc00..0xe000).contains(&second).then_some(second)?;
    Some((char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00))?, 12))
}

/// How far a walk over one object has come.
struct Place {
    node: u32,
    seen: Seen,
    /// Along the trail of the node.
    step: usize,
}

impl Place {
    #[inline]
    fn new(node: u32) -> Self {
        Self { node, seen: Seen::default(), step: 0 }
    }
}

/// What a walk over an object comes to next.
enum Member {
    /// The value of a key that leads to this node.
    Known(u32),
    /// The value of a key that leads nowhere.
    Other,
    /// The object's end.
    End,
}

struct Walk<'w> {
    projection: &'w Projection,
    scratch: &'w mut Scratch,
    bytes: &'w [u8],
    at: usize,
}

impl<'w> Walk<'w> {
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    /// Passes over white space, of which kube-apiservers write none.
    #[inline]
    fn blank(&mut self) {
        if self.peek().is_some_and(|byte| byte <= b' ') {
            self.blanks();
        }
    }

    #[cold]
    fn blanks(&mut self) {
        while self.peek().is_some_and(|byte| matches!(byte, b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    #[inline]
    fn eat(&mut self, byte: u8) -> bool {
        let hit = self.bytes.get(self.at) == Some(&byte);
        self.at += usize::from(hit);
        hit
    }

    #[inline]
    fn string(&mut self) -> Option<Quoted> {
        let string = skip::string(self.bytes, self.at)?;
        self.at = string.end + 1;
        Some(string)
    }

    /// The event: an object whose sections are put by.
    fn root(&mut self) -> Option<()> {
        let Projection { section_nodes, gate, .. } = self.projection;
        let mut closed = false;
        let mut place = Place::new(Projection::ROOT);
        let mut member = self.first_member(&mut place)?;
        loop {
            let start = self.at;
            match member {
                Member::End => return Some(()),
                Member::Other => self.skip()?,
                Member::Known(child) if closed && !gate.kept.contains(&child) => self.skip()?,
                Member::Known(child) => match section_nodes.iter().position(|node| *node == Some(child)) {
                    Some(section) => {
                        self.skip()?;
                        self.scratch.sections[section] = Section::Raw(short(start), short(self.at));
                    }
                    None => {
                        self.value(child, 1)?;
                        if gate.node == Some(child) {
                            let value = self.bytes.get(start..self.at)?;
                            closed = gate.closed_by.iter().any(|closing| **closing == *value);
                        }
                    }
                },
            }
            member = self.next_member(&mut place)?;
        }
    }

    /// Enters an object.
    #[inline]
    fn first_member(&mut self, place: &mut Place) -> Option<Member> {
        if !self.eat(b'{') {
            return None;
        }
        self.blank();
        if self.eat(b'}') { Some(Member::End) } else { self.member(place) }
    }

    /// Goes on after a member's value.
    #[inline]
    fn next_member(&mut self, place: &mut Place) -> Option<Member> {
        self.blank();
        if self.eat(b'}') {
            return Some(Member::End);
        }
        if !self.eat(b',') {
            return None;
        }
        self.blank();
        self.member(place)
    }

    /// Reads a key, up to its value.
    #[inline]
    fn member(&mut self, place: &mut Place) -> Option<Member> {
        let trail = self.scratch.trails.get(place.node as usize)?;
        let leads_to = match trail.guess(&mut place.step, self.bytes.get(self.at..)?) {
            Some(guessed) => {
                self.at += guessed.len;
                guessed.leads_to
            }
            None => self.key(place)?,
        };
        self.blank();
        match leads_to {
            None => Some(Member::Other),
            // What a doubled key means is for the twin to say.
            Some((ordinal, child)) => (!place.seen.mark(ordinal)).then_some(Member::Known(child)),
        }
    }

    /// Looks a key up: its ordinal and child.
    fn key(&mut self, place: &mut Place) -> Option<Option<(u32, u32)>> {
        if self.peek()? != b'"' {
            return None;
        }
        let key = self.string()?;
        let close = self.at;
        self.blank();
        if !self.eat(b':') {
            return None;
        }
        let children = &self.projection.nodes.get(place.node as usize)?.children;
        let raw = self.bytes.get(key.start..key.end)?;
        if key.escaped {
            let name = &mut self.scratch.spare;
            name.clear();
            unescape(raw, name)?;
            return Some(children.get(name.as_bytes()));
        }
        let leads_to = children.get(raw);
        if self.at == close + 1 {
            let text = self.bytes.get(key.start - 1..self.at)?;
            self.scratch.trails.get_mut(place.node as usize)?.learn(&mut place.step, text, leads_to);
        }
        Some(leads_to)
    }

    fn value(&mut self, node: u32, depth: u32) -> Option<()> {
        match self.peek()? {
            b'"' => self.text(node),
            b'{' => self.object(node, depth + 1),
            b'[' => self.array(node, depth + 1),
            b't' => self.literal(b"true", node, Kept::Bool(true)),
            b'f' => self.literal(b"false", node, Kept::Bool(false)),
            b'n' => self.literal(b"null", node, Kept::Null),
            _ => {
                let number = self.number()?;
                self.keep(node, number);
                Some(())
            }
        }
    }

    #[inline]
    fn keep(&mut self, node: u32, kept: Kept) {
        let projection: &'w Projection = self.projection;
        self.scratch.push(&projection.nodes[node as usize].slots, kept);
    }

    fn object(&mut self, node: u32, depth: u32) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.keep(node, Kept::Container);
        if self.projection.nodes.get(node as usize)?.children.is_empty() {
            return self.skip();
        }
        let mut place = Place::new(node);
        let mut member = self.first_member(&mut place)?;
        loop {
            match member {
                Member::End => return Some(()),
                Member::Other => self.skip()?,
                Member::Known(child) => self.value(child, depth)?,
            }
            member = self.next_member(&mut place)?;
        }
    }

    fn array(&mut self, node: u32, depth: u32) -> Option<()> {
        if depth > DEPTH_MAX {
            return None;
        }
        self.at += 1;
        self.blank();
        if self.eat(b']') {
            self.keep(node, Kept::Container);
            return Some(());
        }
        loop {
            self.value(node, depth)?;
            self.blank();
            if self.eat(b']') {
                return Some(());
            }
            if !self.eat(b',') {
                return None;
            }
            self.blank();
        }
    }

    #[inline]
    fn text(&mut self, node: u32) -> Option<()> {
        let Quoted { start, end, escaped } = self.string()?;
        if !escaped {
            self.keep(node, Kept::Raw(short(start), short(end)));
            return Some(());
        }
        let begin = self.scratch.arena.len();
        unescape(self.bytes.get(start..end)?, &mut self.scratch.arena)?;
        let end = self.scratch.arena.len();
        self.keep(node, Kept::Arena(short(begin), short(end)));
        Some(())
    }

    fn literal(&mut self, word: &[u8], node: u32, kept: Kept) -> Option<()> {
        self.word(word)?;
        self.keep(node, kept);
        Some(())
    }

    /// A number: short whole ones here, all others by the parser.
    fn number(&mut self) -> Option<Kept> {
        let rest = self.bytes.get(self.at..)?;
        let is_part = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let len = rest.iter().position(|byte| !is_part(byte)).unwrap_or(rest.len());
        let token = rest.get(..len)?;
        self.at += len;
        let (negative, digits) = match token.strip_prefix(b"-") {
            Some(digits) => (true, digits),
            None => (false, token),
        };
        let plain = (1..=DIGITS_MAX).contains(&digits.len())
            && digits.iter().all(u8::is_ascii_digit)
            && (digits[0] != b'0' || token == b"0");
        if plain {
            let number = digits.iter().fold(0, |number: i64, digit| number * 10 + i64::from(digit - b'0'));
            return Some(Kept::Int(if negative { -number } else { number }));
        }
        let number: serde_json::Number = serde_json::from_slice(token).ok()?;
        number.as_i64().map(Kept::Int).or_else(|| number.as_f64().map(Kept::Float))
    }

    /// Passes over a value.
    #[inline]
    fn skip(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            // Empty ones are many.
            b'{' if self.bytes.get(self.at + 1) == Some(&b'}') => {
                self.at += 2;
                Some(())
            }
            b'{' | b'[' => {
                self.at = skip::container(self.bytes, self.at)?;
                Some(())
            }
            b't' => self.word(b"true"),
            b'f' => self.word(b"false"),
            b'n' => self.word(b"null"),
            _ => self.number().map(drop),
        }
    }

    fn word(&mut self, word: &[u8]) -> Option<()> {
        let hit = self.bytes.get(self.at..)?.starts_with(word);
        self.at += word.len();
        hit.then_some(())
    }
}
