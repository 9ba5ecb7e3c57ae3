//! Groups on real Kafka: alone, and in one group with Java's consumer.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use milena::assignor::{
    Assignor, CooperativeStickyAssignor, RangeAssignor, RoundRobinAssignor, StickyAssignor,
};
use milena::{Batch, Client, Consumer, Record};

use crate::on_calm_kafka;
use crate::support::kafka::NEWEST;

const PARTITIONS: i32 = 4;

async fn write(client: &Client, topic: &str, from: u32, count: u32) {
    let producer = client.producer().build().await.unwrap();
    for number in from..from + count {
        let text = number.to_string();
        drop(producer.send(topic, Record::value(&text).partition(number as i32 % PARTITIONS)).await.unwrap());
    }
    producer.flush().await.unwrap();
    producer.close().await.unwrap();
}

fn numbers(batch: &Batch) -> Vec<u32> {
    let number = |value: Option<&[u8]>| std::str::from_utf8(value.unwrap()).unwrap().parse().unwrap();
    batch.iter().map(|record| number(record.value())).collect()
}

async fn member(client: &Client, group: &str, topic: &str, assignor: &Arc<dyn Assignor>) -> Consumer {
    let builder = client.consumer().group(group).topics([topic]).assignors([assignor.clone()]);
    let builder =
        builder.session_timeout(Duration::from_secs(10)).heartbeat_interval(Duration::from_millis(200));
    builder.build().await.unwrap()
}

/// What was read, and how much of it more than once.
#[derive(Default)]
struct Seen {
    numbers: BTreeSet<u32>,
    repeated: usize,
}

impl Seen {
    fn take(&mut self, batch: milena::Result<Option<Batch>>) {
        for number in numbers(&batch.unwrap().unwrap()) {
            self.repeated += usize::from(!self.numbers.insert(number));
        }
    }

    async fn read(&mut self, consumer: &mut Consumer, count: usize) {
        while self.numbers.len() < count {
            self.take(consumer.next().await);
        }
    }
}

/// Two members, one after the other gone, with each assignor.
fn share(version: &'static str) {
    on_calm_kafka(version, 1, async |kafka, client| {
        let assignors: [Arc<dyn Assignor>; 4] = [
            Arc::new(RangeAssignor),
            Arc::new(RoundRobinAssignor),
            Arc::new(StickyAssignor::default()),
            Arc::new(CooperativeStickyAssignor::default()),
        ];
        for assignor in assignors {
            let name = assignor.name().to_owned();
            let topic = &*kafka.topic(&format!("share-{name}"), PARTITIONS);
            let group = &*format!("share-{topic}");
            write(&client, topic, 0, 1000).await;
            let mut seen = Seen::default();
            let mut first = member(&client, group, topic, &assignor).await;
            seen.read(&mut first, 500).await;
            let mut second = member(&client, group, topic, &assignor).await;
            while seen.numbers.len() < 1000
                || [&first, &second].iter().any(|member| member.assignment().len() != 2)
            {
                tokio::select! {
                    batch = first.next() => seen.take(batch),
                    batch = second.next() => seen.take(batch),
                    () = tokio::time::sleep(Duration::from_millis(50)) => {}
                }
            }
            assert_eq!(seen.repeated, 0, "{name}: all was finished when it was given up");
            first.close().await;
            write(&client, topic, 1000, 1000).await;
            seen.read(&mut second, 2000).await;
            assert_eq!((seen.repeated, second.assignment().len()), (0, 4), "{name}");
            second.commit().await.unwrap();
            let offsets =
                second.committed((0..PARTITIONS).map(|partition| (topic, partition))).await.unwrap();
            for offset in offsets.into_values() {
                assert_eq!(offset.unwrap().offset, 500, "{name}");
            }
            second.close().await;
        }
    });
}

#[test]
fn two_members_share_a_topic_on_kafka_4_3() {
    share(NEWEST);
}
