//! The daemon as Prometheus sees it.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use regex::Regex;
use serde_json::Value;

use super::deploy::{documents, read, root};
use super::fake::{Receiver, Reply};
use super::support::{Daemon, Running, WEBHOOK, answered, attack, client, event_list, free_port, installed, until};

/// An answer's JSON.
async fn asked(request: reqwest::RequestBuilder) -> Result<Value, String> {
    let (_, text) = answered(request).await;
    serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))
}

/// A Prometheus of the test's own, on a free port.
struct Prometheus {
    api: String,
    /// It ends with the test.
    _process: Running,
}

impl Prometheus {
    async fn start(home: &Path, config: &str) -> Self {
        let file = home.join("prometheus.yml");
        std::fs::write(&file, config).expect("written");
        let start = |port: u16| {
            let mut command = Command::new("prometheus");
            command
                .current_dir(home)
                .arg(format!("--config.file={}", file.display()))
                .arg(format!("--storage.tsdb.path={}", home.join("tsdb").display()))
                .arg(format!("--web.listen-address=127.0.0.1:{port}"));
            Running::start(&mut command)
        };
        let mut port = free_port();
        let mut process = start(port);
        // Somebody else may have taken the port meanwhile.
        while process.taken().await {
            port = free_port();
            process = start(port);
        }
        Self { api: format!("http://127.0.0.1:{port}/api/v1"), _process: process }
    }

    /// The series that an expression gives now.
    async fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let answer = asked(client().get(format!("{}/query?query={escaped}", self.api))).await?;
        match answer["data"]["result"].as_array() {
            Some(series) if answer["status"] == "success" => Ok(series.clone()),
            _ => Err(answer.to_string()),
        }
    }

    async fn targets_are_up(&self, number: usize) {
        until("the targets are up", async || {
            let answer = asked(client().get(format!("{}/targets", self.api))).await?;
            let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
            let up = targets.iter().filter(|target| target["health"] == "up").count();
            if up == number { Ok(()) } else { Err(answer.to_string()) }
        })
        .await;
    }
}

#[tokio::test]
async fn prometheus_scrapes_the_metrics() {
    if !installed("prometheus") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    daemon.feed(&attack(), 10).await;
    let config = format!(
        "scrape_configs: [{{job_name: kubesiren, scrape_interval: 500ms, static_configs: [{{targets: ['{}']}}]}}]\n",
        daemon.admin
    );
    let prometheus = Prometheus::start(home.path(), &config).await;
    prometheus.targets_are_up(1).await;
    until("the events are counted", async || {
        let series = prometheus.query("sum(kubesiren_events_total)").await?;
        if series.len() == 1 && series[0]["value"][1] == "27" { Ok(()) } else { Err(format!("{series:?}")) }
    })
    .await;
}

/// An expression, where it stands.
struct Asked {
    place: String,
    expression: String,
}

/// What people leave open in a dashboard, filled in.
fn filled(expression: &str) -> String {
    let mut text = expression.to_owned();
    for (variable, value) in
        [("$job", "kubesiren"), ("$instance", ".*"), ("$cluster", ".*"), ("$__rate_interval", "1m"), ("$__range", "1h")]
    {
        text = text.replace(variable, value);
    }
    assert!(!text.contains('$'), "an unknown variable: {expression}");
    text
}

const DASHBOARDS: [&str; 4] = ["overview", "ingest", "detection", "delivery"];

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(&format!("deploy/dashboards/{name}.json"))).expect("JSON")
}

fn of_panels() -> Vec<Asked> {
    let mut all = Vec::new();
    for name in DASHBOARDS {
        for panel in dashboard(name)["panels"].as_array().expect("panels") {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let place = format!("{name}: {}", panel["title"].as_str().expect("a title"));
                all.push(Asked { place, expression: filled(target["expr"].as_str().expect("an expression")) });
            }
        }
    }
    all
}

/// Expressions of what fills the dashboards' lists of jobs, instances and clusters.
fn of_variables() -> Vec<Asked> {
    let values = Regex::new(r"^label_values\((.+), (\w+)\)$").expect("a pattern");
    let mut all = Vec::new();
    for name in DASHBOARDS {
        for variable in dashboard(name)["templating"]["list"].as_array().expect("variables") {
            if variable["type"] == "query" {
                let query = filled(variable["query"]["query"].as_str().expect("a query"));
                let found = values.captures(&query).unwrap_or_else(|| panic!("{query}"));
                let expression = format!("{}!=\"\"}}", with_label(&found[1], &found[2]));
                all.push(Asked { place: format!("{name}: ${}", variable["name"]), expression });
            }
        }
    }
    all
}

/// A selector that goes on with this label.
fn with_label(selector: &str, label: &str) -> String {
    match selector.strip_suffix('}') {
        Some(open) => format!("{open},{label}"),
        None => format!("{selector}{{{label}"),
    }
}

/// Alerts are quiet while all is well, so what they look at must be there; records must be there themselves.
fn of_rules() -> (Vec<Asked>, Vec<Asked>) {
    let selector = Regex::new(r"\b(?:(?:kubesiren|apiserver|process)_\w+|up)(?:\{[^}]*\})?").expect("a pattern");
    let (mut looked_at, mut whole) = (Vec::new(), Vec::new());
    for group in documents("deploy/prometheus-rules.yaml")[0]["groups"].as_array().expect("groups") {
        for rule in group["rules"].as_array().expect("rules") {
            let expression = rule["expr"].as_str().expect("an expression").to_owned();
            if let Some(name) = rule["record"].as_str() {
                looked_at.push(Asked { place: name.to_owned(), expression: name.to_owned() });
                looked_at.push(Asked { place: name.to_owned(), expression: expression.clone() });
            } else {
                let place = rule["alert"].as_str().expect("a name").to_owned();
                for found in selector.find_iter(&expression) {
                    looked_at.push(Asked { place: place.clone(), expression: found.as_str().to_owned() });
                }
                whole.push(Asked { place, expression });
            }
        }
    }
    (looked_at, whole)
}

/// What is empty even where all is there, and why.
const EMPTY: [(&str, &str); 2] = [
    ("detection: Groups dropped", "shows only rules that dropped any: 100 000 groups would be needed"),
    ("detection: Windows beyond 10 000 matches", "shows only rules with any"),
];

/// The configuration of a daemon with everything that has series of its own: two webhooks, one with TLS, the topic of a
/// broker, a canary, a watchdog, and a sink that is down.
async fn of_everything(home: &Path, topic: &str) -> String {
    let takes = Receiver::forgetful(|_| Reply::new(200, "")).await;
    let fails = Receiver::forgetful(|_| Reply::new(500, "")).await;
    let own = rcgen::generate_simple_self_signed(vec!["audit.example".to_owned()]).expect("a certificate");
    std::fs::write(home.join("tls.crt"), own.cert.pem()).expect("written");
    std::fs::write(home.join("tls.key"), own.signing_key.serialize_pem()).expect("written");
    format!(
        "sources:
- {{type: webhook, listen: '127.0.0.1:0'}}
- {{type: webhook, name: tls, listen: '127.0.0.1:0', tls: {{cert: {dir}/tls.crt, key: {dir}/tls.key}}}}
{topic}canary: {{every: 1s, sources: [webhook]}}
sinks:
- {{name: soc, type: webhook, url: '{}', watchdog: {{every: 1s}}}}
- {{name: down, type: webhook, url: '{}'}}
",
        takes.url("/"),
        fails.url("/"),
        dir = home.display(),
    )
}

/// The configuration of a Prometheus that scrapes it, and what stands for kube-apiserver, by our rules.
async fn of_prometheus(daemon: &Daemon) -> String {
    let counters = "apiserver_audit_error_total{plugin=\"webhook\"} 0\napiserver_audit_requests_rejected_total 0\n";
    let apiserver = Receiver::forgetful(move |_| Reply::new(200, counters)).await;
    format!(
        "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}
rule_files: ['{}']
scrape_configs:
- {{job_name: kubesiren, static_configs: [{{targets: ['{}']}}]}}
- {{job_name: apiserver, static_configs: [{{targets: ['{}']}}]}}
",
        root().join("deploy/prometheus-rules.yaml").display(),
        daemon.admin,
        apiserver.url("").trim_start_matches("http://").trim_end_matches('/'),
    )
}

#[tokio::test]
async fn every_panel_alert_and_record_asks_for_what_there_is() {
    if !installed("prometheus") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    #[cfg(feature = "kafka")]
    let broker = super::broker::Broker::mock();
    #[cfg(feature = "kafka")]
    let topic = {
        broker.topic("k8s-audit", 1);
        format!("- {{type: kafka, brokers: ['{}'], topics: [k8s-audit]}}\n", broker.address())
    };
    #[cfg(not(feature = "kafka"))]
    let topic = String::new();
    let daemon = Daemon::start(home.path(), &of_everything(home.path(), &topic).await).await;
    let prometheus = Prometheus::start(home.path(), &of_prometheus(&daemon).await).await;
    // A counter's first value must have been seen before it rises.
    prometheus.targets_are_up(2).await;
    daemon.feed(&attack(), 10).await;
    // One that is broken, so that an alert of Prometheus fires too.
    let (status, text) = daemon.post(event_list(&["{\"kind\":\"Event\"}".to_owned(), attack()[0].clone()])).await;
    assert_eq!(status, 200, "{text}");

    let (looked_at, whole) = of_rules();
    let (panels, variables) = (of_panels(), of_variables());
    assert!(panels.len() > 60 && variables.len() >= 10 && looked_at.len() > 30 && whole.len() > 20);
    for asked in panels.iter().chain(&variables).chain(&looked_at) {
        if !cfg!(feature = "kafka") && asked.expression.contains("kafka") {
            continue;
        }
        let empty = EMPTY.iter().any(|(place, _)| *place == asked.place);
        until(&format!("{} has data: {}", asked.place, asked.expression), async || {
            let series = prometheus.query(&asked.expression).await?;
            if series.is_empty() == empty { Ok(()) } else { Err(format!("{series:?}")) }
        })
        .await;
    }
    for asked in &whole {
        let answer = prometheus.query(&asked.expression).await;
        assert!(answer.is_ok(), "{}: {answer:?}", asked.place);
    }
}

/// Dashboards that Grafana takes: each panel has a place of its own, a description and the chosen Prometheus.
#[test]
fn the_dashboards_are_whole() {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(root().join("deploy/dashboards")).expect("a folder") {
        names.insert(entry.expect("an entry").file_name().to_string_lossy().trim_end_matches(".json").to_owned());
    }
    assert_eq!(names, DASHBOARDS.map(str::to_owned).into());
    for name in DASHBOARDS {
        let board = dashboard(name);
        assert_eq!(board["uid"], format!("kubesiren-{name}"));
        let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
        for panel in board["panels"].as_array().expect("panels") {
            let title = panel["title"].as_str().expect("a title");
            assert!(ids.insert(panel["id"].to_string()), "{name}: {title}: an id twice");
            let number = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            assert!(number("x") + number("w") <= 24, "{name}: {title}");
            for x in number("x")..number("x") + number("w") {
                for y in number("y")..number("y") + number("h") {
                    assert!(cells.insert((x, y)), "{name}: {title} lies over another");
                }
            }
            if panel["type"] != "row" {
                assert_eq!(panel["datasource"]["uid"], "${datasource}", "{name}: {title}");
                assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{name}: {title}");
            }
        }
    }
}

/// Each alert has a case in which it fires and one in which it does not.
#[test]
fn every_alert_has_cases() {
    let (_, alerts) = of_rules();
    let mut seen = BTreeSet::new();
    for test in documents("tests/prometheus-rules.yaml")[0]["tests"].as_array().expect("tests") {
        for case in test["alert_rule_test"].as_array().into_iter().flatten() {
            let fires = case["exp_alerts"].as_array().is_some_and(|alerts| !alerts.is_empty());
            seen.insert((case["alertname"].as_str().expect("a name").to_owned(), fires));
        }
    }
    for alert in alerts {
        for fires in [true, false] {
            assert!(seen.contains(&(alert.place.clone(), fires)), "{}: no case with fires = {fires}", alert.place);
        }
    }
}

#[test]
fn the_alerting_rules_fire_when_they_should() {
    if !installed("promtool") {
        return;
    }
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/prometheus-rules.yaml");
    let output = Command::new("promtool").args(["test", "rules", cases]).output().expect("promtool can be started");
    let words = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
}

#[tokio::test]
async fn promtool_likes_the_metrics() {
    if !installed("promtool") {
        return;
    }
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    daemon.feed(&attack(), 10).await;
    let (_, text) = daemon.get("/metrics").await;
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = promtool.spawn().expect("promtool can be started");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("read");
    let output = child.wait_with_output().expect("promtool ends");
    let words = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&words));
}
