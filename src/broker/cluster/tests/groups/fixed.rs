//! Static members: those that come with an instance id.
use super::*;

/// A stable group of a static leader and a static follower: their ids.
fn fixed(rig: &mut Rig, [first, second]: [ConnectionId; 2]) -> (String, String) {
    let a = rig.join(first, &join_request("", Some("a"), &["range"], "")).unwrap().member_id.to_string();
    assert!(a.starts_with("a-"), "{a}");
    assert!(rig.join(second, &join_request("", Some("b"), &["range"], "")).is_none());
    rig.join(first, &join_request(&a, Some("a"), &["range"], "")).unwrap();
    let b = rig.joined(second).member_id.to_string();
    rig.sync(first, &sync_request(&a, 2, &[(&a, "A"), (&b, "B")])).unwrap();
    rig.sync(second, &sync_request(&b, 2, &[])).unwrap();
    (a, b)
}

#[test]
fn one_that_comes_back_takes_its_place_without_a_rebalance() {
    let (mut rig, [first, second, third]) = Rig::groups(Config::default());
    let (a, b) = fixed(&mut rig, [first, second]);
    let back = rig.join(third, &join_request("", Some("b"), &["range"], "!")).unwrap();
    assert_eq!((back.error_code, back.generation_id, back.skip_assignment), (0, 2, false));
    assert_eq!((&*back.leader, back.members.len()), (&*a, 0));
    assert_ne!(*back.member_id, *b);
    let sync = sync_request(&back.member_id, 2, &[]).with_group_instance_id(Some(text("b")));
    assert_eq!(rig.sync(third, &sync), Some((ErrorCode::NONE, "B".into())));
    assert_eq!(rig.heartbeat(first, &a, 2), ErrorCode::NONE);
    // Its former self is fenced if it says who it is, and unknown if it does not.
    let former = sync_request(&b, 2, &[]).with_group_instance_id(Some(text("b")));
    assert_eq!(rig.sync(second, &former).unwrap().0, ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.heartbeat(second, &b, 2), ErrorCode::UNKNOWN_MEMBER_ID);
    let join = join_request(&b, Some("b"), &["range"], "");
    assert_eq!(ErrorCode::from(rig.join(second, &join).unwrap().error_code), ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn a_leader_that_comes_back_is_told_to_skip_the_assignment() {
    let (mut rig, [first, second, third]) = Rig::groups(Config::default());
    let (a, _) = fixed(&mut rig, [first, second]);
    let back = rig.join(third, &join_request("", Some("a"), &["range"], "!")).unwrap();
    assert_eq!((back.generation_id, back.skip_assignment, back.members.len()), (2, true, 2));
    assert_eq!(back.leader, back.member_id);
    // Before version 9 it is told of its former self as the leader, so that it does not assign.
    rig.send(third, 8, &join_request("", Some("a"), &["range"], ""));
    let again = rig.answer::<JoinGroupRequest>(third, 8).unwrap();
    assert_eq!((&again.leader, again.members.len()), (&back.member_id, 0));
    assert_ne!((*again.member_id).to_owned(), a);
}

#[test]
fn one_that_comes_back_with_another_protocol_rebalances_the_group() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let a = rig
        .join(first, &join_request("", Some("a"), &["range", "sticky"], ""))
        .unwrap()
        .member_id
        .to_string();
    rig.sync(first, &sync_request(&a, 1, &[(&a, "A")])).unwrap();
    let back = rig.join(second, &join_request("", Some("a"), &["sticky", "range"], "")).unwrap();
    assert_eq!((back.generation_id, back.skip_assignment), (2, false));
    assert_eq!(back.protocol_name.as_deref(), Some("sticky"));
}

#[test]
fn the_parked_request_of_a_former_self_is_fenced() {
    let (mut rig, [first, second, third]) = Rig::groups(Config::default());
    let (_, b) = fixed(&mut rig, [first, second]);
    assert!(rig.join(second, &join_request(&b, Some("b"), &["range"], "new")).is_none());
    assert!(rig.join(third, &join_request("", Some("b"), &["range"], "")).is_none());
    assert_eq!(ErrorCode::from(rig.joined(second).error_code), ErrorCode::FENCED_INSTANCE_ID);
}

#[test]
fn it_stays_a_member_through_a_rebalance_that_it_misses() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, b) = fixed(&mut rig, [first, second]);
    assert!(rig.join(first, &join_request(&a, Some("a"), &["range"], "")).is_none());
    for _ in 0..10 {
        assert_eq!(rig.heartbeat(second, &b, 2), ErrorCode::REBALANCE_IN_PROGRESS);
        rig.pass(REBALANCE / 10);
    }
    let joined = rig.joined(first);
    assert_eq!((joined.generation_id, joined.members.len()), (3, 2));
}

#[test]
fn an_administrator_removes_it_by_its_instance() {
    let (mut rig, [first, second, third]) = Rig::groups(Config::default());
    let (a, b) = fixed(&mut rig, [first, second]);
    assert_eq!(rig.leave(third, &a, Some("b")), ErrorCode::FENCED_INSTANCE_ID);
    assert_eq!(rig.leave(third, "", Some("c")), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.leave(third, "", Some("b")), ErrorCode::NONE);
    assert_eq!(rig.heartbeat(second, &b, 2), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.heartbeat(first, &a, 2), ErrorCode::REBALANCE_IN_PROGRESS);
}
