//! Connections over TLS that are kept open, each for one post at a time, as kube-apiservers keep theirs.
//!
//! A general client opens one more whenever none is idle and keeps whichever is ready last, which under overload is
//! thousands of handshakes that nobody asked for.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};
use tokio_rustls::TlsConnector;

/// No post takes as long as this.
const PATIENCE: Duration = Duration::from_secs(120);

type Connection = SendRequest<Halves>;

/// Where posts go, and the connections that wait for the next one.
pub(super) struct Connections {
    address: SocketAddr,
    path: &'static str,
    tls: TlsConnector,
    idle: Mutex<Vec<Connection>>,
}

impl Connections {
    /// Trusts `authority` alone.
    pub(super) fn new(address: SocketAddr, path: &'static str, authority: CertificateDer<'static>) -> Self {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(authority).expect("a certificate");
        let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { address, path, tls: TlsConnector::from(Arc::new(config)), idle: Mutex::default() }
    }

    /// Posts `body`, with a `pause` in its middle, and reads the answer to its end; `None` where there is none.
    pub(super) async fn post(&self, body: Bytes, pause: Duration) -> Option<Response<()>> {
        tokio::time::timeout(PATIENCE, self.try_post(Halves::new(body, pause))).await.ok()?.ok()
    }

    async fn try_post(&self, body: Halves) -> Result<Response<()>, Box<dyn std::error::Error + Send + Sync>> {
        let kept = self.idle.lock().expect("not poisoned").pop();
        let mut connection = match kept {
            Some(kept) if kept.is_ready() => kept,
            _ => self.connect().await?,
        };
        let request = Request::post(self.path)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .body(body)?;
        let (head, body) = connection.send_request(request).await?.into_parts();
        body.collect().await?;
        if connection.ready().await.is_ok() {
            self.idle.lock().expect("not poisoned").push(connection);
        }
        Ok(Response::from_parts(head, ()))
    }

    async fn connect(&self) -> Result<Connection, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let (sender, connection) = handshake(TokioIo::new(self.tls.connect(name, stream).await?)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// A body that is sent in two halves.
struct Halves {
    first: Bytes,
    pause: Duration,
    pausing: Option<Pin<Box<Sleep>>>,
    second: Bytes,
}

impl Halves {
    fn new(mut body: Bytes, pause: Duration) -> Self {
        let first = body.split_to(if pause.is_zero() { 0 } else { body.len() / 2 });
        Self { first, pause, pausing: None, second: body }
    }
}

impl Body for Halves {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.first.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.first)))));
        }
        if self.second.is_empty() {
            return Poll::Ready(None);
        }
        let pause = self.pause;
        if !pause.is_zero() {
            ready!(self.pausing.get_or_insert_with(|| Box::pin(sleep(pause))).as_mut().poll(cx));
        }
        Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.second)))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact((self.first.len() + self.second.len()) as u64)
    }
}
