//! Fetch 4-18: 5 added the log start, 7 sessions, 9 leader epochs, 10 zstd, 11 racks and preferred replicas, 12 the last
//! fetched epoch, 13 topic ids, 15 moved the replica's id, 16 added leader hints (KIP-951).
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use rand::RngExt as _;

use super::super::fetch_session::{self, Context, Wanted};
use super::super::parked::Waiting;
use super::super::{Call, Cluster, ConnectionId, Reply, millis};
use super::Handle;
use crate::protocol::error_code::ErrorCode;

#[derive(Debug)]
pub(in super::super) struct Plan {
    context: Context,
    wanted: Vec<Wanted>,
    committed: bool,
    min_bytes: usize,
    max_bytes: usize,
    rack: String,
}

/// What is there to be read now.
struct Found {
    answers: Vec<(Wanted, PartitionData)>,
    /// Whether it goes out without waiting for more.
    at_once: bool,
}

impl Handle for FetchRequest {
    fn subjects(&self, cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        // An incremental request is about all partitions of its session.
        let session = cluster.nodes.values().filter(|_| self.session_epoch > 0);
        let mut subjects: Vec<_> = session
            .filter_map(|node| node.sessions.get(&self.session_id))
            .flat_map(|session| session.subjects())
            .collect();
        subjects.extend(fetch_session::wanted(self));
        subjects
            .into_iter()
            .filter_map(|wanted| Some((cluster.resolve_wanted(&wanted)?, wanted.index)))
            .collect()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<FetchResponse> {
        let failed = |code: ErrorCode| {
            let mut response = FetchResponse::default().with_throttle_time_ms(call.throttle_ms());
            response.error_code = if call.version >= 7 { code.code() } else { 0 };
            Reply::Now(response)
        };
        if let Some(code) = call.injected_at_all()
            && is_of_session(code)
        {
            return failed(code);
        }
        let Some(node) = cluster.nodes.get_mut(&call.node) else { return Reply::Close };
        let (context, wanted) = match fetch_session::open(node, &self, call.version >= 13) {
            Ok(opened) => opened,
            Err(code) => return failed(code),
        };
        let plan = Plan {
            context,
            wanted,
            committed: self.isolation_level == 1,
            min_bytes: usize::try_from(self.min_bytes.min(self.max_bytes)).unwrap_or(0),
            max_bytes: usize::try_from(self.max_bytes).unwrap_or(0),
            rack: self.rack_id.to_string(),
        };
        let found = read(cluster, call, &plan);
        if found.at_once || self.max_wait_ms <= 0 || plan.wanted.is_empty() {
            return Reply::Now(respond(cluster, call, plan.context, found));
        }
        cluster.park(call.clone(), Waiting::Fetch(plan), Some(call.now + millis(self.max_wait_ms)));
        Reply::Later
    }
}

/// Errors that concern a whole fetch.
fn is_of_session(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
    )
}

/// Has the connection woken when one of its partitions changes.
pub(in super::super) fn watch(cluster: &mut Cluster, id: ConnectionId, plan: &Plan) {
    for wanted in &plan.wanted {
        if let Some(topic) = cluster.resolve_wanted(wanted)
            && let Some(partition) = cluster.topics.partition_mut(&topic, wanted.index)
        {
            partition.waiters.insert(id);
        }
    }
}

/// The answer to a fetch that was parked, if it is to wait no longer.
pub(in super::super) fn look(
    cluster: &mut Cluster,
    call: &Call,
    plan: &Plan,
    expired: bool,
) -> Option<FetchResponse> {
    let found = read(cluster, call, plan);
    (found.at_once || expired).then(|| respond(cluster, call, plan.context, found))
}

impl Cluster {
    pub(crate) fn resolve_wanted(&self, wanted: &Wanted) -> Option<Arc<str>> {
        if wanted.id.is_nil() { Some(wanted.topic.clone()) } else { self.topics.name(wanted.id).cloned() }
    }
}

fn read(cluster: &Cluster, call: &Call, plan: &Plan) -> Found {
    let mut found = Found { answers: Vec::with_capacity(plan.wanted.len()), at_once: false };
    let mut size = 0;
    for wanted in &plan.wanted {
        let mut data = PartitionData::default().with_partition_index(wanted.index);
        // The first records of an answer are never held back, however large their batch is.
        let room = (plan.max_bytes.saturating_sub(size), size == 0);
        if let Err(code) = read_partition(cluster, call, plan, wanted, room, &mut data) {
            data.error_code = code.code();
            data.high_watermark = -1;
            data.log_start_offset = -1;
            data.last_stable_offset = -1;
        }
        size += data.records.as_ref().map_or(0, Bytes::len);
        found.at_once |=
            data.error_code != 0 || data.diverging_epoch.epoch >= 0 || data.preferred_read_replica.0 >= 0;
        found.answers.push((wanted.clone(), data));
    }
    found.at_once |= size >= plan.min_bytes;
    found
}

fn read_partition(
    cluster: &Cluster,
    call: &Call,
    plan: &Plan,
    wanted: &Wanted,
    (room, at_least_one): (usize, bool),
    data: &mut PartitionData,
) -> Result<(), ErrorCode> {
    let topic = cluster.resolve_wanted(wanted).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
    if let Some(code) = call.injected(&topic, Some(wanted.index))
        && !is_of_session(code)
    {
        return Err(code);
    }
    let partition =
        cluster.topics.partition(&topic, wanted.index).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    // Kafka says null here, but an empty list for a partition that it does not find.
    data.aborted_transactions = plan.committed.then(Vec::new);
    partition.check(call.node, wanted.leader_epoch, call.version < 11).inspect_err(|code| {
        let moved = matches!(*code, ErrorCode::NOT_LEADER_OR_FOLLOWER | ErrorCode::FENCED_LEADER_EPOCH);
        if moved && call.version >= 16 && partition.leader >= 0 {
            data.current_leader = LeaderIdAndEpoch::default()
                .with_leader_id(partition.leader.into())
                .with_leader_epoch(partition.leader_epoch);
        }
    })?;
    let log = &partition.log;
    data.high_watermark = partition.high_watermark();
    data.last_stable_offset = partition.last_stable();
    data.log_start_offset = if call.version >= 5 { log.start() } else { -1 };
    if call.version >= 12 && wanted.last_fetched_epoch >= 0 {
        let (epoch, end) = log.end_of_epoch(wanted.last_fetched_epoch, partition.leader_epoch);
        if epoch < 0 || end < 0 || wanted.offset < log.start() {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if epoch < wanted.last_fetched_epoch || end < wanted.offset {
            data.diverging_epoch = EpochEndOffset::default().with_epoch(epoch).with_end_offset(end);
            return Ok(());
        }
    }
    if !(log.start()..=log.end()).contains(&wanted.offset) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    if let Some(nearest) = nearest(cluster, call, plan, &partition.in_sync, partition.leader) {
        data.preferred_read_replica = nearest.into();
        return Ok(());
    }
    let end = if plan.committed { partition.last_stable() } else { partition.high_watermark() };
    let limit = room.min(wanted.max_bytes);
    let records = log.read(wanted.offset, end, limit, at_least_one, cluster.config.partial_batches);
    if plan.committed && !records.is_empty() {
        let aborted = log.aborted(wanted.offset, end).map(|aborted| {
            AbortedTransaction::default()
                .with_producer_id(aborted.producer_id.into())
                .with_first_offset(aborted.first)
        });
        data.aborted_transactions = Some(aborted.collect());
    }
    data.records = Some(records);
    Ok(())
}

/// The replica in the reader's rack, if the leader is asked and is not in it (KIP-392).
fn nearest(cluster: &Cluster, call: &Call, plan: &Plan, in_sync: &[i32], leader: i32) -> Option<i32> {
    if !cluster.config.read_nearest_replica
        || call.version < 11
        || plan.rack.is_empty()
        || leader != call.node
    {
        return None;
    }
    let in_rack = |id: &i32| {
        cluster.nodes.get(id).is_some_and(|node| node.up && node.rack.as_ref() == Some(&plan.rack))
    };
    if in_rack(&leader) {
        return None;
    }
    in_sync.iter().copied().find(in_rack)
}

fn respond(cluster: &mut Cluster, call: &Call, context: Context, found: Found) -> FetchResponse {
    let mut answers = found.answers;
    let mut response = FetchResponse::default().with_throttle_time_ms(call.throttle_ms());
    let limit = cluster.config.fetch_sessions;
    if let Some(node) = cluster.nodes.get_mut(&call.node)
        && call.version >= 7
    {
        match context {
            Context::Alone => {}
            Context::Full => {
                let id = loop {
                    let id = cluster.random.random_range(1..=i32::MAX);
                    if !node.sessions.contains_key(&id) {
                        break id;
                    }
                };
                if fetch_session::keep(node, id, call.version >= 13, limit, &answers) {
                    response.session_id = id;
                }
            }
            Context::Incremental(id) => {
                fetch_session::reduce(node, id, &mut answers);
                response.session_id = id;
            }
        }
    }
    let mut hints = Vec::new();
    for (wanted, data) in answers {
        if data.current_leader.leader_id.0 >= 0 {
            hints.push(data.current_leader.leader_id.0);
        }
        match response.responses.last_mut() {
            Some(topic) if *topic.topic.0 == *wanted.topic && topic.topic_id == wanted.id => {
                topic.partitions.push(data);
            }
            _ => response.responses.push(
                FetchableTopicResponse::default()
                    .with_topic(TopicName(StrBytes::from_string(wanted.topic.to_string())))
                    .with_topic_id(wanted.id)
                    .with_partitions(vec![data]),
            ),
        }
    }
    response.node_endpoints = super::produce::endpoints(cluster, hints)
        .map(|(id, host, port, rack)| {
            NodeEndpoint::default().with_node_id(id).with_host(host).with_port(port).with_rack(rack)
        })
        .collect();
    response
}
