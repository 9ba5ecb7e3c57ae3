//! OffsetCommit 2-9 and OffsetDelete 0.
//!
//! OffsetCommit: 6 added leader epochs, 7 the instance id, 9 member epochs in place of the generation.
use std::sync::Arc;

use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::*;

use super::super::group::{Commit, Committed, Group, KNOWS_MEMBER_EPOCHS};
use super::super::{Call, Cluster, Reply};
use super::Handle;
use super::membership::named;
use crate::protocol::error_code::ErrorCode;
use crate::topic_partition::TopicPartition;

type Subjects = Vec<(Arc<str>, i32)>;

/// The partitions that a request names, by topic.
fn subjects<'a>(topics: impl Iterator<Item = (&'a TopicName, impl Iterator<Item = i32>)>) -> Subjects {
    let each = topics.flat_map(|(topic, indexes)| {
        let name: Arc<str> = Arc::from(topic.as_str());
        indexes.map(move |index| (name.clone(), index))
    });
    each.collect()
}

/// What is wrong with a partition as such, before its group is asked.
fn check_partition(cluster: &Cluster, call: &Call, topic: &str, index: i32) -> Result<(), ErrorCode> {
    match call.injected(topic, Some(index)) {
        Some(code) => Err(code),
        None if cluster.topics.partition(topic, index).is_none() => {
            Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
        }
        None => Ok(()),
    }
}

/// Whether the group was asked about a partition. Kafka tells first where it was not.
fn is_asked(code: i16) -> bool {
    code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code()
}

/// Whether the sender may commit; a group that nobody manages is made.
fn admit(
    request: &OffsetCommitRequest,
    commit: &Commit<'_>,
    cluster: &mut Cluster,
    call: &Call,
) -> Result<(), ErrorCode> {
    cluster.check_writable(call, &request.group_id)?;
    if !cluster.groups.by_id.contains_key(request.group_id.as_str()) && commit.generation >= 0 {
        let known = call.version >= KNOWS_MEMBER_EPOCHS;
        return Err(if known { ErrorCode::GROUP_ID_NOT_FOUND } else { ErrorCode::ILLEGAL_GENERATION });
    }
    let mut places = Vec::new();
    for topic in request.topics.iter() {
        let Some(known) = cluster.topics.get(&topic.name) else { continue };
        let indexes = topic.partitions.iter().map(|partition| partition.partition_index);
        let indexes = indexes.filter(|index| cluster.topics.partition(&topic.name, *index).is_some());
        places.extend(indexes.map(|index| (known.id, index)));
    }
    cluster.with_group(call.now, &request.group_id, |group, _| group.admit_commit(call.now, commit, &places))
}

impl Handle for OffsetCommitRequest {
    fn subjects(&self, _cluster: &Cluster) -> Subjects {
        subjects(
            self.topics
                .iter()
                .map(|topic| (&topic.name, topic.partitions.iter().map(|one| one.partition_index))),
        )
    }

    fn groups(&self) -> Vec<Arc<str>> {
        named(&self.group_id)
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<OffsetCommitResponse> {
        let commit = Commit {
            member: &self.member_id,
            instance: self.group_instance_id.as_deref(),
            generation: self.generation_id_or_member_epoch,
            version: call.version,
        };
        let mut admitted = None;
        let mut response = OffsetCommitResponse::default().with_throttle_time_ms(call.throttle_ms());
        for topic in &self.topics {
            let mut answers = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let index = partition.partition_index;
                let metadata = partition.committed_metadata.clone().unwrap_or_default();
                let checked = check_partition(cluster, call, &topic.name, index)
                    .and_then(|()| *admitted.get_or_insert_with(|| admit(&self, &commit, cluster, call)));
                let checked = match checked {
                    // Kafka counts UTF-16 units.
                    Ok(()) if metadata.encode_utf16().count() > cluster.config.offset_metadata_max => {
                        Err(ErrorCode::OFFSET_METADATA_TOO_LARGE)
                    }
                    checked => checked,
                };
                if checked.is_ok()
                    && let Some(group) = cluster.groups.by_id.get_mut(self.group_id.as_str())
                {
                    let committed = Committed {
                        offset: partition.committed_offset,
                        epoch: if call.version >= 6 { partition.committed_leader_epoch } else { -1 },
                        metadata,
                    };
                    group.offsets.commit(TopicPartition::new(topic.name.as_str(), index), committed);
                }
                let code =
                    checked.err().or(call.injected_after(&topic.name, index)).map_or(0, ErrorCode::code);
                let answer = OffsetCommitResponsePartition::default().with_partition_index(index);
                answers.push(answer.with_error_code(code));
            }
            answers.sort_by_key(|answer| is_asked(answer.error_code));
            let topic = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
            response.topics.push(topic.with_partitions(answers));
        }
        Reply::Now(response)
    }
}

impl Handle for OffsetDeleteRequest {
    fn subjects(&self, _cluster: &Cluster) -> Subjects {
        subjects(
            self.topics
                .iter()
                .map(|topic| (&topic.name, topic.partitions.iter().map(|one| one.partition_index))),
        )
    }

    fn groups(&self) -> Vec<Arc<str>> {
        named(&self.group_id)
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<OffsetDeleteResponse> {
        let mut response = OffsetDeleteResponse::default().with_throttle_time_ms(call.throttle_ms());
        let admitted = cluster.check_writable(call, &self.group_id).and_then(|()| {
            let group = cluster.groups.get(&self.group_id).ok_or(ErrorCode::GROUP_ID_NOT_FOUND)?;
            group.admit_offset_delete()
        });
        if let Err(code) = admitted {
            return Reply::Now(response.with_error_code(code.code()));
        }
        for topic in &self.topics {
            let delete = |partition: &offset_delete_request::OffsetDeleteRequestPartition| {
                let index = partition.partition_index;
                let deleted =
                    check_partition(cluster, call, &topic.name, index).and_then(|()| {
                        match cluster.groups.by_id.get_mut(self.group_id.as_str()) {
                            Some(group) if group.is_subscribed(&topic.name) => {
                                Err(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC)
                            }
                            Some(Group { offsets, .. }) => {
                                offsets.delete(&TopicPartition::new(topic.name.as_str(), index));
                                Ok(())
                            }
                            None => Err(ErrorCode::GROUP_ID_NOT_FOUND),
                        }
                    });
                let answer = OffsetDeleteResponsePartition::default().with_partition_index(index);
                answer.with_error_code(deleted.err().map_or(0, ErrorCode::code))
            };
            let mut partitions: Vec<_> = topic.partitions.iter().map(delete).collect();
            partitions.sort_by_key(|answer| is_asked(answer.error_code));
            let topic = OffsetDeleteResponseTopic::default().with_name(topic.name.clone());
            response.topics.push(topic.with_partitions(partitions));
        }
        Reply::Now(response)
    }
}
