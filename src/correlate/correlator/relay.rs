//! Groups that are spread over several correlators: which of them holds a group, and what they tell each other.
//!
//! A share holds the groups whose hash falls to it. A match goes to every share that holds a group of it, and each feeds
//! the groups of its own; so shares need no order among them. An episode that other correlations are made of goes out,
//! and comes in where their groups are, as a match does. What makes time is told by whoever reads the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::reuse;
use super::group::{Carried, group_of, group_values};
use super::{Correlator, Fed};
use crate::alert::{Alert, EventExcerpt};
use crate::clock::Timestamp;
use crate::engine::{Consumer, Fields, Match, Packed, RuleSet, Shown, listed};
use crate::hash;
use crate::rule::ir::CorrelationKind;

/// One of the shares that groups are spread over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its number, from 0.
    pub number: u32,
    /// How many there are; at least 1.
    pub of: u32,
}

/// An episode of a correlation that others are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Episode {
    /// The id of the correlation.
    pub rule: Arc<str>,
    /// The cluster label.
    pub cluster: Arc<str>,
    /// When it opened, in microseconds.
    time: i64,
    /// Its own name.
    request: u64,
    audit_id: Arc<str>,
    /// The values by which it is grouped.
    group: BTreeMap<String, Value>,
    /// Those that the event which completed it carries.
    fields: Fields,
    event: EventExcerpt,
    matched: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    said: Option<String>,
}

impl Episode {
    /// When it opened.
    #[must_use]
    pub fn time(&self) -> Timestamp {
        Timestamp(self.time)
    }

    fn carried(&self) -> Carried<'_> {
        Carried { group: &self.group, fields: &self.fields }
    }
}

/// What of a match concerns a share.
pub(super) struct Here {
    pub(super) places: Vec<(usize, usize)>,
    /// Whether its Audit-ID is remembered here.
    pub(super) audit_id: bool,
    /// Whether it is counted here, and in no other share.
    pub(super) counts: bool,
}

/// The shares, `of` in number, that hold a group of a match.
#[must_use]
pub fn shares_of_match(rules: &RuleSet, found: &Match, of: u32) -> BTreeSet<u32> {
    let places = rules.consumers_of(&found.rule).iter().map(|place| share_of_place(rules, found, *place, of));
    places.chain(share_of_audit_id(rules, found, of)).collect()
}

/// The shares that hold a group which an episode is a match of.
#[must_use]
pub fn shares_of_episode(rules: &RuleSet, episode: &Episode, of: u32) -> BTreeSet<u32> {
    let shares = feeds(rules, &episode.rule).iter().map(|(consumer, member)| {
        share(&rules.consumers()[*consumer], *member, &episode.cluster, episode.carried(), of)
    });
    shares.collect()
}

/// The share that holds the group of an alert. One whose rule is gone has no group any more, but somebody has to end it.
#[must_use]
pub fn share_of_alert(rules: &RuleSet, alert: &Alert, of: u32) -> u32 {
    let fields = Fields::new();
    match rules.consumers().iter().find(|consumer| consumer.info.id == alert.rule.id) {
        None => spread(&alert.rule.id, &alert.cluster, "", of),
        Some(consumer) => {
            let mut group = alert.group.clone();
            for (name, _) in &consumer.group_by {
                group.entry(name.to_string()).or_insert(Value::Null);
            }
            share(consumer, 0, &alert.cluster, Carried { group: &group, fields: &fields }, of)
        }
    }
}

fn share_of_place(rules: &RuleSet, found: &Match, (consumer, member): (usize, usize), of: u32) -> u32 {
    let carried = Carried { group: &BTreeMap::new(), fields: &found.fields };
    share(&rules.consumers()[consumer], member, &found.cluster, carried, of)
}

/// Where a second request under its Audit-ID is noticed, if any rule asks for that.
fn share_of_audit_id(rules: &RuleSet, found: &Match, of: u32) -> Option<u32> {
    let mut asking = rules.consumers_of(reuse::CHOSEN).iter().filter(|place| !rules.consumers()[place.0].single);
    let (consumer, member) = *asking.next().filter(|_| reuse::is_uuid(&found.audit_id))?;
    let group = BTreeMap::from([("auditID".to_owned(), Value::from(&*found.audit_id))]);
    let carried = Carried { group: &group, fields: &found.fields };
    Some(share(&rules.consumers()[consumer], member, &found.cluster, carried, of))
}

fn share(consumer: &Consumer, member: usize, cluster: &str, carried: Carried<'_>, of: u32) -> u32 {
    // What is usual is known of a group without the value that may be new.
    let group = match &consumer.kind {
        CorrelationKind::FirstSeen(rule) => {
            let values = group_values(consumer, member, carried).map(|(_, value)| value);
            listed(values.take(consumer.group_by.len() - rule.fields.len()))
        }
        _ => group_of(consumer, member, carried),
    };
    spread(&consumer.info.id, cluster, &group, of)
}

fn spread(rule: &str, cluster: &str, group: &str, of: u32) -> u32 {
    let place = hash::short(&[rule.as_bytes(), cluster.as_bytes(), group.as_bytes()]) % u64::from(of.max(1));
    u32::try_from(place).unwrap_or_default()
}

/// Who takes the episodes of a correlation.
fn feeds<'r>(rules: &'r RuleSet, id: &str) -> &'r [(usize, usize)] {
    let consumer = rules.consumers().iter().find(|consumer| !consumer.single && consumer.info.id == id);
    consumer.map_or(&[], |consumer| consumer.feeds.as_slice())
}

/// For each consumer, whether it is made of episodes.
pub(super) fn relayed(rules: &RuleSet) -> Vec<bool> {
    let mut relayed = vec![false; rules.consumers().len()];
    for (consumer, _) in rules.consumers().iter().flat_map(|consumer| &consumer.feeds) {
        relayed[*consumer] = true;
    }
    relayed
}

/// An episode as it goes out.
pub(super) fn of(consumer: &Consumer, fed: Fed) -> Episode {
    let Shown { event, matched, said, .. } = fed.shown.open();
    Episode {
        rule: consumer.info.id.as_str().into(),
        cluster: fed.cluster,
        time: fed.time.0,
        request: fed.request,
        audit_id: fed.audit_id,
        group: fed.group,
        fields: Arc::unwrap_or_clone(fed.fields),
        event,
        matched,
        said,
    }
}

impl Correlator {
    /// Holds the groups of one share alone, of each rule as many as fall to it. Event time is what [`Self::begin`] and
    /// [`Self::advance`] say, and episodes for other correlations go out by [`Self::drain_episodes`].
    #[must_use]
    pub fn of_share(mut self, share: Share) -> Self {
        self.limits.max_keys = self.limits.max_keys.div_ceil(usize::try_from(share.of.max(1)).unwrap_or(1));
        self.share = Some(share);
        self.relayed = relayed(&self.rules);
        self
    }

    /// Shares do not wait for each other: of those that are made of episodes, some of an earlier time may still be on their
    /// way.
    pub(super) fn delay_of(&self, consumer: usize) -> Duration {
        let relayed = self.share.is_some() && self.relayed.get(consumer).is_some_and(|relayed| *relayed);
        if relayed { self.limits.lateness } else { Duration::ZERO }
    }

    /// The most that event time may go on at once, so that what is on its way between shares comes in time; `None` if
    /// nothing ever is.
    #[must_use]
    pub fn stride(&self) -> Option<Duration> {
        self.relayed.contains(&true).then_some(self.limits.lateness / 2)
    }

    /// How far event time has come in a cluster, if anything is held of it.
    #[must_use]
    pub fn time(&self, cluster: &str) -> Option<Timestamp> {
        self.watermarks.get(cluster).copied()
    }

    /// Says how far event time has come in a cluster of which nothing is known here.
    pub fn begin(&mut self, cluster: &Arc<str>, time: Timestamp) {
        self.watermarks.entry(Arc::clone(cluster)).or_insert(time);
    }

    /// Episodes since the last call that correlations are made of.
    pub fn drain_episodes(&mut self) -> Vec<Episode> {
        std::mem::take(&mut self.episodes)
    }

    /// Whether baselines have had what is taken from now on.
    pub fn set_again(&mut self, again: bool) {
        self.again = again;
    }

    /// Takes an episode that came in.
    pub fn take_episode(&mut self, episode: &Episode) {
        let time = episode.time();
        let watermark = *self.watermarks.entry(Arc::clone(&episode.cluster)).or_insert(time);
        let safe = watermark.minus(self.limits.lateness);
        self.expire(&episode.cluster);
        if self.seen.add_episode(&episode.rule, &episode.cluster, episode.request) {
            let rules = Arc::clone(&self.rules);
            let Episode { event, matched, said, fields, .. } = episode.clone();
            let fed = Fed {
                cluster: Arc::clone(&episode.cluster),
                time,
                request: episode.request,
                audit_id: Arc::clone(&episode.audit_id),
                group: episode.group.clone(),
                fields: Arc::new(episode.fields.clone()),
                shown: Packed::from(Shown { event, matched, said, fields }),
                again: self.was_there(&episode.cluster, time),
            };
            for &(consumer, member) in feeds(&rules, &episode.rule) {
                let at = |share: Share| {
                    self::share(&rules.consumers()[consumer], member, &fed.cluster, fed.carried(), share.of)
                };
                if self.share.is_none_or(|share| at(share) == share.number) {
                    self.feed((consumer, member), &fed, safe);
                }
            }
        }
        self.expire(&episode.cluster);
    }

    /// What of a match concerns this correlator.
    pub(super) fn here(&self, found: &Match) -> Here {
        let places = self.rules.consumers_of(&found.rule);
        let Some(Share { number, of }) = self.share else {
            return Here { places: places.to_vec(), audit_id: true, counts: true };
        };
        let shares: Vec<u32> = places.iter().map(|place| share_of_place(&self.rules, found, *place, of)).collect();
        let ours = places.iter().zip(&shares).filter(|(_, share)| **share == number);
        Here {
            places: ours.map(|(place, _)| *place).collect(),
            audit_id: share_of_audit_id(&self.rules, found, of) == Some(number),
            counts: shares.first() == Some(&number),
        }
    }

    /// The time of the oldest match that may still decide something: what is older need not be read again, if the alerts
    /// that fire are known. `None`: nothing that was taken matters any more.
    #[must_use]
    pub fn oldest(&self) -> Option<Timestamp> {
        let consumers = self.rules.consumers();
        let held = self.held.iter().flatten().filter_map(|held| held.key.oldest(consumers[held.id.0].alerts));
        let waiting = self.waiting.values().filter_map(|waiting| waiting.keys().next()).map(|turn| turn.0);
        // What comes twice does so within a while.
        let recent: Duration = self.limits.lateness * 2;
        let known = self.watermarks.values().map(|watermark| watermark.minus(recent));
        held.chain(waiting).chain(known).min()
    }
}

#[cfg(test)]
mod tests;
