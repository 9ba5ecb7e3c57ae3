//! gzip: one member written, any number read.
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::super::BatchError;
use super::Pool;

const NAME: &str = "gzip";
/// zlib's largest window, which is what everybody uses.
const WINDOW_BITS: u8 = 15;
/// What deflate can shrink at best.
const BEST_RATIO: usize = 1032;

/// Only those of the default level: others are made for each batch.
static COMPRESSORS: Pool<Compress> = Pool::new();

pub(super) fn compress(level: Option<i32>, input: &[u8], out: &mut Vec<u8>) -> Result<(), BatchError> {
    // -1 is the default to Kafka as well.
    let level = level.filter(|level| *level >= 0);
    let mut context = match level {
        None => COMPRESSORS.take().unwrap_or_else(|| Compress::new_gzip(Compression::default(), WINDOW_BITS)),
        Some(level) => Compress::new_gzip(Compression::new(level.clamp(0, 9) as u32), WINDOW_BITS),
    };
    loop {
        let read = context.total_in() as usize;
        out.reserve((input.len() - read) / 2 + 256);
        match context.compress_vec(input.get(read..).unwrap_or_default(), out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => break,
            Ok(_) => {}
            Err(error) => return Err(BatchError::codec(NAME, error)),
        }
    }
    if level.is_none() {
        context.reset();
        COMPRESSORS.put(context);
    }
    Ok(())
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, BatchError> {
    let mut rest = input;
    // The last four bytes are the size, if there is one member and nobody lies. One byte more shows that more would come.
    let claimed = rest.last_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    let expected = claimed.min(limit).min(rest.len().saturating_mul(BEST_RATIO));
    let mut out = Vec::with_capacity(expected + 1);
    while !rest.is_empty() {
        let mut context = Decompress::new_gzip(WINDOW_BITS);
        loop {
            let (read, written) = (context.total_in(), out.len());
            let status = context
                .decompress_vec(rest, &mut out, FlushDecompress::None)
                .map_err(|error| BatchError::codec(NAME, error))?;
            let read = (context.total_in() - read) as usize;
            rest = rest.get(read..).unwrap_or_default();
            if out.len() > limit {
                return Err(BatchError::TooLarge { limit });
            }
            if status == Status::StreamEnd {
                break;
            }
            if out.len() == out.capacity() {
                let more = out.capacity().max(4096).min((limit - out.len()).saturating_add(1));
                out.reserve_exact(more);
            } else if read == 0 && out.len() == written {
                return Err(BatchError::codec(NAME, "cut off"));
            }
        }
    }
    Ok(out)
}
