//! ListOffsets 1-10, OffsetForLeaderEpoch 2-4, DeleteRecords 0-2.
//!
//! ListOffsets: 2 added isolation, 4 leader epochs, 7 the largest timestamp (-3), 8 the local start (-4), 9 the last
//! tiered offset (-5), 10 a time limit.
use std::sync::Arc;

use kafka_protocol::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use kafka_protocol::messages::*;

use super::super::log::Stored;
use super::super::{Call, Cluster, Log, Reply};
use super::Handle;
use crate::protocol::error_code::ErrorCode;
use crate::record::batch::{BatchHeader, RawBatch};
use crate::record::reader::DecodedBatch;

/// What a batch may inflate to when a timestamp is looked for in it.
const MAX_INFLATED: usize = 256 * 1024 * 1024;

/// The partitions of one topic, as faults name them.
fn named(topic: &str, partitions: impl Iterator<Item = i32>) -> impl Iterator<Item = (Arc<str>, i32)> {
    let name: Arc<str> = Arc::from(topic);
    partitions.map(move |partition| (name.clone(), partition))
}

impl Handle for ListOffsetsRequest {
    fn subjects(&self, _cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        let topics = self.topics.iter();
        topics
            .flat_map(|topic| named(&topic.name, topic.partitions.iter().map(|asked| asked.partition_index)))
            .collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<ListOffsetsResponse> {
        let mut response = ListOffsetsResponse::default().with_throttle_time_ms(call.throttle_ms());
        for topic in self.topics {
            let mut answers = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let mut answer =
                    ListOffsetsPartitionResponse::default().with_partition_index(asked.partition_index);
                answer.offset = -1;
                answer.timestamp = -1;
                match find(cluster, call, &topic.name, asked, self.isolation_level == 1) {
                    Ok((offset, timestamp, epoch)) => {
                        answer.offset = offset;
                        answer.timestamp = timestamp;
                        answer.leader_epoch = if call.version >= 4 { epoch } else { -1 };
                    }
                    Err(code) => answer.error_code = code.code(),
                }
                answers.push(answer);
            }
            response
                .topics
                .push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(answers));
        }
        Reply::Now(response)
    }
}

/// Offset, timestamp and leader epoch; -1 thrice if there is no such record.
fn find(
    cluster: &Cluster,
    call: &Call,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed: bool,
) -> Result<(i64, i64, i32), ErrorCode> {
    if let Some(code) = call.injected(topic, Some(asked.partition_index)) {
        return Err(code);
    }
    let partition = cluster
        .topics
        .partition(topic, asked.partition_index)
        .ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    partition.check(call.node, asked.current_leader_epoch, true)?;
    let log = &partition.log;
    let end = if committed { partition.last_stable() } else { partition.high_watermark() };
    let found = match asked.timestamp {
        -1 => (end, -1, partition.leader_epoch),
        -2 => (log.start(), -1, epoch_at(log, log.start())),
        -4 if call.version >= 8 => (log.start(), -1, epoch_at(log, log.start())),
        -3 if call.version >= 7 => match log.latest() {
            Some(batch) => in_batch(log, batch, batch.max_timestamp)?.unwrap_or((-1, -1, -1)),
            None => (-1, -1, -1),
        },
        -5 if call.version >= 9 => (-1, -1, -1),
        timestamp if timestamp < 0 => return Err(ErrorCode::UNSUPPORTED_VERSION),
        timestamp => {
            let mut found = (-1, -1, -1);
            for batch in log.not_before(timestamp) {
                if let Some(place) = in_batch(log, batch, timestamp)? {
                    found = place;
                    break;
                }
            }
            if found.0 >= end { (-1, -1, -1) } else { found }
        }
    };
    Ok(found)
}

fn epoch_at(log: &Log, offset: i64) -> i32 {
    log.epoch_at(offset).unwrap_or(-1)
}

/// The first record of a batch that is not older than `timestamp`.
fn in_batch(log: &Log, stored: &Stored, timestamp: i64) -> Result<Option<(i64, i64, i32)>, ErrorCode> {
    let header = BatchHeader::parse(&stored.bytes).map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
    let raw = RawBatch { header, bytes: stored.bytes.clone() };
    let batch = DecodedBatch::decode(&raw, MAX_INFLATED).map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
    let first =
        batch.records().find(|record| record.timestamp() >= timestamp && record.offset() >= log.start());
    Ok(first.map(|record| (record.offset(), record.timestamp(), epoch_at(log, record.offset()))))
}

impl Handle for OffsetForLeaderEpochRequest {
    fn subjects(&self, _cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        let topics = self.topics.iter();
        topics
            .flat_map(|topic| named(&topic.topic, topic.partitions.iter().map(|asked| asked.partition)))
            .collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<OffsetForLeaderEpochResponse> {
        let mut response = OffsetForLeaderEpochResponse::default().with_throttle_time_ms(call.throttle_ms());
        for topic in self.topics {
            let mut answers = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let ended = match (
                    call.injected(&topic.topic, Some(asked.partition)),
                    cluster.topics.partition(&topic.topic, asked.partition),
                ) {
                    (Some(code), _) => Err(code),
                    (None, None) => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    (None, Some(partition)) => partition
                        .check(call.node, asked.current_leader_epoch, true)
                        .map(|()| partition.log.end_of_epoch(asked.leader_epoch, partition.leader_epoch)),
                };
                let answer = EpochEndOffset::default().with_partition(asked.partition);
                answers.push(match ended {
                    Ok((epoch, end)) => answer.with_leader_epoch(epoch).with_end_offset(end),
                    Err(code) => answer.with_error_code(code.code()),
                });
            }
            response
                .topics
                .push(OffsetForLeaderTopicResult::default().with_topic(topic.topic).with_partitions(answers));
        }
        Reply::Now(response)
    }
}

impl Handle for DeleteRecordsRequest {
    fn subjects(&self, _cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        let topics = self.topics.iter();
        topics
            .flat_map(|topic| named(&topic.name, topic.partitions.iter().map(|asked| asked.partition_index)))
            .collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<DeleteRecordsResponse> {
        let mut response = DeleteRecordsResponse::default().with_throttle_time_ms(call.throttle_ms());
        for topic in self.topics {
            let mut answers = Vec::with_capacity(topic.partitions.len());
            for asked in &topic.partitions {
                let index = asked.partition_index;
                let answer = DeleteRecordsPartitionResult::default().with_partition_index(index);
                let deleted = match call.injected(&topic.name, Some(index)) {
                    Some(code) => Err(code),
                    None => delete(cluster, call, &topic.name, index, asked.offset),
                };
                answers.push(match deleted {
                    Ok(start) => answer.with_low_watermark(start),
                    Err(code) => answer.with_low_watermark(-1).with_error_code(code.code()),
                });
            }
            response
                .topics
                .push(DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(answers));
        }
        Reply::Now(response)
    }
}

fn delete(
    cluster: &mut Cluster,
    call: &Call,
    topic: &str,
    index: i32,
    offset: i64,
) -> Result<i64, ErrorCode> {
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let partition = cluster.topics.partition_mut(topic, index).ok_or(unknown)?;
    partition.check(call.node, -1, true)?;
    let readable = partition.high_watermark();
    let offset = if offset == -1 { readable } else { offset };
    if !(0..=readable).contains(&offset) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    partition.log.delete_before(offset);
    let start = partition.log.start();
    cluster.changed(topic, index);
    Ok(start)
}
