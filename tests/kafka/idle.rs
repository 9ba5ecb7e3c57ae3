//! Two nodes that have nothing to say must not cost the third anything.
use std::time::{Duration, Instant};

use milena::{Client, Record};

use crate::on_calm_kafka;
use crate::support::kafka::{Cluster, NEWEST, TopicSpec};

const BUSY: [&[i32]; 4] = [&[1]; 4];
const IDLE: [&[i32]; 4] = [&[2], &[3], &[2], &[3]];

#[test]
fn two_idle_nodes_cost_the_busy_one_no_byte() {
    on_calm_kafka(NEWEST, 3, async |kafka, client| {
        let (busy, idle) = topics(kafka, "");
        write(&client, &busy, 60_000).await;
        let (_, ratio) = read(&client, &[&busy, &idle], 60_000).await;
        // A batch at the end of an answer may be cut off, and is fetched again.
        assert!(ratio < 1.01, "{ratio} bytes fetched for each byte delivered");
    });
}

/// `cargo test --release --test kafka -- --ignored --nocapture figures`
#[test]
#[ignore = "a measurement"]
fn figures_of_a_busy_node_beside_two_idle_ones() {
    on_calm_kafka(NEWEST, 3, async |kafka, client| {
        const COUNT: usize = 5_000_000;
        let (busy, idle) = topics(kafka, "-figures");
        write(&client, &busy, COUNT).await;
        read(&client, &[&busy], COUNT).await; // once to warm up
        for _ in 0..5 {
            let (alone, _) = read(&client, &[&busy], COUNT).await;
            let (beside, ratio) = read(&client, &[&busy, &idle], COUNT).await;
            println!(
                "alone {alone:?}, beside two idle nodes {beside:?}; {ratio:.4} bytes fetched per byte delivered"
            );
        }
    });
}

/// A topic on one node alone, and one of the two others, in which there will be nothing.
fn topics(kafka: &Cluster, suffix: &str) -> (String, String) {
    let (busy, idle) = (format!("busy{suffix}"), format!("idle{suffix}"));
    kafka.create_topic(&TopicSpec { name: &busy, assignment: &BUSY, ..TopicSpec::default() });
    kafka.create_topic(&TopicSpec { name: &idle, assignment: &IDLE, ..TopicSpec::default() });
    (busy, idle)
}

async fn write(client: &Client, topic: &str, count: usize) {
    let producer = client.producer().linger(Duration::from_millis(20)).build().await.unwrap();
    let busy = producer.topic(topic);
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
async fn read(client: &Client, topics: &[&str], count: usize) -> (Duration, f64) {
    let mut consumer =
        client.consumer().topics(topics.iter().copied().map(str::to_owned)).build().await.unwrap();
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
