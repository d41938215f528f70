//! One consumer, cluster and group: what is frozen, what may still be reordered, and the alerts that were told.

use std::collections::{HashMap, VecDeque};

use super::window::{Chain, Entry, State, reserve_first};
use crate::clock::Timestamp;
use crate::engine::Consumer;

/// Matches that may wait to be frozen; beyond it the older half is frozen early, as if lateness were shorter. Bounds what
/// one match that comes out of order can cost. (For an episode that is open nothing is lost by it.)
const LOOSE_MAX: usize = 2_000;

/// The state of one group.
///
/// Invariant: stepping `loose` onto `frozen` ends the episodes `ended`, in this order, and leaves `now`. So the episode
/// that freezing ends is always the first of `ended`, or `now` if `ended` is empty.
#[derive(Debug, Default)]
pub(super) struct Key {
    /// The state machine after everything that cannot change any more.
    frozen: State,
    /// Matches after that, in the order of their times.
    loose: VecDeque<Entry>,
    /// Episodes that ended among the loose matches.
    ended: Vec<Chain>,
    /// The state machine after the loose matches.
    now: State,
    /// Episodes that ended for good and are not told to have ended yet.
    done: Vec<Chain>,
    /// Alerts told as firing, oldest first.
    pub(super) told: Vec<Told>,
    /// When those episodes opened that other correlations have had before they could be told: it was still undecided
    /// whether they are one with a neighbour, but not when they opened.
    fed: Vec<Timestamp>,
    /// Time of the newest match.
    pub(super) newest: Option<Timestamp>,
}

/// An alert that was told as firing.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) id: String,
    /// A time within the episode, by which it is found again.
    pub(super) anchor: Timestamp,
    /// The count last told.
    pub(super) count: u64,
    /// The newest time last told.
    pub(super) last: Timestamp,
    /// Whether the correlations that are made of it have had it.
    pub(super) fed: bool,
}

/// Something to tell.
#[derive(Debug)]
pub(super) enum Tell {
    /// An episode opened.
    Fire(String, Chain),
    /// Nothing can change any more when it opened: other correlations may count it.
    Feed(String, Chain),
    /// It ended.
    Resolve(String, Chain),
}

impl Key {
    /// Takes a match. Says whether the older ones were frozen early, because too many were loose.
    pub(super) fn push(&mut self, entry: Entry, consumer: &Consumer) -> bool {
        self.newest = self.newest.max(Some(entry.time));
        reserve_first(&mut self.loose);
        if self.loose.back().is_none_or(|last| last.order() <= entry.order()) {
            self.ended.extend(self.now.step(&entry, consumer));
            self.loose.push_back(self.slim(entry, consumer));
        } else if let Some(chain) = self.within_open(entry.time) {
            chain.add(&entry, consumer);
            self.insert(entry);
        } else if self.stays_idle(consumer) {
            self.now.step(&entry, consumer);
            self.insert(entry);
        } else {
            self.insert(entry);
            self.replay(consumer);
        }
        let early = self.loose.len() > LOOSE_MAX;
        if early {
            for _ in 0..LOOSE_MAX / 2 {
                self.freeze_one(consumer);
            }
        }
        early
    }

    /// Whether a match of this time would be one more of an episode that is there.
    pub(super) fn joins(&self, time: Timestamp, consumer: &Consumer) -> bool {
        let chains = self.done.iter().chain(&self.ended).chain(self.now.chain());
        let goes_on = |chain: &Chain| time <= chain.last.plus(consumer.timespan) && chain.reaches(time, consumer);
        chains.into_iter().any(goes_on)
    }

    /// The open episode, if a match of this time is simply one more of it: after it opened, and before its newest.
    fn within_open(&mut self, time: Timestamp) -> Option<&mut Chain> {
        self.now.chain_mut().filter(|chain| chain.opened < time && time <= chain.last)
    }

    /// Whether one more match is too little for an episode, wherever it stands: then there is no need to begin anew from what
    /// is frozen, which costs as much as a window holds.
    fn stays_idle(&self, consumer: &Consumer) -> bool {
        let (State::Idle(frozen), State::Idle(_)) = (&self.frozen, &self.now) else { return false };
        let most = frozen.count() + self.loose.len() as u64 + 1;
        self.ended.is_empty() && consumer.kind.is_never_true_of(most)
    }

    fn insert(&mut self, entry: Entry) {
        let at = self.loose.partition_point(|other| other.order() <= entry.order());
        self.loose.insert(at, entry);
    }

    /// Within an open episode nobody will ask again what the event looked like, unless its steps are told.
    fn slim(&self, mut entry: Entry, consumer: &Consumer) -> Entry {
        if consumer.steps.is_empty() && self.now.chain().is_some_and(|chain| chain.opened < entry.time) {
            entry.shown = None;
        }
        entry
    }

    fn replay(&mut self, consumer: &Consumer) {
        self.now = self.frozen.clone();
        self.ended.clear();
        for entry in &self.loose {
            self.ended.extend(self.now.step(entry, consumer));
        }
    }

    /// Freezes everything before `safe`: nothing older will come, but others of that very time may.
    fn freeze(&mut self, safe: Timestamp, consumer: &Consumer) {
        while self.loose.front().is_some_and(|entry| entry.time < safe) {
            self.freeze_one(consumer);
        }
        if self.frozen.chain().is_some_and(|chain| safe > chain.last.plus(consumer.timespan))
            && let State::Open(chain) = std::mem::take(&mut self.frozen)
        {
            self.done.push(chain);
            if self.ended.is_empty() {
                self.now = State::default();
            } else {
                self.ended.remove(0);
            }
        }
    }

    /// Freezes the oldest of the loose matches.
    fn freeze_one(&mut self, consumer: &Consumer) {
        let Some(entry) = self.loose.pop_front() else { return };
        if let Some(chain) = self.frozen.step(&entry, consumer) {
            self.done.push(chain);
            if !self.ended.is_empty() {
                self.ended.remove(0);
            }
        }
    }

    /// Brings the key up to date: nothing older than `safe` will come. With `last_call` nothing will come at all.
    /// `id_of` names an episode when it is told.
    pub(super) fn settle(
        &mut self,
        safe: Timestamp,
        last_call: bool,
        consumer: &Consumer,
        id_of: &dyn Fn(&Chain) -> String,
    ) -> Vec<Tell> {
        self.freeze(safe, consumer);
        let chains: Vec<&Chain> = self.done.iter().chain(&self.ended).chain(self.now.chain()).collect();
        let over = |chain: &Chain| safe > chain.last.plus(consumer.timespan);
        let mut tell = Vec::new();
        let mut told = Vec::new();
        for (at, chain) in chains.iter().enumerate() {
            let within = |told: &Told| (chain.first..=chain.last).contains(&told.anchor);
            let mut known = self.told.extract_if(.., |told| within(told));
            let first = known.next();
            // Episodes that a match past the lateness bound has joined: the first one goes on.
            tell.extend(known.map(|other| Tell::Resolve(other.id, (*chain).clone())));
            let alert = first.or_else(|| {
                // A neighbour that was told might still turn out to be the same episode: wait until that is decided.
                let before = at == 0 || over(chains[at - 1]);
                let after = over(chain) || !self.told.iter().any(|told| told.anchor > chain.last);
                // What more matches could make untrue is told when none can come any more.
                let stands = consumer.monotone || chain.opened < safe;
                (last_call || (before && after && stands)).then(|| {
                    let id = id_of(chain);
                    tell.push(Tell::Fire(id.clone(), (*chain).clone()));
                    Told {
                        id,
                        anchor: chain.first,
                        count: chain.count,
                        last: chain.last,
                        fed: consumer.feeds.is_empty() || self.fed.contains(&chain.opened),
                    }
                })
            });
            let Some(mut alert) = alert else {
                // What other correlations hear of they must hear in its time.
                if chain.opened < safe && !consumer.feeds.is_empty() && !self.fed.contains(&chain.opened) {
                    self.fed.push(chain.opened);
                    tell.push(Tell::Feed(id_of(chain), (*chain).clone()));
                }
                continue;
            };
            if !alert.fed && (last_call || chain.opened < safe) {
                alert.fed = true;
                // A match that joined it to its neighbour may have come after it was heard of.
                if !self.fed.contains(&chain.opened) {
                    tell.push(Tell::Feed(alert.id.clone(), (*chain).clone()));
                }
            }
            if over(chain) {
                tell.push(Tell::Resolve(alert.id, (*chain).clone()));
            } else {
                told.push(alert);
            }
        }
        self.fed.retain(|opened| chains.iter().any(|chain| chain.opened == *opened));
        self.told = told;
        // One that came far too late may still have to wait before it is told.
        self.done.retain(|chain| !last_call && safe <= chain.last.plus(consumer.timespan));
        tell
    }

    /// Episodes that were told and have changed since: their ids and how they are now.
    pub(super) fn grown(&mut self) -> Vec<(String, Chain)> {
        let chains: Vec<&Chain> = self.done.iter().chain(&self.ended).chain(self.now.chain()).collect();
        let mut grown = Vec::new();
        for told in &mut self.told {
            let Some(chain) = chains.iter().find(|chain| (chain.first..=chain.last).contains(&told.anchor)) else {
                continue;
            };
            if (chain.count, chain.last) != (told.count, told.last) {
                (told.count, told.last) = (chain.count, chain.last);
                grown.push((told.id.clone(), (*chain).clone()));
            }
        }
        grown
    }

    /// When something is to be settled: what others wait for or the end of the oldest episode, whichever comes first, or the
    /// end of the window. `None`: the key can go.
    pub(super) fn deadline(&self, consumer: &Consumer) -> Option<Timestamp> {
        let mut chains = self.done.iter().chain(&self.ended).chain(self.now.chain());
        let waits = |chain: &&Chain| {
            let told = self.told.iter().find(|told| (chain.first..=chain.last).contains(&told.anchor));
            let unheard = !consumer.feeds.is_empty() && !self.fed.contains(&chain.opened);
            told.map_or(!consumer.monotone || unheard, |told| !told.fed)
        };
        let waiting = chains.clone().find(waits).map(|chain| chain.opened);
        // A later one may wait to be heard of while the oldest ends: its neighbour is told when that is over.
        let over = chains.next().map(|chain| chain.last.plus(consumer.timespan));
        if let Some(first) = waiting.into_iter().chain(over).min() {
            return Some(first);
        }
        let State::Idle(window) = &self.now else { return None };
        let newest = window.entries.back().map(|entry| entry.time).max(self.loose.back().map(|entry| entry.time));
        newest.map(|newest| newest.plus(consumer.timespan))
    }

    /// The matches in the window, oldest first; none while an episode is open.
    pub(super) fn window(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        let window = match &self.now {
            State::Open(_) => None,
            State::Idle(window) => Some(&window.entries),
        };
        window.into_iter().flatten()
    }

    /// The oldest match that the state is made of. Of an episode that an alert stands for which was told, and can be adopted,
    /// none is needed, as long as there is no other beside it.
    pub(super) fn oldest(&self, alerts: bool) -> Option<Timestamp> {
        let chains: Vec<&Chain> = self.done.iter().chain(&self.ended).chain(self.now.chain()).collect();
        let told = |chain: &Chain| self.told.iter().any(|told| (chain.first..=chain.last).contains(&told.anchor));
        let adopted = alerts && matches!(chains[..], [one] if told(one));
        let chains = chains.into_iter().chain(self.frozen.chain()).filter(|_| !adopted).map(|chain| chain.first);
        let window = match &self.frozen {
            State::Open(_) => None,
            State::Idle(window) => window.oldest(),
        };
        chains.chain(window).chain(self.loose.front().map(|entry| entry.time)).min()
    }

    /// How far the group is on its way to firing: what eviction looks at.
    pub(super) fn progress(&self) -> usize {
        match &self.now {
            State::Open(_) => usize::MAX,
            State::Idle(window) => window.entries.len(),
        }
    }

    /// Whether its window holds more matches than it keeps one by one.
    pub(super) fn is_overfull(&self) -> bool {
        matches!(&self.now, State::Idle(window) if window.is_overfull())
    }

    /// Whether no episode is open or waits to be told.
    pub(super) fn is_idle(&self) -> bool {
        self.now.chain().is_none() && self.ended.is_empty() && self.done.is_empty()
    }

    /// The group goes: the alerts that were told, and how their episodes stand.
    pub(super) fn leave(&mut self) -> Vec<(String, Chain)> {
        let chains: Vec<&Chain> = self.done.iter().chain(&self.ended).chain(self.now.chain()).collect();
        let told = std::mem::take(&mut self.told).into_iter();
        told.filter_map(|told| {
            let chain = chains.iter().find(|chain| (chain.first..=chain.last).contains(&told.anchor))?;
            Some((told.id, (*chain).clone()))
        })
        .collect()
    }

    /// Puts an alert that the store knows in place of what the rebuilt window says of the same time. The store's counts
    /// hold everything up to the alert's newest match; what came later is stepped onto it.
    pub(super) fn adopt(&mut self, id: &str, stored: &Chain, consumer: &Consumer) {
        self.newest = self.newest.max(Some(stored.last));
        if self.knows(id, stored) {
            return;
        }
        self.loose.retain(|entry| entry.time > stored.last);
        let mut stored = stored.clone();
        self.date(&mut stored);
        self.frozen = State::Open(stored.clone());
        self.replay(consumer);
        // One that the journal does not reach back to was counted long ago.
        let fed = self.told.iter().find(|told| told.id == id).is_none_or(|told| told.fed);
        self.told.retain(|told| told.id != id);
        let (anchor, count, last) = (stored.first, stored.count, stored.last);
        self.told.push(Told { id: id.to_owned(), anchor, count, last, fed });
    }

    /// Whether the journal reached back to all of an alert, so that the rebuilt window is as it was: then it can still say
    /// when the episode really opened, should older evidence come.
    fn knows(&self, id: &str, stored: &Chain) -> bool {
        let chains = self.done.iter().chain(&self.ended).chain(self.now.chain());
        let span = |chain: &Chain| (chain.first, chain.opened, chain.last, chain.count);
        let told = self.told.iter().any(|told| told.id == id && (told.count, told.last) == (stored.count, stored.last));
        told && chains.into_iter().any(|chain| span(chain) == span(stored))
    }

    /// Gives the audit ids of an alert, which the store keeps without their times, those that the rebuilt window knows.
    fn date(&self, stored: &mut Chain) {
        let chains = self.done.iter().chain(&self.ended).chain(self.now.chain());
        let known: HashMap<&str, Timestamp> =
            chains.flat_map(|chain| &chain.audit_ids).map(|(time, id)| (&**id, *time)).collect();
        for (time, id) in &mut stored.audit_ids {
            *time = known.get(&**id).copied().unwrap_or(*time);
        }
    }

    /// Forgets the episodes that the rebuilt window shows but the store does not know as firing: they have ended.
    pub(super) fn disown(&mut self, firing: &dyn Fn(&str) -> bool, consumer: &Consumer) {
        let gone: Vec<Told> = self.told.extract_if(.., |told| !firing(&told.id)).collect();
        for told in gone {
            let chains = self.ended.iter().chain(self.now.chain());
            let Some(last) = chains.filter(|c| (c.first..=c.last).contains(&told.anchor)).map(|c| c.last).next() else {
                continue;
            };
            self.loose.retain(|entry| entry.time > last);
            if self.frozen.chain().is_some_and(|chain| chain.first <= last) {
                self.frozen = State::default();
            }
            self.replay(consumer);
        }
    }
}
