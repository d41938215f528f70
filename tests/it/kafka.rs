//! The daemon as a member of a consumer group, and as a producer of alerts.
//!
//! The broker is librdkafka's mock cluster, or a real one where `KUBESIREN_TEST_KAFKA` names it (`tests/kafka/up`).

use std::collections::BTreeMap;

use serde_json::Value;

use super::broker::{Broker, Out};
use super::envelopes::{aks, eks, gke, gzip, titles, without_lost};
use super::support::{Daemon, attack, by_id, event_list, quiet_event, scan, story, text_at, until};

/// What makes groups form quickly.
const QUICK: &str = "session.timeout.ms: 3000, heartbeat.interval.ms: 100, reconnect.backoff.max.ms: 100, \
    statistics.interval.ms: 200, auto.commit.interval.ms: 100, metadata.max.age.ms: 1000, topic.metadata.refresh.interval.ms: 500";

/// A configuration with one Kafka source.
fn config(broker: &Broker, topics: &[&str], group: &str, more: &str) -> String {
    format!(
        "cluster: lab\nsources: [{{type: kafka, brokers: ['{}'], topics: {topics:?}, group: {group}, properties: {{{QUICK}}}{more}}}]\n",
        broker.address()
    )
}

async fn events_are(daemon: &Daemon, count: usize) {
    daemon.metric_is("kubesiren_events_total", "", count as f64).await;
}

/// Awaits so many events of a cluster; a series of one that only events name comes with the first of them.
pub(crate) async fn events_of(daemon: &Daemon, source: &str, cluster: &str, count: usize) {
    let line = format!("kubesiren_events_total{{source=\"{source}\",cluster=\"{cluster}\"}} {count}");
    until(&line, async || {
        let (_, text) = daemon.get("/metrics").await;
        if text.lines().any(|other| other == line) { Ok(()) } else { Err(text) }
    })
    .await;
}

/// Awaits that nothing of a topic lies behind; its series come with the first statistics.
async fn caught_up(daemon: &Daemon, topic: &str) {
    until("nothing lies behind", async || {
        let (_, text) = daemon.get("/metrics").await;
        let lag: Vec<&str> = text
            .lines()
            .filter(|line| line.starts_with("kubesiren_kafka_lag_messages{") && line.contains(topic))
            .collect();
        if !lag.is_empty() && lag.iter().all(|line| line.ends_with(" 0")) { Ok(()) } else { Err(lag.join("\n")) }
    })
    .await;
}

/// Awaits that an instance knows these alerts, ended, and no others.
async fn told(daemon: &Daemon, expected: &BTreeMap<String, Value>) {
    until("every alert", async || {
        let found = daemon.alerts().await;
        if found == *expected { Ok(()) } else { Err(format!("{} of {}", found.len(), expected.len())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_gives_the_alerts_that_a_scan_finds() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("story"), broker.name("group"));
    broker.topic(&topic, 3);
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(&broker, &[&topic], &group, "")).await;
    let mut events = story();
    let end = events.pop().expect("the last one");
    broker.send_texts(&topic, 3, &events);
    events_are(&daemon, events.len()).await;
    // What ends every episode comes after all partitions have been read.
    broker.send_texts(&topic, 1, &[&end]);
    events.push(end);
    let (expected, stats) = scan(&["--cluster", "lab"], events.join("\n").as_bytes());
    assert!(!expected.is_empty());
    daemon.metric_is("kubesiren_matches_total", "", stats["matches"].as_f64().expect("a number")).await;
    // Partitions are read side by side, so an id may name another first event; rule, cluster and group do not.
    let episodes = |alerts: &BTreeMap<String, Value>| {
        let of = |alert: &Value| {
            format!(
                "{} {} {} {}",
                text_at(alert, "/rule/id"),
                alert["group"],
                alert["count"],
                text_at(alert, "/status")
            )
        };
        let mut all: Vec<String> = alerts.values().map(of).collect();
        all.sort();
        all
    };
    let expected = episodes(&by_id(expected));
    until("every episode", async || {
        let found = episodes(&daemon.alerts().await);
        if found == expected { Ok(()) } else { Err(format!("{found:#?}\nis not\n{expected:#?}")) }
    })
    .await;
    caught_up(&daemon, &topic).await;
    daemon.metric_is("kubesiren_kafka_partitions", "", 3.0).await;
    assert!(daemon.metric("kubesiren_last_event_timestamp_seconds", "source=\"kafka\"").await > 1e9);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_arrives_packed_or_plain() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("shapes"), broker.name("group"));
    broker.topic(&topic, 1);
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(&broker, &[&topic], &group, "")).await;
    let event = |id: &str| quiet_event(id, "2026-11-21T04:00:00.000000Z");
    let list = event_list(&[event("a"), event("b")]);
    let pretty =
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(&event("c")).expect("JSON")).expect("JSON");
    let wrapped = serde_json::json!({"@timestamp": 1.5, "log": event("d")}).to_string();
    let lines = format!("{}\n{}\n", event("e"), event("f"));
    let array = format!("[{},{}]", event("g"), event("h"));
    let bodies: Vec<Vec<u8>> = vec![
        event("i").into_bytes(),
        list.clone().into_bytes(),
        pretty.into_bytes(),
        wrapped.into_bytes(),
        lines.into_bytes(),
        array.into_bytes(),
        gzip(list.as_bytes()),
        zstd::encode_all(list.as_bytes(), 1).expect("memory"),
    ];
    broker.send_texts(&topic, 1, &bodies);
    events_are(&daemon, 1 + 2 + 1 + 1 + 2 + 2 + 2 + 2).await;
    assert!(daemon.metric("kubesiren_events_rejected_total", "").await < 0.5);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn envelopes_from_a_topic_fire_like_bare_events_under_the_cluster_that_they_name() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("clouds"), broker.name("group"));
    broker.topic(&topic, 1);
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(&broker, &[&topic], &group, "")).await;
    let mut events = attack();
    events.push(super::support::end_of_story());
    let entries = gke(&events);
    let mut messages: Vec<Vec<u8>> = events.iter().map(|event| event.clone().into_bytes()).collect();
    messages.extend(
        events
            .chunks(10)
            .map(|events| gzip(eks(events).to_string().replace("/aws/eks/prod/", "/aws/eks/on-eks/").as_bytes())),
    );
    messages.extend(
        events.chunks(10).map(|events| {
            aks(events).to_string().replace("MANAGEDCLUSTERS/PROD", "MANAGEDCLUSTERS/ON-AKS").into_bytes()
        }),
    );
    messages.extend(entries.iter().map(|entry| entry.to_string().into_bytes()));
    broker.send_texts(&topic, 1, &messages);
    for (cluster, count) in
        [("lab", events.len()), ("on-eks", events.len()), ("on-aks", events.len()), ("p/l/prod", entries.len())]
    {
        events_of(&daemon, "kafka", cluster, count).await;
    }
    let bare = |cluster: &str, events: &[String]| scan(&["--cluster", cluster], events.join("\n").as_bytes()).0;
    let mut expected = BTreeMap::new();
    for cluster in ["lab", "on-eks", "on-aks"] {
        expected.extend(by_id(bare(cluster, &events)));
    }
    assert!(expected.len() >= 30);
    // What GKE tells has other bytes, so its alerts have other ids.
    let less: Vec<String> = events.iter().filter_map(|event| without_lost(event)).collect();
    let of_gke = titles(&bare("p/l/prod", &less));
    until("every alert of every cluster", async || {
        let (found_on_gke, found): (BTreeMap<_, _>, BTreeMap<_, _>) =
            daemon.alerts().await.into_iter().partition(|(_, alert)| alert["cluster"] == "p/l/prod");
        let told = titles(&found_on_gke.into_values().collect::<Vec<_>>());
        if found == expected && told == of_gke {
            return Ok(());
        }
        Err(format!("{} of {}; on GKE {told:?} instead of {of_gke:?}", found.len(), expected.len()))
    })
    .await;
    assert!(daemon.metric("kubesiren_events_rejected_total", "").await < 0.5);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_topic_and_configuration_name_a_cluster_whatever_its_envelope_calls_it() {
    let broker = Broker::start();
    let (plain, own, group) = (broker.name("plain"), broker.name("own"), broker.name("group"));
    let telling = broker.name("audit-west");
    for topic in [&plain, &own, &telling] {
        broker.topic(topic, 1);
    }
    let pattern = format!("^audit-(?<cluster>[a-z]+){}$", telling.strip_prefix("audit-west").expect("its name"));
    let source = |name: &str, topics: &[&str], more: &str| {
        let address = broker.address();
        format!(
            "{{type: kafka, name: {name}, brokers: ['{address}'], topics: {topics:?}, group: {group}, properties: {{{QUICK}}}, {more}}}"
        )
    };
    let sources = [
        source("kafka", &[&plain, &pattern], "cluster_header: cluster"),
        source("configured", &[&own], "cluster: mine"),
    ];
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &format!("cluster: lab\nsources: [{}]\n", sources.join(", "))).await;
    let message = eks(&attack()).to_string();
    let out = |header| Out { value: Some(message.as_bytes()), header, ..Out::default() };
    broker.send(&plain, &[out(None), out(Some(("cluster", "edge")))]);
    broker.send(&telling, &[out(None)]);
    broker.send(&own, &[out(None)]);
    for (source, cluster) in [("kafka", "prod"), ("kafka", "edge"), ("kafka", "west"), ("configured", "mine")] {
        events_of(&daemon, source, cluster, attack().len()).await;
    }
    events_are(&daemon, 4 * attack().len()).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_audit_log_is_counted_kept_with_its_place_and_passed_by() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("garbage"), broker.name("group"));
    broker.topic(&topic, 1);
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(&broker, &[&topic], &group, ", max_body: 20MiB")).await;
    let good = quiet_event("good", "2026-11-21T04:00:00.000000Z");
    let list = event_list(&[good.clone(), r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1"}"#.to_owned()]);
    let mut cut = gzip(good.as_bytes());
    cut.truncate(cut.len() / 2);
    let bomb = zstd::encode_all(&vec![b' '; 30 << 20][..], 1).expect("memory");
    let value = |bytes| Out { value: Some(bytes), ..Out::default() };
    broker.send(
        &topic,
        &[
            value(good.as_bytes()),                             // 0
            value(b"{\"kind\":\"Pod\",\"apiVersion\":\"v1\"}"), // 1
            value(b"not JSON {"),                               // 2
            value(&cut),                                        // 3
            Out { key: Some("k"), ..Out::default() },           // 4, a tombstone
            value(b""),                                         // 5
            value(&bomb),                                       // 6
            value(&[0, 159, 146, 150]),                         // 7
            value(list.as_bytes()),                             // 8
            value(good.as_bytes()),                             // 9
        ],
    );
    events_are(&daemon, 3).await;
    daemon.metric_is("kubesiren_events_rejected_total", "reason=\"empty\"", 2.0).await;
    daemon.metric_is("kubesiren_events_rejected_total", "reason=\"too_large\"", 1.0).await;
    daemon.metric_is("kubesiren_events_rejected_total", "reason=\"shape\"", 1.0).await;
    daemon.metric_is("kubesiren_events_rejected_total", "", 8.0).await;
    caught_up(&daemon, &topic).await;
    let kept = std::fs::read_to_string(home.path().join("state/rejects.jsonl")).expect("the rejects");
    for offset in [1, 2, 3, 6, 7, 8] {
        let place = format!("\"place\":\"{topic}/0@{offset}");
        assert!(kept.contains(&place), "{place} is not in\n{kept}");
    }
    assert!(!kept.contains("not JSON"), "content is not kept: {kept}");
    daemon.stop().await;
    until("committed", async || match broker.committed(&group, &topic, 0) {
        Some(10) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_ten_megabytes_arrives() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("large"), broker.name("group"));
    broker.topic(&topic, 1);
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(&broker, &[&topic], &group, "")).await;
    let event = quiet_event("a", "2026-11-21T04:00:00.000000Z");
    let count = (10 << 20) / event.len() + 1;
    let list = event_list(&vec![event; count]);
    assert!(list.len() > 10 << 20);
    broker.send(&topic, &[Out { value: Some(list.as_bytes()), ..Out::default() }]);
    events_are(&daemon, count).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_commits_and_a_kill_repeats_but_changes_nothing() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("again"), broker.name("group"));
    broker.topic(&topic, 1);
    let home = tempfile::tempdir().expect("a folder");
    // Committed once a minute only, so that the kill comes before it.
    let slow = config(&broker, &[&topic], &group, "")
        .replace("auto.commit.interval.ms: 100", "auto.commit.interval.ms: 60000");
    let daemon = Daemon::start(home.path(), &slow).await;
    let events = attack();
    let (first, rest) = events.split_at(events.len() / 2);
    broker.send_texts(&topic, 1, first);
    events_are(&daemon, first.len()).await;
    daemon.stop().await;
    let here = i64::try_from(first.len()).expect("few");
    assert_eq!(broker.committed(&group, &topic, 0), Some(here), "a stop commits");

    let mut daemon = Daemon::start(home.path(), &slow).await;
    broker.send_texts(&topic, 1, rest);
    events_are(&daemon, rest.len()).await;
    daemon.process.kill();
    assert_eq!(broker.committed(&group, &topic, 0), Some(here), "the kill came before a commit");

    let daemon = Daemon::start(home.path(), &slow).await;
    let end = super::support::end_of_story();
    broker.send_texts(&topic, 1, &[&end]);
    events_are(&daemon, rest.len() + 1).await;
    let all = [events.as_slice(), &[end]].concat();
    let (expected, _) = scan(&["--cluster", "lab"], all.join("\n").as_bytes());
    told(&daemon, &by_id(expected)).await;
    assert!(daemon.metric("kubesiren_events_duplicate_total", "").await > 0.5, "they were read again");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_share_a_topic_and_one_takes_over_from_the_other() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("shared"), broker.name("group"));
    broker.topic(&topic, 4);
    let text = config(&broker, &[&topic], &group, "");
    let (home, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let one = Daemon::start(home.path(), &text).await;
    one.metric_is("kubesiren_kafka_partitions", "", 4.0).await;
    let two = Daemon::start(other.path(), &text).await;
    one.metric_is("kubesiren_kafka_partitions", "", 2.0).await;
    two.metric_is("kubesiren_kafka_partitions", "", 2.0).await;
    let events: Vec<String> =
        (0..400).map(|at| quiet_event(&format!("e{at}"), "2026-11-21T04:00:00.000000Z")).collect();
    broker.send_texts(&topic, 4, &events);
    events_are(&one, 200).await;
    events_are(&two, 200).await;
    one.stop().await;
    two.metric_is("kubesiren_kafka_partitions", "", 4.0).await;
    broker.send_texts(&topic, 4, &events);
    // All of the second half, and nothing again of the first: the stop committed what it had.
    events_are(&two, 600).await;
    caught_up(&two, &topic).await;
    two.stop().await;
}

/// One match of its own for each: somebody opens a shell.
fn shells(count: usize) -> Vec<String> {
    let shell =
        attack().into_iter().find(|event| event.contains("pods/web-0/exec") && event.contains("ResponseStarted"));
    let shell: Value = serde_json::from_str(&shell.expect("in the sample")).expect("JSON");
    let by = |at: usize| {
        let mut event = shell.clone();
        event["auditID"] = format!("shell-{at}").into();
        event["user"]["username"] = format!("user-{at}").into();
        event.to_string()
    };
    (0..count).map(by).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_instance_had_is_alerted_by_the_others() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("killed"), broker.name("group"));
    broker.topic(&topic, 4);
    let text = config(&broker, &[&topic], &group, "");
    let (home, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut one = Daemon::start(home.path(), &text).await;
    let two = Daemon::start(other.path(), &text).await;
    one.metric_is("kubesiren_kafka_partitions", "", 2.0).await;
    two.metric_is("kubesiren_kafka_partitions", "", 2.0).await;
    let shells = shells(300);
    broker.send_texts(&topic, 4, &shells[..100]);
    until("it is at work", async || {
        let taken = one.metric("kubesiren_events_total", "").await;
        if taken > 20.0 { Ok(()) } else { Err(format!("{taken}")) }
    })
    .await;
    one.process.kill();
    broker.send_texts(&topic, 4, &shells[100..]);
    two.metric_is("kubesiren_kafka_partitions", "", 4.0).await;
    caught_up(&two, &topic).await;
    // The killed one has on disk what it had acknowledged: started again, it tells that.
    let one = Daemon::start(home.path(), &text).await;
    until("an alert for everybody", async || {
        let mut users = std::collections::BTreeSet::new();
        for daemon in [&one, &two] {
            users.extend(daemon.alerts().await.values().map(|alert| text_at(alert, "/event/user/username").to_owned()));
        }
        if users.len() == shells.len() { Ok(()) } else { Err(format!("{} of {}", users.len(), shells.len())) }
    })
    .await;
    one.stop().await;
    two.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newer_group_protocol_works() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("newer"), broker.name("group"));
    broker.topic(&topic, 2);
    let text = format!(
        "sources: [{{type: kafka, brokers: ['{}'], topics: [{topic}], group: {group}, properties: {{group.protocol: consumer}}}}]\n",
        broker.address()
    );
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &text).await;
    broker.send_texts(&topic, 2, &attack());
    events_are(&daemon, attack().len()).await;
    daemon.stop().await;
    let committed: i64 = (0..2).filter_map(|at| broker.committed(&group, &topic, at)).sum();
    assert_eq!(usize::try_from(committed).expect("few"), attack().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_an_identity_comes_back_without_a_rebalance() {
    let broker = Broker::start();
    if !broker.is_real() {
        // A mock's members with an identity cause rebalances like all others.
        return super::support::skipped("no real broker: KUBESIREN_TEST_KAFKA is not set");
    }
    let (topic, group) = (broker.name("static"), broker.name("group"));
    broker.topic(&topic, 2);
    let named = |name: &str| {
        config(&broker, &[&topic], &group, "")
            .replace("session.timeout.ms: 3000", &format!("session.timeout.ms: 10000, group.instance.id: {name}"))
    };
    let (home, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let one = Daemon::start(home.path(), &named("one")).await;
    one.metric_is("kubesiren_kafka_partitions", "", 2.0).await;
    let two = Daemon::start(other.path(), &named("two")).await;
    two.metric_is("kubesiren_kafka_partitions", "", 1.0).await;
    one.metric_is("kubesiren_kafka_partitions", "", 1.0).await;
    let before = one.metric("kubesiren_kafka_rebalances_total", "").await;
    two.stop().await;
    let two = Daemon::start(other.path(), &named("two")).await;
    two.metric_is("kubesiren_kafka_partitions", "", 1.0).await;
    one.metric_is("kubesiren_kafka_rebalances_total", "", before).await;
    one.stop().await;
    two.stop().await;
}

/// Passes on what comes to a port, as long as there is somebody at `to`.
async fn forward(port: u16, to: String) {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await.expect("still free");
    tokio::spawn(async move {
        while let Ok((mut outside, _)) = listener.accept().await {
            let to = to.clone();
            tokio::spawn(async move {
                let Ok(mut inside) = tokio::net::TcpStream::connect(to).await else { return };
                let _ = tokio::io::copy_bidirectional(&mut outside, &mut inside).await;
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_without_its_brokers_says_why_and_goes_on_when_they_come() {
    let broker = Broker::mock();
    let (topic, group) = (broker.name("late"), broker.name("group"));
    broker.topic(&topic, 1);
    broker.send_texts(&topic, 1, &attack());
    // A mock that is taken down binds its port anew, which fails while some test starts a process: that has all sockets for
    // a moment. So it is there all the time, and the way to it is not.
    let port = super::support::free_port();
    let config = config(&broker, &[&topic], &group, "").replace(broker.address(), &format!("127.0.0.1:{port}"));
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config).await;
    let said = until("not ready, and why", async || {
        let (status, text) = daemon.get("/readyz").await;
        if status == 503 && text.contains("check `brokers`") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(said.starts_with("source kafka: "), "{said}");
    let logged: Vec<String> =
        daemon.process.err.all().into_iter().filter(|line| line.contains("check `brokers`")).collect();
    assert_eq!(logged.len(), 1, "told once: {logged:?}");
    assert_eq!(daemon.get("/livez").await.0, 200);
    forward(port, broker.address().to_owned()).await;
    events_are(&daemon, attack().len()).await;
    until("ready", async || {
        let (status, text) = daemon.get("/readyz").await;
        if status == 200 { Ok(()) } else { Err(text) }
    })
    .await;
    // Away again: that is told in metrics, and keeps nobody else's events out.
    drop(broker);
    daemon.metric_is("kubesiren_kafka_connected", "", 0.0).await;
    assert_eq!(daemon.get("/readyz").await.0, 200);
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_beside_a_topic_does_not_wait_for_brokers() {
    let home = tempfile::tempdir().expect("a folder");
    let port = super::support::free_port();
    let text = format!(
        "sources: [{{type: webhook, listen: '127.0.0.1:0'}}, {{type: kafka, brokers: ['127.0.0.1:{port}'], topics: [t]}}]\n"
    );
    let daemon = Daemon::start(home.path(), &text).await;
    let refused = until("it is told", async || {
        let lines = daemon.process.err.all();
        lines.iter().find(|line| line.contains("nothing listens there")).cloned().ok_or_else(|| lines.join("\n"))
    })
    .await;
    assert!(refused.contains("WARN"), "{refused}");
    assert_eq!(daemon.get("/readyz").await.0, 200);
    let (status, text) = daemon.post(event_list(&attack())).await;
    assert_eq!(status, 200, "{text}");
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn alerts_become_messages_by_their_id() {
    let broker = Broker::start();
    let topic = broker.name("alerts");
    broker.topic(&topic, 1);
    let home = tempfile::tempdir().expect("a folder");
    let text = format!(
        "cluster: lab\nsources: [{{type: webhook, listen: '127.0.0.1:0'}}]\nsinks: [{{name: lake, type: kafka, brokers: ['{}'], topic: {topic}}}]\n",
        broker.address()
    );
    let daemon = Daemon::start(home.path(), &text).await;
    let mut events = attack();
    events.push(super::support::end_of_story());
    daemon.feed(&events, 100).await;
    let (expected, _) = scan(&["--cluster", "lab"], events.join("\n").as_bytes());
    let expected = by_id(expected);
    let reading = tokio::task::spawn_blocking({
        let count = expected.len() * 2;
        move || broker.read(&topic, count)
    });
    let messages = reading.await.expect("messages");
    let mut ended = BTreeMap::new();
    for message in messages {
        let alert: Value = serde_json::from_slice(&message.value).expect("an alert");
        assert_eq!(message.key.as_deref(), Some(text_at(&alert, "/id")));
        if text_at(&alert, "/status") == "resolved" {
            ended.insert(text_at(&alert, "/id").to_owned(), alert);
        }
    }
    assert_eq!(ended, expected);
    daemon.metric_is("kubesiren_outbox_records", "lake", 0.0).await;
    daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_replayed_into_a_topic() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("replayed"), broker.name("group"));
    broker.topic(&topic, 2);
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &config(&broker, &[&topic], &group, "")).await;
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/attack.jsonl");
    let replay = async |more: &[&str]| {
        let mut args = vec!["replay", "--kafka", broker.address(), "--topic", &topic];
        args.extend(more);
        args.push(sample);
        let args: Vec<String> = args.into_iter().map(str::to_owned).collect();
        let run = move || super::support::run(&args.iter().map(String::as_str).collect::<Vec<_>>(), b"");
        let output = tokio::task::spawn_blocking(run).await.expect("it ends");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let count = attack().len();
    let (code, said) = replay(&["--rate", "1000", "--property", "linger.ms=0"]).await;
    assert!(code == Some(0) && said.starts_with(&format!("{count} events in ")), "{said}");
    let (code, said) = replay(&["--batch", "10"]).await;
    assert_eq!(code, Some(0), "{said}");
    events_are(&daemon, 2 * count).await;
    for (more, says) in [
        (&["--property", "sasl.passwort=x"][..], "librdkafka has no property `sasl.passwort`"),
        (&["--property", "hunter2"][..], "NAME=VALUE"),
        (&["--rate", "0"][..], "a number above 0"),
        (&["--webhook", "http://127.0.0.1:1/"][..], "cannot be used with"),
    ] {
        let (code, said) = replay(more).await;
        assert!(code == Some(2) && said.contains(says) && !said.contains("hunter2"), "{more:?}: {said}");
    }
    daemon.stop().await;
}
