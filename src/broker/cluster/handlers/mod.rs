//! One request: its header, whether its API and version are served, its faults, then its handler.
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, HeaderVersion, Request as Message, StrBytes};

use super::{Action, Api, Call, Cluster, ConnectionId, Reply, State};
use crate::protocol::primitives::{Cursor, Malformed};
use crate::protocol::request::Request;
use crate::protocol::shape;

mod admin;
mod api_versions;
mod configs;
mod consumer_groups;
mod coordinator;
pub(super) mod fetch;
mod groups;
mod membership;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod offsets;
pub(super) mod produce;
mod producer_id;

/// An API that the broker serves.
trait Handle: Request + Message {
    /// The topics and partitions it is about, -1 where it names no partition: what faults are matched against.
    fn subjects(&self, _cluster: &Cluster) -> Vec<(Arc<str>, i32)> {
        Vec::new()
    }

    /// The groups it is about.
    fn groups(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn handle(self, cluster: &mut Cluster, call: &Call) -> Reply<<Self as Message>::Response>;
}

macro_rules! served {
    ($($request:ident)*) => {
        /// Lowest version served and header version, by API and version; `None` for an API that is not served.
        fn lowest_and_header(key: i16, version: i16) -> Option<(i16, i16)> {
            match key {
                $(<$request as Request>::KEY =>
                    Some((<$request as Request>::RANGE.0, <$request as HeaderVersion>::header_version(version))),)*
                _ => None,
            }
        }

        /// All APIs served and their versions at most.
        pub(super) const SERVED: &[(i16, i16, i16)] = &[
            $((<$request as Request>::KEY, <$request as Request>::RANGE.0, <$request as Request>::RANGE.1),)*
        ];

        fn dispatch(cluster: &mut Cluster, key: i16, call: Call, body: Bytes) {
            match key {
                $(<$request as Request>::KEY => run::<$request>(cluster, call, body),)*
                _ => cluster.close(call.connection),
            }
        }
    };
}

served! {
    ProduceRequest
    FetchRequest
    ListOffsetsRequest
    MetadataRequest
    OffsetCommitRequest
    OffsetFetchRequest
    FindCoordinatorRequest
    JoinGroupRequest
    HeartbeatRequest
    LeaveGroupRequest
    SyncGroupRequest
    DescribeGroupsRequest
    ListGroupsRequest
    ApiVersionsRequest
    CreateTopicsRequest
    DeleteTopicsRequest
    DeleteRecordsRequest
    InitProducerIdRequest
    OffsetForLeaderEpochRequest
    DescribeConfigsRequest
    CreatePartitionsRequest
    DeleteGroupsRequest
    OffsetDeleteRequest
    DescribeClusterRequest
    ConsumerGroupHeartbeatRequest
    ConsumerGroupDescribeRequest
}

#[cfg(test)]
pub(super) fn is_flexible(key: i16, version: i16) -> bool {
    lowest_and_header(key, version).is_some_and(|(_, header)| header >= 2)
}

struct Head {
    key: i16,
    version: i16,
    correlation: i32,
    client: StrBytes,
    /// Where the body begins.
    body: usize,
}

impl Head {
    fn parse(frame: &[u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(frame);
        let (key, version, correlation) = (cursor.i16()?, cursor.i16()?, cursor.i32()?);
        let Some((_, header_version)) = lowest_and_header(key, version) else {
            return Err(cursor.malformed("an API that is not served"));
        };
        let client = match usize::try_from(cursor.i16()?) {
            Ok(length) => cursor.bytes(length)?,
            Err(_) => &[],
        };
        let client = StrBytes::from_string(String::from_utf8_lossy(client).into_owned());
        if header_version >= 2 {
            for _ in 0..cursor.uvarint()? {
                cursor.uvarint()?;
                let length = cursor.uvarint()? as usize;
                cursor.bytes(length)?;
            }
        }
        Ok(Self { key, version, correlation, client, body: frame.len() - cursor.remaining() })
    }
}

/// Serves one request. What cannot be understood closes the connection, as it does in Kafka.
pub(super) fn serve(cluster: &mut Cluster, now: Instant, node: i32, connection: ConnectionId, frame: Bytes) {
    let Ok(head) = Head::parse(&frame) else { return cluster.close(connection) };
    let mut call = Call {
        now,
        node,
        connection,
        version: head.version,
        client: head.client,
        correlation: head.correlation,
        fault: None,
    };
    let highest = cluster.config.highest(head.key);
    let lowest = lowest_and_header(head.key, head.version).map(|(lowest, _)| lowest);
    match (lowest, highest) {
        (Some(lowest), Some(highest)) if (lowest..=highest).contains(&head.version) => {
            let body = frame.slice(head.body..);
            dispatch(cluster, head.key, call, body);
        }
        (Some(_), Some(highest)) if head.key == <ApiVersionsRequest as Request>::KEY => {
            call.version = 0;
            let response = api_versions::unsupported(highest);
            cluster.answer(&call, &response);
        }
        _ => cluster.close(connection),
    }
}

fn run<R: Handle>(cluster: &mut Cluster, mut call: Call, mut body: Bytes) {
    // The decoder reserves what a count claims, so no count may lie.
    let key = <R as Request>::KEY;
    if shape::check_request(key, call.version, &body).is_err() {
        return cluster.close(call.connection);
    }
    let Ok(request) = <R as Decodable>::decode(&mut body, call.version) else {
        return cluster.close(call.connection);
    };
    *cluster.requests.entry(key).or_default() += 1;
    if !cluster.faults.is_empty() {
        strike(cluster, &mut call, &request);
        match call.fault.as_ref().map(|fault| &fault.action) {
            Some(Action::Cut) => return cluster.close(call.connection),
            Some(Action::Hang) => return cluster.set_state(call.connection, State::Hung),
            Some(Action::StopNode) => {
                cluster.stop_node(call.now, call.node);
                return;
            }
            _ => {}
        }
    }
    match request.handle(cluster, &call) {
        Reply::Now(response) => cluster.answer(&call, &response),
        Reply::Later => {}
        Reply::Nothing => match call.fault.as_ref().map(|fault| &fault.action) {
            Some(Action::CutAfter | Action::CutMidFrame) => cluster.close(call.connection),
            Some(Action::DropAnswer) => cluster.set_state(call.connection, State::Hung),
            _ => {}
        },
        Reply::Close => cluster.close(call.connection),
    }
}

fn strike<R: Handle>(cluster: &mut Cluster, call: &mut Call, request: &R) {
    let subjects = request.subjects(cluster);
    let names = |topic: &str, partition: Option<i32>| {
        let same = |(name, number): &(Arc<str>, i32)| {
            **name == *topic && partition.is_none_or(|only| *number == only || *number == -1)
        };
        subjects.iter().any(same)
    };
    let groups = request.groups();
    let api = Api::new(<R as Request>::KEY);
    call.fault = cluster.faults.strike(&mut cluster.random, call.node, api, names, &groups);
    if let Some(fault) = &call.fault
        && matches!(fault.action, Action::MoveCoordinator)
    {
        for group in groups.iter().filter(|group| fault.only_group().is_none_or(|only| only == *group)) {
            cluster.move_coordinator(call.now, group, None);
        }
    }
    if let Some(fault) = &call.fault
        && matches!(fault.action, Action::MoveLeader)
    {
        for (topic, partition) in &subjects {
            if fault.only_topic().is_none_or(|only| only == topic) {
                cluster.move_leader(call.now, topic, *partition, None);
            }
        }
    }
}
