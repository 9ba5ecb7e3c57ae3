//! Message sets of before Kafka 0.11, which 2.8 is the last release to write.
use milena::Compression;

use crate::sample::{Sample, expected, read, write};
use crate::support::kafka::TopicSpec;

const COUNT: usize = 300;

/// One partition for each codec that these formats know.
const CODECS: [(&str, Compression); 4] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
];

#[test]
fn message_sets_of_magic_0_are_read() {
    message_sets("0.9.0.1", "magic: 0");
}

#[test]
fn message_sets_of_magic_1_are_read() {
    message_sets("0.10.2", "magic: 1");
}

fn message_sets(format: &'static str, magic: &'static str) {
    crate::on_calm_kafka("2.8.2", 1, async |kafka, client| {
        let topic = format!("format-{format}");
        let partitions = CODECS.len() as i32;
        let configs = &[("message.format.version", format)];
        kafka.create_topic(&TopicSpec {
            name: &topic,
            partitions,
            replication: 1,
            configs,
            ..TopicSpec::default()
        });

        let mut records = Vec::new();
        let mut written = Vec::new();
        for (partition, (_, codec)) in (0..).zip(CODECS) {
            // The node converts to the old format, which has neither sequence numbers nor headers.
            let producer = client.producer().idempotence(false).compression(codec).build().await.unwrap();
            let some: Vec<_> =
                (0..COUNT).map(|number| (partition, Sample::without_headers(number))).collect();
            written.extend(write(&producer.topic(&topic), &some).await);
            producer.close().await.unwrap();
            records.extend(some);
        }
        let dump = kafka.dump(1, &topic, &(0..partitions).collect::<Vec<_>>());
        for (section, (name, _)) in dump.split("Dumping ").skip(1).zip(CODECS) {
            let mut sets = section.lines().filter(|line| line.starts_with("offset:")).peekable();
            assert!(sets.peek().is_some(), "{format} {name}: nothing on disk");
            let right =
                |line: &str| line.contains(magic) && line.to_lowercase().contains(&format!("codec: {name}"));
            assert_eq!(sets.find(|line| !right(line)), None, "{format} {name}");
        }
        assert_eq!(read(&client, &topic, records.len()).await, expected(&records, &written));
    });
}
