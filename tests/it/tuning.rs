//! Profiles, lists, filters and incidents, as users meet them, and the page about them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::fences::blocks_of;
use super::support::{Daemon, WEBHOOK, configure, quiet_event, recording, run, scan, skipped, text_at, until};

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/attack.jsonl");

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/tuning.md")).expect("the page")
}

/// The page's blocks of YAML by the name in their first line.
fn examples() -> BTreeMap<String, String> {
    let blocks = blocks_of("docs/tuning.md").into_iter().filter(|block| block.info.starts_with("yaml "));
    let named = blocks.map(|block| {
        let name = block.text.lines().next().and_then(|line| line.strip_prefix("# "));
        (name.expect("a block begins with its name").to_owned(), block.text)
    });
    named.collect()
}

fn said(output: &std::process::Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn what_the_page_shows_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let examples = examples();
    assert_eq!(examples.keys().collect::<Vec<_>>(), ["incident.yml", "known.yml", "lists.yaml", "profile.yaml"]);
    for (name, text) in &examples {
        let file = folder.path().join(name);
        fs::write(&file, text).expect("written");
        let file = file.to_str().expect("UTF-8");
        if name.ends_with(".yaml") {
            let checked = run(&["config", "check", "--offline", file], b"");
            assert!(checked.status.success(), "{name}: {}", said(&checked));
        } else {
            let checked = run(&["rules", "check", file], b"");
            assert!(checked.status.success() && said(&checked).contains("no mistakes"), "{name}: {}", said(&checked));
        }
    }
    let lists = said(&run(&["rules", "list", "--lists", "--format", "json"], b""));
    let lists: Vec<Value> = lists.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let text = page();
    for list in &lists {
        assert!(text.contains(&format!("`{}`", text_at(list, "/name"))), "the page lacks {list}");
    }
    assert!(lists.len() >= 10, "{}", lists.len());
}

#[test]
fn a_profile_says_how_much_is_told() {
    let told = |profile: &str| {
        let (alerts, _) = scan(&["--profile", profile, SAMPLE], b"");
        alerts.iter().map(|alert| text_at(alert, "/rule/level").to_owned()).collect::<Vec<_>>()
    };
    let (minimal, default, paranoid) = (told("minimal"), told("default"), told("paranoid"));
    assert!(minimal.iter().all(|level| level == "high" || level == "critical") && minimal.len() > 5, "{minimal:?}");
    assert!(default.iter().any(|level| level == "low") && default.iter().any(|level| level == "informational"));
    assert!(minimal.len() < default.len() && default.len() <= paranoid.len());
    assert_eq!(
        told("default"),
        scan(&[SAMPLE], b"").0.iter().map(|a| text_at(a, "/rule/level").to_owned()).collect::<Vec<_>>()
    );
    let wrong = run(&["scan", "--profile", "loud", SAMPLE], b"");
    assert!(wrong.status.code() == Some(2) && said(&wrong).contains("the profiles are minimal, default, paranoid"));
}

/// What the levels promise, on a healthy and busy cluster.
#[test]
fn the_benign_recording_is_quiet() {
    let Some(recording) = recording("benign.jsonl.zst") else { return skipped("no recording of a healthy cluster") };
    let (alerts, stats) = scan(&[recording.to_str().expect("UTF-8")], b"");
    assert!(stats["events"].as_u64() > Some(20_000), "{stats}");
    let levels: Vec<&str> = alerts.iter().map(|alert| text_at(alert, "/rule/level")).collect();
    let count = |wanted: &str| levels.iter().filter(|level| **level == wanted).count();
    assert!(count("low") <= 10 && count("low") + count("informational") == levels.len(), "{levels:?}");
    let (minimal, _) = scan(&["--profile", "minimal", recording.to_str().expect("UTF-8")], b"");
    assert!(minimal.is_empty(), "{minimal:?}");
}

#[test]
fn lists_are_extended_without_touching_a_rule() {
    let event = |user: &str| {
        quiet_event(user, "2026-11-21T04:00:00.000000Z")
            .replace("\"verb\":\"get\"", "\"verb\":\"create\"")
            .replace("system:serviceaccount:shop:web", user)
    };
    let told = |user: &str, more: &[&str]| {
        let (alerts, _) = scan(&[&["-"], more].concat(), event(user).as_bytes());
        alerts.iter().any(|alert| text_at(alert, "/rule/title").starts_with("Administrator credential"))
    };
    assert!(!told("emergency", &[]) && told("emergency", &["--list", "break_glass_users=emergency"]));
    assert!(told("kubernetes-admin", &[]) && !told("kubernetes-admin", &["--list", "administrators:=somebody"]));
    assert!(!told("kubernetes-admin", &["--list", "machines=kubernetes-*"]), "what is a machine is no administrator");
    let wrong = run(&["scan", "--list", "brake_glass_users=x", "-"], b"");
    assert!(
        wrong.status.code() == Some(2) && said(&wrong).contains("did you mean `break_glass_users`?"),
        "{}",
        said(&wrong)
    );
}

#[test]
fn filters_narrow_built_in_rules_by_id_and_by_title() {
    let folder = tempfile::tempdir().expect("a folder");
    let (all, _) = scan(&[SAMPLE], b"");
    let shell =
        all.iter().find(|alert| text_at(alert, "/rule/title").starts_with("Interactive shell")).expect("a shell");
    for name in ["id", "title"] {
        let filter = format!(
            "title: known\nlogsource: {{product: kubernetes, service: audit}}\nfilter:\n  rules: ['{}']\n  who: {{user.username: kubernetes-admin}}\n  condition: not who\n",
            text_at(shell, &format!("/rule/{name}"))
        );
        fs::write(folder.path().join("known.yml"), filter).expect("written");
        let (left, _) = scan(&["--rules", folder.path().to_str().expect("UTF-8"), SAMPLE], b"");
        assert!(left.iter().all(|alert| text_at(alert, "/id") != text_at(shell, "/id")), "{name}");
        assert_eq!(left.len(), all.len() - 1, "nothing else is gone: {name}");
    }
}

#[test]
fn filters_are_made_of_false_alerts_and_take_away_these_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let (all, _) = scan(&[SAMPLE], b"");
    let titles = ["Privileged container", "Interactive shell opened in a container"];
    let marked: Vec<&Value> = all.iter().filter(|alert| titles.contains(&text_at(alert, "/rule/title"))).collect();
    assert_eq!(marked.len(), 2);
    let lines: String = marked.iter().map(|alert| format!("{alert}\n")).collect();
    let page = format!("{{\"alerts\": [{}]}}", marked.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    for input in [lines.as_str(), page.as_str()] {
        let tuned = run(&["rules", "tune", "--alerts", "-"], input.as_bytes());
        assert!(tuned.status.success(), "{}", said(&tuned));
        let told = String::from_utf8_lossy(&tuned.stderr).into_owned();
        assert!(told.matches("1 alert gone, it still fires in all").count() == 2, "{told}");
        fs::write(folder.path().join("known.yml"), &tuned.stdout).expect("written");
        let (left, _) = scan(&["--rules", folder.path().to_str().expect("UTF-8"), SAMPLE], b"");
        let gone = |alert: &&Value| left.iter().all(|other| text_at(other, "/id") != text_at(alert, "/id"));
        let gone: Vec<&str> = all.iter().filter(gone).map(|alert| text_at(alert, "/rule/title")).collect();
        assert_eq!(gone.len(), 2, "{gone:?}");
    }
    let one = run(&["rules", "tune", "--alerts", "-", "--rule", "Privileged container"], lines.as_bytes());
    assert!(one.status.success() && said(&one).matches("logsource").count() == 1, "{}", said(&one));
    let incident = all.iter().find(|alert| !alert["timeline"].is_null()).expect("an incident").to_string();
    let refused = run(&["rules", "tune", "--alerts", "-"], incident.as_bytes());
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        refused.stdout.is_empty() && said(&refused).contains("tune the rules in its `timeline`"),
        "{}",
        said(&refused)
    );
    for (input, message) in [("", "there is no alert in it"), ("{", "is no JSON"), ("{\"a\": 1}", "alert 1 is none")] {
        let wrong = run(&["rules", "tune", "--alerts", "-"], input.as_bytes());
        assert!(wrong.status.code() == Some(2) && said(&wrong).contains(message), "{input}: {}", said(&wrong));
    }
}

/// The cases use `alice`: a filter for her silences them, and nobody must take it over unaware.
#[test]
fn a_filter_that_would_silence_a_case_is_refused() {
    let (all, _) = scan(&[SAMPLE], b"");
    let shell =
        all.iter().find(|alert| text_at(alert, "/rule/title").starts_with("Interactive shell")).expect("a shell");
    let mut shell = shell.clone();
    shell["event"]["user"]["username"] = "alice".into();
    let refused = run(&["rules", "tune", "--alerts", "-"], shell.to_string().as_bytes());
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(refused.stdout.is_empty() && said(&refused).contains("in which it must fire:"), "{}", said(&refused));
}

/// An incident is one alert that tells what happened, in order, and the same on every run.
#[test]
fn an_incident_tells_its_timeline() {
    let incidents = |threads: &str| {
        let (alerts, _) = scan(&["--threads", threads, SAMPLE], b"");
        alerts
            .into_iter()
            .filter(|alert| text_at(alert, "/rule/title").starts_with("Many different alerts about"))
            .collect::<Vec<_>>()
    };
    let found = incidents("1");
    assert_eq!(found, incidents("4"));
    let [incident] = found.as_slice() else { panic!("{found:#?}") };
    let steps = incident["timeline"].as_array().expect("a timeline");
    let times: Vec<&str> = steps.iter().map(|step| text_at(step, "/time")).collect();
    assert!(steps.len() >= 4 && times.is_sorted(), "{times:?}");
    for step in steps {
        assert!(["medium", "high", "critical"].contains(&text_at(step, "/rule/level")), "{step}");
        assert!(!text_at(step, "/summary").is_empty() && step["count"].as_u64() > Some(0), "{step}");
    }
    let table = run(&["scan", "--format", "table", SAMPLE], b"");
    assert!(
        said(&table).contains("04:44:20  Interactive shell opened in a container: kubernetes-admin ran"),
        "{}",
        said(&table)
    );
}

#[tokio::test]
async fn a_reload_takes_another_profile() {
    let home = tempfile::tempdir().expect("a folder");
    let config = |profile: &str| format!("{WEBHOOK}detections: {{profile: {profile}}}\n");
    let daemon = Daemon::start(home.path(), &config("paranoid")).await;
    let levels = async || {
        let (_, text) = daemon.get("/api/v1/rules").await;
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        let rules = answer["rules"].as_array().expect("an array").clone();
        let alerting = rules.into_iter().filter(|rule| rule["alerts"] != false);
        alerting.map(|rule| text_at(&rule, "/level").to_owned()).collect::<Vec<_>>()
    };
    assert!(levels().await.contains(&"informational".to_owned()));
    configure(home.path(), &config("minimal"));
    daemon.ask("/api/v1/reload").await;
    until("only what wakes somebody alerts", async || {
        let levels = levels().await;
        let quiet = levels.iter().all(|level| level == "high" || level == "critical");
        if quiet && !levels.is_empty() { Ok(()) } else { Err(format!("{levels:?}")) }
    })
    .await;
    let lines: String = fs::read_to_string(SAMPLE).expect("the sample");
    assert_eq!(daemon.post(lines).await.0, 200);
    until("the incident is told", async || {
        let alerts = daemon.alerts().await;
        let titles: Vec<&str> = alerts.values().map(|alert| text_at(alert, "/rule/title")).collect();
        if titles.iter().any(|title| title.starts_with("Many different")) { Ok(()) } else { Err(format!("{titles:?}")) }
    })
    .await;
    let low = daemon.alerts().await.values().filter(|alert| text_at(alert, "/rule/level") == "low").count();
    assert_eq!(low, 0);
}
