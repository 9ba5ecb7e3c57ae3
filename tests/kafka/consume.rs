//! Positions, resets and transactions as real nodes answer them.
use std::time::Duration;

use bytes::Bytes;
use milena::broker::Broker;
use milena::protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use milena::protocol::messages::{
    EndTxnRequest, FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest, ProducerId, TopicName,
    TransactionalId,
};
use milena::{
    Batch, Client, Consumer, ErrorKind, IsolationLevel, Offset, OffsetReset, Record, ResetReason, Target,
};

use crate::on_calm_kafka;
use crate::support::kafka::NEWEST;

const COUNT: u32 = 1000;

#[test]
fn positions_are_found_as_kafka_4_3_tells_them() {
    positions(NEWEST);
}

#[test]
fn positions_are_found_as_kafka_2_8_tells_them() {
    positions("2.8.2");
}

fn numbers(batch: &Batch) -> Vec<u32> {
    batch
        .iter()
        .map(|record| std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap())
        .collect()
}

async fn next(consumer: &mut Consumer) -> Vec<u32> {
    numbers(&consumer.next().await.unwrap().unwrap())
}

async fn write(client: &Client, topic: &str, from: u32, count: u32) {
    let producer = client.producer().build().await.unwrap();
    for number in from..from + count {
        let text = number.to_string();
        let record = Record::value(&text).partition(0).timestamp(1_000_000 + i64::from(number));
        drop(producer.send(topic, record).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert_eq!(producer.metrics().records_failed, 0);
    producer.close().await.unwrap();
}

fn positions(version: &'static str) {
    on_calm_kafka(version, 1, async |kafka, client| {
        let topic = &*kafka.topic("positions", 2);
        let part = (topic, 0);
        write(&client, topic, 0, COUNT).await;
        // So long a wait would fail the test if anything had to sit it out.
        let builder = client.consumer().topics([topic]).fetch_max_wait(Duration::from_secs(29));
        let mut consumer = builder.build().await.unwrap();
        let mut all = Vec::new();
        while all.len() < COUNT as usize {
            all.extend(next(&mut consumer).await);
        }
        assert!(all.into_iter().eq(0..COUNT));
        for to in [57, 999, 0, 500, 501, 502, 503] {
            consumer.seek(part, to).unwrap();
            assert_eq!(next(&mut consumer).await[0], to as u32);
        }
        consumer.seek(part, Offset::Timestamp(1_000_123)).unwrap();
        assert_eq!(consumer.position(part).await.unwrap(), 123);
        consumer.pause(part).unwrap();
        consumer.seek(part, Offset::End).unwrap();
        assert_eq!(consumer.position(part).await.unwrap(), i64::from(COUNT));
        write(&client, topic, COUNT, 1).await;
        consumer.resume(part).unwrap();
        assert_eq!(next(&mut consumer).await, [COUNT]);
        // A fetch is parked now: what is written wakes it.
        write(&client, topic, COUNT + 1, 1).await;
        assert_eq!(next(&mut consumer).await, [COUNT + 1]);
        let ends = consumer.end_offsets([part, (topic, 1)]).await.unwrap();
        assert_eq!(ends.into_values().collect::<Vec<_>>(), [1002, 0]);
        let times = consumer.offsets_for_times([(part, 1_000_700), ((topic, 1), 5)]).await.unwrap();
        assert_eq!(times.into_values().collect::<Vec<_>>(), [Some(700), None]);

        assert_eq!(client.admin().delete_records(topic, 0, 600).await.unwrap(), 600);
        assert_eq!(consumer.beginning_offsets([part]).await.unwrap()[&part.into()], 600);
        consumer.seek(part, 10).unwrap();
        let batch = consumer.next().await.unwrap().unwrap();
        assert_eq!(
            batch.reset().map(|reset| (reset.expected, reset.reason)),
            Some((10, ResetReason::OutOfRange))
        );
        assert_eq!(numbers(&batch)[0], 600);
        let strict = client.consumer().assign_at([(part, 10)]).auto_offset_reset(OffsetReset::None);
        let error = strict.build().await.unwrap().next().await.unwrap_err();
        assert_eq!((error.kind(), error.partition()), (ErrorKind::Position, Some(0)));
        consumer.close().await;
    });
}

#[test]
fn a_topic_that_is_created_again_is_told_on_real_kafka() {
    on_calm_kafka(NEWEST, 1, async |kafka, client| {
        let topic = &*kafka.topic("again", 1);
        write(&client, topic, 0, 10).await;
        let mut consumer = client.consumer().topics([topic]).build().await.unwrap();
        assert_eq!(next(&mut consumer).await.len(), 10);
        client.admin().delete_topics([topic]).await.unwrap();
        client.admin().create_topics(milena::NewTopic::new(topic, 1, 1)).await.unwrap();
        write(&client, topic, 100, 10).await;
        let batch = consumer.next().await.unwrap().unwrap();
        assert_eq!(batch.reset().map(|reset| reset.reason), Some(ResetReason::Recreated));
        assert_eq!(numbers(&batch)[0], 100);
    });
}

/// Writes by raw requests, as there is no transactional producer here.
struct Transactions<'a> {
    client: &'a Client,
    id: TransactionalId,
    coordinator: Target,
    producer: (ProducerId, i16),
    sequence: i32,
}

impl<'a> Transactions<'a> {
    async fn new(client: &'a Client, id: &str) -> Self {
        let id = TransactionalId(id.to_owned().into());
        let key = id.0.clone();
        // The coordinator's log is created when it is first asked for.
        let coordinator = loop {
            let key = key.clone();
            let found = client
                .request(Target::Any, move |_| {
                    FindCoordinatorRequest::default().with_key_type(1).with_coordinator_keys(vec![key])
                })
                .await
                .unwrap();
            if found.coordinators[0].error_code == 0 {
                break Target::Node(found.coordinators[0].node_id.0);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let producer = loop {
            let id = id.clone();
            let found = client
                .request(coordinator, move |_| {
                    InitProducerIdRequest::default()
                        .with_transactional_id(Some(id))
                        .with_transaction_timeout_ms(60_000)
                        .with_producer_id(ProducerId(-1))
                        .with_producer_epoch(-1)
                })
                .await
                .unwrap();
            if found.error_code == 0 {
                break (found.producer_id, found.producer_epoch);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        Self { client, id, coordinator, producer, sequence: 0 }
    }

    async fn write(&mut self, topic: &str, numbers: std::ops::Range<u32>) {
        let count = numbers.len() as i32;
        let batch = self.batch(numbers).await;
        loop {
            let (id, name, batch) = (self.id.clone(), topic.to_owned(), batch.clone());
            // Versions from 13 on name topics by id.
            let topic_id = self.topic_id(topic).await;
            let produced = self
                .client
                .request(Target::Node(1), move |version| {
                    let data = PartitionProduceData::default().with_index(0).with_records(Some(batch));
                    let mut topic = TopicProduceData::default().with_partition_data(vec![data]);
                    if version >= 13 {
                        topic.topic_id = topic_id;
                    } else {
                        topic.name = TopicName(name.into());
                    }
                    ProduceRequest::default()
                        .with_transactional_id(Some(id))
                        .with_acks(-1)
                        .with_timeout_ms(30_000)
                        .with_topic_data(vec![topic])
                })
                .await
                .unwrap();
            let code = produced.responses[0].partition_responses[0].error_code;
            // 51: the marker of the transaction before is still being written.
            match code {
                0 => break,
                51 => tokio::time::sleep(Duration::from_millis(20)).await,
                code => panic!("produce failed: {code}"),
            }
        }
        self.sequence += count;
    }

    async fn topic_id(&self, topic: &str) -> uuid::Uuid {
        let name = TopicName(topic.to_owned().into());
        let metadata = self.client.request(Target::Any, move |_| {
            use milena::protocol::messages::MetadataRequest;
            use milena::protocol::messages::metadata_request::MetadataRequestTopic;
            MetadataRequest::default()
                .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
        });
        metadata.await.unwrap().topics[0].topic_id
    }

    /// A batch as the embedded broker stores it, with another producer in it.
    async fn batch(&self, numbers: std::ops::Range<u32>) -> Bytes {
        let broker = Broker::builder().in_memory().start().await.unwrap();
        broker.create_topic("t", 1).unwrap();
        let texts: Vec<String> = numbers.map(|number| number.to_string()).collect();
        let records: Vec<_> = texts.iter().map(Record::value).collect();
        broker.append_in_transaction("t", 0, 1, &records).unwrap();
        let mut batch = broker.log("t", 0).unwrap().batches()[0].to_vec();
        batch[43..51].copy_from_slice(&self.producer.0.0.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer.1.to_be_bytes());
        batch[53..57].copy_from_slice(&self.sequence.to_be_bytes());
        let crc = crc32c::crc32c(&batch[21..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
        batch.into()
    }

    async fn end(&mut self, commit: bool) {
        let (id, producer) = (self.id.clone(), self.producer);
        let ended = self.client.request(self.coordinator, move |_| {
            EndTxnRequest::default()
                .with_transactional_id(id)
                .with_producer_id(producer.0)
                .with_producer_epoch(producer.1)
                .with_committed(commit)
        });
        let ended = ended.await.unwrap();
        assert_eq!(ended.error_code, 0);
        // Transactions of the second kind get a new epoch each time (KIP-890).
        if ended.producer_epoch >= 0 {
            self.producer = (ended.producer_id, ended.producer_epoch);
            self.sequence = 0;
        }
    }
}

#[test]
fn what_real_kafka_aborted_is_left_out_and_nothing_else() {
    on_calm_kafka(NEWEST, 1, async |kafka, client| {
        let topic = &*kafka.topic("transactions", 1);
        let mut first = Transactions::new(&client, &format!("{topic}-first")).await;
        let mut second = Transactions::new(&client, &format!("{topic}-second")).await;
        first.write(topic, 0..3).await; // aborted
        second.write(topic, 3..6).await; // committed
        write(&client, topic, 6, 2).await;
        first.write(topic, 8..10).await; // aborted
        first.end(false).await;
        first.write(topic, 10..12).await; // committed
        second.end(true).await;
        first.end(true).await;
        second.write(topic, 12..14).await; // aborted, at the end
        second.end(false).await;
        write(&client, topic, 14, 1).await;

        for small in [1 << 20, 100] {
            let builder = client.consumer().topics([topic]).max_partition_fetch_bytes(small);
            let committed = builder.clone().isolation_level(IsolationLevel::ReadCommitted);
            let mut consumer = committed.build().await.unwrap();
            let mut found = Vec::new();
            while found.len() < 8 {
                found.extend(next(&mut consumer).await);
            }
            assert_eq!(found, [3, 4, 5, 6, 7, 10, 11, 14], "{small}");
            let mut consumer = builder.build().await.unwrap();
            let mut found = Vec::new();
            while found.len() < 15 {
                found.extend(next(&mut consumer).await);
            }
            assert!(found.into_iter().eq(0..15));
        }
    });
}
