//! What a topic costs: the real program as a consumer against `scan --threads 1` of the same events, two instances against one,
//! and how soon one has caught up after a pause.
//!
//! `eval "$(tests/kafka/up)"; cargo bench --bench kafka`; with `-- --test` everything once and small. Without a broker it says
//! so and measures nothing. See `benches/README.md`.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    missing_docs,
    dead_code,
    reason = "a benchmark, not the product"
)]

mod corpus;
mod measure;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use measure::{children, median, process};

/// Partitions of the topics: as a topic of many clusters has them, so that an instance has others to go on with while it waits for
/// one of them.
const PARTITIONS: i32 = 12;

fn main() {
    let smoke = std::env::args().any(|arg| arg == "--test");
    let Some(broker) = std::env::var("KUBESIREN_TEST_KAFKA").ok().filter(|broker| !broker.is_empty()) else {
        println!("no broker: nothing is measured. Start one: eval \"$(tests/kafka/up)\"");
        return;
    };
    let home = tempfile::tempdir().unwrap();
    let log = home.path().join("audit.log");
    // Larger than what starting takes, smaller than what the machine caches.
    fs::write(&log, corpus::synthetic(if smoke { 4_000 } else { 1_200_000 })).unwrap();
    let events = fs::read(&log).unwrap().iter().filter(|byte| **byte == b'\n').count();
    let turns = if smoke { 1 } else { 3 };
    let rate = throughput(&broker, home.path(), &log, events, turns);
    instances(&broker, home.path(), &log, events, turns);
    let paused = Duration::from_secs(if smoke { 2 } else { 60 });
    catch_up(&broker, home.path(), &log, (rate / 2.0).min(if smoke { 500.0 } else { 100_000.0 }), paused);
}

/// The program with a topic; killed when it goes.
struct Daemon {
    child: Child,
    admin: SocketAddr,
}

impl Daemon {
    fn start(broker: &str, home: &Path, topic: &str) -> Self {
        // A group that nobody was a member of begins at the beginning.
        let group = format!("{topic}-{}", std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos());
        Self::member(broker, home, topic, &group, "", None)
    }

    /// A member of a group, with `more` lines of configuration; on one core where that is said.
    fn member(broker: &str, home: &Path, topic: &str, group: &str, more: &str, core: Option<usize>) -> Self {
        let home = home.join(topic);
        fs::create_dir_all(&home).unwrap();
        let text = format!(
            "state_dir: {}/state\nadmin: {{listen: 127.0.0.1:0}}\nsources: [{{type: kafka, brokers: ['{broker}'], topics: [{topic}], group: {group}, properties: {{statistics.interval.ms: 250, session.timeout.ms: 60000}}}}]\n{more}",
            home.display()
        );
        fs::write(home.join("c.yaml"), text).unwrap();
        let program = env!("CARGO_BIN_EXE_kubesiren");
        let mut command = Command::new(if core.is_some() { "taskset" } else { program });
        if let Some(core) = core {
            command.args(["--cpu-list", &core.to_string(), program]);
        }
        command.arg("run").arg("--config").arg(home.join("c.yaml")).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let admin = measure::listeners(&mut child, "Kafka: partitions assigned")["admin"];
        Self { child, admin }
    }

    /// The sum of a metric's series; `None` where there are none.
    fn metric(&self, name: &str) -> Option<f64> {
        let mut stream = TcpStream::connect(self.admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let of = |line: &str| line.starts_with(name).then(|| line.rsplit(' ').next()?.parse::<f64>().ok()).flatten();
        text.lines().filter_map(of).reduce(|a, b| a + b)
    }

    fn until(&self, name: &str, reached: impl Fn(f64) -> bool) -> Instant {
        let deadline = Instant::now() + Duration::from_secs(300);
        loop {
            if self.metric(name).is_some_and(&reached) {
                return Instant::now();
            }
            assert!(Instant::now() < deadline, "waited in vain for {name}: {:?}", self.metric(name));
            // Rarely, because answering costs the program too.
            std::thread::park_timeout(Duration::from_millis(25));
        }
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", "kill -s $0 $1", name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Makes a topic that no run has used.
fn topic(broker: &str, what: &str) -> String {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let run = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let name = format!("bench-{what}-{run}");
    let admin: AdminClient<_> = rdkafka::ClientConfig::new().set("bootstrap.servers", broker).create().unwrap();
    let new = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(1));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let made = runtime.block_on(admin.create_topics(&[new], &AdminOptions::new())).unwrap();
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    name
}

fn replay(broker: &str, topic: &str, log: &Path, more: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubesiren"));
    command.args(["replay", "--kafka", broker, "--topic", topic]).args(more).arg(log);
    command.stderr(Stdio::null()).spawn().unwrap()
}

/// What a scan found.
fn matches(output: &std::process::Output) -> f64 {
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    let stats: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    stats["matches"].as_f64().unwrap()
}

/// Events a second that one instance takes from a topic that is full, in the median turn.
fn throughput(broker: &str, home: &Path, log: &PathBuf, events: usize, turns: usize) -> f64 {
    let single = topic(broker, "single");
    assert!(replay(broker, &single, log, &[]).wait().unwrap().success());
    let lists = topic(broker, "lists");
    assert!(replay(broker, &lists, log, &["--batch", "100"]).wait().unwrap().success());
    let (mut scan, mut scan_cpu) = (Vec::new(), Vec::new());
    let mut sides = [
        (&single, "an event a message", Vec::new(), Vec::new()),
        (&lists, "100 events a message", Vec::new(), Vec::new()),
    ];
    for turn in 0..turns {
        let (started, before) = (Instant::now(), children());
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubesiren"));
        command.args(["scan", "--threads", "1", "--format", "json", "--stats", "json"]).arg(log).stdout(Stdio::null());
        let output = command.output().unwrap();
        scan.push(started.elapsed());
        scan_cpu.push(children() - before);
        let expected = matches(&output);
        for (topic, _, wall, cpu) in &mut sides {
            let home = home.join(format!("turn-{turn}"));
            fs::create_dir_all(&home).unwrap();
            let daemon = Daemon::start(broker, &home, topic);
            let started = Instant::now();
            let before = process(daemon.child.id());
            let done = daemon.until("kubesiren_events_total{", |taken| taken >= events as f64);
            wall.push(done - started);
            cpu.push(process(daemon.child.id()) - before);
            daemon.until("kubesiren_matches_total{", |found| found >= expected);
            assert_eq!(daemon.metric("kubesiren_matches_total{"), Some(expected), "it detects what the scan does");
            daemon.signal("TERM");
        }
    }
    let (scan, scan_cpu) = (median(scan), median(scan_cpu));
    println!(
        "scan --threads 1: {:.0} events/s, {:.2} µs of CPU an event",
        events as f64 / scan,
        scan_cpu / events as f64 * 1e6
    );
    let mut rate = 0.0;
    for (_, what, wall, cpu) in sides {
        let (wall, cpu) = (median(wall), median(cpu));
        println!(
            "topic, {what}: {:.0} events/s, {:.2} µs of CPU an event; as fast as the scan: {:.2} by the clock, {:.2} by CPU",
            events as f64 / wall,
            cpu / events as f64 * 1e6,
            scan / wall,
            scan_cpu / cpu
        );
        if rate == 0.0 {
            rate = events as f64 / wall;
        }
    }
    rate
}

/// What two instances on two cores get done against one on one core, sharing a journal in Kafka. The broker has the other core to
/// itself beside the one instance; beside two it shares theirs, and the half of its CPU time that each core gave it is taken off.
fn instances(broker: &str, home: &Path, log: &Path, events: usize, turns: usize) {
    let cache = std::env::var("KUBESIREN_TEST_KAFKA_CACHE").unwrap_or_default();
    let Some(java) = fs::read_to_string(Path::new(&cache).join("1/pid")).ok().and_then(|id| id.trim().parse().ok())
    else {
        println!("two instances: not measured, as the broker is not one of tests/kafka/up");
        return;
    };
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for turn in 0..turns {
        pin(java, "1");
        one.push(drain(broker, &home.join(format!("one-{turn}")), log, events, &[0], java).0);
        pin(java, "0,1");
        let (wall, cost) = drain(broker, &home.join(format!("two-{turn}")), log, events, &[0, 1], java);
        two.push(wall - cost / 2);
        println!(
            "  two instances: {:.2} s by the clock, of which the broker took {:.2} s of CPU",
            wall.as_secs_f64(),
            cost.as_secs_f64()
        );
    }
    let (one, two) = (median(one), median(two));
    println!(
        "one instance on one core: {:.0} events/s; two on two: {:.0}, the broker's part taken out; times {:.2}",
        events as f64 / one,
        events as f64 / two,
        one / two
    );
}

/// How long so many instances, each on its core, take for a topic that is full; and the broker's CPU meanwhile.
fn drain(broker: &str, home: &Path, log: &Path, events: usize, cores: &[usize], java: u32) -> (Duration, Duration) {
    let topic = topic(broker, "shared");
    let journal = format!(
        "journal: {{type: kafka, brokers: ['{broker}'], topic_prefix: {topic}, partitions: {PARTITIONS}, replication_factor: 1, properties: {{session.timeout.ms: 60000}}}}\n"
    );
    let daemons: Vec<Daemon> = cores
        .iter()
        .map(|core| Daemon::member(broker, &home.join(core.to_string()), &topic, &topic, &journal, Some(*core)))
        .collect();
    // Nobody takes anything until it is full, and then everybody at once.
    daemons.iter().for_each(|daemon| daemon.signal("STOP"));
    assert!(replay(broker, &topic, log, &[]).wait().unwrap().success());
    let (started, before) = (Instant::now(), process(java));
    daemons.iter().for_each(|daemon| daemon.signal("CONT"));
    let deadline = started + Duration::from_secs(300);
    let taken = || daemons.iter().filter_map(|daemon| daemon.metric("kubesiren_events_total{")).sum::<f64>();
    while taken() < events as f64 {
        assert!(Instant::now() < deadline, "waited in vain");
        std::thread::park_timeout(Duration::from_millis(25));
    }
    (started.elapsed(), process(java) - before)
}

/// Lets all threads of a process run on these cores alone.
fn pin(process: u32, cores: &str) {
    let mut command = Command::new("taskset");
    command.args(["--all-tasks", "--cpu-list", "--pid", cores, &process.to_string()]).stdout(Stdio::null());
    assert!(command.status().unwrap().success());
}

/// Holds the program for a while under a steady load, and measures how soon nothing lies behind any more.
fn catch_up(broker: &str, home: &Path, log: &Path, rate: f64, paused: Duration) {
    let topic = topic(broker, "paused");
    let daemon = Daemon::start(broker, home, &topic);
    let load = std::thread::scope(|scope| {
        let (done, stop) = std::sync::mpsc::channel::<()>();
        let loading = scope.spawn({
            let topic = &topic;
            move || {
                // The recording again and again, until it is enough.
                while stop.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                    let mut replay = replay(broker, topic, log, &["--rate", &format!("{rate:.0}")]);
                    while replay.try_wait().unwrap().is_none() {
                        if stop.try_recv() != Err(std::sync::mpsc::TryRecvError::Empty) {
                            let _ = replay.kill();
                            let _ = replay.wait();
                            return;
                        }
                        std::thread::park_timeout(Duration::from_millis(50));
                    }
                }
            }
        });
        daemon.until("kubesiren_events_total{", |taken| taken > rate);
        let before = daemon.metric("kubesiren_events_total{").unwrap();
        daemon.signal("STOP");
        std::thread::park_timeout(paused);
        daemon.signal("CONT");
        let resumed = Instant::now();
        // What came meanwhile is taken: until then the lag that is shown may be one of before.
        daemon.until("kubesiren_events_total{", |taken| taken > before + rate * paused.as_secs_f64() * 0.9);
        // Under load a batch or two is always on its way.
        let caught_up = daemon.until("kubesiren_kafka_lag_messages{", |lag| lag < rate / 10.0);
        drop(done);
        let _ = loading.join();
        let none = daemon.until("kubesiren_kafka_lag_messages{", |lag| lag == 0.0);
        (caught_up - resumed, none - caught_up)
    });
    let (caught_up, none) = load;
    println!(
        "held for {} s under {rate:.0} events/s: less than 0.1 s of load behind {:.1} s after it went on; none {:.1} s after the load ended",
        paused.as_secs(),
        caught_up.as_secs_f64(),
        none.as_secs_f64()
    );
}
