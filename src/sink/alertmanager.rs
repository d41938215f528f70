//! Prometheus Alertmanager, API v2.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::task::JoinSet;

use super::http::{self, Answer, exchange};
use super::page::Page;
use super::tls::TlsConfig;
use super::watchdog::WatchdogConfig;
use super::{Item, Medium, Message, SendError, Sending, Sent, Traits};
use crate::alert::{Alert, Status, Step, WATCHDOG};
use crate::clock::Timestamp;
use crate::text::shorten;
use crate::units::{Secret, Span};

/// What Prometheus sends at once.
const BATCH_MAX: usize = 256;
/// Labels are identity and are indexed: few and short.
const GROUP_LABELS_MAX: usize = 10;
const LABEL_NAME_MAX: usize = 64;
const LABEL_VALUE_MAX: usize = 256;
const ANNOTATION_MAX: usize = 1_000;
/// Of one line of a timeline, which has twenty at most.
const TIMELINE_LINE_MAX: usize = 400;
/// A peer that failed is left out this long, as long as another one takes the alerts: one that does not answer must
/// not hold up every batch. It gets what it missed when firing alerts are sent again.
const REST: Duration = Duration::from_secs(30);

/// `type: alertmanager`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertmanagerConfig {
    /// Base URLs of every peer of the set (not of a balancer): `http://alertmanager:9093`.
    pub urls: Vec<String>,
    /// Firing alerts are sent again this often; they end by themselves four times later.
    #[serde(default = "resend")]
    pub resend: Span,
    /// Labels added to every alert.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Whether it is told all the time that all is well, so that somebody behind it notices when it is not.
    #[serde(default, skip_serializing_if = "WatchdogConfig::is_off")]
    pub watchdog: WatchdogConfig,
    /// User name, with a password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Bearer token, instead of a user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token: Option<Secret>,
    /// File that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bearer_token_file: Option<PathBuf>,
    /// Whom it trusts, and how it shows who it is, at every peer.
    #[serde(default, skip_serializing_if = "TlsConfig::is_default")]
    pub tls: TlsConfig,
}

fn resend() -> Span {
    Span(Duration::from_secs(60))
}

/// Posts alerts to every peer of an Alertmanager.
///
/// A batch is sent when at least one peer took it: Alertmanager's peers share notifications but not alerts, and
/// everything that fires is sent again to all of them every `resend`, so a peer that was away catches up by itself.
pub struct Alertmanager {
    client: Client,
    peers: Vec<Peer>,
    authorization: Option<HeaderValue>,
    /// What must not be quoted from an answer.
    secret: String,
    labels: BTreeMap<String, String>,
    resend: Duration,
    watchdog: Option<Duration>,
    page: Page,
}

struct Peer {
    url: Url,
    /// Host and port, for messages: the URL may hold a password.
    name: String,
    /// Left out until then, in microseconds of the sender's clock.
    rests_until: AtomicI64,
}

/// An alert as the API takes it.
#[derive(Debug, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
struct Posted {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
    #[serde(rename = "generatorURL", skip_serializing_if = "Option::is_none")]
    generator_url: Option<String>,
}

impl Alertmanager {
    pub(super) fn build(config: &AlertmanagerConfig, page: &Page) -> Result<Self, String> {
        if config.urls.is_empty() {
            return Err("urls is empty: give the base URL of every Alertmanager".to_owned());
        }
        if config.resend.0 < Duration::from_secs(1) {
            return Err("resend must be at least 1s".to_owned());
        }
        config.watchdog.check()?;
        if let Some(name) = config.labels.keys().find(|name| label_name(name) != **name) {
            return Err(format!(
                "labels: `{name}` is no label name; use letters, digits and _, beginning with no digit"
            ));
        }
        let peers = config.urls.iter().enumerate().map(|(n, url)| peer(n, url)).collect::<Result<Vec<_>, _>>()?;
        let password = Secret::load(config.password.as_ref(), config.password_file.as_ref())?;
        let bearer = Secret::load(config.bearer_token.as_ref(), config.bearer_token_file.as_ref())?;
        let (authorization, secret) =
            http::authorization(config.username.as_deref(), password, "bearer_token", "Bearer", bearer)?;
        let plain = peers.iter().all(|peer| peer.url.scheme() == "http");
        Ok(Self {
            client: http::client_with(plain, &config.tls)?,
            peers,
            authorization,
            secret,
            labels: config.labels.clone(),
            resend: config.resend.0,
            watchdog: config.watchdog.every(),
            page: page.clone(),
        })
    }

    fn render(&self, item: &Item, now: Timestamp) -> Posted {
        let alert = &item.alert;
        // The sender's clock decides when it ends: by event time, a late event would arrive resolved.
        let from = now.max(alert.first_seen);
        let again = self.watchdog.filter(|_| alert.rule.id == WATCHDOG).unwrap_or(self.resend);
        let ends_at = match alert.status {
            Status::Firing => from.plus(again * 4),
            Status::Resolved => from,
        };
        Posted {
            labels: labels(alert, &self.labels),
            annotations: annotations(alert),
            starts_at: alert.first_seen,
            ends_at,
            // The watchdog is on no page.
            generator_url: self.page.of(alert).filter(|_| alert.rule.id != WATCHDOG),
        }
    }

    /// Posts to some of the peers at once; `None` for a peer means that it took the batch.
    async fn post(&self, peers: &[&Peer], body: &str, now: Timestamp) -> Vec<Option<SendError>> {
        let mut tasks = JoinSet::new();
        for (n, peer) in peers.iter().enumerate() {
            let mut request = self.client.post(peer.url.clone()).header(CONTENT_TYPE, "application/json");
            if let Some(authorization) = &self.authorization {
                request = request.header(AUTHORIZATION, authorization.clone());
            }
            let request = request.body(body.to_owned());
            let (name, secret) = (peer.name.clone(), self.secret.clone());
            tasks.spawn(async move { (n, judge(exchange(request, now).await, &name, &secret)) });
        }
        let mut results: Vec<_> =
            peers.iter().map(|_| Some(SendError::retry("the task that sends it failed"))).collect();
        while let Some(done) = tasks.join_next().await {
            if let Ok((n, result)) = done {
                results[n] = result.err();
            }
        }
        for (peer, result) in peers.iter().zip(&results) {
            let until = if matches!(result, Some(SendError::Retry { .. })) { now.plus(REST) } else { Timestamp::MIN };
            peer.rests_until.store(until.0, Ordering::Relaxed);
        }
        results
    }
}

impl Peer {
    /// Whether it failed a moment ago. A rest that is longer than any began before the clock was set back.
    fn rests(&self, now: Timestamp) -> bool {
        let left = Timestamp(self.rests_until.load(Ordering::Relaxed)).since(now);
        !left.is_zero() && left <= REST
    }
}

fn peer(n: usize, url: &str) -> Result<Peer, String> {
    let mut url = http::url(url, &format!("urls[{n}]"))?;
    let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
    url.set_path(&path);
    let port = url.port_or_known_default().unwrap_or_default();
    let name = format!("{}:{port}", url.host_str().unwrap_or_default());
    Ok(Peer { url, name, rests_until: AtomicI64::new(Timestamp::MIN.0) })
}

/// What a peer's answer means. A 400 names what was invalid, and the valid alerts of the batch are stored all the same.
fn judge(answer: Result<Answer, SendError>, name: &str, secret: &str) -> Result<(), SendError> {
    answer.and_then(|answer| answer.usual(&[secret])).map_err(|error| match error {
        SendError::Retry { after, reason } => SendError::Retry { after, reason: format!("{name}: {reason}") },
        SendError::Reject { reason } => SendError::reject(format!("{name}: {reason}")),
    })
}

impl Medium for Alertmanager {
    fn traits(&self) -> Traits {
        let resend = Some(self.resend);
        Traits { batch_max: BATCH_MAX, resend, watchdog: self.watchdog, ..Traits::default() }
    }

    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a> {
        Box::pin(async move {
            let alerts: Vec<_> = message.items.iter().map(|item| self.render(item, now)).collect();
            let body = serde_json::to_string(&alerts).map_err(|error| SendError::reject(error.to_string()))?;
            let (up, resting): (Vec<_>, Vec<_>) = self.peers.iter().partition(|peer| !peer.rests(now));
            let mut results = self.post(&up, &body, now).await;
            if results.iter().all(Option::is_some) {
                results.extend(self.post(&resting, &body, now).await);
            }
            verdict(results)
        })
    }
}

/// Sent if anybody took it; else to be retried if anybody may take it later.
fn verdict(results: Vec<Option<SendError>>) -> Result<Sent, SendError> {
    let taken = results.iter().any(Option::is_none);
    let errors: Vec<SendError> = results.into_iter().flatten().collect();
    if taken {
        for error in errors {
            tracing::debug!(%error, "a peer did not take alerts that another one took");
        }
        return Ok(Sent::default());
    }
    let reason = errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    let waits: Vec<Option<Duration>> = errors
        .iter()
        .filter_map(|error| match error {
            SendError::Retry { after, .. } => Some(*after),
            SendError::Reject { .. } => None,
        })
        .collect();
    if waits.is_empty() {
        return Err(SendError::Reject { reason });
    }
    // The first peer that may take it decides how long to wait.
    Err(SendError::Retry { after: waits.into_iter().min().flatten(), reason })
}

/// The alert's identity: the same whenever it is sent, so nothing in here may grow with the episode.
fn labels(alert: &Alert, configured: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let level = alert.rule.level.as_str();
    let namespace = alert.event.object_ref.as_ref().and_then(|object| object.namespace.as_deref()).unwrap_or_default();
    let mut labels = configured.clone();
    // What other watchdogs say, and routes look for.
    let severity = if alert.rule.id == WATCHDOG { "none" } else { level };
    for (name, value) in [
        ("alertname", alert.rule.title.as_str()),
        ("rule_id", &alert.rule.id),
        ("level", level),
        ("severity", severity),
        ("cluster", &alert.cluster),
        ("namespace", namespace),
        ("alert_id", &alert.id),
    ] {
        labels.insert(name.to_owned(), shorten(value, LABEL_VALUE_MAX));
    }
    for (field, value) in alert.group.iter().take(GROUP_LABELS_MAX) {
        let mut name = label_name(field);
        while labels.get(&name).is_some_and(|taken| !taken.is_empty()) {
            name = format!("group_{name}");
        }
        labels.insert(name, shorten(&plain(value), LABEL_VALUE_MAX));
    }
    labels.retain(|_, value| !value.is_empty());
    // Without a title the rule still has an id; Alertmanager's tools expect the name.
    labels.entry("alertname".to_owned()).or_insert_with(|| "kubesiren".to_owned());
    labels
}

/// A name as Prometheus allows it: `user.username` is `user_username`.
fn label_name(field: &str) -> String {
    let mut name: String = field
        .chars()
        .take(LABEL_NAME_MAX)
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' })
        .collect();
    // Two underscores in front are reserved.
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) || name.starts_with("__") {
        name.insert_str(0, "field_");
    }
    name
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What people read; may change while the alert fires.
fn annotations(alert: &Alert) -> BTreeMap<&'static str, String> {
    let event = &alert.event;
    let matched = alert.matched.iter().take(20).map(|(field, value)| format!("{field}={}", plain(value)));
    let user = event.user.username.clone().unwrap_or_default();
    let mut annotations = BTreeMap::from([
        ("summary", alert.summary.clone()),
        ("description", describe(alert)),
        ("count", alert.count.to_string()),
        ("first_seen", alert.first_seen.to_string()),
        ("last_seen", alert.last_seen.to_string()),
        ("user", user),
        ("source_ips", event.source_ips.join(", ")),
        ("user_agent", event.user_agent.clone().unwrap_or_default()),
        ("request_uri", event.request_uri.clone()),
        ("matched", matched.collect::<Vec<_>>().join(", ")),
        ("audit_ids", alert.audit_ids.join(", ")),
        ("tags", alert.rule.tags.join(", ")),
        ("references", alert.rule.references.join(" ")),
        ("runbook", alert.rule.runbook.clone().unwrap_or_default()),
    ]);
    // Alertmanager's templates and UIs know the link by this name.
    if let Some(link) = alert.rule.runbook.as_ref().filter(|text| text.starts_with("http")) {
        annotations.insert("runbook_url", link.clone());
    }
    annotations.retain(|_, value| !value.is_empty());
    annotations.values_mut().for_each(|value| *value = shorten(value, ANNOTATION_MAX));
    if !alert.timeline.is_empty() {
        annotations.insert("timeline", timeline(alert));
    }
    annotations
}

/// What happened, a line for each rule, and none that an event could add.
fn timeline(alert: &Alert) -> String {
    let line = |step: &Step| {
        let (time, rule) = (step.time_of_day(), &step.rule);
        let line = format!("{time} {} {}{}: {}", rule.level, rule.title, step.times(), step.summary);
        shorten(&line, TIMELINE_LINE_MAX)
    };
    alert.timeline.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn describe(alert: &Alert) -> String {
    let times = if alert.count == 1 { "once".to_owned() } else { format!("{} times", alert.count) };
    format!(
        "{}: {} Seen {times} in {}, from {} to {}.",
        alert.rule.title, alert.summary, alert.cluster, alert.first_seen, alert.last_seen
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::fake::tls::Authority;
    use super::super::fake::{Receiver, Reply, Request};
    use super::super::samples::{alert, at, hostile, incident, item, message};
    use super::*;
    use crate::alert::Level;
    use crate::store::Kind;

    fn sink(urls: &[String]) -> Alertmanager {
        build(json!({"urls": urls, "labels": {"team": "sec"}})).unwrap()
    }

    fn build(config: Value) -> Result<Alertmanager, String> {
        built_for(config, &Page::default())
    }

    fn built_for(config: Value, page: &Page) -> Result<Alertmanager, String> {
        Alertmanager::build(&serde_json::from_value(config).unwrap(), page)
    }

    fn now() -> Timestamp {
        at("2026-11-21T05:00:00Z")
    }

    /// What a firing alert, one told again with more matches, and a resolved one look like on the wire.
    #[test]
    fn identity_is_the_same_while_the_alert_lives() {
        let sink = sink(&["http://am:9093".to_owned()]);
        let first = alert("a1", "r", Level::High);
        let mut grown = first.clone();
        grown.count = 99;
        grown.last_seen = at("2026-11-21T04:59:00Z");
        grown.summary = "more".to_owned();
        grown.audit_ids.push("x".to_owned());
        let fired = sink.render(&item(Kind::Firing, first), now());
        let again = sink.render(&item(Kind::Firing, grown.clone()), now().plus(Duration::from_secs(60)));
        let resolved = sink.render(&item(Kind::Resolved, grown), now().plus(Duration::from_secs(90)));
        assert_eq!(fired.labels, again.labels);
        assert_eq!(fired.labels, resolved.labels);
        assert_eq!((fired.starts_at, again.starts_at), (resolved.starts_at, resolved.starts_at));
        assert_eq!(fired.ends_at, now().plus(Duration::from_secs(240)));
        assert_eq!(resolved.ends_at, now().plus(Duration::from_secs(90)));
        assert_eq!(again.annotations["count"], "99");
        let labels: Vec<_> = fired.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = "alert_id=a1 alertname=Title of r cluster=prod-eu level=high namespace=payments rule_id=r \
                        severity=high team=sec user_username=alice";
        assert_eq!(labels.join(" "), expected);
    }

    #[test]
    fn an_alert_leads_to_the_page() {
        let page = Page::new(Some("https://siren.example.com")).unwrap();
        let posted = |page: &Page| {
            let sink = built_for(json!({"urls": ["http://am:9093"]}), page).unwrap();
            serde_json::to_value(sink.render(&item(Kind::Firing, alert("a1", "r", Level::High)), now())).unwrap()
        };
        assert_eq!(posted(&page)["generatorURL"], "https://siren.example.com/?alert=a1");
        assert!(posted(&Page::default()).get("generatorURL").is_none());
    }

    #[test]
    fn an_incident_tells_its_timeline_where_it_may_grow() {
        let incident = incident();
        let expected = "04:00:00 medium One: alice did One <b>\n04:04:12 high Two ×3: alice did Two <b>";
        assert_eq!(annotations(&incident)["timeline"], expected);
        assert!(!labels(&incident, &BTreeMap::new()).contains_key("timeline"));
        assert!(!annotations(&alert("a1", "r", Level::High)).contains_key("timeline"));
    }

    #[test]
    fn nothing_ends_before_it_starts() {
        let sink = sink(&["http://am:9093".to_owned()]);
        let mut early = alert("a1", "r", Level::High);
        early.first_seen = now().plus(Duration::from_secs(3600));
        for kind in [Kind::Firing, Kind::Resolved] {
            let posted = sink.render(&item(kind, early.clone()), now());
            assert!(posted.ends_at >= posted.starts_at, "{kind:?}");
        }
    }

    #[test]
    fn labels_are_few_short_and_valid_whatever_the_event_says() {
        for text in ["", "\u{202e}&<!channel>\n", &"x".repeat(100_000), "cluster", "9lives", "__name__"] {
            let labels = labels(&hostile("id", text), &BTreeMap::new());
            assert!(labels.len() <= 7 + GROUP_LABELS_MAX && labels["alert_id"] == "id");
            for (name, value) in labels {
                assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && name.len() < 90, "{name}");
                assert!(!name.starts_with(|c: char| c.is_ascii_digit()) && !name.starts_with("__"), "{name}");
                assert!(!value.is_empty() && value.len() <= 4 * LABEL_VALUE_MAX, "{name}={value}");
            }
        }
        let mut clash = alert("a", "r", Level::High);
        clash.group =
            BTreeMap::from([("cluster".to_owned(), "other".into()), ("user.username".to_owned(), Value::Null)]);
        let labels = labels(&clash, &BTreeMap::new());
        assert_eq!((labels["cluster"].as_str(), labels["group_cluster"].as_str()), ("prod-eu", "other"));
        assert!(!labels.contains_key("user_username"), "empty labels are dropped by Alertmanager: not sent at all");
    }

    fn two() -> Message {
        message(vec![
            item(Kind::Firing, alert("a", "r", Level::High)),
            item(Kind::Resolved, alert("b", "r", Level::Low)),
        ])
    }

    #[tokio::test]
    async fn every_peer_is_told_in_one_batch() {
        let (one, two_) =
            (Receiver::start(|_| Reply::new(200, "")).await, Receiver::start(|_| Reply::new(200, "")).await);
        assert_eq!(sink(&[one.url("/"), two_.url("/prefix/")]).send(&two(), now()).await, Ok(Sent::default()));
        let path =
            |receiver: &Receiver| receiver.requests().iter().map(|request| request.path.clone()).collect::<Vec<_>>();
        assert_eq!(path(&one), ["/api/v2/alerts"]);
        assert_eq!(path(&two_), ["/prefix/api/v2/alerts"]);
        let body = one.requests()[0].json();
        assert_eq!(body.as_array().map(Vec::len), Some(2));
        assert_eq!(body[0]["startsAt"], "2026-11-21T04:00:00.123456Z");
        assert_eq!(body[0]["endsAt"], "2026-11-21T05:04:00.000000Z");
        assert_eq!(body[1]["endsAt"], "2026-11-21T05:00:00.000000Z");
    }

    #[tokio::test]
    async fn peers_are_told_by_tls_and_know_who_tells_them() {
        let authority = Authority::new();
        let answer = |request: &Request| match request.header("authorization") {
            "Basic dTpzM2NyM3Q=" => Reply::new(200, ""),
            other => Reply::new(401, format!("not {other}: s3cr3t")),
        };
        let one = Receiver::start_tls(authority.acceptor("localhost", true), answer).await;
        let other = Receiver::start_tls(authority.acceptor("localhost", true), answer).await;
        let (cert, key) = authority.identity("client");
        let tls = json!({"ca": authority.ca(), "cert": cert, "key": key});
        let urls = [one.url("/"), other.url("/")];
        let config = json!({"urls": urls, "username": "u", "password": "s3cr3t", "tls": tls});
        assert_eq!(build(config).unwrap().send(&two(), now()).await, Ok(Sent::default()));
        assert_eq!((one.requests().len(), other.requests().len()), (1, 1));
        let nobody = build(json!({"urls": urls, "bearer_token": "s3cr3t", "tls": tls})).unwrap();
        let error = nobody.send(&two(), now()).await.unwrap_err();
        assert!(matches!(error, SendError::Retry { .. }) && !error.to_string().contains("s3cr3t"), "{error:?}");
        let stranger =
            build(json!({"urls": urls, "username": "u", "password": "s3cr3t", "tls": {"ca": authority.ca()}}));
        assert!(matches!(stranger.unwrap().send(&two(), now()).await, Err(SendError::Retry { .. })));
        assert_eq!(one.requests().len(), 2);
    }

    #[test]
    fn what_does_not_go_together_is_said() {
        for (given, said) in [
            (json!({"urls": ["https://a"], "username": "u"}), "go together"),
            (json!({"urls": ["https://a"], "username": "u", "password": "p", "bearer_token": "t"}), "not both"),
            (json!({"urls": ["http://a", "http://b"], "tls": {"ca": "/x"}}), "tls is of no use"),
        ] {
            let error = build(given).err().unwrap();
            assert!(error.contains(said), "{said}: {error}");
        }
    }

    #[tokio::test]
    async fn one_peer_is_enough_and_the_other_rests() {
        let (good, bad) =
            (Receiver::start(|_| Reply::new(200, "")).await, Receiver::start(|_| Reply::new(503, "")).await);
        let sink = sink(&[bad.url("/"), good.url("/")]);
        for seconds in [0, 1, 40] {
            assert!(sink.send(&two(), now().plus(Duration::from_secs(seconds))).await.is_ok());
        }
        assert_eq!((good.requests().len(), bad.requests().len()), (3, 2));
        // The clock was set back by a day: the rest was not meant to last until tomorrow.
        assert!(sink.send(&two(), now().minus(Duration::from_secs(86_400))).await.is_ok());
        assert_eq!(bad.requests().len(), 3);
    }

    #[tokio::test]
    async fn nobody_taking_it_is_a_retry_unless_it_is_invalid() {
        let status = |status| move |_: &Request| Reply::new(status, "because");
        for (first, second, retried) in [(503, 500, true), (400, 503, true), (400, 400, false)] {
            let (one, two_) = (Receiver::start(status(first)).await, Receiver::start(status(second)).await);
            let sink = sink(&[one.url("/"), two_.url("/")]);
            let error = sink.send(&two(), now()).await.unwrap_err();
            assert_eq!(matches!(error, SendError::Retry { .. }), retried, "{first} {second}: {error}");
            assert!(error.to_string().contains("because"));
        }
    }
}
