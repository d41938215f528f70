//! Tests of the runner: rules and cases as users write them.

use super::*;

const RULES: &str = "
title: Secret read
id: read
logsource: {product: kubernetes, service: audit}
detection:
  sel: {objectRef.resource: secrets, verb: [get, list]}
  condition: sel
";

const SEVERAL: &str = "
title: Base
name: base
logsource: {product: kubernetes, service: audit}
detection: {sel: {verb: delete}, condition: sel}
---
title: Many
correlation: {type: event_count, rules: [base], group-by: [user.username], timespan: 1m, condition: {gte: 3}}
";

const GOOD: &str = "
base: {verb: get, objectRef: {resource: secrets}}
cases:
  - {name: read, event: {}, fires: true}
  - {name: a pod, event: {objectRef: {resource: pods}}, fires: false}
";

fn findings(rules: &str, cases: &str) -> Vec<String> {
    let report = run_text(rules, cases);
    report
        .findings
        .iter()
        .map(|finding| finding.to_string().split("r.test.yml:").last().unwrap_or("").to_owned())
        .collect()
}

fn failures(rules: &str, cases: &str) -> Vec<String> {
    let report = run_text(rules, cases);
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    report
        .files
        .iter()
        .flat_map(|file| &file.failures)
        .map(|failure| format!("{}: {}", failure.name, failure.what))
        .collect()
}

#[test]
fn cases_that_are_as_expected_pass() {
    let report = run_text(RULES, GOOD);
    assert_eq!((report.passed(), report.failed(), report.has_errors()), (2, 0, false), "{report:?}");
    assert!(report.files[0].file.ends_with("r.test.yml"));
}

#[test]
fn a_failing_case_says_what_was_expected_and_which_predicate_was_false() {
    let cases = format!("{GOOD}  - {{name: wrong, event: {{verb: watch}}, fires: true}}\n");
    let expected = "wrong: expected an alert, but there was no alert
✗ all of:
  ✓ objectRef.resource is \"secrets\": it is \"secrets\"
  ✗ verb is \"get\" or \"list\": it is \"watch\"";
    assert_eq!(failures(RULES, &cases), [expected]);
    let cases = format!("{GOOD}  - {{name: loud, event: {{verb: list}}, fires: false}}\n");
    assert!(
        failures(RULES, &cases)[0]
            .starts_with("loud: expected no alert, but there was 1 alert, the last with count 1\n✓")
    );
}

#[test]
fn correlations_run_over_repeated_events() {
    let cases = "
base: {verb: delete, objectRef: {resource: pods, name: p}}
cases:
  - {name: three, events: [{times: 3, every: 10s, event: {}}], alerts: 1, count: 3}
  - {name: two users, events: [{times: 4, event: {user: {username: a}}}, {times: 3, at: 0s, event: {user: {username: b}}}], alerts: 2}
  - {name: two episodes, events: [{times: 3, event: {}}, {times: 3, at: 1h, event: {}}], alerts: 2, count: 3}
  - {name: too slow, events: [{times: 3, every: 40s, event: {}}], fires: false}
  - {name: two and another, events: [{times: 2, event: {}}, {verb: get}], fires: false}
  - {name: the base itself, rule: base, event: {}, fires: true}
";
    assert_eq!(failures(SEVERAL, cases), Vec::<String>::new());
    let wrong = cases.replace("alerts: 1, count: 3", "alerts: 2, count: 4");
    let what = &failures(SEVERAL, &wrong)[0];
    let head = "three: expected 2 alerts and a last alert with count 4, but there was 1 alert, the last with count 3\n";
    assert!(what.starts_with(head) && what.contains("`Base` matched 3 of 3 events"), "{what}");
}

#[test]
fn a_case_may_say_in_which_cluster_it_happens() {
    let rules = RULES.replace("verb: [", "cluster: prod, verb: [");
    let cases = GOOD.replace("event: {},", "event: {cluster: prod},");
    assert_eq!(failures(&rules, &cases), Vec::<String>::new());
    let cases = format!("{cases}  - {{name: elsewhere, event: {{}}, fires: true}}\n");
    assert!(failures(&rules, &cases)[0].contains("✗ cluster is \"prod\": it is \"default\""));
}

#[test]
fn every_alerting_rule_needs_both_kinds_of_cases() {
    let quiet = "cases: [{name: x, event: {verb: get}, fires: false}]";
    assert_eq!(failures(RULES, quiet), ["Secret read: has no firing case"]);
    let firing = GOOD.replace("fires: false", "fires: true").replace("pods", "secrets");
    assert_eq!(failures(RULES, &firing), ["Secret read: has no quiet case"]);
}

#[test]
fn events_that_the_engine_refuses_fail() {
    let cases = format!("{GOOD}  - {{name: no verb, event: {{verb: null}}, fires: false}}\n");
    assert_eq!(failures(RULES, &cases), ["no verb: the engine refuses event 1: the event has no `verb`"]);
}

#[test]
fn mistakes_are_told_at_their_places() {
    let cases = "
base: {verv: get}
casess: []
cases:
  - {name: a, evnt: {}, event: {}, fires: true}
  - {name: b, event: {}}
  - {name: c, rule: Secret raed, event: {}, fires: yes please}
  - {name: d, event: {}, events: [], fires: true, alerts: 0}
  - {name: e, events: [{times: 10001, every: soon, event: {}}, {at: 1s}], count: 0}
";
    let expected = [
        "3:1: a file of cases has no key `casess` (did you mean `cases`?)",
        "2:8: an audit event has no key `verv` (did you mean `verb`?)",
        "5:15: a case has no key `evnt` (did you mean `event`?)",
        "6:5: the case does not say what is expected (add `fires: true`, `fires: false`, or `alerts` and `count`)",
        "7:37: `fires` must be true or false, not text",
    ];
    let found = findings(RULES, cases);
    assert_eq!(found[..4], expected[..4], "{found:#?}");
    for part in [
        "`fires` must be true or false, not text",
        "no rule beside the cases has the title or id `Secret raed` (did you mean `Secret read`?)",
        "`fires`, `alerts` and `count` contradict each other",
        "a case has either `event` or `events`",
        "`times` must be a whole number from 1 to 10000",
        "`soon` is no span of time",
        "an entry with `times`, `every` or `at` needs an `event`",
        "`count` must be a whole number from 1",
    ] {
        assert!(found.iter().any(|line| line.contains(part)), "{part}: {found:#?}");
    }
    assert_eq!(found.len(), 12, "{found:#?}");
}

#[test]
fn a_case_must_say_which_of_several_rules_it_means() {
    let two = format!("{RULES}---{}", RULES.replace("read", "read2"));
    assert!(findings(&two, GOOD)[0].contains("several rules beside the cases alert"));
}

#[test]
fn files_without_their_counterpart_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).expect("written");
    write("a.yml", RULES);
    write("b.test.yml", GOOD);
    let report = run(&[folder.path().to_owned()], &Placeholders::new());
    assert_eq!(report.files[0].failures[0].what, "has no test file beside it");
    assert!(report.findings[0].message.starts_with("there are no rules beside it: "), "{:?}", report.findings);
    let report = run(&[folder.path().join("nowhere")], &Placeholders::new());
    assert!(report.has_errors() && report.findings[0].to_string().contains("nowhere"));
}

#[test]
fn single_files_of_either_kind_bring_the_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let (rules, cases) = (folder.path().join("a.yml"), folder.path().join("a.test.yml"));
    fs::write(&rules, RULES).expect("written");
    fs::write(&cases, GOOD).expect("written");
    for paths in [vec![rules.clone()], vec![cases.clone()], vec![rules, cases, folder.path().to_owned()]] {
        let report = run(&paths, &Placeholders::new());
        assert_eq!((report.passed(), report.failed(), report.has_errors()), (2, 0, false), "{report:?}");
    }
}

fn undecided(rules: &str, cases: &str) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("r.yml"), rules).expect("written");
    fs::write(folder.path().join("r.test.yml"), cases).expect("written");
    let found = mutate::mutate(&[folder.path().to_owned()], &Placeholders::new(), 2);
    assert!(found.findings.is_empty() && found.changes > 0, "{found:?}");
    found.undecided.into_iter().map(|undecided| undecided.part).collect()
}

#[test]
fn mutation_names_the_parts_of_a_condition_that_no_case_decides() {
    assert_eq!(undecided(RULES, GOOD), ["verb is \"list\": left out", "verb is \"get\", …: always true"]);
    let whole = format!(
        "{GOOD}  - {{name: listed, event: {{verb: list}}, fires: true}}\n  - {{name: made, event: {{verb: create}}, fires: false}}\n"
    );
    assert_eq!(undecided(RULES, &whole), [""; 0]);
    // Of one case for several values every single one decides it.
    let counted = format!(
        "{GOOD}  - {{name: both, events: [{{}}, {{verb: list}}], count: 2}}\n  - {{name: made, event: {{verb: create}}, fires: false}}\n"
    );
    assert_eq!(undecided(RULES, &counted), [""; 0]);
    let filter = RULES.replace(
        "  condition: sel\n",
        "  robot: {user.username|startswith: [a, \"system:\"]}\n  condition: sel and not robot\n",
    );
    let quiet = "  - {name: robots, event: {user: {username: \"system:x\"}}, fires: false}\n";
    let people = whole.replace("base: {", "base: {user: {username: bob}, ") + quiet;
    assert_eq!(undecided(&filter, &people), ["user.username starts with \"a\": left out"]);
    // The accounts of the system are one class: one of them in a case stands for all.
    let known = filter.replace("startswith: [a, \"system:\"]", "expand: '%system_accounts%'");
    let people = people.replace("\"system:x\"", "\"system:serviceaccount:kube-system:coredns\"");
    assert_eq!(undecided(&known, &people), [""; 0]);
}

#[test]
fn mutation_names_the_parts_of_a_correlation_that_no_case_decides() {
    let case = |name: &str, events: &str, fires: bool| {
        format!("  - {{name: {name}, rule: Many, events: [{events}], fires: {fires}}}\n")
    };
    let three = case("three", "{times: 3, every: 10s, event: {verb: delete}}", true);
    let few = format!("cases:\n{three}{}", case("read", "{times: 3, event: {verb: get}}", false));
    assert_eq!(
        undecided(SEVERAL, &few),
        ["group-by user.username: left out", "timespan: 10 times longer", "gte: one less"]
    );
    let whole = [
        few.as_str(),
        &case("two", "{times: 2, event: {verb: delete}}", false),
        &case("three people", "{times: 3, event: {verb: delete, user: {username: \"dev-{n}\"}}}", false),
        &case("slowly", "{times: 3, every: 2m, event: {verb: delete}}", false),
    ];
    assert_eq!(undecided(SEVERAL, &whole.concat()), [""; 0]);
}

#[test]
fn overlaps_name_the_other_rules_that_fire() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = "title: Secret\nid: other\nlogsource: {product: kubernetes}\n\
                 detection: {s: {objectRef.resource: secrets}, condition: s}\n";
    for (name, text) in [("r.yml", RULES), ("r.test.yml", GOOD), ("o.yml", other)] {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let found = overlap::overlaps(&[folder.path().to_owned()], &Placeholders::new(), 2);
    let found: Vec<_> = found.iter().map(|o| (o.rule.as_str(), o.case.as_str(), o.others.join("; "))).collect();
    assert_eq!(found, [("Secret read", "read", "Secret".to_owned())]);
}
