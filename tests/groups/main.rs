//! Consumers in groups against the embedded broker, in memory and mostly under a paused clock, so that timeouts cost no time.
mod basics;

use std::future::Future;
use std::time::{Duration, Instant};

use milena::broker::{Broker, BrokerBuilder};
use milena::{Client, Connector, Consumer, Record};

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

/// Of real time.
async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come about: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn next(consumer: &mut Consumer) -> (i32, u32) {
    let batch = within(consumer.next()).await.unwrap().unwrap();
    assert_eq!(batch.len(), 1);
    let record = batch.iter().next().unwrap();
    (batch.partition(), std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap())
}
