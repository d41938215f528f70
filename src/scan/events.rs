//! The events of inputs as they are, for who wants to send them on.

use super::cut::Blocks;
use super::{Failure, Input};
use crate::event::Framed;
use crate::event::frame::{frame_from, told_apart};

/// Hands every event of the inputs to `each`, in their order, until it answers `false`. `Ok` is how many pieces were no
/// events; an error names an input that cannot be read to its end, or holds none.
pub fn each_event(inputs: Vec<Input>, each: &mut dyn FnMut(&[u8]) -> bool) -> Result<u64, Failure> {
    let (mut blocks, mut buffer, mut rejected, mut wanted) = (Blocks::new(inputs), Vec::new(), 0, true);
    while let Some(block) = blocks.next(&mut buffer) {
        let block = block?;
        let framed = frame_from(&block.bytes, block.lines_before, |piece| match piece {
            Framed::Event(bytes) => {
                wanted = wanted && each(bytes);
                Ok(bytes.len())
            }
            // What it is and where it ends is not looked at here.
            Framed::First(_) => Err(told_apart()),
            Framed::Bad(_) => {
                rejected += 1;
                Ok(0)
            }
        });
        if let Err(error) = framed.map(drop)
            && block.whole
        {
            return Err((block.name.to_string(), error.to_string()));
        }
        if !wanted {
            break;
        }
        buffer = block.bytes;
    }
    Ok(rejected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_handed_on_as_they_are_whatever_holds_them() {
        let event = |id: &str| format!(r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"{id}"}}"#);
        let list = format!(
            r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{},{}]}}"#,
            event("a"),
            event("b")
        );
        let lines = format!("{}\nnonsense\n{}\n", event("c"), event("d"));
        let input = |text: String| Input { name: "x".to_owned(), reader: Box::new(std::io::Cursor::new(text)) };
        let mut found = Vec::new();
        let rejected = each_event(vec![input(list), input(lines)], &mut |bytes| {
            found.push(String::from_utf8(bytes.to_vec()).unwrap());
            found.len() < 4
        });
        assert_eq!(found, [event("a"), event("b"), event("c"), event("d")]);
        assert_eq!(rejected, Ok(1));
        let (name, _) = each_event(vec![input("nonsense".to_owned())], &mut |_| true).unwrap_err();
        assert_eq!(name, "x");
    }
}
