//! What the listeners answer.

use std::io::Write;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::{Daemon, WEBHOOK, answered, attack, client, event_list, json_lines, quiet_event, text_at, until};

const TIME: &str = "2026-11-21T04:00:00.000000Z";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("into memory")
}

#[tokio::test]
async fn good_events_count_whatever_is_beside_them() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), &format!("cluster: home\n{WEBHOOK}")).await;
    let nameless = quiet_event("gone", TIME).replace("\"auditID\":\"gone\",", "");
    let mixed = [quiet_event("a", TIME), nameless, "42".to_owned(), quiet_event("b", TIME)];
    let (status, text) = daemon.post(event_list(&mixed)).await;
    let counted: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, counted), (200, json!({"events": 2, "rejected": 2})));
    daemon.metric_is("kubesiren_events_total", "cluster=\"home\"", 2.0).await;
    daemon.metric_is("kubesiren_events_rejected_total", "source=\"webhook\"", 2.0).await;
    let kept = std::fs::read_to_string(home.path().join("state/rejects.jsonl")).expect("the rejects file");
    let kept = json_lines(&kept);
    assert_eq!(kept.len(), 2);
    for line in &kept {
        for place in ["/time", "/place", "/reason", "/detail", "/hash"] {
            assert!(!text_at(line, place).is_empty(), "{place} in {line}");
        }
    }
    assert!(text_at(&kept[0], "/detail").contains("auditID"), "{}", kept[0]);

    let one = quiet_event("one", TIME);
    let shapes = [one.clone(), format!("[{one},{one}]"), format!("{one}\n{one}\n{{\"kind\":\n")];
    for (shape, events) in shapes.into_iter().zip([1, 2, 2]) {
        let (status, text) = daemon.post(shape).await;
        assert_eq!((status, &text[..10]), (200, format!("{{\"events\":{events}").get(..10).expect("long enough")));
    }
    let path = format!("{}/prod-eu", daemon.hook());
    assert_eq!(answered(client().post(path).body(one)).await.0, 200);
    daemon.metric_is("kubesiren_events_total", "cluster=\"prod-eu\"", 1.0).await;
    daemon.metric_is("kubesiren_events_total", "", 8.0).await;
    daemon.metric_is("kubesiren_requests_total", "code=\"200\"", 5.0).await;
}

#[tokio::test]
async fn what_cannot_be_taken_is_refused_with_its_code() {
    let home = tempfile::tempdir().expect("a folder");
    std::fs::write(home.path().join("token"), "t0ken").expect("written");
    let config = format!(
        "sources: [{{type: webhook, listen: '127.0.0.1:0', max_body: 64KiB, bearer_token_file: {}/token}}]\n",
        home.path().display()
    );
    let daemon = Daemon::start(home.path(), &config).await;
    let client = client();
    let post = |body: Vec<u8>| client.post(daemon.hook()).bearer_auth("t0ken").body(body);
    let list = event_list(&attack()).into_bytes();

    for (encoding, body) in [("gzip", gzip(&list)), ("zstd", zstd(&list)), ("identity", list.clone())] {
        assert_eq!(answered(post(body).header("content-encoding", encoding)).await.0, 200, "{encoding}");
    }
    let blanks = vec![b' '; 1 << 20];
    let other = event_list(&[]).replace("audit.k8s.io/v1", "audit.k8s.io/v2").into_bytes();
    let pod = br#"{"kind":"Pod","apiVersion":"v1"}"#.to_vec();
    let refused = [
        ("no JSON", post(b"hello".to_vec()), 400),
        ("nothing", post(Vec::new()), 400),
        ("another version", post(other), 400),
        ("another kind", post(pod), 400),
        ("broken gzip", post(gzip(&list)[..50].to_vec()).header("content-encoding", "gzip"), 400),
        ("unknown encoding", post(list.clone()).header("content-encoding", "br"), 415),
        ("too long", post(blanks.clone()), 413),
        ("too long after gzip", post(gzip(&blanks)).header("content-encoding", "gzip"), 413),
        ("too long after zstd", post(zstd(&blanks)).header("content-encoding", "zstd"), 413),
        ("no token", client.post(daemon.hook()).body(list.clone()), 401),
        ("another token", client.post(daemon.hook()).bearer_auth("token").body(list.clone()), 401),
        ("another path", client.post(format!("http://{}/", daemon.webhook)).bearer_auth("t0ken").body("{}"), 404),
        ("another method", client.get(daemon.hook()).bearer_auth("t0ken"), 405),
    ];
    for (what, request, code) in refused {
        let (status, text) = answered(request).await;
        assert_eq!((status, text.lines().count()), (code, 1), "{what}: {text}");
    }
    daemon.metric_is("kubesiren_events_total", "", 81.0).await;
    daemon.metric_is("kubesiren_requests_total", "code=\"413\"", 3.0).await;
    daemon.metric_is("kubesiren_requests_total", "code=\"400\"", 5.0).await;
}

#[tokio::test]
async fn the_admin_listener_answers() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    daemon.feed(&attack(), 100).await;
    let all = until("the alerts are there", async || {
        let alerts = daemon.alerts().await;
        if alerts.len() >= 10 { Ok(alerts) } else { Err(format!("{} alerts", alerts.len())) }
    })
    .await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(daemon.get(path).await, (200, "ok\n".to_owned()));
    }
    let id = all.keys().next().expect("an alert");
    let json = async |path: String| {
        let (status, text) = daemon.get(&path).await;
        (status, serde_json::from_str::<Value>(&text).unwrap_or_else(|error| panic!("{path}: {error} in {text}")))
    };
    assert_eq!(json(format!("/api/v1/alerts/{id}")).await, (200, all[id].clone()));
    assert_eq!(json("/api/v1/alerts/0".to_owned()).await.0, 404);
    let (status, wrong) = json("/api/v1/alerts?level=bad&what=1".to_owned()).await;
    assert!(status == 400 && text_at(&wrong, "/error").contains("`what`"), "{wrong}");
    let high = json("/api/v1/alerts?level=high".to_owned()).await.1;
    let high = high["alerts"].as_array().expect("an array").len();
    let expected = all.values().filter(|alert| ["high", "critical"].contains(&text_at(alert, "/rule/level"))).count();
    assert!(high == expected && expected > 0 && expected < all.len(), "{high} of {expected}");
    let mut paged = Vec::new();
    let mut next = "/api/v1/alerts?limit=3".to_owned();
    loop {
        let page = json(next).await.1;
        paged.extend(page["alerts"].as_array().expect("an array").iter().map(|alert| text_at(alert, "/id").to_owned()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        next = format!("/api/v1/alerts?limit=3&cursor={cursor}");
    }
    paged.sort_unstable();
    assert!(paged.iter().eq(all.keys()), "pages have every alert once");
    let status = json("/api/v1/status".to_owned()).await.1;
    assert_eq!((&status["ready"], &status["reasons"]), (&json!(true), &json!([])));
    assert_eq!(daemon.get("/nowhere").await.0, 404);
    assert_eq!(daemon.ask("/metrics").await.0, 405);
    assert_eq!(daemon.get("/api/v1/reload").await.0, 405);
}

/// A batch that is in work when the daemon is told to stop is finished and answered; until then it is not ready, and
/// takes no new connections.
#[tokio::test]
async fn a_stop_finishes_what_is_in_work() {
    let home = tempfile::tempdir().expect("a folder");
    let mut daemon = Daemon::start(home.path(), WEBHOOK).await;
    let body = event_list(&[quiet_event("late", TIME)]);
    let head = format!(
        "POST /k8s-audit HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nExpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut stream = tokio::net::TcpStream::connect(daemon.webhook).await.expect("connected");
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 1024];
    let read = stream.read(&mut answer).await.expect("an answer");
    assert!(answer[..read].starts_with(b"HTTP/1.1 100"), "the daemon reads the body");

    daemon.process.signal("TERM");
    until("not ready any more", async || match daemon.get("/readyz").await {
        (503, text) if text.contains("stopping") => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    until("no new connections", async || match tokio::net::TcpStream::connect(daemon.webhook).await {
        Ok(_) => Err("still taken".to_owned()),
        Err(_) => Ok(()),
    })
    .await;
    assert_eq!(daemon.get("/livez").await.0, 200);
    stream.write_all(body.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert_eq!(daemon.process.ended().await.code(), Some(0));
}

/// kube-apiserver's batches reached 11.6 MB in practice, the largest event in them 2.9 MB.
#[tokio::test]
async fn large_events_and_batches_are_normal() {
    let home = tempfile::tempdir().expect("a folder");
    let daemon = Daemon::start(home.path(), WEBHOOK).await;
    let large = quiet_event("large", TIME).replacen(
        '{',
        &format!(
            "{{\"responseObject\":{{\"items\":[{}]}},",
            vec!["{\"kind\":\"Pod\",\"x\":\"\\u003cy\\u003e\"}"; 90_000].join(",")
        ),
        1,
    );
    assert!(large.len() > 3_000_000, "{}", large.len());
    let mut events = vec![large];
    events.extend(attack());
    let padding = "x".repeat(24_000);
    events.extend(
        (0..400).map(|n| quiet_event(&format!("e{n}"), TIME).replacen('{', &format!("{{\"pad\":\"{padding}\","), 1)),
    );
    let (count, body) = (events.len(), event_list(&events));
    assert!(body.len() > 12_000_000, "{}", body.len());
    let (status, text) = daemon.post(body).await;
    let counted: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, counted), (200, json!({"events": count, "rejected": 0})));
    daemon.metric_is("kubesiren_events_total", "", count as f64).await;
}
