//! The coordinator moves, dies and comes back.
use super::*;

#[test]
fn no_coordinator_yet_is_waited_for() {
    let mut trace = Trace::new(eager());
    for code in [ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::COORDINATOR_LOAD_IN_PROGRESS] {
        let request = trace.take("find");
        let answer =
            FindCoordinatorResponse::default().with_error_code(code.code()).with_node_id(BrokerId(-1));
        trace.answer(&request, Answer::Find(answer));
        assert!(trace.waiting().is_empty());
        trace.pass(SECOND);
    }
    trace.break_off("find");
    trace.pass(SECOND);
    trace.find();
    assert_eq!(trace.waiting(), ["join"]);
}

#[test]
fn a_group_that_may_not_be_used_is_fatal() {
    let mut trace = Trace::new(eager());
    let request = trace.take("find");
    let code = ErrorCode::GROUP_AUTHORIZATION_FAILED;
    trace.answer(&request, Answer::Find(FindCoordinatorResponse::default().with_error_code(code.code())));
    assert_eq!(trace.told(), ["failed GROUP_AUTHORIZATION_FAILED"]);
}

#[test]
fn another_coordinator_keeps_id_and_generation() {
    for code in [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE] {
        let mut trace = Trace::stable(cooperative(), &[0]);
        trace.pass(SECOND);
        trace.beats(code);
        trace.pass(SECOND);
        trace.find();
        trace.pass(3 * SECOND);
        trace.beats(ErrorCode::NONE);
        assert!(trace.told().is_empty());
        trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
        trace.join_fails(code);
        trace.pass(SECOND);
        trace.find();
        trace.pass(SECOND);
        assert_eq!(trace.subscription().3, Identity { generation: 1, member: "me".into() });
        trace.joined(2);
        trace.sync_as(code, bytes::Bytes::new());
        trace.pass(SECOND);
        trace.find();
        trace.pass(SECOND);
        assert_eq!(trace.subscription().3, Identity { generation: 2, member: "me".into() });
        assert!(trace.told().is_empty(), "nothing is lost by that");
    }
}

#[test]
fn a_connection_that_is_lost_in_a_round_is_no_reason_to_lose_anything() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.break_off("join");
    trace.pass(SECOND);
    trace.find();
    trace.pass(SECOND);
    trace.joined(2);
    trace.break_off("sync");
    trace.pass(SECOND);
    trace.find();
    trace.pass(SECOND);
    trace.joined(3);
    trace.synced(&[0]);
    assert!(trace.told().is_empty() && trace.group.is_stable());
}

#[test]
fn an_answer_of_the_old_coordinator_does_not_lose_the_new_one() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.commit(1, 0, 5);
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::NOT_COORDINATOR);
    trace.pass(SECOND);
    let request = trace.take("find");
    trace.answer(&request, Answer::Find(FindCoordinatorResponse::default().with_node_id(BrokerId(2))));
    trace.break_off("commit");
    trace.pass(SECOND);
    assert_eq!(trace.take("commit").node, Some(2), "node 2 is asked, and not looked for again");
}

#[test]
fn a_static_leader_that_comes_back_keeps_the_assignment() {
    let mut trace = Trace::new(Settings { instance: Some("i".into()), ..cooperative() });
    trace.find();
    let member = JoinGroupResponseMember::default()
        .with_member_id("i-2".into())
        .with_group_instance_id(Some("i".into()))
        .with_metadata(subscription(&["t"], &[], -1));
    trace.join_as(ErrorCode::NONE, |answer| {
        answer
            .with_generation_id(7)
            .with_member_id("i-2".into())
            .with_leader("i-2".into())
            .with_skip_assignment(true)
            .with_members(vec![member])
    });
    let request = trace.take("sync");
    let What::Sync(plan) = &request.what else { unreachable!() };
    assert!(plan.assignments.is_empty());
    trace.open.push(request);
    trace.synced(&[0, 1, 2, 3]);
    assert_eq!(trace.told(), ["assigned 0 1 2 3"]);
    trace.described("Stable", &[("i-2", &[0, 1, 2, 3])]);
    assert!(trace.waiting().is_empty());
    // It looks after the topics of the group.
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 5)]));
    assert_eq!(trace.waiting(), ["join"]);
}

#[test]
fn a_static_leader_that_comes_back_with_other_topics_asks_for_a_round() {
    let mut trace = Trace::new(Settings { instance: Some("i".into()), ..cooperative() });
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 4), ("u", 1)]));
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.find();
    let member = JoinGroupResponseMember::default()
        .with_member_id("i-2".into())
        .with_group_instance_id(Some("i".into()))
        .with_metadata(subscription(&["t", "u"], &[], -1));
    trace.join_as(ErrorCode::NONE, |answer| {
        answer
            .with_generation_id(7)
            .with_member_id("i-2".into())
            .with_leader("i-2".into())
            .with_skip_assignment(true)
            .with_members(vec![member])
    });
    trace.synced(&[0, 1, 2, 3]);
    assert_eq!(trace.told(), ["assigned 0 1 2 3"]);
    assert_eq!(trace.waiting(), ["join"], "u was not in what the group kept");
}

#[test]
fn a_static_leader_that_an_old_coordinator_does_not_tell_so_looks_after_its_topics() {
    let mut trace = Trace::new(Settings { instance: Some("i".into()), ..cooperative() });
    trace.find();
    trace.join_as(ErrorCode::NONE, |answer| {
        answer.with_generation_id(7).with_member_id("i-2".into()).with_leader("i-1".into())
    });
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["assigned 0"]);
    trace.described("Stable", &[("i-2", &[0]), ("other", &[1, 2, 3])]);
    assert!(trace.waiting().is_empty());
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 5)]));
    assert_eq!(trace.waiting(), ["join"]);
}

#[test]
fn partitions_that_a_topic_gained_while_its_static_leader_was_away_were_nobodys() {
    for told in [true, false] {
        let mut trace = Trace::new(Settings { instance: Some("i".into()), ..eager() });
        trace.find();
        let member = |id: &'static str| {
            JoinGroupResponseMember::default()
                .with_member_id(id.into())
                .with_group_instance_id(None)
                .with_metadata(subscription(&["t"], &[], -1))
        };
        trace.join_as(ErrorCode::NONE, |answer| {
            let answer = answer.with_generation_id(7).with_member_id("i-2".into());
            match told {
                true => answer
                    .with_leader("i-2".into())
                    .with_skip_assignment(true)
                    .with_members(vec![member("i-2"), member("other")]),
                false => answer.with_leader("i-1".into()),
            }
        });
        trace.synced(&[0, 1]);
        assert_eq!(trace.told(), ["assigned 0 1"]);
        // Not while others move, and again when nobody answers.
        trace.described("PreparingRebalance", &[]);
        trace.pass(2 * SECOND);
        trace.break_off("describe");
        trace.pass(2 * SECOND);
        trace.described("Stable", &[("i-2", &[0, 1]), ("other", &[2])]);
        assert_eq!(trace.told(), ["revoke 0 1"], "partition 3 is nobody's");
    }
}

/// A session of 6 s on a cluster of three nodes, and the heartbeat that is due is with node 1, which hangs.
fn with_a_hung_coordinator() -> Trace {
    let mut trace =
        Trace::stable(Settings { session_timeout: 6 * SECOND, heartbeat_interval: SECOND, ..eager() }, &[0]);
    let mut nodes = Cluster::clone(&cluster(&[("t", 4)]));
    let other = |id| (id, Node { id, ..nodes.nodes[&1].clone() });
    let others = [other(2), other(3)];
    nodes.nodes.extend(others);
    trace.group.handle_metadata(trace.now, &Arc::new(nodes));
    trace.pass(SECOND);
    trace
}

#[test]
fn of_two_coordinators_that_hung_the_first_was_asked_again_who_coordinates() {
    let mut trace = with_a_hung_coordinator();
    trace.end("heartbeat", ErrorKind::Timeout);
    trace.pass(SECOND / 2);
    assert_ne!(trace.find_at(2), Some(1));
    trace.pass(SECOND / 2);
    trace.end("heartbeat", ErrorKind::Timeout);
    trace.pass(SECOND / 2);
    assert_eq!(trace.find_at(3), Some(3));
    trace.pass(SECOND / 2);
    trace.beats(ErrorCode::NOT_COORDINATOR);
    trace.pass(SECOND / 2);
    let request = trace.take("find");
    assert_eq!((request.node, request.timeout), (Some(3), SECOND), "who answers does not hang");
    trace.pass(13 * SECOND / 4);
    trace.answer(&request, Answer::Find(FindCoordinatorResponse::default().with_node_id(BrokerId(3))));
    trace.beats(ErrorCode::NOT_COORDINATOR);
    trace.pass(SECOND);
    assert_ne!(trace.find_at(1), Some(2), "node 1 was silent a session ago");
    assert_eq!(trace.take("heartbeat").node, Some(1));
}

#[test]
fn a_node_that_hung_was_waited_for_until_the_session_was_over_to_name_the_coordinator() {
    let mut trace = with_a_hung_coordinator();
    trace.end("heartbeat", ErrorKind::Timeout);
    let mut asked = Vec::new();
    for _ in 0..4 {
        trace.pass(SECOND);
        let request = trace.take("find");
        asked.extend(request.node);
        trace.open.push(request);
        trace.end("find", ErrorKind::Timeout);
    }
    asked[..2].sort();
    assert_eq!(asked[..3], [2, 3, 1], "each in turn, and then again");
    trace.pass(SECOND);
    trace.find_at(2);
    assert_eq!(trace.take("heartbeat").node, Some(2));
    // Before anything is known of the cluster, anybody is asked.
    let mut trace = Trace::new(eager());
    let request = trace.take("find");
    assert_eq!((request.node, request.timeout), (None, 15 * SECOND / 2));
}

#[test]
fn a_deposed_coordinator_that_went_on_refused_a_commit_and_the_member_believed_that_it_was_out() {
    for code in [ErrorCode::UNKNOWN_MEMBER_ID, ErrorCode::ILLEGAL_GENERATION] {
        for found in [false, true] {
            let mut trace = with_a_hung_coordinator();
            trace.commit(1, 0, 5);
            trace.end("heartbeat", ErrorKind::Timeout);
            trace.pass(SECOND / 2);
            if found {
                trace.find_at(2);
            }
            trace.committed(code);
            assert!(trace.told().is_empty());
            trace.pass(SECOND / 2);
            if !found {
                trace.find_at(2);
            }
            assert_eq!(trace.group.identity().generation, 1);
            assert_eq!(trace.take("heartbeat").node, Some(2));
            assert_eq!(trace.take("commit").node, Some(2));
        }
    }
}

#[test]
fn a_coordinator_that_hung_was_named_again_and_asked_before_the_cluster_knew_the_next_one() {
    let mut trace = with_a_hung_coordinator();
    trace.end("heartbeat", ErrorKind::Timeout);
    trace.pass(SECOND / 4);
    trace.find_at(1);
    assert!(trace.waiting().is_empty(), "not believed");
    trace.pass(SECOND / 2);
    trace.find_at(2);
    assert_eq!(trace.take("heartbeat").node, Some(2));
}

#[test]
fn a_coordinator_that_hung_for_a_moment_is_asked_again_if_the_cluster_keeps_it() {
    let mut trace = with_a_hung_coordinator();
    trace.end("heartbeat", ErrorKind::Timeout);
    trace.pass(SECOND);
    trace.find_at(1);
    assert_eq!(trace.take("heartbeat").node, Some(1));
    // Where there is no other node, nobody knows better.
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(3 * SECOND);
    trace.end("heartbeat", ErrorKind::Timeout);
    trace.pass(SECOND / 4);
    trace.find();
    trace.pass(SECOND);
    assert_eq!(trace.waiting(), ["heartbeat"]);
}

#[test]
fn a_commit_at_a_coordinator_that_hung_was_awaited_for_longer_than_a_session_and_kept_the_member_out_of_rounds()
 {
    let mut trace = Trace::stable(Settings { session_timeout: 6 * SECOND, ..eager() }, &[0]);
    trace.commit(1, 0, 5);
    assert_eq!(trace.take("commit").timeout, 6 * SECOND);
}
