//! The little of Kafka's protocol that the sink and the floor speak, by hand: non-flexible versions only.
use std::io::{self, Read};

pub const PRODUCE: i16 = 0;
pub const FETCH: i16 = 1;
pub const LIST_OFFSETS: i16 = 2;
pub const METADATA: i16 = 3;
pub const API_VERSIONS: i16 = 18;
pub const INIT_PRODUCER_ID: i16 = 22;

/// What the sink advertises: versions that every client of today still speaks, none of them flexible.
pub const VERSIONS: &[(i16, i16, i16)] = &[
    (PRODUCE, 3, 7),
    (FETCH, 4, 11),
    (LIST_OFFSETS, 1, 5),
    (METADATA, 1, 7),
    (API_VERSIONS, 0, 2),
    (INIT_PRODUCER_ID, 0, 1),
];

pub const TOPIC: &str = "bench";
/// Bytes of a batch before its first record.
pub const BATCH_HEADER: usize = 61;

/// A frame's body, into a buffer that is reused.
pub fn read_frame(from: &mut impl Read, into: &mut Vec<u8>) -> io::Result<()> {
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    into.resize(u32::from_be_bytes(length) as usize, 0);
    from.read_exact(into)
}

/// Reads fields from a body; panics where the bytes end, which here is a bug of the bench.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn take(&mut self, len: usize) -> &'a [u8] {
        let (head, rest) = self.0.split_at(len);
        self.0 = rest;
        head
    }
    pub fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.take(2).try_into().expect("two bytes"))
    }
    pub fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.take(4).try_into().expect("four bytes"))
    }
    pub fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.take(8).try_into().expect("eight bytes"))
    }
    pub fn string(&mut self) -> &'a [u8] {
        let len = self.i16();
        self.take(len.max(0) as usize)
    }
    pub fn bytes(&mut self) -> &'a [u8] {
        let len = self.i32();
        self.take(len.max(0) as usize)
    }
    pub fn varint(&mut self) -> i64 {
        let (mut value, mut shift) = (0u64, 0);
        loop {
            let byte = self.take(1)[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return (value >> 1) as i64 ^ -((value & 1) as i64);
            }
            shift += 7;
        }
    }
}

pub fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    let mut value = ((value << 1) ^ (value >> 63)) as u64;
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A request header of version 1, behind room for the length.
pub fn request(out: &mut Vec<u8>, api: i16, version: i16, correlation: i32) {
    out.clear();
    out.extend([0; 4]);
    out.extend(api.to_be_bytes());
    out.extend(version.to_be_bytes());
    out.extend(correlation.to_be_bytes());
    put_string(out, "bench");
}

/// Writes the length of a frame of which `behind` bytes follow elsewhere.
pub fn finish(out: &mut [u8], behind: usize) {
    let length = (out.len() - 4 + behind) as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
}

/// Appends one record without key and headers.
#[inline]
pub fn put_record(out: &mut Vec<u8>, delta: i64, timestamp_delta: i64, value: &[u8]) {
    let varint =
        |value: i64| (70 - ((((value << 1) ^ (value >> 63)) as u64) | 1).leading_zeros() as usize) / 7;
    let len = 1 + varint(timestamp_delta) + varint(delta) + 1 + varint(value.len() as i64) + value.len() + 1;
    put_varint(out, len as i64);
    out.push(0);
    put_varint(out, timestamp_delta);
    put_varint(out, delta);
    out.push(1); // null key: -1 in zigzag
    put_varint(out, value.len() as i64);
    out.extend_from_slice(value);
    out.push(0);
}

/// Fills the header in that `BATCH_HEADER` bytes were left free for.
pub fn seal(batch: &mut [u8], base_offset: i64, count: i32, timestamp: i64, producer: (i64, i16, i32)) {
    let length = (batch.len() - 12) as i32;
    batch[0..8].copy_from_slice(&base_offset.to_be_bytes());
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    batch[12..16].copy_from_slice(&(-1i32).to_be_bytes());
    batch[16] = 2;
    batch[21..23].copy_from_slice(&0i16.to_be_bytes());
    batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    batch[27..35].copy_from_slice(&timestamp.to_be_bytes());
    batch[35..43].copy_from_slice(&timestamp.to_be_bytes());
    batch[43..51].copy_from_slice(&producer.0.to_be_bytes());
    batch[51..53].copy_from_slice(&producer.1.to_be_bytes());
    batch[53..57].copy_from_slice(&producer.2.to_be_bytes());
    batch[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}
