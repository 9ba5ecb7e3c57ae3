//! What is written comes out: once, in order, within bounds, whoever idles meanwhile.
use super::*;

#[tokio::test]
async fn all_records_of_a_topic_come_once_and_in_order() {
    for memory in [false, true] {
        let builder = Broker::builder().nodes(3).partial_batches(true);
        let (broker, client) = if memory { in_memory(builder).await } else { tcp(builder).await };
        broker.create_topic("t", 6).unwrap();
        for partition in 0..6 {
            fill(&broker, "t", partition, 0, 500);
        }
        let mut consumer = build(client.consumer().topics(["t"])).await;
        in_order(read(&mut consumer, 3000).await, 6, 500);
        let metrics = consumer.metrics();
        assert_eq!(metrics.records, 3000);
        assert_eq!(metrics.fetched_bytes, metrics.delivered_bytes, "{metrics:?}");
        assert_eq!(metrics.buffered_bytes, 0);
        // A record written later comes at once, although all fetches are parked.
        fill(&broker, "t", 4, 500, 1);
        assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap()), [500]);
        within(consumer.close()).await;
        within(client.close()).await;
        within(broker.stop()).await;
    }
}

#[tokio::test]
async fn small_fetches_with_cut_batches_lose_nothing() {
    let (broker, client) = in_memory(Broker::builder().partial_batches(true)).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 0, 0, 1000);
    fill(&broker, "t", 1, 0, 1000);
    let builder = client.consumer().topics(["t"]).max_partition_fetch_bytes(700).fetch_max_bytes(1000);
    let mut consumer = build(builder).await;
    in_order(read(&mut consumer, 2000).await, 2, 1000);
    let metrics = consumer.metrics();
    assert_eq!(metrics.fetched_bytes, metrics.delivered_bytes + metrics.cut_bytes, "{metrics:?}");
}

#[tokio::test]
async fn idle_nodes_cost_a_busy_one_nothing() {
    let (broker, client) = in_memory(Broker::builder().nodes(3)).await;
    broker.create_topic("t", 3).unwrap();
    fill(&broker, "t", 0, 0, 20_000);
    let mut consumer = build(client.consumer().topics(["t"]).max_partition_fetch_bytes(20_000)).await;
    let begun = Instant::now();
    in_order(read(&mut consumer, 20_000).await, 1, 20_000);
    let metrics = consumer.metrics();
    assert!(metrics.nodes.iter().map(|node| node.fetches).max().unwrap() >= 15, "{metrics:?}");
    // Were one of the fetches to wait for the idle nodes, each would take half a second.
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(metrics.fetched_bytes, metrics.delivered_bytes);
}

#[tokio::test]
async fn a_paused_partition_keeps_what_was_fetched() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 0, 0, 200);
    let mut consumer = build(client.consumer().topics(["t"])).await;
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap())[0], 0);
    consumer.pause(("t", 0)).unwrap();
    fill(&broker, "t", 1, 0, 10);
    let found = read(&mut consumer, 10).await;
    assert_eq!(found.keys().next().unwrap().1, 1);
    assert_eq!(consumer.paused(), [("t", 0).into()]);
    let before = consumer.metrics();
    assert!(before.buffered_bytes > 0);
    consumer.resume(("t", 0)).unwrap();
    let found = read(&mut consumer, 190).await;
    assert!(found.into_values().next().unwrap().into_iter().eq(10..200));
    let metrics = consumer.metrics();
    assert_eq!(metrics.fetched_bytes, metrics.delivered_bytes);
}

#[tokio::test]
async fn the_buffer_is_bounded_while_the_application_is_away() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 4).unwrap();
    for partition in 0..4 {
        fill(&broker, "t", partition, 0, 20_000);
    }
    const PREFETCH: usize = 256 << 10;
    let mut consumer = build(client.consumer().topics(["t"]).prefetch(PREFETCH)).await;
    // Until nothing more is asked for.
    let mut last = None;
    within(async {
        loop {
            let metrics = consumer.metrics();
            let idle = metrics.fetches > 0 && metrics.nodes.iter().all(|node| !node.in_flight);
            if idle && last == Some(metrics.fetches) {
                break;
            }
            last = Some(metrics.fetches);
            tokio::task::yield_now().await;
        }
    })
    .await;
    let metrics = consumer.metrics();
    assert!(metrics.buffered_bytes <= PREFETCH as u64, "{metrics:?}");
    assert!(metrics.buffered_bytes >= PREFETCH as u64 / 4, "{metrics:?}");
    in_order(read(&mut consumer, 80_000).await, 4, 20_000);
    let metrics = consumer.metrics();
    assert_eq!(metrics.fetched_bytes, metrics.delivered_bytes);
}

#[tokio::test]
async fn read_committed_hands_out_exactly_what_was_committed() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let write = |producer, numbers: std::ops::Range<u32>| {
        let values: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let records: Vec<_> = values.iter().map(Record::value).collect();
        broker.append_in_transaction("t", 0, producer, &records).unwrap();
    };
    write(1, 0..3); // aborted
    write(2, 3..6); // committed
    fill(&broker, "t", 0, 6, 2); // no transaction
    write(1, 8..10); // aborted
    broker.end_transaction("t", 0, 1, false).unwrap();
    write(1, 10..12); // committed, by the one that aborted before
    broker.end_transaction("t", 0, 2, true).unwrap();
    broker.end_transaction("t", 0, 1, true).unwrap();
    write(3, 12..14); // open
    fill(&broker, "t", 0, 14, 1);

    let committed = client.consumer().topics(["t"]).isolation_level(IsolationLevel::ReadCommitted);
    let mut consumer = build(committed).await;
    let found = read(&mut consumer, 7).await;
    assert_eq!(found.into_values().next().unwrap(), [3, 4, 5, 6, 7, 10, 11]);
    let stable = broker.log("t", 0).unwrap().last_stable_offset();
    assert_eq!(within(consumer.end_offsets([("t", 0)])).await.unwrap()[&("t", 0).into()], stable);
    broker.end_transaction("t", 0, 3, false).unwrap();
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap()), [14]);

    let mut consumer = build(client.consumer().topics(["t"])).await;
    let found = read(&mut consumer, 15).await;
    assert!(found.into_values().next().unwrap().into_iter().eq(0..15));
}

#[tokio::test]
async fn holes_that_compaction_left_are_stepped_over() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 50);
    broker.remove_batch("t", 0, 15).unwrap();
    broker.remove_batch("t", 0, 45).unwrap();
    let mut consumer = build(client.consumer().topics(["t"])).await;
    let found = read(&mut consumer, 30).await;
    assert!(found.into_values().next().unwrap().into_iter().eq((0..10).chain(20..40)));
    fill(&broker, "t", 0, 50, 10);
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap())[0], 50);
}

#[tokio::test]
async fn old_nodes_are_read_by_name_and_without_epochs() {
    for version in [4, 6, 7, 10, 11, 12, 15] {
        let (broker, client) = in_memory(Broker::builder().max_version(Api::FETCH, version)).await;
        broker.create_topic("t", 3).unwrap();
        for partition in 0..3 {
            fill(&broker, "t", partition, 0, 100);
        }
        let mut consumer = build(client.consumer().topics(["t"]).max_partition_fetch_bytes(500)).await;
        in_order(read(&mut consumer, 300).await, 3, 100);
    }
}

#[tokio::test]
async fn two_consumers_of_one_client_do_not_wait_for_each_other() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("idle", 1).unwrap();
    broker.create_topic("t", 1).unwrap();
    let long = Duration::from_secs(25);
    let mut idle = build(client.consumer().topics(["idle"]).fetch_max_wait(long)).await;
    let mut busy = build(client.consumer().topics(["t"]).fetch_max_wait(long)).await;
    assert!(poll_once(idle.next()).await.is_none());
    for round in 0..20 {
        fill(&broker, "t", 0, round, 1);
        assert_eq!(values(&within(busy.next()).await.unwrap().unwrap()), [round]);
    }
}

#[tokio::test]
async fn every_codec_is_inflated_and_an_oversized_batch_is_refused() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let (broker, client) = in_memory(Broker::builder()).await;
        broker.create_topic("t", 1).unwrap();
        let producer = client.producer().compression(codec).build().await.unwrap();
        for number in 0..2000u32 {
            let number = number.to_string();
            drop(within(producer.send("t", Record::value(&number).header("h", b"x"))).await.unwrap());
        }
        within(producer.flush()).await.unwrap();
        let mut consumer = build(client.consumer().topics(["t"])).await;
        in_order(read(&mut consumer, 2000).await, 1, 2000);
        assert!(consumer.metrics().fetched_bytes < 20_000, "{codec}: it was not compressed");

        let mut consumer = build(client.consumer().topics(["t"]).max_batch(500)).await;
        let error = within(consumer.next()).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.topic(), error.partition()),
            (ErrorKind::Corrupt, Some("t"), Some(0))
        );
        let text = error.to_string();
        assert!(text.contains("offset 0") && text.contains("limit of 500 bytes"), "{text}");
    }
}
