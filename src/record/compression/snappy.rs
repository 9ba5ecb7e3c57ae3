//! Snappy in its two forms: the xerial framing of Java (written and read) and one raw block, as librdkafka writes it (read).
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::super::BatchError;
use super::{Pool, make_room};
use crate::protocol::primitives::Cursor;

const NAME: &str = "snappy";
const MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
/// Magic, version 1, readable by version 1.
const HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
/// As Java: what is compressed as one block.
const BLOCK: usize = 32 << 10;
/// No Snappy block inflates to more: a copy of 64 bytes takes three.
const BEST_RATIO: usize = 22;

static ENCODERS: Pool<Encoder> = Pool::new();

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let mut encoder = ENCODERS.take().unwrap_or_else(Encoder::new);
    out.extend_from_slice(&HEADER);
    for block in input.chunks(BLOCK) {
        let start = out.len() + 4;
        out.resize(start + max_compress_len(block.len()), 0);
        let written =
            encoder.compress(block, &mut out[start..]).map_err(|error| BatchError::codec(NAME, error))?;
        out.truncate(start + written);
        out[start - 4..start].copy_from_slice(&(written as u32).to_be_bytes());
    }
    ENCODERS.put(encoder);
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut out = Vec::new();
    if !input.starts_with(&MAGIC) {
        block(input, &mut out, limit)?;
        return Ok(out);
    }
    let mut cursor = Cursor::new(input);
    cursor.bytes(HEADER.len())?;
    // Of text, Java's blocks shrink to about half.
    out.reserve(input.len().saturating_mul(2).min(limit));
    while !cursor.is_empty() {
        let len =
            usize::try_from(cursor.i32()?).map_err(|_| cursor.malformed("negative length of a block"))?;
        block(cursor.bytes(len)?, &mut out, limit)?;
    }
    Ok(out)
}

fn block(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
    let len = decompress_len(input).map_err(|error| BatchError::codec(NAME, error))?;
    if len > limit - out.len() {
        return Err(BatchError::TooLarge { limit });
    }
    if len > input.len().saturating_mul(BEST_RATIO) {
        return Err(BatchError::codec(NAME, "claims to inflate to more than it can"));
    }
    let start = out.len();
    make_room(out, len, limit);
    out.resize(start + len, 0);
    Decoder::new().decompress(input, &mut out[start..]).map_err(|error| BatchError::codec(NAME, error))?;
    Ok(())
}
