//! Message sets of Kafka before 0.11 (magic 0 and 1): read, never written.
//!
//! A message stands for a batch of one; a compressed one holds a message set of its own. Both are turned into
//! the body of a v2 batch, so that everything behind knows one form.
use bytes::Bytes;

use super::batch::{BatchHeader, LOG_APPEND_TIME, RawBatch};
use super::reader::DecodedBatch;
use super::{BatchError, Compression, Record, builder, compression};
use crate::protocol::primitives::{Cursor, Malformed};

/// The least that the length field of such a message can say: its fields with null key and null value.
pub(super) fn least_length(magic: i8) -> usize {
    if magic == 0 { 14 } else { 22 }
}

/// A message, still compressed if its attributes say so.
struct Message<'a> {
    offset: i64,
    length: i32,
    crc: u32,
    magic: i8,
    attributes: i16,
    /// -1 if it has none, as all of magic 0.
    timestamp: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    /// Takes one message off the front.
    fn read(set: &mut Cursor<'a>) -> Result<Self, Malformed> {
        let offset = set.i64()?;
        let length = set.i32()?;
        let mut cursor =
            Cursor::new(set.bytes(usize::try_from(length).map_err(|_| set.malformed("negative length"))?)?);
        let crc = cursor.u32()?;
        let magic = cursor.i8()?;
        if !(0..=1).contains(&magic) {
            return Err(cursor.malformed("unknown magic of a message"));
        }
        let attributes = i16::from(cursor.i8()?) & 0b1111;
        let timestamp = if magic == 0 { -1 } else { cursor.i64()? };
        let (key, value) = (nullable(&mut cursor)?, nullable(&mut cursor)?);
        if !cursor.is_empty() {
            return Err(cursor.malformed("bytes behind a message"));
        }
        // With this, no sum of offsets can overflow.
        if !(0..=i64::MAX - (1 << 32)).contains(&offset) {
            return Err(cursor.malformed("impossible offset of a message"));
        }
        Ok(Self { offset, length, crc, magic, attributes, timestamp, key, value })
    }

    fn header(&self) -> BatchHeader {
        BatchHeader {
            base_offset: self.offset,
            length: self.length,
            leader_epoch: -1,
            magic: self.magic,
            crc: self.crc,
            attributes: self.attributes,
            last_offset_delta: 0,
            base_timestamp: self.timestamp,
            max_timestamp: self.timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            count: 1,
        }
    }

    /// Appends it in the form of v2.
    fn put(&self, out: &mut Vec<u8>, base: &BatchHeader, offset_delta: i32) {
        let mut record = Record::tombstone();
        record.key = self.key;
        record.value = self.value;
        let timestamp_delta = self.timestamp.wrapping_sub(base.base_timestamp);
        builder::encode(out, usize::MAX, timestamp_delta, offset_delta, &record);
    }
}

fn nullable<'a>(cursor: &mut Cursor<'a>) -> Result<Option<&'a [u8]>, Malformed> {
    match cursor.i32()? {
        -1 => Ok(None),
        len => cursor.bytes(usize::try_from(len).map_err(|_| cursor.malformed("negative length"))?).map(Some),
    }
}

/// The fields of a message as those of a batch: the offset of a compressed one is that of its last record, so that
/// `next_offset` is right before it is inflated.
pub(super) fn header(message: &[u8]) -> Result<BatchHeader, Malformed> {
    Ok(Message::read(&mut Cursor::new(message))?.header())
}

/// Turns a message, or the set inside a compressed one, into a decoded batch.
pub(super) fn decode(raw: &RawBatch, limit: usize) -> Result<DecodedBatch, BatchError> {
    let outer = Message::read(&mut Cursor::new(&raw.bytes))?;
    let codec = outer.header().compression()?;
    if codec == Compression::None {
        let header = outer.header();
        let mut body = Vec::with_capacity(raw.bytes.len());
        outer.put(&mut body, &header, 0);
        return DecodedBatch::from_parts(header, body.into());
    }
    let packed = outer.value.map(|value| raw.bytes.slice_ref(value)).unwrap_or_default();
    let set = compression::decompress(codec, &packed, limit)?;
    decode_set(&outer, &set)
}

/// The messages inside a compressed one.
fn decode_set(outer: &Message<'_>, set: &Bytes) -> Result<DecodedBatch, BatchError> {
    // The first walk finds the last offset, without which those of magic 1 mean nothing: they count from the first
    // message, and the outer message has the offset of the last one.
    let mut cursor = Cursor::new(set);
    let (mut first, mut last, mut count) = (None, 0, 0);
    while !cursor.is_empty() {
        let inner = Message::read(&mut cursor)?;
        if inner.magic != outer.magic || inner.attributes & 0b111 != 0 {
            return Err(cursor
                .malformed("a message inside a compressed one has another magic, or is compressed")
                .into());
        }
        first.get_or_insert((inner.offset, inner.timestamp));
        last = inner.offset;
        count += 1;
    }
    let Some((first, first_timestamp)) = first else {
        return Err(cursor.malformed("a compressed message without messages").into());
    };
    let delta = |offset: i64| {
        i32::try_from(offset.wrapping_sub(first))
            .map_err(|_| cursor.malformed("impossible offsets inside a message"))
    };
    // Only of such a delta is it known that no sum overflows.
    let last_offset_delta = delta(last)?;
    let base_offset = if outer.magic == 0 { first } else { outer.offset - i64::from(last_offset_delta) };
    let mut header = BatchHeader {
        base_offset,
        last_offset_delta,
        base_timestamp: first_timestamp,
        count,
        ..outer.header()
    };
    if base_offset < 0 || header.last_offset() != outer.offset {
        return Err(cursor.malformed("offsets inside a message do not end at its own").into());
    }

    let mut body = Vec::with_capacity(set.len());
    let mut inner = Cursor::new(set);
    while !inner.is_empty() {
        let message = Message::read(&mut inner)?;
        message.put(&mut body, &header, delta(message.offset)?);
        if header.attributes & LOG_APPEND_TIME == 0 {
            header.max_timestamp = header.max_timestamp.max(message.timestamp);
        }
    }
    DecodedBatch::from_parts(header, body.into())
}

/// CRC-32 (IEEE, not 32C) of all behind the checksum.
pub(super) fn checksum(message: &[u8]) -> u32 {
    let behind = message.get(16..).unwrap_or_default();
    !behind.iter().fold(!0, |crc, byte| (crc >> 8) ^ CRC32[usize::from(crc as u8 ^ byte)])
}

const CRC32: [u32; 256] = {
    let mut table = [0; 256];
    let mut at = 0;
    while at < 256 {
        let (mut crc, mut bit) = (at as u32, 0);
        while bit < 8 {
            crc = (crc >> 1) ^ if crc & 1 != 0 { 0xedb8_8320 } else { 0 };
            bit += 1;
        }
        table[at] = crc;
        at += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::super::batch::batches;
    use super::super::tests::vector;
    use super::*;

    const T0: i64 = 1_700_000_000_000;

    /// A message as old clients wrote it.
    fn message(
        magic: i8,
        offset: i64,
        attributes: i8,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Vec<u8> {
        let mut body = vec![magic as u8, attributes as u8];
        if magic == 1 {
            body.extend_from_slice(&timestamp.to_be_bytes());
        }
        for field in [key, value] {
            body.extend_from_slice(&field.map_or(-1, |field| field.len() as i32).to_be_bytes());
            body.extend_from_slice(field.unwrap_or_default());
        }
        let mut out = offset.to_be_bytes().to_vec();
        out.extend_from_slice(&(body.len() as i32 + 4).to_be_bytes());
        let mut whole = vec![0; 16];
        whole.extend_from_slice(&body);
        out.extend_from_slice(&checksum(&whole).to_be_bytes());
        out.extend_from_slice(&body);
        out
    }

    #[allow(clippy::type_complexity)]
    fn read(set: Vec<u8>) -> Result<Vec<(i64, i64, Option<Vec<u8>>)>, BatchError> {
        let mut all = Vec::new();
        for raw in batches(&set.into()) {
            let raw = raw?;
            raw.verify_crc()?;
            let batch = DecodedBatch::decode(&raw, 1 << 20)?;
            assert_eq!(batch.next_offset(), raw.header.next_offset());
            all.extend(
                batch
                    .records()
                    .map(|view| (view.offset(), view.timestamp(), view.value().map(<[u8]>::to_vec))),
            );
        }
        Ok(all)
    }

    fn wrap(magic: i8, offset: i64, attributes: i8, inner: &[Vec<u8>]) -> Vec<u8> {
        let codec = Compression::from_id(attributes as u8 & 7).unwrap();
        let mut packed = Vec::new();
        compression::compress(codec, None, &inner.concat(), &mut packed).unwrap();
        message(magic, offset, attributes, T0 + 99, None, Some(&packed))
    }

    #[test]
    fn messages_as_java_wrote_them() {
        for (name, timestamp) in [("msgset.v0", -1), ("msgset.v1", T0)] {
            let bytes = vector("message_sets", name);
            assert_eq!(read(bytes.to_vec()).unwrap(), [(0, timestamp, Some(b"value".to_vec()))]);
            let magic = i8::from(name == "msgset.v1");
            assert_eq!(message(magic, 0, 0, T0, Some(b"key"), Some(b"value")), bytes);
            let mut damaged = bytes.to_vec();
            *damaged.last_mut().unwrap() ^= 1;
            assert!(matches!(read(damaged), Err(BatchError::Checksum { .. })));
        }
    }

    #[test]
    fn compressed_sets_count_offsets_absolutely_or_from_the_first() {
        for codec in 1..=3 {
            // Magic 0: absolute. A hole, as compaction leaves it.
            let inner = [message(0, 7, 0, 0, None, Some(b"a")), message(0, 9, 0, 0, Some(b"k"), None)];
            let expected = [(7, -1, Some(b"a".to_vec())), (9, -1, None)];
            assert_eq!(read(wrap(0, 9, codec, &inner)).unwrap(), expected);
            // Magic 1: relative to the first.
            let inner = [message(1, 0, 0, T0, None, Some(b"a")), message(1, 2, 0, T0 - 3, None, None)];
            let expected = [(7, T0, Some(b"a".to_vec())), (9, T0 - 3, None)];
            assert_eq!(read(wrap(1, 9, codec, &inner)).unwrap(), expected);
            // The broker's time, which the outer message has.
            let expected = [(7, T0 + 99, Some(b"a".to_vec())), (9, T0 + 99, None)];
            assert_eq!(read(wrap(1, 9, codec | 8, &inner)).unwrap(), expected);
        }
    }

    #[test]
    fn impossible_sets_are_refused() {
        let plain = |magic, offset| message(magic, offset, 0, T0, None, Some(b"a"));
        assert!(read(wrap(1, 9, 1, &[])).is_err(), "empty");
        assert!(read(wrap(1, 9, 1, &[plain(0, 0)])).is_err(), "another magic");
        assert!(read(wrap(1, 9, 1, &[wrap(1, 0, 1, &[plain(1, 0)])])).is_err(), "nested twice");
        assert!(read(wrap(1, 1, 1, &[plain(1, 0), plain(1, 5)])).is_err(), "begins before offset 0");
        assert!(read(wrap(0, 9, 1, &[plain(0, 3)])).is_err(), "ends elsewhere");
        assert!(read(wrap(1, 9, 1, &[plain(1, 5), plain(1, 4)])).is_err(), "falling offsets");
        assert!(read(message(1, 9, 7, T0, None, Some(b"a"))).is_err(), "unknown codec");
        assert!(read(message(1, 9, 1, T0, None, None)).is_err(), "nothing to inflate");
    }

    #[test]
    fn offsets_at_both_ends_of_the_range_do_not_overflow() {
        // Found by tests/fuzz: the first offset was added before it was looked at.
        let most = i64::MAX - (1 << 32);
        let inner = [message(1, most, 0, T0, None, None), message(1, 0, 0, T0, None, None)];
        assert!(read(wrap(1, most, 1, &inner)).is_err());
        let inner = [message(1, 0, 0, T0, None, None), message(1, most, 0, T0, None, None)];
        assert!(read(wrap(1, most, 1, &inner)).is_err());
    }
}
