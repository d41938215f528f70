//! Mail, handed to a server by SMTP: one for the alerts of a rule and cluster, and their end as its answer.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use lettre::address::{Address, Envelope};
use lettre::message::header::ContentType;
use lettre::message::{Mailbox, Message as Mail};
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Identity, Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::facts::{LINES_MAX, PLAIN, headline, line, listed_by, report, rest, this_machine, todo_lines};
use super::http::{REASON_MAX, with_causes, without};
use super::page::Page;
use super::tls::{Loaded, TlsConfig};
use super::{Medium, Message, Rate, SendError, Sending, Sent, Traits};
use crate::clock::Timestamp;
use crate::store::Kind;
use crate::text::shorten;
use crate::units::Secret;

/// Nobody reads more, and some servers hold more up.
const RATE: Rate = Rate { every: Duration::from_secs(10), burst: 10 };
const BATCH_MAX: usize = 100;
/// For all of a mail, from the connection to the server's last word.
const TOTAL: Duration = Duration::from_secs(45);
const CONNECT: Duration = Duration::from_secs(10);
/// A receiver whom the server does not want for now holds the others up for so many attempts, about half a minute.
const PATIENCE: u32 = 4;
const SUBJECT_MAX: usize = 150;
/// Of the text, in characters.
const TEXT_MAX: usize = 20_000;
const LINE: &str = "\r\n";

/// `type: email`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EmailConfig {
    /// The mail server's name.
    pub host: String,
    /// Its port: 587, 465 or 25, as `security` wants it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// How the connection is secured.
    #[serde(default)]
    pub security: Security,
    /// Whom it trusts, and how it shows who it is.
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
    /// User name, with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// The sender: `Kubesiren <kubesiren@example.com>`.
    pub from: String,
    /// The receivers.
    pub to: Vec<String>,
}

/// How the connection is secured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// TLS after the first words; without it nothing is sent.
    #[default]
    Starttls,
    /// TLS from the beginning.
    Tls,
    /// None: for a server on this machine.
    None,
}

/// Sends mail through one server.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    /// What must not be quoted from an answer.
    secret: Option<String>,
    /// Receivers whom the server refused when it was asked last: said once, not with every mail.
    refused: Mutex<BTreeSet<Address>>,
    page: Page,
}

impl Email {
    pub(super) fn build(config: &EmailConfig, page: &Page) -> Result<Self, String> {
        let from = mailbox(&config.from, "from")?;
        let to = config.to.iter().map(|text| mailbox(text, "to")).collect::<Result<Vec<_>, _>>()?;
        if to.is_empty() {
            return Err("to is empty: nobody would read the mail".to_owned());
        }
        if config.host.trim().is_empty() || config.host.contains(['/', ':', '@', ' ']) {
            return Err("host is the name of a server, without a port".to_owned());
        }
        let password = Secret::load(config.password.as_ref(), config.password_file.as_ref())?;
        let (tls, port) = security(config)?;
        let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(config.host.clone());
        let mut builder = builder.port(config.port.unwrap_or(port)).timeout(Some(CONNECT)).tls(tls);
        if let Some(name) = this_machine() {
            builder = builder.hello_name(ClientId::Domain(name));
        }
        builder = match (&config.username, &password) {
            (None, None) => builder,
            (Some(_), Some(_)) if config.security == Security::None => {
                return Err("password: it would be sent in the clear; write `security: starttls`".to_owned());
            }
            (Some(user), Some(password)) => {
                builder.credentials(Credentials::new(user.clone(), password.expose().to_owned()))
            }
            _ => return Err("username and password_file go together: give both".to_owned()),
        };
        let secret = password.map(|password| password.expose().to_owned());
        Ok(Self { transport: builder.build(), from, to, secret, refused: Mutex::default(), page: page.clone() })
    }

    fn mail(&self, message: &Message, now: Timestamp) -> Result<(Mail, String), SendError> {
        let id = self.id(message);
        let since = Duration::from_micros(u64::try_from(now.0).unwrap_or_default());
        let mut mail = Mail::builder()
            .from(self.from.clone())
            .date(std::time::UNIX_EPOCH + since)
            .message_id(Some(id.clone()))
            .subject(subject(message))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            mail = mail.to(to.clone());
        }
        if let Some(earlier) = message.items.first().and_then(|item| item.remembered.clone()) {
            mail = mail.in_reply_to(earlier.clone()).references(earlier);
        }
        // Nobody answers for it: no mail about mail.
        let mail = mail.body(text(message, &self.page)).map_err(|error| SendError::reject(error.to_string()))?;
        Ok((mail, id))
    }

    /// The same for a mail that is sent again, so that it can be known for what it is.
    fn id(&self, message: &Message) -> String {
        let first = message.items.first();
        let id: String = first.map(|item| item.alert.id.as_str()).unwrap_or_default().chars().take(64).collect();
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        let kind = match first.map(|item| item.kind) {
            Some(Kind::Resolved) => "resolved",
            _ => "firing",
        };
        format!("<{id}.{kind}.{}@{}>", message.items.len(), self.from.email.domain())
    }

    async fn deliver(&self, message: &Message, now: Timestamp) -> Result<Sent, SendError> {
        let (mail, id) = self.mail(message, now)?;
        let attempts = message.items.iter().map(|item| item.attempts).max().unwrap_or_default();
        timeout(TOTAL, self.hand_over(&mail, attempts))
            .await
            .unwrap_or_else(|_| Err(SendError::retry(format!("no answer within {} s", TOTAL.as_secs()))))?;
        // A digest is about too much for an end to be its answer.
        let opened = message.items.iter().filter(|item| item.kind == Kind::Firing && message.digest.is_none());
        let remember = opened.map(|item| (item.alert.id.clone(), id.clone())).collect();
        Ok(Sent { remember, ..Sent::default() })
    }

    /// To all at once, or, where one of them may be why the server does not want it, to each on its own.
    async fn hand_over(&self, mail: &Mail, attempts: u32) -> Result<(), SendError> {
        let text = mail.formatted();
        match self.transport.send_raw(mail.envelope(), &text).await {
            Ok(_) => {
                self.note(mail.envelope().to(), None);
                Ok(())
            }
            Err(error) if self.to.len() > 1 && may_be_of_one(&error, attempts) => self.to_each(mail, &text).await,
            Err(error) => Err(self.judge(&error)),
        }
    }

    /// The same mail in an envelope for each receiver: one dead address keeps it from nobody else.
    async fn to_each(&self, mail: &Mail, text: &[u8]) -> Result<(), SendError> {
        let mut refusals = Vec::new();
        for to in mail.envelope().to() {
            let one = Envelope::new(mail.envelope().from().cloned(), vec![to.clone()]);
            let one = one.map_err(|error| SendError::reject(error.to_string()))?;
            match self.transport.send_raw(&one, text).await {
                Ok(_) => self.note(std::slice::from_ref(to), None),
                Err(error) => refusals.push((to, self.judge(&error))),
            }
        }
        if refusals.len() < mail.envelope().to().len() {
            refusals.iter().for_each(|(to, error)| self.note(std::slice::from_ref(to), Some(error)));
            return Ok(());
        }
        // Nobody got it. It is given up only if it is so for all.
        let lasts = refusals.iter().position(|(_, error)| matches!(error, SendError::Retry { .. }));
        Err(refusals.swap_remove(lasts.unwrap_or_default()).1)
    }

    /// Remembers whom the server takes mail for, and says what changed.
    fn note(&self, receivers: &[Address], refusal: Option<&SendError>) {
        let Ok(mut refused) = self.refused.lock() else { return };
        for receiver in receivers {
            match refusal {
                Some(error) if refused.insert(receiver.clone()) => {
                    tracing::error!(%receiver, %error, "the mail server takes no mail for one receiver; the others get theirs");
                }
                None if refused.remove(receiver) => {
                    tracing::info!(%receiver, "the mail server takes mail for a receiver again");
                }
                _ => {}
            }
        }
    }

    /// The few codes that are about this mail are final. Whatever else is wrong somebody can mend: an address, a
    /// password, a full box.
    fn judge(&self, error: &Error) -> SendError {
        let reason = without(&with_causes(error), &[self.secret.as_deref().unwrap_or_default()]);
        let reason = shorten(&reason, REASON_MAX);
        let code = error.status().map(u16::from);
        if matches!(code, Some(552 | 554)) { SendError::reject(reason) } else { SendError::retry(reason) }
    }
}

/// Whether one of several receivers may be the cause: an answer that is final and not about who we are, an address that
/// the server cannot write, or one that has been put off for a while.
fn may_be_of_one(error: &Error, attempts: u32) -> bool {
    match error.status().map(u16::from) {
        Some(530..=538) => false,
        Some(500..) => true,
        Some(421) | None => error.is_client(),
        Some(_) => attempts >= PATIENCE,
    }
}

fn mailbox(text: &str, what: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|error| format!("{what}: `{}` is no mail address: {error}", shorten(text, 100)))
}

/// How the connection is secured, and its usual port.
fn security(config: &EmailConfig) -> Result<(Tls, u16), String> {
    if config.security == Security::None {
        if !config.tls.is_default() {
            return Err("tls is of no use with `security: none`".to_owned());
        }
        return Ok((Tls::None, 25));
    }
    let wrong = |error: Error| format!("tls: {error}");
    let Loaded { ca, identity } = config.tls.load()?;
    let mut parameters = TlsParameters::builder(config.host.clone());
    if let Some(pem) = ca {
        parameters = parameters.certificate_store(CertificateStore::None);
        parameters = parameters.add_root_certificate(Certificate::from_pem(&pem).map_err(wrong)?);
    }
    if let Some((cert, key)) = identity {
        parameters = parameters.identify_with(Identity::from_pem(&cert, &key).map_err(wrong)?);
    }
    let parameters = parameters.build().map_err(wrong)?;
    Ok(match config.security {
        Security::Tls => (Tls::Wrapper(parameters), 465),
        _ => (Tls::Required(parameters), 587),
    })
}

fn subject(message: &Message) -> String {
    let cluster = message.items.first().filter(|_| message.digest.is_none()).map(|item| &item.alert.cluster);
    let cluster = cluster.map(|cluster| format!(" ({})", shorten(cluster, 60))).unwrap_or_default();
    headline(message, SUBJECT_MAX, PLAIN) + &cluster
}

fn text(message: &Message, page: &Page) -> String {
    let items = &message.items;
    let text = match (items.as_slice(), message.digest) {
        ([item], None) => {
            let link = page.of(&item.alert).map(|link| format!("\n\nOn the page: {link}")).unwrap_or_default();
            report(&item.alert, PLAIN, TEXT_MAX) + &link
        }
        _ => {
            let mut lines: Vec<String> = items.iter().take(LINES_MAX).map(|item| line(item, true, PLAIN)).collect();
            if items.len() > LINES_MAX {
                lines.push(rest(&items[LINES_MAX..], PLAIN));
            }
            lines.push(String::new());
            lines.extend(todo_lines(items, PLAIN));
            lines.push(format!("All of them: {}", listed_by(items)));
            lines.extend(page.all().map(|link| format!("On the page: {link}")));
            super::facts::within(lines, TEXT_MAX)
        }
    };
    text.replace('\n', LINE) + LINE
}

impl Medium for Email {
    fn traits(&self) -> Traits {
        Traits { for_people: true, batch_max: BATCH_MAX, rate: Some(RATE), ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(self.deliver(message, now))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::fake::smtp::{self as fake, PASSWORD, USER};
    use super::super::fake::tls::Authority;
    use super::super::samples::{alert, at, hostile, item, message};
    use super::super::{Digest, Item};
    use super::*;
    use crate::alert::Level;

    fn config(smtp: &fake::Smtp, authority: &Authority, more: &Value) -> EmailConfig {
        let mut config = json!({"host": "localhost", "port": smtp.port(), "tls": {"ca": authority.ca()},
            "username": USER, "password": PASSWORD, "from": "Kubesiren <kubesiren@example.com>",
            "to": ["soc@example.com", "Ann Call <ann@example.com>"]});
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(config).unwrap()
    }

    async fn started() -> (fake::Smtp, Authority, Email) {
        let authority = Authority::new();
        let smtp = fake::Smtp::starttls(authority.acceptor("localhost", false)).await;
        let page = Page::new(Some("https://siren.example.com")).unwrap();
        let sink = Email::build(&config(&smtp, &authority, &json!({})), &page).unwrap();
        (smtp, authority, sink)
    }

    fn firing(id: &str) -> Item {
        item(Kind::Firing, alert(id, "r", Level::High))
    }

    fn now() -> Timestamp {
        at("2026-11-21T05:00:00Z")
    }

    #[tokio::test]
    async fn a_person_on_call_finds_everything_and_the_end_answers_the_beginning() {
        let (smtp, _authority, sink) = started().await;
        let sent = sink.send(&message(vec![firing("a1")]), now()).await.unwrap();
        let (alert_id, mail_id) = sent.remember[0].clone();
        assert_eq!((alert_id.as_str(), mail_id.as_str()), ("a1", "<a1.firing.1@example.com>"));
        let mut end = item(Kind::Resolved, alert("a1", "r", Level::High));
        end.remembered = Some(mail_id.clone());
        assert_eq!(sink.send(&message(vec![end]), now()).await, Ok(Sent::default()));
        let mails = smtp.mails();
        assert_eq!(mails.len(), 2);
        assert_eq!(mails[0].from, "kubesiren@example.com");
        assert_eq!(mails[0].to, ["soc@example.com", "ann@example.com"]);
        assert_eq!(mails[0].headers["subject"], "🟠 High · Title of r (prod-eu)");
        assert_eq!(mails[0].headers["date"], "Sat, 21 Nov 2026 05:00:00 +0000");
        assert_eq!(mails[0].headers["message-id"], mail_id);
        for part in
            ["Who: alice", "From: 10.0.0.1", "Seen: 3× in 4 min 11 s", "What to do: https://runbooks.example.com"]
        {
            assert!(mails[0].text.contains(part), "{part}: {}", mails[0].text);
        }
        assert!(mails[0].text.contains("On the page: https://siren.example.com/?alert=a1"), "{}", mails[0].text);
        assert_eq!(mails[1].headers["subject"], "✅ Resolved · High · Title of r (prod-eu)");
        assert_eq!((&mails[1].headers["in-reply-to"], &mails[1].headers["references"]), (&mail_id, &mail_id));
    }

    #[tokio::test]
    async fn many_alerts_are_one_mail() {
        let (smtp, _authority, sink) = started().await;
        let items: Vec<_> =
            (0..37).map(|n| item(Kind::Firing, alert(&format!("a{n}"), &format!("r{}", n % 4), Level::Low))).collect();
        let sent = sink.send(&message(items.clone()), now()).await.unwrap();
        assert_eq!(sent.remember.len(), 37);
        let digest = Message { items, digest: Some(Digest { alerts: 37, rules: 4 }), ..Message::default() };
        assert_eq!(sink.send(&digest, now()).await, Ok(Sent::default()));
        let mails = smtp.mails();
        assert!(
            mails[0].headers["subject"].ends_with("×37 (prod-eu)") && mails[0].text.contains("+17 more of 4 rules")
        );
        assert_eq!(mails[1].headers["subject"], "+37 more of 4 rules");
        for part in [
            "🔵 Low · Title of r0: alice read secret payments/db-creds from 10.0.0.1 (get, 200) (3× in 4 min 11 s, ",
            "What to do (Title of r2): https://runbooks.example.com/secrets\nWhat to do about 1 more rule stands in their alerts\n",
            "All of them: kubesiren alerts list --since 2026-11-21T04:00:00Z\nOn the page: https://siren.example.com/",
        ] {
            assert!(mails[1].text.contains(part), "{part}: {}", mails[1].text);
        }
    }

    #[tokio::test]
    async fn tls_from_the_beginning_does_as_well() {
        let authority = Authority::new();
        let smtp = fake::Smtp::tls(authority.acceptor("localhost", false)).await;
        let sink = Email::build(&config(&smtp, &authority, &json!({"security": "tls"})), &Page::default()).unwrap();
        assert!(sink.send(&message(vec![firing("a")]), now()).await.is_ok());
        assert_eq!(smtp.mails().len(), 1);
    }

    /// Somebody between us and the server can take the offer of TLS away, or show another certificate.
    #[tokio::test]
    async fn no_password_and_no_mail_goes_out_in_the_clear_or_to_somebody_else() {
        let (plain, authority) = (fake::Smtp::plain().await, Authority::new());
        let sink = Email::build(&config(&plain, &authority, &json!({})), &Page::default()).unwrap();
        assert!(matches!(sink.send(&message(vec![firing("a")]), now()).await, Err(SendError::Retry { .. })));
        let other = fake::Smtp::starttls(Authority::new().acceptor("localhost", false)).await;
        let sink = Email::build(&config(&other, &authority, &json!({})), &Page::default()).unwrap();
        assert!(matches!(sink.send(&message(vec![firing("a")]), now()).await, Err(SendError::Retry { .. })));
        for smtp in [plain, other] {
            assert!(smtp.mails().is_empty());
            assert!(
                smtp.heard().iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")),
                "{:?}",
                smtp.heard()
            );
        }
    }

    #[tokio::test]
    async fn codes_decide_between_waiting_and_giving_up() {
        let (smtp, authority, _) = started().await;
        let sink =
            Email::build(&config(&smtp, &authority, &json!({"to": ["soc@example.com"]})), &Page::default()).unwrap();
        for (command, reply, retried) in [
            ("MAIL", "451 4.7.1 try again later", true),
            ("RCPT", "450 4.2.1 the mailbox is busy", true),
            ("RCPT", "550 5.1.1 no such user", true),
            ("MAIL", "530 5.7.0 authentication required", true),
            (".", "452 4.3.1 out of storage", true),
            (".", "552 5.3.4 too large", false),
            (".", "554 5.7.1 looks like spam", false),
        ] {
            smtp.refuse(command, reply);
            let error = sink.send(&message(vec![firing("a")]), now()).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{reply}: {error:?}");
            assert!(error.to_string().contains(&reply[10..]), "{error}");
        }
        let wrong = Email::build(&config(&smtp, &authority, &json!({"password": "other"})), &Page::default()).unwrap();
        let error = wrong.send(&message(vec![firing("a")]), now()).await.unwrap_err();
        assert!(matches!(&error, SendError::Retry { reason, .. } if reason.contains("535")), "{error:?}");
        assert!(sink.send(&message(vec![firing("a")]), now()).await.is_ok());
    }

    #[tokio::test]
    async fn one_dead_address_keeps_mail_from_nobody_else() {
        let (smtp, authority, _) = started().await;
        let to = ["soc@example.com", "gone@example.com", "ann@example.com"];
        let sink = Email::build(&config(&smtp, &authority, &json!({"to": to})), &Page::default()).unwrap();
        smtp.refuse_receiver(to[1], Some("550 5.1.1 no such user"));
        let sent = sink.send(&message(vec![firing("a1")]), now()).await.unwrap();
        assert_eq!(sent.remember.len(), 1);
        let mails = smtp.mails();
        assert_eq!(mails.iter().map(|mail| mail.to.join(" ")).collect::<Vec<_>>(), [to[0], to[2]]);
        assert!(mails.iter().all(|mail| mail.headers == mails[0].headers && mail.headers["to"].contains(to[1])));
        assert!(sink.refused.lock().unwrap().iter().eq([&to[1].parse::<Address>().unwrap()]));
        // Somebody mends it.
        smtp.refuse_receiver(to[1], None);
        assert!(sink.send(&message(vec![firing("a2")]), now()).await.is_ok());
        assert_eq!((smtp.mails()[2].to.len(), sink.refused.lock().unwrap().len()), (3, 0));
    }

    #[tokio::test]
    async fn a_full_box_is_waited_for_but_not_for_ever() {
        let (smtp, _authority, sink) = started().await;
        smtp.refuse_receiver("ann@example.com", Some("452 4.2.2 mailbox full"));
        let mut item = firing("a1");
        assert!(matches!(sink.send(&message(vec![item.clone()]), now()).await, Err(SendError::Retry { .. })));
        assert!(smtp.mails().is_empty());
        item.attempts = PATIENCE;
        assert!(sink.send(&message(vec![item.clone()]), now()).await.is_ok());
        assert_eq!(smtp.mails()[0].to, ["soc@example.com"]);
        // Where nobody can be reached, all wait.
        smtp.refuse_receiver("soc@example.com", Some("550 5.1.1 no such user"));
        assert!(matches!(sink.send(&message(vec![item]), now()).await, Err(SendError::Retry { .. })));
        assert_eq!(smtp.mails().len(), 1);
    }

    #[tokio::test]
    async fn whatever_an_event_says_it_is_one_mail_with_our_headers() {
        let (smtp, _authority, sink) = started().await;
        let evil = "x\r\nBcc: all@example.com\r\n\r\n.\r\nMAIL FROM:<evil@example.com>\u{202e}";
        for text in [evil, "", "\r\n.\r\n", &"x".repeat(100_000), &"🙂".repeat(3_000)] {
            for n in [1, 30] {
                let items = (0..n).map(|_| item(Kind::Firing, hostile("id", text))).collect();
                sink.send(&message(items), now()).await.unwrap_or_else(|error| panic!("{text:.20}: {error}"));
            }
        }
        assert_eq!(smtp.mails().len(), 10);
        for mail in smtp.mails() {
            assert_eq!(mail.to.len(), 2);
            assert!(!mail.headers.contains_key("bcc") && mail.headers.len() <= 9, "{:?}", mail.headers);
            assert!(!mail.text.contains('\u{202e}') && !mail.text.contains("\nBcc:"), "{}", mail.text);
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let right = json!({"host": "mail.example.com", "from": "k@example.com", "to": ["a@example.com"]});
        for (more, said) in [
            (json!({"to": []}), "to is empty"),
            (json!({"to": ["nobody"]}), "to: `nobody` is no mail address"),
            (json!({"from": "k@example.com\r\nBcc: x@example.com"}), "from: "),
            (json!({"host": "mail.example.com:25"}), "without a port"),
            (json!({"username": "u"}), "go together"),
            (json!({"security": "none", "username": "u", "password": "p"}), "in the clear"),
            (json!({"security": "none", "tls": {"ca": "/x"}}), "of no use"),
        ] {
            let mut config = right.clone();
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let error = Email::build(&serde_json::from_value(config).unwrap(), &Page::default()).err().unwrap();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
