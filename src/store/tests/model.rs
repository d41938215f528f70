//! Random histories against a naive model of the store: plain lists, no database.

use proptest::prelude::*;
use proptest::sample::Index;

use super::*;

const SINKS: [&str; 2] = ["s", "t"];

#[derive(Clone, Debug)]
enum Op {
    /// Rule and user of each match; where the file was read up to.
    Append(Vec<(u8, u8)>, Option<u32>),
    /// Batches to move the cursor by; alert, kind, count and sinks of each change.
    Commit(usize, Vec<(u8, Kind, u64, Vec<usize>)>),
    /// Sink, time, limit.
    Due(usize, i64, usize),
    /// Sink, which of those handed out, how it ended.
    Settle(usize, Index, How),
    Reopen,
}

#[derive(Clone, Debug)]
enum How {
    Sent(Option<u8>),
    Retry(i64),
    Dead,
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![Just(Kind::Firing), Just(Kind::Update), Just(Kind::Resolved)];
    let change = (0..4_u8, kind, 1..100_u64, prop::sample::subsequence(vec![0, 1], 0..=2));
    let how = prop_oneof![
        3 => prop::option::of(0..9_u8).prop_map(How::Sent),
        2 => (0..50_i64).prop_map(How::Retry),
        1 => Just(How::Dead),
    ];
    prop_oneof![
        2 => (prop::collection::vec((0..2_u8, 0..2_u8), 0..6), prop::option::of(0..99_u32))
            .prop_map(|(matches, position)| Op::Append(matches, position)),
        4 => (0..3_usize, prop::collection::vec(change, 0..4)).prop_map(|(by, changes)| Op::Commit(by, changes)),
        3 => (0..2_usize, 0..60_i64, 1..5_usize).prop_map(|(sink, now, limit)| Op::Due(sink, now, limit)),
        4 => (0..2_usize, any::<Index>(), how).prop_map(|(sink, which, how)| Op::Settle(sink, which, how)),
        1 => Just(Op::Reopen),
    ]
}

/// A delivery of the model. `n` is its place among all that were ever queued.
#[derive(Clone, Debug)]
struct Owed {
    n: usize,
    sink: usize,
    id: String,
    kind: Kind,
    state: &'static str,
    wants: u64,
    attempts: u32,
    not_before: i64,
}

/// On the wire: the store's name for it, the model's, and what the sink is being told.
#[derive(Clone, Debug)]
struct Wire {
    seq: i64,
    n: usize,
    sink: usize,
    id: String,
    revision: u64,
}

#[derive(Default)]
struct Model {
    journal: Vec<(i64, Vec<Match>)>,
    cursor: i64,
    offset: Option<u64>,
    alerts: BTreeMap<String, (Alert, u64)>,
    owed: Vec<Owed>,
    queued: usize,
    memories: BTreeMap<(String, usize), String>,
    wire: Vec<Wire>,
}

impl Model {
    fn append(&mut self, append: &Append) {
        if !append.matches.is_empty() {
            let distinct = append.matches.iter().map(|one| (one.rule.clone(), format!("{:?}", one.fields)));
            let rows = distinct.collect::<std::collections::BTreeSet<_>>().len();
            let last = self.journal.last().map_or(0, |(seq, _)| *seq);
            self.journal.push((last + i64::try_from(rows).unwrap(), append.matches.clone()));
        }
        if let Some(position) = &append.position {
            self.offset = Some(position.offset);
        }
    }

    fn find(&mut self, sink: usize, id: &str, kind: Kind) -> Option<&mut Owed> {
        self.owed.iter_mut().find(|owed| owed.sink == sink && owed.id == id && owed.kind == kind)
    }

    /// First messages of an alert that reached their sink or may still.
    fn told(&self, id: &str) -> impl Iterator<Item = &Owed> {
        self.owed.iter().filter(move |owed| owed.id == id && owed.kind == Kind::Firing && owed.state != "dead")
    }

    fn queue(&mut self, sink: usize, id: &str, kind: Kind, wants: u64) {
        self.owed.retain(|owed| !(owed.sink == sink && owed.id == id && owed.kind == kind));
        self.queued += 1;
        let (n, id) = (self.queued, id.to_owned());
        self.owed.push(Owed { n, sink, id, kind, state: "pending", wants, attempts: 0, not_before: 0 });
    }

    fn change(&mut self, change: &Change) {
        let mut alert = change.alert.clone();
        let id = alert.id.clone();
        let sinks: Vec<usize> = change.sinks.iter().map(|name| SINKS.iter().position(|s| s == name).unwrap()).collect();
        if change.kind == Kind::Firing {
            if !self.alerts.contains_key(&id) {
                self.alerts.insert(id.clone(), (alert, 1));
                sinks.iter().for_each(|&sink| self.queue(sink, &id, Kind::Firing, 1));
            }
            return;
        }
        if change.kind == Kind::Resolved {
            alert.status = Status::Resolved;
        }
        let Some((known, revision)) = self.alerts.get_mut(&id) else { return };
        if known.status == Status::Resolved && alert.status == Status::Firing {
            return;
        }
        // Time and who it is about are the first event's, whatever a change says.
        (*known, *revision) = (alert, *revision + 1);
        let revision = *revision;
        if change.kind == Kind::Resolved {
            self.owed.retain(|owed| !(owed.id == id && owed.kind == Kind::Update && owed.state == "pending"));
            let mut told: Vec<(usize, usize)> = self.told(&id).map(|owed| (owed.n, owed.sink)).collect();
            told.sort_unstable();
            for (_, sink) in told {
                if self.find(sink, &id, Kind::Resolved).is_none() {
                    self.queue(sink, &id, Kind::Resolved, revision);
                }
            }
            return;
        }
        for sink in sinks {
            let update_waits = self.find(sink, &id, Kind::Update).is_some_and(|owed| owed.state == "pending");
            if update_waits {
                self.find(sink, &id, Kind::Update).unwrap().wants = revision;
            } else if self.told(&id).any(|owed| owed.sink == sink) {
                self.queue(sink, &id, Kind::Update, revision);
            }
        }
    }

    fn due(&self, sink: usize, now: i64, limit: usize) -> Vec<Owed> {
        let waits = |owed: &&Owed| owed.sink == sink && owed.state == "pending";
        let opening: Vec<&str> =
            self.owed.iter().filter(waits).filter(|o| o.kind == Kind::Firing).map(|o| o.id.as_str()).collect();
        let ready = |owed: &&Owed| {
            owed.not_before <= now && (owed.kind == Kind::Firing || !opening.contains(&owed.id.as_str()))
        };
        let mut due: Vec<Owed> = self.owed.iter().filter(waits).filter(ready).cloned().collect();
        due.sort_by_key(|owed| owed.n);
        due.truncate(limit);
        due
    }

    fn settle(&mut self, wire: &Wire, how: &How) {
        let known = self.owed.iter().position(|owed| owed.n == wire.n && owed.state == "pending");
        if let How::Sent(Some(memory)) = how {
            self.memories.insert((wire.id.clone(), wire.sink), memory.to_string());
        }
        let Some(at) = known else { return };
        let owed = &mut self.owed[at];
        match how {
            How::Retry(not_before) => {
                owed.attempts += 1;
                owed.not_before = *not_before;
            }
            How::Dead => {
                owed.state = "dead";
                if owed.kind == Kind::Firing {
                    self.owed.retain(|o| !(o.id == wire.id && o.sink == wire.sink && o.state == "pending"));
                }
            }
            How::Sent(_) => {
                if owed.kind == Kind::Update {
                    (owed.attempts, owed.not_before) = (0, 0);
                } else {
                    owed.state = "sent";
                }
                for update in &mut self.owed {
                    let same = update.sink == wire.sink && update.id == wire.id && update.kind == Kind::Update;
                    if same && update.state == "pending" && update.wants <= wire.revision {
                        update.state = "sent";
                    }
                }
            }
        }
    }
}

/// The store under test beside its model.
struct Pair {
    dir: TempDir,
    store: Option<Store>,
    model: Model,
    matches: i64,
}

impl Pair {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    async fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(matches, position) => self.append(matches, *position).await,
            Op::Commit(by, changes) => self.commit(*by, changes).await,
            Op::Due(sink, now, limit) => self.due(*sink, *now, *limit).await,
            Op::Settle(sink, which, how) => self.settle(*sink, which, how).await,
            Op::Reopen => {
                self.store = None;
                self.store = Some(Store::open(self.dir.path()).unwrap());
                self.model.wire.clear();
            }
        }
    }

    async fn append(&mut self, matches: &[(u8, u8)], position: Option<u32>) {
        let matches = matches.iter().map(|(rule, user)| {
            self.matches += 1;
            found(&format!("rule-{rule}"), &format!("user-{user}"), self.matches)
        });
        let position = position.map(|offset| FilePosition {
            path: "/a.log".to_owned(),
            identity: "1:2".to_owned(),
            offset: u64::from(offset),
        });
        let append = Append { matches: matches.collect(), position };
        self.model.append(&append);
        self.store().append(append).await.unwrap();
    }

    async fn commit(&mut self, by: usize, changes: &[(u8, Kind, u64, Vec<usize>)]) {
        let ahead = self.model.journal.iter().filter(|(seq, _)| *seq > self.model.cursor);
        let cursor = ahead.take(by).last().map_or(self.model.cursor, |(seq, _)| *seq);
        let changes: Vec<Change> = changes
            .iter()
            .map(|(id, kind, count, sinks)| {
                let sinks: Vec<&str> = sinks.iter().map(|&sink| SINKS[sink]).collect();
                change(&grown(&alert(&id.to_string(), i64::from(*id)), *count), *kind, &sinks)
            })
            .collect();
        changes.iter().for_each(|change| self.model.change(change));
        self.model.cursor = cursor;
        self.store().commit(Commit { cursor, changes, ..Commit::default() }).await.unwrap();
    }

    async fn due(&mut self, sink: usize, now: i64, limit: usize) {
        let actual = self.store().due(SINKS[sink], Timestamp(now), limit).await.unwrap();
        let expected = self.model.due(sink, now, limit);
        assert_eq!(actual.len(), expected.len(), "{actual:?} {expected:?}");
        for (one, owed) in actual.iter().zip(expected) {
            let (alert, revision) = &self.model.alerts[&owed.id];
            assert_eq!((one.kind, one.attempts, &one.alert), (owed.kind, owed.attempts, alert));
            assert_eq!(one.remembered.as_ref(), self.model.memories.get(&(owed.id.clone(), sink)));
            if !self.model.wire.iter().any(|wire| wire.n == owed.n) {
                self.model.wire.push(Wire { seq: one.seq, n: owed.n, sink, id: owed.id, revision: *revision });
            }
        }
    }

    async fn settle(&mut self, sink: usize, which: &Index, how: &How) {
        let on_the_wire: Vec<Wire> = self.model.wire.iter().filter(|wire| wire.sink == sink).cloned().collect();
        if on_the_wire.is_empty() {
            return;
        }
        let wire = which.get(&on_the_wire);
        self.model.wire.retain(|other| other.n != wire.n);
        self.model.settle(wire, how);
        let settlement = match how {
            How::Sent(memory) => Settlement::Sent { remember: memory.map(|memory| memory.to_string()) },
            How::Retry(not_before) => {
                Settlement::Retry { not_before: Timestamp(*not_before), reason: "later".to_owned() }
            }
            How::Dead => dead("never"),
        };
        self.store().settle(SINKS[sink], vec![(wire.seq, settlement)]).await.unwrap();
    }

    async fn check(&self) {
        let (store, model) = (self.store(), &self.model);
        let read = store.journal_after(0, usize::MAX).await.unwrap();
        let read: Vec<(i64, Vec<Match>)> = read.into_iter().map(|batch| (batch.seq, batch.matches)).collect();
        assert_eq!(read, model.journal);
        assert_eq!(store.cursor().await.unwrap(), model.cursor);
        let ahead = model.journal.iter().filter(|(seq, _)| *seq > model.cursor).count();
        assert_eq!(store.journal_backlog().await.unwrap(), u64::try_from(ahead).unwrap());
        let offset = store.file_position("/a.log").await.unwrap().map(|position| position.offset);
        assert_eq!(offset, model.offset);
        let all: Vec<Alert> = model.alerts.values().rev().map(|(alert, _)| alert.clone()).collect();
        assert_eq!(store.alerts(AlertQuery::default()).await.unwrap(), all);
        let firing: Vec<Alert> = all.into_iter().rev().filter(|alert| alert.status == Status::Firing).collect();
        assert_eq!(store.firing().await.unwrap(), firing);
        for (sink, name) in SINKS.iter().enumerate() {
            let count = |state| model.owed.iter().filter(|owed| owed.sink == sink && owed.state == state).count();
            let backlog = store.backlog(name).await.unwrap();
            assert_eq!((backlog.records, backlog.dead), (count("pending") as u64, count("dead") as u64));
            let told = |owed: &&Owed| owed.sink == sink && owed.kind == Kind::Firing && owed.state == "sent";
            let mut expected: Vec<&String> = model.owed.iter().filter(told).map(|owed| &owed.id).collect();
            expected.sort();
            let told = store.told(name, Timestamp::MIN).await.unwrap();
            let mut told: Vec<&String> = told.iter().map(|alert| &alert.id).collect();
            told.sort();
            assert_eq!(told, expected);
        }
    }

    /// Delivers all that is owed; the last a sink hears of an alert must then be what it was last owed.
    async fn drain(&mut self) {
        let owed: Vec<Owed> = self.model.owed.iter().filter(|owed| owed.state == "pending").cloned().collect();
        let mut heard: BTreeMap<(usize, String), (u64, Kind)> = BTreeMap::new();
        for (sink, name) in SINKS.iter().enumerate() {
            loop {
                let due = self.store().due(name, LATER, 3).await.unwrap();
                if due.is_empty() {
                    break;
                }
                for one in &due {
                    heard.insert((sink, one.alert.id.clone()), (one.alert.count, one.kind));
                }
                self.store().settle(name, due.iter().map(|one| (one.seq, sent())).collect()).await.unwrap();
            }
        }
        for owed in owed {
            let (alert, _) = &self.model.alerts[&owed.id];
            let (count, kind) = heard[&(owed.sink, owed.id.clone())];
            assert_eq!(count, alert.count);
            assert!(owed.kind != Kind::Resolved || kind == Kind::Resolved, "the end comes last: {owed:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_history_reads_like_the_naive_model(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (dir, store) = open();
            let mut pair = Pair { dir, store: Some(store), model: Model::default(), matches: 0 };
            for op in &ops {
                pair.apply(op).await;
                pair.check().await;
            }
            pair.drain().await;
        });
    }
}
