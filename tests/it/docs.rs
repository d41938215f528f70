//! What the documentation shows is what happens.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn kubesiren(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubesiren"));
    command.args(args).env("NO_COLOR", "1").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.output().expect("the program can be started")
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a document")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The blocks of a document in one language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let begins = |block: &&'t str| block.starts_with(&format!("{language}\n"));
    text.split("```").skip(1).step_by(2).filter(begins).map(|block| &block[language.len() + 1..]).collect()
}

#[test]
fn the_example_rules_are_right_and_pass_their_cases() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = read("docs/rules.md");
    let mut files = 0;
    for block in blocks(&text, "yaml") {
        let name = block.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a block begins with its name");
        fs::write(folder.path().join(name), block).expect("written");
        files += 1;
    }
    assert_eq!(files, 5);
    let folder = folder.path().to_str().expect("UTF-8");
    let checked = kubesiren(&["rules", "check", folder]);
    assert!(said(&checked).starts_with("1 rule, 1 correlation, no mistakes"), "{}", said(&checked));
    let tested = kubesiren(&["rules", "test", folder]);
    assert!(tested.status.success(), "{}", said(&tested));
}

#[test]
fn the_readme_shows_what_a_scan_of_the_sample_prints() {
    let scan = kubesiren(&["scan", "--format", "table", "samples/attack.jsonl"]);
    let text = read("README.md");
    let shown = blocks(&text, "text").into_iter().find(|block| block.contains(" alerts in ")).expect("the output");
    let said = said(&scan);
    let mut rest = said.as_str();
    for line in shown.lines().filter(|line| *line != "…") {
        // How long it took differs.
        let line = line.rsplit_once(", ").filter(|(_, time)| time.ends_with(" s")).map_or(line, |(line, _)| line);
        let at = rest.find(line).unwrap_or_else(|| panic!("`{line}` is not next in:\n{said}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn the_example_correlations_are_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = read("docs/correlations.md");
    for block in blocks(&text, "yaml") {
        let name = block.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a block begins with its name");
        fs::write(folder.path().join(name), block).expect("written");
    }
    let checked = kubesiren(&["rules", "check", folder.path().to_str().expect("UTF-8")]);
    assert!(said(&checked).starts_with("3 rules, 6 correlations, no mistakes"), "{}", said(&checked));
}

#[test]
fn the_example_of_a_falco_rule_is_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = read("docs/falco.md");
    let block = blocks(&text, "yaml").into_iter().find(|block| block.contains("- rule:")).expect("a rule");
    let file = folder.path().join("images.yaml");
    fs::write(&file, block).expect("written");
    let checked = kubesiren(&["rules", "check", file.to_str().expect("UTF-8")]);
    assert!(said(&checked).starts_with("1 rule, 0 correlations, no mistakes"), "{}", said(&checked));
}

#[test]
fn the_example_of_several_instances_is_right_and_its_table_says_the_defaults() {
    let text = read("docs/scaling.md");
    let block = blocks(&text, "yaml").pop().expect("a configuration");
    let config = kubesiren::config::parse(Path::new("several.yaml"), block, &[], kubesiren::config::Depth::Text);
    let config = config.unwrap_or_else(|findings| panic!("{findings:#?}"));
    let kubesiren::config::JournalConfig::Kafka(journal) = &config.journal else { panic!("no Kafka") };
    let journal = serde_json::to_value(journal).expect("JSON");
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | `"));
    let mut defaults = 0;
    for (key, rest) in rows {
        let shown = rest.split('`').next().expect("a default");
        let value = &journal[key];
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        assert_eq!(shown, value, "{key}");
        defaults += 1;
    }
    assert_eq!(defaults, 7);
    for suffix in ["matches", "alerts", "baselines"] {
        assert!(
            text.contains(&format!("--topic kubesiren-{suffix} --partitions 12 --replication-factor 3")),
            "{suffix}"
        );
    }
}

#[test]
fn the_example_configurations_of_kafka_are_right() {
    let text = read("docs/kafka.md");
    let mut names = Vec::new();
    for block in blocks(&text, "yaml") {
        let name = block.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a block begins with its name");
        let config = kubesiren::config::parse(Path::new(name), block, &[], kubesiren::config::Depth::Text);
        config.unwrap_or_else(|findings| panic!("{findings:#?}"));
        names.push(name);
    }
    assert_eq!(
        names,
        ["kafka.yaml", "clusters.yaml", "scram.yaml", "mutual.yaml", "oauth.yaml", "event-hubs.yaml", "sink.yaml"]
    );
    // What the page calls a default is one.
    let code = read("src/source/kafka/mod.rs") + &read("src/kafka/client.rs") + &read("src/kafka/mod.rs");
    let mut defaults = 0;
    for quoted in text.split('`').skip(1).step_by(2) {
        if let Some((property, value)) = quoted.split_once('=').filter(|(property, _)| property.contains('.')) {
            let listed = code.contains(&format!("(\"{property}\", \"{value}\")"));
            let set = code.contains(&format!("\"{property}\".to_owned(), \"{value}\".to_owned()"));
            assert!(listed || set, "{quoted}");
            defaults += 1;
        }
    }
    assert!(defaults >= 15, "{defaults}");
}

/// All sources below a folder as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(&path).expect("text");
        }
    }
    text
}

#[test]
fn every_test_that_the_page_on_evasion_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = sources(&root.join("src")) + &sources(&root.join("tests"));
    let text = read("docs/reliability.md");
    let section =
        text.split("\n## ").find(|section| section.starts_with("The listener and evasion")).expect("the section");
    let mut named = 0;
    for row in section.lines().filter(|line| line.starts_with("| ")) {
        let tests = row.rsplit('|').nth(1).expect("a last column");
        for name in tests.split('`').skip(1).step_by(2).filter_map(|name| name.rsplit(": ").next()) {
            let name = name.trim_end_matches('…');
            if name.matches('_').count() >= 3 {
                assert!(code.contains(&format!("fn {name}")), "{name}");
                named += 1;
            }
        }
    }
    assert!(named > 30, "{named}");
}

#[test]
fn the_page_on_watching_names_what_there_is() {
    let (text, metrics) = (read("docs/watching.md"), read("src/metrics.rs"));
    let name = regex::Regex::new(r"kubesiren_(\w+)").expect("a pattern");
    let mut named = 0;
    for found in name.captures_iter(&text) {
        let name = found[1].trim_end_matches("_total");
        assert!(metrics.contains(&format!("\"{name}\"")), "{name}");
        named += 1;
    }
    assert!(named > 10, "{named}");
    let folder = tempfile::tempdir().expect("a folder");
    let configurations = blocks(&text, "yaml").into_iter().filter(|block| !block.starts_with("route:"));
    for (n, block) in configurations.enumerate() {
        let file = folder.path().join(format!("{n}.yaml"));
        fs::write(&file, block).expect("written");
        let checked = kubesiren(&["config", "check", "--offline", file.to_str().expect("UTF-8")]);
        assert!(checked.status.success(), "{block}{}", said(&checked));
    }
}

#[test]
fn the_page_on_audit_policies_shows_what_a_check_prints() {
    let checked = kubesiren(&["policy", "check", "--format", "table", "deploy/audit-policy.yaml"]);
    let (text, said) = (read("docs/audit-policy.md"), said(&checked));
    let shown = blocks(&text, "text").into_iter().next().expect("the output");
    assert!(said.contains(shown), "{shown}\nis not in\n{said}");
}

/// What the page on deployment shows: values that the chart takes, and files that are what they are named after.
#[test]
fn the_page_on_deployment_shows_files_that_are_right() {
    let text = read("docs/deploy.md");
    let files =
        "values.yaml kubeadm.yaml k3s.yaml rke2.yaml kops.yaml talos.yaml clusterlogforwarder.yaml openshift.yaml";
    let mut names = Vec::new();
    for block in blocks(&text, "yaml") {
        let name = block.lines().next().and_then(|line| line.strip_prefix("# ")).expect("a block begins with its name");
        super::deploy::parsed(name, block.to_owned());
        names.push(name);
    }
    assert_eq!(names.join(" "), files);
    // Each way to set kube-apiserver up sets the same flags.
    let flags = read("deploy/apiserver-flags.md");
    for flag in [
        "audit-policy-file",
        "audit-webhook-config-file",
        "audit-webhook-batch-max-wait",
        "audit-webhook-truncate-enabled",
    ] {
        assert!(flags.contains(&format!("--{flag}")), "{flag}");
        for name in ["kubeadm.yaml", "k3s.yaml", "rke2.yaml"] {
            let block = blocks(&text, "yaml").into_iter().find(|block| block.starts_with(&format!("# {name}\n")));
            assert!(block.is_some_and(|block| block.contains(flag)), "{name}: {flag}");
        }
    }
    for block in blocks(&text, "yaml").into_iter().filter(|block| ["# values", "# opensh"].contains(&&block[..8])) {
        super::helm::values_are_taken(block);
    }
}

/// Every command of the page on tools, beside a daemon with an alert; those that go on are ended once they run.
#[tokio::test]
async fn the_commands_of_the_page_on_tools_work() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = super::support::Daemon::start(home.path(), super::support::WEBHOOK).await;
    daemon.feed(&super::support::attack(), 100).await;
    let id = super::support::until("an alert", async || {
        daemon.alerts().await.into_keys().next().ok_or_else(|| "none".to_owned())
    })
    .await;
    let bin = Path::new(env!("CARGO_BIN_EXE_kubesiren")).parent().expect("a folder");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let text = read("docs/tools.md");
    let mut ran = 0;
    for line in blocks(&text, "sh").into_iter().flat_map(str::lines) {
        let line = line.replace("e71f3c2a", &id[..8]).replace("samples/", &format!("{}/", sample.display()));
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec {line}")]).current_dir(home.path());
        shell.env("PATH", &path).env("KUBESIREN_ADMIN_URL", format!("http://{}", daemon.admin)).env("NO_COLOR", "1");
        if line.contains(" tail ") {
            let mut tail = super::support::Running::start(&mut shell);
            tail.logged(&line, |said| said.contains("waiting for alerts").then_some(())).await;
        } else {
            let output = shell.output().expect("a shell can be run");
            assert!(output.status.success(), "{line}: {}", said(&output));
        }
        ran += 1;
    }
    assert!(ran >= 17, "{ran}");
    for file in ["report.html", "kubesiren.bash", "kubesiren-alerts-list.1", "kubesiren-top.1"] {
        assert!(home.path().join(file).exists(), "{file}");
    }
}

/// The function for Lambda, run as it is there, with what CloudWatch hands to it.
#[tokio::test]
async fn the_function_for_lambda_passes_events_on() {
    if !super::support::installed("python3") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    fs::write(home.path().join("token"), "l4mbda").expect("written");
    let source =
        format!("{{type: webhook, listen: '127.0.0.1:0', bearer_token_file: '{}/token'}}", home.path().display());
    let daemon = super::support::Daemon::start(home.path(), &format!("sources: [{source}]\n")).await;
    let text = read("docs/deploy.md");
    let function = blocks(&text, "python").into_iter().next().expect("the function");
    fs::write(home.path().join("lambda_function.py"), function).expect("written");
    let call = r#"
import base64, gzip, json, lambda_function
events = [line for line in open("samples/attack.jsonl").read().splitlines()]
payload = {"messageType": "DATA_MESSAGE", "owner": "1", "logGroup": "/aws/eks/prod/cluster", "logStream": "kube-apiserver-audit-a",
    "subscriptionFilters": ["kubesiren"], "logEvents": [{"id": str(n), "timestamp": 1, "message": event} for n, event in enumerate(events)]}
packed = base64.b64encode(gzip.compress(json.dumps(payload).encode())).decode()
lambda_function.lambda_handler({"awslogs": {"data": packed}}, None)
"#;
    let mut python = Command::new("python3");
    python.args(["-c", call]).current_dir(env!("CARGO_MANIFEST_DIR"));
    python.env("PYTHONPATH", home.path()).env("PYTHONDONTWRITEBYTECODE", "1");
    let output = python.env("URL", daemon.hook()).env("TOKEN", "l4mbda").output().expect("python can be started");
    assert!(output.status.success(), "{}", said(&output));
    daemon.metric_is("kubesiren_events_total", "cluster=\"prod\"", 27.0).await;
}
