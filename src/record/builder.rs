//! Writing a batch: records are encoded when they are appended, the header when the batch is sealed.
use bytes::Bytes;

use super::batch::{self, BatchHeader, HEADER_LEN, RawBatch, Stamp};
use super::reader::{ControlRecord, DecodedBatch};
use super::{BatchError, Compression, Record, compression};
use crate::protocol::primitives::{put_varint, put_varlong, varint_len, varlong_len};

/// A batch that is being filled: one buffer, in which 61 bytes are left free for the header.
///
/// Memory per record is what it takes on the wire; an append allocates only when the buffer has to grow.
#[derive(Debug)]
pub(crate) struct BatchBuilder {
    bytes: Vec<u8>,
    count: i32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes, header included; it grows beyond that.
    pub(crate) fn new(capacity: usize) -> Self {
        Self::reuse(Vec::with_capacity(capacity.max(HEADER_LEN)))
    }

    /// The same, in a buffer that was used before.
    pub(crate) fn reuse(mut bytes: Vec<u8>) -> Self {
        bytes.clear();
        bytes.resize(HEADER_LEN, 0);
        Self { bytes, count: 0, base_timestamp: 0, max_timestamp: 0 }
    }

    /// Records in it.
    pub(crate) fn count(&self) -> i32 {
        self.count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the batch, header included, uncompressed.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes the buffer takes in memory.
    pub(crate) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Exactly the bytes the batch will have when this record is appended.
    #[inline]
    pub(crate) fn size_with(&self, timestamp: i64, record: &Record<'_>) -> usize {
        let length = self.record_length(timestamp, record);
        self.bytes.len() + varint_len(length as i32) + length
    }

    /// Appends a record and returns its place, 0 being the first.
    #[inline]
    pub(crate) fn append(&mut self, timestamp: i64, record: &Record<'_>) -> i32 {
        let length = self.record_length(timestamp, record);
        self.put(timestamp, record, length)
    }

    /// Appends a record if the batch is then within `limit` bytes, and returns its place. The first record always fits.
    #[inline]
    pub(crate) fn try_append(&mut self, limit: usize, timestamp: i64, record: &Record<'_>) -> Option<i32> {
        let length = self.record_length(timestamp, record);
        if self.bytes.len() + varint_len(length as i32) + length > limit && self.count > 0 {
            return None;
        }
        Some(self.put(timestamp, record, length))
    }

    /// Bytes of the encoded record behind its length field.
    #[inline]
    fn record_length(&self, timestamp: i64, record: &Record<'_>) -> usize {
        encoded_length(self.timestamp_delta(timestamp), self.count, record)
    }

    #[inline]
    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.count == 0 { 0 } else { timestamp.wrapping_sub(self.base_timestamp) }
    }

    #[inline]
    fn put(&mut self, timestamp: i64, record: &Record<'_>, length: usize) -> i32 {
        let delta = self.timestamp_delta(timestamp);
        let place = self.count;
        if place == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count += 1;
        encode(&mut self.bytes, length, delta, place, record);
        place
    }

    /// Makes the batch final: compresses the body, writes the header, and computes the checksum.
    ///
    /// A body that does not shrink stays uncompressed. `level` is the codec's own; `None` is its default.
    ///
    /// # Panics
    /// If it is empty: there is no batch without a record.
    pub(crate) fn seal(
        self,
        codec: Compression,
        level: Option<i32>,
        stamp: Stamp,
    ) -> Result<Bytes, BatchError> {
        assert!(self.count > 0, "an empty batch cannot be sealed");
        let header = self.header(stamp);
        let body = self.bytes.get(HEADER_LEN..).unwrap_or_default();
        if codec != Compression::None {
            let mut packed = Vec::with_capacity(HEADER_LEN + body.len() / 2);
            packed.resize(HEADER_LEN, 0);
            compression::compress(codec, level, body, &mut packed)?;
            if packed.len() < self.bytes.len() {
                batch::finish(
                    &mut packed,
                    BatchHeader { attributes: header.attributes | i16::from(codec.id()), ..header },
                );
                return Ok(Bytes::from(packed));
            }
        }
        let mut bytes = self.bytes;
        batch::finish(&mut bytes, header);
        Ok(Bytes::from(bytes))
    }

    fn header(&self, stamp: Stamp) -> BatchHeader {
        BatchHeader {
            base_offset: 0,
            length: 0,
            leader_epoch: -1,
            magic: 2,
            crc: 0,
            attributes: if stamp.transactional { batch::TRANSACTIONAL } else { 0 },
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: stamp.producer_id,
            producer_epoch: stamp.producer_epoch,
            base_sequence: stamp.base_sequence,
            count: self.count,
        }
    }
}

/// Bytes of an encoded record behind its length field.
#[inline]
pub(super) fn encoded_length(timestamp_delta: i64, offset_delta: i32, record: &Record<'_>) -> usize {
    let field = |field: Option<&[u8]>| field.map_or(1, |bytes| varint_len(bytes.len() as i32) + bytes.len());
    let mut headers = 1;
    if !record.headers.is_empty() {
        headers = varint_len(record.headers.len() as i32);
        for (key, value) in &record.headers {
            headers += field(Some(key)) + field(*value);
        }
    }
    1 + varlong_len(timestamp_delta)
        + varint_len(offset_delta)
        + field(record.key)
        + field(record.value)
        + headers
}

/// Appends an encoded record; `length` is its [`encoded_length`].
#[inline]
pub(super) fn encode(
    out: &mut Vec<u8>,
    length: usize,
    timestamp_delta: i64,
    offset_delta: i32,
    record: &Record<'_>,
) {
    out.reserve(length + 5);
    put_varint(out, length as i32);
    out.push(0);
    put_varlong(out, timestamp_delta);
    put_varint(out, offset_delta);
    put_field(out, record.key);
    put_field(out, record.value);
    put_varint(out, record.headers.len() as i32);
    for (key, value) in &record.headers {
        put_field(out, Some(key));
        put_field(out, *value);
    }
}

#[inline]
fn put_field(out: &mut Vec<u8>, field: Option<&[u8]>) {
    match field {
        None => out.push(1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i32);
            out.extend_from_slice(bytes);
        }
    }
}

/// Divides a sealed batch into two open ones of about the same size, in order. `None` if it has a single record.
///
/// `limit` bounds the inflated size, as everywhere; for a batch of one's own it is the size it had before it was sealed.
pub(crate) fn split(batch: &Bytes, limit: usize) -> Result<Option<(BatchBuilder, BatchBuilder)>, BatchError> {
    let decoded = DecodedBatch::decode(&RawBatch::single(batch)?, limit)?;
    if decoded.count() < 2 {
        return Ok(None);
    }
    let half = decoded.size() / 2;
    let (mut first, mut second) =
        (BatchBuilder::new(half + 2 * HEADER_LEN), BatchBuilder::new(half + 2 * HEADER_LEN));
    for (at, view) in decoded.records().enumerate() {
        let last = at + 1 == decoded.count();
        let record = view.to_record();
        let fits = second.is_empty() && !last && (first.is_empty() || first.len() < half);
        let target = if fits { &mut first } else { &mut second };
        target.append(view.timestamp(), &record);
    }
    Ok(Some((first, second)))
}

/// A batch with the one record that ends a transaction, as a coordinator has it written.
pub(crate) fn control_batch(
    kind: ControlRecord,
    coordinator_epoch: i32,
    timestamp: i64,
    stamp: Stamp,
) -> Bytes {
    let mut key = [0; 4];
    key[2..].copy_from_slice(&kind.id().to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let mut builder = BatchBuilder::new(128);
    builder.append(timestamp, &Record::value(&value).key(&key));
    let mut header = builder.header(Stamp { base_sequence: -1, transactional: true, ..stamp });
    header.attributes |= batch::CONTROL;
    let mut bytes = builder.bytes;
    batch::finish(&mut bytes, header);
    Bytes::from(bytes)
}
