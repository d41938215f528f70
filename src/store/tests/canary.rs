//! The daemon's own alerts.

use super::*;
use crate::alert::CANARY;

fn own(id: &str) -> Alert {
    let rule = RuleInfo { id: CANARY.to_owned(), ..RuleInfo::default() };
    Alert { rule: Arc::new(rule), ..alert(id, 1) }
}

#[tokio::test]
async fn they_are_listed_for_whoever_asks_for_them_and_go_an_hour_after_their_end() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let all = [own("ended"), own("fires"), own("waits"), alert("of-people", 1)];
    let fire = |alert| change(alert, Kind::Firing, if alert.id == "waits" { &["s"] } else { &[] });
    store.commit(commit(all.iter().map(fire).collect())).await.unwrap();
    let ended = all.iter().filter(|alert| alert.id != "fires").map(|alert| change(alert, Kind::Resolved, &[]));
    store.commit(commit(ended.collect())).await.unwrap();
    let listed = async |rule: Option<&str>| {
        let query = AlertQuery { rule: rule.map(str::to_owned), ..AlertQuery::default() };
        let mut ids: Vec<String> = store.alerts(query).await.unwrap().into_iter().map(|alert| alert.id).collect();
        ids.sort();
        ids
    };
    assert_eq!(listed(None).await, ["of-people"]);
    assert_eq!(listed(Some(CANARY)).await, ["ended", "fires", "waits"]);
    let now = crate::clock::now();
    store.prune(now.plus(Duration::from_secs(3_500)), Timestamp::MIN).await.unwrap();
    assert_eq!(listed(Some(CANARY)).await.len(), 3);
    store.prune(now.plus(Duration::from_secs(3_700)), Timestamp::MIN).await.unwrap();
    assert_eq!(listed(Some(CANARY)).await, ["fires", "waits"], "what a sink is owed stays");
    assert_eq!(listed(None).await, ["of-people"], "those of people are kept as ever");
}

#[tokio::test]
async fn how_far_a_delivery_has_come_can_be_asked() {
    let dir = TempDir::new().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store.commit(commit(vec![change(&own("a"), Kind::Firing, &["s", "t"])])).await.unwrap();
    let progress = async |sink: &str| store.progress(sink, "a").await.unwrap();
    assert_eq!(progress("s").await, Progress::Waits);
    for (sink, settlement) in [("s", sent()), ("t", Settlement::Dead { reason: "no".to_owned() })] {
        let seq = store.due(sink, LATER, 9).await.unwrap()[0].seq;
        store.settle(sink, vec![(seq, settlement)]).await.unwrap();
    }
    assert_eq!((progress("s").await, progress("t").await), (Progress::Sent, Progress::GivenUp));
    assert_eq!(progress("nobody").await, Progress::GivenUp);
}
