//! What ends by itself.
use super::*;

#[test]
fn a_member_that_is_not_heard_of_is_out_after_its_session_timeout() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, b, generation) = rig.two([first, second]);
    let almost = SESSION - Duration::from_millis(1);
    rig.pass(almost);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NONE);
    rig.pass(Duration::from_millis(1));
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(rig.heartbeat(second, &b, generation), ErrorCode::UNKNOWN_MEMBER_ID);
    rig.pass(SESSION);
    assert_eq!(rig.state(), "Empty");
    assert_eq!(rig.cluster.next_deadline(), None);
}

#[test]
fn a_member_that_does_not_join_in_time_is_out() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, b, generation) = rig.two([first, second]);
    assert!(rig.join(first, &join_request(&a, None, &["range"], "")).is_none());
    for _ in 0..10 {
        assert_eq!(rig.heartbeat(second, &b, generation), ErrorCode::REBALANCE_IN_PROGRESS);
        rig.pass(REBALANCE / 10);
    }
    assert_eq!(rig.joined(first).members.len(), 1);
    assert_eq!(rig.heartbeat(second, &b, generation), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_leader_is_another_if_the_old_one_does_not_join() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, b, generation) = rig.two([first, second]);
    assert!(rig.join(second, &join_request(&b, None, &["range"], "!")).is_none());
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    rig.pass(SESSION);
    assert_eq!(&*rig.joined(second).leader, &*b);
}

#[test]
fn members_that_do_not_sync_in_time_are_out() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, b, _) = rig.two([first, second]);
    assert!(rig.join(second, &join_request(&b, None, &["range"], "!")).is_none());
    let generation = rig.join(first, &join_request(&a, None, &["range"], "")).unwrap().generation_id;
    rig.joined(second);
    assert!(rig.sync(second, &sync_request(&b, generation, &[])).is_none());
    for _ in 0..10 {
        assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NONE);
        rig.pass(REBALANCE / 10);
    }
    // The leader never synced: it is out, and the other one has to join anew.
    assert_eq!(rig.synced(second), Some((ErrorCode::REBALANCE_IN_PROGRESS, Bytes::new())));
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(&*rig.join(second, &join_request(&b, None, &["range"], "!")).unwrap().leader, &*b);
}

#[test]
fn an_id_that_was_given_out_holds_up_the_group_no_longer_than_a_session() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let a = rig.member_id(first);
    rig.join(first, &join_request(&a, None, &["range"], ""));
    rig.sync(first, &sync_request(&a, 1, &[]));
    let b = rig.member_id(second);
    assert!(rig.join(first, &join_request(&a, None, &["range"], "")).is_none());
    rig.pass(SESSION);
    assert_eq!(rig.joined(first).members.len(), 1);
    let late = rig.join(second, &join_request(&b, None, &["range"], "")).unwrap();
    assert_eq!(ErrorCode::from(late.error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_new_member_that_waits_in_vain_is_out_after_five_minutes() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let a = rig.join(first, &join_request("", Some("a"), &["range"], "")).unwrap().member_id.to_string();
    let slow = join_request("", None, &["range"], "").with_rebalance_timeout_ms(3_600_000);
    let b = rig.member_id(second);
    assert!(rig.join(second, &slow.with_member_id(text(&b))).is_none());
    for _ in 0..60 {
        assert_eq!(rig.heartbeat(first, &a, 1), ErrorCode::REBALANCE_IN_PROGRESS);
        rig.pass(Duration::from_secs(5));
    }
    assert_eq!(ErrorCode::from(rig.joined(second).error_code), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_first_members_of_a_group_are_waited_for() {
    let delay = Duration::from_secs(3);
    let (mut rig, [first, second]) =
        Rig::groups(Config { initial_rebalance_delay: delay, ..Config::default() });
    let a = rig.member_id(first);
    assert!(rig.join(first, &join_request(&a, None, &["range"], "")).is_none());
    rig.pass(delay - Duration::from_millis(1));
    let b = rig.member_id(second);
    assert!(rig.join(second, &join_request(&b, None, &["range"], "")).is_none());
    rig.pass(Duration::from_millis(1));
    // The second one draws it out once more.
    rig.pass(delay - Duration::from_millis(1));
    assert_eq!(rig.answer::<JoinGroupRequest>(first, 9), None);
    rig.pass(Duration::from_millis(1));
    assert_eq!((rig.joined(first).members.len(), rig.joined(second).generation_id), (2, 1));
}
