//! Rules and configuration that change while the daemon runs.

use std::path::Path;

use serde_json::Value;

use super::support::{Daemon, WEBHOOK, configure, quiet_event, text_at, until};

fn rule(id: &str, resource: &str) -> String {
    format!(
        "title: Rule {id}
id: {id}
level: medium
logsource: {{product: kubernetes, service: audit}}
detection:
  access: {{objectRef.resource: {resource}, verb: get}}
  condition: access
"
    )
}

/// Replaces a file as careful editors and kubelets do: whole, at once.
fn replace(path: &Path, text: &str) {
    let aside = path.with_extension("new");
    std::fs::write(&aside, text).expect("written");
    std::fs::rename(aside, path).expect("renamed");
}

async fn has_rules(daemon: &Daemon, expected: &[&str]) {
    until(&format!("the rules are {expected:?}"), async || {
        let (_, text) = daemon.get("/api/v1/rules").await;
        let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
        let rules = answer["rules"].as_array().expect("an array");
        let ids: Vec<&str> = rules.iter().map(|rule| text_at(rule, "/id")).collect();
        if ids == expected { Ok(()) } else { Err(format!("{ids:?}")) }
    })
    .await;
}

async fn ready(daemon: &Daemon) {
    until("ready", async || match daemon.get("/readyz").await {
        (200, _) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Posts one event that both rules look for, and awaits that the rule has counted it.
async fn fires(daemon: &Daemon, id: &str, rule: &str) {
    assert_eq!(daemon.post(quiet_event(id, "2026-11-21T04:00:00.000000Z")).await.0, 200);
    daemon.metric_is("kubesiren_matches_total", &format!("rule=\"{rule}\""), 1.0).await;
}

fn reloads(daemon: &Daemon) -> usize {
    daemon.process.err.all().iter().filter(|line| line.contains("\"message\":\"reloaded\"")).count()
}

#[tokio::test]
async fn rules_and_configuration_are_taken_up_and_mistakes_are_not() {
    let home = tempfile::tempdir().expect("a folder");
    let rules = home.path().join("rules");
    std::fs::create_dir(&rules).expect("made");
    let mine = rules.join("mine.yml");
    std::fs::write(&mine, rule("first", "deployments")).expect("written");
    let config =
        |more: &str| format!("{WEBHOOK}detections: {{builtin: false, paths: ['{}']{more}}}\n", rules.display());
    let daemon = Daemon::start(home.path(), &config("")).await;
    has_rules(&daemon, &["first"]).await;
    fires(&daemon, "1", "first").await;

    replace(&mine, &rule("second", "deployments"));
    has_rules(&daemon, &["second"]).await;
    fires(&daemon, "2", "second").await;

    replace(&mine, &rule("third", "deployments").replace("verb: get", "verb|no-such: get"));
    let reason = until("not ready for a broken rule", async || match daemon.get("/readyz").await {
        (503, text) => Ok(text),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(reason.contains("mine.yml:6:") && reason.contains("no-such"), "{reason}");
    daemon.metric_is("kubesiren_config_last_reload_success", "", 0.0).await;
    daemon.metric_is("kubesiren_rule_load_errors", "", 1.0).await;
    has_rules(&daemon, &["second"]).await;
    let (status, text) = daemon.ask("/api/v1/reload").await;
    assert!(status == 500 && text.contains("mine.yml:6:"), "{text}");
    assert_eq!(daemon.post(quiet_event("3", "2026-11-21T04:00:01.000000Z")).await.0, 200);
    daemon.metric_is("kubesiren_matches_total", "rule=\"second\"", 2.0).await;

    replace(&mine, &rule("third", "deployments"));
    has_rules(&daemon, &["third"]).await;
    ready(&daemon).await;
    daemon.metric_is("kubesiren_config_last_reload_success", "", 1.0).await;

    std::fs::write(rules.join("other.yml"), rule("other", "pods")).expect("written");
    has_rules(&daemon, &["third", "other"]).await;
    configure(home.path(), &config(", disable: [other]"));
    has_rules(&daemon, &["third"]).await;
    until("the gauges of a rule that is gone are gone", async || match daemon.get("/metrics").await {
        (200, text)
            if !text.contains("window_keys{rule=\"other\"}") && text.contains("window_keys{rule=\"third\"}") =>
        {
            Ok(())
        }
        (_, text) => Err(text),
    })
    .await;
    configure(home.path(), &config(", disabled: [other]"));
    until("not ready for a broken configuration", async || match daemon.get("/readyz").await {
        (503, text) if text.contains("config.yaml:") && text.contains("disabled") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    configure(home.path(), &config(""));
    has_rules(&daemon, &["third", "other"]).await;
    ready(&daemon).await;

    let before = reloads(&daemon);
    daemon.process.signal("HUP");
    until("SIGHUP reloads", async || if reloads(&daemon) > before { Ok(()) } else { Err(String::new()) }).await;
    assert_eq!(daemon.ask("/api/v1/reload").await, (200, "{\"rules\":2}\n".to_owned()));
    daemon.stop().await;
}

#[tokio::test]
async fn a_mistake_at_the_start_is_exit_code_2() {
    let home = tempfile::tempdir().expect("a folder");
    let file = configure(home.path(), "sinks: [{name: a, type: slack}]\nroutes: [{sinks: [b]}]\n");
    let output = super::support::run(&["run", "--config", &file.display().to_string()], b"");
    let shown = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{shown}");
    assert!(shown.contains("config.yaml:3:") && shown.contains("config.yaml:4:"), "every mistake at once: {shown}");
    assert!(!home.path().join("state").exists(), "nothing was touched");
}
