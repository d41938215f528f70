//! What everything that speaks Kafka shares: how a connection is written down ([`Properties`], [`Connection`]), how it is
//! handed to librdkafka ([`client`]), and what its errors mean ([`explain`]).
//!
//! Without the feature `kafka` only the writing is left: such a configuration is read, and refused where it is used.

#[cfg(feature = "kafka")]
pub mod calls;
#[cfg(feature = "kafka")]
pub mod client;
#[cfg(feature = "kafka")]
pub mod explain;
#[cfg(feature = "kafka")]
mod files;
#[cfg(feature = "kafka")]
pub mod oauth;
#[cfg(feature = "kafka")]
pub mod producer;
mod properties;

#[cfg(all(test, feature = "kafka"))]
#[path = "../../tests/fake/kafka.rs"]
pub(crate) mod broker;

use std::collections::BTreeMap;
#[cfg(feature = "kafka")]
use std::path::PathBuf;

#[cfg(feature = "kafka")]
pub use self::files::Files;
pub use self::properties::{Properties, is_secret};

/// What a build without the feature `kafka` answers.
pub const ABSENT: &str =
    "this kubesiren was built without Kafka: build it with `--features kafka`, which is the default";

/// Where the brokers are, and how to speak with them, as it is configured.
#[derive(Clone, Copy, Debug)]
pub struct Connection<'c> {
    /// `host:port`, at least one.
    pub brokers: &'c [String],
    /// What librdkafka is told besides.
    pub properties: &'c Properties,
}

/// Everything librdkafka is told, with secrets read from their files.
#[derive(Clone)]
pub struct Settings {
    values: BTreeMap<String, String>,
    #[cfg(feature = "kafka")]
    tokens: Option<oauth::Tokens>,
}

/// A property that only the program may set, and what to write instead.
pub type Owned = (&'static str, &'static str);

/// Owned by everything that speaks Kafka.
pub const OWNED: [Owned; 2] = [
    ("bootstrap.servers", "name the brokers under `brokers`"),
    ("metadata.broker.list", "name the brokers under `brokers`"),
];

impl Connection<'_> {
    /// Reads the secrets. What the user wrote wins over `defaults`; `fixed` wins over what the user wrote.
    pub fn settings(&self, defaults: &[(&str, &str)], fixed: &[(&str, &str)]) -> Result<Settings, String> {
        let own = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Vec<_>>()
        };
        let mut values: BTreeMap<String, String> = own(defaults).into_iter().collect();
        values.insert("client.id".to_owned(), "kubesiren".to_owned());
        let written = self.properties.load()?;
        // OpenSSL is linked in and knows no folder of certificates by itself: without this nobody would be trusted.
        if !["ssl.ca.location", "ssl.ca.pem"].iter().any(|name| written.contains_key(*name)) {
            values.insert("ssl.ca.location".to_owned(), "probe".to_owned());
        }
        values.extend(written);
        values.extend(own(fixed));
        values.insert("bootstrap.servers".to_owned(), self.brokers.join(","));
        Ok(Settings {
            #[cfg(feature = "kafka")]
            tokens: tokens(self.properties, &mut values)?,
            values,
        })
    }

    /// What the files of secrets and certificates hold now, as one hash: another one asks for a new client. To be taken
    /// before they are read for the client, so that no change falls between. A file that cannot be read counts as it is,
    /// which is another state.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for file in self.properties.files() {
            let content = std::fs::read(file).unwrap_or_default();
            hasher.update(&(content.len() as u64).to_le_bytes());
            hasher.update(&content);
        }
        u64::from_le_bytes(hasher.finalize().as_bytes()[..8].try_into().unwrap_or_default())
    }
}

/// Where tokens of OAUTHBEARER come from. What says so is taken out: librdkafka is built without what it would need for it.
#[cfg(feature = "kafka")]
fn tokens(written: &Properties, values: &mut BTreeMap<String, String>) -> Result<Option<oauth::Tokens>, String> {
    let mut take = |name: &str| values.remove(&format!("{OAUTH}{name}"));
    let (method, scope) = (take("method"), take("scope"));
    let (id, secret, url) = (take("client.id"), take("client.secret"), take("token.endpoint.url"));
    if let Some(path) = written.get(TOKEN_FILE) {
        return Ok(Some(oauth::Tokens::File(PathBuf::from(path))));
    }
    if !method.is_some_and(|method| method.eq_ignore_ascii_case("oidc")) {
        return Ok(None);
    }
    let (Some(id), Some(secret), Some(url)) = (id, secret, url) else {
        return Err(format!(
            "{OAUTH}method is oidc: set {OAUTH}client.id, {OAUTH}client.secret_file and {OAUTH}token.endpoint.url"
        ));
    };
    let mut form = vec![("grant_type", "client_credentials".to_owned()), ("client_id", id), ("client_secret", secret)];
    form.extend(scope.map(|scope| ("scope", scope)));
    Ok(Some(oauth::Tokens::Provider { url, form }))
}

const OAUTH: &str = "sasl.oauthbearer.";
/// Names the file of a token; the token itself is read whenever it is needed, and is no property.
const TOKEN_FILE: &str = "sasl.oauthbearer.token_file";

/// Properties that are ours and not librdkafka's.
#[must_use]
pub fn is_ours(name: &str) -> bool {
    let ours =
        ["method", "scope", "client.id", "client.secret", "client.secret_file", "token.endpoint.url", "token_file"];
    name.strip_prefix(OAUTH).is_some_and(|name| ours.contains(&name))
}

impl Settings {
    /// One value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Sets a value unless there is one.
    pub fn set_default(&mut self, name: &str, value: &str) {
        self.values.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    /// All values; secrets are among them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// A text without the values of secrets: librdkafka and brokers may quote what they were given.
    #[must_use]
    pub fn without_secrets(&self, text: &str) -> String {
        let secrets = self.values.iter().filter(|(name, value)| is_secret(name) && value.len() > 3);
        secrets.fold(text.to_owned(), |text, (_, secret)| text.replace(secret.as_str(), "[redacted]"))
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("names", &self.values.keys()).finish_non_exhaustive()
    }
}

/// What is wrong with brokers as they are written, each with its number in the list.
#[must_use]
pub fn wrong_brokers(brokers: &[String]) -> Vec<(Option<usize>, String)> {
    if brokers.is_empty() {
        return vec![(None, "`brokers` is empty: name at least one, like kafka-0:9092".to_owned())];
    }
    let wrong = |(at, broker): (usize, &String)| {
        let bare = broker.trim();
        let port = bare.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>()));
        let why = match port {
            _ if bare.contains("://") => "write host:port; how to speak is said by `security.protocol`",
            _ if bare.contains(',') => "write each broker as an item of the list",
            Some((host, Ok(_))) if !host.is_empty() => return None,
            _ => "write it as host:port, like kafka-0:9092",
        };
        Some((Some(at), format!("`{broker}` is no broker: {why}")))
    };
    brokers.iter().enumerate().filter_map(wrong).collect()
}

/// Why this is no topic's name, if it is not.
#[must_use]
pub fn wrong_topic(name: &str) -> Option<&'static str> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name {
        "" => Some("a topic's name is not empty"),
        "." | ".." => Some("no topic can be called so"),
        _ if name.len() > 249 => Some("a topic's name has at most 249 characters"),
        _ if !name.chars().all(legal) => Some("a topic's name has letters, digits, `.`, `_` and `-` only"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_user_wrote_wins_over_defaults_but_not_over_what_is_fixed() {
        let properties: Properties =
            serde_json::from_str(r#"{"linger.ms": 7, "acks": 1, "client.id": "x", "sasl.password": "pass-4711"}"#)
                .unwrap();
        let brokers = ["a:1".to_owned(), "b:2".to_owned()];
        let connection = Connection { brokers: &brokers, properties: &properties };
        let settings = connection.settings(&[("linger.ms", "5"), ("retries", "9")], &[("acks", "all")]).unwrap();
        let expected = [
            ("linger.ms", "7"),
            ("retries", "9"),
            ("acks", "all"),
            ("client.id", "x"),
            ("bootstrap.servers", "a:1,b:2"),
            ("ssl.ca.location", "probe"),
        ];
        for (name, value) in expected {
            assert_eq!(settings.get(name), Some(value), "{name}");
        }
        assert_eq!(settings.without_secrets("wrong: pass-4711!"), "wrong: [redacted]!");
        assert!(!format!("{settings:?}").contains("4711"));
    }

    #[test]
    fn brokers_and_topics_are_looked_at() {
        let wrong = |broker: &str| wrong_brokers(&[broker.to_owned()]).pop().map(|(_, words)| words);
        assert_eq!(wrong("kafka-0:9092"), None);
        assert_eq!(wrong("[::1]:9092"), None);
        for broker in ["", "kafka", "kafka:", ":9092", "kafka:http", "kafka:99999", "kafka://a:9092", "a:1,b:2"] {
            assert!(wrong(broker).is_some(), "{broker}");
        }
        assert_eq!(wrong_brokers(&[]).len(), 1);
        assert_eq!(wrong_topic("k8s-audit.prod_1"), None);
        for topic in ["", "..", "a b", "ä", "a/b"] {
            assert!(wrong_topic(topic).is_some(), "{topic}");
        }
    }

    #[test]
    fn a_file_that_changes_changes_the_fingerprint() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "one\n").unwrap();
        let properties = format!("{{\"sasl.password_file\": {:?}}}", file.display().to_string());
        let properties: Properties = serde_json::from_str(&properties).unwrap();
        let connection = Connection { brokers: &[], properties: &properties };
        let settings = connection.settings(&[], &[]).unwrap();
        assert_eq!(settings.get("sasl.password"), Some("one"));
        let before = connection.fingerprint();
        assert_eq!(connection.fingerprint(), before);
        std::fs::write(&file, "two\n").unwrap();
        assert_ne!(connection.fingerprint(), before);
    }
}
