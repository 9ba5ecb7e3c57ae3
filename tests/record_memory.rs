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
fn small_frames_do_not_each_move_what_was_inflated_before() {
    // 200 bytes as one that repeats; in lz4 a literal, a match of it, and five more literals.
    let zstd = b"\x28\xb5\x2f\xfd\x20\xc8\x43\x06\0x".repeat(2_000);
    let block = b"\x1fx\x01\0\xac\x50xxxxx";
    let frame =
        [&b"\x04\x22\x4d\x18\x60\x40\x82"[..], &(block.len() as u32).to_le_bytes(), block, &[0; 4]].concat();
    for (codec, id, body) in [("zstd", 4, zstd), ("lz4", 3, frame.repeat(2_000))] {
        let mut bytes = vec![0; 61];
        bytes[8..12].copy_from_slice(&(49 + body.len() as i32).to_be_bytes());
        bytes[16] = 2;
        bytes[22] = id;
        bytes.extend(body);
        let crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        let (bytes, before) = (Bytes::from(bytes), allocations::count());
        let error = Decoded::decode(&bytes, 1 << 30).unwrap_err().to_string();
        let made = allocations::count() - before;
        // It inflates; it only holds no records.
        assert!(error.contains("behind the last record"), "{codec}: {error}");
        assert!(made < 100, "{codec}: {made} allocations");
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
