//! A lean pair on librdkafka: no group, nothing lingers, one application thread a side, an id that comes back and nothing else.
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::{REPLY_PARTITION, Sides, Took, answer, order, ready, request};

const LONG: Duration = Duration::from_secs(30);

fn config(args: &Sides) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", args.text("bootstrap"));
    config.set("queue.buffering.max.ms", "0");
    config.set("socket.nagle.disable", "true");
    // A report for every request is for those who look at it.
    config.set("delivery.report.only.error", "true");
    config
}

/// Reads these partitions from their ends on, which are known when this returns.
fn consumer(args: &Sides, topic: &str, partitions: i32) -> BaseConsumer {
    let consumer: BaseConsumer = config(args).set("group.id", "bench").create().expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        let (_, end) = consumer.fetch_watermarks(topic, partition, LONG).expect("an end");
        assignment.add_partition_offset(topic, partition, Offset::Offset(end)).expect("an offset");
    }
    consumer.assign(&assignment).expect("assigned");
    consumer
}

fn id<'a>(message: &'a BorrowedMessage<'_>) -> &'a [u8] {
    let headers = message.headers().expect("headers");
    headers.get(0).value.expect("an id")
}

fn send(producer: &BaseProducer, topic: &str, partition: Option<i32>, id: &[u8], value: &[u8]) {
    let headers = OwnedHeaders::new().insert(Header { key: "id", value: Some(id) });
    let mut record = BaseRecord::<(), [u8]>::to(topic).payload(value).headers(headers);
    record.partition = partition;
    producer.send(record).map_err(|(error, _)| error).expect("room");
}

pub(super) fn responder(args: &Sides) {
    let (topic, replies) = (args.text("topics"), args.text("replies").to_owned());
    let producer: BaseProducer = config(args).create().expect("a producer");
    let partitions = args.text("partitions").parse().expect("a number");
    let consumer = consumer(args, topic, partitions);
    // Ends with the process: nobody waits for anything any more.
    std::thread::spawn(move || {
        loop {
            if let Some(message) = consumer.poll(Duration::from_secs(1)) {
                let message = message.expect("a request");
                let value = answer(message.payload().unwrap_or_default());
                send(&producer, &replies, Some(REPLY_PARTITION), id(&message), value);
            }
            producer.poll(Duration::ZERO);
        }
    });
    ready();
    while order().is_some() {}
}

pub(super) fn caller(args: &Sides) {
    let topic = args.text("topics");
    let producer: BaseProducer = config(args).create().expect("a producer");
    let consumer = consumer(args, args.text("replies"), 1);
    ready();
    while let Some(order) = order() {
        let mut took = Took::start(order);
        let (mut begun, mut done) = (Vec::with_capacity(order.calls), 0);
        while done < order.calls {
            while begun.len() < order.calls && begun.len() - done < order.concurrency {
                let call = begun.len();
                begun.push(Instant::now());
                send(&producer, topic, None, &(call as u64).to_be_bytes(), request(call).as_bytes());
            }
            producer.poll(Duration::ZERO);
            // Nothing may come before its time is over, too.
            let Some(mut message) = consumer.poll(LONG) else {
                assert!(begun[begun.len() - 1].elapsed() < LONG, "a reply in time");
                continue;
            };
            loop {
                let reply = message.expect("a reply");
                let call = u64::from_be_bytes(id(&reply).try_into().expect("an id")) as usize;
                assert_eq!(reply.payload(), Some(answer(request(call).as_bytes())));
                took.call(begun[call]);
                done += 1;
                match consumer.poll(Duration::ZERO) {
                    Some(next) => message = next,
                    None => break,
                }
            }
        }
        took.tell();
    }
    producer.flush(LONG).expect("an end");
}
