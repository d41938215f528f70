//! The real program as a child that may die at any moment.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

/// No start and no clean stop takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the log has told so far.
#[derive(Clone, Default)]
struct Told {
    webhook: Option<SocketAddr>,
    admin: Option<SocketAddr>,
    ready: bool,
    ended: bool,
}

/// A daemon that was started, ready or not.
pub(super) struct Daemon {
    child: Child,
    told: watch::Receiver<Told>,
    log: Arc<Mutex<Vec<String>>>,
    pub(super) started: Instant,
}

impl Daemon {
    pub(super) fn spawn(program: &Path, config: &Path) -> Self {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KUBESIREN_")) {
            command.env_remove(name);
        }
        command.arg("run").arg("--config").arg(config).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program can be started");
        let (tell, told) = watch::channel(Told::default());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (pipe, kept) = (child.stderr.take().expect("piped"), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                tell.send_modify(|told| note(told, &line));
                kept.lock().expect("not poisoned").push(line);
            }
            tell.send_modify(|told| told.ended = true);
        });
        Self { child, told, log, started: Instant::now() }
    }

    /// Awaits that it is ready; gives the addresses of webhook and admin listener.
    pub(super) async fn ready(&self) -> (SocketAddr, SocketAddr) {
        let mut told = self.told.clone();
        let wait = told.wait_for(|told| told.ready || told.ended);
        let told = tokio::time::timeout(PATIENCE, wait).await.map(|told| told.expect("a sender").clone());
        match told {
            Ok(Told { webhook: Some(webhook), admin: Some(admin), ready: true, .. }) => (webhook, admin),
            _ => panic!("the daemon does not come up:\n{}", self.log().join("\n")),
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    /// A line of `/proc/PID/status` in MiB: `VmRSS:` is what it holds, `VmHWM:` the most it has held.
    pub(super) fn memory(&self, name: &str) -> f64 {
        memory_of(self.id(), name)
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// Lines of the log that say that data was lost or that somebody must act.
    pub(super) fn errors(&self) -> Vec<String> {
        self.log()
            .into_iter()
            .filter(|line| line.contains("\"level\":\"ERROR\"") || line.contains("panicked"))
            .collect()
    }

    /// `kill -9`.
    pub(super) fn kill(mut self) -> Vec<String> {
        assert!(self.child.try_wait().expect("a child").is_none(), "it ended by itself:\n{}", self.log().join("\n"));
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.errors()
    }

    /// `kill -TERM`.
    pub(super) fn terminate(&self) {
        // The shell's own: not every machine has a program of this name.
        let sent = Command::new("sh").args(["-c", "kill -s TERM $0", &self.child.id().to_string()]).status();
        assert!(sent.expect("a shell can be run").success());
    }

    /// Awaits the end after [`Daemon::terminate`].
    pub(super) async fn ended(mut self) -> (ExitStatus, Vec<String>) {
        let mut told = self.told.clone();
        let wait = told.wait_for(|told| told.ended);
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "it does not stop:\n{}", self.log().join("\n"));
        (self.child.wait().expect("a child"), self.errors())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The same of any process; 0 where there is none.
pub(super) fn memory_of(process: u32, name: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) / 1024.0
}

fn note(told: &mut Told, line: &str) {
    let Ok(line) = serde_json::from_str::<serde_json::Value>(line) else { return };
    let address = || line["address"].as_str().and_then(|address| address.parse().ok());
    match line["message"].as_str() {
        Some("webhook listens") => told.webhook = address(),
        Some("admin listens") => told.admin = address(),
        Some("ready") => told.ready = true,
        _ => {}
    }
}

/// Where a run keeps its files.
pub(super) struct Home {
    pub(super) folder: PathBuf,
}

impl Home {
    pub(super) fn config(&self) -> PathBuf {
        self.folder.join("config.yaml")
    }

    pub(super) fn rules(&self) -> PathBuf {
        self.folder.join("rules.yml")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Writes rules and configuration, whole at once. Another `turn` gives the sinks other headers, so that a reload
    /// replaces their workers.
    pub(super) fn configure(&self, sinks: &[(&str, String)], turn: u64) {
        let sinks: Vec<String> = sinks
            .iter()
            .map(|(name, url)| {
                format!("  - {{name: {name}, type: webhook, url: '{url}', headers: {{x-turn: 't{turn}'}}}}\n")
            })
            .collect();
        let text = format!(
            "state_dir: {}
admin: {{listen: 127.0.0.1:0}}
sources: [{{type: webhook, listen: '127.0.0.1:0'}}]
detections: {{builtin: false, paths: ['{}']}}
correlation: {{repeat_after: 10s, lateness: 10s}}
sinks:\n{}",
            self.state().display(),
            self.rules().display(),
            sinks.concat()
        );
        std::fs::write(self.rules(), super::load::RULES).expect("written");
        let aside = self.folder.join("config.new");
        std::fs::write(&aside, text).expect("written");
        std::fs::rename(aside, self.config()).expect("renamed");
    }
}
