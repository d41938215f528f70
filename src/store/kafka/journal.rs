//! The writing end of the topics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode as Code;
use tokio::sync::watch;

use super::super::{Change, StoreError};
use super::KafkaConfig;
use super::record::{self, Pair, Time};
use super::topics::{self, Unprepared};
use crate::clock::{self, Timestamp};
use crate::correlate::{Baseline, Episode, Match, shares_of_episode, shares_of_match};
use crate::engine::RuleSet;
use crate::hash;
use crate::kafka::producer::{Producers, Record, Reported};

/// The topics, as one instance writes them. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    config: KafkaConfig,
    producers: Producers,
    /// Tells this instance from the others, and from itself before a restart.
    instance: u64,
    /// The topics are as they have to be: matches may be acknowledged.
    open: watch::Sender<bool>,
    /// What went wrong last, until something goes well.
    trouble: Mutex<Option<String>>,
}

/// A record on its way to a topic's partition.
struct Out<'t> {
    topic: &'t str,
    partition: u32,
    key: String,
    value: Option<Vec<u8>>,
}

impl Journal {
    /// Reads the secrets and makes the producer; nothing is connected yet.
    pub fn new(config: &KafkaConfig) -> Result<Self, String> {
        config.look_at()?;
        let producers = Producers::new("journal", config.connection())?;
        let unique = format!("{} {} {:?}", std::process::id(), clock::now(), std::thread::current().id());
        let host = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
        let instance = hash::short(&[unique.as_bytes(), host.as_bytes()]);
        let (open, trouble) = (watch::Sender::new(false), Mutex::new(Some("no broker was reached yet".to_owned())));
        Ok(Self { inner: Arc::new(Inner { config: config.clone(), producers, instance, open, trouble }) })
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &KafkaConfig {
        &self.inner.config
    }

    /// Tells this instance from others.
    #[must_use]
    pub fn instance(&self) -> u64 {
        self.inner.instance
    }

    /// Sees to it that the topics are there and as they have to be; before it has, nothing is taken. `reach`: how far back
    /// matches can matter.
    pub async fn open(&self, reach: Duration) -> Result<(), Unprepared> {
        let config = self.inner.config.clone();
        let prepared = tokio::task::spawn_blocking(move || topics::prepare(&config, reach)).await;
        let prepared = prepared.unwrap_or_else(|error| Err(Unprepared::Unreached(error.to_string())));
        match &prepared {
            Ok(()) => {
                self.inner.open.send_replace(true);
                self.went_wrong(None);
            }
            Err(Unprepared::Refused(words) | Unprepared::Unreached(words)) => self.went_wrong(Some(words.clone())),
        }
        prepared
    }

    /// Resolves when the topics are there and as they have to be.
    pub async fn opened(&self) {
        let _ = self.inner.open.subscribe().wait_for(|open| *open).await;
    }

    /// What does not work.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn went_wrong(&self, words: Option<String>) {
        *self.inner.trouble.lock().unwrap_or_else(PoisonError::into_inner) = words;
    }

    /// Appends a batch's matches, each to every partition that holds a group which it concerns; `Ok` when all replicas in
    /// sync have them. Where it fails a part of them may stand in the log: sent again they are known.
    pub async fn append(&self, rules: &RuleSet, matches: &[Match]) -> Result<(), StoreError> {
        if matches.is_empty() {
            return Ok(());
        }
        if !*self.inner.open.borrow() {
            let words = self.trouble().unwrap_or_default();
            return Err(StoreError::Full(format!("the journal is not there yet: {words}")));
        }
        let mut by_partition: BTreeMap<u32, Vec<Match>> = BTreeMap::new();
        for found in matches {
            for partition in shares_of_match(rules, found, self.inner.config.partitions) {
                by_partition.entry(partition).or_default().push(found.clone());
            }
        }
        let topic = self.inner.config.matches();
        let mut out = Vec::new();
        for (partition, matches) in by_partition {
            out.extend(record::of_matches(&matches)?.into_iter().map(|pair| of(&topic, partition, pair)));
        }
        self.write(&out).await
    }

    /// Tells every partition how far events have come.
    pub async fn append_time(&self, clusters: &[(Arc<str>, Timestamp)], bye: bool) -> Result<(), StoreError> {
        let clusters = clusters.iter().map(|(cluster, time)| (Arc::clone(cluster), time.0)).collect();
        let (key, value) = record::of_time(&Time { from: self.inner.instance, bye, clusters })?;
        let topic = self.inner.config.matches();
        let to = |partition| of(&topic, partition, (key.clone(), value.clone()));
        self.write(&(0..self.inner.config.partitions).map(to).collect::<Vec<_>>()).await
    }

    /// Appends episodes that correlations are made of, as matches of those.
    pub async fn append_episodes(&self, rules: &RuleSet, episodes: &[Episode]) -> Result<(), StoreError> {
        let topic = self.inner.config.matches();
        let mut out = Vec::new();
        for episode in episodes {
            for partition in shares_of_episode(rules, episode, self.inner.config.partitions) {
                out.push(of(&topic, partition, record::of_episode(episode)?));
            }
        }
        self.write(&out).await
    }

    /// Appends what correlating changed: partition, up to where, changes.
    pub async fn append_steps(&self, steps: Vec<(u32, i64, Vec<Change>)>) -> Result<(), StoreError> {
        let topic = self.inner.config.alerts();
        let mut out = Vec::new();
        for (partition, at, changes) in steps {
            let records = record::of_step(self.inner.instance, at, changes)?;
            out.extend(records.into_iter().map(|value| of(&topic, partition, (String::new(), value))));
        }
        self.write(&out).await
    }

    /// Lets the offsets of a partition begin anew at `at`: what follows is new.
    pub async fn append_reset(&self, partition: u32, at: i64) -> Result<(), StoreError> {
        let topic = self.inner.config.alerts();
        let value = record::of_reset(self.inner.instance, at)?;
        self.write(&[of(&topic, partition, (String::new(), value))]).await
    }

    /// Appends what has become usual: partition, up to where, baselines.
    pub async fn append_baselines(&self, learned: Vec<(u32, i64, &[Baseline])>) -> Result<(), StoreError> {
        let topic = self.inner.config.baselines();
        let mut out = Vec::new();
        for (partition, at, baselines) in learned {
            for baseline in baselines {
                let (key, value) = record::of_baseline(baseline)?;
                out.push(Out { topic: &topic, partition, key, value });
            }
            // The last of all: with it the others are whole.
            out.push(of(&topic, partition, record::of_learned(at)));
        }
        self.write(&out).await
    }

    async fn write(&self, out: &[Out<'_>]) -> Result<(), StoreError> {
        let producer = self.inner.producers.current();
        let mut reports: Vec<Reported> = Vec::with_capacity(out.len());
        let mut wrong = None;
        for Out { topic, partition, key, value } in out {
            let partition = i32::try_from(*partition).unwrap_or(i32::MAX);
            let record = Record { topic, partition: Some(partition), key, value: value.as_deref() };
            match producer.send(record) {
                Ok(reported) => reports.push(reported),
                Err(code) => {
                    wrong = Some(code);
                    break;
                }
            }
        }
        for reported in reports {
            // A report that is dropped is one of a producer that is gone.
            if let Err(code) = reported.await.unwrap_or(Err(Code::PurgeInflight)) {
                wrong = wrong.or(Some(code));
            }
        }
        let Some(code) = wrong else {
            self.went_wrong(None);
            return Ok(());
        };
        self.inner.producers.failed(&producer, code);
        let words = format!("the journal: {}", producer.explain(code));
        self.went_wrong(Some(words.clone()));
        Err(StoreError::Full(words))
    }
}

fn of(topic: &str, partition: u32, (key, value): Pair) -> Out<'_> {
    Out { topic, partition, key, value: Some(value) }
}
