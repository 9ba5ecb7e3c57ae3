//! The cluster in virtual time: requests as clients encode them, answers decoded in the version asked for.
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request as Message, StrBytes};

use super::{Cluster, ConnectionId, Output};
use crate::broker::config::{Config, Release};
use crate::broker::fault::Faults;
use crate::protocol::request::Request;
use crate::record::batch::Stamp;
use crate::record::builder::BatchBuilder;
use crate::record::{Compression, Record};

mod basics;
mod faults;
mod groups;
mod hostile;
mod log;
mod replication;
mod sessions;
mod versions;

pub(super) struct Rig {
    pub(super) cluster: Cluster,
    pub(super) now: Instant,
    correlation: i32,
}

impl Rig {
    pub(super) fn new(config: Config) -> Self {
        let now = Instant::now();
        Self { cluster: Cluster::new(config, Faults::default(), now, 1_000_000), now, correlation: 0 }
    }

    pub(super) fn nodes(nodes: i32) -> Self {
        Self::new(Config { nodes, ..Config::default() })
    }

    pub(super) fn connect(&mut self, node: i32) -> ConnectionId {
        self.cluster.connect(node).expect("the node is up")
    }

    pub(super) fn send<R: Request + Message>(&mut self, id: ConnectionId, version: i16, request: &R) {
        self.correlation += 1;
        let mut frame = BytesMut::new();
        let header = RequestHeader::default()
            .with_request_api_key(<R as Request>::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.correlation)
            .with_client_id(Some(StrBytes::from_static_str("rig")));
        header.encode(&mut frame, R::header_version(version)).expect("a header");
        request.encode(&mut frame, version).expect("a request");
        self.cluster.handle(self.now, id, frame.freeze());
    }

    pub(super) fn answer<R: Request + Message>(
        &mut self,
        id: ConnectionId,
        version: i16,
    ) -> Option<<R as Message>::Response> {
        let Output::Send(mut frame) = self.cluster.poll_output(id)? else { panic!("closed") };
        assert_eq!(frame.get_i32() as usize, frame.len());
        assert!(frame.get_i32() <= self.correlation);
        if <R as Message>::Response::header_version(version) > 0 {
            assert_eq!(frame.get_u8(), 0);
        }
        let response = <R as Message>::Response::decode(&mut frame, version).expect("a response");
        assert!(frame.is_empty(), "{} bytes behind the response", frame.len());
        Some(response)
    }

    pub(super) fn call<R: Request + Message>(
        &mut self,
        id: ConnectionId,
        version: i16,
        request: &R,
    ) -> <R as Message>::Response {
        self.send(id, version, request);
        self.answer::<R>(id, version).expect("an answer at once")
    }

    pub(super) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.cluster.handle_deadline(self.now);
    }

    pub(super) fn produce(
        &mut self,
        id: ConnectionId,
        topic: &str,
        partition: i32,
        batch: Bytes,
    ) -> (i16, i64) {
        let response = self.call(id, 9, &produce_request(topic, partition, batch));
        let answer = &response.responses[0].partition_responses[0];
        (answer.error_code, answer.base_offset)
    }
}

pub(super) fn name(name: &str) -> TopicName {
    TopicName(StrBytes::from_string(name.to_owned()))
}

pub(super) fn batch_of(values: &[&str], stamp: Stamp) -> Bytes {
    let mut builder = BatchBuilder::new(1024);
    for (value, at) in values.iter().zip(0..) {
        builder.append(1000 + at, &Record::value(*value));
    }
    builder.seal(Compression::None, None, stamp).expect("a batch")
}

pub(super) fn batch(values: &[&str]) -> Bytes {
    batch_of(values, Stamp::NONE)
}

pub(super) fn produce_request(topic: &str, partition: i32, batch: Bytes) -> ProduceRequest {
    let data =
        produce_request::PartitionProduceData::default().with_index(partition).with_records(Some(batch));
    let topic =
        produce_request::TopicProduceData::default().with_name(name(topic)).with_partition_data(vec![data]);
    ProduceRequest::default().with_acks(-1).with_timeout_ms(1000).with_topic_data(vec![topic])
}

/// A fetch without a session, of one partition.
pub(super) fn fetch_request(topic: &str, partition: i32, offset: i64) -> FetchRequest {
    let partition = fetch_request::FetchPartition::default()
        .with_partition(partition)
        .with_current_leader_epoch(-1)
        .with_fetch_offset(offset)
        .with_partition_max_bytes(1 << 20);
    let topic = fetch_request::FetchTopic::default().with_topic(name(topic)).with_partitions(vec![partition]);
    FetchRequest::default()
        .with_replica_id((-1).into())
        .with_max_wait_ms(500)
        .with_min_bytes(1)
        .with_max_bytes(1 << 20)
        .with_session_epoch(-1)
        .with_topics(vec![topic])
}

pub(super) fn put_frame(key: i16, version: i16, rest: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(7);
    frame.put_slice(rest);
    frame.freeze()
}
