//! Showing untrusted text to people.

/// Text in which nothing acts: control characters, bidirectional overrides and invisible characters are shown as
/// `\u{…}`, so that a name cannot move the cursor, hide a part of itself or pass for another.
#[must_use]
pub fn printable(text: &str) -> String {
    if text.chars().all(|c| !acts(c)) {
        return text.to_owned();
    }
    text.chars().flat_map(|c| if acts(c) { c.escape_unicode().collect::<Vec<_>>() } else { vec![c] }).collect()
}

fn acts(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{ad}')
        || matches!(c, '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}' | '\u{61c}' | '\u{180e}')
}

/// At most `max` characters; the middle goes first, because beginnings and ends tell names apart.
#[must_use]
pub fn shorten(text: &str, max: usize) -> String {
    let count = text.chars().count();
    if count <= max {
        return text.to_owned();
    }
    let head = max.saturating_sub(1).div_ceil(2);
    let tail = max.saturating_sub(1) - head;
    let front = text.chars().take(head);
    front.chain(['…']).chain(text.chars().skip(count - tail)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts() {
        assert_eq!(printable("tür <b>"), "tür <b>");
        assert_eq!(printable("a\x1b[31mb\u{202e}c\u{200b}\n"), "a\\u{1b}[31mb\\u{202e}c\\u{200b}\\u{a}");
    }

    #[test]
    fn the_middle_goes_first() {
        assert_eq!(shorten("abcdefghij", 5), "ab…ij");
        assert_eq!(shorten("äöü", 3), "äöü");
    }
}
