//! Falco's output templates: `Pod started (user=%ka.user.name)`.

use super::condition::{self, Place};
use super::lower::known;
use crate::rule::template::{Piece, Template};

/// Reads a template; the error names the place in the text.
pub(super) fn parse(text: &str) -> Result<Template, (String, Place)> {
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut at = 0;
    // A leading star says "also when fields are missing", which goes without saying.
    let text = text.strip_prefix('*').unwrap_or(text);
    while let Some(found) = text[at..].find('%') {
        plain.push_str(&text[at..at + found]);
        at += found + 1;
        if text[at..].starts_with('%') {
            plain.push('%');
            at += 1;
            continue;
        }
        let Some(operand) = condition::operand(&text[at..]) else {
            plain.push('%');
            continue;
        };
        let moved = |(start, len): Place| (at + start, len);
        let (operand, len) = operand.map_err(|mistake| (mistake.message, moved(mistake.place)))?;
        let known = known(&operand).map_err(|(message, place)| (message, moved(place)))?;
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(Piece::Field { field: known.field, list: known.list });
        at += len;
    }
    plain.push_str(&text[at..]);
    if !plain.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(Template(pieces))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn templates_are_filled() {
        let event = json!({"verb": "get", "user": {"username": "eve", "groups": ["a", "b"]}});
        for (text, expected) in [
            ("by %ka.user.name.", "by eve."),
            ("%ka.verb/%ka.target.name (%ka.user.groups)", "get/<NA> ((a,b))"),
            ("100% sure, 50%% off", "100% sure, 50% off"),
            ("*%toupper(ka.verb) %jevt.value[/user/groups/1]", "GET b"),
        ] {
            let template = parse(text).expect(text);
            assert_eq!(template.render(&event, |_, value, _| value.clone()), expected);
        }
        assert_eq!(parse("a %ka.vreb").expect_err("a mistake").1, (3, 7));
    }
}
