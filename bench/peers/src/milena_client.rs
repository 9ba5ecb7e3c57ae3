//! milena: every delivery awaited; owned and borrowed records. On one thread, as the floor.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use milena::{Client, Consumer, OffsetReset, Record};

use crate::Load;
use crate::meter::{Figures, Meter};
use crate::wire::TOPIC;

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(work)
}

pub fn produce(address: SocketAddr, load: &Load) -> Figures {
    block_on(async {
        let client = Client::connect(&address.to_string()).await.expect("connected");
        let producer = client
            .producer()
            .linger(Duration::from_millis(5))
            .batch_size(load.batch)
            .max_request_size(8 << 20)
            .build()
            .await
            .expect("a producer");
        let topic = producer.topic(TOPIC);
        let mut value = vec![b'x'; load.value];
        let mut deliveries = VecDeque::<milena::Delivery>::with_capacity(load.outstanding);
        let mut meter = Meter::start();
        for at in 0..load.warm_up + load.records {
            if at == load.warm_up {
                meter = Meter::start();
            }
            value[0] = at as u8;
            if deliveries.len() == load.outstanding
                && let Some(oldest) = deliveries.pop_front()
            {
                oldest.await.expect("written");
            }
            let partition = (at % load.partitions as u64) as i32;
            deliveries.push_back(topic.send(Record::value(&value).partition(partition)).await.expect("room"));
        }
        for delivery in deliveries {
            delivery.await.expect("written");
        }
        meter.stop(load.records)
    })
}

async fn consumer(address: SocketAddr, load: &Load) -> Consumer {
    let client = Client::connect(&address.to_string()).await.expect("connected");
    let builder = client.consumer().assign((0..load.partitions).map(|partition| (TOPIC, partition)));
    builder.auto_offset_reset(OffsetReset::Earliest).build().await.expect("a consumer")
}

pub fn consume_owned(address: SocketAddr, load: &Load) -> Figures {
    consume(address, load, |batch| {
        // Each is owned: it could be sent elsewhere and outlive its batch.
        batch.records().map(|record| record.value().map_or(0, <[u8]>::len) as u64).sum()
    })
}

pub fn consume_borrowed(address: SocketAddr, load: &Load) -> Figures {
    consume(address, load, |batch| {
        batch.iter().map(|record| record.value().map_or(0, <[u8]>::len) as u64).sum()
    })
}

fn consume(address: SocketAddr, load: &Load, visit: impl Fn(&milena::Batch) -> u64) -> Figures {
    block_on(async {
        let mut consumer = consumer(address, load).await;
        let (mut seen, mut bytes) = (0u64, 0);
        let mut meter = Meter::start();
        let mut metered_from = None;
        while seen < load.warm_up + load.records {
            if metered_from.is_none() && seen >= load.warm_up {
                meter = Meter::start();
                metered_from = Some(seen);
            }
            let batch = consumer.next().await.expect("a batch").expect("open");
            seen += batch.len() as u64;
            bytes += visit(&batch);
        }
        assert_eq!(bytes, seen * load.value as u64);
        meter.stop(seen - metered_from.unwrap_or(0))
    })
}
