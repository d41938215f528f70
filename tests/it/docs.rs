//! What the documentation says is so: names, defaults and tables. Its blocks are run in `fences`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("a document")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The blocks of a document in one language.
fn blocks<'t>(text: &'t str, language: &str) -> Vec<&'t str> {
    let blocks = text.split("```").skip(1).step_by(2).filter_map(|block| block.split_once('\n'));
    blocks.filter(|(info, _)| info.split(' ').next() == Some(language)).map(|(_, text)| text).collect()
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

#[test]
fn the_page_on_sinks_shows_each_of_them() {
    let text = read("docs/sinks.md");
    let schema = serde_json::to_value(kubesiren::config::schema()).expect("JSON");
    let variants = schema["$defs"]["SinkConfig"]["oneOf"].as_array().expect("variants").clone();
    assert!(variants.len() >= 14, "{}", variants.len());
    for variant in variants {
        let kind = variant["properties"]["type"]["const"].as_str().expect("a type").to_owned();
        let row = format!("`{kind}`");
        assert!(text.lines().any(|line| line.starts_with("| ") && line.contains(&row)), "no row for {kind}");
        // What has a page or an example of its own elsewhere needs none here.
        let elsewhere = ["slack", "alertmanager", "kafka"].contains(&kind.as_str());
        assert!(elsewhere || text.contains(&format!("type: {kind}")), "no example of {kind}");
        assert!(kubesiren::config::DEFAULT_YAML.contains(&format!("type: {kind}")), "default.yaml: {kind}");
    }
}

/// The daemon is a StatefulSet, so that nothing can be asked of a Deployment.
#[test]
fn no_page_asks_a_deployment() {
    let target = regex::Regex::new(r"\bdeploy(ment)?s?[/ ]kubesiren\b(?:[^.]|$)").expect("a pattern");
    assert!(target.is_match("kubectl exec deploy/kubesiren -- true") && !target.is_match("deploy/kubesiren.service"));
    for page in super::fences::pages() {
        let text = read(&page);
        let asked = text.lines().find(|line| target.is_match(line));
        assert_eq!(asked, None, "{page}");
    }
}

#[test]
fn every_command_stands_in_the_table_of_the_readme() {
    let text = read("README.md");
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `kubesiren "))
        .map(|row| row.split(" | ").next().unwrap_or_default())
        .flat_map(|names| names.split("`kubesiren "))
        .map(|names| names.split(|c: char| !c.is_alphanumeric()).collect())
        .collect();
    let shown = |command: &clap::Command| command.get_name() != "help" && !command.is_hide_set();
    for command in kubesiren::cli::command().get_subcommands().filter(|command| shown(command)) {
        let name = command.get_name();
        let row = rows.iter().find(|words| words[0] == name).unwrap_or_else(|| panic!("no row for {name}"));
        for below in command.get_subcommands().filter(|command| shown(command)) {
            assert!(row.contains(&below.get_name()), "{name} {} is not in its row", below.get_name());
        }
    }
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

/// Every answer to a threat names a test or a file, and these are there.
#[test]
fn every_answer_to_a_threat_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let code = sources(&root.join("src")) + &sources(&root.join("tests"));
    let text = read("docs/threat-model.md");
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| what they try"));
    let mut named = 0;
    for row in rows {
        let places = row.rsplit('|').nth(1).expect("a last column");
        let places: Vec<_> = places.split('`').skip(1).step_by(2).collect();
        assert!(!places.is_empty(), "no place: {row}");
        for place in places {
            let there =
                if place.contains('/') { root.join(place).exists() } else { code.contains(&format!("fn {place}(")) };
            assert!(there, "{place}");
            named += 1;
        }
    }
    assert!(named > 40, "{named}");
    for name in ["all_is_well_while_everything_works_and_no_longer", "unsafe_code_stands_in_one_place"] {
        assert!(text.contains(&format!("`{name}`")) && code.contains(&format!("fn {name}(")), "{name}");
    }
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
}

/// What the page on deployment shows: values that the chart takes, and files that are what they are named after.
#[test]
fn the_page_on_deployment_shows_files_that_are_right() {
    let text = read("docs/deploy.md");
    let files =
        "values.yaml signin.yaml kubeadm.yaml k3s.yaml rke2.yaml vector.yaml clusterlogforwarder.yaml openshift.yaml";
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
    for block in super::fences::blocks_of("docs/deploy.md").iter().filter(|block| block.info == "yaml values") {
        super::helm::values_are_taken(&block.text);
    }
}

/// What is printed for kops and Talos holds the policy and the kubeconfig themselves, and no policy that blinds rules.
#[test]
fn kops_and_talos_get_the_real_policy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = tempfile::tempdir().expect("a folder");
    std::os::unix::fs::symlink(root.join("deploy"), home.path().join("deploy")).expect("a link");
    for file in ["ca.crt", "client.crt", "client.key"] {
        fs::write(home.path().join(file), file.repeat(100)).expect("written");
    }
    for block in super::fences::blocks_of("docs/deploy.md").iter().filter(|block| block.info == "sh") {
        let output = Command::new("bash").args(["-euc", &block.text]).current_dir(home.path()).output();
        let output = output.expect("bash can be started");
        assert!(output.status.success(), "{}", said(&output));
    }
    let parsed = |name: &str| {
        let text = fs::read_to_string(home.path().join(name)).expect(name);
        super::deploy::parsed(name, text).remove(0)
    };
    let within =
        |text: &serde_json::Value| super::deploy::parsed("content", text.as_str().expect("text").to_owned()).remove(0);
    let policy = super::deploy::documents("deploy/audit-policy.yaml").remove(0);
    let kubeconfig = parsed("kubeconfig.yaml");
    let user = &kubeconfig["users"][0]["user"];
    assert!(user["client-key-data"].as_str().is_some_and(|key| key.len() > 1_000 && key.starts_with("Y2xp")), "{user}");
    assert!(!kubeconfig.to_string().contains("BASE64"), "{kubeconfig}");
    let (kops, talos) = (parsed("kops.yaml"), parsed("talos.yaml"));
    assert_eq!(within(&kops["spec"]["fileAssets"][0]["content"]), policy);
    assert_eq!(within(&kops["spec"]["fileAssets"][1]["content"]), kubeconfig);
    assert_eq!(within(&talos["machine"]["files"][0]["content"]), kubeconfig);
    assert_eq!(talos["cluster"]["apiServer"]["auditPolicy"], policy);
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
            tail.logged(&line, |said| said.contains("waiting for ").then_some(())).await;
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
