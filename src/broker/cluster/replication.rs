//! Replicas that are behind, and nodes that do not know yet that others lead.
use std::sync::Arc;
use std::time::Instant;

use rand::RngExt as _;

use super::{Cluster, Timer};

impl Cluster {
    /// The log of a partition has grown: its replicas copy that after a while, at the node's own place.
    pub(crate) fn appended(&mut self, now: Instant, node: i32, topic: &str, index: i32) {
        let lag = self.config.replica_lag;
        let isolated = self.nodes.get(&node).is_some_and(|node| node.isolated);
        let Some(partition) = self.topics.partition_mut(topic, index) else { return };
        if lag.is_zero() && !isolated {
            partition.replicate(i64::MAX);
        } else if !isolated {
            let (epoch, end) = (partition.leader_epoch, partition.log.end());
            let after = lag.mul_f64(self.random.random_range(0.2..=1.8));
            self.set_timer(now + after, Timer::Replicated { topic: Arc::from(topic), index, epoch, end });
        }
        self.changed(topic, index);
    }

    /// The replicas have copied the log up to `end`, if they still follow the same leader.
    pub(super) fn replicated(&mut self, topic: &str, index: i32, epoch: i32, end: i64) {
        let Some(partition) = self.topics.partition_mut(topic, index) else { return };
        if partition.leader_epoch == epoch {
            partition.replicate(end);
            self.changed(topic, index);
        }
    }

    /// Cuts a node off from the others, but not from clients: other replicas take over, and it goes on in the belief that
    /// nothing happened. What it appends from now on is copied by nobody. Not one without which a partition had no leader.
    pub(crate) fn isolate_node(&mut self, now: Instant, id: i32) -> bool {
        let up = self.nodes_up();
        let is_last = |in_sync: &[i32]| {
            in_sync.contains(&id) && !in_sync.iter().any(|other| *other != id && up.contains(other))
        };
        if self.topics.iter().flat_map(|topic| &topic.partitions).any(|partition| is_last(&partition.in_sync))
        {
            return false;
        }
        let view = (self.topics.clone(), self.groups.cut_off());
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.up && !node.isolated) else {
            return false;
        };
        node.isolated = true;
        node.view = Some(view);
        self.lose(id);
        self.leaders_moved(now);
        self.settle(now);
        true
    }

    /// The node hears what happened: it gives up what it had appended alone, and follows.
    pub(crate) fn rejoin_node(&mut self, now: Instant, id: i32) -> bool {
        let Some(node) = self.nodes.get_mut(&id).filter(|node| node.isolated) else { return false };
        node.isolated = false;
        node.view = None;
        self.regain(id);
        self.leaders_moved(now);
        let of_node = self.connections.iter().filter(|(_, connection)| connection.node == id);
        self.woken.extend(of_node.map(|(id, _)| *id));
        self.settle(now);
        true
    }

    /// Runs something at a node, on what the node believes of topics and groups.
    pub(super) fn at_node<T>(&mut self, id: i32, run: impl FnOnce(&mut Self) -> T) -> T {
        let Some(mut view) = self.nodes.get_mut(&id).and_then(|node| node.view.take()) else {
            return run(self);
        };
        std::mem::swap(&mut self.topics, &mut view.0);
        std::mem::swap(&mut self.groups, &mut view.1);
        let result = run(self);
        std::mem::swap(&mut self.topics, &mut view.0);
        std::mem::swap(&mut self.groups, &mut view.1);
        if let Some(node) = self.nodes.get_mut(&id).filter(|node| node.isolated) {
            node.view = Some(view);
        }
        result
    }
}
