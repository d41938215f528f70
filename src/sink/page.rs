//! The way from a message to the page: `admin.url`, the address under which people reach it.

use reqwest::Url;

use super::http;
use crate::alert::Alert;

/// Where the page is, if anybody said so.
#[derive(Clone, Debug, Default)]
pub struct Page(Option<Url>);

impl Page {
    /// From the configuration; the error says what is wrong.
    pub fn new(url: Option<&str>) -> Result<Self, String> {
        Ok(Self(url.map(|url| http::url(url, "admin.url")).transpose()?))
    }

    /// The address of an alert. What its id has in it stands in no other part of the address.
    pub(super) fn of(&self, alert: &Alert) -> Option<String> {
        let mut url = self.0.clone()?;
        url.query_pairs_mut().append_pair("alert", &alert.id);
        Some(url.into())
    }

    /// The address of all alerts.
    pub(super) fn all(&self) -> Option<&str> {
        self.0.as_ref().map(Url::as_str)
    }

    /// The name under which browsers ask for it.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        self.0.as_ref()?.host_str()
    }
}

#[cfg(test)]
mod tests {
    use super::super::facts::is_link;
    use super::super::samples::alert;
    use super::*;
    use crate::alert::Level;

    #[test]
    fn an_alert_has_an_address_whatever_its_id_is() {
        let page = Page::new(Some("https://siren.example.com")).unwrap();
        assert_eq!(page.of(&alert("a1", "r", Level::Low)).unwrap(), "https://siren.example.com/?alert=a1");
        let evil = page.of(&alert("a&view=x> |\n\u{202e}#", "r", Level::Low)).unwrap();
        assert_eq!(evil, "https://siren.example.com/?alert=a%26view%3Dx%3E+%7C%0A%E2%80%AE%23");
        assert!(is_link(&evil));
        let below = Page::new(Some("http://proxy:8080/siren/")).unwrap();
        assert_eq!(below.of(&alert("a1", "r", Level::Low)).unwrap(), "http://proxy:8080/siren/?alert=a1");
        assert_eq!((below.all(), below.host()), (Some("http://proxy:8080/siren/"), Some("proxy")));
    }

    #[test]
    fn without_an_address_there_is_none_and_what_is_none_is_said() {
        assert_eq!(Page::default().of(&alert("a1", "r", Level::Low)), None);
        assert!(Page::new(Some("siren.example.com")).unwrap_err().starts_with("admin.url "));
        assert!(Page::new(Some("ftp://siren.example.com")).is_err());
    }
}
