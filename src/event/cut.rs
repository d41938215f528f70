//! What is left of an event that was cut off: logs have a longest line.

use super::frame::end_of_object;
use super::skip;
use crate::clock::Timestamp;

/// What kube-apiserver itself says of an event whose bodies it left out.
const MARK: &str = r#""annotations":{"audit.k8s.io/truncated":"true"}"#;

/// Makes an event of the members that are whole, with `time` for those that are lost; `None` if nothing is cut off. The
/// member that is cut is left out, as kube-apiserver leaves out bodies that are too large, and it is marked in the same way.
pub(super) fn complete(bytes: &[u8], time: Timestamp) -> Option<String> {
    if !bytes.starts_with(b"{") || end_of_object(bytes).is_some() {
        return None;
    }
    let text = whole_characters(bytes)?;
    let (end, keys) = whole_members(text);
    let mut event = text[..end].to_owned();
    for (key, member) in [
        ("requestReceivedTimestamp", format!(r#""requestReceivedTimestamp":"{time}""#)),
        ("stageTimestamp", format!(r#""stageTimestamp":"{time}""#)),
        ("annotations", MARK.to_owned()),
    ] {
        if !keys.contains(&key) {
            if event.len() > 1 {
                event.push(',');
            }
            event.push_str(&member);
        }
    }
    event.push('}');
    Some(event)
}

/// Text of which the last character may be cut off, too.
fn whole_characters(bytes: &[u8]) -> Option<&str> {
    match str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) if error.error_len().is_none() => str::from_utf8(&bytes[..error.valid_up_to()]).ok(),
        Err(_) => None,
    }
}

/// Where the last whole member of an object ends, and the keys of all of them.
fn whole_members(text: &str) -> (usize, Vec<&str>) {
    let bytes = text.as_bytes();
    let (mut end, mut keys) = (1, Vec::new());
    let mut at = 1;
    loop {
        at += blanks(bytes, at);
        let Some(key) = (bytes.get(at) == Some(&b'"')).then(|| skip::string(bytes, at)).flatten() else { break };
        at = key.end + 1;
        at += blanks(bytes, at);
        if bytes.get(at) != Some(&b':') {
            break;
        }
        at += 1;
        at += blanks(bytes, at);
        let Some(len) = bytes.get(at..).and_then(skip::value) else { break };
        at += len;
        // A number at the very end may have lost its last digits.
        let open = matches!(bytes.get(at - 1), Some(b'"' | b'}' | b']'));
        at += blanks(bytes, at);
        if !open && bytes.get(at) != Some(&b',') {
            break;
        }
        end = at;
        keys.push(&text[key.start..key.end]);
        if bytes.get(at) != Some(&b',') {
            break;
        }
        at += 1;
    }
    (end, keys)
}

fn blanks(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    rest.len() - rest.trim_ascii_start().len()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const TIME: Timestamp = Timestamp(1_790_000_000_123_456);

    #[test]
    fn whatever_is_cut_off_is_left_out_and_the_rest_is_an_event() {
        let event = r#"{"kind":"Event", "auditID":"a\"}" , "code":403,"user":{"username":"bob","groups":["x"]},"verb":"get","requestObject":{"a":[1,{"b":"ü"}]},"stageTimestamp":"2026-01-01T00:00:00.000000Z","annotations":{"a":"b"}}"#;
        let whole: Value = serde_json::from_str(event).unwrap();
        assert_eq!(complete(event.as_bytes(), TIME), None);
        for end in 1..event.len() {
            let cut = String::from_utf8_lossy(&event.as_bytes()[..end]);
            let left = complete(&event.as_bytes()[..end], TIME).unwrap();
            let left: Value = serde_json::from_str(&left).unwrap_or_else(|error| panic!("{error}: {left}"));
            for (key, value) in left.as_object().unwrap() {
                let own = match key.as_str() {
                    "requestReceivedTimestamp" => json!(TIME.to_string()),
                    "stageTimestamp" if value != &whole[key] => json!(TIME.to_string()),
                    "annotations" if value != &whole[key] => json!({"audit.k8s.io/truncated": "true"}),
                    key => whole[key].clone(),
                };
                assert_eq!(value, &own, "{key} of {cut}");
            }
        }
        let left = complete(&event.as_bytes()[..event.find(r#"{"a":[1"#).unwrap() + 5], TIME).unwrap();
        let left: Value = serde_json::from_str(&left).unwrap();
        assert_eq!((&left["verb"], left.get("requestObject")), (&json!("get"), None));
    }
}
