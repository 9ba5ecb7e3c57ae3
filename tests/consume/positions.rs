//! Where reading begins, and what is said when it cannot go on there.
use super::*;

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
            assert_eq!(
                (error.kind(), error.topic(), error.partition()),
                (ErrorKind::Position, Some("t"), Some(0))
            );
            assert!(
                error.to_string().contains("offset 100") && error.to_string().contains("offset 70"),
                "{error}"
            );
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
    assert_eq!(
        batch.reset().map(|reset| (reset.expected, reset.reason)),
        Some((10, ResetReason::OutOfRange))
    );
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
