//! Every way out, through the program, to servers that behave as the real ones do.

use std::path::Path;

use super::fake::loki::Loki;
use super::fake::pagerduty::{self, PagerDuty, State};
use super::fake::search::{self, Search};
use super::fake::smtp::{self, Smtp};
use super::fake::splunk::{self, Splunk};
use super::fake::syslog::Syslog;
use super::fake::tls::Authority;
use super::fake::{Receiver, Reply};
use super::support::{Daemon, WEBHOOK, attack, configure, end_of_story, run, scan, until};

/// One of each.
struct Servers {
    authority: Authority,
    pagerduty: PagerDuty,
    search: Search,
    splunk: Splunk,
    loki: Loki,
    syslog: Syslog,
    smtp: Smtp,
    /// Takes whatever comes: Falcosidekick, Teams, Opsgenie, and the formats of a webhook, by path.
    others: Receiver,
}

impl Servers {
    async fn start() -> Self {
        let authority = Authority::new();
        Self {
            pagerduty: PagerDuty::start().await,
            search: Search::start().await,
            splunk: Splunk::start(true).await,
            loki: Loki::start().await,
            syslog: Syslog::tls(authority.acceptor("localhost", false)).await,
            smtp: Smtp::starttls(authority.acceptor("localhost", false)).await,
            others: Receiver::start(|_| Reply::new(202, "")).await,
            authority,
        }
    }

    /// The names of the sinks, and their configuration, with secrets in files of `home`.
    fn sinks(&self, home: &Path) -> (Vec<&'static str>, String) {
        let secret = |name: &str, value: &str| {
            std::fs::write(home.join(name), value).expect("written");
            home.join(name).display().to_string()
        };
        let (others, ca) = (|path: &str| self.others.url(path), self.authority.ca().display().to_string());
        let sinks = [
            (
                "pagerduty",
                format!(
                    "api_url: '{}', routing_key_file: {}",
                    self.pagerduty.http.url(""),
                    secret("p", pagerduty::KEY)
                ),
            ),
            (
                "elasticsearch",
                format!("url: '{}', api_key_file: {}", self.search.http.url("/es"), secret("e", search::KEY)),
            ),
            ("splunk", format!("url: '{}', token_file: {}", self.splunk.http.url(""), secret("s", splunk::TOKEN))),
            ("loki", format!("url: '{}'", self.loki.http.url(""))),
            ("falcosidekick", format!("url: '{}'", others("/falco"))),
            ("teams", format!("webhook_url_file: {}", secret("t", &others("/teams?sig=s3cr3t-t34ms")))),
            (
                "opsgenie",
                format!("api_url: '{}', api_key_file: {}", others("/opsgenie"), secret("o", "s3cr3t-0psg3n13")),
            ),
            ("syslog", format!("address: '{}', tls: {{ca: {ca}}}", self.syslog.address("localhost"))),
            (
                "email",
                format!(
                    "host: localhost, port: {}, tls: {{ca: {ca}}}, username: {}, password_file: {}, from: k@example.com, to: [soc@example.com]",
                    self.smtp.port(),
                    smtp::USER,
                    secret("m", smtp::PASSWORD)
                ),
            ),
            ("ocsf", format!("url: '{}', format: ocsf", others("/ocsf"))),
            ("cloudevents", format!("url: '{}', format: cloudevents", others("/cloudevents"))),
            (
                "template",
                format!("url: '{}', template: '{{\"said\": \"{{{{ alert.summary }}}}\"}}'", others("/template")),
            ),
        ];
        let kind = |name: &str| {
            if ["ocsf", "cloudevents", "template"].contains(&name) { "webhook".to_owned() } else { name.to_owned() }
        };
        let lines: String =
            sinks.iter().map(|(name, more)| format!("- {{name: {name}, type: {}, {more}}}\n", kind(name))).collect();
        (sinks.iter().map(|(name, _)| *name).collect(), format!("sinks:\n{lines}"))
    }

    fn came_by(&self, path: &str) -> usize {
        self.others.requests().iter().filter(|request| request.path.starts_with(path)).count()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_test_alert_reaches_every_sink() {
    let (home, servers) = (tempfile::tempdir().expect("a folder"), Servers::start().await);
    let (names, sinks) = servers.sinks(home.path());
    let file = configure(home.path(), &format!("{WEBHOOK}{sinks}")).display().to_string();
    let checked = run(&["config", "check", &file], b"");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    for name in names {
        let tested = run(&["sinks", "test", name, "--config", &file], b"");
        assert!(tested.status.success(), "{name}: {}", String::from_utf8_lossy(&tested.stderr));
    }
    assert_eq!(servers.pagerduty.incidents()[0].payload["severity"], "info");
    assert_eq!(servers.search.documents().len(), 1);
    assert_eq!(servers.splunk.events().len(), 1);
    assert_eq!(servers.loki.streams().len(), 1);
    assert_eq!(servers.syslog.received().len(), 1);
    assert!(servers.smtp.mails()[0].text.contains("This is a test of the sink email"), "{:?}", servers.smtp.mails());
    for path in ["/falco", "/teams", "/opsgenie", "/ocsf", "/cloudevents", "/template"] {
        assert_eq!(servers.came_by(path), 1, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_authority_is_told_with_what_to_do() {
    let (home, servers) = (tempfile::tempdir().expect("a folder"), Servers::start().await);
    let sinks = format!("sinks: [{{name: siem, type: syslog, address: '{}'}}]\n", servers.syslog.address("localhost"));
    let file = configure(home.path(), &format!("{WEBHOOK}{sinks}")).display().to_string();
    let refused = run(&["sinks", "test", "siem", "--config", &file], b"");
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(said.contains("`tls: {ca: FILE}` names it"), "{said}");
}

/// The attack, once to each: what began and what ended, and no secret in what the daemon says.
#[tokio::test(flavor = "multi_thread")]
async fn an_attack_is_told_everywhere_and_so_is_its_end() {
    let (home, servers) = (tempfile::tempdir().expect("a folder"), Servers::start().await);
    let (_, sinks) = servers.sinks(home.path());
    let daemon =
        Daemon::start(home.path(), &format!("{WEBHOOK}correlation: {{repeat_after: 1m, lateness: 0s}}\n{sinks}")).await;
    daemon.feed(&attack(), 100).await;
    let alerts = scan(&[], attack().join("\n").as_bytes()).0.len();
    assert_eq!(daemon.post(end_of_story()).await.0, 200);
    let resolved = || servers.pagerduty.incidents().iter().filter(|incident| incident.state == State::Resolved).count();
    until("every incident is resolved", async || {
        if resolved() >= alerts {
            Ok(())
        } else {
            Err(format!("{} of {alerts}\n{}", resolved(), daemon.process.err.all().join("\n")))
        }
    })
    .await;
    let told = daemon.alerts().await.len();
    until("every sink has everything", async || {
        let lines: usize = servers.loki.streams().values().map(Vec::len).sum();
        let counts = [
            servers.search.documents().len(),
            servers.splunk.events().len() / 2,
            lines / 2,
            servers.syslog.received().len() / 2,
            servers.came_by("/falco"),
            servers.came_by("/opsgenie") / 2,
            servers.came_by("/ocsf") / 2,
            servers.came_by("/cloudevents") / 2,
            servers.came_by("/template") / 2,
        ];
        let people = servers.came_by("/teams") > 0 && !servers.smtp.mails().is_empty();
        if counts.iter().all(|count| *count == told) && people { Ok(()) } else { Err(format!("{counts:?} of {told}")) }
    })
    .await;
    let ended = servers.search.documents().values().all(|document| document["kubesiren"]["status"] == "resolved");
    assert!(ended, "{:#?}", servers.search.documents());
    let said = daemon.process.err.all().join("\n") + &daemon.get("/metrics").await.1;
    for secret in [pagerduty::KEY, search::KEY, splunk::TOKEN, smtp::PASSWORD, "s3cr3t"] {
        assert!(!said.contains(secret), "{secret}");
    }
}
