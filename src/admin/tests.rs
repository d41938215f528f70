//! Through real sockets.

mod changes;

use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Client;
use serde_json::json;

use super::*;
use crate::alert::{Alert, EventExcerpt, Level, RuleInfo, Status};
use crate::store::{Change, Commit, Kind};

struct Running {
    address: SocketAddr,
    health: Arc<Health>,
    store: Store,
    reloads: Arc<AtomicUsize>,
    shutdown: CancellationToken,
    thread: JoinHandle<()>,
    client: Client,
    _folder: tempfile::TempDir,
}

fn start() -> Running {
    start_with(None)
}

fn start_with(tokens: Option<Tokens>) -> Running {
    let (state, reloads, folder) = start_state(tokens);
    serve(state, reloads, folder)
}

fn serve(state: AdminState, reloads: Arc<AtomicUsize>, folder: tempfile::TempDir) -> Running {
    let (health, store) = (state.health.clone(), state.store.clone());
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let thread = spawn(listener, state, shutdown.clone()).unwrap();
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().unwrap();
    Running { address, health, store, reloads, shutdown, thread, client, _folder: folder }
}

/// What a listener shows, the number of reloads, and the folder of its store. The first reload goes well.
fn start_state(tokens: Option<Tokens>) -> (AdminState, Arc<AtomicUsize>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let reloads = Arc::new(AtomicUsize::new(0));
    let state = AdminState {
        metrics: Arc::default(),
        health: Arc::new(Health::starting()),
        store: Store::open(folder.path()).unwrap(),
        rules: Box::new(|| json!([{"id": "r1"}])),
        rule: Box::new(|id| (id == "r 1").then(|| json!({"id": id, "text": "title: x"}))),
        status: Box::new(|| json!({"cluster": "home", "sinks": ["s"]})),
        onlookers: Onlookers::default(),
        tokens: tokens.map(Arc::new),
        reader_tokens: None,
        proxy: None,
        hosts: vec!["siren.example".to_owned()],
        reload: Box::new({
            let reloads = reloads.clone();
            move || {
                let first = reloads.fetch_add(1, Ordering::SeqCst) == 0;
                Box::pin(async move { if first { Ok(json!({"rules": 1})) } else { Err("a.yml: wrong".to_owned()) } })
            }
        }),
    };
    (state, reloads, folder)
}

impl Running {
    fn get(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.get(format!("http://{}{path}", self.address))
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address))
    }
}

async fn text(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

async fn json(request: reqwest::RequestBuilder) -> (u16, Value) {
    let (status, body) = text(request).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

fn alert(id: &str, seconds: i64, level: Level) -> Change {
    let time = Timestamp(seconds * 1_000_000);
    let alert = Alert {
        id: id.to_owned(),
        status: Status::Firing,
        time,
        cluster: "home".to_owned(),
        rule: Arc::new(RuleInfo { id: "r1".to_owned(), level, ..RuleInfo::default() }),
        summary: "something".to_owned(),
        count: 1,
        first_seen: time,
        last_seen: time,
        group: std::collections::BTreeMap::default(),
        event: EventExcerpt::default(),
        matched: std::collections::BTreeMap::default(),
        audit_ids: Vec::new(),
        timeline: Vec::new(),
    };
    Change { alert, kind: Kind::Firing, sinks: Vec::new() }
}

#[tokio::test]
async fn probes() {
    let admin = start();
    assert_eq!(text(admin.get("/livez")).await, (200, "ok\n".to_owned()));
    assert_eq!(text(admin.get("/readyz")).await, (503, "starting\n".to_owned()));
    admin.health.clear(Unready::Starting);
    assert_eq!(text(admin.get("/readyz")).await, (200, "ok\n".to_owned()));
    admin.health.set(Unready::ReloadFailed, "reload: a.yml");
    admin.health.set(Unready::Draining, "draining");
    assert_eq!(text(admin.get("/readyz")).await, (503, "draining\nreload: a.yml\n".to_owned()));
    assert_eq!(text(admin.get("/livez")).await.0, 200);
}

#[tokio::test]
async fn metrics_come_in_the_format_that_is_asked_for() {
    let admin = start();
    let answer = admin.get("/metrics").send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], PLAIN_TEXT);
    assert!(answer.text().await.unwrap().contains("# TYPE process_cpu_seconds_total counter\n"));
    // As Prometheus 3 asks.
    let accept = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3";
    let answer = admin.get("/metrics").header("accept", accept).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], OPENMETRICS);
    assert!(answer.text().await.unwrap().ends_with("# EOF\n"));
}

#[tokio::test]
async fn alerts_are_listed_page_by_page() {
    let admin = start();
    assert_eq!(json(admin.get("/api/v1/alerts")).await, (200, json!({"alerts": []})));
    let changes = vec![alert("a1", 1, Level::High), alert("a2", 2, Level::Low), alert("a3", 3, Level::High)];
    admin.store.commit(Commit { cursor: 0, changes, ..Commit::default() }).await.unwrap();
    let mut ids = Vec::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = json(admin.get(&format!("/api/v1/alerts?limit=2{cursor}"))).await;
        assert_eq!(status, 200);
        ids.extend(page["alerts"].as_array().unwrap().iter().map(|alert| alert["id"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(ids, ["a3", "a2", "a1"]);
    let (_, high) = json(admin.get("/api/v1/alerts?level=high")).await;
    assert_eq!(high["alerts"].as_array().map(Vec::len), Some(2));
    let (status, one) = json(admin.get("/api/v1/alerts/a2")).await;
    assert_eq!((status, &one["summary"]), (200, &json!("something")));
    let (status, none) = json(admin.get("/api/v1/alerts/a9")).await;
    assert_eq!((status, none), (404, json!({"error": "no alert has this id"})));
    let (status, wrong) = json(admin.get("/api/v1/alerts?levle=high")).await;
    assert_eq!(status, 400);
    assert!(wrong["error"].as_str().is_some_and(|words| words.contains("`levle`")), "{wrong}");
}

#[tokio::test]
async fn rules_status_and_reload() {
    let admin = start();
    assert_eq!(json(admin.get("/api/v1/rules")).await, (200, json!({"rules": [{"id": "r1"}]})));
    let (status, body) = json(admin.get("/api/v1/status")).await;
    assert_eq!((status, &body["cluster"], &body["ready"]), (200, &json!("home"), &json!(false)));
    assert_eq!(body["reasons"], json!(["starting"]));
    let fine = json!([{"sink": "s", "waiting": 0, "oldest_seconds": null, "dead": 0, "reason": null}]);
    assert_eq!(body["outbox"], fine);
    let foreign = admin.post("/api/v1/reload").header("sec-fetch-site", "cross-site");
    assert_eq!(json(foreign).await.0, 403);
    assert_eq!(admin.reloads.load(Ordering::SeqCst), 0);
    assert_eq!(json(admin.post("/api/v1/reload")).await, (200, json!({"rules": 1})));
    assert_eq!(json(admin.post("/api/v1/reload")).await, (500, json!({"error": "a.yml: wrong"})));
}

#[tokio::test]
async fn changes_need_the_token_where_there_is_one_and_reading_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "old\n").unwrap();
    let admin = start_with(Tokens::load(None, Some(&file)).unwrap());
    let reload = |token: &str| admin.post("/api/v1/reload").bearer_auth(token);
    let answer = admin.post("/api/v1/reload").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    assert_eq!(text(reload("new")).await.0, 401);
    assert_eq!(admin.reloads.load(Ordering::SeqCst), 0);
    assert_eq!(text(reload("old")).await.0, 200);
    std::fs::write(&file, "new\n").unwrap();
    assert_eq!(text(reload("old")).await.0, 401, "rotated without a restart");
    std::fs::write(&file, "").unwrap();
    assert_eq!(text(reload("new")).await.0, 500, "the old one stays, and the second reload goes wrong");
    for path in ["/metrics", "/livez", "/api/v1/alerts", "/api/v1/rules", "/api/v1/status"] {
        assert_eq!(text(admin.get(path)).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn without_a_token_changes_come_from_this_machine() {
    let (state, _, _folder) = start_state(None);
    let bound: SocketAddr = "127.0.0.1:9766".parse().unwrap();
    let admin = Admin::new(state, bound, CancellationToken::new());
    let request = Request::post("/api/v1/reload").body(()).unwrap().into_parts().0;
    for (peer, code) in
        [("127.0.0.1", 200), ("::1", 200), ("::ffff:127.0.0.1", 200), ("10.0.0.7", 403), ("fe80::1", 403)]
    {
        // The first reload goes well, as the tests have it, and the others do not.
        let status = admin.answer(&request, b"", Ends { peer: peer.parse().unwrap(), local: bound.ip() }).await.status;
        assert_eq!(status == StatusCode::FORBIDDEN, code == 403, "{peer}: {status}");
    }
}

#[tokio::test]
async fn a_page_that_has_its_name_lead_here_reads_nothing() {
    let admin = start();
    let asked = |path: &str, host: &str| admin.get(path).header("host", host);
    let paths = ["/", "/api/v1/alerts", "/api/v1/alerts/a", "/api/v1/rules", "/api/v1/status"];
    for path in paths {
        let (status, refused) = json(asked(path, "rebound.example:9766")).await;
        assert_eq!(status, 403, "{path}");
        assert!(refused["error"].as_str().is_some_and(|words| words.contains("admin.hosts")), "{refused}");
        for host in ["localhost:9766", "siren.example"] {
            assert_ne!(text(asked(path, host)).await.0, 403, "{path} {host}");
        }
    }
    assert_eq!(json(admin.post("/api/v1/reload").header("host", "rebound.example")).await.0, 403);
    assert_eq!(admin.reloads.load(Ordering::SeqCst), 0);
    for probe in ["/metrics", "/livez", "/readyz"] {
        assert_ne!(text(asked(probe, "kubesiren.monitoring.svc:9766")).await.0, 403, "{probe}");
    }
    let guarded = start_with(Tokens::load(Some(&crate::units::Secret::new("t".to_owned())), None).unwrap());
    let asked = || guarded.get("/api/v1/rules").header("host", "rebound.example");
    assert_eq!((text(asked()).await.0, text(asked().bearer_auth("t")).await.0), (403, 200));
}

#[tokio::test]
async fn other_paths_and_methods() {
    let admin = start();
    for path in ["/nothing", "/api/v1/alerts/", "/api/v1/alerts/a/b", "/api/v2/alerts"] {
        assert_eq!(json(admin.get(path)).await.0, 404, "{path}");
    }
    let answer = admin.get("/api/v1/reload").send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(json(admin.post("/metrics")).await.0, 405);
    let (status, page) = text(admin.get("/")).await;
    assert!(status == 200 && page.contains("<title>Kubesiren</title>"));
}

#[tokio::test]
async fn it_stops_when_it_is_told() {
    let admin = start();
    assert_eq!(text(admin.get("/livez")).await.0, 200);
    admin.shutdown.cancel();
    tokio::task::spawn_blocking(|| admin.thread.join().unwrap()).await.unwrap();
}
