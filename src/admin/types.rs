//! What the admin client takes and gives.
use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

/// A topic that is to be created.
///
/// ```
/// use milena::NewTopic;
///
/// let compacted = NewTopic::new("orders", 12, 3).config("cleanup.policy", "compact");
/// let by_default = NewTopic::new("events", -1, -1); // the cluster's num.partitions and default.replication.factor
/// # let _ = (compacted, by_default);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    pub(super) name: String,
    partitions: i32,
    replication: i16,
    configs: BTreeMap<String, String>,
    assignments: Vec<Vec<i32>>,
}

impl NewTopic {
    /// A topic with so many partitions, each on so many nodes; -1 leaves either to the cluster (KIP-464).
    pub fn new(name: impl Into<String>, partitions: i32, replication: i16) -> Self {
        Self { name: name.into(), partitions, replication, configs: BTreeMap::new(), assignments: Vec::new() }
    }

    /// One of the topic's options by Kafka's name, such as `retention.ms`.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    /// The nodes of each partition, the preferred leader first; it stands in for both numbers of [`NewTopic::new`].
    pub fn assignments(mut self, nodes: impl IntoIterator<Item = Vec<i32>>) -> Self {
        self.assignments = nodes.into_iter().collect();
        (self.partitions, self.replication) = (-1, -1);
        self
    }

    pub(super) fn request(&self) -> CreatableTopic {
        let config = |(name, value): (&String, &String)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        };
        let assignment = |(at, nodes): (usize, &Vec<i32>)| {
            CreatableReplicaAssignment::default()
                .with_partition_index(at as i32)
                .with_broker_ids(nodes.iter().map(|node| (*node).into()).collect())
        };
        CreatableTopic::default()
            .with_name(topic_name(&self.name))
            .with_num_partitions(self.partitions)
            .with_replication_factor(self.replication)
            .with_configs(self.configs.iter().map(config).collect())
            .with_assignments(self.assignments.iter().enumerate().map(assignment).collect())
    }
}

/// One topic, so that a single one can be given where several are taken.
impl IntoIterator for NewTopic {
    type Item = NewTopic;
    type IntoIter = std::iter::Once<NewTopic>;

    fn into_iter(self) -> Self::IntoIter {
        std::iter::once(self)
    }
}

/// A topic as a node described it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its id (KIP-516); nil where nodes do not tell it, before Kafka 2.8.
    pub id: Uuid,
    /// Whether it is one of Kafka's own, such as `__consumer_offsets`.
    pub internal: bool,
    /// Its partitions, in order.
    pub partitions: Vec<PartitionDescription>,
}

/// A partition as a node described it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its number.
    pub partition: i32,
    /// The node that leads it; `None` while there is none.
    pub leader: Option<i32>,
    /// Which leadership this is; -1 where nodes do not tell it.
    pub leader_epoch: i32,
    /// The nodes that hold it, the preferred leader first.
    pub replicas: Vec<i32>,
    /// Those of them that have all of it.
    pub in_sync: Vec<i32>,
}

impl From<&MetadataResponseTopic> for TopicDescription {
    fn from(topic: &MetadataResponseTopic) -> Self {
        let mut partitions: Vec<_> = topic
            .partitions
            .iter()
            .map(|partition| PartitionDescription {
                partition: partition.partition_index,
                leader: (partition.leader_id.0 >= 0).then_some(partition.leader_id.0),
                leader_epoch: partition.leader_epoch,
                replicas: partition.replica_nodes.iter().map(|node| node.0).collect(),
                in_sync: partition.isr_nodes.iter().map(|node| node.0).collect(),
            })
            .collect();
        partitions.sort_unstable_by_key(|partition| partition.partition);
        let name = topic.name.as_ref().map(|name| name.0.as_str()).unwrap_or_default();
        Self { name: name.into(), id: topic.topic_id, internal: topic.is_internal, partitions }
    }
}

/// The cluster as a node described it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClusterDescription {
    /// Its id.
    pub id: Option<Arc<str>>,
    /// The controller; on KRaft any node that forwards to it.
    pub controller: Option<i32>,
    /// Its nodes, by id.
    pub nodes: Vec<NodeDescription>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeDescription {
    /// Its id.
    pub id: i32,
    /// Where it listens for clients.
    pub host: Arc<str>,
    /// The port there.
    pub port: u16,
    /// Where it stands.
    pub rack: Option<Arc<str>>,
}

/// One option of a topic and its value.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicConfig {
    /// Kafka's name of the option.
    pub name: String,
    /// Its value; `None` where the node keeps it secret.
    pub value: Option<String>,
    /// Whether the value is the topic's own, not the cluster's or Kafka's default.
    pub is_own: bool,
    /// Whether it cannot be changed.
    pub is_read_only: bool,
}

pub(super) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(super) fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}
