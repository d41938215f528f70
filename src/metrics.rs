//! Every metric of the daemon in one struct, all series at zero from the start, added to once per batch.
//!
//! Labels come from configuration and rules only, never from events. The one exception, cluster names in a webhook's
//! path, goes through [`ClusterLabels`], which bounds them. Names carry the prefix `kubesiren_`; only the four of the
//! process (`process_cpu_seconds_total` and its like) have none, because every dashboard knows them by that name.

use std::collections::HashSet;
use std::fmt::{self, Write as _};
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

macro_rules! labels {
    ($(#[$doc:meta] $name:ident { $($field:ident),* })*) => { $(
        #[$doc]
        #[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
        #[allow(missing_docs, reason = "the field is the label's name")]
        pub struct $name { $(pub $field: String),* }
    )* };
}

labels! {
    /// Labels of series per source and cluster.
    SourceCluster { source, cluster }
    /// Labels of series per source.
    Source { source }
    /// Labels of rejected events.
    Rejected { source, reason }
    /// Labels of HTTP requests.
    Request { source, code }
    /// Labels of series per rule.
    Rule { rule }
    /// Labels of alerts.
    AlertLabels { rule, level, cluster }
    /// Labels of series per level.
    LevelLabel { level }
    /// Labels of series per sink.
    SinkLabel { sink }
    /// Labels of deliveries.
    DeliveryLabels { sink, result }
    /// Labels of loaded rules.
    RuleKind { kind }
    /// Labels of bounds.
    Bound { source, bound }
    /// Labels of canaries that failed.
    CanaryFailure { source, stage }
    /// Labels of the bounds of correlation.
    What { what }
    /// Labels of listeners.
    Listener { listener }
    /// Labels of a topic's partition.
    PartitionLabels { source, topic, partition }
    /// The version label.
    Build { version }
}

/// A gauge in seconds or bytes.
pub type FloatGauge = Gauge<f64, AtomicU64>;

/// Buckets for latencies from half a millisecond to half a minute.
#[derive(Clone, Copy, Debug)]
pub struct Seconds;

impl MetricConstructor<Histogram> for Seconds {
    fn new_metric(&self) -> Histogram {
        Histogram::new([0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0])
    }
}

macro_rules! metrics {
    ($($field:ident: $type:ty, $name:literal, $help:literal;)*) => {
        /// The daemon's metrics; names are those of the public interface, with the prefix `kubesiren_`.
        #[allow(missing_docs, reason = "each field's help text says it")]
        pub struct Metrics { registry: Registry, process: Registry, pub clusters: ClusterLabels, $(pub $field: $type,)* }

        impl Metrics {
            /// All metrics, registered.
            #[must_use]
            pub fn new() -> Self {
                Self::with_clusters(ClusterLabels::default())
            }

            /// The same with another bound on cluster labels.
            #[must_use]
            pub fn with_clusters(clusters: ClusterLabels) -> Self {
                let mut registry = Registry::with_prefix("kubesiren");
                $(let $field = <$type as NewMetric>::new_metric(); registry.register($name, $help, $field.clone());)*
                let mut process = Registry::default();
                process.register_collector(Box::new(Process));
                let metrics = Self { registry, process, clusters, $($field,)* };
                metrics.build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION").to_owned() }).set(1);
                metrics
            }
        }
    };
}

/// How each kind of metric starts.
trait NewMetric: Clone {
    fn new_metric() -> Self;
}
impl NewMetric for Counter {
    fn new_metric() -> Self {
        Self::default()
    }
}
impl NewMetric for Gauge<i64, AtomicI64> {
    fn new_metric() -> Self {
        Self::default()
    }
}
impl NewMetric for FloatGauge {
    fn new_metric() -> Self {
        Self::default()
    }
}
impl NewMetric for Histogram {
    fn new_metric() -> Self {
        MetricConstructor::new_metric(&Seconds)
    }
}
impl<L: Clone + std::hash::Hash + Eq> NewMetric for Family<L, Counter> {
    fn new_metric() -> Self {
        Self::default()
    }
}
impl<L: Clone + std::hash::Hash + Eq> NewMetric for Family<L, Gauge> {
    fn new_metric() -> Self {
        Self::default()
    }
}
impl<L: Clone + std::hash::Hash + Eq> NewMetric for Family<L, FloatGauge> {
    fn new_metric() -> Self {
        Self::default()
    }
}
impl<L: Clone + std::hash::Hash + Eq> NewMetric for Family<L, Histogram, Seconds> {
    fn new_metric() -> Self {
        Self::new_with_constructor(Seconds)
    }
}

// A counter's name gets `_total` appended by the encoder.
metrics! {
    events: Family<SourceCluster, Counter>, "events", "Good events taken";
    event_bytes: Family<Source, Counter>, "event_bytes", "Bytes of events taken, after decompression";
    events_rejected: Family<Rejected, Counter>, "events_rejected", "Events refused one by one, kept in the rejects file";
    events_duplicate: Family<Source, Counter>, "events_duplicate", "Matching events that had been delivered before";
    events_late: Family<Source, Counter>, "events_late", "Matching events older than the lateness bound";
    events_ahead: Family<Source, Counter>, "events_ahead", "Matching events dated more than five minutes after the clock; they count as of then";
    requests: Family<Request, Counter>, "requests", "HTTP requests to a source's listener, by answer";
    handshakes_failed: Family<Source, Counter>, "tls_handshakes_failed", "TLS handshakes that failed: no certificate, or a wrong one";
    bounds_reached: Family<Bound, Counter>, "bounds_reached", "Times a source came to one of its bounds";
    matches: Family<Rule, Counter>, "matches", "Requests of which a rule was true";
    alerts: Family<AlertLabels, Counter>, "alerts", "Episodes opened";
    alerts_firing: Family<LevelLabel, Gauge>, "alerts_firing", "Episodes open now";
    last_event: Family<SourceCluster, FloatGauge>, "last_event_timestamp_seconds", "Event time of the newest event";
    ingest_seconds: Histogram, "ingest_seconds", "From a request's body read to its answer";
    detection_latency: Histogram, "detection_latency_seconds", "From an event's stageTimestamp to its alert";
    journal_records: Gauge<i64, AtomicI64>, "journal_records", "Batches in the journal not yet correlated";
    window_keys: Family<Rule, Gauge>, "window_keys", "Groups with an open window or episode";
    window_evictions: Family<Rule, Counter>, "window_evictions", "Groups dropped because of max_keys";
    window_overfull: Family<Rule, Counter>, "window_overfull", "Matches that came into a window of more than 10 000";
    correlation_bounds: Family<What, Counter>, "correlation_bounds_reached", "Things that correlation forgot or decided early because of one of its bounds";
    canary_interval: Family<Source, FloatGauge>, "canary_interval_seconds", "How often a canary goes through a source";
    canary_success: Family<Source, FloatGauge>, "canary_last_success_timestamp_seconds", "When a canary last arrived; 0 before the first one";
    canary_round_trip: Family<Source, Histogram, Seconds>, "canary_round_trip_seconds", "From a canary's sending to its alert, or to its sink";
    canary_failures: Family<CanaryFailure, Counter>, "canary_failures", "Canaries that did not arrive, by where they were lost: connect, answer, detect, correlate, deliver";
    watchdog_sent: Family<SinkLabel, FloatGauge>, "watchdog_last_sent_timestamp_seconds", "When a sink last took the watchdog; 0 before the first time";
    outbox_records: Family<SinkLabel, Gauge>, "outbox_records", "Deliveries that wait";
    outbox_dead: Family<SinkLabel, Gauge>, "outbox_dead_records", "Deliveries that were given up and are kept";
    outbox_oldest: Family<SinkLabel, FloatGauge>, "outbox_oldest_seconds", "Age of the oldest delivery that waits";
    deliveries: Family<DeliveryLabels, Counter>, "deliveries", "Delivery attempts by result: ok, retry, dead";
    delivery_seconds: Family<SinkLabel, Histogram, Seconds>, "delivery_seconds", "How long a sink took to answer";
    rules_loaded: Family<RuleKind, Gauge>, "rules_loaded", "Rules in the running set";
    rule_load_errors: Gauge<i64, AtomicI64>, "rule_load_errors", "Mistakes found at the last load of rules";
    config_last_reload_success: Gauge<i64, AtomicI64>, "config_last_reload_success", "1 if the last reload was taken";
    kafka_connected: Family<Source, Gauge>, "kafka_connected", "1 while a broker is connected";
    kafka_partitions: Family<Source, Gauge>, "kafka_partitions", "Partitions assigned to this instance";
    kafka_lag: Family<PartitionLabels, Gauge>, "kafka_lag_messages", "Messages of a partition that are not yet ingested";
    kafka_paused: Family<Source, Gauge>, "kafka_paused", "1 while partitions are paused because there is no room";
    kafka_rebalances: Family<Source, Counter>, "kafka_rebalances", "Times partitions were assigned or revoked";
    certificate_expiry: Family<Listener, FloatGauge>, "certificate_expiry_timestamp_seconds", "When the listener's certificate ends";
    build: Family<Build, Gauge>, "build_info", "Always 1";
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Answers that a webhook gives, as `requests_total` counts them.
pub const REQUEST_CODES: [u16; 9] = [200, 400, 401, 404, 405, 408, 413, 415, 503];
/// Why single events are refused, as `events_rejected_total` counts them: the reasons of framing, two of followed files and
/// messages (a block that is no audit log at all, a line beyond every bound), and messages without a value.
pub const REJECT_REASONS: [&str; 7] = ["syntax", "kind", "shape", "duplicate_key", "not_audit", "too_large", "empty"];
/// Bounds of a webhook, as `bounds_reached_total` counts them.
pub const WEBHOOK_BOUNDS: [&str; 6] =
    ["connections", "bytes_in_flight", "turns", "max_body", "read_time", "handshake_time"];
/// Where a canary can be lost, as `canary_failures_total` counts it.
pub const CANARY_STAGES: [&str; 5] = ["connect", "answer", "detect", "correlate", "deliver"];
/// What correlation lets go at a bound, as `correlation_bounds_reached_total` counts it.
pub const CORRELATION_BOUNDS: [&str; 5] =
    ["reordered", "baseline_turns", "known_requests", "known_audit_ids", "evicted_windows"];
/// Sigma's levels, lowest first.
const LEVELS: [&str; 5] = ["informational", "low", "medium", "high", "critical"];
/// What becomes of a delivery attempt.
const DELIVERY_RESULTS: [&str; 3] = ["ok", "retry", "dead"];

/// The content type of [`Metrics::encode`].
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of [`Metrics::encode_plain`].
pub const PLAIN_TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The names that configuration and rules give to series.
#[derive(Clone, Copy, Debug, Default)]
pub struct Series<'a> {
    /// Names of all sources.
    pub sources: &'a [&'a str],
    /// Names of the webhook sources, and whether each has a certificate.
    pub listeners: &'a [(&'a str, bool)],
    /// Names of the Kafka sources.
    pub kafka: &'a [&'a str],
    /// Cluster labels that the configuration names.
    pub clusters: &'a [&'a str],
    /// Id and level of every rule.
    pub rules: &'a [(&'a str, &'a str)],
    /// Kinds of rules, as `rules_loaded` counts them.
    pub rule_kinds: &'a [&'a str],
    /// Names of all sinks.
    pub sinks: &'a [&'a str],
}

impl Metrics {
    /// Makes every series that these names can have, at 0: a rate over a series that is born at 1 misses its first
    /// event. May be called again after a reload; series that exist keep their values.
    pub fn prepare(&self, series: Series<'_>) {
        self.prepare_sources(series);
        self.prepare_kafka(series);
        for &(rule, level) in series.rules {
            touch(&self.matches, &Rule { rule: rule.to_owned() });
            touch(&self.window_keys, &Rule { rule: rule.to_owned() });
            touch(&self.window_evictions, &Rule { rule: rule.to_owned() });
            touch(&self.window_overfull, &Rule { rule: rule.to_owned() });
            for &cluster in series.clusters {
                let (rule, level, cluster) = (rule.to_owned(), level.to_owned(), cluster.to_owned());
                touch(&self.alerts, &AlertLabels { rule, level, cluster });
            }
        }
        for what in CORRELATION_BOUNDS {
            touch(&self.correlation_bounds, &What { what: what.to_owned() });
        }
        for kind in series.rule_kinds {
            touch(&self.rules_loaded, &RuleKind { kind: (*kind).to_owned() });
        }
        for level in LEVELS {
            touch(&self.alerts_firing, &LevelLabel { level: level.to_owned() });
        }
        for sink in series.sinks {
            let label = SinkLabel { sink: (*sink).to_owned() };
            touch(&self.outbox_records, &label);
            touch(&self.outbox_dead, &label);
            touch(&self.outbox_oldest, &label);
            touch(&self.delivery_seconds, &label);
            for result in DELIVERY_RESULTS {
                let (sink, result) = (label.sink.clone(), result.to_owned());
                touch(&self.deliveries, &DeliveryLabels { sink, result });
            }
        }
    }

    fn prepare_sources(&self, series: Series<'_>) {
        for source in series.sources {
            let source = (*source).to_owned();
            let label = Source { source: source.clone() };
            touch(&self.event_bytes, &label);
            touch(&self.events_duplicate, &label);
            touch(&self.events_late, &label);
            touch(&self.events_ahead, &label);
            for reason in REJECT_REASONS {
                touch(&self.events_rejected, &Rejected { source: source.clone(), reason: reason.to_owned() });
            }
            for cluster in series.clusters {
                let cluster = self.clusters.label(cluster).to_string();
                let label = SourceCluster { source: source.clone(), cluster };
                touch(&self.events, &label);
                touch(&self.last_event, &label);
            }
        }
        for &(listener, has_certificate) in series.listeners {
            touch(&self.handshakes_failed, &Source { source: listener.to_owned() });
            for code in REQUEST_CODES {
                touch(&self.requests, &Request { source: listener.to_owned(), code: code.to_string() });
            }
            for bound in WEBHOOK_BOUNDS {
                touch(&self.bounds_reached, &Bound { source: listener.to_owned(), bound: bound.to_owned() });
            }
            // A certificate that ends in 1970 would page somebody, so plain listeners have none.
            if has_certificate {
                touch(&self.certificate_expiry, &Listener { listener: listener.to_owned() });
            }
        }
    }

    /// What lies behind per partition appears with the partition.
    fn prepare_kafka(&self, series: Series<'_>) {
        for &source in series.kafka {
            let label = Source { source: source.to_owned() };
            touch(&self.kafka_connected, &label);
            touch(&self.kafka_partitions, &label);
            touch(&self.kafka_paused, &label);
            touch(&self.kafka_rebalances, &label);
            touch(&self.bounds_reached, &Bound { source: label.source, bound: "bytes_in_flight".to_owned() });
        }
    }

    /// Makes the series of a source that canaries go through.
    pub fn prepare_canary(&self, source: &str, every: std::time::Duration) {
        let label = Source { source: source.to_owned() };
        self.canary_interval.get_or_create(&label).set(every.as_secs_f64());
        touch(&self.canary_success, &label);
        touch(&self.canary_round_trip, &label);
        for stage in CANARY_STAGES {
            touch(&self.canary_failures, &CanaryFailure { source: source.to_owned(), stage: stage.to_owned() });
        }
    }

    /// Drops the gauges of a rule that is gone: they would show their last value for ever. Its counters stay.
    pub fn forget_rule(&self, rule: &str) {
        self.window_keys.remove(&Rule { rule: rule.to_owned() });
    }

    /// Drops the gauges of a sink that is gone. Its counters stay.
    pub fn forget_sink(&self, sink: &str) {
        let label = SinkLabel { sink: sink.to_owned() };
        self.outbox_records.remove(&label);
        self.outbox_dead.remove(&label);
        self.outbox_oldest.remove(&label);
        self.watchdog_sent.remove(&label);
    }

    /// Counts that a source came to one of its bounds.
    pub fn bound_reached(&self, source: &str, bound: &str) {
        self.bounds_reached.get_or_create(&Bound { source: source.to_owned(), bound: bound.to_owned() }).inc();
    }

    /// The exposition in the OpenMetrics format; its content type is [`OPENMETRICS`].
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = self.families();
        text.push_str("# EOF\n");
        text
    }

    /// The exposition in the older text format, whose families of counters are called like their series; its content
    /// type is [`PLAIN_TEXT`].
    #[must_use]
    pub fn encode_plain(&self) -> String {
        let text = self.families();
        let mut plain = String::with_capacity(text.len());
        let mut help: Option<(&str, &str)> = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                help = rest.split_once(' ');
            } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
                let suffix = if kind == "counter" { "_total" } else { "" };
                let said = help.take().map_or("", |(_, said)| said);
                // Writing to a String cannot fail.
                let _ = write!(plain, "# HELP {name}{suffix} {said}\n# TYPE {name}{suffix} {kind}\n");
            } else {
                plain.push_str(line);
                plain.push('\n');
            }
        }
        plain
    }

    fn families(&self) -> String {
        let mut text = String::new();
        for registry in [&self.registry, &self.process] {
            // Writing to a String cannot fail.
            let _ = prometheus_client::encoding::text::encode_registry(&mut text, registry);
        }
        text
    }
}

/// Makes one series, at 0.
fn touch<L, M, C>(family: &Family<L, M, C>, labels: &L)
where
    L: Clone + std::hash::Hash + Eq,
    C: MetricConstructor<M>,
{
    drop(family.get_or_create(labels));
}

/// The cluster labels in use: a bounded set, because a client of the webhook may name any cluster in its path and
/// every new name is a new series for ever.
pub struct ClusterLabels {
    max: usize,
    other: Arc<str>,
    known: RwLock<HashSet<Arc<str>>>,
}

impl ClusterLabels {
    /// Names kept apart by default.
    pub const MAX_CLUSTERS: usize = 100;
    /// The label of all names beyond the bound.
    pub const OTHER: &'static str = "other";

    /// Keeps at most `max` names apart, first come first served.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max, other: Self::OTHER.into(), known: RwLock::default() }
    }

    /// The label under which `cluster` is counted: its own name, or `other` once the set is full.
    #[must_use]
    pub fn label(&self, cluster: &str) -> Arc<str> {
        // The set is whole after every step, so a panic elsewhere while the lock was held cannot have broken it.
        if let Some(known) = self.known.read().unwrap_or_else(PoisonError::into_inner).get(cluster) {
            return known.clone();
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= self.max && !known.contains(cluster) {
            return self.other.clone();
        }
        let label: Arc<str> = cluster.into();
        known.insert(label.clone());
        label
    }
}

impl Default for ClusterLabels {
    fn default() -> Self {
        Self::new(Self::MAX_CLUSTERS)
    }
}

/// The process as Linux tells of it in `/proc`; elsewhere its series are absent.
#[derive(Debug)]
struct Process;

/// Clock ticks a second in `/proc`: the kernel's `USER_HZ`, which is 100 on every platform Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: f64| {
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let (stat, status, machine) = (read("/proc/self/stat"), read("/proc/self/status"), read("/proc/stat"));
        if let Some(bytes) = resident_bytes(&status) {
            gauge("process_resident_memory_bytes", "Memory in use.", bytes)?;
        }
        if let Some(start) = start_seconds(&stat, &machine) {
            gauge("process_start_time_seconds", "When the process started.", start)?;
        }
        if let Ok(folder) = std::fs::read_dir("/proc/self/fd") {
            #[expect(clippy::cast_precision_loss, reason = "a process has far fewer than 2^52 files open")]
            gauge("process_open_fds", "Open file descriptors.", folder.count() as f64)?;
        }
        if let Some(seconds) = cpu_seconds(&stat) {
            let counter = ConstCounter::new(seconds);
            let (name, help) = ("process_cpu_seconds", "Processor time used, user and system.");
            counter.encode(encoder.encode_descriptor(name, help, None, counter.metric_type())?)?;
        }
        Ok(())
    }
}

/// A field of `/proc/self/stat` by its number in `proc(5)`; the second, the name, may itself hold spaces.
fn stat_field(stat: &str, number: usize) -> Option<f64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(number.checked_sub(3)?)?.parse().ok()
}

fn cpu_seconds(stat: &str) -> Option<f64> {
    Some((stat_field(stat, 14)? + stat_field(stat, 15)?) / TICKS_PER_SECOND)
}

fn start_seconds(stat: &str, machine: &str) -> Option<f64> {
    let boot: f64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + stat_field(stat, 22)? / TICKS_PER_SECOND)
}

fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prepared() -> Metrics {
        let metrics = Metrics::new();
        metrics.prepare(Series {
            sources: &["webhook", "file"],
            listeners: &[("webhook", true), ("plain", false)],
            kafka: &["audit"],
            clusters: &["prod"],
            rules: &[("r1", "high")],
            rule_kinds: &["sigma"],
            sinks: &["console"],
        });
        metrics
    }

    #[test]
    fn every_series_of_the_interface_exists_at_zero() {
        let text = prepared().encode();
        for series in [
            r#"events_total{source="webhook",cluster="prod"} 0"#,
            r#"event_bytes_total{source="file"} 0"#,
            r#"events_rejected_total{source="webhook",reason="syntax"} 0"#,
            r#"events_duplicate_total{source="webhook"} 0"#,
            r#"requests_total{source="webhook",code="503"} 0"#,
            r#"matches_total{rule="r1"} 0"#,
            r#"alerts_total{rule="r1",level="high",cluster="prod"} 0"#,
            r#"alerts_firing{level="critical"} 0"#,
            r#"last_event_timestamp_seconds{source="webhook",cluster="prod"} 0.0"#,
            "ingest_seconds_count 0",
            r#"ingest_seconds_bucket{le="+Inf"} 0"#,
            "detection_latency_seconds_count 0",
            "journal_records 0",
            r#"window_keys{rule="r1"} 0"#,
            r#"window_evictions_total{rule="r1"} 0"#,
            r#"outbox_records{sink="console"} 0"#,
            r#"outbox_dead_records{sink="console"} 0"#,
            r#"outbox_oldest_seconds{sink="console"} 0.0"#,
            r#"deliveries_total{sink="console",result="ok"} 0"#,
            r#"delivery_seconds_count{sink="console"} 0"#,
            r#"rules_loaded{kind="sigma"} 0"#,
            "rule_load_errors 0",
            "config_last_reload_success 0",
            r#"kafka_connected{source="audit"} 0"#,
            r#"kafka_partitions{source="audit"} 0"#,
            r#"kafka_paused{source="audit"} 0"#,
            r#"kafka_rebalances_total{source="audit"} 0"#,
            r#"certificate_expiry_timestamp_seconds{listener="webhook"} 0.0"#,
            concat!(r#"build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""} 1"#),
        ] {
            assert!(text.contains(&format!("\nkubesiren_{series}\n")), "{series} is not in\n{text}");
        }
        assert!(!text.contains(r#"certificate_expiry_timestamp_seconds{listener="plain"}"#));
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn the_plain_format_names_families_like_their_series() {
        let text = prepared().encode_plain();
        assert!(text.contains("# TYPE kubesiren_events_total counter\nkubesiren_events_total{"), "{text}");
        assert!(text.contains("# TYPE kubesiren_alerts_firing gauge\n"));
        assert!(text.contains("# TYPE kubesiren_ingest_seconds histogram\n"));
        assert!(!text.contains("# EOF"));
    }

    #[test]
    fn the_process_is_told_without_prefix() {
        let text = Metrics::new().encode();
        for name in [
            "process_cpu_seconds_total",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_open_fds",
        ] {
            let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            let value: f64 = value.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().expect("a number");
            assert!(value >= 0.0, "{name} {value}");
        }
    }

    #[test]
    fn stat_is_read_behind_a_name_with_spaces_and_parentheses() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 9 0 0 0 150 50 0 0 20 0 9 0 1000 0 0";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(start_seconds(stat, "cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_010.0));
        assert_eq!(resident_bytes("VmRSS:\t    2048 kB\n"), Some(2_097_152.0));
        assert_eq!(cpu_seconds(""), None);
    }

    #[test]
    fn cluster_labels_are_bounded() {
        let labels = ClusterLabels::new(2);
        assert_eq!(&*labels.label("a"), "a");
        assert_eq!(&*labels.label("b"), "b");
        assert_eq!(&*labels.label("c"), "other");
        assert_eq!(&*labels.label("a"), "a");
    }

    #[test]
    fn label_values_are_escaped() {
        let metrics = Metrics::new();
        touch(&metrics.matches, &Rule { rule: "a\"b\\c\nd".to_owned() });
        assert!(metrics.encode().contains(r#"{rule="a\"b\\c\nd"} 0"#));
    }
}
