//! Record sets of any age, and what compressed batches hold: a byte that stands for the limit, then the compressed bytes.
use bytes::Bytes;

use super::{LIMIT, ensure};
use crate::Compression;
use crate::record::batch::{self, RawBatch, Stamp};
use crate::record::builder::split;
use crate::record::compression;
use crate::record::reader::DecodedBatch;

/// Reads all that can be read, as a consumer does, whatever the checksums say; whether there was anything.
pub(super) fn batches(set: &Bytes) -> bool {
    let mut some = false;
    for raw in batch::batches(set) {
        let Ok(raw) = raw else { break };
        let _ = raw.verify_crc();
        let Ok(decoded) = DecodedBatch::decode(&raw, LIMIT) else { continue };
        some = true;
        for record in decoded.records() {
            let _ = (record.key(), record.value(), record.headers().last());
        }
        if decoded.header().is_control() {
            let _ = decoded.control();
        }
    }
    some
}

pub(super) fn batches_hold(set: &Bytes) -> Result<(), String> {
    let mut frames = batch::batches(set);
    let mut size = 0;
    for raw in frames.by_ref() {
        let Ok(raw) = raw else { break };
        size += raw.bytes.len();
        ensure!(raw.header.next_offset() > raw.header.base_offset, "{:?} ends before it begins", raw.header);
        if let Ok(decoded) = DecodedBatch::decode(&raw, LIMIT) {
            batch_holds(&raw, &decoded)?;
        }
    }
    ensure!(size <= set.len() && frames.next().is_none(), "the iteration goes on behind its end");
    Ok(())
}

fn batch_holds(raw: &RawBatch, decoded: &DecodedBatch) -> Result<(), String> {
    ensure!(decoded.size() <= LIMIT.max(raw.bytes.len()), "{} bytes above the limit", decoded.size());
    ensure!(decoded.records().count() == decoded.count(), "fewer records than validated");
    let mut next = decoded.header().base_offset;
    for view in decoded.records() {
        ensure!(
            (next..decoded.next_offset()).contains(&view.offset()),
            "offset {} below {next}",
            view.offset()
        );
        next = view.offset() + 1;
        ensure!(view.headers().count() == view.headers().len(), "fewer headers than validated");
        let owned = view.to_owned();
        let same = (owned.key(), owned.value(), owned.offset()) == (view.key(), view.value(), view.offset());
        ensure!(same && owned.headers().eq(view.headers()), "{owned:?} is {view:?}");
        let (key, value, headers) = decoded.content(&view.place());
        ensure!((key, value) == (view.key(), view.value()) && headers.eq(view.headers()), "not at its place");
    }
    if raw.header.magic != 2 {
        return Ok(());
    }
    let changed = |bytes: Result<Bytes, _>| {
        let raw = bytes.and_then(|bytes| RawBatch::single(&bytes)).map_err(|error| error.to_string())?;
        raw.verify_crc().map_err(|error| error.to_string())?;
        let again = DecodedBatch::decode(&raw, LIMIT).map_err(|error| error.to_string())?;
        ensure!(again.body() == decoded.body(), "other records behind a new header");
        Ok(())
    };
    changed(batch::restamp(raw.bytes.clone(), Stamp { base_sequence: 7, ..Stamp::NONE }))?;
    changed(batch::set_log_append_time(raw.bytes.clone(), 1_700_000_000_000))?;
    divided(raw, decoded)
}

/// The halves of a batch have its records, in order.
fn divided(raw: &RawBatch, decoded: &DecodedBatch) -> Result<(), String> {
    let Some((first, second)) = split(&raw.bytes, LIMIT).map_err(|error| error.to_string())? else {
        ensure!(decoded.count() < 2, "{} records were not divided", decoded.count());
        return Ok(());
    };
    let mut whole = decoded.records();
    for half in [first, second] {
        ensure!(!half.is_empty(), "an empty half");
        let sealed = half.seal(Compression::None, None, Stamp::NONE).map_err(|error| error.to_string())?;
        let raw = RawBatch::single(&sealed).map_err(|error| error.to_string())?;
        let half = DecodedBatch::decode(&raw, usize::MAX).map_err(|error| error.to_string())?;
        for (ours, theirs) in half.records().zip(whole.by_ref()) {
            let same = (ours.key(), ours.value(), ours.timestamp())
                == (theirs.key(), theirs.value(), theirs.timestamp());
            ensure!(same && ours.headers().eq(theirs.headers()), "{ours:?} was {theirs:?}");
        }
    }
    ensure!(whole.next().is_none(), "records lost");
    Ok(())
}

const LIMITS: [usize; 6] = [LIMIT, 0, 1, 100, 4096, 1 << 20];

fn inflate(codec: Compression, input: &Bytes) -> Option<(usize, Bytes)> {
    let limit = LIMITS[usize::from(*input.first()?) % LIMITS.len()];
    Some((limit, compression::decompress(codec, &input.slice(1..), limit).ok()?))
}

fn again(codec: Compression, input: &Bytes) -> Result<(), String> {
    let Some((limit, inflated)) = inflate(codec, input) else { return Ok(()) };
    ensure!(inflated.len() <= limit, "{} bytes above the limit of {limit}", inflated.len());
    let packed = Bytes::from(super::compress(codec, &inflated));
    let again = compression::decompress(codec, &packed, inflated.len()).map_err(|error| error.to_string())?;
    ensure!(again == inflated, "other bytes when deflated and inflated again");
    Ok(())
}

macro_rules! codecs {
    ($($name:ident $again:ident $codec:ident;)*) => {$(
        pub(super) fn $name(input: &Bytes) -> bool {
            inflate(Compression::$codec, input).is_some()
        }

        pub(super) fn $again(input: &Bytes) -> Result<(), String> {
            again(Compression::$codec, input)
        }
    )*};
}

codecs! {
    gzip gzip_again Gzip;
    snappy snappy_again Snappy;
    lz4 lz4_again Lz4;
    zstd zstd_again Zstd;
}
