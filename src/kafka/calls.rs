//! What librdkafka calls back on every client: where tokens come from, lines of its log, what went wrong.

use std::ops::Deref;

use rdkafka::client::OAuthToken;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::{ClientContext, Statistics};

use super::client::Teller;
use super::oauth;

/// What the owner of a client does when it is called back.
pub trait Calls: Send + Sync {
    /// Who knows the settings, and tells what goes wrong.
    fn teller(&self) -> &Teller;

    /// Something went wrong.
    fn failed(&self, code: Code, reason: &str) {
        self.teller().tell(code, reason);
    }

    /// Figures, as often as the settings ask for them.
    fn stats(&self, _: Statistics) {}
}

/// Enough for whoever only wants to be told what goes wrong.
impl Calls for Teller {
    fn teller(&self) -> &Teller {
        self
    }
}

/// The context of a client: what is the same for all.
pub struct Called<C>(pub C);

impl<C> Deref for Called<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.0
    }
}

impl<C: Calls> ClientContext for Called<C> {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        oauth::token(self.teller().settings())
    }

    fn log(&self, _: RDKafkaLogLevel, facility: &str, line: &str) {
        self.teller().log(facility, line);
    }

    fn stats(&self, statistics: Statistics) {
        self.0.stats(statistics);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is no trouble.
        if let Some(code) = error.rdkafka_error_code().filter(|code| *code != Code::PartitionEOF) {
            self.failed(code, reason);
        }
    }
}

impl ConsumerContext for Called<Teller> {}
