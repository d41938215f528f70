//! Through real sockets.

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use reqwest::{Client, ClientBuilder, StatusCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;

use super::*;
use crate::pipeline::IngestError;
use crate::source::testing::{Recorder, until};

mod hostile;
mod rotation;

const BODY: &str = "{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"items\":[]}\n";

struct Running {
    address: SocketAddr,
    metrics: Arc<Metrics>,
    tls: Option<Arc<Tls>>,
    budget: Arc<Budget>,
    shutdown: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    fn url(&self, path: &str) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://localhost:{}{path}", self.address.port())
    }

    fn counted(&self, code: u16) -> bool {
        self.metrics.encode().contains(&format!("requests_total{{source=\"webhook\",code=\"{code}\"}} 1\n"))
    }
}

async fn start(config: WebhookConfig, limits: Limits, ingest: Recorder) -> Running {
    start_with(config, limits, ingest, Arc::default()).await
}

async fn start_with(config: WebhookConfig, limits: Limits, ingest: Recorder, budget: Arc<Budget>) -> Running {
    let metrics = Arc::new(Metrics::new());
    let webhook = Webhook::new(&config, "home", ingest, metrics.clone(), budget.clone());
    let webhook = webhook.unwrap_or_else(|wrong| panic!("{wrong:?}")).with_limits(limits);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tls, shutdown) = (webhook.tls(), CancellationToken::new());
    let task = tokio::spawn(webhook.run(listener, shutdown.clone()));
    Running { address, metrics, tls, budget, shutdown, task }
}

async fn plain(ingest: &Recorder) -> Running {
    start(WebhookConfig::default(), Limits::default(), ingest.clone()).await
}

fn client() -> ClientBuilder {
    // Another test may have been first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_secs(20))
}

/// An authority and what it has signed, as files.
struct Authority {
    folder: tempfile::TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { folder: tempfile::tempdir().unwrap(), issuer }
    }

    /// Certificate and key in PEM.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn write(&self, (cert, key): &(String, String)) -> TlsConfig {
        let path = |name: &str| self.folder.path().join(name);
        fs::write(path("tls.crt"), cert).unwrap();
        fs::write(path("tls.key"), key).unwrap();
        fs::write(path("ca.crt"), self.issuer.pem()).unwrap();
        TlsConfig { cert: path("tls.crt"), key: path("tls.key"), client_ca: None }
    }

    fn trusted(&self) -> ClientBuilder {
        client().tls_certs_only([reqwest::Certificate::from_pem(self.issuer.pem().as_bytes()).unwrap()])
    }
}

/// Writes bytes and returns all that comes back until the server closes.
async fn raw(address: SocketAddr, request: &[u8]) -> String {
    raw_on(TcpStream::connect(address).await.unwrap(), request).await
}

/// The same on a connection that is there.
async fn raw_on(mut stream: TcpStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let reading = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await;
    reading.expect("the server closes").unwrap_or_default();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_batch_is_taken_over_http1_and_http2() {
    let ingest = Recorder::default();
    let server = plain(&ingest).await;
    for client in [client(), client().http2_prior_knowledge()] {
        let client = client.build().unwrap();
        let answer = client.post(server.url("/k8s-audit?timeout=30s")).body(BODY).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.text().await.unwrap(), "{\"events\":1,\"rejected\":0}\n");
        let answer = client.post(server.url("/k8s-audit/prod-eu")).body(BODY).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }
    let taken = ingest.taken();
    let clusters: Vec<_> = taken.iter().map(|taken| &*taken.origin.cluster).collect();
    assert_eq!(clusters, ["home", "prod-eu", "home", "prod-eu"]);
    assert!(taken.iter().all(|taken| taken.body == BODY.as_bytes() && taken.position.is_none()));
    assert!(server.metrics.encode().contains("ingest_seconds_count 4\n"));
}

#[tokio::test]
async fn other_paths_and_methods() {
    let server = plain(&Recorder::default()).await;
    let client = client().build().unwrap();
    assert_eq!(client.post(server.url("/")).body(BODY).send().await.unwrap().status(), 404);
    let answer = client.get(server.url("/k8s-audit")).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["allow"].to_str().unwrap()), (405, "POST"));
    assert_eq!(client.post(server.url("/k8s-audit/a%20b")).body(BODY).send().await.unwrap().status(), 400);
    assert!(server.counted(404) && server.counted(405) && server.counted(400));
}

#[tokio::test]
async fn a_token_is_demanded_before_the_body_is_read() {
    let ingest = Recorder::default();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    fs::write(&file, "s3cret\n").unwrap();
    let config = WebhookConfig { bearer_token_file: Some(file), ..WebhookConfig::default() };
    let server = start(config, Limits::default(), ingest.clone()).await;
    let client = client().build().unwrap();
    let post = || client.post(server.url("/k8s-audit")).body(BODY);
    let answer = post().send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    assert_eq!(post().bearer_auth("wrong").send().await.unwrap().status(), 401);
    assert_eq!(post().bearer_auth("s3cret").send().await.unwrap().status(), 200);
    assert_eq!(ingest.taken().len(), 1);
    // The announced body never comes.
    let head = b"POST /k8s-audit HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n";
    assert!(raw(server.address, head).await.starts_with("HTTP/1.1 401 "));
}

#[tokio::test]
async fn large_bodies_are_refused_by_length_and_by_counting() {
    let ingest = Recorder::default();
    let config = WebhookConfig { max_body: ByteSize(1000), ..WebhookConfig::default() };
    let server = start(config, Limits::default(), ingest.clone()).await;
    let client = client().build().unwrap();
    let answer = client.post(server.url("/k8s-audit")).body("x".repeat(1000)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let answer = client.post(server.url("/k8s-audit")).body("x".repeat(1001)).send().await.unwrap();
    assert_eq!(answer.status(), 413);
    let expecting = b"POST /k8s-audit HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n";
    let answer = raw(server.address, expecting).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "no 100 first: {answer}");
    let chunk = format!("{:x}\r\n{}\r\n", 600, "x".repeat(600));
    let head = "POST /k8s-audit HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = raw(server.address, format!("{head}{chunk}{chunk}0\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert_eq!(ingest.taken().len(), 1);
    assert!(server.metrics.encode().contains("bounds_reached_total{source=\"webhook\",bound=\"max_body\"} 3"));
}

#[tokio::test]
async fn a_client_that_writes_everything_first_still_reads_why_it_was_refused() {
    let config = WebhookConfig { max_body: ByteSize(8 << 20), ..WebhookConfig::default() };
    let server = start(config, Limits::default(), Recorder::default()).await;
    let head =
        format!("POST /k8s-audit HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", 12 << 20);
    let mut request = head.into_bytes();
    request.resize(request.len() + (12 << 20), b'x');
    assert!(raw(server.address, &request).await.starts_with("HTTP/1.1 413 "));
}

#[tokio::test]
async fn a_continue_is_sent_to_those_who_expect_it() {
    let ingest = Recorder::default();
    let server = plain(&ingest).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = b"POST /k8s-audit HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    stream.write_all(head).await.unwrap();
    let mut answer = [0; 25];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"{}").await.unwrap();
    stream.read_exact(&mut answer[..12]).await.unwrap();
    assert_eq!(&answer[..12], b"HTTP/1.1 200");
}

#[tokio::test]
async fn no_room_is_503_with_retry_after() {
    let ingest = Recorder::default();
    ingest.refuse(IngestError::NoRoom("the journal is full".to_owned()));
    let server = plain(&ingest).await;
    let answer = client().build().unwrap().post(server.url("/k8s-audit")).body(BODY).send().await.unwrap();
    assert_eq!(
        (answer.status(), answer.headers()["retry-after"].to_str().unwrap()),
        (StatusCode::SERVICE_UNAVAILABLE, "3")
    );
    assert_eq!(answer.text().await.unwrap(), "the journal is full\n");
}

#[tokio::test]
async fn slow_heads_and_slow_bodies_are_cut_off() {
    let limits = Limits {
        head_time: Duration::from_millis(500),
        body_time: Duration::from_millis(100),
        drain_time: Duration::from_millis(100),
        ..Limits::default()
    };
    let server = start(WebhookConfig::default(), limits, Recorder::default()).await;
    assert_eq!(raw(server.address, b"").await, "");
    assert_eq!(raw(server.address, b"POST /k8s-audit HTTP/1.1\r\nHost").await, "");
    let answer = raw(server.address, b"POST /k8s-audit HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(server.counted(408));
}

#[tokio::test]
async fn kept_connections_outlive_the_time_of_a_head() {
    let limits = Limits { head_time: Duration::from_millis(500), ..Limits::default() };
    let server = start(WebhookConfig::default(), limits, Recorder::default()).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    for pause in [0, 1_200] {
        tokio::time::sleep(Duration::from_millis(pause)).await;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1024];
        let read = stream.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 404"), "after {pause} ms");
    }
}

#[tokio::test]
async fn connections_are_bounded() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let server = start(WebhookConfig::default(), limits, Recorder::default()).await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let metrics = server.metrics.clone();
    until("the bound is counted", || {
        metrics.encode().contains("bounds_reached_total{source=\"webhook\",bound=\"connections\"} 1")
    })
    .await;
    let second = tokio::spawn(raw(server.address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
    drop(first);
    assert!(second.await.unwrap().starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn stopping_finishes_what_is_in_work() {
    for client in [client(), client().http2_prior_knowledge()] {
        let ingest = Recorder::held();
        let server = plain(&ingest).await;
        let post = client.build().unwrap().post(server.url("/k8s-audit")).body(BODY);
        let request = tokio::spawn(post.send());
        ingest.entered.acquire().await.unwrap().forget();
        server.shutdown.cancel();
        until("new connections are refused", || std::net::TcpStream::connect(server.address).is_err()).await;
        assert!(!server.task.is_finished());
        ingest.release();
        assert_eq!(request.await.unwrap().unwrap().status(), 200);
        server.task.await.unwrap();
        assert_eq!(ingest.taken().len(), 1);
    }
}

#[tokio::test]
async fn stopping_does_not_wait_for_ever() {
    let ingest = Recorder::held();
    let limits = Limits { stop_time: Duration::from_millis(50), ..Limits::default() };
    let server = start(WebhookConfig::default(), limits, ingest.clone()).await;
    let request = tokio::spawn(client().build().unwrap().post(server.url("/k8s-audit")).body(BODY).send());
    ingest.entered.acquire().await.unwrap().forget();
    server.shutdown.cancel();
    server.task.await.unwrap();
    assert!(request.await.unwrap().is_err());
    assert!(ingest.taken().is_empty());
}

#[tokio::test]
async fn tls_speaks_both_protocols() {
    let authority = Authority::new();
    let tls = authority.write(&authority.sign("localhost"));
    let config = WebhookConfig { tls: Some(tls), ..WebhookConfig::default() };
    let server = start(config, Limits::default(), Recorder::default()).await;
    for (client, version) in
        [(authority.trusted(), reqwest::Version::HTTP_2), (authority.trusted().http1_only(), reqwest::Version::HTTP_11)]
    {
        let client = client.build().unwrap();
        let answer = client.post(server.url("/k8s-audit")).body("x".repeat(9 << 20)).send().await.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, version));
    }
    for version in [reqwest::tls::Version::TLS_1_2, reqwest::tls::Version::TLS_1_3] {
        let client = authority.trusted().tls_version_max(version).build().unwrap();
        assert_eq!(client.post(server.url("/k8s-audit")).body(BODY).send().await.unwrap().status(), 200);
    }
    assert!(client().build().unwrap().post(server.url("/k8s-audit")).body(BODY).send().await.is_err());
}

#[tokio::test]
async fn a_client_certificate_is_demanded() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut tls = authority.write(&authority.sign("localhost"));
    tls.client_ca = Some(authority.folder.path().join("ca.crt"));
    let config = WebhookConfig { tls: Some(tls), ..WebhookConfig::default() };
    let ingest = Recorder::default();
    let server = start(config, Limits::default(), ingest.clone()).await;
    let identity = |authority: &Authority| {
        let (cert, key) = authority.sign("apiserver");
        reqwest::Identity::from_pem(format!("{cert}{key}").as_bytes()).unwrap()
    };
    let post = |client: ClientBuilder| client.build().unwrap().post(server.url("/k8s-audit")).body(BODY).send();
    assert!(post(authority.trusted()).await.is_err(), "no certificate");
    assert!(post(authority.trusted().identity(identity(&stranger))).await.is_err(), "a stranger's certificate");
    assert!(ingest.taken().is_empty());
    assert_eq!(post(authority.trusted().identity(identity(&authority))).await.unwrap().status(), 200);
}

#[tokio::test]
async fn certificates_are_reloaded_and_bad_ones_are_not() {
    let (authority, next) = (Authority::new(), Authority::new());
    let first = authority.sign("localhost");
    let config = WebhookConfig { tls: Some(authority.write(&first)), ..WebhookConfig::default() };
    let limits = Limits { reload_interval: Duration::from_millis(20), ..Limits::default() };
    let server = start(config, limits, Recorder::default()).await;
    let works = async |authority: &Authority| {
        let client = authority.trusted().build().unwrap();
        client.post(server.url("/k8s-audit")).body(BODY).send().await.is_ok()
    };
    assert!(works(&authority).await);
    assert!(!server.metrics.encode().contains("certificate_expiry_timestamp_seconds{listener=\"webhook\"} 0.0"));

    // Not the key of this certificate: the error is told once, and the old pair stays.
    let (cert, key) = next.sign("localhost");
    let tls = server.tls.clone().unwrap();
    server.metrics.certificate_expiry.clear();
    authority.write(&(cert.clone(), first.1));
    until("the bad pair was looked at", || tls.reload() == Ok(false)).await;
    assert!(works(&authority).await && !works(&next).await);

    authority.write(&(cert, key));
    until("the new pair is in use", || {
        server.metrics.encode().contains("certificate_expiry_timestamp_seconds{listener=\"webhook\"}")
    })
    .await;
    assert!(works(&next).await && !works(&authority).await);
}

#[test]
fn reload_tells_of_a_bad_file_once() {
    let authority = Authority::new();
    let config = authority.write(&authority.sign("localhost"));
    let tls = Tls::new(&config, "webhook", Arc::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(tls.reload(), Ok(false));
    fs::write(&config.cert, "nonsense").unwrap();
    assert!(tls.reload().unwrap_err().contains("tls.crt holds no certificate"));
    assert_eq!(tls.reload(), Ok(false));
    fs::remove_file(&config.cert).unwrap();
    assert!(tls.reload().unwrap_err().contains("cannot read"));
    assert_eq!(tls.reload(), Ok(false));
    authority.write(&authority.sign("localhost"));
    assert_eq!(tls.reload(), Ok(true));
}

#[test]
fn mistakes_in_the_configuration_are_all_told() {
    let config = WebhookConfig {
        listen: SocketAddr::from(([0, 0, 0, 0], 9765)),
        bearer_token: Some(Secret::new("a".to_owned())),
        bearer_token_file: Some("/nowhere".into()),
        max_body: ByteSize(1 << 40),
        ..WebhookConfig::default()
    };
    assert_eq!(validate(&config).len(), 3);
    let missing = || PathBuf::from("/nowhere");
    let config = WebhookConfig {
        bearer_token_file: Some(missing()),
        tls: Some(TlsConfig { cert: missing(), key: missing(), client_ca: None }),
        ..WebhookConfig::default()
    };
    let wrong = Webhook::new(&config, "home", Recorder::default(), Arc::default(), Arc::default());
    assert_eq!(wrong.err().map(|wrong| wrong.len()), Some(2));
    for fine in ["127.0.0.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
        let config = WebhookConfig { listen: fine.parse().unwrap(), ..WebhookConfig::default() };
        assert!(validate(&config).is_empty(), "{fine}");
    }
}
