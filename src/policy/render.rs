//! A generated policy as people read it.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::generate::{Entry, Generated};
use super::model::{GroupResources, PolicyRule};
use crate::text::visible;

/// Columns of a comment's line.
const WIDTH: usize = 110;

/// Detections that a comment names; of more it says how many there are.
const NAMED_MAX: usize = 6;

/// The policy as a file. `made_for` says what it was made of.
#[must_use]
pub fn yaml(generated: &Generated, made_for: &str) -> String {
    let mut text = String::new();
    comment(
        &mut text,
        "",
        &format!("An audit policy for kube-apiserver, made by `kubesiren policy generate` for {made_for}."),
    );
    text.push_str("#\n#   kube-apiserver --audit-policy-file=/etc/kubernetes/audit-policy.yaml ...\n#\n");
    comment(
        &mut text,
        "",
        "The first rule that matches a request decides. Make it again when the rules change, and look at a policy of your own with `kubesiren policy check`.",
    );
    for (what, rules) in &generated.withheld {
        let rules = named(rules);
        comment(&mut text, "", &format!("Bodies of {what} are left out, at the expense of: {rules}."));
    }
    text.push_str("apiVersion: audit.k8s.io/v1\nkind: Policy\n\n");
    if !generated.omit_stages.is_empty() {
        let stages: Vec<&str> = generated.omit_stages.iter().map(|stage| stage.as_str()).collect();
        comment(
            &mut text,
            "",
            "A request is told again with its answer. The other stages are needed: sessions and refused credentials show themselves at ResponseStarted.",
        );
        let _ = writeln!(text, "omitStages: [{}]", stages.join(", "));
    }
    if generated.omit_managed_fields {
        comment(&mut text, "", "Field ownership is half of many bodies, and no rule reads it.");
        text.push_str("omitManagedFields: true\n");
    }
    text.push_str("\nrules:\n");
    for (at, section) in generated.sections.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        let _ = writeln!(text, "  # {}\n", heading(section.title));
        let mut before: &[String] = &[];
        for (at, entry) in section.entries.iter().enumerate() {
            write_entry(&mut text, entry, at > 0, before);
            before = &entry.why;
        }
    }
    text
}

fn heading(title: &str) -> String {
    format!("--- {title} {}", "-".repeat(WIDTH.saturating_sub(title.len() + 8)))
}

/// What was said of the entry before is not said again.
fn write_entry(text: &mut String, entry: &Entry, separate: bool, before: &[String]) {
    let told = entry.why == before && entry.rules.is_empty() && !before.is_empty();
    if separate && !told {
        text.push('\n');
    }
    if !told {
        entry.why.iter().for_each(|why| comment(text, "  ", why));
    }
    if !entry.rules.is_empty() {
        comment(text, "  ", &format!("For {}.", named(&entry.rules)));
    }
    write_rule(text, &entry.rule);
}

/// Titles of detections, some of them if there are many.
fn named(rules: &BTreeSet<String>) -> String {
    let mut names: Vec<String> = rules.iter().take(NAMED_MAX).map(|title| format!("\"{}\"", visible(title))).collect();
    if rules.len() > NAMED_MAX {
        names.push(format!("and {} more", rules.len() - NAMED_MAX));
    }
    names.join(", ")
}

fn write_rule(text: &mut String, rule: &PolicyRule) {
    let _ = writeln!(text, "  - level: {}", rule.level);
    for (key, values) in [("users", &rule.users), ("userGroups", &rule.user_groups), ("verbs", &rule.verbs)] {
        list(text, &format!("    {key}: "), values);
    }
    write_resources(text, &rule.resources);
    list(text, "    nonResourceURLs: ", &rule.non_resource_urls);
}

/// Groups one a line, or one after the other where nothing is said of them but their names.
fn write_resources(text: &mut String, groups: &[GroupResources]) {
    if groups.len() > 1 && groups.iter().all(|group| group.resources.is_empty()) {
        let groups: Vec<String> = groups.iter().map(flow_group).collect();
        return wrapped(text, "    resources: [", &groups, "]");
    }
    if !groups.is_empty() {
        text.push_str("    resources:\n");
    }
    for group in groups {
        if group.resources.is_empty() {
            let _ = writeln!(text, "      - {}", flow_group(group));
        } else {
            let names: Vec<String> = group.resources.iter().map(|name| quoted(name)).collect();
            wrapped(text, &format!("      - {{group: {}, resources: [", quoted(&group.group)), &names, "]}");
        }
    }
}

/// A list on one line, or on several if it is long; nothing if it is empty.
fn list(text: &mut String, before: &str, values: &[String]) {
    if !values.is_empty() {
        let values: Vec<String> = values.iter().map(|value| quoted(value)).collect();
        wrapped(text, &format!("{before}["), &values, "]");
    }
}

/// What stands in brackets, broken into lines; those after the first are further in than the first.
fn wrapped(text: &mut String, before: &str, parts: &[String], after: &str) {
    let indent = " ".repeat(before.len() - before.trim_start().len() + 4);
    let mut line = before.to_owned();
    for (at, part) in parts.iter().enumerate() {
        let end = if at + 1 == parts.len() { after } else { "," };
        let space = if at == 0 { "" } else { " " };
        if at > 0 && line.chars().count() + space.len() + part.chars().count() + end.len() > WIDTH {
            let _ = writeln!(text, "{line}");
            line = format!("{indent}{part}{end}");
        } else {
            line.push_str(&format!("{space}{part}{end}"));
        }
    }
    let _ = writeln!(text, "{line}");
}

/// A rule on one line, to be put into a policy by hand.
#[must_use]
pub fn flow(rule: &PolicyRule) -> String {
    let list = |values: &[String]| values.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(", ");
    let mut parts = vec![format!("level: {}", rule.level)];
    for (key, values) in [("verbs", &rule.verbs), ("nonResourceURLs", &rule.non_resource_urls)] {
        if !values.is_empty() {
            parts.push(format!("{key}: [{}]", list(values)));
        }
    }
    if !rule.resources.is_empty() {
        parts.push(format!("resources: [{}]", rule.resources.iter().map(flow_group).collect::<Vec<_>>().join(", ")));
    }
    format!("- {{{}}}", parts.join(", "))
}

fn flow_group(group: &GroupResources) -> String {
    if group.resources.is_empty() {
        return format!("{{group: {}}}", quoted(&group.group));
    }
    let names: Vec<String> = group.resources.iter().map(|name| quoted(name)).collect();
    format!("{{group: {}, resources: [{}]}}", quoted(&group.group), names.join(", "))
}

/// A text as YAML reads it back.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-' | '/'))
        && !matches!(text, "true" | "false" | "null");
    if plain {
        return text.to_owned();
    }
    // JSON's text is YAML's.
    serde_json::Value::from(text).to_string()
}

/// A comment, broken into lines.
fn comment(text: &mut String, indent: &str, what: &str) {
    let mut line = format!("{indent}#");
    for word in what.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > indent.len() + 1 {
            let _ = writeln!(text, "{line}");
            line = format!("{indent}#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_quoted_where_yaml_would_read_something_else() {
        for (text, expected) in [
            ("pods/exec", "pods/exec"),
            ("", "\"\""),
            ("*/scale", "\"*/scale\""),
            ("system:nodes", "\"system:nodes\""),
            ("true", "\"true\""),
            ("1.2", "\"1.2\""),
            ("a\"b\nc", "\"a\\\"b\\nc\""),
        ] {
            assert_eq!(quoted(text), expected);
        }
    }

    #[test]
    fn comments_stay_comments() {
        let mut text = String::new();
        comment(&mut text, "  ", &format!("a\nlevel: None {}", "word ".repeat(60)));
        assert!(text.lines().count() > 2 && text.lines().all(|line| line.starts_with("  # ") && line.len() <= WIDTH));
    }
}
