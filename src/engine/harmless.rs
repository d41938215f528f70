//! Texts of which is known that they may be shown as they are: most come again and again, and to look through one for
//! credentials takes longer than all else that is done with it.

use std::borrow::Cow;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::credentials::{query, uri_with, without, without_shapes};
use super::redact::shorten;

/// What a worker knows to be harmless.
#[derive(Debug, Default)]
pub(super) struct Harmless {
    texts: Known,
    names: Known,
    queries: Known,
}

impl Harmless {
    /// Any text as it may be shown, of at most `max` characters.
    pub(super) fn text<'t>(&mut self, text: &'t str, max: usize) -> Cow<'t, str> {
        self.texts.show(text, max, without)
    }

    /// A name or the like as it may be shown, of at most `max` characters.
    pub(super) fn name<'t>(&mut self, text: &'t str, max: usize) -> Cow<'t, str> {
        self.names.show(text, max, without_shapes)
    }

    /// A URI as it may be shown, of at most `max` characters.
    pub(super) fn uri<'t>(&mut self, text: &'t str, max: usize) -> Cow<'t, str> {
        // Most queries come again with other paths.
        shorten(text, max, |uri| uri_with(uri, |after| self.queries.show(after, usize::MAX, query)))
    }
}

/// Each in the place of its hash.
#[derive(Debug)]
struct Known(Vec<Box<str>>);

impl Known {
    const PLACES: usize = 512;
    /// Longer ones are not remembered. They may be too long to be shown as a whole, too.
    const LEN_MAX: usize = 256;

    fn show<'t>(&mut self, text: &'t str, max: usize, clean: impl FnOnce(&'t str) -> Cow<'t, str>) -> Cow<'t, str> {
        if text.len() > Self::LEN_MAX.min(max) {
            return shorten(text, max, clean);
        }
        let hash = FixedState::default().hash_one(text);
        #[expect(clippy::cast_possible_truncation, reason = "a hash")]
        let place = hash as usize % Self::PLACES;
        if *self.0[place] == *text {
            return text.into();
        }
        let shown = shorten(text, max, clean);
        if *shown == *text {
            self.0[place] = text.into();
        }
        shown
    }
}

impl Default for Known {
    fn default() -> Self {
        Self(vec![Box::default(); Self::PLACES])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_harmless_once_is_shown_again_and_nothing_else_is() {
        let mut harmless = Harmless::default();
        let long = "a".repeat(300);
        for _ in 0..2 {
            assert_eq!(harmless.text("curl/8.5.0", 2_048), "curl/8.5.0");
            assert_eq!(harmless.text("password=hunter22", 2_048), without("password=hunter22"));
            assert_ne!(harmless.text("password=hunter22", 2_048), "password=hunter22");
            // A name may be called so.
            assert_eq!(harmless.name("password=hunter22", 512), "password=hunter22");
            assert_ne!(harmless.text("password=hunter22", 2_048), "password=hunter22");
            assert_eq!(harmless.name(&long, 256), format!("{}… (300 bytes)", &long[..256]));
            assert_eq!(harmless.name(&long, 512), long);
            assert_eq!(harmless.name("abcdef", 3), "abc… (6 bytes)");
            assert_eq!(harmless.name("abcdef", 6), "abcdef");
            for shown in ["/api?limit=500&watch=true", "/api", "/a?token=[redacted]", "/api?", "?b"] {
                assert_eq!(harmless.uri(&shown.replace("[redacted]", "limit=500"), 2_048), shown);
            }
            assert_eq!(harmless.uri("/api?limit=500", 6), "/api?l… (14 bytes)");
        }
    }
}
