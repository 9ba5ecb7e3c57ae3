//! Every codec, both directions, next to Kafka's own tools.
use milena::Compression;

use crate::on_calm_kafka;
use crate::sample::{Sample, read};
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
