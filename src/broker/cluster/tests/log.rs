use super::*;
use crate::protocol::error_code::ErrorCode;
use crate::record::batch::{RawBatch, batches};
use crate::record::builder::control_batch;
use crate::record::reader::ControlRecord;
use fetch_response::PartitionData;

fn stamp(epoch: i16, sequence: i32) -> Stamp {
    Stamp { producer_id: 7, producer_epoch: epoch, base_sequence: sequence, transactional: false }
}

fn fetched(rig: &mut Rig, id: ConnectionId, version: i16, request: &FetchRequest) -> PartitionData {
    rig.call(id, version, request).responses.remove(0).partitions.remove(0)
}

fn change(request: &mut FetchRequest, change: impl FnOnce(&mut fetch_request::FetchPartition)) {
    change(&mut request.topics[0].partitions[0]);
}

fn bases(data: &PartitionData) -> Vec<i64> {
    batches(data.records.as_ref().unwrap()).map(|batch| batch.unwrap().header.base_offset).collect()
}

#[test]
fn a_repeated_batch_gets_its_first_offset_again_and_is_not_written_twice() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    for (sequence, offset) in [(0, 0), (2, 2), (4, 4), (6, 6), (8, 8), (0, 0), (8, 8)] {
        assert_eq!(rig.produce(id, "t", 0, batch_of(&["a", "b"], stamp(0, sequence))), (0, offset));
    }
    assert_eq!(rig.produce(id, "t", 0, batch_of(&["a", "b"], stamp(0, 10))), (0, 10));
    // Five batches are remembered: this one no longer is, and it does not follow either.
    let out_of_order = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.code();
    assert_eq!(rig.produce(id, "t", 0, batch_of(&["a", "b"], stamp(0, 0))), (out_of_order, -1));
    assert_eq!(rig.produce(id, "t", 0, batch_of(&["a"], stamp(0, 13))), (out_of_order, -1));
    assert_eq!(rig.cluster.topics.partition("t", 0).unwrap().log.end(), 12);
}

#[test]
fn a_new_epoch_begins_at_sequence_0_and_fences_the_old_one() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    assert_eq!(rig.produce(id, "t", 0, batch_of(&["a"], stamp(0, 0))).0, 0);
    assert_eq!(
        rig.produce(id, "t", 0, batch_of(&["a"], stamp(1, 1))).0,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.code()
    );
    assert_eq!(rig.produce(id, "t", 0, batch_of(&["a"], stamp(1, 0))).0, 0);
    assert_eq!(
        rig.produce(id, "t", 0, batch_of(&["a"], stamp(0, 1))).0,
        ErrorCode::INVALID_PRODUCER_EPOCH.code()
    );
}

#[test]
fn an_unknown_producer_may_begin_anywhere_since_kafka_2_5() {
    for (release, code) in [(Release::V4_1, 0), (Release::V2_4, ErrorCode::UNKNOWN_PRODUCER_ID.code())] {
        let mut rig = Rig::new(Config { release, ..Config::default() });
        rig.cluster.create_topic("t", 1, None).unwrap();
        let id = rig.connect(1);
        let request = produce_request("t", 0, batch_of(&["a"], stamp(0, 5)));
        assert_eq!(rig.call(id, 8, &request).responses[0].partition_responses[0].error_code, code);
    }
}

#[test]
fn sequences_wrap_to_0() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    assert_eq!(rig.produce(id, "t", 0, batch_of(&["a", "b", "c"], stamp(0, i32::MAX - 1))).0, 0);
    assert_eq!(rig.produce(id, "t", 0, batch_of(&["d"], stamp(0, 1))).0, 0);
    assert_eq!(rig.produce(id, "t", 0, batch_of(&["a", "b", "c"], stamp(0, i32::MAX - 1))), (0, 0));
}

#[test]
fn batches_that_kafka_refuses_are_refused() {
    let mut rig = Rig::new(Config { max_message_bytes: 500, ..Config::default() });
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    let good = batch(&["a"]);
    let mut flipped = good.to_vec();
    flipped[65] ^= 1;
    let mut twice = good.to_vec();
    twice.extend_from_slice(&good);
    let transactional = Stamp { transactional: true, ..stamp(0, 0) };
    for (bytes, code) in [
        (flipped.into(), ErrorCode::CORRUPT_MESSAGE),
        (twice.into(), ErrorCode::INVALID_RECORD),
        (Bytes::new(), ErrorCode::INVALID_RECORD),
        (good.slice(..good.len() - 1), ErrorCode::INVALID_RECORD),
        (batch(&[&"x".repeat(500)]), ErrorCode::MESSAGE_TOO_LARGE),
        (batch_of(&["a"], transactional), ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED),
        (
            control_batch(ControlRecord::Abort, 0, 0, stamp(0, 0)),
            ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
        ),
    ] {
        assert_eq!(rig.produce(id, "t", 0, bytes), (code.code(), -1), "{code}");
    }
    assert_eq!(rig.produce(id, "nope", 0, good.clone()).0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code());
    assert_eq!(rig.produce(id, "t", 0, good), (0, 0));
}

#[test]
fn a_leader_that_moved_is_hinted_at() {
    let mut rig = Rig::nodes(3);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    assert_eq!(rig.produce(id, "t", 0, batch(&["a"])).0, 0);
    assert!(rig.cluster.move_leader(rig.now, "t", 0, Some(3)));
    let topic_id = rig.cluster.topics.get("t").unwrap().id;
    for version in 3..=13 {
        let mut request = produce_request("t", 0, batch(&["a"]));
        if version >= 13 {
            request.topic_data[0].name = name("");
            request.topic_data[0].topic_id = topic_id;
        }
        let response = rig.call(id, version, &request);
        let answer = &response.responses[0].partition_responses[0];
        assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.code());
        let hinted = (answer.current_leader.leader_id.0, answer.current_leader.leader_epoch);
        assert_eq!(hinted, if version >= 10 { (3, 1) } else { (-1, -1) });
        assert_eq!(response.node_endpoints.len(), usize::from(version >= 10));
    }
    for version in 4..=18 {
        let mut request = fetch_request("t", 0, 0);
        change(&mut request, |partition| partition.current_leader_epoch = if version >= 9 { 0 } else { -1 });
        if version >= 13 {
            request.topics[0].topic = name("");
            request.topics[0].topic_id = topic_id;
        }
        request.replica_id = (-1).into();
        let response = rig.call(id, version, &request);
        let data = &response.responses[0].partitions[0];
        let code =
            if version >= 9 { ErrorCode::FENCED_LEADER_EPOCH } else { ErrorCode::NOT_LEADER_OR_FOLLOWER };
        assert_eq!(data.error_code, code.code(), "version {version}");
        assert_eq!(data.current_leader.leader_id.0, if version >= 16 { 3 } else { -1 });
        assert_eq!(response.node_endpoints.len(), usize::from(version >= 16));
    }
}

#[test]
fn fetch_keeps_to_its_limits_but_always_makes_progress() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 2, None).unwrap();
    let id = rig.connect(1);
    let one = batch(&["0123456789"]);
    for partition in [0, 1] {
        for _ in 0..5 {
            rig.produce(id, "t", partition, one.clone());
        }
    }
    let mut request = fetch_request("t", 0, 1);
    change(&mut request, |partition| partition.partition_max_bytes = one.len() as i32 * 2 + 20);
    assert_eq!(bases(&fetched(&mut rig, id, 11, &request)), [1, 2]);
    change(&mut request, |partition| partition.partition_max_bytes = 1);
    assert_eq!(bases(&fetched(&mut rig, id, 11, &request)), [1]);
    // A second partition gets what the limit of the whole answer leaves, and here it leaves nothing.
    let second = fetch_request("t", 1, 0).topics.remove(0).partitions.remove(0);
    request.topics[0].partitions.push(second);
    request.max_bytes = one.len() as i32 + 20;
    let response = rig.call(id, 11, &request);
    assert_eq!(bases(&response.responses[0].partitions[0]), [1]);
    assert!(response.responses[0].partitions[1].records.as_ref().unwrap().is_empty());
    rig.cluster.config.partial_batches = true;
    let mut request = fetch_request("t", 0, 0);
    change(&mut request, |partition| partition.partition_max_bytes = one.len() as i32 * 2 + 20);
    let data = fetched(&mut rig, id, 11, &request);
    assert_eq!(data.records.unwrap().len(), one.len() * 2 + 20);
}

#[test]
fn positions_outside_the_log_are_out_of_range() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    for _ in 0..3 {
        rig.produce(id, "t", 0, batch(&["a", "b"]));
    }
    rig.cluster.topics.partition_mut("t", 0).unwrap().log.delete_before(3);
    for (offset, code) in [(2, 1), (7, 1), (-1, 1), (3, 0)] {
        assert_eq!(fetched(&mut rig, id, 11, &fetch_request("t", 0, offset)).error_code, code, "{offset}");
    }
    // The batch that holds the start is handed out whole.
    let data = fetched(&mut rig, id, 11, &fetch_request("t", 0, 3));
    assert_eq!((bases(&data), data.log_start_offset), (vec![2, 4], 3));
}

#[test]
fn a_log_that_was_cut_is_noticed_by_its_epochs() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    for _ in 0..4 {
        rig.produce(id, "t", 0, batch(&["a"]));
    }
    rig.cluster.topics.partition_mut("t", 0).unwrap().truncate(2);
    rig.produce(id, "t", 0, batch(&["b"]));
    let mut request = fetch_request("t", 0, 4);
    change(&mut request, |partition| {
        partition.current_leader_epoch = 1;
        partition.last_fetched_epoch = 0;
    });
    let data = fetched(&mut rig, id, 12, &request);
    assert_eq!((data.error_code, data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, 0, 2));
    assert_eq!(fetched(&mut rig, id, 11, &fetch_request("t", 0, 4)).error_code, 1);

    let ask = |epoch: i32| {
        let partition = offset_for_leader_epoch_request::OffsetForLeaderPartition::default()
            .with_current_leader_epoch(1)
            .with_leader_epoch(epoch);
        let topic = offset_for_leader_epoch_request::OffsetForLeaderTopic::default()
            .with_topic(name("t"))
            .with_partitions(vec![partition]);
        OffsetForLeaderEpochRequest::default().with_topics(vec![topic])
    };
    for version in 2..=4 {
        for (epoch, expected) in [(0, (0, 2)), (1, (1, 3)), (2, (-1, -1))] {
            let response = rig.call(id, version, &ask(epoch));
            let answer = &response.topics[0].partitions[0];
            assert_eq!((answer.leader_epoch, answer.end_offset), expected, "{epoch}");
        }
    }
}

#[test]
fn read_committed_stops_at_open_transactions_and_learns_of_aborted_ones() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    let transactional = |producer_id| Stamp { producer_id, transactional: true, ..stamp(0, 0) };
    let mut append = |bytes: Bytes| {
        let raw = RawBatch::single(&bytes).unwrap();
        rig.cluster.topics.partition_mut("t", 0).unwrap().log.append(&raw, 0)
    };
    append(batch_of(&["a"], transactional(1))); // 0
    append(batch_of(&["b"], transactional(2))); // 1
    append(batch(&["c"])); // 2
    append(control_batch(ControlRecord::Abort, 0, 0, transactional(1))); // 3
    let mut request = fetch_request("t", 0, 0).with_isolation_level(1);
    let data = fetched(&mut rig, id, 11, &request);
    assert_eq!((bases(&data), data.last_stable_offset, data.high_watermark), (vec![0], 1, 4));
    assert_eq!(data.aborted_transactions.unwrap().len(), 1);
    let raw = RawBatch::single(&control_batch(ControlRecord::Commit, 0, 0, transactional(2))).unwrap();
    rig.cluster.topics.partition_mut("t", 0).unwrap().log.append(&raw, 0);
    let data = fetched(&mut rig, id, 11, &request);
    assert_eq!((bases(&data), data.last_stable_offset), (vec![0, 1, 2, 3, 4], 5));
    let aborted = &data.aborted_transactions.unwrap()[0];
    assert_eq!((aborted.producer_id.0, aborted.first_offset), (1, 0));
    request.isolation_level = 0;
    assert_eq!(fetched(&mut rig, id, 11, &request).aborted_transactions, None);
}

#[test]
fn offsets_are_found_by_time() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    rig.produce(id, "t", 0, batch(&["a", "b", "c"])); // 1000, 1001, 1002
    rig.produce(id, "t", 0, batch(&["d", "e"])); // 1000, 1001
    for version in 1..=10 {
        for (timestamp, offset, found) in
            [(-1, 5, -1), (-2, 0, -1), (0, 0, 1000), (1001, 1, 1001), (1003, -1, -1), (-3, 2, 1002)]
        {
            if timestamp == -3 && version < 7 {
                continue;
            }
            let partition = list_offsets_request::ListOffsetsPartition::default()
                .with_current_leader_epoch(-1)
                .with_timestamp(timestamp);
            let topic = list_offsets_request::ListOffsetsTopic::default()
                .with_name(name("t"))
                .with_partitions(vec![partition]);
            let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
            let response = rig.call(id, version, &request);
            let answer = &response.topics[0].partitions[0];
            assert_eq!(
                (answer.error_code, answer.offset, answer.timestamp),
                (0, offset, found),
                "{timestamp}"
            );
        }
    }
}
