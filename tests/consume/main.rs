//! The consumer against the embedded broker: promises C1 to C4, over TCP and in memory, without sleeping.
mod faults;
mod flow;
mod handles;
mod positions;

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use milena::broker::{Api, Broker, BrokerBuilder, Fault};
use milena::{
    Batch, Client, Compression, Connector, Consumer, ConsumerBuilder, ErrorCode, ErrorKind, IsolationLevel,
    Offset, OffsetReset, Record, ResetReason,
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
    let client =
        client.retry_backoff(Duration::from_millis(5), Duration::from_millis(50)).build().await.unwrap();
    (broker, client)
}

/// Appends batches of ten records whose values are their numbers.
fn fill(broker: &Broker, topic: &str, partition: i32, from: u32, count: u32) {
    for first in (from..from + count).step_by(10) {
        let values: Vec<String> =
            (first..(first + 10).min(from + count)).map(|number| number.to_string()).collect();
        let records: Vec<Record<'_>> =
            values.iter().map(|value| Record::value(value).timestamp(1000 + i64::from(first))).collect();
        broker.append(topic, partition, &records).unwrap();
    }
}

fn values(batch: &Batch) -> Vec<u32> {
    batch
        .iter()
        .map(|record| std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap())
        .collect()
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

/// Polls once, then drops.
async fn poll_once<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}
