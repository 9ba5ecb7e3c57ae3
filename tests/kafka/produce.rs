//! Batches of unknown fate and batches too large, on real Kafka: what its sequence checks and limits really do.
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use milena::{Client, Connector, ErrorCode, Record};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;

use crate::on_calm_kafka;
use crate::support::kafka::{NEWEST, TopicSpec};

#[test]
fn a_record_of_unknown_fate_costs_no_other_on_kafka_4_3() {
    unknown_fate(NEWEST);
}

#[test]
fn a_record_of_unknown_fate_costs_no_other_on_kafka_2_8() {
    unknown_fate("2.8.2");
}

/// The first record is stored, and no answer arrives until it is given up. Were its number given to the second, Kafka would take that
/// for a repeat and acknowledge what it never stored.
fn unknown_fate(version: &'static str) {
    on_calm_kafka(version, 1, async |kafka, straight| {
        let topic = kafka.topic("fate", 1);
        let deaf = Arc::new(AtomicBool::new(false));
        let heard = deaf.clone();
        let connector = Connector::new(move |host, port| connect(host, port, heard.clone()));
        let client = Client::builder().bootstrap(&kafka.bootstrap()).unwrap().connector(connector);
        let client = client.build().await.unwrap();
        let producer = client
            .producer()
            .request_timeout(Duration::from_millis(700))
            .delivery_timeout(Duration::from_secs(2))
            .build()
            .await
            .unwrap();
        let orders = producer.topic(&topic);
        orders.send(Record::value("start")).await.unwrap().await.unwrap();

        deaf.store(true, Ordering::SeqCst);
        let error = orders.send(Record::value("lost")).await.unwrap().await.unwrap_err();
        assert!(error.is_timeout() && error.maybe_written(), "{error}");
        deaf.store(false, Ordering::SeqCst);

        let written = loop {
            match orders.send(Record::value("after")).await.unwrap().await {
                Ok(written) => break written,
                Err(error) => assert!(error.is_timeout(), "{error}"),
            }
        };
        assert!(producer.metrics().producer_epochs >= 2, "each batch that is given up ends an epoch");
        producer.close().await.unwrap();
        client.close().await;

        let values = read(&straight, &topic).await;
        assert_eq!(values[..2], ["start", "lost"], "the lost one was stored, once");
        assert_eq!(values[written.offset.unwrap() as usize], "after");
    });
}

async fn read(client: &Client, topic: &str) -> Vec<String> {
    let end = client.consumer().topics([topic]).build().await.unwrap();
    let count = end.end_offsets([(topic, 0)]).await.unwrap().values().sum::<i64>() as usize;
    end.close().await;
    let mut consumer = client.consumer().topics([topic]).build().await.unwrap();
    let mut values = Vec::new();
    while values.len() < count {
        let batch = consumer.next().await.unwrap().expect("the client is open");
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        values.extend(batch.iter().map(|record| text(record.value())));
    }
    consumer.close().await;
    values
}

/// A connection on which nothing is heard while `deaf` is set: answers are read from the node and thrown away.
async fn connect(host: String, port: u16, deaf: Arc<AtomicBool>) -> io::Result<DuplexStream> {
    let node = TcpStream::connect((host, port)).await?;
    let (near, far) = tokio::io::duplex(1 << 16);
    let (mut from_node, mut to_node) = node.into_split();
    let (mut from_client, mut to_client) = tokio::io::split(far);
    tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_node).await });
    tokio::spawn(async move {
        let mut bytes = vec![0; 1 << 16];
        // A connection that has missed an answer never hears again.
        let mut missed = false;
        while let Ok(count @ 1..) = from_node.read(&mut bytes).await {
            missed |= deaf.load(Ordering::SeqCst);
            if !missed && to_client.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    });
    Ok(near)
}

#[test]
fn batches_above_the_limit_of_a_topic_are_divided() {
    on_calm_kafka(NEWEST, 1, async |kafka, client| {
        let name = kafka.topic("divided", 1) + "-small";
        let configs = [("max.message.bytes", "3000")];
        kafka.create_topic(&TopicSpec {
            name: &name,
            partitions: 1,
            replication: 1,
            configs: &configs,
            ..TopicSpec::default()
        });
        let producer = client.producer().linger(Duration::from_millis(20)).build().await.unwrap();
        let topic = producer.topic(&name);
        let mut deliveries = Vec::new();
        for number in 0..1000 {
            let value = format!("{number:04} {}", "x".repeat(95));
            deliveries.push(topic.send(Record::value(&value)).await.unwrap());
        }
        for (number, delivery) in deliveries.into_iter().enumerate() {
            assert_eq!(delivery.await.unwrap().offset, Some(number as i64));
        }
        let error = topic.send(Record::value(&[b'x'; 4000])).await.unwrap().await.unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE), "{error}");
        assert!(!error.maybe_written());
        let metrics = producer.metrics();
        assert!(metrics.splits >= 3 && metrics.producer_epochs == 1, "{metrics:?}");
        let values = read(&client, &name).await;
        assert!(values.len() == 1000 && values.is_sorted());
    });
}
