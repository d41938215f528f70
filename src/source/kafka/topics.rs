//! Topics by name or by pattern, and the cluster that a topic's name tells.
//!
//! librdkafka looks for topics with the C library's regular expressions, which know no named groups; what the group
//! `cluster` matches is read here.

use std::sync::Arc;

use regex::Regex;

use super::super::cluster_name;
use crate::kafka::wrong_topic;

const GROUPS: [&str; 2] = ["(?<cluster>", "(?P<cluster>"];

/// The topics of one source.
#[derive(Debug)]
pub(super) struct Topics {
    /// As librdkafka takes them.
    pub(super) subscription: Vec<String>,
    /// The patterns that tell a cluster.
    telling: Vec<Regex>,
}

impl Topics {
    /// What is wrong has the number of its topic.
    pub(super) fn new(topics: &[String]) -> Result<Self, Vec<(usize, String)>> {
        let (mut subscription, mut telling, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
        for (at, topic) in topics.iter().enumerate() {
            match pattern(topic) {
                Ok(Some(regex)) => {
                    subscription.push(GROUPS.iter().fold(topic.clone(), |text, group| text.replace(group, "(")));
                    if regex.capture_names().flatten().any(|name| name == "cluster") {
                        telling.push(regex);
                    }
                }
                Ok(None) => subscription.push(topic.clone()),
                Err(words) => wrong.push((at, words)),
            }
        }
        if wrong.is_empty() { Ok(Self { subscription, telling }) } else { Err(wrong) }
    }

    /// The cluster that a topic's name tells.
    pub(super) fn cluster(&self, topic: &str) -> Option<Arc<str>> {
        let told = self.telling.iter().find_map(|regex| regex.captures(topic)?.name("cluster"))?;
        cluster_name(told.as_str()).map(Into::into)
    }
}

/// A pattern begins with `^`; everything else is a name.
fn pattern(topic: &str) -> Result<Option<Regex>, String> {
    if !topic.starts_with('^') {
        return wrong_topic(topic).map_or(Ok(None), |why| Err(format!("`{topic}` is no topic: {why}")));
    }
    let regex = Regex::new(topic).map_err(|error| {
        let why = error.to_string();
        format!("`{topic}` is no pattern: {}", why.lines().last().unwrap_or_default())
    })?;
    let bare = GROUPS.iter().fold(topic.to_owned(), |text, group| text.replace(group, "("));
    if bare.contains("(?") || bare.contains("\\d") || bare.contains("*?") || bare.contains("+?") {
        return Err(format!(
            "`{topic}`: librdkafka takes POSIX patterns, and beside them only a group named `cluster`: write [0-9] and (…)"
        ));
    }
    Ok(Some(regex))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(written: &[&str]) -> Result<Topics, Vec<(usize, String)>> {
        Topics::new(&written.iter().map(|topic| (*topic).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_pattern_may_tell_the_cluster() {
        let topics = topics(&["plain", "^audit-(?<cluster>[a-z]+)-v[0-9]+$", "^other-.*"]).unwrap();
        assert_eq!(topics.subscription, ["plain", "^audit-([a-z]+)-v[0-9]+$", "^other-.*"]);
        assert_eq!(topics.cluster("audit-prod-v2").as_deref(), Some("prod"));
        assert_eq!(topics.cluster("other-prod"), None);
        assert_eq!(topics.cluster("plain"), None);
    }

    #[test]
    fn what_librdkafka_would_not_take_is_refused_with_its_number() {
        for wrong in ["", "a b", "^a(", r"^a\d+", "^(?:a|b)", "^(?<name>a)", "^a.*?b"] {
            let error = topics(&["good", wrong]).unwrap_err();
            assert_eq!((error.len(), error[0].0), (1, 1), "{wrong}: {error:?}");
        }
    }
}
