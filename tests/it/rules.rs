//! `kubesiren rules …` as a user runs it, and the cases of the built-in detections.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kubesiren::cases;
use serde_json::Value;

const RULES: &str = "
title: Secret read
id: 11-read
level: high
logsource: {product: kubernetes, service: audit}
detection: {sel: {objectRef.resource: secrets, verb: get}, condition: sel}
---
# Base of many.
title: Delete
id: 12-delete
name: deletion
logsource: {product: kubernetes, service: audit}
detection: {sel: {verb: delete}, condition: sel}
---
title: Many deleted
id: 13-many
correlation: {type: event_count, rules: [deletion], group-by: [user.username], timespan: 1m, condition: {gte: 3}}
";

const CASES: &str = "
base: {objectRef: {resource: secrets}}
cases:
  - {name: read, rule: Secret read, event: {verb: get}, fires: true}
  - {name: watched, rule: 11-read, event: {verb: watch}, fires: false}
  - {name: three, rule: Many deleted, events: [{times: 3, event: {verb: delete}}], fires: true}
  - {name: two, rule: Many deleted, events: [{times: 2, event: {verb: delete}}], fires: false}
";

fn rules(args: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_kubesiren");
    Command::new(program).arg("rules").args(args).env("NO_COLOR", "1").output().expect("the program can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

fn folder(files: &[(&str, &str)]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(folder.path().join(name), text).expect("written");
    }
    let path = folder.path().to_str().expect("UTF-8").to_owned();
    (folder, path)
}

#[test]
fn check_says_how_many_or_what_is_wrong() {
    let windows = "title: W\nlogsource: {product: windows}\ndetection: {sel: {a: b}, condition: sel}\n";
    let (_kept, path) = folder(&[("a.yml", RULES), ("w.yml", windows)]);
    let checked = rules(&["check", &path]);
    assert_eq!(checked.status.code(), Some(0));
    assert_eq!(text(&checked.stdout), "2 rules, 1 correlation, 1 skipped for other products, no mistakes\n");
    assert!(checked.stderr.is_empty());
    let shown = text(&rules(&["check", "-v", &path]).stderr);
    assert!(shown.starts_with("warning: ") && shown.ends_with("a.yml has no cases beside it\n"), "{shown}");

    let (_kept, path) = folder(&[("a.yml", &RULES.replace("verb: get}", "verb|contians: get}"))]);
    let checked = rules(&["check", &path, "/nowhere/at/all"]);
    let shown = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(2));
    for part in ["a.yml:6:53", "did you mean `contains`?", "/nowhere/at/all: cannot read it", "2 errors"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert_eq!(text(&checked.stdout), "1 rule, 1 correlation, 2 errors\n");
}

#[test]
fn check_shows_every_mistake_of_a_file_at_its_place() {
    let rule = "title: Three mistakes
id: three
level: hihg
logsource: {product: kubernetes, service: audit}
detection:
  first: {verb|contians: get}
  second: {verb: list}
  condition: first and secnd
";
    let (_kept, path) = folder(&[("three.yml", rule)]);
    let checked = rules(&["check", &path]);
    let shown = text(&checked.stderr);
    assert_eq!(checked.status.code(), Some(2), "{shown}");
    for part in [
        "three.yml:3:8",
        "`hihg` is no level",
        "three.yml:6:16",
        "did you mean `contains`?",
        "three.yml:8:24",
        "did you mean `second`?",
        "^^^^^",
        "3 errors",
    ] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
}

#[test]
fn list_and_show_tell_of_the_rules() {
    let (_kept, path) = folder(&[("a.yml", RULES)]);
    let listed = text(&rules(&["list", "--no-builtin", "--rules", &path]).stdout);
    let rows: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), 3);
    assert_eq!(
        (&rows[0]["id"], &rows[0]["level"], &rows[0]["alerts"]),
        (&"11-read".into(), &"high".into(), &true.into())
    );
    let kinds: Vec<_> = rows.iter().map(|row| (row["kind"].as_str(), row["alerts"].as_bool())).collect();
    assert_eq!(kinds[1..], [(Some("event"), Some(false)), (Some("event_count"), Some(true))]);
    let high = rules(&["list", "--no-builtin", "--rules", &path, "--min-level", "high", "--format", "table"]);
    assert_eq!(text(&high.stdout).lines().count(), 2);
    assert!(text(&rules(&["list"]).stdout).lines().count() > 50, "the built-in detections are there");

    let show = |id: &str| rules(&["show", id, "--no-builtin", "--rules", &path]);
    let delete = text(&show("12").stdout);
    assert!(
        delete.starts_with("# Base of many.\ntitle: Delete\n") && delete.ends_with("condition: sel}\n"),
        "{delete}"
    );
    assert_eq!(show("12").stdout, show("delete").stdout);
    assert!(text(&show("Many deleted").stdout).starts_with("title: Many deleted\n"));
    let several = show("1");
    assert_eq!((several.status.code(), text(&several.stderr).matches("\n  1").count()), (Some(2), 3));
    assert!(text(&show("Secret raed").stderr).contains("did you mean `Secret read`?"));
}

#[test]
fn test_counts_and_says_what_failed() {
    let (_kept, path) = folder(&[("a.yml", RULES), ("a.test.yml", CASES)]);
    let tested = rules(&["test", &path]);
    let shown = text(&tested.stdout);
    assert_eq!((tested.status.code(), shown.lines().last()), (Some(0), Some("4 passed, 0 failed")), "{shown}");

    let (_kept, path) = folder(&[("a.yml", RULES), ("a.test.yml", &CASES.replace("verb: watch", "verb: get"))]);
    let tested = rules(&["test", &path]);
    let shown = text(&tested.stdout);
    assert_eq!((tested.status.code(), shown.lines().last()), (Some(1), Some("3 passed, 1 failed")), "{shown}");
    assert!(shown.contains("watched: expected no alert, but there was 1 alert"), "{shown}");

    let (_kept, path) = folder(&[("a.yml", RULES), ("a.test.yml", &CASES.replace("fires: true", "fire: true"))]);
    let tested = rules(&["test", &path]);
    assert_eq!(tested.status.code(), Some(2));
    assert!(text(&tested.stderr).contains("did you mean `fires`?"));

    let (_kept, path) = folder(&[]);
    assert_eq!(rules(&["test", &path]).status.code(), Some(2), "nothing to test is no success");
}

#[test]
fn explain_says_which_predicate_was_false_and_keeps_secrets() {
    let event = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","auditID":"x","verb":"create","stage":"ResponseComplete",
        "stageTimestamp":"2026-01-05T09:00:00Z","objectRef":{"resource":"secrets"},"user":{"username":"alice"},
        "requestObject":{"data":{"password":"aHVudGVyMg=="}}}"#;
    let list = format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{event},{event}]}}"#);
    let password = RULES.replace("verb: get}", "requestObject.data.password: x}");
    let (_kept, path) = folder(&[("a.yml", &password), ("events.json", &list)]);
    let file = format!("{path}/events.json");
    let explain = |more: &[&str]| {
        let args = ["explain", "--no-builtin", "--rules", &path, "--event", &file];
        rules(&args.iter().chain(more).copied().collect::<Vec<_>>())
    };
    let all = text(&explain(&[]).stdout);
    assert_eq!(all.matches("0 of 2 rules match").count(), 2, "{all}");
    assert!(all.contains("✗ Delete: verb is \"delete\": it is \"create\""), "{all}");
    let one = text(&explain(&["--rule", "11"]).stdout);
    assert!(one.contains("  ✓ objectRef.resource is \"secrets\": it is \"secrets\""), "{one}");
    assert!(one.contains("  ✗ requestObject.data.password is \"x\": it is \"[redacted]\""), "{one}");
    assert!(text(&explain(&["--rule", "Many deleted"]).stdout).contains("Delete (12-delete) does not match"));
    assert_eq!(rules(&["explain", "--event", "/nowhere.json"]).status.code(), Some(2));
}

fn detections() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("detections")
}

/// Among what makes a case fail is that a rule of its file has none that fires, or none that is quiet.
#[test]
fn the_cases_of_the_built_in_detections_pass() {
    let report = cases::run(&[detections()], &BTreeMap::new());
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let failures =
        report.files.iter().flat_map(|file| file.failures.iter().map(|failure| (short(&file.file), failure)));
    let failures: Vec<String> = failures.map(|(file, f)| format!("{file}: {}: {}", f.name, f.what)).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_built_in_rule_has_cases_beside_it() {
    let list = text(&rules(&["list", "--format", "json"]).stdout);
    let mut files = BTreeSet::new();
    for rule in list.lines().map(|line| serde_json::from_str::<Value>(line).expect("a rule")) {
        let file = rule["file"].as_str().and_then(|file| file.strip_prefix("<built-in>/")).expect("a built-in file");
        let file = detections().join(file);
        assert!(file.exists() && !cases::is_untested(&file), "{} has no cases beside it", file.display());
        files.insert(file);
    }
    assert!(files.len() > 150, "{}", files.len());
    let beside: BTreeSet<PathBuf> =
        test_files().iter().map(|file| file.with_extension("").with_extension("yml")).collect();
    assert_eq!(files, beside, "what is built in is what the folder holds");
}

/// Every file of cases of the built-in detections.
fn test_files() -> Vec<PathBuf> {
    let entries = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect()
    };
    let folders = entries(&detections()).into_iter().filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| entries(&folder));
    files.filter(|file| file.to_string_lossy().ends_with(".test.yml")).collect()
}

fn short(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
