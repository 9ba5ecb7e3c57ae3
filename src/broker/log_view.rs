//! A look into a partition's log, for assertions.
use bytes::Bytes;

use super::cluster::Partition;
use crate::error::Result;
use crate::record::OwnedRecord;
use crate::record::batch::{BatchHeader, RawBatch};
use crate::record::reader::DecodedBatch;

/// More than any batch here inflates to.
const MAX_INFLATED: usize = 1 << 30;

/// A partition's log as it was when [`super::Broker::log`] was called.
#[derive(Debug, Clone)]
pub struct LogView {
    batches: Vec<Bytes>,
    start: i64,
    end: i64,
    high_watermark: i64,
    last_stable: i64,
    leader_epoch: i32,
}

impl LogView {
    pub(super) fn new(partition: &Partition) -> Self {
        let log = &partition.log;
        Self {
            batches: log.batches().map(|batch| batch.bytes.clone()).collect(),
            start: log.start(),
            end: log.end(),
            high_watermark: partition.high_watermark(),
            last_stable: partition.last_stable(),
            leader_epoch: partition.leader_epoch,
        }
    }

    /// The batches as they are stored.
    pub fn batches(&self) -> &[Bytes] {
        &self.batches
    }

    /// All records of the log, from its start, without control records, whether their transaction was aborted or not.
    ///
    /// # Errors
    /// If a batch is damaged.
    pub fn records(&self) -> Result<Vec<OwnedRecord>> {
        let mut records = Vec::new();
        for bytes in &self.batches {
            let header = BatchHeader::parse(bytes).map_err(crate::record::BatchError::from)?;
            if header.is_control() {
                continue;
            }
            let batch = DecodedBatch::decode(&RawBatch { header, bytes: bytes.clone() }, MAX_INFLATED)?;
            let owned = batch.records().map(|record| record.to_owned());
            records.extend(owned.filter(|record| record.offset() >= self.start));
        }
        Ok(records)
    }

    /// The first offset that can be read.
    pub fn start_offset(&self) -> i64 {
        self.start
    }

    /// The offset that the next record will get.
    pub fn end_offset(&self) -> i64 {
        self.end
    }

    /// Up to where everybody may read: the end, but for what replicas have not copied yet.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark
    }

    /// Up to where `read_committed` may read: the start of the first open transaction.
    pub fn last_stable_offset(&self) -> i64 {
        self.last_stable
    }

    /// The epoch of the current leader.
    pub fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }
}
