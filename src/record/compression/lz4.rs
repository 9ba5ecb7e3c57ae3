//! LZ4 frames: written as Java writes them, read in every form that other clients write.
//!
//! The frame is handled here, over the block codec: no copy through a reader, the limit holds for each block, linked
//! blocks work, and no checksum of the frame is looked at. The batch has its own over the same bytes, and old clients
//! (message format 0) computed the frame's wrongly, so that a reader has to do without anyway.
use lz4_flex::block::{
    CompressTable, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};

use super::super::BatchError;
use super::{Pool, make_room};
use crate::protocol::primitives::Cursor;

const NAME: &str = "lz4";
const MAGIC: u32 = 0x184d_2204;
/// Version 1, independent blocks of 64 KiB at most, no checksums but the header's own.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const BLOCK: usize = 64 << 10;
/// How far back a linked block can reach.
const WINDOW: usize = 64 << 10;
/// In a block's length: its bytes are not compressed.
const STORED: u32 = 1 << 31;
/// A match can double its length for every 255 bytes of output.
const BEST_RATIO: usize = 256;

static TABLES: Pool<CompressTable> = Pool::new();

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    let mut table = TABLES.take().unwrap_or_else(CompressTable::large);
    out.extend_from_slice(&HEADER);
    for block in input.chunks(BLOCK) {
        let start = out.len() + 4;
        out.resize(start + get_maximum_output_size(block.len()), 0);
        let written = compress_into_with_table(block, &mut out[start..], &mut table)
            .map_err(|error| BatchError::codec(NAME, error))?;
        out.truncate(start + written);
        let mut length = written as u32;
        if written >= block.len() {
            out.truncate(start);
            out.extend_from_slice(block);
            length = block.len() as u32 | STORED;
        }
        out[start - 4..start].copy_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(&[0; 4]);
    TABLES.put(table);
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut cursor = Cursor::new(input);
    let mut out = Vec::new();
    while !cursor.is_empty() {
        frame(&mut cursor, &mut out, limit)?;
    }
    Ok(out)
}

/// What a frame's header says.
struct Frame {
    linked: bool,
    block_checksums: bool,
    content_checksum: bool,
    block: usize,
    content: Option<u64>,
}

impl Frame {
    fn read(cursor: &mut Cursor<'_>) -> Result<Self, BatchError> {
        if le32(cursor)? != MAGIC {
            return Err(BatchError::codec(NAME, "not a frame"));
        }
        let (flags, sizes) = (cursor.u8()?, cursor.u8()?);
        let block = match (sizes >> 4) & 7 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            size => return Err(BatchError::codec(NAME, format_args!("unknown block size {size}"))),
        };
        if flags >> 6 != 1 {
            return Err(BatchError::codec(NAME, format_args!("unknown frame version {}", flags >> 6)));
        }
        if flags & 1 != 0 {
            return Err(BatchError::codec(NAME, "needs a dictionary"));
        }
        let content = match flags & 8 {
            0 => None,
            _ => Some(u64::from(le32(cursor)?) | u64::from(le32(cursor)?) << 32),
        };
        let _checksum = cursor.u8()?;
        let (linked, block_checksums, content_checksum) =
            (flags & 0x20 == 0, flags & 0x10 != 0, flags & 4 != 0);
        Ok(Self { linked, block_checksums, content_checksum, block, content })
    }
}

fn frame(cursor: &mut Cursor<'_>, out: &mut Vec<u8>, limit: usize) -> Result<(), BatchError> {
    let frame = Frame::read(cursor)?;
    let begin = out.len();
    let expected = frame.content.and_then(|size| usize::try_from(size).ok());
    // Without a size, three times is what text gives; either way no more than the bytes that are there can make.
    let expected = expected.unwrap_or(cursor.remaining().saturating_mul(3));
    make_room(out, expected.min(cursor.remaining().saturating_mul(BEST_RATIO)).min(limit - begin), limit);
    loop {
        let length = le32(cursor)?;
        if length == 0 {
            break;
        }
        let bytes = cursor.bytes((length & !STORED) as usize)?;
        if bytes.len() > frame.block {
            return Err(BatchError::codec(NAME, "block above the frame's block size"));
        }
        let start = out.len();
        if length & STORED != 0 {
            if bytes.len() > limit - start {
                return Err(BatchError::TooLarge { limit });
            }
            make_room(out, bytes.len(), limit);
            out.extend_from_slice(bytes);
        } else {
            let most = frame.block.min(bytes.len() * BEST_RATIO).min(limit - start);
            make_room(out, most, limit);
            out.resize(start + most, 0);
            let (before, room) = out.split_at_mut(start);
            let inflated = if frame.linked && start > begin {
                decompress_into_with_dict(bytes, room, &before[begin.max(start.saturating_sub(WINDOW))..])
            } else {
                decompress_into(bytes, room)
            };
            match inflated {
                Ok(written) => out.truncate(start + written),
                Err(_) if most == limit - start => return Err(BatchError::TooLarge { limit }),
                Err(error) => return Err(BatchError::codec(NAME, error)),
            }
        }
        if frame.block_checksums {
            cursor.bytes(4)?;
        }
    }
    if frame.content_checksum {
        cursor.bytes(4)?;
    }
    if frame.content.is_some_and(|size| size != (out.len() - begin) as u64) {
        return Err(BatchError::codec(NAME, "other size than the frame says"));
    }
    Ok(())
}

fn le32(cursor: &mut Cursor<'_>) -> Result<u32, BatchError> {
    Ok(cursor.u32()?.swap_bytes())
}
