//! What a test sees of consumer groups, and does to their coordinators.
use kafka_protocol::protocol::StrBytes;

use super::cluster::group::Committed;
use super::group_view::GroupView;
use super::{Broker, no_partition};
use crate::error::{Error, ErrorKind, Result};
use crate::topic_partition::TopicPartition;

/// Consumer groups: a look inside, and coordinators that move.
impl Broker {
    /// What the coordinator knows of a group now, `None` if it does not know it.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// let broker = milena::broker::Broker::start().await?;
    /// assert_eq!(broker.group("billing"), None);
    /// # Ok(())
    /// # }
    /// ```
    pub fn group(&self, group: &str) -> Option<GroupView> {
        self.shell
            .with(|cluster, _| cluster.groups.get(group).map(|group| GroupView::new(group, &cluster.topics)))
    }

    /// The node that coordinates a group, whether there is that group or not; `None` while no node can.
    pub fn coordinator(&self, group: &str) -> Option<i32> {
        self.shell.with(|cluster, now| {
            cluster.ensure_offsets_topic(now);
            cluster.coordinator(group)
        })
    }

    /// Makes another node the coordinator of a group, and of all that share its partition of `__consumer_offsets`. As in Kafka it
    /// begins from what was written down: the last generation whose assignment is complete, and the committed offsets. Requests that
    /// were parked at the old one are answered with `NOT_COORDINATOR`.
    ///
    /// # Errors
    /// If the node has no replica of that partition that is in sync.
    pub fn move_coordinator(&self, group: &str, node: i32) -> Result<()> {
        match self.shell.with(|cluster, now| cluster.move_coordinator(now, group, Some(node))) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Config, format!("node {node} cannot coordinate {group}"))),
        }
    }

    /// Commits an offset for a group, whatever its state, as part of a transaction of this producer, which
    /// [`Broker::end_offsets_transaction`] ends. Until then whoever asks for stable offsets is told to wait.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn commit_offset_in_transaction(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        producer_id: i64,
        offset: i64,
    ) -> Result<()> {
        self.shell.with(|cluster, now| {
            let committed = Committed { offset, epoch: -1, metadata: StrBytes::default() };
            let partition_of = TopicPartition::new(topic, partition);
            cluster.topics.partition(topic, partition).ok_or_else(|| no_partition(topic, partition))?;
            cluster.with_group(now, group, |group, _| {
                group.offsets.commit_in_transaction(producer_id, partition_of, committed);
            });
            Ok(())
        })
    }

    /// Ends the offsets part of a producer's transaction: what it committed for any group holds, or never was.
    pub fn end_offsets_transaction(&self, producer_id: i64, commit: bool) {
        self.shell.with(|cluster, _| {
            for group in cluster.groups.by_id.values_mut() {
                group.offsets.end_transaction(producer_id, commit);
            }
        });
    }
}
