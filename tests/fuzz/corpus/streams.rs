//! What goes over a connection: frames of answers, and what a client asks an embedded broker.
use kafka_protocol::messages::*;
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use milena::protocol::Request;

use super::batches;
use crate::random::Random;

/// Streams of frames, behind how much of them comes at a time.
pub fn frames() -> Vec<Vec<u8>> {
    let lengths: [&[usize]; 5] = [&[4], &[4, 5, 300], &[9_000], &[8_188, 8_189, 4], &[100; 12]];
    let stream = |lengths: &[usize]| -> Vec<u8> {
        lengths.iter().flat_map(|len| frame((0..*len).map(|at| (at * 31) as u8).collect())).collect()
    };
    [0, 1, 255]
        .iter()
        .flat_map(|chunk| lengths.map(|lengths| [&[*chunk], &stream(lengths)[..]].concat()))
        .collect()
}

fn frame(body: Vec<u8>) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes()[..], &body].concat()
}

/// Changes the inside of a frame or the order of frames; the lengths in front of them stay right, mostly.
pub fn reframed(random: &mut Random, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut frames = cut(random.pick::<Vec<u8>>(seeds));
    for other in cut(random.pick::<Vec<u8>>(seeds)) {
        if random.once_in(2) {
            frames.push(other);
        }
    }
    let other = random.pick(seeds).clone();
    for frame in &mut frames {
        if random.once_in(2) {
            crate::mutate::mutate(random, frame, &other);
            if !random.once_in(4) {
                batches::repair(frame);
            }
        }
    }
    let mut stream: Vec<u8> = frames.into_iter().flat_map(frame).collect();
    if random.once_in(16) {
        crate::mutate::mutate(random, &mut stream, &[]);
    }
    stream
}

fn cut(mut stream: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((length, rest)) = stream.split_first_chunk() {
        let (frame, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        frames.push(frame.to_vec());
        stream = rest;
    }
    frames
}

/// The frames of a request in each version that can express it.
fn asked<R: Request + Encodable + HeaderVersion>(request: &R) -> Vec<Vec<u8>> {
    let version = |version: i16| {
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(i32::from(version) + 1)
            .with_client_id(Some(text("fuzz")));
        let mut out = Vec::new();
        header.encode(&mut out, R::header_version(version)).unwrap();
        request.encode(&mut out, version).ok().map(|()| frame(out))
    };
    (R::RANGE.0..=R::RANGE.1).filter_map(version).collect()
}

fn text(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn orders() -> TopicName {
    TopicName(text("orders"))
}

/// What a client may ask, request by request and in conversations.
pub fn requests() -> Vec<Vec<u8>> {
    let mut all = [writing(), reading(), administration(), asking()].concat();
    // Written, then read.
    let pairs: Vec<_> =
        writing().into_iter().zip(reading()).map(|(write, read)| [write, read].concat()).collect();
    all.extend(pairs);
    all
}

fn writing() -> Vec<Vec<u8>> {
    use produce_request::{PartitionProduceData, TopicProduceData};
    let mut all = Vec::new();
    for set in batches::sets() {
        let data = PartitionProduceData::default().with_index(1).with_records(Some(set.into()));
        let topic = TopicProduceData::default().with_name(orders()).with_partition_data(vec![data]);
        all.extend(asked(
            &ProduceRequest::default().with_acks(-1).with_timeout_ms(1).with_topic_data(vec![topic]),
        ));
    }
    let id = InitProducerIdRequest::default().with_transaction_timeout_ms(1).with_producer_id((-1).into());
    all.extend(asked(&id.with_producer_epoch(-1)));
    all
}

fn reading() -> Vec<Vec<u8>> {
    use fetch_request::{FetchPartition, FetchTopic};
    let mut all = Vec::new();
    for (session, wait) in [(-1, 0), (0, 500)] {
        let partition = FetchPartition::default().with_partition(1).with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(orders()).with_partitions(vec![partition]);
        let fetch = FetchRequest::default().with_max_wait_ms(wait).with_min_bytes(1).with_max_bytes(1 << 20);
        all.extend(asked(&fetch.with_session_epoch(session).with_topics(vec![topic])));
    }
    for timestamp in [-1, -2, 0] {
        use list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
        let partition = ListOffsetsPartition::default().with_partition_index(1).with_timestamp(timestamp);
        let topic = ListOffsetsTopic::default().with_name(orders()).with_partitions(vec![partition]);
        all.extend(asked(
            &ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]),
        ));
    }
    use offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let partition = OffsetForLeaderPartition::default().with_partition(1).with_leader_epoch(0);
    let topic = OffsetForLeaderTopic::default().with_topic(orders()).with_partitions(vec![partition]);
    all.extend(asked(&OffsetForLeaderEpochRequest::default().with_topics(vec![topic])));
    all
}

fn administration() -> Vec<Vec<u8>> {
    use create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    let config =
        CreatableTopicConfig::default().with_name(text("retention.ms")).with_value(Some(text("1000")));
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![1.into()]);
    let new = |name| CreatableTopic::default().with_name(TopicName(text(name)));
    let topics = vec![
        new("new").with_num_partitions(3).with_replication_factor(1).with_configs(vec![config]),
        new("assigned")
            .with_num_partitions(-1)
            .with_replication_factor(-1)
            .with_assignments(vec![assignment]),
    ];
    let mut all = asked(&CreateTopicsRequest::default().with_timeout_ms(1).with_topics(topics));
    all.extend(asked(&DeleteTopicsRequest::default().with_timeout_ms(1).with_topic_names(vec![orders()])));
    let state = delete_topics_request::DeleteTopicState::default().with_name(Some(orders()));
    all.extend(asked(&DeleteTopicsRequest::default().with_timeout_ms(1).with_topics(vec![state])));
    let topic = create_partitions_request::CreatePartitionsTopic::default().with_name(orders()).with_count(4);
    all.extend(asked(&CreatePartitionsRequest::default().with_timeout_ms(1).with_topics(vec![topic])));
    let partition =
        delete_records_request::DeleteRecordsPartition::default().with_partition_index(1).with_offset(-1);
    let topic = delete_records_request::DeleteRecordsTopic::default()
        .with_name(orders())
        .with_partitions(vec![partition]);
    all.extend(asked(&DeleteRecordsRequest::default().with_timeout_ms(1).with_topics(vec![topic])));
    all
}

fn asking() -> Vec<Vec<u8>> {
    let client = ApiVersionsRequest::default().with_client_software_name(text("milena"));
    let mut all = asked(&client.with_client_software_version(text("0.1.0")));
    all.extend(asked(&ApiVersionsRequest::default()));
    let topic = metadata_request::MetadataRequestTopic::default().with_name(Some(orders()));
    all.extend(asked(
        &MetadataRequest::default().with_topics(Some(vec![topic])).with_allow_auto_topic_creation(true),
    ));
    all.extend(asked(&FindCoordinatorRequest::default().with_key(text("group"))));
    all.extend(asked(&FindCoordinatorRequest::default().with_coordinator_keys(vec![text("group")])));
    for (kind, name) in [(2, "orders"), (4, "1")] {
        let resource = describe_configs_request::DescribeConfigsResource::default();
        let resource =
            resource.with_resource_type(kind).with_resource_name(text(name)).with_configuration_keys(None);
        all.extend(asked(&DescribeConfigsRequest::default().with_resources(vec![resource])));
    }
    all.extend(asked(&DescribeClusterRequest::default()));
    all
}
