//! Configuration: YAML, then environment, into validated values.
//!
//! A text goes through five steps, none of which stops at the first mistake:
//!
//! ```text
//! text → tree with places → environment laid over it → structs (serde) → what serde cannot know → files and hosts
//!        crate::yaml         environment               read             validate                 files
//! ```
//!
//! Nothing is opened or bound here but the files that are checked, and no finding ever shows a secret (`mask`).

mod de;
mod environment;
mod files;
mod kafka;
mod mask;
mod read;
mod tree;
mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::alert::Level;
use crate::diagnose::{Diagnostic, SourceText};
use crate::notify::route::RouteConfig;
use crate::rule::lists::Change;
use crate::rule::{self, Profile};
use crate::sink::page::Page;
use crate::sink::{SinkConfig, SinkKind, stdout::StdoutConfig};
use crate::source::SourceConfig;
use crate::source::webhook::WebhookConfig;
use crate::store;
use crate::units::{Secret, Span};

/// The default configuration as a commented text: what `kubesiren config default` prints.
pub const DEFAULT_YAML: &str = include_str!("default.yaml");

/// Everything the daemon can be told. Without a file it just works.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The label of events of which neither source nor envelope names a cluster.
    pub cluster: String,
    /// Where the state database and the rejects file live.
    #[schemars(extend("default" = "/var/lib/kubesiren"))]
    pub state_dir: PathBuf,
    /// Where events come from.
    pub sources: Vec<SourceConfig>,
    /// Which rules run.
    pub detections: DetectionsConfig,
    /// Windows and episodes.
    pub correlation: CorrelationConfig,
    /// Where matches wait until they are correlated.
    pub journal: JournalConfig,
    /// Where alerts go.
    pub sinks: Vec<SinkConfig>,
    /// Which alerts go where; none means every alert to every sink.
    pub routes: Vec<RouteConfig>,
    /// Whether the daemon sends itself an event now and then, through its own listeners, to see that an alert comes of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub canary: Option<CanaryConfig>,
    /// Metrics, health and API.
    pub admin: AdminConfig,
    /// The daemon's own log, on standard error.
    pub log: LogConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: "default".to_owned(),
            state_dir: default_state_dir(),
            sources: vec![SourceConfig::Webhook(WebhookConfig::default())],
            detections: DetectionsConfig::default(),
            correlation: CorrelationConfig::default(),
            journal: JournalConfig::default(),
            sinks: vec![SinkConfig { name: "console".to_owned(), kind: SinkKind::Stdout(StdoutConfig {}) }],
            routes: Vec::new(),
            canary: None,
            admin: AdminConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Config {
    /// How much the store keeps.
    #[must_use]
    pub fn store_limits(&self) -> store::Limits {
        match &self.journal {
            JournalConfig::Embedded(embedded) => store::Limits {
                journal_rows_max: embedded.max_pending,
                outbox_max_per_sink: embedded.max_outbox,
                alerts_keep: embedded.keep_alerts.0,
                ..store::Limits::default()
            },
            JournalConfig::Kafka(kafka) => store::Limits {
                outbox_max_per_sink: kafka.max_outbox,
                alerts_keep: kafka.keep_alerts.0,
                ..store::Limits::default()
            },
        }
    }
}

/// `detections:`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DetectionsConfig {
    /// Whether the built-in detections run.
    pub builtin: bool,
    /// How much of the built-in detections runs: what somebody is woken up for, all but what is noisy, or everything.
    pub profile: Profile,
    /// Files and folders of Sigma rules; watched, a bad file keeps the old set.
    pub paths: Vec<PathBuf>,
    /// Ids of rules that do not run.
    pub disable: Vec<String>,
    /// Levels that replace those of the rules, by rule id.
    pub level: BTreeMap<String, Level>,
    /// What the `%placeholders%` of rules stand for, by name.
    pub placeholders: BTreeMap<String, Vec<String>>,
    /// What is added to the named lists of the built-in detections, or replaces them. `kubesiren rules list --lists` shows them.
    pub lists: BTreeMap<String, ListConfig>,
}

/// What is done to a named list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ListConfig {
    /// Entries that are added.
    Add(Vec<String>),
    /// Entries that take the place of all others.
    Replace {
        /// The entries.
        replace: Vec<String>,
    },
}

impl From<&ListConfig> for Change {
    fn from(written: &ListConfig) -> Self {
        match written {
            ListConfig::Add(values) => Self { replace: false, values: values.clone() },
            ListConfig::Replace { replace } => Self { replace: true, values: replace.clone() },
        }
    }
}

impl<'de> Deserialize<'de> for ListConfig {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// serde's own for such a choice says nothing of what is wrong, nor where.
        struct Either;

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Replace {
            replace: Vec<String>,
        }

        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = ListConfig;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list of entries to add, or `{replace: […]}`")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, items: A) -> Result<ListConfig, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(items)).map(ListConfig::Add)
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, entries: A) -> Result<ListConfig, A::Error> {
                let written = Replace::deserialize(serde::de::value::MapAccessDeserializer::new(entries))?;
                Ok(ListConfig::Replace { replace: written.replace })
            }
        }

        deserializer.deserialize_any(Either)
    }
}

impl DetectionsConfig {
    /// Which rules to load.
    #[must_use]
    pub fn options(&self) -> rule::Options {
        rule::Options {
            builtin: self.builtin,
            profile: Some(self.profile),
            own: Vec::new(),
            paths: self.paths.clone(),
            disable: self.disable.clone(),
            levels: self.level.clone(),
            placeholders: self.placeholders.clone(),
            lists: self.lists.iter().map(|(name, written)| (name.clone(), written.into())).collect(),
        }
    }
}

impl Default for DetectionsConfig {
    fn default() -> Self {
        Self {
            builtin: true,
            profile: Profile::Default,
            paths: Vec::new(),
            disable: Vec::new(),
            level: BTreeMap::new(),
            placeholders: BTreeMap::new(),
            lists: BTreeMap::new(),
        }
    }
}

/// `correlation:`
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorrelationConfig {
    /// Windows are exact for events that come at most this late.
    pub lateness: Span,
    /// A single-event rule that fires again within this time on the same user and object is the same alert.
    pub repeat_after: Span,
    /// Groups with a window or an episode that one rule may keep; the one quiet for longest goes first.
    pub max_keys: usize,
    /// Cluster names (from URL paths) that get their own series in metrics; further ones count as `other`.
    pub max_clusters: usize,
}

impl Default for CorrelationConfig {
    fn default() -> Self {
        Self {
            lateness: Span(Duration::from_secs(60)),
            repeat_after: Span(Duration::from_secs(300)),
            max_keys: 100_000,
            max_clusters: 100,
        }
    }
}

/// `journal:`, by `type`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum JournalConfig {
    /// A database in the state directory.
    Embedded(EmbeddedConfig),
    /// Topics that several instances share.
    Kafka(store::kafka::KafkaConfig),
}

impl Default for JournalConfig {
    fn default() -> Self {
        Self::Embedded(EmbeddedConfig::default())
    }
}

/// `journal: {type: embedded}`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EmbeddedConfig {
    /// Journal records that may wait to be correlated; beyond that sources are told to wait (503).
    pub max_pending: u64,
    /// Deliveries that may wait for one sink; beyond that the least bad alerts become dead letters.
    pub max_outbox: u64,
    /// Ended alerts are forgotten after this time.
    pub keep_alerts: Span,
}

impl Default for EmbeddedConfig {
    fn default() -> Self {
        Self { max_pending: 1_000_000, max_outbox: 100_000, keep_alerts: Span(Duration::from_secs(30 * 86_400)) }
    }
}

/// `canary:`; `{}` is on, with the defaults.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CanaryConfig {
    /// From one canary to the next. One that failed is followed by another after 30 seconds at most.
    pub every: Span,
    /// A canary that takes longer has failed.
    pub timeout: Span,
    /// Names of the webhook sources that it goes through; none means all of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The sink that gets the canary's alert; without one no sink does. With one, a canary arrives when the sink has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sink: Option<String>,
    /// Whether two failures in a row are an alert of their own, which goes where the routes say.
    pub alert: bool,
    /// PEM; needed where a source has `client_ca`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_cert: Option<PathBuf>,
    /// PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_key: Option<PathBuf>,
}

impl CanaryConfig {
    /// The shortest `every`.
    pub const EVERY_MIN: Duration = Duration::from_secs(1);

    /// Whether it goes through a source of this name.
    #[must_use]
    pub fn goes_through(&self, source: &str) -> bool {
        self.sources.is_empty() || self.sources.iter().any(|name| name == source)
    }
}

impl Default for CanaryConfig {
    fn default() -> Self {
        Self {
            every: Span(Duration::from_secs(300)),
            timeout: Span(Duration::from_secs(30)),
            sources: Vec::new(),
            sink: None,
            alert: true,
            client_cert: None,
            client_key: None,
        }
    }
}

/// `admin:`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AdminConfig {
    /// Address and port.
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// A token that every change must bear; without one, changes are taken from this machine only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<Secret>,
    /// File that holds it; several lines are several tokens, all of them valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// The address under which people reach the page, `https://siren.example.com`: messages of sinks then lead to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A token without which nothing may be read either, but for probes and metrics; it allows no change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader_token: Option<Secret>,
    /// File that holds it; several lines are several tokens, all of them valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reader_token_file: Option<PathBuf>,
    /// Names under which it may be asked, such as that of a Service or an Ingress, beside localhost and its address.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hosts: Vec<String>,
    /// A proxy that authenticates people; with one, only those it names, and whoever has the token, may read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<ProxyConfig>,
    /// Allows plain HTTP off loopback.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
}

/// `admin.proxy:`, such as oauth2-proxy; `{}` is on, with the defaults.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProxyConfig {
    /// The header in which it names the user; it must drop what clients send under this name.
    pub user_header: String,
    /// The header in which it names the user's groups, parted by commas.
    pub groups_header: String,
    /// Addresses and ranges from which its requests come.
    pub from: Vec<String>,
    /// Users and groups who may change something; everybody else whom it names may read.
    pub editors: Vec<String>,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            user_header: "X-Forwarded-User".to_owned(),
            groups_header: "X-Forwarded-Groups".to_owned(),
            from: vec!["127.0.0.0/8".to_owned(), "::1".to_owned()],
            editors: Vec::new(),
        }
    }
}

impl AdminConfig {
    /// All names under which it may be asked: those that are given, and that of the address which people are sent to.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let page = Page::new(self.url.as_deref()).unwrap_or_default();
        self.hosts.iter().cloned().chain(page.host().map(str::to_owned)).collect()
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 9766)),
            token: None,
            token_file: None,
            url: None,
            reader_token: None,
            reader_token_file: None,
            hosts: Vec::new(),
            proxy: None,
            insecure: false,
        }
    }
}

/// `log:`
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// JSON lines or text.
    pub format: LogFormat,
    /// The least that is logged.
    pub level: LogLevel,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// How much is logged, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Nothing.
    Off,
    /// Data was lost or somebody must act.
    Error,
    /// Something failed and was recovered.
    Warn,
    /// Starts, stops, reloads.
    #[default]
    Info,
    /// What a developer asks for first.
    Debug,
    /// Everything.
    Trace,
}

/// How far a configuration is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depth {
    /// The text alone: nothing outside it is looked at.
    Text,
    /// Files too: certificates, secrets, detections. The daemon's depth.
    Files,
    /// The hosts of sinks are looked up too.
    Hosts,
}

/// The environment's variables. Secrets may be among them: never print one.
pub type Environment = [(String, String)];

/// Reads a configuration file, or the defaults when there is none, with the environment laid over it.
///
/// Every mistake is reported at once, at its place.
pub fn load(path: Option<&Path>, environment: &Environment, depth: Depth) -> Result<Config, Vec<Diagnostic>> {
    let Some(path) = path else { return parse(Path::new("<defaults>"), "", environment, depth) };
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text, environment, depth),
        Err(error) => {
            let source = SourceText::new(path, String::new());
            let message = format!("cannot read the configuration: {error}");
            Err(vec![Diagnostic::error(&source, crate::diagnose::Span::default(), message)])
        }
    }
}

/// The same for a text that is at hand; `name` is what findings call it.
pub fn parse(name: &Path, text: &str, environment: &Environment, depth: Depth) -> Result<Config, Vec<Diagnostic>> {
    let written = SourceText::new(name, text.to_owned());
    let mut tree = tree::Tree::parse(&written);
    environment::overlay(&mut tree, environment);
    let parts = read::parts(&mut tree);
    validate::check(&parts, &mut tree);
    if depth >= Depth::Files {
        files::check(&parts, &mut tree, depth);
    }
    let mut findings = tree.into_findings();
    if findings.is_empty()
        && let Some(config) = parts.into_config()
    {
        return Ok(config);
    }
    if findings.is_empty() {
        // Cannot be: a part that is not there has a finding. Said here so that a mistake of ours is not silent.
        let source: Arc<SourceText> = written;
        findings.push(Diagnostic::error(&source, crate::diagnose::Span::default(), "this is not a configuration"));
    }
    Err(findings)
}

/// The JSON Schema of the file.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Config)
}

/// `/var/lib/kubesiren` for root, else below `$XDG_STATE_HOME` or `~/.local/state`.
fn default_state_dir() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/kubesiren");
    }
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    set("XDG_STATE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/state")))
        .map(|state| state.join("kubesiren"))
        // Empty is an error: state in a folder for temporary files would be lost, and anybody could write there.
        .unwrap_or_default()
}

/// Whether this process is root's: the owner of its own entry in /proc, which needs no call into libc.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

#[cfg(test)]
mod tests;
