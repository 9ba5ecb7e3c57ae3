//! Members by the protocol of KIP-848, where the coordinator assigns.
use crate::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn partitions_move_one_by_one_and_those_that_are_kept_go_on() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    let mut first = build(modern(&client)).await;
    assert_eq!(event(&mut first).await, "assigned 0 1");
    let mut second = build(modern(&client)).await;
    let told = within(async {
        tokio::select! { told = event(&mut first) => told, told = event(&mut second) => told }
    });
    assert_eq!(told.await, "revoked 1", "before anybody else has it");
    // The first works on what it has of the partition for as long as it likes, and the second waits.
    tokio::time::timeout(20 * SECOND, second.next_event()).await.unwrap_err();
    fill(&broker, "t", 2, 0, 1);
    assert_eq!(event(&mut first).await, "0@0");
    let (told, _) = tokio::join!(event(&mut second), silent(&mut first, 20 * SECOND));
    assert_eq!(told, "assigned 1");
    assert_eq!(event(&mut second).await, "1@0");
    within(first.close()).await;
    assert_eq!(event(&mut second).await, "assigned 0");
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_finds_topics_by_a_regular_expression() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("orders-1", 1).unwrap();
    broker.create_topic("other", 1).unwrap();
    fill(&broker, "orders-1", 1, 0, 1);
    let builder =
        client.consumer().group("g").group_protocol(GroupProtocol::Consumer).topics_regex("orders-.*");
    let mut consumer = build(builder).await;
    assert_eq!(within(consumer.next()).await.unwrap().unwrap().topic(), "orders-1");
    broker.create_topic("orders-2", 1).unwrap();
    fill(&broker, "orders-2", 1, 0, 1);
    assert_eq!(within(consumer.next()).await.unwrap().unwrap().topic(), "orders-2");
    assert_eq!(consumer.assignment().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_static_member_comes_back_to_what_it_had() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    let mut first = build(modern(&client).group_instance_id("one")).await;
    assert_eq!(event(&mut first).await, "assigned 0 1");
    let mut second = build(modern(&client).group_instance_id("two")).await;
    assert_eq!(event(&mut first).await, "revoked 1");
    let (told, _) = tokio::join!(event(&mut second), silent(&mut first, 20 * SECOND));
    assert_eq!(told, "assigned 1");
    within(second.close()).await;
    let mut second = build(modern(&client).group_instance_id("two")).await;
    assert_eq!(event(&mut second).await, "assigned 1");
    silent(&mut first, 60 * SECOND).await;
}

#[tokio::test(start_paused = true)]
async fn a_late_application_loses_its_partitions_and_gets_them_back() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 1, 0, 1);
    let mut consumer = build(modern(&client).max_poll_interval(20 * SECOND)).await;
    assert_eq!(event(&mut consumer).await, "assigned 0");
    assert_eq!(event(&mut consumer).await, "0@0");
    tokio::time::sleep(30 * SECOND).await;
    assert_eq!(event(&mut consumer).await, "lost 0");
    assert_eq!(event(&mut consumer).await, "assigned 0");
    assert_eq!(event(&mut consumer).await, "0@0", "it was not finished in time");
}

#[tokio::test(start_paused = true)]
async fn a_member_that_was_forgotten_loses_all_and_joins_again() {
    let (broker, client) = start(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let mut consumer = build(modern(&client)).await;
    assert_eq!(event(&mut consumer).await, "assigned 0");
    for code in [ErrorCode::FENCED_MEMBER_EPOCH, ErrorCode::UNKNOWN_MEMBER_ID] {
        broker.faults().add(Fault::on(Api::CONSUMER_GROUP_HEARTBEAT).error(code).times(1));
        assert_eq!(event(&mut consumer).await, "lost 0");
        assert_eq!(event(&mut consumer).await, "assigned 0");
    }
}

#[tokio::test]
async fn options_of_one_protocol_are_refused_by_the_other() {
    let (_broker, client) = start(Broker::builder()).await;
    let group = || client.consumer().group("g");
    for builder in [
        group().topics_regex("x"),
        group().topics(["t"]).group_remote_assignor("range"),
        group().topics(["t"]).topics_regex("x").group_protocol(GroupProtocol::Consumer),
    ] {
        assert_eq!(builder.build().await.unwrap_err().kind(), ErrorKind::Config);
    }
    let builder = client.consumer().topics(["t"]).set("group.id", "g").unwrap();
    let builder = builder.set("group.protocol", "consumer").unwrap().set("group.remote.assignor", "range");
    builder.unwrap().build().await.unwrap();
    assert!(client.consumer().set("group.protocol", "modern").is_err());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_know_the_protocol_is_named_in_the_error() {
    let (broker, client) = start(Broker::builder().versions(milena::broker::Release::V3_6)).await;
    broker.create_topic("t", 1).unwrap();
    let mut consumer = build(modern(&client)).await;
    let error = within(consumer.next()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("ConsumerGroupHeartbeat"), "{error}");
}
