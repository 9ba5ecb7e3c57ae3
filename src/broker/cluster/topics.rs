//! Topics and partitions: who leads, in which epoch, with which replicas.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use uuid::Uuid;

use super::{ConnectionId, Log};
use crate::protocol::error_code::ErrorCode;

#[derive(Debug, Default, Clone)]
pub(crate) struct Topics {
    by_name: BTreeMap<Arc<str>, Topic>,
    names: BTreeMap<Uuid, Arc<str>>,
}

#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) id: Uuid,
    pub(crate) name: Arc<str>,
    pub(crate) partitions: Vec<Partition>,
    pub(crate) config: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Partition {
    /// -1 while no replica is up.
    pub(crate) leader: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
    pub(crate) log: Log,
    /// Up to where the replicas in sync that do not lead have it.
    replicated: i64,
    /// Connections with a parked fetch that reads this partition.
    pub(crate) waiters: BTreeSet<ConnectionId>,
}

impl Topics {
    pub(crate) fn get(&self, name: &str) -> Option<&Topic> {
        self.by_name.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut Topic> {
        self.by_name.get_mut(name)
    }

    pub(crate) fn name(&self, id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.by_name.values()
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.by_name.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partition_mut(&mut self, topic: &str, partition: i32) -> Option<&mut Partition> {
        self.by_name.get_mut(topic)?.partitions.get_mut(usize::try_from(partition).ok()?)
    }

    pub(crate) fn partitions_mut(&mut self) -> impl Iterator<Item = &mut Partition> {
        self.by_name.values_mut().flat_map(|topic| &mut topic.partitions)
    }

    pub(crate) fn insert(&mut self, topic: Topic) {
        self.names.insert(topic.id, topic.name.clone());
        self.by_name.insert(topic.name.clone(), topic);
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Topic> {
        let topic = self.by_name.remove(name)?;
        self.names.remove(&topic.id);
        Some(topic)
    }
}

impl Topic {
    /// A setting of the topic, as a number.
    pub(crate) fn number(&self, key: &str) -> Option<i64> {
        self.config.get(key)?.parse().ok()
    }
}

impl Partition {
    pub(crate) fn new(replicas: Vec<i32>, up: &BTreeSet<i32>) -> Self {
        let in_sync: Vec<i32> = replicas.iter().copied().filter(|id| up.contains(id)).collect();
        let leader = in_sync.first().copied().unwrap_or(-1);
        let mut log = Log::default();
        log.begin_epoch(0);
        Self { leader, leader_epoch: 0, replicas, in_sync, log, replicated: 0, waiters: BTreeSet::new() }
    }

    /// Up to where everybody may read: what all replicas in sync have.
    pub(crate) fn high_watermark(&self) -> i64 {
        match self.in_sync.len() {
            0 | 1 => self.log.end(),
            _ => self.replicated,
        }
    }

    /// What `read_committed` may read: up to the first record of a transaction whose end is not known to all.
    pub(crate) fn last_stable(&self) -> i64 {
        let readable = self.high_watermark();
        let unstable = self.log.first_unstable(readable);
        unstable.map_or(readable, |first| first.max(self.log.start()).min(readable))
    }

    /// The followers have the log up to `end`.
    pub(crate) fn replicate(&mut self, end: i64) {
        self.replicated = end.min(self.log.end()).max(self.replicated);
        self.log.replicated(self.replicated);
    }

    /// `leader` takes over; another than before has only what was replicated.
    fn lead(&mut self, leader: i32, former: i32) {
        if leader != former && leader >= 0 && self.replicated < self.log.end() {
            self.log.truncate(self.replicated);
        }
        self.leader = leader;
        self.leader_epoch += 1;
        self.log.begin_epoch(self.leader_epoch);
    }

    /// Moves the leader to `to`, or to the next replica that is in sync.
    pub(crate) fn move_leader(&mut self, to: Option<i32>, up: &BTreeSet<i32>) -> bool {
        let able = |id: &i32| self.in_sync.contains(id) && up.contains(id);
        let to = match to {
            Some(to) => self.replicas.iter().copied().find(|id| *id == to).filter(able),
            None => {
                let at = self.replicas.iter().position(|id| *id == self.leader).map_or(0, |at| at + 1);
                (0..self.replicas.len())
                    .map(|step| self.replicas[(at + step) % self.replicas.len()])
                    .find(able)
            }
        };
        match to {
            Some(to) => {
                self.lead(to, self.leader);
                true
            }
            None => false,
        }
    }

    /// A node went down; says whether anything changed here.
    pub(crate) fn lose_node(&mut self, id: i32, up: &BTreeSet<i32>) -> bool {
        if !self.replicas.contains(&id) {
            return false;
        }
        // The last replica stays in sync, so that it leads again when it comes back.
        if self.in_sync.len() > 1 {
            self.in_sync.retain(|replica| *replica != id);
        }
        if self.leader == id {
            let next = self.in_sync.iter().copied().find(|replica| up.contains(replica)).unwrap_or(-1);
            self.lead(next, id);
        }
        true
    }

    /// A node came back; replicas catch up at once, as soon as there is a leader.
    pub(crate) fn regain_node(&mut self, id: i32, up: &BTreeSet<i32>) -> bool {
        if !self.replicas.contains(&id) {
            return false;
        }
        if self.leader == -1 && self.in_sync.contains(&id) {
            // The last one in sync had everything.
            self.replicate(i64::MAX);
            self.lead(id, id);
        }
        if self.leader != -1 {
            let late = |replica: &&i32| up.contains(replica) && !self.in_sync.contains(replica);
            let late: Vec<i32> = self.replicas.iter().filter(late).copied().collect();
            if self.in_sync.len() == 1 {
                self.replicate(i64::MAX);
            }
            self.in_sync.extend(late);
        }
        true
    }

    /// Loses the end of its log to an unclean leader election.
    pub(crate) fn truncate(&mut self, offset: i64) {
        self.log.truncate(offset);
        self.replicated = self.replicated.min(self.log.end());
        self.leader_epoch += 1;
        self.log.begin_epoch(self.leader_epoch);
    }

    /// What a node says to a request that carries an epoch (-1: none) and wants the leader, or any replica.
    pub(crate) fn check(&self, node: i32, epoch: i32, leader_only: bool) -> Result<(), ErrorCode> {
        if !self.replicas.contains(&node) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if epoch >= 0 && epoch < self.leader_epoch {
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        if epoch > self.leader_epoch {
            return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
        }
        if leader_only && self.leader != node {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        Ok(())
    }
}

/// Whether Kafka takes this as the name of a topic.
pub(crate) fn is_valid_name(name: &str) -> bool {
    (1..=249).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
