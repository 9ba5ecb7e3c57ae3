//! Two nodes that have nothing to say must not cost the third anything.
use std::time::{Duration, Instant};

use milena::{Client, Record};

use crate::on_calm_kafka;
use crate::support::kafka::{NEWEST, TopicSpec};

const BUSY: [&[i32]; 4] = [&[1]; 4];
const IDLE: [&[i32]; 4] = [&[2], &[3], &[2], &[3]];

#[test]
fn two_idle_nodes_cost_the_busy_one_no_byte() {
    on_calm_kafka(NEWEST, 3, async |kafka, client| {
        kafka.create_topic(&TopicSpec { name: "busy", assignment: &BUSY, ..TopicSpec::default() });
        kafka.create_topic(&TopicSpec { name: "idle", assignment: &IDLE, ..TopicSpec::default() });
        let count = 60_000;
        write(&client, count).await;

        let alone = read(&client, &["busy"], count).await;
        let (elapsed, ratio) = read(&client, &["busy", "idle"], count).await;
        println!(
            "{count} records: alone {:?}, beside two idle nodes {elapsed:?}; {ratio:.4} fetched per delivered",
            alone.0
        );
        // A batch at the end of an answer may be cut off, and is fetched again.
        assert!(ratio < 1.01, "{ratio} bytes fetched for each byte delivered");
    });
}

async fn write(client: &Client, count: usize) {
    let producer = client.producer().linger(Duration::from_millis(20)).build().await.unwrap();
    let busy = producer.topic("busy");
    let value = "x".repeat(100);
    for number in 0..count {
        let partition = (number % BUSY.len()) as i32;
        busy.send(Record::value(&value).partition(partition)).await.unwrap();
    }
    producer.flush().await.unwrap();
    assert_eq!(producer.metrics().records_failed, 0);
    producer.close().await.unwrap();
}

/// Time to read so many records, and the bytes fetched for each byte handed out.
async fn read(client: &Client, topics: &[&'static str], count: usize) -> (Duration, f64) {
    let mut consumer = client.consumer().topics(topics.iter().copied()).build().await.unwrap();
    let start = Instant::now();
    let mut rest = count;
    while rest > 0 {
        rest -= consumer.next().await.unwrap().expect("the client is open").len();
    }
    let elapsed = start.elapsed();
    let metrics = consumer.metrics();
    consumer.close().await;
    (elapsed, metrics.fetched_bytes as f64 / metrics.delivered_bytes as f64)
}
