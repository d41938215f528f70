//! The canary: now and then an event of the daemon's own goes in through a listener, as kube-apiserver's do, and has to
//! come out as an alert.
//!
//! It goes the whole way: connection, TLS, token, ingest, the compiled rules, the journal, correlation, the outbox, and
//! with `canary.sink` a sink. See [`crate::pipeline::canary`] for what tells it from other events, and what does not.

mod event;
mod tell;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

pub(super) use self::event::Mark;
pub(super) use self::tell::Tell;
use crate::alert::CANARY;
use crate::clock;
use crate::config::CanaryConfig;
use crate::https;
use crate::metrics::{CanaryFailure, Metrics, Source};
use crate::pipeline::canary::Canaries;
use crate::pipeline::pulse::Pulse;
use crate::source::webhook::{Tls, WebhookConfig, client_config};
use crate::store::{Progress, Store};
use crate::text::shorten;
use crate::units::Secret;

/// After everything is ready.
const FIRST: Duration = Duration::from_millis(500);
/// After one that failed; sooner than `every`, so that one hiccup is told from an illness.
const AGAIN: Duration = Duration::from_secs(30);
/// How often the outbox is asked whether the sink has it.
const POLL: Duration = Duration::from_millis(100);
/// So much of an answer is shown.
const ANSWER_SHOWN: usize = 200;

/// What all canaries share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) config: CanaryConfig,
    pub(super) mark: Mark,
    pub(super) canaries: Arc<Canaries>,
    pub(super) pulse: Arc<Pulse>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) store: Store,
    pub(super) tell: Tell,
}

/// A listener that canaries go through.
pub(super) struct Through {
    pub(super) source: WebhookConfig,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Arc<Tls>>,
}

/// Where a canary was lost, and why.
struct Lost {
    stage: &'static str,
    reason: String,
}

fn lost(stage: &'static str, reason: impl Into<String>) -> Lost {
    Lost { stage, reason: reason.into() }
}

/// Starts a canary for each listener; they begin when `ready` is cancelled, and end with `stop`.
pub(super) fn spawn(
    shared: &Shared,
    listeners: Vec<Through>,
    ready: &CancellationToken,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for through in listeners {
        shared.metrics.prepare_canary(&through.source.name, shared.config.every.0);
        shared.pulse.expect_canary(&through.source.name);
        let mut canary = Canary { shared: shared.clone(), through, waits: None };
        let (ready, stop) = (ready.clone(), stop.clone());
        tasks.spawn(async move {
            stop.run_until_cancelled(async {
                ready.cancelled().await;
                canary.run().await;
            })
            .await;
        });
    }
    tasks
}

struct Canary {
    shared: Shared,
    through: Through,
    /// The alert that the sink did not take in time. No other is sent meanwhile: they would pile up for it.
    waits: Option<String>,
}

impl Canary {
    async fn run(&mut self) {
        let mut telling = self.shared.tell.about(&self.through.source.name);
        let mut wait = FIRST;
        loop {
            sleep(wait).await;
            let arrived = self.send().await;
            wait = self.note(&arrived);
            let arrived = arrived.map(drop).map_err(|lost| format!("lost at `{}`: {}", lost.stage, lost.reason));
            telling.note(&arrived, &self.shared.store).await;
        }
    }

    /// Counts one, and says when the next is due.
    fn note(&self, arrived: &Result<Duration, Lost>) -> Duration {
        let Shared { config, metrics, pulse, .. } = &self.shared;
        let source = &self.through.source.name;
        let label = Source { source: source.clone() };
        match arrived {
            Ok(took) => {
                metrics.canary_success.get_or_create(&label).set(clock::now().as_seconds());
                metrics.canary_round_trip.get_or_create(&label).observe(took.as_secs_f64());
                // Two may fail to come, as long as it takes to find out.
                let good_for = config.every.0 + AGAIN + config.timeout.0 * 2;
                pulse.canary(source, Some(clock::steady() + good_for));
                config.every.0
            }
            Err(lost) => {
                let (source, stage) = (source.clone(), lost.stage.to_owned());
                metrics.canary_failures.get_or_create(&CanaryFailure { source, stage }).inc();
                pulse.canary(&self.through.source.name, None);
                config.every.0.min(AGAIN)
            }
        }
    }

    /// Sends one and awaits it; how long it took.
    async fn send(&mut self) -> Result<Duration, Lost> {
        let (started, deadline) = (Instant::now(), Instant::now() + self.shared.config.timeout.0);
        let sink = self.shared.canaries.sinks().into_iter().next();
        if let (Some(sink), Some(alert)) = (&sink, &self.waits) {
            let progress = self.delivered(sink, alert, deadline).await?;
            self.in_time(sink, progress)?;
        }
        self.waits = None;
        let alert = self.round(deadline).await?;
        if let Some(sink) = &sink {
            let progress = self.delivered(sink, &alert, deadline).await?;
            if progress == Progress::GivenUp {
                return Err(lost("deliver", format!("the sink {sink} refused it, or its outbox is full")));
            }
            self.waits = Some(alert);
            self.in_time(sink, progress)?;
        }
        Ok(started.elapsed())
    }

    /// Sends one and awaits its alert.
    async fn round(&self, deadline: Instant) -> Result<String, Lost> {
        let Shared { canaries, store, mark, .. } = &self.shared;
        let audit_id = event::audit_id().map_err(|error| lost("connect", error))?;
        let awaited = canaries.expect(&audit_id);
        let posted = timeout_at(deadline, self.post(mark.event(&audit_id, clock::now()))).await;
        posted.unwrap_or_else(|_| Err(lost("connect", self.too_long())))?;
        // What it needs is in the journal by now: it comes before this place.
        let place = store.journal_last().await.map_err(|error| lost("correlate", error.to_string()))?;
        match timeout_at(deadline, awaited).await {
            Ok(Ok(alert)) => Ok(alert),
            _ => Err(self.lost_after(place).await),
        }
    }

    async fn post(&self, body: String) -> Result<(), Lost> {
        let client = self.client().map_err(|error| lost("connect", error))?;
        let Through { source, tls, address } = &self.through;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let mut request = client.post(format!("{scheme}://{}/k8s-audit/{CANARY}", reachable(*address))).body(body);
        // Read each time, as the listener does: tokens are replaced while it runs.
        let token = Secret::load(source.bearer_token.as_ref(), source.bearer_token_file.as_ref());
        if let Some(token) = token.map_err(|error| lost("connect", error))? {
            request = request.bearer_auth(token.expose().lines().next().unwrap_or_default().trim());
        }
        let response = request.send().await.map_err(|error| lost("connect", describe(error)))?;
        let status = response.status();
        if status.as_u16() == 200 {
            return Ok(());
        }
        let said = response.text().await.unwrap_or_default();
        Err(lost("answer", shorten(&format!("answered {status}: {}", said.trim()), ANSWER_SHOWN)))
    }

    /// A client for one request: each canary makes its own connection, as one that was kept says nothing about the next.
    fn client(&self) -> Result<reqwest::Client, String> {
        let mut builder = https::builder(self.through.tls.is_none()).no_proxy();
        if let Some(tls) = &self.through.tls {
            let CanaryConfig { client_cert, client_key, .. } = &self.shared.config;
            let client: Option<(&Path, &Path)> = client_cert.as_deref().zip(client_key.as_deref());
            builder = builder.tls_backend_preconfigured(client_config(tls, client)?);
        }
        builder.build().map_err(describe)
    }

    /// Where one is that was acknowledged and made no alert.
    async fn lost_after(&self, place: i64) -> Lost {
        let reached = self.shared.store.cursor().await;
        match reached {
            Ok(cursor) if cursor >= place => lost("detect", "it was correlated, and made no alert"),
            Ok(_) => lost("correlate", format!("correlation did not come to it; {}", self.too_long())),
            Err(error) => lost("correlate", error.to_string()),
        }
    }

    /// What has become of an alert, at the latest when the time is up.
    async fn delivered(&self, sink: &str, alert: &str, deadline: Instant) -> Result<Progress, Lost> {
        loop {
            let progress = self.shared.store.progress(sink, alert).await;
            let progress = progress.map_err(|error| lost("deliver", error.to_string()))?;
            if progress != Progress::Waits || Instant::now() >= deadline {
                return Ok(progress);
            }
            sleep_until(deadline.min(Instant::now() + POLL)).await;
        }
    }

    fn in_time(&self, sink: &str, progress: Progress) -> Result<(), Lost> {
        match progress {
            Progress::Waits => Err(lost("deliver", format!("the sink {sink} did not take it; {}", self.too_long()))),
            Progress::Sent | Progress::GivenUp => Ok(()),
        }
    }

    fn too_long(&self) -> String {
        format!("it took longer than {}", self.shared.config.timeout)
    }
}

/// An address that something can be sent to, of one that may stand for all of them.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// An error and its causes in one line.
fn describe(error: reqwest::Error) -> String {
    let error = anyhow::Error::from(error.without_url());
    shorten(&format!("{error:#}"), ANSWER_SHOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        for (listen, reached) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:2", "[::1]:2"), ("10.0.0.1:3", "10.0.0.1:3")] {
            assert_eq!(reachable(listen.parse().unwrap()).to_string(), reached);
        }
    }
}
