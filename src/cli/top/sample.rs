//! One look at a daemon: its status, and those of its metrics that are shown.

use std::collections::BTreeMap;

use serde::Deserialize;
use tokio::time::Instant;

use crate::alert::Level;
use crate::cli::alerts::rules;
use crate::cli::client::{Client, Problem};
use crate::clock::Timestamp;

/// Series that are kept: a daemon has one for each rule, level and cluster.
const SERIES_MAX: usize = 200_000;

/// The metrics that are shown.
const SHOWN: [&str; 14] = [
    "kubesiren_events_total",
    "kubesiren_event_bytes_total",
    "kubesiren_events_rejected_total",
    "kubesiren_events_duplicate_total",
    "kubesiren_matches_total",
    "kubesiren_alerts_total",
    "kubesiren_alerts_firing",
    "kubesiren_journal_records",
    "kubesiren_kafka_lag_messages",
    "kubesiren_deliveries_total",
    "process_resident_memory_bytes",
    "process_cpu_seconds_total",
    "process_start_time_seconds",
    "process_open_fds",
];

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Sample {
    /// When; `None` only where nothing was.
    pub(super) at: Option<Instant>,
    pub(super) status: Status,
    pub(super) metrics: Metrics,
}

impl Sample {
    pub(super) async fn take(client: &Client) -> Result<Self, Problem> {
        let status = client.get("/api/v1/status", &[]).await?;
        let metrics = Metrics::read(&client.text("/metrics").await?);
        Ok(Self { at: Some(Instant::now()), status, metrics })
    }

    /// Whether the daemon was started anew between this look and a later one.
    pub(super) fn is_of_another_start(&self, later: &Self) -> bool {
        let restarted = self.status.started != later.status.started;
        restarted || self.metrics.sum("kubesiren_events_total") > later.metrics.sum("kubesiren_events_total")
    }
}

/// What `/api/v1/status` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) cluster: String,
    pub(super) started: Option<Timestamp>,
    pub(super) uptime_seconds: u64,
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
    pub(super) rules: u64,
    pub(super) correlations: u64,
    pub(super) outbox: Vec<Waiting>,
    pub(super) newest_events: Vec<Newest>,
}

/// What waits for a sink.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Waiting {
    pub(super) sink: String,
    pub(super) waiting: u64,
    pub(super) oldest_seconds: Option<u64>,
    pub(super) dead: u64,
    pub(super) reason: Option<String>,
}

/// The newest event of a source and cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Newest {
    pub(super) source: String,
    pub(super) cluster: String,
    pub(super) time: Option<Timestamp>,
    pub(super) age_seconds: u64,
}

type Labels = BTreeMap<String, String>;

/// Series by the names of their metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Metrics(BTreeMap<&'static str, Vec<(Labels, f64)>>);

impl Metrics {
    /// Reads Prometheus' text format; what is not shown is passed over.
    pub(super) fn read(text: &str) -> Self {
        let mut metrics = Self::default();
        let known = text.lines().filter(|line| !line.starts_with('#')).filter_map(series);
        for (name, labels, value) in known.take(SERIES_MAX) {
            metrics.0.entry(name).or_default().push((labels, value));
        }
        metrics
    }

    pub(super) fn all(&self, name: &str) -> &[(Labels, f64)] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn sum(&self, name: &str) -> f64 {
        self.all(name).iter().map(|(_, value)| value).sum()
    }

    /// Sums by one label.
    pub(super) fn by(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for (labels, value) in self.all(name) {
            *sums.entry(labels.get(label).cloned().unwrap_or_default()).or_default() += value;
        }
        sums
    }
}

/// `name{label="value"} 1`, of a metric that is shown.
fn series(line: &str) -> Option<(&'static str, Labels, f64)> {
    let end = line.find(['{', ' '])?;
    let name = *SHOWN.iter().find(|name| **name == &line[..end])?;
    let (labels, rest) = match line[end..].strip_prefix('{') {
        Some(inside) => labels(inside)?,
        None => (Labels::new(), &line[end..]),
    };
    Some((name, labels, rest.split_ascii_whitespace().next()?.parse().ok()?))
}

/// The labels up to the closing bracket, and what follows it.
fn labels(mut text: &str) -> Option<(Labels, &str)> {
    let mut labels = Labels::new();
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, rest) = text.split_once("=\"")?;
        let (value, rest) = quoted(rest)?;
        labels.insert(name.to_owned(), value);
        text = rest;
    }
}

/// A value up to its closing quote, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

/// What people call the rules.
#[derive(Debug, Default)]
pub(super) struct Titles {
    known: BTreeMap<String, (String, Level)>,
    /// The daemon's rules when they were asked for.
    rules: Option<(Option<Timestamp>, u64, u64)>,
}

impl Titles {
    /// Asks where the daemon may have others than the last time.
    pub(super) async fn learn(&mut self, client: &Client, sample: &Sample) -> Result<(), Problem> {
        let now = Some((sample.status.started, sample.status.rules, sample.status.correlations));
        if self.rules != now {
            self.known = rules(client).await?.into_iter().map(|rule| (rule.id, (rule.title, rule.level))).collect();
            self.rules = now;
        }
        Ok(())
    }

    pub(super) fn of(&self, id: &str) -> Option<&(String, Level)> {
        self.known.get(id)
    }

    #[cfg(test)]
    pub(super) fn with(id: &str, title: &str, level: Level) -> Self {
        Self { known: BTreeMap::from([(id.to_owned(), (title.to_owned(), level))]), rules: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_as_prometheus_writes_them() {
        let text = "# HELP kubesiren_events_total Good events taken\n# TYPE kubesiren_events_total counter\n\
            kubesiren_events_total{source=\"web\\\"hook\\\\\\n\",cluster=\"a,}b\"} 3\nkubesiren_events_total{source=\"f\",cluster=\"a,}b\"} 4e0\n\
            kubesiren_journal_records 2\nkubesiren_unknown 9\nkubesiren_events_total{broken\nprocess_resident_memory_bytes 1.5e6 1700000000\n";
        let metrics = Metrics::read(text);
        assert_eq!(
            metrics.by("kubesiren_events_total", "source"),
            BTreeMap::from([("web\"hook\\\n".to_owned(), 3.0), ("f".to_owned(), 4.0)])
        );
        assert_eq!(metrics.by("kubesiren_events_total", "cluster"), BTreeMap::from([("a,}b".to_owned(), 7.0)]));
        assert_eq!(
            (metrics.sum("kubesiren_journal_records"), metrics.sum("process_resident_memory_bytes")),
            (2.0, 1.5e6)
        );
        assert!(metrics.all("kubesiren_unknown").is_empty());
    }
}
