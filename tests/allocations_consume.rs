//! Allocations per record, consumed from full batches of 100-byte records. The broker runs on a thread of its own; counted is the
//! thread of the client, with its connections and its driver.
#![allow(unsafe_code, dead_code, unreachable_pub, missing_docs)]

use std::sync::mpsc;
use std::time::Duration;

use milena::broker::Broker;
use milena::{Client, Compression, Consumer, Record};

#[path = "support/allocations.rs"]
mod allocations;

const RECORDS: u64 = 200_000;
/// Those before the count begins: connections are opened and buffers have grown.
const BEFORE: u64 = 20_000;

/// A broker on another thread, with `RECORDS` records in batches of 16 KiB.
struct Elsewhere {
    address: String,
    _stop: mpsc::Sender<()>,
}

fn elsewhere(codec: Compression) -> Elsewhere {
    let (send, receive) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let broker = runtime.block_on(async {
            let broker = Broker::start().await.unwrap();
            broker.create_topic("t", 4).unwrap();
            let client = Client::connect(&broker.address()).await.unwrap();
            let producer =
                client.producer().compression(codec).linger(Duration::from_secs(1)).build().await.unwrap();
            let value = [b'x'; 100];
            for number in 0..RECORDS {
                drop(producer.send("t", Record::value(&value).partition((number % 4) as i32)).await.unwrap());
            }
            producer.flush().await.unwrap();
            client.close().await;
            broker
        });
        send.send(broker.address()).unwrap();
        // Until the test is over.
        let _: Result<(), _> = stopped.recv();
        runtime.block_on(broker.stop());
    });
    Elsewhere { address: receive.recv().unwrap(), _stop: stop }
}

async fn consumer(broker: &Elsewhere) -> Consumer {
    let client = Client::connect(&broker.address).await.unwrap();
    client.consumer().topics(["t"]).build().await.unwrap()
}

/// Allocations per record, from the first batch that begins after `BEFORE` records on.
async fn per_record(mut consumer: Consumer, mut each: impl FnMut(milena::Batch) -> u64) -> f64 {
    let (mut seen, mut counted, mut bytes) = (0, None, 0);
    while seen < RECORDS {
        if seen >= BEFORE && counted.is_none() {
            counted = Some((seen, allocations::count()));
        }
        let batch = consumer.next().await.unwrap().unwrap();
        seen += batch.len() as u64;
        bytes += each(batch);
    }
    assert_eq!(bytes, RECORDS * 100);
    let (from, before) = counted.unwrap();
    (allocations::count() - before) as f64 / (RECORDS - from) as f64
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn a_record_costs_hardly_an_allocation() {
    let broker = elsewhere(Compression::None);
    let borrowed = runtime().block_on(async {
        let each =
            |batch: milena::Batch| batch.iter().map(|record| record.value().unwrap().len() as u64).sum();
        per_record(consumer(&broker).await, each).await
    });
    let owned = runtime().block_on(async {
        // Kept until the end of the batch, as one who hands them on does.
        let mut kept = Vec::new();
        let each = |batch: milena::Batch| {
            kept.clear();
            kept.extend(batch);
            kept.iter().map(|record: &milena::ConsumerRecord| record.value().unwrap().len() as u64).sum()
        };
        per_record(consumer(&broker).await, each).await
    });
    println!("allocations per record of 100 bytes: borrowed {borrowed:.4}, owned {owned:.4}");
    assert!(borrowed <= 0.02, "borrowed: {borrowed}");
    assert!(owned <= 0.02, "owned: {owned}");
}
