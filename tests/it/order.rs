//! The order in which events arrive, and on how many connections, does not decide what is found.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::support::{Daemon, WEBHOOK, answered, client, end_of_story, event_list, scan, story, text_at, until};

/// What does not depend on the order: rule, cluster, group, evidence.
fn episodes<'a>(alerts: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let told = |alert: &'a Value| {
        let mut ids: Vec<&str> =
            alert["audit_ids"].as_array().expect("an array").iter().filter_map(Value::as_str).collect();
        ids.sort_unstable();
        json!([
            alert["rule"]["title"],
            alert["cluster"],
            alert["group"],
            alert["count"],
            alert["first_seen"],
            alert["last_seen"],
            ids,
            alert["status"]
        ])
        .to_string()
    };
    alerts.into_iter().map(told).collect()
}

async fn finds(daemon: &Daemon, expected: &BTreeSet<String>) {
    until("the episodes are those of the scan", async || {
        let alerts = daemon.alerts().await;
        let found = episodes(alerts.values());
        if alerts.len() == expected.len() && found == *expected {
            return Ok(());
        }
        let missing: Vec<_> = expected.difference(&found).collect();
        let more: Vec<_> = found.difference(expected).collect();
        Err(format!("missing: {missing:#?}\nnot expected: {more:#?}"))
    })
    .await;
}

/// The last event of each request: of several stages that match, the one that comes first gives the match its time.
fn last_stages(events: Vec<String>) -> Vec<String> {
    let request = |event: &String| {
        let event: Value = serde_json::from_str(event).expect("JSON");
        (text_at(&event, "/auditID").to_owned(), text_at(&event, "/requestReceivedTimestamp").to_owned())
    };
    let mut seen = BTreeSet::new();
    let mut last: Vec<String> = events.into_iter().rev().filter(|event| seen.insert(request(event))).collect();
    last.reverse();
    last
}

#[tokio::test]
async fn batches_in_any_order_on_many_connections_are_the_same_episodes() {
    let mut events = last_stages(story());
    let expected = episodes(&scan(&[], events.join("\n").as_bytes()).0);
    assert!(expected.len() >= 8);
    events.pop();
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let mut batches: Vec<String> = events.chunks(7).map(event_list).collect();
    // Not by chance, so that a failure can be looked at: backwards, and every other one from the other end.
    batches.reverse();
    let (left, right) = batches.split_at(batches.len() / 2);
    let mixed: Vec<String> = left.iter().zip(right.iter().rev()).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
    let rest = right.len() - left.len();
    let mixed = mixed.into_iter().chain(right[..rest].iter().cloned());
    let mut posts = JoinSet::new();
    for batch in mixed {
        let request = client().post(daemon.hook()).body(batch);
        posts.spawn(answered(request));
        if posts.len() > 8 {
            assert_eq!(posts.join_next().await.expect("one").expect("no panic").0, 200);
        }
    }
    for (status, text) in posts.join_all().await {
        assert_eq!(status, 200, "{text}");
    }
    assert_eq!(daemon.post(end_of_story()).await.0, 200);
    finds(&daemon, &expected).await;
}

#[tokio::test]
async fn clusters_do_not_mix() {
    let events = story();
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &format!("cluster: home\n{WEBHOOK}")).await;
    let mut expected = BTreeSet::new();
    for cluster in ["home", "a", "b"] {
        let (alerts, _) = scan(&["--cluster", cluster], events.join("\n").as_bytes());
        expected.extend(episodes(&alerts));
    }
    // One batch of each cluster after the other.
    for batch in events.chunks(100) {
        for path in ["", "/a", "/b"] {
            let post = client().post(daemon.hook() + path).body(event_list(batch));
            assert_eq!(answered(post).await.0, 200);
        }
    }
    finds(&daemon, &expected).await;
    let mut by_cluster: BTreeMap<String, usize> = BTreeMap::new();
    for alert in daemon.alerts().await.values() {
        *by_cluster.entry(text_at(alert, "/cluster").to_owned()).or_default() += 1;
    }
    let counts: BTreeSet<usize> = by_cluster.values().copied().collect();
    assert!(by_cluster.len() == 3 && counts.len() == 1, "{by_cluster:?}");
}
