//! What is written, and how the logs are cut from below.
use bytes::Bytes;
use kafka_protocol::messages::*;
use uuid::Uuid;

use super::script::{Play, TOPIC, name};
use super::wire::Batch;

impl Play {
    pub(super) fn produced(
        &mut self,
        label: &str,
        version: i16,
        topic: &str,
        partition: i32,
        acks: i16,
        records: Option<Bytes>,
    ) {
        let data =
            produce_request::PartitionProduceData::default().with_index(partition).with_records(records);
        let mut topic = produce_request::TopicProduceData::default()
            .with_name(name(topic))
            .with_partition_data(vec![data]);
        if version >= 13 {
            let id = if &*topic.name.0 == TOPIC { self.id } else { Uuid::from_u128(1 << 70) };
            topic = topic.with_name(name("")).with_topic_id(id);
        }
        let request =
            ProduceRequest::default().with_acks(acks).with_timeout_ms(5000).with_topic_data(vec![topic]);
        let mut response = self.connection.call(version, &request);
        let answer = response.responses.remove(0).partition_responses.remove(0);
        let stamped = answer.log_append_time_ms > 0;
        // Whether an error comes with the start of the log depends on how far Kafka looked.
        let log_start = if answer.error_code == 0 { answer.log_start_offset } else { -1 };
        let place = (answer.base_offset, log_start, stamped);
        self.say(format!("produce v{version} {label}: {} {place:?}", answer.error_code));
    }

    pub(super) fn produce(&mut self) {
        for version in 3..=13 {
            self.produced("two", version, TOPIC, 0, -1, Some(Batch::of(2).bytes()));
            self.produced("unknown partition", version, TOPIC, 9, 1, Some(Batch::of(1).bytes()));
            self.produced("unknown topic", version, "embedded-nope", 0, 1, Some(Batch::of(1).bytes()));
        }
        let good = Batch::of(2).bytes();
        let mut flipped = good.to_vec();
        flipped[63] ^= 1;
        let twice = Bytes::from([&good[..], &good].concat());
        for (label, records) in [
            ("flipped", Some(flipped.into())),
            ("twice", Some(twice)),
            ("empty", Some(Bytes::new())),
            ("no record", Some(Batch::of(0).bytes())),
            ("control", Some(Batch { attributes: 1 << 5, ..Batch::by(1, 0, -1, 1) }.bytes())),
            ("control transactional", Some(Batch { attributes: 3 << 4, ..Batch::by(1, 0, -1, 1) }.bytes())),
            ("unknown codec", Some(Batch { attributes: 7, ..Batch::of(1) }.bytes())),
            ("count below offsets", Some(Batch { last_offset_delta: 5, ..Batch::of(2) }.bytes())),
            ("stamped by the client", Some(Batch { attributes: 1 << 3, ..Batch::of(2) }.bytes())),
        ] {
            self.produced(label, 9, TOPIC, 0, -1, records);
        }
        self.produced("acks 2", 9, TOPIC, 0, 2, Some(good.clone()));
        self.produced(
            "too large",
            9,
            "embedded-small",
            0,
            1,
            Some(Batch { value: 300, ..Batch::of(1) }.bytes()),
        );
        self.produced("not too large", 9, "embedded-small", 0, 1, Some(good.clone()));
        self.produced("stamped", 9, "embedded-stamped", 0, 1, Some(good));
    }

    /// A new producer id. The first one takes Kafka a moment.
    pub(super) fn producer_id(&mut self) -> i64 {
        let request = InitProducerIdRequest::default().with_transactional_id(None);
        loop {
            let answer = self.connection.call(4, &request);
            if answer.error_code == 0 {
                return answer.producer_id.0;
            }
            assert_eq!(answer.error_code, 14, "anything but COORDINATOR_LOAD_IN_PROGRESS");
        }
    }

    pub(super) fn sequences(&mut self) {
        let (a, b, c) = (self.producer_id(), self.producer_id(), self.producer_id());
        for version in 0..=5 {
            let request = InitProducerIdRequest::default()
                .with_transactional_id(None)
                .with_transaction_timeout_ms(1000);
            let answer = self.connection.call(version, &request);
            self.say(format!(
                "producer id v{version}: {} {} {}",
                answer.error_code,
                answer.producer_id.0 >= 0,
                answer.producer_epoch
            ));
        }
        let request = InitProducerIdRequest::default()
            .with_transactional_id(None)
            .with_producer_id(a.into())
            .with_producer_epoch(3);
        let answer = self.connection.call(4, &request);
        self.say(format!(
            "producer id again: {} {} {}",
            answer.error_code,
            answer.producer_id.0 == a,
            answer.producer_epoch
        ));
        for (id, epoch, sequence, records) in [
            (a, 0, 0, 2),
            (a, 0, 0, 2),
            (a, 0, 2, 1),
            (a, 0, 4, 1),
            (a, 0, 3, 1),
            (a, 0, 4, 1),
            (a, 0, 5, 1),
            (a, 0, 6, 1),
            (a, 0, 2, 1),
            (a, 0, 0, 2),
            (a, 0, 0, 3),
            (a, 0, 6, 2),
            (a, 1, 7, 1),
            (a, 1, 0, 1),
            (a, 1, 0, 1),
            (a, 0, 7, 1),
            (a, 1, 1, 1),
            (b, 0, 5, 1),
            (b, 0, 6, 1),
            (b, 0, 5, 1),
            (b, 2, 0, 1),
            (c, 0, i32::MAX - 1, 3),
            (c, 0, 1, 1),
            (c, 0, i32::MAX - 1, 3),
            (c, 0, 1, 1),
            (c, 0, -1, 1),
            (c, -1, 2, 1),
        ] {
            let who = if id == a {
                "a"
            } else if id == b {
                "b"
            } else {
                "c"
            };
            let records_of = Some(Batch::by(id, epoch, sequence, records).bytes());
            self.produced(
                &format!("{who} epoch {epoch} sequence {sequence} of {records}"),
                9,
                TOPIC,
                1,
                -1,
                records_of,
            );
        }
    }

    pub(super) fn delete_records(&mut self) {
        for (version, partition, offset) in
            [(0, 0, 5), (1, 0, 3), (2, 0, 9999), (2, 9, 0), (2, 0, -2), (2, 0, 7)]
        {
            let asked = delete_records_request::DeleteRecordsPartition::default()
                .with_partition_index(partition)
                .with_offset(offset);
            let topic = delete_records_request::DeleteRecordsTopic::default()
                .with_name(name(TOPIC))
                .with_partitions(vec![asked]);
            let request = DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(10_000);
            let answer = self.connection.call(version, &request).topics.remove(0).partitions.remove(0);
            self.say(format!(
                "delete v{version} {partition} {offset}: {} {}",
                answer.error_code, answer.low_watermark
            ));
        }
        for offset in [6, 7] {
            let request = self.fetch_request(11, 0, offset);
            self.fetched(&format!("after deletion at {offset}"), 11, &request);
        }
        let partition = list_offsets_request::ListOffsetsPartition::default()
            .with_current_leader_epoch(-1)
            .with_timestamp(-2);
        let topic = list_offsets_request::ListOffsetsTopic::default()
            .with_name(name(TOPIC))
            .with_partitions(vec![partition]);
        let request = ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
        let answer = self.connection.call(7, &request).topics.remove(0).partitions.remove(0);
        self.say(format!("earliest after deletion: {} {}", answer.offset, answer.leader_epoch));
        self.produced("after deletion", 9, TOPIC, 0, -1, Some(Batch::of(1).bytes()));
    }
}
