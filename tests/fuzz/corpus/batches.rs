//! Record sets: Kafka's own from `testdata/`, our builder's in all codecs, message sets of old, and the checksums of all of them.
use flate2::Crc;
use milena::internals::Builder;
use milena::internals::decoders::compress;
use milena::{Compression, Record};

use crate::mutate::NUMBERS;
use crate::random::Random;

pub const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// The vectors of `testdata/record`, of which only message sets or only others.
fn vectors(sets: bool) -> Vec<Vec<u8>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/record/vectors.json");
    let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let groups: &[&str] = if sets { &["message_sets"] } else { &["batches", "record_sets"] };
    let texts = groups.iter().flat_map(|group| all[group].as_object().unwrap().values());
    texts.map(|hex| unhex(hex.as_str().unwrap())).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn built(codec: Compression, records: &[Record<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(1024);
    for (record, at) in records.iter().zip(0..) {
        builder.try_append(usize::MAX, 1_700_000_000_000 + at * 37, record);
    }
    builder.seal(codec).unwrap().to_vec()
}

/// Batches of few and of many records, with and without keys, values and headers.
fn records() -> Vec<Vec<Record<'static>>> {
    let few = vec![
        Record::value("3 apples").key("42").header("trace", "af").null_header("none"),
        Record::tombstone().key("42"),
        Record::value(""),
    ];
    let long: &[u8] = &[b'x'; 700];
    let many = (0..40).map(|_| Record::value("again and again").key("key")).collect();
    vec![vec![Record::value("x")], few, vec![Record::value(long).header("long", long)], many]
}

/// Sets of batches of format 2.
pub fn sets() -> Vec<Vec<u8>> {
    let mut sets = vectors(false);
    for records in records() {
        sets.push(built(Compression::None, &records));
        sets.extend(CODECS.iter().map(|codec| built(*codec, &records)));
    }
    let two = [&sets[0][..], &sets[sets.len() - 1]].concat();
    sets.extend([two[..two.len() - 5].to_vec(), two]);
    sets
}

/// What stands behind the header of a batch, not compressed: the count first, as one byte.
pub fn bodies() -> Vec<Vec<u8>> {
    let body = |records: &Vec<Record<'_>>| {
        let batch = built(Compression::None, records);
        [&[records.len() as u8], &batch[61..]].concat()
    };
    records().iter().map(body).collect()
}

/// A batch around a body, which is compressed on the way: header and checksum are right, what is inside need not be.
pub fn packed(random: &mut Random, mut body: Vec<u8>) -> Vec<u8> {
    let count = if body.is_empty() { 0 } else { body.remove(0) };
    let codec = random.below(5);
    if codec > 0 {
        body = compress(CODECS[codec - 1], &body);
    }
    let flags = *random.pick(&[0, 0, 0, 0, 0x08, 0x10, 0x20, 0x30]);
    let last = if random.once_in(8) { u32::from(random.byte()) } else { u32::from(count).saturating_sub(1) };
    let mut batch = vec![0; 61];
    batch[8..12].copy_from_slice(&(49 + body.len() as u32).to_be_bytes());
    batch[16] = 2;
    batch[22] = codec as u8 | flags;
    batch[23..27].copy_from_slice(&last.to_be_bytes());
    batch[27..43].copy_from_slice(&[0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0, 0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0]);
    batch[43..57].fill(0xff); // no producer
    batch[60] = count;
    batch.extend(body);
    repair(&mut batch);
    batch
}

/// A message of format 0 or 1.
pub fn message(magic: u8, offset: i64, attributes: u8, value: Option<&[u8]>) -> Vec<u8> {
    let mut rest = vec![magic, attributes];
    if magic == 1 {
        rest.extend(1_700_000_000_000i64.to_be_bytes());
    }
    rest.extend(3u32.to_be_bytes());
    rest.extend(b"key");
    rest.extend(value.map_or(-1, |value| value.len() as i32).to_be_bytes());
    rest.extend(value.unwrap_or_default());
    let mut message = offset.to_be_bytes().to_vec();
    message.extend((4 + rest.len() as u32).to_be_bytes());
    message.extend(ieee(&rest).to_be_bytes());
    message.extend(rest);
    message
}

/// Message sets, plain ones and such as were compressed.
pub fn message_sets() -> Vec<Vec<u8>> {
    let mut sets = vectors(true);
    for inner in inner_sets() {
        let last = inner[0];
        sets.push(inner[1..].to_vec());
        for (codec, id) in CODECS.iter().zip(1..=3) {
            let magic = inner[1 + 16];
            sets.push(message(magic, i64::from(last), id, Some(&compress(*codec, &inner[1..]))));
        }
    }
    sets
}

/// What a compressed message holds, behind a byte that says at which offset it ends.
pub fn inner_sets() -> Vec<Vec<u8>> {
    let mut sets = Vec::new();
    for magic in [0, 1] {
        for count in [1, 3, 20] {
            let inner: Vec<u8> = (0..count).flat_map(|at| message(magic, at, 0, Some(b"value"))).collect();
            sets.push([&[count as u8 - 1], &inner[..]].concat());
        }
    }
    sets
}

/// A compressed message around a set; the inner messages carry checksums that nobody looks at.
pub fn packed_set(random: &mut Random, mut inner: Vec<u8>) -> Vec<u8> {
    let last = if inner.is_empty() { 0 } else { inner.remove(0) };
    let last = if random.once_in(4) { *random.pick(&NUMBERS) } else { i64::from(last) };
    let magic = inner.get(16).copied().unwrap_or(1);
    let codec = random.below(3);
    let id = codec as u8 + 1 + if random.once_in(6) { 8 } else { 0 };
    message(magic, last, id, Some(&compress(CODECS[codec], &inner)))
}

/// Makes the checksum fit wherever a batch or a message may begin.
pub fn repair(bytes: &mut [u8]) {
    for at in 0..bytes.len().saturating_sub(26) {
        let length = u32::from_be_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let Some(frame) = bytes[at..].get_mut(..length.saturating_add(12)) else { continue };
        match frame.get(16) {
            Some(2) if length >= 49 => {
                let crc = crc32c::crc32c(&frame[21..]);
                frame[17..21].copy_from_slice(&crc.to_be_bytes());
            }
            Some(0 | 1) if length >= 14 && frame[17] < 16 => {
                let crc = ieee(&frame[16..]);
                frame[12..16].copy_from_slice(&crc.to_be_bytes());
            }
            _ => {}
        }
    }
}

fn ieee(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}
