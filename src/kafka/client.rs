//! librdkafka's clients: made from [`Settings`], their properties looked at before, their errors told once.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use super::explain::{Explained, explain};
use super::{Properties, Settings, is_ours, is_secret};

/// The same words are logged again after this time, if they still hold.
const TOLD_EVERY: Duration = Duration::from_secs(300);
/// How librdkafka begins what it says of one that it cannot do, or does not know.
const NO_MECHANISM: [&str; 2] = ["No provider for SASL mechanism", "Unsupported SASL mechanism"];
/// Different words that are kept apart; the oldest makes way.
const TOLD_MAX: usize = 16;

/// What a producer is told unless somebody says otherwise.
pub const PRODUCER: [(&str, &str); 5] = [
    // Below the minute after which a worker gives a message up, so that the reason is told.
    ("message.timeout.ms", "30000"),
    // A topic that is not there is said to be missing before a message is given up.
    ("topic.metadata.propagation.max.ms", "10000"),
    ("linger.ms", "5"),
    ("compression.codec", "lz4"),
    ("queue.buffering.max.kbytes", "65536"),
];
/// What is not for anybody to choose: what counts as sent is on all replicas in sync, once.
pub const PRODUCER_FIXED: [(&str, &str); 2] = [("enable.idempotence", "true"), ("acks", "all")];

/// The settings as rdkafka takes them.
#[must_use]
pub fn config(settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in settings.iter() {
        config.set(name, value);
    }
    // Its lines repeat what comes as errors; whoever asks for debugging gets them.
    let debugging = settings.get("debug").is_some_and(|parts| !parts.is_empty());
    config.set_log_level(if debugging { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
    config
}

/// What librdkafka does not take of these properties, each with its name as it is written. Secrets in files are not read.
#[must_use]
pub fn wrong_properties(properties: &Properties) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for name in properties.names().filter(|name| !is_ours(name)) {
        let (bare, value) = match name.strip_suffix("_file") {
            Some(bare) => (bare, "text"),
            None => (name, properties.get(name).unwrap_or_default()),
        };
        let mut config = ClientConfig::new();
        config.set(bare, value);
        if let Err(error) = config.create_native_config().map(drop) {
            wrong.push((name.to_owned(), of_property(bare, error)));
        }
    }
    wrong
}

/// Why a property is not taken; the value of a secret is not repeated.
fn of_property(name: &str, error: KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, words, ..) if words.starts_with("No such configuration property") => {
            format!("librdkafka has no property `{name}`")
        }
        KafkaError::ClientConfig(..) if is_secret(name) => format!("librdkafka does not take the value of `{name}`"),
        KafkaError::ClientConfig(_, words, ..) => words,
        error => error.to_string(),
    }
}

/// Lets librdkafka look at everything it is told, certificates too, without connecting to anybody for longer than that.
pub fn look_at(settings: &Settings) -> Result<(), String> {
    let made = config(settings).create_with_context::<_, BaseConsumer<Silent>>(Silent);
    made.map(drop).map_err(|error| of_creation(settings, error))
}

/// Says nothing: what cannot be reached is not what is looked at.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}
    fn error(&self, _: KafkaError, _: &str) {}
}

impl ConsumerContext for Silent {}

/// Why a client cannot be made, in words without secrets.
#[must_use]
pub fn of_creation(settings: &Settings, error: KafkaError) -> String {
    match error {
        KafkaError::ClientConfig(_, _, ref name, _) => {
            let name = name.clone();
            settings.without_secrets(&of_property(&name, error))
        }
        KafkaError::ClientCreation(words) if NO_MECHANISM.iter().any(|start| words.starts_with(start)) => {
            let mechanism = settings.get("sasl.mechanisms").or_else(|| settings.get("sasl.mechanism"));
            let which = mechanism.unwrap_or("GSSAPI, which is taken where nothing is said,");
            format!(
                "the SASL mechanism {which} is not built in: set sasl.mechanisms to PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER"
            )
        }
        KafkaError::ClientCreation(words) => settings.without_secrets(&words),
        error => settings.without_secrets(&error.to_string()),
    }
}

/// Logs what goes wrong with one client: each thing once, and again if it lasts.
pub struct Teller {
    /// `source audit`, `sink soc`.
    who: String,
    settings: Settings,
    told: Mutex<Vec<(String, Instant)>>,
}

impl Teller {
    /// For `who`, as logs name it.
    #[must_use]
    pub fn new(who: impl Into<String>, settings: Settings) -> Self {
        Self { who: who.into(), settings, told: Mutex::default() }
    }

    /// What the client was told.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Puts an error into words, without secrets.
    #[must_use]
    pub fn explain(&self, code: RDKafkaErrorCode, reason: &str) -> Explained {
        explain(code, &self.settings.without_secrets(reason))
    }

    /// The same, and logs them, unless it was done a while ago. `None` where something that says more was told before.
    pub fn tell(&self, code: RDKafkaErrorCode, reason: &str) -> Option<Explained> {
        let explained = self.explain(code, reason);
        let news = self.is_news(code, &explained.words);
        if news == News::SaysLess {
            return None;
        }
        if news == News::Known {
            tracing::debug!(who = %self.who, "Kafka: {}", explained.words);
        } else if explained.must_act {
            tracing::error!(who = %self.who, "Kafka: {}", explained.words);
        } else {
            tracing::warn!(who = %self.who, "Kafka: {}", explained.words);
        }
        Some(explained)
    }

    /// Puts an error into words where they are news, for who shows them himself.
    pub fn tell_once(&self, code: RDKafkaErrorCode, reason: &str) -> Option<Explained> {
        let explained = self.explain(code, reason);
        (self.is_news(code, &explained.words) == News::New).then_some(explained)
    }

    /// It works: whatever goes wrong next is news.
    pub fn works(&self) {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// A line of librdkafka's own log.
    pub fn log(&self, facility: &str, line: &str) {
        tracing::debug!(who = %self.who, facility, "librdkafka: {}", self.settings.without_secrets(line));
    }

    fn is_news(&self, code: RDKafkaErrorCode, words: &str) -> News {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|(_, at)| at.elapsed() < TOLD_EVERY);
        if told.iter().any(|(known, _)| known == words) {
            return News::Known;
        }
        // That every broker is down follows each failure of the only one.
        if code == RDKafkaErrorCode::AllBrokersDown && !told.is_empty() {
            return News::SaysLess;
        }
        if told.len() >= TOLD_MAX {
            told.remove(0);
        }
        told.push((words.to_owned(), Instant::now()));
        News::New
    }
}

/// How much words add to what was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    New,
    Known,
    SaysLess,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::Connection;

    fn properties(json: &str) -> Properties {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn properties_that_librdkafka_does_not_know_are_named() {
        let wrong = wrong_properties(&properties(
            r#"{"sasl.passwort": "x", "linger.ms": "soon", "security.protocol": "SASL_SSL", "sasl.password_file": "/p",
                "sasl.mechanism": "SCRAM-SHA-512", "ssl.passwort_file": "/p", "group.protocol": "consumer"}"#,
        ));
        let names: Vec<&str> = wrong.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["linger.ms", "sasl.passwort", "ssl.passwort_file"], "{wrong:?}");
    }

    #[test]
    fn a_mechanism_that_is_not_built_in_names_those_that_are() {
        let said = |text: &str| {
            let properties = properties(text);
            let connection = Connection { brokers: &["127.0.0.1:1".to_owned()], properties: &properties };
            look_at(&connection.settings(&[], &[]).unwrap()).unwrap_err()
        };
        let none = said(r#"{"security.protocol": "SASL_PLAINTEXT"}"#);
        assert!(none.contains("GSSAPI, which is taken") && none.contains("set sasl.mechanisms to PLAIN"), "{none}");
        let wrong = said(r#"{"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM"}"#);
        assert!(wrong.contains("SCRAM") && wrong.contains("set sasl.mechanisms to PLAIN"), "{wrong}");
    }

    #[test]
    fn what_is_told_again_and_again_is_told_once() {
        let properties = properties(r#"{"sasl.password": "pass-4711"}"#);
        let settings = Connection { brokers: &[], properties: &properties }.settings(&[], &[]).unwrap();
        let teller = Teller::new("source a", settings);
        let refused = "a:9092: Connection refused";
        assert_eq!(teller.is_news(RDKafkaErrorCode::BrokerTransportFailure, refused), News::New);
        assert_eq!(teller.is_news(RDKafkaErrorCode::BrokerTransportFailure, refused), News::Known);
        assert_eq!(teller.is_news(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down"), News::SaysLess);
        assert_eq!(teller.is_news(RDKafkaErrorCode::SSL, "handshake"), News::New);
        teller.works();
        assert_eq!(teller.is_news(RDKafkaErrorCode::AllBrokersDown, "1/1 brokers are down"), News::New);
        assert!(!teller.explain(RDKafkaErrorCode::Authentication, "no such user: pass-4711").words.contains("4711"));
    }
}
