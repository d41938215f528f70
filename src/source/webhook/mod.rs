//! The HTTPS listener that kube-apiservers send to.
//!
//! A request is worked on by its connection's own task, from the first byte to the answer; 200 follows from the `Ok`
//! of ingest. What a client can make the listener hold is bounded by [`Limits`], `max_body` and the [`Budget`].

mod answer;
mod body;
mod connection;
mod own;
#[cfg(test)]
mod tests;
mod tls;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answer::Receiver;
pub use self::body::Budget;
use self::connection::{Activity, Watched};
pub use self::own::client_config;
pub use self::tls::{Loaded, RELOAD_INTERVAL, Tls, load_tls};
use super::Intake;
use crate::clock;
use crate::metrics::{Metrics, Source};
use crate::token::Tokens;
use crate::units::{ByteSize, Secret};

/// `type: webhook`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// The source's name in metrics.
    pub name: String,
    /// Address and port.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Needed off loopback, unless `insecure: true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
    /// A token every request must bear.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// File that holds it; several lines are several tokens, all of them valid, so that they can be rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// Largest body, before and after decompression.
    pub max_body: ByteSize,
    /// The cluster label of events whose path names none; the global `cluster` otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Allows plain HTTP off loopback.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

impl Default for WebhookConfig {
    fn default() -> Self {
        Self {
            name: "webhook".to_owned(),
            listen: SocketAddr::from(([127, 0, 0, 1], 9765)),
            tls: None,
            bearer_token: None,
            bearer_token_file: None,
            max_body: ByteSize(64 << 20),
            cluster: None,
            insecure: false,
        }
    }
}

/// Certificate, key, and optionally who may connect.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM, leaf first.
    pub cert: PathBuf,
    /// PEM.
    pub key: PathBuf,
    /// PEM bundle; when given, clients must show a certificate signed by one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
}

/// Bounds of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Open connections; more wait in the kernel's queue until one closes.
    pub connections: usize,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// From accept to the end of the TLS handshake.
    pub handshake_time: Duration,
    /// From a request's first byte to the end of its head.
    pub head_time: Duration,
    /// From a request's head to the end of its body.
    pub body_time: Duration,
    /// Between requests. kube-apiserver keeps connections idle for 90 s; closing them earlier fails a request now
    /// and then.
    pub idle_time: Duration,
    /// How long the body of a refused request is read on after the answer.
    pub drain_time: Duration,
    /// From stopping to closing the connections that still have requests.
    pub stop_time: Duration,
    /// How often the files of certificate and token are read again.
    pub reload_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            streams: 128,
            handshake_time: Duration::from_secs(10),
            head_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            idle_time: Duration::from_secs(120),
            drain_time: Duration::from_secs(5),
            stop_time: Duration::from_secs(25),
            reload_interval: RELOAD_INTERVAL,
        }
    }
}

/// What a connection of HTTP/1.1 may have read and not yet handed on, heads included: it comes on top of the budget of
/// bodies, a thousand times over.
const HTTP1_BUFFER: usize = 64 << 10;
/// HTTP/2 flow control per stream and per connection, the same for the same reason: a default batch of kube-apiserver in a
/// few round trips.
const HTTP2_WINDOW: u32 = 512 << 10;
/// HTTP/2 frames: large, because bodies are.
const HTTP2_FRAME: u32 = 256 << 10;
/// HTTP/2 heads, decompressed.
const HTTP2_HEAD_MAX: u32 = 64 << 10;
/// How long a connection that was idle too long may take to say goodbye.
const GOODBYE_TIME: Duration = Duration::from_secs(1);
/// A client that cannot connect tries again and again; one line a minute tells as much.
const HANDSHAKES_TOLD_EVERY: Duration = Duration::from_secs(60);
/// Pause after a failed accept: it fails for want of descriptors, and asking again at once would only burn a core.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Everything that is wrong with the configuration as such; files are looked at by [`load_tls`] and [`Tokens::load`].
#[must_use]
pub fn validate(config: &WebhookConfig) -> Vec<String> {
    let mut wrong = Vec::new();
    if !config.listen.ip().to_canonical().is_loopback() && config.tls.is_none() && !config.insecure {
        wrong.push(format!(
            "{} is not on loopback: set `tls`, or `insecure: true` if something in front of it speaks TLS",
            config.listen
        ));
    }
    if config.bearer_token.is_some() && config.bearer_token_file.is_some() {
        wrong.push("`bearer_token` and `bearer_token_file` are both set; keep one".to_owned());
    }
    if config.max_body.0 == 0 || config.max_body.0 > Budget::BYTES_IN_FLIGHT {
        let most = ByteSize(Budget::BYTES_IN_FLIGHT);
        wrong.push(format!("`max_body` is {}; it must be more than 0 and at most {most}", config.max_body));
    }
    wrong
}

/// A webhook source, ready to run.
pub struct Webhook<I> {
    receiver: Receiver<I>,
    tls: Option<Arc<Tls>>,
}

impl<I: Intake> Webhook<I> {
    /// Validates the configuration and reads the files it names; the error lists every mistake. `cluster` is the label
    /// for events whose path and source name none; `budget` is shared by all listeners.
    pub fn new(
        config: &WebhookConfig,
        cluster: &str,
        ingest: I,
        metrics: Arc<Metrics>,
        budget: Arc<Budget>,
    ) -> Result<Self, Vec<String>> {
        let mut wrong = validate(config);
        let tokens = Tokens::load(config.bearer_token.as_ref(), config.bearer_token_file.as_ref());
        let tokens = tokens.unwrap_or_else(|error| {
            wrong.push(error);
            None
        });
        let tls = config.tls.as_ref().map(|tls| Tls::new(tls, &config.name, metrics.clone())).transpose();
        let tls = tls.unwrap_or_else(|error| {
            wrong.push(error);
            None
        });
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let receiver = Receiver {
            source: config.name.as_str().into(),
            cluster: config.cluster.as_deref().unwrap_or(cluster).into(),
            tokens: tokens.map(Arc::new),
            max_body: config.max_body.0,
            limits: Limits::default(),
            budget,
            metrics,
            ingest,
            stopping: CancellationToken::new(),
        };
        Ok(Self { receiver, tls: tls.map(Arc::new) })
    }

    /// The same with other bounds than the default ones.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.receiver.limits = limits;
        self
    }

    /// The certificate in use, for reloading it at once, and for whoever is to trust it.
    #[must_use]
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Serves `listener` until `shutdown`; then takes no more connections, finishes the requests in work, refuses new
    /// ones with 503, and returns when all connections are closed, after `stop_time` at the latest.
    pub async fn run(mut self, listener: TcpListener, shutdown: CancellationToken) {
        self.receiver.stopping = shutdown.clone();
        let limits = self.receiver.limits;
        let server = Arc::new(Server {
            protocols: protocols(&limits),
            receiver: Arc::new(self.receiver),
            tls: self.tls,
            overdue: CancellationToken::new(),
            told_of_handshakes: AtomicI64::new(0),
        });
        let connections = Arc::new(Semaphore::new(limits.connections));
        let tasks = TaskTracker::new();
        if let Some(tls) = &server.tls {
            tasks.spawn(tls.clone().watch(limits.reload_interval, shutdown.clone()));
        }
        if let Some(tokens) = &server.receiver.tokens {
            let source = Arc::clone(&server.receiver.source);
            tasks.spawn(Arc::clone(tokens).watch(source, limits.reload_interval, shutdown.clone()));
        }
        while let Some((stream, permit)) = shutdown.run_until_cancelled(server.accept(&listener, &connections)).await {
            tasks.spawn(server.clone().connection(stream, permit));
        }
        drop(listener);
        tasks.close();
        if timeout(limits.stop_time, tasks.wait()).await.is_err() {
            tracing::warn!(source = &*server.receiver.source, "requests still in work are cut off");
            server.overdue.cancel();
            tasks.wait().await;
        }
    }
}

fn protocols(limits: &Limits) -> auto::Builder<TokioExecutor> {
    let mut protocols = auto::Builder::new(TokioExecutor::new());
    protocols.http1().max_buf_size(HTTP1_BUFFER);
    protocols
        .http2()
        .initial_stream_window_size(HTTP2_WINDOW)
        .initial_connection_window_size(HTTP2_WINDOW)
        .max_frame_size(HTTP2_FRAME)
        .max_header_list_size(HTTP2_HEAD_MAX)
        .max_concurrent_streams(limits.streams);
    protocols
}

/// What the connections of one running listener share.
struct Server<I> {
    receiver: Arc<Receiver<I>>,
    tls: Option<Arc<Tls>>,
    protocols: auto::Builder<TokioExecutor>,
    /// Stopping has taken too long.
    overdue: CancellationToken,
    /// When a failed handshake was last told of, microseconds by the wall clock.
    told_of_handshakes: AtomicI64,
}

impl<I: Intake> Server<I> {
    async fn accept(&self, listener: &TcpListener, connections: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
        let permit = loop {
            if let Ok(permit) = connections.clone().try_acquire_owned() {
                break permit;
            }
            self.receiver.metrics.bound_reached(&self.receiver.source, "connections");
            if let Ok(permit) = connections.clone().acquire_owned().await {
                break permit;
            }
        };
        loop {
            match listener.accept().await {
                Ok((stream, _)) => return (stream, permit),
                Err(error) => {
                    tracing::warn!(source = &*self.receiver.source, %error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, permit: OwnedSemaphorePermit) {
        let _permit = permit;
        // Answers are small: waiting for more to send with them would only delay them. It cannot fail on a live socket.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else { return self.serve(stream).await };
        let handshake = TlsAcceptor::from(tls.current()).accept(stream);
        match timeout(self.receiver.limits.handshake_time, handshake).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => self.handshake_failed(&error),
            Err(_) => self.receiver.metrics.bound_reached(&self.receiver.source, "handshake_time"),
        }
    }

    /// The most likely mistake of a new set-up, which shows on this side only as silence: counted, and told now and then.
    fn handshake_failed(&self, error: &std::io::Error) {
        let source = self.receiver.source.to_string();
        self.receiver.metrics.handshakes_failed.get_or_create(&Source { source }).inc();
        let now = clock::now().0;
        let told = self.told_of_handshakes.load(Ordering::Relaxed);
        let due = now.saturating_sub(told) > HANDSHAKES_TOLD_EVERY.as_micros().try_into().unwrap_or(i64::MAX);
        if due && self.told_of_handshakes.compare_exchange(told, now, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(source = &*self.receiver.source, %error, "a TLS handshake failed; told once a minute at most");
        }
    }

    async fn serve<S>(&self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let receiver = self.receiver.clone();
        let activity = Activity::new(receiver.limits.head_time, receiver.limits.idle_time);
        let service = service_fn({
            let activity = activity.clone();
            move |request: Request<Incoming>| {
                let busy = Arc::new(activity.request(request.version() == Version::HTTP_2));
                let receiver = receiver.clone();
                async move { Ok::<_, Infallible>(receiver.answer(request, busy.clone()).await) }
            }
        });
        let stream = TokioIo::new(Watched { stream, activity: activity.clone() });
        let mut connection = pin!(self.protocols.serve_connection(stream, service));
        // A connection's error is its client's: it went away, or spoke something else than HTTP.
        tokio::select! {
            _ = connection.as_mut() => {}
            () = activity.expired() => {
                connection.as_mut().graceful_shutdown();
                let _ = timeout(GOODBYE_TIME, connection).await;
            }
            () = self.receiver.stopping.cancelled() => {
                connection.as_mut().graceful_shutdown();
                let _ = self.overdue.run_until_cancelled(connection).await;
            }
        }
    }
}
