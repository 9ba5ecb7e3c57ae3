//! Coordinators that move, stop and come back.
use super::*;

fn three() -> Config {
    Config { nodes: 3, ..Config::default() }
}

/// Moves the coordinator, and connects to the new one.
fn moved(rig: &mut Rig) -> ConnectionId {
    assert!(rig.cluster.move_coordinator(rig.now, GROUP, None));
    let node = rig.cluster.coordinator(GROUP).unwrap();
    rig.connect(node)
}

#[test]
fn a_stable_group_survives_a_move() {
    let (mut rig, [first, second]) = Rig::groups(three());
    let (a, b, generation) = rig.two([first, second]);
    let new = moved(&mut rig);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NOT_COORDINATOR);
    assert_eq!(rig.heartbeat(new, &a, generation), ErrorCode::NONE);
    assert_eq!(rig.sync(new, &sync_request(&b, generation, &[])), Some((ErrorCode::NONE, "B".into())));
    // Sessions begin anew at the new coordinator.
    rig.pass(SESSION);
    assert_eq!(rig.state(), "Empty");
}

#[test]
fn a_rebalance_under_way_is_forgotten_and_parked_requests_are_sent_elsewhere() {
    let (mut rig, [first, second]) = Rig::groups(three());
    let (a, b, generation) = rig.two([first, second]);
    assert!(rig.join(second, &join_request(&b, None, &["range"], "!")).is_none());
    let new = moved(&mut rig);
    assert_eq!(ErrorCode::from(rig.joined(second).error_code), ErrorCode::NOT_COORDINATOR);
    assert_eq!(rig.heartbeat(new, &a, generation), ErrorCode::NONE);
    // It joins there with its id, and everybody is still known.
    assert!(rig.join(new, &join_request(&b, None, &["range"], "!")).is_none());
    let node = rig.cluster.coordinator(GROUP).unwrap();
    let other = rig.connect(node);
    assert_eq!(rig.heartbeat(other, &a, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    let joined = rig.join(other, &join_request(&a, None, &["range"], "")).unwrap();
    assert_eq!((joined.generation_id, joined.members.len()), (generation + 1, 2));
}

#[test]
fn a_generation_whose_assignment_was_not_written_down_is_lost_and_its_new_members_with_it() {
    let (mut rig, [first, second]) = Rig::groups(three());
    let a = rig.member_id(first);
    rig.join(first, &join_request(&a, None, &["range"], ""));
    assert_eq!(rig.sync(first, &sync_request(&a, 1, &[(&a, "A")])), Some((ErrorCode::NONE, "A".into())));
    let b = rig.member_id(second);
    assert!(rig.join(second, &join_request(&b, None, &["range"], "")).is_none());
    rig.join(first, &join_request(&a, None, &["range"], "")).unwrap();
    assert_eq!(rig.joined(second).generation_id, 2);
    assert!(rig.sync(second, &sync_request(&b, 2, &[])).is_none());
    let new = moved(&mut rig);
    assert_eq!(rig.synced(second), Some((ErrorCode::NOT_COORDINATOR, Bytes::new())));
    assert_eq!(rig.sync(new, &sync_request(&a, 2, &[])).unwrap().0, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(rig.sync(new, &sync_request(&a, 1, &[])), Some((ErrorCode::NONE, "A".into())));
    assert_eq!(rig.heartbeat(new, &b, 2), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn a_coordinator_that_reads_its_groups_says_so() {
    let load = Duration::from_secs(2);
    let (mut rig, [first, second]) = Rig::groups(Config { coordinator_load: load, ..three() });
    let (a, _, generation) = rig.two([first, second]);
    let new = moved(&mut rig);
    // Heartbeats are let pass.
    assert_eq!(rig.heartbeat(new, &a, generation), ErrorCode::NONE);
    assert_eq!(rig.heartbeat(new, "stranger", 99), ErrorCode::NONE);
    assert_eq!(
        rig.sync(new, &sync_request(&a, generation, &[])).unwrap().0,
        ErrorCode::COORDINATOR_LOAD_IN_PROGRESS
    );
    rig.pass(load);
    assert_eq!(rig.heartbeat(new, "stranger", 99), ErrorCode::UNKNOWN_MEMBER_ID);
    // The session counts from when it was read.
    rig.pass(SESSION - Duration::from_millis(1));
    assert_eq!(rig.heartbeat(new, &a, generation), ErrorCode::NONE);
}

#[test]
fn the_node_of_the_coordinator_stops_and_without_nodes_there_is_none() {
    let (mut rig, [first, second]) = Rig::groups(three());
    let (a, _, generation) = rig.two([first, second]);
    let old = rig.cluster.coordinator(GROUP).unwrap();
    rig.cluster.stop_node(rig.now, old);
    let node = rig.cluster.coordinator(GROUP).unwrap();
    let new = rig.connect(node);
    assert_eq!(rig.heartbeat(new, &a, generation), ErrorCode::NONE);
    for node in 1..=3 {
        rig.cluster.stop_node(rig.now, node);
    }
    assert_eq!((rig.cluster.coordinator(GROUP), rig.cluster.next_deadline()), (None, None));
    rig.pass(SESSION * 2);
    rig.cluster.start_node(rig.now, node);
    let node = rig.connect(node);
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text(GROUP)]);
    if rig.cluster.coordinator(GROUP).is_none() {
        let found = rig.call(node, 4, &request).coordinators.remove(0);
        assert_eq!((found.node_id.0, found.error_code), (-1, ErrorCode::COORDINATOR_NOT_AVAILABLE.code()));
    }
    for other in 1..=3 {
        rig.cluster.start_node(rig.now, other);
    }
    let node = rig.cluster.coordinator(GROUP).unwrap();
    let new = rig.connect(node);
    assert_eq!(rig.heartbeat(new, &a, generation), ErrorCode::NONE);
}

#[test]
fn a_coordinator_that_is_cut_off_goes_on_from_memory_and_writes_nothing() {
    let (mut rig, [first, second]) = Rig::groups(three());
    let (a, b, generation) = rig.two([first, second]);
    let old = rig.cluster.coordinator(GROUP).unwrap();
    assert!(rig.cluster.isolate_node(rig.now, old));
    let node = rig.cluster.coordinator(GROUP).unwrap();
    assert_ne!(node, old);
    let new = rig.connect(node);
    assert_eq!(rig.leave(new, &b, None), ErrorCode::NONE);
    // Here the group goes on, there nothing happened.
    assert_eq!(rig.heartbeat(new, &a, generation), ErrorCode::REBALANCE_IN_PROGRESS);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NONE);
    assert_eq!(rig.heartbeat(second, &b, generation), ErrorCode::NONE);
    let refused = rig.join(first, &join_request(&a, None, &["range"], "")).unwrap();
    assert_eq!(ErrorCode::from(refused.error_code), ErrorCode::COORDINATOR_NOT_AVAILABLE);
    rig.cluster.rejoin_node(rig.now, old);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NOT_COORDINATOR);
}

#[test]
fn a_fault_moves_the_coordinator_before_the_request_is_served() {
    use crate::broker::{Api, Fault};
    let (mut rig, [first, second]) = Rig::groups(three());
    let (a, _, generation) = rig.two([first, second]);
    rig.cluster.faults.add(Fault::on(Api::HEARTBEAT).group(GROUP).nth(2).move_coordinator());
    let before = rig.cluster.coordinator(GROUP);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NONE);
    assert_eq!(rig.heartbeat(first, &a, generation), ErrorCode::NOT_COORDINATOR);
    assert_ne!(rig.cluster.coordinator(GROUP), before);
    assert!(rig.cluster.topics.get(OFFSETS_TOPIC).is_some());
}
