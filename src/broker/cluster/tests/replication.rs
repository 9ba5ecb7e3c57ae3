//! Replicas that are behind, and a node that does not know that others lead.
use super::*;

const LAG: Duration = Duration::from_millis(100);
/// More than any replica is behind.
const COPIED: Duration = Duration::from_millis(180);

/// Three nodes, node 1 leads; a connection to it and one to node 2.
fn lagging() -> (Rig, ConnectionId, ConnectionId) {
    let mut rig =
        Rig::new(Config { nodes: 3, replica_lag: LAG, min_insync_replicas: 2, ..Config::default() });
    rig.cluster.create_topic("t", 1, None).unwrap();
    let (first, second) = (rig.connect(1), rig.connect(2));
    (rig, first, second)
}

/// Error code and offset of the answer to a produce request, if it is there.
fn answer(rig: &mut Rig, id: ConnectionId) -> Option<(i16, i64)> {
    let response = rig.answer::<ProduceRequest>(id, 9)?;
    let answer = &response.responses[0].partition_responses[0];
    Some((answer.error_code, answer.base_offset))
}

fn write(rig: &mut Rig, id: ConnectionId, acks: i16, value: &str) {
    let request = produce_request("t", 0, batch(&[value])).with_acks(acks);
    rig.send(id, 9, &request);
}

/// What a fetch without waiting finds: error code, high watermark, bytes.
fn read(rig: &mut Rig, id: ConnectionId) -> (i16, i64, usize) {
    let response = rig.call(id, 11, &fetch_request("t", 0, 0).with_max_wait_ms(0));
    let data = &response.responses[0].partitions[0];
    (data.error_code, data.high_watermark, data.records.as_ref().map_or(0, Bytes::len))
}

#[test]
fn acks_all_waits_for_the_followers_and_nobody_reads_before() {
    let (mut rig, first, _) = lagging();
    let reader = rig.connect(1);
    write(&mut rig, first, -1, "a");
    assert_eq!(answer(&mut rig, first), None);
    assert_eq!(read(&mut rig, reader), (0, 0, 0));
    rig.pass(COPIED);
    assert_eq!(answer(&mut rig, first), Some((0, 0)));
    assert!(matches!(read(&mut rig, reader), (0, 1, 1..)));
    // One acknowledgement is the leader's own.
    write(&mut rig, first, 1, "b");
    assert_eq!(answer(&mut rig, first), Some((0, 1)));
}

#[test]
fn a_new_leader_lacks_what_was_not_copied_and_the_old_one_says_that_it_leads_no_more() {
    let (mut rig, first, second) = lagging();
    write(&mut rig, first, -1, "a");
    rig.cluster.move_leader(rig.now, "t", 0, Some(2));
    assert_eq!(answer(&mut rig, first), Some((6, 0)), "NOT_LEADER_OR_FOLLOWER");
    assert_eq!(rig.cluster.topics.partition("t", 0).unwrap().log.end(), 0);
    write(&mut rig, second, -1, "a");
    rig.pass(COPIED);
    assert_eq!(answer(&mut rig, second), Some((0, 0)));
}

#[test]
fn a_repeated_batch_waits_for_the_followers_too() {
    let (mut rig, first, _) = lagging();
    let stamp = Stamp { producer_id: 5, producer_epoch: 0, base_sequence: 0, transactional: false };
    let request = produce_request("t", 0, batch_of(&["a"], stamp));
    let again = rig.connect(1);
    rig.send(first, 9, &request);
    rig.send(again, 9, &request);
    assert_eq!((answer(&mut rig, first), answer(&mut rig, again)), (None, None));
    rig.pass(COPIED);
    assert_eq!((answer(&mut rig, first), answer(&mut rig, again)), (Some((0, 0)), Some((0, 0))));
}

#[test]
fn a_request_waits_for_followers_no_longer_than_it_says() {
    let (mut rig, first, _) = lagging();
    rig.cluster.config.replica_lag = Duration::from_secs(100);
    write(&mut rig, first, -1, "a");
    rig.pass(Duration::from_secs(1));
    assert_eq!(answer(&mut rig, first), Some((7, 0)), "REQUEST_TIMED_OUT");
    // With the followers gone the leader has all there is, but that is too few.
    write(&mut rig, first, -1, "b");
    rig.cluster.stop_node(rig.now, 2);
    rig.cluster.stop_node(rig.now, 3);
    assert_eq!(answer(&mut rig, first), Some((20, 1)), "NOT_ENOUGH_REPLICAS_AFTER_APPEND");
}

#[test]
fn an_isolated_node_goes_on_alone_and_loses_what_it_wrote() {
    let (mut rig, first, second) = lagging();
    let reader = rig.connect(1);
    write(&mut rig, first, -1, "both");
    rig.pass(COPIED);
    assert_eq!(answer(&mut rig, first), Some((0, 0)));
    rig.cluster.isolate_node(rig.now, 1);
    let leader = |rig: &mut Rig, id| {
        let response = rig.call(id, 9, &MetadataRequest::default().with_topics(None));
        let partition = &response.topics[0].partitions[0];
        (partition.leader_id.0, partition.leader_epoch)
    };
    assert_eq!((leader(&mut rig, reader), leader(&mut rig, second)), ((1, 0), (2, 1)));
    write(&mut rig, first, 1, "believed");
    assert_eq!(answer(&mut rig, first), Some((0, 1)), "acknowledged, and lost");
    write(&mut rig, first, -1, "waiting");
    write(&mut rig, second, -1, "new");
    rig.pass(COPIED);
    assert_eq!((answer(&mut rig, first), answer(&mut rig, second)), (None, Some((0, 1))));
    rig.cluster.rejoin_node(rig.now, 1);
    assert_eq!(answer(&mut rig, first), Some((6, 2)), "NOT_LEADER_OR_FOLLOWER");
    assert_eq!(rig.cluster.topics.partition("t", 0).unwrap().log.end(), 2);
    assert_eq!(leader(&mut rig, reader), (2, 1));
}
