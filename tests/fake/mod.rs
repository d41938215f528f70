//! Loopback servers that stand in for where alerts go.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod loki;
pub(crate) mod pagerduty;
pub(crate) mod script;
pub(crate) mod search;
pub(crate) mod slack;
pub(crate) mod smtp;
pub(crate) mod splunk;
pub(crate) mod syslog;
pub(crate) mod tls;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    /// A header's value, or nothing.
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).expect("the body is JSON")
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    delay: Duration,
}

impl Reply {
    /// A status and a body.
    pub(crate) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), delay: Duration::ZERO }
    }

    /// With a header.
    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// After a while.
    pub(crate) fn late(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

/// An HTTP server on a free loopback port that records what it gets. It ends with its runtime.
#[derive(Clone)]
pub(crate) struct Receiver {
    address: SocketAddr,
    secure: bool,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Receiver {
    /// Starts one that answers as `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::serving(answer, true, None).await
    }

    /// Starts one that speaks TLS as `localhost`, or whatever the acceptor shows.
    pub(crate) async fn start_tls(
        acceptor: TlsAcceptor,
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> Self {
        Self::serving(answer, true, Some(acceptor)).await
    }

    /// Starts one that keeps no record: `answer` sees every request.
    pub(crate) async fn forgetful(answer: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::serving(answer, false, None).await
    }

    async fn serving(
        answer: impl Fn(&Request) -> Reply + Send + Sync + 'static,
        keep: bool,
        acceptor: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (answer, seen, secure) = (Arc::new(answer), Arc::clone(&requests), acceptor.is_some());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, seen, acceptor) = (Arc::clone(&answer), Arc::clone(&seen), acceptor.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| {
                        let (answer, seen) = (Arc::clone(&answer), Arc::clone(&seen));
                        async move { Ok::<_, Infallible>(serve(request, &*answer, keep.then_some(&*seen)).await) }
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let Some(acceptor) = acceptor else {
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                        return;
                    };
                    // A client that does not like what it is shown is gone.
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, requests, secure }
    }

    /// A URL on this server.
    pub(crate) fn url(&self, path: &str) -> String {
        if self.secure {
            return format!("https://localhost:{}{path}", self.address.port());
        }
        format!("http://{}{path}", self.address)
    }

    /// What came so far, oldest first.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().expect("not poisoned").clone()
    }
}

async fn serve(
    request: hyper::Request<Incoming>,
    answer: &(impl Fn(&Request) -> Reply + Sync),
    seen: Option<&Mutex<Vec<Request>>>,
) -> hyper::Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let request = Request {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let reply = answer(&request);
    if let Some(seen) = seen {
        seen.lock().expect("not poisoned").push(request);
    }
    tokio::time::sleep(reply.delay).await;
    let mut response = hyper::Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(reply.body))).expect("a response")
}
