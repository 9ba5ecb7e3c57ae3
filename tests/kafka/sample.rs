//! Numbered records with everything a record can have, written and read by milena or told to Kafka's tools as text.
use std::collections::BTreeMap;
use std::fmt::Write;

use milena::{Client, Headers, ProducerTopic, Record, RecordView};

/// Key, value and headers as text; `None` is null.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) key: Option<String>,
    pub(crate) value: Option<String>,
    pub(crate) headers: Vec<(String, Option<String>)>,
}

impl Sample {
    /// Some keys, values and headers are null or absent, and long enough together that a codec is worth its while.
    pub(crate) fn new(number: usize) -> Self {
        let words = "one record after another ".repeat(number % 7);
        let headers = match number % 4 {
            0 => vec![],
            1 => vec![("number", Some(number.to_string()))],
            2 => vec![("twice", Some("a".into())), ("twice", Some("b".into()))],
            _ => vec![("empty", Some(String::new())), ("null", None)],
        };
        Self {
            key: (!number.is_multiple_of(3)).then(|| format!("key-{number}")),
            value: (number % 10 != 9).then(|| format!("value-{number} {words}").trim_end().to_owned()),
            headers: headers.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        }
    }

    pub(crate) fn without_headers(number: usize) -> Self {
        Self { headers: vec![], ..Self::new(number) }
    }

    pub(crate) fn record(&self) -> Record<'_> {
        let mut record = self.value.as_ref().map_or_else(Record::tombstone, Record::value);
        if let Some(key) = &self.key {
            record = record.key(key);
        }
        for (key, value) in &self.headers {
            record = match value {
                Some(value) => record.header(key, value),
                None => record.null_header(key),
            };
        }
        record
    }

    /// A line for ConsoleProducer that parses headers and keys, with `NULL` for null.
    pub(crate) fn line(&self) -> String {
        format!("{}\t{}\n", self.headers_and_key("NULL"), self.value.as_deref().unwrap_or("NULL"))
    }

    /// What ConsoleConsumer prints of it, without time, partition and offset.
    pub(crate) fn printed(&self) -> String {
        format!("{}\t{}", self.headers_and_key("NO_HEADERS"), self.value.as_deref().unwrap_or("NULL"))
    }

    fn headers_and_key(&self, no_headers: &str) -> String {
        let mut text = String::new();
        for (key, value) in &self.headers {
            let comma = if text.is_empty() { "" } else { "," };
            write!(text, "{comma}{key}:{}", value.as_deref().unwrap_or("NULL")).unwrap();
        }
        if text.is_empty() {
            text.push_str(no_headers);
        }
        format!("{text}\t{}", self.key.as_deref().unwrap_or("NULL"))
    }
}

impl From<RecordView<'_>> for Sample {
    fn from(record: RecordView<'_>) -> Self {
        Self { key: text(record.key()), value: text(record.value()), headers: headers(record.headers()) }
    }
}

fn headers(headers: Headers<'_>) -> Vec<(String, Option<String>)> {
    headers.map(|(key, value)| (text(Some(key)).unwrap(), text(value))).collect()
}

fn text(bytes: Option<&[u8]>) -> Option<String> {
    bytes.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
}

/// Reads this many records of a topic from its beginning: by partition, in the order handed out, each with its offset.
pub(crate) async fn read(client: &Client, topic: &str, count: usize) -> BTreeMap<i32, Vec<(i64, Sample)>> {
    let mut consumer = client.consumer().topics([topic]).build().await.unwrap();
    let mut found: BTreeMap<i32, Vec<(i64, Sample)>> = BTreeMap::new();
    let mut rest = count;
    while rest > 0 {
        let batch = consumer.next().await.unwrap().expect("the client is open");
        assert_eq!(batch.topic(), topic);
        let partition = found.entry(batch.partition()).or_default();
        partition.extend(batch.iter().map(|record| (record.offset(), Sample::from(record))));
        rest = rest.checked_sub(batch.len()).expect("more records than were written");
    }
    consumer.close().await;
    found
}

/// Sends these records, each to the partition given with it, and returns where each was written, after all are acknowledged.
pub(crate) async fn write(topic: &ProducerTopic, records: &[(i32, Sample)]) -> Vec<(i32, i64)> {
    let mut deliveries = Vec::new();
    for (partition, sample) in records {
        deliveries.push(topic.send(sample.record().partition(*partition)).await.unwrap());
    }
    let mut written = Vec::new();
    for delivery in deliveries {
        let place = delivery.await.unwrap();
        written.push((place.partition, place.offset.expect("the node tells the offset")));
    }
    written
}

/// The records by partition, with the offset at which each was written, as [`read`] should find them.
pub(crate) fn expected(
    records: &[(i32, Sample)],
    written: &[(i32, i64)],
) -> BTreeMap<i32, Vec<(i64, Sample)>> {
    let mut expected: BTreeMap<i32, Vec<(i64, Sample)>> = BTreeMap::new();
    for ((_, sample), (partition, offset)) in records.iter().zip(written) {
        expected.entry(*partition).or_default().push((*offset, sample.clone()));
    }
    expected
}
