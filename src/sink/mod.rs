//! Sinks: each renders alerts for one medium and sends them, and answers ok, retry or reject.
//! Grouping, retry, rate, resolve and metrics stand outside, in [`crate::notify`].
//!
//! A new sink is one new file (its config, and a type that implements [`Medium`]), one variant of [`SinkKind`] and
//! one line in [`Sink::build`].

pub mod alertmanager;
pub mod elasticsearch;
pub mod email;
mod facts;
pub mod falcosidekick;
mod http;
pub mod kafka;
pub mod loki;
pub mod opsgenie;
pub mod page;
pub mod pagerduty;
pub mod slack;
pub mod splunk;
pub mod stdout;
pub mod syslog;
pub mod teams;
pub mod tls;
pub mod watchdog;
pub mod webhook;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::page::Page;
use crate::alert::Alert;
use crate::clock::Timestamp;
use crate::store::Kind;

/// One entry of `sinks:`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct SinkConfig {
    /// The name that routes and metrics use.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: SinkKind,
}

/// The kinds of sinks, by `type`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum SinkKind {
    /// JSON lines on standard output.
    Stdout(stdout::StdoutConfig),
    /// Slack.
    Slack(slack::SlackConfig),
    /// Alertmanager.
    Alertmanager(alertmanager::AlertmanagerConfig),
    /// Any HTTP endpoint.
    Webhook(webhook::WebhookConfig),
    /// A topic of Kafka.
    Kafka(kafka::KafkaConfig),
    /// PagerDuty.
    PagerDuty(pagerduty::PagerDutyConfig),
    /// Elasticsearch or OpenSearch.
    Elasticsearch(elasticsearch::ElasticsearchConfig),
    /// Splunk's HTTP Event Collector.
    Splunk(splunk::SplunkConfig),
    /// Grafana Loki.
    Loki(loki::LokiConfig),
    /// Falcosidekick.
    Falcosidekick(falcosidekick::FalcosidekickConfig),
    /// Microsoft Teams.
    Teams(teams::TeamsConfig),
    /// Opsgenie, or Jira Service Management.
    Opsgenie(opsgenie::OpsgenieConfig),
    /// Syslog.
    Syslog(syslog::SyslogConfig),
    /// Mail.
    Email(email::EmailConfig),
}

/// A place that alerts are sent to, ready to use: secrets loaded, client built.
pub struct Sink(Box<dyn Medium>);

impl Sink {
    /// Reads the secrets and sets up what the sink needs; nothing is sent. The error says what is wrong with the
    /// configuration, without secrets.
    pub fn build(config: &SinkConfig) -> Result<Self, String> {
        Self::build_for(config, &Page::default())
    }

    /// The same for one whose messages lead to the page.
    pub fn build_for(config: &SinkConfig, page: &Page) -> Result<Self, String> {
        let medium: Box<dyn Medium> = match &config.kind {
            SinkKind::Stdout(config) => Box::new(stdout::Stdout::build(config)),
            SinkKind::Slack(config) => Box::new(slack::Slack::build(config, page)?),
            SinkKind::Alertmanager(config) => Box::new(alertmanager::Alertmanager::build(config, page)?),
            SinkKind::Webhook(config) => Box::new(webhook::Webhook::build(config)?),
            SinkKind::Kafka(config) => kafka::build(config)?,
            SinkKind::PagerDuty(config) => Box::new(pagerduty::PagerDuty::build(config, page)?),
            SinkKind::Elasticsearch(config) => Box::new(elasticsearch::Elasticsearch::build(config)?),
            SinkKind::Splunk(config) => Box::new(splunk::Splunk::build(config)?),
            SinkKind::Loki(config) => Box::new(loki::Loki::build(config)?),
            SinkKind::Falcosidekick(config) => Box::new(falcosidekick::Falcosidekick::build(config)?),
            SinkKind::Teams(config) => Box::new(teams::Teams::build(config, page)?),
            SinkKind::Opsgenie(config) => Box::new(opsgenie::Opsgenie::build(config)?),
            SinkKind::Syslog(config) => Box::new(syslog::Syslog::build(config)?),
            SinkKind::Email(config) => Box::new(email::Email::build(config, page)?),
        };
        Ok(Self(medium))
    }

    /// How it wants to be treated.
    #[must_use]
    pub fn traits(&self) -> Traits {
        self.0.traits()
    }

    /// Renders and sends one message. `now` is the sender's clock.
    pub async fn send(&self, message: &Message, now: Timestamp) -> Result<Sent, SendError> {
        self.0.send(message, now).await
    }
}

impl<M: Medium + 'static> From<M> for Sink {
    fn from(medium: M) -> Self {
        Self(Box::new(medium))
    }
}

/// What [`Medium::send`] returns: boxed once per message, which is nothing next to the network.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Sent, SendError>> + Send + 'a>>;

/// What each kind of sink does.
pub trait Medium: Send + Sync {
    /// How it wants to be treated.
    fn traits(&self) -> Traits;
    /// Renders and sends one message.
    fn send<'a>(&'a self, message: &'a Message, now: Timestamp) -> Sending<'a>;
}

/// How a sink wants to be treated by the worker in front of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traits {
    /// Whether what was sent can be changed later, so that it is worth telling that an episode grew.
    pub takes_updates: bool,
    /// Whether people read it: alerts of one rule and cluster make one message, what opened and ended while the sink
    /// was away is told once, and what goes over the rate is told in a digest.
    pub for_people: bool,
    /// The most alerts in one message.
    pub batch_max: usize,
    /// How often the sink must be told again what still fires.
    pub resend: Option<Duration>,
    /// How many messages it takes.
    pub rate: Option<Rate>,
    /// How often it wants to be told that all is well.
    pub watchdog: Option<Duration>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// One message each.
    pub every: Duration,
    /// As many at once after a quiet time.
    pub burst: u32,
}

/// What is sent at once.
#[derive(Clone, Debug, Default)]
pub struct Message {
    /// At least one alert, the worst first where people read it.
    pub items: Vec<Item>,
    /// Present when these alerts are told in short because there were too many.
    pub digest: Option<Digest>,
    /// Where an earlier message is to be changed: every alert that it told of, as it is now.
    pub together: Vec<Alert>,
}

impl Message {
    /// One that tells each of these.
    #[must_use]
    pub fn of(items: Vec<Item>) -> Self {
        Self { items, ..Self::default() }
    }
}

/// One alert of a message.
#[derive(Clone, Debug)]
pub struct Item {
    /// The deliveries that are settled with it; none where something is told again.
    pub seqs: Vec<i64>,
    /// Why it is sent. `Firing` with a resolved alert: it opened and ended before anybody was told.
    pub kind: Kind,
    /// The alert, its `status` as this message shall show it.
    pub alert: Alert,
    /// The most failed attempts among its deliveries.
    pub attempts: u32,
    /// What the sink asked to remember of it.
    pub remembered: Option<String>,
}

impl Item {
    /// An alert that is told as firing without a delivery that waits for it.
    #[must_use]
    pub fn of(alert: Alert) -> Self {
        Self { seqs: Vec::new(), kind: Kind::Firing, alert, attempts: 0, remembered: None }
    }
}

/// How many alerts are told in short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// Alerts.
    pub alerts: usize,
    /// Different rules among them.
    pub rules: usize,
}

/// The sink took the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Alert ids, and what shall be handed back with later deliveries of them.
    pub remember: Vec<(String, String)>,
    /// Items that it did not take, by their place in the message, and what that means for each.
    pub refused: Vec<(usize, SendError)>,
}

/// The sink did not take the message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// It may take it later.
    #[error("{reason}")]
    Retry {
        /// Not before this long from now, where the other side said so.
        after: Option<Duration>,
        /// For people, without secrets.
        reason: String,
    },
    /// It will never take this message as it is. Of many alerts, one may be the cause: each half is tried again.
    #[error("{reason}")]
    Reject {
        /// For people, without secrets.
        reason: String,
    },
}

impl SendError {
    fn retry(reason: impl Into<String>) -> Self {
        Self::Retry { after: None, reason: reason.into() }
    }

    fn reject(reason: impl Into<String>) -> Self {
        Self::Reject { reason: reason.into() }
    }

    /// The same, to be tried again: for what is not about the alerts.
    fn later(self) -> Self {
        match self {
            Self::Reject { reason } => Self::retry(reason),
            retry @ Self::Retry { .. } => retry,
        }
    }
}

#[cfg(test)]
#[path = "../../tests/fake/mod.rs"]
pub(crate) mod fake;

#[cfg(test)]
pub(crate) mod samples;
