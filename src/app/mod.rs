//! The only place where the parts are wired together: config → build → bind → spawn → drain.
//!
//! Everything that can be wrong is found before anything is bound; everything is bound before anything is spawned. A stop
//! goes the way of the data: sources first, then correlation, then delivery, and the admin listener last of all.

mod canary;
mod files;
mod reload;
mod watch;

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use serde_json::json;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::admin::{self, AdminState, Health, Proxy, Unready};
use crate::clock;
use crate::config::{Config, JournalConfig};
use crate::correlate;
use crate::diagnose::Diagnostic;
use crate::engine::RuleSet;
use crate::metrics::{ClusterLabels, Listener, Metrics, REJECT_REASONS, Rejected, RuleKind, Series};
use crate::pipeline::Ingest;
use crate::pipeline::correlating::Correlating;
use crate::pipeline::rejects::Rejects;
use crate::pipeline::watermarks::Watermarks;
use crate::rule::{self, Loaded};
use crate::source::SourceConfig;
use crate::source::file::Follower;
use crate::source::kafka::{Consumer, Standing, Told};
use crate::source::webhook::{Budget, Webhook};
use crate::store::{Journal, Store, StoreError};
use crate::token::Tokens;
use crate::units::Secret;

use canary::Mark;
use reload::{Delivery, Reloader, Shared};

/// Deliveries that wait when the daemon stops get this long; what is left is sent after the next start.
const FLUSH_MAX: Duration = Duration::from_secs(5);

/// How often it is looked at how the store does.
const HEALTH_EVERY: Duration = Duration::from_millis(500);

/// Where the configuration comes from, so that it can be read again.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The file; without one the defaults.
    pub path: Option<PathBuf>,
    /// Variables laid over it.
    pub environment: Vec<(String, String)>,
    /// Replaces `state_dir`.
    pub state_dir: Option<PathBuf>,
    /// Whether to start with a new state database where the old one is damaged, which is kept.
    pub set_damaged_aside: bool,
}

impl Origin {
    /// Reads and checks the configuration.
    pub fn load(&self) -> Result<Config, Vec<Diagnostic>> {
        let mut environment = self.environment.clone();
        if let Some(dir) = &self.state_dir {
            // The flag wins over the environment, which wins over the file; last of all said is taken.
            environment.retain(|(name, _)| name != "KUBESIREN_STATE_DIR");
            environment.push(("KUBESIREN_STATE_DIR".to_owned(), dir.display().to_string()));
        }
        crate::config::load(self.path.as_deref(), &environment, crate::config::Depth::Files)
    }
}

/// Why the daemon does not run.
#[derive(Debug)]
pub enum StartError {
    /// Mistakes in configuration or rules.
    Findings(Vec<Diagnostic>),
    /// A file, an address, the state directory.
    Other(anyhow::Error),
}

impl From<anyhow::Error> for StartError {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

/// Where the daemon listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The webhooks, in the order of the configuration.
    pub webhooks: Vec<SocketAddr>,
    /// Metrics, health, API and page.
    pub admin: SocketAddr,
}

/// Runs the daemon until `stop`.
pub async fn run(origin: Origin, config: Config, stop: CancellationToken) -> Result<(), StartError> {
    run_telling(origin, config, stop, |_| {}).await
}

/// The same for whoever has to know which ports were free.
pub async fn run_telling(
    origin: Origin,
    config: Config,
    stop: CancellationToken,
    bound: impl FnOnce(Addresses),
) -> Result<(), StartError> {
    let mut daemon = Daemon::build(origin, config, &stop)?;
    let listeners = daemon.bind()?;
    bound(listeners.addresses()?);
    daemon.serve(listeners, stop).await?;
    Ok(())
}

/// Everything that is built before anything is bound.
struct Daemon {
    config: Config,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    store: Store,
    journal: Journal,
    ingest: Ingest,
    reloader: Arc<Reloader>,
    admin_tokens: Option<Arc<Tokens>>,
    reader_tokens: Option<Arc<Tokens>>,
    admin_proxy: Option<Proxy>,
    watermarks: Arc<Watermarks>,
    webhooks: Vec<(SocketAddr, Webhook<Ingest>)>,
    followers: Vec<Follower<Ingest>>,
    consumers: Vec<(String, Consumer<Ingest>)>,
    /// What canaries are known by, where there are any.
    mark: Option<Mark>,
}

/// What has a socket, with its socket.
struct Bound {
    webhooks: Vec<(tokio::net::TcpListener, Webhook<Ingest>)>,
    admin: TcpListener,
}

impl Bound {
    fn addresses(&self) -> anyhow::Result<Addresses> {
        let webhooks = self.webhooks.iter().map(|(listener, _)| listener.local_addr());
        Ok(Addresses { webhooks: webhooks.collect::<Result<_, _>>()?, admin: self.admin.local_addr()? })
    }
}

impl Daemon {
    fn build(origin: Origin, config: Config, stop: &CancellationToken) -> Result<Self, StartError> {
        files::raise(&config);
        let mark = config.canary.as_ref().map(|_| Mark::new()).transpose();
        let mark = mark.map_err(|error| anyhow::anyhow!("canary: {error}"))?;
        let loaded = load_rules(&config, mark.as_ref());
        if loaded.has_errors() {
            return Err(StartError::Findings(loaded.findings));
        }
        let metrics = Arc::new(Metrics::with_clusters(ClusterLabels::new(config.correlation.max_clusters)));
        prepare(&metrics, &config, &loaded);
        let rules = RuleSet::compile(loaded.rules, config.correlation.repeat_after.0);
        let rules = Arc::new(ArcSwap::from_pointee(rules));
        let delivery = Delivery::build(&config).map_err(|wrong| anyhow::anyhow!("{}", wrong.join("\n")))?;
        let store = open_store(&config, origin.set_damaged_aside)
            .with_context(|| format!("state directory {}", config.state_dir.display()))?;
        let journal = journal(&config, &store)?;
        let watermarks = Arc::new(Watermarks::default());
        let rejects = Rejects::new(&config.state_dir);
        let ingest =
            Ingest::new(Arc::clone(&rules), journal.clone(), Arc::clone(&metrics), Arc::clone(&watermarks), rejects);
        let health = Arc::new(Health::starting());
        let Sources { webhooks, followers, consumers } = sources(&config, &ingest, &metrics)?;
        let tokens = |inline: &Option<Secret>, file: &Option<PathBuf>| {
            let tokens = Tokens::load(inline.as_ref(), file.as_ref());
            tokens.map(|tokens| tokens.map(Arc::new)).map_err(|wrong| anyhow::anyhow!("admin: {wrong}"))
        };
        let admin_tokens = tokens(&config.admin.token, &config.admin.token_file)?;
        let reader_tokens = tokens(&config.admin.reader_token, &config.admin.reader_token_file)?;
        let admin_proxy = config.admin.proxy.as_ref().map(Proxy::new).transpose();
        let admin_proxy = admin_proxy.map_err(|wrong| anyhow::anyhow!("admin.proxy: {wrong}"))?;
        let shared = Shared {
            journal: journal.clone(),
            metrics: Arc::clone(&metrics),
            health: Arc::clone(&health),
            stop: stop.clone(),
            mark: mark.clone(),
            canaries: Arc::default(),
            pulse: Arc::default(),
        };
        let reloader = Reloader::new(origin, &config, rules, delivery, shared);
        Ok(Self {
            config,
            metrics,
            health,
            store,
            journal,
            ingest,
            reloader: Arc::new(reloader),
            admin_tokens,
            reader_tokens,
            admin_proxy,
            watermarks,
            webhooks,
            followers,
            consumers,
            mark,
        })
    }

    fn bind(&mut self) -> anyhow::Result<Bound> {
        let listen = |what: &str, address: SocketAddr| {
            let listener = TcpListener::bind(address).with_context(|| format!("{what}: cannot listen on {address}"))?;
            listener.set_nonblocking(true)?;
            // Named in the log because port 0 means any free one.
            tracing::info!(address = %listener.local_addr()?, "{what} listens");
            anyhow::Ok(listener)
        };
        let mut webhooks = Vec::new();
        for (address, webhook) in std::mem::take(&mut self.webhooks) {
            webhooks.push((tokio::net::TcpListener::from_std(listen("webhook", address)?)?, webhook));
        }
        Ok(Bound { webhooks, admin: listen("admin", self.config.admin.listen)? })
    }

    async fn serve(mut self, bound: Bound, stop: CancellationToken) -> anyhow::Result<()> {
        let (stop_admin, stop_sources, stop_correlating) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        // Before anything is correlated, so that nothing is queued for a sink that is gone.
        self.tidy().await?;
        let admin = admin::spawn(bound.admin, self.admin_state(), stop_admin.clone())?;
        self.reloader.start_delivery();
        let ready = CancellationToken::new();
        // Before the start is over: there is no moment in which a source that has not joined looks ready.
        let told = self.standings(!bound.webhooks.is_empty());
        let mut correlating = self.correlating(ready.clone(), stop_correlating.clone());
        let mut canaries = self.canaries(&bound.webhooks, &ready, &stop)?;
        let mut sources = JoinSet::new();
        for (listener, webhook) in bound.webhooks {
            sources.spawn(webhook.run(listener, stop_sources.clone()));
        }
        for follower in self.followers {
            let start = self.store.file_position(follower.key()).await.context("file positions")?;
            sources.spawn(follower.run(start, stop_sources.clone()));
        }
        for ((_, consumer), told) in self.consumers.into_iter().zip(told) {
            sources.spawn(consumer.run(told, stop_sources.clone()));
        }
        let watching = tokio::spawn(watch::watch(Arc::clone(&self.reloader), stop.clone()));
        let health = tokio::spawn(watch_store(
            self.ingest.clone(),
            self.journal.clone(),
            Arc::clone(&self.health),
            stop.clone(),
        ));
        let ended = run_until(&stop, &mut correlating, &mut sources).await;

        tracing::info!("stopping: no more events are taken, what was taken is finished");
        self.health.set(Unready::Draining, "stopping");
        let _ = tokio::join!(watching, health);
        while canaries.join_next().await.is_some() {}
        stop_sources.cancel();
        while sources.join_next().await.is_some() {}
        stop_correlating.cancel();
        if !correlating.is_finished() {
            let _ = correlating.await;
        }
        self.reloader.stop_delivery(FLUSH_MAX).await;
        self.store.close().await;
        stop_admin.cancel();
        let _ = tokio::task::spawn_blocking(move || admin.join()).await;
        tracing::info!("stopped");
        match ended {
            None => Ok(()),
            Some(part) => Err(anyhow::anyhow!("{part} ended by itself")),
        }
    }

    /// Leaves nothing to be delivered that a former run would have delivered, and this one may not.
    async fn tidy(&self) -> anyhow::Result<()> {
        if let Some(store) = self.journal.shared() {
            store.release(None).await.context("deliveries of a former run")?;
        }
        self.reloader.retire_sinks(&self.config).await.context("sinks that are gone")
    }

    /// For each Kafka source what it tells its standing. Until it has joined its group once, the daemon is not ready, unless
    /// there is a webhook: what cannot be reached elsewhere must not keep its events out.
    fn standings(&self, has_webhook: bool) -> Vec<Told> {
        let told = |(number, (name, _)): (usize, &(String, Consumer<Ingest>))| {
            let (health, name) = (Arc::clone(&self.health), name.clone());
            let told: Told = Box::new(move |standing| match standing {
                Standing::Waiting(words) if !has_webhook => {
                    health.set(Unready::Source(number), format!("source {name}: {words}"));
                }
                Standing::Waiting(_) => {}
                Standing::Joined => health.clear(Unready::Source(number)),
            });
            told(Standing::Waiting("connecting".to_owned()));
            told
        };
        self.consumers.iter().enumerate().map(told).collect()
    }

    /// Starts the canaries, as far as they are wanted.
    fn canaries(
        &self,
        bound: &[(tokio::net::TcpListener, Webhook<Ingest>)],
        ready: &CancellationToken,
        stop: &CancellationToken,
    ) -> anyhow::Result<JoinSet<()>> {
        let (Some(config), Some(mark)) = (&self.config.canary, &self.mark) else { return Ok(JoinSet::new()) };
        let shared = canary::Shared {
            config: config.clone(),
            mark: mark.clone(),
            canaries: self.reloader.canaries(),
            pulse: self.reloader.pulse(),
            metrics: Arc::clone(&self.metrics),
            store: self.store.clone(),
            tell: canary::Tell {
                alert: config.alert,
                cluster: self.config.cluster.clone(),
                router: self.reloader.router(),
            },
        };
        let sources = self.config.sources.iter().filter_map(SourceConfig::webhook);
        let listeners = sources.zip(bound).filter(|(source, _)| config.goes_through(&source.name));
        let through = listeners.map(|(source, (listener, webhook))| {
            let (source, address) = (source.clone(), listener.local_addr()?);
            anyhow::Ok(canary::Through { source, address, tls: webhook.tls() })
        });
        Ok(canary::spawn(&shared, through.collect::<Result<_, _>>()?, ready, stop))
    }

    fn correlating(&self, ready: CancellationToken, stop: CancellationToken) -> JoinHandle<()> {
        let correlation = self.config.correlation;
        let correlating = Correlating {
            rules: self.reloader.rules(),
            store: self.store.clone(),
            metrics: Arc::clone(&self.metrics),
            watermarks: Arc::clone(&self.watermarks),
            router: self.reloader.router(),
            limits: correlate::Limits { lateness: correlation.lateness.0, max_keys: correlation.max_keys },
            canaries: self.reloader.canaries(),
            pulse: self.reloader.pulse(),
        };
        let health = Arc::clone(&self.health);
        let rules = self.reloader.rule_count();
        let state_dir = self.config.state_dir.clone();
        let ready = move || {
            health.clear(Unready::Starting);
            ready.cancel();
            tracing::info!(version = env!("CARGO_PKG_VERSION"), rules, state_dir = %state_dir.display(), "ready");
        };
        match &self.journal {
            Journal::Embedded(_) => tokio::spawn(correlating.run(ready, stop)),
            #[cfg(feature = "kafka")]
            Journal::Kafka(journal, _) => {
                let shared = crate::pipeline::shared::Shared { correlating, journal: journal.clone() };
                tokio::spawn(async move {
                    if let Err(words) = shared.run(ready, stop).await {
                        tracing::error!("Kafka: the journal cannot be used: {words}");
                    }
                })
            }
        }
    }

    fn admin_state(&mut self) -> AdminState {
        let [rules, rule, status, reload] = [(); 4].map(|()| Arc::clone(&self.reloader));
        let (ingest, shown) = (self.ingest.clone(), Shown::new(&self.config, &self.metrics));
        AdminState {
            metrics: Arc::clone(&self.metrics),
            health: Arc::clone(&self.health),
            store: self.store.clone(),
            onlookers: self.ingest.onlookers().clone(),
            tokens: self.admin_tokens.clone(),
            reader_tokens: self.reader_tokens.clone(),
            proxy: self.admin_proxy.take(),
            hosts: self.config.admin.names(),
            rules: Box::new(move || rules.rules_view()),
            rule: Box::new(move |id| rule.rule_view(id)),
            status: Box::new(move || {
                let mut view = status.status_view();
                view["newest_events"] = newest_events(&ingest);
                shown.add(&mut view);
                view
            }),
            reload: Box::new(move || {
                let reloader = Arc::clone(&reload);
                Box::pin(async move {
                    let reloaded = tokio::task::spawn_blocking(move || reloader.reload()).await;
                    reloaded.map_err(|error| error.to_string())?.map(|rules| json!({"rules": rules}))
                })
            }),
        }
    }
}

/// Waits for the stop, or for a part that ends before it: it has panicked, and what it did would be missed in silence.
/// Nothing must be acknowledged that nobody looks at, so then everything stops.
async fn run_until(
    stop: &CancellationToken,
    correlating: &mut JoinHandle<()>,
    sources: &mut JoinSet<()>,
) -> Option<&'static str> {
    let part = tokio::select! {
        () = stop.cancelled() => return None,
        _ = correlating => "correlation",
        Some(_) = sources.join_next() => "a source",
    };
    tracing::error!("{part} ended by itself, please report; the daemon stops, what was taken is safe");
    stop.cancel();
    Some(part)
}

/// What the status shows of the metrics.
struct Shown {
    metrics: Arc<Metrics>,
    sources: Vec<String>,
    /// Names of listeners that have a certificate.
    certificates: Vec<String>,
}

impl Shown {
    fn new(config: &Config, metrics: &Arc<Metrics>) -> Self {
        let webhooks = config.sources.iter().filter_map(SourceConfig::webhook);
        Self {
            metrics: Arc::clone(metrics),
            sources: config.sources.iter().map(|source| source.name().to_owned()).collect(),
            certificates: webhooks.filter(|hook| hook.tls.is_some()).map(|hook| hook.name.clone()).collect(),
        }
    }

    fn add(&self, view: &mut serde_json::Value) {
        let metrics = &self.metrics;
        let rejected = self.sources.iter().flat_map(|source| {
            REJECT_REASONS.iter().map(move |reason| {
                let labels = Rejected { source: source.clone(), reason: (*reason).to_owned() };
                let count = metrics.events_rejected.get_or_create(&labels).get();
                json!({"source": source, "reason": reason, "count": count})
            })
        });
        view["rejected"] = rejected.collect();
        let now = clock::now();
        let certificates = self.certificates.iter().map(|listener| {
            let seconds = metrics.certificate_expiry.get_or_create(&Listener { listener: listener.clone() }).get();
            #[expect(clippy::cast_possible_truncation, reason = "a time within this age")]
            let ends = clock::Timestamp((seconds * 1e6) as i64);
            json!({"listener": listener, "ends": ends, "left_seconds": ends.since(now).as_secs()})
        });
        view["certificates"] = certificates.collect();
        view["rule_errors"] = metrics.rule_load_errors.get().into();
    }
}

/// The newest event of each source and cluster that has sent one since the start, and how old it is.
fn newest_events(ingest: &Ingest) -> serde_json::Value {
    let now = clock::now();
    let shown = |(source, cluster, time): (Arc<str>, Arc<str>, clock::Timestamp)| json!({"source": source, "cluster": cluster, "time": time, "age_seconds": now.since(time).as_secs()});
    ingest.newest().all().into_iter().map(shown).collect()
}

/// Loads the rules that a configuration names, and that of canaries, and logs what it names in vain.
fn load_rules(config: &Config, mark: Option<&Mark>) -> Loaded {
    let own = mark.map(|mark| ("<built-in>/canary.yml".to_owned(), mark.rule())).into_iter().collect();
    let loaded = rule::load(&rule::Options { own, ..config.detections.options() });
    // Where a rule could not be read, it may be the one that is meant.
    for unknown in loaded.unknown.iter().filter(|_| !loaded.has_errors()) {
        tracing::warn!("{unknown}");
    }
    loaded
}

/// Where matches go.
fn journal(config: &Config, store: &Store) -> anyhow::Result<Journal> {
    match &config.journal {
        JournalConfig::Embedded(_) => Ok(Journal::Embedded(store.clone())),
        #[cfg(feature = "kafka")]
        JournalConfig::Kafka(kafka) => {
            let journal = crate::store::kafka::Journal::new(kafka);
            Ok(Journal::Kafka(journal.map_err(|wrong| anyhow::anyhow!("journal: {wrong}"))?, store.clone()))
        }
        #[cfg(not(feature = "kafka"))]
        JournalConfig::Kafka(_) => anyhow::bail!("journal: {}", crate::kafka::ABSENT),
    }
}

/// Opens the state database; a damaged one makes way for a new one if it may.
fn open_store(config: &Config, set_damaged_aside: bool) -> Result<Store, StoreError> {
    match Store::open_with(&config.state_dir, config.store_limits()) {
        Err(StoreError::Damaged(found)) if set_damaged_aside => {
            let kept = Store::set_aside(&config.state_dir, clock::now())?;
            tracing::error!(%found, ?kept,
                "the state database is damaged; it is kept aside and a new one is begun: alerts that were not yet delivered are only in the old one");
            Store::open_with(&config.state_dir, config.store_limits())
        }
        opened => opened,
    }
}

/// What the configured sources become.
#[derive(Default)]
struct Sources {
    webhooks: Vec<(SocketAddr, Webhook<Ingest>)>,
    followers: Vec<Follower<Ingest>>,
    consumers: Vec<(String, Consumer<Ingest>)>,
}

fn sources(config: &Config, ingest: &Ingest, metrics: &Arc<Metrics>) -> anyhow::Result<Sources> {
    let budget = Arc::new(Budget::default());
    let mut sources = Sources::default();
    for source in &config.sources {
        let (ingest, metrics) = (ingest.clone(), Arc::clone(metrics));
        let wrong = |wrong: Vec<String>| anyhow::anyhow!("source {}: {}", source.name(), wrong.join("; "));
        match source {
            SourceConfig::Webhook(source) => {
                let webhook = Webhook::new(source, &config.cluster, ingest, metrics, Arc::clone(&budget));
                sources.webhooks.push((source.listen, webhook.map_err(wrong)?));
            }
            SourceConfig::File(source) => {
                sources.followers.push(Follower::new(source, &config.cluster, ingest, metrics));
            }
            SourceConfig::Kafka(source) => {
                let consumer = Consumer::new(source, &config.cluster, ingest, metrics);
                sources.consumers.push((source.name.clone(), consumer.map_err(wrong)?));
            }
        }
    }
    Ok(sources)
}

/// Makes every series that configuration and rules can have.
fn prepare(metrics: &Metrics, config: &Config, loaded: &Loaded) {
    let sources: Vec<&str> = config.sources.iter().map(SourceConfig::name).collect();
    let (mut listeners, mut kafka, mut clusters) = (Vec::new(), Vec::new(), vec![config.cluster.as_str()]);
    for source in &config.sources {
        let cluster = match source {
            SourceConfig::Webhook(webhook) => {
                listeners.push((webhook.name.as_str(), webhook.tls.is_some()));
                &webhook.cluster
            }
            SourceConfig::File(file) => &file.cluster,
            SourceConfig::Kafka(source) => {
                kafka.push(source.name.as_str());
                &source.cluster
            }
        };
        clusters.extend(cluster.as_deref());
    }
    let infos = loaded.rules.rules.iter().map(|rule| &rule.info);
    let infos = infos.chain(loaded.rules.correlations.iter().map(|correlation| &correlation.info));
    let rules: Vec<(&str, &str)> = infos.map(|info| (info.id.as_str(), info.level.as_str())).collect();
    let sinks: Vec<&str> = config.sinks.iter().map(|sink| sink.name.as_str()).collect();
    metrics.prepare(Series {
        sources: &sources,
        listeners: &listeners,
        kafka: &kafka,
        clusters: &clusters,
        rules: &rules,
        rule_kinds: &["rule", "correlation"],
        sinks: &sinks,
    });
    for (kind, count) in [("rule", loaded.rules.rules.len()), ("correlation", loaded.rules.correlations.len())] {
        let gauge = metrics.rules_loaded.get_or_create(&RuleKind { kind: kind.to_owned() });
        gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    metrics.rule_load_errors.set(0);
    metrics.config_last_reload_success.set(1);
}

/// Tells on `/readyz` while nothing can be made durable.
async fn watch_store(ingest: Ingest, journal: Journal, health: Arc<Health>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(HEALTH_EVERY)).await.is_some() {
        if ingest.is_full().await {
            health.set(Unready::JournalFull, "no room in the state directory: batches are refused");
        } else {
            health.clear(Unready::JournalFull);
        }
        match journal.trouble().await {
            Some(words) => health.set(Unready::Database, words),
            None => health.clear(Unready::Database),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_that_ends_by_itself_stops_the_daemon() {
        let endless = || tokio::spawn(std::future::pending());
        let (stop, mut none) = (CancellationToken::new(), JoinSet::new());
        let mut broken = tokio::spawn(async { panic!("a mistake of ours") });
        assert_eq!(run_until(&stop, &mut broken, &mut none).await, Some("correlation"));
        assert!(stop.is_cancelled());

        let (stop, mut sources) = (CancellationToken::new(), JoinSet::new());
        sources.spawn(std::future::pending());
        sources.spawn(async {});
        assert_eq!(run_until(&stop, &mut endless(), &mut sources).await, Some("a source"));
        assert!(stop.is_cancelled());

        let stop = CancellationToken::new();
        stop.cancel();
        let mut sources = JoinSet::new();
        assert_eq!(run_until(&stop, &mut endless(), &mut sources).await, None);
    }
}
