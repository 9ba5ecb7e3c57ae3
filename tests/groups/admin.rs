//! Groups as an administrator sees them.
use std::collections::BTreeMap;

use milena::broker::Release;

use crate::*;

#[tokio::test(start_paused = true)]
async fn groups_are_listed_described_and_deleted() {
    let (broker, client) = start(Broker::builder().nodes(3)).await;
    broker.create_topic("t", 3).unwrap();
    let admin = client.admin();
    assert!(within(admin.list_groups()).await.unwrap().is_empty());
    let mut consumer = build(cooperative(&client).group_instance_id("one")).await;
    assert_eq!(event(&mut consumer).await, "assigned 0 1 2");
    within(admin.alter_group_offsets("other", [(("t", 0), 5)])).await.unwrap();
    let groups = within(admin.list_groups()).await.unwrap();
    let found: Vec<_> = groups.iter().map(|group| (&*group.id, &*group.state)).collect();
    assert_eq!(found, [("g", "Stable"), ("other", "Empty")]);
    let group = within(admin.describe_group("g")).await.unwrap();
    assert_eq!(
        (&*group.state, &*group.protocol_type, &*group.group_type, &*group.assignor),
        ("Stable", "consumer", "classic", "cooperative-sticky")
    );
    let [member] = &group.members[..] else { panic!("{group:?}") };
    assert_eq!(member.instance_id.as_deref(), Some("one"));
    assert_eq!(member.assignment, [("t", 0).into(), ("t", 1).into(), ("t", 2).into()]);
    let error = within(admin.describe_group("nowhere")).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    let error = within(admin.delete_groups(["g"])).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::NON_EMPTY_GROUP));
    within(admin.delete_groups(["other"])).await.unwrap();
    let error = within(admin.delete_groups(["other"])).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GROUP_ID_NOT_FOUND));
    assert_eq!(within(admin.list_groups()).await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_the_consumer_protocol_is_described_with_what_its_members_have_and_will_have() {
    let (broker, client) = start(Broker::builder().nodes(3)).await;
    broker.create_topic("t", 2).unwrap();
    let mut first = build(modern(&client).group_instance_id("one")).await;
    assert_eq!(event(&mut first).await, "assigned 0 1");
    let mut second = build(modern(&client).group_instance_id("two")).await;
    // The second waits for what the first has not given up.
    let told = within(async {
        tokio::select! { told = event(&mut first) => told, told = event(&mut second) => told }
    });
    assert_eq!(told.await, "revoked 1");
    let group = within(client.admin().describe_group("g")).await.unwrap();
    assert_eq!(
        (&*group.group_type, &*group.protocol_type, &*group.state, &*group.assignor),
        ("consumer", "consumer", "Reconciling", "uniform")
    );
    let mut members: Vec<_> = group.members.iter().collect();
    assert!(members.is_sorted_by_key(|member| &member.id));
    members.sort_by_key(|member| &member.instance_id);
    let places = |numbers: &[i32]| -> Vec<TopicPartition> {
        numbers.iter().map(|number| ("t", *number).into()).collect()
    };
    let found: Vec<_> = members.iter().map(|of| (of.instance_id.as_deref(), &of.assignment)).collect();
    assert_eq!(found, [(Some("one"), &places(&[0, 1])), (Some("two"), &places(&[]))]);
    let targets: Vec<_> = members.iter().map(|member| member.target_assignment.clone()).collect();
    assert_eq!(targets, [Some(places(&[0])), Some(places(&[1]))]);
}

#[tokio::test(start_paused = true)]
async fn a_classic_group_is_described_by_nodes_that_do_not_know_the_other_kind() {
    // The first does not offer it, the second has it switched off.
    for release in [Release::V2_8, Release::V3_9] {
        let (broker, client) = start(Broker::builder().versions(release)).await;
        broker.create_topic("t", 1).unwrap();
        let mut consumer = build(eager(&client)).await;
        assert_eq!(event(&mut consumer).await, "assigned 0");
        let group = within(client.admin().describe_group("g")).await.unwrap();
        assert_eq!((&*group.group_type, &*group.assignor), ("classic", "range"), "{release:?}");
        assert_eq!(group.members[0].target_assignment, None);
    }
}

#[tokio::test(start_paused = true)]
async fn offsets_of_a_group_are_read_set_and_deleted() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 2, 0, 5);
    let admin = client.admin();
    assert!(within(admin.group_offsets("g")).await.unwrap().is_empty());
    let three = CommittedOffset::from(3).metadata("by hand");
    within(admin.alter_group_offsets("g", [(("t", 0), three.clone())])).await.unwrap();
    assert_eq!(within(admin.group_offsets("g")).await.unwrap(), BTreeMap::from([(("t", 0).into(), three)]));
    let mut consumer = build(eager(&client)).await;
    let mut seen = Vec::new();
    for _ in 0..7 {
        seen.push(next(&mut consumer).await);
    }
    seen.sort_unstable();
    assert_eq!(seen, [(0, 3), (0, 4), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)]);
    // Not under the feet of members.
    let error = within(admin.alter_group_offsets("g", [(("t", 0), 0)])).await.unwrap_err();
    assert_eq!((error.code(), error.partition()), (Some(ErrorCode::UNKNOWN_MEMBER_ID), Some(0)));
    let error = within(admin.delete_group_offsets("g", [("t", 0)])).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
    within(consumer.commit()).await.unwrap();
    within(consumer.close()).await;
    within(admin.alter_group_offsets("g", [(("t", 0), 0)])).await.unwrap();
    within(admin.delete_group_offsets("g", [("t", 1)])).await.unwrap();
    assert_eq!(
        within(admin.group_offsets("g")).await.unwrap(),
        BTreeMap::from([(("t", 0).into(), 0.into())])
    );
}
