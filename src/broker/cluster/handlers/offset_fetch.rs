//! OffsetFetch 1-9: 2 added "all partitions" and the error of the whole group, 5 leader epochs, 7 stable offsets, 8 many
//! groups at once, 9 members and their epochs.
use std::sync::Arc;

use kafka_protocol::messages::offset_fetch_request::{OffsetFetchRequestGroup, OffsetFetchRequestTopics};
use kafka_protocol::messages::offset_fetch_response::*;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::group::{Group, Offsets};
use super::super::{Call, Cluster, Reply};
use super::Handle;
use super::membership::named;
use crate::protocol::error_code::ErrorCode;
use crate::topic_partition::TopicPartition;

/// The first version with an error for a whole group, and the first with many groups.
const GROUP_ERRORS: i16 = 2;
const MANY_GROUPS: i16 = 8;

/// What a group has committed for a partition.
fn found(
    offsets: Option<&Offsets>,
    call: &Call,
    stable: bool,
    partition: TopicPartition,
) -> OffsetFetchResponsePartitions {
    let nothing = OffsetFetchResponsePartitions::default()
        .with_partition_index(partition.partition())
        .with_committed_offset(-1)
        .with_committed_leader_epoch(-1)
        .with_metadata(Some(StrBytes::default()));
    let unstable = stable && offsets.is_some_and(|offsets| offsets.is_unstable(&partition));
    let injected = call.injected(partition.topic(), Some(partition.partition()));
    if let Some(code) = injected.or(unstable.then_some(ErrorCode::UNSTABLE_OFFSET_COMMIT)) {
        return nothing.with_error_code(code.code());
    }
    match offsets.and_then(|offsets| offsets.get(&partition)) {
        Some(committed) => nothing
            .with_committed_offset(committed.offset)
            .with_committed_leader_epoch(committed.epoch)
            .with_metadata(Some(committed.metadata.clone())),
        None => nothing,
    }
}

/// The partitions asked for, topic by topic: of a group that has no such list, all that it committed.
fn asked(topics: Option<Vec<OffsetFetchRequestTopics>>, group: Option<&Group>) -> Vec<(TopicName, Vec<i32>)> {
    let Some(topics) = topics else {
        let mut all: Vec<(TopicName, Vec<i32>)> = Vec::new();
        for (partition, _) in group.iter().flat_map(|group| group.offsets.iter()) {
            match all.last_mut().filter(|(topic, _)| topic.as_str() == partition.topic()) {
                Some((_, indexes)) => indexes.push(partition.partition()),
                None => {
                    let topic = TopicName(StrBytes::from_string(partition.topic().to_owned()));
                    all.push((topic, vec![partition.partition()]));
                }
            }
        }
        return all;
    };
    topics.into_iter().map(|topic| (topic.name, topic.partition_indexes)).collect()
}

fn of_group(
    cluster: &Cluster,
    call: &Call,
    asked_for: OffsetFetchRequestGroup,
    stable: bool,
) -> OffsetFetchResponseGroup {
    let response = OffsetFetchResponseGroup::default().with_group_id(asked_for.group_id.clone());
    let group = cluster.groups.get(&asked_for.group_id);
    let checked = cluster.check_coordinator(call, &asked_for.group_id).and_then(|()| match group {
        Some(group) => group.admit_offset_fetch(asked_for.member_id.as_deref(), asked_for.member_epoch),
        None => Ok(()),
    });
    // Without a topic in the fault's condition it is about the group.
    let checked = match call.injected_at_all().filter(|_| !call.names_topic()) {
        Some(code) => Err(code),
        None => checked,
    };
    if let Err(code) = checked {
        return response.with_error_code(code.code());
    }
    let offsets = group.map(|group| &group.offsets);
    let topics = asked(asked_for.topics, group).into_iter().map(|(name, indexes)| {
        let partition = |index| found(offsets, call, stable, TopicPartition::new(name.as_str(), index));
        let partitions = indexes.into_iter().map(partition).collect();
        OffsetFetchResponseTopics::default().with_name(name.clone()).with_partitions(partitions)
    });
    let topics = topics.collect();
    response.with_topics(topics)
}

/// The shape of versions that know one group.
fn of_old(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let old = |partition: OffsetFetchResponsePartitions| {
        OffsetFetchResponsePartition::default()
            .with_partition_index(partition.partition_index)
            .with_committed_offset(partition.committed_offset)
            .with_committed_leader_epoch(partition.committed_leader_epoch)
            .with_metadata(partition.metadata)
            .with_error_code(partition.error_code)
    };
    OffsetFetchResponseTopic::default()
        .with_name(topic.name)
        .with_partitions(topic.partitions.into_iter().map(old).collect())
}

impl Handle for OffsetFetchRequest {
    fn subjects(&self, _cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        let old = self.topics.iter().flatten().map(|topic| (&topic.name, &topic.partition_indexes));
        let groups = self.groups.iter().flat_map(|group| group.topics.iter().flatten());
        let topics = old.chain(groups.map(|topic| (&topic.name, &topic.partition_indexes)));
        topics
            .flat_map(|(name, indexes)| indexes.iter().map(|index| (Arc::from(name.as_str()), *index)))
            .collect()
    }

    fn groups(&self) -> Vec<Arc<str>> {
        let many = self.groups.iter().flat_map(|group| named(&group.group_id));
        many.chain(named(&self.group_id).into_iter().filter(|group| !group.is_empty())).collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<OffsetFetchResponse> {
        let mut response = OffsetFetchResponse::default().with_throttle_time_ms(call.throttle_ms());
        if call.version >= MANY_GROUPS {
            let groups =
                self.groups.into_iter().map(|group| of_group(cluster, call, group, self.require_stable));
            response.groups = groups.collect();
            return Reply::Now(response);
        }
        let topics = self.topics.map(|topics| {
            let topic = |topic: offset_fetch_request::OffsetFetchRequestTopic| {
                OffsetFetchRequestTopics::default()
                    .with_name(topic.name)
                    .with_partition_indexes(topic.partition_indexes)
            };
            topics.into_iter().map(topic).collect::<Vec<_>>()
        });
        let group = OffsetFetchRequestGroup::default()
            .with_group_id(self.group_id)
            .with_member_id(None)
            .with_member_epoch(-1)
            .with_topics(topics.clone());
        let mut found_in = of_group(cluster, call, group, self.require_stable);
        if call.version < GROUP_ERRORS && found_in.error_code != 0 {
            // There is no other place for it.
            let code = found_in.error_code;
            let failed = |topic: OffsetFetchRequestTopics| {
                let partition = |index: &i32| {
                    let partition = TopicPartition::new(topic.name.as_str(), *index);
                    found(None, call, false, partition).with_error_code(code)
                };
                let partitions = topic.partition_indexes.iter().map(partition).collect();
                OffsetFetchResponseTopics::default().with_name(topic.name.clone()).with_partitions(partitions)
            };
            found_in.topics = topics.unwrap_or_default().into_iter().map(failed).collect();
        }
        response.error_code = if call.version >= GROUP_ERRORS { found_in.error_code } else { 0 };
        response.topics = found_in.topics.into_iter().map(of_old).collect();
        Reply::Now(response)
    }
}
