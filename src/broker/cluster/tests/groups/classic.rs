//! Joining, syncing and leaving.
use super::*;

#[test]
fn the_coordinator_is_where_find_coordinator_says() {
    let mut rig = Rig::nodes(3);
    let connection = rig.connect(1);
    for version in 0..=6 {
        let mut request = FindCoordinatorRequest::default();
        match version {
            0..=3 => request.key = text("g"),
            _ => request.coordinator_keys = ["g", "other", ""].map(text).to_vec(),
        }
        let response = rig.call(connection, version, &request);
        let found: Vec<_> =
            response.coordinators.iter().map(|found| (found.node_id.0, found.error_code)).collect();
        if version < 4 {
            assert_eq!((response.node_id.0, response.error_code), (rig.cluster.coordinator("g").unwrap(), 0));
        } else {
            let of = |group: &str| (rig.cluster.coordinator(group).unwrap(), 0);
            assert_eq!(found, [of("g"), of("other"), of("")]);
        }
    }
    let request = FindCoordinatorRequest::default().with_key(text("t")).with_key_type(1);
    assert_eq!(rig.call(connection, 3, &request).error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE.code());
    let topics = rig.call(connection, 9, &MetadataRequest::default().with_topics(None)).topics;
    assert_eq!(
        topics.iter().map(|topic| (topic.partitions.len(), topic.is_internal)).collect::<Vec<_>>(),
        [(50, true)]
    );
}

#[test]
fn a_node_that_is_not_the_coordinator_says_so() {
    let (mut rig, []) = Rig::groups(Config { nodes: 3, ..Config::default() });
    let node = rig.cluster.coordinator(GROUP).unwrap();
    let other = rig.connect(node % 3 + 1);
    assert_eq!(rig.heartbeat(other, "m", 1), ErrorCode::NOT_COORDINATOR);
    let refused = rig.join(other, &join_request("", None, &["range"], "")).unwrap();
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::NOT_COORDINATOR);
    assert_eq!(rig.sync(other, &sync_request("m", 1, &[])).unwrap().0, ErrorCode::NOT_COORDINATOR);
}

#[test]
fn two_members_join_sync_and_one_leaves() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, b, generation) = rig.two([first, second]);
    assert_eq!(generation, 2);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NONE);
    assert_eq!(rig.heartbeat(first, &a, generation - 1), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(rig.leave(second, &b, None), ErrorCode::NONE);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(
        rig.sync(first, &sync_request(&a, generation, &[])).unwrap().0,
        ErrorCode::REBALANCE_IN_PROGRESS
    );
    assert_eq!(rig.heartbeat(second, &b, generation), ErrorCode::UNKNOWN_MEMBER_ID);
    let alone = rig.join(first, &join_request(&a, None, &["range"], "")).unwrap();
    assert_eq!((alone.generation_id, alone.members.len(), &*alone.leader), (3, 1, &*a));
    assert_eq!(rig.leave(first, &a, None), ErrorCode::NONE);
    assert_eq!((rig.state(), rig.leave(first, &a, None)), ("Empty", ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn a_follower_that_joins_with_the_same_bytes_causes_no_rebalance() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, b, generation) = rig.two([first, second]);
    let again = rig.join(second, &join_request(&b, None, &["range"], "")).unwrap();
    assert_eq!((again.generation_id, again.members.len(), &*again.leader), (generation, 0, &*a));
    assert_eq!(rig.sync(second, &sync_request(&b, generation, &[])).unwrap(), (ErrorCode::NONE, "B".into()));
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NONE);
    // With other bytes, or from the leader, it does.
    assert!(rig.join(second, &join_request(&b, None, &["range"], "!")).is_none());
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    let leader = rig.join(first, &join_request(&a, None, &["range"], "")).unwrap();
    assert_eq!(leader.members[1].metadata, "range!");
}

#[test]
fn an_answer_that_was_lost_is_given_again() {
    let (mut rig, [first, second, third]) = Rig::groups(Config::default());
    let a = rig.member_id(first);
    let joined = rig.join(first, &join_request(&a, None, &["range"], "")).unwrap();
    // Both the join and the sync, on another connection, as after a disconnect.
    rig.cluster.disconnect(first);
    assert_eq!(rig.join(second, &join_request(&a, None, &["range"], "")), Some(joined));
    let synced = rig.sync(second, &sync_request(&a, 1, &[(&a, "A")]));
    assert_eq!(rig.sync(third, &sync_request(&a, 1, &[])), synced);
    assert_eq!(rig.heartbeat(third, &a, 1), ErrorCode::NONE);
}

#[test]
fn the_protocol_with_most_votes_of_those_that_all_know_is_chosen() {
    let (mut rig, [first, second, third]) = Rig::groups(Config::default());
    let join = |rig: &mut Rig, connection, member: &str, protocols: &[&str]| {
        rig.join(connection, &join_request(member, Some(member), protocols, ""))
    };
    let request = join_request("", Some("a"), &["x", "y", "z"], "");
    let a = rig.join(first, &request).unwrap().member_id.to_string();
    let request = |instance| join_request("", Some(instance), &["w", "z", "y"], "");
    assert!(rig.join(second, &request("b")).is_none());
    assert!(rig.join(third, &request("c")).is_none());
    let again = rig.join(first, &join_request(&a, Some("a"), &["x", "y", "z"], "")).unwrap();
    assert_eq!(again.protocol_name.as_deref(), Some("z"));
    assert_eq!(again.members.iter().map(|member| &*member.metadata).collect::<Vec<_>>(), [b"z"; 3]);
    // Whoever shares no protocol with all others stays out, and so does another type.
    let refused = join(&mut rig, first, "", &["x"]).unwrap();
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let other = join_request("", None, &["z"], "").with_protocol_type(text("connect"));
    let refused = rig.join(first, &other).unwrap();
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let none = rig.join(first, &join_request("", None, &[], "")).unwrap();
    assert_eq!(ErrorCode::from(none.error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn a_sync_names_the_generation_and_the_protocol() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, _, generation) = rig.two([first, second]);
    let code = |rig: &mut Rig, request: SyncGroupRequest| rig.sync(first, &request).unwrap().0;
    assert_eq!(code(&mut rig, sync_request(&a, 7, &[])), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(code(&mut rig, sync_request("x", generation, &[])), ErrorCode::UNKNOWN_MEMBER_ID);
    let named = |kind: &str, name: &str| {
        let request = sync_request(&a, generation, &[]);
        request.with_protocol_type(Some(text(kind))).with_protocol_name(Some(text(name)))
    };
    assert_eq!(code(&mut rig, named("consumer", "range")), ErrorCode::NONE);
    assert_eq!(code(&mut rig, named("consumer", "sticky")), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(code(&mut rig, named("connect", "range")), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn who_was_left_out_by_the_leader_gets_an_empty_assignment() {
    let (mut rig, [first]) = Rig::groups(Config::default());
    let a = rig.member_id(first);
    rig.join(first, &join_request(&a, None, &["range"], ""));
    assert_eq!(
        rig.sync(first, &sync_request(&a, 1, &[("stranger", "S")])),
        Some((ErrorCode::NONE, Bytes::new()))
    );
}

#[test]
fn a_full_group_takes_nobody_else() {
    let (mut rig, [first, second, third]) = Rig::groups(Config { group_max_size: 2, ..Config::default() });
    let (a, _, generation) = rig.two([first, second]);
    let refused = rig.join(third, &join_request("", None, &["range"], "")).unwrap();
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::GROUP_MAX_SIZE_REACHED);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NONE);
}

#[test]
fn what_a_join_must_not_say() {
    let (mut rig, [first]) = Rig::groups(Config::default());
    let code = |rig: &mut Rig, request: JoinGroupRequest| {
        ErrorCode::from(rig.join(first, &request).unwrap().error_code)
    };
    let fair = || join_request("", None, &["range"], "");
    assert_eq!(code(&mut rig, fair().with_group_id(id(""))), ErrorCode::INVALID_GROUP_ID);
    assert_eq!(code(&mut rig, fair().with_session_timeout_ms(5_999)), ErrorCode::INVALID_SESSION_TIMEOUT);
    assert_eq!(code(&mut rig, fair().with_session_timeout_ms(1_800_001)), ErrorCode::INVALID_SESSION_TIMEOUT);
    assert_eq!(code(&mut rig, join_request("stranger", None, &["range"], "")), ErrorCode::UNKNOWN_MEMBER_ID);
    assert!(rig.cluster.groups.by_id.is_empty());
    assert_eq!(code(&mut rig, fair()), ErrorCode::MEMBER_ID_REQUIRED);
    assert_eq!(code(&mut rig, join_request("stranger", None, &["range"], "")), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn before_version_4_nobody_needs_an_id_first() {
    for version in 0..=3 {
        let (mut rig, [first]) = Rig::groups(Config::default());
        let joined =
            rig.call(first, version, &join_request("", None, &["range"], "").with_rebalance_timeout_ms(-1));
        assert_eq!((joined.error_code, joined.generation_id), (0, 1), "version {version}");
        let leave = LeaveGroupRequest::default().with_group_id(id(GROUP)).with_member_id(joined.member_id);
        assert_eq!(rig.call(first, version.min(2), &leave).error_code, 0);
        assert_eq!(rig.state(), "Empty");
    }
}

#[test]
fn faults_strike_the_requests_of_one_group() {
    use crate::broker::{Api, Fault};
    let (mut rig, [first]) = Rig::groups(Config::default());
    let code = ErrorCode::REBALANCE_IN_PROGRESS;
    rig.cluster.faults.add(Fault::on(Api::HEARTBEAT).group(GROUP).times(1).error(code));
    rig.cluster.faults.add(Fault::on(Api::JOIN_GROUP).group("other").error(code));
    let a = rig.member_id(first);
    assert_eq!(rig.heartbeat(first, &a, 1), code);
    assert_eq!(rig.heartbeat(first, &a, 1), ErrorCode::UNKNOWN_MEMBER_ID);
    rig.cluster.faults.add(Fault::on(Api::JOIN_GROUP).nth(1).delay(Duration::from_secs(1)));
    assert!(rig.join(first, &join_request(&a, None, &["range"], "")).is_none());
    rig.pass(Duration::from_secs(1));
    assert_eq!(rig.joined(first).generation_id, 1);
}
