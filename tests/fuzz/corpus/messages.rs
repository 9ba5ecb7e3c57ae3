//! Every message of every API in every version, empty and filled, and those that are read by hand with batches in them.
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchResponse, TopicName};
use kafka_protocol::protocol::{Encodable, StrBytes};
use uuid::Uuid;

use crate::protocol::request::response_header_version;
use crate::protocol::shape::check_request;
use crate::protocol::shape::tests::{Filling, every};

use super::batches;

/// (API key, version, whether it is a request, body).
fn bodies() -> Vec<(i16, i16, bool, Vec<u8>)> {
    let mut all = Vec::new();
    for (key, version, check, codec, shape) in every() {
        let mut bodies: Vec<Vec<u8>> = (codec.default)(version).into_iter().collect();
        for (count, known, unknown) in [(1, true, None), (2, false, Some("new")), (3, true, Some("new"))] {
            let unknown = unknown.map(str::as_bytes);
            bodies.push(Filling { elements: &|_, _| count, text: b"text", known, unknown }.write(shape));
        }
        // Both directions have the same type; only one check takes a body for its own.
        let request = std::ptr::fn_addr_eq(check, check_request as crate::protocol::shape::tests::Check);
        all.extend(bodies.into_iter().map(|body| (key, version, request, body)));
    }
    all
}

/// The frame of an answer without its length: correlation id, perhaps tagged fields, body.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let tags: &[u8] = if response_header_version(key, version) > 0 { &[0] } else { &[] };
    [&7i32.to_be_bytes()[..], tags, body].concat()
}

fn prefixed(numbers: &[i16], rest: &[u8]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_be_bytes()).chain(rest.iter().copied()).collect()
}

pub fn responses() -> Vec<Vec<u8>> {
    let answers = bodies().into_iter().filter(|(_, _, request, _)| !request);
    answers.map(|(key, version, _, body)| prefixed(&[key, version], &frame(key, version, &body))).collect()
}

pub fn requests() -> Vec<Vec<u8>> {
    let requests = bodies().into_iter().filter(|(_, _, request, _)| *request);
    requests.map(|(key, version, _, body)| prefixed(&[key, version], &body)).collect()
}

/// The bodies of one API's answers behind their version.
fn answers(wanted: i16) -> Vec<Vec<u8>> {
    let answers = bodies().into_iter().filter(|(key, _, request, _)| *key == wanted && !request);
    answers.map(|(_, version, _, body)| prefixed(&[version], &body)).collect()
}

pub fn metadata() -> Vec<Vec<u8>> {
    // Believable: a node with a port, and partitions that count from 0.
    use kafka_protocol::messages::metadata_response::*;
    let mut all = answers(3);
    for version in 0..=13 {
        let partition = |index: i32| {
            MetadataResponsePartition::default()
                .with_partition_index(index)
                .with_leader_id(1.into())
                .with_replica_nodes(vec![1.into(), 2.into()])
                .with_isr_nodes(vec![1.into()])
        };
        let topic = |name: &'static str| {
            MetadataResponseTopic::default()
                .with_name(Some(TopicName(StrBytes::from_static_str(name))))
                .with_partitions((0..3).map(partition).collect())
        };
        let node = MetadataResponseBroker::default()
            .with_node_id(1.into())
            .with_host(StrBytes::from_static_str("node"))
            .with_port(9092);
        let response = kafka_protocol::messages::MetadataResponse::default()
            .with_brokers(vec![node])
            .with_topics(vec![topic("orders"), topic("prices")]);
        let mut out = Vec::new();
        response.encode(&mut out, version).unwrap();
        all.push(prefixed(&[version], &out));
    }
    all
}

pub fn produce() -> Vec<Vec<u8>> {
    answers(0)
}

pub fn api_versions() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = Vec::new();
    for answer in answers(18) {
        let version = answer[1];
        all.push([&[version], &frame(18, i16::from(version), &answer[2..])[..]].concat());
        // In no error, and in that of a node that does not know the version.
        for code in [0, 35] {
            let mut answer = all.last().unwrap().clone();
            answer[5..7].copy_from_slice(&[0, code]);
            all.push(answer);
        }
    }
    all
}

/// Fetch answers with record sets of all kinds.
pub fn fetch() -> Vec<Vec<u8>> {
    let mut all = answers(1);
    let sets: Vec<Vec<u8>> = batches::sets().into_iter().chain(batches::message_sets()).collect();
    for (version, sets) in (4..=18).zip(sets.chunks(3).cycle()) {
        let partition = |(set, index): (&Vec<u8>, i32)| {
            let aborted = AbortedTransaction::default().with_producer_id(4242.into()).with_first_offset(0);
            PartitionData::default()
                .with_partition_index(index)
                .with_high_watermark(100)
                .with_aborted_transactions(Some(vec![aborted]))
                .with_records(Some(set.clone().into()))
        };
        let mut topic =
            FetchableTopicResponse::default().with_partitions(sets.iter().zip(0..).map(partition).collect());
        topic = match version {
            ..13 => topic.with_topic(TopicName(StrBytes::from_static_str("orders"))),
            _ => topic.with_topic_id(Uuid::from_u128(7)),
        };
        let mut out = Vec::new();
        FetchResponse::default().with_responses(vec![topic]).encode(&mut out, version).unwrap();
        all.push(prefixed(&[version], &out));
    }
    all
}
