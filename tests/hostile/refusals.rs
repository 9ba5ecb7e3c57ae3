//! Answers that are well formed and say no, and connections that break under a client that is at work.
use super::{client, names, tampered};
use milena::broker::{Api, Broker, Fault};
use milena::{ErrorKind, Offset, Record};

#[tokio::test(start_paused = true)]
async fn a_record_above_max_request_size() {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("orders", 1).unwrap();
    let producer = client(&broker).await.producer().build().await.unwrap();
    let error = producer.send("orders", Record::value(&vec![0; 2 << 20])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Record);
    names(&error, "orders", &["max_request_size"]);
    producer.send("orders", Record::value("small")).await.unwrap().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_record_above_the_topic_s_limit() {
    let broker = Broker::builder().config("message.max.bytes", "1000").in_memory().start().await.unwrap();
    broker.create_topic("orders", 1).unwrap();
    let producer = client(&broker).await.producer().build().await.unwrap();
    let orders = producer.topic("orders");
    let (first, large, last) = (
        orders.send(Record::value("first")).await.unwrap(),
        orders.send(Record::value(&[b'x'; 2_000])).await.unwrap(),
        orders.send(Record::value("last")).await.unwrap(),
    );
    first.await.unwrap();
    let error = large.await.unwrap_err();
    last.await.unwrap();
    names(&error, "orders", &["MESSAGE_TOO_LARGE"]);
    assert_eq!((error.partition(), error.api(), error.maybe_written()), (Some(0), Some("Produce"), false));
    assert_eq!(broker.log("orders", 0).unwrap().end_offset(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_topic() {
    let broker = Broker::builder().auto_create_topics(false).in_memory().start().await.unwrap();
    let client = client(&broker).await;
    let producer = client.producer().build().await.unwrap();
    let error = producer.send("nothing", Record::value("x")).await.unwrap_err();
    names(&error, "nothing", &["unknown", "UNKNOWN_TOPIC_OR_PARTITION"]);
    let mut consumer = client.consumer().topics(["nothing"]).build().await.unwrap();
    let error = consumer.next().await.unwrap_err();
    names(&error, "nothing", &["unknown", "UNKNOWN_TOPIC_OR_PARTITION"]);
    let error = client.admin().describe_topics(["nothing"]).await.unwrap_err();
    names(&error, "nothing", &["UNKNOWN_TOPIC_OR_PARTITION"]);
}

/// Whatever befalls one answer, the record is written once and read once.
#[tokio::test(start_paused = true)]
async fn one_bad_answer_loses_and_repeats_nothing() {
    let garbage = b"\0\0\0\x08\x7f\xff\xff\xff\xff\xff\xff\xff";
    for api in
        [Api::API_VERSIONS, Api::METADATA, Api::INIT_PRODUCER_ID, Api::PRODUCE, Api::LIST_OFFSETS, Api::FETCH]
    {
        // What answers garbage to a first question is taken for no node.
        for action in 0..if api == Api::API_VERSIONS { 4 } else { 6 } {
            let broker = Broker::builder().in_memory().start().await.unwrap();
            broker.create_topic("orders", 1).unwrap();
            let client = client(&broker).await;
            let fault = Fault::on(api).times(1);
            broker.faults().add(match action {
                0 => fault.cut(),
                1 => fault.cut_after(),
                2 => fault.cut_mid_frame(),
                3 => fault.drop_answer(),
                4 => fault.garbage(&garbage[..]),
                _ => fault.body(&b"\0\0\xff\xff\xff\xff"[..]),
            });
            let producer = client.producer().build().await.unwrap();
            let written = producer.send("orders", Record::value("once")).await.unwrap().await;
            let written = written.unwrap_or_else(|error| panic!("{api:?} {action}: {error}"));
            assert_eq!((written.partition, written.offset), (0, Some(0)), "{api:?} {action}");
            let mut consumer =
                client.consumer().assign_at([(("orders", 0), Offset::Beginning)]).build().await.unwrap();
            // Garbage is told, and reading goes on.
            let batch = match consumer.next().await {
                Ok(batch) => batch,
                Err(error) => {
                    names(&error, "node-1:9092", &["no request", "malformed"]);
                    assert!(!error.maybe_written(), "{error}");
                    consumer.next().await.unwrap_or_else(|error| panic!("{api:?} {action}: {error}"))
                }
            };
            assert_eq!(batch.unwrap().iter().next().unwrap().value(), Some(&b"once"[..]));
            assert_eq!(broker.log("orders", 0).unwrap().end_offset(), 1, "{api:?} {action}");
            if api != Api::API_VERSIONS && api != Api::METADATA {
                assert_eq!(broker.faults().struck(), 1, "{api:?} {action}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_another_request_ends_the_connection() {
    let broker = Broker::builder().in_memory().start().await.unwrap();
    broker.create_topic("orders", 1).unwrap();
    let client = tampered(&broker, (3, 1), |frame| frame[7] ^= 0x40).await.unwrap();
    let error = client.admin().describe_topics(["orders"]).await.unwrap_err();
    names(&error, broker.address(), &["correlation id"]);
    assert_eq!(client.admin().describe_topics(["orders"]).await.unwrap().len(), 1);
}
