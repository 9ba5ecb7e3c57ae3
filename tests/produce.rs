//! Producing through the public interface, against the embedded broker.
#![allow(
    clippy::let_underscore_future,
    clippy::async_yields_async,
    reason = "a delivery may be dropped or kept"
)]
use std::future::Future;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use milena::broker::{Api, Broker, Fault};
use milena::{
    Acks, Client, Compression, Connector, Delivery, ErrorCode, ErrorKind, Producer, ProducerBuilder,
    ProducerTopic, Record, Result, Written,
};

/// Longer than anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

async fn client(broker: &Broker) -> Client {
    Client::connect(&broker.address()).await.unwrap()
}

/// A broker of some nodes with topic `t`, and a producer set up by `options`.
async fn world(
    nodes: i32,
    partitions: i32,
    options: impl FnOnce(ProducerBuilder) -> ProducerBuilder,
) -> (Broker, Producer) {
    let broker = Broker::builder().nodes(nodes).start().await.unwrap();
    broker.create_topic("t", partitions).unwrap();
    let client = client(&broker).await;
    let producer = options(client.producer()).build().await.unwrap();
    (broker, producer)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it takes too long")
}

fn values(broker: &Broker, partition: i32) -> Vec<String> {
    let records = broker.log("t", partition).unwrap().records().unwrap();
    records
        .iter()
        .map(|record| String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned())
        .collect()
}

/// Sends `count` numbered records to partition 0; the value is the number.
async fn send_numbers(topic: &ProducerTopic, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    for at in 0..count {
        deliveries.push(within(topic.send(Record::value(&format!("{at:05}")).partition(0))).await.unwrap());
    }
    deliveries
}

async fn all(deliveries: Vec<Delivery>) -> Vec<Result<Written>> {
    let mut ends = Vec::new();
    for delivery in deliveries {
        ends.push(within(delivery).await);
    }
    ends
}

fn poll<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_record_lies_where_its_delivery_says() {
    let (broker, producer) = world(1, 3, |options| options).await;
    let topic = producer.topic("t");
    let delivery = topic.send(Record::value("3 apples").key("a").header("h", "1")).await.unwrap();
    let written = within(delivery).await.unwrap();
    assert_eq!((written.partition, written.offset), (1, Some(0)), "murmur2 of `a` modulo 3");

    let records = broker.log("t", written.partition).unwrap().records().unwrap();
    assert_eq!(records[0].value(), Some(b"3 apples".as_slice()));
    assert_eq!(records[0].key(), Some(b"a".as_slice()));
    assert_eq!(records[0].timestamp(), written.timestamp);
    within(producer.close()).await.unwrap();
}

#[tokio::test]
async fn an_in_memory_connection_serves_as_well() {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("t", 1).unwrap();
    let network = broker.network();
    let connector = Connector::new(move |host, port| {
        let connected = network.connect(&host, port);
        async { connected }
    });
    let client =
        Client::builder().bootstrap(&broker.address()).unwrap().connector(connector).build().await.unwrap();
    let producer = client.producer().build().await.unwrap();
    let ends = all(send_numbers(&producer.topic("t"), 100).await).await;
    assert_eq!(ends[99].as_ref().unwrap().offset, Some(99));
}

/// Every fault on the way, many times over: all is written, once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_neither_lose_nor_repeat_nor_reorder() {
    let fault = || Fault::on(Api::PRODUCE).probability(0.2).times(20);
    let faults: Vec<(&str, Fault)> = vec![
        ("cut before", fault().cut()),
        ("cut after", fault().cut_after()),
        ("cut in the answer", fault().cut_mid_frame()),
        ("answer dropped", fault().times(3).drop_answer()),
        ("hang", fault().times(3).hang()),
        ("garbage", fault().garbage(b"HTTP/1.1 400 Bad Request\r\n\r\n".as_slice())),
        ("answer cut", fault().body(b"".as_slice())),
        ("not leader", fault().error(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
        ("not leader, but written", fault().error_after(ErrorCode::NOT_LEADER_OR_FOLLOWER)),
        ("timed out, but written", fault().error_after(ErrorCode::REQUEST_TIMED_OUT)),
        ("too few replicas", fault().error(ErrorCode::NOT_ENOUGH_REPLICAS)),
        ("too few after all", fault().error_after(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND)),
        ("corrupt", fault().error(ErrorCode::CORRUPT_MESSAGE)),
        ("unknown topic", fault().error(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
        ("out of order", fault().error(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)),
        ("too large", fault().times(5).error(ErrorCode::MESSAGE_TOO_LARGE)),
        ("leader moves", fault().move_leader()),
        ("slow", fault().delay(Duration::from_millis(20))),
    ];
    for (name, fault) in faults {
        let (broker, producer) = world(3, 1, |options| {
            options
                .batch_size(700)
                .linger(Duration::from_millis(1))
                .request_timeout(Duration::from_millis(300))
                .retry_backoff(Duration::from_millis(1), Duration::from_millis(20))
        })
        .await;
        broker.faults().add(fault);
        let ends = all(send_numbers(&producer.topic("t"), 2000).await).await;
        assert!(broker.faults().struck() > 0, "{name}: nothing went wrong");
        let log = values(&broker, 0);
        assert_eq!(log.len(), 2000, "{name}");
        assert!(log.is_sorted(), "{name}");
        for (at, end) in ends.iter().enumerate() {
            let written = end.as_ref().unwrap_or_else(|error| panic!("{name}: {at}: {error}"));
            if let Some(offset) = written.offset {
                assert_eq!(log[offset as usize], format!("{at:05}"), "{name}");
            }
        }
        within(producer.close()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_stopped_costs_nothing_but_time() {
    let (broker, producer) = world(3, 3, |options| options.batch_size(1000)).await;
    let topic = producer.topic("t");
    let mut deliveries = Vec::new();
    for at in 0..3000 {
        if at == 1000 {
            broker.stop_node(1).await.unwrap();
        }
        if at == 2000 {
            broker.start_node(1).await.unwrap();
            broker.move_leader("t", 0, 1).unwrap();
        }
        let record = format!("{at:05}");
        deliveries.push(within(topic.send(Record::value(&record).partition(at % 3))).await.unwrap());
    }
    assert!(all(deliveries).await.iter().all(Result::is_ok));
    for partition in 0..3 {
        let log = values(&broker, partition);
        assert_eq!(log.len(), 1000);
        assert!(log.is_sorted());
    }
}

#[tokio::test]
async fn a_leader_that_hangs_is_left_when_another_leads() {
    let (broker, producer) = world(2, 1, |options| options).await;
    let topic = producer.topic("t");
    all(send_numbers(&topic, 1).await).await;
    broker.faults().add(Fault::on(Api::PRODUCE).node(1).hang());
    let deliveries = send_numbers(&topic, 10).await;
    producer.wait_for_request().await;
    broker.move_leader("t", 0, 2).unwrap();
    // The request timeout is 30 s; a fraction of it has to do.
    let ends = tokio::time::timeout(Duration::from_secs(8), all(deliveries))
        .await
        .expect("it waits for the old leader");
    assert!(ends.iter().all(Result::is_ok));
    assert_eq!(values(&broker, 0).len(), 11);
}

#[tokio::test]
async fn a_delivery_that_runs_out_of_time_says_whether_it_may_be_written() {
    let (broker, producer) =
        world(1, 1, |options| options.delivery_timeout(Duration::from_millis(400)).max_in_flight(1)).await;
    let topic = producer.topic("t");
    all(send_numbers(&topic, 1).await).await;
    let hang = Fault::on(Api::PRODUCE).hang();
    broker.faults().add(hang);
    let sent = topic.send(Record::value("sent")).await.unwrap();
    producer.wait_for_request().await;
    let kept = topic.send(Record::value("kept")).await.unwrap();
    let error = within(sent).await.unwrap_err();
    assert!(error.is_timeout() && error.maybe_written(), "{error}");
    assert_eq!((error.topic(), error.partition()), (Some("t"), Some(0)));
    let error = within(kept).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    broker.faults().clear();
    // The numbers of the lost ones are not used again.
    let written = within(topic.send(Record::value("after")).await.unwrap()).await.unwrap();
    assert_eq!(values(&broker, 0)[written.offset.unwrap() as usize], "after");
    assert_eq!(producer.metrics().producer_epochs, 2);
}

trait Wait {
    async fn wait_for_request(&self);
}

impl Wait for Producer {
    async fn wait_for_request(&self) {
        within(async {
            while self.metrics().in_flight == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn send_waits_for_room_and_try_send_says_that_there_is_none() {
    let (broker, producer) = world(1, 1, |options| {
        options.buffer_memory(20_000).batch_size(4_000).linger(Duration::from_secs(60))
    })
    .await;
    let topic = producer.topic("t");
    let _ = topic.send(Record::value("first").partition(0)).await.unwrap();
    within(producer.flush()).await.unwrap();
    broker.faults().add(Fault::on(Api::PRODUCE).hang().times(5));
    let value = "x".repeat(1000);
    let mut deliveries = Vec::new();
    let error = loop {
        match topic.try_send(Record::value(&value).partition(0)) {
            Ok(delivery) => deliveries.push(delivery),
            Err(error) => break error,
        }
        assert!(deliveries.len() < 30, "no bound");
    };
    assert!(error.is_retriable() && error.to_string().contains("buffer_memory"), "{error}");
    assert!(deliveries.len() >= 15, "{} of 20 fit", deliveries.len());

    let mut waiting = Box::pin(topic.send(Record::value(&value).partition(0)));
    assert!(poll(&mut waiting).is_pending());
    assert_eq!(producer.metrics().waiting_sends, 1);
    drop(waiting); // takes nothing with it
    assert_eq!(producer.metrics().waiting_sends, 0);

    // Somebody who waits ends lingering; the hanging connection is given up when the request timeout passes.
    broker.faults().clear();
    broker.stop_node(1).await.unwrap();
    broker.start_node(1).await.unwrap();
    deliveries.push(within(topic.send(Record::value(&value).partition(0))).await.unwrap());
    let count = deliveries.len() + 1;
    within(producer.flush()).await.unwrap();
    assert!(all(deliveries).await.iter().all(Result::is_ok));
    assert_eq!(values(&broker, 0).len(), count);
    assert_eq!(producer.metrics().buffered_bytes, 0);
}

#[tokio::test]
async fn many_senders_with_little_memory_all_get_through() {
    let (broker, producer) = world(1, 4, |options| options.buffer_memory(10_000).batch_size(2_000)).await;
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..20 {
        let topic = producer.topic("t");
        tasks.spawn(async move {
            for at in 0..50 {
                let value = format!("{task:02}-{at:03}-{}", "x".repeat(300));
                let _ = within(topic.send(Record::value(&value))).await.unwrap();
            }
        });
    }
    while let Some(end) = tasks.join_next().await {
        end.unwrap();
    }
    within(producer.close()).await.unwrap();
    assert_eq!((0..4).map(|partition| values(&broker, partition).len()).sum::<usize>(), 1000);
    let metrics = producer.metrics();
    assert_eq!((metrics.records_written, metrics.records_failed, metrics.buffered_bytes), (1000, 0, 0));
}

#[tokio::test]
async fn an_unknown_topic_is_named_after_max_block() {
    let broker = Broker::builder().auto_create_topics(false).start().await.unwrap();
    let client = client(&broker).await;
    let producer = client.producer().max_block(Duration::from_millis(300)).build().await.unwrap();
    let error = within(producer.send("nowhere", Record::value("x"))).await.unwrap_err();
    assert_eq!(error.topic(), Some("nowhere"), "{error}");
    broker.create_topic("nowhere", 1).unwrap();
    let delivery = within(producer.send("nowhere", Record::value("x"))).await.unwrap();
    within(delivery).await.unwrap();
}

#[tokio::test]
async fn try_send_has_the_topic_looked_up() {
    let (_broker, producer) = world(1, 1, |options| options).await;
    let topic = producer.topic("t");
    let error = topic.try_send(Record::value("x")).unwrap_err();
    assert!(error.is_retriable(), "{error}");
    let delivery = within(async {
        loop {
            match topic.try_send(Record::value("x")) {
                Ok(delivery) => break delivery,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    within(delivery.await).await.unwrap();
}

#[tokio::test]
async fn records_that_cannot_be_sent_are_refused_with_the_reason() {
    let (broker, producer) =
        world(1, 2, |options| options.max_request_size(2000).max_block(Duration::from_millis(200))).await;
    let topic = producer.topic("t");
    let error = within(topic.send(Record::value(&[0; 3000]))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Record);
    assert!(error.to_string().contains("3") && error.to_string().contains("2000"), "{error}");
    assert_eq!(error.topic(), Some("t"));
    for partition in [-1, 2] {
        let error = within(topic.send(Record::value("x").partition(partition))).await.unwrap_err();
        assert_eq!((error.kind(), error.partition()), (ErrorKind::Record, Some(partition)), "{error}");
    }
    // The topic's own limit: a batch is divided, a single record fails.
    broker.faults().add(Fault::on(Api::PRODUCE).times(1).error(ErrorCode::MESSAGE_TOO_LARGE));
    let delivery = within(topic.send(Record::value("x").partition(0))).await.unwrap();
    let error = within(delivery).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
    assert!(!error.maybe_written() && error.api() == Some("Produce"), "{error}");
}

#[tokio::test]
async fn every_codec_is_read_back() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let (broker, producer) = world(1, 1, |options| options.compression(codec)).await;
        let topic = producer.topic("t");
        let mut deliveries = Vec::new();
        for at in 0..2000 {
            let value = format!("{at:05} and something that repeats, repeats, repeats");
            deliveries.push(within(topic.send(Record::value(&value))).await.unwrap());
        }
        for (at, end) in all(deliveries).await.into_iter().enumerate() {
            assert_eq!(end.unwrap().offset, Some(at as i64), "{codec}");
        }
        assert!(values(&broker, 0).is_sorted());
        let stored: usize = broker.log("t", 0).unwrap().batches().iter().map(|batch| batch.len()).sum();
        assert!(stored < 50_000, "{codec}: {stored} bytes");
    }
}

#[tokio::test]
async fn acknowledgements_are_what_was_asked_for() {
    for (acks, known) in [(Acks::None, false), (Acks::Leader, true), (Acks::All, true)] {
        let (broker, producer) = world(1, 1, |options| options.acks(acks)).await;
        let ends = all(send_numbers(&producer.topic("t"), 300).await).await;
        assert!(ends.iter().all(|end| end.as_ref().unwrap().offset.is_some() == known), "{acks:?}");
        within(producer.close()).await.unwrap();
        within(async {
            while values(&broker, 0).len() < 300 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(values(&broker, 0).is_sorted());
    }
}

#[tokio::test]
async fn contradictions_are_found_at_build() {
    let (_broker, producer) = world(1, 1, |options| options).await;
    drop(producer);
    let broker = Broker::start().await.unwrap();
    let client = client(&broker).await;
    for (options, word) in [
        (client.producer().acks(Acks::Leader).idempotence(true), "acks=all"),
        (client.producer().max_in_flight(6), "max_in_flight"),
        (client.producer().max_in_flight(0), "max_in_flight"),
        (client.producer().max_request_size(10), "max_request_size"),
        (client.producer().delivery_timeout(Duration::ZERO), "delivery_timeout"),
    ] {
        let error = options.build().await.unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(word), "{error}");
    }
    let options = client.producer().set("acks", "1").unwrap().set("linger.ms", "0").unwrap();
    assert!(options.build().await.is_ok());
    assert!(client.producer().set("linger.ms", "soon").is_err());
    assert!(client.producer().set("linger", "1").is_err());
}

#[tokio::test]
async fn flush_waits_for_what_was_sent_before_and_close_for_all() {
    let (broker, producer) = world(1, 2, |options| options.linger(Duration::from_secs(60))).await;
    let topic = producer.topic("t");
    let mut deliveries = send_numbers(&topic, 10).await;
    within(producer.flush()).await.unwrap();
    assert!(deliveries.iter_mut().all(|delivery| poll(delivery).is_ready()));
    assert_eq!(values(&broker, 0).len(), 10);
    within(producer.flush()).await.unwrap();

    let mut last = send_numbers(&topic, 5).await;
    within(producer.close()).await.unwrap();
    assert!(last.iter_mut().all(|delivery| matches!(poll(delivery), Poll::Ready(Ok(_)))));
    assert_eq!(values(&broker, 0).len(), 15);
    let error = within(topic.send(Record::value("late").partition(0))).await.unwrap_err();
    assert!(error.is_closed(), "{error}");
    assert!(producer.topic("other").send(Record::value("x")).await.is_err());
    within(producer.flush()).await.unwrap();
    within(producer.close()).await.unwrap();
}

#[tokio::test]
async fn one_who_only_sends_leaves_the_driver_its_turns() {
    let (_broker, producer) = world(1, 1, |options| options.linger(Duration::ZERO)).await;
    let topic = producer.topic("t");
    let _ = topic.send(Record::value("first")).await.unwrap();
    let value = "x".repeat(1000);
    for _ in 0..10_000 {
        let _ = topic.send(Record::value(&value)).await.unwrap();
    }
    // On one thread, with room for 32 MiB: batches were sent before all records were there.
    assert!(producer.metrics().requests_sent > 1, "{:?}", producer.metrics());
}

#[tokio::test]
async fn dropping_a_producer_ends_what_is_open() {
    let (broker, producer) = world(1, 1, |options| options.linger(Duration::from_secs(60))).await;
    let topic = producer.topic("t");
    let open = topic.send(Record::value("open")).await.unwrap();
    drop((producer, topic));
    let error = within(open).await.unwrap_err();
    assert!(error.is_closed() && !error.maybe_written(), "{error}");
    assert!(values(&broker, 0).is_empty());
}

#[tokio::test]
async fn dropped_deliveries_are_sent_and_many_wakers_are_told() {
    let (broker, producer) = world(1, 1, |options| options).await;
    let topic = producer.topic("t");
    let mut deliveries = send_numbers(&topic, 100).await;
    for delivery in &mut deliveries {
        assert!(poll(delivery).is_pending() || broker.log("t", 0).unwrap().end_offset() > 0);
    }
    deliveries.truncate(50);
    let mut tasks = tokio::task::JoinSet::new();
    for delivery in deliveries {
        tasks.spawn(async move { within(delivery).await.unwrap() });
    }
    while let Some(end) = tasks.join_next().await {
        end.unwrap();
    }
    assert_eq!(values(&broker, 0).len(), 100);
}

#[tokio::test]
async fn records_without_key_are_spread_and_those_with_one_stay_together() {
    let (broker, producer) = world(3, 6, |options| options.batch_size(500)).await;
    let topic = producer.topic("t");
    let mut deliveries = Vec::new();
    for _ in 0..2000 {
        deliveries.push(within(topic.send(Record::value("0123456789"))).await.unwrap());
    }
    assert!(all(deliveries).await.iter().all(Result::is_ok));
    let counts: Vec<_> = (0..6).map(|partition| values(&broker, partition).len()).collect();
    assert!(counts.iter().all(|&count| count > 100), "{counts:?}");
    let metrics = producer.metrics();
    assert!(metrics.batches_sent < 120, "{} batches: they are not filled", metrics.batches_sent);
}
