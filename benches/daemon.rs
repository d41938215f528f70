//! What the real program costs as a process: the HTTPS webhook against a bare server that only counts bytes, requests
//! while rules are reloaded, and memory.
//!
//! `cargo bench --bench daemon`; with `-- --test` everything once. See `benches/README.md`.

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

use std::convert::Infallible;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use kubesiren::correlate::REPEAT_AFTER;
use kubesiren::engine::{Detected, Detector, RuleSet};
use kubesiren::rule::{self, Options};
use measure::{children, ratio, wall};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::{ServerConfig, pki_types};

/// Events in a list, as kube-apiserver sends them by default.
const LIST: usize = 400;

/// Connections at once.
const CONNECTIONS: usize = 4;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    rustls_provider();
    if args.iter().any(|arg| arg == "--bare") {
        return runtime().block_on(bare(Path::new(args.last().unwrap())));
    }
    let smoke = args.iter().any(|arg| arg == "--test");
    let home = tempfile::tempdir().unwrap();
    let tls = Tls::new(home.path());
    let lists = quiet_lists(if smoke { 2_000 } else { 40_000 });
    runtime().block_on(async {
        webhook(home.path(), &tls, &lists, smoke).await;
        reload(home.path(), &tls, &lists, smoke).await;
    });
    scan_memory(home.path(), smoke);
    scan_processes(home.path(), smoke);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap()
}

fn rustls_provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// EventLists of events that match nothing.
fn quiet_lists(events: usize) -> Arc<Vec<Bytes>> {
    let rules = RuleSet::compile(rule::load(&Options { builtin: true, ..Options::default() }).rules, REPEAT_AFTER);
    let lines = corpus::synthetic(events);
    let head = r#""kind":"Event","apiVersion":"audit.k8s.io/v1","#;
    let quiet = lines.split(|byte| *byte == b'\n').filter(|line| {
        let mut found = Detected::default();
        Detector::default().event(&rules, &"bench".into(), line, &mut found);
        found.events == 1 && found.matches.is_empty()
    });
    let items: Vec<String> = quiet.map(|line| String::from_utf8_lossy(line).replacen(head, "", 1)).collect();
    let lists = items.chunks(LIST).map(|items| {
        let items = items.join(",");
        format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{items}]}}"#).into()
    });
    Arc::new(lists.collect())
}

struct Tls {
    cert: PathBuf,
    key: PathBuf,
    authority: reqwest::Certificate,
}

impl Tls {
    fn new(home: &Path) -> Self {
        let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
        let (cert, key) = (home.join("tls.crt"), home.join("tls.key"));
        fs::write(&cert, signed.cert.pem()).unwrap();
        fs::write(&key, signed.signing_key.serialize_pem()).unwrap();
        Self { cert, key, authority: reqwest::Certificate::from_pem(signed.cert.pem().as_bytes()).unwrap() }
    }

    /// One connection that is kept alive, as kube-apiserver's.
    fn client(&self) -> reqwest::Client {
        let builder = reqwest::Client::builder().no_proxy().http1_only().pool_max_idle_per_host(1);
        builder.tls_certs_only([self.authority.clone()]).build().unwrap()
    }
}

/// The bare server: hyper and rustls, reads bodies to their end and throws them away.
async fn bare(home: &Path) {
    let pem = |file: &str| fs::read(home.join(file)).unwrap();
    let certs = <pki_types::CertificateDer<'_> as pki_types::pem::PemObject>::pem_slice_iter(&pem("tls.crt"))
        .collect::<Result<Vec<_>, _>>()
        .unwrap();
    let key = <pki_types::PrivateKeyDer<'_> as pki_types::pem::PemObject>::from_pem_slice(&pem("tls.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(certs, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listens on {}", listener.local_addr().unwrap());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = hyper::service::service_fn(|request: Request<Incoming>| async move {
                let mut body = request.into_body();
                let mut bytes = 0;
                while let Some(Ok(frame)) = body.frame().await {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                }
                std::hint::black_box(bytes);
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            });
            let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

/// A child process that is killed at the end.
struct Server {
    child: Child,
    address: SocketAddr,
    admin: Option<SocketAddr>,
}

impl Server {
    fn bare(home: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg("--bare").arg(home).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let line = BufReader::new(child.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        Self { child, address: line.rsplit(' ').next().unwrap().parse().unwrap(), admin: None }
    }

    fn kubesiren(home: &Path, tls: &Tls, more: &str) -> Self {
        let config = home.join("kubesiren.yaml");
        let (cert, key, state) = (tls.cert.display(), tls.key.display(), home.join("state"));
        let text = format!(
            "state_dir: {}\nadmin: {{listen: 127.0.0.1:0}}\nsources: [{{type: webhook, listen: '127.0.0.1:0', tls: {{cert: {cert}, key: {key}}}}}]\n{more}",
            state.display()
        );
        fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_kubesiren"));
        command.arg("run").arg("--config").arg(config).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let listeners = measure::listeners(&mut child, "ready");
        Self { child, address: listeners["webhook"], admin: listeners.get("admin").copied() }
    }

    /// CPU seconds so far, of user and kernel.
    fn cpu(&self) -> f64 {
        measure::process(self.child.id()).as_secs_f64()
    }

    /// A figure of `/proc/PID/status`, in MiB.
    fn memory(&self, name: &str) -> f64 {
        memory(self.child.id(), name).unwrap()
    }

    /// Posts the lists so many times over several connections; seconds of CPU per GB.
    async fn load(&self, tls: &Tls, lists: &Arc<Vec<Bytes>>, rounds: usize) -> f64 {
        let before = self.cpu();
        let posts: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (client, lists) = (tls.client(), Arc::clone(lists));
                let url = format!("https://{}/k8s-audit", self.address);
                tokio::spawn(async move {
                    let mut bytes = 0;
                    for list in (0..rounds).flat_map(|_| lists.iter()) {
                        let answer = client.post(&url).body(list.clone()).send().await.unwrap();
                        assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
                        bytes += list.len();
                    }
                    bytes
                })
            })
            .collect();
        let mut bytes = 0;
        for post in posts {
            bytes += post.await.unwrap();
        }
        (self.cpu() - before) / (bytes as f64 / 1e9)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn memory(pid: u32, name: &str) -> Option<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

async fn webhook(home: &Path, tls: &Tls, lists: &Arc<Vec<Bytes>>, smoke: bool) {
    let (turns, rounds) = if smoke { (1, 1) } else { (5, 4) };
    let (bare, ours) = (Server::bare(home), Server::kubesiren(home, tls, ""));
    let (mut theirs, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..turns {
        theirs.push(bare.load(tls, lists, rounds).await);
        costs.push(ours.load(tls, lists, rounds).await);
    }
    let median = |figures: &mut Vec<f64>| {
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    let (theirs, cost) = (median(&mut theirs), median(&mut costs));
    let size = lists.iter().map(Bytes::len).max().unwrap_or(0) as f64 / 1e6;
    println!("webhook, TLS, lists of {LIST} events ({size:.1} MB): {cost:.2} core-seconds/GB");
    println!("a bare server that counts bytes: {theirs:.2} core-seconds/GB; ratio {:.2}", cost / theirs);
    println!("memory of the daemon at most {:.0} MiB, with {CONNECTIONS} bodies in flight", ours.memory("VmHWM"));
}

/// The longest that a request takes while rules are reloaded, and while they are not.
async fn reload(home: &Path, tls: &Tls, lists: &Arc<Vec<Bytes>>, smoke: bool) {
    let folder = home.join("rules");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("made-up.yml"), corpus::rules::text(if smoke { 50 } else { 5_000 })).unwrap();
    let server = Server::kubesiren(home, tls, &format!("detections: {{paths: [{}]}}\n", folder.display()));
    let (client, url) = (tls.client(), format!("https://{}/k8s-audit", server.address));
    let list = lists[0].clone();
    let longest = async |during: &mut (dyn FnMut() -> bool + Send)| {
        let mut longest = Duration::ZERO;
        while during() {
            let start = Instant::now();
            assert_eq!(client.post(&url).body(list.clone()).send().await.unwrap().status(), 200);
            longest = longest.max(start.elapsed());
        }
        longest.as_secs_f64() * 1e3
    };
    let mut left = if smoke { 5 } else { 2_000 };
    let quiet = longest(&mut || {
        left -= 1;
        left > 0
    })
    .await;
    let (reloads, admin) = (if smoke { 1 } else { 20 }, server.admin.unwrap());
    let reloading = tokio::spawn(async move {
        for _ in 0..reloads {
            let answer = reqwest::Client::builder().no_proxy().tls_certs_only(std::iter::empty()).build().unwrap();
            let answer = answer.post(format!("http://{admin}/api/v1/reload")).send().await.unwrap();
            assert_eq!(answer.status(), 200);
        }
    });
    let during = longest(&mut || !reloading.is_finished()).await;
    println!("longest request: {quiet:.0} ms, while 5 000 rules are reloaded {reloads} times {during:.0} ms");
}

/// `kubesiren scan` of the log in `home` with so many made-up rules.
fn scanner(home: &Path, rules: usize, threads: usize) -> Command {
    let file = home.join(format!("rules-{rules}.yml"));
    if !file.exists() {
        fs::write(&file, corpus::rules::text(rules)).unwrap();
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubesiren"));
    command.args(["scan", "--no-builtin", "--threads", &threads.to_string(), "--rules"]);
    command.args([file, home.join("audit.log")]).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// What whole processes take of the same file, start and loading of the rules included: leaves the log for it behind.
fn scan_processes(home: &Path, smoke: bool) {
    let size = fs::metadata(home.join("audit.log")).unwrap().len() as f64 / 1e6;
    let run = |rules, threads| move || u64::from(scanner(home, rules, threads).status().unwrap().success());
    let turns = if smoke { 1 } else { 9 };
    for rules in [1_000, 5_000] {
        let (many, few) = ratio(turns, children, &run(rules, 1), &run(50, 1));
        println!("scan of {size:.0} MB, CPU of the process with {rules} rules: {:.2} times that with 50", many / few);
    }
    let (two, one) = ratio(turns, wall, &run(50, 2), &run(50, 1));
    println!("scan of {size:.0} MB, whole process: two threads are {:.2} times as fast as one", one / two);
}

/// What `scan` needs with 1 000 rules, by the size of the file.
fn scan_memory(home: &Path, smoke: bool) {
    let log = home.join("audit.log");
    let lines = corpus::synthetic(20_000);
    for copies in if smoke { vec![1] } else { vec![1, 20] } {
        fs::write(&log, lines.repeat(copies)).unwrap();
        let mut child = scanner(home, 1_000, 1).spawn().unwrap();
        let (mut most, mut anonymous) = (0.0_f64, 0.0_f64);
        while child.try_wait().unwrap().is_none() {
            most = most.max(memory(child.id(), "VmHWM").unwrap_or(0.0));
            anonymous = anonymous.max(memory(child.id(), "RssAnon").unwrap_or(0.0));
            #[expect(clippy::disallowed_methods, reason = "what a process needs can only be seen while it runs")]
            std::thread::sleep(Duration::from_millis(2));
        }
        let size = (lines.len() * copies) as f64 / 1e6;
        println!("scan of {size:.0} MB with 1 000 rules: at most {most:.0} MiB, {anonymous:.0} MiB of it its own");
    }
}
