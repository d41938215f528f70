//! Which techniques of a framework rules are about, and which of them none is.

use std::collections::BTreeMap;

use super::framework::{self, Framework, Item};
use super::ir::Rules;
use crate::alert::RuleInfo;

/// What rules cover of a framework.
#[derive(Debug)]
pub struct Coverage<'r> {
    /// The framework.
    pub framework: &'static Framework,
    /// Its items, in its order.
    pub items: Vec<Covered<'r>>,
    /// Techniques of ATT&CK that its part for containers does not list, by tag; of the others it is empty.
    pub elsewhere: BTreeMap<String, Vec<&'r RuleInfo>>,
}

/// An item and the rules that are about it.
#[derive(Debug)]
pub struct Covered<'r> {
    /// The item.
    pub item: &'static Item,
    /// The rules that alert and carry its tag, or that of one of its sub-techniques.
    pub rules: Vec<&'r RuleInfo>,
}

/// How it stands with an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Some rule is about it.
    Covered,
    /// No rule is.
    Gap,
    /// No rule is, and none can be.
    Unseen(&'static str),
}

impl Covered<'_> {
    /// How it stands.
    #[must_use]
    pub fn state(&self) -> State {
        match (self.rules.is_empty(), self.item.unseen) {
            (false, _) => State::Covered,
            (true, Some(why)) => State::Unseen(why),
            (true, None) => State::Gap,
        }
    }
}

impl Coverage<'_> {
    /// How many items are in a state: covered, gap, unseen.
    #[must_use]
    pub fn counts(&self) -> [usize; 3] {
        let mut counts = [0; 3];
        for covered in &self.items {
            counts[match covered.state() {
                State::Covered => 0,
                State::Gap => 1,
                State::Unseen(_) => 2,
            }] += 1;
        }
        counts
    }
}

/// What the rules that alert cover of each framework. Building blocks count through the correlations made of them only.
#[must_use]
pub fn coverage(rules: &Rules) -> Vec<Coverage<'_>> {
    let alerting = rules.alerting();
    let singles = rules.rules.iter().map(|rule| &*rule.info);
    let all: Vec<(&RuleInfo, Vec<String>)> = singles
        .chain(rules.correlations.iter().map(|correlation| &*correlation.info))
        .filter(|info| alerting.get(info.id.as_str()).copied().unwrap_or(false))
        .map(|info| (info, info.tags.iter().map(|tag| framework::current(tag)).collect()))
        .collect();
    let frameworks = framework::frameworks().iter();
    frameworks
        .map(|framework| Coverage {
            framework,
            items: framework.items.iter().map(|item| covered(item, &all)).collect(),
            elsewhere: if framework.key == "attack" { elsewhere(framework, &all) } else { BTreeMap::new() },
        })
        .collect()
}

fn covered<'r>(item: &'static Item, all: &[(&'r RuleInfo, Vec<String>)]) -> Covered<'r> {
    let is_about = |tag: &String| is_or_is_part_of(tag, item.tag);
    let rules = all.iter().filter(|(_, tags)| tags.iter().any(is_about)).map(|(info, _)| *info).collect();
    Covered { item, rules }
}

/// Whether a tag is another, or a sub-technique of it.
fn is_or_is_part_of(tag: &str, whole: &str) -> bool {
    let rest = tag.strip_prefix(whole);
    rest.is_some_and(|rest| rest.is_empty() || (whole.starts_with("attack.t") && rest.starts_with('.')))
}

/// The techniques that rules are about and the framework does not list.
fn elsewhere<'r>(framework: &Framework, all: &[(&'r RuleInfo, Vec<String>)]) -> BTreeMap<String, Vec<&'r RuleInfo>> {
    let mut found: BTreeMap<String, Vec<&RuleInfo>> = BTreeMap::new();
    for (info, tags) in all {
        let techniques = tags.iter().filter(|tag| {
            tag.strip_prefix("attack.t").is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
        });
        for tag in techniques.filter(|tag| framework.items.iter().all(|item| item.tag != **tag)) {
            found.entry(tag.clone()).or_default().push(info);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::rule::load::load_text;

    #[test]
    fn rules_count_for_their_techniques_and_those_above() {
        let rule = |id: &str, tags: &str| {
            format!(
                "title: {id}\nid: {id}\nname: {id}\ntags: [{tags}]\nlogsource: {{product: kubernetes}}\n\
                 detection: {{s: {{verb: get}}, condition: s}}\n---\n"
            )
        };
        let text = [
            rule("a", "attack.t1552.007, attack.t1003.001"),
            rule("b", "attack.T1552, attack.t1562.001, microsoft.ms-ta9025"),
            rule("block", "attack.t1611"),
            "title: c\nid: c\ntags: [attack.t1610]\ncorrelation: {type: event_count, rules: [block], timespan: 1m, \
             condition: {gte: 2}}\n"
                .to_owned(),
        ];
        let loaded = load_text(Path::new("r.yml"), &text.concat());
        assert!(loaded.findings.is_empty(), "{:?}", loaded.findings);
        let all = coverage(&loaded.rules);
        let count = |key: &str, id: &str| {
            let coverage = all.iter().find(|coverage| coverage.framework.key == key).expect("there");
            let covered = coverage.items.iter().find(|covered| covered.item.id == id).expect("listed");
            covered.rules.len()
        };
        assert_eq!((count("attack", "T1552"), count("attack", "T1552.007")), (2, 1));
        assert_eq!((count("attack", "T1685"), count("attack", "T1610"), count("attack", "T1611")), (1, 1, 0));
        assert_eq!((count("microsoft", "MS-TA9025"), count("cis", "5.1.1")), (1, 0));
        assert_eq!(all[0].elsewhere.keys().collect::<Vec<_>>(), ["attack.t1003.001"]);
        assert_eq!(all[3].counts()[..2], [0, 34], "cis-k8s.5.1.1 is no part of cis-k8s.5.1.10");
    }
}
