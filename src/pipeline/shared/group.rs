//! What members of a group do when partitions come and go, whatever the group is about.

use std::time::Duration;

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::KafkaResult;
use rdkafka::types::RDKafkaRespErr;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// How long the coordinator may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Whether partitions come, or else go.
pub(super) fn come(error: &RDKafkaRespErr) -> bool {
    *error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS
}

/// Asks the coordinator where these partitions are to be taken up.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> KafkaResult<TopicPartitionList> {
    let mut asked = TopicPartitionList::new();
    for element in list.elements() {
        asked.add_partition(element.topic(), element.partition());
    }
    consumer.committed_offsets(asked, ANSWER_MAX)
}

/// Takes partitions, each from where the list says.
pub(super) fn take<C: ConsumerContext>(consumer: &BaseConsumer<C>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(list),
        _ => consumer.assign(list),
    }
}

/// Leaves partitions to others.
pub(super) fn leave<C: ConsumerContext>(consumer: &BaseConsumer<C>, list: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(list),
        _ => consumer.unassign(),
    }
}

/// Waits so long, or until all shall stop.
pub(super) fn rest(runtime: &Handle, time: Duration, stop: &CancellationToken) {
    let _ = runtime.block_on(async move { tokio::time::timeout(time, stop.cancelled()).await });
}
