//! A snapshot of the cluster: immutable, shared by all who read it, replaced as a whole.
use std::collections::HashMap;
use std::sync::Arc;

use uuid::Uuid;

use crate::protocol::error_code::ErrorCode;

/// What Metadata answers and leader hints have told so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    /// Rises with every snapshot.
    pub(crate) generation: u64,
    pub(crate) id: Option<Arc<str>>,
    pub(crate) controller: Option<i32>,
    pub(crate) nodes: HashMap<i32, Node>,
    /// Topics by name, those with an error included.
    pub(crate) topics: HashMap<Arc<str>, Arc<Topic>>,
}

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) id: i32,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) rack: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Topic {
    pub(crate) name: Arc<str>,
    /// Nil below Metadata version 10.
    pub(crate) id: Uuid,
    pub(crate) error: ErrorCode,
    pub(crate) internal: bool,
    /// By partition number, without gaps; a partition the answer left out has no leader.
    pub(crate) partitions: Vec<Partition>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    pub(crate) leader: Option<i32>,
    /// -1 where the node does not tell it (Metadata below version 7).
    pub(crate) leader_epoch: i32,
    pub(crate) replicas: Vec<i32>,
    pub(crate) in_sync: Vec<i32>,
    pub(crate) error: ErrorCode,
}

impl Cluster {
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(name)
    }

    pub(crate) fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }
}
