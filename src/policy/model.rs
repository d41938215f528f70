//! An audit policy (`audit.k8s.io/v1`, kind `Policy`) as kube-apiserver reads it, strictly, with every mistake at its place.

use std::fmt;
use std::sync::Arc;

use crate::diagnose::{Diagnostic, SourceText, Span, closest};
use crate::yaml::{self, Node, Value};

/// How much of a request is logged. Each level holds what those before it hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Level {
    /// Nothing at all.
    #[default]
    None,
    /// Who did what, when, and how it ended.
    Metadata,
    /// The request's body too.
    Request,
    /// And the answer's.
    RequestResponse,
}

impl Level {
    const NAMES: [(&'static str, Self); 4] = [
        ("None", Self::None),
        ("Metadata", Self::Metadata),
        ("Request", Self::Request),
        ("RequestResponse", Self::RequestResponse),
    ];

    /// As a policy writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// When in a request's life an event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub enum Stage {
    /// Before anything is decided.
    RequestReceived,
    /// Of requests that go on for long, and of those without a valid credential: when the answer begins.
    ResponseStarted,
    /// When the answer is complete.
    ResponseComplete,
    /// When the apiserver failed.
    Panic,
}

impl Stage {
    const NAMES: [(&'static str, Self); 4] = [
        ("RequestReceived", Self::RequestReceived),
        ("ResponseStarted", Self::ResponseStarted),
        ("ResponseComplete", Self::ResponseComplete),
        ("Panic", Self::Panic),
    ];

    /// As a policy writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize].0
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A whole policy. The first rule that matches a request decides; where none does, nothing is logged.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Stages of which no event is written.
    pub omit_stages: Vec<Stage>,
    /// Bodies are written without `metadata.managedFields`.
    pub omit_managed_fields: bool,
    /// In the order in which they are asked.
    pub rules: Vec<PolicyRule>,
}

/// One rule of a policy. What is empty holds for all.
#[derive(Clone, Debug, Default)]
pub struct PolicyRule {
    /// What is logged of requests that match.
    pub level: Level,
    /// Names of users.
    pub users: Vec<String>,
    /// Groups, one of which the user is in.
    pub user_groups: Vec<String>,
    /// Verbs.
    pub verbs: Vec<String>,
    /// Resources by group.
    pub resources: Vec<GroupResources>,
    /// Namespaces; the empty text is for what is in none.
    pub namespaces: Vec<String>,
    /// Paths of requests that are about no resource; `*` at the end stands for the rest.
    pub non_resource_urls: Vec<String>,
    /// Stages of which no event is written, beside the policy's own.
    pub omit_stages: Vec<Stage>,
    /// Overrides the policy's own.
    pub omit_managed_fields: Option<bool>,
    /// The line of the file where the rule begins, from 1; 0 if it was not read from a file.
    pub line: usize,
}

/// Resources of one API group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupResources {
    /// The group, without its version; empty for the core.
    pub group: String,
    /// `pods`, `pods/log`, `pods/*`, `*/scale`, `*`; empty for all with all their subresources.
    pub resources: Vec<String>,
    /// Names of objects.
    pub resource_names: Vec<String>,
}

const KIND: &str = "Policy";
const VERSION: &str = "audit.k8s.io/v1";
/// What was served until Kubernetes 1.23; the rules mean the same.
const OLD_VERSION: &str = "audit.k8s.io/v1beta1";
const POLICY_KEYS: [&str; 6] = ["apiVersion", "kind", "metadata", "rules", "omitStages", "omitManagedFields"];
const RULE_KEYS: [&str; 9] = [
    "level",
    "users",
    "userGroups",
    "verbs",
    "resources",
    "namespaces",
    "nonResourceURLs",
    "omitStages",
    "omitManagedFields",
];
/// The verbs of requests about resources, and those of other requests: methods in lower case.
const VERBS: [&str; 13] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
    "head",
    "options",
    "post",
    "put",
    "proxy",
];
const RESOURCES_KEYS: [&str; 3] = ["group", "resources", "resourceNames"];

/// Reads a policy. Warnings come with it; errors, all of them, come instead of it.
pub fn parse(source: &Arc<SourceText>) -> Result<(Policy, Vec<Diagnostic>), Vec<Diagnostic>> {
    let (documents, findings) = yaml::parse(source);
    let mut reader = Reader { source, findings };
    let mut policy = Policy::default();
    match documents.as_slice() {
        [document] => policy = reader.policy(document),
        [] if reader.findings.is_empty() => {
            // Where there is nothing to point at, only the message is shown.
            let message = "there is no policy in it; `kubesiren policy generate` prints one";
            reader.error(Span::default(), message);
        }
        [] => {}
        [_, second, ..] => {
            reader.error(head(second), "a file holds one policy; kube-apiserver would not read what follows");
        }
    }
    let errors = reader.findings.iter().any(|finding| finding.severity == crate::diagnose::Severity::Error);
    if errors { Err(reader.findings) } else { Ok((policy, reader.findings)) }
}

struct Reader<'r> {
    source: &'r Arc<SourceText>,
    findings: Vec<Diagnostic>,
}

/// Where to point for a whole mapping, so that no finding draws ten lines.
fn head(node: &Node) -> Span {
    Span { start: node.span.start, end: node.span.start }
}

/// The parts of a list; none where there is no list.
fn items<'n>(node: &'n Node, key: &str) -> &'n [Node] {
    match node.get(key).map(|given| &given.value) {
        Some(Value::Seq(items)) => items,
        _ => &[],
    }
}

impl Reader<'_> {
    fn error(&mut self, span: Span, message: impl Into<String>) {
        self.findings.push(Diagnostic::error(self.source, span, message));
    }

    fn error_with_help(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Diagnostic::error(self.source, span, message).help(help));
    }

    fn warn(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) {
        self.findings.push(Diagnostic::warning(self.source, span, message).help(help));
    }

    fn policy(&mut self, document: &Node) -> Policy {
        let mut policy = Policy::default();
        if document.as_map().is_none() {
            self.error(document.span, format!("a policy is a mapping; this is {}", document.kind()));
            return policy;
        }
        self.known_keys(document, &POLICY_KEYS, "a policy");
        self.header(document);
        policy.omit_stages = self.stages(document);
        policy.omit_managed_fields = self.boolean(document, "omitManagedFields").unwrap_or_default();
        match document.get("rules").map(|node| (&node.value, node)) {
            Some((Value::Seq(items), node)) if items.is_empty() => self.no_rules(node.span),
            Some((Value::Seq(items), _)) => policy.rules = items.iter().map(|item| self.rule(item)).collect(),
            Some((Value::Null, node)) => self.no_rules(node.span),
            Some((_, node)) => self.error(node.span, format!("`rules` is a list; this is {}", node.kind())),
            None => self.no_rules(head(document)),
        }
        policy
    }

    fn no_rules(&mut self, span: Span) {
        self.error_with_help(span, "the policy has no `rules`", "kube-apiserver refuses it; add `- level: Metadata`");
    }

    fn header(&mut self, document: &Node) {
        let at = |key: &str| document.get(key).map_or_else(|| head(document), |node| node.span);
        match document.get("kind").and_then(Node::as_str) {
            Some(KIND) => {}
            Some(other) => self.error(at("kind"), format!("the kind is `{KIND}`, not `{other}`")),
            None => self.error(at("kind"), format!("`kind: {KIND}` is missing here")),
        }
        match document.get("apiVersion").and_then(Node::as_str) {
            Some(VERSION) => {}
            Some(OLD_VERSION) => {
                let message = format!("`{OLD_VERSION}` is read by kube-apiserver up to 1.23 only");
                let help = format!("write `apiVersion: {VERSION}`; the rules mean the same");
                self.warn(at("apiVersion"), message, help);
            }
            Some(other) => {
                self.error(at("apiVersion"), format!("the version is `{VERSION}`, not `{other}`"));
            }
            None => self.error(at("apiVersion"), format!("`apiVersion: {VERSION}` is missing here")),
        }
    }

    fn rule(&mut self, node: &Node) -> PolicyRule {
        let line = 1 + self.source.text[..node.span.start.min(self.source.text.len())].matches('\n').count();
        if node.as_map().is_none() {
            self.error(node.span, format!("a rule is a mapping; this is {}", node.kind()));
            return PolicyRule::default();
        }
        self.known_keys(node, &RULE_KEYS, "a rule of a policy");
        let rule = PolicyRule {
            level: self.level(node),
            users: self.texts(node, "users"),
            user_groups: self.texts(node, "userGroups"),
            verbs: self.texts(node, "verbs"),
            resources: self.resources(node),
            namespaces: self.texts(node, "namespaces"),
            non_resource_urls: self.texts(node, "nonResourceURLs"),
            omit_stages: self.stages(node),
            omit_managed_fields: self.boolean(node, "omitManagedFields"),
            line,
        };
        self.urls(node, &rule);
        self.verbs(node);
        for key in ["users", "userGroups", "verbs", "namespaces"] {
            self.no_wildcards(node, key);
        }
        rule
    }

    /// kube-apiserver takes any verb, and one that is misspelt matches nothing.
    fn verbs(&mut self, node: &Node) {
        for item in items(node, "verbs") {
            let verb = item.as_str().filter(|verb| !VERBS.contains(verb) && !verb.contains('*'));
            if let Some((verb, near)) = verb.and_then(|verb| Some((verb, closest(verb, VERBS)?))) {
                let message = format!("no request has the verb `{verb}`");
                self.warn(item.span, message, format!("did you mean `{near}`?"));
            }
        }
    }

    /// There are patterns for resources and paths only; elsewhere a star is compared as it is.
    fn no_wildcards(&mut self, node: &Node, key: &str) {
        for item in items(node, key).iter().filter(|item| item.as_str().is_some_and(|text| text.contains('*'))) {
            let message = format!("`{key}` knows no wildcards: this matches nothing");
            self.warn(item.span, message, format!("leave `{key}` out to match all"));
        }
    }

    fn urls(&mut self, node: &Node, rule: &PolicyRule) {
        let Some(urls) = node.get("nonResourceURLs").filter(|_| !rule.non_resource_urls.is_empty()) else { return };
        if !rule.resources.is_empty() || !rule.namespaces.is_empty() {
            let help = "make two rules of it";
            self.error_with_help(head(urls), "a rule is about resources or about `nonResourceURLs`, not both", help);
        }
        for url in &rule.non_resource_urls {
            let good = url == "*" || (url.starts_with('/') && !url[..url.len() - 1].contains('*'));
            if !good {
                let help = "it begins with `/`, and `*` stands at its end only";
                self.error_with_help(urls.span, format!("`{url}` is no path of a policy"), help);
            }
        }
    }

    fn level(&mut self, node: &Node) -> Level {
        let Some(given) = node.get("level") else {
            self.error_with_help(
                head(node),
                "this rule has no `level`",
                "one of None, Metadata, Request, RequestResponse",
            );
            return Level::None;
        };
        self.named(given, &Level::NAMES, "level").unwrap_or_default()
    }

    fn stages(&mut self, node: &Node) -> Vec<Stage> {
        let items = match node.get("omitStages").map(|node| &node.value) {
            Some(Value::Seq(items)) => items.as_slice(),
            Some(Value::Null) | None => &[],
            Some(_) => {
                let given = node.get("omitStages").unwrap_or(node);
                self.error(given.span, format!("`omitStages` is a list; this is {}", given.kind()));
                &[]
            }
        };
        items.iter().filter_map(|item| self.named(item, &Stage::NAMES, "stage")).collect()
    }

    fn named<T: Copy>(&mut self, node: &Node, names: &[(&'static str, T)], what: &str) -> Option<T> {
        let text = node.as_str().unwrap_or_default();
        let found = names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let list: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
            let help = match closest(text, list.iter().copied()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the {what}s are {}", list.join(", ")),
            };
            self.error_with_help(node.span, format!("`{text}` is no {what}"), help);
        }
        found
    }

    fn resources(&mut self, node: &Node) -> Vec<GroupResources> {
        match node.get("resources").map(|node| (&node.value, node)) {
            None | Some((Value::Null, _)) => Vec::new(),
            Some((Value::Seq(items), _)) => items.iter().map(|item| self.group(item)).collect(),
            Some((_, given)) => {
                self.error(given.span, format!("`resources` is a list; this is {}", given.kind()));
                Vec::new()
            }
        }
    }

    fn group(&mut self, node: &Node) -> GroupResources {
        if node.as_map().is_none() {
            let help = "such as `{group: \"\", resources: [pods]}`";
            self.error_with_help(node.span, format!("`resources` holds mappings; this is {}", node.kind()), help);
            return GroupResources::default();
        }
        self.known_keys(node, &RESOURCES_KEYS, "an entry of `resources`");
        let group = match node.get("group").map(|node| (&node.value, node)) {
            None | Some((Value::Null, _)) => String::new(),
            Some((Value::String(group), given)) => {
                if group.contains(['/', '*']) {
                    let help = "a group has no version, and there is no wildcard for all groups";
                    self.error_with_help(given.span, format!("`{group}` is no API group"), help);
                }
                group.clone()
            }
            Some((_, given)) => {
                self.error(given.span, format!("`group` is text; this is {}", given.kind()));
                String::new()
            }
        };
        let found = GroupResources {
            group,
            resources: self.texts(node, "resources"),
            resource_names: self.texts(node, "resourceNames"),
        };
        if found.resources.is_empty() && !found.resource_names.is_empty() {
            self.error(head(node), "`resourceNames` needs `resources` beside it");
        }
        for name in &found.resources {
            let parts: Vec<&str> = name.split('/').collect();
            if parts.len() > 2 || parts.contains(&"") || name == "*/*" {
                let span = node.get("resources").map_or(node.span, |node| node.span);
                let help = "write `pods`, `pods/log`, `pods/*`, `*/scale` or `*`";
                self.error_with_help(span, format!("`{name}` is no resource of a policy"), help);
            }
        }
        found
    }

    fn texts(&mut self, node: &Node, key: &str) -> Vec<String> {
        let Some(given) = node.get(key) else { return Vec::new() };
        let Value::Seq(items) = &given.value else {
            if given.value != Value::Null {
                self.error(given.span, format!("`{key}` is a list; this is {}", given.kind()));
            }
            return Vec::new();
        };
        let mut texts = Vec::new();
        for item in items {
            match item.as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.error(item.span, format!("`{key}` holds {} where text belongs", item.kind())),
            }
        }
        texts
    }

    fn boolean(&mut self, node: &Node, key: &str) -> Option<bool> {
        let given = node.get(key)?;
        match given.value {
            Value::Bool(value) => Some(value),
            Value::Null => None,
            _ => {
                self.error(given.span, format!("`{key}` is true or false; this is {}", given.kind()));
                None
            }
        }
    }

    fn known_keys(&mut self, node: &Node, known: &[&str], what: &str) {
        for (key, _) in node.as_map().unwrap_or_default() {
            if !known.contains(&key.text.as_str()) {
                let help = match closest(&key.text, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("it has {}", known.join(", ")),
                };
                self.error_with_help(key.span, format!("{what} has no key `{}`", key.text), help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<(Policy, Vec<Diagnostic>), Vec<String>> {
        let source = SourceText::new(Path::new("p.yaml"), text.to_owned());
        parse(&source).map_err(|findings| findings.iter().map(ToString::to_string).collect())
    }

    const HEAD: &str = "apiVersion: audit.k8s.io/v1\nkind: Policy\n";

    #[test]
    fn a_policy_is_read_as_it_is_written() {
        let text = format!(
            "{HEAD}omitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n  - level: None\n    users: [a]\n    verbs: [get]\n    resources:\n      - group: apps\n        resources: [\"*/scale\"]\n        resourceNames: [x]\n    namespaces: [\"\"]\n  # more\n  - level: Metadata\n    omitStages: [Panic]\n    omitManagedFields: false\n    nonResourceURLs: [/healthz*, \"*\"]\n"
        );
        let (policy, findings) = read(&text).expect("right");
        assert!(findings.is_empty() && policy.omit_managed_fields);
        assert_eq!(policy.omit_stages, [Stage::RequestReceived]);
        assert_eq!((policy.rules[0].level, policy.rules[0].line), (Level::None, 6));
        assert_eq!(policy.rules[0].resources[0].resource_names, ["x"]);
        assert_eq!((policy.rules[1].omit_managed_fields, policy.rules[1].line), (Some(false), 15));
    }

    #[test]
    fn every_mistake_is_told_at_its_place() {
        let text = "apiVersion: audit.k8s.io/v2\nkind: Polcy\nomitStages: [RequestRecieved]\nrules:\n  - levle: None\n  - level: metadata\n    users: alice\n    resources: [{group: apps/v1}, {resourceNames: [x]}, {resources: [a/b/c]}]\n    nonResourceURLs: [healthz, /a*b]\n";
        let found = read(text).expect_err("wrong");
        for part in [
            "p.yaml:1:13: the version is `audit.k8s.io/v1`",
            "p.yaml:2:7: the kind is `Policy`",
            "p.yaml:3:14: `RequestRecieved` is no stage (did you mean `RequestReceived`?)",
            "p.yaml:5:5: a rule of a policy has no key `levle` (did you mean `level`?)",
            "p.yaml:5:5: this rule has no `level`",
            "p.yaml:6:12: `metadata` is no level (did you mean `Metadata`?)",
            "p.yaml:7:12: `users` is a list; this is text",
            "`apps/v1` is no API group",
            "`resourceNames` needs `resources` beside it",
            "`a/b/c` is no resource of a policy",
            "a rule is about resources or about `nonResourceURLs`, not both",
            "`healthz` is no path of a policy",
            "`/a*b` is no path of a policy",
        ] {
            assert!(found.iter().any(|found| found.contains(part)), "{part} is not in {found:#?}");
        }
    }

    #[test]
    fn what_is_no_policy_is_said() {
        for (text, message) in [
            ("", "there is no policy in it"),
            ("- a\n", "a policy is a mapping; this is a list"),
            (HEAD, "the policy has no `rules`"),
            (&format!("{HEAD}rules: []\n"), "the policy has no `rules`"),
            (&format!("{HEAD}rules: [{{level: None}}]\n---\n{HEAD}"), "a file holds one policy"),
        ] {
            let found = read(text).expect_err("wrong");
            assert!(found.len() == 1 && found[0].contains(message), "{text}: {found:?}");
        }
    }

    #[test]
    fn what_matches_nothing_is_warned_of() {
        let rule = "{level: None, users: [\"*\"], userGroups: [\"system:*\"], verbs: [gte, get, lst, \"*\", use], namespaces: [\"*\"]}";
        let (_, warnings) = read(&format!("{HEAD}rules: [{rule}]\n")).expect("read");
        let shown: Vec<String> = warnings.iter().map(ToString::to_string).collect();
        for part in [
            "`users` knows no wildcards",
            "`userGroups` knows no wildcards",
            "`verbs` knows no wildcards",
            "`namespaces` knows no wildcards",
            "no request has the verb `gte` (did you mean `get`?)",
            "no request has the verb `lst` (did you mean `list`?)",
        ] {
            assert!(shown.iter().any(|shown| shown.contains(part)), "{part} is not in {shown:#?}");
        }
        assert_eq!(shown.len(), 6, "{shown:#?}");
        let old = format!("{HEAD}rules: [{{level: None}}]\n").replace("/v1\n", "/v1beta1\n");
        assert_eq!(read(&old).expect("read").1.len(), 1, "a warning");
    }
}
