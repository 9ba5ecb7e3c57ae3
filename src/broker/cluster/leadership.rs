//! Nodes that stop and start, and the leaders that move with them.
use std::collections::BTreeSet;
use std::time::Instant;

use super::Cluster;

impl Cluster {
    /// Stops a node: its connections close, its partitions move to other replicas.
    pub(crate) fn stop_node(&mut self, now: Instant, id: i32) -> bool {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.up) else { return false };
        node.up = false;
        node.isolated = false;
        node.view = None;
        node.sessions.clear();
        self.stopped.push(id);
        let of_node: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.node == id)
            .map(|(id, _)| *id)
            .collect();
        for connection in of_node {
            self.close(connection);
        }
        self.lose(id);
        self.leaders_moved(now);
        self.settle(now);
        true
    }

    /// Others take over from a node.
    pub(super) fn lose(&mut self, id: i32) {
        let up = self.nodes_up();
        for partition in self.topics.partitions_mut() {
            if partition.lose_node(id, &up) {
                self.woken.extend(partition.waiters.iter());
            }
        }
    }

    pub(crate) fn start_node(&mut self, now: Instant, id: i32) -> bool {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| !node.up) else { return false };
        node.up = true;
        self.regain(id);
        self.leaders_moved(now);
        self.settle(now);
        true
    }

    /// A node is back.
    pub(super) fn regain(&mut self, id: i32) {
        let up = self.nodes_up();
        for partition in self.topics.partitions_mut() {
            if partition.regain_node(id, &up) {
                self.woken.extend(partition.waiters.iter());
            }
        }
    }

    /// The nodes that can lead and follow.
    pub(super) fn nodes_up(&self) -> BTreeSet<i32> {
        self.nodes.values().filter(|node| node.up && !node.isolated).map(|node| node.id).collect()
    }

    /// The controller is the live node with the lowest id.
    pub(super) fn controller(&self) -> i32 {
        self.nodes_up().first().copied().unwrap_or(-1)
    }

    /// Moves the leader to `to`, or to the next live replica. False if there is no such replica.
    pub(crate) fn move_leader(&mut self, now: Instant, topic: &str, partition: i32, to: Option<i32>) -> bool {
        let up = self.nodes_up();
        let Some(partition) = self.topics.partition_mut(topic, partition) else { return false };
        let moved = partition.move_leader(to, &up);
        self.woken.extend(partition.waiters.iter());
        self.leaders_moved(now);
        self.settle(now);
        moved
    }

    /// Something about a partition changed that parked fetches may wait for.
    pub(crate) fn changed(&mut self, topic: &str, partition: i32) {
        if let Some(partition) = self.topics.partition_mut(topic, partition) {
            self.woken.append(&mut partition.waiters);
        }
    }
}
