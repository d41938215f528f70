//! Several texts that are looked for in another one in one go.

use aho_corasick::AhoCorasick;
use aho_corasick::packed::{Config, MatchKind, Searcher};

/// As many as are looked for by comparing blocks of bytes. Each of them may have to be looked at wherever a text has its
/// beginning, so that more of them could be made slow on purpose.
const FEW: usize = 48;

/// What is looked for.
#[derive(Debug)]
pub(super) enum Substrings {
    /// By blocks, which takes less than half of what an automaton does in a body's many texts.
    Few(Searcher),
    Many(AhoCorasick),
}

impl Substrings {
    /// `None` for more than fit into any memory.
    pub(super) fn new<T: AsRef<str>>(texts: &[T]) -> Option<Self> {
        let few = (texts.len() <= FEW).then(|| {
            let mut builder = Config::new().match_kind(MatchKind::LeftmostFirst).builder();
            builder.extend(texts.iter().map(|text| text.as_ref().as_bytes())).build()
        });
        // There is none for empty texts, and for other processors.
        match few.flatten() {
            Some(few) => Some(Self::Few(few)),
            None => AhoCorasick::new(texts.iter().map(AsRef::as_ref)).ok().map(Self::Many),
        }
    }

    /// Whether any is in it.
    pub(super) fn any_in(&self, text: &str) -> bool {
        match self {
            Self::Few(searcher) => searcher.find(text).is_some(),
            Self::Many(automaton) => automaton.is_match(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_there_is_found(
            texts in prop::collection::vec("[ab./é]{0,4}", 0..60),
            within in "[ab./é]{0,40}",
        ) {
            let found = Substrings::new(&texts).expect("small").any_in(&within);
            prop_assert_eq!(found, texts.iter().any(|text| within.contains(text)));
        }
    }
}
