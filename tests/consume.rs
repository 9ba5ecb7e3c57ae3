//! The consumer against the embedded broker: promises C1 to C4, over TCP and in memory, without sleeping.
use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use milena::broker::{Api, Broker, BrokerBuilder, Fault};
use milena::{
    Batch, Client, Connector, Consumer, ConsumerBuilder, ErrorCode, ErrorKind, IsolationLevel, Offset, OffsetReset, Record,
    ResetReason,
};

/// A condition with a deadline, far above what it takes.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("took longer than 20 s")
}

async fn tcp(builder: BrokerBuilder) -> (Broker, Client) {
    let broker = builder.start().await.unwrap();
    let client = Client::connect(&broker.address()).await.unwrap();
    (broker, client)
}

async fn in_memory(builder: BrokerBuilder) -> (Broker, Client) {
    let broker = builder.in_memory().start().await.unwrap();
    let network = broker.network();
    let connector = Connector::new(move |host: String, port| {
        let connected = network.connect(&host, port);
        async move { connected }
    });
    let client = Client::builder().bootstrap(&broker.address()).unwrap().connector(connector);
    let client = client.retry_backoff(Duration::from_millis(5), Duration::from_millis(50)).build().await.unwrap();
    (broker, client)
}

/// Appends batches of ten records whose values are their numbers.
fn fill(broker: &Broker, topic: &str, partition: i32, from: u32, count: u32) {
    for first in (from..from + count).step_by(10) {
        let values: Vec<String> = (first..(first + 10).min(from + count)).map(|number| number.to_string()).collect();
        let records: Vec<Record<'_>> = values.iter().map(|value| Record::value(value).timestamp(1000 + i64::from(first))).collect();
        broker.append(topic, partition, &records).unwrap();
    }
}

fn values(batch: &Batch) -> Vec<u32> {
    batch.iter().map(|record| std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap()).collect()
}

/// Reads until `count` records came, by partition.
async fn read(consumer: &mut Consumer, count: usize) -> BTreeMap<(String, i32), Vec<u32>> {
    let mut found: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    let mut left = count;
    while left > 0 {
        let batch = within(consumer.next()).await.unwrap().unwrap();
        left = left.checked_sub(batch.len()).expect("more records than were written");
        found.entry((batch.topic().to_owned(), batch.partition())).or_default().extend(values(&batch));
    }
    found
}

fn in_order(found: BTreeMap<(String, i32), Vec<u32>>, partitions: usize, each: u32) {
    assert_eq!(found.len(), partitions);
    for (partition, numbers) in found {
        assert!(numbers.into_iter().eq(0..each), "{partition:?}");
    }
}

async fn build(builder: ConsumerBuilder) -> Consumer {
    within(builder.build()).await.unwrap()
}

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
async fn positions_begin_where_they_are_asked_to() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 100);
    // In the middle of a batch.
    let mut consumer = build(client.consumer().assign_at([(("t", 0), Offset::At(57))])).await;
    let batch = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!(values(&batch), [57, 58, 59]);
    assert_eq!(batch.records().map(|record| record.offset()).collect::<Vec<_>>(), [57, 58, 59]);
    assert_eq!(within(consumer.position(("t", 0))).await.unwrap(), 60);
    consumer.seek(("t", 0), Offset::Beginning).unwrap();
    assert_eq!(within(consumer.position(("t", 0))).await.unwrap(), 0);
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap())[0], 0);
    consumer.seek(("t", 0), Offset::Timestamp(1030)).unwrap();
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap())[0], 30);
    consumer.seek(("t", 0), Offset::Timestamp(9999)).unwrap();
    assert_eq!(within(consumer.position(("t", 0))).await.unwrap(), 100);
    consumer.seek(("t", 0), Offset::End).unwrap();
    assert_eq!(within(consumer.position(("t", 0))).await.unwrap(), 100);
    fill(&broker, "t", 0, 100, 1);
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap()), [100]);

    let t = [("t", 0)];
    assert_eq!(within(consumer.beginning_offsets(t)).await.unwrap()[&("t", 0).into()], 0);
    assert_eq!(within(consumer.end_offsets(t)).await.unwrap()[&("t", 0).into()], 101);
    let times = within(consumer.offsets_for_times([(("t", 0), 1050)])).await.unwrap();
    assert_eq!(times[&("t", 0).into()], Some(50));
    let times = within(consumer.offsets_for_times([(("t", 0), 9999)])).await.unwrap();
    assert_eq!(times[&("t", 0).into()], None);
    assert_eq!(consumer.seek(("t", 7), 1).unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test]
async fn latest_reads_only_what_is_written_from_now_on() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 100);
    let mut consumer = build(client.consumer().topics(["t"]).auto_offset_reset(OffsetReset::Latest)).await;
    within(async {
        while consumer.assignment().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(within(consumer.position(("t", 0))).await.unwrap(), 100);
    fill(&broker, "t", 0, 100, 5);
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap()), [100, 101, 102, 103, 104]);
}

#[tokio::test]
async fn a_topic_that_grows_is_read_from_the_beginning_of_its_new_partitions() {
    let (broker, _) = in_memory(Broker::builder()).await;
    let network = broker.network();
    let connector = Connector::new(move |host: String, port| {
        let connected = network.connect(&host, port);
        async move { connected }
    });
    let client = Client::builder().bootstrap(&broker.address()).unwrap().connector(connector);
    let client = client.metadata_max_age(Duration::from_millis(50)).build().await.unwrap();
    broker.create_topic("t", 1).unwrap();
    let mut consumer = build(client.consumer().topics(["t"]).auto_offset_reset(OffsetReset::Latest)).await;
    within(async {
        while consumer.assignment().is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    broker.create_partitions("t", 2).unwrap();
    fill(&broker, "t", 1, 0, 10);
    in_order(read(&mut consumer, 10).await, 1, 10);
}

#[tokio::test]
async fn a_seek_is_not_held_up_by_a_parked_fetch() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 0, 0, 10);
    let builder = client.consumer().topics(["t"]).fetch_max_wait(Duration::from_secs(25));
    let mut consumer = build(builder).await;
    in_order(read(&mut consumer, 10).await, 1, 10);
    for _ in 0..20 {
        consumer.seek(("t", 0), 0).unwrap();
        in_order(read(&mut consumer, 10).await, 1, 10);
    }
    consumer.pause(("t", 0)).unwrap();
    consumer.seek(("t", 0), 0).unwrap();
    consumer.resume(("t", 0)).unwrap();
    in_order(read(&mut consumer, 10).await, 1, 10);
    assert!(consumer.remove_partition(("t", 0)).unwrap());
    assert!(consumer.add_partition(("t", 0), Some(Offset::At(5))).unwrap());
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap()), [5, 6, 7, 8, 9]);
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
async fn a_truncated_log_is_told_and_never_skipped() {
    for reset in [OffsetReset::None, OffsetReset::Earliest] {
        let (broker, client) = in_memory(Broker::builder().nodes(3)).await;
        broker.create_topic("t", 1).unwrap();
        fill(&broker, "t", 0, 0, 100);
        let builder = client.consumer().assign_at([(("t", 0), Offset::At(0))]).auto_offset_reset(reset);
        let mut consumer = build(builder).await;
        in_order(read(&mut consumer, 100).await, 1, 100);
        broker.truncate("t", 0, 70).unwrap();
        fill(&broker, "t", 0, 1000, 60);
        let next = within(consumer.next()).await;
        if reset == OffsetReset::None {
            let error = next.unwrap_err();
            assert_eq!((error.kind(), error.topic(), error.partition()), (ErrorKind::Position, Some("t"), Some(0)));
            assert!(error.to_string().contains("offset 100") && error.to_string().contains("offset 70"), "{error}");
            assert_eq!(within(consumer.position(("t", 0))).await.unwrap_err().kind(), ErrorKind::Position);
            consumer.seek(("t", 0), 70).unwrap();
            assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap())[0], 1000);
        } else {
            let batch = next.unwrap().unwrap();
            let reset = batch.reset().unwrap();
            assert_eq!((reset.expected, reset.reason), (100, ResetReason::Truncated));
            assert_eq!(values(&batch)[0], 1000);
            assert_eq!(batch.iter().next().unwrap().offset(), 70);
            assert!(within(consumer.next()).await.unwrap().unwrap().reset().is_none());
        }
    }
}

#[tokio::test]
async fn a_position_out_of_range_is_an_error_or_a_told_reset() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 100);
    broker.delete_records("t", 0, 50).unwrap();
    let at = |offset| client.consumer().assign_at([(("t", 0), Offset::At(offset))]);
    let mut consumer = build(at(10).auto_offset_reset(OffsetReset::None)).await;
    let error = within(consumer.next()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Position);
    assert!(error.to_string().contains("offset 10 is not in the log"), "{error}");
    let mut consumer = build(at(10)).await;
    let batch = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!(batch.reset().map(|reset| (reset.expected, reset.reason)), Some((10, ResetReason::OutOfRange)));
    assert_eq!(values(&batch)[0], 50);
    let mut consumer = build(at(777).auto_offset_reset(OffsetReset::Latest)).await;
    fill(&broker, "t", 0, 100, 1);
    within(async {
        while consumer.metrics().resets == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    fill(&broker, "t", 0, 101, 1);
    let batch = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!(batch.reset().map(|reset| reset.expected), Some(777));
    let mut consumer = build(client.consumer().assign([("t", 0)]).auto_offset_reset(OffsetReset::None)).await;
    assert_eq!(within(consumer.next()).await.unwrap_err().kind(), ErrorKind::Position);
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
    for fault in [Fault::on(Api::FETCH).cut(), Fault::on(Api::FETCH).cut_after(), Fault::on(Api::FETCH).cut_mid_frame()] {
        broker.faults().add(fault.probability(0.2).times(5));
    }
    let mut consumer = build(client.consumer().topics(["t"]).max_partition_fetch_bytes(500)).await;
    in_order(read(&mut consumer, 2000).await, 4, 500);
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
async fn a_topic_that_is_created_again_is_told() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 10);
    let mut consumer = build(client.consumer().topics(["t"])).await;
    in_order(read(&mut consumer, 10).await, 1, 10);
    broker.delete_topic("t").unwrap();
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 100, 10);
    let batch = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!(batch.reset().map(|reset| (reset.expected, reset.reason)), Some((10, ResetReason::Recreated)));
    assert_eq!(values(&batch)[0], 100);
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

/// Polls once, then drops.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| std::task::Poll::Ready(match future.as_mut().poll(cx) {
        std::task::Poll::Ready(value) => Some(value),
        std::task::Poll::Pending => None,
    }))
    .await
}

#[tokio::test]
async fn futures_dropped_at_every_await_lose_nothing() {
    let (broker, client) = in_memory(Broker::builder().nodes(2)).await;
    broker.create_topic("t", 2).unwrap();
    fill(&broker, "t", 0, 0, 500);
    fill(&broker, "t", 1, 0, 500);
    let mut consumer = build(client.consumer().topics(["t"]).max_partition_fetch_bytes(1000)).await;
    let mut found: BTreeMap<_, Vec<u32>> = BTreeMap::new();
    let mut left = 1000;
    within(async {
        while left > 0 {
            let _ = poll_once(consumer.position(("t", 0))).await;
            let _ = poll_once(consumer.end_offsets([("t", 0)])).await;
            match poll_once(consumer.next()).await {
                None => tokio::task::yield_now().await,
                Some(batch) => {
                    let batch = batch.unwrap().unwrap();
                    left -= batch.len();
                    found.entry(("t".to_owned(), batch.partition())).or_default().extend(values(&batch));
                }
            }
        }
    })
    .await;
    in_order(found, 2, 500);
}

#[tokio::test]
async fn a_stream_that_is_dropped_leaves_the_rest_of_its_batch() {
    use futures_core::Stream;
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 20);
    let mut consumer = build(client.consumer().topics(["t"])).await;
    let mut next = async |consumer: &mut Consumer| {
        let mut stream = std::pin::pin!(consumer.stream());
        within(std::future::poll_fn(|cx| stream.as_mut().poll_next(cx))).await.unwrap().unwrap()
    };
    for number in 0..13u32 {
        let record = next(&mut consumer).await;
        assert_eq!(record.value(), Some(number.to_string().as_bytes()));
        assert_eq!((record.offset(), record.topic(), record.partition()), (i64::from(number), "t", 0));
    }
    assert_eq!(values(&within(consumer.next()).await.unwrap().unwrap()), [13, 14, 15, 16, 17, 18, 19]);
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
async fn handles_of_a_closed_consumer_say_so_and_nobody_is_left_waiting() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    let consumer = build(client.consumer().topics(["t"])).await;
    let handle = consumer.handle();
    within(consumer.close()).await;
    assert!(handle.pause(("t", 0)).unwrap_err().is_closed());
    assert!(within(handle.position(("t", 0))).await.unwrap_err().is_closed());
    let mut consumer = build(client.consumer().topics(["t"])).await;
    let waiting = tokio::spawn(async move { consumer.next().await });
    tokio::task::yield_now().await;
    within(client.close()).await;
    assert!(matches!(within(waiting).await.unwrap(), Ok(None)));
    assert!(client.consumer().topics(["t"]).build().await.unwrap_err().is_closed());
}

#[tokio::test]
async fn options_are_checked_by_name() {
    let (_broker, client) = in_memory(Broker::builder()).await;
    let consumer = || client.consumer();
    assert!(consumer().set("auto.offset.reset", "latest").is_ok());
    assert!(consumer().set("isolation.level", "read_committed").is_ok());
    assert!(consumer().set("fetch.max.wait.ms", "100").is_ok());
    assert_eq!(consumer().set("fetch.max.wait.ms", "x").unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(consumer().set("linger.ms", "5").unwrap_err().kind(), ErrorKind::Config);
    let both = consumer().topics(["a"]).assign([("b", 0)]).build().await;
    assert_eq!(both.unwrap_err().kind(), ErrorKind::Config);
    assert!(consumer().assign([("b", -1)]).build().await.is_err());
    assert!(consumer().prefetch(1).build().await.is_err());
}
