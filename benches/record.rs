//! Building and reading a batch, in ns per record, beside the least code that does the same.
//!
//! `cargo bench --bench record`
//!
//! The variants take turns; each figure is the best of many short rounds, which a busy machine disturbs least.
#![allow(clippy::type_complexity)]
use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;
use milena::internals::{Builder, Decoded};
use milena::{Compression, OwnedRecord, Record};

const RECORDS: usize = 1000;
const T0: i64 = 1_700_000_000_000;
const ROUNDS: usize = 300;

fn main() {
    for size in [10, 100, 1024] {
        let value = vec![b'x'; size];
        let batch = build(&value, Compression::None);
        assert_eq!(batch, floor_build(&value), "the floor writes the same bytes");
        let mut kept: Vec<OwnedRecord> = Vec::with_capacity(RECORDS);
        let mut floor_kept: Vec<(i64, Bytes)> = Vec::with_capacity(RECORDS);
        let mut variants: Vec<(&str, Box<dyn FnMut() + '_>)> = vec![
            ("build, floor", Box::new(|| drop(black_box(floor_build(&value))))),
            ("build", Box::new(|| drop(black_box(build(&value, Compression::None))))),
            (
                "read borrowed, floor",
                Box::new(|| {
                    black_box(floor_read(&batch, |_, value| value.len()));
                }),
            ),
            (
                "read borrowed",
                Box::new(|| {
                    black_box(read(&batch));
                }),
            ),
            (
                "read owned, floor",
                Box::new(|| {
                    floor_kept.clear();
                    floor_read(&batch, |offset, value| {
                        floor_kept.push((offset, batch.slice_ref(value)));
                        0
                    });
                }),
            ),
            (
                "read owned",
                Box::new(|| {
                    kept.clear();
                    let decoded = Decoded::decode(&batch, usize::MAX).unwrap();
                    kept.extend(decoded.records().map(|record| record.to_owned()));
                }),
            ),
        ];
        println!("{size} bytes a record, {RECORDS} records a batch: ns a record");
        let mut best = vec![Duration::MAX; variants.len()];
        for _ in 0..ROUNDS {
            for ((_, run), best) in variants.iter_mut().zip(&mut best) {
                let start = Instant::now();
                run();
                *best = start.elapsed().min(*best);
            }
        }
        for ((name, _), best) in variants.iter().zip(&best) {
            println!("  {name:24} {:7.1}", best.as_nanos() as f64 / RECORDS as f64);
        }
    }
    codecs();
}

fn codecs() {
    let values: Vec<String> = (0..100u64)
        .map(|at| format!("{{\"order\":{},\"customer\":\"c{}\",\"state\":\"paid\"}}", at * 7919, at % 17))
        .collect();
    println!("100 JSON records of about 45 bytes: size of the batch, us to build, us to read");
    for codec in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let build = || {
            let mut builder = Builder::new(16 << 10);
            for value in &values {
                builder.try_append(usize::MAX, T0, &Record::value(value));
            }
            builder.seal(codec).unwrap()
        };
        let batch = build();
        let (mut built, mut was_read) = (Duration::MAX, Duration::MAX);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            black_box(build());
            built = start.elapsed().min(built);
            let start = Instant::now();
            black_box(read(&batch));
            was_read = start.elapsed().min(was_read);
        }
        let us = |time: Duration| time.as_nanos() as f64 / 1e3;
        println!("  {codec:8} {:6} {:7.1} {:7.1}", batch.len(), us(built), us(was_read));
    }
}

fn build(value: &[u8], codec: Compression) -> Bytes {
    let mut builder = Builder::new(RECORDS * (value.len() + 16) + 61);
    for at in 0..RECORDS {
        black_box(builder.try_append(1 << 30, T0 + (at as i64 & 7), &Record::value(black_box(value))));
    }
    builder.seal(codec).unwrap()
}

fn read(batch: &Bytes) -> usize {
    let decoded = Decoded::decode(batch, usize::MAX).unwrap();
    decoded.records().map(|record| black_box(record.value()).map_or(0, <[u8]>::len)).sum()
}

/// Values without keys and headers, and nothing is checked: what any client must at least do.
fn floor_build(value: &[u8]) -> Bytes {
    let mut out = Vec::with_capacity(RECORDS * (value.len() + 16) + 61);
    out.resize(61, 0);
    for at in 0..RECORDS as i64 {
        let (time, value) = (at & 7, black_box(value));
        let fixed = 4 + varint_len(at << 1) + varint_len((value.len() as i64) << 1);
        varint(&mut out, ((fixed + value.len()) as i64) << 1);
        out.extend_from_slice(&[0, (time << 1) as u8]);
        varint(&mut out, at << 1);
        out.push(1);
        varint(&mut out, (value.len() as i64) << 1);
        out.extend_from_slice(value);
        out.push(0);
    }
    let length = out.len() as i32 - 12;
    out[8..12].copy_from_slice(&length.to_be_bytes());
    out[12..17].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 2]);
    out[23..27].copy_from_slice(&(RECORDS as i32 - 1).to_be_bytes());
    out[27..35].copy_from_slice(&T0.to_be_bytes());
    out[35..43].copy_from_slice(&(T0 + 7).to_be_bytes());
    out[43..57].fill(0xff);
    out[57..61].copy_from_slice(&(RECORDS as i32).to_be_bytes());
    let crc = crc32c::crc32c(&out[21..]);
    out[17..21].copy_from_slice(&crc.to_be_bytes());
    out.into()
}

fn varint_len(value: i64) -> usize {
    match value {
        ..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

fn varint(out: &mut Vec<u8>, mut value: i64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Checksum and one walk that trusts all it reads.
fn floor_read(batch: &Bytes, mut each: impl FnMut(i64, &[u8]) -> usize) -> usize {
    let stored = u32::from_be_bytes(batch[17..21].try_into().unwrap());
    assert_eq!(crc32c::crc32c(&batch[21..]), stored);
    let base = i64::from_be_bytes(batch[..8].try_into().unwrap());
    let mut rest = &batch[61..];
    let mut sum = 0;
    for _ in 0..RECORDS {
        take_varint(&mut rest);
        rest = &rest[1..];
        take_varint(&mut rest);
        let offset = base + (take_varint(&mut rest) >> 1) as i64;
        let key = take_varint(&mut rest) as u32;
        rest = &rest[if key == 1 { 0 } else { key as usize >> 1 }..];
        let len = (take_varint(&mut rest) >> 1) as usize;
        sum += each(offset, black_box(&rest[..len]));
        rest = &rest[len + 1..];
    }
    sum
}

fn take_varint(rest: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let byte = rest[0];
        *rest = &rest[1..];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return value;
        }
        shift += 7;
    }
}
