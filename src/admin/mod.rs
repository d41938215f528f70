//! The admin listener: metrics, health, API. On its own thread with its own runtime, so that no load on the data path
//! fails a probe.
//!
//! It knows the other parts only by [`AdminState`].

mod api;
mod health;
mod hosts;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::health::{Health, Unready};
use crate::clock::{self, Timestamp};
use crate::metrics::{Metrics, OPENMETRICS, PLAIN_TEXT};
use crate::store::Store;
use crate::token::Tokens;

/// Something shown as JSON, as it is now. It must be quick: probes wait behind it.
pub type View = Box<dyn Fn() -> Value + Send + Sync>;
/// Asks for a reload and waits for its end; the work itself belongs on another thread. `Ok` is what to report.
pub type Reload = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<Value, String>> + Send>> + Send + Sync>;

/// What the admin listener shows and asks for.
pub struct AdminState {
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
    /// For `/readyz`.
    pub health: Arc<Health>,
    /// For `/api/v1/alerts`.
    pub store: Store,
    /// The array of `/api/v1/rules`.
    pub rules: View,
    /// An object whose members are added to those of `/api/v1/status`.
    pub status: View,
    /// For `POST /api/v1/reload`.
    pub reload: Reload,
    /// What every change must bear; without it changes are taken from this machine only.
    pub tokens: Option<Arc<Tokens>>,
    /// Names under which it may be asked, beside its addresses.
    pub hosts: Vec<String>,
}

/// Open connections; more wait until one closes.
const CONNECTIONS_MAX: usize = 256;
/// For a request's head, and between requests: above the scrape intervals in use.
const HEAD_TIME: Duration = Duration::from_secs(75);
/// From stopping to closing the connections that still have requests.
const STOP_TIME: Duration = Duration::from_secs(2);
/// Pause after a failed accept: it fails for want of descriptors, and asking again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const LANDING_PAGE: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Kubesiren</title>\
<h1>Kubesiren</h1><ul>\
<li><a href=\"/api/v1/alerts\">/api/v1/alerts</a>: alerts, newest first; filters since, until, level, rule, cluster, \
user, namespace, q, limit, cursor\
<li><a href=\"/api/v1/rules\">/api/v1/rules</a>: the rules in use\
<li><a href=\"/api/v1/status\">/api/v1/status</a>\
<li>POST /api/v1/reload\
<li><a href=\"/metrics\">/metrics</a>\
<li><a href=\"/livez\">/livez</a>, <a href=\"/readyz\">/readyz</a>\
</ul></html>\n";

/// Serves `listener` on a thread of its own until `shutdown`, which should come last of all: probes and scrapes are
/// answered while the daemon drains.
pub fn spawn(
    listener: std::net::TcpListener,
    state: AdminState,
    shutdown: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    listener.set_nonblocking(true)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let bound = listener.local_addr()?;
    let admin = Arc::new(Admin { state, bound, started: clock::now() });
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => admin.serve(listener, shutdown).await,
                Err(error) => tracing::error!(%error, "the admin listener does not run"),
            }
        });
    })
}

/// An answer before it becomes a response.
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", body: body.into(), header: None }
    }

    fn json(status: StatusCode, body: &Value) -> Self {
        let body = format!("{body}\n");
        Self { status, content_type: "application/json", body, header: None }
    }

    fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(Bytes::from(self.body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Alerts carry text that attackers chose: no browser may take it for anything but what it is.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'"));
        headers.extend(self.header);
        response
    }
}

/// Both ends of a connection.
#[derive(Clone, Copy)]
struct Ends {
    /// Where the client is.
    peer: IpAddr,
    /// The address that it connected to.
    local: IpAddr,
}

struct Admin {
    state: AdminState,
    /// What the listener is bound to.
    bound: SocketAddr,
    started: Timestamp,
}

impl Admin {
    async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let (tasks, overdue) = (TaskTracker::new(), CancellationToken::new());
        let accept = async || {
            let permit = connections.clone().acquire_owned().await;
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let local = stream.local_addr().map_or(self.bound.ip(), |local| local.ip());
                        return (stream, Ends { peer: peer.ip(), local }, permit);
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept an admin connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        while let Some((stream, ends, permit)) = shutdown.run_until_cancelled(accept()).await {
            let (admin, shutdown, overdue) = (self.clone(), shutdown.clone(), overdue.clone());
            tasks.spawn(async move {
                let _permit = permit;
                overdue.run_until_cancelled(admin.connection(stream, ends, shutdown)).await
            });
        }
        tasks.close();
        if timeout(STOP_TIME, tasks.wait()).await.is_err() {
            overdue.cancel();
            tasks.wait().await;
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, ends: Ends, shutdown: CancellationToken) {
        let service = service_fn(move |request: Request<Incoming>| {
            let admin = self.clone();
            async move { Ok::<_, Infallible>(admin.answer(&request.into_parts().0, ends).await.response()) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        // A connection's error is its client's: it went away, or spoke something else than HTTP.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = connection.await;
            }
        }
    }

    async fn answer(&self, request: &Parts, ends: Ends) -> Answer {
        let path = request.uri.path();
        let alert_id = path.strip_prefix("/api/v1/alerts/").filter(|id| !id.is_empty() && !id.contains('/'));
        let allowed = match path {
            "/api/v1/reload" => "POST",
            "/" | "/metrics" | "/livez" | "/readyz" | "/api/v1/alerts" | "/api/v1/rules" | "/api/v1/status" => {
                "GET, HEAD"
            }
            _ if alert_id.is_some() => "GET, HEAD",
            _ => return api::error(StatusCode::NOT_FOUND, "no such path; / lists those there are"),
        };
        if !allowed.split(", ").any(|method| method == request.method.as_str()) {
            let words = format!("only {allowed} is answered here");
            let header = Some((ALLOW, HeaderValue::from_static(allowed)));
            return Answer { header, ..api::error(StatusCode::METHOD_NOT_ALLOWED, &words) };
        }
        if !matches!(path, "/metrics" | "/livez" | "/readyz") && !self.is_meant(request, ends) {
            return api::error(StatusCode::FORBIDDEN, hosts::REFUSAL);
        }
        if request.method == Method::POST
            && let Some(refusal) = self.refuse_change(request, ends.peer).await
        {
            return refusal;
        }
        match path {
            "/" => Answer { content_type: "text/html; charset=utf-8", ..Answer::text(StatusCode::OK, LANDING_PAGE) },
            "/metrics" => self.metrics(request),
            "/livez" => Answer::text(StatusCode::OK, "ok\n"),
            "/readyz" => self.readiness(),
            "/api/v1/alerts" => api::alerts(&self.state, request.uri.query().unwrap_or_default()).await,
            "/api/v1/rules" => api::rules(&self.state),
            "/api/v1/status" => api::status(&self.state, self.started),
            "/api/v1/reload" => api::reload(&self.state).await,
            _ => api::alert(&self.state, alert_id.unwrap_or_default()).await,
        }
    }

    /// Whether the request names this listener. A page of another site can have its own name lead here, and then reads
    /// all answers: its browser tells that name. Probes and scrapes are answered under every name, and so is who has the
    /// token, which no such page has.
    fn is_meant(&self, request: &Parts, ends: Ends) -> bool {
        hosts::all_known(request, &self.state.hosts, self.bound.ip(), ends.local)
            || self.state.tokens.as_ref().is_some_and(|tokens| tokens.borne_by(&request.headers))
    }

    /// Why this client may not change anything, if it may not.
    async fn refuse_change(&self, request: &Parts, peer: IpAddr) -> Option<Answer> {
        if from_another_site(request) {
            return Some(api::error(StatusCode::FORBIDDEN, "asked for by a page of another site"));
        }
        let Some(tokens) = &self.state.tokens else {
            let words = "changes are taken from this machine only; set `admin.token_file` to ask from elsewhere";
            return (!peer.to_canonical().is_loopback()).then(|| api::error(StatusCode::FORBIDDEN, words));
        };
        let reloaded = tokio::task::spawn_blocking({
            let tokens = Arc::clone(tokens);
            move || tokens.reload()
        });
        if let Ok(Err(error)) = reloaded.await {
            tracing::warn!(%error, "admin token not taken; the old one stays in use");
        }
        (!tokens.borne_by(&request.headers)).then(|| {
            let header = Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            Answer {
                header,
                ..api::error(StatusCode::UNAUTHORIZED, "changes need the bearer token of `admin.token_file`")
            }
        })
    }

    fn metrics(&self, request: &Parts) -> Answer {
        let accepted = request.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let (content_type, body) = if accepted.into_iter().any(|value| value.contains("application/openmetrics-text")) {
            (OPENMETRICS, self.state.metrics.encode())
        } else {
            (PLAIN_TEXT, self.state.metrics.encode_plain())
        };
        Answer { content_type, ..Answer::text(StatusCode::OK, body) }
    }

    fn readiness(&self) -> Answer {
        let reasons = self.state.health.reasons();
        if reasons.is_empty() {
            return Answer::text(StatusCode::OK, "ok\n");
        }
        Answer::text(StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n")
    }
}

/// Whether a browser sends this on behalf of some other site's page. The listener is on loopback without a password,
/// so every page that an operator visits could otherwise make it reload.
fn from_another_site(request: &Parts) -> bool {
    let site = request.headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    !matches!(site, None | Some(b"same-origin" | b"none"))
}
