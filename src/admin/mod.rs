//! The admin listener: metrics, health, API and the web page. On its own thread with its own runtime, so that no load on the
//! data path fails a probe.
//!
//! It knows the other parts only by [`AdminState`].

mod access;
mod answer;
mod api;
mod change;
mod health;
mod hosts;
mod live;
mod page;
mod query;
mod routes;
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
use http::header::{ACCEPT, ALLOW, HeaderValue};
use http::request::Parts;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
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

use self::access::Caller;
pub use self::access::Proxy;
use self::answer::Answer;
pub use self::health::{Health, Unready};
pub use self::page::STYLE;
use self::routes::Route;
use crate::clock::{self, Timestamp};
use crate::metrics::{Metrics, OPENMETRICS, PLAIN_TEXT};
use crate::pipeline::onlookers::Onlookers;
use crate::store::Store;
use crate::token::Tokens;

/// Something shown as JSON, as it is now. It must be quick: probes wait behind it.
pub type View = Box<dyn Fn() -> Value + Send + Sync>;
/// A rule by its id, shown as JSON, if there is one.
pub type RuleView = Box<dyn Fn(&str) -> Option<Value> + Send + Sync>;
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
    /// The object of `/api/v1/rules/{id}`.
    pub rule: RuleView,
    /// An object whose members are added to those of `/api/v1/status`.
    pub status: View,
    /// For `POST /api/v1/reload`.
    pub reload: Reload,
    /// Those who look at events as they come in.
    pub onlookers: Onlookers,
    /// What every change must bear; without it changes are taken from this machine only.
    pub tokens: Option<Arc<Tokens>>,
    /// Without one of these, or of `tokens`, nothing is read.
    pub reader_tokens: Option<Arc<Tokens>>,
    /// Who tells who somebody is.
    pub proxy: Option<Proxy>,
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

/// Bytes of a body, and how long it may take to come.
const BODY_MAX: usize = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(10);

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
    let admin = Arc::new(Admin::new(state, bound, shutdown.clone()));
    std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
        runtime.block_on(async move {
            match TcpListener::from_std(listener) {
                Ok(listener) => admin.serve(listener, shutdown).await,
                Err(error) => tracing::error!(%error, "the admin listener does not run"),
            }
        });
    })
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
    /// Cancelled when the listener stops.
    stop: CancellationToken,
    /// Places for those who are told live.
    streams: Arc<Semaphore>,
}

impl Admin {
    fn new(state: AdminState, bound: SocketAddr, stop: CancellationToken) -> Self {
        Self { state, bound, started: clock::now(), stop, streams: Arc::new(Semaphore::new(live::STREAMS_MAX)) }
    }

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
            async move {
                let (head, body) = request.into_parts();
                let answer = match read(&head, body).await {
                    Ok(body) => admin.answer(&head, &body, ends).await,
                    Err(refusal) => refusal,
                };
                Ok::<_, Infallible>(answer.response(&head))
            }
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

    async fn answer(&self, request: &Parts, body: &[u8], ends: Ends) -> Answer {
        let Some(route) = Route::of(request.uri.path()) else {
            return api::error(StatusCode::NOT_FOUND, "no such path; docs/page.md lists those there are");
        };
        let allowed = route.allowed();
        if !allowed.split(", ").any(|method| method == request.method.as_str()) {
            let words = format!("only {allowed} is answered here");
            return api::error(StatusCode::METHOD_NOT_ALLOWED, &words).with(ALLOW, HeaderValue::from_static(allowed));
        }
        // Probes and scrapes are answered under every name, and to everybody.
        match route {
            Route::Metrics => return self.metrics(request),
            Route::Livez => return Answer::text(StatusCode::OK, "ok\n"),
            Route::Readyz => return self.readiness(),
            _ => {}
        }
        if !self.is_meant(request, ends) {
            return api::error(StatusCode::FORBIDDEN, hosts::REFUSAL);
        }
        // Whoever rotates tokens need not restart. Where reading needs one, one that was taken away reads nothing any more.
        let asked = [&self.state.tokens, &self.state.reader_tokens].into_iter().flatten();
        let needed = request.method == Method::POST || self.state.reader_tokens.is_some();
        for tokens in asked.filter(|_| needed && !matches!(route, Route::Page(_))) {
            access::renew(tokens).await;
        }
        let caller = Caller::of(&self.state, request, ends.peer);
        if request.method == Method::POST {
            return self.change(&route, request, body, &caller).await;
        }
        // The page itself says nothing, and asks for the token; a proxy wants to know its people first.
        let open = matches!(route, Route::Page(_)) && self.state.proxy.is_none();
        if let Some(refusal) = access::refuse_reading(&self.state, &caller).filter(|_| !open) {
            return refusal;
        }
        let (state, query) = (&self.state, request.uri.query().unwrap_or_default());
        match route {
            Route::Page(file) => page::answer(file, request),
            Route::Alerts => api::alerts(state, query).await,
            Route::Alert(id) => api::alert(state, id).await,
            Route::Related(id) => api::related(state, id).await,
            Route::Figures => api::figures(state, query).await,
            Route::Stream => live::stream(&state.store, &self.streams, &self.stop),
            Route::Events => live::events(&state.onlookers, query, &self.stop).await,
            Route::Silences => api::silences(state).await,
            Route::Rules => api::rules(state),
            Route::Rule(id) => api::rule(state, id),
            Route::Session => api::session(state, &caller),
            Route::Status => api::status(state, self.started).await,
            Route::Metrics
            | Route::Livez
            | Route::Readyz
            | Route::Handling(_)
            | Route::EndSilence(_)
            | Route::Reload => unreachable_method(),
        }
    }

    /// Answers what changes something.
    async fn change(&self, route: &Route<'_>, request: &Parts, body: &[u8], caller: &Caller) -> Answer {
        if access::from_another_site(request, &self.state.hosts) {
            return api::error(StatusCode::FORBIDDEN, "asked for by a page of another site");
        }
        if let Some(refusal) = access::refuse_change(&self.state, caller) {
            return refusal;
        }
        if !matches!(route, Route::Reload) && !access::is_json(request) {
            let words = "the body must be JSON, and say so: `content-type: application/json`";
            return api::error(StatusCode::UNSUPPORTED_MEDIA_TYPE, words);
        }
        match route {
            Route::Reload => api::reload(&self.state).await,
            Route::Handling(id) => change::handle(&self.state, id, body, caller).await,
            Route::Silences => change::silence(&self.state, body, caller).await,
            Route::EndSilence(id) => change::end_silence(&self.state, *id, caller).await,
            _ => unreachable_method(),
        }
    }

    /// Whether the request names this listener. A page of another site can have its own name lead here, and then reads
    /// all answers: its browser tells that name. Who has the token is answered under every name: no such page has it.
    fn is_meant(&self, request: &Parts, ends: Ends) -> bool {
        hosts::all_known(request, &self.state.hosts, self.bound.ip(), ends.local)
            || access::bears_a_token(&self.state, request)
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

/// Cannot be: the methods that a route allows are looked at before it is answered.
fn unreachable_method() -> Answer {
    api::error(StatusCode::METHOD_NOT_ALLOWED, "not answered to this method")
}

/// Reads what comes with a change; other requests have no body that anybody looks at.
async fn read(head: &Parts, body: Incoming) -> Result<Bytes, Answer> {
    if head.method != Method::POST {
        return Ok(Bytes::new());
    }
    match timeout(BODY_TIME, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(api::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"))
        }
        Ok(Err(_)) | Err(_) => Err(api::error(StatusCode::REQUEST_TIMEOUT, "the body did not come")),
    }
}
