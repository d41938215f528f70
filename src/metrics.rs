//! Every metric of the daemon in one struct, all series at zero from the start, added to once per batch.
//!
//! Labels come from configuration and rules only, never from events.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::Gauge;
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
    /// Labels of listeners.
    Listener { listener }
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
        pub struct Metrics { registry: Registry, $(pub $field: $type,)* }

        impl Metrics {
            /// All metrics, registered.
            #[must_use]
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix("kubesiren");
                $(let $field = <$type as NewMetric>::new_metric(); registry.register($name, $help, $field.clone());)*
                let metrics = Self { registry, $($field,)* };
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
    requests: Family<Request, Counter>, "requests", "HTTP requests to a source's listener, by answer";
    matches: Family<Rule, Counter>, "matches", "Requests of which a rule was true";
    alerts: Family<AlertLabels, Counter>, "alerts", "Episodes opened";
    alerts_firing: Family<LevelLabel, Gauge>, "alerts_firing", "Episodes open now";
    last_event: Family<SourceCluster, FloatGauge>, "last_event_timestamp_seconds", "Event time of the newest event";
    ingest_seconds: Histogram, "ingest_seconds", "From a request's body read to its answer";
    detection_latency: Histogram, "detection_latency_seconds", "From an event's stageTimestamp to its alert";
    journal_records: Gauge<i64, AtomicI64>, "journal_records", "Batches in the journal not yet correlated";
    window_keys: Family<Rule, Gauge>, "window_keys", "Groups with an open window or episode";
    window_evictions: Family<Rule, Counter>, "window_evictions", "Groups dropped because of max_keys";
    outbox_records: Family<SinkLabel, Gauge>, "outbox_records", "Deliveries that wait";
    outbox_oldest: Family<SinkLabel, FloatGauge>, "outbox_oldest_seconds", "Age of the oldest delivery that waits";
    deliveries: Family<DeliveryLabels, Counter>, "deliveries", "Delivery attempts by result: ok, retry, dead";
    delivery_seconds: Family<SinkLabel, Histogram, Seconds>, "delivery_seconds", "How long a sink took to answer";
    rules_loaded: Family<RuleKind, Gauge>, "rules_loaded", "Rules in the running set";
    rule_load_errors: Gauge<i64, AtomicI64>, "rule_load_errors", "Mistakes found at the last load of rules";
    config_last_reload_success: Gauge<i64, AtomicI64>, "config_last_reload_success", "1 if the last reload was taken";
    certificate_expiry: Family<Listener, FloatGauge>, "certificate_expiry_timestamp_seconds", "When the listener's certificate ends";
    build: Family<Build, Gauge>, "build_info", "Always 1";
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// The exposition text.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}
