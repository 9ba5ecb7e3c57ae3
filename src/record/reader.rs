//! Reading a batch: inflated and validated once, then views that cannot fail.
use bytes::Bytes;

use super::batch::{BatchHeader, HEADER_LEN, RawBatch};
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
        let mut next = 0;
        for at in 0..self.count() {
            let record = Raw::parse(&mut rest).map_err(|cause| BatchError::Record { at, cause })?;
            if record.offset_delta < next || record.offset_delta > self.header.last_offset_delta {
                let cause = Malformed { what: "offsets not rising within the batch", left: rest.len() };
                return Err(BatchError::Record { at, cause });
            }
            next = record.offset_delta.saturating_add(1);
            record.headers.validate().map_err(|cause| BatchError::Record { at, cause })?;
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
        let content = self.body.get(place.start as usize..place.end as usize).unwrap_or_default();
        parse_content(content).unwrap_or_else(|_| (None, None, Headers::none()))
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
    /// Everything behind the offset: key, value, headers.
    content: &'a [u8],
    timestamp_delta: i64,
    offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
}

impl<'a> Raw<'a> {
    /// Takes one record off the front. The headers are not looked into.
    #[inline(always)]
    fn parse(body: &mut &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor::new(body);
        let length =
            usize::try_from(cursor.varint()?).map_err(|_| cursor.malformed("negative length of a record"))?;
        let record = cursor.bytes(length)?;
        *body = cursor.rest();
        let mut cursor = Cursor::new(record);
        let _attributes = cursor.u8()?;
        let timestamp_delta = cursor.varlong()?;
        let offset_delta = cursor.varint()?;
        let content = cursor.rest();
        let (key, value, headers) = parse_content(content)?;
        Ok(Self { content, timestamp_delta, offset_delta, key, value, headers })
    }
}

/// Key, value and headers: what a record carries, whatever its place and time.
#[inline(always)]
pub(super) fn parse_content(
    content: &[u8],
) -> Result<(Option<&[u8]>, Option<&[u8]>, Headers<'_>), Malformed> {
    let mut cursor = Cursor::new(content);
    let key = cursor.varint_bytes()?;
    let value = cursor.varint_bytes()?;
    Ok((key, value, Headers::parse(cursor.rest())?))
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

    #[inline]
    fn next(&mut self) -> Option<RecordView<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Validated when the batch was decoded.
        let record = Raw::parse(&mut self.rest).ok()?;
        Some(RecordView {
            body: self.body,
            content: record.content,
            offset: self.base_offset + i64::from(record.offset_delta),
            timestamp: match self.base_timestamp {
                Ok(base) => base.wrapping_add(record.timestamp_delta),
                Err(all) => all,
            },
            key: record.key,
            value: record.value,
            headers: record.headers,
        })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Records<'_> {}

/// A record that was read, borrowed from its batch.
#[derive(Clone, Debug)]
pub struct RecordView<'a> {
    body: &'a Bytes,
    content: &'a [u8],
    offset: i64,
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: Headers<'a>,
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
        self.key
    }

    /// The value; `None` is null, a tombstone.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// The headers.
    #[inline]
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }

    /// Where its content stands in the body of its batch, which is below 4 GiB.
    #[inline]
    pub(crate) fn place(&self) -> std::ops::Range<u32> {
        let start = (self.content.as_ptr() as usize - self.body.as_ptr() as usize) as u32;
        start..start + self.content.len() as u32
    }

    /// Keeps the record: one reference count on the batch's bytes, which stay in memory as long as the record does.
    #[inline]
    pub fn to_owned(&self) -> OwnedRecord {
        OwnedRecord::new(self.body.slice_ref(self.content), self.offset, self.timestamp)
    }

    /// The same content as a record to be sent, with its timestamp, without partition.
    pub fn to_record(&self) -> Record<'a> {
        let mut record = Record::tombstone();
        record.key = self.key;
        record.value = self.value;
        record.timestamp = (self.timestamp >= 0).then_some(self.timestamp);
        record.headers = self.headers().collect();
        record
    }
}
