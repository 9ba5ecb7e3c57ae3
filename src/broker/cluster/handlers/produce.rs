//! Produce 3-13: 5 added the log start, 7 zstd, 8 errors by record, 10 leader hints (KIP-951), 13 topic ids.
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::producers::Verdict;
use super::super::{Call, Cluster, Reply};
use super::Handle;
use crate::broker::config::Release;
use crate::protocol::error_code::ErrorCode;
use crate::record::batch::{RawBatch, set_log_append_time};
use crate::record::reader::DecodedBatch;
use crate::record::{BatchError, Compression};

/// What a batch may inflate to.
const MAX_INFLATED: usize = 256 * 1024 * 1024;

/// What a request says of all its batches.
#[derive(Clone, Copy)]
struct Terms {
    acks: i16,
    transactional: bool,
}

/// Where a batch went.
struct Written {
    base_offset: i64,
    append_time: i64,
    log_start: i64,
}

impl Handle for ProduceRequest {
    fn subjects(&self, cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        let mut subjects = Vec::new();
        for topic in &self.topic_data {
            if let Some(name) = cluster.resolve(&topic.name, topic.topic_id) {
                subjects.extend(topic.partition_data.iter().map(|data| (name.clone(), data.index)));
            }
        }
        subjects
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<ProduceResponse> {
        let mut response = ProduceResponse::default().with_throttle_time_ms(call.throttle_ms());
        let mut hints: Vec<i32> = Vec::new();
        let mut failed = false;
        let terms = Terms { acks: self.acks, transactional: self.transactional_id.is_some() };
        for topic in self.topic_data {
            let name = cluster.resolve(&topic.name, topic.topic_id);
            let mut answers = Vec::with_capacity(topic.partition_data.len());
            for data in topic.partition_data {
                let index = data.index;
                let written = match &name {
                    _ if !matches!(self.acks, -1..=1) => Err(ErrorCode::INVALID_REQUIRED_ACKS),
                    Some(name) => write(cluster, call, name, data, terms),
                    None if call.version >= 13 => Err(ErrorCode::UNKNOWN_TOPIC_ID),
                    None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                };
                failed |= written.is_err();
                let mut answer = PartitionProduceResponse::default().with_index(index);
                match written {
                    Ok(written) => {
                        answer.base_offset = written.base_offset;
                        answer.log_append_time_ms = written.append_time;
                        answer.log_start_offset = if call.version >= 5 { written.log_start } else { -1 };
                    }
                    Err(code) => {
                        answer.base_offset = -1;
                        answer.error_code = code.code();
                        if call.version >= 10
                            && code == ErrorCode::NOT_LEADER_OR_FOLLOWER
                            && let Some(name) = &name
                            && let Some(partition) = cluster.topics.partition(name, index)
                            && partition.leader >= 0
                        {
                            hints.push(partition.leader);
                            answer.current_leader = LeaderIdAndEpoch::default()
                                .with_leader_id(partition.leader.into())
                                .with_leader_epoch(partition.leader_epoch);
                        }
                    }
                }
                answers.push(answer);
            }
            response.responses.push(
                TopicProduceResponse::default()
                    .with_name(topic.name)
                    .with_topic_id(topic.topic_id)
                    .with_partition_responses(answers),
            );
        }
        if self.acks == 0 {
            // Without answers a closed connection is the only way to say that something went wrong.
            return if failed { Reply::Close } else { Reply::Nothing };
        }
        response.node_endpoints = endpoints(cluster, hints)
            .map(|(id, host, port, rack)| {
                NodeEndpoint::default().with_node_id(id).with_host(host).with_port(port).with_rack(rack)
            })
            .collect();
        Reply::Now(response)
    }
}

/// Where the nodes are that leader hints speak of.
pub(super) fn endpoints(
    cluster: &Cluster,
    mut ids: Vec<i32>,
) -> impl Iterator<Item = (BrokerId, StrBytes, i32, Option<StrBytes>)> {
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().filter_map(|id| cluster.nodes.get(&id)).map(|node| {
        let rack = node.rack.clone().map(StrBytes::from_string);
        (node.id.into(), StrBytes::from_string(node.host.clone()), i32::from(node.port), rack)
    })
}

fn write(
    cluster: &mut Cluster,
    call: &Call,
    topic: &str,
    data: PartitionProduceData,
    terms: Terms,
) -> Result<Written, ErrorCode> {
    if let Some(code) = call.injected(topic, Some(data.index)) {
        return Err(code);
    }
    let now = cluster.unix_ms(call.now);
    let forgiving = cluster.config.release >= Release::V2_8;
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let settings = cluster.topics.get(topic).ok_or(unknown)?;
    let limit = settings.number("max.message.bytes").and_then(|limit| usize::try_from(limit).ok());
    let limit = limit.unwrap_or(cluster.config.max_message_bytes);
    let min_in_sync = settings.number("min.insync.replicas").and_then(|least| usize::try_from(least).ok());
    let min_in_sync = min_in_sync.unwrap_or(cluster.config.min_insync_replicas);
    let stamps = settings.config.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime");

    let partition = cluster.topics.partition_mut(topic, data.index).ok_or(unknown)?;
    partition.check(call.node, -1, true)?;
    if terms.acks == -1 && partition.in_sync.len() < min_in_sync {
        return Err(ErrorCode::NOT_ENOUGH_REPLICAS);
    }
    let mut batch = checked(data.records.unwrap_or_default(), call.version, limit, terms.transactional)?;
    let append_time = if stamps { now } else { -1 };
    if batch.header.producer_id >= 0
        && let Verdict::Duplicate(base_offset, append_time) =
            partition.log.producers.check(&batch.header, forgiving)?
    {
        return Ok(Written { base_offset, append_time, log_start: partition.log.start() });
    }
    if stamps {
        batch.bytes = set_log_append_time(batch.bytes, now).map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        batch.header.max_timestamp = now;
    }
    let base_offset = partition.log.append(&batch, partition.leader_epoch);
    let log_start = partition.log.start();
    cluster.changed(topic, data.index);
    if let Some(code) = call.injected_after(topic, data.index) {
        return Err(code);
    }
    Ok(Written { base_offset, append_time, log_start })
}

/// The one batch that a producer may send for a partition, if it is as Kafka wants it.
fn checked(records: Bytes, version: i16, limit: usize, in_transaction: bool) -> Result<RawBatch, ErrorCode> {
    let batch = RawBatch::single(&records).map_err(|_| ErrorCode::INVALID_RECORD)?;
    let header = &batch.header;
    if header.magic != 2 {
        return Err(ErrorCode::INVALID_RECORD);
    }
    if batch.bytes.len() > limit {
        return Err(ErrorCode::MESSAGE_TOO_LARGE);
    }
    batch.verify_crc().map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
    match header.compression() {
        Ok(Compression::Zstd) if version < 7 => return Err(ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        Err(BatchError::UnknownCodec(_)) => return Err(ErrorCode::UNKNOWN_SERVER_ERROR),
        _ => {}
    }
    // Without a transactional id nobody may write to a transaction, and there is no coordinator that knows of one.
    if header.is_transactional() {
        return Err(match in_transaction {
            true => ErrorCode::INVALID_TXN_STATE,
            false => ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        });
    }
    // Markers are written by coordinators only.
    if header.is_control() {
        return Err(ErrorCode::INVALID_RECORD);
    }
    let sequenced = header.producer_id < 0 || header.base_sequence >= 0;
    let gaps = i64::from(header.count) != i64::from(header.last_offset_delta) + 1;
    if header.count == 0 || gaps || !sequenced {
        return Err(ErrorCode::INVALID_RECORD);
    }
    match DecodedBatch::decode(&batch, MAX_INFLATED) {
        // Without its codec a batch is taken at its word.
        Ok(_) | Err(BatchError::MissingFeature { .. }) => Ok(batch),
        Err(_) => Err(ErrorCode::INVALID_RECORD),
    }
}
