//! What the store promises, one promise a test.

mod by_hand;
mod canary;
mod clock;
mod full;
mod model;
mod received;
mod told;
mod triage;
mod trouble;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::alert::{EventExcerpt, Level, ObjectRef, RuleInfo, Status, User};
use crate::correlate::Shown;

/// After every time at which a test retries.
const LATER: Timestamp = Timestamp(i64::MAX / 4);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn found(rule: &str, user: &str, n: i64) -> Match {
    let time = Timestamp(1_790_000_000_000_000 + n);
    Match {
        rule: rule.into(),
        cluster: "prod".into(),
        source: "webhook".into(),
        time,
        delivery: u64::MAX - u64::try_from(n).unwrap(),
        request: u64::try_from(n).unwrap(),
        audit_id: Arc::default(),
        fields: Arc::new(BTreeMap::from([("user.username".into(), vec![json!(user)])])),
        shown: Shown::default().into(),
    }
    .showing(|shown| {
        shown.event.audit_id = format!("audit-{n}");
        shown.event.verb = "get".to_owned();
        shown.event.stage_timestamp = time.to_string();
        shown.matched = BTreeMap::from([("verb".to_owned(), json!("get"))]);
        shown.said = Some(format!("{user} got it, {}", n / 2));
    })
}

fn batch(matches: Vec<Match>) -> Append {
    Append { matches, position: None }
}

fn alert(id: &str, time: i64) -> Alert {
    Alert {
        id: id.to_owned(),
        status: Status::Firing,
        time: Timestamp(time),
        cluster: "prod".to_owned(),
        rule: Arc::new(RuleInfo { id: "rule-1".to_owned(), level: Level::High, ..RuleInfo::default() }),
        summary: "alice read a secret".to_owned(),
        count: 1,
        first_seen: Timestamp(time),
        last_seen: Timestamp(time),
        group: BTreeMap::from([("user.username".to_owned(), Value::from("alice"))]),
        event: EventExcerpt::default(),
        matched: BTreeMap::new(),
        audit_ids: vec!["audit-1".to_owned()],
        timeline: Vec::new(),
    }
}

fn change(alert: &Alert, kind: Kind, sinks: &[&str]) -> Change {
    Change { alert: alert.clone(), kind, sinks: sinks.iter().map(|&sink| sink.to_owned()).collect() }
}

fn commit(changes: Vec<Change>) -> Commit {
    Commit { cursor: 0, changes, ..Commit::default() }
}

fn grown(alert: &Alert, count: u64) -> Alert {
    Alert { count, ..alert.clone() }
}

fn sent() -> Settlement {
    Settlement::Sent { remember: None }
}

fn dead(reason: &str) -> Settlement {
    Settlement::Dead { reason: reason.to_owned() }
}

fn open() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    (dir, store)
}

async fn due(store: &Store, sink: &str) -> Vec<(Kind, String, u64)> {
    let due = store.due(sink, LATER, 100).await.unwrap();
    due.into_iter().map(|one| (one.kind, one.alert.id, one.alert.count)).collect()
}

/// Settles everything that is due, in rounds, and says what it was.
async fn deliver(store: &Store, sink: &str) -> Vec<(Kind, u64)> {
    let mut delivered = Vec::new();
    loop {
        let due = store.due(sink, LATER, 100).await.unwrap();
        if due.is_empty() {
            return delivered;
        }
        delivered.extend(due.iter().map(|one| (one.kind, one.alert.count)));
        store.settle(sink, due.iter().map(|one| (one.seq, sent())).collect()).await.unwrap();
    }
}

/// What a power cut would leave: the files as they are, without the daemon's leave.
fn snapshot(dir: &Path) -> TempDir {
    let copy = TempDir::new().unwrap();
    for name in ["state.db", "state.db-wal"] {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn batches_come_back_whole_and_in_order() {
    let (_dir, store) = open();
    let first: Vec<Match> = vec![
        found("a", "alice", 1),
        found("b", "alice", 2),
        found("a", "bob", 3),
        found("a", "alice", 4),
        found("b", "alice", 5),
    ];
    let second = vec![found("a", "alice", 6)];
    store.append(batch(first.clone())).await.unwrap();
    store.append(batch(second.clone())).await.unwrap();

    let read = store.journal_after(0, 10).await.unwrap();
    assert_eq!(read.len(), 2);
    assert_eq!((read[0].seq, read[1].seq), (3, 4), "equal rule and fields share a row");
    assert_eq!(read[0].matches, first);
    assert_eq!(read[1].matches, second);
    assert!(read[0].received <= read[1].received);

    assert_eq!(store.journal_after(0, 1).await.unwrap().len(), 1);
    assert_eq!(store.journal_after(3, 10).await.unwrap().len(), 1);
    assert_eq!(store.journal_after(1, 1).await.unwrap()[0].matches.len(), 5, "never split, wherever one starts");
    assert!(store.journal_after(4, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn matches_that_share_a_row_come_back_as_they_were() {
    let (_dir, store) = open();
    let first = found("a", "alice", 1).showing(|shown| {
        shown.event.user_agent = Some("kubectl".to_owned());
        shown.event.user = User { username: Some("alice".to_owned()), groups: vec!["staff".to_owned()] };
    });
    let second = found("a", "alice", 2).showing(|shown| {
        shown.event.verb = "list".to_owned();
        shown.event.stage_timestamp = "2026-09-21T14:13:20+00:00".to_owned();
        shown.event.source_ips = vec!["10.0.0.1".to_owned()];
        shown.event.object_ref = Some(ObjectRef { resource: Some("secrets".to_owned()), ..ObjectRef::default() });
        shown.matched = BTreeMap::from([("verb".to_owned(), Value::Null)]);
    });
    let third = Match { time: first.time.plus(DAY), delivery: 3, ..first.clone() };
    let matches = vec![first, second, third];
    store.append(batch(matches.clone())).await.unwrap();

    let read = store.journal_after(0, 1).await.unwrap().remove(0);
    assert_eq!((read.seq, read.matches), (1, matches), "one row holds them all");
}

#[tokio::test]
async fn clusters_do_not_share_a_row() {
    let (_dir, store) = open();
    let other = Match { cluster: "test".into(), ..found("a", "alice", 2) };
    let matches = vec![found("a", "alice", 1), other];
    store.append(batch(matches.clone())).await.unwrap();
    assert_eq!(store.journal_after(0, 1).await.unwrap()[0].matches, matches);
}

#[tokio::test]
async fn concurrent_appends_are_all_durable() {
    let (dir, store) = open();
    let appends: Vec<_> = (0..300)
        .map(|n| {
            let store = store.clone();
            tokio::spawn(async move { store.append(batch(vec![found("a", "alice", n)])).await })
        })
        .collect();
    for append in appends {
        append.await.unwrap().unwrap();
    }
    let copy = snapshot(dir.path());
    let store = Store::open(copy.path()).unwrap();
    let read = store.journal_after(0, 1_000).await.unwrap();
    assert_eq!(read.len(), 300);
    assert!(read.windows(2).all(|pair| pair[0].seq < pair[1].seq));
    assert_eq!(store.journal_backlog().await.unwrap(), 300);
}

#[tokio::test]
async fn one_bad_request_does_not_spoil_its_group() {
    let (_dir, store) = open();
    let good = |n| store.append(batch(vec![found("a", "alice", n)]));
    let bad =
        store.sql("INSERT INTO deliveries (sink, alert_id, kind, state, wants, queued) VALUES ('s','x','?','?',1,1)");
    let (first, bad, second) = tokio::join!(good(1), bad, good(2));
    assert!(matches!(bad, Err(StoreError::Database(_))));
    first.unwrap();
    second.unwrap();
    assert_eq!(store.journal_after(0, 10).await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_crash_keeps_everything_that_was_acknowledged() {
    let (dir, store) = open();
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    let opened = alert("1", 1);
    let changes = vec![change(&opened, Kind::Firing, &["s"])];
    store.commit(Commit { cursor: 1, changes, ..Commit::default() }).await.unwrap();
    store.append(batch(vec![found("a", "alice", 2)])).await.unwrap();

    let copy = snapshot(dir.path());
    let after = Store::open(copy.path()).unwrap();
    assert_eq!(after.cursor().await.unwrap(), 1);
    assert_eq!(after.journal_after(1, 10).await.unwrap().len(), 1);
    assert_eq!(after.firing().await.unwrap(), [opened]);
    assert_eq!(due(&after, "s").await.len(), 1);
}

#[tokio::test]
async fn a_handle_dropped_without_closing_leaves_the_directory_usable() {
    let (dir, store) = open();
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    store.append(batch(vec![found("a", "alice", 2)])).await.unwrap();
    let seqs: Vec<i64> = store.journal_after(0, 10).await.unwrap().iter().map(|batch| batch.seq).collect();
    assert_eq!(seqs, [1, 2]);
}

#[tokio::test]
async fn a_closed_store_says_so_and_lets_go_of_the_directory() {
    let (dir, store) = open();
    let other = store.clone();
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    store.close().await;
    store.close().await;
    assert!(matches!(other.append(batch(vec![found("a", "alice", 2)])).await, Err(StoreError::Closed)));
    assert!(matches!(other.cursor().await, Err(StoreError::Closed)));
    assert!(!dir.path().join("state.db-wal").exists(), "the log is folded into the database");
    let again = Store::open(dir.path()).unwrap();
    assert_eq!(again.journal_after(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_replayed_alert_and_its_deliveries_are_ignored() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    assert_eq!(deliver(&store, "s").await, [(Kind::Firing, 1)]);
    let replayed = grown(&opened, 9);
    store.commit(commit(vec![change(&replayed, Kind::Firing, &["s", "t"])])).await.unwrap();
    assert_eq!(store.alert("1").await.unwrap(), Some(opened));
    assert!(due(&store, "s").await.is_empty());
    assert!(due(&store, "t").await.is_empty());
}

#[tokio::test]
async fn a_replayed_end_is_not_told_twice_and_nothing_reopens() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    let end = || commit(vec![change(&grown(&opened, 2), Kind::Resolved, &["s"])]);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    store.commit(end()).await.unwrap();
    assert_eq!(deliver(&store, "s").await, [(Kind::Firing, 2), (Kind::Resolved, 2)]);
    store.commit(end()).await.unwrap();
    store.commit(commit(vec![change(&opened, Kind::Update, &["s"])])).await.unwrap();
    assert!(due(&store, "s").await.is_empty());
    assert_eq!(store.alert("1").await.unwrap().unwrap().status, Status::Resolved);
}

#[tokio::test]
async fn updates_wait_as_one_and_bring_the_newest_state() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s", "t"])])).await.unwrap();
    deliver(&store, "s").await;
    for count in 2..6 {
        store.commit(commit(vec![change(&grown(&opened, count), Kind::Update, &["s", "never-told"])])).await.unwrap();
    }
    assert_eq!(due(&store, "s").await, [(Kind::Update, "1".to_owned(), 5)]);
    assert!(due(&store, "never-told").await.is_empty());
    assert_eq!(deliver(&store, "s").await, [(Kind::Update, 5)]);
    store.commit(commit(vec![change(&grown(&opened, 6), Kind::Update, &["s"])])).await.unwrap();
    assert_eq!(deliver(&store, "s").await, [(Kind::Update, 6)], "an update that was sent makes way for the next");
}

#[tokio::test]
async fn an_update_while_an_older_state_is_on_the_wire_is_sent_too() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    deliver(&store, "s").await;
    store.commit(commit(vec![change(&grown(&opened, 2), Kind::Update, &["s"])])).await.unwrap();
    let on_the_wire = store.due("s", LATER, 1).await.unwrap().remove(0);
    store.commit(commit(vec![change(&grown(&opened, 3), Kind::Update, &["s"])])).await.unwrap();
    store.settle("s", vec![(on_the_wire.seq, sent())]).await.unwrap();
    assert_eq!(deliver(&store, "s").await, [(Kind::Update, 3)]);
}

#[tokio::test]
async fn an_update_is_settled_by_the_first_message_if_that_told_it() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    store.commit(commit(vec![change(&grown(&opened, 2), Kind::Update, &["s"])])).await.unwrap();
    assert_eq!(deliver(&store, "s").await, [(Kind::Firing, 2)]);
}

#[tokio::test]
async fn the_first_message_goes_before_the_last() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    store.commit(commit(vec![change(&opened, Kind::Update, &["s"])])).await.unwrap();
    store.commit(commit(vec![change(&opened, Kind::Resolved, &["s"])])).await.unwrap();
    let first = store.due("s", LATER, 100).await.unwrap();
    assert_eq!(first.iter().map(|one| one.kind).collect::<Vec<_>>(), [Kind::Firing]);
    let retry = Settlement::Retry { not_before: Timestamp(1_000), reason: "503".to_owned() };
    store.settle("s", vec![(first[0].seq, retry)]).await.unwrap();
    assert!(store.due("s", Timestamp(999), 100).await.unwrap().is_empty(), "the end waits for the retry");
    assert_eq!(deliver(&store, "s").await, [(Kind::Firing, 1), (Kind::Resolved, 1)]);
}

#[tokio::test]
async fn retries_count_and_wait_and_memories_last() {
    let (dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    let first = store.due("s", Timestamp(0), 1).await.unwrap().remove(0);
    assert_eq!((first.attempts, first.remembered.as_deref()), (0, None));
    let retry = Settlement::Retry { not_before: Timestamp(50), reason: "busy".to_owned() };
    store.settle("s", vec![(first.seq, retry)]).await.unwrap();
    assert!(store.due("s", Timestamp(49), 1).await.unwrap().is_empty());
    drop(store);

    let store = Store::open(dir.path()).unwrap();
    let again = store.due("s", Timestamp(50), 1).await.unwrap().remove(0);
    assert_eq!((again.seq, again.attempts), (first.seq, 1));
    let remember = Settlement::Sent { remember: Some("ts-7".to_owned()) };
    store.settle("s", vec![(again.seq, remember)]).await.unwrap();
    store.commit(commit(vec![change(&opened, Kind::Resolved, &["s"])])).await.unwrap();
    let end = store.due("s", Timestamp(50), 1).await.unwrap().remove(0);
    assert_eq!((end.kind, end.remembered.as_deref()), (Kind::Resolved, Some("ts-7")));
}

#[tokio::test]
async fn what_an_overtaken_update_left_behind_is_remembered() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    deliver(&store, "s").await;
    store.commit(commit(vec![change(&opened, Kind::Update, &["s"])])).await.unwrap();
    let update = store.due("s", LATER, 1).await.unwrap().remove(0);
    store.commit(commit(vec![change(&opened, Kind::Resolved, &["s"])])).await.unwrap();
    let remember = Settlement::Sent { remember: Some("ts-8".to_owned()) };
    store.settle("s", vec![(update.seq, remember)]).await.unwrap();
    let end = store.due("s", LATER, 10).await.unwrap();
    assert_eq!(end.len(), 1);
    assert_eq!(end[0].remembered.as_deref(), Some("ts-8"));
}

#[tokio::test]
async fn the_end_goes_where_the_beginning_went_whatever_the_routes_say_now() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["told", "waits"])])).await.unwrap();
    deliver(&store, "told").await;
    store.commit(commit(vec![change(&opened, Kind::Resolved, &["stranger"])])).await.unwrap();
    assert_eq!(deliver(&store, "told").await, [(Kind::Resolved, 1)]);
    assert_eq!(deliver(&store, "waits").await, [(Kind::Firing, 1), (Kind::Resolved, 1)]);
    assert_eq!(deliver(&store, "stranger").await, []);
}

#[tokio::test]
async fn a_sink_that_is_gone_is_owed_nothing() {
    let dir = TempDir::new().unwrap();
    let store = Store::open_with(dir.path(), Limits { alerts_keep: Duration::ZERO, ..Limits::default() }).unwrap();
    let (heard, unheard, new) = (alert("1", 1), alert("2", 2), alert("3", 3));
    store.commit(commit(vec![change(&heard, Kind::Firing, &["gone"])])).await.unwrap();
    deliver(&store, "gone").await;
    store.commit(commit(vec![change(&unheard, Kind::Firing, &["gone", "s"])])).await.unwrap();
    let on_the_wire = store.due("gone", LATER, 1).await.unwrap().remove(0);

    assert_eq!(store.retire_sinks(&["s".to_owned()]).await.unwrap(), 1);
    assert_eq!(store.retire_sinks(&["s".to_owned()]).await.unwrap(), 0);
    store.commit(commit(vec![change(&new, Kind::Firing, &["gone", "s"])])).await.unwrap();
    store.commit(commit([&heard, &unheard].map(|one| change(one, Kind::Resolved, &[])).to_vec())).await.unwrap();
    store.settle("gone", vec![(on_the_wire.seq, sent())]).await.unwrap();

    assert_eq!(store.backlog("gone").await.unwrap(), Backlog { dead: 2, ..Backlog::default() });
    let letters = store.dead_letters("gone").await.unwrap();
    assert!(letters.iter().all(|letter| letter.reason == "no sink of this name is configured any more"));
    assert_eq!(deliver(&store, "s").await, [(Kind::Firing, 1), (Kind::Firing, 1), (Kind::Resolved, 1)]);
    assert_eq!(store.prune(LATER, Timestamp(0)).await.unwrap().alerts, 2, "nothing holds them");

    store.retire_sinks(&["s".to_owned(), "gone".to_owned()]).await.unwrap();
    store.commit(commit(vec![change(&alert("4", 4), Kind::Firing, &["gone"])])).await.unwrap();
    assert_eq!(deliver(&store, "gone").await, [(Kind::Firing, 1)], "a sink that is back");
}

#[tokio::test]
async fn a_sink_that_refused_the_beginning_hears_no_more_of_it() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    let first = store.due("s", LATER, 1).await.unwrap().remove(0);
    store.settle("s", vec![(first.seq, dead("410 Gone"))]).await.unwrap();
    store.commit(commit(vec![change(&grown(&opened, 2), Kind::Update, &["s"])])).await.unwrap();
    store.commit(commit(vec![change(&opened, Kind::Resolved, &["s"])])).await.unwrap();
    assert_eq!(deliver(&store, "s").await, []);
}

#[tokio::test]
async fn dead_letters_keep_the_reason_and_hold_nothing_back() {
    let (_dir, store) = open();
    let opened = alert("1", 1);
    store.commit(commit(vec![change(&opened, Kind::Firing, &["s"])])).await.unwrap();
    store.commit(commit(vec![change(&opened, Kind::Resolved, &["s"])])).await.unwrap();
    let first = store.due("s", LATER, 1).await.unwrap().remove(0);
    store.settle("s", vec![(first.seq, dead("410 Gone"))]).await.unwrap();
    let letters = store.dead_letters("s").await.unwrap();
    assert_eq!((letters.len(), letters[0].kind, letters[0].reason.as_str()), (1, Kind::Firing, "410 Gone"));
    assert_eq!((letters[0].attempts, letters[0].alert.id.as_str()), (1, "1"));
    assert!(due(&store, "s").await.is_empty(), "what was never told needs no end");
    assert_eq!(store.backlog("s").await.unwrap(), Backlog { dead: 1, ..Backlog::default() });
}

#[tokio::test]
async fn told_is_what_the_sink_heard_of_and_is_not_long_over() {
    let (_dir, store) = open();
    let (on, over, unheard) = (alert("1", 1), alert("2", 2), alert("3", 3));
    let opened = [&on, &over].map(|alert| change(alert, Kind::Firing, &["s"]));
    store.commit(commit(opened.to_vec())).await.unwrap();
    deliver(&store, "s").await;
    store.commit(commit(vec![change(&unheard, Kind::Firing, &["s"])])).await.unwrap();
    let before = crate::clock::now();
    store.commit(commit(vec![change(&over, Kind::Resolved, &["s"])])).await.unwrap();
    let ids = |alerts: Vec<Alert>| alerts.into_iter().map(|alert| alert.id).collect::<Vec<_>>();
    assert_eq!(ids(store.told("s", before).await.unwrap()), ["1", "2"]);
    assert_eq!(ids(store.told("s", LATER).await.unwrap()), ["1"]);
    assert!(store.told("t", before).await.unwrap().is_empty());
    assert_eq!(ids(store.firing().await.unwrap()), ["1", "3"]);
}

#[tokio::test]
async fn pages_are_gapless_and_newest_first() {
    let (_dir, store) = open();
    let times = [3, 1, 2, 2, 2, 5];
    let alerts: Vec<Alert> = times.iter().enumerate().map(|(n, &time)| alert(&format!("id-{n}"), time)).collect();
    store.commit(commit(alerts.iter().map(|alert| change(alert, Kind::Firing, &[])).collect())).await.unwrap();
    let mut query = AlertQuery { limit: 2, ..AlertQuery::default() };
    let mut seen = Vec::new();
    loop {
        let page = store.alerts(query.clone()).await.unwrap();
        let Some(last) = page.last() else { break };
        query.before = Some((last.time, last.id.clone()));
        seen.extend(page.into_iter().map(|alert| alert.id));
    }
    assert_eq!(seen, ["id-5", "id-0", "id-4", "id-3", "id-2", "id-1"]);
}

#[tokio::test]
async fn every_filter_narrows() {
    let (_dir, store) = open();
    let user = |name: &str| User { username: Some(name.to_owned()), groups: Vec::new() };
    let mut special = alert("special", 10);
    special.cluster = "test".to_owned();
    special.rule = Arc::new(RuleInfo { id: "rule-2".to_owned(), level: Level::Critical, ..RuleInfo::default() });
    special.summary = "said \"Grüße\\\" 100%".to_owned();
    special.event.user = user("admin");
    special.event.impersonated_user = Some(user("mallory"));
    special.event.object_ref = Some(ObjectRef { namespace: Some("payments".to_owned()), ..ObjectRef::default() });
    let changes = [&alert("plain", 5), &special].map(|alert| change(alert, Kind::Firing, &[]));
    store.commit(commit(changes.to_vec())).await.unwrap();

    let all = AlertQuery::default;
    let some = |text: &str| Some(text.to_owned());
    let only_special = [
        AlertQuery { since: Some(Timestamp(6)), ..all() },
        AlertQuery { min_level: Some(Level::Critical), ..all() },
        AlertQuery { rule: some("rule-2"), ..all() },
        AlertQuery { cluster: some("test"), ..all() },
        AlertQuery { user: some("admin"), ..all() },
        AlertQuery { user: some("mallory"), ..all() },
        AlertQuery { namespace: some("payments"), ..all() },
        AlertQuery { text: some("SAID \"grüße\\\" 100%"), ..all() },
    ];
    for query in only_special {
        let ids: Vec<String> = store.alerts(query.clone()).await.unwrap().into_iter().map(|a| a.id).collect();
        assert_eq!(ids, ["special"], "{query:?}");
    }
    let none = [
        AlertQuery { until: Some(Timestamp(5)), ..all() },
        AlertQuery { text: some("objectRef"), ..all() },
        AlertQuery { text: some("100_"), ..all() },
        AlertQuery { user: some("' OR 1 --"), ..all() },
        AlertQuery { limit: 0, ..all() },
    ];
    for query in none {
        assert!(store.alerts(query.clone()).await.unwrap().is_empty(), "{query:?}");
    }
    let both = [all(), AlertQuery { min_level: Some(Level::High), ..all() }, AlertQuery { text: some(""), ..all() }];
    for query in both {
        assert_eq!(store.alerts(query.clone()).await.unwrap().len(), 2, "{query:?}");
    }
}

#[tokio::test]
async fn a_position_moves_with_its_batch_or_not_at_all() {
    let (dir, store) = open();
    let at = |offset| FilePosition { path: "/a.log".to_owned(), identity: "1:2".to_owned(), offset };
    assert_eq!(store.file_position("/a.log").await.unwrap(), None);
    let append = Append { matches: vec![found("a", "alice", 1)], position: Some(at(10)) };
    store.append(append).await.unwrap();
    store.append(Append { matches: Vec::new(), position: Some(at(20)) }).await.unwrap();
    assert_eq!(store.journal_after(0, 10).await.unwrap().len(), 1, "a position alone is no batch");

    store
        .sql("CREATE TRIGGER stop BEFORE UPDATE ON file_positions BEGIN SELECT RAISE(ABORT, 'no'); END")
        .await
        .unwrap();
    let refused = Append { matches: vec![found("a", "alice", 2)], position: Some(at(30)) };
    assert!(matches!(store.append(refused).await, Err(StoreError::Database(_))));
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.file_position("/a.log").await.unwrap(), Some(at(20)));
    assert_eq!(store.journal_after(0, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_full_disk_refuses_everything_and_recovers_by_itself() {
    let dir = TempDir::new().unwrap();
    let store = Store::open_with(dir.path(), Limits { reserve_bytes: 0, ..Limits::default() }).unwrap();
    store.append(batch(vec![found("a", "alice", 0)])).await.unwrap();
    store.sql("PRAGMA max_page_count = 1").await.unwrap(); // Answers with the size it has now.
    let large = |n| {
        let found = found("a", "alice", n).showing(|shown| shown.event.user_agent = Some("x".repeat(100_000)));
        store.append(batch(vec![found]))
    };
    let (first, second, third) = tokio::join!(large(1), large(2), large(3));
    for refused in [first, second, third] {
        assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
    }
    assert_eq!(store.journal_after(0, 10).await.unwrap().len(), 1);
    store.sql("PRAGMA max_page_count = 100000").await.unwrap();
    large(4).await.unwrap();
    let seqs: Vec<i64> = store.journal_after(0, 10).await.unwrap().iter().map(|batch| batch.seq).collect();
    assert_eq!(seqs, [1, 2]);
}

#[tokio::test]
async fn a_full_disk_takes_the_reserve_and_gives_it_back() {
    let (dir, store) = open();
    let reserve = dir.path().join("reserve");
    assert!(reserve.exists());
    store.sql("PRAGMA max_page_count = 1").await.unwrap();
    let large = || {
        let found = found("a", "alice", 1).showing(|shown| shown.event.user_agent = Some("x".repeat(100_000)));
        store.append(batch(vec![found]))
    };
    assert!(matches!(large().await, Err(StoreError::Full(_))));
    assert!(!reserve.exists());
    store.commit(Commit { cursor: 1, changes: Vec::new(), ..Commit::default() }).await.unwrap();
    store.prune(LATER, LATER).await.unwrap();
    store.sql("PRAGMA max_page_count = 100000").await.unwrap();
    assert!(matches!(large().await, Err(StoreError::Full(_))), "not before the reserve is back");
    while let Err(error) = large().await {
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(reserve.exists());
}

#[tokio::test]
async fn the_journal_has_a_bound_until_the_correlator_catches_up() {
    let dir = TempDir::new().unwrap();
    let store = Store::open_with(dir.path(), Limits { journal_rows_max: 2, ..Limits::default() }).unwrap();
    let append = |n| store.append(batch(vec![found("a", "alice", n)]));
    append(1).await.unwrap();
    append(2).await.unwrap();
    let refused = append(3).await;
    assert!(matches!(&refused, Err(StoreError::Full(reason)) if reason.contains("journal_rows_max")), "{refused:?}");
    let position = FilePosition { path: "/a".to_owned(), identity: String::new(), offset: 1 };
    store.append(Append { matches: Vec::new(), position: Some(position) }).await.unwrap();
    store.commit(Commit { cursor: 1, changes: Vec::new(), ..Commit::default() }).await.unwrap();
    append(4).await.unwrap();
    assert_eq!(store.journal_backlog().await.unwrap(), 2);
}

#[tokio::test]
async fn a_full_outbox_costs_its_own_sink_alone() {
    let dir = TempDir::new().unwrap();
    let store = Store::open_with(dir.path(), Limits { outbox_max_per_sink: 1, ..Limits::default() }).unwrap();
    let alerts = [alert("1", 1), alert("2", 2)];
    store.commit(commit(vec![change(&alerts[0], Kind::Firing, &["s"])])).await.unwrap();
    store.commit(commit(vec![change(&alerts[1], Kind::Firing, &["s", "t"])])).await.unwrap();
    assert_eq!(due(&store, "s").await.len(), 1);
    assert_eq!(due(&store, "t").await.len(), 1);
    let letters = store.dead_letters("s").await.unwrap();
    assert_eq!(letters[0].alert.id, "2");
    assert!(letters[0].reason.contains("too many"));
    assert_eq!(store.firing().await.unwrap().len(), 2);
}

#[tokio::test]
async fn two_daemons_do_not_share_a_directory() {
    let (dir, store) = open();
    let refused = Store::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("in use by another kubesiren"), "{refused}");
    store.close().await;
    Store::open(dir.path()).unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let (dir, store) = open();
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    store.close().await;
    let path = dir.path().join("state.db");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let refused = Store::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("state.db") && refused.contains("99") && refused.contains("newer"), "{refused}");
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 4).unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().journal_after(0, 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_database_of_version_1_is_brought_up_to_date_and_loses_nothing() {
    let (dir, store) = open();
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    store.close().await;
    let path = dir.path().join("state.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(
        "DROP TABLE baselines; DROP TABLE deeds; DROP TABLE silences;
         DROP INDEX alerts_time; DROP INDEX alerts_object; DROP INDEX alerts_silence;
         ALTER TABLE alerts DROP COLUMN verb; ALTER TABLE alerts DROP COLUMN object;
         ALTER TABLE alerts DROP COLUMN handling; ALTER TABLE alerts DROP COLUMN silence;
         CREATE INDEX alerts_time ON alerts (time, id);
         DROP TABLE claims; DROP TABLE received; DROP INDEX deliveries_part;
         ALTER TABLE deliveries DROP COLUMN part; ALTER TABLE deliveries DROP COLUMN place; PRAGMA user_version = 1",
    )
    .unwrap();
    drop(old);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.journal_after(0, 9).await.unwrap().len(), 1);
    assert!(store.baselines().await.unwrap().is_empty());
    store.close().await;
    let version: i32 =
        rusqlite::Connection::open(&path).unwrap().query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 4);
}

#[tokio::test]
async fn baselines_come_back_as_they_were_written_with_the_cursor() {
    let (dir, store) = open();
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    let baseline = |key: u64, state: Option<Vec<u8>>| Baseline {
        rule: "r".to_owned(),
        key,
        shape: u64::MAX - 1,
        seen: Timestamp(7),
        state,
    };
    let write = |baselines| Commit { cursor: 1, baselines, ..Commit::default() };
    store.commit(write(vec![baseline(1, Some(vec![1])), baseline(u64::MAX, Some(vec![2]))])).await.unwrap();
    store.commit(write(vec![baseline(1, None), baseline(u64::MAX, Some(vec![3]))])).await.unwrap();
    store.close().await;
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.baselines().await.unwrap(), [baseline(u64::MAX, Some(vec![3]))]);
    let pruned = store.prune(LATER, Timestamp(0)).await.unwrap();
    assert_eq!(pruned.baselines, 1);
    assert!(store.baselines().await.unwrap().is_empty());
}

#[test]
fn a_file_that_is_not_ours_is_refused_and_left_alone() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("state.db");
    fs::write(&path, "not a database, but somebody's notes ".repeat(100)).unwrap();
    let before = fs::read(&path).unwrap();
    let refused = Store::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("state.db") && refused.contains("--set-damaged-aside"), "{refused}");
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::remove_file(&path).unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    let refused = Store::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("another program's database"), "{refused}");
}

#[tokio::test]
async fn only_the_owner_can_read() {
    let parent = TempDir::new().unwrap();
    let dir = parent.path().join("a/state");
    let store = Store::open(&dir).unwrap();
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    for file in fs::read_dir(&dir).unwrap() {
        let path = file.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}

#[tokio::test]
async fn waiters_wake_when_there_is_something() {
    let (_dir, store) = open();
    let long = Duration::from_secs(60);
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.appended_after(0, long).await }
    });
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    waiting.await.unwrap();
    store.appended_after(0, long).await;
    store.appended_after(1, Duration::from_millis(1)).await;

    store.commit(commit(vec![change(&alert("1", 1), Kind::Firing, &["s"])])).await.unwrap();
    store.queued("s", long).await;
    store.commit(commit(vec![change(&alert("1", 1), Kind::Resolved, &["s"])])).await.unwrap();
    store.queued("s", long).await;
    let first = store.due("s", LATER, 10).await.unwrap().remove(0);
    store.settle("s", vec![(first.seq, sent())]).await.unwrap();
    store.queued("s", long).await; // The end was held back until now.
}

#[tokio::test]
async fn pruning_keeps_what_somebody_still_needs() {
    let (_dir, store) = open();
    for n in 0..3 {
        store.append(batch(vec![found("a", "alice", n)])).await.unwrap();
    }
    let (done, waits, fires) = (alert("done", 1), alert("waits", 2), alert("fires", 3));
    let changes = [&done, &waits, &fires].map(|alert| change(alert, Kind::Firing, &["s"])).to_vec();
    store.commit(Commit { cursor: 2, changes, ..Commit::default() }).await.unwrap();
    store.commit(commit([&done, &waits].map(|alert| change(alert, Kind::Resolved, &[])).to_vec())).await.unwrap();
    let deliveries = store.due("s", LATER, 10).await.unwrap();
    let seq = |id: &str| deliveries.iter().find(|one| one.alert.id == id).unwrap().seq;
    store.settle("s", vec![(seq("done"), dead("no")), (seq("fires"), dead("no"))]).await.unwrap();

    let now = crate::clock::now();
    assert_eq!(store.prune(now, Timestamp(0)).await.unwrap(), Pruned::default());
    let pruned = store.prune(now.plus(31 * DAY), now.plus(DAY)).await.unwrap();
    assert_eq!(pruned, Pruned { journal_rows: 2, alerts: 1, dead_letters: 1, baselines: 0 });
    assert_eq!(store.journal_after(0, 10).await.unwrap().len(), 1, "what waits for the correlator stays");
    assert_eq!(store.alert("done").await.unwrap(), None);
    assert!(store.alert("waits").await.unwrap().is_some());
    assert!(store.alert("fires").await.unwrap().is_some());
}

#[tokio::test]
async fn too_many_alerts_lose_the_oldest_resolved() {
    let dir = TempDir::new().unwrap();
    let store = Store::open_with(dir.path(), Limits { alerts_max: 2, ..Limits::default() }).unwrap();
    for n in 0..4 {
        let alert = alert(&n.to_string(), n);
        store.commit(commit(vec![change(&alert, Kind::Firing, &[])])).await.unwrap();
        if n < 3 {
            store.commit(commit(vec![change(&alert, Kind::Resolved, &[])])).await.unwrap();
        }
    }
    assert_eq!(store.prune(crate::clock::now(), Timestamp(0)).await.unwrap().alerts, 2);
    let ids: Vec<String> =
        store.alerts(AlertQuery::default()).await.unwrap().into_iter().map(|alert| alert.id).collect();
    assert_eq!(ids, ["3", "2"]);
}

#[tokio::test]
async fn sequence_numbers_are_never_used_again() {
    let (dir, store) = open();
    store.append(batch(vec![found("a", "alice", 1)])).await.unwrap();
    store.commit(Commit { cursor: 7, changes: Vec::new(), ..Commit::default() }).await.unwrap();
    store.prune(LATER, LATER).await.unwrap();
    drop(store);
    let store = Store::open(dir.path()).unwrap();
    store.commit(Commit { cursor: 3, changes: Vec::new(), ..Commit::default() }).await.unwrap();
    assert_eq!(store.cursor().await.unwrap(), 7, "the cursor never moves back");
    store.append(batch(vec![found("a", "alice", 2)])).await.unwrap();
    assert_eq!(store.journal_after(7, 1).await.unwrap()[0].seq, 8);
}
