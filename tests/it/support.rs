//! The real program as a child process, its HTTP clients, and the events it is fed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Nothing that is awaited stands still for this long on any machine, unless it never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// And nothing that is getting on takes this long.
const PATIENCE_WITH_PROGRESS: Duration = Duration::from_secs(300);

/// Awaits that something is there; says what was awaited, and how things stood, when it does not come: when how
/// things stand has not changed for a long time, or goes on changing for a much longer one.
pub(crate) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    let mut stands = (String::new(), begin);
    loop {
        match look().await {
            Ok(found) => return found,
            Err(state) if state != stands.0 => stands = (state, Instant::now()),
            Err(_) => {}
        }
        let patient = stands.1.elapsed() < PATIENCE && begin.elapsed() < PATIENCE_WITH_PROGRESS;
        assert!(patient, "waited in vain: {what}\n{}", stands.0);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Lines that a thread reads from a child's pipe.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn read(pipe: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                kept.0.lock().expect("not poisoned").push(line);
            }
        });
        lines
    }

    /// What came so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().expect("not poisoned").clone()
    }
}

/// A running program that is killed when the test ends, however it ends.
pub(crate) struct Running {
    child: Child,
    /// Its standard output.
    pub(crate) out: Lines,
    /// Its standard error.
    pub(crate) err: Lines,
}

impl Running {
    /// Starts it with both outputs read.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let out = Lines::read(child.stdout.take().expect("piped"));
        let err = Lines::read(child.stderr.take().expect("piped"));
        Self { child, out, err }
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name.
    pub(crate) fn signal(&self, name: &str) {
        // The shell's own: not every machine has a program of this name.
        let sent = Command::new("sh").args(["-c", "kill -s $0 $1", name, &self.child.id().to_string()]).status();
        assert!(sent.expect("a shell can be run").success());
    }

    /// Awaits its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let err = self.err.clone();
        until("the program ends", async || self.child.try_wait().expect("a child").ok_or_else(|| err.all().join("\n")))
            .await
    }

    /// Awaits that a Go server listens; true when it cannot, because somebody else has its port.
    pub(crate) async fn taken(&mut self) -> bool {
        let lines = self.err.clone();
        until("the server listens or ends", async || {
            let text = lines.all().join("\n");
            let ended = self.child.try_wait().expect("a child").is_some();
            if ended && !text.contains("address already in use") {
                panic!("the server does not run: {text}");
            }
            if ended || text.contains("TLS is disabled") || text.contains("TLS is enabled") {
                Ok(ended)
            } else {
                Err(text)
            }
        })
        .await
    }

    /// Awaits the first line on standard error in which `find` finds something.
    pub(crate) async fn logged<T>(&mut self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        until(what, async || {
            let lines = self.err.all();
            if let Some(found) = lines.iter().find_map(|line| find(line)) {
                return Ok(found);
            }
            if let Some(status) = self.child.try_wait().expect("a child") {
                panic!("{what}: the program ended with {status}\n{}", self.err.all().join("\n"));
            }
            Err(lines.join("\n"))
        })
        .await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The daemon, ready.
pub(crate) struct Daemon {
    /// The process.
    pub(crate) process: Running,
    /// The webhook's address; port 0 where there is no webhook.
    pub(crate) webhook: SocketAddr,
    /// The admin listener's address.
    pub(crate) admin: SocketAddr,
    client: reqwest::Client,
}

impl Daemon {
    /// Writes the configuration beside the state in `home`, starts the daemon and awaits that it is ready. Listeners
    /// should be on port 0; `state_dir` and `admin` are added.
    pub(crate) async fn start(home: &Path, config: &str) -> Self {
        Self::start_with(home, config, &[]).await
    }

    /// The same with further arguments.
    pub(crate) async fn start_with(home: &Path, config: &str, more: &[&str]) -> Self {
        Self::start_in(home, config, more, &[]).await
    }

    /// The same with further arguments, and variables of the environment.
    pub(crate) async fn start_in(home: &Path, config: &str, more: &[&str], environment: &[(&str, &str)]) -> Self {
        let file = configure(home, config);
        let mut command = kubesiren();
        command.arg("run").arg("--config").arg(file).args(more).envs(environment.iter().copied());
        let mut process = Running::start(&mut command);
        let webhook = if config.contains("type: webhook, listen") {
            process.logged("the webhook listens", |line| address(line, "webhook listens")).await
        } else {
            SocketAddr::from(([127, 0, 0, 1], 0))
        };
        let admin = process.logged("the admin listener listens", |line| address(line, "admin listens")).await;
        process.logged("the daemon is ready", |line| line.contains("\"message\":\"ready\"").then_some(())).await;
        Self { process, webhook, admin, client: client() }
    }

    /// A URL of the webhook, without TLS.
    pub(crate) fn hook(&self) -> String {
        format!("http://{}/k8s-audit", self.webhook)
    }

    /// Posts a body, without TLS; gives the status and the answer's text.
    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> (u16, String) {
        answered(self.client.post(self.hook()).body(body)).await
    }

    /// Posts events in lists of at most `size`; every one must be taken.
    pub(crate) async fn feed(&self, events: &[String], size: usize) {
        for batch in events.chunks(size) {
            let (status, text) = self.post(event_list(batch)).await;
            assert_eq!(status, 200, "{text}");
        }
    }

    /// Gets a path of the admin listener.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        answered(self.client.get(format!("http://{}{path}", self.admin))).await
    }

    /// Posts to a path of the admin listener.
    pub(crate) async fn ask(&self, path: &str) -> (u16, String) {
        answered(self.client.post(format!("http://{}{path}", self.admin))).await
    }

    /// All alerts of the API, by id.
    pub(crate) async fn alerts(&self) -> BTreeMap<String, Value> {
        let (status, text) = self.get("/api/v1/alerts?limit=1000").await;
        assert_eq!(status, 200, "{text}");
        let page: Value = serde_json::from_str(&text).expect("JSON");
        by_id(page["alerts"].as_array().expect("an array").clone())
    }

    /// The sum of all series of a metric whose labels contain `part`.
    pub(crate) async fn metric(&self, name: &str, part: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let of = |line: &str| {
            let rest = line.strip_prefix(name)?;
            let (labels, value) = rest.rsplit_once(' ')?;
            let mine = (labels.is_empty() || labels.starts_with('{')) && labels.contains(part);
            mine.then(|| value.parse::<f64>().expect("a number"))
        };
        let found: Vec<f64> = text.lines().filter_map(of).collect();
        assert!(!found.is_empty(), "no series {name} with {part} in\n{text}");
        found.iter().sum()
    }

    /// Awaits that a metric has a value.
    pub(crate) async fn metric_is(&self, name: &str, part: &str, value: f64) {
        until(&format!("{name}{{{part}}} is {value}"), async || {
            let now = self.metric(name, part).await;
            if (now - value).abs() < 0.5 { Ok(()) } else { Err(format!("it is {now}")) }
        })
        .await;
    }

    /// Stops it with SIGTERM; it must end well.
    pub(crate) async fn stop(mut self) -> Lines {
        self.process.signal("TERM");
        let status = self.process.ended().await;
        assert_eq!(status.code(), Some(0), "{}", self.process.err.all().join("\n"));
        self.process.out.clone()
    }
}

/// The address in a log line with this message.
fn address(line: &str, message: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == message).then(|| line["address"].as_str()?.parse().ok())?
}

/// Writes `config.yaml` in `home` and returns its path.
pub(crate) fn configure(home: &Path, config: &str) -> PathBuf {
    let file = home.join("config.yaml");
    let state = home.join("state");
    let text = format!("state_dir: {}\nadmin: {{listen: 127.0.0.1:0}}\n{config}", state.display());
    std::fs::write(&file, text).expect("written");
    file
}

/// The plain webhook source that most tests use.
pub(crate) const WEBHOOK: &str = "sources: [{type: webhook, listen: '127.0.0.1:0'}]\n";

/// The program, without anything that the environment of the tests might tell it.
pub(crate) fn kubesiren() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubesiren"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KUBESIREN_")) {
        command.env_remove(name);
    }
    command.env("NO_COLOR", "1");
    command
}

/// Runs the program to its end with this standard input.
pub(crate) fn run(args: &[&str], input: &[u8]) -> Output {
    let mut command = kubesiren();
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program can be started");
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    let writing = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the program ends");
    writing.join().expect("no panic");
    output
}

/// Scans lines with these further arguments; gives the alerts in their order and the statistics.
pub(crate) fn scan(args: &[&str], input: &[u8]) -> (Vec<Value>, Value) {
    let output = run(&[&["scan", "--format", "json", "--stats", "json"], args].concat(), input);
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{err}");
    let stats = serde_json::from_str(err.lines().last().expect("a last line")).expect("the statistics");
    (json_lines(&String::from_utf8_lossy(&output.stdout)), stats)
}

/// Every line as JSON.
pub(crate) fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}

/// Alerts by their ids.
pub(crate) fn by_id(alerts: Vec<Value>) -> BTreeMap<String, Value> {
    alerts.into_iter().map(|alert| (text_at(&alert, "/id").to_owned(), alert)).collect()
}

/// A text inside a JSON value.
pub(crate) fn text_at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no text at {pointer} in {value}"))
}

/// Sends a request; gives the status and the answer's text.
pub(crate) async fn answered(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("a text"))
}

/// A client for plain HTTP on loopback.
pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = reqwest::Client::builder().no_proxy().tls_certs_only(std::iter::empty());
    builder.build().expect("a client")
}

/// Events as kube-apiserver sends them.
pub(crate) fn event_list(events: &[String]) -> String {
    let items = events.join(",");
    format!(r#"{{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{{}},"items":[{items}]}}"#)
}

/// A request that no rule looks at, at a time.
pub(crate) fn quiet_event(id: &str, time: &str) -> String {
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "auditID": id, "stage": "ResponseComplete",
        "requestURI": "/apis/apps/v1/namespaces/shop/deployments/web", "verb": "get",
        "user": {"username": "system:serviceaccount:shop:web", "groups": ["system:authenticated"]},
        "sourceIPs": ["10.0.0.7"], "userAgent": "web/1.0",
        "objectRef": {"resource": "deployments", "namespace": "shop", "name": "web", "apiGroup": "apps", "apiVersion": "v1"},
        "responseStatus": {"code": 200}, "requestReceivedTimestamp": time, "stageTimestamp": time,
        "annotations": {"authorization.k8s.io/decision": "allow"}
    })
    .to_string()
}

/// The attack that the repository ships, line by line.
pub(crate) fn attack() -> Vec<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples/attack.jsonl");
    std::fs::read_to_string(file).expect("the sample").lines().map(str::to_owned).collect()
}

/// An event after everything in [`attack`] and in the scenarios, late enough to end every episode: some detections tell
/// of a thing once a day.
pub(crate) fn end_of_story() -> String {
    quiet_event("end-of-story", "2026-11-23T05:44:00.000000Z")
}

/// A file that is not part of the repository.
fn outside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name)
}

/// A file that is not part of the repository, such as `attack-scenarios.tsv`; tells when it is not there.
pub(crate) fn given(name: &str) -> Option<PathBuf> {
    let file = outside(name);
    let there = file.exists();
    if !there {
        skipped(&format!("{} is not there", file.display()));
    }
    there.then_some(file)
}

/// A recording that is not part of the repository; tells when it is not there.
pub(crate) fn recording(name: &str) -> Option<PathBuf> {
    given(&format!("lab/{name}"))
}

/// The recorded scenarios under an audit policy, `full`, `eks-policy` or `gce-policy`: name and event, in the order they
/// happened.
pub(crate) fn scenarios_under(policy: &str) -> Option<Vec<(String, String)>> {
    let text = std::fs::read_to_string(recording(&format!("scenarios-{policy}.jsonl"))?).expect("readable");
    let lines = text.lines().map(|line| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        (text_at(&line, "/scenario").to_owned(), line["event"].to_string())
    });
    Some(lines.collect())
}

/// The recorded scenarios, with everything logged.
pub(crate) fn scenarios() -> Option<Vec<(String, String)>> {
    scenarios_under("full")
}

/// The scenarios' events, or the sample's where they are not there, and an end.
pub(crate) fn story() -> Vec<String> {
    let recorded = outside("lab/scenarios-full.jsonl").exists().then(scenarios).flatten();
    let mut events = recorded.map_or_else(attack, |scenarios| scenarios.into_iter().map(|(_, event)| event).collect());
    events.push(end_of_story());
    events
}

/// Says past the test harness, which hides what passing tests print, that something was not tested.
pub(crate) fn skipped(why: &str) {
    let test = std::thread::current().name().unwrap_or("?").to_owned();
    let _ = writeln!(std::io::stderr().lock(), "SKIPPED: {test}: {why}");
}

/// Whether a program can be started; tells when it cannot.
pub(crate) fn installed(program: &str) -> bool {
    let there = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !there {
        skipped(&format!("{program} is not installed"));
    }
    there
}

/// A loopback port that was free just now, for programs that cannot tell which one they took.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound").port()
}

/// Holds a file of the repository to what it is generated from; writes it instead where `KUBESIREN_WRITE` is set.
pub(crate) fn generated(file: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("KUBESIREN_WRITE").is_some() {
        std::fs::write(&path, text).expect("the file can be written");
        return;
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = written.lines().zip(text.lines()).position(|(old, new)| old != new);
    let at = differs.unwrap_or_else(|| written.lines().count().min(text.lines().count()));
    let line = |text: &str| text.lines().nth(at).unwrap_or("(ends)").to_owned();
    assert!(
        written == text,
        "{file} is out of date from line {} on:\n- {}\n+ {}\nKUBESIREN_WRITE=1 cargo test --test it writes it anew; look at the difference",
        at + 1,
        line(&written),
        line(text)
    );
}
