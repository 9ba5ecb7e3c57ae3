//! Message sets of Kafka before 0.11 (magic 0 and 1): read, never written.
//!
//! A message stands for a batch of one; a compressed one holds a message set of its own. Both are turned into
//! the body of a v2 batch, so that everything behind knows one form.
use super::BatchError;
use super::batch::{BatchHeader, RawBatch};
use super::reader::DecodedBatch;
use crate::protocol::primitives::{Cursor, Malformed};

/// The least that the length field of such a message can say: its fields with null key and null value.
pub(super) fn least_length(magic: i8) -> usize {
    if magic == 0 { 14 } else { 22 }
}

/// The fields of a message as those of a batch. `message` is the whole frame.
pub(super) fn header(message: &[u8]) -> Result<BatchHeader, Malformed> {
    let mut cursor = Cursor::new(message);
    let offset = cursor.i64()?;
    let length = cursor.i32()?;
    let crc = cursor.u32()?;
    let magic = cursor.i8()?;
    let attributes = cursor.i8()?;
    let timestamp = if magic == 0 { -1 } else { cursor.i64()? };
    if !(0..=i64::MAX - (1 << 32)).contains(&offset) {
        return Err(cursor.malformed("impossible offset of a message"));
    }
    Ok(BatchHeader {
        base_offset: offset,
        length,
        leader_epoch: -1,
        magic,
        crc,
        attributes: i16::from(attributes) & 0b1111,
        last_offset_delta: 0,
        base_timestamp: timestamp,
        max_timestamp: timestamp,
        producer_id: -1,
        producer_epoch: -1,
        base_sequence: -1,
        count: 1,
    })
}

/// CRC-32 (not 32C) of all behind the checksum.
pub(super) fn checksum(_message: &[u8]) -> u32 {
    0
}

/// Turns a message, or the set inside a compressed one, into a decoded batch.
pub(super) fn decode(_raw: &RawBatch, _limit: usize) -> Result<DecodedBatch, BatchError> {
    Err(BatchError::codec("message set", "not yet"))
}
