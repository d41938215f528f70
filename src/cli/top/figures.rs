//! What two looks at a daemon say together. As JSON this is what `--output json` prints.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sample::{Metrics, Sample, Titles};
use crate::alert::Level;
use crate::clock::Timestamp;

/// Rules that are told of.
const RULES_MAX: usize = 50;

/// A daemon at a glance. Rates are means over the time between the two looks, and absent before there are two.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) version: String,
    pub(super) cluster: String,
    pub(super) uptime_seconds: u64,
    pub(super) ready: bool,
    pub(super) reasons: Vec<String>,
    pub(super) memory_bytes: f64,
    /// Of one processor.
    pub(super) cpu_percent: Option<f64>,
    pub(super) open_files: f64,
    pub(super) events_per_second: Option<f64>,
    pub(super) bytes_per_second: Option<f64>,
    pub(super) matches_per_second: Option<f64>,
    /// Events that were refused since the start.
    pub(super) rejected: f64,
    pub(super) duplicates: f64,
    /// Batches that wait to be correlated.
    pub(super) journal_records: f64,
    pub(super) events: Vec<Flow>,
    /// Messages that are not ingested yet, by source.
    pub(super) kafka_lag_messages: BTreeMap<String, f64>,
    pub(super) firing: BTreeMap<&'static str, f64>,
    pub(super) sinks: Vec<Sink>,
    /// The most frequent first.
    pub(super) rules: Vec<Rule>,
}

/// Events of a source and cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Flow {
    pub(super) source: String,
    pub(super) cluster: String,
    pub(super) per_second: Option<f64>,
    pub(super) total: f64,
    /// Event time of the newest.
    pub(super) newest: Option<Timestamp>,
    pub(super) age_seconds: Option<u64>,
}

/// A sink and its outbox.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Sink {
    pub(super) sink: String,
    pub(super) waiting: u64,
    pub(super) oldest_seconds: Option<u64>,
    pub(super) dead: u64,
    /// Why it did not take something when it was last tried, of what waits or was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<String>,
    /// Deliveries that were taken since the start.
    pub(super) sent: f64,
    /// Attempts that failed since the start.
    pub(super) failed: f64,
}

/// A rule that was true of something.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Rule {
    pub(super) id: String,
    pub(super) title: String,
    pub(super) level: Level,
    /// Since the start.
    pub(super) alerts: f64,
    /// Since the start.
    pub(super) matches: f64,
    pub(super) matches_per_second: Option<f64>,
}

/// From the first look to the last.
struct Between<'s> {
    first: &'s Metrics,
    last: &'s Metrics,
    seconds: Option<f64>,
}

impl Between<'_> {
    fn rate(&self, name: &str) -> Option<f64> {
        self.per_second(self.last.sum(name) - self.first.sum(name))
    }

    fn per_second(&self, more: f64) -> Option<f64> {
        self.seconds.map(|seconds| more.max(0.0) / seconds)
    }
}

impl Figures {
    pub(super) fn new(first: &Sample, last: &Sample, titles: &Titles) -> Self {
        let seconds = first.at.zip(last.at).map(|(first, last)| (last - first).as_secs_f64());
        let between =
            Between { first: &first.metrics, last: &last.metrics, seconds: seconds.filter(|seconds| *seconds > 0.05) };
        let (status, metrics) = (&last.status, &last.metrics);
        let firing = metrics.by("kubesiren_alerts_firing", "level");
        Self {
            version: status.version.clone(),
            cluster: status.cluster.clone(),
            uptime_seconds: status.uptime_seconds,
            ready: status.ready,
            reasons: status.reasons.clone(),
            memory_bytes: metrics.sum("process_resident_memory_bytes"),
            cpu_percent: between.rate("process_cpu_seconds_total").map(|share| share * 100.0),
            open_files: metrics.sum("process_open_fds"),
            events_per_second: between.rate("kubesiren_events_total"),
            bytes_per_second: between.rate("kubesiren_event_bytes_total"),
            matches_per_second: between.rate("kubesiren_matches_total"),
            rejected: metrics.sum("kubesiren_events_rejected_total"),
            duplicates: metrics.sum("kubesiren_events_duplicate_total"),
            journal_records: metrics.sum("kubesiren_journal_records"),
            events: flows(&between, last),
            kafka_lag_messages: metrics.by("kubesiren_kafka_lag_messages", "source"),
            firing: Level::ALL
                .into_iter()
                .map(|level| (level.as_str(), firing.get(level.as_str()).copied().unwrap_or(0.0)))
                .collect(),
            sinks: sinks(last),
            rules: rules(&between, titles),
        }
    }
}

/// Sources and clusters that have sent something, the busiest first.
fn flows(between: &Between<'_>, last: &Sample) -> Vec<Flow> {
    let totals = |metrics: &Metrics| {
        let series = metrics.all("kubesiren_events_total").iter();
        let of = |labels: &BTreeMap<String, String>, name| labels.get(name).cloned().unwrap_or_default();
        let keyed = series.map(|(labels, value)| ((of(labels, "source"), of(labels, "cluster")), *value));
        keyed.collect::<BTreeMap<_, _>>()
    };
    let before = totals(between.first);
    let flow = |((source, cluster), total): ((String, String), f64)| {
        let newest = last.status.newest_events.iter().find(|one| one.source == source && one.cluster == cluster);
        let earlier = before.get(&(source.clone(), cluster.clone())).copied().unwrap_or(0.0);
        let per_second = between.per_second(total - earlier);
        let (time, age_seconds) = (newest.and_then(|one| one.time), newest.map(|one| one.age_seconds));
        Flow { source, cluster, per_second, total, newest: time, age_seconds }
    };
    let mut flows: Vec<Flow> = totals(between.last).into_iter().map(flow).collect();
    flows.sort_by(|a, b| {
        b.per_second.unwrap_or(0.0).total_cmp(&a.per_second.unwrap_or(0.0)).then(b.total.total_cmp(&a.total))
    });
    flows
}

fn sinks(last: &Sample) -> Vec<Sink> {
    let attempts = |sink: &str, ok: bool| {
        let series = last.metrics.all("kubesiren_deliveries_total").iter();
        let is = |labels: &BTreeMap<String, String>, name: &str, value: &str| {
            labels.get(name).is_some_and(|text| text == value)
        };
        let mine = series.filter(|(labels, _)| is(labels, "sink", sink) && is(labels, "result", "ok") == ok);
        mine.map(|(_, value)| value).sum()
    };
    let sink = |one: &super::sample::Waiting| Sink {
        sink: one.sink.clone(),
        waiting: one.waiting,
        oldest_seconds: one.oldest_seconds,
        dead: one.dead,
        reason: one.reason.clone(),
        sent: attempts(&one.sink, true),
        failed: attempts(&one.sink, false),
    };
    last.status.outbox.iter().map(sink).collect()
}

fn rules(between: &Between<'_>, titles: &Titles) -> Vec<Rule> {
    let (before, matches) =
        (between.first.by("kubesiren_matches_total", "rule"), between.last.by("kubesiren_matches_total", "rule"));
    let mut alerts = between.last.by("kubesiren_alerts_total", "rule");
    // A correlation alerts without a match of its own.
    for id in matches.keys() {
        alerts.entry(id.clone()).or_default();
    }
    let rule = |(id, alerts): (String, f64)| {
        let of = |counts: &BTreeMap<String, f64>| counts.get(&id).copied().unwrap_or(0.0);
        let matches_per_second = between.per_second(of(&matches) - of(&before));
        let (title, level) = titles.of(&id).cloned().unwrap_or_else(|| (id.clone(), Level::default()));
        Rule { alerts, matches: of(&matches), matches_per_second, title, level, id }
    };
    let mut rules: Vec<Rule> = alerts.into_iter().map(rule).filter(|rule| rule.alerts + rule.matches > 0.0).collect();
    rules.sort_by(|a, b| {
        b.alerts.total_cmp(&a.alerts).then(b.matches.total_cmp(&a.matches)).then(a.title.cmp(&b.title))
    });
    rules.truncate(RULES_MAX);
    rules
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    fn sample(at: Instant, metrics: &str) -> Sample {
        let status = serde_json::json!({
            "version": "1", "uptime_seconds": 9, "ready": true,
            "outbox": [{"sink": "soc", "waiting": 2, "oldest_seconds": 70, "dead": 1}],
            "newest_events": [{"source": "w", "cluster": "b", "time": "2026-11-21T04:00:00Z", "age_seconds": 4}],
        });
        Sample { at: Some(at), status: serde_json::from_value(status).expect("right"), metrics: Metrics::read(metrics) }
    }

    #[test]
    fn two_looks_give_rates_and_the_most_frequent_come_first() {
        let start = Instant::now();
        let first = sample(
            start,
            "kubesiren_events_total{source=\"w\",cluster=\"a\"} 10\nkubesiren_matches_total{rule=\"r\"} 1\nprocess_cpu_seconds_total 1",
        );
        let last = sample(
            start + Duration::from_secs(2),
            "kubesiren_events_total{source=\"w\",cluster=\"a\"} 12\nkubesiren_events_total{source=\"w\",cluster=\"b\"} 6\n\
             kubesiren_matches_total{rule=\"r\"} 5\nkubesiren_alerts_total{rule=\"c\",level=\"low\"} 3\nkubesiren_matches_total{rule=\"never\"} 0\n\
             kubesiren_alerts_firing{level=\"high\"} 4\nkubesiren_deliveries_total{sink=\"soc\",result=\"ok\"} 7\n\
             kubesiren_deliveries_total{sink=\"soc\",result=\"retry\"} 5\nprocess_cpu_seconds_total 2",
        );
        let figures = Figures::new(&first, &last, &Titles::with("c", "Chain", Level::High));
        let flows: Vec<_> =
            figures.events.iter().map(|flow| (flow.cluster.as_str(), flow.per_second, flow.age_seconds)).collect();
        assert_eq!(flows, [("b", Some(3.0), Some(4)), ("a", Some(1.0), None)]);
        assert_eq!((figures.events_per_second, figures.cpu_percent), (Some(4.0), Some(50.0)));
        let rules: Vec<_> =
            figures.rules.iter().map(|rule| (rule.title.as_str(), rule.alerts, rule.matches_per_second)).collect();
        assert_eq!(rules, [("Chain", 3.0, Some(0.0)), ("r", 0.0, Some(2.0))]);
        let sink = &figures.sinks[0];
        assert_eq!((sink.waiting, sink.dead, sink.sent, sink.failed), (2, 1, 7.0, 5.0));
        assert_eq!(figures.firing["high"], 4.0);
        assert_eq!(Figures::new(&last, &last, &Titles::default()).events_per_second, None, "one look is no rate");
    }
}
