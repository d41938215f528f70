//! What somebody who looks on wants to see: a rule made of a few names, and of items as detections write them.

use std::fmt::Write as _;
use std::path::Path;

use super::ir::Rules;
use super::load::load_text;
use crate::diagnose::Diagnostic;

/// Items that may be given: more is no question any more.
pub const ITEMS_MAX: usize = 32;

/// Which events are wanted. Everything that is given must hold; nothing given means every event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this cluster.
    pub cluster: Option<String>,
    /// Of this user, or whoever acts as this user.
    pub user: Option<String>,
    /// About objects in this namespace.
    pub namespace: Option<String>,
    /// Of this verb.
    pub verb: Option<String>,
    /// With this text in any value.
    pub text: Option<String>,
    /// Items of a Sigma detection, a line each: `objectRef.resource: [secrets, configmaps]`.
    pub items: Vec<String>,
}

impl Wanted {
    /// The one rule that is true of them. The error names every mistake; a field that no event has is one here.
    pub fn rule(&self) -> Result<Rules, String> {
        if self.items.len() > ITEMS_MAX {
            return Err(format!("there may be {ITEMS_MAX} items at most"));
        }
        for item in &self.items {
            check(item)?;
        }
        let loaded = load_text(Path::new("events"), &self.document());
        match loaded.findings.is_empty() {
            true => Ok(loaded.rules),
            false => Err(loaded.findings.iter().map(words).collect::<Vec<_>>().join("; ")),
        }
    }

    fn document(&self) -> String {
        let mut parts = Vec::new();
        let mut is = |field: &str, value: &Option<String>| {
            parts.extend(value.as_ref().map(|value| format!("{field}: {}", quoted(value))));
        };
        is("cluster", &self.cluster);
        is("objectRef.namespace", &self.namespace);
        is("verb", &self.verb);
        parts.extend(self.user.as_ref().map(|user| {
            let user = quoted(user);
            format!("- user.username: {user}\n    - impersonatedUser.username: {user}")
        }));
        parts.extend(self.text.as_ref().map(|text| format!("- {}", quoted(text))));
        parts.extend(self.items.iter().cloned());
        if parts.is_empty() {
            parts.push("auditID|exists: true".to_owned());
        }
        let mut text = "title: What is looked for\nid: wanted\nlevel: informational\n\
            logsource: {product: kubernetes, service: audit}\ndetection:\n"
            .to_owned();
        for (number, part) in parts.iter().enumerate() {
            let _ = writeln!(text, "  part{number}:\n    {part}");
        }
        text.push_str("  condition: all of part*\n");
        text
    }
}

/// A name as YAML has it: JSON is YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// An item that is one, and nothing beside it.
fn check(item: &str) -> Result<(), String> {
    if item.chars().any(char::is_control) {
        return Err("an item is one line of text".to_owned());
    }
    match item.trim_start().starts_with(['-', '[', '{', '"', '\'', '#']) || !item.contains(": ") {
        true => Err(format!("`{item}` is no item of a detection; write it like `objectRef.resource: secrets`")),
        false => Ok(()),
    }
}

fn words(finding: &Diagnostic) -> String {
    let help = finding.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
    format!("{}{help}", finding.message)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rule::naive;

    fn event() -> Value {
        json!({"auditID": "a", "verb": "get", "cluster": "prod", "user": {"username": "system:admin"},
            "impersonatedUser": {"username": "alice"},
            "objectRef": {"resource": "secrets", "namespace": "payments", "name": "db"}, "userAgent": "kubectl/v1"})
    }

    fn some(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn sees(wanted: &Wanted) -> bool {
        let rules = wanted.rule().expect("no mistake");
        naive::holds(&rules.rules[0].expr, &event())
    }

    #[test]
    fn everything_that_is_given_must_hold() {
        assert!(sees(&Wanted::default()));
        assert!(sees(&Wanted { user: some("alice"), ..Wanted::default() }));
        assert!(sees(&Wanted { user: some("system:*"), cluster: some("prod"), ..Wanted::default() }));
        assert!(!sees(&Wanted { user: some("bob"), ..Wanted::default() }));
        assert!(!sees(&Wanted { user: some("alice"), verb: some("list"), ..Wanted::default() }));
        assert!(!sees(&Wanted { namespace: some("pay"), ..Wanted::default() }));
        assert!(sees(&Wanted { text: some("kubectl"), ..Wanted::default() }));
        let items =
            |items: &[&str]| Wanted { items: items.iter().map(ToString::to_string).collect(), ..Wanted::default() };
        assert!(sees(&items(&["objectRef.resource: [secrets, configmaps]", "objectRef.name|startswith: d"])));
        assert!(!sees(&items(&["objectRef.resource: secrets", "objectRef.name|startswith: x"])));
    }

    #[test]
    fn what_could_never_be_seen_is_said() {
        for (item, words) in [
            ("verv: get", "did you mean `verb`?"),
            ("objectRef.resorce: pods", "did you mean `objectRef.resource`?"),
            ("verb|startwith: g", "did you mean `startswith`?"),
            ("secrets", "write it like `objectRef.resource: secrets`"),
            ("- verb: get", "is no item"),
            ("verb: get\n  condition: x", "one line"),
            ("verb: [get", "event"),
        ] {
            let wanted = Wanted { items: vec![item.to_owned()], ..Wanted::default() };
            let error = wanted.rule().expect_err(item);
            assert!(error.contains(words) || words == "event", "{item}: {error}");
        }
        let many = Wanted { items: vec!["verb: get".to_owned(); ITEMS_MAX + 1], ..Wanted::default() };
        assert!(many.rule().expect_err("too many").contains("at most"));
        // Names are names, whatever stands in them.
        assert!(Wanted { user: some("a\"\nb: [}"), ..Wanted::default() }.rule().is_ok());
    }
}
