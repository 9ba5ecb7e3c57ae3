//! The same records through milena's producer and consumer, with an id that comes back and nothing else: no table of calls, no
//! deadline, no handler, one task a side.
use std::time::Duration;

use milena::{Client, Consumer, Offset, Producer, Record};

use super::{Figures, Meter, Order, REPLY_PARTITION, answer, request};

/// What a call of milena's has besides its id, byte for byte.
pub(super) const HEADERS: [(&str, &[u8]); 4] = [
    ("rpc-reply-topic", b"replies"),
    ("rpc-reply-partition", b"0"),
    ("rpc-deadline", b"1795500000000"),
    ("rpc-timeout", b"30000"),
];

async fn ends(client: &Client, topic: &str) -> (Producer, Consumer) {
    let producer = client.producer().linger(Duration::ZERO).build().await.expect("a producer");
    let begin = [((topic, REPLY_PARTITION), Offset::End)];
    let consumer = client.consumer().assign_at(begin).build().await.expect("a consumer");
    consumer.position((topic, REPLY_PARTITION)).await.expect("an end");
    (producer, consumer)
}

async fn respond(producer: Producer, mut consumer: Consumer) {
    while let Ok(Some(batch)) = consumer.next().await {
        for record in &batch {
            let (_, id) = record.headers().next().expect("an id");
            let reply = Record::value(answer(record.value().unwrap_or_default())).partition(REPLY_PARTITION);
            let reply = reply.header("rpc-id", id.unwrap_or_default());
            drop(producer.send("replies", reply).await.expect("room"));
        }
    }
}

async fn call(producer: &Producer, consumer: &mut Consumer, order: Order, headers: &[(&str, &[u8])]) {
    let (mut sent, mut done) = (0, 0);
    while done < order.calls {
        while sent < order.calls && sent - done < order.concurrency {
            let (value, id) = (request(sent), (sent as u128).to_be_bytes());
            let record = Record::value(&value).header("rpc-id", &id);
            let record = record.headers(headers.iter().map(|(name, value)| (name.as_bytes(), Some(*value))));
            drop(producer.send("requests", record).await.expect("room"));
            sent += 1;
        }
        let batch = consumer.next().await.expect("replies").expect("open");
        for record in &batch {
            let (_, id) = record.headers().next().expect("an id");
            let id = id.and_then(|id| id.try_into().ok()).map_or(u128::MAX, u128::from_be_bytes);
            assert!(id < sent as u128);
            done += 1;
        }
    }
}

pub(super) async fn together(
    address: &str,
    warm_up: Order,
    order: Order,
    headers: &[(&str, &[u8])],
) -> Figures {
    let client = Client::connect(address).await.expect("a node");
    let (answers, requests) = ends(&client, "requests").await;
    let (producer, mut consumer) = ends(&client, "replies").await;
    tokio::spawn(respond(answers, requests));
    call(&producer, &mut consumer, warm_up, headers).await;
    let meter = Meter::start();
    call(&producer, &mut consumer, order, headers).await;
    meter.stop(order.calls as u64)
}
