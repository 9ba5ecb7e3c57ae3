//! Promise A1 for record batches, and none of their memory by the record: what building and reading allocate.
#![allow(unsafe_code)]

#[path = "support/allocations.rs"]
mod allocations;

use bytes::Bytes;
use milena::internals::{Builder, Decoded};
use milena::{Compression, Record};

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
/// Contexts of the codecs, which stay for the next batch.
const CONTEXTS: usize = 256 << 10;

fn batch(codec: Compression, value: &[u8], records: usize) -> Bytes {
    let mut builder = Builder::new(value.len() + 100);
    for _ in 0..records {
        builder.try_append(usize::MAX, 1_700_000_000_000, &Record::value(value));
    }
    builder.seal(codec).unwrap()
}

#[test]
fn a_bomb_holds_no_more_than_twice_the_limit() {
    let zeroes = vec![0; 64 << 20];
    for codec in CODECS {
        let bomb = batch(codec, &zeroes, 1);
        let limit = 1 << 20;
        let peak = allocations::peak(|| assert!(Decoded::decode(&bomb, limit).is_err()));
        assert!(peak <= 2 * limit + CONTEXTS, "{codec}: {peak} bytes held with a limit of {limit}");
    }
}

#[test]
fn what_a_small_batch_claims_is_not_allocated() {
    // Any byte of the codec's own header may lie about sizes; the batch's checksum is made to fit.
    for codec in CODECS {
        let honest = batch(codec, &b"abcdefgh".repeat(40), 1);
        assert_ne!(honest[22] & 7, 0, "{codec} was used");
        for at in 61..honest.len().min(61 + 40) {
            for lie in [0x00, 0x0f, 0x7f, 0x80, 0xa0, 0xe0, 0xff] {
                let mut bytes = honest.to_vec();
                bytes[at] = lie;
                let crc = crc32c::crc32c(&bytes[21..]);
                bytes[17..21].copy_from_slice(&crc.to_be_bytes());
                let bytes = Bytes::from(bytes);
                let peak = allocations::peak(|| drop(Decoded::decode(&bytes, 1 << 30)));
                // A block of zstd is 128 KiB at most, a window of gzip and one's own tables 64 KiB.
                assert!(peak <= 4 * CONTEXTS, "{codec}: {peak} bytes for {} with {lie} at {at}", bytes.len());
            }
        }
    }
}

#[test]
fn no_allocation_by_the_record() {
    let value = [b'x'; 100];
    let record = Record::value(&value).key("key");
    let before = allocations::count();
    let mut builder = Builder::new(128 << 10);
    let mut records = 0;
    while builder.try_append(128 << 10, records, &record).is_some() {
        records += 1;
    }
    let bytes = builder.seal(Compression::None).unwrap();
    let built = allocations::count() - before;
    assert!(records > 1000 && built <= 2, "{built} allocations to build {records} records");

    let before = allocations::count();
    let decoded = Decoded::decode(&bytes, usize::MAX).unwrap();
    let sum: usize = decoded.records().map(|record| record.value().unwrap().len()).sum();
    let mut kept = Vec::with_capacity(records as usize);
    kept.extend(decoded.records().map(|record| record.to_owned()));
    let read = allocations::count() - before;
    assert_eq!((sum, kept.len()), (records as usize * 100, records as usize));
    assert!(read <= 2, "{read} allocations to read {records} records twice");
}
