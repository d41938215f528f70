//! The modifiers that rewrite a value before it is compared: encodings, dashes and placeholders.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::diagnose::closest;
use crate::rule::ir::Glob;

/// Texts that one value may become.
const VARIANTS_MAX: usize = 1_000;

/// Bytes that one text may grow to: encodings of encodings grow with each.
const BYTES_MAX: usize = 64 << 10;

/// What Windows programs take for the dash before an option.
const DASHES: [&str; 5] = ["-", "/", "\u{2013}", "\u{2014}", "\u{2015}"];

/// The values of placeholders, by name.
pub type Placeholders = BTreeMap<String, Vec<String>>;

/// One rewriting, in the order in which modifiers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Base64,
    Base64Offset,
    Utf16Le,
    Utf16Be,
    /// Little-endian with its byte order mark.
    Utf16,
    Windash,
}

impl Encoding {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "base64" => Self::Base64,
            "base64offset" => Self::Base64Offset,
            "utf16le" | "wide" => Self::Utf16Le,
            "utf16be" => Self::Utf16Be,
            "utf16" => Self::Utf16,
            "windash" => Self::Windash,
            _ => return None,
        })
    }

    fn apply(self, form: &Form) -> Result<Vec<Form>, String> {
        let units = |text: &str, bytes: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        Ok(match self {
            Self::Base64 => vec![Form::literal(STANDARD.encode(form.bytes()?))],
            Self::Base64Offset => offsets(&form.bytes()?).into_iter().map(Form::literal).collect(),
            Self::Utf16Le => vec![Form::Bytes(units(form.text()?, u16::to_le_bytes))],
            Self::Utf16Be => vec![Form::Bytes(units(form.text()?, u16::to_be_bytes))],
            Self::Utf16 => {
                vec![Form::Bytes([vec![0xff, 0xfe], units(form.text()?, u16::to_le_bytes)].concat())]
            }
            Self::Windash => match form {
                Form::Text(pieces) => dashed(pieces)?.into_iter().map(Form::Text).collect(),
                Form::Bytes(_) => return Err("`windash` comes before the encodings".to_owned()),
            },
        })
    }
}

/// A value on its way through its modifiers.
#[derive(Clone, Debug, PartialEq)]
enum Form {
    Text(Vec<Glob>),
    Bytes(Vec<u8>),
}

impl Form {
    fn literal(text: String) -> Self {
        Self::Text(vec![Glob::Literal(text)])
    }

    /// Encodings take every character for itself.
    fn text(&self) -> Result<&str, String> {
        match self {
            Self::Text(pieces) => match pieces.as_slice() {
                [] => Ok(""),
                [Glob::Literal(text)] => Ok(text),
                _ => Err("what is encoded cannot hold wildcards (write `\\*` for the character)".to_owned()),
            },
            Self::Bytes(_) => Err("it is encoded already".to_owned()),
        }
    }

    fn len(&self) -> usize {
        let len = |piece: &Glob| if let Glob::Literal(text) = piece { text.len() } else { 1 };
        match self {
            Self::Text(pieces) => pieces.iter().map(len).sum(),
            Self::Bytes(bytes) => bytes.len(),
        }
    }

    fn bytes(&self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(_) => self.text().map(|text| text.as_bytes().to_vec()),
            Self::Bytes(bytes) => Ok(bytes.clone()),
        }
    }

    fn into_pieces(self) -> Result<Vec<Glob>, String> {
        match self {
            Self::Text(pieces) => Ok(pieces),
            Self::Bytes(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(vec![Glob::Literal(text)]),
                Err(_) => {
                    Err("in this encoding it is no text that an event can hold; follow it with `base64offset`"
                        .to_owned())
                }
            },
        }
    }
}

/// Every text that a value becomes.
pub(super) fn encode(pieces: Vec<Glob>, encodings: &[Encoding]) -> Result<Vec<Vec<Glob>>, String> {
    let mut forms = vec![Form::Text(pieces)];
    for encoding in encodings {
        let mut next = Vec::new();
        for form in &forms {
            next.extend(encoding.apply(form)?);
            if next.len() > VARIANTS_MAX {
                return Err(format!("it becomes more than {VARIANTS_MAX} texts"));
            }
            if next.last().is_some_and(|form| form.len() > BYTES_MAX) {
                return Err(format!("it becomes longer than {BYTES_MAX} bytes"));
            }
        }
        forms = next;
    }
    forms.into_iter().map(Form::into_pieces).collect()
}

/// What is certain of a value's encoding wherever it stands in the encoded text: one for each place in a group of three.
fn offsets(bytes: &[u8]) -> [String; 3] {
    [0_usize, 1, 2].map(|offset| {
        let padded = [vec![b' '; offset], bytes.to_vec()].concat();
        let encoded = STANDARD.encode(&padded);
        let start = [0, 2, 3][offset];
        let end = encoded.len() - [0, 3, 2][padded.len() % 3];
        encoded.get(start..end.max(start)).unwrap_or_default().to_owned()
    })
}

/// A value with every way to write its dashes: those before a word and after none.
fn dashed(pieces: &[Glob]) -> Result<Vec<Vec<Glob>>, String> {
    let mut variants: Vec<Vec<Glob>> = vec![Vec::new()];
    for piece in pieces {
        let texts = match piece {
            Glob::Literal(text) => dashed_text(text)?.into_iter().map(Glob::Literal).collect(),
            other => vec![other.clone()],
        };
        let product = variants
            .iter()
            .flat_map(|variant| texts.iter().map(|text| variant.iter().cloned().chain([text.clone()]).collect()));
        variants = product.collect();
        if variants.len() > VARIANTS_MAX {
            return Err(format!("its dashes can be written in more than {VARIANTS_MAX} ways"));
        }
    }
    Ok(variants)
}

fn dashed_text(text: &str) -> Result<Vec<String>, String> {
    let is_word = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let mut variants = vec![String::new()];
    let mut before = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if matches!(c, '-' | '/') && !is_word(before) && is_word(chars.peek().copied()) {
            variants = variants.iter().flat_map(|text| DASHES.map(|dash| format!("{text}{dash}"))).collect();
        } else {
            variants.iter_mut().for_each(|text| text.push(c));
        }
        if variants.len() > VARIANTS_MAX {
            return Err(format!("its dashes can be written in more than {VARIANTS_MAX} ways"));
        }
        before = Some(c);
    }
    Ok(variants)
}

/// Every text that a value with `%placeholders%` becomes; what they stand for may hold wildcards. One that stands for an
/// empty list leaves none. With `escapes` a
/// backslash at the end of one part is itself, whatever the next part begins with.
pub(super) fn expand(text: &str, known: &Placeholders, escapes: bool) -> Result<Vec<String>, String> {
    let mut parts = text.split('%');
    let mut variants = vec![parts.next().unwrap_or_default().to_owned()];
    let mut rest: Vec<&str> = parts.collect();
    if rest.len() % 2 == 1 {
        return Err(format!("`{text}` has a `%` that begins no placeholder (they are written `%name%`)"));
    }
    rest.reverse();
    while let (Some(name), Some(after)) = (rest.pop(), rest.pop()) {
        let values = known.get(name).ok_or_else(|| no_values(name, known))?;
        if variants.len() * values.len() > VARIANTS_MAX {
            return Err(format!("its placeholders stand for more than {VARIANTS_MAX} texts"));
        }
        let joined = |text: &str, value: &str| match escapes {
            true => joined(&joined(text, value), after),
            false => format!("{text}{value}{after}"),
        };
        variants = variants.iter().flat_map(|text| values.iter().map(move |value| joined(text, value))).collect();
    }
    Ok(variants)
}

fn no_values(name: &str, known: &Placeholders) -> String {
    let help = match closest(name, known.keys().map(String::as_str)) {
        Some(near) => format!("did you mean `%{near}%`?"),
        None => "define it under `detections.placeholders`".to_owned(),
    };
    format!("the placeholder `%{name}%` has no values ({help})")
}

/// Two parts of a pattern one after the other, each meaning what it means alone.
fn joined(before: &str, after: &str) -> String {
    let backslashes = before.len() - before.trim_end_matches('\\').len();
    let escapes = backslashes % 2 == 1 && after.starts_with(['*', '?', '\\']);
    format!("{before}{}{after}", if escapes { "\\" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str, encodings: &[Encoding]) -> Result<Vec<String>, String> {
        let pieces = if text.is_empty() { Vec::new() } else { vec![Glob::Literal(text.to_owned())] };
        let encoded = encode(pieces, encodings)?;
        Ok(encoded.into_iter().map(|pieces| pieces.into_iter().map(|p| format!("{p:?}")).collect()).collect())
    }

    fn literals(texts: &[&str]) -> Result<Vec<String>, String> {
        Ok(texts.iter().map(|text| format!("{:?}", Glob::Literal((*text).to_owned()))).collect())
    }

    #[test]
    fn encodings_chain_from_left_to_right() {
        use Encoding::*;
        assert_eq!(texts("foobar", &[Base64]), literals(&["Zm9vYmFy"]));
        assert_eq!(texts("foo", &[Base64Offset]), literals(&["Zm9v", "Zvb", "mb2"]));
        assert_eq!(texts("ab", &[Utf16Le]), literals(&["a\0b\0"]));
        assert_eq!(texts("ab", &[Utf16Be]), literals(&["\0a\0b"]));
        assert_eq!(texts("ping", &[Utf16Le, Base64]), literals(&["cABpAG4AZwA="]));
        assert_eq!(texts("ping", &[Utf16, Base64]), literals(&["//5wAGkAbgBnAA=="]));
        assert!(texts("ü", &[Utf16Le]).is_err_and(|e| e.contains("base64offset")));
        assert!(texts("a", &[Utf16]).is_err_and(|e| e.contains("base64offset")));
        assert!(texts("a", &[Utf16Le, Utf16Le]).is_err());
        assert!(texts("a", &[Base64Offset; 40]).is_err_and(|e| e.contains("more than")));
        assert!(texts("a", &[Base64; 200]).is_err_and(|e| e.contains("longer than")));
        assert!(encode(vec![Glob::Many], &[Base64]).is_err_and(|e| e.contains("wildcards")));
    }

    /// Wherever a text stands in something that is encoded, one of its three forms is in the encoded text.
    #[test]
    fn offsets_are_found_wherever_a_text_stands() {
        for text in ["a", "ab", "abc", "abcd", "/bin/bash"] {
            for before in 0..7 {
                for after in 0..4 {
                    let encoded = STANDARD.encode(format!("{}{text}{}", "x".repeat(before), "y".repeat(after)));
                    let found = offsets(text.as_bytes()).iter().any(|form| encoded.contains(form.as_str()));
                    assert!(found, "{text} after {before} before {after}: {encoded}");
                }
            }
        }
    }

    #[test]
    fn dashes_before_words_are_written_in_every_way() {
        assert_eq!(dashed_text(" -a").map(|v| v.len()), Ok(5));
        assert_eq!(dashed_text("a-b"), Ok(vec!["a-b".to_owned()]));
        assert_eq!(dashed_text("-a /b").map(|v| v.len()), Ok(25));
        assert!(dashed_text(&"-a ".repeat(9)).is_err());
    }

    #[test]
    fn placeholders_stand_for_their_values() {
        let known = Placeholders::from([("admins".to_owned(), vec!["a*".to_owned(), "b".to_owned()])]);
        assert_eq!(expand("x%admins%y", &known, true), Ok(vec!["xa*y".to_owned(), "xby".to_owned()]));
        assert_eq!(expand(r"corp\%admins%", &known, true), Ok(vec![r"corp\a*".to_owned(), r"corp\b".to_owned()]));
        let wild = Placeholders::from([("who".to_owned(), vec!["*svc".to_owned()])]);
        assert_eq!(expand(r"corp\%who%", &wild, true), Ok(vec![r"corp\\*svc".to_owned()]), "the backslash is itself");
        assert_eq!(
            expand(r"\%who%", &wild, false),
            Ok(vec![r"\*svc".to_owned()]),
            "an expression has escapes of its own"
        );
        assert_eq!(expand("plain", &known, true), Ok(vec!["plain".to_owned()]));
        assert!(
            expand("%nobody%", &known, true)
                .is_err_and(|e| e.contains("`%nobody%`") && e.contains("detections.placeholders"))
        );
        assert!(expand("%admin%", &known, true).is_err_and(|e| e.ends_with("(did you mean `%admins%`?)")));
        assert!(expand("100%", &known, true).is_err());
        let empty = Placeholders::from([("none".to_owned(), Vec::new())]);
        assert_eq!(expand("x%none%", &empty, true), Ok(Vec::new()));
    }
}
