//! What a rule says when it fires, with the event's values put in.

use serde_json::Value;

use super::explain::Show;
use super::field::{Field, Got};
use super::naive::text_of;
use crate::text::shorten;

/// Characters of a rendered text.
const TEXT_MAX: usize = 2_000;

/// A text with fields in it.
#[derive(Clone, Debug, Default)]
pub struct Template(pub Vec<Piece>);

/// A part of a template.
#[derive(Clone, Debug)]
pub enum Piece {
    /// As it is.
    Text(String),
    /// The values of a field.
    Field {
        /// The field.
        field: Field,
        /// It is a list, and shown as one: `(a,b)`.
        list: bool,
    },
}

impl Template {
    /// The text for an event. What the event lacks reads `<NA>`. Values are untrusted, and shown as `show` says.
    #[must_use]
    pub fn render(&self, event: &Value, show: Show) -> String {
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(plain) => text.push_str(plain),
                Piece::Field { field, list } => text.push_str(&values(field, *list, event, show)),
            }
        }
        shorten(text.trim(), TEXT_MAX)
    }
}

fn values(field: &Field, list: bool, event: &Value, show: Show) -> String {
    let found = field.resolve(event);
    let texts: Vec<String> = found
        .iter()
        .filter_map(|got| match got {
            Got::Scalar(value) => text_of(&show(field, value, event)),
            Got::Container => None,
        })
        .collect();
    match (texts.is_empty(), list) {
        (true, _) => "<NA>".to_owned(),
        (false, true) => format!("({})", texts.join(",")),
        (false, false) => texts.join(","),
    }
}
