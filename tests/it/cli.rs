//! The program as a user runs it: exit codes, what goes to which stream.

use std::process::{Command, Output};

fn kubesiren(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubesiren"))
        .args(args)
        .env("NO_COLOR", "1")
        .output()
        .expect("the program can be started")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

#[test]
fn the_default_configuration_is_fine() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("config.yaml");
    let printed = kubesiren(&["config", "default"]);
    assert!(printed.status.success() && printed.stderr.is_empty());
    std::fs::write(&file, &printed.stdout).expect("written");
    let checked = kubesiren(&["config", "check", file.to_str().expect("UTF-8")]);
    assert_eq!(checked.status.code(), Some(0), "{}", text(&checked.stderr));
    assert!(text(&checked.stdout).ends_with("is fine: 1 source, 1 sink, 0 routes\n"));
}

#[test]
fn mistakes_are_exit_code_2_on_standard_error() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("config.yaml");
    std::fs::write(&file, "clutser: a\nadmin: {listen: nowhere}\n").expect("written");
    let checked = kubesiren(&["config", "check", "--offline", file.to_str().expect("UTF-8")]);
    let shown = text(&checked.stderr);
    assert_eq!((checked.status.code(), checked.stdout.len()), (Some(2), 0), "{shown}");
    for part in ["config.yaml:1:1", "did you mean `cluster`?", "config.yaml:2:17", "2 errors"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "NO_COLOR is heeded");
    assert_eq!(kubesiren(&["config", "check"]).status.code(), Some(2));
    assert_eq!(kubesiren(&["no-such-command"]).status.code(), Some(2));
}

#[test]
fn colors_come_when_asked_for() {
    let shown = kubesiren(&["--color", "always", "config", "check", "/nowhere.yaml"]);
    assert!(text(&shown.stderr).contains('\u{1b}'));
}

#[test]
fn schema_completions_and_manual_are_printed() {
    let schema = kubesiren(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_slice(&schema.stdout).expect("JSON");
    assert_eq!(schema["additionalProperties"], false);
    assert!(schema["properties"]["sinks"].is_object());
    for shell in ["bash", "zsh", "fish"] {
        assert!(text(&kubesiren(&["completions", shell]).stdout).contains("kubesiren"));
    }
    assert!(text(&kubesiren(&["man"]).stdout).contains(".TH kubesiren 1"));
}

#[test]
fn what_cannot_be_scanned_is_said_in_one_line() {
    let dir = tempfile::tempdir().expect("a folder");
    let folder = dir.path().to_str().expect("UTF-8");
    let notes = dir.path().join("notes.md");
    std::fs::write(&notes, "# Notes\n\nnot an event\n").expect("written");
    let scan = |path: &str| kubesiren(&["scan", "--quiet", path]);
    for (found, words) in [
        (scan(folder), "is a folder; name the files in it"),
        (scan(notes.to_str().expect("UTF-8")), "notes.md is not JSON: line 1"),
        (scan("/nowhere/audit.log"), "cannot open /nowhere/audit.log"),
    ] {
        let shown = text(&found.stderr);
        assert_eq!((found.status.code(), found.stdout.len()), (Some(2), 0), "{shown}");
        assert!(shown.contains(words) && shown.lines().count() == 1, "{shown}");
    }
}

/// Lines of JSON, and the exit code.
fn objects(output: &Output) -> (Vec<serde_json::Value>, Option<i32>) {
    let lines = text(&output.stdout);
    let objects =
        lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")));
    (objects.collect(), output.status.code())
}

const RULE: &str = "Interactive shell opened in a container";

#[test]
fn rules_are_tested_and_explained_as_json() {
    let dir = tempfile::tempdir().expect("a folder");
    let shell = "detections/exec/interactive-shell.yml";
    let (tested, code) = objects(&kubesiren(&["rules", "test", shell, "-o", "json"]));
    let whole = tested.last().expect("the whole");
    assert!(code == Some(0) && whole["failed"] == 0 && whole["passed"] == tested[0]["passed"], "{tested:?}");
    let (mutated, code) = objects(&kubesiren(&["rules", "test", "--mutate", shell, "-o", "json"]));
    assert!(code == Some(0) && mutated.last().expect("the whole")["changes"].as_u64() > Some(0), "{mutated:?}");
    let event = dir.path().join("event.json");
    let sample = std::fs::read_to_string("samples/attack.jsonl").expect("the sample");
    std::fs::write(&event, sample.lines().next().expect("an event")).expect("written");
    let explain = ["rules", "explain", "--event", event.to_str().expect("UTF-8"), "-o", "json"];
    let (explained, _) = objects(&kubesiren(&explain));
    let rules = explained[0]["rules"].as_array().expect("rules");
    assert!(rules.len() > 100 && explained[0]["event"]["verb"].is_string());
    assert!(rules.iter().all(|rule| rule["matches"] != rule["reason"].is_string()), "what does not match has a reason");
    let (explained, _) = objects(&kubesiren(&[&explain[..], &["--rule", RULE]].concat()));
    assert!(
        explained[0]["rules"].as_array().is_some_and(|rules| rules.iter().all(|rule| rule["expression"].is_object()))
    );
}

#[test]
fn json_is_asked_for_alike_everywhere_and_the_older_name_of_the_option_stays() {
    for args in [
        &["scan", "-q", "samples/attack.jsonl"][..],
        &["rules", "list", "--min-level", "high"],
        &["rules", "coverage", "--framework", "cis"],
        // Few rules: how a table is asked for does not depend on them.
        &["policy", "check", "deploy/audit-policy.yaml", "--profile", "minimal"],
    ] {
        let said = |option: &[&str]| kubesiren(&[args, option].concat());
        let json = said(&["--output", "json"]);
        let (output, code) = objects(&json);
        assert!(output.len() > 1 && code != Some(2), "{args:?}");
        assert!(said(&["-o", "json"]).stdout == json.stdout && said(&["--format", "json"]).stdout == json.stdout);
        let table = said(&["-o", "table"]).stdout;
        assert!(table != json.stdout && said(&["--format", "table"]).stdout == table);
    }
    let (shown, _) = objects(&kubesiren(&["rules", "show", RULE, "--output", "json"]));
    let written = text(&kubesiren(&["rules", "show", RULE]).stdout);
    assert_eq!((shown[0]["title"].as_str(), shown[0]["text"].as_str()), (Some(RULE), Some(written.trim_end())));

    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("bad.yml");
    let path = file.to_str().expect("UTF-8");
    std::fs::write(
        &file,
        "title: x\nlogsource: {product: kubernetes, service: audit}\ndetection: {s: {verb: get}, condition: t}\n",
    )
    .expect("written");
    let (mistakes, code) = objects(&kubesiren(&["rules", "check", path, "-o", "json"]));
    assert_eq!(
        (mistakes[0]["severity"].as_str(), mistakes[0]["line"].as_u64(), code),
        (Some("error"), Some(3), Some(2))
    );
    assert_eq!(mistakes[0]["file"], path);

    std::fs::write(&file, "clutser: a\n").expect("written");
    let (mistakes, code) = objects(&kubesiren(&["config", "check", "--offline", path, "-o", "json"]));
    let last = mistakes.last().expect("a verdict");
    assert_eq!((mistakes[0]["column"].as_u64(), last["fine"].as_bool(), code), (Some(1), Some(false), Some(2)));
    std::fs::write(&file, "sinks: [{name: soc, type: webhook, url: 'http://127.0.0.1:1/'}]\n").expect("written");
    let (verdict, code) = objects(&kubesiren(&["config", "check", "--offline", path, "-o", "json"]));
    assert_eq!((verdict[0]["fine"].as_bool(), verdict[0]["sinks"].as_u64(), code), (Some(true), Some(1), Some(0)));
    let (sent, code) = objects(&kubesiren(&["sinks", "test", "soc", "--config", path, "-o", "json"]));
    assert_eq!((sent[0]["sink"].as_str(), sent[0]["taken"].as_bool(), code), (Some("soc"), Some(false), Some(1)));
    assert!(sent[0]["error"].is_string());

    let false_ones = dir.path().join("false.jsonl");
    std::fs::write(&false_ones, kubesiren(&["scan", "-q", "samples/attack.jsonl"]).stdout).expect("written");
    let tune = ["rules", "tune", "--alerts", false_ones.to_str().expect("UTF-8"), "--rule", RULE];
    let (filters, code) = objects(&kubesiren(&[&tune[..], &["--output", "json"]].concat()));
    let plain = kubesiren(&tune);
    assert_eq!((filters.len(), code), (1, plain.status.code()));
    if plain.status.success() {
        assert_eq!(filters[0]["filter"].as_str(), Some(text(&plain.stdout).as_str()));
    } else {
        assert!(text(&plain.stderr).contains(filters[0]["refused"].as_str().expect("a reason")));
    }
}
