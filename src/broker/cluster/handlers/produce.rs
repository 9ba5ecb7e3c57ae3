//! Produce 3-13: 5 added the log start, 7 zstd, 8 errors by record, 10 leader hints (KIP-951), 13 topic ids.
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;

use super::super::parked::Waiting;
use super::super::producers::Verdict;
use super::super::{Call, Cluster, ConnectionId, Reply, millis};
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
    /// The offset behind it, and the epoch of the leader that appended it.
    end: i64,
    epoch: i32,
    append_time: i64,
    log_start: i64,
}

/// A request whose records are in the leader's log and not yet in those of its followers.
#[derive(Debug)]
pub(in super::super) struct Pending {
    response: ProduceResponse,
    batches: Vec<Unreplicated>,
}

#[derive(Debug)]
struct Unreplicated {
    topic: Arc<str>,
    index: i32,
    epoch: i32,
    end: i64,
    /// Its topic and partition in the response.
    place: (usize, usize),
}

impl Unreplicated {
    /// `None` while it has to wait.
    fn outcome(&self, cluster: &Cluster, node: i32) -> Option<ErrorCode> {
        let Some(partition) = cluster.topics.partition(&self.topic, self.index) else {
            return Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        };
        if partition.leader != node || partition.leader_epoch != self.epoch {
            return Some(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if partition.high_watermark() < self.end {
            return None;
        }
        match partition.in_sync.len() < cluster.min_in_sync(&self.topic) {
            true => Some(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
            false => Some(ErrorCode::NONE),
        }
    }
}

impl Pending {
    pub(in super::super) fn watch(&self, cluster: &mut Cluster, id: ConnectionId) {
        for batch in &self.batches {
            if let Some(partition) = cluster.topics.partition_mut(&batch.topic, batch.index) {
                partition.waiters.insert(id);
            }
        }
    }

    /// The answer, once nothing is left to wait for.
    pub(in super::super) fn look(
        &mut self,
        cluster: &Cluster,
        call: &Call,
        expired: bool,
    ) -> Option<ProduceResponse> {
        let response = &mut self.response;
        self.batches.retain(|batch| {
            let outcome = batch.outcome(cluster, call.node);
            let outcome = outcome.or(expired.then_some(ErrorCode::REQUEST_TIMED_OUT));
            let answer = response.responses.get_mut(batch.place.0);
            if let Some(answer) = answer.and_then(|topic| topic.partition_responses.get_mut(batch.place.1))
                && let Some(code) = outcome
            {
                answer.error_code = code.code();
            }
            outcome.is_none()
        });
        self.batches.is_empty().then(|| std::mem::take(response))
    }
}

impl Cluster {
    /// How many replicas must be in sync for `acks=all`.
    fn min_in_sync(&self, topic: &str) -> usize {
        let own = self.topics.get(topic).and_then(|topic| topic.number("min.insync.replicas"));
        own.and_then(|least| usize::try_from(least).ok()).unwrap_or(self.config.min_insync_replicas)
    }
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
        let mut batches = Vec::new();
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
                        if let (Some(name), -1) = (&name, self.acks) {
                            let place = (response.responses.len(), answers.len());
                            let (end, epoch) = (written.end, written.epoch);
                            batches.push(Unreplicated { topic: name.clone(), index, epoch, end, place });
                        }
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
        let mut pending = Pending { response, batches };
        match pending.look(cluster, call, false) {
            Some(response) => Reply::Now(response),
            None => {
                let until = call.now + millis(self.timeout_ms);
                cluster.park(call.clone(), Waiting::Produce(pending), Some(until));
                Reply::Later
            }
        }
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
    let min_in_sync = cluster.min_in_sync(topic);
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
        let (end, epoch) = (base_offset + i64::from(batch.header.count), partition.leader_epoch);
        return Ok(Written { base_offset, end, epoch, append_time, log_start: partition.log.start() });
    }
    if stamps {
        batch.bytes = set_log_append_time(batch.bytes, now).map_err(|_| ErrorCode::CORRUPT_MESSAGE)?;
        batch.header.max_timestamp = now;
    }
    let base_offset = partition.log.append(&batch, partition.leader_epoch);
    let log_start = partition.log.start();
    let (end, epoch) = (partition.log.end(), partition.leader_epoch);
    cluster.appended(call.now, call.node, topic, data.index);
    if let Some(code) = call.injected_after(topic, data.index) {
        return Err(code);
    }
    Ok(Written { base_offset, end, epoch, append_time, log_start })
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
