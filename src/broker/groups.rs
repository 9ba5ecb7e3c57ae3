//! What a test sees of consumer groups, and does to their coordinators.
use super::Broker;
use super::group_view::GroupView;
use crate::error::{Error, ErrorKind, Result};

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
        self.shell.with(|cluster, _| cluster.groups.get(group).map(GroupView::new))
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
}
