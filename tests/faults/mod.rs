//! The fault harness: the real program under full load, killed at chosen and at random moments, started again, and in
//! the end judged by what `kubesiren scan` says of the same events.
//!
//! `examples/faults.rs` runs it for as long as one likes; `tests/it/killed.rs` runs it for some seconds.

mod chance;
mod connections;
mod daemon;
pub(crate) mod flood;
mod judge;
pub(crate) mod latency;
mod load;
pub(crate) mod machine;
pub(crate) mod pressure;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::fake::{Receiver, Reply};
use chance::Chance;
use daemon::{Daemon, Home};
use load::Ledger;

pub(crate) use judge::Report;

/// What to do.
pub(crate) struct Options {
    /// The program, or one that behaves like it.
    pub(crate) program: PathBuf,
    /// How often it is killed.
    pub(crate) kills: u64,
    /// Of everything that is left to chance.
    pub(crate) seed: u64,
    /// Told of every kill, with the number of batches that are acknowledged by then.
    pub(crate) progress: fn(u64, usize),
}

/// When the daemon dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// Any time.
    Running,
    /// Before it is ready.
    Starting,
    /// After an acknowledgement: what was journaled is on its way to the outbox.
    AfterAcknowledgement,
    /// After the receiver got an alert, around its answer: what was sent is not yet marked.
    WhileSending,
    /// While rules and sinks are replaced.
    Reloading,
    /// While it finishes after SIGTERM.
    Stopping,
    /// Not at all: SIGTERM, and it ends by itself.
    Stopped,
}

const MOMENTS: [Moment; 7] = [
    Moment::Running,
    Moment::Starting,
    Moment::AfterAcknowledgement,
    Moment::WhileSending,
    Moment::Reloading,
    Moment::Stopping,
    Moment::Stopped,
];

/// How often each sink has heard of the beginning and the end of each alert.
#[derive(Default)]
pub(crate) struct Heard(Mutex<BTreeMap<(String, String), u64>>);

/// The receivers, and what they do.
struct Receivers {
    heard: [Arc<Heard>; 2],
    sinks: Vec<(&'static str, String)>,
    /// Rung when an alert arrives.
    arrival: Arc<Notify>,
    /// Whether the second receiver fails now and then.
    moody: Arc<AtomicBool>,
    _servers: [Receiver; 2],
}

impl Receivers {
    async fn start(seed: u64, ledger: &Arc<Ledger>) -> Self {
        let (arrival, moody) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(true)));
        let heard = [Arc::new(Heard::default()), Arc::new(Heard::default())];
        let steady = {
            let (heard, arrival, ledger) = (Arc::clone(&heard[0]), Arc::clone(&arrival), Arc::clone(ledger));
            let chance = Mutex::new(Chance::new(seed ^ 0x5eed));
            Receiver::forgetful(move |request| {
                let first = heard.note(&request.json());
                ledger.arrived.fetch_add(u64::from(first), Ordering::Relaxed);
                arrival.notify_waiters();
                let delay = chance.lock().expect("not poisoned").up_to(Duration::from_millis(1));
                Reply::new(200, "").late(delay)
            })
            .await
        };
        let flaky = {
            let (heard, moody) = (Arc::clone(&heard[1]), Arc::clone(&moody));
            let count = AtomicU64::new(0);
            Receiver::forgetful(move |request| {
                let n = count.fetch_add(1, Ordering::Relaxed);
                if moody.load(Ordering::Relaxed) && n % 997 == 996 {
                    return Reply::new(if n.is_multiple_of(2) { 503 } else { 429 }, "").header("retry-after", "1");
                }
                heard.note(&request.json());
                Reply::new(200, "")
            })
            .await
        };
        let sinks = vec![("steady", steady.url("/alerts")), ("flaky", flaky.url("/alerts"))];
        Self { heard, sinks, arrival, moody, _servers: [steady, flaky] }
    }
}

impl Heard {
    /// Notes an alert; whether it is the first news of an alert of the kind that every batch has one of.
    fn note(&self, alert: &serde_json::Value) -> bool {
        let text = |pointer: &str| alert.pointer(pointer).and_then(|text| text.as_str()).expect("a text").to_owned();
        let mut heard = self.0.lock().expect("not poisoned");
        let times = heard.entry((text("/id"), text("/status"))).or_default();
        *times += 1;
        *times == 1 && text("/status") == "firing" && text("/rule/id") == "fault-single"
    }
}

/// Everything of one run.
struct Run {
    options: Options,
    home: Home,
    ledger: Arc<Ledger>,
    receivers: Receivers,
    address: watch::Sender<Option<std::net::SocketAddr>>,
    chance: Chance,
    /// How long the last start took that was not cut off.
    start_takes: Duration,
    reloads: u64,
    report: Report,
}

/// Kills and starts as told, then judges. Panics where a promise is broken.
pub(crate) async fn run(options: Options) -> Report {
    let started = Instant::now();
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home { folder: folder.path().to_owned() };
    let ledger = Arc::new(Ledger::default());
    let receivers = Receivers::start(options.seed, &ledger).await;
    home.configure(&receivers.sinks, 0);
    let (address, _) = watch::channel(None);
    let mut clients = JoinSet::new();
    for number in 0..load::CLIENTS {
        clients.spawn(load::client(options.seed, number, Arc::clone(&ledger), address.subscribe()));
    }
    let chance = Chance::new(options.seed);
    let (start_takes, report) = (Duration::from_millis(100), Report::default());
    let mut run = Run { options, home, ledger, receivers, address, chance, start_takes, reloads: 0, report };
    while run.report.kills < run.options.kills {
        let moment = MOMENTS[usize::try_from(run.chance.below(MOMENTS.len() as u64)).unwrap_or(0)];
        run.strike(moment).await;
        let batches = run.ledger.acknowledged.lock().expect("not poisoned").len();
        (run.options.progress)(run.report.kills, batches);
    }
    run.receivers.moody.store(false, Ordering::Relaxed);
    let daemon = Daemon::spawn(&run.options.program, &run.home.config());
    let (webhook, _) = daemon.ready().await;
    run.address.send_replace(Some(webhook));
    run.ledger.over.store(true, Ordering::Relaxed);
    while let Some(ended) = clients.join_next().await {
        ended.expect("a client does not panic");
    }
    let Run { options, home, ledger, receivers, mut report, .. } = run;
    let end = load::list(&[load::end_of_all(options.seed)]);
    let answer = client().post(format!("http://{webhook}/k8s-audit")).body(end).send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    judge::wait_until_told(&home.state(), None).await;
    daemon.terminate();
    let (status, errors) = daemon.ended().await;
    assert_eq!(status.code(), Some(0), "{errors:?}");
    report.errors.extend(errors);
    judge::judge(&options, &home, &ledger, &receivers.heard, &mut report);
    report.seconds = started.elapsed().as_secs_f64();
    report
}

impl Run {
    /// One life of the daemon, and its end.
    async fn strike(&mut self, moment: Moment) {
        let daemon = Daemon::spawn(&self.options.program, &self.home.config());
        if moment == Moment::Starting {
            let most = self.start_takes + self.start_takes / 4;
            pause(self.chance.up_to(most)).await;
        } else {
            let (webhook, admin) = daemon.ready().await;
            self.start_takes = daemon.started.elapsed();
            self.address.send_replace(Some(webhook));
            self.live(moment, &daemon, admin).await;
        }
        *self.report.moments.entry(format!("{moment:?}")).or_default() += 1;
        let errors = if moment == Moment::Stopped {
            let (status, errors) = daemon.ended().await;
            assert_eq!(status.code(), Some(0), "{errors:?}");
            errors
        } else {
            self.report.kills += 1;
            daemon.kill()
        };
        self.address.send_replace(None);
        self.report.errors.extend(errors);
    }

    /// What happens between the start and the blow.
    async fn live(&mut self, moment: Moment, daemon: &Daemon, admin: std::net::SocketAddr) {
        let short = Duration::from_millis(3);
        // Something must be under way whatever the moment.
        pause(self.chance.up_to(Duration::from_millis(60))).await;
        match moment {
            Moment::Starting => {}
            Moment::Running => pause(self.chance.up_to(Duration::from_millis(300))).await,
            Moment::AfterAcknowledgement => {
                within_reason(self.ledger.acknowledgement.notified()).await;
                pause(self.chance.up_to(short)).await;
            }
            Moment::WhileSending => {
                within_reason(self.receivers.arrival.notified()).await;
                pause(self.chance.up_to(short)).await;
            }
            Moment::Reloading => {
                self.reloads += 1;
                self.home.configure(&self.receivers.sinks, self.reloads);
                let reload = client().post(format!("http://{admin}/api/v1/reload")).send();
                let reload = tokio::spawn(reload);
                pause(self.chance.up_to(Duration::from_millis(40))).await;
                reload.abort();
            }
            Moment::Stopping | Moment::Stopped => {
                daemon.terminate();
                if moment == Moment::Stopping {
                    pause(self.chance.up_to(Duration::from_millis(20))).await;
                }
            }
        }
    }
}

/// Awaits what comes soon under load, but not for ever: the clients may all be waiting.
async fn within_reason(event: impl Future<Output = ()>) {
    let _ = tokio::time::timeout(Duration::from_secs(1), event).await;
}

/// Waits to the microsecond, which a timer of milliseconds cannot.
async fn pause(span: Duration) {
    let end = Instant::now() + span;
    if span > Duration::from_millis(5) {
        tokio::time::sleep(span - Duration::from_millis(2)).await;
    }
    while Instant::now() < end {
        tokio::task::yield_now().await;
    }
}

/// A client for plain HTTP on loopback.
fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only(std::iter::empty());
    builder.timeout(Duration::from_secs(60)).build().expect("a client")
}

/// Runs `scan` with the rules of the harness; gives the alerts by their ids.
fn scan(program: &Path, rules: &Path, events: &Path) -> BTreeMap<String, serde_json::Value> {
    let mut command = std::process::Command::new(program);
    command.args(["scan", "--no-builtin", "--format", "json", "-q", "--rules"]).args([rules, events]);
    let output = command.output().expect("the program can be started");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let alerts = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a line of JSON"));
    alerts.map(|alert| (alert["id"].as_str().expect("an id").to_owned(), alert)).collect()
}
