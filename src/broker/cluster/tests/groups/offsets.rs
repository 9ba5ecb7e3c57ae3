//! Offsets committed, read and deleted.
use super::*;

fn rig<const N: usize>() -> (Rig, [ConnectionId; N]) {
    let (mut rig, connections) = Rig::groups(Config { nodes: 3, ..Config::default() });
    rig.cluster.create_topic("t", 3, None).unwrap();
    (rig, connections)
}

/// Commits offset 10 plus the partition's number for partitions of `t`: codes.
fn commit(
    rig: &mut Rig,
    connection: ConnectionId,
    version: i16,
    member: &str,
    generation: i32,
    partitions: &[i32],
) -> Vec<ErrorCode> {
    let partition = |index: &i32| {
        offset_commit_request::OffsetCommitRequestPartition::default()
            .with_partition_index(*index)
            .with_committed_offset(i64::from(10 + index))
            .with_committed_leader_epoch(if version >= 6 { 3 } else { -1 })
            .with_committed_metadata(Some(text("note")))
    };
    let topic = offset_commit_request::OffsetCommitRequestTopic::default()
        .with_name(name("t"))
        .with_partitions(partitions.iter().map(partition).collect());
    let request = OffsetCommitRequest::default()
        .with_group_id(id(GROUP))
        .with_group_instance_id(None)
        .with_member_id(text(member))
        .with_generation_id_or_member_epoch(generation)
        .with_topics(vec![topic]);
    let response = rig.call(connection, version, &request);
    response.topics[0].partitions.iter().map(|partition| partition.error_code.into()).collect()
}

/// What one group has for partitions of `t`: its code, and offset and code of each.
fn fetch(
    rig: &mut Rig,
    connection: ConnectionId,
    version: i16,
    partitions: Option<&[i32]>,
    stable: bool,
) -> (ErrorCode, Vec<(i32, i64, ErrorCode)>) {
    let mut request = OffsetFetchRequest::default().with_require_stable(stable && version >= 7);
    if version < 8 {
        let topic = |indexes: &[i32]| {
            offset_fetch_request::OffsetFetchRequestTopic::default()
                .with_name(name("t"))
                .with_partition_indexes(indexes.to_vec())
        };
        request.group_id = id(GROUP);
        request.topics = partitions.map(|indexes| vec![topic(indexes)]);
        let response = rig.call(connection, version, &request);
        let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
        let found =
            partitions.map(|found| (found.partition_index, found.committed_offset, found.error_code.into()));
        return (response.error_code.into(), found.collect());
    }
    let topic = |indexes: &[i32]| {
        offset_fetch_request::OffsetFetchRequestTopics::default()
            .with_name(name("t"))
            .with_partition_indexes(indexes.to_vec())
    };
    let group = offset_fetch_request::OffsetFetchRequestGroup::default()
        .with_group_id(id(GROUP))
        .with_member_id(None)
        .with_member_epoch(-1)
        .with_topics(partitions.map(|indexes| vec![topic(indexes)]));
    request.groups = vec![group];
    let response = rig.call(connection, version, &request).groups.remove(0);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let found =
        partitions.map(|found| (found.partition_index, found.committed_offset, found.error_code.into()));
    (response.error_code.into(), found.collect())
}

const NONE: ErrorCode = ErrorCode::NONE;

#[test]
fn a_consumer_without_membership_commits_and_reads_in_every_version() {
    let (mut rig, [first]) = rig();
    for version in 2..=9 {
        assert_eq!(commit(&mut rig, first, version, "", -1, &[0, 2]), [NONE, NONE], "version {version}");
    }
    let none = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(commit(&mut rig, first, 9, "", -1, &[1, 7]), [none, NONE]);
    for version in 1..=9 {
        let found = fetch(&mut rig, first, version, Some(&[2, 0, 9]), true);
        assert_eq!(found, (NONE, vec![(2, 12, NONE), (0, 10, NONE), (9, -1, NONE)]), "version {version}");
        if version >= 2 {
            let all = fetch(&mut rig, first, version, None, false);
            assert_eq!(all, (NONE, vec![(0, 10, NONE), (1, 11, NONE), (2, 12, NONE)]), "version {version}");
        }
    }
    let view = rig.cluster.groups.by_id[GROUP].offsets.get(&("t", 0).into()).cloned().unwrap();
    assert_eq!((view.epoch, view.metadata), (3, text("note")));
}

#[test]
fn only_members_of_the_generation_commit_while_there_are_members() {
    let (mut rig, [first, second]) = rig();
    let (a, b, generation) = rig.two([first, second]);
    assert_eq!(commit(&mut rig, first, 9, &a, generation, &[0]), [NONE]);
    assert_eq!(commit(&mut rig, first, 9, "", -1, &[0]), [ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(commit(&mut rig, first, 9, "x", generation, &[0]), [ErrorCode::UNKNOWN_MEMBER_ID]);
    assert_eq!(commit(&mut rig, first, 9, &a, generation - 1, &[0]), [ErrorCode::ILLEGAL_GENERATION]);
    assert_eq!(commit(&mut rig, first, 9, &a, -1, &[0]), [ErrorCode::ILLEGAL_GENERATION]);
    // While others join it still may, until it has joined itself.
    assert!(rig.join(second, &join_request(&b, None, &["range"], "!")).is_none());
    assert_eq!(commit(&mut rig, first, 9, &a, generation, &[0]), [NONE]);
    rig.join(first, &join_request(&a, None, &["range"], "")).unwrap();
    assert_eq!(commit(&mut rig, first, 9, &a, generation, &[0]), [ErrorCode::ILLEGAL_GENERATION]);
    let code = ErrorCode::REBALANCE_IN_PROGRESS;
    assert_eq!(commit(&mut rig, first, 9, &a, generation + 1, &[0]), [code]);
}

#[test]
fn a_generation_of_a_group_that_is_not_there() {
    let (mut rig, [first]) = rig();
    assert_eq!(commit(&mut rig, first, 8, "m", 3, &[0]), [ErrorCode::ILLEGAL_GENERATION]);
    assert_eq!(commit(&mut rig, first, 9, "m", 3, &[0]), [ErrorCode::GROUP_ID_NOT_FOUND]);
    assert!(rig.cluster.groups.by_id.is_empty());
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let (mut rig, [first, second]) = rig();
    let (a, b, generation) = rig.two([first, second]);
    for _ in 0..4 {
        rig.pass(SESSION * 2 / 3);
        assert_eq!(rig.heartbeat(second, &b, generation), NONE);
        assert_eq!(commit(&mut rig, first, 9, &a, generation, &[0]), [NONE]);
    }
}

#[test]
fn offsets_survive_a_move_of_the_coordinator() {
    let (mut rig, [first]) = rig();
    assert_eq!(commit(&mut rig, first, 9, "", -1, &[1]), [NONE]);
    rig.cluster.move_coordinator(rig.now, GROUP, None);
    let code = ErrorCode::NOT_COORDINATOR;
    assert_eq!(commit(&mut rig, first, 9, "", -1, &[1]), [code]);
    assert_eq!(fetch(&mut rig, first, 9, Some(&[1]), true), (code, vec![]));
    assert_eq!(fetch(&mut rig, first, 1, Some(&[1]), true), (NONE, vec![(1, -1, code)]));
    let node = rig.cluster.coordinator(GROUP).unwrap();
    let new = rig.connect(node);
    assert_eq!(fetch(&mut rig, new, 9, Some(&[1]), true), (NONE, vec![(1, 11, NONE)]));
}

#[test]
fn offsets_of_an_open_transaction_are_not_stable() {
    let (mut rig, [first]) = rig();
    assert_eq!(commit(&mut rig, first, 9, "", -1, &[0]), [NONE]);
    let pending = crate::broker::cluster::group::Committed { offset: 99, epoch: -1, metadata: text("") };
    let offsets = |rig: &mut Rig, run: &dyn Fn(&mut crate::broker::cluster::group::Offsets)| {
        run(&mut rig.cluster.groups.by_id.get_mut(GROUP).unwrap().offsets);
    };
    offsets(&mut rig, &|offsets| offsets.commit_in_transaction(7, ("t", 0).into(), pending.clone()));
    let unstable = ErrorCode::UNSTABLE_OFFSET_COMMIT;
    assert_eq!(
        fetch(&mut rig, first, 7, Some(&[0, 1]), true),
        (NONE, vec![(0, -1, unstable), (1, -1, NONE)])
    );
    assert_eq!(fetch(&mut rig, first, 7, Some(&[0]), false), (NONE, vec![(0, 10, NONE)]));
    offsets(&mut rig, &|offsets| offsets.end_transaction(7, true));
    assert_eq!(fetch(&mut rig, first, 7, Some(&[0]), true), (NONE, vec![(0, 99, NONE)]));
    offsets(&mut rig, &|offsets| offsets.commit_in_transaction(7, ("t", 0).into(), pending.clone()));
    offsets(&mut rig, &|offsets| offsets.end_transaction(7, false));
    assert_eq!(fetch(&mut rig, first, 7, None, true), (NONE, vec![(0, 99, NONE)]));
}

#[test]
fn metadata_that_is_too_long_is_refused_and_a_deleted_topic_takes_its_offsets_along() {
    let (mut rig, [first]) = Rig::groups(Config { offset_metadata_max: 3, ..Config::default() });
    rig.cluster.create_topic("t", 1, None).unwrap();
    assert_eq!(commit(&mut rig, first, 9, "", -1, &[0]), [ErrorCode::OFFSET_METADATA_TOO_LARGE]);
    rig.cluster.config.offset_metadata_max = 4;
    assert_eq!(commit(&mut rig, first, 9, "", -1, &[0]), [NONE]);
    rig.cluster.delete_topic("t");
    assert_eq!(fetch(&mut rig, first, 9, None, true), (NONE, vec![]));
}

#[test]
fn faults_strike_single_partitions_and_whole_groups() {
    use crate::broker::{Api, Fault};
    let (mut rig, [first]) = rig();
    let code = ErrorCode::COORDINATOR_LOAD_IN_PROGRESS;
    rig.cluster.faults.add(Fault::on(Api::OFFSET_COMMIT).topic("t").partition(1).times(1).error(code));
    assert_eq!(commit(&mut rig, first, 9, "", -1, &[0, 1]), [NONE, code]);
    rig.cluster.faults.add(Fault::on(Api::OFFSET_FETCH).topic("t").partition(0).times(1).error(code));
    assert_eq!(fetch(&mut rig, first, 9, Some(&[0, 1]), true), (NONE, vec![(0, -1, code), (1, -1, NONE)]));
    rig.cluster.faults.add(Fault::on(Api::OFFSET_FETCH).group(GROUP).times(1).error(code));
    assert_eq!(fetch(&mut rig, first, 9, Some(&[0, 1]), true), (code, vec![]));
}

fn delete(rig: &mut Rig, connection: ConnectionId, partitions: &[i32]) -> (ErrorCode, Vec<ErrorCode>) {
    let partition = |index: &i32| {
        offset_delete_request::OffsetDeleteRequestPartition::default().with_partition_index(*index)
    };
    let topic = offset_delete_request::OffsetDeleteRequestTopic::default()
        .with_name(name("t"))
        .with_partitions(partitions.iter().map(partition).collect());
    let request = OffsetDeleteRequest::default().with_group_id(id(GROUP)).with_topics(vec![topic]);
    let response = rig.call(connection, 0, &request);
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    (response.error_code.into(), partitions.map(|partition| partition.error_code.into()).collect())
}

#[test]
fn offsets_are_deleted_unless_members_subscribe_to_the_topic() {
    let (mut rig, [first]) = rig();
    assert_eq!(delete(&mut rig, first, &[0]).0, ErrorCode::GROUP_ID_NOT_FOUND);
    commit(&mut rig, first, 9, "", -1, &[0, 1]);
    let none = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(delete(&mut rig, first, &[0, 9]), (NONE, vec![none, NONE]));
    assert_eq!(fetch(&mut rig, first, 9, None, true), (NONE, vec![(1, 11, NONE)]));
    // A subscription to `u`, and one to `t`.
    for (topic, code) in [(b'u', NONE), (b't', ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC)] {
        let mut request = join_request("", Some("m"), &["range"], "");
        request.protocols[0].metadata = vec![0, 0, 0, 0, 0, 1, 0, 1, topic].into();
        rig.join(first, &request).unwrap();
        assert_eq!(delete(&mut rig, first, &[1]), (NONE, vec![code]));
    }
}
