//! Clients that mean harm: requests that two servers would read in two ways, and such as cost more than they should.

use tokio::task::JoinSet;

use super::*;

const HEAD: &str = "POST /k8s-audit HTTP/1.1\r\nHost: x\r\n";
/// A request for whoever reads the end of another one's body as a request of its own.
const SMUGGLED: &str = "POST /k8s-audit/smuggled HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nS";

/// Cuts off quickly, so that what is waited for in vain is short.
fn impatient() -> Limits {
    let time = Duration::from_millis(300);
    Limits { head_time: time, body_time: time, idle_time: time, drain_time: time, ..Limits::default() }
}

async fn with_budget(bytes: u64, limits: Limits, ingest: Recorder) -> Running {
    start_with(WebhookConfig::default(), limits, ingest, Arc::new(Budget::new(bytes))).await
}

/// Requests as they are written, and the code of the first answer; 200 means that `{` was its whole body.
fn ambiguous() -> Vec<(&'static str, String, u16)> {
    let with = |headers: &str, body: &str| format!("{HEAD}{headers}\r\n\r\n{body}");
    let chunked = |body: &str| with("Transfer-Encoding: chunked", body);
    let chunk = "1\r\n{\r\n0\r\n\r\n";
    vec![
        ("both lengths", with("Content-Length: 4\r\nTransfer-Encoding: chunked", chunk), 200),
        ("both lengths the other way round", with("Transfer-Encoding: chunked\r\nContent-Length: 4", chunk), 200),
        ("two lengths", with("Content-Length: 1\r\nContent-Length: 2", "{"), 400),
        ("a list of lengths", with("Content-Length: 1, 1", "{"), 400),
        ("a signed length", with("Content-Length: +1", "{"), 400),
        ("a negative length", with("Content-Length: -1", "{"), 400),
        ("a length beyond numbers", with("Content-Length: 99999999999999999999999", "{"), 400),
        ("a folded header", with("X: a\r\n b\r\nContent-Length: 1", "{"), 400),
        ("a folded encoding", with("Transfer-Encoding:\r\n chunked\r\nContent-Length: 1", "{"), 400),
        ("a space before the colon", with("Content-Length : 1", "{"), 400),
        ("a space before the encoding's colon", with("Transfer-Encoding : chunked", chunk), 400),
        ("a NUL in a header", with("X: a\0b\r\nContent-Length: 1", "{"), 400),
        ("an encoding that is not known", with("Transfer-Encoding: xchunked", chunk), 400),
        ("not chunked at last", with("Transfer-Encoding: chunked, identity", chunk), 400),
        ("a chunk extension", chunked("1;a=b\r\n{\r\n0\r\n\r\n"), 200),
        ("a long chunk extension", chunked(&format!("1;a={}\r\n{{\r\n0\r\n\r\n", "x".repeat(100_000))), 400),
        ("a line feed in a chunk extension", chunked("1;a\nb\r\n{\r\n0\r\n\r\n"), 400),
        ("a chunk size beyond numbers", chunked("fffffffffffffffff\r\n{\r\n0\r\n\r\n"), 400),
        ("the largest chunk size", chunked("ffffffffffffffff\r\n{\r\n0\r\n\r\n"), 408),
        ("a negative chunk size", chunked("-1\r\n{\r\n0\r\n\r\n"), 400),
        ("bare line feeds between chunks", chunked("1\n{\n0\n\n"), 400),
        ("a length among the trailers", chunked("1\r\n{\r\n0\r\nContent-Length: 5\r\n\r\n"), 200),
        ("chunks in HTTP/1.0", format!("POST /k8s-audit HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"), 400),
        ("bare line feeds in the head", "POST /k8s-audit HTTP/1.1\nHost: x\nContent-Length: 1\n\n{".to_owned(), 200),
        ("a path with dots", "POST /x/../k8s-audit HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n{".to_owned(), 404),
        (
            "a body where none belongs",
            format!("GET /k8s-audit HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", SMUGGLED.len()),
            405,
        ),
        ("200 headers", with(&format!("{}Content-Length: 1", "A: b\r\n".repeat(200)), "{"), 431),
        ("a header of 1 MiB", with(&format!("A: {}\r\nContent-Length: 1", "x".repeat(1 << 20)), "{"), 431),
        ("a long path", format!("POST /k8s-audit/{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000)), 431),
    ]
}

#[tokio::test]
async fn what_two_servers_could_read_in_two_ways_is_one_request_or_none() {
    let mut asked = JoinSet::new();
    for (what, request, code) in ambiguous() {
        asked.spawn(async move {
            let ingest = Recorder::default();
            let server = start(WebhookConfig::default(), impatient(), ingest.clone()).await;
            let answer = raw(server.address, format!("{request}{SMUGGLED}").as_bytes()).await;
            (what, code, answer, ingest.taken())
        });
    }
    while let Some(answered) = asked.join_next().await {
        let (what, code, answer, taken) = answered.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{what}: {answer}");
        let first = taken.iter().find(|taken| &*taken.origin.cluster == "home");
        assert_eq!(first.map(|taken| taken.body.as_slice()), (code == 200).then_some(&b"{"[..]), "{what}");
        // Only after a body whose end nobody can doubt is what follows a request.
        let certain =
            ["a chunk extension", "a length among the trailers", "bare line feeds in the head", "a path with dots"];
        let certain = certain.contains(&what);
        assert_eq!(taken.len() > usize::from(first.is_some()), certain, "{what}: {answer}");
    }
}

/// How many connections this test may hold at both ends: not every machine lets a process open 2 000 files.
fn crowd() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let files =
        limits.lines().find_map(|line| line.strip_prefix("Max open files")?.split_whitespace().next()?.parse().ok());
    files.map_or(100, |files: usize| (files.saturating_sub(300) / 2).min(1_000))
}

#[tokio::test]
async fn a_thousand_connections_that_never_finish_their_heads_hold_up_nobody() {
    let ingest = Recorder::default();
    let limits = Limits { head_time: Duration::from_millis(900), ..impatient() };
    let server = start(WebhookConfig::default(), limits, ingest.clone()).await;
    let mut slow = JoinSet::new();
    for _ in 0..crowd() {
        // One after another: what overflows the kernel's queue is tried again only after seconds.
        let stream = TcpStream::connect(server.address).await.unwrap();
        slow.spawn(raw_on(stream, b"POST /k8s-audit HTTP/1.1\r\nHost: x\r\nX: "));
    }
    let post = client().build().unwrap().post(server.url("/k8s-audit")).body(BODY);
    assert_eq!(post.send().await.unwrap().status(), 200);
    let answers = slow.join_all().await;
    assert!(answers.len() == crowd() && answers.iter().all(String::is_empty), "all are closed without an answer");
    assert_eq!(ingest.taken().len(), 1);
}

#[tokio::test]
async fn a_thousand_connections_at_once_are_all_answered() {
    let ingest = Recorder::default();
    let server = start(WebhookConfig::default(), Limits::default(), ingest.clone()).await;
    let request = format!("{HEAD}Connection: close\r\nContent-Length: {}\r\n\r\n{BODY}", BODY.len());
    let mut posts = JoinSet::new();
    for _ in 0..crowd() {
        let (stream, request) = (TcpStream::connect(server.address).await.unwrap(), request.clone());
        posts.spawn(async move { raw_on(stream, request.as_bytes()).await });
    }
    assert!(posts.join_all().await.iter().all(|answer| answer.starts_with("HTTP/1.1 200 ")));
    assert_eq!(ingest.taken().len(), crowd());
}

#[tokio::test]
async fn whoever_waits_behind_slow_connections_is_served_when_they_are_cut_off() {
    let limits = Limits { connections: 8, ..impatient() };
    let server = start(WebhookConfig::default(), limits, Recorder::default()).await;
    let mut slow = JoinSet::new();
    for _ in 0..8 {
        slow.spawn(raw(server.address, b"POST"));
    }
    let metrics = server.metrics.clone();
    until("all connections are taken", || {
        metrics.encode().contains("bounds_reached_total{source=\"webhook\",bound=\"connections\"} 1")
    })
    .await;
    let post = client().build().unwrap().post(server.url("/k8s-audit")).body(BODY);
    assert_eq!(post.send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn bodies_in_flight_share_one_memory_and_beyond_it_is_503() {
    let limits = Limits { body_time: Duration::from_secs(5), ..impatient() };
    let server = with_budget(128 << 10, limits, Recorder::default()).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // What is announced is not held before it comes, but its first block is.
        stream.write_all(format!("{HEAD}Content-Length: {}\r\n\r\n{{", 32 << 20).as_bytes()).await.unwrap();
        slow.push(stream);
    }
    until("both hold a block", || server.budget.used() == 128 << 10).await;
    let client = client().build().unwrap();
    let post = || client.post(server.url("/k8s-audit")).body(BODY).send();
    let answer = post().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "3"));
    assert!(server.metrics.encode().contains("bounds_reached_total{source=\"webhook\",bound=\"bytes_in_flight\"} 1"));
    slow.pop();
    until("the one that is gone holds nothing", || server.budget.used() == 64 << 10).await;
    assert_eq!(post().await.unwrap().status(), 200);
}

#[tokio::test]
async fn a_body_that_trickles_is_cut_off_and_gives_its_memory_back() {
    let server = with_budget(256 << 10, impatient(), Recorder::default()).await;
    let trickle = format!("{HEAD}Content-Length: {}\r\n\r\n{{", 32 << 20);
    assert!(raw(server.address, trickle.as_bytes()).await.starts_with("HTTP/1.1 408 "));
    assert_eq!(server.budget.used(), 0);
    let post = client().build().unwrap().post(server.url("/k8s-audit")).body(BODY);
    assert_eq!(post.send().await.unwrap().status(), 200);
}
