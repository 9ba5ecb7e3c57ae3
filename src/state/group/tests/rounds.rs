//! Joining, by every answer that a coordinator may give to JoinGroup and SyncGroup.
use super::*;

#[test]
fn a_new_member_is_given_an_id_and_joins_under_it() {
    let mut trace = Trace::new(eager());
    assert_eq!(trace.waiting(), ["find"]);
    trace.find();
    trace.join_as(ErrorCode::MEMBER_ID_REQUIRED, |answer| answer.with_member_id("me".into()));
    assert_eq!(trace.subscription().3, Identity { generation: -1, member: "me".into() });
    trace.joined(1);
    trace.synced(&[0, 1]);
    assert_eq!(trace.told(), ["assigned 0 1"]);
    assert_eq!(trace.group.identity(), &Identity { generation: 1, member: "me".into() });
}

#[test]
fn a_leader_assigns_for_all() {
    let mut trace = Trace::new(eager());
    trace.find();
    let both = [("me", subscription(&["t"], &[], -1)), ("you", subscription(&["t"], &[], -1))];
    trace.leads(1, &both);
    let request = trace.take("sync");
    let What::Sync(plan) = &request.what else { unreachable!() };
    let given: Vec<_> = plan.assignments.iter().map(|(member, bytes)| (&**member, bytes.clone())).collect();
    assert_eq!(given, [("me", assignment(&[0, 1])), ("you", assignment(&[2, 3]))]);
}

#[test]
fn a_leader_waits_for_the_metadata_of_topics_it_has_not_heard_of() {
    let mut trace = Trace::new(eager());
    trace.find();
    trace.leads(1, &[("me", subscription(&["t"], &[], -1)), ("you", subscription(&["u"], &[], -1))]);
    assert!(trace.waiting().is_empty());
    assert_eq!(trace.group.topics(), topics(&["t", "u"]));
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 4), ("u", 1)]));
    assert_eq!(trace.waiting(), ["sync"]);
    // Not for ever.
    let mut trace = Trace::new(eager());
    trace.find();
    trace.leads(1, &[("me", subscription(&["t"], &[], -1)), ("you", subscription(&["u"], &[], -1))]);
    trace.pass(4 * SECOND);
    assert!(!trace.waiting().contains(&"sync"));
    trace.pass(SECOND);
    assert!(trace.waiting().contains(&"sync"));
}

#[test]
fn a_member_whose_subscription_is_garbage_gets_nothing() {
    let mut trace = Trace::new(eager());
    trace.find();
    trace.leads(
        1,
        &[("me", subscription(&["t"], &[], -1)), ("you", bytes::Bytes::from_static(b"\x00garbage"))],
    );
    let request = trace.take("sync");
    let What::Sync(plan) = &request.what else { unreachable!() };
    assert_eq!(plan.assignments[0].1, assignment(&[0, 1, 2, 3]));
    assert_eq!(plan.assignments[1].1, assignment(&[]));
}

#[test]
fn an_assignor_that_gives_one_partition_to_two_members_ends_the_membership() {
    #[derive(Debug)]
    struct Twice;
    impl Assignor for Twice {
        fn name(&self) -> &str {
            "twice"
        }
        fn assign(&self, group: &crate::assignor::Group) -> crate::assignor::GroupAssignment {
            let mut assignment = crate::assignor::GroupAssignment::new(group.members().len());
            (0..group.members().len()).for_each(|member| assignment.partitions_mut(member).push(0, 0));
            assignment
        }
    }
    let mut trace = Trace::new(settings(vec![Arc::new(Twice)]));
    trace.find();
    trace.leads(1, &[("me", subscription(&["t"], &[], -1)), ("you", subscription(&["t"], &[], -1))]);
    assert_eq!(trace.told(), ["failed "]);
    assert_eq!(trace.waiting(), ["leave"], "the others need not wait");
}

#[test]
fn unknown_member_id_at_join_drops_the_id_and_joins_at_once() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.join_fails(ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(trace.told(), ["lost 0"]);
    assert_eq!(trace.subscription().3, Identity::none());
}

#[test]
fn rebalance_in_progress_at_join_joins_at_once_and_then_after_a_while() {
    let mut trace = Trace::new(eager());
    trace.find();
    trace.join_fails(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(trace.waiting(), ["join"]);
    trace.join_fails(ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(trace.waiting().is_empty());
    trace.pass(SECOND);
    assert_eq!(trace.waiting(), ["join"]);
}

#[test]
fn fatal_codes_end_the_membership_until_it_subscribes_again() {
    for code in [
        ErrorCode::FENCED_INSTANCE_ID,
        ErrorCode::GROUP_MAX_SIZE_REACHED,
        ErrorCode::INCONSISTENT_GROUP_PROTOCOL,
        ErrorCode::INVALID_SESSION_TIMEOUT,
        ErrorCode::INVALID_GROUP_ID,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::UNSUPPORTED_VERSION,
    ] {
        let mut trace = Trace::new(eager());
        trace.find();
        trace.join_fails(code);
        assert_eq!(trace.told(), [format!("failed {}", code.name())]);
        trace.pass(1000 * SECOND);
        assert!(trace.waiting().is_empty(), "{code}");
        trace.group.subscribe(trace.now, topics(&["t"]), None);
        assert_eq!(trace.waiting(), ["join"]);
    }
}

#[test]
fn another_protocol_type_or_assignor_in_the_answer_is_fatal() {
    for change in [
        |answer: JoinGroupResponse| answer.with_protocol_type(Some("connect".into())),
        |answer: JoinGroupResponse| answer.with_protocol_name(Some("theirs".into())),
    ] {
        let mut trace = Trace::new(eager());
        trace.find();
        trace.join_as(ErrorCode::NONE, |answer| {
            change(answer.with_member_id("me".into()).with_leader("a".into()))
        });
        assert_eq!(trace.told(), ["failed INCONSISTENT_GROUP_PROTOCOL"]);
    }
    let mut trace = Trace::new(eager());
    trace.find();
    trace.joined(1);
    let request = trace.take("sync");
    let answer =
        SyncGroupResponse::default().with_protocol_type(None).with_protocol_name(Some("theirs".into()));
    trace.answer(&request, Answer::Sync(answer));
    assert_eq!(trace.told(), ["failed INCONSISTENT_GROUP_PROTOCOL"]);
}

#[test]
fn unknown_member_id_at_sync_loses_all_and_the_id() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.joined(2);
    trace.sync_as(ErrorCode::UNKNOWN_MEMBER_ID, bytes::Bytes::new());
    assert_eq!(trace.told(), ["lost 0"]);
    assert_eq!(trace.subscription().3, Identity::none());
}

#[test]
fn illegal_generation_at_sync_keeps_the_id() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.joined(2);
    trace.sync_as(ErrorCode::ILLEGAL_GENERATION, bytes::Bytes::new());
    assert_eq!(trace.told(), ["lost 0"]);
    assert_eq!(trace.subscription().3, Identity { generation: -1, member: "me".into() });
}

#[test]
fn rebalance_in_progress_at_sync_resets_nothing_and_claims_with_the_old_generation() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, topics(&["t", "u"]), None);
    trace.joined(2);
    trace.sync_as(ErrorCode::REBALANCE_IN_PROGRESS, bytes::Bytes::new());
    assert!(trace.told().is_empty());
    let (_, owned, generation, identity) = trace.subscription();
    assert_eq!((owned, generation), (vec![0], Some(1)), "what it owns was assigned in generation 1");
    assert_eq!(identity, Identity { generation: 2, member: "me".into() });
}

#[test]
fn the_coordinator_loads_at_join_and_sync() {
    let mut trace = Trace::new(eager());
    trace.find();
    trace.join_fails(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    assert!(trace.waiting().is_empty(), "after a wait, at the same node");
    trace.pass(SECOND);
    trace.joined(1);
    trace.sync_as(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS, bytes::Bytes::new());
    trace.pass(SECOND);
    assert_eq!(trace.waiting(), ["join"]);
}

#[test]
fn an_eager_member_gives_up_everything_before_it_joins() {
    let mut trace = Trace::stable(eager(), &[0, 1]);
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(trace.told(), ["revoke 0 1"]);
    assert!(trace.waiting().is_empty(), "it joins when that is given up");
    trace.revoked();
    let (_, owned, _, identity) = trace.subscription();
    assert_eq!((owned, identity.generation), (vec![], 1));
    trace.joined(2);
    trace.synced(&[1, 2]);
    assert_eq!(trace.told(), ["assigned 1 2"]);
}

#[test]
fn a_cooperative_member_keeps_what_stays_and_joins_again_after_giving_up() {
    let mut trace = Trace::stable(cooperative(), &[0, 1]);
    trace.pass(SECOND);
    trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
    assert!(trace.told().is_empty(), "all is kept while the group is joined");
    assert_eq!(trace.subscription().1, [0, 1]);
    trace.joined(2);
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["revoke 1"]);
    assert!(trace.waiting().is_empty());
    trace.revoked();
    let (_, owned, generation, _) = trace.subscription();
    assert_eq!((owned, generation), (vec![0], Some(2)));
    trace.joined(3);
    trace.synced(&[0]);
    assert!(trace.told().is_empty(), "nothing changed");
    assert!(trace.waiting().is_empty());
}

#[test]
fn topics_no_longer_subscribed_to_are_given_up_before_a_cooperative_round() {
    let mut trace = Trace::stable(cooperative(), &[0, 1]);
    trace.group.subscribe(trace.now, topics(&["u"]), None);
    assert_eq!(trace.told(), ["revoke 0 1"]);
    assert!(trace.waiting().is_empty());
    trace.revoked();
    assert_eq!(trace.subscription().0, ["u"]);
}

#[test]
fn an_assignment_from_before_the_subscription_changed_is_not_applied() {
    let mut trace = Trace::new(eager());
    trace.find();
    trace.joined(1);
    trace.group.subscribe(trace.now, topics(&["u"]), None);
    trace.synced(&[0]);
    assert!(trace.told().is_empty());
    assert_eq!(trace.subscription().0, ["u"], "it joins again at once");
}

#[test]
fn topics_that_match_the_pattern_are_taken_before_they_are_known() {
    let mut trace = Trace::new(eager());
    trace.group.subscribe(trace.now, topics(&["u"]), Some(Arc::new(|name| name == "u" || name == "t")));
    trace.find();
    trace.joined(1);
    trace.synced(&[0]);
    assert_eq!(trace.told(), ["assigned 0"]);
    assert_eq!(trace.group.topics(), topics(&["t", "u"]));
    assert!(trace.waiting().is_empty());
}

#[test]
fn a_leader_that_insists_on_other_topics_is_not_asked_without_a_wait() {
    let mut trace = Trace::new(eager());
    trace.group.subscribe(trace.now, topics(&["u"]), None);
    trace.find();
    trace.joined(1);
    trace.synced(&[0]);
    assert!(trace.told().is_empty() && trace.waiting().is_empty());
    trace.pass(2 * SECOND);
    assert_eq!(trace.waiting(), ["join"]);
}

#[test]
fn no_bytes_are_an_empty_assignment_and_garbage_is_an_error() {
    let mut trace = Trace::stable(eager(), &[]);
    assert!(trace.told().is_empty() && trace.group.is_stable());
    for garbage in
        [&b"\x00"[..], b"\x00\x00\x00\x00\x00\x01\x00\x01t\x00\x00\x00\x01\xff\xff\xff\xff\xff\xff\xff\xff"]
    {
        let mut trace = Trace::new(eager());
        trace.find();
        trace.joined(1);
        trace.sync_as(ErrorCode::NONE, bytes::Bytes::from_static(garbage));
        assert_eq!(trace.told(), ["failed "]);
    }
}

#[test]
fn a_leader_starts_a_round_when_topics_grow_or_vanish_but_not_for_a_blink() {
    let lead = || {
        let mut trace = Trace::new(cooperative());
        trace.find();
        trace.leads(1, &[("me", subscription(&["t"], &[], -1))]);
        trace.synced(&[0, 1, 2, 3]);
        trace.told();
        trace
    };
    let mut trace = lead();
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 5)]));
    assert_eq!(trace.waiting(), ["join"]);
    let mut trace = lead();
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 0)]));
    assert!(trace.waiting().is_empty());
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 4)]));
    trace.pass(10 * SECOND);
    assert!(!trace.waiting().contains(&"join"));
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 0)]));
    trace.pass(3 * SECOND);
    assert!(trace.waiting().contains(&"join"));
    // A follower leaves that to the leader.
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.handle_metadata(trace.now, &cluster(&[("t", 5)]));
    assert!(trace.waiting().is_empty());
}

#[test]
fn leaving_sends_leave_and_waits_for_nothing() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.group.close(trace.now, 9, BTreeMap::from([(names(&[0]).remove(0), place(5))]));
    assert_eq!(trace.waiting(), ["commit", "leave"], "in this order, at once");
    assert!(!trace.group.is_gone());
    trace.committed(ErrorCode::NONE);
    trace.break_off("leave");
    assert!(trace.group.is_gone());
}

#[test]
fn unsubscribing_gives_up_and_leaves() {
    let mut trace = Trace::stable(cooperative(), &[0]);
    trace.group.subscribe(trace.now, BTreeSet::new(), None);
    assert_eq!(trace.told(), ["revoke 0"]);
    trace.revoked();
    assert_eq!(trace.waiting(), ["leave"]);
    trace.pass(100 * SECOND);
    assert_eq!(trace.waiting(), ["leave"], "no heartbeats any more");
}

#[test]
fn a_member_that_closes_while_the_coordinator_is_away_finds_it_to_leave() {
    let mut trace = Trace::stable(eager(), &[0]);
    trace.pass(3 * SECOND);
    trace.beats(ErrorCode::NOT_COORDINATOR);
    trace.group.close(trace.now, 9, BTreeMap::from([(names(&[0]).remove(0), place(5))]));
    assert!(trace.waiting().is_empty() && !trace.group.is_gone());
    trace.pass(SECOND);
    trace.find();
    assert_eq!(trace.waiting(), ["commit", "leave"]);
    trace.committed(ErrorCode::COORDINATOR_LOAD_IN_PROGRESS);
    trace.break_off("leave");
    assert!(trace.group.is_gone(), "once is enough");
}

/// Topic `t`: the nodes of each partition's replicas, of nodes by their racks.
fn racks(nodes: &[(i32, &str)], replicas: &[&[i32]]) -> Arc<Cluster> {
    let mut cluster = Cluster::clone(&cluster(&[("t", replicas.len())]));
    let node = |(id, rack): &(i32, &str)| {
        (*id, Node { id: *id, host: "n".into(), port: 1, rack: Some((*rack).into()) })
    };
    cluster.nodes = nodes.iter().map(node).collect();
    let topic = Arc::make_mut(cluster.topics.get_mut("t").unwrap());
    for (partition, replicas) in topic.partitions.iter_mut().zip(replicas) {
        partition.replicas = replicas.to_vec();
    }
    Arc::new(cluster)
}

fn in_rack(rack: &str) -> bytes::Bytes {
    Subscription { topics: vec!["t"], rack: Some(rack), ..Subscription::default() }.encode(NEWEST)
}

#[test]
fn a_leader_in_a_rack_starts_a_round_when_replicas_move_to_other_racks() {
    let nodes = [(1, "a"), (2, "b"), (3, "c")];
    let before = racks(&nodes, &[&[1, 2], &[2, 3]]);
    let rounds = |rack: Option<&str>, now: Arc<Cluster>| {
        let mut trace = Trace::new(Settings { rack: rack.map(Arc::from), ..cooperative() });
        trace.group.handle_metadata(trace.now, &before);
        trace.find();
        trace.leads(1, &[("me", in_rack("a")), ("you", in_rack("c"))]);
        trace.synced(&[0]);
        trace.told();
        trace.group.handle_metadata(trace.now, &now);
        trace.waiting() == ["join"]
    };
    let moved = || racks(&nodes, &[&[1, 2], &[2, 1]]);
    assert!(rounds(Some("a"), moved()), "from c to a");
    assert!(!rounds(None, moved()), "to one that is in no rack this is nothing");
    assert!(rounds(Some("a"), racks(&nodes, &[&[1, 2], &[2]])), "away from c");
    assert!(rounds(Some("a"), racks(&[(1, "a"), (2, "b"), (3, "d")], &[&[1, 2], &[2, 3]])), "a node moved");
    assert!(!rounds(Some("a"), racks(&nodes, &[&[2, 1], &[3, 2]])), "another order is the same");
    assert!(!rounds(Some("a"), racks(&nodes[..2], &[&[1, 2], &[2, 3]])), "a node that is down did not move");
    assert!(rounds(Some("a"), racks(&nodes[..2], &[&[1, 2], &[1, 3]])), "another did");
    assert!(!rounds(Some("a"), racks(&nodes, &[&[1, 2], &[]])), "replicas that are not told have not moved");
}

#[test]
fn a_node_that_came_back_started_a_round_of_a_leader_in_a_rack() {
    let nodes = [(1, "a"), (2, "b"), (3, "c")];
    let partitions: &[&[i32]] = &[&[1, 2], &[2, 3]];
    let mut trace = Trace::new(Settings { rack: Some("a".into()), ..cooperative() });
    trace.group.handle_metadata(trace.now, &racks(&nodes[..2], partitions));
    trace.find();
    trace.leads(1, &[("me", in_rack("a")), ("you", in_rack("c"))]);
    trace.synced(&[0]);
    trace.told();
    trace.group.handle_metadata(trace.now, &racks(&nodes, partitions));
    assert!(trace.waiting().is_empty(), "{:?}", trace.waiting());
}

#[test]
fn an_empty_rack_is_none() {
    #[derive(Debug)]
    struct NoRacks;
    impl Assignor for NoRacks {
        fn name(&self) -> &str {
            "range"
        }
        fn assign(&self, group: &crate::assignor::Group) -> crate::assignor::GroupAssignment {
            assert!(group.topics().iter().all(|topic| topic.racks.is_empty()), "{group:?}");
            assert!(group.members().iter().all(|member| member.rack.is_none()), "{group:?}");
            RangeAssignor.assign(group)
        }
    }
    let mut trace = Trace::new(settings(vec![Arc::new(NoRacks)]));
    trace.group.handle_metadata(trace.now, &racks(&[(1, "a"), (2, "b")], &[&[2], &[1]]));
    trace.find();
    trace.leads(1, &[("me", in_rack(""))]);
    trace.synced(&[0, 1]);
}

#[test]
fn racks_count_where_a_member_names_one() {
    let mut trace = Trace::new(eager());
    trace.group.handle_metadata(trace.now, &racks(&[(1, "a"), (2, "b")], &[&[2], &[1]]));
    trace.find();
    trace.leads(1, &[("me", in_rack("a")), ("you", in_rack("b"))]);
    let request = trace.take("sync");
    let What::Sync(plan) = &request.what else { unreachable!() };
    let given: Vec<_> = plan.assignments.iter().map(|(member, bytes)| (&**member, bytes.clone())).collect();
    assert_eq!(given, [("me", assignment(&[1])), ("you", assignment(&[0]))], "each what is near");
}

#[test]
fn a_join_group_on_a_connection_that_had_died_while_idle_was_awaited_until_the_member_was_put_out() {
    let mut trace = Trace::new(cooperative());
    trace.find();
    trace.joined(1);
    assert!(trace.probes.is_empty(), "a new connection is no riddle");
    trace.synced(&[0]);
    for round in 1..3 {
        trace.pass(SECOND);
        trace.beats(ErrorCode::REBALANCE_IN_PROGRESS);
        let join = trace.open.last().unwrap();
        assert_eq!(trace.probes.len(), round, "each JoinGroup has its own");
        let probe = trace.probes.last().unwrap();
        assert!(probe.ticket < join.ticket && probe.node == join.node, "it goes ahead, to the same node");
        assert!(
            probe.timeout <= 45 * SECOND / 2,
            "there is time for another JoinGroup before the session ends"
        );
        assert!(join.timeout > 60 * SECOND, "while a round may take long");
        trace.joined(1 + round as i32);
        trace.synced(&[0]);
        trace.told();
    }
}
