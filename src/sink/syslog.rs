//! Syslog, RFC 5424: over TLS (RFC 5425), TCP (RFC 6587) or UDP (RFC 5426).

mod line;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::tls::TlsConfig;
use super::{Medium, Message, SendError, Sending, Sent, Traits};
use crate::clock::Timestamp;

/// Alerts sent over one connection.
const BATCH_MAX: usize = 100;
const CONNECT: Duration = Duration::from_secs(5);
/// For everything, from the connection to the other side's end of it.
const TOTAL: Duration = Duration::from_secs(30);
/// What a server may say, which nobody reads, in bytes.
const SAID_MAX: usize = 64 << 10;
/// The least that a message may be allowed, in bytes: every receiver takes as much.
const LENGTH_MIN: usize = 480;
/// What receivers should take of a datagram, and of a stream.
const DATAGRAM: usize = 2_048;
const STREAM: usize = 8_192;

/// `type: syslog`: one message per alert and per end.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyslogConfig {
    /// Where to, `host:port`.
    pub address: String,
    /// How.
    #[serde(default)]
    pub transport: Transport,
    /// Whom it trusts, and how it shows who it is.
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
    /// How messages of a stream are told apart. With TLS there is one way only.
    #[serde(default, skip_serializing_if = "Framing::is_default")]
    pub framing: Framing,
    /// What a message says.
    #[serde(default)]
    pub format: Format,
    /// The kind of program that speaks.
    #[serde(default)]
    pub facility: Facility,
    /// The machine that speaks; without it, this one's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// The id of the structured data, `name@number` with your organization's enterprise number.
    #[serde(default = "structured_data_id")]
    pub structured_data_id: String,
    /// The longest message in bytes: 8 192, or 2 048 over UDP. An alert that is longer is told in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
}

/// The number is the one for documentation: we have none of our own.
fn structured_data_id() -> String {
    "kubesiren@32473".to_owned()
}

/// How messages travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// Encrypted, and the server is who it says.
    #[default]
    Tls,
    /// In the clear.
    Tcp,
    /// In the clear, and nobody knows what arrives.
    Udp,
}

/// How messages of a stream are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// By their length, which stands in front.
    #[default]
    OctetCounting,
    /// By the end of a line.
    Newline,
}

impl Framing {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// The alert's JSON, for programs.
    #[default]
    Json,
    /// A sentence, for people.
    Text,
}

/// The facilities that fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "syslog's own names")]
pub enum Facility {
    User = 1,
    Daemon = 3,
    Auth = 4,
    Authpriv = 10,
    #[default]
    Audit = 13,
    Alert = 14,
    Local0 = 16,
    Local1 = 17,
    Local2 = 18,
    Local3 = 19,
    Local4 = 20,
    Local5 = 21,
    Local6 = 22,
    Local7 = 23,
}

/// Speaks to one syslog server.
///
/// Syslog knows no acknowledgement. Over a stream, the end of the connection is one: what was written is ended, and
/// the other side, having read all of it, ends its half too. Alerts are few enough for a connection of their own.
pub struct Syslog {
    address: String,
    way: Way,
    framing: Framing,
    form: line::Form,
}

enum Way {
    Tls { connector: TlsConnector, name: ServerName<'static> },
    Tcp,
    Udp,
}

impl Syslog {
    pub(super) fn build(config: &SyslogConfig) -> Result<Self, String> {
        let host = host_of(&config.address)?;
        if config.transport != Transport::Tls && !config.tls.is_default() {
            return Err("tls is of no use with this transport: write `transport: tls`, or leave it out".to_owned());
        }
        if config.framing == Framing::Newline && config.transport != Transport::Tcp {
            return Err("framing: newline is for `transport: tcp` only".to_owned());
        }
        let way = match config.transport {
            Transport::Udp => Way::Udp,
            Transport::Tcp => Way::Tcp,
            Transport::Tls => Way::Tls {
                connector: TlsConnector::from(Arc::new(config.tls.load()?.config()?)),
                name: ServerName::try_from(host.to_owned()).map_err(|_| "address: the host is no name")?,
            },
        };
        let usual = if config.transport == Transport::Udp { DATAGRAM } else { STREAM };
        let max = config.max_length.unwrap_or(usual);
        if max < LENGTH_MIN || (config.transport == Transport::Udp && max > 65_507) {
            return Err(format!("max_length must be from {LENGTH_MIN} up, and fit a datagram"));
        }
        let form = line::Form::new(config, max)?;
        Ok(Self { address: config.address.clone(), way, framing: config.framing, form })
    }

    async fn deliver(&self, message: &Message) -> Result<Sent, SendError> {
        let lines = message.items.iter().map(|item| self.form.line(&item.alert)).collect::<Result<Vec<_>, _>>()?;
        let delivered = timeout(TOTAL, self.transmit(&lines)).await;
        match delivered {
            Ok(Ok(())) => Ok(Sent::default()),
            Ok(Err(error)) => Err(SendError::retry(format!("{}: {error}", self.address))),
            Err(_) => {
                Err(SendError::retry(format!("{}: it did not end the connection within {TOTAL:?}", self.address)))
            }
        }
    }

    async fn transmit(&self, lines: &[Vec<u8>]) -> std::io::Result<()> {
        match &self.way {
            Way::Udp => datagrams(self.resolve().await?, lines).await,
            Way::Tcp => converse(self.connect().await?, &self.frames(lines)).await,
            Way::Tls { connector, name } => {
                let stream = connector.connect(name.clone(), self.connect().await?).await?;
                converse(stream, &self.frames(lines)).await
            }
        }
    }

    async fn resolve(&self) -> std::io::Result<SocketAddr> {
        lookup_host(&self.address).await?.next().ok_or_else(|| std::io::Error::other("the host has no address"))
    }

    async fn connect(&self) -> std::io::Result<TcpStream> {
        let connecting = timeout(CONNECT, TcpStream::connect(&self.address)).await;
        connecting.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
    }

    fn frames(&self, lines: &[Vec<u8>]) -> Vec<u8> {
        let mut frames = Vec::new();
        for line in lines {
            match self.framing {
                Framing::OctetCounting => {
                    frames.extend_from_slice(format!("{} ", line.len()).as_bytes());
                    frames.extend_from_slice(line);
                }
                Framing::Newline => {
                    frames.extend_from_slice(line);
                    frames.push(b'\n');
                }
            }
        }
        frames
    }
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> Result<&str, String> {
    let wrong = || format!("address: `{}` is not host:port", crate::text::shorten(address, 100));
    let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let valid = !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port > 0);
    if valid { Ok(host) } else { Err(wrong()) }
}

/// Writes everything, ends, and waits until the other side, which has then read it, ends too.
async fn converse(mut stream: impl AsyncRead + AsyncWrite + Unpin, frames: &[u8]) -> std::io::Result<()> {
    stream.write_all(frames).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    let (mut said, mut buffer) = (0, [0; 1024]);
    loop {
        match stream.read(&mut buffer).await {
            Ok(0) => return Ok(()),
            // Many end the connection without ending TLS first, as they should.
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
            Ok(read) => said += read,
        }
        if said > SAID_MAX {
            return Err(std::io::Error::other("it talks and talks: that is no syslog server"));
        }
    }
}

/// One datagram each. That nobody listens is known, from the second on, if the other machine says so.
async fn datagrams(to: SocketAddr, lines: &[Vec<u8>]) -> std::io::Result<()> {
    let from: SocketAddr = if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(from).await?;
    socket.connect(to).await?;
    for line in lines {
        socket.send(line).await?;
    }
    match socket.try_recv(&mut [0; 16]) {
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

impl Medium for Syslog {
    fn traits(&self) -> Traits {
        Traits { batch_max: BATCH_MAX, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, _now: Timestamp) -> Sending<'a> {
        Box::pin(self.deliver(message))
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::super::fake::syslog as fake;
    use super::super::fake::tls::Authority;
    use super::super::samples::{alert, at, item, message};
    use super::*;
    use crate::alert::Level;
    use crate::store::Kind;

    fn config(address: &str, more: &serde_json::Value) -> SyslogConfig {
        let mut config = serde_json::json!({"address": address});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(config).unwrap()
    }

    async fn send(config: &SyslogConfig) -> Result<Sent, SendError> {
        let two = message(vec![
            item(Kind::Firing, alert("a", "r", Level::High)),
            item(Kind::Resolved, alert("b", "r", Level::Low)),
        ]);
        Syslog::build(config).map_err(SendError::reject)?.send(&two, at("2026-11-21T05:00:00Z")).await
    }

    fn ids(messages: &[fake::Received]) -> Vec<String> {
        messages.iter().map(|message| message.parameters["alert_id"].clone()).collect()
    }

    #[tokio::test]
    async fn alerts_come_over_tls_to_a_server_that_is_who_it_says() {
        let authority = Authority::new();
        let server = fake::Syslog::tls(authority.acceptor("localhost", false)).await;
        let tls = |ca: PathBuf| config(&server.address("localhost"), &serde_json::json!({"tls": {"ca": ca}}));
        assert_eq!(send(&tls(authority.ca())).await, Ok(Sent::default()));
        assert_eq!(ids(&server.received()), ["a", "b"]);
        // Another authority's server is not spoken to, nor is one of another name.
        let error = send(&tls(Authority::new().ca())).await.unwrap_err();
        assert!(matches!(&error, SendError::Retry { reason, .. } if reason.contains("certificate")), "{error:?}");
        let server = fake::Syslog::tls(authority.acceptor("other.example", false)).await;
        let named = config(&server.address("localhost"), &serde_json::json!({"tls": {"ca": authority.ca()}}));
        assert!(matches!(send(&named).await, Err(SendError::Retry { .. })));
        assert!(server.received().is_empty());
    }

    #[tokio::test]
    async fn a_server_that_demands_a_certificate_gets_one() {
        let authority = Authority::new();
        let server = fake::Syslog::tls(authority.acceptor("localhost", true)).await;
        let (cert, key) = authority.identity("kubesiren");
        let tls = |tls| config(&server.address("localhost"), &serde_json::json!({"tls": tls}));
        let without = send(&tls(serde_json::json!({"ca": authority.ca()}))).await;
        assert!(matches!(without, Err(SendError::Retry { .. })), "{without:?}");
        let with = serde_json::json!({"ca": authority.ca(), "cert": cert, "key": key});
        assert_eq!(send(&tls(with)).await, Ok(Sent::default()));
        assert_eq!(server.received().len(), 2);
    }

    #[tokio::test]
    async fn alerts_come_over_tcp_in_either_framing() {
        for framing in ["octet_counting", "newline"] {
            let server = fake::Syslog::tcp().await;
            let tcp = serde_json::json!({"transport": "tcp", "framing": framing});
            assert_eq!(send(&config(&server.address("127.0.0.1"), &tcp)).await, Ok(Sent::default()));
            assert_eq!(ids(&server.received()), ["a", "b"]);
        }
    }

    #[tokio::test]
    async fn alerts_come_over_udp_one_each() {
        let server = fake::Syslog::udp().await;
        let udp = config(&server.address("127.0.0.1"), &serde_json::json!({"transport": "udp"}));
        assert_eq!(send(&udp).await, Ok(Sent::default()));
        server.until(2).await;
        assert_eq!(ids(&server.received()), ["a", "b"]);
    }

    /// What a server had not read when it went away was not sent.
    #[tokio::test]
    async fn a_server_that_goes_away_before_it_has_read_all_is_worth_a_retry() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 10]).await;
            }
        });
        let error = send(&config(&address, &serde_json::json!({"transport": "tcp"}))).await.unwrap_err();
        assert!(matches!(error, SendError::Retry { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn nobody_there_is_worth_a_retry() {
        for transport in ["tls", "tcp", "udp"] {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = socket.local_addr().unwrap().to_string();
            drop(socket);
            let error = send(&config(&address, &serde_json::json!({"transport": transport}))).await.unwrap_err();
            assert!(matches!(&error, SendError::Retry { reason, .. } if reason.contains("refused")), "{error:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (address, more, said) in [
            ("siem", serde_json::json!({}), "`siem` is not host:port"),
            ("tls://siem:6514", serde_json::json!({}), "is not host:port"),
            ("siem:0", serde_json::json!({}), "is not host:port"),
            ("siem:514", serde_json::json!({"transport": "udp", "tls": {"ca": "/x"}}), "tls is of no use"),
            ("siem:6514", serde_json::json!({"framing": "newline"}), "framing: newline"),
            ("siem:514", serde_json::json!({"transport": "tcp", "max_length": 100}), "max_length"),
            ("siem:514", serde_json::json!({"transport": "tcp", "hostname": "a b"}), "hostname"),
            ("siem:514", serde_json::json!({"transport": "tcp", "structured_data_id": "x"}), "structured_data_id"),
        ] {
            let error = Syslog::build(&config(address, &more)).err().unwrap();
            assert!(error.contains(said), "{said}: {error}");
        }
        assert_eq!(host_of("[::1]:6514"), Ok("::1"));
    }
}
