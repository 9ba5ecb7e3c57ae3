//! Every codec, both directions, next to Kafka's own tools.
use milena::Compression;

use crate::on_calm_kafka;
use crate::sample::{Sample, read, write};
use crate::support::kafka::NEWEST;

const CODECS: [(&str, Compression); 5] = [
    ("none", Compression::None),
    ("gzip", Compression::Gzip),
    ("snappy", Compression::Snappy),
    ("lz4", Compression::Lz4),
    ("zstd", Compression::Zstd),
];

#[test]
fn what_kafka_writes_with_each_codec_milena_reads() {
    const COUNT: usize = 200;
    on_calm_kafka(NEWEST, 1, async |kafka, client| {
        let input: String = (0..COUNT).map(|number| Sample::new(number).line()).collect();
        for (name, _) in CODECS {
            let topic = kafka.topic(name, 1);
            let producer =
                ["--bootstrap-server", &kafka.bootstrap(), "--topic", &topic, "--compression-codec", name];
            let reader = ["parse.key=true", "parse.headers=true", "null.marker=NULL"];
            let reader = reader.iter().flat_map(|property| ["--reader-property", property]);
            let args: Vec<&str> = producer.into_iter().chain(reader).collect();
            kafka.tool("ConsoleProducer", &args, input.as_bytes());
            assert!(
                kafka.dump(1, &topic, &[0]).contains(&format!("compresscodec: {name}")),
                "{name} was not used"
            );
            let expected = (0..COUNT).map(|number| (number as i64, Sample::new(number))).collect();
            assert_eq!(read(&client, &topic, COUNT).await, [(0, expected)].into(), "{name}");
        }
    });
}

#[test]
fn what_milena_writes_with_each_codec_kafka_reads() {
    const COUNT: usize = 500;
    on_calm_kafka(NEWEST, 1, async |kafka, client| {
        // One partition for each codec: one call of each tool judges them all.
        let topic = kafka.topic("codecs", CODECS.len() as i32);
        let mut lines = Vec::new();
        for (partition, (_, codec)) in (0..).zip(CODECS) {
            let producer = client.producer().compression(codec).build().await.unwrap();
            let records: Vec<_> = (0..COUNT).map(|number| (partition, Sample::new(number))).collect();
            let written = write(&producer.topic(&topic), &records).await;
            lines.extend(records.iter().zip(written).map(|((_, sample), (partition, offset))| {
                format!("Partition:{partition}\tOffset:{offset}\t{}", sample.printed())
            }));
            producer.close().await.unwrap();
        }

        let count = lines.len().to_string();
        let mut args = vec!["--bootstrap-server", &kafka.bootstrap(), "--topic", &topic, "--from-beginning"]
            .into_iter()
            .map(str::to_owned)
            .collect::<Vec<_>>();
        args.extend(["--timeout-ms", "20000", "--max-messages", &count].map(str::to_owned));
        for property in ["print.key", "print.headers", "print.offset", "print.partition"] {
            args.extend(["--formatter-property".to_owned(), format!("{property}=true")]);
        }
        args.extend(["--formatter-property", "null.literal=NULL"].map(str::to_owned));
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let printed = kafka.tool("ConsoleConsumer", &args, &[]);
        let mut printed: Vec<&str> = printed.lines().collect();
        printed.sort_unstable();
        lines.sort_unstable();
        assert_eq!(printed, lines);

        let partitions: Vec<i32> = (0..CODECS.len() as i32).collect();
        let dump = kafka.dump(1, &topic, &partitions);
        for (section, (name, _)) in dump.split("Dumping ").skip(1).zip(CODECS) {
            let batches: Vec<&str> = section.lines().filter(|line| line.starts_with("baseOffset")).collect();
            assert!(!batches.is_empty(), "{name}: no batch in {section}");
            for batch in batches {
                assert!(batch.contains("isvalid: true") && batch.contains("magic: 2"), "{name}: {batch}");
                assert!(batch.contains(&format!("compresscodec: {name}")), "{name}: {batch}");
            }
            let records = section.lines().filter(|line| line.starts_with("| offset")).count();
            assert_eq!(records, COUNT, "{name}");
        }
    });
}
