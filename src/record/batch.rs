//! The frame of a batch: header fields, checksum, and how a record set is cut into batches without looking inside.
use bytes::{Bytes, BytesMut};

use super::{BatchError, Compression, TimestampType, legacy};
use crate::protocol::primitives::{Cursor, Malformed};

/// Bytes of the header of a v2 batch.
pub(crate) const HEADER_LEN: usize = 61;
/// Bytes in front of what `length` counts: base offset and length itself.
pub(crate) const PREFIX_LEN: usize = 12;
/// Where the checksummed part of a v2 batch begins.
const CRC_FROM: usize = 21;

const CODEC: i16 = 0b111;
pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
pub(super) const TRANSACTIONAL: i16 = 1 << 4;
pub(super) const CONTROL: i16 = 1 << 5;

/// The fields of a batch header, in their order on the wire.
///
/// For an old message (magic 0 or 1) they are what its fields amount to; see [`legacy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) base_offset: i64,
    /// Bytes behind this field.
    pub(crate) length: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) magic: i8,
    pub(crate) crc: u32,
    pub(crate) attributes: i16,
    /// Offset of the last record, minus the base; compaction may have removed that record, or all.
    pub(crate) last_offset_delta: i32,
    pub(crate) base_timestamp: i64,
    pub(crate) max_timestamp: i64,
    /// -1: none. The only field that says whether the next two mean anything.
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    /// Records in it.
    pub(crate) count: i32,
}

impl BatchHeader {
    /// Reads the header of a v2 batch; what is behind it is not looked at.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        let Some((head, _)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(Malformed { what: "batch header cut off", left: bytes.len() });
        };
        let mut cursor = Cursor::new(head);
        let header = Self {
            base_offset: cursor.i64()?,
            length: cursor.i32()?,
            leader_epoch: cursor.i32()?,
            magic: cursor.i8()?,
            crc: cursor.u32()?,
            attributes: cursor.i16()?,
            last_offset_delta: cursor.i32()?,
            base_timestamp: cursor.i64()?,
            max_timestamp: cursor.i64()?,
            producer_id: cursor.i64()?,
            producer_epoch: cursor.i16()?,
            base_sequence: cursor.i32()?,
            count: cursor.i32()?,
        };
        let wrong = |what| Err(Malformed { what, left: bytes.len() });
        if header.magic != 2 {
            return wrong("not a batch of magic 2");
        }
        if header.length < (HEADER_LEN - PREFIX_LEN) as i32 {
            return wrong("batch length below its header");
        }
        // With these, no sum of offsets below can overflow.
        if header.base_offset < 0 || header.last_offset_delta < 0 || header.base_offset > i64::MAX - (1 << 32)
        {
            return wrong("impossible offsets in a batch header");
        }
        if header.count < 0 || i64::from(header.count) > i64::from(header.last_offset_delta) + 1 {
            return wrong("impossible count of records in a batch header");
        }
        Ok(header)
    }

    /// Writes all fields.
    pub(crate) fn write(&self, head: &mut [u8; HEADER_LEN]) {
        let mut rest: &mut [u8] = head;
        let mut put = |bytes: &[u8]| {
            let (field, behind) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            field.copy_from_slice(bytes);
            rest = behind;
        };
        put(&self.base_offset.to_be_bytes());
        put(&self.length.to_be_bytes());
        put(&self.leader_epoch.to_be_bytes());
        put(&self.magic.to_be_bytes());
        put(&self.crc.to_be_bytes());
        put(&self.attributes.to_be_bytes());
        put(&self.last_offset_delta.to_be_bytes());
        put(&self.base_timestamp.to_be_bytes());
        put(&self.max_timestamp.to_be_bytes());
        put(&self.producer_id.to_be_bytes());
        put(&self.producer_epoch.to_be_bytes());
        put(&self.base_sequence.to_be_bytes());
        put(&self.count.to_be_bytes());
    }

    pub(crate) fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL != 0
    }

    pub(crate) fn is_control(&self) -> bool {
        self.attributes & CONTROL != 0
    }

    pub(crate) fn compression(&self) -> Result<Compression, BatchError> {
        Compression::from_id((self.attributes & CODEC) as u8)
    }

    pub(crate) fn timestamp_type(&self) -> TimestampType {
        if self.attributes & LOG_APPEND_TIME != 0 {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// The offset of its last record, were none removed.
    pub(crate) fn last_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta)
    }

    /// Where reading goes on behind this batch, whatever compaction left of it.
    pub(crate) fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// The sequence number of its last record; sequences wrap from `i32::MAX` to 0.
    #[cfg(any(test, feature = "broker"))]
    pub(crate) fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }

    /// Bytes of the whole batch, header included.
    pub(crate) fn size(&self) -> usize {
        PREFIX_LEN + usize::try_from(self.length).unwrap_or(0)
    }
}

/// The sequence number `count` places behind `sequence`.
pub(crate) fn sequence_after(sequence: i32, count: i32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

/// One frame of a record set: the header that was read and all bytes, header included, still compressed.
#[derive(Clone, Debug)]
pub(crate) struct RawBatch {
    pub(crate) header: BatchHeader,
    pub(crate) bytes: Bytes,
}

impl RawBatch {
    /// Takes exactly one batch, as it stands in a produce request.
    pub(crate) fn single(bytes: &Bytes) -> Result<Self, BatchError> {
        let mut frames = batches(bytes);
        let malformed = |what| BatchError::Malformed(Malformed { what, left: bytes.len() });
        let first = frames.next().ok_or_else(|| malformed("no complete batch"))??;
        if first.bytes.len() == bytes.len() { Ok(first) } else { Err(malformed("more than one batch")) }
    }

    /// Compares the checksum with the bytes.
    pub(crate) fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = match self.header.magic {
            2 => crc32c::crc32c(self.bytes.get(CRC_FROM..).unwrap_or_default()),
            _ => legacy::checksum(&self.bytes),
        };
        let stored = self.header.crc;
        if stored == computed { Ok(()) } else { Err(BatchError::Checksum { stored, computed }) }
    }
}

/// The complete frames of a record set, as a fetch response carries it.
///
/// A last frame that is cut off, as brokers send it when the size limit is reached, ends the iteration quietly;
/// [`Batches::truncated`] tells. A frame that cannot be ends it with an error.
pub(crate) fn batches(bytes: &Bytes) -> Batches {
    Batches { rest: bytes.clone(), failed: false }
}

/// See [`batches`].
#[derive(Clone, Debug)]
pub(crate) struct Batches {
    rest: Bytes,
    failed: bool,
}

impl Batches {
    /// Whether bytes of a frame that is not complete are left. Means something only after the iteration ended.
    #[cfg(any(test, feature = "broker"))]
    pub(crate) fn truncated(&self) -> bool {
        !self.rest.is_empty() && !self.failed
    }

    /// Reads the header of the next frame; `None` if the frame is not complete.
    fn peek(&self) -> Result<Option<BatchHeader>, BatchError> {
        let mut cursor = Cursor::new(&self.rest);
        let (Ok(_), Ok(length), Ok(_), Ok(magic)) = (cursor.i64(), cursor.i32(), cursor.i32(), cursor.i8())
        else {
            return Ok(None);
        };
        let least = match magic {
            2 => HEADER_LEN - PREFIX_LEN,
            0 | 1 => legacy::least_length(magic),
            _ => return Err(cursor.malformed("unknown magic").into()),
        };
        let length = match usize::try_from(length) {
            Ok(length) if length >= least => length,
            _ => return Err(cursor.malformed("impossible length of a batch").into()),
        };
        match self.rest.get(..PREFIX_LEN + length) {
            None => Ok(None),
            Some(frame) if magic == 2 => Ok(Some(BatchHeader::parse(frame)?)),
            Some(frame) => Ok(Some(legacy::header(frame)?)),
        }
    }
}

impl Iterator for Batches {
    type Item = Result<RawBatch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        match self.peek() {
            Ok(None) => None,
            Ok(Some(header)) => Some(Ok(RawBatch { header, bytes: self.rest.split_to(header.size()) })),
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

/// Who wrote a batch, for the broker's duplicate detection and for transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_sequence: i32,
    pub(crate) transactional: bool,
}

impl Stamp {
    /// Neither idempotent nor transactional.
    pub(crate) const NONE: Self =
        Self { producer_id: -1, producer_epoch: -1, base_sequence: -1, transactional: false };
}

/// Gives a sealed batch another producer id, epoch and sequence, and the checksum that goes with them.
///
/// Copies only if somebody else still holds the bytes.
pub(crate) fn restamp(batch: Bytes, stamp: Stamp) -> Result<Bytes, BatchError> {
    change(batch, |header| {
        header.producer_id = stamp.producer_id;
        header.producer_epoch = stamp.producer_epoch;
        header.base_sequence = stamp.base_sequence;
        header.attributes =
            (header.attributes & !TRANSACTIONAL) | if stamp.transactional { TRANSACTIONAL } else { 0 };
    })
}

/// Gives all records of a batch the time at which the log took it.
#[cfg(any(test, feature = "broker"))]
pub(crate) fn set_log_append_time(batch: Bytes, now: i64) -> Result<Bytes, BatchError> {
    change(batch, |header| {
        header.attributes |= LOG_APPEND_TIME;
        header.max_timestamp = now;
    })
}

/// Gives a batch its place in a log. The checksum does not cover these fields.
#[cfg(any(test, feature = "broker"))]
pub(crate) fn set_place(batch: &mut [u8], base_offset: i64, leader_epoch: i32) {
    assert!(batch.len() >= HEADER_LEN, "not a batch");
    batch[..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.to_be_bytes());
}

fn change(batch: Bytes, change: impl FnOnce(&mut BatchHeader)) -> Result<Bytes, BatchError> {
    let mut header = BatchHeader::parse(&batch)?;
    change(&mut header);
    let mut bytes = batch.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    finish(&mut bytes, header);
    Ok(bytes.freeze())
}

/// Writes the header in front of the body that is already there, with the length and checksum that fit.
pub(super) fn finish(batch: &mut [u8], mut header: BatchHeader) {
    header.length = (batch.len() - PREFIX_LEN) as i32;
    let Some((head, body)) = batch.split_first_chunk_mut::<HEADER_LEN>() else { return };
    header.write(head);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&head[CRC_FROM..]), body);
    head[17..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}
