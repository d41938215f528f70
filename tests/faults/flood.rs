//! A flood of invented users, each a group of its own, while somebody real goes slowly.

use std::path::Path;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::daemon::{Daemon, Home};
use super::load;
use super::pressure::event;
use crate::fake::{Receiver, Reply};

/// Events in a list, and how many of the slow one's are an alert.
const LIST: u64 = 1_000;
const SLOW: u64 = 5;

/// Five secrets read by one user within ten minutes.
pub(crate) const RULES: &str = "title: Secret read
id: read
name: read
level: informational
logsource: {product: kubernetes, service: audit}
detection: {read: {verb: get, objectRef.resource: secrets}, condition: read}
---
title: Several secrets read
id: several
level: high
correlation: {type: event_count, rules: [read], group-by: [user.username], timespan: 10m, condition: {gte: 5}}
";

/// What came of it.
pub(crate) struct Flood {
    pub(crate) seconds: f64,
    /// Most resident memory, in MiB.
    pub(crate) memory: f64,
    /// Users whose alerts arrived.
    pub(crate) told: Vec<String>,
}

/// Posts events of so many users, and between them, as far from each other as can be, five of `slow`.
pub(crate) async fn measure(program: &Path, users: u64) -> Flood {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home { folder: folder.path().to_owned() };
    let (tell, mut arrivals) = mpsc::unbounded_channel();
    let receiver = Receiver::forgetful(move |request| {
        let user = request.json()["event"]["user"]["username"].as_str().unwrap_or_default().to_owned();
        let _ = tell.send(user);
        Reply::new(200, "")
    })
    .await;
    home.configure(&[("receiver", receiver.url("/"))], 0);
    std::fs::write(home.rules(), RULES).expect("written");
    let daemon = Daemon::spawn(program, &home.config());
    let (webhook, _) = daemon.ready().await;
    let (http, url) = (super::client(), format!("http://{webhook}/k8s-audit"));
    let (start, lists) = (Instant::now(), users.div_ceil(LIST));
    for list in 0..lists {
        let now = kubesiren::clock::now();
        let invented =
            (list * LIST..(list + 1) * LIST).map(|n| event(&format!("event-{n}"), &format!("user-{n}"), now));
        let mut items: Vec<String> = invented.collect();
        if list * SLOW / lists != (list + 1) * SLOW / lists {
            items.push(event(&format!("slow-{list}"), "slow", now));
        }
        let body = load::list(&items);
        // The journal has its bound.
        while http.post(&url).body(body.clone()).send().await.expect("an answer").status() != 200 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let mut told = Vec::new();
    while let Ok(Some(user)) = tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await {
        let last = user == "slow";
        told.push(user);
        if last {
            break;
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let memory = daemon.memory("VmHWM:");
    daemon.kill();
    Flood { seconds, memory, told }
}
