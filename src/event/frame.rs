//! Framing: from the bytes of a body, block or file to single events.
//!
//! What it is told by its content: one Event, an EventList, a JSON array of either, or lines (or any sequence) of these;
//! a wrapper that holds an event under `log`, `message`, `value`, `event` or `kubernetes.audit`, as object or as text, is
//! opened, and so are the envelopes of the clouds (`docs/envelopes.md`).
//! One bad event never hides its neighbours: it is handed out as [`Framed::Bad`] with its place and the reason.

mod open;
mod shape;

use std::ops::Range;

use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use self::open::Context;
use self::shape::{Head, NESTING_MAX, Shape};
use super::{packed, skip};

/// The version that kube-apiservers send since 1.12.
pub const API_VERSION: &str = "audit.k8s.io/v1";

/// Older logs say `v1beta1`; its events have the same fields.
fn is_audit(version: Option<&str>) -> bool {
    matches!(version, Some(API_VERSION | "audit.k8s.io/v1beta1"))
}

/// Lines after a torn one that tell whether it is lines that follow.
const LINES_LOOKED_AT: usize = 64;

/// One piece of a body.
#[derive(Debug, PartialEq, Eq)]
pub enum Framed<'b> {
    /// The bytes of one JSON object that claims to be an Event.
    Event(&'b [u8]),
    /// Bytes that begin with the item of an EventList. Whoever takes it says how long it is; whoever refuses it is handed
    /// that item, told apart from the rest, as another piece.
    First(&'b [u8]),
    /// Something else, with the reason.
    Bad(Reject<'b>),
}

/// Something that is no audit event.
#[derive(Debug, PartialEq, Eq)]
pub struct Reject<'b> {
    /// Its bytes.
    pub bytes: &'b [u8],
    /// Where it is, for people: `item 3`, `line 7 column 12`.
    pub place: String,
    /// Why it was refused, without any content of it.
    pub reason: Reason,
    /// The parser's words, without content.
    pub detail: String,
}

/// Why an event was refused: the label `reason` of `events_rejected_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Not JSON.
    Syntax,
    /// JSON, but of another kind or version.
    Kind,
    /// An Event that lacks what every event has, or has it in another type.
    Shape,
    /// A key of the envelope comes twice.
    Duplicate,
    /// Cut off before what every event has.
    Truncated,
    /// Packed, and beyond the bound when it is not.
    TooLarge,
}

impl Reason {
    /// All reasons.
    pub const ALL: [Self; 6] =
        [Self::Syntax, Self::Kind, Self::Shape, Self::Duplicate, Self::Truncated, Self::TooLarge];

    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::Kind => "kind",
            Self::Shape => "shape",
            Self::Duplicate => "duplicate_key",
            Self::Truncated => "truncated",
            Self::TooLarge => "too_large",
        }
    }
}

/// A body of which nothing is an audit event.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Nothing in it at all.
    #[error("the body is empty")]
    Empty,
    /// No JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(String),
    /// Not audit.k8s.io/v1.
    #[error("the body is not audit.k8s.io/v1: {0}")]
    NotAudit(String),
}

/// What framing found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// Events handed out.
    pub events: u64,
    /// Bad pieces handed out.
    pub bad: u64,
    /// Those of the events that were cut off: what is left of them was handed out.
    pub truncated: u64,
    /// Records of an envelope that are about something else, as it says itself: other logs, other services, health checks.
    pub skipped: u64,
}

/// Why a piece was refused: as a label, and in words.
pub type Refusal = (Reason, String);

/// What becomes of a piece: the length of the event it begins with. An event may still be refused, by whoever reads all
/// of it.
pub type Taken = Result<usize, Refusal>;

/// The answer to [`Framed::First`] of who wants the item told apart from what follows.
#[must_use]
pub fn told_apart() -> Refusal {
    (Reason::Syntax, String::new())
}

/// Splits a body and hands each piece to `each`, in order. An event that `each` refuses is handed to it once more, as
/// [`Framed::Bad`] with its place.
///
/// An error means that nothing was taken as an event: the body as a whole is not what it should be.
pub fn frame(body: &[u8], mut each: impl FnMut(Framed<'_>) -> Taken) -> Result<Frame, FrameError> {
    frame_from(body, 0, |piece, _| each(piece))
}

/// Like [`frame`], for a block of lines that follows `lines_before` others; `each` is also told the cluster of a piece, if
/// its envelope names one.
pub fn frame_from(
    body: &[u8],
    lines_before: usize,
    mut each: impl FnMut(Framed<'_>, Option<&str>) -> Taken,
) -> Result<Frame, FrameError> {
    let start = body.iter().position(|b| !b.is_ascii_whitespace()).ok_or(FrameError::Empty)?;
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&body[start..]);
    let mut framer = Framer::new(body.len(), &mut each);
    if lines_before == 0
        && let Some(end) = framer.event_list(body)
    {
        framer.after_list(body, end);
    } else if lines_before > 0 || first_line_is_whole(body) {
        framer.lines(body, lines_before);
    } else {
        framer.sequence(body);
    }
    match framer.first_bad {
        Some(error) if framer.found.events == 0 && !framer.declared => Err(error),
        _ => Ok(framer.found),
    }
}

/// Whether a body that begins like this is a sequence of lines, each a JSON text of its own. A pretty-printed document
/// is not.
#[must_use]
pub fn is_lines(beginning: &[u8]) -> bool {
    let beginning = beginning.strip_prefix(b"\xef\xbb\xbf").unwrap_or(beginning).trim_ascii_start();
    first_line_is_whole(beginning) || (split_first(beginning).is_none() && lines_stand_alone(beginning))
}

/// A line that opens a document without closing it ends in the middle; anything else, right or wrong, is a line.
fn first_line_is_whole(body: &[u8]) -> bool {
    let Some(end) = memchr::memchr(b'\n', body) else { return true };
    if body.starts_with(b"{") && skip::value(&body[..end]).is_some_and(|len| body[len..end].trim_ascii().is_empty()) {
        return true;
    }
    let texts = serde_json::Deserializer::from_slice(&body[..end]).into_iter::<IgnoredAny>();
    !texts.filter_map(Result::err).any(|error| error.is_eof())
}

/// Of something that is no JSON as a whole: whether its lines are, so that only the first was torn. Of a broken printed
/// document hardly any line is.
fn lines_stand_alone(body: &[u8]) -> bool {
    let (mut alone, mut others) = (0, 0);
    let mut lines = body.split(|byte| *byte == b'\n').skip(1).map(<[u8]>::trim_ascii).take(LINES_LOOKED_AT).peekable();
    while let Some(line) = lines.next() {
        if line.starts_with(b"{") && serde_json::from_slice::<IgnoredAny>(line).is_ok() {
            alone += 1;
        } else if !line.is_empty() && lines.peek().is_some() {
            // The last one may only be cut off here.
            others += 1;
        }
    }
    alone > 0 && alone >= others
}

/// The JSON text that something begins with, and what follows it.
fn split_first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut texts = serde_json::Deserializer::from_slice(bytes).into_iter::<&RawValue>();
    let text = texts.next()?.ok()?;
    Some((text.get().as_bytes(), bytes[texts.byte_offset()..].trim_ascii_start()))
}

struct Framer<'f> {
    found: Frame,
    /// An Event or EventList of the right version was seen: the body is what it should be, however bad it is inside.
    declared: bool,
    /// What to say of the first bad piece if nothing good follows.
    first_bad: Option<FrameError>,
    /// What the envelopes around a piece say of it.
    context: Context,
    /// Bytes that packed records may have yet, unpacked.
    unpacked_left: u64,
    each: &'f mut dyn FnMut(Framed<'_>, Option<&str>) -> Taken,
}

/// Where in the body a piece is, told only if it must be.
#[derive(Clone, Copy)]
enum Place {
    Byte(usize),
    Line(usize),
    Item(usize),
}

impl<'f> Framer<'f> {
    fn new(body_len: usize, each: &'f mut dyn FnMut(Framed<'_>, Option<&str>) -> Taken) -> Self {
        let unpacked_left = packed::unpacked_max(body_len);
        Self {
            found: Frame::default(),
            declared: false,
            first_bad: None,
            context: Context::default(),
            unpacked_left,
            each,
        }
    }

    fn lines(&mut self, body: &[u8], lines_before: usize) {
        let mut rest = body;
        let mut number = lines_before;
        while !rest.is_empty() {
            let end = memchr::memchr(b'\n', rest).unwrap_or(rest.len());
            let line = rest[..end].trim_ascii();
            rest = rest.get(end + 1..).unwrap_or_default();
            number += 1;
            if !line.is_empty() {
                let place = if number == 1 && rest.is_empty() { Place::Byte(0) } else { Place::Line(number) };
                self.line(line, place);
            }
        }
    }

    /// One text, as a rule; whether there are several is looked at only when it is no JSON.
    fn line(&mut self, bytes: &[u8], place: Place) {
        if looks_like_event(bytes) {
            let Err((reason, detail)) = self.try_event(bytes) else { return };
            return match split_first(bytes) {
                Some((_, rest)) if !rest.is_empty() => self.several(bytes, place, 0),
                _ => self.refused(bytes, place, reason, detail),
            };
        }
        if let Some(end) = self.event_list(bytes) {
            return self.several(bytes[end..].trim_ascii_start(), place, 0);
        }
        match serde_json::from_slice::<Shape<'_>>(bytes) {
            Ok(shape) => self.shape(bytes, shape, place, 0),
            Err(_) => self.several(bytes, place, 0),
        }
    }

    /// Takes the EventList that `bytes` begin with as kube-apiservers write it, in one pass; returns where it ends.
    /// `None` if it begins in any other way; then nothing was taken.
    fn event_list(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = items_of_list(bytes)?;
        self.declared = true;
        let mut number = 0;
        loop {
            at += bytes[at..].len() - bytes[at..].trim_ascii_start().len();
            match bytes.get(at) {
                None | Some(b']') => break,
                Some(b',') => at += 1,
                Some(_) => {
                    at += self.first_item(&bytes[at..], number);
                    number += 1;
                }
            }
        }
        // Whatever follows the items, they have been taken.
        Some(after_items(bytes, at))
    }

    /// Takes the item that `rest` begins with; returns its length.
    fn first_item(&mut self, rest: &[u8], number: usize) -> usize {
        if let Ok(len) = (self.each)(Framed::First(rest), None) {
            self.found.events += 1;
            return len;
        }
        let end = if rest.starts_with(b"{") { end_of_object(rest) } else { skip::value(rest) };
        let len = end.unwrap_or(rest.len());
        let (item, place) = (rest[..len].trim_ascii(), Place::Item(number));
        match serde_json::from_slice::<&RawValue>(item) {
            Ok(raw) => self.items_from(&[raw], number, 0, true),
            Err(error) => self.bad(item, place, Reason::Syntax, describe(&error)),
        }
        // However little there is, it goes on.
        len.max(1)
    }

    /// What follows a list that a body begins with: lines, if it was one.
    fn after_list(&mut self, body: &[u8], end: usize) {
        let rest = &body[end..];
        let text = rest.trim_ascii_start();
        if text.is_empty() {
            return;
        }
        if rest[..rest.len() - text.len()].contains(&b'\n') {
            let lines_before = memchr::memchr_iter(b'\n', &body[..body.len() - text.len()]).count();
            self.lines(text, lines_before);
        } else {
            self.sequence(text);
        }
    }

    /// Texts one after the other on a line, of which the last may be broken.
    fn several(&mut self, bytes: &[u8], place: Place, nesting: u32) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some((text, after)) = split_first(rest) else { return self.broken(rest, place, nesting) };
            self.document(text, place, nesting);
            rest = after;
        }
    }

    /// Documents one after the other with any white space between and inside.
    fn sequence(&mut self, body: &[u8]) {
        let mut rest = body;
        while !rest.is_empty() {
            let place = Place::Byte(offset_of(body, rest));
            match split_first(rest) {
                Some((text, after)) => {
                    self.document(text, place, 0);
                    rest = after;
                }
                None if lines_stand_alone(rest) => {
                    let lines_before = memchr::memchr_iter(b'\n', &body[..offset_of(body, rest)]).count();
                    return self.lines(rest, lines_before);
                }
                // Pretty-printed and broken.
                None => return self.broken(rest, place, 0),
            }
        }
    }

    /// A piece that is JSON, or an event.
    fn document(&mut self, bytes: &[u8], place: Place, nesting: u32) {
        if looks_like_event(bytes) {
            return self.event(bytes, place);
        }
        match serde_json::from_slice::<Shape<'_>>(bytes) {
            Ok(shape) => self.shape(bytes, shape, place, nesting),
            Err(error) => self.bad(bytes, place, Reason::Syntax, describe(&error)),
        }
    }

    fn shape(&mut self, bytes: &[u8], shape: Shape<'_>, place: Place, nesting: u32) {
        match shape {
            Shape::List(items) => self.items_from(&items, 0, nesting, false),
            Shape::Object(head) => self.object(bytes, &head, place, nesting),
            Shape::Other(kind) => self.bad(bytes, place, Reason::Kind, format!("{kind} is no event")),
        }
    }

    fn object(&mut self, bytes: &[u8], head: &Head<'_>, place: Place, nesting: u32) {
        let outer = self.enter(head);
        let version = head.api_version.as_deref();
        match (head.kind.as_deref(), version) {
            (Some("EventList"), version) if is_audit(version) => match &head.items {
                Some(items) => {
                    self.declared = true;
                    self.items_from(items, 0, nesting, true);
                }
                None => self.bad(bytes, place, Reason::Shape, "an EventList without items".to_owned()),
            },
            (Some("Event"), version) if is_audit(version) => self.event(bytes, place),
            // Taken out of a list, whose version it does not repeat: only audit events have such an id.
            (Some("Event"), None) if head.audit_id => self.event(bytes, place),
            // Items of an EventList need not repeat the kind of their list.
            (None, None) if head.audit_id && matches!(place, Place::Item(_)) => self.event(bytes, place),
            (Some("EventList" | "Event"), version) => {
                let version = version.map_or("none", |_| "another");
                self.bad(bytes, place, Reason::Kind, format!("apiVersion must be {API_VERSION}, it has {version}"));
            }
            _ => self.open(bytes, head, place, nesting),
        }
        self.context = outer;
    }

    /// The items of a list from the `first` on. In an EventList they are events whatever they call themselves, for that is
    /// what their list says; they begin with their level.
    fn items_from(&mut self, items: &[&RawValue], first: usize, nesting: u32, of_event_list: bool) {
        for (number, item) in items.iter().enumerate() {
            let (item, place) = (item.get().as_bytes(), Place::Item(first + number));
            if of_event_list && (item.starts_with(br#"{"level":""#) || has_audit_id(item)) {
                self.event(item, place);
            } else {
                self.item(item, place, nesting);
            }
        }
    }

    fn item(&mut self, item: &[u8], place: Place, nesting: u32) {
        if nesting < NESTING_MAX {
            self.document(item, place, nesting + 1);
        } else {
            self.bad(item, place, Reason::Kind, "lists nested too deep".to_owned());
        }
    }

    /// A piece of the body that is no JSON: if it is a list, its items are told apart by their brackets and the good
    /// ones count. Nothing is salvaged inside an item, so every byte is looked at once.
    fn broken(&mut self, bytes: &[u8], place: Place, nesting: u32) {
        let Err(error) = serde_json::from_slice::<&RawValue>(bytes) else { return };
        if self.after_prefix(bytes, place, nesting) {
            return;
        }
        let items = if looks_like_event(bytes) { Vec::new() } else { salvage_items(bytes) };
        if items.len() < 2 {
            return self.bad(bytes, place, Reason::Syntax, describe(&error));
        }
        for (number, range) in items.into_iter().enumerate() {
            let item = &bytes[range];
            match serde_json::from_slice::<&RawValue>(item) {
                Ok(_) => self.item(item, Place::Item(number), nesting),
                Err(error) => self.bad(item, Place::Item(number), Reason::Syntax, describe(&error)),
            }
        }
    }

    fn event(&mut self, bytes: &[u8], place: Place) {
        if let Err((reason, detail)) = self.try_event(bytes).or_else(|refusal| self.what_is_left(bytes, refusal)) {
            self.refused(bytes, place, reason, detail);
        }
    }

    fn try_event(&mut self, bytes: &[u8]) -> Taken {
        let taken = (self.each)(Framed::Event(bytes), self.context.cluster.as_deref());
        self.found.events += u64::from(taken.is_ok());
        taken
    }

    fn refused(&mut self, bytes: &[u8], place: Place, reason: Reason, detail: String) {
        self.declared |= reason != Reason::Syntax;
        self.bad(bytes, place, reason, detail);
    }

    fn bad(&mut self, bytes: &[u8], place: Place, reason: Reason, detail: String) {
        if self.context.is_other && reason == Reason::Kind {
            return self.skip();
        }
        self.found.bad += 1;
        let mut place_text = match place {
            Place::Byte(at) => format!("byte {at}"),
            Place::Line(number) => format!("line {number}"),
            Place::Item(number) => format!("item {number}"),
        };
        if let Some(number) = self.context.record {
            place_text.push_str(&format!(", record {number}"));
        }
        if self.first_bad.is_none() {
            let told = match (place, self.context.record) {
                (Place::Byte(_), None) => detail.clone(),
                _ => format!("{place_text}: {detail}"),
            };
            let error = if reason == Reason::Syntax { FrameError::NotJson(told) } else { FrameError::NotAudit(told) };
            self.first_bad = Some(error);
        }
        // There is nothing to refuse in what is refused.
        let _ = (self.each)(Framed::Bad(Reject { bytes, place: place_text, reason, detail }), None);
    }
}

/// Where `part` begins in `whole`, of which it is a part.
pub(crate) fn offset_of(whole: &[u8], part: &[u8]) -> usize {
    (part.as_ptr() as usize).saturating_sub(whole.as_ptr() as usize)
}

/// The parser's words with the place; serde_json never quotes the input but for the offending type's value.
pub(crate) fn describe(error: &serde_json::Error) -> String {
    let words = error.to_string();
    let what = words.split(" at line ").next().unwrap_or("syntax error");
    let what = if error.is_data() { "a value of the wrong type" } else { what };
    format!("{what} at line {} column {}", error.line(), error.column())
}

/// Where the items begin of an EventList as kube-apiservers write it: compact, its keys in this order.
fn items_of_list(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":"#)?;
    let rest = &rest[skip::value(rest).filter(|_| rest.starts_with(b"{"))?..];
    let rest = rest.strip_prefix(br#","items":["#)?;
    Some(bytes.len() - rest.len())
}

/// Where a list ends whose items end at `at`, with or without more members after them.
fn after_items(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    loop {
        let rest = bytes.get(at..).unwrap_or_default();
        let text = rest.trim_ascii_start();
        at += rest.len() - text.len();
        match text.first() {
            Some(b'}') => return at + 1,
            Some(b',' | b':') => at += 1,
            Some(_) => match skip::value(text) {
                Some(len) => at += len.max(1),
                None => return bytes.len(),
            },
            None => return bytes.len(),
        }
    }
}

/// The first bytes of every event that a kube-apiserver logs; spares a look ahead for its kind.
fn looks_like_event(bytes: &[u8]) -> bool {
    bytes.starts_with(br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#)
}

fn has_audit_id(item: &[u8]) -> bool {
    matches!(serde_json::from_slice::<Shape<'_>>(item), Ok(Shape::Object(head)) if head.audit_id)
}

/// The ranges of the objects in the first array of `{…"items":[…` or `[…`, told by brackets and quotes alone.
fn salvage_items(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut items = Vec::new();
    let from = if bytes.first() == Some(&b'[') {
        1
    } else {
        match memchr::memmem::find(bytes, b"\"items\"")
            .and_then(|at| memchr::memchr(b'[', &bytes[at..]).map(|p| at + p))
        {
            Some(at) => at + 1,
            None => return items,
        }
    };
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at) + 1,
            b'{' => {
                let end = end_of_object(&bytes[at..]).map_or(bytes.len(), |len| at + len);
                items.push(at..end);
                at = end;
            }
            b']' => break,
            _ => at += 1,
        }
    }
    items
}

/// The length of the object that `bytes` begin with, told by braces and quotes alone: other brackets that do not match
/// must not take its neighbours with them.
pub(super) fn end_of_object(bytes: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'{' => depth += 1,
            b'}' if depth <= 1 => return Some(at + 1),
            b'}' => depth -= 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The index of the quote that ends the string which begins at `at`.
fn end_of_string(bytes: &[u8], at: usize) -> usize {
    let mut at = at + 1;
    while let Some(step) = memchr::memchr2(b'"', b'\\', &bytes[at.min(bytes.len())..]) {
        at += step;
        if bytes[at] == b'"' {
            return at;
        }
        at += 2;
    }
    bytes.len()
}

#[cfg(test)]
mod tests;
