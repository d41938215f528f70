//! The source against a broker, with an intake that answers as it is told. What the whole program does with topics is
//! tested in `tests/it/kafka`.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::lanes::Pace;
use super::{Consumer, KafkaConfig, Standing};
use crate::kafka::broker::{Broker, Out};
use crate::metrics::{Bound, Metrics, Source};
use crate::pipeline::IngestError;
use crate::source::testing::{Recorder, Taken, until};

/// A source that runs.
struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
    metrics: Arc<Metrics>,
    standings: Arc<Mutex<Vec<Standing>>>,
}

impl Running {
    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }

    fn paused(&self) -> bool {
        self.metrics.kafka_paused.get_or_create(&Source { source: "kafka".to_owned() }).get() == 1
    }

    fn partitions(&self) -> i64 {
        self.metrics.kafka_partitions.get_or_create(&Source { source: "kafka".to_owned() }).get()
    }

    fn joined(&self) -> bool {
        self.standings.lock().unwrap().contains(&Standing::Joined)
    }
}

fn config(broker: &Broker, topics: &[&str], group: &str, more: &str) -> KafkaConfig {
    let text = format!(
        r#"{{"brokers": ["{}"], "topics": {topics:?}, "group": "{group}", "properties": {{
            "session.timeout.ms": 1500, "heartbeat.interval.ms": 100, "reconnect.backoff.max.ms": 100,
            "statistics.interval.ms": 100, "auto.commit.interval.ms": 100{more}}}}}"#,
        broker.address(),
    );
    serde_json::from_str(&text).unwrap()
}

fn pace() -> Pace {
    Pace { pause: Duration::from_millis(5), pause_max: Duration::from_millis(20), ..Pace::default() }
}

fn start(config: &KafkaConfig, intake: &Recorder, pace: Pace) -> Running {
    let metrics = Arc::new(Metrics::new());
    let consumer = Consumer::new(config, "home", intake.clone(), Arc::clone(&metrics)).unwrap().with_pace(pace);
    let (stop, standings) = (CancellationToken::new(), Arc::new(Mutex::new(Vec::new())));
    let told = Arc::clone(&standings);
    let task = tokio::spawn(consumer.run(Box::new(move |standing| told.lock().unwrap().push(standing)), stop.clone()));
    Running { stop, task, metrics, standings }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{number}\n")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_tried_again_in_order_and_nothing_is_skipped() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("refused"), broker.name("group"));
    broker.topic(&topic, 1);
    broker.send_texts(&topic, 1, &numbers(100));
    let intake = Recorder::default();
    for _ in 0..5 {
        intake.refuse(IngestError::NoRoom("full".to_owned()));
    }
    let running = start(&config(&broker, &[&topic], &group, ""), &intake, pace());
    until("all", || intake.taken().len() >= 100).await;
    assert_eq!(intake.text(), numbers(100).concat());
    until("committed", || broker.committed(&group, &topic, 0) == Some(100)).await;
    running.stop().await;
    assert_eq!(intake.taken().len(), 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_bound_partitions_are_paused_and_the_group_is_kept() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("bound"), broker.name("group"));
    broker.topic(&topic, 2);
    let texts: Vec<String> = (0..400).map(|number| format!("{number:01000}\n")).collect();
    broker.send_texts(&topic, 2, &texts);
    let intake = Recorder::held();
    let bounded = Pace { bytes_max: 50_000, patience: Duration::from_millis(20), ..pace() };
    let running = start(&config(&broker, &[&topic], &group, r#", "max.poll.interval.ms": 2000"#), &intake, bounded);
    until("paused", || running.paused()).await;
    // Longer than the session and the poll interval: who does not poll is thrown out by then.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(running.partitions(), 2);
    assert_eq!(broker.committed(&group, &topic, 0), None, "nothing is acknowledged");
    intake.release();
    until("all", || intake.taken().len() >= 400).await;
    until("resumed", || !running.paused()).await;
    let bound = Bound { source: "kafka".to_owned(), bound: "bytes_in_flight".to_owned() };
    assert!(running.metrics.bounds_reached.get_or_create(&bound).get() >= 1);
    let rebalances = running.metrics.kafka_rebalances.get_or_create(&Source { source: "kafka".to_owned() }).get();
    assert_eq!(rebalances, 1, "it was never thrown out");
    until("committed", || (0..2).all(|at| broker.committed(&group, &topic, at) == Some(200))).await;
    running.stop().await;
    for partition in 0..2 {
        let mine = |text: &&String| text.trim().parse::<usize>().unwrap() % 2 == partition;
        let taken: Vec<String> =
            intake.taken().iter().map(|taken| String::from_utf8(taken.body.clone()).unwrap()).collect();
        let (taken, sent): (Vec<&String>, Vec<&String>) =
            (taken.iter().filter(mine).collect(), texts.iter().filter(mine).collect());
        assert_eq!(taken, sent, "once, and in order");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_no_room_here_goes_with_its_partition_to_another_member() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("goes"), broker.name("group"));
    broker.topic(&topic, 2);
    broker.send_texts(&topic, 2, &numbers(20));
    let full = Recorder::default();
    for _ in 0..100_000 {
        full.refuse(IngestError::NoRoom("full".to_owned()));
    }
    let config = config(&broker, &[&topic], &group, "");
    let first = start(&config, &full, pace());
    until("two partitions", || first.partitions() == 2).await;
    let roomy = Recorder::default();
    let second = start(&config, &roomy, pace());
    until("one each", || first.partitions() == 1 && second.partitions() == 1).await;
    until("its half", || roomy.taken().len() == 10).await;
    first.stop().await;
    until("all", || roomy.taken().len() >= 20).await;
    assert!(full.taken().is_empty());
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_went_while_it_was_paused_is_read_when_it_comes_back() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("back"), broker.name("group"));
    broker.topic(&topic, 2);
    let texts: Vec<String> = (0..200).map(|number| format!("{number:01000}\n")).collect();
    broker.send_texts(&topic, 2, &texts);
    let (held, roomy) = (Recorder::held(), Recorder::default());
    let bounded =
        Pace { bytes_max: 20_000, patience: Duration::from_millis(20), finish: Duration::from_millis(50), ..pace() };
    let config = config(&broker, &[&topic], &group, "");
    let first = start(&config, &held, bounded);
    until("paused", || first.paused()).await;
    let second = start(&config, &roomy, pace());
    until("one each", || first.partitions() == 1 && second.partitions() == 1).await;
    until("its half", || roomy.taken().len() == 100).await;
    held.release();
    until("resumed", || !first.paused()).await;
    second.stop().await;
    until("both again", || first.partitions() == 2).await;
    broker.send_texts(&topic, 2, &numbers(20));
    let last: Vec<Vec<u8>> = numbers(20).into_iter().map(String::into_bytes).collect();
    until("what came then", || {
        let taken = held.taken();
        last.iter().all(|text| taken.iter().any(|taken| taken.body == *text))
    })
    .await;
    first.stop().await;
}

#[test]
fn a_secret_that_changes_before_the_first_connection_is_noticed() {
    let broker = Broker::mock();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one").unwrap();
    let property = format!(r#", "sasl.password_file": {:?}"#, file.path().display().to_string());
    let config = config(&broker, &["t"], "g", &property);
    let consumer = Consumer::new(&config, "home", Recorder::default(), Arc::new(Metrics::new())).unwrap();
    assert!(!consumer.files.differ(config.connection()));
    std::fs::write(file.path(), "two").unwrap();
    assert!(consumer.files.differ(config.connection()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_waits_for_what_ingest_has_begun_and_for_nothing_else() {
    let broker = Broker::start();
    let (topic, group) = (broker.name("stops"), broker.name("group"));
    broker.topic(&topic, 1);
    broker.send_texts(&topic, 1, &numbers(1));
    let intake = Recorder::held();
    let running = start(&config(&broker, &[&topic], &group, ""), &intake, pace());
    intake.entered.acquire().await.unwrap().forget();
    broker.send_texts(&topic, 1, &numbers(5));
    running.stop.cancel();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!running.task.is_finished(), "it waits for what was begun");
    intake.release();
    running.task.await.unwrap();
    assert_eq!(intake.taken().len(), 1);
    assert_eq!(broker.committed(&group, &topic, 0), Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cluster_is_told_by_the_header_or_the_topic_or_the_configuration() {
    let broker = Broker::start();
    let (named, plain, group) = (broker.name("audit-prod"), broker.name("plain"), broker.name("group"));
    broker.topic(&named, 1);
    broker.topic(&plain, 1);
    let out = |value: &'static str, header| Out { value: Some(value.as_bytes()), header, ..Out::default() };
    broker.send(
        &named,
        &[out("a", Some(("cluster", "edge"))), out("b", None), out("c", Some(("cluster", "not a name")))],
    );
    broker.send(&plain, &[out("d", Some(("other", "x"))), out("e", Some(("cluster", "edge")))]);
    let pattern = format!("^audit-(?<cluster>[a-z]+){}$", named.strip_prefix("audit-prod").unwrap());
    let mut config = config(&broker, &[&pattern, &plain], &group, "");
    config.cluster_header = Some("cluster".to_owned());
    let intake = Recorder::default();
    let running = start(&config, &intake, pace());
    until("all", || intake.taken().len() >= 5).await;
    running.stop().await;
    let mut taken: Vec<String> = intake
        .taken()
        .iter()
        .map(|Taken { body, origin, .. }| {
            format!("{} {} {}", String::from_utf8_lossy(body), origin.cluster, origin.names_cluster)
        })
        .collect();
    taken.sort();
    // What an envelope says holds only where nothing else tells: the global label is no certain one.
    assert_eq!(taken, ["a edge true", "b prod true", "c prod true", "d home false", "e edge true"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn brokers_that_are_away_are_waited_for() {
    let broker = Broker::mock();
    let (topic, group) = (broker.name("away"), broker.name("group"));
    broker.topic(&topic, 1);
    broker.send_texts(&topic, 1, &numbers(3));
    broker.set_down(true);
    let intake = Recorder::default();
    let running = start(&config(&broker, &[&topic], &group, ""), &intake, pace());
    until("it is said why", || {
        let said = running.standings.lock().unwrap().last().cloned();
        matches!(said, Some(Standing::Waiting(words)) if words.contains("check `brokers`"))
    })
    .await;
    broker.set_down(false);
    until("all", || intake.taken().len() == 3).await;
    assert!(running.joined());
    // Away again while it runs: what comes later is read later, and it is no longer waiting to be ready.
    let before = running.standings.lock().unwrap().len();
    broker.set_down(true);
    let connected = || running.metrics.kafka_connected.get_or_create(&Source { source: "kafka".to_owned() }).get();
    until("not connected", || connected() == 0).await;
    broker.set_down(false);
    until("connected", || connected() == 1).await;
    broker.send_texts(&topic, 1, &numbers(2));
    until("the later ones", || intake.taken().len() >= 5).await;
    assert_eq!(running.standings.lock().unwrap().len(), before);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_listens_and_never_answers_is_told_of() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(&Broker::mock(), &["t"], "g", "");
    config.brokers = vec![silent.local_addr().unwrap().to_string()];
    let impatient = Pace { silence: Duration::from_millis(100), ..pace() };
    let running = start(&config, &Recorder::default(), impatient);
    until("it is said", || {
        let said = running.standings.lock().unwrap().last().cloned();
        matches!(said, Some(Standing::Waiting(words)) if words.contains("no error says why"))
    })
    .await;
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_does_not_wait_for_brokers_that_are_away() {
    let broker = Broker::mock();
    let (topic, group) = (broker.name("gone"), broker.name("group"));
    broker.topic(&topic, 1);
    let running = start(&config(&broker, &[&topic], &group, ""), &Recorder::default(), pace());
    until("joined", || running.partitions() == 1).await;
    broker.set_down(true);
    let begun = std::time::Instant::now();
    running.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(25), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn what_librdkafka_does_not_take_is_said_before_anything_runs() {
    let broker = Broker::mock();
    for (more, says) in [
        (r#", "security.protocol": "SSL", "ssl.ca.location": "/nowhere.pem""#, "ssl.ca.location"),
        (r#", "group.protocol": "consumer""#, "group.protocol=consumer"),
        (r#", "sasl.password_file": "/nowhere/p""#, "cannot read /nowhere/p"),
    ] {
        let config = config(&broker, &["t"], "g", more);
        let wrong = Consumer::new(&config, "home", Recorder::default(), Arc::new(Metrics::new())).err().unwrap();
        assert!(wrong.iter().any(|words| words.contains(says)), "{says}: {wrong:?}");
    }
}
