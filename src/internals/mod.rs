//! The one back door: hot paths for this crate's own benches and tests of memory, decoders for its fuzz targets. No part
//! of the public interface.
pub mod decoders;

use bytes::Bytes;

use crate::record::batch::{RawBatch, Stamp};
use crate::record::builder::BatchBuilder;
use crate::record::reader::DecodedBatch;
use crate::{Compression, Error, Record, RecordView};

/// A batch builder.
#[derive(Debug)]
pub struct Builder(BatchBuilder);

impl Builder {
    /// Empty, with room for so many bytes.
    pub fn new(capacity: usize) -> Self {
        Self(BatchBuilder::new(capacity))
    }

    /// Appends unless the batch would then be above `limit` bytes.
    #[inline]
    pub fn try_append(&mut self, limit: usize, timestamp: i64, record: &Record<'_>) -> Option<i32> {
        self.0.try_append(limit, timestamp, record)
    }

    /// Seals it.
    pub fn seal(self, codec: Compression) -> Result<Bytes, Error> {
        Ok(self.0.seal(codec, None, Stamp::NONE)?)
    }
}

/// A batch that was read.
#[derive(Debug)]
pub struct Decoded(DecodedBatch);

impl Decoded {
    /// Reads one batch: header, checksum, all records validated.
    pub fn decode(bytes: &Bytes, limit: usize) -> Result<Self, Error> {
        let raw = RawBatch::single(bytes)?;
        raw.verify_crc()?;
        Ok(Self(DecodedBatch::decode(&raw, limit)?))
    }

    /// Its records.
    #[inline]
    pub fn records(&self) -> impl Iterator<Item = RecordView<'_>> {
        self.0.records()
    }
}
