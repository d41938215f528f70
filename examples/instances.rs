//! Several instances on one journal in Kafka, held to what one scan of the same events finds: `docs/scaling.md`.
//!
//! `eval "$(tests/kafka/up)"; cargo run --release --example instances -- --events 200000 --instances 3`; with `--faults 50` they
//! are killed, stopped, frozen and added meanwhile, and the broker is killed and started again; of three (`tests/kafka/up --brokers 3`)
//! one stays dead until the next fault. With `--rebuild 300` instead: what taking over windows of so many seconds, with 1 000 matches
//! in each, takes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    dead_code,
    reason = "a harness, not the product"
)]

#[path = "../tests/fake/kafka.rs"]
mod broker;
#[path = "../tests/faults/chance.rs"]
mod chance;
#[path = "../tests/fake/mod.rs"]
mod fake;
#[path = "../tests/kafka/story.rs"]
mod story;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use broker::{Broker, Out, real};
use serde_json::Value;

/// Partitions of the topic of events, and of those of the journal.
const PARTITIONS: i32 = 12;
/// Nothing that is awaited takes longer.
const PATIENCE: Duration = Duration::from_secs(180);
/// Longer than a session: who is frozen for so long has lost its partitions.
const FROZEN: Duration = Duration::from_secs(5);
const BATCH: usize = 500;
/// Differences that are listed.
const LISTED: usize = 40;
/// Until what waited for the end of the events is told.
const TOLD_AFTER: Duration = Duration::from_secs(45);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // The daemon is this very program: whatever is tested was built with it.
    if matches!(args.first().map(String::as_str), Some("run" | "scan")) {
        return kubesiren::cli::main();
    }
    let number = |name: &str, default: u64| {
        let at = args.iter().position(|arg| arg == name);
        at.and_then(|at| args.get(at + 1)).map_or(default, |value| value.parse().unwrap())
    };
    if real().is_none() {
        eprintln!("no real broker: eval \"$(tests/kafka/up)\"");
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let (events, faults) = (number("--events", 200_000), number("--faults", 0));
    let instances = number("--instances", if number("--rebuild", 0) > 0 { 2 } else { 3 });
    runtime.block_on(async {
        let harness = Harness::new(events, instances, number("--seed", 1)).await;
        match number("--rebuild", 0) {
            0 => harness.run(faults).await,
            seconds => harness.rebuild(seconds).await,
        }
    })
}

struct Instance {
    child: Child,
    home: tempfile::TempDir,
    admin: Arc<Mutex<Option<String>>>,
    errors: Arc<Mutex<Vec<String>>>,
}

/// By status and id.
type Told = Arc<Mutex<BTreeMap<(String, String), usize>>>;

struct Harness {
    folder: tempfile::TempDir,
    broker: Broker,
    topic: String,
    prefix: String,
    events: u64,
    wanted: u64,
    chance: chance::Chance,
    /// The broker that is dead until the next fault.
    down: Option<u64>,
    instances: Vec<Instance>,
    /// What the logs called an error.
    errors: Arc<Mutex<Vec<String>>>,
    /// What the logs say of windows that were rebuilt.
    rebuilt: Arc<Mutex<Vec<String>>>,
    /// How often the sink was told of each alert, as firing and as resolved.
    told: Told,
    sink: fake::Receiver,
    lateness: &'static str,
    client: reqwest::Client,
}

impl Harness {
    async fn new(events: u64, wanted: u64, seed: u64) -> Self {
        let broker = Broker::start();
        let (topic, prefix) = (broker.name("audit"), broker.name("several"));
        broker.topic(&topic, PARTITIONS);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yml"), story::RULES).unwrap();
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only(std::iter::empty()).build().unwrap();
        let (instances, errors, told) = (Vec::new(), Arc::default(), Told::default());
        let heard = Arc::clone(&told);
        let sink = fake::Receiver::forgetful(move |request| {
            let alert = request.json();
            let text = |name: &str| alert[name].as_str().unwrap().to_owned();
            *heard.lock().unwrap().entry((text("status"), text("id"))).or_default() += 1;
            fake::Reply::new(200, "")
        })
        .await;
        Self {
            folder,
            broker,
            topic,
            prefix,
            events,
            wanted,
            chance: chance::Chance::new(seed),
            down: None,
            instances,
            errors,
            client,
            rebuilt: Arc::default(),
            told,
            sink,
            // Longer than the story: whichever instance is ahead, its matches are in time.
            lateness: "12h",
        }
    }

    fn start(&mut self, home: tempfile::TempDir) {
        let config = format!(
            "state_dir: {}
admin: {{listen: 127.0.0.1:0}}
sources: [{{type: kafka, brokers: [{broker}], topics: [{topic}], group: '{prefix}-in', properties: {{session.timeout.ms: 3000, heartbeat.interval.ms: 500, reconnect.backoff.max.ms: 500}}}}]
detections: {{builtin: false, paths: ['{rules}']}}
correlation: {{lateness: {lateness}}}
sinks: [{{name: soc, type: webhook, url: '{sink}'}}]
journal: {{type: kafka, brokers: [{broker}], topic_prefix: {prefix}, partitions: {PARTITIONS}, replication_factor: {copies}, properties: {{session.timeout.ms: 3000, heartbeat.interval.ms: 500, reconnect.backoff.max.ms: 500}}}}
",
            home.path().join("state").display(),
            sink = self.sink.url("/alerts"),
            broker = self.broker.address(),
            copies = self.broker.brokers(),
            topic = self.topic,
            prefix = self.prefix,
            rules = self.folder.path().join("rules.yml").display(),
            lateness = self.lateness,
        );
        let file = home.path().join("config.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("run").arg("--config").arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let admin: Arc<Mutex<Option<String>>> = Arc::default();
        let (told, errors, pipe) = (Arc::clone(&admin), Arc::clone(&self.errors), child.stderr.take().unwrap());
        let rebuilt = Arc::clone(&self.rebuilt);
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if line.contains("\"level\":\"ERROR\"") || line.contains("panicked") {
                    errors.lock().unwrap().push(line.clone());
                }
                if line.contains("windows of a partition are rebuilt") {
                    rebuilt.lock().unwrap().push(line.clone());
                }
                // Why it did not even start.
                let Ok(line) = serde_json::from_str::<Value>(&line) else {
                    eprintln!("{line}");
                    continue;
                };
                if line["message"] == "admin listens" {
                    *told.lock().unwrap() = line["address"].as_str().map(str::to_owned);
                }
            }
        });
        self.instances.push(Instance { child, home, admin, errors: Arc::clone(&self.errors) });
    }

    /// Sends the events, the evidence of each attack spread over all partitions.
    fn send(broker: &Broker, topic: &str, events: &[String], first: usize) {
        let place = |at: usize| i32::try_from((first + at) % usize::try_from(PARTITIONS).unwrap()).unwrap();
        let out: Vec<Out<'_>> = events
            .iter()
            .enumerate()
            .map(|(at, event)| Out { partition: place(at), value: Some(event.as_bytes()), ..Out::default() })
            .collect();
        broker.send(topic, &out);
    }

    async fn run(mut self, faults: u64) -> ExitCode {
        let events = story::events(self.events);
        let file = self.folder.path().join("events.jsonl");
        let mut out = std::io::BufWriter::new(std::fs::File::create(&file).unwrap());
        for event in events.iter().chain([&story::end(0, 5)]) {
            writeln!(out, "{event}").unwrap();
        }
        drop(out);
        let expected = scan(&self.folder.path().join("rules.yml"), &file);
        println!("{} events, {} episodes expected of {:?}", events.len(), expected.len(), rules_of(&expected));
        for _ in 0..self.wanted {
            self.start(tempfile::tempdir().unwrap());
        }
        let started = Instant::now();
        let every = if faults == 0 { usize::MAX } else { events.len() / usize::try_from(faults).unwrap() };
        let mut done = BTreeMap::<&str, u64>::new();
        let (mut sent, mut next) = (0, every);
        for batch in events.chunks(BATCH) {
            Self::send(&self.broker, &self.topic, batch, sent);
            sent += batch.len();
            if sent >= next {
                next += every;
                *done.entry(self.fault().await).or_default() += 1;
            }
        }
        if let Some(node) = self.down.take() {
            again(node);
        }
        println!("sent after {:.1} s, faults: {done:?}", started.elapsed().as_secs_f64());
        self.taken(sent).await;
        Self::send(&self.broker, &self.topic, &ends(5), 0);
        tokio::time::sleep(TOLD_AFTER).await;
        // What is made of episodes ends later than they do.
        Self::send(&self.broker, &self.topic, &ends(10), 0);
        self.judge(&expected, started).await
    }

    /// Fills windows, takes an instance away, and tells what taking over took.
    async fn rebuild(mut self, seconds: u64) -> ExitCode {
        self.lateness = "60s";
        std::fs::write(self.folder.path().join("rules.yml"), story::one_window(seconds)).unwrap();
        for _ in 0..self.wanted {
            self.start(tempfile::tempdir().unwrap());
        }
        // Half as much again: what is older than the windows must not be read.
        let count = seconds * 1_500;
        let started = Instant::now();
        for first in (0..count).step_by(5_000) {
            let batch: Vec<String> = (first..count.min(first + 5_000)).map(story::matching).collect();
            Self::send(&self.broker, &self.topic, &batch, usize::try_from(first).unwrap());
        }
        println!("{count} matches sent after {:.1} s", started.elapsed().as_secs_f64());
        let deadline = Instant::now() + PATIENCE * 5;
        while self.metric("kubesiren_events_total").await < count || self.metric("kubesiren_journal_records").await > 0
        {
            assert!(Instant::now() < deadline, "the events are not taken");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        println!("taken and correlated after {:.1} s", started.elapsed().as_secs_f64());
        // Until it was looked where windows begin.
        tokio::time::sleep(Duration::from_secs(12)).await;
        let before = self.rebuilt.lock().unwrap().len();
        let killed = Instant::now();
        drop(kill(self.instances.swap_remove(0)));
        let wanted = usize::try_from(PARTITIONS).unwrap() / usize::try_from(self.wanted).unwrap();
        while self.rebuilt.lock().unwrap().len() < before + wanted && killed.elapsed() < PATIENCE * 5 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let lines: Vec<Value> =
            self.rebuilt.lock().unwrap()[before..].iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        let records: u64 = lines.iter().filter_map(|line| line["records"].as_u64()).sum();
        println!(
            "windows of {seconds} s at 1000 matches a second: {} partitions rebuilt {:.1} s after the kill (3 s of them the session), {records} records read",
            lines.len(),
            killed.elapsed().as_secs_f64()
        );
        for line in &lines {
            println!("  partition {}: {} records, {}", line["partition"], line["records"], line["took"]);
        }
        ExitCode::SUCCESS
    }

    /// The sum of a metric over all instances.
    async fn metric(&self, name: &str) -> u64 {
        let mut sum = 0;
        for instance in &self.instances {
            let Some(admin) = instance.admin.lock().unwrap().clone() else { continue };
            let Ok(answer) = self.client.get(format!("http://{admin}/metrics")).send().await else { continue };
            let text = answer.text().await.unwrap_or_default();
            let of = |line: &str| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<f64>().ok();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "counts")]
            let all: u64 = text.lines().filter_map(of).map(|value| value as u64).sum();
            sum += all;
        }
        sum
    }

    /// Awaits that every event is acknowledged: what comes after the end of all is late, as it would be anywhere.
    async fn taken(&self, sent: usize) {
        let deadline = Instant::now() + PATIENCE;
        let group = format!("{}-in", self.prefix);
        let committed = || (0..PARTITIONS).filter_map(|n| self.broker.committed(&group, &self.topic, n)).sum::<i64>();
        while committed() < i64::try_from(sent).unwrap() {
            assert!(Instant::now() < deadline, "the events are not taken");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    /// Something goes wrong.
    async fn fault(&mut self) -> &'static str {
        if let Some(node) = self.down.take() {
            again(node);
        }
        let at = usize::try_from(self.chance.below(self.instances.len() as u64)).unwrap();
        match self.chance.below(6) {
            0 => {
                let instance = self.instances.swap_remove(at);
                self.start(kill(instance));
                "killed"
            }
            1 => {
                drop(kill(self.instances.swap_remove(at)));
                self.start(tempfile::tempdir().unwrap());
                "killed with its state"
            }
            2 => {
                let mut instance = self.instances.swap_remove(at);
                signal(&instance, "TERM");
                instance.child.wait().unwrap();
                self.start(kill(instance));
                "stopped"
            }
            3 => {
                signal(&self.instances[at], "STOP");
                tokio::time::sleep(FROZEN).await;
                signal(&self.instances[at], "CONT");
                "frozen"
            }
            4 if self.instances.len() < 5 => {
                self.start(tempfile::tempdir().unwrap());
                "added"
            }
            4 => {
                drop(kill(self.instances.swap_remove(at)));
                "taken away"
            }
            _ => {
                // In the middle of whatever it does.
                let cache = std::env::var_os("KUBESIREN_TEST_KAFKA_CACHE");
                let cache = cache.map_or_else(|| PathBuf::from(".cache/kafka"), PathBuf::from);
                let node = 1 + self.chance.below(self.broker.brokers() as u64);
                let id = std::fs::read_to_string(cache.join(format!("{node}/pid"))).unwrap();
                let _ = Command::new("sh").args(["-c", "kill -s KILL $0", id.trim()]).status();
                // Where there are others, they lead its partitions meanwhile, and events go on.
                if self.broker.brokers() > 1 {
                    self.down = Some(node);
                    return "a broker of several";
                }
                again(node);
                "the broker"
            }
        }
    }

    /// Awaits what is expected, and says what is missing.
    async fn judge(&mut self, expected: &BTreeSet<String>, started: Instant) -> ExitCode {
        let deadline = Instant::now() + PATIENCE;
        let (mut last, mut moved) = (0, Instant::now());
        loop {
            let found = self.found().await;
            let episodes: BTreeSet<String> = found.values().map(episode).collect();
            let resolved = found.values().filter(|alert| alert["status"] == "resolved").count();
            let untold = ["firing", "resolved"].map(|status| self.untold(status, &found));
            let whole = episodes == *expected && found.len() == expected.len() && untold == [0, 0];
            if resolved != last {
                (last, moved) = (resolved, Instant::now());
            }
            if !whole && Instant::now() < deadline.max(moved + PATIENCE / 3) {
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
            let (missing, more) = (expected.difference(&episodes), episodes.difference(expected));
            println!(
                "after {:.1} s: {} alerts, {} episodes",
                started.elapsed().as_secs_f64(),
                found.len(),
                episodes.len()
            );
            println!("{} missing, {} that the scan does not have", missing.clone().count(), more.clone().count());
            missing.take(LISTED).for_each(|episode| println!("- {episode}"));
            more.take(LISTED).for_each(|episode| println!("+ {episode}"));
            let two = found.len() - episodes.len();
            println!("{two} episodes under two ids; {} errors in the logs", self.errors.lock().unwrap().len());
            let (told, [firing, ended]) = (self.told.lock().unwrap(), untold);
            let twice = told.values().filter(|times| **times > 1).count();
            let strange = told.keys().filter(|(_, id)| !found.contains_key(id)).count();
            println!(
                "of all, the sink was not told of {firing} that began and {ended} that ended; {twice} of {} were told again; {strange} that nobody knows",
                told.len()
            );
            self.errors.lock().unwrap().iter().take(5).for_each(|line| println!("! {line}"));
            return ExitCode::from(u8::from(!whole || strange > 0));
        }
    }

    /// Of how many alerts the sink was not told so.
    fn untold(&self, status: &str, found: &BTreeMap<String, Value>) -> usize {
        let told = self.told.lock().unwrap();
        let wanted = found.iter().filter(|(_, alert)| status == "firing" || alert["status"] == status);
        wanted.filter(|(id, _)| !told.contains_key(&(status.to_owned(), (*id).clone()))).count()
    }

    /// The alerts of an instance that answers.
    async fn found(&self) -> BTreeMap<String, Value> {
        for instance in &self.instances {
            let Some(admin) = instance.admin.lock().unwrap().clone() else { continue };
            if let Some(found) = self.alerts(&admin).await {
                return found;
            }
        }
        BTreeMap::new()
    }

    async fn alerts(&self, admin: &str) -> Option<BTreeMap<String, Value>> {
        let (mut found, mut cursor) = (BTreeMap::new(), String::new());
        loop {
            let url = format!("http://{admin}/api/v1/alerts?limit=1000{cursor}");
            let text = self.client.get(url).send().await.ok()?.text().await.ok()?;
            let page: Value = serde_json::from_str(&text).ok()?;
            for alert in page["alerts"].as_array()? {
                found.insert(alert["id"].as_str()?.to_owned(), alert.clone());
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Some(found),
            }
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `kill -9`; gives its home.
fn kill(mut instance: Instance) -> tempfile::TempDir {
    let _ = instance.child.kill();
    let _ = instance.child.wait();
    std::mem::replace(&mut instance.home, tempfile::tempdir().unwrap())
}

/// Starts a broker that was killed.
fn again(node: u64) {
    let mut up = Command::new("tests/kafka/up");
    let status = up.args(["--again", &node.to_string()]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
}

fn signal(instance: &Instance, name: &str) {
    let sent = Command::new("sh").args(["-c", "kill -s $0 $1", name, &instance.child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Rule, cluster, group, count, first and last match, and the evidence.
fn episode(alert: &Value) -> String {
    let parts = ["/rule/id", "/cluster", "/group", "/count", "/first_seen", "/last_seen", "/audit_ids", "/status"];
    parts.map(|part| alert.pointer(part).unwrap_or(&Value::Null).to_string()).join(" ")
}

fn rules_of(episodes: &BTreeSet<String>) -> BTreeSet<&str> {
    episodes.iter().filter_map(|episode| episode.split(' ').next()).collect()
}

/// Events on a day after all others, one for each partition.
fn ends(day: u64) -> Vec<String> {
    (0..PARTITIONS).map(|n| story::end(u64::try_from(n).unwrap(), day)).collect()
}

/// What one scan finds.
fn scan(rules: &Path, events: &PathBuf) -> BTreeSet<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["scan", "--no-builtin", "--format", "json", "-q", "--cluster", "default", "--rules"])
        .arg(rules)
        .arg(events);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| episode(&serde_json::from_str(line).unwrap())).collect()
}
