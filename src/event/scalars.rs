//! Every scalar of an event, without a tree: for keywords, which may be anywhere.

use super::project::unescape;
use super::skip;

/// Digits of a number whose text is the same however it is read.
const DIGITS_MAX: usize = 15;

/// Whether `test` is true of any scalar's text; keys are none. It may be asked of scalars that others do not see, such as
/// the first of two doubled keys; and where a scalar is odd the answer is yes without asking. So a no is certain.
pub fn any_scalar(event: &str, spare: &mut String, test: &mut dyn FnMut(&str) -> bool) -> bool {
    let bytes = event.as_bytes();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let Some(string) = skip::string(bytes, at) else { return true };
                at = string.end + 1;
                let after = bytes.get(at..).unwrap_or_default().trim_ascii_start();
                if after.first() == Some(&b':') {
                    continue;
                }
                let Some(raw) = event.get(string.start..string.end) else { return true };
                if string.escaped {
                    spare.clear();
                    if unescape(raw.as_bytes(), spare).is_none() {
                        return true;
                    }
                }
                if test(if string.escaped { spare } else { raw }) {
                    return true;
                }
            }
            b'-' | b'0'..=b'9' | b't' | b'f' | b'n' => {
                let rest = &event[at..];
                let len = rest.find([',', ']', '}', ' ', '\n', '\r', '\t']).unwrap_or(rest.len());
                let word = &rest[..len];
                at += len.max(1);
                let plain = word.len() <= DIGITS_MAX && word != "-0" && !word.contains(['.', 'e', 'E']);
                let known = matches!(word, "true" | "false") || plain;
                if word != "null" && (!known || test(word)) {
                    return true;
                }
            }
            _ => at += 1,
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scalars(event: &str) -> (Vec<String>, bool) {
        let mut seen = Vec::new();
        let odd = any_scalar(event, &mut String::new(), &mut |text| {
            seen.push(text.to_owned());
            false
        });
        (seen, odd)
    }

    #[test]
    fn values_are_seen_and_keys_are_not() {
        let (seen, odd) = scalars(r#"{"a" : "x","b":["\u003cy\"",{"c":7,"d":true,"e":null}, -3 ]}"#);
        assert_eq!((seen, odd), (["x", "<y\"", "7", "true", "-3"].map(str::to_owned).to_vec(), false));
    }

    #[test]
    fn what_is_odd_may_be_anything() {
        for event in [r#"{"a":1.50}"#, r#"{"a":"\ud800"}"#, r#"{"a":1e3}"#, r#"{"a":"x"#, r#"{"a":12345678901234567}"#]
        {
            assert!(scalars(event).1, "{event}");
        }
    }
}
