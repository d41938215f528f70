//! What was refused of bodies: all of it counted, the first pieces described.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::event::frame::Reject;

/// A refused piece, as the rejects file keeps it: never its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejected {
    /// Where in the body.
    pub place: String,
    /// Why, as a label.
    pub reason: &'static str,
    /// Why, in words.
    pub detail: String,
    /// How many bytes it had.
    pub bytes: usize,
    /// Hash of its bytes: the same piece twice is told apart from two.
    pub hash: String,
}

impl Rejected {
    /// The short form of a hash of what was refused.
    #[must_use]
    pub fn hash(bytes: &[u8]) -> String {
        blake3::hash(bytes).to_hex()[..16].to_owned()
    }
}

impl From<&Reject<'_>> for Rejected {
    fn from(reject: &Reject<'_>) -> Self {
        Self {
            place: reject.place.clone(),
            reason: reject.reason.as_str(),
            detail: reject.detail.clone(),
            bytes: reject.bytes.len(),
            hash: Self::hash(reject.bytes),
        }
    }
}

/// The refused pieces of a batch. A body of nothing but garbage has one for every other byte: describing them all would
/// take a hundred times its memory, and nobody reads that.
#[derive(Clone, Debug, Default)]
pub struct Rejections {
    kept: Vec<Rejected>,
    counts: BTreeMap<&'static str, u64>,
}

/// How far [`Rejections`] had come.
pub struct Mark(usize, BTreeMap<&'static str, u64>);

impl Rejections {
    /// Pieces that are described.
    pub const KEPT_MAX: usize = 100;

    /// Counts a piece; `describe` is asked for the first ones.
    pub fn push(&mut self, reason: &'static str, describe: impl FnOnce() -> Rejected) {
        *self.counts.entry(reason).or_default() += 1;
        if self.kept.len() < Self::KEPT_MAX {
            self.kept.push(describe());
        }
    }

    /// How many pieces there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many pieces there were for each reason.
    pub fn by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.counts.iter().map(|(reason, count)| (*reason, *count))
    }

    /// The first pieces, in the order of the body.
    #[must_use]
    pub fn kept(&self) -> &[Rejected] {
        &self.kept
    }

    /// The same, to be owned.
    #[must_use]
    pub fn into_kept(self) -> Vec<Rejected> {
        self.kept
    }

    /// How far it has come.
    #[must_use]
    pub fn mark(&self) -> Mark {
        Mark(self.kept.len(), self.counts.clone())
    }

    /// Forgets what came after a mark.
    pub fn back_to(&mut self, mark: Mark) {
        self.kept.truncate(mark.0);
        self.counts = mark.1;
    }

    /// The pieces described after a mark.
    pub fn kept_since(&mut self, mark: &Mark) -> &mut [Rejected] {
        &mut self.kept[mark.0..]
    }

    /// Whether anything came after a mark.
    #[must_use]
    pub fn has_more_than(&self, mark: &Mark) -> bool {
        self.counts != mark.1
    }

    /// Forgets everything, keeps the memory.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.counts.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: usize) -> Rejected {
        let (place, detail) = (format!("item {number}"), String::new());
        Rejected { place, reason: "kind", detail, bytes: 1, hash: Rejected::hash(b"7") }
    }

    #[test]
    fn all_are_counted_and_the_first_are_kept() {
        let mut rejects = Rejections::default();
        for number in 0..70 {
            rejects.push("kind", || piece(number));
        }
        let mark = rejects.mark();
        for number in 70..1_000 {
            rejects.push("syntax", || piece(number));
        }
        assert_eq!((rejects.count(), rejects.kept().len()), (1_000, Rejections::KEPT_MAX));
        assert_eq!(rejects.by_reason().collect::<Vec<_>>(), [("kind", 70), ("syntax", 930)]);
        assert!(rejects.has_more_than(&mark));
        assert_eq!(rejects.kept_since(&mark).first().map(|piece| piece.place.as_str()), Some("item 70"));
        rejects.back_to(mark);
        assert_eq!((rejects.count(), rejects.kept().len()), (70, 70));
        rejects.clear();
        assert!(rejects.is_empty() && rejects.kept().is_empty());
    }
}
