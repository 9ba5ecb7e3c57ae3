//! Groups as administrators see them.
use super::*;

fn list(
    rig: &mut Rig,
    connection: ConnectionId,
    states: &[&str],
    kinds: &[&str],
) -> Vec<(String, String, String)> {
    let all = |names: &[&str]| names.iter().map(|name| text(name)).collect();
    let request = ListGroupsRequest::default().with_states_filter(all(states)).with_types_filter(all(kinds));
    let groups = rig.call(connection, 5, &request).groups;
    let told = |group: list_groups_response::ListedGroup| {
        (group.group_id.to_string(), group.group_state.to_string(), group.group_type.to_string())
    };
    groups.into_iter().map(told).collect()
}

#[test]
fn groups_are_listed_by_their_coordinator_state_and_kind() {
    let (mut rig, [first, second]) = Rig::groups(Config { nodes: 3, ..Config::default() });
    rig.two([first, second]);
    let told = |state: &str| vec![(GROUP.to_owned(), state.to_owned(), "classic".to_owned())];
    assert_eq!(list(&mut rig, first, &[], &[]), told("Stable"));
    assert_eq!(list(&mut rig, first, &["stable", "Empty"], &["Classic"]), told("Stable"));
    assert_eq!(list(&mut rig, first, &["Empty"], &[]), []);
    assert_eq!(list(&mut rig, first, &[], &["consumer"]), []);
    let other = rig.cluster.coordinator(GROUP).unwrap() % 3 + 1;
    let other = rig.connect(other);
    assert_eq!(list(&mut rig, other, &[], &[]), []);
}

fn describe(
    rig: &mut Rig,
    connection: ConnectionId,
    version: i16,
    group: &str,
) -> describe_groups_response::DescribedGroup {
    let request = DescribeGroupsRequest::default()
        .with_groups(vec![id(group)])
        .with_include_authorized_operations(version >= 3);
    rig.call(connection, version, &request).groups.remove(0)
}

#[test]
fn a_group_is_described_with_what_its_members_have_once_it_is_stable() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let (a, _, _) = rig.two([first, second]);
    for version in 0..=6 {
        let group = describe(&mut rig, first, version, GROUP);
        let named = (&*group.group_state, &*group.protocol_type, &*group.protocol_data);
        assert_eq!((group.error_code, named), (0, ("Stable", "consumer", "range")));
        let member = &group.members[0];
        assert_eq!(
            (&*member.member_id, &*member.client_id, &*member.client_host),
            (&*a, "rig", "/127.0.0.1")
        );
        assert_eq!((&member.member_metadata[..], &member.member_assignment[..]), (&b"range"[..], &b"A"[..]));
    }
    assert!(rig.join(first, &join_request(&a, None, &["range"], "")).is_none());
    let group = describe(&mut rig, second, 6, GROUP);
    assert_eq!((&*group.group_state, &*group.protocol_data), ("PreparingRebalance", ""));
    assert!(group.members.iter().all(|member| member.member_metadata.is_empty()));
    let missing = describe(&mut rig, second, 5, "nope");
    assert_eq!((missing.error_code, &*missing.group_state), (0, "Dead"));
    let missing = describe(&mut rig, second, 6, "nope");
    assert_eq!(
        (ErrorCode::from(missing.error_code), &*missing.group_state),
        (ErrorCode::GROUP_ID_NOT_FOUND, "Dead")
    );
}

#[test]
fn only_an_empty_group_is_deleted() {
    let (mut rig, [first, second]) = Rig::groups(Config::default());
    let delete = |rig: &mut Rig| {
        let request =
            DeleteGroupsRequest::default().with_groups_names(vec![id(GROUP), id("nope"), id(GROUP)]);
        let results = rig.call(second, 2, &request).results;
        results.iter().map(|result| ErrorCode::from(result.error_code)).collect::<Vec<_>>()
    };
    let a = rig.member_id(first);
    rig.join(first, &join_request(&a, None, &["range"], "")).unwrap();
    assert_eq!(delete(&mut rig), [ErrorCode::NON_EMPTY_GROUP, ErrorCode::GROUP_ID_NOT_FOUND]);
    rig.leave(first, &a, None);
    assert_eq!(delete(&mut rig), [ErrorCode::NONE, ErrorCode::GROUP_ID_NOT_FOUND]);
    assert!(rig.cluster.groups.by_id.is_empty());
    assert_eq!(rig.cluster.next_deadline(), None);
}
