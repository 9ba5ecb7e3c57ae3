//! Nodes, connections and bytes that fail.
use super::*;

#[tokio::test]
async fn a_dead_node_costs_the_others_nothing_and_its_partitions_move() {
    let (broker, client) = in_memory(Broker::builder().nodes(3)).await;
    broker.create_topic("t", 3).unwrap();
    let mut consumer = build(client.consumer().topics(["t"])).await;
    for partition in 0..3 {
        fill(&broker, "t", partition, 0, 10);
    }
    in_order(read(&mut consumer, 30).await, 3, 10);
    broker.stop_node(2).await.unwrap();
    for partition in 0..3 {
        fill(&broker, "t", partition, 10, 10);
    }
    let found = read(&mut consumer, 30).await;
    assert!(found.values().all(|numbers| numbers.iter().copied().eq(10..20)), "{found:?}");
    broker.start_node(2).await.unwrap();
    broker.move_leader("t", 0, 2).unwrap();
    fill(&broker, "t", 0, 20, 10);
    assert_eq!(read(&mut consumer, 10).await.len(), 1);
}

#[tokio::test]
async fn leaders_that_move_all_the_time_lose_and_repeat_nothing() {
    let (broker, client) = in_memory(Broker::builder().nodes(3)).await;
    broker.create_topic("t", 3).unwrap();
    let mut consumer = build(client.consumer().topics(["t"])).await;
    let mut all: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    for round in 0..20 {
        for partition in 0..3 {
            fill(&broker, "t", partition, round * 10, 10);
            broker.move_leader("t", partition, (partition + round as i32) % 3 + 1).unwrap();
        }
        for (partition, numbers) in read(&mut consumer, 30).await {
            all.entry(partition).or_default().extend(numbers);
        }
    }
    in_order(all, 3, 200);
}

#[tokio::test]
async fn a_damaged_batch_is_an_error_in_its_place_and_can_be_stepped_over() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    broker.create_topic("other", 1).unwrap();
    fill(&broker, "t", 0, 0, 10);
    let mut bytes = broker.log("t", 0).unwrap().batches()[0].to_vec();
    *bytes.last_mut().unwrap() ^= 0x55;
    broker.append_batch("t", 0, bytes).unwrap();
    fill(&broker, "t", 0, 20, 10);
    let mut consumer = build(client.consumer().topics(["t"])).await;
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap())[0], 0);
    let error = within(consumer.next()).await.unwrap_err();
    assert_eq!((error.kind(), error.topic(), error.partition()), (ErrorKind::Corrupt, Some("t"), Some(0)));
    assert!(error.to_string().contains("offset 10"), "{error}");
    consumer.seek(("t", 0), 20).unwrap();
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap())[0], 20);
}

#[tokio::test]
async fn a_batch_damaged_on_the_way_is_fetched_again() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 10);
    // Beyond the response's own fields: in the middle of the records.
    broker.faults().add(Fault::on(Api::FETCH).times(2).corrupt(150));
    let mut consumer = build(client.consumer().topics(["t"])).await;
    in_order(read(&mut consumer, 10).await, 1, 10);
    assert_eq!(broker.faults().struck(), 2);
}

#[tokio::test]
async fn errors_that_pass_cost_no_record() {
    for code in [
        ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ErrorCode::FENCED_LEADER_EPOCH,
        ErrorCode::UNKNOWN_LEADER_EPOCH,
        ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ErrorCode::UNKNOWN_TOPIC_ID,
        ErrorCode::OFFSET_NOT_AVAILABLE,
        ErrorCode::KAFKA_STORAGE_ERROR,
        ErrorCode::REPLICA_NOT_AVAILABLE,
        ErrorCode::CORRUPT_MESSAGE,
    ] {
        let (broker, client) = in_memory(Broker::builder()).await;
        broker.create_topic("t", 2).unwrap();
        fill(&broker, "t", 0, 0, 100);
        fill(&broker, "t", 1, 0, 100);
        broker.faults().add(Fault::on(Api::FETCH).topic("t").times(2).error(code));
        let mut consumer = build(client.consumer().topics(["t"])).await;
        in_order(read(&mut consumer, 200).await, 2, 100);
        assert!(broker.faults().struck() >= 1, "{code}");
    }
}

#[tokio::test]
async fn sessions_that_are_lost_are_opened_again_without_gap_or_repetition() {
    for code in [
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
    ] {
        let (broker, client) = in_memory(Broker::builder()).await;
        broker.create_topic("t", 3).unwrap();
        let mut consumer = build(client.consumer().topics(["t"]).max_partition_fetch_bytes(500)).await;
        for partition in 0..3 {
            fill(&broker, "t", partition, 0, 500);
        }
        broker.faults().add(Fault::on(Api::FETCH).probability(0.2).times(20).error(code));
        in_order(read(&mut consumer, 1500).await, 3, 500);
    }
}

#[tokio::test]
async fn connections_that_break_cost_no_record() {
    let (broker, client) = in_memory(Broker::builder().nodes(2)).await;
    broker.create_topic("t", 4).unwrap();
    for partition in 0..4 {
        fill(&broker, "t", partition, 0, 500);
    }
    for fault in [
        Fault::on(Api::FETCH).cut(),
        Fault::on(Api::FETCH).cut_after(),
        Fault::on(Api::FETCH).cut_mid_frame(),
    ] {
        broker.faults().add(fault.probability(0.2).times(5));
    }
    let mut consumer = build(client.consumer().topics(["t"]).max_partition_fetch_bytes(500)).await;
    in_order(read(&mut consumer, 2000).await, 4, 500);
}

#[tokio::test]
async fn a_replica_in_the_own_rack_is_read_and_left_when_it_dies() {
    let (broker, client) = in_memory(Broker::builder().nodes(3).racks()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 100);
    let mut consumer = build(client.consumer().topics(["t"]).client_rack("rack-3")).await;
    in_order(read(&mut consumer, 100).await, 1, 100);
    let metrics = consumer.metrics();
    let fetched: BTreeMap<_, _> = metrics.nodes.iter().map(|node| (node.node, node.fetched_bytes)).collect();
    assert!(fetched[&3] > 0 && fetched[&1] == 0, "{fetched:?}");
    // No hot loop: one question to the leader, which names the replica.
    assert!(metrics.nodes.iter().all(|node| node.fetches < 10), "{metrics:?}");
    broker.stop_node(3).await.unwrap();
    fill(&broker, "t", 0, 100, 10);
    assert_eq!(read(&mut consumer, 10).await.into_values().next().unwrap()[0], 100);
}

#[tokio::test]
async fn a_topic_may_come_later_and_its_absence_is_told() {
    let (broker, client) = in_memory(Broker::builder().auto_create_topics(false)).await;
    let mut consumer = build(client.consumer().topics(["t"])).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 10);
    in_order(read(&mut consumer, 10).await, 1, 10);

    let (broker, _client) = tcp(Broker::builder().auto_create_topics(false)).await;
    let client = Client::builder().bootstrap(&broker.address()).unwrap();
    let client = client.request_timeout(Duration::from_millis(700)).build().await.unwrap();
    let mut consumer = build(client.consumer().topics(["absent"])).await;
    let error = within(consumer.next()).await.unwrap_err();
    assert_eq!((error.code(), error.topic()), (Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), Some("absent")));
    let consumer = build(client.consumer().assign([("absent", 0)])).await;
    let error = within(consumer.position(("absent", 0))).await.unwrap_err();
    assert!(error.is_timeout() && error.to_string().contains("unknown"), "{error}");
}

#[tokio::test]
async fn a_topic_that_may_not_be_read_is_told_at_once() {
    let (broker, client) = in_memory(Broker::builder().auto_create_topics(false)).await;
    broker.create_topic("secret", 1).unwrap();
    let code = ErrorCode::TOPIC_AUTHORIZATION_FAILED;
    broker.faults().add(Fault::on(Api::METADATA).topic("secret").error(code));
    let mut consumer = build(client.consumer().topics(["secret"])).await;
    let error = within(consumer.next()).await.unwrap_err();
    assert_eq!((error.code(), error.topic()), (Some(code), Some("secret")));
    // The right was granted.
    broker.faults().clear();
    fill(&broker, "secret", 0, 0, 10);
    in_order(read(&mut consumer, 10).await, 1, 10);

    broker.create_topic("t", 1).unwrap();
    broker.faults().add(Fault::on(Api::FETCH).topic("t").times(3).error(code));
    let mut consumer = build(client.consumer().assign([("t", 0)])).await;
    let error = within(consumer.next()).await.unwrap_err();
    assert_eq!((error.code(), error.partition()), (Some(code), Some(0)));
    fill(&broker, "t", 0, 0, 10);
    in_order(read(&mut consumer, 10).await, 1, 10);
}
