//! Sinks that fail in every way, each beside one that works: what was told late, how often, and what it cost the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::flow::{Daemon, one, until};
use crate::alert::{Alert, Level};
use crate::sink::fake::{Receiver, Reply};
use crate::sink::samples::alert;
use crate::store::Kind;

fn some(count: usize) -> Vec<Alert> {
    (0..count).map(|n| alert(&format!("a{n}"), "r", Level::Low)).collect()
}

fn hook(name: &str, url: &str) -> serde_json::Value {
    json!({"name": name, "type": "webhook", "url": url})
}

/// Tells alerts to a sink that answers so to its first request, and well afterwards, and to one that works. Gives the
/// times between the sick one's requests.
async fn after(first: Reply) -> Vec<Duration> {
    let (times, good) = (Arc::new(std::sync::Mutex::new(Vec::new())), Receiver::start(|_| Reply::new(200, "")).await);
    let noted = Arc::clone(&times);
    let sick = Receiver::start(move |_| {
        let mut noted = noted.lock().unwrap();
        noted.push(Instant::now());
        if noted.len() == 1 { first.clone() } else { Reply::new(200, "") }
    })
    .await;
    let mut daemon = Daemon::start(&[hook("good", &good.url("/")), hook("sick", &sick.url("/"))]);
    daemon.tell(Kind::Firing, some(5), &["good", "sick"]).await;
    daemon.until_empty("good").await;
    assert!(sick.requests().len() <= 1, "the good one waits for nobody");
    daemon.until_empty("sick").await;
    assert_eq!(sick.requests().len(), 6, "each once, and the first one again");
    assert_eq!(daemon.store.backlog("sick").await.unwrap().dead, 0);
    daemon.stop().await;
    let times = times.lock().unwrap();
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

#[tokio::test]
async fn a_429_with_retry_after_is_waited_out() {
    let waits = after(Reply::new(429, "slow down").header("retry-after", "2")).await;
    assert!(waits[0] >= Duration::from_secs(2), "{waits:?}");
}

#[tokio::test]
async fn a_429_without_retry_after_and_a_500_are_backed_off_from() {
    let (busy, broken) = tokio::join!(after(Reply::new(429, "")), after(Reply::new(500, "oops")));
    for waits in [busy, broken] {
        // The first backoff is from one to two seconds.
        assert!(waits[0] >= Duration::from_secs(1), "{waits:?}");
    }
}

#[tokio::test]
async fn a_wrong_credential_loses_no_alert() {
    let waits = after(Reply::new(401, "who are you?")).await;
    assert!(waits[0] >= Duration::from_secs(1), "{waits:?}");
}

#[tokio::test]
async fn a_slow_sink_gets_everything_and_holds_nobody_up() {
    let good = Receiver::start(|_| Reply::new(200, "")).await;
    let slow = Receiver::start(|_| Reply::new(200, "").late(Duration::from_millis(300))).await;
    let mut daemon = Daemon::start(&[hook("good", &good.url("/")), hook("slow", &slow.url("/"))]);
    daemon.tell(Kind::Firing, some(5), &["good", "slow"]).await;
    daemon.until_empty("good").await;
    assert!(daemon.store.backlog("slow").await.unwrap().records > 0);
    daemon.until_empty("slow").await;
    assert_eq!(slow.requests().len(), 5);
    let metrics = daemon.stop().await;
    assert!(metrics.contains(r#"kubesiren_deliveries_total{sink="slow",result="retry"} 0"#), "{metrics}");
}

#[tokio::test]
async fn a_sink_that_hangs_is_asked_once_and_holds_nobody_up() {
    let good = Receiver::start(|_| Reply::new(200, "")).await;
    let hung = Receiver::start(|_| Reply::new(200, "").late(Duration::from_secs(3_600))).await;
    let mut daemon = Daemon::start(&[hook("good", &good.url("/")), hook("hung", &hung.url("/"))]);
    daemon.tell(Kind::Firing, some(20), &["good", "hung"]).await;
    daemon.until_empty("good").await;
    until(|| async { hung.requests().len() == 1 }).await;
    daemon.tell(Kind::Firing, one("later"), &["good", "hung"]).await;
    daemon.until_empty("good").await;
    assert_eq!(hung.requests().len(), 1, "one request at a time");
    assert_eq!(daemon.store.backlog("hung").await.unwrap().records, 21);
}

#[tokio::test]
async fn a_connection_that_is_cut_is_made_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let n = counted.fetch_add(1, Ordering::Relaxed);
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            // Closed with the request unread, or half an answer.
            match n {
                0 => drop(stream),
                1 => drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhal").await),
                _ => drop(stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await),
            }
        }
    });
    let mut daemon = Daemon::start(&[hook("soc", &url)]);
    daemon.tell(Kind::Firing, some(3), &["soc"]).await;
    daemon.until_empty("soc").await;
    assert_eq!(daemon.store.backlog("soc").await.unwrap().dead, 0);
    assert!(daemon.stop().await.contains(r#"kubesiren_deliveries_total{sink="soc",result="ok"} 3"#));
}

#[tokio::test]
async fn one_invalid_alert_of_a_batch_is_the_only_one_given_up() {
    let picky =
        Receiver::start(|request| Reply::new(if request.body.contains("a13") { 400 } else { 200 }, "a13 is invalid"))
            .await;
    let am = json!({"name": "am", "type": "alertmanager", "urls": [picky.url("")], "resend": "1h"});
    let mut daemon = Daemon::start(&[am]);
    daemon.tell(Kind::Firing, some(32), &["am"]).await;
    daemon.until_empty("am").await;
    let letters = daemon.store.dead_letters("am").await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.alert.id.as_str()).collect::<Vec<_>>(), ["a13"]);
    let metrics = daemon.stop().await;
    assert!(metrics.contains(r#"kubesiren_deliveries_total{sink="am",result="ok"} 31"#), "{metrics}");
    assert!(picky.requests().len() <= 2 * 6 + 1, "halved, not tried one by one");
}

/// A server whose certificate nobody has vouched for; gives its URL.
async fn untrusted() -> String {
    let signed = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(signed.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            assert!(acceptor.accept(stream).await.is_err(), "nobody talks to this server");
        }
    });
    format!("https://localhost:{port}/")
}

#[tokio::test]
async fn a_certificate_that_is_not_trusted_is_told_no_alert_and_loses_none() {
    let config = serde_json::from_value(hook("soc", &untrusted().await)).unwrap();
    let Ok(sink) = crate::sink::Sink::build(&config) else {
        return; // Without any authority on this machine there is no HTTPS at all.
    };
    let refused = super::send_test(&sink, "soc", crate::clock::now()).await.unwrap_err();
    assert!(refused.to_lowercase().contains("certificate"), "{refused}");

    let mut daemon = Daemon::start(&[hook("soc", &untrusted().await)]);
    daemon.tell(Kind::Firing, one("a"), &["soc"]).await;
    until(|| async {
        let due = daemon.store.due("soc", crate::clock::Timestamp(i64::MAX / 4), 9).await.unwrap();
        due.first().is_some_and(|delivery| delivery.attempts > 0)
    })
    .await;
    let backlog = daemon.store.backlog("soc").await.unwrap();
    assert_eq!((backlog.records, backlog.dead), (1, 0));
}
