//! `kubesiren rules coverage`, and the page that is made of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::process::{Command, Output};

use kubesiren::rule::coverage::{Coverage, State, coverage};
use kubesiren::rule::framework::groups;
use kubesiren::rule::{self, Rules};
use serde_json::Value;

use crate::support::generated;

fn kubesiren(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_kubesiren");
    Command::new(program).args(["rules", "coverage"]).args(args).env("NO_COLOR", "1").output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn builtin() -> Rules {
    let loaded = rule::load(&rule::Options { builtin: true, ..rule::Options::default() });
    assert!(loaded.findings.is_empty(), "{:?}", loaded.findings);
    loaded.rules
}

#[test]
fn the_layer_is_one_that_the_navigator_reads() {
    let output = kubesiren(&["--format", "navigator"]);
    let layer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&layer["versions"]["layer"], &layer["domain"]), (&"4.5".into(), &"enterprise-attack".into()));
    let techniques = layer["techniques"].as_array().expect("a list");
    assert!(techniques.len() > 60, "{}", techniques.len());
    let id = regex::Regex::new(r"^T\d{4}(\.\d{3})?$").expect("a pattern");
    let tactic = regex::Regex::new(r"^[a-z]+(-[a-z]+)*$").expect("a pattern");
    let mut seen = BTreeSet::new();
    for technique in techniques {
        let (technique_id, in_tactic) = (technique["techniqueID"].as_str(), technique["tactic"].as_str());
        assert!(technique_id.is_some_and(|text| id.is_match(text)), "{technique}");
        assert!(in_tactic.is_some_and(|text| tactic.is_match(text)), "{technique}");
        assert!(technique["score"].is_u64() && technique["enabled"].is_boolean(), "{technique}");
        assert!(seen.insert((technique_id, in_tactic)), "{technique} is there twice");
    }
    let highest = techniques.iter().filter_map(|technique| technique["score"].as_u64()).max();
    assert_eq!(layer["gradient"]["maxValue"].as_u64(), highest);
}

#[test]
fn rules_of_ones_own_are_counted_and_gaps_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let rule = "title: Log read\nid: log\nlevel: low\ntags: [attack.t1613, attack.t1003, attack.t1562.001]\n\
                logsource: {product: kubernetes, service: audit}\ndetection: {s: {verb: get}, condition: s}\n";
    fs::write(folder.path().join("a.yml"), rule).expect("written");
    let path = folder.path().to_str().expect("UTF-8");
    let own = ["--no-builtin", "--rules", path];
    let table = text(&kubesiren(&[&own[..], &["--format", "table", "--framework", "attack"]].concat()).stdout);
    for line in [
        "MITRE ATT&CK for Containers (version 19): 2 of 40 have rules, 38 gaps, 8 more that an audit log cannot show",
        "  Discovery",
        "T1613      Container and Resource Discovery                     1 rule",
        "T1610      Deploy Container                                     gap",
        "T1685      Disable or Modify Tools                              1 rule",
        "not in an audit log: A flood of packets shows in the network only.",
        "  Techniques of other platforms",
        "T1003",
    ] {
        assert!(table.contains(line), "{line} is not in\n{table}");
    }
    let lines = text(&kubesiren(&own).stdout);
    let items: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |id: &str| items.iter().find(|item| item["id"] == id).unwrap_or_else(|| panic!("{id}"));
    assert_eq!((&of("T1613")["state"], &of("T1613")["rules"][0]["id"]), (&"covered".into(), &"log".into()));
    assert_eq!((&of("T1498")["state"], &of("5.1.1")["state"]), (&"unseen".into(), &"gap".into()));
    assert_eq!(of("T1003")["state"], "elsewhere");

    let with_builtin = text(&kubesiren(&["--rules", path]).stdout);
    assert!(with_builtin.lines().any(|line| line.contains("\"T1613\"") && line.contains("\"log\"")));
    let nothing = kubesiren(&["--no-builtin"]);
    assert_eq!(nothing.status.code(), Some(2));
    assert!(text(&nothing.stderr).contains("there are no rules"));
    let neither = kubesiren(&["--format", "navigator", "--framework", "cis"]);
    assert_eq!(neither.status.code(), Some(2));
    let verbose = text(&kubesiren(&[&own[..], &["--format", "table", "-v"]].concat()).stdout);
    assert!(verbose.contains("low           Log read"), "{verbose}");
}

#[test]
fn what_cannot_be_seen_is_found_by_no_rule() {
    for coverage in coverage(&builtin()) {
        for covered in coverage.items {
            let is_unseen = covered.item.unseen.is_some();
            assert!(!is_unseen || covered.rules.is_empty(), "{} is seen after all", covered.item.id);
        }
    }
}

/// What stands on the page about a technique: the number of its rules, or why there is none.
fn cell(state: State, rules: usize) -> String {
    match state {
        State::Covered => rules.to_string(),
        State::Gap => "**gap**".to_owned(),
        State::Unseen(why) => format!("not in an audit log: {why}"),
    }
}

fn section(page: &mut String, coverage: &Coverage<'_>) {
    let framework = coverage.framework;
    let [covered, gaps, unseen] = coverage.counts();
    let _ = writeln!(page, "\n## {}\n", framework.title);
    if framework.key == "cis" {
        page.push_str(
            "The benchmark asks how a cluster is set up; an audit log shows who changes that. This is a selection: the items that events can\n\
             show. It does not replace a scan of the cluster.\n\n",
        );
    }
    let _ = write!(page, "Version {}. {covered} of {} have rules", framework.version, covered + gaps);
    let _ = writeln!(
        page,
        "{}.",
        if unseen > 0 { format!("; {unseen} more cannot be seen in an audit log") } else { String::new() }
    );
    for group in groups(framework) {
        let _ = writeln!(page, "\n### {}\n\n| id | name | rules |\n|---|---|---|", spelled(group));
        for item in coverage.items.iter().filter(|covered| covered.item.groups.contains(&group)) {
            let _ =
                writeln!(page, "| {} | {} | {} |", item.item.id, item.item.name, cell(item.state(), item.rules.len()));
        }
    }
    if !coverage.elsewhere.is_empty() {
        page.push_str("\n### Techniques of other platforms\n\nRules are about these too, which ATT&CK lists for other platforms than containers.\n\n| id | name | rules |\n|---|---|---|\n");
        for (tag, rules) in &coverage.elsewhere {
            let name = rule::framework::elsewhere(tag).unwrap_or_else(|| panic!("{tag} is in attack-other.tsv")).name;
            let _ =
                writeln!(page, "| {} | {name} | {} |", tag.trim_start_matches("attack.").to_uppercase(), rules.len());
        }
    }
}

fn spelled(group: &str) -> String {
    let text = group.replace('-', " ");
    text[..1].to_uppercase() + &text[1..]
}

#[test]
fn the_page_is_what_the_rules_cover() {
    let rules = builtin();
    let all = coverage(&rules);
    let mut page = String::from(
        "# What the detections cover\n\n\
         <!-- Written by KUBESIREN_WRITE=1 cargo test --test it coverage -->\n\n\
         Rules say with their tags what they are about: `attack.t1552.007`, `microsoft.ms-ta9025`, `owasp-k8s-2022.k08`, `cis-k8s.5.1.2`. This page counts the\n\
         built-in rules that alert. A technique counts as covered if one rule finds one way of it: the number says where there is nothing, not how much there is.\n\
         Building blocks count only through the correlations made of them, and techniques with all of their sub-techniques.\n\n\
         ```sh\n\
         kubesiren rules coverage                                     # the same, with rules of your own: --rules PATH\n\
         kubesiren rules coverage -v --framework attack               # with the titles of the rules\n\
         kubesiren rules coverage --format navigator > layer.json     # a layer for the ATT&CK Navigator\n\
         ```\n\n\
         What an audit log cannot show is told as such, and is no gap; so is what the [detections leave out](../detections/NOT_COVERED.md).\n\
         A tag that is none, such as `attack.t15552`, is a warning of `kubesiren rules check`.\n",
    );
    for coverage in &all {
        section(&mut page, coverage);
    }
    generated("docs/coverage.md", &page);
    let gaps: BTreeMap<&str, usize> =
        all.iter().map(|coverage| (coverage.framework.key, coverage.counts()[1])).collect();
    assert!(gaps.values().sum::<usize>() <= 1, "{gaps:?}");
}
