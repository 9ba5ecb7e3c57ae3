//! Records that could not be handled, for somebody to look at, with the headers that Spring for Apache Kafka gives them.
use super::{Event, Refusal};
use crate::error::Result;
use crate::producer::Producer;
use crate::record::Record;

/// Writes the record as it was, headers included, with where it came from and what went wrong; waits until it is acknowledged.
pub(super) async fn bury(
    producer: &Producer,
    topic: &str,
    group: &str,
    event: &Event,
    refusal: &Refusal,
) -> Result<()> {
    let original = event.record();
    let (partition, offset) = (original.partition().to_be_bytes(), original.offset().to_be_bytes());
    let timestamp = original.timestamp().to_be_bytes();
    let timestamp_type = format!("{:?}", original.timestamp_type());
    let status = refusal.status().to_string();
    let story: [(&str, &[u8]); 8] = [
        ("kafka_dlt-original-topic", original.topic().as_bytes()),
        ("kafka_dlt-original-partition", &partition),
        ("kafka_dlt-original-offset", &offset),
        ("kafka_dlt-original-timestamp", &timestamp),
        ("kafka_dlt-original-timestamp-type", timestamp_type.as_bytes()),
        ("kafka_dlt-original-consumer-group", group.as_bytes()),
        ("kafka_dlt-exception-fqcn", status.as_bytes()),
        ("kafka_dlt-exception-message", refusal.message().as_bytes()),
    ];
    let mut record = Record::tombstone();
    (record.key, record.value) = (original.key(), original.value());
    record.headers.extend(original.headers());
    record.headers.extend(story.map(|(name, value)| (name.as_bytes(), Some(value))));
    producer.send(topic, record).await?.await.map(drop)
}
