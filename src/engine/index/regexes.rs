//! The regular expressions of one field in which no text stands that could be looked for instead: all of them in one pass.

use regex_automata::meta::{Cache, Config, Regex};
use regex_automata::{Input, MatchKind, PatternSet};

/// What all expressions of a field may take, compiled.
const COMPILED_MAX: usize = 32 << 20;

/// Expressions, and the rules of each.
#[derive(Debug)]
pub(super) struct Regexes {
    all: Regex,
    rules: Vec<Box<[u32]>>,
}

/// What a worker needs to look for them.
#[derive(Debug)]
pub(super) struct Matching {
    cache: Cache,
    matched: PatternSet,
}

impl Regexes {
    /// `None` if they would be too large together.
    pub(super) fn new(patterns: &[(String, Vec<u32>)]) -> Option<Self> {
        let config = Config::new().match_kind(MatchKind::All).nfa_size_limit(Some(COMPILED_MAX));
        let texts: Vec<&str> = patterns.iter().map(|(text, _)| text.as_str()).collect();
        let all = Regex::builder().configure(config).build_many(&texts).ok()?;
        Some(Self { all, rules: patterns.iter().map(|(_, rules)| rules.as_slice().into()).collect() })
    }

    pub(super) fn matching(&self) -> Matching {
        Matching { cache: self.all.create_cache(), matched: PatternSet::new(self.all.pattern_len()) }
    }

    /// The rules of the expressions that match `text`, in its own case.
    pub(super) fn look<'r>(&'r self, text: &str, matching: &'r mut Matching) -> impl Iterator<Item = &'r [u32]> {
        let Matching { cache, matched } = matching;
        matched.clear();
        self.all.which_overlapping_matches_with(cache, &Input::new(text), matched);
        matched.iter().map(|pattern| &*self.rules[pattern.as_usize()])
    }

    /// The rules of all expressions.
    pub(super) fn rules(&self) -> impl Iterator<Item = &[u32]> {
        self.rules.iter().map(|rules| &**rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_expression_that_matches_is_found() {
        let patterns = [("^[a-z]{3}$", vec![0]), ("(?i)[0-9]+b", vec![1, 5]), ("^[a-c]+$", vec![2])];
        let regexes = Regexes::new(&patterns.map(|(text, rules)| (text.to_owned(), rules))).expect("small");
        let mut matching = regexes.matching();
        for (text, expected) in [("abc", vec![0, 2]), ("12B", vec![1, 5]), ("x", vec![]), ("ab", vec![2])] {
            let found: Vec<u32> = regexes.look(text, &mut matching).flatten().copied().collect();
            assert_eq!(found, expected, "{text}");
        }
        assert_eq!(regexes.rules().flatten().count(), 4);
        assert!(Regexes::new(&vec![("\\w{500}".to_owned(), vec![0]); 50]).is_none(), "too large");
    }
}
