//! Rules and alerts by hand, and what is proposed for them.

use std::path::PathBuf;

use serde_json::json;

use super::*;
use crate::rule::{self, Options};

const RULE: &str = "title: Secret read\nid: r\nname: reads\nlevel: medium\nlogsource: {product: kubernetes, service: audit}\n\
                    detection: {s: {objectRef.resource: secrets, verb: get}, condition: s}\n";
const COUNT: &str = "title: Many\nid: c\nlevel: high\ncorrelation: {type: event_count, rules: [reads], group-by: [user.username, objectRef.namespace], timespan: 5m, condition: {gte: 3}, generate: true}\n";

struct Folder {
    options: Options,
    rules: Rules,
    _folder: tempfile::TempDir,
}

fn folder(rules: &str, cases: &str) -> Folder {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("r.yml"), rules).unwrap();
    std::fs::write(folder.path().join("r.test.yml"), cases).unwrap();
    let options = Options { paths: vec![PathBuf::from(folder.path())], ..Options::default() };
    let loaded = rule::load(&options);
    assert!(!loaded.has_errors(), "{:?}", loaded.findings);
    Folder { options, rules: loaded.rules, _folder: folder }
}

fn cases(events: &[&str]) -> String {
    let case = |(at, event): (usize, &&str)| format!("  - {{name: case {at}, rule: r, event: {event}, fires: true}}\n");
    let cases: String = events.iter().enumerate().map(case).collect();
    format!("base: {{verb: get, objectRef: {{resource: secrets, namespace: shop, name: db}}}}\ncases:\n{cases}")
}

fn alert(rule: &str, user: &str, namespace: &str, name: &str) -> Alert {
    let event = json!({
        "auditID": "a", "stage": "ResponseComplete", "verb": "get", "requestURI": "/", "user": {"username": user},
        "sourceIPs": ["10.0.0.1", "10.0.0.9"], "stageTimestamp": "t",
        "objectRef": {"resource": "secrets", "namespace": namespace, "name": name},
    });
    let group = json!({"user.username": user, "objectRef.namespace": namespace});
    let alert = json!({
        "id": format!("{rule}{user}{namespace}{name}"), "status": "firing", "time": "2026-01-01T00:00:00Z", "cluster": "c",
        "rule": {"id": rule, "title": "T", "level": "low"}, "summary": "s", "count": 1, "first_seen": "2026-01-01T00:00:00Z",
        "last_seen": "2026-01-01T00:00:00Z", "group": group, "event": event, "matched": {}, "audit_ids": [],
    });
    serde_json::from_value(alert).unwrap()
}

fn proposed(folder: &Folder, alerts: &[Alert]) -> Result<(String, Proof), String> {
    let alerts: Vec<&Alert> = alerts.iter().collect();
    let proposal = propose(&folder.rules, &alerts)?;
    let proof = prove(&folder.options, &folder.rules, &proposal, &alerts).unwrap();
    Ok((document(&proposal), proof))
}

#[test]
fn one_user_and_object_is_the_whole_filter() {
    let folder = folder(RULE, &cases(&["{}", "{user: {username: bob}}"]));
    let (text, proof) = proposed(&folder, &[alert("r", "system:serviceaccount:ci:runner", "ci", "token")]).unwrap();
    let expected = "title: \"Known and harmless: T\"\n\
                    logsource: {product: kubernetes, service: audit}\n\
                    filter:\n  rules:\n    - \"r\"\n  known_1:   # 1 alert\n    user.username|cased: \"system:serviceaccount:ci:runner\"\n    \
                    objectRef.resource|cased: \"secrets\"\n    objectRef.namespace|cased: \"ci\"\n    objectRef.name|cased: \"token\"\n  \
                    condition: not 1 of known_*\n";
    assert_eq!(text, expected);
    assert_eq!(proof, Proof { gone: 1, left: 0, firing: 2, silenced: Vec::new() });
}

#[test]
fn each_user_has_what_is_theirs() {
    let folder = folder(RULE, &cases(&["{}"]));
    let pods = ["web-7d9f8b6c5-x2x4z", "web-6c5f7d9b84-zzxwv"].map(|name| alert("r", "ann", "a", name));
    let many: Vec<Alert> = (0..6).map(|n| alert("r", "bob", &format!("team{n}"), "x")).collect();
    let alerts: Vec<Alert> = pods.into_iter().chain(many).collect();
    let (text, proof) = proposed(&folder, &alerts).unwrap();
    assert_eq!(proof.gone, 8);
    let known: Vec<&str> = text.split("  known_").skip(1).collect();
    assert!(known[0].contains("\"ann\"") && known[0].contains("objectRef.name|re: \"^web-["), "{text}");
    assert!(known[1].contains("\"bob\"") && !known[1].contains("namespace"), "{text}");
    assert!(text.contains("# `web-HASH-SUFFIX` stands for what is generated"), "{text}");
    assert!(text.contains("# 6 different values of `objectRef.namespace`: any is left out."), "{text}");
}

#[test]
fn a_filter_that_silences_a_case_is_found_out() {
    let folder = folder(RULE, &cases(&["{}", "{user: {username: bob}}"]));
    let (_, proof) = proposed(&folder, &[alert("r", "alice", "shop", "db")]).unwrap();
    assert_eq!(proof.firing, 1);
    assert_eq!(proof.silenced, [Silenced { rule: "Secret read".to_owned(), case: "case 0".to_owned() }]);
}

#[test]
fn a_correlation_is_narrowed_by_its_group_through_its_rules() {
    let folder = folder(&format!("{RULE}---\n{COUNT}"), &cases(&["{}"]));
    let (text, proof) = proposed(&folder, &[alert("c", "ann", "ci", "x"), alert("c", "ann", "ci", "y")]).unwrap();
    assert!(text.contains("    - \"r\"\n"), "{text}");
    assert!(text.contains("user.username|cased: \"ann\"\n    objectRef.namespace|cased: \"ci\"\n  cond"), "{text}");
    assert!(
        text.starts_with("# Filters are for rules about single events") && text.contains("`Secret read`"),
        "{text}"
    );
    assert_eq!((proof.gone, proof.firing), (2, 1));
}

#[test]
fn what_could_be_anybody_is_refused() {
    let folder = folder(RULE, &cases(&["{}"]));
    let refused = |alerts: &[Alert]| proposed(&folder, alerts).unwrap_err();
    let crowd: Vec<Alert> = (0..=KNOWN_MAX).map(|n| alert("r", &format!("u{n}"), "a", "x")).collect();
    assert!(refused(&crowd).contains("too many to be an exception"));
    let mut nobody = alert("r", "system:anonymous", "a", "x");
    let (text, _) = proposed(&folder, &[nobody.clone()]).unwrap();
    assert!(text.contains("sourceIPs[-1]|cased: \"10.0.0.9\"") && text.contains("# Nobody authenticated"), "{text}");
    nobody.event.source_ips.clear();
    nobody.event.object_ref = None;
    assert!(refused(&[nobody]).contains("could not be anybody"));
    assert!(refused(&[alert("gone", "ann", "a", "x")]).contains("there is no such rule"));
}

/// Names are the attacker's to choose: none may become a pattern, another key, or a line of its own.
#[test]
fn what_is_in_a_name_stays_in_it() {
    let folder = folder(RULE, &cases(&["{}", "{user: {username: \"*\"}}"]));
    for name in [
        "*",
        "a\\*",
        "?",
        "%machines%",
        "x\"\n  condition: not known_2",
        "\u{85}\u{2028}\u{202e}\u{feff}\u{0}",
        "\u{1f600} é",
        "- a: b #",
    ] {
        let (text, proof) = proposed(&folder, &[alert("r", name, "ci", name)]).unwrap();
        assert_eq!((proof.gone, proof.firing, proof.silenced.len()), (1, 2, 0), "{name:?}: {text}");
        assert!(!text.contains(['\u{202e}', '\u{2028}', '\u{0}']), "{text:?}");
    }
}
