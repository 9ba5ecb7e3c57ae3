//! Bytes that no honest peer sends: no panic, no endless loop, and memory within a fixed multiple.
use bytes::Bytes;
use proptest::prelude::*;

use super::batch::{BatchHeader, RawBatch, Stamp, batches, finish};
use super::builder::BatchBuilder;
use super::reader::DecodedBatch;
use super::tests::vector;
use super::{BatchError, Compression, Record};

const LIMIT: usize = 1 << 16;

/// Reads all that can be read, as a consumer does.
fn read(bytes: &Bytes) -> usize {
    let mut seen = 0;
    let mut frames = batches(bytes);
    for raw in frames.by_ref().map_while(Result::ok) {
        assert!(raw.header.next_offset() > raw.header.base_offset);
        let _ = raw.verify_crc();
        let Ok(batch) = DecodedBatch::decode(&raw, LIMIT) else { continue };
        assert!(batch.size() <= LIMIT.max(raw.bytes.len()));
        assert_eq!(batch.records().count(), batch.count(), "validated records can be read");
        for view in batch.records() {
            assert!((batch.header().base_offset..batch.next_offset()).contains(&view.offset()));
            assert_eq!(view.headers().count(), view.headers().len());
            let owned = view.to_owned();
            assert_eq!((owned.key(), owned.value()), (view.key(), view.value()));
            seen += 1;
        }
        let _ = batch.control();
    }
    assert!(frames.next().is_none(), "the iteration has ended");
    seen
}

fn samples() -> Vec<Bytes> {
    let names = [
        "single",
        "multi",
        "txn",
        "commit",
        "logappend",
        "gzip",
        "snappy",
        "lz4",
        "zstd",
        "snappy.raw.librdkafka",
    ];
    let mut all: Vec<Bytes> = names.iter().map(|name| vector("batches", &format!("batch.{name}"))).collect();
    all.extend(["msgset.v0", "msgset.v1"].map(|name| vector("message_sets", name)));
    all.push(vector("record_sets", "log.aborted+plain+partial(full=227)"));
    all
}

/// Puts a body of one's own behind a header whose checksum fits.
fn batch(count: i32, attributes: i16, body: &[u8]) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    builder.append(0, &Record::value("x"));
    let header = BatchHeader::parse(&builder.seal(Compression::None, None, Stamp::NONE).unwrap()).unwrap();
    let mut bytes = vec![0; 61];
    bytes.extend_from_slice(body);
    finish(&mut bytes, BatchHeader { count, last_offset_delta: count.max(1) - 1, attributes, ..header });
    bytes.into()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn damaged_batches_are_survived(
        sample in any::<prop::sample::Index>(),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..5),
        cut in any::<prop::sample::Index>(),
        twice in any::<bool>(),
    ) {
        let samples = samples();
        let mut bytes = samples[sample.index(samples.len())].to_vec();
        if twice {
            bytes.extend_from_within(..);
        }
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() * 2));
        read(&bytes.into());
    }

    #[test]
    fn any_body_is_survived(
        count in prop_oneof![0..6i32, Just(i32::MAX), Just(100_000)],
        attributes in 0..64i16,
        body in proptest::collection::vec(prop_oneof![0..12u8, any::<u8>()], 0..80),
    ) {
        read(&batch(count, attributes, &body));
    }

    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        read(&bytes.into());
    }

    #[test]
    fn any_records_come_back(
        records in proptest::collection::vec(
            (
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
                any::<i64>(),
                proptest::collection::vec(
                    (proptest::collection::vec(any::<u8>(), 0..5), proptest::option::of(proptest::collection::vec(any::<u8>(), 0..90))),
                    0..4,
                ),
            ),
            1..40,
        ),
        codec in prop::sample::select(vec![Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]),
    ) {
        let mut builder = BatchBuilder::new(100);
        for (at, (key, value, timestamp, headers)) in records.iter().enumerate() {
            let mut record = Record::tombstone().headers(headers.iter().map(|(key, value)| (&key[..], value.as_deref())));
            record.key = key.as_deref();
            record.value = value.as_deref();
            let size = builder.size_with(*timestamp, &record);
            if at > 0 {
                prop_assert_eq!(builder.try_append(size - 1, *timestamp, &record), None);
            }
            prop_assert_eq!(builder.try_append(size, *timestamp, &record), Some(at as i32));
            prop_assert_eq!(builder.len(), size);
        }
        let raw = RawBatch::single(&builder.seal(codec, None, Stamp::NONE).unwrap()).unwrap();
        prop_assert!(raw.verify_crc().is_ok());
        let batch = DecodedBatch::decode(&raw, 1 << 20).unwrap();
        prop_assert_eq!(batch.count(), records.len());
        for (view, (key, value, timestamp, headers)) in batch.records().zip(&records) {
            prop_assert_eq!(view.key(), key.as_deref());
            prop_assert_eq!(view.value(), value.as_deref());
            prop_assert_eq!(view.timestamp(), *timestamp);
            prop_assert!(view.headers().eq(headers.iter().map(|(key, value)| (&key[..], value.as_deref()))));
        }
    }
}

#[test]
fn a_count_above_the_bytes_is_refused_and_allocates_nothing() {
    let raw = RawBatch::single(&batch(i32::MAX, 0, &[0; 40])).unwrap();
    assert!(matches!(DecodedBatch::decode(&raw, LIMIT), Err(BatchError::Record { .. })));
}

#[test]
fn the_last_possible_offset_is_given_to_one_record_only() {
    let record = [0x16, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1, 0x02, b'v', 0];
    let decode = |count, body: &[u8]| {
        let mut bytes = batch(count, 0, body).to_vec();
        let header = BatchHeader::parse(&bytes).unwrap();
        finish(&mut bytes, BatchHeader { last_offset_delta: i32::MAX, ..header });
        DecodedBatch::decode(&RawBatch::single(&bytes.into()).unwrap(), LIMIT).map(|batch| batch.count())
    };
    assert_eq!(decode(1, &record).unwrap(), 1);
    assert!(decode(2, &[record, record].concat()).is_err());
}

#[test]
fn impossible_lengths_end_a_record_set_with_an_error() {
    for length in [i32::MIN, -1, 0, 48] {
        let mut bytes = vector("batches", "batch.single").to_vec();
        bytes[8..12].copy_from_slice(&length.to_be_bytes());
        let mut frames = batches(&bytes.into());
        assert!(frames.next().unwrap().is_err());
        assert!(frames.next().is_none() && !frames.truncated());
    }
    let mut bytes = vector("batches", "batch.single").to_vec();
    bytes[16] = 3;
    assert!(batches(&bytes.into()).next().unwrap().is_err(), "unknown magic");
}

#[test]
fn records_that_do_not_add_up_are_refused() {
    let one = [0x0c, 0, 0, 0, 1, 0x02, b'v', 0];
    let decode = |count, body: &[u8]| {
        DecodedBatch::decode(&RawBatch::single(&batch(count, 0, body)).unwrap(), LIMIT)
            .map(|batch| batch.count())
    };
    let mut fits = one;
    fits[0] = 0x0e;
    assert_eq!(decode(1, &fits).unwrap(), 1);
    assert!(decode(1, &one).is_err(), "record longer than it says");
    assert!(decode(1, &[&fits[..], &[0]].concat()).is_err(), "bytes behind the last record");
    assert!(decode(2, &fits).is_err(), "fewer than the header says");
    assert!(decode(2, &[fits, fits].concat()).is_err(), "two with one offset");
    assert!(decode(1, &[0xff; 5]).is_err(), "length without end");
    assert!(decode(1, &[1]).is_err(), "negative length");
}
