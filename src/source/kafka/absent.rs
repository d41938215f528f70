//! The source in a build without Kafka: it can be configured, and says why it does not run.

use std::convert::Infallible;
use std::marker::PhantomData;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::super::Intake;
use super::{KafkaConfig, Told};
use crate::kafka::ABSENT;
use crate::metrics::Metrics;

/// Never made.
pub struct Consumer<I>(Infallible, PhantomData<I>);

impl<I: Intake> Consumer<I> {
    /// Says that this build cannot.
    pub fn new(_: &KafkaConfig, _: &str, _: I, _: Arc<Metrics>) -> Result<Self, Vec<String>> {
        Err(vec![ABSENT.to_owned()])
    }

    /// Never called.
    pub async fn run(self, _: Told, _: CancellationToken) {
        match self.0 {}
    }
}
