//! A log that takes batches as a Kafka leader does: sequence numbers checked, the last five batches remembered.
use std::collections::HashMap;

use bytes::Bytes;

use crate::protocol::error_code::ErrorCode;
use crate::record::batch::{BatchHeader, RawBatch, sequence_after};
use crate::record::reader::DecodedBatch;

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) values: Vec<String>,
    producers: HashMap<i64, Producer>,
}

#[derive(Debug, Default)]
struct Producer {
    epoch: i16,
    /// (base sequence, last sequence, offset), newest last.
    batches: Vec<(i32, i32, i64)>,
}

impl Log {
    pub(super) fn append(&mut self, bytes: &Bytes) -> (ErrorCode, i64) {
        let raw = RawBatch::single(bytes).unwrap();
        raw.verify_crc().unwrap();
        let header: BatchHeader = raw.header;
        if header.producer_id >= 0 {
            let fresh = !self.producers.contains_key(&header.producer_id);
            let producer = self.producers.entry(header.producer_id).or_default();
            if header.producer_epoch < producer.epoch {
                return (ErrorCode::INVALID_PRODUCER_EPOCH, -1);
            }
            let last = header.last_sequence();
            let new_epoch = header.producer_epoch > producer.epoch;
            if !new_epoch {
                let same = |batch: &&(i32, i32, i64)| batch.0 == header.base_sequence && batch.1 == last;
                if let Some(batch) = producer.batches.iter().find(same) {
                    return (ErrorCode::NONE, batch.2);
                }
            }
            let expected = match producer.batches.last() {
                _ if new_epoch => Some(0),
                Some(batch) => Some(sequence_after(batch.1, 1)),
                None => None,
            };
            if !fresh && expected.is_some_and(|expected| expected != header.base_sequence) {
                return (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
            }
            producer.epoch = header.producer_epoch;
            if new_epoch {
                producer.batches.clear();
            }
            producer.batches.push((header.base_sequence, last, self.values.len() as i64));
            if producer.batches.len() > 5 {
                producer.batches.remove(0);
            }
        }
        let offset = self.values.len() as i64;
        let decoded = DecodedBatch::decode(&raw, 1 << 20).unwrap();
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        self.values.extend(decoded.records().map(|record| text(record.value())));
        (ErrorCode::NONE, offset)
    }
}
