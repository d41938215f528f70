//! What an error of librdkafka or of a broker means, and what to do about it.

use rdkafka::error::RDKafkaErrorCode as Code;

use crate::text::{shorten, visible};

/// An error in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explained {
    /// Whether somebody has to do something: waiting does not mend it.
    pub must_act: bool,
    /// What happened and what to do, in one line, untrusted text in it made visible.
    pub words: String,
}

/// A quoted reason has at most this many bytes.
const REASON_MAX: usize = 400;

/// Puts a code and the reason that came with it into words. The reason must not hold secrets.
#[must_use]
pub fn explain(code: Code, reason: &str) -> Explained {
    let reason = shorten(&visible(without_state(reason.trim()).trim_end_matches('.')), REASON_MAX);
    let advice = advice(code, &reason);
    let words = match &advice {
        Some(advice) if reason.is_empty() => format!("{code}; {advice}"),
        Some(advice) => format!("{reason}; {advice}"),
        None if reason.is_empty() => code.to_string(),
        None => reason,
    };
    Explained { must_act: must_act(code) || reason_is_of_certificates(&words), words }
}

/// A reason without what differs from one time to the next: `(after 3ms in state CONNECT, 2 identical error(s) suppressed)`.
fn without_state(reason: &str) -> &str {
    reason.rfind(" (after ").map_or(reason, |at| &reason[..at])
}

/// A certificate that is not taken shows as a broken connection too, when the other side found it.
fn reason_is_of_certificates(reason: &str) -> bool {
    reason.contains("certificate")
}

/// Whether waiting does not mend it. Brokers that cannot be reached or found may come; a topic may be made.
fn must_act(code: Code) -> bool {
    matches!(
        code,
        Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState
            | Code::SSL
            | Code::UnknownTopic
            | Code::UnknownTopicOrPartition
            | Code::UnknownPartition
            | Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::InvalidGroupId
            | Code::InvalidSessionTimeout
            | Code::InconsistentGroupProtocol
            | Code::Fenced
            | Code::FencedInstanceId
            | Code::Fatal
            | Code::UnsupportedVersion
            | Code::UnsupportedFeature
            | Code::PollExceeded
    )
}

fn advice(code: Code, reason: &str) -> Option<&'static str> {
    Some(match code {
        Code::Authentication | Code::SaslAuthenticationFailed => {
            "check sasl.username, sasl.password_file and sasl.mechanisms under `properties`"
        }
        Code::UnsupportedSASLMechanism | Code::IllegalSASLState => {
            "set sasl.mechanisms under `properties` to one that the listener takes"
        }
        Code::SSL => of_tls(reason),
        Code::Resolve => "check the names under `brokers`, and those that the brokers advertise",
        Code::BrokerTransportFailure => of_transport(reason),
        Code::AllBrokersDown => "no broker can be reached; check `brokers`, security.protocol and the network",
        Code::UnknownTopic | Code::UnknownTopicOrPartition => "create the topic or mend its name",
        Code::TopicAuthorizationFailed => {
            "the broker's ACLs must let this user Read (source) or Write (sink) the topic"
        }
        Code::GroupAuthorizationFailed => "the broker's ACLs must let this user Read the group",
        Code::ClusterAuthorizationFailed => "the broker's ACLs must let this user IdempotentWrite to the cluster",
        Code::Fenced | Code::FencedInstanceId => {
            "another consumer has joined with the same group.instance.id; give each instance its own"
        }
        Code::InvalidSessionTimeout => {
            "set session.timeout.ms between the broker's group.min.session.timeout.ms and group.max.session.timeout.ms"
        }
        Code::InconsistentGroupProtocol => {
            "members of the group use other assignors; set partition.assignment.strategy as they do, or another `group`"
        }
        Code::UnsupportedVersion | Code::UnsupportedFeature => {
            "the broker is too old for what was asked; group.protocol=consumer needs Kafka 4.0"
        }
        Code::MessageSizeTooLarge => "raise message.max.bytes here and max.message.bytes of the topic",
        _ => return None,
    })
}

fn of_tls(reason: &str) -> &'static str {
    let has = |part: &str| reason.to_ascii_lowercase().contains(part);
    if has("hostname mismatch") || has("ip address mismatch") {
        "name the broker as its certificate does (`brokers`, and what the broker advertises)"
    } else if ["wrong version number", "record layer failure", "packet length too long", "closed by peer"]
        .iter()
        .any(|part| has(part))
    {
        "does this port speak TLS? check the port, and security.protocol under `properties`"
    } else if has("certificate required") || has("bad certificate") || has("handshake failure") {
        "the broker asks for a client certificate: set ssl.certificate.location and ssl.key.location"
    } else if has("expired") {
        "renew the certificate"
    } else if has("certificate verify failed") || has("unknown ca") || has("self-signed") || has("self signed") {
        "set ssl.ca.location to the authority that signed the broker's certificate"
    } else {
        "check the ssl.* properties"
    }
}

fn of_transport(reason: &str) -> &'static str {
    if reason.contains("SSL") && !reason.contains("SSL listener") {
        of_tls(reason)
    } else if reason.contains("connecting to a SSL listener") || reason.contains("security.protocol") {
        "this port may speak TLS or SASL: check security.protocol under `properties`"
    } else if reason.contains("Invalid response size") {
        // The first bytes of another protocol, read as a length.
        "or this port speaks no Kafka, or TLS: check `brokers`, and security.protocol under `properties`"
    } else if reason.contains("refused") {
        "nothing listens there: check `brokers`"
    } else if reason.contains("SASL") || reason.contains("mechanism") {
        "check sasl.username, sasl.password_file and sasl.mechanisms under `properties`"
    } else {
        "it is tried again; check `brokers` and the network if this stays"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_comes_first_and_then_what_to_do() {
        let said = explain(Code::UnknownTopicOrPartition, "Subscribed topic not available: k8s-audit");
        assert!(said.must_act);
        assert!(
            said.words.starts_with("Subscribed topic not available: k8s-audit; create the topic"),
            "{}",
            said.words
        );
        assert!(
            !explain(Code::BrokerTransportFailure, "Connect to ipv4#127.0.0.1:1 failed: Connection refused").must_act
        );
        assert!(!explain(Code::AllBrokersDown, "").words.is_empty());
    }

    #[test]
    fn tls_is_told_apart() {
        let words = |reason: &str| explain(Code::SSL, reason).words;
        assert!(
            words("SSL handshake failed: certificate verify failed: unable to get local issuer certificate")
                .contains("ssl.ca.location")
        );
        assert!(words("certificate verify failed: hostname mismatch").contains("name the broker"));
        assert!(words("wrong version number").contains("speak TLS?"));
    }

    #[test]
    fn what_differs_each_time_is_left_out() {
        let said = explain(
            Code::BrokerTransportFailure,
            "a:1: Connect failed: Connection refused (after 3ms in state CONNECT)",
        );
        assert_eq!(said.words, "a:1: Connect failed: Connection refused; nothing listens there: check `brokers`");
        assert_eq!(
            explain(Code::GroupAuthorizationFailed, "Group authorization failed.").words,
            "Group authorization failed; the broker's ACLs must let this user Read the group"
        );
        let http =
            "a:1: Receive failed: Invalid response size 1213486160 (0..100000000): increase receive.message.max.bytes";
        assert!(explain(Code::BrokerTransportFailure, http).words.contains("this port speaks no Kafka"));
        let alert = "a:1: Receive failed: SSL routines::ssl/tls alert bad certificate: SSL alert number 42 (after 0ms in state UP)";
        let said = explain(Code::BrokerTransportFailure, alert);
        assert!(said.must_act && said.words.contains("ssl.certificate.location"), "{said:?}");
    }

    #[test]
    fn what_brokers_say_cannot_forge_lines() {
        let words = explain(Code::Unknown, "a\nERROR all is well \u{202e}").words;
        assert!(!words.contains('\n') && !words.contains('\u{202e}'), "{words}");
        assert!(explain(Code::Unknown, &"x".repeat(10_000)).words.len() < 1_000);
    }
}
