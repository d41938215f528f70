//! Load for a long time, and more of it than can be taken: what is acknowledged late, what is refused, what memory it takes.
//!
//! Posts are sent when they are due, whatever became of those before them, and latency counts from when they were due: a
//! daemon that falls behind cannot hide it by being asked less.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kubesiren::clock::Timestamp;
use rustls::pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::connections::Connections;
use super::daemon::{Daemon, Home, memory_of};
use super::judge;
use super::machine::Ticks;
use crate::fake::{Receiver, Reply};

/// Events in a list.
pub(crate) const LIST: usize = 400;

/// Posts under way at most, each on a connection of its own: as many as the daemon keeps open, but for a few.
///
/// The ceiling is found with as many: it is what a backlog is worked off with, which a few senders would flatter.
const UNDER_WAY_MAX: usize = 1_000;

/// How often progress is told.
const TOLD_EVERY: Duration = Duration::from_secs(10);

const RULES: &str = "title: Planted
id: planted
level: high
logsource: {product: kubernetes, service: audit}
detection: {planted: {verb: get, objectRef.resource: secrets, user.username|startswith: planted-}, condition: planted}
";

/// What became of the posts of one stretch of time.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    pub(crate) due: u64,
    pub(crate) taken: u64,
    pub(crate) refused: u64,
    /// Refused otherwise than by 503 with `Retry-After`.
    pub(crate) refused_badly: u64,
    pub(crate) unanswered: u64,
    /// Not sent because too many were under way.
    pub(crate) held_back: u64,
    /// From when it was due to the acknowledgement; sorted.
    latencies: Vec<Duration>,
    /// Resident memory of the daemon, in MiB, once a second.
    memory: Vec<f64>,
    seconds: f64,
    /// What other work took of the machine, in per cent.
    others: f64,
}

impl Stretch {
    fn count(&mut self, (answer, after): (Answer, Duration)) {
        match answer {
            Answer::Taken => {
                self.taken += 1;
                self.latencies.push(after);
            }
            Answer::Refused { well: true } => self.refused += 1,
            Answer::Refused { well: false } => self.refused_badly += 1,
            Answer::None => self.unanswered += 1,
        }
    }

    fn percentile(&self, share: usize) -> Duration {
        percentile(&self.latencies, share)
    }

    /// How it went since the posts that were `seen`.
    fn since(&self, seen: &mut usize) -> String {
        let mut news = self.latencies[*seen..].to_vec();
        *seen = self.latencies.len();
        news.sort_unstable();
        let [half, most, longest] = [500, 990, 1000].map(|share| percentile(&news, share));
        format!("{} acknowledged after {half:.1?} (median), {most:.1?} (99 %), {longest:.1?} (longest)", news.len())
    }
}

fn percentile(sorted: &[Duration], share: usize) -> Duration {
    sorted.get(sorted.len().saturating_sub(1) * share / 1000).copied().unwrap_or_default()
}

impl fmt::Display for Stretch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { due, taken, refused, refused_badly, unanswered, held_back, seconds, .. } = self;
        writeln!(
            f,
            "  {due} lists of {LIST} due in {seconds:.0} s, {taken} acknowledged, {refused} refused with 503 and Retry-After, \
             {refused_badly} refused otherwise, {unanswered} unanswered, {held_back} not sent"
        )?;
        let [half, most, longest] = [500, 990, 1000].map(|share| self.percentile(share));
        writeln!(f, "  acknowledged after {half:.1?} (median), {most:.1?} (99 %), {longest:.1?} (longest)")?;
        let most = |part: &[f64]| part.iter().copied().fold(0.0, f64::max);
        let tenths = self.memory.chunks(self.memory.len().div_ceil(10).max(1));
        let tenths: Vec<String> = tenths.map(|tenth| format!("{:.0}", most(tenth))).collect();
        writeln!(f, "  memory at most, in each tenth of the time: {} MiB", tenths.join(", "))?;
        write!(f, "  other work took {:.1} % of the machine", self.others)
    }
}

/// What is posted.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Lists.
    pub(crate) a_second: f64,
    /// In one of so many lists there is an event that matters.
    pub(crate) plant_every: u64,
    /// How long a sender sends nothing in the middle of a list.
    pub(crate) pause: Duration,
}

/// A daemon behind TLS, and what to send it.
pub(crate) struct Pressure {
    daemon: Daemon,
    home: Home,
    connections: Connections,
    /// EventLists without their end.
    lists: Vec<String>,
    planted: AtomicU64,
    /// Planted events in lists that were acknowledged, and in lists that were refused.
    admin: SocketAddr,
    accepted: Mutex<BTreeSet<u64>>,
    refused: Mutex<BTreeSet<u64>>,
    _receiver: Receiver,
    _folder: tempfile::TempDir,
}

/// What one post came to.
enum Answer {
    Taken,
    Refused { well: bool },
    None,
}

impl Pressure {
    /// Starts the daemon with the built-in detections and one sink. `lines`: events, one a line.
    pub(crate) async fn start(program: &Path, lines: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let home = Home { folder: folder.path().to_owned() };
        let receiver = Receiver::forgetful(|_| Reply::new(200, "")).await;
        let authority = configure(&home, &receiver.url("/"));
        let daemon = Daemon::spawn(program, &home.config());
        let (webhook, admin) = daemon.ready().await;
        Self {
            daemon,
            home,
            admin,
            connections: Connections::new(webhook, "/k8s-audit", authority),
            lists: lists(lines),
            planted: AtomicU64::new(0),
            accepted: Mutex::default(),
            refused: Mutex::default(),
            _receiver: receiver,
            _folder: folder,
        }
    }

    /// Lists a second that are taken from senders that always have one more to send.
    pub(crate) async fn ceiling(self: &Arc<Self>, time: Duration) -> f64 {
        let (start, mut senders) = (Instant::now(), JoinSet::new());
        for sender in 0..UNDER_WAY_MAX {
            let this = Arc::clone(self);
            senders.spawn(async move {
                let (mut n, mut taken) = (sender, 0_u32);
                while start.elapsed() < time {
                    let answer = this.post(n, false, Duration::ZERO).await;
                    taken += u32::from(matches!(answer, Answer::Taken));
                    n += UNDER_WAY_MAX;
                }
                taken
            });
        }
        f64::from(senders.join_all().await.into_iter().sum::<u32>()) / start.elapsed().as_secs_f64()
    }

    /// Awaits that the daemon has dealt with all that it took: what comes then finds it at rest.
    pub(crate) async fn rest(&self) {
        let behind = |metrics: &str| !metrics.contains("\nkubesiren_journal_records 0\n");
        while behind(&self.metrics().await) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn metrics(&self) -> String {
        let answer = super::client().get(format!("http://{}/metrics", self.admin)).send().await.expect("an answer");
        answer.text().await.expect("metrics")
    }

    /// Posts `load` for so long.
    pub(crate) async fn stretch(self: &Arc<Self>, load: Load, time: Duration) -> Stretch {
        let (start, mut posts) = (Instant::now(), JoinSet::new());
        let (room, memory) = (Arc::new(Semaphore::new(UNDER_WAY_MAX)), self.watch_memory());
        let (mut stretch, mut told, mut seen) = (Stretch::default(), Instant::now(), 0);
        let mut ticks = Ticks::now(self.daemon.id());
        let mut told_ticks = ticks;
        loop {
            let due = start + Duration::from_secs_f64(stretch.due as f64 / load.a_second);
            if due.duration_since(start) >= time {
                break;
            }
            tokio::time::sleep_until(due.into()).await;
            let n = stretch.due;
            stretch.due += 1;
            let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
                stretch.held_back += 1;
                continue;
            };
            let this = Arc::clone(self);
            posts.spawn(async move {
                let plant = n.is_multiple_of(load.plant_every);
                let answer = this.post(usize::try_from(n).unwrap_or(0), plant, load.pause).await;
                drop(permit);
                (answer, due.elapsed())
            });
            while let Some(done) = posts.try_join_next() {
                stretch.count(done.expect("a post"));
            }
            if told.elapsed() > TOLD_EVERY {
                told = Instant::now();
                #[allow(clippy::print_stderr, reason = "progress, for whoever waits for hours")]
                let () = eprintln!(
                    "{:4.0} s: {}; other work: {:.1} %",
                    start.elapsed().as_secs_f64(),
                    stretch.since(&mut seen),
                    self.others_since(&mut told_ticks)
                );
            }
        }
        while let Some(done) = posts.join_next().await {
            stretch.count(done.expect("a post"));
        }
        stretch.seconds = start.elapsed().as_secs_f64();
        stretch.others = self.others_since(&mut ticks);
        stretch.memory = memory.stop().await;
        stretch.latencies.sort_unstable();
        stretch
    }

    fn others_since(&self, before: &mut Ticks) -> f64 {
        let now = Ticks::now(self.daemon.id());
        now.others_since(std::mem::replace(before, now))
    }

    async fn post(&self, n: usize, plant: bool, pause: Duration) -> Answer {
        let list = &self.lists[n % self.lists.len()];
        let planted = plant.then(|| self.planted.fetch_add(1, Ordering::Relaxed));
        let event = planted.map_or_else(String::new, |number| {
            let name = format!("planted-{number}");
            format!(",{}", event(&name, &name, kubesiren::clock::now()))
        });
        let body = Bytes::from([list, event.as_str(), "]}"].concat());
        let (answer, into) = match self.connections.post(body, pause).await {
            Some(answer) if answer.status() == 200 => (Answer::Taken, Some(&self.accepted)),
            Some(answer) => {
                let well = answer.status() == 503 && answer.headers().contains_key("retry-after");
                (Answer::Refused { well }, Some(&self.refused))
            }
            None => (Answer::None, None),
        };
        if let Some((number, into)) = planted.zip(into) {
            into.lock().expect("not poisoned").insert(number);
        }
        answer
    }

    fn watch_memory(&self) -> Watch {
        let process = self.daemon.id();
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                seen.push(memory_of(process, "VmRSS:"));
                tokio::select! {
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                    _ = &mut stopped => return seen,
                }
            }
        });
        Watch { stop, task }
    }

    /// Awaits that everything is told, and says which planted events are wrong: acknowledged without an alert, refused
    /// with one, with two alerts.
    pub(crate) async fn judge(&self) -> (usize, usize, usize) {
        // Time goes on, so that every episode ends.
        let later = kubesiren::clock::now().plus(Duration::from_secs(120));
        let end = [&self.lists[0], ",", &event("end", "end", later), "]}"].concat();
        assert_eq!(self.connections.post(end.into(), Duration::ZERO).await.expect("an answer").status(), 200);
        // What other detections have found may go on for an hour.
        judge::wait_until_told(&self.home.state(), Some("planted")).await;
        let mut alerts: Vec<u64> = judge::outbox(&self.home.state())
            .values()
            .filter_map(|alert| alert["event"]["user"]["username"].as_str()?.strip_prefix("planted-")?.parse().ok())
            .collect();
        let all = alerts.len();
        alerts.sort_unstable();
        alerts.dedup();
        let (accepted, refused) = (self.accepted.lock().expect("fine"), self.refused.lock().expect("fine"));
        let missing = accepted.iter().filter(|number| alerts.binary_search(number).is_err()).count();
        let leaked = refused.iter().filter(|number| alerts.binary_search(number).is_ok()).count();
        (missing, leaked, all - alerts.len())
    }

    /// What the log called an error.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.daemon.errors()
    }
}

struct Watch {
    stop: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Vec<f64>>,
}

impl Watch {
    async fn stop(self) -> Vec<f64> {
        let _ = self.stop.send(());
        self.task.await.expect("memory was watched")
    }
}

/// Writes the configuration, and gives the certificate in it.
fn configure(home: &Home, sink: &str) -> CertificateDer<'static> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let signed = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).expect("a certificate");
    let (cert, key) = (home.folder.join("tls.crt"), home.folder.join("tls.key"));
    std::fs::write(&cert, signed.cert.pem()).expect("written");
    std::fs::write(&key, signed.signing_key.serialize_pem()).expect("written");
    std::fs::write(home.rules(), RULES).expect("written");
    let (state, rules) = (home.state(), home.rules());
    let text = format!(
        "state_dir: {}
admin: {{listen: 127.0.0.1:0}}
sources: [{{type: webhook, listen: '127.0.0.1:0', tls: {{cert: '{}', key: '{}'}}}}]
detections: {{paths: ['{}']}}
correlation: {{repeat_after: 10s, lateness: 10s}}
sinks: [{{name: receiver, type: webhook, url: '{sink}'}}]\n",
        state.display(),
        cert.display(),
        key.display(),
        rules.display()
    );
    std::fs::write(home.config(), text).expect("written");
    signed.cert.der().clone()
}

fn lists(lines: &[u8]) -> Vec<String> {
    let text = std::str::from_utf8(lines).expect("events are text");
    let items: Vec<&str> = text.lines().collect();
    let head = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#;
    items.chunks_exact(LIST).map(|items| [head, &items.join(",")].concat()).collect()
}

/// Somebody reads a Secret.
pub(crate) fn event(id: &str, user: &str, time: Timestamp) -> String {
    serde_json::json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": id,
        "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/secrets/planted", "verb": "get",
        "user": {"username": user, "groups": ["system:authenticated"]}, "sourceIPs": ["10.0.0.7"],
        "objectRef": {"resource": "secrets", "namespace": "shop", "name": "planted", "apiVersion": "v1"},
        "responseStatus": {"code": 200}, "requestReceivedTimestamp": time, "stageTimestamp": time,
    })
    .to_string()
}
