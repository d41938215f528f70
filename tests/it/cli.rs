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
