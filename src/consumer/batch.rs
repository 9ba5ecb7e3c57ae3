//! What a consumer hands out: a batch, its records borrowed, its records owned.
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::record::reader::{DecodedBatch, Records};
use crate::record::{Headers, RecordView, TimestampType};
use crate::state::consumer::{PositionReset, Taken};
use crate::topic_partition::TopicPartition;

/// Records of one partition, in order, as they were written together.
///
/// Iterating over a reference borrows the records, which costs least; [`Batch::records`] gives records that own what they say.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// # broker.create_topic("orders", 1);
/// # let client = milena::Client::connect(&broker.address()).await?;
/// # let producer = client.producer().build().await?;
/// # producer.send("orders", milena::Record::value("3 apples").key("42")).await?.await?;
/// let mut consumer = client.consumer().topics(["orders"]).build().await?;
/// if let Some(batch) = consumer.next().await? {
///     for record in &batch {
///         println!("{}@{}: {:?}", batch.partition(), record.offset(), record.value());
///     }
///     let kept: Vec<milena::ConsumerRecord> = batch.records().collect();
///     assert_eq!(kept[0].value(), Some(&b"3 apples"[..]));
/// }
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct Batch {
    whole: Arc<Whole>,
    /// Where its first record stands in the body, and how many there are from there on.
    at: usize,
    left: usize,
}

/// What all records of a batch share.
struct Whole {
    name: TopicPartition,
    batch: DecodedBatch,
    high_watermark: i64,
    reset: Option<PositionReset>,
    after: Option<Instant>,
}

impl Batch {
    /// `before` of its records are not for the application.
    pub(super) fn new(taken: Taken, batch: DecodedBatch, before: usize) -> Self {
        let Taken { name, high_watermark, reset, after, .. } = taken;
        let (at, left) = {
            let mut records = batch.records();
            records.by_ref().take(before).for_each(drop);
            (records.at(), records.len())
        };
        Self { whole: Arc::new(Whole { name, batch, high_watermark, reset, after }), at, left }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.whole.name.topic()
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.whole.name.partition()
    }

    /// Topic and partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.whole.name
    }

    /// How many records there are; at least one.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether there are none; never so in a batch that was handed out.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The offset behind the batch, at which reading goes on. Compaction may have removed records in between.
    pub fn next_offset(&self) -> i64 {
        self.whole.batch.next_offset()
    }

    /// The epoch of the leader that wrote it, -1 in logs from before Kafka 0.11.
    pub fn leader_epoch(&self) -> i32 {
        self.whole.batch.header().leader_epoch
    }

    /// The end of the partition, as far as it is replicated, when the batch was fetched. `high_watermark() - next_offset()` is how far
    /// the reader is behind.
    pub fn high_watermark(&self) -> i64 {
        self.whole.high_watermark
    }

    /// Who set the timestamps.
    pub fn timestamp_type(&self) -> TimestampType {
        self.whole.batch.header().timestamp_type()
    }

    /// Tells that this batch does not follow on what was handed out before: the position was lost, and `auto_offset_reset` let reading
    /// go on here. `None` nearly always.
    pub fn reset(&self) -> Option<PositionReset> {
        self.whole.reset
    }

    /// The records as borrowed views, in order. The same as iterating over `&batch`.
    #[inline]
    pub fn iter(&self) -> BatchIter<'_> {
        BatchIter(self.whole.batch.records_at(self.at, self.left))
    }

    /// The records as owned ones, in order, each with one reference count on the batch.
    #[inline]
    pub fn records(&self) -> BatchRecords {
        BatchRecords { whole: self.whole.clone(), at: self.at, left: self.left }
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("partition", self.topic_partition())
            .field("records", &self.left)
            .field("next_offset", &self.next_offset())
            .finish_non_exhaustive()
    }
}

impl<'a> IntoIterator for &'a Batch {
    type Item = RecordView<'a>;
    type IntoIter = BatchIter<'a>;

    #[inline]
    fn into_iter(self) -> BatchIter<'a> {
        self.iter()
    }
}

impl IntoIterator for Batch {
    type Item = ConsumerRecord;
    type IntoIter = BatchRecords;

    #[inline]
    fn into_iter(self) -> BatchRecords {
        BatchRecords { whole: self.whole, at: self.at, left: self.left }
    }
}

/// The records of a [`Batch`], borrowed.
#[derive(Clone, Debug)]
pub struct BatchIter<'a>(Records<'a>);

impl<'a> Iterator for BatchIter<'a> {
    type Item = RecordView<'a>;

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl ExactSizeIterator for BatchIter<'_> {}

/// The records of a [`Batch`], owned.
#[derive(Clone)]
pub struct BatchRecords {
    whole: Arc<Whole>,
    at: usize,
    left: usize,
}

impl BatchRecords {
    pub(super) fn topic_partition(&self) -> &TopicPartition {
        &self.whole.name
    }

    /// What is left, as a batch.
    pub(super) fn into_batch(self) -> Option<Batch> {
        (self.left > 0).then_some(Batch { whole: self.whole, at: self.at, left: self.left })
    }
}

impl Iterator for BatchRecords {
    type Item = ConsumerRecord;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord> {
        let mut records = self.whole.batch.records_at(self.at, self.left);
        let record = records.next()?;
        let (offset, timestamp, place) = (record.offset(), record.timestamp(), record.place());
        (self.at, self.left) = (records.at(), records.len());
        Some(ConsumerRecord { whole: self.whole.clone(), offset, timestamp, place })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for BatchRecords {}

impl fmt::Debug for BatchRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BatchRecords").field("left", &self.left).finish_non_exhaustive()
    }
}

/// A record that was read, with its place; owned, cheap to clone and to send elsewhere.
///
/// It is one reference count on its batch, which therefore stays in memory, inflated, as long as the record does; with it the whole
/// response it came in, if the batch was not compressed. To keep few records for long, copy what is needed.
#[derive(Clone)]
pub struct ConsumerRecord {
    whole: Arc<Whole>,
    offset: i64,
    timestamp: i64,
    place: Range<u32>,
}

impl ConsumerRecord {
    #[inline]
    fn parts(&self) -> (Option<&[u8]>, Option<&[u8]>, Headers<'_>) {
        self.whole.batch.content(&self.place)
    }

    /// A time that it was written after, if one is known: then its reader had seen the log end before it. No clock but our own has a part in that.
    pub(crate) fn written_after(&self) -> Option<Instant> {
        self.whole.after
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        self.whole.name.topic()
    }

    /// The partition's number.
    pub fn partition(&self) -> i32 {
        self.whole.name.partition()
    }

    /// Topic and partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.whole.name
    }

    /// Its offset in the partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Milliseconds since 1970-01-01 UTC, -1 if it has none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Who set the timestamp.
    pub fn timestamp_type(&self) -> TimestampType {
        self.whole.batch.header().timestamp_type()
    }

    /// The key; `None` is null.
    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        self.parts().0
    }

    /// The value; `None` is null, a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&[u8]> {
        self.parts().1
    }

    /// The headers.
    #[inline]
    pub fn headers(&self) -> Headers<'_> {
        self.parts().2
    }

    /// The key as bytes that share the batch's memory.
    pub fn key_bytes(&self) -> Option<Bytes> {
        self.key().map(|key| self.whole.batch.body().slice_ref(key))
    }

    /// The value as bytes that share the batch's memory.
    pub fn value_bytes(&self) -> Option<Bytes> {
        self.value().map(|value| self.whole.batch.body().slice_ref(value))
    }

    /// The epoch of the leader that wrote it, -1 in logs from before Kafka 0.11.
    pub fn leader_epoch(&self) -> i32 {
        self.whole.batch.header().leader_epoch
    }
}

impl fmt::Debug for ConsumerRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, value, headers) = self.parts();
        f.debug_struct("ConsumerRecord")
            .field("partition", self.topic_partition())
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp)
            .field("key", &key)
            .field("value", &value)
            .field("headers", &headers)
            .finish()
    }
}
