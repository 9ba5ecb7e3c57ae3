//! What a member asks, as messages of the version that the coordinator speaks.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatRequest, FindCoordinatorRequest, FindCoordinatorResponse, GroupId,
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetFetchRequest,
    OffsetFetchResponse, SyncGroupRequest, TopicName,
};

use uuid::Uuid;

use super::{Identity, Place};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::fetch::text;
use crate::topic_partition::TopicPartition;

/// Of all groups of consumers, as JoinGroup and SyncGroup name it.
pub(crate) const PROTOCOL_TYPE: &str = "consumer";

/// FindCoordinator for a group.
pub(crate) fn find_coordinator(group: &Arc<str>, version: i16) -> FindCoordinatorRequest {
    let request = FindCoordinatorRequest::default().with_key_type(0);
    match version {
        4.. => request.with_coordinator_keys(vec![text(group)]),
        _ => request.with_key(text(group)),
    }
}

/// The node that coordinates the group, by what was answered.
pub(crate) fn coordinator_of(group: &str, response: &FindCoordinatorResponse) -> Result<i32> {
    let found = response.coordinators.iter().find(|found| &*found.key == group);
    let (code, node) = match found {
        Some(found) => (found.error_code, found.node_id.0),
        // From version 4 on the answer is a list.
        None if !response.coordinators.is_empty() => (ErrorCode::COORDINATOR_NOT_AVAILABLE.code(), -1),
        None => (response.error_code, response.node_id.0),
    };
    match ErrorCode::from(code) {
        ErrorCode::NONE if node >= 0 => Ok(node),
        ErrorCode::NONE => Err(Error::new(ErrorKind::Protocol, "no node was named as coordinator")),
        code => Err(Error::broker(code, "the group has no coordinator")),
    }
    .map_err(|error| error.in_api("FindCoordinator"))
}

/// Who asks, in all requests of a member.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) group: Arc<str>,
    pub(crate) instance: Option<Arc<str>>,
    pub(crate) identity: Identity,
}

/// JoinGroup: assignors by name, in the order in which they are preferred, each with its subscription.
#[derive(Debug, Clone)]
pub(crate) struct JoinPlan {
    pub(super) sender: Sender,
    pub(super) session_timeout: i32,
    pub(super) rebalance_timeout: i32,
    pub(super) protocols: Vec<(Arc<str>, Bytes)>,
    pub(super) reason: &'static str,
}

impl JoinPlan {
    pub(crate) fn request(&self) -> JoinGroupRequest {
        let protocol = |(name, metadata): &(Arc<str>, Bytes)| {
            JoinGroupRequestProtocol::default().with_name(text(name)).with_metadata(metadata.clone())
        };
        JoinGroupRequest::default()
            .with_group_id(self.sender.group_id())
            .with_session_timeout_ms(self.session_timeout)
            .with_rebalance_timeout_ms(self.rebalance_timeout)
            .with_member_id(text(&self.sender.identity.member))
            .with_group_instance_id(self.sender.instance.as_deref().map(text))
            .with_protocol_type(PROTOCOL_TYPE.into())
            .with_protocols(self.protocols.iter().map(protocol).collect())
            .with_reason(Some(self.reason.into()))
    }
}

/// SyncGroup: with what everybody gets if this member leads, with nothing otherwise.
#[derive(Debug, Clone)]
pub(crate) struct SyncPlan {
    pub(super) sender: Sender,
    pub(super) protocol: Arc<str>,
    pub(super) assignments: Vec<(Arc<str>, Bytes)>,
}

impl SyncPlan {
    pub(crate) fn request(&self, version: i16) -> SyncGroupRequest {
        let assignment = |(member, assignment): &(Arc<str>, Bytes)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(assignment.clone())
        };
        SyncGroupRequest::default()
            .with_group_id(self.sender.group_id())
            .with_generation_id(self.sender.identity.generation)
            .with_member_id(text(&self.sender.identity.member))
            .with_group_instance_id(self.sender.instance.as_deref().map(text))
            .with_protocol_type((version >= 5).then(|| PROTOCOL_TYPE.into()))
            .with_protocol_name((version >= 5).then(|| text(&self.protocol)))
            .with_assignments(self.assignments.iter().map(assignment).collect())
    }
}

impl Sender {
    fn group_id(&self) -> GroupId {
        GroupId(text(&self.group))
    }

    pub(crate) fn heartbeat(&self) -> HeartbeatRequest {
        HeartbeatRequest::default()
            .with_group_id(self.group_id())
            .with_generation_id(self.identity.generation)
            .with_member_id(text(&self.identity.member))
            .with_group_instance_id(self.instance.as_deref().map(text))
    }

    pub(crate) fn leave(&self, version: i16) -> LeaveGroupRequest {
        let request = LeaveGroupRequest::default().with_group_id(self.group_id());
        if version < 3 {
            return request.with_member_id(text(&self.identity.member));
        }
        let member = MemberIdentity::default()
            .with_member_id(text(&self.identity.member))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_reason(Some("the consumer is closed, or reads too slowly".into()));
        request.with_members(vec![member])
    }
}

/// ConsumerGroupHeartbeat: whatever is `None` is as it was.
#[derive(Debug, Clone)]
pub(crate) struct BeatPlan {
    /// Its generation is the epoch: 0 to join, -1 to leave, -2 to leave and come back.
    pub(crate) sender: Sender,
    pub(super) rack: Option<Arc<str>>,
    pub(super) rebalance_timeout: Option<Duration>,
    pub(super) topics: Option<Vec<Arc<str>>>,
    pub(super) regex: Option<Arc<str>>,
    pub(super) assignor: Option<Arc<str>>,
    pub(super) owned: Option<Vec<(Uuid, Vec<i32>)>>,
}

impl BeatPlan {
    /// One that names nothing.
    pub(super) fn of(sender: Sender) -> Self {
        Self {
            sender,
            rack: None,
            rebalance_timeout: None,
            topics: None,
            regex: None,
            assignor: None,
            owned: None,
        }
    }

    pub(crate) fn request(&self) -> ConsumerGroupHeartbeatRequest {
        let owned = |(id, partitions): &(Uuid, Vec<i32>)| {
            TopicPartitions::default().with_topic_id(*id).with_partitions(partitions.clone())
        };
        let names = |topics: &Vec<Arc<str>>| topics.iter().map(|topic| TopicName(text(topic))).collect();
        ConsumerGroupHeartbeatRequest::default()
            .with_group_id(self.sender.group_id())
            .with_member_id(text(&self.sender.identity.member))
            .with_member_epoch(self.sender.identity.generation)
            .with_instance_id(self.sender.instance.as_ref().map(|it| text(it)))
            .with_rack_id(self.rack.as_ref().map(|it| text(it)))
            .with_rebalance_timeout_ms(self.rebalance_timeout.map_or(-1, millis))
            .with_subscribed_topic_names(self.topics.as_ref().map(names))
            .with_subscribed_topic_regex(self.regex.as_ref().map(|it| text(it)))
            .with_server_assignor(self.assignor.as_ref().map(|it| text(it)))
            .with_topic_partitions(self.owned.as_ref().map(|list| list.iter().map(owned).collect()))
    }
}

/// As Kafka counts time.
pub(super) fn millis(time: Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX)
}

/// OffsetCommit.
#[derive(Debug, Clone)]
pub(crate) struct CommitPlan {
    pub(crate) sender: Sender,
    pub(crate) offsets: BTreeMap<TopicPartition, Place>,
}

impl CommitPlan {
    pub(crate) fn request(&self, version: i16) -> OffsetCommitRequest {
        let mut topics: BTreeMap<&Arc<str>, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
        for (name, place) in &self.offsets {
            topics.entry(name.shared_topic()).or_default().push(
                OffsetCommitRequestPartition::default()
                    .with_partition_index(name.partition())
                    .with_committed_offset(place.offset)
                    .with_committed_leader_epoch(if version >= 6 { place.epoch } else { -1 })
                    .with_committed_metadata(Some(text(&place.metadata))),
            );
        }
        let topics = topics.into_iter().map(|(topic, partitions)| {
            OffsetCommitRequestTopic::default().with_name(TopicName(text(topic))).with_partitions(partitions)
        });
        let Sender { instance, identity, .. } = &self.sender;
        OffsetCommitRequest::default()
            .with_group_id(self.sender.group_id())
            .with_generation_id_or_member_epoch(identity.generation)
            .with_member_id(text(&identity.member))
            .with_group_instance_id(instance.as_deref().map(text))
            .with_retention_time_ms(-1)
            .with_topics(topics.collect())
    }
}

/// OffsetFetch, of these partitions or of all that the group has offsets of.
#[derive(Debug, Clone)]
pub(crate) struct OffsetFetchPlan {
    pub(crate) group: Arc<str>,
    pub(crate) partitions: Option<Vec<TopicPartition>>,
}

/// The first version of OffsetFetch that waits for transactions, and the first that names several groups.
const STABLE: i16 = 7;
const GROUPS: i16 = 8;

impl OffsetFetchPlan {
    pub(crate) fn request(&self, version: i16) -> OffsetFetchRequest {
        let topics = self.partitions.as_ref().map(|partitions| {
            let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
            for name in partitions {
                topics.entry(name.shared_topic()).or_default().push(name.partition());
            }
            topics
                .into_iter()
                .map(|(topic, partitions)| (TopicName(text(topic)), partitions))
                .collect::<Vec<_>>()
        });
        // An offset that an open transaction is about to replace is none to begin at.
        let request = OffsetFetchRequest::default().with_require_stable(version >= STABLE);
        if version < GROUPS {
            let topic = |(name, partitions)| {
                OffsetFetchRequestTopic::default().with_name(name).with_partition_indexes(partitions)
            };
            let topics = topics.map(|topics| topics.into_iter().map(topic).collect());
            return request.with_group_id(GroupId(text(&self.group))).with_topics(topics);
        }
        let topic = |(name, partitions)| {
            OffsetFetchRequestTopics::default().with_name(name).with_partition_indexes(partitions)
        };
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(GroupId(text(&self.group)))
            .with_member_id(None)
            .with_member_epoch(-1)
            .with_topics(topics.map(|topics| topics.into_iter().map(topic).collect()));
        request.with_topics(Some(Vec::new())).with_groups(vec![group])
    }
}

/// What was answered about one partition: the place committed there, if any, or why it cannot be told.
pub(crate) type Fetched = (TopicPartition, Result<Option<Place>, ErrorCode>);

/// What an answer to OffsetFetch says about `group`, of whatever version; an error is about the whole of it.
pub(crate) fn fetched(group: &str, response: &OffsetFetchResponse) -> Result<Vec<Fetched>, ErrorCode> {
    let entry = |topic: &TopicName, partition, offset, epoch, metadata: Option<&str>, code: i16| {
        let code = ErrorCode::from(code);
        let place = Place { offset, epoch, metadata: metadata.unwrap_or_default().into() };
        let place = (offset >= 0).then_some(place);
        (TopicPartition::new(&*topic.0, partition), if code.is_none() { Ok(place) } else { Err(code) })
    };
    let mut entries = Vec::new();
    let code = match response.groups.iter().find(|found| &*found.group_id.0 == group) {
        Some(found) => {
            for topic in &found.topics {
                entries.extend(topic.partitions.iter().map(|of| {
                    let (at, epoch) = (of.committed_offset, of.committed_leader_epoch);
                    entry(&topic.name, of.partition_index, at, epoch, of.metadata.as_deref(), of.error_code)
                }));
            }
            found.error_code
        }
        None => {
            for topic in &response.topics {
                entries.extend(topic.partitions.iter().map(|of| {
                    let (at, epoch) = (of.committed_offset, of.committed_leader_epoch);
                    entry(&topic.name, of.partition_index, at, epoch, of.metadata.as_deref(), of.error_code)
                }));
            }
            response.error_code
        }
    };
    match ErrorCode::from(code) {
        ErrorCode::NONE => Ok(entries),
        code => Err(code),
    }
}
