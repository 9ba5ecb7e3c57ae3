//! Zstandard, both directions in safe Rust. Why this crate and not another: `guide/architecture_codecs.md`.
use zstd_rs::{CompressionConfig, Compressor, Decompressor, Error, FrameHeader, MAX_LEVEL, MIN_LEVEL};

use super::super::BatchError;
use super::{Pool, make_room};

const NAME: &str = "zstd";
/// Kafka's default for `compression.zstd.level`.
const DEFAULT_LEVEL: i32 = 3;
/// The most that one block of a frame can inflate to.
const BLOCK: u64 = 128 << 10;

/// What the decoder may write behind the end of what it inflates.
const SLACK: usize = 64;

static COMPRESSORS: Pool<Compressor> = Pool::new();
static DECOMPRESSORS: Pool<Box<Decompressor>> = Pool::new();

pub(super) fn compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let level = match level.unwrap_or(DEFAULT_LEVEL) {
        // As in the reference implementation.
        0 => DEFAULT_LEVEL,
        level => level.clamp(MIN_LEVEL, MAX_LEVEL),
    };
    let config = CompressionConfig { level, ..CompressionConfig::DEFAULT };
    let mut context = match COMPRESSORS.take().filter(|context| *context.config() == config) {
        Some(context) => context,
        None => Compressor::new(config).map_err(|error| BatchError::codec(NAME, error))?,
    };
    context.compress(input, None, out).map_err(|error| BatchError::codec(NAME, error))?;
    COMPRESSORS.put(context);
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut context = DECOMPRESSORS.take().unwrap_or_default();
    let mut out = Vec::new();
    let mut rest = input;
    while !rest.is_empty() {
        reserve(rest, &mut out, limit)?;
        let read = context.decompress_frame(rest, None, limit, &mut out).map_err(|error| match error {
            Error::OutputLimit => BatchError::TooLarge { limit },
            error => BatchError::codec(NAME, error),
        })?;
        rest = rest.get(read..).unwrap_or_default();
    }
    DECOMPRESSORS.put(context);
    Ok(out)
}

/// Makes room for the next frame, and refuses one that claims more than its blocks can hold: the claim is allocated.
fn reserve(frame: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
    // Anything else than a frame (skippable, or garbage) is for the decoder to judge.
    let Ok(header) = FrameHeader::parse(frame) else { return Ok(()) };
    let mut at = header.header_len;
    let mut possible = 0;
    while let Some(&[a, b, c]) = frame.get(at..).and_then(|rest| rest.first_chunk()) {
        let field = u64::from(u32::from_le_bytes([a, b, c, 0]));
        let (last, kind, size) = (field & 1 != 0, (field >> 1) & 3, field >> 3);
        possible += match kind {
            2 => BLOCK,
            _ => size.min(BLOCK),
        };
        at += 3 + if kind == 1 { 1 } else { size as usize };
        if last {
            break;
        }
    }
    if header.content_size.is_some_and(|size| size > possible) {
        return Err(BatchError::codec(NAME, "claims more than its blocks can hold"));
    }
    // Without a size, as Java writes it: four times is what text gives.
    let expected = header.content_size.unwrap_or(possible.min(frame.len() as u64 * 4));
    make_room(out, expected.min((limit - out.len()) as u64) as usize + SLACK, limit.saturating_add(SLACK));
    Ok(())
}
