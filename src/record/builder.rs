//! Writing a batch: records are encoded when they are appended, the header when the batch is sealed.
use bytes::Bytes;

use super::batch::{self, BatchHeader, HEADER_LEN, RawBatch, Stamp};
use super::reader::DecodedBatch;
use super::{BatchError, Compression, Record, compression};
use crate::protocol::primitives::{put_varint, put_varlong, varint_len, varlong_len, zigzag_long};

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

    /// Exactly the bytes of a batch with this record only.
    pub(crate) fn size_alone(record: &Record<'_>) -> usize {
        let length = encoded_length(0, 0, record);
        HEADER_LEN + varint_len(length as i32) + length
    }

    /// Exactly the bytes the batch will have when this record is appended.
    #[inline]
    pub(crate) fn size_with(&self, timestamp: i64, record: &Record<'_>) -> usize {
        let length = encoded_length(self.timestamp_delta(timestamp), self.count, record);
        self.bytes.len() + varint_len(length as i32) + length
    }

    /// Appends a record and returns its place, 0 being the first.
    #[inline]
    pub(crate) fn append(&mut self, timestamp: i64, record: &Record<'_>) -> i32 {
        self.try_append(usize::MAX, timestamp, record).unwrap_or(-1)
    }

    /// Appends a record if the batch is then within `limit` bytes, and returns its place. The first record always fits.
    #[inline]
    pub(crate) fn try_append(&mut self, limit: usize, timestamp: i64, record: &Record<'_>) -> Option<i32> {
        if self.count == 0 {
            self.base_timestamp = timestamp;
            self.max_timestamp = timestamp;
        }
        let (place, delta) = (self.count, timestamp.wrapping_sub(self.base_timestamp));
        let limit = if place == 0 { usize::MAX } else { limit };
        if !encode(&mut self.bytes, limit, delta, place, record) {
            return None;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.count = place + 1;
        Some(place)
    }

    #[inline]
    fn timestamp_delta(&self, timestamp: i64) -> i64 {
        if self.count == 0 { 0 } else { timestamp.wrapping_sub(self.base_timestamp) }
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
fn encoded_length(timestamp_delta: i64, offset_delta: i32, record: &Record<'_>) -> usize {
    let field = |field: Option<&[u8]>| field.map_or(1, |bytes| varint_len(bytes.len() as i32) + bytes.len());
    let headers = record.headers.iter().map(|(key, value)| field(Some(key)) + field(*value)).sum::<usize>();
    1 + varlong_len(timestamp_delta)
        + varint_len(offset_delta)
        + field(record.key)
        + field(record.value)
        + varint_len(record.headers.len() as i32)
        + headers
}

/// Appends an encoded record, unless `out` would then have more than `limit` bytes.
#[inline(always)]
pub(super) fn encode(
    out: &mut Vec<u8>,
    limit: usize,
    timestamp_delta: i64,
    offset_delta: i32,
    record: &Record<'_>,
) -> bool {
    let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
    let timestamp = zigzag_long(timestamp_delta);
    // Below these, no number here takes more than two bytes.
    let small = key.len() + value.len() < 8000 && (timestamp | (offset_delta as u64) << 1) < Packed::LIMIT;
    if !small || !record.headers.is_empty() {
        return encode_any(out, limit, timestamp_delta, offset_delta, record);
    }
    // The usual record: all its numbers in registers, each group of them written at once.
    let (time, place) = (Packed::of(timestamp as u32), Packed::of((offset_delta as u32) << 1));
    // Null is a length of -1.
    let before_key = Packed::of(if record.key.is_some() { (key.len() as u32) << 1 } else { 1 });
    let before_value = Packed::of(if record.value.is_some() { (value.len() as u32) << 1 } else { 1 });
    // Attributes, of which none are defined, and the count of headers are a zero byte each.
    let fixed = 2 + time.bytes + place.bytes + before_key.bytes + before_value.bytes;
    let length = fixed as usize + key.len() + value.len();
    let head = Packed::of((length as u32) << 1).join(Packed::of(0)).join(time).join(place);
    if out.len() + length + 2 > limit && out.len() + varint_len(length as i32) + length > limit {
        return false;
    }
    // One growth at most.
    out.reserve(length + 16);
    head.write(out);
    if key.is_empty() {
        before_key.join(before_value).write(out);
    } else {
        before_key.write(out);
        out.extend_from_slice(key);
        before_value.write(out);
    }
    out.extend_from_slice(value);
    out.push(0);
    true
}

/// The same for large numbers and for headers.
#[inline(never)]
fn encode_any(
    out: &mut Vec<u8>,
    limit: usize,
    timestamp_delta: i64,
    offset_delta: i32,
    record: &Record<'_>,
) -> bool {
    let length = encoded_length(timestamp_delta, offset_delta, record);
    if out.len() + varint_len(length as i32) + length > limit {
        return false;
    }
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
    true
}

/// Varints of one or two bytes side by side, gathered without a branch.
#[derive(Clone, Copy)]
struct Packed {
    bits: u64,
    bytes: u32,
}

impl Packed {
    /// What a varint of two bytes holds.
    const LIMIT: u64 = 1 << 14;

    #[inline(always)]
    fn of(value: u32) -> Self {
        debug_assert!(u64::from(value) < Self::LIMIT);
        let second = value > 0x7f;
        // The upper bits move by one, and the lower byte says that they follow.
        let moved = if second { (value & !0x7f) + 0x80 } else { 0 };
        Self { bits: u64::from(value + moved), bytes: 1 + u32::from(second) }
    }

    /// This and then the other; together at most eight bytes.
    #[inline(always)]
    fn join(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits << (8 * self.bytes), bytes: self.bytes + other.bytes }
    }

    #[inline(always)]
    fn write(self, out: &mut Vec<u8>) {
        let end = out.len() + self.bytes as usize;
        out.extend_from_slice(&self.bits.to_le_bytes());
        out.truncate(end);
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
#[cfg(any(test, feature = "broker"))]
pub(crate) fn control_batch(
    kind: super::reader::ControlRecord,
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
