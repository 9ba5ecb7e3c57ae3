//! What a test does to the logs behind the clients' backs.
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;

use super::cluster::{Cluster, Partition};
use super::{Broker, no_partition};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::error_code::ErrorCode;
use crate::record::batch::{RawBatch, Stamp, batches};
use crate::record::builder::{BatchBuilder, control_batch};
use crate::record::reader::ControlRecord;
use crate::record::{BatchError, Compression, Record};

/// These bypass the protocol: what a test does to the logs itself. Parked fetches notice, as if a client had done it.
impl Broker {
    /// Appends records as one batch and returns the offset of the first.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// use milena::Record;
    /// use milena::broker::Broker;
    ///
    /// let broker = Broker::start().await?;
    /// broker.create_topic("orders", 1)?;
    /// broker.append("orders", 0, &[Record::value("3 apples").key("42")])?;
    /// assert_eq!(broker.log("orders", 0)?.records()?[0].value(), Some(&b"3 apples"[..]));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no such partition or no record is given.
    pub fn append(&self, topic: &str, partition: i32, records: &[Record<'_>]) -> Result<i64> {
        self.append_batch(topic, partition, sealed(records, Stamp::NONE)?)
    }

    /// Appends record batches as they are, damaged ones included, but for their place: they get the next offsets and
    /// the current leader epoch. Returns the first offset.
    ///
    /// # Errors
    /// If there is no such partition or the bytes cannot be cut into batches.
    pub fn append_batch(&self, topic: &str, partition: i32, batch: impl Into<Bytes>) -> Result<i64> {
        let mut frames = batches(&batch.into());
        let raw = frames.by_ref().collect::<Result<Vec<RawBatch>, BatchError>>()?;
        if raw.is_empty() || frames.truncated() {
            return Err(Error::new(ErrorKind::Config, "these bytes are not whole batches"));
        }
        self.change(topic, partition, |partition| {
            let first = partition.log.end();
            for batch in &raw {
                partition.log.append(batch, partition.leader_epoch);
            }
            first
        })
    }

    /// Appends records as one batch of a transaction of this producer, which it begins if none is open.
    ///
    /// # Errors
    /// As [`Broker::append`].
    pub fn append_in_transaction(
        &self,
        topic: &str,
        partition: i32,
        producer_id: i64,
        records: &[Record<'_>],
    ) -> Result<i64> {
        let stamp = Stamp { producer_id, producer_epoch: 0, base_sequence: 0, transactional: true };
        self.append_batch(topic, partition, sealed(records, stamp)?)
    }

    /// Ends the transaction of a producer in this partition by a marker, and returns the marker's offset.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn end_transaction(
        &self,
        topic: &str,
        partition: i32,
        producer_id: i64,
        commit: bool,
    ) -> Result<i64> {
        let kind = if commit { ControlRecord::Commit } else { ControlRecord::Abort };
        let stamp = Stamp { producer_id, producer_epoch: 0, base_sequence: -1, transactional: true };
        self.append_batch(topic, partition, control_batch(kind, 0, unix_ms(), stamp))
    }

    /// Cuts the log off before the batch that holds `offset`, in a new leader epoch, as an unclean leader election
    /// does. Returns the new end of the log.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn truncate(&self, topic: &str, partition: i32, offset: i64) -> Result<i64> {
        self.change(topic, partition, |partition| {
            partition.truncate(offset);
            partition.log.end()
        })
    }

    /// Moves the start of the log to `offset`, as DeleteRecords and retention do. Returns the new start.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn delete_records(&self, topic: &str, partition: i32, offset: i64) -> Result<i64> {
        self.change(topic, partition, |partition| {
            partition.log.delete_before(offset);
            partition.log.start()
        })
    }

    /// Removes the batch that holds `offset` and leaves a hole, as compaction does.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn remove_batch(&self, topic: &str, partition: i32, offset: i64) -> Result<()> {
        self.change(topic, partition, |partition| partition.log.remove_batch(offset))
    }

    /// Forgets all that a partition knows of producers, as nodes do after `producer.id.expiration.ms`.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn forget_producers(&self, topic: &str, partition: i32) -> Result<()> {
        self.change(topic, partition, |partition| partition.log.producers.forget())
    }

    /// Sets an option of a topic by Kafka's name. Those that mean something here are `max.message.bytes`,
    /// `message.timestamp.type` and `min.insync.replicas`.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn set_topic_config(&self, topic: &str, key: &str, value: &str) -> Result<()> {
        let set = |cluster: &mut Cluster, _| {
            cluster.topics.get_mut(topic).map(|topic| topic.config.insert(key.to_owned(), value.to_owned()))
        };
        self.shell.with(set).map(drop).ok_or_else(|| {
            Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such topic").on_topic(topic)
        })
    }

    /// Grows a topic to this many partitions.
    ///
    /// # Errors
    /// With Kafka's code if there is no such topic or it has as many already.
    pub fn create_partitions(&self, topic: &str, total: i32) -> Result<()> {
        self.shell
            .with(|cluster, _| cluster.grow_topic(topic, total, false))
            .map_err(|code| Error::broker(code, "cannot create partitions").on_topic(topic))
    }

    fn change<T>(&self, topic: &str, index: i32, change: impl FnOnce(&mut Partition) -> T) -> Result<T> {
        let changed = self.shell.with(|cluster, now| {
            let partition = cluster.topics.partition_mut(topic, index)?;
            let result = change(partition);
            partition.replicate(i64::MAX);
            cluster.changed(topic, index);
            cluster.settle(now);
            Some(result)
        });
        changed.ok_or_else(|| no_partition(topic, index))
    }
}

fn sealed(records: &[Record<'_>], stamp: Stamp) -> Result<Bytes> {
    if records.is_empty() {
        return Err(Error::new(ErrorKind::Config, "a batch needs a record"));
    }
    let mut builder = BatchBuilder::new(1024);
    let now = unix_ms();
    for record in records {
        builder.append(record.timestamp.unwrap_or(now), record);
    }
    Ok(builder.seal(Compression::None, None, stamp)?)
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(0)
}
