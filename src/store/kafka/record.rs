//! What stands in the topics.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::super::journal::{self, Row};
use super::super::{Change, Kind, StoreError};
use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::correlate::{Baseline, Episode, Match};
use crate::hash;

/// Bytes of a record; brokers take 1 MiB unless they are told otherwise.
pub const RECORD_MAX: usize = 800_000;

/// The key of the record in which a partition of the baselines says how far it has come.
const LEARNED: &str = "learned";

/// A record of the matches.
#[derive(Debug)]
pub enum Record {
    /// Matches of one batch to one rule, of one group.
    Matches(Vec<Match>),
    /// An episode that correlations are made of.
    Episode(Box<Episode>),
    /// How far an instance has come.
    Time(Time),
}

/// How far the events that an instance takes have come, by cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Time {
    /// The instance.
    pub from: u64,
    /// It stops: nobody need wait for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bye: bool,
    /// The newest event time of those clusters that it has lately had events of, in microseconds.
    pub clusters: BTreeMap<Arc<str>, i64>,
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Written<'r> {
    Matches {
        rule: Arc<str>,
        cluster: Arc<str>,
        #[serde(borrow)]
        row: &'r RawValue,
    },
    Episode(Box<Episode>),
    Time(Time),
}

/// A key and a value.
pub type Pair = (String, Vec<u8>);

fn unwritable(error: &serde_json::Error) -> StoreError {
    StoreError::Database(format!("a record cannot be written as JSON: {error}"))
}

fn json(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| unwritable(&error))
}

/// The records of a batch's matches, in its order.
pub fn of_matches(matches: &[Match]) -> Result<Vec<Pair>, StoreError> {
    let mut pairs = Vec::new();
    for row in journal::rows(matches)? {
        // Half the matches are half as long, and one by itself is short.
        if row.payload().len() > RECORD_MAX && matches.len() > 1 {
            let (first, second) = matches.split_at(matches.len() / 2);
            return Ok([of_matches(first)?, of_matches(second)?].concat());
        }
        pairs.push((key_of(&row), written(&row)?));
    }
    Ok(pairs)
}

fn key_of(row: &Row) -> String {
    format!("{}/{:016x}", row.rule(), hash::short(&[row.cluster().as_bytes(), row.fields().as_bytes()]))
}

fn written(row: &Row) -> Result<Vec<u8>, StoreError> {
    let payload: &RawValue = serde_json::from_str(row.payload()).map_err(|error| unwritable(&error))?;
    json(&Written::Matches { rule: Arc::clone(row.rule()), cluster: Arc::clone(row.cluster()), row: payload })
}

/// The record of an episode.
pub fn of_episode(episode: &Episode) -> Result<Pair, StoreError> {
    Ok((episode.rule.to_string(), json(&Written::Episode(Box::new(episode.clone())))?))
}

/// The record of a time.
pub fn of_time(time: &Time) -> Result<Pair, StoreError> {
    Ok((format!("{:016x}", time.from), json(&Written::Time(time.clone()))?))
}

impl Record {
    /// Reads a record of the matches.
    pub fn read(value: &[u8]) -> Result<Self, StoreError> {
        let unreadable = |error: serde_json::Error| StoreError::Database(format!("a record cannot be read: {error}"));
        Ok(match serde_json::from_slice(value).map_err(unreadable)? {
            Written::Matches { rule, cluster, row } => {
                let mut matches = Vec::new();
                journal::unpack(0, &rule, &cluster, row.get(), &mut matches)?;
                Self::Matches(matches.into_iter().map(|(_, found)| found).collect())
            }
            Written::Episode(episode) => Self::Episode(episode),
            Written::Time(time) => Self::Time(time),
        })
    }
}

/// What correlating a piece of a partition changed; several records where it is long.
#[derive(Debug, Serialize, Deserialize)]
pub struct Step {
    /// The instance that tells it.
    pub from: u64,
    /// Everything of the partition's matches before this offset is in this step or the ones before it.
    pub at: i64,
    /// The number of the record in the step.
    pub part: u32,
    /// Whether it is the last one.
    pub last: bool,
    /// The matches end before what was told of them: those that follow are new, whatever their offsets.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub reset: bool,
    /// The changes.
    pub changes: Vec<Told>,
}

/// One alert that opened, grew or ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Told {
    /// What happened.
    pub kind: Kind,
    /// The sinks that shall hear of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sinks: Vec<String>,
    /// The alert as it was then.
    pub alert: Alert,
}

impl From<Told> for Change {
    fn from(Told { kind, sinks, alert }: Told) -> Self {
        Self { alert, kind, sinks }
    }
}

/// The records of a step.
pub fn of_step(from: u64, at: i64, changes: Vec<Change>) -> Result<Vec<Vec<u8>>, StoreError> {
    let mut parts: Vec<Vec<Told>> = vec![Vec::new()];
    let mut size = 0;
    for Change { alert, kind, sinks } in changes {
        let told = Told { kind, sinks, alert };
        size += json(&told)?.len();
        if size > RECORD_MAX {
            parts.push(Vec::new());
            size = 0;
        }
        if let Some(part) = parts.last_mut() {
            part.push(told);
        }
    }
    let count = parts.len();
    let step = |(part, changes): (usize, Vec<Told>)| {
        let last = part + 1 == count;
        json(&Step { from, at, part: u32::try_from(part).unwrap_or(u32::MAX), last, reset: false, changes })
    };
    parts.into_iter().enumerate().map(step).collect()
}

/// The record that lets a partition's offsets begin anew.
pub fn of_reset(from: u64, at: i64) -> Result<Vec<u8>, StoreError> {
    json(&Step { from, at, part: 0, last: true, reset: true, changes: Vec::new() })
}

impl Step {
    /// Reads a record of the alerts.
    pub fn read(value: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(value)
            .map_err(|error| StoreError::Database(format!("a record of alerts cannot be read: {error}")))
    }
}

/// A state as it is written, without what its key says.
#[derive(Serialize, Deserialize)]
struct Kept {
    shape: u64,
    seen: i64,
    state: Vec<u8>,
}

/// The record of a baseline; without a value where it is to be forgotten.
pub fn of_baseline(baseline: &Baseline) -> Result<(String, Option<Vec<u8>>), StoreError> {
    let Baseline { rule, key, shape, seen, state } = baseline;
    let kept = state.as_ref().map(|state| {
        let kept = Kept { shape: *shape, seen: seen.0, state: state.clone() };
        postcard::to_allocvec(&kept)
            .map_err(|error| StoreError::Database(format!("a baseline cannot be written: {error}")))
    });
    Ok((format!("{key:016x}/{rule}"), kept.transpose()?))
}

/// The record that says that everything before this offset is learned.
#[must_use]
pub fn of_learned(at: i64) -> Pair {
    (LEARNED.to_owned(), at.to_string().into_bytes())
}

/// What a partition of the baselines holds, as it is read.
#[derive(Debug, Default)]
pub struct Baselines {
    kept: BTreeMap<String, Baseline>,
    /// Everything before this offset is learned.
    pub learned: i64,
}

impl Baselines {
    /// Takes a record. What cannot be read was written by another version, and is learned anew.
    pub fn take(&mut self, key: &str, value: Option<&[u8]>) {
        if key == LEARNED {
            self.learned = value.and_then(|value| str::from_utf8(value).ok()?.parse().ok()).unwrap_or(0);
            return;
        }
        let kept = value.and_then(|value| postcard::from_bytes::<Kept>(value).ok());
        let (Some(Kept { shape, seen, state }), Some((hash, rule))) = (kept, key.split_once('/')) else {
            self.kept.remove(key);
            return;
        };
        let Ok(hash) = u64::from_str_radix(hash, 16) else { return };
        let baseline = Baseline { rule: rule.to_owned(), key: hash, shape, seen: Timestamp(seen), state: Some(state) };
        self.kept.insert(key.to_owned(), baseline);
    }

    /// All of them.
    #[must_use]
    pub fn into_kept(self) -> Vec<Baseline> {
        self.kept.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{EventExcerpt, RuleInfo};
    use crate::correlate::{Packed, Shown};

    fn found(n: u64, user: &str) -> Match {
        Match {
            rule: "r".into(),
            cluster: "k".into(),
            source: "s".into(),
            time: Timestamp(1_000 + i64::try_from(n).unwrap()),
            delivery: n,
            request: n,
            audit_id: Arc::default(),
            fields: Arc::new([("user.username".into(), vec![user.into()])].into()),
            shown: Packed::from(Shown::default()),
        }
        .showing(|shown| {
            shown.event.audit_id = format!("a{n}");
            shown.matched.insert("verb".to_owned(), "get".into());
        })
    }

    #[test]
    fn matches_come_back_as_they_were_one_record_per_group() {
        let matches: Vec<Match> = (0..6).map(|n| found(n, if n % 2 == 0 { "ann" } else { "bob" })).collect();
        let pairs = of_matches(&matches).unwrap();
        assert_eq!(pairs.len(), 2);
        assert_ne!(pairs[0].0, pairs[1].0);
        let mut back = Vec::new();
        for (_, value) in &pairs {
            let Record::Matches(matches) = Record::read(value).unwrap() else { panic!("no matches") };
            back.extend(matches);
        }
        back.sort_by_key(|found| found.request);
        assert_eq!(back, matches);
    }

    #[test]
    fn an_alert_that_is_told_comes_back_with_its_timeline() {
        let time = "2026-11-21T04:00:00.123456Z";
        let rule = serde_json::json!({"id": "one", "title": "One", "level": "high"});
        let alert: Alert = serde_json::from_value(serde_json::json!({
            "id": "a", "status": "firing", "time": time, "cluster": "k", "rule": RuleInfo::default(), "summary": "s",
            "count": 2, "first_seen": time, "last_seen": time, "group": {}, "event": EventExcerpt::default(),
            "matched": {}, "audit_ids": [],
            "timeline": [{"time": time, "rule": rule, "summary": "ann did it", "count": 2}],
        }))
        .unwrap();
        let change = Change { alert: alert.clone(), kind: Kind::Firing, sinks: vec!["s".to_owned()] };
        let records = of_step(1, 2, vec![change]).unwrap();
        let mut step = Step::read(&records[0]).unwrap();
        assert_eq!((records.len(), step.changes.len(), alert.timeline.len()), (1, 1, 1));
        assert_eq!(step.changes.remove(0).alert, alert);
    }

    #[test]
    fn no_record_is_longer_than_brokers_take() {
        let long = "x".repeat(10_000);
        let matches: Vec<Match> =
            (0..200).map(|n| found(n, "ann").showing(|shown| shown.said = Some(format!("{long}{n}")))).collect();
        let pairs = of_matches(&matches).unwrap();
        assert!(pairs.len() > 1 && pairs.iter().all(|(_, value)| value.len() < 1_000_000));
        let count = pairs.iter().map(|(_, value)| match Record::read(value) {
            Ok(Record::Matches(matches)) => matches.len(),
            other => panic!("{other:?}"),
        });
        assert_eq!(count.sum::<usize>(), 200);
    }

    #[test]
    fn baselines_are_what_was_written_last() {
        let baseline =
            |key, state: Option<Vec<u8>>| Baseline { rule: "a/b".to_owned(), key, shape: 7, seen: Timestamp(9), state };
        let mut read = Baselines::default();
        for baseline in
            [baseline(1, Some(vec![1])), baseline(2, Some(vec![2])), baseline(1, Some(vec![3])), baseline(2, None)]
        {
            let (key, value) = of_baseline(&baseline).unwrap();
            read.take(&key, value.as_deref());
        }
        let (key, value) = of_learned(42);
        read.take(&key, Some(&value));
        assert_eq!(read.learned, 42);
        assert_eq!(read.into_kept(), [baseline(1, Some(vec![3]))]);
    }
}
