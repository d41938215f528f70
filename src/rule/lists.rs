//! Named lists: whom and what the built-in detections leave out or look for, in one place, for users to extend.
//!
//! Rules name them through Sigma's modifier `expand`. They are expanded when rules are loaded, so that nothing below knows
//! whether a value was written in a rule or stands in a list.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use super::sigma::Placeholders;
use crate::diagnose::{SourceText, closest};
use crate::yaml::{self, Node};

/// The file of lists that comes with the binary.
const TEXT: &str = include_str!("lists.yml");

/// Lists that may stand for others, one in the other.
const DEPTH_MAX: usize = 8;

/// A list that comes with the binary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// What rules call it, between two `%`.
    pub name: String,
    /// What is in it, for people.
    pub about: String,
    /// Its entries, in order, each with where it comes from.
    pub entries: Vec<(String, String)>,
}

/// What a user does to a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The entries that come with the binary go.
    pub replace: bool,
    /// Those that are added.
    pub values: Vec<String>,
}

/// What a user does to lists, by name.
pub type Changes = BTreeMap<String, Change>;

static BUILTIN: LazyLock<Vec<List>> = LazyLock::new(|| {
    let source = SourceText::new(Path::new("<built-in>/lists.yml"), TEXT.to_owned());
    let (documents, _) = yaml::parse(&source);
    let lists = documents.first().and_then(Node::as_map).unwrap_or_default();
    lists.iter().map(|(key, node)| read(&key.text, node)).collect()
});

fn read(name: &str, node: &Node) -> List {
    let text = |node: Option<&Node>| node.and_then(Node::as_str).unwrap_or_default().to_owned();
    let entries = node.get("entries").and_then(Node::as_map).unwrap_or_default();
    List {
        name: name.to_owned(),
        about: text(node.get("about")),
        entries: entries.iter().map(|(value, origin)| (value.text.clone(), text(Some(origin)))).collect(),
    }
}

/// The lists that come with the binary, in the order of their file.
#[must_use]
pub fn builtin() -> &'static [List] {
    &BUILTIN
}

/// Whether a user is a service account of kube-system that comes with Kubernetes, or with what it is installed by.
#[must_use]
pub fn is_system_account(user: &str) -> bool {
    static ACCOUNTS: LazyLock<BTreeSet<String>> = LazyLock::new(|| {
        let all = values(&Changes::new(), &Placeholders::new()).remove("system_accounts");
        all.into_iter().flatten().map(|account| account.to_lowercase()).collect()
    });
    ACCOUNTS.contains(user)
}

/// Changes of lists that are not there: the name that was changed, and what to say of it.
#[must_use]
pub fn unknown(changes: &Changes) -> Vec<(String, String)> {
    let named = |name: &str| builtin().iter().any(|list| list.name == name);
    let mut unknown = Vec::new();
    for (name, change) in changes {
        let included = change.values.iter().filter_map(|value| included(value));
        for wanted in std::iter::once(name.as_str()).chain(included).filter(|wanted| !named(wanted)) {
            unknown.push((name.clone(), not_there(wanted)));
        }
    }
    unknown
}

fn not_there(name: &str) -> String {
    let names: Vec<&str> = builtin().iter().map(|list| list.name.as_str()).collect();
    let help = match closest(name, names.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("the lists are {}; names of your own belong under `detections.placeholders`", names.join(", ")),
    };
    format!("there is no list `{name}` ({help})")
}

/// Placeholders of a user that have the name of a list, which only `lists` can change: the name, and what to say of it.
pub fn taken(placeholders: &Placeholders) -> impl Iterator<Item = (String, String)> {
    let taken = placeholders.keys().filter(|name| builtin().iter().any(|list| list.name == **name));
    taken.map(|name| {
        let message = format!("`{name}` is a list: change it under `detections.lists`, or choose another name");
        (name.clone(), message)
    })
}

/// What every placeholder stands for: the lists as the user has changed them, and what is given besides. A list that is
/// given is taken as it is, so that what comes of this may go through it again.
#[must_use]
pub fn values(changes: &Changes, given: &Placeholders) -> Placeholders {
    let mut written: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for list in builtin() {
        let change = changes.get(&list.name);
        let kept = list.entries.iter().filter(|_| change.is_none_or(|change| !change.replace));
        let added = change.into_iter().flat_map(|change| &change.values);
        written.insert(&list.name, kept.map(|(value, _)| value).chain(added).map(String::as_str).collect());
    }
    // One of the user's without values is a mistake that is told where it is used.
    let own = given.iter().filter(|(name, values)| !values.is_empty() || written.contains_key(name.as_str()));
    let mut values: Placeholders = own.map(|(name, values)| (name.clone(), values.clone())).collect();
    for name in written.keys().filter(|name| !given.contains_key(**name)) {
        let mut all = Vec::new();
        collect(name, &written, DEPTH_MAX, &mut all);
        values.insert((*name).to_owned(), uncovered(all));
    }
    values
}

/// The entries of a list, those of lists in it among them.
fn collect(name: &str, written: &BTreeMap<&str, Vec<&str>>, depth: usize, all: &mut Vec<String>) {
    for value in written.get(name).into_iter().flatten() {
        match included(value) {
            Some(inner) if depth > 0 => collect(inner, written, depth - 1, all),
            Some(_) => {}
            None => all.push((*value).to_owned()),
        }
    }
}

/// The list that an entry stands for.
fn included(value: &str) -> Option<&str> {
    let name = value.strip_prefix('%')?.strip_suffix('%')?;
    (!name.is_empty() && !name.contains('%')).then_some(name)
}

/// Entries without those that are there twice, or begin as another says: each costs a comparison.
fn uncovered(all: Vec<String>) -> Vec<String> {
    let prefix = |value: &str| {
        let prefix = value.strip_suffix('*').filter(|prefix| !prefix.contains(['*', '?', '\\']))?;
        Some(prefix.to_owned())
    };
    let prefixes: BTreeSet<String> = all.iter().filter_map(|value| prefix(value)).collect();
    let covered = |value: &str| {
        prefixes.iter().any(|prefix| value.starts_with(prefix.as_str()) && value.strip_suffix('*') != Some(prefix))
    };
    let mut seen = BTreeSet::new();
    all.into_iter().filter(|value| !covered(value) && seen.insert(value.clone())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rule::load::{Options, load};
    use crate::rule::naive::rule_holds;

    fn change(name: &str, replace: bool, values: &[&str]) -> Changes {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Changes::from([(name.to_owned(), Change { replace, values })])
    }

    fn of(changes: &Changes, name: &str) -> Vec<String> {
        values(changes, &Placeholders::new()).remove(name).unwrap()
    }

    #[test]
    fn the_file_of_lists_is_right() {
        let source = SourceText::new(Path::new("lists.yml"), TEXT.to_owned());
        assert!(yaml::parse(&source).1.is_empty());
        assert!(builtin().len() >= 10);
        for list in builtin() {
            assert!(!list.about.is_empty(), "{}", list.name);
            for (value, origin) in &list.entries {
                assert!(!origin.is_empty(), "{}: {value} comes from nowhere", list.name);
                assert!(included(value).is_none_or(|name| builtin().iter().any(|list| list.name == name)), "{value}");
            }
            assert!(list.entries.is_empty() == of(&Changes::new(), &list.name).is_empty());
        }
    }

    /// Whoever may make accounts in kube-system must not be able to choose a name that nobody looks at.
    #[test]
    fn accounts_of_the_system_are_named_one_by_one() {
        for name in ["built_in_controllers", "system_accounts", "deployers"] {
            for account in of(&Changes::new(), name) {
                let is_one = account.starts_with("system:serviceaccount:") && !account.contains(['*', '?']);
                assert!(is_one, "{name}: {account}");
                let is_listed = account.starts_with("system:serviceaccount:kube-system:");
                assert_eq!(is_system_account(&account), is_listed, "{name}: {account}");
            }
        }
        let control_plane = of(&Changes::new(), "control_plane");
        assert!(control_plane.contains(&"system:serviceaccount:kube-system:deployment-controller".to_owned()));
        assert!(!is_system_account("system:serviceaccount:kube-system:legacy-admin"));
    }

    #[test]
    fn lists_are_added_to_and_replaced_and_hold_each_other() {
        let nothing = Changes::new();
        assert_eq!(of(&nothing, "nodes"), ["system:node:*", "system:bootstrap:*"]);
        let machines = of(&nothing, "machines");
        assert!(machines.contains(&"system:kube-*".to_owned()) && machines.contains(&"system:node:*".to_owned()));
        assert!(!machines.iter().any(|value| value.contains("kube-system")), "all service accounts are there");
        let added = change("control_plane", false, &["robot", "system:apiserver"]);
        assert_eq!(of(&added, "control_plane").len(), of(&nothing, "control_plane").len() + 1);
        assert!(of(&added, "machines").contains(&"robot".to_owned()));
        assert_eq!(of(&change("nodes", true, &["kubelet-*"]), "nodes"), ["kubelet-*"]);
        assert!(of(&change("nodes", true, &[]), "nodes").is_empty());
        let round = [("nodes", "%machines%"), ("machines", "%nodes%")].map(|(name, value)| {
            let change = Change { replace: true, values: vec![value.to_owned(), "x".to_owned()] };
            (name.to_owned(), change)
        });
        assert_eq!(of(&Changes::from(round), "nodes"), ["x"], "lists that hold each other end");
    }

    #[test]
    fn unknown_lists_and_taken_names_are_told_with_what_is_meant() {
        let told: Vec<String> =
            unknown(&change("trusted_registry", false, &[])).into_iter().map(|(_, message)| message).collect();
        assert_eq!(told, ["there is no list `trusted_registry` (did you mean `trusted_registries`?)"]);
        assert!(unknown(&change("xyz", false, &[]))[0].1.contains("the lists are control_plane, nodes"));
        assert_eq!(unknown(&change("nodes", false, &["%machine%"])).len(), 1);
        assert!(unknown(&change("nodes", false, &["a%b%"])).is_empty());
        let own = Placeholders::from([("nodes".to_owned(), vec![]), ("mine".to_owned(), vec!["x".to_owned()])]);
        assert_eq!(taken(&own).count(), 1);
        assert_eq!(values(&Changes::new(), &own)["mine"], ["x"]);
    }

    /// An empty list is true of nothing, whatever else its rule says.
    #[test]
    fn an_empty_list_makes_its_test_false_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let rule = |detection: &str| {
            format!("title: T\nlogsource: {{product: kubernetes, service: audit}}\ndetection: {detection}\n")
        };
        let event = json!({"stage": "ResponseComplete", "verb": "get", "user": {"username": "eve"}});
        let holds = |detection: &str, lists: Changes| {
            std::fs::write(folder.path().join("r.yml"), rule(detection)).unwrap();
            let loaded = load(&Options { paths: vec![folder.path().to_owned()], lists, ..Options::default() });
            assert!(loaded.findings.is_empty(), "{:?}", loaded.findings);
            (rule_holds(&loaded.rules.rules[0], &event), loaded.rules.rules[0].fingerprint)
        };
        let eve = || change("break_glass_users", false, &["eve"]);
        for (detection, empty, filled) in [
            ("{a: {user.username|expand: '%break_glass_users%'}, condition: a}", false, true),
            ("{a: {user.username|expand: ['%break_glass_users%', 'eve']}, condition: a}", true, true),
            ("{a: {user.username|expand: ['%break_glass_users%', 'bob']}, condition: a}", false, true),
            ("{a: {verb: get}, b: {user.username|expand: '%break_glass_users%'}, condition: a and not b}", true, false),
            ("{a: {verb: get}, b: {user.username|expand|neq: '%break_glass_users%'}, condition: a and b}", true, false),
        ] {
            let (without, before) = holds(detection, Changes::new());
            let (with, after) = holds(detection, eve());
            assert_eq!((without, with), (empty, filled), "{detection}");
            assert_ne!(before, after, "what it matches has changed");
        }
    }
}
