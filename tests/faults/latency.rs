//! What a dead sink costs the others: nothing, or this shows it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::daemon::{Daemon, Home};
use super::load;
use crate::fake::{Receiver, Reply};

/// Sinks that are alive.
const ALIVE: [&str; 3] = ["one", "two", "three"];

/// The median and the 99th percentile, from the post to the arrival at a sink.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) median: Duration,
    pub(crate) most: Duration,
}

/// What the fourth sink does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fourth {
    Alive,
    /// Answers 500.
    Broken,
    /// Refuses connections.
    Gone,
    /// Takes requests and never answers.
    Hangs,
}

/// Posts `alerts` events that matter one after the other, and takes the time until three sinks have heard of each,
/// while a fourth one does this.
pub(crate) async fn measure(program: &Path, fourth: Fourth, alerts: u64) -> Latency {
    let folder = tempfile::tempdir().expect("a folder");
    let home = Home { folder: folder.path().to_owned() };
    let (tell, mut arrivals) = mpsc::unbounded_channel();
    let mut servers = Vec::new();
    for _ in ALIVE {
        let tell = tell.clone();
        servers.push(
            Receiver::forgetful(move |_| {
                let _ = tell.send(Instant::now());
                Reply::new(200, "")
            })
            .await,
        );
    }
    let mut sinks: Vec<_> = ALIVE.iter().zip(&servers).map(|(name, server)| (*name, server.url("/"))).collect();
    let (url, _kept) = fourth_sink(fourth).await;
    sinks.push(("fourth", url));
    home.configure(&sinks, 0);
    let daemon = Daemon::spawn(program, &home.config());
    let (webhook, _) = daemon.ready().await;
    let (http, url) = (super::client(), format!("http://{webhook}/k8s-audit"));
    let mut times = Vec::new();
    for n in 0..alerts {
        // Of the third and fourth round, so that each has one alert.
        let batch = (n / 8 * 16) + 8 + n % 8;
        let body = load::list(&load::events(1, batch));
        let posted = Instant::now();
        let answer = http.post(&url).body(body).send().await.expect("an answer");
        assert_eq!(answer.status(), 200);
        for _ in ALIVE {
            let arrival = tokio::time::timeout(Duration::from_secs(30), arrivals.recv()).await;
            times.push(arrival.expect("it arrives in time").expect("a sender").duration_since(posted));
        }
    }
    daemon.kill();
    times.sort_unstable();
    Latency { median: times[times.len() / 2], most: times[times.len() * 99 / 100] }
}

async fn fourth_sink(fourth: Fourth) -> (String, Option<Arc<Receiver>>) {
    let answer = |status, delay| Receiver::forgetful(move |_| Reply::new(status, "").late(delay));
    let server = match fourth {
        Fourth::Alive => answer(200, Duration::ZERO).await,
        Fourth::Broken => answer(500, Duration::ZERO).await,
        Fourth::Hangs => answer(200, Duration::from_secs(3_600)).await,
        Fourth::Gone => {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            return (format!("http://{}/", listener.local_addr().expect("bound")), None);
        }
    };
    (server.url("/"), Some(Arc::new(server)))
}
