//! All groups of all rules: matches in, changes of alerts out. Single-threaded; owned by one task.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::SKEW_MAX;
use super::baseline::{Baseline, Baselines, Observed};
use super::key::{Key, Tell};
use super::reuse::AuditIds;
use super::seen::{Novelty, Seen};
use super::window::Chain;
use crate::alert::{Alert, CANARY, Kind, Status};
use crate::clock::Timestamp;
use crate::engine::{Consumer, Fields, Match, Packed, RuleSet, listed};
use crate::hash;
use crate::rule::ir::CorrelationKind;

use evict::Ghosts;
use group::{Carried, entry, group_of, parts_of};
use relay::{Episode, Share};
use tell::{alert, alert_id, chain_of, fed_by, resolve_told};

mod evict;
mod group;
pub(super) mod relay;
mod tell;

/// Matches of a cluster that wait for their turn.
const WAITING_MAX: usize = 100_000;

/// Bounds.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Matches this much older than the newest event of their cluster still count exactly.
    pub lateness: Duration,
    /// Groups per rule.
    pub max_keys: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { lateness: Duration::from_secs(60), max_keys: 100_000 }
    }
}

/// One alert that opened, grew or ended.
#[derive(Clone, Debug)]
pub struct Change {
    /// What happened.
    pub kind: Kind,
    /// The alert as it is now.
    pub alert: Alert,
}

/// Counts since they were last taken.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Requests of which a rule was true.
    pub matches: BTreeMap<Arc<str>, u64>,
    /// Matching events that had been delivered before, by source.
    pub duplicates: BTreeMap<Arc<str>, u64>,
    /// Matches past the lateness bound, by source.
    pub late: BTreeMap<Arc<str>, u64>,
    /// Groups dropped because of `max_keys`, by rule.
    pub evictions: BTreeMap<String, u64>,
    /// Matches that came into a window that holds more than it keeps one by one, by rule.
    pub overfull: BTreeMap<String, u64>,
    /// What was forgotten or decided early because of a bound; the names are those of the metric.
    pub bounds: BTreeMap<&'static str, u64>,
}

/// What is known of each cluster, by its label: there are few, and each match asks for several.
type ByCluster<T> = HashMap<Arc<str>, T, foldhash::fast::RandomState>;

/// Identifies a group: consumer, cluster, and the group's values as JSON.
type KeyId = (usize, Arc<str>, String);

struct Held {
    id: KeyId,
    key: Key,
    deadline: Option<Timestamp>,
    /// The time under which it stands in its consumer's `quiet`.
    quiet: Timestamp,
    /// How far past the lateness bound its matches come: its own time runs so much behind that of its cluster, so that a
    /// group that is fed late still gets its quiet timespan.
    behind: Duration,
}

/// Windows and episodes of all groups.
pub struct Correlator {
    rules: Arc<RuleSet>,
    limits: Limits,
    ids: HashMap<KeyId, usize>,
    held: Vec<Option<Box<Held>>>,
    free: Vec<usize>,
    /// Per cluster: when which consumer's group is to be settled; a correlation comes after those that it is made of.
    deadlines: ByCluster<BTreeSet<Deadline>>,
    /// Per consumer: its groups by their newest match.
    quiet: Vec<BTreeSet<(Timestamp, usize)>>,
    /// Per cluster: the newest event time.
    watermarks: ByCluster<Timestamp>,
    seen: Seen,
    audit_ids: AuditIds,
    ghosts: Ghosts,
    dirty: BTreeSet<usize>,
    changes: Vec<Change>,
    stats: Stats,
    baselines: Baselines,
    /// The past is shown once more, to rebuild the windows: baselines know it already.
    again: bool,
    /// Per cluster: matches that baselines are asked about, which they get in the order of their times.
    waiting: ByCluster<BTreeMap<Turn, Waiting>>,
    waited: u64,
    /// Where groups are spread: which of them are held here. `None`: all of them.
    share: Option<Share>,
    /// The consumers whose matches come from other shares too.
    relayed: Vec<bool>,
    /// Episodes for correlations that are made of them, wherever those are held.
    episodes: Vec<Episode>,
}

/// When a group is to be settled, its consumer, and its place.
type Deadline = (Timestamp, usize, usize);

/// The order of those that wait: by time, then by request, so that it does not depend on their arrival.
type Turn = (Timestamp, u64, u64);

/// A match that waits until nothing older can come.
struct Waiting {
    place: (usize, usize),
    fed: Arc<Fed>,
}

/// A match of a rule, or the episode of a correlation, on its way into a group.
struct Fed {
    cluster: Arc<str>,
    time: Timestamp,
    /// What was requested, or the episode's own name.
    request: u64,
    audit_id: Arc<str>,
    /// The values by which the correlation that yields it groups.
    group: BTreeMap<String, Value>,
    fields: Arc<Fields>,
    shown: Packed,
    /// Baselines have had it before.
    again: bool,
}

impl Fed {
    fn carried(&self) -> Carried<'_> {
        Carried { group: &self.group, fields: &self.fields }
    }
}

impl Correlator {
    /// An empty correlator.
    #[must_use]
    pub fn new(rules: Arc<RuleSet>, limits: Limits) -> Self {
        let quiet = vec![BTreeSet::new(); rules.consumers().len()];
        Self {
            rules,
            limits,
            ids: HashMap::new(),
            held: Vec::new(),
            free: Vec::new(),
            deadlines: ByCluster::default(),
            quiet,
            watermarks: ByCluster::default(),
            seen: Seen::default(),
            audit_ids: AuditIds::default(),
            ghosts: Ghosts::default(),
            dirty: BTreeSet::new(),
            changes: Vec::new(),
            stats: Stats::default(),
            baselines: Baselines::default(),
            again: false,
            waiting: ByCluster::default(),
            waited: 0,
            share: None,
            relayed: Vec::new(),
            episodes: Vec::new(),
        }
    }

    /// Takes over what is known to be usual, and goes on as if its past were still to come: what is taken from now on
    /// up to [`Self::adopt`] was taken before.
    pub fn rebuild(&mut self, baselines: Vec<Baseline>) {
        self.baselines.restore(self.rules.consumers(), baselines);
        self.again = true;
    }

    /// What is usual and has changed since the last call.
    pub fn drain_baselines(&mut self) -> Vec<Baseline> {
        self.baselines.drain()
    }

    /// Takes matches in the order of their delivery. `received` is the wall clock at their arrival, which bounds how far
    /// an event from the future can push event time; `None` for logs, whose events are all in the past.
    pub fn take(&mut self, matches: &[Match], received: Option<Timestamp>) {
        for found in matches {
            let time = received.map_or(found.time, |received| found.time.min(received.plus(SKEW_MAX)));
            let watermark = self.watermarks.entry(Arc::clone(&found.cluster)).or_insert(time);
            // A share sees few of the events that make time: it is told.
            if self.share.is_none() {
                *watermark = (*watermark).max(time);
            }
            let safe = watermark.minus(self.limits.lateness);
            // What this time decides about others comes before the match: an episode may be a match of the same group.
            self.expire(&found.cluster);
            self.one(found, time, safe);
            self.expire(&found.cluster);
        }
    }

    /// Tells that events of a cluster have been seen up to `time`, matching or not.
    pub fn advance(&mut self, cluster: &Arc<str>, time: Timestamp) {
        // A cluster without groups needs no time: its next match brings its own.
        let Some(watermark) = self.watermarks.get_mut(cluster).filter(|watermark| **watermark <= time) else { return };
        *watermark = time;
        self.expire(cluster);
        if self.deadlines.get(cluster).is_none_or(BTreeSet::is_empty) {
            self.deadlines.remove(cluster);
            self.watermarks.remove(cluster);
        }
    }

    /// The newest event time of each cluster that has groups or had matches.
    pub fn watermarks(&self) -> impl Iterator<Item = (&Arc<str>, Timestamp)> {
        self.watermarks.iter().map(|(cluster, time)| (cluster, *time))
    }

    /// Nothing more will come: decides everything that waited. Episodes that were not over stay firing.
    pub fn finish(&mut self) {
        let clusters: Vec<Arc<str>> = self.waiting.keys().cloned().collect();
        for cluster in clusters {
            self.feed_waiting(&cluster, Timestamp(i64::MAX));
        }
        let watermarks: Vec<_> = self.watermarks.iter().map(|(cluster, time)| (Arc::clone(cluster), *time)).collect();
        for (cluster, watermark) in watermarks {
            while let Some(due) = self.due(&cluster, just_after(watermark)) {
                self.settle(due.2, just_after(due.0), false);
                if self.waits(&cluster, due) {
                    break;
                }
            }
        }
        // A correlation comes after those that it is made of, and so after their last episodes.
        for consumer in 0..self.quiet.len() {
            let groups: Vec<usize> = self.quiet[consumer].iter().map(|(_, at)| *at).collect();
            for at in groups {
                let Some(held) = &self.held[at] else { continue };
                let safe = self.watermarks.get(&held.id.1).copied().unwrap_or(Timestamp::MIN);
                self.settle(at, safe, true);
            }
        }
    }

    /// What has changed since the last call: alerts that opened and ended in their order, then those that grew.
    pub fn drain(&mut self) -> Vec<Change> {
        for at in std::mem::take(&mut self.dirty) {
            let Some(held) = self.held[at].as_mut() else { continue };
            if !self.rules.consumers()[held.id.0].alerts {
                continue;
            }
            for (id, chain) in held.key.grown() {
                let alert = alert(&self.rules.consumers()[held.id.0], held, id, &chain, Status::Firing);
                self.changes.push(Change { kind: Kind::Update, alert });
            }
        }
        std::mem::take(&mut self.changes)
    }

    /// The rules in use.
    #[must_use]
    pub fn rules(&self) -> Arc<RuleSet> {
        Arc::clone(&self.rules)
    }

    /// Open episodes that were told, by level from the lowest.
    #[must_use]
    pub fn firing(&self) -> [usize; 5] {
        let mut firing = [0; 5];
        let of_people = |consumer: &Consumer| consumer.alerts && consumer.info.id != CANARY;
        for held in self.held.iter().flatten().filter(|held| of_people(&self.rules.consumers()[held.id.0])) {
            firing[self.rules.consumers()[held.id.0].info.level as usize] += held.key.told.len();
        }
        firing
    }

    /// Counts since the last call.
    pub fn take_stats(&mut self) -> Stats {
        let forgotten = [
            ("known_requests", self.seen.take_forgotten()),
            ("known_audit_ids", self.audit_ids.take_forgotten()),
            ("evicted_windows", self.ghosts.take_forgotten()),
        ];
        self.stats.bounds.extend(forgotten);
        std::mem::take(&mut self.stats)
    }

    /// Groups held per consumer, by rule id.
    pub fn keys(&self) -> impl Iterator<Item = (&str, usize)> {
        self.rules.consumers().iter().zip(&self.quiet).map(|(consumer, quiet)| (consumer.info.id.as_str(), quiet.len()))
    }

    /// Ends a silent replay of the past: what it told is forgotten, and the alerts that the store knows as firing take
    /// the place of what the replay found.
    pub fn adopt(&mut self, firing: &[Alert]) {
        // Time alone had gone further than the matches that are shown again.
        let clusters: Vec<Arc<str>> = self.waiting.keys().cloned().collect();
        for cluster in clusters {
            self.feed_waiting(&cluster, self.baselines.known_until(&cluster));
        }
        self.changes.clear();
        self.episodes.clear();
        self.dirty.clear();
        self.stats = Stats::default();
        self.baselines.forget_changes();
        self.again = false;
        let known: HashSet<&str> = firing.iter().map(|alert| alert.id.as_str()).collect();
        let rules = Arc::clone(&self.rules);
        // Of episodes that only serve other correlations the store knows nothing.
        for held in self.held.iter_mut().flatten().filter(|held| rules.consumers()[held.id.0].alerts) {
            held.key.disown(&|id| known.contains(id), &rules.consumers()[held.id.0]);
        }
        for alert in firing {
            let Some(consumer) = rules.consumers().iter().position(|c| c.info.id == alert.rule.id) else {
                self.orphan(alert);
                continue;
            };
            let values = rules.consumers()[consumer].group_by.iter();
            let values = values.map(|(name, _)| alert.group.get(&**name).unwrap_or(&Value::Null));
            let cluster: Arc<str> = alert.cluster.as_str().into();
            self.watermarks.entry(Arc::clone(&cluster)).or_insert(alert.last_seen);
            let at = self.hold((consumer, cluster, listed(values)), alert.last_seen);
            if let Some(held) = self.held[at].as_mut() {
                let consumer = &rules.consumers()[consumer];
                held.key.adopt(&alert.id, &chain_of(alert, consumer), consumer);
            }
            self.index(at, None);
        }
        for at in 0..self.held.len() {
            self.index(at, None);
        }
    }

    /// Goes on with another rule set. Groups of unchanged rules live on; episodes of rules that are gone are resolved.
    pub fn reload(&mut self, rules: Arc<RuleSet>) {
        let places: Vec<Option<usize>> = self.rules.consumers().iter().map(|old| same(old, &rules)).collect();
        let old = std::mem::replace(&mut self.rules, rules);
        self.relayed = relay::relayed(&self.rules);
        self.ids.clear();
        self.deadlines.clear();
        self.quiet = vec![BTreeSet::new(); self.rules.consumers().len()];
        for at in 0..self.held.len() {
            let Some(mut held) = self.held[at].take() else { continue };
            match places[held.id.0] {
                Some(place) => {
                    held.id.0 = place;
                    held.deadline = None;
                    self.quiet[place].insert((held.quiet, at));
                    self.ids.insert(held.id.clone(), at);
                    self.held[at] = Some(held);
                    self.index(at, None);
                }
                None => {
                    let consumer = &old.consumers()[held.id.0];
                    self.changes.extend(resolve_told(consumer, &mut held));
                    self.dirty.remove(&at);
                    self.free.push(at);
                }
            }
        }
    }

    /// A firing alert whose rule is gone: nothing will ever end it but this.
    fn orphan(&mut self, alert: &Alert) {
        let alert = Alert { status: Status::Resolved, ..alert.clone() };
        self.changes.push(Change { kind: Kind::Resolved, alert });
    }

    fn one(&mut self, found: &Match, time: Timestamp, safe: Timestamp) {
        let here = self.here(found);
        match self.seen.add(found) {
            Novelty::New => {}
            Novelty::LaterStage => return,
            Novelty::Duplicate(first) => {
                if first && here.counts {
                    *self.stats.duplicates.entry(Arc::clone(&found.source)).or_default() += 1;
                }
                return;
            }
        }
        if here.counts {
            *self.stats.matches.entry(Arc::clone(&found.rule)).or_default() += 1;
        }
        if time < safe && here.counts {
            *self.stats.late.entry(Arc::clone(&found.source)).or_default() += 1;
        }
        let rules = Arc::clone(&self.rules);
        let fed = Fed {
            cluster: Arc::clone(&found.cluster),
            time,
            request: found.request,
            audit_id: Arc::clone(&found.audit_id),
            group: BTreeMap::new(),
            fields: Arc::clone(&found.fields),
            shown: found.shown.clone(),
            again: self.was_there(&found.cluster, time),
        };
        if here.audit_id {
            for (request, time) in self.audit_ids.note(found, time) {
                self.reused(&fed, request, time, safe);
            }
        }
        let fed = Arc::new(fed);
        for place in here.places {
            if asks_baselines(&rules.consumers()[place.0]) && time >= safe {
                self.wait(place, &fed);
            } else {
                self.feed(place, &fed, safe);
            }
        }
    }

    /// Puts a match where it waits for its turn. With too many the oldest do not wait any longer.
    fn wait(&mut self, place: (usize, usize), fed: &Arc<Fed>) {
        self.waited += 1;
        let waiting = self.waiting.entry(Arc::clone(&fed.cluster)).or_default();
        waiting.insert((fed.time, fed.request, self.waited), Waiting { place, fed: Arc::clone(fed) });
        if waiting.len() > WAITING_MAX
            && let Some(((time, ..), Waiting { place, fed })) = waiting.pop_first()
        {
            *self.stats.bounds.entry("baseline_turns").or_default() += 1;
            self.feed(place, &fed, time);
        }
    }

    /// Puts a match into the group that it belongs to.
    fn feed(&mut self, (at, member): (usize, usize), fed: &Fed, safe: Timestamp) {
        let rules = Arc::clone(&self.rules);
        let consumer = &rules.consumers()[at];
        if asks_baselines(consumer) && !fed.again {
            self.baselines.know_until(&fed.cluster, safe);
        }
        let id = (at, Arc::clone(&fed.cluster), group_of(consumer, member, fed.carried()));
        let Some(bound) = self.compared_with_usual(consumer, member, fed, &id) else { return };
        let delay = self.delay_of(id.0);
        let at = self.hold(id, fed.time);
        if let Some(held) = self.held[at].as_mut() {
            if held.key.push(entry(consumer, member, fed, bound), consumer) {
                *self.stats.bounds.entry("reordered").or_default() += 1;
            }
            if held.key.is_overfull() {
                *self.stats.overfull.entry(consumer.info.id.clone()).or_default() += 1;
            }
            held.behind = held.behind.max(safe.since(fed.time) + delay);
        }
        self.settle(at, safe, false);
    }

    /// What baselines say of a match: how many would be a spike, or `None` if there is nothing new about it.
    fn compared_with_usual(&mut self, consumer: &Consumer, member: usize, fed: &Fed, id: &KeyId) -> Option<u64> {
        let mut evicted = 0;
        let bound = match &consumer.kind {
            CorrelationKind::FirstSeen(rule) => {
                // The group without the value, which is the last part of it.
                // Of an event that lacks the fields nothing can be new.
                let (group, value) =
                    parts_of(consumer, member, fed.carried(), consumer.group_by.len() - rule.fields.len())?;
                let observed = Self::observed(fed, &group, &value);
                let joins = self.ids.get(id).and_then(|at| self.held[*at].as_ref());
                let joins = joins.is_some_and(|held| held.key.joins(fed.time, consumer));
                let new = self.baselines.is_new(consumer, rule, &observed, self.limits.max_keys, &mut evicted);
                (new || joins).then_some(0)
            }
            CorrelationKind::Spike(rule) => {
                let observed = Self::observed(fed, &id.2, "");
                Some(self.baselines.bound(consumer, rule, &observed, self.limits.max_keys, &mut evicted))
            }
            _ => Some(0),
        };
        if evicted > 0 {
            *self.stats.evictions.entry(consumer.info.id.clone()).or_default() += evicted;
        }
        bound
    }

    /// Whether what happened then is shown once more, and baselines had it the first time.
    fn was_there(&self, cluster: &str, time: Timestamp) -> bool {
        self.again && time < self.baselines.known_until(cluster)
    }

    fn observed(fed: &Fed, group: &str, value: &str) -> Observed {
        Observed {
            key: hash::short(&[fed.cluster.as_bytes(), group.as_bytes()]),
            time: fed.time,
            value: hash::short(&[value.as_bytes()]),
            request: fed.request,
            again: fed.again,
        }
    }

    /// The place of a group, which is made if it is new.
    fn hold(&mut self, id: KeyId, time: Timestamp) -> usize {
        if let Some(at) = self.ids.get(&id) {
            return *at;
        }
        if self.quiet[id.0].len() >= self.limits.max_keys {
            self.evict(id.0);
        }
        let consumer = id.0;
        let key = self.ghosts.recall(&id, &self.rules.consumers()[consumer]);
        let held = Held { id: id.clone(), key, deadline: None, quiet: time, behind: Duration::ZERO };
        let at = match self.free.pop() {
            Some(at) => at,
            None => {
                self.held.push(None);
                self.held.len() - 1
            }
        };
        self.held[at] = Some(Box::new(held));
        self.quiet[consumer].insert((time, at));
        self.ids.insert(id, at);
        at
    }

    fn drop_key(&mut self, at: usize) {
        let Some(held) = self.held[at].take() else { return };
        self.ids.remove(&held.id);
        self.quiet[held.id.0].remove(&(held.quiet, at));
        if let (Some(deadline), Some(deadlines)) = (held.deadline, self.deadlines.get_mut(&held.id.1)) {
            deadlines.remove(&(deadline, held.id.0, at));
        }
        self.dirty.remove(&at);
        self.free.push(at);
    }

    /// Settles the groups of a cluster whose time has come, and gives those their matches that have waited for it.
    fn expire(&mut self, cluster: &Arc<str>) {
        let Some(watermark) = self.watermarks.get(cluster) else { return };
        let safe = watermark.minus(self.limits.lateness);
        self.feed_waiting(cluster, safe);
        self.settle_before(cluster, safe);
    }

    /// Feeds what has waited until `safe`, each in its own time.
    fn feed_waiting(&mut self, cluster: &Arc<str>, safe: Timestamp) {
        while let Some(waiting) = self.waiting.get_mut(cluster) {
            let Some(first) = waiting.first_entry().filter(|first| first.key().0 < safe) else {
                if waiting.is_empty() {
                    self.waiting.remove(cluster);
                }
                return;
            };
            let ((time, ..), Waiting { place, fed }) = first.remove_entry();
            self.settle_before(cluster, time);
            self.feed(place, &fed, time);
        }
    }

    /// Settles groups in the order of their deadlines, each as of its own: what one yields to another may be older than
    /// what that one could decide by now.
    fn settle_before(&mut self, cluster: &Arc<str>, safe: Timestamp) {
        while let Some(due) = self.due(cluster, safe) {
            let (deadline, _, at) = due;
            self.settle(at, just_after(deadline), false);
            if self.waits(cluster, due) {
                self.settle(at, safe, false);
            }
            // Whatever a group waits for, it has waited long enough.
            if self.waits(cluster, due) {
                self.drop_key(at);
            }
        }
    }

    /// The group that is to be settled first, if it is to be before `safe`.
    fn due(&self, cluster: &str, safe: Timestamp) -> Option<Deadline> {
        self.deadlines.get(cluster)?.first().copied().filter(|(deadline, ..)| *deadline < safe)
    }

    fn waits(&self, cluster: &str, due: Deadline) -> bool {
        self.deadlines.get(cluster).is_some_and(|deadlines| deadlines.contains(&due))
    }

    fn settle(&mut self, at: usize, safe: Timestamp, last_call: bool) {
        let rules = Arc::clone(&self.rules);
        let Some(held) = self.held[at].as_mut() else { return };
        let consumer = &rules.consumers()[held.id.0];
        let (_, cluster, group) = &held.id;
        let id_of = |chain: &Chain| alert_id(&consumer.info.id, cluster, group, chain.evidence);
        let own_safe = if last_call { safe } else { safe.minus(held.behind) };
        let mut episodes = Vec::new();
        for tell in held.key.settle(own_safe, last_call, consumer, &id_of) {
            let (kind, status, id, chain) = match tell {
                Tell::Fire(id, chain) => (Kind::Firing, Status::Firing, id, chain),
                Tell::Resolve(id, chain) => (Kind::Resolved, Status::Resolved, id, chain),
                Tell::Feed(id, chain) => {
                    episodes.push((fed_by(consumer, held, &id, &chain), chain.opened));
                    continue;
                }
            };
            if consumer.alerts {
                self.changes.push(Change { kind, alert: alert(consumer, held, id, &chain, status) });
            }
        }
        if !held.key.told.is_empty() {
            self.dirty.insert(at);
        }
        self.index(at, Some(safe));
        if self.share.is_some() {
            self.episodes.extend(episodes.into_iter().map(|(episode, _)| relay::of(consumer, episode)));
            return;
        }
        for (mut episode, opened) in episodes {
            episode.again = self.was_there(&episode.cluster, opened);
            for &place in &consumer.feeds {
                self.feed(place, &episode, safe);
            }
        }
    }

    /// Puts a group where its deadline and its newest match say, or lets it go if nothing is left of it that could matter
    /// after `safe`, or by now.
    fn index(&mut self, at: usize, safe: Option<Timestamp>) {
        let Some(held) = self.held[at].as_mut() else { return };
        let consumer = &self.rules.consumers()[held.id.0];
        // In the cluster's time, which the group's own runs behind.
        let deadline = held.key.deadline(consumer).map(|deadline| deadline.plus(held.behind));
        let now = || self.watermarks.get(&held.id.1).map(|watermark| watermark.minus(self.limits.lateness));
        let safe = safe.or_else(now);
        let stale = deadline.zip(safe).is_none_or(|(deadline, safe)| deadline < safe) && held.key.told.is_empty();
        if stale && held.key.is_idle() {
            return self.drop_key(at);
        }
        if let Some(newest) = held.key.newest
            && newest != held.quiet
        {
            let quiet = &mut self.quiet[held.id.0];
            quiet.remove(&(held.quiet, at));
            held.quiet = newest;
            quiet.insert((newest, at));
        }
        if deadline != held.deadline {
            let deadlines = self.deadlines.entry(Arc::clone(&held.id.1)).or_default();
            if let Some(before) = held.deadline {
                deadlines.remove(&(before, held.id.0, at));
            }
            if let Some(deadline) = deadline {
                deadlines.insert((deadline, held.id.0, at));
            }
            held.deadline = deadline;
        }
    }
}

fn just_after(time: Timestamp) -> Timestamp {
    Timestamp(time.0.saturating_add(1))
}

fn asks_baselines(consumer: &Consumer) -> bool {
    matches!(consumer.kind, CorrelationKind::FirstSeen(_) | CorrelationKind::Spike(_))
}

fn same(old: &Consumer, rules: &RuleSet) -> Option<usize> {
    rules.consumers().iter().position(|new| {
        new.info.id == old.info.id
            && new.fingerprint == old.fingerprint
            && new.single == old.single
            && new.alerts == old.alerts
            && new.timespan == old.timespan
    })
}

#[cfg(test)]
mod tests;
