//! Falco's patterns as questions: shell globs, path prefixes, regular expressions and bytes.

use crate::rule::field::Field;
use crate::rule::ir::{Expr, Glob, Op, Regex, Relation, Test, Text};

/// A text in some relation, case and all.
pub(super) fn text(how: Relation, text: &str, cased: bool) -> Op {
    let text = if cased { text.to_owned() } else { crate::event::project::fold(text) };
    Op::Text { pattern: Text::Plain(how, text), cased }
}

/// A regular expression that must match the whole text.
pub(super) fn whole_regex(pattern: &str) -> Result<Op, String> {
    regex(&format!(r"\A(?:{pattern})\z"))
}

fn regex(pattern: &str) -> Result<Op, String> {
    match regex::RegexBuilder::new(pattern).size_limit(1 << 20).build() {
        Ok(regex) => Ok(Op::Regex(Regex(regex))),
        Err(error) => {
            let message = error.to_string();
            let last = message.lines().last().unwrap_or("not a regular expression").trim_start_matches("error: ");
            Err(format!("the regular expression is wrong: {last}"))
        }
    }
}

/// `fnmatch` with its extended patterns, as `glob` and `iglob` have it: wildcards match slashes too.
pub(super) fn glob(pattern: &str, cased: bool) -> Result<Op, String> {
    match pieces(pattern) {
        Some(pieces) => Ok(Op::Text { pattern: Text::from_pieces(pieces, cased), cased }),
        None => {
            let mut chars = pattern.chars().peekable();
            let inner = translate(&mut chars, false, ".")?;
            regex(&format!(r"(?s{}:\A{inner}\z)", if cased { "" } else { "i" }))
        }
    }
}

/// The pieces of a pattern that has nothing but `*`, `?` and escapes.
fn pieces(pattern: &str) -> Option<Vec<Glob>> {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        let extended = chars.peek() == Some(&'(');
        pieces.push(match c {
            '[' => return None,
            '*' | '?' | '+' | '@' | '!' if extended => return None,
            '*' => Glob::Many,
            '?' => Glob::One,
            '\\' => Glob::Literal(chars.next().unwrap_or('\\').to_string()),
            c => Glob::Literal(c.to_string()),
        });
    }
    Some(pieces)
}

type Chars<'p> = std::iter::Peekable<std::str::Chars<'p>>;

/// A glob as a regular expression; within a group up to its `)`. `any`: what `?` stands for.
fn translate(chars: &mut Chars<'_>, in_group: bool, any: &str) -> Result<String, String> {
    let mut out = String::new();
    while let Some(c) = chars.next() {
        let extended = chars.peek() == Some(&'(');
        match c {
            '!' if extended => return Err("`!(…)` is not supported".to_owned()),
            '*' | '?' | '+' | '@' if extended => {
                chars.next();
                let inner = translate(chars, true, any)?;
                out.push_str(&format!("(?:{inner}){}", if c == '@' { String::new() } else { c.to_string() }));
            }
            '*' => out.push_str(&format!("{any}*")),
            '?' => out.push_str(any),
            '[' => out.push_str(&class(chars)),
            '|' if in_group => out.push('|'),
            ')' if in_group => return Ok(out),
            '\\' => out.push_str(&regex::escape(&chars.next().unwrap_or('\\').to_string())),
            c => out.push_str(&regex::escape(&c.to_string())),
        }
    }
    if in_group { Err("a bracket of the pattern is not closed".to_owned()) } else { Ok(out) }
}

/// `[…]` behind its bracket; without an end it is only a bracket.
fn class(chars: &mut Chars<'_>) -> String {
    let mut ahead = chars.clone();
    let mut inner = String::new();
    let negated = ahead.next_if(|c| matches!(c, '!' | '^')).is_some();
    let mut first = true;
    loop {
        match ahead.next() {
            None => return regex::escape("["),
            Some(']') if !first => break,
            Some('[') if ahead.peek() == Some(&':') => {
                let name: String = ahead.by_ref().take_while(|c| *c != ']').collect();
                inner.push_str(&format!("[{name}]"));
            }
            Some('-') if !first && ahead.peek() != Some(&']') => inner.push('-'),
            Some('\\') => inner.push_str(&regex::escape(&ahead.next().unwrap_or('\\').to_string())),
            Some(c) => inner.push_str(&regex::escape(&c.to_string())),
        }
        first = false;
    }
    *chars = ahead;
    format!("[{}{inner}]", if negated { "^" } else { "" })
}

/// The path, or anything below it; each part of it may be a glob.
pub(super) fn path(field: &Field, path: &str) -> Result<Expr, String> {
    let path = path.trim_end_matches('/');
    let test = |op| Expr::Test(Test::new(field.clone(), op));
    let literal = pieces(path).is_some_and(|pieces| pieces.iter().all(|piece| matches!(piece, Glob::Literal(_))));
    if literal && !path.contains('\\') {
        let below = test(text(Relation::StartsWith, &format!("{path}/"), true));
        return Ok(Expr::Any(vec![test(text(Relation::Is, path, true)), below]));
    }
    let mut chars = path.chars().peekable();
    let inner = translate(&mut chars, false, "[^/]")?;
    regex(&format!(r"(?s:\A{inner}(?:/.*)?\z)")).map(test)
}

/// Bytes that are written in hexadecimal, as text.
pub(super) fn bytes(hex: &str) -> Result<String, String> {
    let digits: Option<Vec<u8>> = hex.chars().map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok())).collect();
    let digits =
        digits.filter(|digits| digits.len() % 2 == 0).ok_or("bytes are written as pairs of hexadecimal digits")?;
    let bytes = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
    String::from_utf8(bytes).map_err(|_| "these bytes are not UTF-8, which every text of an event is".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::FieldPath;
    use crate::rule::naive;

    fn field() -> Field {
        FieldPath::parse("x").expect("a path").into()
    }

    fn holds(op: Op, text: &str) -> bool {
        naive::test_holds(&Test::new(field(), op), &json!({"x": text}))
    }

    #[test]
    fn globs_are_those_of_fnmatch() {
        for (pattern, text, expected) in [
            ("/a/*.txt", "/a/b/c.txt", true),
            ("a?c", "abc", true),
            ("A*", "abc", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]x]y", "]y", true),
            ("[[:digit:]]+", "7+", true),
            ("a[", "a[", true),
            ("@(cat|dog)s", "dogs", true),
            ("+(ab)", "abab", true),
            ("+(ab)", "", false),
            ("?(ab)c", "c", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("a.c", "abc", false),
        ] {
            assert_eq!(holds(glob(pattern, true).expect(pattern), text), expected, "{pattern} {text}");
        }
        assert!(holds(glob("[A]*", false).expect("a glob"), "abc"));
        assert!(glob("!(a)", true).is_err() && glob("@(a", true).is_err());
    }

    #[test]
    fn paths_match_by_whole_parts() {
        for (prefix, text, expected) in [
            ("/var/run", "/var/run", true),
            ("/var/run/", "/var/run/docker.sock", true),
            ("/var/run", "/var/running", false),
            ("/", "/etc", true),
            ("/var/*/x", "/var/a/x/y", true),
            ("/var/*/x", "/var/a/b/x", false),
        ] {
            let expr = path(&field(), prefix).expect(prefix);
            assert_eq!(naive::holds(&expr, &json!({"x": text})), expected, "{prefix} {text}");
        }
    }

    #[test]
    fn regular_expressions_match_whole_texts_and_bytes_are_hexadecimal() {
        assert!(holds(whole_regex("a|b").expect("a regex"), "b") && !holds(whole_regex("a|b").expect("a regex"), "ab"));
        assert!(whole_regex("(").is_err_and(|e| e.contains("unclosed group")));
        assert_eq!(bytes("6869").as_deref(), Ok("hi"));
        assert!(bytes("686").is_err() && bytes("zz").is_err() && bytes("FF").is_err());
    }
}
