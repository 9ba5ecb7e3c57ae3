//! Writes to every partition without a pause, so that whatever happens to the group happens while there is something to read.
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use milena::{Client, Record};

use crate::support::kafka::Partition;

/// Of each partition.
const EVERY: Duration = Duration::from_millis(20);

pub(crate) struct Writer {
    enough: Arc<AtomicBool>,
    thread: Option<JoinHandle<Vec<(Partition, i64)>>>,
}

impl Writer {
    pub(crate) fn start(bootstrap: String, partitions: Vec<Partition>) -> Self {
        let enough = Arc::<AtomicBool>::default();
        let thread = std::thread::spawn({
            let enough = enough.clone();
            move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(write(&bootstrap, partitions, &enough))
            }
        });
        Self { enough, thread: Some(thread) }
    }

    /// The records of each partition, all acknowledged.
    pub(crate) fn end(mut self) -> Vec<(Partition, i64)> {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.take().expect("it ends once").join().expect("the writer does not panic")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

async fn write(bootstrap: &str, partitions: Vec<Partition>, enough: &AtomicBool) -> Vec<(Partition, i64)> {
    let client = Client::connect(bootstrap).await.unwrap();
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    let mut tick = tokio::time::interval(EVERY);
    let mut deliveries = Vec::new();
    while !enough.load(Ordering::Relaxed) {
        tick.tick().await;
        for (topic, partition) in &partitions {
            let record = Record::value("one more").partition(*partition);
            deliveries.push(producer.topic(topic).send(record).await.unwrap());
        }
    }
    for delivery in deliveries {
        delivery.await.expect("a record was given up");
    }
    producer.close().await.unwrap();
    let consumer = client.consumer().assign(partitions.clone()).build().await.unwrap();
    let ends = consumer.end_offsets(partitions).await.unwrap();
    consumer.close().await;
    client.close().await;
    let place = |partition: &milena::TopicPartition| (partition.topic().to_owned(), partition.partition());
    ends.iter().map(|(partition, end)| (place(partition), *end)).collect()
}
