//! A mail server that knows the protocol, and nothing of what it does not allow.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// Whom it lets in.
pub(crate) const USER: &str = "kubesiren";
/// With what.
pub(crate) const PASSWORD: &str = "s3cr3t-m41l";

/// A mail, decoded.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mail {
    pub(crate) from: String,
    pub(crate) to: Vec<String>,
    /// By their names in small letters.
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) text: String,
}

/// The fake, with the mails it took. It ends with its runtime.
#[derive(Clone)]
pub(crate) struct Smtp {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    acceptor: Option<TlsAcceptor>,
    wrapped: bool,
}

#[derive(Default)]
struct State {
    mails: Vec<Mail>,
    heard: Vec<String>,
    refused: BTreeMap<String, String>,
    dead: BTreeMap<String, String>,
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Smtp {
    /// One that offers TLS, and lets nobody in without.
    pub(crate) async fn starttls(acceptor: TlsAcceptor) -> Self {
        Self::start(Some(acceptor), false).await
    }

    /// One that speaks TLS from the beginning.
    pub(crate) async fn tls(acceptor: TlsAcceptor) -> Self {
        Self::start(Some(acceptor), true).await
    }

    /// One without TLS.
    pub(crate) async fn plain() -> Self {
        Self::start(None, false).await
    }

    async fn start(acceptor: Option<TlsAcceptor>, wrapped: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let smtp = Self { address, state: Arc::default(), acceptor, wrapped };
        let server = smtp.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                tokio::spawn(async move { server.serve(Box::new(stream)).await });
            }
        });
        smtp
    }

    /// Its port on loopback.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Answers the next command of this name with this; `.` is the end of a mail.
    pub(crate) fn refuse(&self, command: &str, reply: &str) {
        self.lock().refused.insert(command.to_owned(), reply.to_owned());
    }

    /// Answers with this whenever it is to take a mail for this address; with nothing, it takes them again.
    pub(crate) fn refuse_receiver(&self, address: &str, reply: Option<&str>) {
        let mut state = self.lock();
        state.dead.remove(address);
        state.dead.extend(reply.map(|reply| (address.to_owned(), reply.to_owned())));
    }

    /// The mails it took.
    pub(crate) fn mails(&self) -> Vec<Mail> {
        self.lock().mails.clone()
    }

    /// The commands it heard.
    pub(crate) fn heard(&self) -> Vec<String> {
        self.lock().heard.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("not poisoned")
    }

    /// A client that goes away ends it.
    async fn serve(&self, stream: Box<dyn Stream>) -> io::Result<()> {
        let (stream, mut secure): (Box<dyn Stream>, bool) = match &self.acceptor {
            Some(acceptor) if self.wrapped => (Box::new(acceptor.accept(stream).await?), true),
            _ => (stream, false),
        };
        let mut stream = BufReader::new(stream);
        let mut session = Session::default();
        say(&mut stream, "220 mail.example.com ESMTP").await?;
        loop {
            let line = read(&mut stream).await?;
            let command = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let refused = {
                let mut state = self.lock();
                state.heard.push(line.clone());
                let dead = state.dead.iter().find(|(address, _)| line == format!("RCPT TO:<{address}>"));
                let dead = dead.map(|(_, reply)| reply.clone());
                dead.or_else(|| state.refused.remove(&command))
            };
            if let Some(reply) = refused {
                say(&mut stream, &reply).await?;
                continue;
            }
            match (command.as_str(), &self.acceptor) {
                ("QUIT", _) => return say(&mut stream, "221 bye").await,
                ("STARTTLS", Some(acceptor)) if !secure => {
                    say(&mut stream, "220 go on").await?;
                    // What was said before TLS counts no more.
                    stream = BufReader::new(Box::new(acceptor.accept(stream.into_inner()).await?));
                    (session, secure) = (Session::default(), true);
                }
                ("DATA", _) if session.ready() => {
                    say(&mut stream, "354 end with a dot").await?;
                    let mail = session.take(&read_mail(&mut stream).await?);
                    let refused = self.lock().refused.remove(".");
                    let reply = match refused {
                        Some(reply) => reply,
                        None => {
                            self.lock().mails.push(mail);
                            "250 taken".to_owned()
                        }
                    };
                    say(&mut stream, &reply).await?;
                }
                _ => {
                    let offers = if secure {
                        "\r\n250-AUTH PLAIN LOGIN"
                    } else if self.acceptor.is_some() {
                        "\r\n250-STARTTLS"
                    } else {
                        ""
                    };
                    let reply = session.answer(&command, &line, secure, offers);
                    say(&mut stream, &reply).await?;
                }
            }
        }
    }
}

/// What was said since TLS began.
#[derive(Default)]
struct Session {
    greeted: bool,
    authenticated: bool,
    mail: Option<Mail>,
}

impl Session {
    fn ready(&self) -> bool {
        self.mail.as_ref().is_some_and(|mail| !mail.to.is_empty())
    }

    fn take(&mut self, raw: &[String]) -> Mail {
        let mut mail = self.mail.take().expect("ready");
        (mail.headers, mail.text) = decode(raw);
        mail
    }

    fn answer(&mut self, command: &str, line: &str, secure: bool, offers: &str) -> String {
        let address =
            || line.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map(|(address, _)| address.to_owned());
        match command {
            "EHLO" => {
                self.greeted = true;
                format!("250-mail.example.com{offers}\r\n250 8BITMIME")
            }
            "AUTH" if self.greeted && secure => {
                let expected = BASE64_STANDARD.encode(format!("\0{USER}\0{PASSWORD}"));
                self.authenticated = line == format!("AUTH PLAIN {expected}");
                let taken = "235 2.7.0 let in";
                if self.authenticated { taken } else { "535 5.7.8 no such user or password" }.to_owned()
            }
            "MAIL" | "RCPT" if !self.authenticated => "530 5.7.0 authentication required".to_owned(),
            "MAIL" if self.mail.is_none() => match address() {
                Some(from) => {
                    self.mail = Some(Mail { from, ..Mail::default() });
                    "250 well".to_owned()
                }
                None => "501 5.5.4 no address".to_owned(),
            },
            "RCPT" => match (&mut self.mail, address()) {
                (Some(mail), Some(to)) => {
                    mail.to.push(to);
                    "250 well".to_owned()
                }
                _ => "503 5.5.1 whose?".to_owned(),
            },
            _ => "503 5.5.1 not now".to_owned(),
        }
    }
}

async fn say(stream: &mut BufReader<Box<dyn Stream>>, text: &str) -> io::Result<()> {
    stream.write_all(format!("{text}\r\n").as_bytes()).await?;
    stream.flush().await
}

/// A line that ends as lines must.
async fn read(stream: &mut BufReader<Box<dyn Stream>>) -> io::Result<String> {
    let mut line = String::new();
    stream.read_line(&mut line).await?;
    let line =
        line.strip_suffix("\r\n").ok_or_else(|| io::Error::other("the client is gone, or ends lines as it likes"))?;
    // What RFC 5321 allows, with its end.
    assert!(line.len() <= 998 && !line.contains(['\r', '\n']), "{line}");
    Ok(line.to_owned())
}

/// The lines of a mail up to its dot.
async fn read_mail(stream: &mut BufReader<Box<dyn Stream>>) -> io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let line = read(stream).await?;
        if line == "." {
            return Ok(lines);
        }
        lines.push(line.strip_prefix('.').map_or(line.clone(), str::to_owned));
    }
}

fn decode(raw: &[String]) -> (BTreeMap<String, String>, String) {
    let end = raw.iter().position(String::is_empty).unwrap_or(raw.len());
    let mut headers = BTreeMap::new();
    let mut last = String::new();
    for line in &raw[..end] {
        if line.starts_with([' ', '\t']) {
            headers.entry(last.clone()).and_modify(|value: &mut String| value.push_str(line));
        } else if let Some((name, value)) = line.split_once(": ") {
            last = name.to_ascii_lowercase();
            assert!(headers.insert(last.clone(), value.to_owned()).is_none(), "{name} twice");
        }
    }
    headers.values_mut().for_each(|value| *value = words(value));
    let body = &raw[(end + 1).min(raw.len())..];
    let bytes = match headers.get("content-transfer-encoding").map(String::as_str) {
        Some("base64") => BASE64_STANDARD.decode(body.concat()).expect("base64"),
        Some("quoted-printable") => quoted_printable(&body.join("\n")),
        _ => body.join("\n").into_bytes(),
    };
    (headers, String::from_utf8(bytes).expect("UTF-8").replace("\r\n", "\n"))
}

/// A header with its encoded words decoded.
fn words(value: &str) -> String {
    let pattern = regex::Regex::new(r"=\?utf-8\?b\?([^?]*)\?=").expect("a pattern");
    let decoded = |word: &regex::Captures<'_>| {
        String::from_utf8(BASE64_STANDARD.decode(&word[1]).expect("base64")).expect("whole characters")
    };
    // Space between two of them is none.
    let joined = regex::Regex::new(r"\?=\s+=\?").expect("a pattern").replace_all(value, "?==?");
    pattern.replace_all(&joined, decoded).into_owned()
}

fn quoted_printable(text: &str) -> Vec<u8> {
    let text = text.replace("=\n", "");
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'=' {
            let hex = std::str::from_utf8(&after[..2]).expect("two digits");
            out.push(u8::from_str_radix(hex, 16).expect("two digits"));
            rest = &after[2..];
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}
