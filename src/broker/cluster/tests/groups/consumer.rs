//! The consumer protocol (KIP-848).
use super::*;
use crate::broker::group_view::GroupView;

const NONE: ErrorCode = ErrorCode::NONE;

/// A heartbeat that says nothing but who sends it.
fn beat(member: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(id(GROUP))
        .with_member_id(text(member))
        .with_member_epoch(epoch)
        .with_instance_id(None)
        .with_rack_id(None)
        .with_rebalance_timeout_ms(-1)
        .with_subscribed_topic_names(None)
        .with_subscribed_topic_regex(None)
        .with_server_assignor(None)
        .with_topic_partitions(None)
}

fn joins(member: &str, topics: &[&str]) -> ConsumerGroupHeartbeatRequest {
    beat(member, 0)
        .with_rebalance_timeout_ms(REBALANCE.as_millis() as i32)
        .with_subscribed_topic_names(Some(topics.iter().map(|topic| name(topic)).collect()))
        .with_topic_partitions(Some(Vec::new()))
}

/// What a member is told: code, epoch, and its partitions if they are told.
type Told = (ErrorCode, i32, Option<Vec<i32>>);

impl Rig {
    /// A heartbeat of the newest version; partitions are those of `t` only.
    fn beat(&mut self, connection: ConnectionId, request: &ConsumerGroupHeartbeatRequest) -> Told {
        let response = self.call(connection, 1, request);
        let partitions = response.assignment.map(|assigned| {
            assigned.topic_partitions.into_iter().flat_map(|topic| topic.partitions).collect()
        });
        (response.error_code.into(), response.member_epoch, partitions)
    }

    /// The same from a member that owns these partitions of `t`.
    fn owning(&mut self, connection: ConnectionId, member: &str, epoch: i32, owned: &[i32]) -> Told {
        let id = self.cluster.topics.get("t").unwrap().id;
        let owned = consumer_group_heartbeat_request::TopicPartitions::default()
            .with_topic_id(id)
            .with_partitions(owned.to_vec());
        self.beat(connection, &beat(member, epoch).with_topic_partitions(Some(vec![owned])))
    }

    fn view(&self) -> GroupView {
        GroupView::new(&self.cluster.groups.by_id[GROUP], &self.cluster.topics)
    }
}

/// A cluster with topic `t` of four partitions.
fn rig<const N: usize>() -> (Rig, [ConnectionId; N]) {
    let (mut rig, connections) = Rig::groups(Config { nodes: 3, ..Config::default() });
    rig.cluster.create_topic("t", 4, None).unwrap();
    (rig, connections)
}

fn told(epoch: i32, partitions: &[i32]) -> Told {
    (NONE, epoch, Some(partitions.to_vec()))
}

fn nothing_new(epoch: i32) -> Told {
    (NONE, epoch, None)
}

fn refused(code: ErrorCode) -> Told {
    (code, 0, None)
}

#[test]
fn a_partition_goes_to_another_member_once_its_owner_said_that_it_gave_it_up() {
    let (mut rig, [first]) = rig();
    assert_eq!(rig.beat(first, &joins("a", &["t"])), told(1, &[0, 1, 2, 3]));
    assert_eq!(rig.beat(first, &beat("a", 1)), nothing_new(1));
    // The second member waits for what the first one has.
    assert_eq!(rig.beat(first, &joins("b", &["t"])), told(2, &[]));
    assert_eq!(rig.view().state(), "Reconciling");
    assert_eq!(rig.beat(first, &beat("a", 1)), told(1, &[0, 1]));
    // It has not said that it gave them up.
    assert_eq!(rig.beat(first, &beat("a", 1)), nothing_new(1));
    assert_eq!(rig.beat(first, &beat("b", 2)), nothing_new(2));
    assert_eq!(rig.owning(first, "a", 1, &[0, 1, 2]), nothing_new(1));
    assert_eq!(rig.view().owner("t", 2).unwrap().id(), "a");
    assert_eq!(rig.owning(first, "a", 1, &[0, 1]), nothing_new(2));
    assert_eq!(rig.view().owner("t", 2), None);
    assert_eq!(rig.beat(first, &beat("b", 2)), told(2, &[2, 3]));
    let view = rig.view();
    assert_eq!((view.state(), view.protocol(), view.generation()), ("Stable", Some("uniform"), 2));
    assert_eq!(view.owner("t", 2).unwrap().id(), "b");
}

#[test]
fn a_member_that_leaves_is_replaced_by_the_others() {
    let (mut rig, [first]) = rig();
    rig.beat(first, &joins("a", &["t"]));
    rig.beat(first, &joins("b", &["t"]));
    assert_eq!(rig.beat(first, &beat("a", -1)), nothing_new(-1));
    assert_eq!(rig.beat(first, &beat("a", 1)), refused(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(rig.beat(first, &beat("b", 2)), told(3, &[0, 1, 2, 3]));
    assert_eq!(rig.beat(first, &beat("b", -1)), nothing_new(-1));
    assert_eq!((rig.state(), rig.cluster.next_deadline()), ("Empty", None));
}

#[test]
fn an_answer_that_was_lost_is_given_again_and_other_epochs_are_fenced() {
    let (mut rig, [first]) = rig();
    rig.beat(first, &joins("a", &["t"]));
    rig.beat(first, &joins("b", &["t"]));
    rig.beat(first, &beat("a", 1));
    assert_eq!(rig.owning(first, "a", 1, &[0, 1]), nothing_new(2));
    // It did not hear of epoch 2.
    assert_eq!(rig.owning(first, "a", 1, &[0, 1]), nothing_new(2));
    let fenced = refused(ErrorCode::FENCED_MEMBER_EPOCH);
    assert_eq!(rig.owning(first, "a", 1, &[0, 1, 2]), fenced);
    assert_eq!(rig.beat(first, &beat("a", 1)), fenced);
    assert_eq!(rig.beat(first, &beat("a", 3)), fenced);
    assert_eq!(rig.beat(first, &beat("stranger", 2)), refused(ErrorCode::UNKNOWN_MEMBER_ID));
    // Whoever says everything is told everything.
    let full = joins("a", &["t"]).with_member_epoch(2);
    assert_eq!(rig.beat(first, &full), told(2, &[0, 1]));
}

#[test]
fn who_does_not_give_up_what_it_has_to_is_out_after_its_rebalance_timeout() {
    let (mut rig, [first]) = rig();
    rig.beat(first, &joins("a", &["t"]));
    rig.beat(first, &joins("b", &["t"]));
    for _ in 0..6 {
        assert_eq!((rig.beat(first, &beat("a", 1)).0, rig.beat(first, &beat("b", 2)).0), (NONE, NONE));
        rig.pass(REBALANCE / 6);
    }
    assert_eq!(rig.beat(first, &beat("a", 1)), refused(ErrorCode::UNKNOWN_MEMBER_ID));
    assert_eq!(rig.beat(first, &beat("b", 2)), told(3, &[0, 1, 2, 3]));
}

#[test]
fn who_is_not_heard_of_is_out_after_the_session_timeout() {
    let (mut rig, [first]) = rig();
    rig.beat(first, &joins("a", &["t"]));
    rig.pass(Duration::from_millis(44_999));
    assert_eq!(rig.beat(first, &beat("a", 1)), nothing_new(1));
    rig.pass(Duration::from_secs(45));
    assert_eq!(rig.beat(first, &beat("a", 1)), refused(ErrorCode::UNKNOWN_MEMBER_ID));
}

#[test]
fn a_static_member_keeps_its_partitions_while_it_is_away() {
    let (mut rig, [first]) = rig();
    let fixed = |request: ConsumerGroupHeartbeatRequest| request.with_instance_id(Some(text("i")));
    assert_eq!(rig.beat(first, &fixed(joins("a", &["t"]))), told(1, &[0, 1, 2, 3]));
    assert_eq!(rig.beat(first, &fixed(joins("b", &["t"]))), refused(ErrorCode::UNRELEASED_INSTANCE_ID));
    assert_eq!(rig.beat(first, &fixed(beat("b", 1))), refused(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(rig.beat(first, &fixed(beat("a", -2))), nothing_new(-2));
    assert_eq!(rig.beat(first, &joins("c", &["t"])), told(2, &[]));
    assert_eq!(rig.beat(first, &fixed(joins("b", &["t"]))).0, NONE);
    assert_eq!(rig.beat(first, &fixed(beat("a", 1))), refused(ErrorCode::FENCED_INSTANCE_ID));
    assert_eq!(rig.view().members()[0].id(), "b");
    // Away for too long it is out.
    assert_eq!(rig.beat(first, &fixed(beat("b", -2))).0, NONE);
    rig.pass(Duration::from_secs(40));
    assert_eq!(rig.beat(first, &beat("c", 2)).0, NONE);
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.beat(first, &beat("c", 2)), told(3, &[0, 1, 2, 3]));
}

#[test]
fn topics_that_come_grow_and_go_are_noticed() {
    let (mut rig, [first]) = rig();
    assert_eq!(rig.beat(first, &joins("a", &["t", "u"])), told(1, &[0, 1, 2, 3]));
    rig.cluster.create_topic("u", 1, None).unwrap();
    assert_eq!(rig.beat(first, &beat("a", 1)).1, 2);
    rig.cluster.grow_topic("t", 5, false).unwrap();
    assert_eq!(rig.beat(first, &beat("a", 2)).1, 3);
    assert!(rig.view().owner("t", 4).is_some() && rig.view().owner("u", 0).is_some());
    rig.cluster.delete_topic("u");
    let owned = [0, 1, 2, 3, 4];
    rig.beat(first, &beat("a", 3));
    assert_eq!(rig.owning(first, "a", 3, &owned), nothing_new(4));
}

#[test]
fn patterns_are_resolved_by_the_coordinator() {
    let (mut rig, [first]) = rig();
    rig.cluster.create_topic("t2", 1, None).unwrap();
    let pattern = |pattern: &str| {
        joins("a", &[]).with_subscribed_topic_names(None).with_subscribed_topic_regex(Some(text(pattern)))
    };
    assert_eq!(rig.beat(first, &pattern("(")), refused(ErrorCode::INVALID_REGULAR_EXPRESSION));
    assert!(rig.cluster.groups.by_id.is_empty());
    assert_eq!(rig.beat(first, &pattern("t")), told(1, &[0, 1, 2, 3]));
    assert_eq!(rig.beat(first, &pattern("t.").with_member_epoch(1)), told(2, &[0]));
    assert!(rig.view().owner("t2", 0).is_some());
}

#[test]
fn the_assignor_that_most_ask_for_assigns() {
    let (mut rig, [first]) = rig();
    let range = |request: ConsumerGroupHeartbeatRequest| request.with_server_assignor(Some(text("range")));
    rig.cluster.create_topic("u", 1, None).unwrap();
    rig.beat(first, &range(joins("a", &["t", "u"])));
    rig.beat(first, &range(joins("b", &["t", "u"])));
    assert_eq!(rig.view().protocol(), Some("range"));
    let target =
        |rig: &Rig, at: usize| rig.cluster.groups.by_id[GROUP].consumer().unwrap().members[at].target.len();
    assert_eq!((target(&rig, 0), target(&rig, 1)), (3, 2));
    let unknown = joins("c", &["t"]).with_server_assignor(Some(text("mine")));
    assert_eq!(rig.beat(first, &unknown), refused(ErrorCode::UNSUPPORTED_ASSIGNOR));
}

#[test]
fn what_a_heartbeat_must_not_say() {
    let (mut rig, [first]) = rig();
    let code = ErrorCode::INVALID_REQUEST;
    for wrong in [
        joins("", &["t"]),
        joins("a", &[]),
        joins("a", &["t"]).with_rebalance_timeout_ms(-1),
        joins("a", &["t"]).with_topic_partitions(None),
        joins("a", &["t"]).with_group_id(id("")),
        joins("a", &["t"]).with_instance_id(Some(text(""))),
        joins("a", &["t"]).with_rack_id(Some(text(""))),
        beat("a", -3),
        beat("a", -2),
    ] {
        assert_eq!(rig.beat(first, &wrong), refused(code), "{wrong:?}");
    }
    assert_eq!(rig.beat(first, &beat("a", 1)), refused(ErrorCode::GROUP_ID_NOT_FOUND));
    // In version 0 the coordinator makes up the id.
    let made = rig.call(first, 0, &joins("", &["t"]));
    assert_eq!((made.error_code, made.member_id.unwrap().len()), (0, 36));
}

#[test]
fn a_group_has_one_protocol_at_a_time() {
    let (mut rig, [first, second]) = rig();
    rig.beat(first, &joins("a", &["t"]));
    let refused_join = rig.join(second, &join_request("", None, &["range"], "")).unwrap();
    assert_eq!(ErrorCode::from(refused_join.error_code), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(rig.heartbeat(first, "a", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(rig.leave(second, "a", None), ErrorCode::UNKNOWN_MEMBER_ID);
    rig.beat(first, &beat("a", -1));
    let m = rig.join(second, &join_request("", Some("i"), &["range"], "")).unwrap().member_id.to_string();
    assert_eq!(rig.cluster.groups.by_id[GROUP].kind(), "classic");
    assert_eq!(rig.beat(first, &joins("a", &["t"])), refused(ErrorCode::GROUP_ID_NOT_FOUND));
    rig.leave(second, &m, None);
    assert_eq!(rig.beat(first, &joins("a", &["t"])), told(1, &[0, 1, 2, 3]));
}

#[test]
fn it_survives_a_move_of_the_coordinator_as_it_was() {
    let (mut rig, [first]) = rig();
    rig.beat(first, &joins("a", &["t"]));
    rig.beat(first, &joins("b", &["t"]));
    rig.beat(first, &beat("a", 1));
    let before = rig.view();
    rig.cluster.move_coordinator(rig.now, GROUP, None);
    assert_eq!(rig.view(), before);
    assert_eq!(rig.beat(first, &beat("a", 1)), refused(ErrorCode::NOT_COORDINATOR));
    let node = rig.cluster.coordinator(GROUP).unwrap();
    let new = rig.connect(node);
    assert_eq!(rig.owning(new, "a", 1, &[0, 1]), nothing_new(2));
    assert_eq!(rig.beat(new, &beat("b", 2)), told(2, &[2, 3]));
}

#[test]
fn a_coordinator_that_is_cut_off_changes_nothing() {
    let (mut rig, [first]) = rig();
    rig.beat(first, &joins("a", &["t"]));
    let old = rig.cluster.coordinator(GROUP).unwrap();
    rig.cluster.isolate_node(rig.now, old);
    assert_eq!(rig.beat(first, &beat("a", 1)), nothing_new(1));
    assert_eq!(rig.beat(first, &joins("b", &["t"])), refused(ErrorCode::COORDINATOR_NOT_AVAILABLE));
    assert_eq!(rig.beat(first, &beat("a", 1)), nothing_new(1));
}

#[test]
fn offsets_are_committed_and_read_under_a_members_epoch() {
    let (mut rig, [first]) = rig();
    rig.beat(first, &joins("a", &["t"]));
    rig.beat(first, &joins("b", &["t"]));
    rig.beat(first, &beat("a", 1));
    rig.owning(first, "a", 1, &[0, 1]);
    rig.beat(first, &beat("b", 2));
    let commit = |rig: &mut Rig, version, member: &str, epoch, index| {
        let partition = offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(index)
            .with_committed_leader_epoch(-1);
        let topic = offset_commit_request::OffsetCommitRequestTopic::default()
            .with_name(name("t"))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(id(GROUP))
            .with_group_instance_id(None)
            .with_member_id(text(member))
            .with_generation_id_or_member_epoch(epoch)
            .with_topics(vec![topic]);
        ErrorCode::from(rig.call(first, version, &request).topics[0].partitions[0].error_code)
    };
    assert_eq!(commit(&mut rig, 9, "a", 2, 0), NONE);
    // What it had in epoch 1 and has still may be committed in epoch 1 (KIP-1251).
    assert_eq!(commit(&mut rig, 9, "a", 1, 0), NONE);
    assert_eq!(commit(&mut rig, 9, "a", 1, 2), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(commit(&mut rig, 9, "b", 1, 2), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(commit(&mut rig, 9, "a", 3, 0), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(commit(&mut rig, 8, "a", 2, 0), ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(commit(&mut rig, 9, "x", 2, 0), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut rig, 9, "", -1, 0), ErrorCode::UNKNOWN_MEMBER_ID);
    let fetch = |rig: &mut Rig, member: Option<&str>, epoch| {
        let group = offset_fetch_request::OffsetFetchRequestGroup::default()
            .with_group_id(id(GROUP))
            .with_member_id(member.map(text))
            .with_member_epoch(epoch)
            .with_topics(None);
        let request = OffsetFetchRequest::default().with_groups(vec![group]);
        ErrorCode::from(rig.call(first, 9, &request).groups[0].error_code)
    };
    assert_eq!(fetch(&mut rig, Some("a"), 2), NONE);
    assert_eq!(fetch(&mut rig, Some("a"), 1), ErrorCode::STALE_MEMBER_EPOCH);
    assert_eq!(fetch(&mut rig, Some("x"), 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(fetch(&mut rig, None, -1), NONE);
}

#[test]
fn it_is_described() {
    let (mut rig, [first]) = Rig::groups(Config::default());
    rig.cluster.create_topic("t", 4, None).unwrap();
    rig.beat(first, &joins("a", &["t"]));
    let request = ConsumerGroupDescribeRequest::default().with_group_ids(vec![id(GROUP), id("nope"), id("")]);
    for version in 0..=1 {
        let mut groups = rig.call(first, version, &request).groups;
        let code = |at: usize| ErrorCode::from(groups[at].error_code);
        assert_eq!((code(1), code(2)), (ErrorCode::GROUP_ID_NOT_FOUND, ErrorCode::INVALID_GROUP_ID));
        let group = groups.remove(0);
        let told = (group.group_epoch, group.assignment_epoch, &*group.group_state, &*group.assignor_name);
        assert_eq!(told, (1, 1, "Stable", "uniform"));
        let member = &group.members[0];
        assert_eq!((&*member.member_id, member.member_epoch, &*member.client_id), ("a", 1, "rig"));
        assert_eq!(member.assignment.topic_partitions[0].partitions, [0, 1, 2, 3]);
        assert_eq!(&**member.target_assignment.topic_partitions[0].topic_name, "t");
    }
}

proptest::proptest! {
    /// Whatever members do, a partition has one holder at a time, and in the end all are spread evenly.
    #[test]
    fn no_partition_has_two_holders(steps in proptest::collection::vec((0usize..4, 0u8..8), 1..60)) {
        let (mut rig, [first]) = rig::<1>();
        let mut members: Vec<Option<(i32, Vec<i32>)>> = vec![None; 4];
        let calm = (0..24).map(|step| (step % 4, 0));
        for (who, what) in steps.into_iter().chain(calm) {
            let name = format!("m{who}");
            let told = match &members[who] {
                None => rig.beat(first, &joins(&name, &["t"])),
                Some(_) if what == 7 => { rig.beat(first, &beat(&name, -1)); members[who] = None; continue },
                Some((epoch, _)) if what == 6 => rig.beat(first, &beat(&name, *epoch)),
                Some((epoch, owned)) => rig.owning(first, &name, *epoch, owned),
            };
            assert_eq!(told.0, NONE);
            let owned = told.2.or(members[who].take().map(|(_, owned)| owned)).unwrap_or_default();
            members[who] = Some((told.1, owned));
            for partition in 0..4 {
                let holds = |member: &&crate::broker::GroupMember| {
                    member.assignment().iter().chain(member.revoking()).any(|held| held.partition() == partition)
                };
                assert!(rig.view().members().iter().filter(holds).count() <= 1);
            }
        }
        assert!(members.iter().all(|member| member.as_ref().is_some_and(|(_, owned)| owned.len() == 1)), "{members:?}");
    }
}
