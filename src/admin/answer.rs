//! What is answered, before and as it goes over the wire.

use std::convert::Infallible;
use std::io::Write as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, VARY,
    X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{Response, StatusCode};
use hyper::body::{Body as HyperBody, Frame, SizeHint};
use serde_json::Value;
use tokio::sync::mpsc::Receiver;

/// What is shorter is not worth packing.
const PACK_MIN: usize = 1_024;

/// For everything but the page: nothing may be loaded, run or framed.
const NOTHING: &str = "default-src 'none'; frame-ancestors 'none'";
/// For the page: what this listener itself serves, and no script or style that stands in the document.
const OWN: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                   base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// A body that is there, or one that comes in pieces.
pub(super) enum Body {
    /// All of it.
    Whole(Bytes),
    /// Events, as they happen.
    Live(Receiver<Bytes>),
}

impl HyperBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match &mut *self {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Self::Live(pieces) => pieces.poll_recv(context).map(|piece| piece.map(|piece| Ok(Frame::data(piece)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Live(_) => SizeHint::default(),
        }
    }
}

/// An answer before it becomes a response.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Body,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Whether a browser shows it as a page of ours.
    pub(super) is_page: bool,
}

impl Answer {
    pub(super) fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, body: Body::Whole(body.into()), headers: Vec::new(), is_page: false }
    }

    pub(super) fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self::new(status, "text/plain; charset=utf-8", body.into())
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self::json_text(status, body.to_string())
    }

    /// JSON that is written already.
    pub(super) fn json_text(status: StatusCode, mut body: String) -> Self {
        body.push('\n');
        Self::new(status, "application/json", body)
    }

    pub(super) fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The response to `request`, packed where its client can unpack it.
    pub(super) fn response(self, request: &Parts) -> Response<Body> {
        let Self { status, content_type, mut body, headers: more, is_page } = self;
        let mut packed = more.iter().any(|(name, _)| name == CONTENT_ENCODING);
        if let Body::Whole(bytes) = &mut body
            && !packed
            && bytes.len() >= PACK_MIN
            && takes_gzip(request)
            && let Ok(smaller) = gzip(bytes, Compression::fast())
        {
            (*bytes, packed) = (smaller, true);
        }
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        // Alerts carry text that attackers chose: no browser may take it for anything but what it is.
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(if is_page { OWN } else { NOTHING }));
        headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        // The address of the page holds what is looked for, which is no business of the sites that alerts link to.
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
        if packed {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        for (name, value) in more {
            headers.insert(name, value); // Not `extend`, which would leave two of those above.
        }
        response
    }
}

/// Whether the client of a request unpacks gzip.
pub(super) fn takes_gzip(request: &Parts) -> bool {
    let values = request.headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
            && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// Packs bytes.
pub(super) fn gzip(bytes: &[u8], how: Compression) -> std::io::Result<Bytes> {
    let mut packer = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), how);
    packer.write_all(bytes)?;
    packer.finish().map(Bytes::from)
}
