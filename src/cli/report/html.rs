//! HTML that cannot say more than it was told: text is escaped where it is written.

use crate::text::{shorten, visible};

/// Characters of a link that are shown.
const LINK_MAX: usize = 600;

/// A document that grows.
#[derive(Default)]
pub(super) struct Html(String);

impl Html {
    /// Markup of our own. Nothing that was read may come in here.
    pub(super) fn raw(&mut self, markup: &str) {
        self.0.push_str(markup);
    }

    /// Text of anybody.
    pub(super) fn text(&mut self, text: &str) {
        for c in visible(text).chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                c => self.0.push(c),
            }
        }
    }

    /// An element with text in it.
    pub(super) fn element(&mut self, tag: &'static str, class: &'static str, text: &str) {
        let class = if class.is_empty() { String::new() } else { format!(" class=\"{class}\"") };
        self.raw(&format!("<{tag}{class}>"));
        self.text(text);
        self.raw(&format!("</{tag}>\n"));
    }

    /// A line of a list of facts; nothing where nothing is known.
    pub(super) fn pair(&mut self, name: &'static str, text: &str) {
        if !text.trim().is_empty() {
            self.element("dt", "", name);
            self.element("dd", "", text);
        }
    }

    /// A link to another site, or the text as it is: no rule may bring a script in.
    pub(super) fn link(&mut self, text: &str) {
        let is_web = text.starts_with("https://") || text.starts_with("http://");
        if !is_web || text.len() > LINK_MAX || text.contains(char::is_whitespace) {
            self.text(&shorten(text, LINK_MAX));
            return;
        }
        self.raw("<a rel=\"noopener noreferrer\" href=\"");
        self.text(text);
        self.raw("\">");
        self.text(text);
        self.raw("</a>");
    }

    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_text_and_links_lead_to_the_web_only() {
        let mut html = Html::default();
        html.element("p", "", "<script>alert('1')</script> & \"x\" \u{202e}\u{1b}[2J");
        html.link("javascript:alert(1)");
        html.link("https://a.example/?q=\"><script>");
        let text = html.into_text();
        assert!(!text.contains("<script") && !text.contains('\u{202e}') && !text.contains('\u{1b}'), "{text}");
        assert!(!text.contains("href=\"javascript"), "{text}");
        assert_eq!(text.matches("<a ").count(), 1);
        assert!(text.contains("href=\"https://a.example/?q=&quot;&gt;&lt;script&gt;\""), "{text}");
    }
}
