//! Allocations per record, produced in full batches of 100-byte records with every delivery awaited. The broker runs on a
//! thread of its own; counted is the thread of the client, with its connections and its driver.
#![allow(unsafe_code, dead_code, unreachable_pub, missing_docs)]

use std::collections::VecDeque;
use std::sync::mpsc;

use milena::broker::Broker;
use milena::{Client, Delivery, Record};

#[path = "support/allocations.rs"]
mod allocations;

const RECORDS: u64 = 200_000;
/// Those before the count begins: connections are opened and buffers have grown.
const BEFORE: u64 = 20_000;
/// Deliveries under way at once.
const OUTSTANDING: usize = 10_000;

/// The address of a broker that runs on another thread until the sender goes.
fn elsewhere() -> (String, mpsc::Sender<()>) {
    let (send, receive) = mpsc::channel();
    let (stop, stopped) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let broker = runtime.block_on(async {
            let broker = Broker::start().await.unwrap();
            broker.create_topic("t", 4).unwrap();
            broker
        });
        send.send(broker.address()).unwrap();
        let _: Result<(), _> = stopped.recv();
        runtime.block_on(broker.stop());
    });
    (receive.recv().unwrap(), stop)
}

async fn per_record(address: &str, batch_size: usize) -> (f64, f64) {
    let client = Client::connect(address).await.unwrap();
    let producer = client.producer().batch_size(batch_size).build().await.unwrap();
    let topic = producer.topic("t");
    let value = [b'x'; 100];
    let mut deliveries = VecDeque::<Delivery>::with_capacity(OUTSTANDING);
    let mut before = 0;
    for number in 0..RECORDS {
        if number == BEFORE {
            before = allocations::count();
        }
        if deliveries.len() == OUTSTANDING {
            deliveries.pop_front().unwrap().await.unwrap();
        }
        let partition = (number % 4) as i32;
        deliveries.push_back(topic.send(Record::value(&value).partition(partition)).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let count = allocations::count() - before;
    let batches = producer.metrics().batches_sent as f64;
    producer.close().await.unwrap();
    (count as f64 / (RECORDS - BEFORE) as f64, RECORDS as f64 / batches)
}

#[test]
fn a_record_costs_hardly_an_allocation() {
    let (address, _stop) = elsewhere();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A small batch is spread over fewer records, and how many go into one request is a matter of timing.
    for (batch_size, most) in [(128 * 1024, 0.02), (16 * 1024, 0.04)] {
        let (allocations, records) = runtime.block_on(per_record(&address, batch_size));
        println!(
            "batch.size {batch_size}: {allocations:.4} allocations per record, {records:.0} records in a batch"
        );
        assert!(allocations <= most, "batch.size {batch_size}: {allocations}");
    }
}
