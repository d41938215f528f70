//! The topics: made where they are missing, looked at where they are there.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::KafkaConfig;
use crate::kafka::calls::Called;
use crate::kafka::client::{self, Teller};

/// How long brokers may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// How long it is tried to look at the settings of topics: not every broker shows them.
const LOOK_MAX: Duration = Duration::from_secs(3);

/// How often it is asked whether brokers know of new topics.
const KNOWN_AFTER: Duration = Duration::from_millis(200);

/// Why the topics cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unprepared {
    /// They are not what they have to be: somebody must act.
    Refused(String),
    /// No broker says how they are.
    Unreached(String),
}

/// What a topic has to be.
struct Wanted {
    name: String,
    /// Settings that it is created with.
    settings: Vec<(&'static str, String)>,
    /// Those of them without which it is of no use.
    needed: &'static [&'static str],
    /// The shortest time that it may keep records.
    keep_min: Duration,
}

fn wanted(config: &KafkaConfig, reach: Duration) -> [Wanted; 3] {
    let copies = (config.replication_factor.max(2) - 1).to_string();
    let common =
        || vec![("min.insync.replicas", copies.clone()), ("message.timestamp.type", "LogAppendTime".to_owned())];
    let kept = |keep: Duration| {
        let settings = [("cleanup.policy", "delete".to_owned()), ("retention.ms", keep.as_millis().to_string())];
        [common(), settings.to_vec(), vec![("retention.bytes", "-1".to_owned())]].concat()
    };
    let needed = &["cleanup.policy", "message.timestamp.type"][..];
    [
        Wanted { name: config.matches(), settings: kept(config.keep_matches.0), needed, keep_min: reach },
        Wanted { name: config.alerts(), settings: kept(config.keep_alerts.0), needed, keep_min: reach },
        Wanted {
            name: config.baselines(),
            settings: [common(), vec![("cleanup.policy", "compact".to_owned())]].concat(),
            needed: &["cleanup.policy"],
            keep_min: Duration::ZERO,
        },
    ]
}

/// It tells its trouble.
type Admin = AdminClient<Called<Teller>>;

/// Sees to it that the topics are there and as they have to be. `reach`: how far back matches can matter. Blocks.
pub(super) fn prepare(config: &KafkaConfig, reach: Duration) -> Result<(), Unprepared> {
    let settings = config.connection().settings(&[], &[]).map_err(Unprepared::Unreached)?;
    let admin: Admin = client::config(&settings)
        .create_with_context(Called(Teller::new("journal", settings.clone())))
        .map_err(|error| Unprepared::Refused(client::of_creation(&settings, error)))?;
    let runtime = tokio::runtime::Handle::current();
    let wanted = wanted(config, reach);
    let there = partitions(&admin)?;
    let mut found = Vec::new();
    for topic in &wanted {
        match there.get(&topic.name) {
            None => runtime.block_on(create(&admin, config, topic))?,
            Some(count) if *count != config.partitions => {
                return Err(Unprepared::Refused(other_count(config, topic, *count)));
            }
            Some(_) => found.push(topic),
        }
    }
    runtime.block_on(look_at(&admin, &found))?;
    let deadline = Instant::now() + ANSWER_MAX;
    // Who subscribes before brokers know of a new topic hears of it a minute later.
    while found.len() < wanted.len() && !are_known(&wanted, &partitions(&admin)?) {
        if Instant::now() >= deadline {
            return Err(Unprepared::Unreached("the topics that were created are not there yet".to_owned()));
        }
        runtime.block_on(tokio::time::sleep(KNOWN_AFTER));
    }
    Ok(())
}

fn are_known(wanted: &[Wanted], there: &BTreeMap<String, u32>) -> bool {
    wanted.iter().all(|topic| there.get(&topic.name).is_some_and(|partitions| *partitions > 0))
}

/// The partitions of each topic there is.
fn partitions(admin: &Admin) -> Result<BTreeMap<String, u32>, Unprepared> {
    let metadata = admin.inner().fetch_metadata(None, ANSWER_MAX).map_err(|error| unreached(admin, &error))?;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    Ok(metadata.topics().iter().map(|topic| (topic.name().to_owned(), count(topic.partitions().len()))).collect())
}

fn unreached(admin: &Admin, error: &KafkaError) -> Unprepared {
    let code = error.rdkafka_error_code().unwrap_or(Code::Unknown);
    Unprepared::Unreached(admin.inner().context().explain(code, "").words)
}

async fn create(admin: &Admin, config: &KafkaConfig, topic: &Wanted) -> Result<(), Unprepared> {
    let command = command(config, topic);
    if !config.create_topics {
        return Err(Unprepared::Refused(format!("the topic {} is missing; create it: {command}", topic.name)));
    }
    let partitions = i32::try_from(config.partitions).unwrap_or(i32::MAX);
    let copies = TopicReplication::Fixed(i32::from(config.replication_factor));
    let new = topic
        .settings
        .iter()
        .fold(NewTopic::new(&topic.name, partitions, copies), |new, (name, value)| new.set(name, value));
    let options = AdminOptions::new().request_timeout(Some(ANSWER_MAX)).operation_timeout(Some(ANSWER_MAX));
    let made = admin.create_topics(&[new], &options).await.map_err(|error| unreached(admin, &error))?;
    match made.into_iter().next() {
        None | Some(Ok(_)) => {
            tracing::info!(
                topic = topic.name,
                partitions,
                copies = config.replication_factor,
                "Kafka: a topic was created"
            );
            Ok(())
        }
        // Another instance was quicker.
        Some(Err((_, Code::TopicAlreadyExists))) => Ok(()),
        Some(Err((_, code @ (Code::OperationTimedOut | Code::RequestTimedOut | Code::NotController)))) => {
            Err(Unprepared::Unreached(format!("the topic {} is not created yet: {code}", topic.name)))
        }
        Some(Err((_, code))) => Err(Unprepared::Refused(format!(
            "the topic {} cannot be created: {code}; create it, or set replication_factor to no more than there are brokers: {command}",
            topic.name
        ))),
    }
}

/// How somebody who may creates it.
fn command(config: &KafkaConfig, topic: &Wanted) -> String {
    let settings: String = topic.settings.iter().map(|(name, value)| format!(" --config {name}={value}")).collect();
    format!(
        "kafka-topics.sh --create --topic {} --partitions {} --replication-factor {}{settings}",
        topic.name, config.partitions, config.replication_factor
    )
}

fn other_count(config: &KafkaConfig, topic: &Wanted, count: u32) -> String {
    format!(
        "the topic {} has {count} partitions, and `partitions` is {}: set it to {count}. Their number decides which partition \
         holds a group, so it cannot be changed. For another number take another `topic_prefix`: start instances with it \
         beside the old ones, move the sources over, and stop the old ones when `kubesiren_alerts_firing` of theirs is 0",
        topic.name, config.partitions
    )
}

/// Looks at the settings of topics that were there.
async fn look_at(admin: &Admin, topics: &[&Wanted]) -> Result<(), Unprepared> {
    if topics.is_empty() {
        return Ok(());
    }
    let options = AdminOptions::new().request_timeout(Some(LOOK_MAX)).operation_timeout(Some(LOOK_MAX));
    let named: Vec<ResourceSpecifier<'_>> = topics.iter().map(|topic| ResourceSpecifier::Topic(&topic.name)).collect();
    let described = match admin.describe_configs(&named, &options).await {
        Ok(described) => described,
        Err(error) => {
            tracing::warn!(%error, "Kafka: the settings of the journal's topics cannot be looked at; see to them by hand");
            return Ok(());
        }
    };
    for (topic, described) in topics.iter().zip(described) {
        match described {
            Ok(config) => judge(topic, &|name| config.get(name).and_then(|entry| entry.value.clone()))?,
            Err(error) => {
                tracing::warn!(topic = topic.name, %error, "Kafka: the settings of a topic cannot be looked at; see to them by hand");
            }
        }
    }
    Ok(())
}

/// Whether a topic is of use as it is.
fn judge(topic: &Wanted, found: &dyn Fn(&str) -> Option<String>) -> Result<(), Unprepared> {
    for (name, value) in topic.settings.iter().filter(|(name, _)| topic.needed.contains(name)) {
        if let Some(other) = found(name).filter(|other| other != value) {
            return Err(Unprepared::Refused(format!(
                "the topic {} has {name}={other}, and needs {value}: kafka-configs.sh --alter --topic {0} --add-config {name}={value}",
                topic.name
            )));
        }
    }
    // -1 is for ever.
    let keep = found("retention.ms").and_then(|value| value.parse::<u128>().ok());
    if keep.is_some_and(|keep| keep < topic.keep_min.as_millis()) {
        return Err(Unprepared::Refused(format!(
            "the topic {} keeps records for {} ms (retention.ms); the longest window of the rules needs {} ms",
            topic.name,
            keep.unwrap_or_default(),
            topic.keep_min.as_millis()
        )));
    }
    let copies = found("min.insync.replicas").and_then(|value| value.parse::<u16>().ok());
    if copies.is_some_and(|copies| copies < 2) {
        tracing::warn!(
            topic = topic.name,
            "Kafka: min.insync.replicas is 1: what is acknowledged may be on one broker alone"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> KafkaConfig {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn topics_are_created_so_that_nothing_acknowledged_is_lost() {
        let config = config(r#"{"brokers": ["a:1"], "topic_prefix": "x", "partitions": 6}"#);
        let [matches, _, baselines] = wanted(&config, Duration::from_secs(60));
        let command = command(&config, &matches);
        for part in [
            "--topic x-matches",
            "--partitions 6",
            "--replication-factor 3",
            "min.insync.replicas=2",
            "message.timestamp.type=LogAppendTime",
        ] {
            assert!(command.contains(part), "{part} is not in {command}");
        }
        assert!(baselines.settings.contains(&("cleanup.policy", "compact".to_owned())));
    }

    #[test]
    fn a_topic_that_would_lose_or_hide_matches_is_refused() {
        let config = config(r#"{"brokers": ["a:1"]}"#);
        let [matches, _, baselines] = wanted(&config, Duration::from_secs(3_600));
        let judged = |topic: &Wanted, changed: &str, value: &str| {
            judge(topic, &|name| {
                let usual = topic.settings.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
                if name == changed { Some(value.to_owned()) } else { usual }
            })
        };
        assert_eq!(judged(&matches, "", ""), Ok(()));
        assert_eq!(judged(&matches, "retention.ms", "-1"), Ok(()), "for ever");
        for (topic, name, value) in [
            (&matches, "message.timestamp.type", "CreateTime"),
            (&matches, "cleanup.policy", "compact"),
            (&matches, "retention.ms", "60000"),
            (&baselines, "cleanup.policy", "delete"),
        ] {
            let Err(Unprepared::Refused(words)) = judged(topic, name, value) else { panic!("{name}={value} is taken") };
            assert!(words.contains(name), "{words}");
        }
    }

    #[test]
    fn another_number_of_partitions_says_how_to_move() {
        let config = config(r#"{"brokers": ["a:1"], "partitions": 6}"#);
        let words = other_count(&config, &wanted(&config, Duration::ZERO)[0], 12);
        assert!(words.contains("has 12 partitions") && words.contains("another `topic_prefix`"), "{words}");
    }
}
