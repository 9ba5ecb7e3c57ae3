use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::fetch_response as wire;
use kafka_protocol::messages::{BrokerId, FetchResponse as WireResponse, ProducerId};
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::prelude::*;

use super::response::Aborted;
use super::*;

fn plan() -> FetchPlan {
    let name = |topic: &str, partition| PartitionName {
        topic: topic.into(),
        topic_id: Uuid::from_u128(topic.len() as u128),
        partition,
    };
    let planned = |topic: &str, partition| PlannedPartition {
        name: name(topic, partition),
        offset: 42,
        leader_epoch: 3,
        last_fetched_epoch: 2,
        max_bytes: 1 << 20,
    };
    FetchPlan {
        max_wait: Duration::from_millis(500),
        min_bytes: 1,
        max_bytes: 50 << 20,
        read_committed: true,
        session_id: 77,
        session_epoch: 5,
        rack: "r1".into(),
        partitions: vec![planned("orders", 0), planned("orders", 2), planned("bills", 1)],
        forgotten: vec![name("orders", 1), name("orders", 3)],
        by_id: true,
    }
}

#[test]
fn a_plan_can_be_encoded_in_every_version() {
    for version in 4..=18 {
        let request = plan().request(version);
        let mut bytes = BytesMut::new();
        request.encode(&mut bytes, version).unwrap();
        assert_eq!(request.topics.len(), 2);
        assert_eq!(request.topics[0].partitions.len(), 2);
        assert_eq!(request.topics[0].topic.0.is_empty(), version > LAST_VERSION_BY_NAME);
        assert_eq!(request.forgotten_topics_data.len(), usize::from(version >= 7));
        assert_eq!(request.session_epoch, if version >= 7 { 5 } else { -1 });
    }
}

#[test]
fn a_partition_under_a_new_id_is_not_forgotten_under_its_name() {
    // Found by tests/fuzz: the node added it and forgot it again, and answered every fetch at once with nothing.
    let mut plan = plan();
    let old = PartitionName { topic_id: Uuid::from_u128(99), ..plan.partitions[0].name.clone() };
    plan.forgotten = vec![old, plan.forgotten[0].clone(), plan.partitions[1].name.clone()];
    let told = |version: i16| -> Vec<(u128, Vec<i32>)> {
        let topics = plan.request(version).forgotten_topics_data.into_iter();
        topics.map(|topic| (topic.topic_id.as_u128(), topic.partitions)).collect()
    };
    assert_eq!(told(LAST_VERSION_BY_NAME), [(0, vec![1])]);
    // By id both are told apart; what is asked for in the same request is not forgotten either way.
    assert_eq!(told(LAST_VERSION_BY_NAME + 1), [(99, vec![0]), (6, vec![1])]);
}

prop_compose! {
    fn partition()(
        partition in any::<i32>(), error in -1i16..130, offsets in any::<(i64, i64, i64)>(),
        aborted in proptest::option::of(proptest::collection::vec(any::<(i64, i64)>(), 0..3)),
        replica in -1i32..4, leader in -1i32..4, diverging in any::<bool>(),
        records in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..60)),
    ) -> wire::PartitionData {
        let mut data = wire::PartitionData::default()
            .with_partition_index(partition)
            .with_error_code(error)
            .with_high_watermark(offsets.0)
            .with_last_stable_offset(offsets.1)
            .with_log_start_offset(offsets.2)
            .with_preferred_read_replica(BrokerId(replica))
            .with_aborted_transactions(aborted.map(|list| list.into_iter().map(|(id, first)| {
                wire::AbortedTransaction::default().with_producer_id(ProducerId(id)).with_first_offset(first)
            }).collect()))
            .with_records(records.map(Bytes::from));
        if diverging {
            data.diverging_epoch = wire::EpochEndOffset::default().with_epoch(4).with_end_offset(99);
        }
        if leader >= 0 {
            data.current_leader = wire::LeaderIdAndEpoch::default().with_leader_id(BrokerId(leader)).with_leader_epoch(7);
        }
        data
    }
}

prop_compose! {
    fn answer()(
        throttle in any::<i32>(), error in -1i16..130, session in any::<i32>(),
        topics in proptest::collection::vec(("[a-z]{1,9}", any::<u128>(), proptest::collection::vec(partition(), 0..4)), 0..4),
        endpoints in proptest::collection::vec(("[a-z]{0,9}", any::<u16>()), 0..3),
    ) -> WireResponse {
        WireResponse::default()
            .with_throttle_time_ms(throttle)
            .with_error_code(error)
            .with_session_id(session)
            .with_responses(topics.into_iter().map(|(name, id, partitions)| {
                wire::FetchableTopicResponse::default()
                    .with_topic(TopicName::from(text(&name)))
                    .with_topic_id(Uuid::from_u128(id))
                    .with_partitions(partitions)
            }).collect())
            .with_node_endpoints(endpoints.into_iter().map(|(host, port)| {
                wire::NodeEndpoint::default().with_host(text(&host)).with_port(i32::from(port))
            }).collect())
    }
}

/// The answer as `version` can tell it.
fn encode(mut answer: WireResponse, version: i16) -> Bytes {
    if version < 7 {
        answer.error_code = 0;
        answer.session_id = 0;
    }
    if version < 16 {
        answer.node_endpoints.clear();
    }
    for topic in &mut answer.responses {
        if version >= 13 {
            topic.topic = TopicName::default();
        } else {
            topic.topic_id = Uuid::nil();
        }
        for data in &mut topic.partitions {
            if version < 5 {
                data.log_start_offset = -1;
            }
            if version < 11 {
                data.preferred_read_replica = BrokerId(-1);
            }
            if version < 12 {
                data.diverging_epoch = Default::default();
                data.current_leader = Default::default();
            }
        }
    }
    let mut bytes = BytesMut::new();
    answer.encode(&mut bytes, version).unwrap();
    bytes.freeze()
}

proptest! {
    #[test]
    fn reads_what_kafka_protocol_reads(answer in answer(), version in 4i16..=18) {
        let bytes = encode(answer, version);
        let ours = FetchResponse::decode(&bytes, version).unwrap();
        let theirs = WireResponse::decode(&mut bytes.clone(), version).unwrap();
        prop_assert_eq!(ours.throttle_ms, theirs.throttle_time_ms);
        prop_assert_eq!(ours.error.code(), theirs.error_code);
        prop_assert_eq!(ours.session_id, theirs.session_id);
        prop_assert_eq!(ours.endpoints.len(), theirs.node_endpoints.len());
        prop_assert_eq!(ours.topics.len(), theirs.responses.len());
        for (ours, theirs) in ours.topics.iter().zip(&theirs.responses) {
            prop_assert_eq!(&ours.name[..], theirs.topic.0.as_bytes());
            prop_assert_eq!(ours.id, theirs.topic_id);
            prop_assert_eq!(ours.partitions.len(), theirs.partitions.len());
            for (ours, theirs) in ours.partitions.iter().zip(&theirs.partitions) {
                prop_assert_eq!(ours.partition, theirs.partition_index);
                prop_assert_eq!(ours.error.code(), theirs.error_code);
                prop_assert_eq!(ours.high_watermark, theirs.high_watermark);
                prop_assert_eq!(ours.last_stable_offset, theirs.last_stable_offset);
                prop_assert_eq!(ours.log_start_offset, theirs.log_start_offset);
                prop_assert_eq!(ours.preferred_replica.unwrap_or(-1), theirs.preferred_read_replica.0);
                prop_assert_eq!(&ours.records, &theirs.records.clone().unwrap_or_default());
                prop_assert_eq!(ours.leader.map_or(-1, |leader| leader.0), theirs.current_leader.leader_id.0);
                prop_assert_eq!(ours.diverging.map_or(-1, |at| at.1), theirs.diverging_epoch.end_offset);
                let aborted: Vec<Aborted> = theirs.aborted_transactions.iter().flatten().map(|aborted| Aborted {
                    producer_id: aborted.producer_id.0,
                    first_offset: aborted.first_offset,
                }).collect();
                prop_assert_eq!(&ours.aborted, &aborted);
            }
        }
    }

    #[test]
    fn a_cut_or_garbled_response_is_an_error_or_another_response_but_never_a_panic(
        answer in answer(), version in 4i16..=18, cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(), byte in any::<u8>(),
    ) {
        let bytes = encode(answer, version);
        prop_assert!(FetchResponse::decode(&bytes.slice(..cut.index(bytes.len())), version).is_err());
        let mut garbled = bytes.to_vec();
        let at = at.index(garbled.len());
        garbled[at] = byte;
        let _ = FetchResponse::decode(&Bytes::from(garbled), version);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), version in 4i16..=18) {
        let _ = FetchResponse::decode(&Bytes::from(bytes), version);
    }
}

#[test]
fn a_huge_count_reserves_nothing() {
    // Throttle, error, session, then two billion topics.
    let mut bytes = BytesMut::zeroed(10);
    bytes.extend_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let error = FetchResponse::decode(&bytes.freeze(), 11).unwrap_err();
    assert_eq!(error.what, "count beyond the end");
}
