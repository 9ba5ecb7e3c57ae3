//! librdkafka through `rdkafka`, by its cheapest calls: `ThreadedProducer` and `BaseProducer` with a delivery callback,
//! `BaseConsumer`. Same guarantees, batch size and window as the others.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::Load;
use crate::meter::{Figures, Meter};
use crate::wire::TOPIC;

#[derive(Clone, Default)]
struct Deliveries(Arc<AtomicU64>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();
    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "a delivery failed");
        self.0.fetch_add(1, Relaxed);
    }
}

fn producer_config(address: SocketAddr, load: &Load) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", address.to_string())
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", "5")
        .set("batch.size", load.batch.to_string())
        .set("batch.num.messages", "100000")
        .set("queue.buffering.max.messages", "200000");
    config
}

pub fn produce_threaded(address: SocketAddr, load: &Load) -> Figures {
    let delivered = Deliveries::default();
    let producer: ThreadedProducer<Deliveries> =
        producer_config(address, load).create_with_context(delivered.clone()).expect("a producer");
    let figures = flood(
        load,
        &delivered,
        |record| producer.send(record),
        || std::thread::sleep(Duration::from_micros(200)),
    );
    producer.flush(Duration::from_secs(30)).expect("flushed");
    figures
}

pub fn produce_base(address: SocketAddr, load: &Load) -> Figures {
    let delivered = Deliveries::default();
    let producer: BaseProducer<Deliveries> =
        producer_config(address, load).create_with_context(delivered.clone()).expect("a producer");
    let mut count = 0u64;
    flood(
        load,
        &delivered,
        |record| {
            count += 1;
            if count.is_multiple_of(1000) {
                producer.poll(Duration::ZERO);
            }
            producer.send(record)
        },
        || {
            producer.poll(Duration::from_millis(1));
        },
    )
}

type Refused<'a> = (KafkaError, BaseRecord<'a, (), [u8]>);

fn flood(
    load: &Load,
    delivered: &Deliveries,
    mut send: impl for<'a> FnMut(BaseRecord<'a, (), [u8]>) -> Result<(), Refused<'a>>,
    mut wait: impl FnMut(),
) -> Figures {
    let mut value = vec![b'x'; load.value];
    let mut meter = Meter::start();
    for at in 0..load.warm_up + load.records {
        if at == load.warm_up {
            meter = Meter::start();
        }
        value[0] = at as u8;
        // Asking how many are outstanding costs little, yet not nothing: once in 256 is close enough.
        while at % 256 == 0 && at - delivered.0.load(Relaxed) > load.outstanding as u64 {
            wait();
        }
        let partition = (at % load.partitions as u64) as i32;
        let mut record = BaseRecord::<(), [u8]>::to(TOPIC).partition(partition).payload(&value[..]);
        while let Err((error, back)) = send(record) {
            assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::QueueFull), "{error}");
            wait();
            record = back;
        }
    }
    while delivered.0.load(Relaxed) < load.warm_up + load.records {
        wait();
    }
    meter.stop(load.records)
}

pub fn consume(address: SocketAddr, load: &Load) -> Figures {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", address.to_string())
        .set("group.id", "bench")
        .set("enable.auto.commit", "false")
        .set("check.crcs", "true")
        .set("queued.min.messages", "1000000")
        .set("queued.max.messages.kbytes", "1048576")
        .create()
        .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..load.partitions {
        assignment.add_partition_offset(TOPIC, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&assignment).expect("assigned");
    let mut meter = Meter::start();
    let mut bytes = 0;
    for at in 0..load.warm_up + load.records {
        if at == load.warm_up {
            meter = Meter::start();
        }
        let message = loop {
            if let Some(message) = consumer.poll(Duration::from_secs(10)) {
                break message.expect("a record");
            }
        };
        bytes += message.payload().map_or(0, <[u8]>::len);
    }
    assert_eq!(bytes as u64, (load.warm_up + load.records) * load.value as u64);
    meter.stop(load.records)
}
