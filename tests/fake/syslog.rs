//! A syslog server that takes nothing but RFC 5424.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use regex::Regex;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Notify;
use tokio_rustls::TlsAcceptor;

/// A message as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) facility: u32,
    pub(crate) severity: u32,
    /// Of the one element of structured data.
    pub(crate) parameters: BTreeMap<String, String>,
    /// What the message says.
    pub(crate) said: String,
}

impl Received {
    /// Reads a message, or says what is wrong with it.
    pub(crate) fn parse(line: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|error| error.to_string())?;
        let whole = concat!(
            r"(?s)^<(\d{1,3})>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{1,6}Z) ([\x21-\x7e]{1,255}) ([\x21-\x7e]{1,48}) ",
            r#"([\x21-\x7e]{1,128}) ([\x21-\x7e]{1,32}) \[([^ =\]"]{1,32})((?: [^ =\]"]{1,32}="(?:[^"\\\]]|\\["\\\]])*")*)\] (.*)$"#
        );
        let parts =
            Regex::new(whole).expect("a pattern").captures(text).ok_or_else(|| format!("not RFC 5424: {text}"))?;
        let priority: u32 = parts[1].parse().map_err(|_| "no priority")?;
        if priority > 191 || parts[2].parse::<jiff::Timestamp>().is_err() {
            return Err(format!("no priority, or no time: {text}"));
        }
        let parameter = Regex::new(r#" ([^=]+)="((?:[^"\\\]]|\\["\\\]])*)""#).expect("a pattern");
        let unescape = Regex::new(r#"\\(["\\\]])"#).expect("a pattern");
        let pairs = parameter.captures_iter(&parts[8]).map(|found| {
            let value = unescape.replace_all(&found[2], "$1").into_owned();
            (found[1].to_owned(), value)
        });
        let said = match parts[9].strip_prefix('\u{feff}') {
            Some(said) => said,
            None if parts[9].is_ascii() => &parts[9],
            None => return Err(format!("UTF-8 that is not marked: {text}")),
        };
        Ok(Self { facility: priority / 8, severity: priority % 8, parameters: pairs.collect(), said: said.to_owned() })
    }
}

/// The fake, with what it was told. It ends with its runtime.
#[derive(Clone)]
pub(crate) struct Syslog {
    address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
    came: Arc<Notify>,
}

impl Syslog {
    fn new(address: SocketAddr) -> Self {
        Self { address, received: Arc::default(), came: Arc::default() }
    }

    /// Starts one for plain TCP.
    pub(crate) async fn tcp() -> Self {
        Self::streams(None).await
    }

    /// Starts one that speaks TLS.
    pub(crate) async fn tls(acceptor: TlsAcceptor) -> Self {
        Self::streams(Some(acceptor)).await
    }

    async fn streams(acceptor: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let syslog = Self::new(listener.local_addr().expect("bound"));
        let server = syslog.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (server, acceptor) = (server.clone(), acceptor.clone());
                tokio::spawn(async move {
                    match acceptor {
                        None => server.listen(stream).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                server.listen(stream).await;
                            }
                        }
                    }
                });
            }
        });
        syslog
    }

    /// Starts one for UDP.
    pub(crate) async fn udp() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        let syslog = Self::new(socket.local_addr().expect("bound"));
        let server = syslog.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok(length) = socket.recv(&mut buffer).await {
                server.take(&buffer[..length]);
            }
        });
        syslog
    }

    /// Reads until the other side ends, takes what it said, and ends too.
    async fn listen(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut all = Vec::new();
        if stream.read_to_end(&mut all).await.is_err() {
            return;
        }
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            let (frame, after) = frame(rest).expect("a frame");
            self.take(frame);
            rest = after;
        }
        let _ = stream.shutdown().await;
    }

    fn take(&self, line: &[u8]) {
        let received = Received::parse(line).unwrap_or_else(|error| panic!("{error}"));
        self.received.lock().expect("not poisoned").push(received);
        self.came.notify_one();
    }

    /// Its address under one of its names.
    pub(crate) fn address(&self, host: &str) -> String {
        format!("{host}:{}", self.address.port())
    }

    /// What it was told so far.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// Waits until it was told so much.
    pub(crate) async fn until(&self, messages: usize) {
        while self.received().len() < messages {
            self.came.notified().await;
        }
    }
}

/// The first frame and what is behind it: counted octets, or a line.
fn frame(text: &[u8]) -> Option<(&[u8], &[u8])> {
    if text.starts_with(b"<") {
        let end = text.iter().position(|byte| *byte == b'\n')?;
        return Some((&text[..end], &text[end + 1..]));
    }
    let space = text.iter().position(|byte| *byte == b' ')?;
    let length: usize = std::str::from_utf8(&text[..space]).ok()?.parse().ok()?;
    text.get(space + 1..)?.split_at_checked(length)
}
