//! Frameworks that a rule's tags refer to: MITRE ATT&CK, Microsoft's threat matrix for Kubernetes, the OWASP Kubernetes
//! Top Ten and the CIS Kubernetes Benchmark.
//!
//! The tables beside this file hold identifiers and names only. A technique that an audit log cannot show says why.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use crate::diagnose::closest;

/// A list of techniques, risks or requirements that tags refer to.
#[derive(Debug)]
pub struct Framework {
    /// What users call it: `attack`, `microsoft`, `owasp`, `cis`.
    pub key: &'static str,
    /// Its name.
    pub title: &'static str,
    /// Its version.
    pub version: &'static str,
    /// What it lists, by tactic and identifier.
    pub items: Vec<Item>,
}

/// A technique, risk or requirement.
#[derive(Debug)]
pub struct Item {
    /// The tag of rules that find it.
    pub tag: &'static str,
    /// As the framework calls it.
    pub id: &'static str,
    /// The tactics or sections it belongs to.
    pub groups: Vec<&'static str>,
    /// Its name.
    pub name: &'static str,
    /// Why an audit log cannot show it, if it cannot.
    pub unseen: Option<&'static str>,
}

/// ATT&CK's techniques for other platforms than containers that rules of ours are about.
const ATTACK_OTHER: &str = include_str!("framework/attack-other.tsv");

/// Every technique there is: tags of users' rules are held to it.
const ATTACK_IDS: &str = include_str!("framework/attack-ids.txt");

const TABLES: [(&str, &str); 4] = [
    ("attack", include_str!("framework/attack.tsv")),
    ("microsoft", include_str!("framework/microsoft.tsv")),
    ("owasp", include_str!("framework/owasp.tsv")),
    ("cis", include_str!("framework/cis.tsv")),
];

/// ATT&CK's tactics, in its order. The last is what the version before called stealth and defence impairment together.
const TACTICS: [&str; 16] = [
    "reconnaissance",
    "resource-development",
    "initial-access",
    "execution",
    "persistence",
    "privilege-escalation",
    "stealth",
    "defense-impairment",
    "credential-access",
    "discovery",
    "lateral-movement",
    "collection",
    "command-and-control",
    "exfiltration",
    "impact",
    "defense-evasion",
];

/// Techniques that version 19 gave other numbers: rules may still carry the old ones.
const RENAMED: [(&str, &str); 15] = [
    ("t1070.001", "t1685.005"),
    ("t1070.002", "t1685.006"),
    ("t1562", "t1685"),
    ("t1562.001", "t1685"),
    ("t1562.002", "t1685.001"),
    ("t1562.003", "t1690"),
    ("t1562.004", "t1686"),
    ("t1562.006", "t1685"),
    ("t1562.007", "t1686.001"),
    ("t1562.008", "t1685.002"),
    ("t1562.009", "t1688"),
    ("t1562.010", "t1689"),
    ("t1562.011", "t1685.003"),
    ("t1562.012", "t1685.004"),
    ("t1562.013", "t1686.002"),
];

/// Namespaces of tags that Sigma defines, beside those of the frameworks.
const SIGMA_NAMESPACES: [&str; 6] = ["cve", "detection", "tlp", "stp", "car", "d3fend"];

static FRAMEWORKS: LazyLock<Vec<Framework>> =
    LazyLock::new(|| TABLES.into_iter().map(|(key, table)| read(key, table)).collect());

static OTHER: LazyLock<Framework> = LazyLock::new(|| read("attack-other", ATTACK_OTHER));

/// The tags that there are, by namespace, without it.
static KNOWN: LazyLock<BTreeMap<&'static str, BTreeSet<String>>> = LazyLock::new(|| {
    let mut known: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for item in frameworks().iter().flat_map(|framework| &framework.items) {
        if let Some((namespace, value)) = item.tag.split_once('.') {
            known.entry(namespace).or_default().insert(value.to_owned());
        }
    }
    let attack = known.entry("attack").or_default();
    attack.extend(TACTICS.map(str::to_owned));
    attack.extend(RENAMED.map(|(old, _)| old.to_owned()));
    for line in ATTACK_IDS.lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(' ');
        let Some(technique) = parts.next() else { continue };
        attack.extend(parts.map(|sub| format!("{technique}.{sub}")));
        attack.insert(technique.to_owned());
    }
    known
});

/// The frameworks that coverage is told of.
#[must_use]
pub fn frameworks() -> &'static [Framework] {
    &FRAMEWORKS
}

/// What a tag stands for that is in no framework's list, but in ATT&CK.
#[must_use]
pub fn elsewhere(tag: &str) -> Option<&'static Item> {
    OTHER.items.iter().find(|item| item.tag == tag)
}

/// A tag as the newest version of its framework has it: in lower case, techniques with their numbers of today.
#[must_use]
pub fn current(tag: &str) -> String {
    let tag = tag.to_ascii_lowercase();
    let renamed = tag.strip_prefix("attack.").and_then(|old| RENAMED.iter().find(|(known, _)| *known == old));
    renamed.map_or(tag, |(_, new)| format!("attack.{new}"))
}

/// What is wrong with a tag, and what may have been meant. Tags of other namespaces than the frameworks' are anybody's.
#[must_use]
pub fn mistake(tag: &str) -> Option<(String, Option<String>)> {
    let lower = tag.to_ascii_lowercase();
    let (namespace, value) = lower.split_once('.')?;
    let Some(known) = KNOWN.get(namespace) else {
        if SIGMA_NAMESPACES.contains(&namespace) {
            return None;
        }
        // A name of the user's own is no slip: what is meant begins with the same letter.
        let near = closest(namespace, KNOWN.keys().copied())
            .filter(|near| near[..1] == namespace[..1.min(namespace.len())])?;
        return Some((format!("there is no framework `{namespace}`"), Some(format!("{near}.{value}"))));
    };
    // Groups, software, campaigns and mitigations are not listed; older rules write tactics with underscores.
    let numbered = |letters: &[char]| value.strip_prefix(letters).is_some_and(|n| n.parse::<u32>().is_ok());
    if known.contains(value)
        || (namespace == "attack" && (numbered(&['g', 's', 'c', 'm']) || known.contains(&value.replace('_', "-"))))
    {
        return None;
    }
    let near = closest(value, known.iter().map(String::as_str)).map(|near| format!("{namespace}.{near}"));
    let what = if namespace == "attack" { "tactic or technique of ATT&CK" } else { "item of its framework" };
    Some((format!("the tag `{tag}` is no {what}"), near))
}

/// Reads a table: `# key<tab>value` about itself, then tag, id, groups, name and why it cannot be seen.
fn read(key: &'static str, table: &'static str) -> Framework {
    let about = |wanted: &str| {
        let lines = table.lines().filter_map(|line| line.strip_prefix("# ")?.split_once('\t'));
        lines.into_iter().find(|(name, _)| *name == wanted).map_or("", |(_, value)| value)
    };
    let items = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut cells = line.split('\t');
        Some(Item {
            tag: cells.next()?,
            id: cells.next()?,
            groups: cells.next()?.split(',').collect(),
            name: cells.next()?,
            unseen: cells.next(),
        })
    });
    Framework { key, title: about("title"), version: about("version"), items: items.collect() }
}

/// The groups of a framework, in the order in which its items or ATT&CK have them.
#[must_use]
pub fn groups(framework: &Framework) -> Vec<&'static str> {
    let mut groups: Vec<&str> = Vec::new();
    for group in framework.items.iter().flat_map(|item| &item.groups) {
        if !groups.contains(group) {
            groups.push(group);
        }
    }
    // The order of what is none of ATT&CK's tactics stays as it is; one that it had before stands with its successors.
    let place = |group: &&str| match *group {
        "defense-evasion" => TACTICS.iter().position(|tactic| *tactic == "stealth"),
        group => TACTICS.iter().position(|tactic| *tactic == group),
    };
    groups.sort_by_key(place);
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_whole() {
        let counts: Vec<_> = frameworks().iter().map(|framework| (framework.key, framework.items.len())).collect();
        assert_eq!(counts, [("attack", 48), ("microsoft", 40), ("owasp", 10), ("cis", 34)]);
        let mut tags = BTreeSet::new();
        for framework in frameworks().iter().chain([&*OTHER]) {
            assert!(!framework.title.is_empty() && !framework.version.is_empty(), "{}", framework.key);
            for item in &framework.items {
                assert!(tags.insert(item.tag), "{} is there twice", item.tag);
                assert!(mistake(item.tag).is_none(), "{}", item.tag);
                assert!(item.unseen.is_none_or(|why| why.ends_with('.')), "{}", item.tag);
                let tactics = item.groups.iter().all(|group| TACTICS.contains(group));
                assert!(tactics || matches!(framework.key, "owasp" | "cis"), "{}: {:?}", item.tag, item.groups);
            }
        }
    }

    #[test]
    fn tags_that_mean_nothing_are_told_with_what_is_near() {
        for (tag, near) in [
            ("attack.t15552.007", Some("attack.t1552.007")),
            ("attack.t1552.077", Some("attack.t1552.007")),
            ("attack.persistance", Some("attack.persistence")),
            ("attak.t1610", Some("attack.t1610")),
            ("microsoft.ms-ta9060", Some("microsoft.ms-ta9010")),
            ("cis-k8s.5.1.14", Some("cis-k8s.5.1.1")),
            ("owasp-k8s-2022.k11", Some("owasp-k8s-2022.k01")),
        ] {
            assert_eq!(mistake(tag).map(|(_, near)| near), Some(near.map(str::to_owned)), "{tag}");
        }
        for tag in [
            "attack.T1003.001",
            "attack.t1562.001",
            "attack.defense_evasion",
            "attack.g0016",
            "attack.s0002",
            "cve.2021-44228",
            "detection.emerging-threats",
            "payments.pci",
            "loose",
        ] {
            assert_eq!(mistake(tag), None, "{tag}");
        }
    }

    #[test]
    fn old_numbers_stand_for_those_of_today() {
        assert_eq!(current("attack.T1562.001"), "attack.t1685");
        assert_eq!(current("attack.t1610"), "attack.t1610");
        assert!(RENAMED.iter().all(|(_, new)| KNOWN["attack"].contains(*new)));
    }
}
