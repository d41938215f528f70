//! Alerts that come from a topic which several instances read.

use super::*;

fn piece(place: i64, changes: Vec<Change>) -> Received {
    Received { part: "alerts/0".to_owned(), place, next: place + 1, at: place * 10, changes }
}

async fn receive(store: &Store, place: i64, kind: Kind, id: &str) {
    store.receive(vec![piece(place, vec![change(&alert(id, 1), kind, &["s"])])]).await.unwrap();
}

async fn ids(store: &Store) -> Vec<(Kind, String)> {
    due(store, "s").await.into_iter().map(|(kind, id, _)| (kind, id)).collect()
}

#[tokio::test]
async fn only_who_has_claimed_a_part_delivers_and_from_where_the_others_have_come() {
    let (_dir, store) = open();
    for (place, id) in [(0, "a"), (1, "b"), (2, "c")] {
        receive(&store, place, Kind::Firing, id).await;
    }
    assert!(ids(&store).await.is_empty(), "others see to it");
    assert_eq!(store.told_until("s", "alerts/0").await.unwrap(), 3);
    store.claim("s", "alerts/0", 1).await.unwrap();
    let b_and_c = [(Kind::Firing, "b".to_owned()), (Kind::Firing, "c".to_owned())];
    assert_eq!(ids(&store).await, b_and_c);
    assert_eq!(store.told_until("s", "alerts/0").await.unwrap(), 1);
    receive(&store, 3, Kind::Resolved, "a").await;
    assert_eq!(ids(&store).await.len(), 3, "the end of what another has told of is ours to tell");
    let releases = store.releases();
    store.release(Some(("s", "alerts/0"))).await.unwrap();
    assert!(store.releases() > releases && ids(&store).await.is_empty());
    store.claim("s", "alerts/0", 2).await.unwrap();
    assert_eq!(deliver(&store, "s").await.len(), 2);
    assert_eq!(store.told_until("s", "alerts/0").await.unwrap(), 4);
}

#[tokio::test]
async fn what_is_silenced_here_is_told_from_here_no_more_than_if_it_had_fired_here() {
    let (_dir, store) = open();
    let conditions = Conditions { cluster: Some("prod".to_owned()), ..Conditions::default() };
    let (reason, who) = ("known".to_owned(), "ada".to_owned());
    let expires = Timestamp(i64::MAX / 4);
    store.silence(NewSilence { conditions, reason, who, created: Timestamp(0), expires }).await.unwrap().unwrap();
    receive(&store, 0, Kind::Firing, "before").await;
    store.claim("s", "alerts/0", 0).await.unwrap();
    receive(&store, 1, Kind::Firing, "after").await;
    assert!(ids(&store).await.is_empty());
    let hidden = store.listed(AlertQuery { silenced: Some(true), ..AlertQuery::default() }).await.unwrap();
    assert_eq!(hidden.len(), 2);
    assert_eq!(store.told_until("s", "alerts/0").await.unwrap(), 2, "nobody waits for it");
}

#[tokio::test]
async fn how_far_a_part_is_read_is_kept_with_what_was_read() {
    let (dir, store) = open();
    assert_eq!(store.reached("alerts/0").await.unwrap(), Reached::default());
    receive(&store, 4, Kind::Firing, "a").await;
    store.claim("s", "alerts/0", 0).await.unwrap();
    store.close().await;
    let store = Store::open(dir.path()).unwrap();
    let (firing, reached) = store.firing_at("alerts/0").await.unwrap();
    assert_eq!((firing.len(), reached), (1, Reached { next: 5, at: 40 }));
    store.release(None).await.unwrap();
    assert!(ids(&store).await.is_empty(), "after a restart nothing is ours");
}

#[tokio::test]
async fn what_is_told_again_and_what_grew_without_a_beginning_are_one_alert() {
    let (_dir, store) = open();
    store.claim("s", "alerts/0", 0).await.unwrap();
    receive(&store, 0, Kind::Firing, "a").await;
    receive(&store, 1, Kind::Firing, "a").await;
    assert_eq!(ids(&store).await.len(), 1);
    receive(&store, 2, Kind::Update, "old").await;
    assert_eq!(store.firing().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_dead_letter_that_is_put_back_is_no_longer_the_topics() {
    let (dir, store) = open();
    store.claim("s", "alerts/0", 0).await.unwrap();
    receive(&store, 0, Kind::Firing, "a").await;
    let seq = store.due("s", LATER, 1).await.unwrap()[0].seq;
    store.settle("s", vec![(seq, dead("no"))]).await.unwrap();
    assert_eq!(store.told_until("s", "alerts/0").await.unwrap(), 1);
    store.sql("UPDATE deliveries SET state = 'pending', part = NULL").await.unwrap();
    store.release(None).await.unwrap();
    assert_eq!(ids(&store).await.len(), 1);
    drop(dir);
}
