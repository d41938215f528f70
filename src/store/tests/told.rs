//! What sinks were told, and why they did not take it.

use super::*;

#[tokio::test]
async fn what_one_message_told_of_is_found_together() {
    let (_dir, store) = open();
    let all: Vec<_> = ["1", "2", "3"].map(|id| alert(id, 1)).to_vec();
    store.commit(commit(all.iter().map(|one| change(one, Kind::Firing, &["s", "t"])).collect())).await.unwrap();
    for (sink, places) in [("s", ["C 1", "C 1", "C 2"]), ("t", ["C 1", "C 3", "C 3"])] {
        let due = store.due(sink, LATER, 10).await.unwrap();
        let remember = |place: &str| Settlement::Sent { remember: Some(place.to_owned()) };
        let settled = due.iter().zip(places).map(|(one, place)| (one.seq, remember(place))).collect();
        store.settle(sink, settled).await.unwrap();
    }
    store.commit(commit(vec![change(&all[1], Kind::Resolved, &["s"])])).await.unwrap();
    let rule = &all[0].rule.id;
    let together = store.told_together("s", "C 1", rule).await.unwrap();
    let told: Vec<_> = together.iter().map(|alert| (alert.id.as_str(), alert.status)).collect();
    assert_eq!(told, [("1", Status::Firing), ("2", Status::Resolved)]);
    assert!(store.told_together("s", "C 1", "another").await.unwrap().is_empty());
}

#[tokio::test]
async fn a_sink_that_takes_nothing_says_why() {
    let (_dir, store) = open();
    assert_eq!(store.refusal("s").await.unwrap(), None);
    let all: Vec<_> = ["1", "2"].map(|id| alert(id, 1)).to_vec();
    store.commit(commit(all.iter().map(|one| change(one, Kind::Firing, &["s"])).collect())).await.unwrap();
    let due = store.due("s", LATER, 10).await.unwrap();
    let retry = |at, reason: &str| Settlement::Retry { not_before: Timestamp(at), reason: reason.to_owned() };
    let held = retry(90, &format!("{HELD_BACK}waits for the rate"));
    store.settle("s", vec![(due[0].seq, retry(50, "busy")), (due[1].seq, held)]).await.unwrap();
    assert_eq!(store.refusal("s").await.unwrap().as_deref(), Some("busy"));
    store.settle("s", vec![(due[1].seq, retry(60, "busier"))]).await.unwrap();
    assert_eq!(store.refusal("s").await.unwrap().as_deref(), Some("busier"));
    store.settle("s", vec![(due[1].seq, Settlement::Dead { reason: "never".to_owned() })]).await.unwrap();
    assert_eq!(store.refusal("s").await.unwrap().as_deref(), Some("busy"), "what waits comes first");
    store.settle("s", vec![(due[0].seq, Settlement::Sent { remember: None })]).await.unwrap();
    assert_eq!(store.refusal("s").await.unwrap().as_deref(), Some("never"));
    assert_eq!(store.refusal("t").await.unwrap(), None);
}
