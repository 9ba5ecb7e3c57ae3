//! What other clients got wrong, and a few answers that come too late.
use super::*;

#[test]
fn a_commit_in_a_cooperative_round_got_illegal_generation_and_all_was_declared_lost() {
    for code in
        [ErrorCode::ILLEGAL_GENERATION, ErrorCode::REBALANCE_IN_PROGRESS, ErrorCode::UNKNOWN_MEMBER_ID]
    {
        let mut trace = Trace::stable(cooperative(), &[0]);
        trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
        assert_eq!(trace.waiting(), ["join"]);
        trace.break_off("join");
        // JoinGroup may have been accepted unheard.
        trace.pass(SECOND);
        trace.find();
        trace.commit(1, 0, 5);
        trace.committed(code);
        trace.joined(2);
        assert_eq!(trace.waiting(), ["sync"]);
        trace.synced(&[0]);
        trace.pass(SECOND);
        let request = trace.take("commit");
        let What::Commit(plan) = &request.what else { unreachable!() };
        assert_eq!(plan.sender.identity.generation, 2);
        assert!(trace.told().is_empty());
    }
}

#[test]
fn a_commit_that_a_round_overtook_was_refused_although_the_partition_was_kept() {
    let mut trace = Trace::stable(cooperative(), &[0, 1]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    assert_eq!(trace.waiting(), ["join"]);
    trace.group.commit(
        1,
        names(&[0, 1]).into_iter().map(|name| (name, place(5))).collect(),
        trace.now + 30 * SECOND,
    );
    trace.joined(2);
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["revoke 1"]);
    trace.revoked();
    trace.committed(ErrorCode::ILLEGAL_GENERATION);
    assert!(trace.told().is_empty());
    // What was kept goes out again; what was given up does not.
    trace.pass(SECOND);
    let request = trace.take("commit");
    let What::Commit(plan) = &request.what else { unreachable!() };
    assert_eq!((plan.sender.identity.generation, plan.offsets.len()), (2, 1));
    trace.open.push(request);
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.told(), ["commit 1: 1 REBALANCE_IN_PROGRESS retriable"]);
}

#[test]
fn a_join_overtook_a_commit_under_way() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.commit(1, 0, 5);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    assert_eq!(trace.waiting(), ["commit"]);
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.waiting(), ["join"]);
}

#[test]
fn a_commit_that_waited_for_a_round_went_out_for_a_partition_of_another_member() {
    let mut trace = Trace::stable(cooperative(), &[0, 1]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    assert_eq!(trace.waiting(), ["join"]);
    trace.joined(2);
    trace.commit(1, 1, 5);
    trace.synced(&[0]);
    // It is committed before the partition is given up...
    trace.committed(ErrorCode::NONE);
    assert_eq!(trace.told(), ["revoke 1", "commit 1: 1"]);
    trace.revoked();
    assert_eq!(trace.waiting(), ["join"]);
    // ...and not after it is.
    trace.joined(3);
    trace.commit(2, 1, 6);
    trace.group.offsets.forget(&names(&[1])[0]);
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["commit 2: 0 REBALANCE_IN_PROGRESS"]);
    assert!(trace.waiting().is_empty());
}

#[test]
fn an_offset_fetch_under_way_in_a_round_left_kept_partitions_without_a_position() {
    let mut trace = Trace::stable(cooperative(), &[0, 1]);
    trace.group.fetch(names(&[0, 1]));
    assert_eq!(trace.waiting(), ["fetch"]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.joined(2);
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["revoke 1"], "0 is not told again");
    trace.revoked();
    trace.fetched(ErrorCode::NONE, &[(0, 7, ErrorCode::NONE), (1, 8, ErrorCode::NONE)]);
    assert_eq!(trace.told(), ["0 at Some(7)"], "1 is not this member's business any more");
}

#[test]
fn an_offset_from_before_a_partition_was_away_was_used_when_it_came_back() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.group.fetch(names(&[0]));
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    trace.told();
    trace.revoked();
    trace.joined(2);
    trace.synced(&[0]);
    trace.group.fetch(names(&[0]));
    trace.told();
    trace.fetched(ErrorCode::NONE, &[(0, 7, ErrorCode::NONE)]);
    assert!(trace.told().is_empty(), "others may have read on meanwhile");
    trace.fetched(ErrorCode::NONE, &[(0, 9, ErrorCode::NONE)]);
    assert_eq!(trace.told(), ["0 at Some(9)"]);
}

#[test]
fn unsubscribing_in_a_cooperative_group_did_not_leave() {
    let mut trace = Trace::new(cooperative());
    trace.find();
    trace.join_as(ErrorCode::MEMBER_ID_REQUIRED, |answer| answer.with_member_id("me".into()));
    assert_eq!(trace.waiting(), ["join"]);
    trace.group.subscribe(trace.now, BTreeSet::new(), None);
    assert_eq!(trace.waiting(), ["join", "leave"]);
}

#[test]
fn a_close_while_an_assignment_was_awaited_hung() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.joined(2);
    trace.group.close(trace.now, 9, BTreeMap::new());
    assert_eq!(trace.waiting(), ["sync", "leave"]);
    let request = trace.take("leave");
    trace.answer(&request, Answer::Leave(LeaveGroupResponse::default()));
    assert!(trace.group.is_gone(), "nobody waits for SyncGroup");
}

#[test]
fn a_leave_between_join_and_sync_brought_the_member_back() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    assert_eq!(trace.waiting(), ["join"]);
    trace.group.subscribe(trace.now, BTreeSet::new(), None);
    assert_eq!(trace.told(), ["lost 0"]);
    let request = trace.take("leave");
    trace.answer(&request, Answer::Leave(LeaveGroupResponse::default()));
    trace.joined(2);
    assert!(!trace.waiting().contains(&"sync") && !trace.group.is_stable());
    assert_eq!(trace.waiting(), ["leave"], "the coordinator took it for a member once more");
}

#[test]
fn an_answer_to_an_old_generation_reset_the_new_one() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.pass(SECOND);
    let old = trace.take("heartbeat");
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.joined(2);
    trace.synced(&[0]);
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION, ErrorCode::FENCED_INSTANCE_ID] {
        let answer = HeartbeatResponse::default().with_error_code(code.code());
        let call = (1, Call::Member(Api::Heartbeat, Identity { generation: 1, member: "me".into() }));
        trace.group.calls.insert(old.ticket, call);
        trace.answer(&old, Answer::Heartbeat(answer));
        assert!(trace.told().is_empty() && trace.group.is_stable(), "{code}");
    }
}

#[test]
fn a_heartbeat_that_crossed_a_completed_join_lost_everything() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.pass(SECOND);
    let heartbeat = trace.take("heartbeat");
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    assert_eq!(trace.waiting(), ["join"]);
    // The coordinator is in generation 2 by now; its answer to JoinGroup is on the way.
    let code = ErrorCode::ILLEGAL_GENERATION.code();
    trace.answer(&heartbeat, Answer::Heartbeat(HeartbeatResponse::default().with_error_code(code)));
    assert!(trace.told().is_empty());
    trace.joined(2);
    trace.synced(&[0]);
    assert!(trace.told().is_empty() && trace.group.is_stable());
}

#[test]
fn rebalance_in_progress_at_heartbeats_in_a_round_started_another() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    trace.told();
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    trace.revoked();
    trace.joined(2);
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["assigned 0"]);
    trace.pass(SECOND);
    assert!(trace.waiting().is_empty());
}

#[test]
fn the_same_subscription_was_other_bytes_each_time() {
    let bytes = || {
        let mut trace = Trace::new(cooperative());
        trace.group.subscribe(trace.now, topics(&["b", "t", "a"]), None);
        trace.find();
        let request = trace.take("join");
        let What::Join(plan) = &request.what else { unreachable!() };
        plan.protocols[0].1.clone()
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn a_list_of_an_eager_and_a_cooperative_assignor_was_sometimes_cooperative() {
    let mut trace = Trace::stable(
        settings(vec![Arc::new(RangeAssignor), Arc::new(CooperativeStickyAssignor::default())]),
        &[0],
    );
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(trace.told(), ["revoke 0"], "range cannot do with what is kept");
    trace.revoked();
    assert!(trace.subscription().1.is_empty());
}

#[test]
fn a_lost_member_gave_up_what_it_was_giving_up_a_second_time() {
    let mut trace = Trace::stable(cooperative(), &[0, 1]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.joined(2);
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["revoke 1"]);
    trace.pass(SECOND);
    trace.beats(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(trace.told(), ["lost 0 1"]);
    assert_eq!(trace.waiting(), ["join"], "nothing is waited for");
    trace.revoked();
    trace.joined(3);
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["assigned 0"]);
}

#[test]
fn metadata_that_was_not_asked_for_just_now_delayed_every_round() {
    let mut trace = Trace::new(eager());
    trace.pass(200 * SECOND);
    trace.find();
    trace.leads(1, &[("me", subscription(&["t"], &[], -1))]);
    assert_eq!(trace.waiting(), ["sync"], "what is known of the topic is enough");
}

#[test]
fn a_static_member_that_a_round_did_without_kept_what_others_had_been_given_in_it() {
    let settings = || Settings { instance: Some("i".into()), ..cooperative() };
    for (generation, told) in [(2, &[][..]), (3, &["lost 0 1"])] {
        let mut trace = Trace::stable(settings(), &[0, 1]);
        trace.pass(3 * SECOND);
        trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
        trace.joined(generation);
        assert_eq!(trace.told(), told, "generation {generation} after 1");
        trace.synced(&[0]);
    }
    // Any other would have been put out: it only missed an answer.
    let mut trace = Trace::stable(cooperative(), &[0, 1]);
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    trace.joined(3);
    assert_eq!(trace.told(), [""; 0]);
}
