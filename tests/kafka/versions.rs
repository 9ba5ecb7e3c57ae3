//! What every supported release must allow: a topic described, records written to it and read back.
use crate::sample::{Sample, expected, read, write};
use crate::support::kafka::NEWEST;

const COUNT: usize = 900;
const PARTITIONS: i32 = 3;

#[test]
fn kafka_4_3_takes_and_gives_records() {
    round_trip(NEWEST);
}

#[test]
fn kafka_3_9_takes_and_gives_records() {
    round_trip("3.9.2");
}

#[test]
fn kafka_2_8_takes_and_gives_records() {
    round_trip("2.8.2");
}

fn round_trip(version: &'static str) {
    crate::on_calm_kafka(version, 1, async |kafka, client| {
        let topic = kafka.topic("round-trip", PARTITIONS);
        let topics = client.admin().describe_topics([&topic]).await.unwrap();
        let leaders: Vec<_> = topics[0].partitions.iter().map(|partition| partition.leader).collect();
        assert_eq!(leaders, [Some(1); PARTITIONS as usize]);

        let producer = client.producer().build().await.unwrap();
        let records: Vec<_> =
            (0..COUNT).map(|number| (number as i32 % PARTITIONS, Sample::new(number))).collect();
        let written = write(&producer.topic(&topic), &records).await;
        for (partition, records) in expected(&records, &written) {
            let offsets = records.iter().map(|(offset, _)| *offset);
            assert!(
                offsets.eq(0..(COUNT as i64 / i64::from(PARTITIONS))),
                "partition {partition} out of order"
            );
        }
        producer.close().await.unwrap();
        assert_eq!(read(&client, &topic, COUNT).await, expected(&records, &written));
    });
}
