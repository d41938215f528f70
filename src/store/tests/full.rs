//! An outbox with more than it may hold.

use super::*;

fn of_level(id: &str, level: Level) -> Alert {
    let rule = RuleInfo { id: "rule-1".to_owned(), level, ..RuleInfo::default() };
    Alert { rule: Arc::new(rule), ..alert(id, 1) }
}

fn small() -> (TempDir, Store) {
    let dir = TempDir::new().unwrap();
    let store = Store::open_with(dir.path(), Limits { outbox_max_per_sink: 3, ..Limits::default() }).unwrap();
    (dir, store)
}

async fn fire(store: &Store, alerts: &[(&str, Level)]) {
    let changes = alerts.iter().map(|(id, level)| change(&of_level(id, *level), Kind::Firing, &["s"])).collect();
    store.commit(commit(changes)).await.unwrap();
}

async fn waiting(store: &Store) -> Vec<String> {
    due(store, "s").await.into_iter().map(|(_, id, _)| id).collect()
}

#[tokio::test]
async fn what_matters_most_is_given_up_last() {
    let (_dir, store) = small();
    fire(&store, &[("l1", Level::Low), ("m1", Level::Medium), ("l2", Level::Low)]).await;
    fire(&store, &[("l3", Level::Low)]).await;
    assert_eq!(waiting(&store).await, ["l1", "m1", "l2"], "the oldest of a level stay");
    fire(&store, &[("c1", Level::Critical), ("h1", Level::High)]).await;
    assert_eq!(waiting(&store).await, ["m1", "c1", "h1"]);
    fire(&store, &[("c2", Level::Critical), ("c3", Level::Critical), ("c4", Level::Critical)]).await;
    assert_eq!(waiting(&store).await, ["c1", "c2", "c3"]);
    let backlog = store.backlog("s").await.unwrap();
    assert_eq!((backlog.records, backlog.dead, backlog.crowded_out), (3, 6, 6), "nothing is lost, and it is told");
    assert_eq!(store.firing().await.unwrap().len(), 9);
}

#[tokio::test]
async fn what_was_crowded_out_on_the_wire_and_taken_is_told_to_its_end() {
    let (_dir, store) = small();
    fire(&store, &[("l1", Level::Low), ("l2", Level::Low), ("l3", Level::Low)]).await;
    let on_the_wire = store.due("s", LATER, 9).await.unwrap();
    fire(&store, &[("c1", Level::Critical)]).await;
    store.commit(commit(vec![change(&of_level("l3", Level::Low), Kind::Resolved, &[])])).await.unwrap();
    store.settle("s", on_the_wire.iter().map(|one| (one.seq, sent())).collect()).await.unwrap();
    assert_eq!(store.backlog("s").await.unwrap().dead, 0);
    let due: Vec<_> = due(&store, "s").await.into_iter().map(|(kind, id, _)| (kind, id)).collect();
    assert_eq!(due, [(Kind::Firing, "c1".to_owned()), (Kind::Resolved, "l3".to_owned())]);
}
