//! ConsumerGroupHeartbeat 0-1 and ConsumerGroupDescribe 0-1: the consumer protocol (KIP-848).
//!
//! ConsumerGroupHeartbeat: 1 added patterns, and has the client make up the member's id. ConsumerGroupDescribe: 1 added the
//! kind of a member.
use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::consumer_group_describe_response as described;
use kafka_protocol::messages::consumer_group_heartbeat_response as heartbeat;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::super::group::{Beat, Consumer, ConsumerMember, Group, Members, Place, ServerAssignor};
use super::super::{Call, Cluster, Reply, Topics, new_uuid};
use super::Handle;
use super::groups::{CLIENT_HOST, GROUP_OPERATIONS};
use super::membership::named;
use crate::protocol::error_code::ErrorCode;

/// The first version of the heartbeat with patterns, and with ids that clients make up.
const CLIENT_IDS: i16 = 1;

/// Partitions by topic.
fn by_topic<'a>(places: impl IntoIterator<Item = &'a Place>) -> BTreeMap<Uuid, Vec<i32>> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (topic, index) in places {
        topics.entry(*topic).or_default().push(*index);
    }
    topics
}

/// What a heartbeat must not say, whoever sends it.
fn check(request: &ConsumerGroupHeartbeatRequest, version: i16) -> Result<(), ErrorCode> {
    let is_empty = |text: &Option<StrBytes>| text.as_ref().is_some_and(|text| text.is_empty());
    let subscribes = request.subscribed_topic_names.as_ref().is_some_and(|names| !names.is_empty())
        || request.subscribed_topic_regex.as_ref().is_some_and(|pattern| !pattern.is_empty());
    let owns_nothing = request.topic_partitions.as_ref().is_some_and(Vec::is_empty);
    let wrong = request.group_id.is_empty()
        || is_empty(&request.instance_id)
        || is_empty(&request.rack_id)
        || request.member_id.is_empty() && (version >= CLIENT_IDS || request.member_epoch != 0)
        || match request.member_epoch {
            0 => request.rebalance_timeout_ms == -1 || !owns_nothing || !subscribes,
            -2 => request.instance_id.is_none(),
            epoch => epoch < -2,
        };
    match &request.server_assignor {
        _ if wrong => Err(ErrorCode::INVALID_REQUEST),
        Some(name) if !ServerAssignor::is_known(name) => Err(ErrorCode::UNSUPPORTED_ASSIGNOR),
        _ => Ok(()),
    }
}

fn beat(
    cluster: &mut Cluster,
    call: &Call,
    request: &ConsumerGroupHeartbeatRequest,
) -> Result<Beat, ErrorCode> {
    let id = request.group_id.as_str();
    let joins = request.member_epoch == 0;
    let terms = cluster.consumer_terms();
    let group = cluster.groups.by_id.get_mut(id);
    // An empty group takes on the protocol of whoever comes, and keeps its offsets.
    let mut made = None;
    let consumers = match group.map(|group| (group.is_empty(), group.consumer_mut())) {
        Some((_, Some(consumers))) => consumers,
        Some((false, None)) => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
        _ if !joins => return Err(ErrorCode::GROUP_ID_NOT_FOUND),
        Some((true, None)) | None => made.insert(Consumer::default()),
    };
    let before = consumers.clone();
    let beat = consumers.heartbeat(call.now, request, &call.client, terms, &cluster.topics)?;
    if cluster.groups.cut_off && consumers.epochs() != before.epochs() {
        // It can write nothing down; what needs nothing written goes on from memory.
        *consumers = before;
        return Err(ErrorCode::COORDINATOR_NOT_AVAILABLE);
    }
    if let Some(made) = made {
        let group = cluster.groups.by_id.entry(Arc::from(id)).or_insert_with(Group::new);
        group.members = Members::Consumer(made);
    }
    cluster.arm_group(&Arc::from(id));
    Ok(beat)
}

impl Handle for ConsumerGroupHeartbeatRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        named(&self.group_id)
    }

    fn handle(mut self, cluster: &mut Cluster, call: &Call) -> Reply<ConsumerGroupHeartbeatResponse> {
        let response = ConsumerGroupHeartbeatResponse::default()
            .with_throttle_time_ms(call.throttle_ms())
            .with_error_message(None)
            .with_member_id(None);
        let checked = call.injected_at_all().map_or_else(|| check(&self, call.version), Err);
        let checked = checked.and_then(|()| cluster.check_coordinator(call, &self.group_id));
        if checked.is_ok() && self.member_id.is_empty() {
            self.member_id = StrBytes::from_string(new_uuid(&mut cluster.random).to_string());
        }
        Reply::Now(match checked.and_then(|()| beat(cluster, call, &self)) {
            Err(code) => response
                .with_error_code(code.code())
                .with_error_message(Some(StrBytes::from_static_str(code.name()))),
            Ok(beat) => {
                let interval = cluster.config.consumer_heartbeat_interval.as_millis();
                let assigned = beat.assignment.map(|places| {
                    let topics = by_topic(&places).into_iter().map(|(topic, partitions)| {
                        heartbeat::TopicPartitions::default().with_topic_id(topic).with_partitions(partitions)
                    });
                    heartbeat::Assignment::default().with_topic_partitions(topics.collect())
                });
                // Who leaves is not told when to come again.
                let interval = if beat.epoch < 0 { 0 } else { i32::try_from(interval).unwrap_or(i32::MAX) };
                response
                    .with_member_id(Some(beat.member))
                    .with_member_epoch(beat.epoch)
                    .with_heartbeat_interval_ms(interval)
                    .with_assignment(assigned)
            }
        })
    }
}

fn describe_places<'a>(
    topics: &Topics,
    places: impl IntoIterator<Item = &'a Place>,
) -> described::Assignment {
    let told = by_topic(places).into_iter().filter_map(|(id, partitions)| {
        let name = TopicName(StrBytes::from_string(topics.name(id)?.to_string()));
        let topic = described::TopicPartitions::default().with_topic_id(id).with_topic_name(name);
        Some(topic.with_partitions(partitions))
    });
    described::Assignment::default().with_topic_partitions(told.collect())
}

fn describe_member(topics: &Topics, member: &ConsumerMember, version: i16) -> described::Member {
    described::Member::default()
        .with_member_id(member.id.clone())
        .with_instance_id(member.instance.clone())
        .with_rack_id(member.rack.clone())
        .with_member_epoch(member.epoch)
        .with_client_id(member.client.clone())
        .with_client_host(StrBytes::from_static_str(CLIENT_HOST))
        .with_subscribed_topic_names(member.topics.iter().cloned().map(TopicName).collect())
        .with_subscribed_topic_regex(Some(member.pattern.clone()))
        .with_assignment(describe_places(topics, member.assigned.keys()))
        .with_target_assignment(describe_places(topics, &member.target))
        .with_member_type(if version >= 1 { 1 } else { -1 })
}

impl Handle for ConsumerGroupDescribeRequest {
    fn groups(&self) -> Vec<Arc<str>> {
        self.group_ids.iter().flat_map(named).collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<ConsumerGroupDescribeResponse> {
        let describe = |id: GroupId| {
            let found =
                described::DescribedGroup::default().with_group_id(id.clone()).with_error_message(None);
            let checked = match call.injected_at_all() {
                Some(code) => Err(code),
                None if id.is_empty() => Err(ErrorCode::INVALID_GROUP_ID),
                None => cluster.check_coordinator(call, &id),
            };
            let group = checked.and_then(|()| {
                let group = cluster.groups.get(&id).and_then(Group::consumer);
                group.ok_or(ErrorCode::GROUP_ID_NOT_FOUND)
            });
            let group = match group {
                Ok(group) => group,
                Err(code) => {
                    let message = StrBytes::from_static_str(code.name());
                    return found.with_error_code(code.code()).with_error_message(Some(message));
                }
            };
            let member = |member: &ConsumerMember| describe_member(&cluster.topics, member, call.version);
            found
                .with_group_state(StrBytes::from_static_str(group.state()))
                .with_group_epoch(group.epoch)
                .with_assignment_epoch(group.target_epoch)
                .with_assignor_name(StrBytes::from_static_str(group.assignor().name()))
                .with_members(group.members.iter().map(member).collect())
                .with_authorized_operations(match self.include_authorized_operations {
                    true => GROUP_OPERATIONS,
                    false => i32::MIN,
                })
        };
        let groups = self.group_ids.into_iter().map(describe).collect();
        let response = ConsumerGroupDescribeResponse::default().with_throttle_time_ms(call.throttle_ms());
        Reply::Now(response.with_groups(groups))
    }
}
