//! What only a real broker does: TLS, credentials, topics that are missing, compaction, a broker that goes and comes back.
//!
//! `eval "$(tests/kafka/up)"` starts one; without it these tests say that they skip.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::broker::{Broker, Out, real};
use super::support::{Daemon, Running, attack, configure, free_port, kubesiren, quiet_event, run, skipped, until};

/// What tests/kafka/up made.
struct Real {
    broker: Broker,
    /// The plain listener's port; the others follow it.
    port: u16,
    cache: PathBuf,
}

impl Real {
    fn find() -> Option<Self> {
        let Some(address) = real() else {
            skipped("no real broker: KUBESIREN_TEST_KAFKA is not set");
            return None;
        };
        let cache = std::env::var_os("KUBESIREN_TEST_KAFKA_CACHE").map(PathBuf::from);
        let cache = cache.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache/kafka"));
        if !cache.join("tls/ca.crt").exists() {
            skipped("the broker is none of tests/kafka/up: its certificates are not known");
            return None;
        }
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        Some(Self { broker: Broker::start(), port, cache })
    }

    fn tls(&self, name: &str) -> String {
        self.cache.join("tls").join(name).display().to_string()
    }

    /// The listener with SASL over TLS.
    fn sasl(&self) -> String {
        format!("127.0.0.1:{}", self.port + 1)
    }

    /// The listener that asks for client certificates.
    fn mutual(&self) -> String {
        format!("127.0.0.1:{}", self.port + 2)
    }
}

const QUICK: &str = "reconnect.backoff.max.ms: 200, auto.commit.interval.ms: 100, statistics.interval.ms: 200, \
    topic.metadata.refresh.interval.ms: 300";

fn config(address: &str, topics: &str, group: &str, properties: &str) -> String {
    format!(
        "cluster: lab\nsources: [{{type: kafka, brokers: ['{address}'], topics: [{topics}], group: {group}, properties: {{{QUICK}, {properties}}}}}]\n"
    )
}

/// Starts a daemon that shall take the attack from a topic, and awaits that it has.
async fn takes(real: &Real, what: &str, address: &str, properties: &str) {
    let (topic, group) = (real.broker.name(what), real.broker.name("group"));
    real.broker.topic(&topic, 1);
    real.broker.send_texts(&topic, 1, &attack());
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(address, &topic, &group, properties)).await;
    daemon.metric_is("kubesiren_events_total", "", attack().len() as f64).await;
    let logs = daemon.process.err.all().join("\n");
    assert!(!logs.contains("pass-4711"), "a secret is in the log: {logs}");
    daemon.stop().await;
}

/// Starts a daemon that cannot connect; what `/readyz` says, which is logged at that level too, without secrets.
async fn fails(address: &str, properties: &str, level: &str, says: &str) {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(address, "t", "g", properties)).await;
    let (what, words) = (format!("{properties}: {says}"), says.to_owned());
    until(&what, async || {
        let (status, text) = daemon.get("/readyz").await;
        if status == 503 && text.contains(&words) { Ok(()) } else { Err(text) }
    })
    .await;
    let logs = daemon.process.err.all();
    assert!(logs.iter().any(|line| line.contains(says) && line.contains(level)), "{logs:#?}");
    assert!(!logs.join("\n").contains("pass-4711"), "a secret is in the log: {logs:#?}");
    assert_eq!(daemon.get("/livez").await.0, 200, "it goes on trying");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_open_the_broker_and_are_not_shown() {
    let Some(real) = Real::find() else { return };
    let home = tempfile::tempdir().expect("a folder");
    let password = home.path().join("password");
    std::fs::write(&password, "scram-pass-4711\n").expect("written");
    let scram = format!(
        "security.protocol: SASL_SSL, ssl.ca.location: {}, sasl.mechanisms: SCRAM-SHA-512, sasl.username: reader, sasl.password_file: {}",
        real.tls("ca.crt"),
        password.display()
    );
    takes(&real, "scram", &real.sasl(), &scram).await;
    let plain = format!(
        "security.protocol: SASL_SSL, ssl.ca.location: {}, sasl.mechanisms: PLAIN, sasl.username: reader, sasl.password: plain-pass-4711",
        real.tls("ca.crt")
    );
    takes(&real, "plain", &real.sasl(), &plain).await;
    // A broker of tests takes tokens without a signature.
    let part = |text: &str| base64::Engine::encode(&base64::prelude::BASE64_URL_SAFE_NO_PAD, text);
    let now = std::time::UNIX_EPOCH.elapsed().expect("a clock").as_secs();
    let claims = format!(r#"{{"sub":"reader","iat":{now},"exp":{}}}"#, now + 600);
    let token = home.path().join("token");
    std::fs::write(&token, format!("{}.{}.", part(r#"{"alg":"none"}"#), part(&claims))).expect("written");
    let bearer = format!(
        "security.protocol: SASL_SSL, ssl.ca.location: {}, sasl.mechanisms: OAUTHBEARER, sasl.oauthbearer.token_file: {}",
        real.tls("ca.crt"),
        token.display()
    );
    takes(&real, "bearer", &real.sasl(), &bearer).await;
    let mutual = format!(
        "security.protocol: SSL, ssl.ca.location: {}, ssl.certificate.location: {}, ssl.key.location: {}",
        real.tls("ca.crt"),
        real.tls("client.crt"),
        real.tls("client.key")
    );
    takes(&real, "mutual", &real.mutual(), &mutual).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_certificates_say_what_to_do() {
    let Some(real) = Real::find() else { return };
    let ca = format!("ssl.ca.location: {}", real.tls("ca.crt"));
    let sasl = "security.protocol: SASL_SSL, sasl.username: reader, sasl.password: wrong-pass-4711";
    fails(&real.sasl(), &format!("{sasl}, sasl.mechanisms: SCRAM-SHA-512, {ca}"), "ERROR", "check sasl.username").await;
    fails(&real.sasl(), &format!("{sasl}, sasl.mechanisms: PLAIN, {ca}"), "ERROR", "check sasl.username").await;
    fails(&real.sasl(), &format!("{sasl}, sasl.mechanisms: SCRAM-SHA-256, {ca}"), "ERROR", "supported mechanisms")
        .await;
    fails(&real.sasl(), &format!("{sasl}, sasl.mechanisms: PLAIN"), "ERROR", "set ssl.ca.location").await;
    let stranger = "security.protocol: SASL_SSL, sasl.username: stranger, sasl.password: stranger-pass-4711";
    fails(&real.sasl(), &format!("{stranger}, sasl.mechanisms: PLAIN, {ca}"), "ERROR", "Read the group").await;
    fails(&real.sasl(), "security.protocol: PLAINTEXT", "WARN", "security.protocol").await;
    fails(&real.mutual(), &format!("security.protocol: SSL, {ca}"), "ERROR", "ssl.certificate.location").await;
    fails(real.broker.address(), &format!("security.protocol: SSL, {ca}"), "WARN", "speak TLS?").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_that_is_replaced_is_taken_without_a_restart() {
    let Some(real) = Real::find() else { return };
    let (topic, group) = (real.broker.name("rotated"), real.broker.name("group"));
    real.broker.topic(&topic, 1);
    real.broker.send_texts(&topic, 1, &attack());
    let home = tempfile::tempdir().expect("a folder");
    let password = home.path().join("password");
    std::fs::write(&password, "old-pass-4711\n").expect("written");
    let properties = format!(
        "security.protocol: SASL_SSL, ssl.ca.location: {}, sasl.mechanisms: PLAIN, sasl.username: reader, sasl.password_file: {}",
        real.tls("ca.crt"),
        password.display()
    );
    let daemon = Daemon::start(home.path(), &config(&real.sasl(), &topic, &group, &properties)).await;
    until("the old one is refused", async || {
        let (_, text) = daemon.get("/readyz").await;
        if text.contains("check sasl.username") { Ok(()) } else { Err(text) }
    })
    .await;
    std::fs::write(&password, "plain-pass-4711\n").expect("written");
    daemon.metric_is("kubesiren_events_total", "", attack().len() as f64).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_is_told_and_taken_when_it_comes() {
    let Some(real) = Real::find() else { return };
    let (topic, group) = (real.broker.name("missing"), real.broker.name("group"));
    let pattern = real.broker.name("later");
    let home = tempfile::tempdir().expect("a folder");
    let topics = format!("{topic}, '^{pattern}-(?<cluster>.+)$'");
    let daemon = Daemon::start(home.path(), &config(real.broker.address(), &topics, &group, "")).await;
    until("it is told", async || {
        let (_, text) = daemon.get("/readyz").await;
        if text.contains("create the topic") { Ok(()) } else { Err(text) }
    })
    .await;
    real.broker.topic(&topic, 1);
    real.broker.send_texts(&topic, 1, &attack());
    daemon.metric_is("kubesiren_events_total", "cluster=\"lab\"", attack().len() as f64).await;
    // A topic that comes to match a pattern, and partitions that come to a topic.
    let edge = format!("{pattern}-edge");
    real.broker.topic(&edge, 1);
    real.broker.send_texts(&edge, 1, &attack());
    super::kafka::events_of(&daemon, "kafka", "edge", attack().len()).await;
    real.broker.more_partitions(&topic, 3);
    daemon.metric_is("kubesiren_kafka_partitions", "", 4.0).await;
    real.broker.send_texts(&topic, 3, &attack());
    daemon.metric_is("kubesiren_events_total", "cluster=\"lab\"", 2.0 * attack().len() as f64).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_with_gaps_and_tombstones_is_read_to_its_end() {
    let Some(real) = Real::find() else { return };
    let (topic, group) = (real.broker.name("compacted"), real.broker.name("group"));
    let settings = [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01")];
    real.broker.topic_with(&topic, 1, &settings);
    let event = quiet_event("a", "2026-11-21T04:00:00.000000Z");
    let keyed = |key: &'static str, value| Out { key: Some(key), value, ..Out::default() };
    for _ in 0..10 {
        real.broker.send(&topic, &[keyed("a", Some(event.as_bytes())), keyed("b", Some(event.as_bytes()))]);
    }
    real.broker.send(&topic, &[keyed("b", None), keyed("c", Some(event.as_bytes()))]);
    let first = real.cache.join("data").join(format!("{topic}-0/{:020}.log", 0));
    until("the cleaner has been there", async || {
        // A message rolls the segment that is old enough; those before it can be cleaned.
        real.broker.send(&topic, &[keyed("last", Some(event.as_bytes()))]);
        let size = std::fs::metadata(&first).map_or(0, |file| file.len());
        if size < 8 * event.len() as u64 { Ok(()) } else { Err(format!("{size}")) }
    })
    .await;
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(real.broker.address(), &topic, &group, "")).await;
    let caught_up = format!("topic=\"{topic}\",partition=\"0\"}} 0");
    until("nothing lies behind", async || {
        let (_, text) = daemon.get("/metrics").await;
        if text.contains(&caught_up) { Ok(()) } else { Err(text) }
    })
    .await;
    daemon.metric_is("kubesiren_events_rejected_total", "reason=\"empty\"", 1.0).await;
    assert!(daemon.metric("kubesiren_events_total", "").await >= 3.0);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_is_found_again_and_nothing_is_lost() {
    let Some(real) = Real::find() else { return };
    // One of its own: the others' tests shall not notice.
    let home = tempfile::tempdir().expect("a folder");
    let port = loop {
        let port = free_port();
        let free = |port| std::net::TcpListener::bind(("127.0.0.1", port)).is_ok();
        if port < 65_000 && (1..4).all(|more| free(port + more)) {
            break port;
        }
    };
    let script = |name: &str, args: &[&str]| {
        let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kafka").join(name));
        command
            .args(args)
            .env("KUBESIREN_TEST_KAFKA_CACHE", home.path().join("broker"))
            .env("KUBESIREN_TEST_KAFKA_LIB", real.cache.join("lib-4.1.1"))
            .env("KUBESIREN_TEST_KAFKA_PORT", port.to_string());
        let output = command.output().expect("a shell");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    script("up", &[]);
    let broker = Broker::at(&format!("127.0.0.1:{port}"));
    let (source, sink, group) = (broker.name("in"), broker.name("out"), broker.name("group"));
    broker.topic(&source, 2);
    broker.topic(&sink, 1);
    let sinks = format!("sinks: [{{name: lake, type: kafka, brokers: ['{}'], topic: {sink}}}]\n", broker.address());
    let text = config(broker.address(), &source, &group, "") + &sinks;
    let daemon = Daemon::start(home.path(), &text).await;
    broker.send_texts(&source, 2, &attack());
    daemon.metric_is("kubesiren_events_total", "", attack().len() as f64).await;
    script("down", &[]);
    daemon.metric_is("kubesiren_kafka_connected", "", 0.0).await;
    script("up", &["--again", "1"]);
    broker.send_texts(&source, 2, &[quiet_event("late", "2026-11-21T05:44:00.000000Z")]);
    until("the late one", async || {
        let taken = daemon.metric("kubesiren_events_total", "").await;
        if taken >= attack().len() as f64 + 1.0 { Ok(()) } else { Err(format!("{taken}")) }
    })
    .await;
    let firing = daemon.alerts().await.len();
    assert!(firing > 5);
    let messages = tokio::task::spawn_blocking(move || broker.read(&sink, firing)).await.expect("messages");
    assert!(messages.iter().all(|message| serde_json::from_slice::<Value>(&message.value).is_ok()));
    daemon.metric_is("kubesiren_outbox_records", "", 0.0).await;
    daemon.stop().await;
    script("down", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_cannot_be_reached_keeps_its_alerts_and_says_why() {
    let Some(real) = Real::find() else { return };
    let home = tempfile::tempdir().expect("a folder");
    let topic = real.broker.name("refused");
    real.broker.topic_with(&topic, 1, &[("max.message.bytes", "1500")]);
    let sink = |properties: &str, address: &str| {
        let text = format!(
            "sinks: [{{name: lake, type: kafka, brokers: ['{address}'], topic: {topic}, properties: {{message.timeout.ms: 3000, {properties}}}}}]\n"
        );
        let file = configure(home.path(), &text).display().to_string();
        let output = run(&["sinks", "test", "lake", "--config", &file], b"");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let sasl = format!(
        "security.protocol: SASL_SSL, sasl.mechanisms: PLAIN, sasl.username: reader, ssl.ca.location: {}",
        real.tls("ca.crt")
    );
    let (code, said) = sink(&format!("{sasl}, sasl.password: wrong-pass-4711"), &real.sasl());
    assert_eq!(code, Some(1));
    assert!(said.contains("check sasl.username") && !said.contains("4711"), "{said}");
    let (code, said) = sink(&format!("{sasl}, sasl.password: plain-pass-4711"), &real.sasl());
    assert_eq!(code, Some(0), "{said}");
    let stranger = sasl.replace("sasl.username: reader", "sasl.username: stranger");
    let (code, said) = sink(&format!("{stranger}, sasl.password: stranger-pass-4711"), &real.sasl());
    assert_eq!(code, Some(1));
    assert!(said.contains("ACLs must let this user") && !said.contains("4711"), "{said}");
    let (code, said) = sink("acks: 1", real.broker.address());
    assert!(code == Some(2) && said.contains("`acks` is not to be set here"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_missing_is_named_by_who_writes_to_it() {
    let Some(real) = Real::find() else { return };
    let home = tempfile::tempdir().expect("a folder");
    let topic = real.broker.name("nowhere");
    let soon = "topic.metadata.propagation.max.ms";
    let text = format!(
        "sinks: [{{name: lake, type: kafka, brokers: ['{}'], topic: {topic}, properties: {{{soon}: 500}}}}]\n",
        real.broker.address()
    );
    let file = configure(home.path(), &text).display().to_string();
    let (sink, property) = (["sinks", "test", "lake", "--config", &file], format!("{soon}=500"));
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/attack.jsonl");
    let replay =
        ["replay", "--kafka", real.broker.address(), "--topic", &topic, "--property", property.as_str(), sample];
    for args in [&sink[..], &replay[..]] {
        let output = run(args, b"");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("create the topic"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_that_a_topic_refuses_becomes_a_dead_letter() {
    let Some(real) = Real::find() else { return };
    let home = tempfile::tempdir().expect("a folder");
    let topic = real.broker.name("small");
    // Fits no alert.
    real.broker.topic_with(&topic, 1, &[("max.message.bytes", "200")]);
    let text = format!(
        "sources: [{{type: webhook, listen: '127.0.0.1:0'}}]\nsinks: [{{name: lake, type: kafka, brokers: ['{}'], topic: {topic}}}]\n",
        real.broker.address()
    );
    let daemon = Daemon::start(home.path(), &text).await;
    daemon.feed(&attack(), 100).await;
    until("dead letters", async || {
        let dead = daemon.metric("kubesiren_outbox_dead_records", "lake").await;
        if dead >= 5.0 { Ok(()) } else { Err(format!("{dead}")) }
    })
    .await;
    let logs = daemon.process.err.all().join("\n");
    assert!(logs.contains("raise message.max.bytes"), "{logs}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_of_the_configuration_finds_what_does_not_go_together() {
    let home = tempfile::tempdir().expect("a folder");
    let text = "sources: [{type: kafka, brokers: ['nowhere.invalid:9092'], topics: [t], properties: {security.protocol: SASL_SSL, sasl.mechanisms: PLAIN}}]\n";
    let file = configure(home.path(), text);
    let mut process = Running::start(kubesiren().args(["config", "check"]).arg(&file));
    assert_eq!(process.ended().await.code(), Some(2));
    let said = until("the findings", async || {
        let said = process.err.all().join("\n");
        if said.contains("sasl.username") { Ok(said) } else { Err(said) }
    })
    .await;
    assert!(said.contains("sasl.username and sasl.password must be set"), "{said}");
    assert!(said.contains("cannot find the broker nowhere.invalid:9092"), "{said}");
    // What is wrong with one property is said once, and at its place.
    let text = "sources:\n  - type: kafka\n    brokers: ['127.0.0.1:9092']\n    topics: [t]\n    properties:\n      security.protocol: SSL\n      ssl.ca.location: /nowhere/ca.crt\n";
    let file = configure(home.path(), text).display().to_string();
    let checked = run(&["config", "check", &file], b"");
    let said = String::from_utf8_lossy(&checked.stderr);
    assert!(said.contains("cannot read /nowhere/ca.crt") && said.contains("1 error"), "{said}");
}
