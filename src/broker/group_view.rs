//! A look into a consumer group, for assertions.
use std::collections::BTreeMap;

use bytes::Bytes;

use super::cluster::Topics;
use super::cluster::group::consumer_protocol::assigned;
use super::cluster::group::{Classic, Committed, Consumer, ConsumerMember, Group, Member, Members, Place};
use crate::topic_partition::TopicPartition;

/// A group as its coordinator had it when [`super::Broker::group`] was called: who owns what, as the coordinator defines it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupView {
    state: &'static str,
    protocol: Option<String>,
    generation: i32,
    leader: Option<String>,
    members: Vec<GroupMember>,
    offsets: BTreeMap<TopicPartition, CommittedOffset>,
}

/// An offset that a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommittedOffset {
    /// The offset to read next.
    pub offset: i64,
    /// The epoch of the leader that the last record was read from, -1 if it was not said.
    pub leader_epoch: i32,
    /// What else the member said.
    pub metadata: String,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    id: String,
    instance_id: Option<String>,
    client_id: String,
    generation: i32,
    subscription: Bytes,
    assignment: Vec<TopicPartition>,
    revoking: Vec<TopicPartition>,
}

impl GroupView {
    pub(crate) fn new(group: &Group, topics: &Topics) -> Self {
        let mut view = match &group.members {
            Members::Classic { group, .. } => Self::of_classic(group),
            Members::Consumer(group) => Self::of_consumer(group, topics),
        };
        view.state = group.state();
        let committed = |committed: &Committed| CommittedOffset {
            offset: committed.offset,
            leader_epoch: committed.epoch,
            metadata: committed.metadata.to_string(),
        };
        view.offsets = group.offsets.iter().map(|(key, value)| (key.clone(), committed(value))).collect();
        view
    }

    fn of_classic(classic: &Classic) -> Self {
        let protocol = classic.protocol.as_deref().unwrap_or_default();
        let member = |member| GroupMember::new(member, protocol, classic.generation);
        Self {
            protocol: classic.protocol.as_deref().map(str::to_owned),
            generation: classic.generation,
            leader: classic.leader.as_deref().map(str::to_owned),
            members: classic.members.iter().map(member).collect(),
            ..Self::default()
        }
    }

    fn of_consumer(group: &Consumer, topics: &Topics) -> Self {
        Self {
            protocol: (!group.members.is_empty()).then(|| group.assignor().name().to_owned()),
            generation: group.epoch,
            members: group.members.iter().map(|member| GroupMember::of_consumer(member, topics)).collect(),
            ..Self::default()
        }
    }

    /// Kafka's name of the state: `Empty`, `PreparingRebalance`, `CompletingRebalance`, `Stable`; of a group of the consumer
    /// protocol (KIP-848) `Empty`, `Assigning`, `Reconciling`, `Stable`.
    pub fn state(&self) -> &str {
        self.state
    }

    /// The assignor that was chosen.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// The generation, which begins at 0 for a group that nobody has joined yet; the group's epoch in the consumer protocol.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// The id of the member that assigns. None in the consumer protocol, where the coordinator does.
    pub fn leader(&self) -> Option<&str> {
        self.leader.as_deref()
    }

    /// All members, in the order of joining.
    pub fn members(&self) -> &[GroupMember] {
        &self.members
    }

    /// What is committed for a partition. Offsets of transactions that are open do not count.
    pub fn committed(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(&TopicPartition::new(topic, partition))
    }

    /// All that is committed.
    pub fn offsets(&self) -> &BTreeMap<TopicPartition, CommittedOffset> {
        &self.offsets
    }

    /// The member that owns a partition by its last assignment, or may own it still.
    pub fn owner(&self, topic: &str, partition: i32) -> Option<&GroupMember> {
        let owns = |owned: &TopicPartition| owned.topic() == topic && owned.partition() == partition;
        self.members.iter().find(|member| member.assignment.iter().chain(&member.revoking).any(owns))
    }
}

impl GroupMember {
    fn new(member: &Member, protocol: &str, generation: i32) -> Self {
        Self {
            id: member.id.to_string(),
            instance_id: member.instance.as_deref().map(str::to_owned),
            client_id: member.client.to_string(),
            generation,
            subscription: member.metadata(protocol),
            assignment: assigned(&member.assignment).unwrap_or_default(),
            revoking: Vec::new(),
        }
    }

    fn of_consumer(member: &ConsumerMember, topics: &Topics) -> Self {
        let name = |(topic, index): &Place| Some(TopicPartition::new(topics.name(*topic)?.clone(), *index));
        Self {
            id: member.id.to_string(),
            instance_id: member.instance.as_deref().map(str::to_owned),
            client_id: member.client.to_string(),
            generation: member.epoch,
            subscription: Bytes::new(),
            assignment: member.assigned.keys().filter_map(name).collect(),
            revoking: member.revoking.keys().filter_map(name).collect(),
        }
    }

    /// The id that the coordinator knows it by.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `group.instance.id` of a static member.
    pub fn instance_id(&self) -> Option<&str> {
        self.instance_id.as_deref()
    }

    /// What its client calls itself.
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The group's generation; in the consumer protocol the member's own epoch.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What it joined with under the chosen protocol, as it is on the wire. Empty in the consumer protocol.
    pub fn subscription(&self) -> &Bytes {
        &self.subscription
    }

    /// The partitions that it was given last; empty while a new generation waits for its leader, and if the leader gave
    /// it what is not an assignment of consumers.
    pub fn assignment(&self) -> &[TopicPartition] {
        &self.assignment
    }

    /// The partitions that it was told to give up and has not yet (consumer protocol only).
    pub fn revoking(&self) -> &[TopicPartition] {
        &self.revoking
    }
}
