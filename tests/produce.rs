//! Producing through the public interface, against the embedded broker.
use milena::broker::Broker;
use milena::{Client, Record};

#[tokio::test]
async fn a_record_lies_where_its_delivery_says() {
    let broker = Broker::start().await.unwrap();
    broker.create_topic("orders", 3).unwrap();
    let client = Client::connect(&broker.address()).await.unwrap();
    let producer = client.producer().build().await.unwrap();
    let orders = producer.topic("orders");

    let delivery = orders.send(Record::value("3 apples").key("a").header("h", "1")).await.unwrap();
    let written = delivery.await.unwrap();
    assert_eq!((written.partition, written.offset), (1, Some(0)), "murmur2 of `a` modulo 3");

    let records = broker.log("orders", written.partition).unwrap().records().unwrap();
    assert_eq!(records[0].value(), Some(b"3 apples".as_slice()));
    assert_eq!(records[0].key(), Some(b"a".as_slice()));
    assert_eq!(records[0].timestamp(), written.timestamp);
    producer.close().await.unwrap();
}
