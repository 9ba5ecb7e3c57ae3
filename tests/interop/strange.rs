//! What no well-behaved partner sends.
use std::time::Duration;

use milena::{Client, Record};

use crate::on_kafka;
use crate::ours::{call, client, responder};
use crate::support::kafka::{Cluster, wait_for};
use crate::verbs::Outcome;

const LONG: Duration = Duration::from_secs(30);

/// Writes records with these headers, and waits until they are in the log.
async fn write(client: &Client, topic: &str, records: &[Vec<(&str, &[u8])>]) {
    let producer = client.producer().linger(Duration::ZERO).build().await.unwrap();
    for headers in records {
        let headers = headers.iter().map(|(name, value)| (name.as_bytes(), Some(*value)));
        let record = Record::value("echo strange").partition(0).headers(headers);
        producer.send(topic, record).await.unwrap().await.unwrap();
    }
}

fn reply_topic(kafka: &Cluster) -> String {
    kafka.topic("strange-replies", 3)
}

#[test]
fn what_cannot_be_answered_is_counted_and_holds_up_nobody() {
    on_kafka(|kafka, runtime| {
        let (topic, replies) = (kafka.topic("strange", 1), reply_topic(kafka));
        runtime.block_on(async {
            let client = client(kafka).await;
            let responder = responder(kafka, &topic).await;
            let asks = |topic, partition| {
                let id: &[u8] = b"0f1e2d3c4b5a69788796a";
                vec![
                    ("kafka_correlationId", id),
                    ("kafka_replyTopic", topic),
                    ("kafka_replyPartition", partition),
                ]
            };
            let to = replies.as_bytes();
            // Neither text nor four bytes.
            let unreadable: [&[u8]; 5] = [b"x", b"-1", b"", &[0, 0, 2], &[0xff; 4]];
            let unreadable = unreadable.map(|partition| asks(to, partition));
            // Readable, and not there.
            let missing = [asks(to, b"99"), asks(to, &[0, 0, 0, 99]), asks(b"no-such-topic", b"0")];
            write(&client, &topic, &unreadable).await;
            write(&client, &topic, &missing).await;

            let requester = client.requester().reply_topic(&*replies).build().await.unwrap();
            let outcomes = call(&requester, &topic, 20, LONG, "echo after").await;
            let expected: Vec<_> = (0..20).map(|call| Outcome::item(format!("after-{call}"))).collect();
            assert_eq!(outcomes, expected);
            wait_for("the count of replies that have nowhere to go", 2 * LONG, || {
                match responder.metrics() {
                    metrics if metrics.unroutable == 3 => Ok(()),
                    metrics => Err(format!("{metrics:?}")),
                }
            });
            let metrics = responder.metrics();
            assert_eq!((metrics.unanswerable, metrics.answered, metrics.lost), (5, 20, 0), "{metrics:?}");
        });
    });
}

#[test]
fn replies_with_foreign_ids_end_no_call() {
    on_kafka(|kafka, runtime| {
        let (topic, replies) = (kafka.topic("strange", 1), reply_topic(kafka));
        runtime.block_on(async {
            let client = client(kafka).await;
            let _responder = responder(kafka, &topic).await;
            let requester = client.requester().reply_topic(&*replies).reply_partition(0);
            let requester = requester.build().await.unwrap();
            let slow = tokio::spawn({
                let (requester, topic) = (requester.clone(), topic.clone());
                async move { call(&requester, &topic, 5, LONG, "slow 1000 s").await }
            });
            let disposed: (&str, &[u8]) = ("kafka_nest-is-disposed", &[0]);
            let foreign = [
                vec![],
                vec![("kafka_correlationId", &b"cfeecf1581f947d82bb60"[..]), disposed],
                vec![("kafka_correlationId", &[0x9d; 16])],
                vec![("kafka_correlationId", b"{\"a\":1}"), ("kafka_nest-err", b"boom")],
                vec![("REPLY_CORRELATION_ID", b"5f0c8f0e-1f6e-4b43-a8ff-1f3f6a1b2c3d")],
                vec![("rpc-id", b""), ("rpc-status", b"13"), ("rpc-end", b"")],
                vec![("rpc-id", &[0xff; 300]), ("rpc-end", b"")],
            ];
            write(&client, &replies, &foreign).await;
            let expected: Vec<_> = (0..5).map(|call| Outcome::item(format!("s-{call}"))).collect();
            assert_eq!(slow.await.unwrap(), expected);
            let metrics = requester.metrics();
            assert_eq!((metrics.foreign, metrics.answered), (foreign.len() as u64, 5), "{metrics:?}");
        });
    });
}
