//! What a test sees of consumer groups, and does to their coordinators.
use kafka_protocol::protocol::StrBytes;

use super::cluster::group::{Committed, Offsets};
use super::group_view::GroupView;
use super::{Broker, no_partition};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::error_code::ErrorCode;
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

    /// Ends a member's session, as if it had not been heard of for too long.
    ///
    /// # Errors
    /// If there is no such group or member.
    pub fn expire_member(&self, group: &str, member_id: &str) -> Result<()> {
        let expired = self.shell.with(|cluster, now| {
            let (terms, id) = (cluster.join_terms(), StrBytes::from_string(member_id.to_owned()));
            let known = cluster.groups.get(group).is_some();
            let expired =
                known && cluster.with_group(now, group, |group, out| group.expire(now, &id, terms, out));
            cluster.settle(now);
            expired
        });
        match expired {
            true => Ok(()),
            false => Err(Error::broker(ErrorCode::UNKNOWN_MEMBER_ID, format!("no {member_id} in {group}"))),
        }
    }

    /// Commits an offset for a group, whatever its state, as an administrator does for an empty one.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn commit_offset(&self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.change_offsets(group, topic, partition, |offsets, key| {
            offsets.commit(key, Committed::at(offset));
        })
    }

    /// Commits an offset for a group, whatever its state, as part of a transaction of this producer, which
    /// [`Broker::end_offsets_transaction`] ends. Until then whoever asks for stable offsets is told to wait.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// let broker = milena::broker::Broker::start().await?;
    /// broker.create_topic("orders", 1)?;
    /// broker.commit_offset_in_transaction("billing", "orders", 0, 7, 42)?;
    /// assert!(broker.group("billing").is_some_and(|group| group.offsets().is_empty()));
    /// broker.end_offsets_transaction(7, true);
    /// assert!(broker.group("billing").is_some_and(|group| group.committed("orders", 0).is_some()));
    /// # Ok(())
    /// # }
    /// ```
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
        self.change_offsets(group, topic, partition, |offsets, key| {
            offsets.commit_in_transaction(producer_id, key, Committed::at(offset));
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

    fn change_offsets(
        &self,
        group: &str,
        topic: &str,
        partition: i32,
        change: impl FnOnce(&mut Offsets, TopicPartition),
    ) -> Result<()> {
        self.shell.with(|cluster, now| {
            cluster.topics.partition(topic, partition).ok_or_else(|| no_partition(topic, partition))?;
            cluster.with_group(now, group, |group, _| {
                change(&mut group.offsets, TopicPartition::new(topic, partition));
            });
            Ok(())
        })
    }
}
