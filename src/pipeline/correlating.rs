//! From the journal to the outbox: reads batches in order, correlates them, and writes alerts, deliveries and the cursor
//! in one transaction. After a crash the same batches give the same alerts, which the store knows already.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;

use super::canary::{Canaries, cover, is_canary};
use super::pulse::Pulse;
use super::watermarks::Watermarks;
use crate::alert::{Alert, Kind, Level};
use crate::clock::{self, Timestamp};
use crate::correlate::{self, Correlator, Limits};
use crate::engine::RuleSet;
use crate::metrics::{AlertLabels, LevelLabel, Metrics, Rule, Source, What};
use crate::store::{self, Commit, Store, StoreError};

/// Batches that are correlated in one transaction.
const BATCHES: usize = 256;

/// How often event time is looked at while nothing arrives.
pub(super) const TICK: Duration = Duration::from_secs(1);

/// How often old records are removed.
pub(super) const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// Before trying again after the store failed.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// Which sinks hear of an alert.
pub type Router = Box<dyn Fn(&Alert) -> Routed + Send + Sync>;

/// The sinks of one alert.
#[derive(Clone, Debug, Default)]
pub struct Routed {
    /// Those that are told when it fires, and so when it ends.
    pub sinks: Vec<String>,
    /// Those of them that can show it grow.
    pub updates: Vec<String>,
}

/// The task that correlates.
pub struct Correlating {
    /// The rule set in use; a new one is taken up before the next batch.
    pub rules: Arc<ArcSwap<RuleSet>>,
    /// The store.
    pub store: Store,
    /// Metrics.
    pub metrics: Arc<Metrics>,
    /// How far event time has come.
    pub watermarks: Arc<Watermarks>,
    /// Which sinks hear of an alert; swapped by a reload.
    pub router: Arc<ArcSwap<Router>>,
    /// Bounds.
    pub limits: Limits,
    /// The canaries that are on their way.
    pub canaries: Arc<Canaries>,
    /// Told of every step that ends well.
    pub pulse: Arc<Pulse>,
}

impl Correlating {
    /// Rebuilds the windows from the journal, then correlates until `shutdown`; `ready` is told when the past is
    /// rebuilt. What was acknowledged before the end is still correlated.
    pub async fn run(self, ready: impl FnOnce(), shutdown: CancellationToken) {
        let Some((mut correlator, mut cursor)) = self.rebuild_until(&shutdown).await else { return };
        ready();
        // Soon: a daemon that never lives for a minute would fill the disk, and one on a full disk lives on what goes.
        let (mut pruned, mut gauged) = (Timestamp::MIN, Timestamp::MIN);
        let mut running = correlator.rules();
        loop {
            let stopping = shutdown.is_cancelled();
            let loaded = self.rules.load_full();
            if !Arc::ptr_eq(&running, &loaded) {
                forget_gone(&self.metrics, &running, &loaded); // From here on nothing brings them back.
                running = Arc::clone(&loaded);
                correlator.reload(loaded);
            }
            let stepped = self.step(&mut correlator, cursor).await;
            if stepped.is_ok() {
                self.pulse.correlated(clock::steady());
            }
            match stepped {
                // Everything acknowledged is correlated: now the task may end.
                Ok(reached) if stopping && reached == cursor => return,
                Ok(reached) if reached > cursor => cursor = reached,
                Ok(_) => {
                    let wait = self.store.appended_after(cursor, TICK);
                    shutdown.run_until_cancelled(wait).await;
                }
                Err(StoreError::Closed) => return,
                Err(error) => {
                    // The correlator has seen the batches, but the store has not: only a rebuild makes them one again.
                    tracing::error!(%error, "alerts could not be written; trying again");
                    shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
                    if stopping {
                        return;
                    }
                    let Some(rebuilt) = self.rebuild_until(&shutdown).await else { return };
                    (correlator, cursor) = rebuilt;
                    running = correlator.rules();
                }
            }
            let now = clock::now();
            if now.apart(gauged) >= TICK {
                gauged = now;
                self.gauges(&correlator).await;
            }
            if now.apart(pruned) > PRUNE_EVERY {
                pruned = now;
                self.prune(now).await;
            }
        }
    }

    /// Correlates what is in the journal after the cursor, and what time has decided. Returns the new cursor.
    async fn step(&self, correlator: &mut Correlator, cursor: i64) -> Result<i64, StoreError> {
        // Looked at before the journal: what is acknowledged later must not be overtaken by its own time.
        let times = self.watermarks.at(clock::steady());
        let batches = self.store.journal_after(cursor, BATCHES).await?;
        let reached = batches.last().map_or(cursor, |batch| batch.seq);
        for batch in &batches {
            correlator.take(&batch.matches, Some(batch.received));
        }
        // Event time goes on only when everything before it has been correlated.
        if batches.len() < BATCHES {
            for (cluster, time) in times {
                correlator.advance(&cluster, time);
            }
        }
        let changes = correlator.drain();
        let baselines = correlator.drain_baselines();
        if reached > cursor || !changes.is_empty() || !baselines.is_empty() {
            let routed = changes.iter().cloned().map(|change| self.routed(change)).collect();
            self.store.commit(Commit { cursor: reached, changes: routed, baselines }).await?;
        }
        self.count(correlator.take_stats(), &changes);
        changes.iter().for_each(|change| self.canaries.committed(&change.alert));
        Ok(reached)
    }

    pub(super) fn routed(&self, change: correlate::Change) -> store::Change {
        let correlate::Change { kind, mut alert } = change;
        if is_canary(&alert) {
            cover(&mut alert);
            return store::Change { alert, kind, sinks: self.canaries.sinks() };
        }
        let Routed { sinks, updates } = (self.router.load())(&alert);
        let sinks = if kind == Kind::Update { updates } else { sinks };
        store::Change { alert, kind, sinks }
    }

    /// Counts what a step came to.
    pub(super) fn count(&self, stats: correlate::Stats, changes: &[correlate::Change]) {
        for (rule, count) in stats.matches {
            self.metrics.matches.get_or_create(&Rule { rule: rule.to_string() }).inc_by(count);
        }
        for (source, count) in stats.duplicates {
            self.metrics.events_duplicate.get_or_create(&Source { source: source.to_string() }).inc_by(count);
        }
        for (source, count) in stats.late {
            self.metrics.events_late.get_or_create(&Source { source: source.to_string() }).inc_by(count);
        }
        for (rule, count) in stats.evictions {
            self.metrics.window_evictions.get_or_create(&Rule { rule }).inc_by(count);
        }
        for (rule, count) in stats.overfull {
            self.metrics.window_overfull.get_or_create(&Rule { rule }).inc_by(count);
        }
        for (what, count) in stats.bounds {
            self.metrics.correlation_bounds.get_or_create(&What { what: what.to_owned() }).inc_by(count);
        }
        let now = clock::now();
        let of_people = |change: &&correlate::Change| change.kind == Kind::Firing && !is_canary(&change.alert);
        for change in changes.iter().filter(of_people) {
            let alert = &change.alert;
            let labels = AlertLabels {
                rule: alert.rule.id.clone(),
                level: alert.rule.level.as_str().to_owned(),
                cluster: self.metrics.clusters.label(&alert.cluster).to_string(),
            };
            self.metrics.alerts.get_or_create(&labels).inc();
            self.metrics.detection_latency.observe(now.since(alert.time).as_secs_f64());
        }
    }

    /// Shows what these correlators hold.
    pub(super) fn show<'c>(&self, correlators: impl Iterator<Item = &'c Correlator>) {
        let mut keys: BTreeMap<&str, usize> = BTreeMap::new();
        let mut firing = [0; Level::ALL.len()];
        for correlator in correlators {
            for (rule, count) in correlator.keys() {
                *keys.entry(rule).or_default() += count;
            }
            firing.iter_mut().zip(correlator.firing()).for_each(|(sum, count)| *sum += count);
        }
        for (rule, count) in keys {
            let gauge = self.metrics.window_keys.get_or_create(&Rule { rule: rule.to_owned() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        for (level, count) in Level::ALL.into_iter().zip(firing) {
            let labels = LevelLabel { level: level.as_str().to_owned() };
            self.metrics.alerts_firing.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    async fn gauges(&self, correlator: &Correlator) {
        self.show(std::iter::once(correlator));
        if let Ok(backlog) = self.store.journal_backlog().await {
            self.metrics.journal_records.set(i64::try_from(backlog).unwrap_or(i64::MAX));
        }
    }

    /// Retries the rebuild until it succeeds; `None` when told to stop.
    async fn rebuild_until(&self, shutdown: &CancellationToken) -> Option<(Correlator, i64)> {
        loop {
            match self.rebuild().await {
                Ok(rebuilt) => return Some(rebuilt),
                Err(StoreError::Closed) => return None,
                Err(error) => tracing::error!(%error, "the windows could not be rebuilt; trying again"),
            }
            shutdown.run_until_cancelled(tokio::time::sleep(PAUSE)).await?;
        }
    }

    /// Reads what is kept of the journal before the cursor again, silently, and takes over the alerts that are firing.
    async fn rebuild(&self) -> Result<(Correlator, i64), StoreError> {
        let rules = self.rules.load_full();
        let cursor = self.store.cursor().await?;
        let mut at = 0;
        let mut correlator = Correlator::new(rules, self.limits);
        correlator.rebuild(self.store.baselines().await?);
        while at < cursor {
            let batches = self.store.journal_after(at, BATCHES).await?;
            let Some(last) = batches.last() else { break };
            at = last.seq;
            for batch in batches.iter().take_while(|batch| batch.seq <= cursor) {
                correlator.take(&batch.matches, Some(batch.received));
                correlator.drain();
            }
        }
        correlator.adopt(&self.store.firing().await?);
        let (now, steady) = (clock::now(), clock::steady());
        for (cluster, time) in correlator.watermarks() {
            self.watermarks.seen(cluster, time, now, steady);
        }
        Ok((correlator, cursor))
    }

    /// How far back the journal can still matter: the longest window, twice because an episode may have begun in one and
    /// go on in the next, and what comes late.
    #[must_use]
    pub fn reach(&self, rules: &RuleSet) -> Duration {
        rules.longest_window() * 2 + self.limits.lateness * 2
    }

    pub(super) async fn prune(&self, now: Timestamp) {
        // Back from the newest record, not from now: however long the daemon was down or its sources silent, the windows
        // before that record are still open in event time.
        let newest = match self.store.journal_newest().await {
            Ok(newest) => newest.unwrap_or(now),
            Err(error) => return tracing::warn!(%error, "old records could not be removed"),
        };
        let keep_from = newest.minus(self.reach(&self.rules.load()));
        if let Err(error) = self.store.prune(now, keep_from).await {
            tracing::warn!(%error, "old records could not be removed");
        }
    }
}

/// Drops the gauges of rules that are in `old` and not in `new`.
pub fn forget_gone(metrics: &Metrics, old: &RuleSet, new: &RuleSet) {
    for gone in ids(old).difference(&ids(new)) {
        metrics.forget_rule(gone);
    }
}

fn ids(rules: &RuleSet) -> BTreeSet<&str> {
    let loaded = rules.loaded();
    let single = loaded.rules.iter().map(|rule| rule.info.id.as_str());
    single.chain(loaded.correlations.iter().map(|rule| rule.info.id.as_str())).collect()
}
