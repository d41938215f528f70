//! One request: checked in the order path, method, token, encoding, length, body, then ingested and answered.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, ALLOW, CONTENT_ENCODING, CONTENT_TYPE, EXPECT, RETRY_AFTER};
use http::header::{HeaderValue, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::Full;
use hyper::body::Body;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::body::{Budget, Buffer, collect, drain};
use crate::metrics::{Metrics, Request as RequestLabels};
use crate::pipeline::{Encoding, IngestError, Origin, Receipt};
use crate::source::{CLUSTER_NAME_MAX, Intake, cluster_name};
use crate::token::Tokens;

/// The path kube-apiservers are pointed at; a cluster's name may follow as one more segment.
const PATH: &str = "/k8s-audit";
/// What `Retry-After` says. kube-apiserver tries ten times more in the 30 s of an attempt, so this stretches the
/// attempt to its whole length.
const RETRY_AFTER_SECONDS: u32 = 3;
/// How much of a refused body is read after the answer, in multiples of `max_body`.
const DRAIN_FACTOR: u64 = 2;
/// At least so much, however small `max_body` is: what is read is forgotten, and `drain_time` bounds it too.
const DRAIN_MIN: u64 = 64 << 20;

/// Why a request is not answered with 200.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("no such path; events are taken at {PATH} and {PATH}/{{cluster}}")]
    NoSuchPath,
    #[error("only POST is answered here")]
    NotPost,
    #[error("the cluster name in the path must be 1 to {CLUSTER_NAME_MAX} visible characters")]
    BadCluster,
    #[error("a bearer token is needed, and this request bears none or another one")]
    Unauthorized,
    #[error("this Content-Encoding is not known; gzip, zstd and identity are")]
    UnknownEncoding,
    #[error("the body is larger than {limit} bytes; raise max_body")]
    TooLarge { limit: u64 },
    #[error("the body took too long to arrive")]
    SlowBody,
    #[error("the body ended before its end")]
    BrokenBody,
    #[error("too many bytes of other requests in flight")]
    NoMemory,
    #[error("too many other requests came first")]
    NoTurn,
    #[error("stopping")]
    Stopping,
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Self::BadCluster | Self::BrokenBody | Self::Ingest(IngestError::NotAudit(_)) => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::NoSuchPath => StatusCode::NOT_FOUND,
            Self::NotPost => StatusCode::METHOD_NOT_ALLOWED,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooLarge { .. } | Self::Ingest(IngestError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnknownEncoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::NoMemory | Self::NoTurn | Self::Stopping | Self::Ingest(IngestError::NoRoom(_)) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        }
    }

    /// The bound that was reached, if it was one.
    fn bound(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } | Self::Ingest(IngestError::TooLarge { .. }) => Some("max_body"),
            Self::SlowBody => Some("read_time"),
            Self::NoMemory => Some("bytes_in_flight"),
            Self::NoTurn => Some("turns"),
            _ => None,
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        // One line: the client's own bytes may be quoted in it, and a log line is all that the reader sees.
        let mut line: String = self.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        line.push('\n');
        let mut response = text(self.status(), line);
        let header = match self.status() {
            StatusCode::UNAUTHORIZED => Some((WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            StatusCode::METHOD_NOT_ALLOWED => Some((ALLOW, HeaderValue::from_static("POST"))),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Some((ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"))),
            StatusCode::SERVICE_UNAVAILABLE => Some((RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS))),
            _ => None,
        };
        response.headers_mut().extend(header);
        response
    }
}

fn text(status: StatusCode, line: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(line)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// What all requests of one listener share.
pub(super) struct Receiver<I> {
    pub(super) source: Arc<str>,
    /// The cluster label where the path names none.
    pub(super) cluster: Arc<str>,
    pub(super) tokens: Option<Arc<Tokens>>,
    pub(super) max_body: u64,
    pub(super) limits: Limits,
    pub(super) budget: Arc<Budget>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) ingest: I,
    pub(super) stopping: CancellationToken,
}

impl<I: Intake> Receiver<I> {
    /// Answers one request. `busy` is whatever must live until the body is read to its end.
    pub(super) async fn answer<B, G>(&self, request: Request<B>, busy: G) -> Response<Full<Bytes>>
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        G: Send + 'static,
    {
        let (parts, mut body) = request.into_parts();
        let response = match self.take(&parts, &mut body).await {
            Ok(receipt) => {
                let mut line = String::new();
                // Writing to a String cannot fail.
                let _ = writeln!(line, r#"{{"events":{},"rejected":{}}}"#, receipt.events, receipt.rejected);
                let mut response = text(StatusCode::OK, line);
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
                response
            }
            Err(refusal) => {
                if let Some(bound) = refusal.bound() {
                    self.metrics.bound_reached(&self.source, bound);
                }
                self.read_rest(&parts, body, busy);
                refusal.response()
            }
        };
        let code = response.status().as_str().to_owned();
        self.metrics.requests.get_or_create(&RequestLabels { source: self.source.to_string(), code }).inc();
        response
    }

    async fn take<B>(&self, parts: &Parts, body: &mut B) -> Result<Receipt, Refusal>
    where
        B: Body<Data = Bytes> + Unpin,
    {
        let cluster = named_cluster(parts.uri.path())?;
        if parts.method != Method::POST {
            return Err(Refusal::NotPost);
        }
        if self.tokens.as_ref().is_some_and(|tokens| !tokens.borne_by(&parts.headers)) {
            return Err(Refusal::Unauthorized);
        }
        if self.stopping.is_cancelled() {
            return Err(Refusal::Stopping);
        }
        let encoding = encoding(&parts.headers)?;
        let reading = collect(body, self.max_body, self.budget.clone());
        let body: Buffer = timeout(self.limits.body_time, reading).await.map_err(|_| Refusal::SlowBody)??;
        let start = Instant::now();
        let origin = Origin {
            source: self.source.clone(),
            cluster: cluster.map_or_else(|| self.cluster.clone(), |name| name.into()),
            max_body: self.max_body,
        };
        let answer = self.ingest.take(body.bytes(), encoding, &origin, None).await;
        self.metrics.ingest_seconds.observe(start.elapsed().as_secs_f64());
        Ok(answer?)
    }

    /// Goes on reading a refused body for a while, after the answer. A client that writes all of its body before it
    /// reads would otherwise find the connection reset, and never learn why.
    fn read_rest<B, G>(&self, parts: &Parts, body: B, busy: G)
    where
        B: Body<Data = Bytes> + Unpin + Send + 'static,
        G: Send + 'static,
    {
        // HTTP/2 resets the one stream without harm, and a client that expects `100 Continue` waits for the answer.
        if body.is_end_stream() || parts.version == Version::HTTP_2 || parts.headers.contains_key(EXPECT) {
            return;
        }
        let (time, max) = (self.limits.drain_time, self.max_body.saturating_mul(DRAIN_FACTOR).max(DRAIN_MIN));
        tokio::spawn(async move {
            let _ = timeout(time, drain(body, max)).await;
            drop(busy);
        });
    }
}

/// The cluster that the path names, decoded.
fn named_cluster(path: &str) -> Result<Option<String>, Refusal> {
    let rest = path.strip_prefix(PATH).ok_or(Refusal::NoSuchPath)?;
    if rest.is_empty() || rest == "/" {
        return Ok(None);
    }
    let name = rest.strip_prefix('/').filter(|name| !name.contains('/')).ok_or(Refusal::NoSuchPath)?;
    let name = percent_encoding::percent_decode_str(name).decode_utf8().map_err(|_| Refusal::BadCluster)?;
    cluster_name(&name).ok_or(Refusal::BadCluster)?;
    Ok(Some(name.into_owned()))
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, Refusal> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(Encoding::Detect) };
    if values.next().is_some() {
        return Err(Refusal::UnknownEncoding);
    }
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        "identity" => Ok(Encoding::Identity),
        "" => Ok(Encoding::Detect),
        _ => Err(Refusal::UnknownEncoding),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::testing::Recorder;

    fn receiver(ingest: Recorder) -> Receiver<Recorder> {
        Receiver {
            source: "webhook".into(),
            cluster: "home".into(),
            tokens: None,
            max_body: 1 << 10,
            limits: Limits::default(),
            budget: Arc::default(),
            metrics: Arc::default(),
            ingest,
            stopping: CancellationToken::new(),
        }
    }

    fn post(path: &str, body: &'static str) -> Request<Full<Bytes>> {
        Request::post(path).body(Full::new(Bytes::from_static(body.as_bytes()))).expect("a request")
    }

    #[test]
    fn clusters_in_paths() {
        let name = |path: &str| named_cluster(path).map_err(|refusal| refusal.status().as_u16());
        assert_eq!(name("/k8s-audit"), Ok(None));
        assert_eq!(name("/k8s-audit/"), Ok(None));
        assert_eq!(name("/k8s-audit/prod-eu"), Ok(Some("prod-eu".to_owned())));
        assert_eq!(
            name("/k8s-audit/arn:aws:eks:eu-west-1:1:cluster%2Fprod"),
            Ok(Some("arn:aws:eks:eu-west-1:1:cluster/prod".to_owned()))
        );
        assert_eq!(name("/k8s-audit/m%C3%BCnchen"), Ok(Some("münchen".to_owned())));
        for wrong in ["a%20b", "a%0Ab", "%FF", "%E2%80%AE", &"x".repeat(254)] {
            assert_eq!(name(&format!("/k8s-audit/{wrong}")), Err(400), "{wrong}");
        }
        assert!(name(&format!("/k8s-audit/{}", "x".repeat(253))).is_ok());
        for wrong in ["/", "/k8s-audits", "/k8s-audit/a/b", "/k8s", "/K8S-audit"] {
            assert_eq!(name(wrong), Err(404), "{wrong}");
        }
    }

    #[tokio::test]
    async fn requests_are_refused_while_stopping() {
        let receiver = receiver(Recorder::default());
        assert_eq!(receiver.answer(post("/k8s-audit", "{}"), ()).await.status(), 200);
        receiver.stopping.cancel();
        let answer = receiver.answer(post("/k8s-audit", "{}"), ()).await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()[RETRY_AFTER], "3");
        assert_eq!(receiver.ingest.taken().len(), 1);
    }

    #[tokio::test]
    async fn the_errors_of_ingest_have_their_codes() {
        let receiver = receiver(Recorder::default());
        for (error, code) in [
            (IngestError::NotAudit("line 1:\nno JSON".to_owned()), 400),
            (IngestError::TooLarge { limit: 9 }, 413),
            (IngestError::NoRoom("the journal is full".to_owned()), 503),
        ] {
            receiver.ingest.refuse(error);
            let answer = receiver.answer(post("/k8s-audit", "{}"), ()).await;
            assert_eq!(answer.status(), code);
            let body = http_body_util::BodyExt::collect(answer.into_body()).await.expect("a body").to_bytes();
            assert_eq!(body.iter().filter(|&&byte| byte == b'\n').count(), 1, "one line");
        }
    }

    #[tokio::test]
    async fn a_full_budget_is_503_and_counted() {
        let receiver = Receiver { budget: Arc::new(Budget::new(1)), ..receiver(Recorder::default()) };
        assert_eq!(receiver.answer(post("/k8s-audit", "{}"), ()).await.status(), 503);
        let text = receiver.metrics.encode();
        assert!(text.contains(r#"bounds_reached_total{source="webhook",bound="bytes_in_flight"} 1"#), "{text}");
    }

    #[tokio::test]
    async fn encodings() {
        let receiver = receiver(Recorder::default());
        for (value, expected) in [("gzip", Encoding::Gzip), ("zstd", Encoding::Zstd), ("Identity", Encoding::Identity)]
        {
            let mut request = post("/k8s-audit?timeout=30s", "{}");
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(receiver.answer(request, ()).await.status(), 200);
            assert_eq!(receiver.ingest.taken().last().map(|taken| taken.encoding), Some(expected));
        }
        for value in ["br", "gzip, gzip", "deflate"] {
            let mut request = post("/k8s-audit", "{}");
            request.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(value));
            assert_eq!(receiver.answer(request, ()).await.status(), 415, "{value}");
        }
    }
}
