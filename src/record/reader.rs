//! Reading a batch: inflated and validated once, then views that cannot fail.
use bytes::Bytes;

use super::batch::{BatchHeader, HEADER_LEN, RawBatch};
use super::content::Content;
use super::{BatchError, Compression, Headers, OwnedRecord, Record, TimestampType, compression, legacy};
use crate::protocol::primitives::{Cursor, Malformed};

/// A batch whose body is inflated and whose every record is known to be well formed.
#[derive(Clone, Debug)]
pub(crate) struct DecodedBatch {
    header: BatchHeader,
    body: Bytes,
}

/// What the one record of a control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlRecord {
    Abort,
    Commit,
    /// Not for consumers (of the metadata log), or newer than this library.
    Other(i16),
}

impl ControlRecord {
    #[cfg(any(test, feature = "broker"))]
    pub(crate) fn id(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(id) => id,
        }
    }
}

impl DecodedBatch {
    /// Inflates and validates a batch. `limit` bounds the inflated size: more is never allocated.
    ///
    /// The checksum is a step of its own: [`RawBatch::verify_crc`].
    pub(crate) fn decode(raw: &RawBatch, limit: usize) -> Result<Self, BatchError> {
        if raw.header.magic != 2 {
            return legacy::decode(raw, limit);
        }
        let codec = raw.header.compression()?;
        let body = raw.bytes.slice(HEADER_LEN.min(raw.bytes.len())..);
        let body =
            if codec == Compression::None { body } else { compression::decompress(codec, &body, limit)? };
        let batch = Self { header: raw.header, body };
        batch.validate()?;
        Ok(batch)
    }

    /// A body that was put together by [`legacy`].
    pub(super) fn from_parts(header: BatchHeader, body: Bytes) -> Result<Self, BatchError> {
        let batch = Self { header, body };
        batch.validate()?;
        Ok(batch)
    }

    /// Walks all records once. What it accepts, [`Records`] can read.
    fn validate(&self) -> Result<(), BatchError> {
        let mut rest = &self.body[..];
        let mut next = 0i64;
        for at in 0..self.count() {
            let offset_delta = match skip(&mut rest) {
                Some(delta) => delta,
                None => Raw::parse(&mut rest).map_err(|cause| BatchError::Record { at, cause })?.offset_delta,
            };
            if i64::from(offset_delta) < next || offset_delta > self.header.last_offset_delta {
                let cause = Malformed { what: "offsets not rising within the batch", left: rest.len() };
                return Err(BatchError::Record { at, cause });
            }
            next = i64::from(offset_delta) + 1;
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(Malformed { what: "bytes behind the last record", left: rest.len() }.into())
        }
    }

    pub(crate) fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Records in it; compaction may have removed all.
    pub(crate) fn count(&self) -> usize {
        usize::try_from(self.header.count).unwrap_or(0)
    }

    /// Bytes of all records, inflated.
    pub(crate) fn size(&self) -> usize {
        self.body.len()
    }

    pub(crate) fn next_offset(&self) -> i64 {
        self.header.next_offset()
    }

    /// The records as borrowed views.
    #[inline]
    pub(crate) fn records(&self) -> Records<'_> {
        Records {
            body: &self.body,
            rest: &self.body,
            left: self.count(),
            base_offset: self.header.base_offset,
            base_timestamp: match self.header.timestamp_type() {
                TimestampType::CreateTime => Ok(self.header.base_timestamp),
                TimestampType::LogAppendTime => Err(self.header.max_timestamp),
            },
        }
    }

    /// As [`DecodedBatch::records`], on from where another iteration stood: [`Records::at`] and its length.
    #[inline]
    pub(crate) fn records_at(&self, at: usize, left: usize) -> Records<'_> {
        Records { rest: self.body.get(at..).unwrap_or_default(), left, ..self.records() }
    }

    /// Key, value and headers of the record whose [`RecordView::place`] this is.
    #[inline]
    pub(crate) fn content(
        &self,
        place: &std::ops::Range<u32>,
    ) -> (Option<&[u8]>, Option<&[u8]>, Headers<'_>) {
        let content = Content(self.body.get(place.start as usize..place.end as usize).unwrap_or_default());
        (content.key(), content.value(), content.headers())
    }

    /// All bytes, inflated.
    pub(crate) fn body(&self) -> &Bytes {
        &self.body
    }

    /// What a control batch says; `None` if compaction removed its record.
    pub(crate) fn control(&self) -> Result<Option<ControlRecord>, BatchError> {
        let Some(record) = self.records().next() else { return Ok(None) };
        let mut key = Cursor::new(record.key().unwrap_or_default());
        let _version = key.i16()?;
        Ok(Some(match key.i16()? {
            0 => ControlRecord::Abort,
            1 => ControlRecord::Commit,
            id => ControlRecord::Other(id),
        }))
    }
}

/// One record as it stands in the body.
struct Raw<'a> {
    timestamp_delta: i64,
    offset_delta: i32,
    content: Content<'a>,
}

impl<'a> Raw<'a> {
    /// Takes one record off the front without looking into its content.
    #[inline(always)]
    fn take(body: &mut &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let length =
            usize::try_from(cursor.varint()?).map_err(|_| cursor.malformed("negative length of a record"))?;
        let record = cursor.bytes(length)?;
        *body = cursor.rest();
        let mut cursor = Cursor::new(record);
        let _attributes = cursor.u8()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        Ok(Self { timestamp_delta, offset_delta, content: Content(cursor.rest()) })
    }

    /// Takes one record off the front and validates all of it.
    #[inline(never)]
    fn parse(body: &mut &'a [u8]) -> Result<Self, Malformed> {
        let record = Self::take(body)?;
        record.content.validate()?;
        Ok(record)
    }
}

/// Takes a usual record off the front and returns its offset delta: no headers, no varint above two bytes.
///
/// `None`, with nothing taken, is no verdict: [`Raw::parse`] then decides. Batches are read twice, for validation and by the
/// application; this is why the first time costs little.
#[inline(always)]
fn skip(body: &mut &[u8]) -> Option<i32> {
    let bytes = *body;
    let mut at = 0;
    let length = varint_at(bytes, &mut at)? as usize;
    let (record, rest) = bytes.get(at..)?.split_at_checked(length >> 1)?;
    let mut negative = length & 1;
    // Attributes.
    at = 1;
    varint_at(record, &mut at)?;
    let offset = varint_at(record, &mut at)? as usize;
    negative |= offset & 1;
    for _field in ["key", "value"] {
        let length = varint_at(record, &mut at)? as usize;
        // 1 is null, of no bytes.
        negative |= length & 1 & usize::from(length != 1);
        at += length >> 1;
    }
    if negative != 0 || record.len() != at + 1 || record[at] != 0 {
        return None;
    }
    *body = rest;
    Some((offset >> 1) as i32)
}

/// An unsigned varint of one or two bytes.
#[inline(always)]
fn varint_at(bytes: &[u8], at: &mut usize) -> Option<u32> {
    let low = u32::from(*bytes.get(*at)?);
    if low < 0x80 {
        *at += 1;
        return Some(low);
    }
    let high = u32::from(*bytes.get(*at + 1)?);
    *at += 2;
    (high < 0x80).then_some(low & 0x7f | high << 7)
}

/// The records of a batch, in order.
#[derive(Clone, Debug)]
pub(crate) struct Records<'a> {
    body: &'a Bytes,
    rest: &'a [u8],
    left: usize,
    base_offset: i64,
    /// The base of the deltas, or the one time that all records have.
    base_timestamp: Result<i64, i64>,
}

impl Records<'_> {
    /// How far into the body it has come.
    #[inline]
    pub(crate) fn at(&self) -> usize {
        self.body.len() - self.rest.len()
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = RecordView<'a>;

    #[inline(always)]
    fn next(&mut self) -> Option<RecordView<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Validated when the batch was decoded.
        let record = Raw::take(&mut self.rest).ok()?;
        Some(RecordView {
            body: self.body,
            content: record.content,
            offset: self.base_offset + i64::from(record.offset_delta),
            timestamp: match self.base_timestamp {
                Ok(base) => base.wrapping_add(record.timestamp_delta),
                Err(all) => all,
            },
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// A record that was read, borrowed from its batch.
#[derive(Clone)]
pub struct RecordView<'a> {
    body: &'a Bytes,
    /// Looked into on demand.
    content: Content<'a>,
    offset: i64,
    timestamp: i64,
}

impl<'a> RecordView<'a> {
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

    /// The key; `None` is null.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.content.key()
    }

    /// The value; `None` is null, a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.content.value()
    }

    /// The headers.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.content.headers()
    }

    /// Where its content stands in the body of its batch, which is below 4 GiB.
    #[inline]
    pub(crate) fn place(&self) -> std::ops::Range<u32> {
        let start = (self.content.0.as_ptr() as usize - self.body.as_ptr() as usize) as u32;
        start..start + self.content.0.len() as u32
    }

    /// Keeps the record: one reference count on the batch's bytes, which stay in memory as long as the record does.
    #[inline]
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord::new(self.body.slice_ref(self.content.0), self.offset, self.timestamp)
    }

    /// The same content as a record to be sent, with its timestamp, without partition.
    pub fn to_record(&self) -> Record<'a> {
        self.content.to_record(self.timestamp)
    }
}

impl std::fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.content.debug("RecordView", self.offset, self.timestamp, f)
    }
}
