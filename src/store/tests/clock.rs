//! The wall clock, set forward and back.

use super::*;

#[tokio::test]
async fn what_was_put_off_before_the_clock_was_set_back_is_due() {
    let (_dir, store) = open();
    store.commit(commit(vec![change(&alert("1", 1), Kind::Firing, &["s"])])).await.unwrap();
    let (now, minute) = (Timestamp(2_000_000_000_000_000), Duration::from_secs(60));
    let seq = store.due("s", now, 9).await.unwrap()[0].seq;
    let later = Settlement::Retry { not_before: now.plus(minute), reason: "busy".to_owned() };
    store.settle("s", vec![(seq, later)]).await.unwrap();
    assert!(store.due("s", now, 9).await.unwrap().is_empty());
    assert_eq!(store.due("s", now.plus(minute), 9).await.unwrap().len(), 1);
    assert_eq!(store.due("s", now.minus(DAY), 9).await.unwrap().len(), 1, "not for a whole day");
}
