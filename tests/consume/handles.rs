//! Futures that are dropped, streams, handles, options.
use super::*;

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
    let next = async |consumer: &mut Consumer| {
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

#[tokio::test]
async fn a_consumer_that_ends_leaves_no_connection_behind() {
    let (broker, client) = in_memory(Broker::builder()).await;
    broker.create_topic("t", 1).unwrap();
    fill(&broker, "t", 0, 0, 10);
    let connections = async |wanted: usize| {
        within(async {
            while broker.connections() != wanted {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    let mut consumer = build(client.consumer().topics(["t"])).await;
    in_order(read(&mut consumer, 10).await, 1, 10);
    let before = broker.connections() - 1;
    within(consumer.close()).await;
    connections(before).await;
    let mut consumer = build(client.consumer().topics(["t"])).await;
    in_order(read(&mut consumer, 10).await, 1, 10);
    drop(consumer);
    connections(before).await;
}
