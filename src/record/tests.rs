//! Vectors of Apache Kafka and librdkafka, and the promises that hold across builder and reader.
use bytes::Bytes;

use super::batch::{BatchHeader, RawBatch, Stamp, batches, restamp, set_place};
use super::builder::{BatchBuilder, control_batch, split};
use super::reader::{ControlRecord, DecodedBatch};
use super::{Compression, Record, TimestampType};

const LIMIT: usize = 1 << 20;
const T0: i64 = 1_700_000_000_000;
const STAMP: Stamp = Stamp { producer_id: 4242, producer_epoch: 7, base_sequence: 100, transactional: true };

pub(super) fn vector(group: &str, name: &str) -> Bytes {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata/record/vectors.json");
    let all: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    unhex(all[group][name].as_str().unwrap_or_else(|| panic!("no vector {group} {name}")))
}

fn unhex(hex: &str) -> Bytes {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

fn decode(bytes: &Bytes) -> DecodedBatch {
    let raw = RawBatch::single(bytes).unwrap();
    raw.verify_crc().unwrap();
    DecodedBatch::decode(&raw, LIMIT).unwrap()
}

type Row = (i64, i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn rows(batch: &DecodedBatch) -> Vec<Row> {
    let rows: Vec<Row> = batch
        .records()
        .map(|record| {
            let headers =
                record.headers().map(|(key, value)| (key.to_vec(), value.map(<[u8]>::to_vec))).collect();
            (
                record.offset(),
                record.timestamp(),
                record.key().map(<[u8]>::to_vec),
                record.value().map(<[u8]>::to_vec),
                headers,
            )
        })
        .collect();
    // Kept records say the same as the views they came from.
    for (view, row) in batch.records().zip(&rows) {
        let kept = view.to_owned();
        assert_eq!((kept.offset(), kept.timestamp()), (row.0, row.1));
        assert_eq!((kept.key(), kept.value()), (row.2.as_deref(), row.3.as_deref()));
        assert!(kept.headers().eq(view.headers()));
        assert_eq!(kept.value_bytes().as_deref(), kept.value());
    }
    rows
}

fn row(offset: i64, timestamp: i64, key: Option<&str>, value: Option<&str>) -> Row {
    (offset, timestamp, key.map(Into::into), value.map(Into::into), Vec::new())
}

#[test]
fn one_record_as_java_writes_it() {
    let expected = vector("batches", "batch.single");
    let mut builder = BatchBuilder::new(0);
    let record = Record::value("value").key("key");
    assert_eq!(builder.size_with(T0, &record), expected.len());
    builder.append(T0, &record);
    assert_eq!(builder.len(), expected.len());
    assert_eq!(builder.seal(Compression::None, None, Stamp::NONE).unwrap(), expected);
    assert_eq!(rows(&decode(&expected)), [row(0, T0, Some("key"), Some("value"))]);
}

#[test]
fn nulls_empties_headers_and_falling_times_as_java_writes_them() {
    let expected = vector("batches", "batch.multi");
    let mut builder = BatchBuilder::new(0);
    builder.append(T0, &Record::value("v1").key("k1").header("h1", "v1").null_header("h2").header("", ""));
    builder.append(T0 + 5, &Record::value("no-key"));
    builder.append(T0 - 10, &Record::tombstone().key("tombstone"));
    builder.append(T0 + 300, &Record::value("").key(""));
    assert_eq!(builder.seal(Compression::None, None, Stamp::NONE).unwrap(), expected);
    let rows = rows(&decode(&expected));
    assert_eq!(rows[0].4, [(b"h1".into(), Some(b"v1".into())), (b"h2".into(), None), (vec![], Some(vec![]))]);
    assert_eq!(rows[2], row(2, T0 - 10, Some("tombstone"), None));
    assert_eq!(rows[3], row(3, T0 + 300, Some(""), Some("")));
}

fn two(stamp: Stamp) -> Bytes {
    let mut builder = BatchBuilder::new(0);
    builder.append(T0, &Record::value("1").key("a"));
    builder.append(T0 + 1, &Record::value("2").key("b"));
    builder.seal(Compression::None, None, stamp).unwrap()
}

#[test]
fn transactional_and_idempotent_batches_as_java_writes_them() {
    assert_eq!(two(STAMP), vector("batches", "batch.txn"));
    let wrap = Stamp { base_sequence: i32::MAX, transactional: false, ..STAMP };
    assert_eq!(two(wrap), vector("batches", "batch.idem.seqwrap"));
    assert_eq!(BatchHeader::parse(&two(wrap)).unwrap().last_sequence(), 0);
    assert_eq!(restamp(two(wrap), STAMP).unwrap(), two(STAMP));
    let shared = two(STAMP);
    let kept = shared.clone();
    assert_eq!(restamp(shared, wrap).unwrap(), two(wrap));
    assert_eq!(kept, two(STAMP), "restamping leaves the bytes of others alone");
}

#[test]
fn control_batches_as_java_writes_them() {
    for (kind, name) in [(ControlRecord::Commit, "batch.commit"), (ControlRecord::Abort, "batch.abort")] {
        let expected = vector("batches", name);
        let batch = decode(&expected);
        assert!(batch.header().is_control() && batch.header().is_transactional());
        assert_eq!(batch.control().unwrap(), Some(kind));
        let mut ours = control_batch(kind, 5, T0, STAMP).to_vec();
        set_place(&mut ours, 10, 3);
        assert_eq!(ours, expected);
    }
}

#[test]
fn log_append_time_overrides_each_records_own() {
    let batch = decode(&vector("batches", "batch.logappend"));
    assert_eq!(batch.header().timestamp_type(), TimestampType::LogAppendTime);
    assert_eq!(rows(&batch), [row(0, 0x1a2_0320_ad2a, Some("key"), Some("value"))]);
}

#[test]
fn a_cut_off_tail_ends_a_record_set_quietly() {
    let mut frames = batches(&vector("record_sets", "log.aborted+plain+partial(full=227)"));
    let all: Vec<RawBatch> = frames.by_ref().map(Result::unwrap).collect();
    assert!(frames.truncated());
    assert_eq!(all.iter().map(|raw| raw.header.base_offset).collect::<Vec<_>>(), [0, 2, 3]);
    assert_eq!(all.last().unwrap().header.next_offset(), 4);
    assert!(all.iter().all(|raw| raw.verify_crc().is_ok()));
    assert_eq!(all[1].header.producer_id, 4242);
    assert_eq!(rows(&DecodedBatch::decode(&all[2], LIMIT).unwrap()), [row(3, T0 + 3, Some("c"), Some("3"))]);
}

#[test]
fn a_batch_splits_in_order_without_loss() {
    let mut builder = BatchBuilder::new(0);
    let values: Vec<String> = (0..9).map(|at| "x".repeat(1 + at * 30)).collect();
    for (at, value) in values.iter().enumerate() {
        builder.append(T0 + at as i64, &Record::value(value).header("at", &at.to_string()));
    }
    let whole = builder.seal(Compression::None, None, STAMP).unwrap();
    let (first, second) = split(&whole, LIMIT).unwrap().unwrap();
    let counts = [first.count(), second.count()];
    let [first, second] =
        [first, second].map(|part| decode(&part.seal(Compression::None, None, STAMP).unwrap()));
    let mut joined = rows(&first);
    joined.extend(
        rows(&second).into_iter().map(|row| (row.0 + i64::from(counts[0]), row.1, row.2, row.3, row.4)),
    );
    assert_eq!(joined, rows(&decode(&whole)));
    assert!(counts.iter().all(|count| *count > 0));

    let (one, _) = split(&two(STAMP), LIMIT).unwrap().unwrap();
    assert_eq!(one.count(), 1);
    assert!(split(&one.seal(Compression::None, None, STAMP).unwrap(), LIMIT).unwrap().is_none());
}

#[test]
fn a_wrong_checksum_is_found() {
    let mut bytes = vector("batches", "batch.single").to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    assert!(RawBatch::single(&bytes.into()).unwrap().verify_crc().is_err());
}

#[test]
fn a_compacted_batch_without_records_still_says_where_to_go_on() {
    let mut header = BatchHeader::parse(&two(STAMP)).unwrap();
    header.count = 0;
    header.last_offset_delta = 41;
    let mut bytes = [0; 61];
    super::batch::finish(&mut bytes, header);
    let batch = decode(&Bytes::copy_from_slice(&bytes));
    assert_eq!((batch.count(), batch.records().count(), batch.next_offset()), (0, 0, 42));
}

#[test]
fn compressed_batches_of_java_and_librdkafka_are_read() {
    for name in ["batch.gzip", "batch.snappy", "batch.lz4", "batch.zstd"] {
        let batch = decode(&vector("batches", name));
        let expected = ["key", "key2"].map(|key| (key, "x".repeat(200)));
        let expected =
            expected.iter().zip(0..).map(|((key, value), at)| row(at, T0 + at, Some(key), Some(value)));
        assert_eq!(rows(&batch), expected.collect::<Vec<_>>(), "{name}");
        assert_eq!(batch.size(), 425);
    }
    let raw = decode(&vector("batches", "batch.snappy.raw.librdkafka"));
    assert_eq!((raw.count(), raw.size()), (3, 345));
    assert_eq!(raw.records().next().unwrap().headers().get("h"), Some(Some(b"v".as_slice())));
}

#[test]
fn what_is_sealed_with_a_codec_is_read_and_what_does_not_shrink_stays() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let mut builder = BatchBuilder::new(0);
        for at in 0..100 {
            builder.append(T0 + at, &Record::value("the same again and again").key(&at.to_string()));
        }
        let plain = builder.len();
        let sealed = builder.seal(codec, None, STAMP).unwrap();
        assert!(sealed.len() < plain);
        let batch = decode(&sealed);
        assert_eq!(batch.header().compression().unwrap(), codec);
        assert_eq!(batch.records().count(), 100);
        let (first, second) = split(&sealed, LIMIT).unwrap().unwrap();
        assert_eq!(first.count() + second.count(), 100);

        let mut builder = BatchBuilder::new(0);
        builder.append(T0, &Record::value("a"));
        let sealed = builder.seal(codec, None, Stamp::NONE).unwrap();
        assert_eq!(decode(&sealed).header().compression().unwrap(), Compression::None);
    }
}

#[test]
fn a_batch_that_inflates_beyond_the_limit_is_refused() {
    let mut builder = BatchBuilder::new(0);
    builder.append(T0, &Record::value(&[0; 5000]));
    let raw = RawBatch::single(&builder.seal(Compression::Gzip, None, STAMP).unwrap()).unwrap();
    assert!(matches!(DecodedBatch::decode(&raw, 4000), Err(super::BatchError::TooLarge { limit: 4000 })));
}

#[test]
fn numbers_around_every_varint_boundary_come_back() {
    let sizes = [
        0,
        1,
        50,
        63,
        64,
        127,
        128,
        3_990,
        7_980,
        7_999,
        8_000,
        8_191,
        8_192,
        16_384,
        1 << 20,
        (1 << 20) + 1,
    ];
    let times = [0, 63, 64, -64, -65, 8_191, 8_192, -8_192, -8_193, 1 << 40, i64::MIN >> 1];
    let bytes = vec![b'x'; 1 << 21];
    let mut builder = BatchBuilder::new(0);
    let mut expected = Vec::new();
    // Enough small records in front that offsets need one, two and three bytes.
    for at in 0..8_200usize {
        expected.push((at % 70, at % 3, T0 + (at as i64 % 5)));
    }
    for value in sizes {
        expected.extend(sizes.map(|key| (value, key.min(9_000), T0)));
        expected.extend(times.map(|time| (value.min(70), 0, T0 + time)));
    }
    for (at, (value, key, time)) in expected.iter().enumerate() {
        let record = Record::value(&bytes[..*value]).key(&bytes[..*key]);
        let size = builder.size_with(*time, &record);
        assert!(at == 0 || builder.try_append(size - 1, *time, &record).is_none());
        assert_eq!(builder.try_append(size, *time, &record), Some(at as i32));
        assert_eq!(builder.len(), size);
    }
    let sealed = builder.seal(Compression::None, None, STAMP).unwrap();
    let batch = DecodedBatch::decode(&RawBatch::single(&sealed).unwrap(), usize::MAX).unwrap();
    let read: Vec<_> = batch
        .records()
        .map(|view| (view.value().unwrap().len(), view.key().unwrap().len(), view.timestamp()))
        .collect();
    assert_eq!(read, expected);
}
