use super::*;
use crate::protocol::error_code::ErrorCode;

/// A fetch of one partition in a session.
fn in_session(id: i32, epoch: i32, offset: Option<i64>) -> FetchRequest {
    let mut request =
        fetch_request("t", 0, offset.unwrap_or(0)).with_session_id(id).with_session_epoch(epoch);
    if offset.is_none() {
        request.topics.clear();
    }
    request.with_max_wait_ms(0)
}

#[test]
fn a_session_tells_only_what_is_new() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    let opened = rig.call(id, 12, &in_session(0, 0, Some(0)));
    assert!(opened.session_id > 0 && opened.responses.len() == 1);
    let session = opened.session_id;
    assert!(rig.call(id, 12, &in_session(session, 1, None)).responses.is_empty());
    rig.produce(id, "t", 0, batch(&["a"]));
    let response = rig.call(id, 12, &in_session(session, 2, None));
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    // The position did not move yet, so the records come again.
    assert_eq!(rig.call(id, 12, &in_session(session, 3, None)).responses.len(), 1);
    assert!(rig.call(id, 12, &in_session(session, 4, Some(1))).responses.is_empty());
    // A session lives at its node, not on its connection.
    let other = rig.connect(1);
    let mut forget = in_session(session, 5, None);
    forget.forgotten_topics_data =
        vec![fetch_request::ForgottenTopic::default().with_topic(name("t")).with_partitions(vec![0])];
    assert_eq!(rig.call(other, 12, &forget).error_code, 0);
    rig.produce(id, "t", 0, batch(&["a"]));
    assert!(rig.call(id, 12, &in_session(session, 6, None)).responses.is_empty());
}

#[test]
fn a_session_is_lost_by_a_wrong_epoch_a_wrong_id_or_its_node() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    let session = rig.call(id, 12, &in_session(0, 0, Some(0))).session_id;
    assert_eq!(
        rig.call(id, 12, &in_session(session, 2, None)).error_code,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH.code()
    );
    assert_eq!(
        rig.call(id, 12, &in_session(session ^ 1, 1, None)).error_code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND.code()
    );
    assert_eq!(
        rig.call(id, 13, &in_session(session, 1, None)).error_code,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR.code()
    );
    // Closing it by a full fetch with the last epoch.
    assert_eq!(rig.call(id, 12, &in_session(session, -1, Some(0))).session_id, 0);
    assert_eq!(
        rig.call(id, 12, &in_session(session, 1, None)).error_code,
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND.code()
    );
}

#[test]
fn without_room_there_is_no_session() {
    let mut rig = Rig::new(Config { fetch_sessions: 1, ..Config::default() });
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    assert!(rig.call(id, 12, &in_session(0, 0, Some(0))).session_id > 0);
    let response = rig.call(id, 12, &in_session(0, 0, Some(0)));
    assert_eq!((response.session_id, response.responses.len()), (0, 1));
}

#[test]
fn a_parked_fetch_of_a_session_wakes_when_its_topic_is_deleted_or_its_leader_moves() {
    let mut rig = Rig::nodes(2);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    let session = rig.call(id, 12, &in_session(0, 0, Some(0))).session_id;
    rig.send(id, 12, &in_session(session, 1, None).with_max_wait_ms(500));
    assert!(rig.answer::<FetchRequest>(id, 12).is_none());
    assert!(rig.cluster.move_leader(rig.now, "t", 0, Some(2)));
    // From version 11 on a follower serves as well, so the move alone is no reason to answer.
    assert!(rig.answer::<FetchRequest>(id, 12).is_none());
    rig.cluster.delete_topic("t");
    rig.cluster.settle(rig.now);
    let response = rig.answer::<FetchRequest>(id, 12).unwrap();
    let code = response.responses[0].partitions[0].error_code;
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code());
}

#[test]
fn a_topic_made_anew_is_another_one_by_id() {
    let mut rig = Rig::nodes(1);
    rig.cluster.create_topic("t", 1, None).unwrap();
    let id = rig.connect(1);
    let old = rig.cluster.topics.get("t").unwrap().id;
    rig.cluster.delete_topic("t");
    rig.cluster.create_topic("t", 1, None).unwrap();
    let mut request = in_session(0, -1, Some(0));
    request.topics[0].topic = name("");
    request.topics[0].topic_id = old;
    let response = rig.call(id, 13, &request);
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID.code());
}

#[test]
fn readers_are_sent_to_the_replica_in_their_rack() {
    let mut rig = Rig::new(Config { nodes: 3, racks: true, read_nearest_replica: true, ..Config::default() });
    rig.cluster.create_topic("t", 1, None).unwrap();
    let (leader, near) = (rig.connect(1), rig.connect(2));
    rig.produce(leader, "t", 0, batch(&["a"]));
    let request = fetch_request("t", 0, 0).with_rack_id(StrBytes::from_static_str("rack-2"));
    let response = rig.call(leader, 11, &request);
    let data = &response.responses[0].partitions[0];
    assert_eq!(data.preferred_read_replica.0, 2);
    assert!(data.records.as_ref().is_none_or(|records| records.is_empty()));
    let response = rig.call(near, 11, &request);
    assert!(response.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
    // Before version 11 followers do not serve readers.
    let response = rig.call(near, 10, &fetch_request("t", 0, 0));
    assert_eq!(response.responses[0].partitions[0].error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.code());
}
