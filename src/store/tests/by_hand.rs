//! What a person does to the outbox while the daemon has it open.

use super::super::by_hand::{ByHand, Retried, Selection, State};
use super::*;

fn of(sinks: &[&str], ids: &[&str], state: Option<State>) -> Selection {
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    Selection { sinks: owned(sinks), ids: owned(ids), state }
}

/// Refuses everything that is due for a sink.
async fn refuse(store: &Store, sink: &str) {
    let due = store.due(sink, LATER, 100).await.unwrap();
    store.settle(sink, due.iter().map(|one| (one.seq, dead("answered 400"))).collect()).await.unwrap();
}

#[tokio::test]
async fn what_was_not_sent_is_listed_by_sink_alert_and_state() {
    let (dir, store) = open();
    let alerts = [alert("1", 1), alert("2", 2)];
    let changes = alerts.iter().map(|alert| change(alert, Kind::Firing, &["s", "t", "u"])).collect();
    store.commit(commit(changes)).await.unwrap();
    refuse(&store, "s").await;
    assert_eq!(deliver(&store, "u").await.len(), 2);
    let outbox = ByHand::open(dir.path()).unwrap();
    let listed = |selection: &Selection| -> Vec<(String, String, State)> {
        let (unsent, count) = outbox.list(selection, 100).unwrap();
        assert_eq!(unsent.len() as u64, count);
        unsent.into_iter().map(|one| (one.sink, one.alert.id, one.state)).collect()
    };
    let row = |sink: &str, id: &str, state| (sink.to_owned(), id.to_owned(), state);
    let (w, d) = (State::Waiting, State::Dead);
    let all = [row("s", "1", d), row("t", "1", w), row("s", "2", d), row("t", "2", w)];
    assert_eq!(listed(&Selection::default()), all);
    assert_eq!(listed(&of(&["t"], &[], None)), [row("t", "1", w), row("t", "2", w)]);
    assert_eq!(listed(&of(&[], &["2"], Some(d))), [row("s", "2", d)]);
    assert_eq!(listed(&of(&["s"], &[], Some(w))), []);
    let (first, count) = outbox.list(&Selection::default(), 1).unwrap();
    assert_eq!((first.len(), count), (1, 4));
    assert_eq!((first[0].reason.as_deref(), first[0].attempts), (Some("answered 400"), 1));
    assert!(first[0].died.is_some() && first[0].not_before.is_none());
}

#[tokio::test]
async fn what_is_put_back_is_due_again_and_ends_after_it_begins() {
    let (dir, store) = open();
    let alerts = [alert("1", 1), alert("2", 2)];
    let changes = alerts.iter().map(|alert| change(alert, Kind::Firing, &["s"])).collect();
    store.commit(commit(changes)).await.unwrap();
    refuse(&store, "s").await;
    store.commit(commit(vec![change(&grown(&alerts[0], 5), Kind::Resolved, &[])])).await.unwrap();
    assert!(due(&store, "s").await.is_empty(), "who never heard of it hears no end");

    let mut outbox = ByHand::open(dir.path()).unwrap();
    let retried = outbox.retry(&Selection::default(), Timestamp(5)).unwrap();
    assert_eq!(retried, Retried { back: 2, no_room: 0 });
    assert_eq!(outbox.retry(&Selection::default(), Timestamp(6)).unwrap(), Retried::default());
    let first = store.due("s", LATER, 100).await.unwrap();
    assert!(first.iter().all(|one| one.kind == Kind::Firing && one.attempts == 0));
    assert_eq!(deliver(&store, "s").await, [(Kind::Firing, 5), (Kind::Firing, 1), (Kind::Resolved, 5)]);
    store.commit(commit(vec![change(&alerts[1], Kind::Resolved, &[])])).await.unwrap();
    assert_eq!(deliver(&store, "s").await, [(Kind::Resolved, 1)]);
}

#[tokio::test]
async fn no_more_is_put_back_than_there_is_room_for() {
    let (dir, store) = open();
    let changes = (0..5).map(|n| change(&alert(&n.to_string(), n), Kind::Firing, &["s", "t"])).collect();
    store.commit(commit(changes)).await.unwrap();
    refuse(&store, "s").await;
    refuse(&store, "t").await;
    let limits = Limits { outbox_max_per_sink: 3, ..Limits::default() };
    let mut outbox = ByHand::open_with(dir.path(), limits).unwrap();
    let retried = outbox.retry(&of(&["s"], &[], None), Timestamp(5)).unwrap();
    assert_eq!(retried, Retried { back: 3, no_room: 2 });
    assert_eq!(outbox.list(&of(&["t"], &[], Some(State::Dead)), 0).unwrap().1, 5, "the other sink's stay");
}

#[tokio::test]
async fn what_is_dropped_is_not_told_and_neither_is_its_end() {
    let (dir, store) = open();
    let alerts = [alert("1", 1), alert("2", 2), alert("3", 3)];
    let changes = alerts.iter().map(|alert| change(alert, Kind::Firing, &["s"])).collect();
    store.commit(commit(changes)).await.unwrap();
    store.commit(commit(vec![change(&alerts[0], Kind::Resolved, &[])])).await.unwrap();
    let mut outbox = ByHand::open(dir.path()).unwrap();
    assert_eq!(outbox.drop(&of(&[], &["1"], Some(State::Dead))).unwrap(), 0, "it waits");
    assert_eq!(outbox.drop(&of(&[], &["1", "2"], Some(State::Waiting))).unwrap(), 3);
    store.commit(commit(vec![change(&alerts[1], Kind::Resolved, &[])])).await.unwrap();
    assert_eq!(deliver(&store, "s").await, [(Kind::Firing, 1)]);
    assert!(store.alert("1").await.unwrap().is_some(), "the alert itself is kept");
}

#[tokio::test]
async fn what_is_put_back_for_a_sink_that_is_gone_dies_again() {
    let (dir, store) = open();
    store.retire_sinks(&["t".to_owned()]).await.unwrap();
    store.commit(commit(vec![change(&alert("1", 1), Kind::Firing, &["s"])])).await.unwrap();
    let mut outbox = ByHand::open(dir.path()).unwrap();
    assert_eq!(outbox.retry(&Selection::default(), Timestamp(5)).unwrap().back, 1);
    store.prune(Timestamp(5), Timestamp(0)).await.unwrap();
    let (unsent, _) = outbox.list(&Selection::default(), 9).unwrap();
    assert_eq!(unsent[0].state, State::Dead);
    assert!(unsent[0].reason.as_deref().is_some_and(|reason| reason.contains("no sink of this name")));
}

#[test]
fn only_a_database_of_ours_is_opened_and_none_is_made() {
    let dir = TempDir::new().unwrap();
    let refused = ByHand::open(dir.path()).err().unwrap().to_string();
    assert!(refused.contains("no state.db") && refused.contains("state_dir"), "{refused}");
    assert!(!dir.path().join("state.db").exists());
    let path = dir.path().join("state.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE notes (text)").unwrap();
    assert!(ByHand::open(dir.path()).err().unwrap().to_string().contains("another program's"));
    fs::remove_file(&path).unwrap();
    drop(Store::open(dir.path()).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 1).unwrap();
    assert!(ByHand::open(dir.path()).err().unwrap().to_string().contains("schema version 1"));
}
