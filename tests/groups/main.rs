//! Consumers in groups against the embedded broker, in memory and mostly under a paused clock, so that timeouts cost no time.
mod admin;
mod basics;
mod faults;
mod modern;
mod offsets;
mod rebalance;
mod storm;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use milena::assignor::{Assignor, CooperativeStickyAssignor, RangeAssignor};
use milena::broker::{Api, Broker, BrokerBuilder, Fault};
use milena::{
    Client, CommittedOffset, Connector, Consumer, ConsumerBuilder, ConsumerEvent, ErrorCode, ErrorKind,
    GroupProtocol, OffsetReset, Record, TopicPartition,
};

/// A condition with a deadline, far above what it takes.
async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(600), future).await.expect("took longer than ten minutes")
}

async fn start(builder: BrokerBuilder) -> (Broker, Client) {
    let broker = builder.in_memory().start().await.unwrap();
    let client = client(&broker).await;
    (broker, client)
}

async fn client(broker: &Broker) -> Client {
    let network = broker.network();
    let connector = Connector::new(move |host: String, port| {
        let connected = network.connect(&host, port);
        async move { connected }
    });
    Client::builder().bootstrap(&broker.address()).unwrap().connector(connector).build().await.unwrap()
}

/// Appends records of which each is a batch, and whose values are their offsets.
fn fill(broker: &Broker, topic: &str, partitions: i32, from: u32, each: u32) {
    for partition in 0..partitions {
        for number in from..from + each {
            broker.append(topic, partition, &[Record::value(&number.to_string())]).unwrap();
        }
    }
}

/// Partition and number of the next record.
async fn next(consumer: &mut Consumer) -> (i32, u32) {
    read(&within(consumer.next()).await.unwrap().unwrap())
}

fn read(batch: &milena::Batch) -> (i32, u32) {
    assert_eq!(batch.len(), 1);
    let record = batch.iter().next().unwrap();
    (batch.partition(), std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap())
}

/// Everything there is, in order.
fn all(partitions: i32, each: u32) -> Vec<(i32, u32)> {
    (0..partitions).flat_map(|partition| (0..each).map(move |number| (partition, number))).collect()
}

/// What comes next in words: an event, or the place of a record.
async fn event(consumer: &mut Consumer) -> String {
    tell(within(consumer.next_event()).await.unwrap().unwrap())
}

fn tell(event: ConsumerEvent) -> String {
    let list = |partitions: Vec<TopicPartition>| {
        partitions.iter().map(|partition| format!(" {}", partition.partition())).collect::<String>()
    };
    match event {
        ConsumerEvent::Assigned(partitions) => format!("assigned{}", list(partitions)),
        ConsumerEvent::Revoked(partitions) => format!("revoked{}", list(partitions)),
        ConsumerEvent::Lost(partitions) => format!("lost{}", list(partitions)),
        ConsumerEvent::Batch(batch) => {
            let (partition, number) = read(&batch);
            format!("{partition}@{number}")
        }
        other => format!("{other:?}"),
    }
}

/// Nothing comes for so long.
async fn silent(consumer: &mut Consumer, time: Duration) {
    let came = tokio::time::timeout(time, consumer.next_event()).await;
    assert!(came.is_err(), "{came:?}");
}

fn cooperative(client: &Client) -> ConsumerBuilder {
    let assignor: Arc<dyn Assignor> = Arc::new(CooperativeStickyAssignor::default());
    client.consumer().group("g").topics(["t"]).assignors([assignor])
}

fn eager(client: &Client) -> ConsumerBuilder {
    let assignor: Arc<dyn Assignor> = Arc::new(RangeAssignor);
    client.consumer().group("g").topics(["t"]).assignors([assignor])
}

fn modern(client: &Client) -> ConsumerBuilder {
    client.consumer().group("g").topics(["t"]).group_protocol(GroupProtocol::Consumer)
}

async fn build(builder: ConsumerBuilder) -> Consumer {
    within(builder.build()).await.unwrap()
}

/// Where group `g` stands in a partition of `t`.
async fn committed(client: &Client, partition: i32) -> Option<i64> {
    let looker = build(client.consumer().group("g").topics(["elsewhere"])).await;
    let offsets = within(looker.committed([("t", partition)])).await.unwrap();
    offsets.into_values().next().unwrap().map(|committed| committed.offset)
}
