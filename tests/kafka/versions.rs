//! What every supported release must allow: cluster and topics described, records written and read.
use crate::support::kafka::NEWEST;

#[test]
fn kafka_4_3_describes_itself() {
    describe(NEWEST);
}

#[test]
fn kafka_3_9_describes_itself() {
    describe("3.9.2");
}

#[test]
fn kafka_2_8_describes_itself() {
    describe("2.8.2");
}

fn describe(version: &'static str) {
    crate::on_calm_kafka(version, 1, async |kafka, client| {
        let topic = kafka.topic("described", 3);
        let topics = client.admin().describe_topics([&topic]).await.unwrap();
        let leaders: Vec<_> = topics[0].partitions.iter().map(|partition| partition.leader).collect();
        assert_eq!(leaders, [Some(1); 3]);
    });
}
