//! What a consumer in a group hands out besides records.
use super::Batch;
use crate::state::membership::Notice;
use crate::topic_partition::TopicPartition;

/// What [`Consumer::next_event`](super::Consumer::next_event) hands out.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// # broker.create_topic("orders", 2);
/// # broker.append("orders", 0, &[milena::Record::value("3 apples")]);
/// # let client = milena::Client::connect(&broker.address()).await?;
/// use milena::ConsumerEvent;
///
/// let mut consumer = client.consumer().group("billing").topics(["orders"]).build().await?;
/// while let Some(event) = consumer.next_event().await? {
///     match event {
///         ConsumerEvent::Assigned(partitions) => println!("load what is known of {partitions:?}"),
///         ConsumerEvent::Revoked(partitions) => println!("write down what is known of {partitions:?}"),
///         ConsumerEvent::Lost(partitions) => println!("throw away what is known of {partitions:?}"),
///         ConsumerEvent::Batch(batch) => {
///             assert_eq!(batch.len(), 1);
///             break;
///         }
///         _ => {}
///     }
/// }
/// consumer.commit().await?;
/// consumer.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// Records.
    Batch(Batch),
    /// The group has given these partitions to this consumer. Their batches come later.
    Assigned(Vec<TopicPartition>),
    /// These partitions are to be given up; their batches have come before, and no more come. Nobody else reads them before the next
    /// call: until then work on them may be finished and committed. The next call gives them up, and so does the end of
    /// three quarters of `rebalance_timeout`.
    Revoked(Vec<TopicPartition>),
    /// These partitions are not this consumer's any more, and others may be reading them: work on them is of no use and cannot be
    /// committed. So it is when the coordinator has not heard of the consumer for `session_timeout`, or the application not
    /// asked for records for `max_poll_interval`.
    Lost(Vec<TopicPartition>),
}

impl From<Notice> for ConsumerEvent {
    fn from(notice: Notice) -> Self {
        match notice {
            Notice::Assigned(partitions) => Self::Assigned(partitions),
            Notice::Revoked(partitions) => Self::Revoked(partitions),
            Notice::Lost(partitions) => Self::Lost(partitions),
        }
    }
}
