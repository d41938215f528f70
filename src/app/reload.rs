//! Reloading: rules, routes and sinks are read and built aside, then swapped whole; a mistake anywhere keeps what runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::canary::Mark;
use super::{Origin, load_rules, prepare};
use crate::admin::{Health, Unready};
use crate::alert::Alert;
use crate::clock;
use crate::config::Config;
use crate::diagnose::{Diagnostic, Severity};
use crate::engine::RuleSet;
use crate::metrics::Metrics;
use crate::notify;
use crate::notify::route::Routes;
use crate::pipeline::canary::Canaries;
use crate::pipeline::correlating::{Routed, Router, forget_gone};
use crate::pipeline::pulse::Pulse;
#[cfg(feature = "kafka")]
use crate::pipeline::shared::sinks;
use crate::rule::ir::Rules;
use crate::sink::Sink;
use crate::sink::page::Page;
use crate::store::{Journal, Store, StoreError};

/// How long workers may finish what they are sending.
const STOP_MAX: Duration = Duration::from_secs(10);

/// Sinks and routes of one configuration.
pub(super) struct Delivery {
    sinks: Vec<(String, Sink)>,
    router: Router,
}

impl Delivery {
    /// Builds every sink and route; the error lists all that is wrong.
    pub(super) fn build(config: &Config) -> Result<Self, Vec<String>> {
        let (mut sinks, mut wrong) = (Vec::new(), Vec::new());
        let page = Page::new(config.admin.url.as_deref()).unwrap_or_else(|error| {
            wrong.push(error);
            Page::default()
        });
        for sink in &config.sinks {
            match Sink::build_for(sink, &page) {
                Ok(built) => sinks.push((sink.name.clone(), built)),
                Err(error) => wrong.push(format!("sink {}: {error}", sink.name)),
            }
        }
        let names: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
        let routes = match Routes::new(&config.routes, &names) {
            Ok(routes) if wrong.is_empty() => routes,
            Ok(_) => return Err(wrong),
            Err(errors) => {
                wrong.extend(errors);
                return Err(wrong);
            }
        };
        let updated: Vec<String> =
            sinks.iter().filter(|(_, sink)| sink.traits().takes_updates).map(|(name, _)| name.clone()).collect();
        let router: Router = Box::new(move |alert: &Alert| {
            let sinks = routes.sinks_for(alert);
            let updates = sinks.iter().filter(|name| updated.contains(name)).cloned().collect();
            Routed { sinks, updates }
        });
        Ok(Self { sinks, router })
    }
}

/// Workers that run, and how to stop them.
struct Running {
    workers: JoinSet<()>,
    cancel: CancellationToken,
}

/// What a reload shares with the rest of the daemon.
pub(super) struct Shared {
    pub(super) journal: Journal,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Arc<Health>,
    /// Cancelled when the daemon is stopping: nothing is started any more.
    pub(super) stop: CancellationToken,
    /// What canaries are known by: their rule stays the same.
    pub(super) mark: Option<Mark>,
    pub(super) canaries: Arc<Canaries>,
    pub(super) pulse: Arc<Pulse>,
}

/// Holds what a reload may swap.
pub(super) struct Reloader {
    origin: Origin,
    rules: Arc<ArcSwap<RuleSet>>,
    router: Arc<ArcSwap<Router>>,
    store: Store,
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "only one in Kafka shares deliveries"))]
    journal: Journal,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    runtime: tokio::runtime::Handle,
    /// The configuration in use.
    config: Mutex<Config>,
    /// Sinks that wait to be started.
    built: Mutex<Vec<(String, Sink)>>,
    running: Mutex<Option<Running>>,
    /// One reload at a time.
    reloading: Mutex<()>,
    stop: CancellationToken,
    mark: Option<Mark>,
    canaries: Arc<Canaries>,
    pulse: Arc<Pulse>,
}

impl Reloader {
    pub(super) fn new(
        origin: Origin,
        config: &Config,
        rules: Arc<ArcSwap<RuleSet>>,
        delivery: Delivery,
        shared: Shared,
    ) -> Self {
        let Shared { journal, metrics, health, stop, mark, canaries, pulse } = shared;
        canaries.set_sink(canary_sink(config));
        Self {
            origin,
            rules,
            router: Arc::new(ArcSwap::from_pointee(delivery.router)),
            store: journal.store().clone(),
            journal,
            metrics,
            health,
            stop,
            mark,
            canaries,
            pulse,
            runtime: tokio::runtime::Handle::current(),
            config: Mutex::new(config.clone()),
            built: Mutex::new(delivery.sinks),
            running: Mutex::new(None),
            reloading: Mutex::new(()),
        }
    }

    pub(super) fn rules(&self) -> Arc<ArcSwap<RuleSet>> {
        Arc::clone(&self.rules)
    }

    pub(super) fn canaries(&self) -> Arc<Canaries> {
        Arc::clone(&self.canaries)
    }

    pub(super) fn pulse(&self) -> Arc<Pulse> {
        Arc::clone(&self.pulse)
    }

    /// Rules and correlations that run now.
    pub(super) fn rule_count(&self) -> usize {
        let rules = self.rules.load();
        rules.rules().len() + rules.loaded().correlations.len()
    }

    pub(super) fn router(&self) -> Arc<ArcSwap<Router>> {
        Arc::clone(&self.router)
    }

    /// Gives up what waits for sinks that this configuration does not have.
    pub(super) async fn retire_sinks(&self, config: &Config) -> Result<(), StoreError> {
        let names: Vec<String> = config.sinks.iter().map(|sink| sink.name.clone()).collect();
        let retired = self.store.retire_sinks(&names).await?;
        if retired > 0 {
            tracing::warn!(deliveries = retired, "these waited for sinks that are gone; they are kept as dead letters");
        }
        Ok(())
    }

    /// Starts the workers of the sinks that were built last.
    pub(super) fn start_delivery(&self) {
        let sinks = std::mem::take(&mut *lock(&self.built));
        // Looked at behind the lock: `stop_delivery` comes after the cancelling, so it finds what is started here.
        let mut running = lock(&self.running);
        if self.stop.is_cancelled() {
            return;
        }
        let cancel = CancellationToken::new();
        let _entered = self.runtime.enter();
        #[cfg(feature = "kafka")]
        let names: Vec<String> = sinks.iter().map(|(name, _)| name.clone()).collect();
        #[cfg_attr(not(feature = "kafka"), expect(unused_mut, reason = "nobody else delivers"))]
        let mut workers = notify::spawn(sinks, &self.store, &self.metrics, &self.pulse, &cancel);
        #[cfg(feature = "kafka")]
        if let Journal::Kafka(journal, store) = &self.journal {
            for name in names {
                workers.spawn(sinks::take_part(journal.clone(), store.clone(), name, cancel.clone()));
            }
        }
        *running = Some(Running { workers, cancel });
    }

    /// Lets the workers send what is due for at most `flush`, then stops them.
    pub(super) async fn stop_delivery(&self, flush: Duration) {
        let Some(running) = lock(&self.running).take() else { return };
        let names: Vec<String> = lock(&self.config).sinks.iter().map(|sink| sink.name.clone()).collect();
        let _ = tokio::time::timeout(flush, self.flushed(&names)).await;
        stop(running).await;
    }

    /// Resolves when nothing that could be sent at once waits for any sink.
    async fn flushed(&self, sinks: &[String]) {
        for sink in sinks {
            while let Ok(due) = self.store.due(sink, clock::now(), 1).await {
                if due.is_empty() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    /// Reads everything again. `Ok` is the number of rules that run now; an error says what was wrong, and what ran goes
    /// on running. Blocks: rules are compiled.
    pub(super) fn reload(&self) -> Result<usize, String> {
        let _one_at_a_time = lock(&self.reloading);
        if self.stop.is_cancelled() {
            return Err("the daemon is stopping".to_owned());
        }
        match self.try_reload() {
            Ok(rules) => {
                self.health.clear(Unready::ReloadFailed);
                tracing::info!(rules, "reloaded");
                Ok(rules)
            }
            Err(wrong) => {
                self.metrics.config_last_reload_success.set(0);
                let words = wrong.join("\n");
                self.health.set(Unready::ReloadFailed, format!("the last reload failed, the old set runs on: {words}"));
                tracing::error!(mistakes = wrong.len(), "reload failed, the old set runs on: {words}");
                Err(words)
            }
        }
    }

    fn try_reload(&self) -> Result<usize, Vec<String>> {
        let config = self.origin.load().map_err(|findings| say(&findings))?;
        let loaded = load_rules(&config, self.mark.as_ref());
        let errors = loaded.findings.iter().filter(|finding| finding.severity == Severity::Error).count();
        self.metrics.rule_load_errors.set(i64::try_from(errors).unwrap_or(i64::MAX));
        if errors > 0 {
            return Err(say(&loaded.findings));
        }
        let delivery = Delivery::build(&config)?;
        let rules = loaded.rules.rules.len() + loaded.rules.correlations.len();
        let running = lock(&self.config).clone();
        let sinks_changed = shown(&running.sinks) != shown(&config.sinks) || running.admin.url != config.admin.url;
        if sinks_changed {
            // The one step that can fail comes first. New sinks are known before anything is routed to them.
            self.runtime.block_on(self.retire_sinks(&config)).map_err(|error| vec![error.to_string()])?;
        }
        prepare(&self.metrics, &config, &loaded);
        let compiled = Arc::new(RuleSet::compile(loaded.rules, config.correlation.repeat_after.0));
        let replaced = self.rules.swap(Arc::clone(&compiled));
        // Correlating does the same when it goes over to the new set, but a set may be gone before it is ever taken up.
        forget_gone(&self.metrics, &replaced, &compiled);
        self.router.store(Arc::new(delivery.router));
        self.canaries.set_sink(canary_sink(&config));
        warn_of_restart(&running, &config);
        if sinks_changed || secrets_may_differ(&config) {
            self.replace_sinks(delivery.sinks, &running);
        }
        // Held for no longer than this: probes wait for who shows the configuration.
        *lock(&self.config) = config;
        Ok(rules)
    }

    /// Stops the old workers, then starts new ones: two workers of one sink would send things twice.
    fn replace_sinks(&self, sinks: Vec<(String, Sink)>, before: &Config) {
        let gone = before.sinks.iter().filter(|sink| sinks.iter().all(|(name, _)| *name != sink.name));
        let gone: Vec<&str> = gone.map(|sink| sink.name.as_str()).collect();
        *lock(&self.built) = sinks;
        let old = lock(&self.running).take();
        if let Some(old) = old {
            self.runtime.block_on(stop(old));
        }
        gone.into_iter().for_each(|name| self.metrics.forget_sink(name));
        self.start_delivery();
    }

    /// `/api/v1/rules`.
    pub(super) fn rules_view(&self) -> Value {
        let rules = self.rules.load();
        let loaded = rules.loaded();
        let alerting = loaded.alerting();
        let single = loaded.rules.iter().map(|rule| {
            json!({"id": rule.info.id, "title": rule.info.title, "level": rule.info.level, "tags": rule.info.tags,
                "kind": "rule", "alerts": alerting.get(rule.info.id.as_str()), "file": rule.file})
        });
        let correlations = loaded.correlations.iter().map(|rule| {
            json!({"id": rule.info.id, "title": rule.info.title, "level": rule.info.level, "tags": rule.info.tags,
                "kind": rule.kind.as_str(), "alerts": alerting.get(rule.info.id.as_str()), "file": rule.file})
        });
        single.chain(correlations).collect()
    }

    /// `/api/v1/rules/{id}`: a rule as it is written.
    pub(super) fn rule_view(&self, id: &str) -> Option<Value> {
        let rules = self.rules.load();
        let loaded = rules.loaded();
        if let Some(rule) = loaded.rules.iter().find(|rule| rule.info.id == id) {
            return Some(json!({
                "id": id, "title": rule.info.title, "level": rule.info.level, "kind": "event", "file": rule.file,
                "members": [], "text": rule.text.as_ref()
            }));
        }
        let rule = loaded.correlations.iter().find(|rule| rule.info.id == id)?;
        // What a correlation is made of: filters are for rules about single events.
        let members: Vec<&str> = rule.rules.iter().map(AsRef::as_ref).collect();
        Some(json!({
            "id": id, "title": rule.info.title, "level": rule.info.level, "kind": rule.kind.as_str(), "file": rule.file,
            "members": members, "any": rule.any.is_some(), "counts": rule.kind.counts(), "least": rule.kind.least(),
            "text": rule.text.as_ref()
        }))
    }

    /// What `/api/v1/status` shows of the configuration.
    pub(super) fn status_view(&self) -> Value {
        let config = lock(&self.config);
        let rules = self.rules.load();
        json!({
            "cluster": config.cluster,
            "state_dir": config.state_dir,
            "rules": rules.rules().len(),
            "correlations": rules.loaded().correlations.len(),
            "rule_set": version(rules.loaded()),
            "sinks": config.sinks.iter().map(|sink| &sink.name).collect::<Vec<_>>(),
        })
    }

    /// Files whose change asks for a reload.
    pub(super) fn watched(&self) -> Vec<std::path::PathBuf> {
        let config = lock(&self.config);
        self.origin.path.iter().chain(&config.detections.paths).cloned().collect()
    }
}

/// Stops workers. One that does not end in time is cut off: it gets no further than where it waits, so another may take
/// its place; what it was sending is sent again, which is better than never.
async fn stop(mut running: Running) {
    running.cancel.cancel();
    let ended = async { while running.workers.join_next().await.is_some() {} };
    if tokio::time::timeout(STOP_MAX, ended).await.is_err() {
        let workers = running.workers.len();
        tracing::warn!(
            workers,
            "sinks did not stop in time and were cut off; what they were sending may be sent twice"
        );
        running.workers.abort_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn say(findings: &[Diagnostic]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

/// A part of the configuration as text; secrets show as `[redacted]`.
fn shown(part: &impl serde::Serialize) -> String {
    serde_json::to_string(part).unwrap_or_default()
}

/// Secrets print alike, so sinks that hold one are started anew at every reload.
fn secrets_may_differ(config: &Config) -> bool {
    let text = shown(&config.sinks);
    text.contains("[redacted]") || text.contains("_file\"")
}

/// The same for the same rules, whoever loads them.
fn version(rules: &Rules) -> String {
    let mut hasher = blake3::Hasher::new();
    let single = rules.rules.iter().map(|rule| (&rule.info, &rule.text, rule.fingerprint));
    let all = single.chain(rules.correlations.iter().map(|rule| (&rule.info, &rule.text, rule.fingerprint)));
    for (info, text, fingerprint) in all {
        // Filters and placeholders change the fingerprint, the configuration the level.
        hasher.update(text.as_bytes()).update(&fingerprint.to_le_bytes()).update(info.level.as_str().as_bytes());
    }
    hasher.finalize().to_hex()[..12].to_owned()
}

fn canary_sink(config: &Config) -> Option<&str> {
    config.canary.as_ref()?.sink.as_deref()
}

/// Some settings are bound when the daemon starts.
fn warn_of_restart(old: &Config, new: &Config) {
    for part in waits_for_restart(old, new) {
        tracing::warn!(part, "this part of the configuration changed; it takes effect after a restart");
    }
}

fn waits_for_restart(old: &Config, new: &Config) -> Vec<&'static str> {
    let parts = [
        ("sources", shown(&old.sources) != shown(&new.sources)),
        ("admin", shown(&old.admin) != shown(&new.admin)),
        ("state_dir", old.state_dir != new.state_dir),
        ("canary", shown(&old.canary) != shown(&new.canary)),
        ("journal", shown(&old.journal) != shown(&new.journal)),
        ("log", shown(&old.log) != shown(&new.log)),
        ("cluster", old.cluster != new.cluster),
        ("correlation.lateness", old.correlation.lateness.0 != new.correlation.lateness.0),
        ("correlation.max_keys", old.correlation.max_keys != new.correlation.max_keys),
        ("correlation.max_clusters", old.correlation.max_clusters != new.correlation.max_clusters),
    ];
    parts.into_iter().filter(|(_, changed)| *changed).map(|(part, _)| part).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::Kind;
    use crate::sink::samples;
    use crate::store::{Change, Commit};

    fn configure(dir: &std::path::Path, sinks: &[&str]) {
        let sink = |name: &&str| format!("{{name: {name}, type: webhook, url: 'http://127.0.0.1:1/'}}");
        let sinks = sinks.iter().map(sink).collect::<Vec<_>>().join(", ");
        std::fs::write(dir.join("config.yaml"), format!("detections: {{builtin: false}}\nsinks: [{sinks}]\n")).unwrap();
    }

    fn reloader(dir: &std::path::Path, store: &Store, stop: &CancellationToken) -> Arc<Reloader> {
        let path = Some(dir.join("config.yaml"));
        let origin =
            Origin { path, environment: Vec::new(), state_dir: Some(dir.join("state")), set_damaged_aside: false };
        let config = origin.load().unwrap();
        let rules = Arc::new(ArcSwap::from_pointee(RuleSet::compile(load_rules(&config, None).rules, Duration::ZERO)));
        let delivery = Delivery::build(&config).unwrap();
        let (metrics, health) = (Arc::new(Metrics::new()), Arc::new(Health::starting()));
        let shared = Shared {
            journal: store.clone().into(),
            metrics,
            health,
            stop: stop.clone(),
            mark: None,
            canaries: Arc::default(),
            pulse: Arc::default(),
        };
        Arc::new(Reloader::new(origin, &config, rules, delivery, shared))
    }

    async fn reload(reloader: &Arc<Reloader>) -> Result<usize, String> {
        let reloader = Arc::clone(reloader);
        tokio::task::spawn_blocking(move || reloader.reload()).await.unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nothing_is_left_of_a_sink_that_a_reload_removes() {
        let dir = tempfile::tempdir().unwrap();
        let (store, stop) = (Store::open(&dir.path().join("state")).unwrap(), CancellationToken::new());
        configure(dir.path(), &["stays", "goes"]);
        let reloader = reloader(dir.path(), &store, &stop);
        reloader.start_delivery();
        let alert = samples::alert("a", "r", crate::alert::Level::High);
        let sinks = vec!["stays".to_owned(), "goes".to_owned()];
        let changes = vec![Change { alert, kind: Kind::Firing, sinks }];
        store.commit(Commit { cursor: 1, changes, ..Commit::default() }).await.unwrap();

        configure(dir.path(), &["stays"]);
        assert_eq!(reload(&reloader).await, Ok(0));
        let backlog = store.backlog("goes").await.unwrap();
        assert_eq!((backlog.records, backlog.dead), (0, 1));
        assert_eq!(store.backlog("stays").await.unwrap().records, 1);
        assert_eq!(reloader.status_view()["sinks"], json!(["stays"]));
        let text = reloader.metrics.encode();
        assert!(text.contains("kubesiren_outbox_records{sink=\"stays\"}"), "{text}");
        assert!(!text.contains("kubesiren_outbox_records{sink=\"goes\"}"), "{text}");
        assert!(!text.contains("kubesiren_outbox_oldest_seconds{sink=\"goes\"}"), "{text}");
        assert!(text.contains("kubesiren_deliveries_total{sink=\"goes\""), "counters stay: {text}");
        stop.cancel();
        reloader.stop_delivery(Duration::ZERO).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_daemon_that_stops_takes_no_reload_and_starts_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (store, stop) = (Store::open(&dir.path().join("state")).unwrap(), CancellationToken::new());
        configure(dir.path(), &["one"]);
        let reloader = reloader(dir.path(), &store, &stop);
        reloader.start_delivery();
        stop.cancel();
        reloader.stop_delivery(Duration::ZERO).await;
        assert_eq!(reload(&reloader).await, Err("the daemon is stopping".to_owned()));
        reloader.start_delivery();
        assert!(lock(&reloader.running).is_none());
    }

    #[test]
    fn what_a_reload_does_not_change_is_said() {
        let (old, mut new) = (Config::default(), Config::default());
        assert!(waits_for_restart(&old, &new).is_empty());
        new.correlation.lateness.0 += Duration::from_secs(1);
        new.correlation.repeat_after.0 += Duration::from_secs(1);
        new.correlation.max_keys += 1;
        new.correlation.max_clusters += 1;
        let expected = ["correlation.lateness", "correlation.max_keys", "correlation.max_clusters"];
        assert_eq!(waits_for_restart(&old, &new), expected);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_does_not_stop_is_cut_off() {
        let mut workers = JoinSet::new();
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        workers.spawn(async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        stop(Running { workers, cancel: CancellationToken::new() }).await;
        assert!(ended.await.is_err(), "it is gone");
    }
}
