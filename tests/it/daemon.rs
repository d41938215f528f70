//! The daemon as kube-apiserver and Slack see it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use reqwest::{Certificate, Version};
use serde_json::Value;

use super::fake::slack::Slack;
use super::support::{Daemon, attack, by_id, event_list, json_lines, scan, story, text_at, until};

/// A throw-away authority and a server certificate signed by it, in files.
struct Tls {
    authority: Certificate,
    cert: String,
    key: String,
}

impl Tls {
    fn new(folder: &Path) -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("signed");
        let issuer = rcgen::Issuer::new(params, key);
        let leaf_key = rcgen::KeyPair::generate().expect("a key");
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let leaf = rcgen::CertificateParams::new(names).expect("parameters").signed_by(&leaf_key, &issuer);
        let write = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).expect("written");
            path.display().to_string()
        };
        Self {
            authority: Certificate::from_pem(ca.pem().as_bytes()).expect("a certificate"),
            cert: write("tls.crt", leaf.expect("signed").pem()),
            key: write("tls.key", leaf_key.serialize_pem()),
        }
    }

    fn client(&self) -> reqwest::ClientBuilder {
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().no_proxy().tls_certs_only([self.authority.clone()])
    }
}

#[tokio::test]
async fn events_over_tls_become_messages_and_lines() {
    let home = tempfile::tempdir().expect("a folder");
    let tls = Tls::new(home.path());
    std::fs::write(home.path().join("token"), "s3cr3t-t0ken\n").expect("written");
    let slack = Slack::start().await;
    std::fs::write(home.path().join("slack"), slack.hook()).expect("written");
    let config = format!(
        "cluster: lab
sources: [{{type: webhook, listen: '127.0.0.1:0', tls: {{cert: {cert}, key: {key}}}, bearer_token_file: {home}/token}}]
sinks: [{{name: console, type: stdout}}, {{name: oncall, type: slack, webhook_url_file: {home}/slack}}]
routes: [{{sinks: [console], continue: true}}, {{min_level: high, sinks: [oncall]}}]
",
        cert = tls.cert,
        key = tls.key,
        home = home.path().display()
    );
    let daemon = Daemon::start(home.path(), &config).await;
    let old = tls.client().http1_only().build().expect("a client");
    let new = tls.client().build().expect("a client");
    let url = format!("https://{}/k8s-audit", daemon.webhook);
    let mut events = vec![hostile_event()];
    post(&old, &url, &events, Version::HTTP_11).await;
    until("Slack has the first message", async || slack.messages().pop().ok_or_else(String::new)).await;
    events.extend(story());
    let end = events.pop().expect("the last one");
    let half = events.len() / 2;
    post(&old, &url, &events[1..half], Version::HTTP_11).await;
    post(&new, &url, &events[half..], Version::HTTP_2).await;

    let (fired, stats) = scan(&["--cluster", "lab"], events.join("\n").as_bytes());
    assert!(!fired.is_empty());
    await_told(&daemon, "firing", &by_id(fired.clone())).await;
    daemon.metric_is("kubesiren_matches_total", "", stats["matches"].as_f64().expect("a number")).await;
    let routed: Vec<String> = fired
        .iter()
        .filter(|alert| ["high", "critical"].contains(&text_at(alert, "/rule/level")))
        .map(|alert| text_at(alert, "/rule/title").to_owned())
        .collect();
    let messages = await_messages(&slack, 0, &routed).await;
    assert!(slack.messages()[0].payload.to_string().contains("&lt;!channel&gt;"), "who did it is told");

    post(&new, &url, std::slice::from_ref(&end), Version::HTTP_2).await;
    events.push(end);
    let (expected, _) = scan(&["--cluster", "lab"], events.join("\n").as_bytes());
    let expected = by_id(expected);
    let lines = await_told(&daemon, "resolved", &expected).await;
    check_lines(&lines, &expected);
    await_messages(&slack, messages, &routed).await;
    daemon.metric_is("kubesiren_events_total", "cluster=\"lab\"", events.len() as f64).await;
    let logs = daemon.process.err.all().join("\n");
    assert!(!logs.contains("s3cr3t"), "a secret is in the log: {logs}");
    daemon.stop().await;
}

/// Posts in batches; the token is demanded, and every batch is answered over this version of HTTP.
async fn post(client: &reqwest::Client, url: &str, events: &[String], version: Version) {
    let send = async |batch: &[String], token: &str| {
        let answer = client.post(url).bearer_auth(token).body(event_list(batch)).send().await.expect("an answer");
        (answer.status().as_u16(), answer.version())
    };
    assert_eq!(send(events, "wrong").await, (401, version));
    for batch in events.chunks(100) {
        assert_eq!(send(batch, "s3cr3t-t0ken").await, (200, version));
    }
}

/// Somebody whose name would call everybody in a channel, and who makes himself cluster-admin.
fn hostile_event() -> String {
    let grant = attack().into_iter().find(|event| {
        event.contains("clusterrolebindings") && event.contains("ResponseComplete") && event.contains("cluster-admin")
    });
    let mut event: Value = serde_json::from_str(&grant.expect("in the sample")).expect("JSON");
    event["user"]["username"] = "<!channel> <https://evil.example|click> & *co*".into();
    event["auditID"] = "<!here>".into();
    event.to_string()
}

/// Awaits lines on standard output that tell of all these alerts in this state; gives all lines.
async fn await_told(daemon: &Daemon, status: &str, expected: &BTreeMap<String, Value>) -> Vec<Value> {
    until("every episode is on standard output", async || {
        let lines = json_lines(&daemon.process.out.all().join("\n"));
        let told: BTreeSet<&str> =
            lines.iter().filter(|line| line["status"] == status).map(|line| text_at(line, "/id")).collect();
        let missing: Vec<_> = expected.values().filter(|alert| !told.contains(text_at(alert, "/id"))).collect();
        if missing.is_empty() { Ok(lines.clone()) } else { Err(format!("missing: {missing:?}")) }
    })
    .await
}

/// Awaits messages after the first `skip` that tell of as many alerts as were routed, and checks that they tell of
/// these, each once. Gives the number of messages.
async fn await_messages(slack: &Slack, skip: usize, routed: &[String]) -> usize {
    let (messages, named, unnamed) = until("every routed alert is told in Slack", async || {
        let messages = slack.messages();
        let (mut named, mut unnamed) = (Vec::new(), 0);
        for message in &messages[skip..] {
            let (titles, more) = told(&message.payload);
            named.extend(titles);
            unnamed += more;
        }
        let all = named.len() + unnamed;
        if all >= routed.len() { Ok((messages, named, unnamed)) } else { Err(format!("{all} of {}", routed.len())) }
    })
    .await;
    assert_eq!(named.len() + unnamed, routed.len(), "each alert is told once");
    let mut left = routed.to_vec();
    for title in named {
        let at = left.iter().position(|other| *other == title);
        left.swap_remove(at.unwrap_or_else(|| panic!("`{title}` is told too often")));
    }
    for message in &messages[skip..] {
        let text = message.payload.to_string();
        assert!(!text.contains("<!") && !text.contains("<@") && !text.contains("<https://evil"), "{text}");
        assert!(!text_at(&message.payload, "/text").is_empty());
    }
    messages.len()
}

/// The rules that a message tells of, one for each alert, and how many more alerts it only counts.
fn told(payload: &Value) -> (Vec<String>, usize) {
    let blocks = payload["blocks"].as_array().expect("blocks");
    let header = blocks.iter().find(|block| block["type"] == "header").map(|block| text_at(block, "/text/text"));
    let in_lines = || {
        let sections = blocks.iter().filter_map(|block| block.pointer("/text/text")?.as_str());
        let lines = sections.flat_map(str::lines).filter_map(|line| line.split_once(" · ")?.1.split_once(": "));
        lines.map(|(title, _)| title.to_owned()).collect::<Vec<_>>()
    };
    let elements = blocks.iter().filter_map(|block| block.pointer("/elements/0/text")?.as_str());
    let counted = |text: &str| text.strip_prefix('+')?.split(' ').next()?.parse::<usize>().ok();
    match header {
        None => (in_lines(), elements.filter_map(counted).sum()),
        Some(digest) if digest.starts_with('+') => {
            let titles = in_lines();
            let more = counted(digest).expect("a number") - titles.len();
            (titles, more)
        }
        Some(header) => {
            let title = header.rsplit_once(" · ").expect("level and title").1;
            match title.rsplit_once(" ×") {
                Some((title, count)) => (vec![title.to_owned(); count.parse().expect("a number")], 0),
                None => (vec![title.to_owned()], 0),
            }
        }
    }
}

/// Each alert is told once as firing, then once as resolved, as the scan has it.
fn check_lines(lines: &[Value], expected: &BTreeMap<String, Value>) {
    let mut seen: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for line in lines {
        seen.entry(text_at(line, "/id")).or_default().push(line);
    }
    let ids: Vec<&str> = seen.keys().copied().collect();
    assert_eq!(ids, expected.keys().map(String::as_str).collect::<Vec<_>>());
    for (id, told) in seen {
        let states: Vec<&str> = told.iter().map(|line| text_at(line, "/status")).collect();
        assert_eq!(states, ["firing", "resolved"], "{id}");
        assert_eq!(told[1], &expected[id]);
        told.iter().for_each(|line| check_shape(line));
    }
}

/// What the interface promises of an alert.
fn check_shape(alert: &Value) {
    let id = text_at(alert, "/id");
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    for place in ["/time", "/first_seen", "/last_seen"] {
        let time = text_at(alert, place);
        assert!(
            time.ends_with('Z') && time.as_bytes()[10] == b'T' && time.parse::<jiff::Timestamp>().is_ok(),
            "{time}"
        );
    }
    for place in ["/cluster", "/rule/id", "/rule/title", "/summary", "/event/auditID", "/event/stage", "/event/verb"] {
        assert!(!text_at(alert, place).is_empty(), "{place} in {alert}");
    }
    for place in ["/event/requestURI", "/event/stageTimestamp"] {
        assert!(!text_at(alert, place).is_empty(), "{place} in {alert}");
    }
    let level = text_at(alert, "/rule/level");
    assert!(["informational", "low", "medium", "high", "critical"].contains(&level), "{level}");
    assert!(["firing", "resolved"].contains(&text_at(alert, "/status")));
    for place in ["/rule/tags", "/rule/references", "/audit_ids"] {
        assert!(alert.pointer(place).is_some_and(Value::is_array), "{place} in {alert}");
    }
    for place in ["/group", "/matched", "/event/user"] {
        assert!(alert.pointer(place).is_some_and(Value::is_object), "{place} in {alert}");
    }
    let ids = alert["audit_ids"].as_array().map_or(0, Vec::len);
    let count = usize::try_from(alert["count"].as_u64().expect("a number")).expect("small");
    assert!((1..=10).contains(&ids) && ids <= count, "{alert}");
    let known = [
        "id",
        "status",
        "time",
        "cluster",
        "rule",
        "summary",
        "count",
        "first_seen",
        "last_seen",
        "group",
        "event",
        "matched",
        "audit_ids",
        "timeline",
    ];
    let more: Vec<_> =
        alert.as_object().expect("an object").keys().filter(|key| !known.contains(&key.as_str())).collect();
    assert!(more.is_empty(), "{more:?}");
    let event = alert["event"].as_object().expect("an object");
    assert!(!event.contains_key("requestObject") && !event.contains_key("responseObject"));
}
