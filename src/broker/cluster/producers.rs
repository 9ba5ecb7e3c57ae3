//! What a partition remembers of each producer: its epoch and its last batches.
use std::collections::{BTreeMap, VecDeque};

use crate::protocol::error_code::ErrorCode;
use crate::record::batch::BatchHeader;

/// How many batches of a producer are remembered: as many as it may have in flight.
const REMEMBERED: usize = 5;

#[derive(Debug, Default, Clone)]
pub(crate) struct Producers(BTreeMap<i64, Producer>);

#[derive(Debug, Clone)]
struct Producer {
    epoch: i16,
    batches: VecDeque<Seen>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    first: i32,
    last: i32,
    base_offset: i64,
    max_timestamp: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Append,
    /// It is in the log already, from this offset on, and with this timestamp, which Kafka then reports as that of
    /// the append.
    Duplicate(i64, i64),
}

impl Producers {
    /// Whether a batch follows what its producer wrote before.
    ///
    /// `forgiving` is what brokers are since Kafka 2.5 (KIP-360): a producer they know nothing of may begin anywhere.
    pub(crate) fn check(&self, header: &BatchHeader, forgiving: bool) -> Result<Verdict, ErrorCode> {
        let (first, epoch) = (header.base_sequence, header.producer_epoch);
        let Some(producer) = self.0.get(&header.producer_id) else {
            return match first {
                0 => Ok(Verdict::Append),
                _ if forgiving => Ok(Verdict::Append),
                _ => Err(ErrorCode::UNKNOWN_PRODUCER_ID),
            };
        };
        if epoch < producer.epoch {
            return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        let mut last = -1;
        if epoch == producer.epoch {
            let end = header.last_sequence();
            let same = |seen: &&Seen| seen.first == first && seen.last == end;
            if let Some(seen) = producer.batches.iter().find(same) {
                return Ok(Verdict::Duplicate(seen.base_offset, seen.max_timestamp));
            }
            last = producer.batches.back().map_or(-1, |seen| seen.last);
        }
        if first == next(last) { Ok(Verdict::Append) } else { Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) }
    }

    /// A batch (or a transaction marker, which has no sequence) was appended.
    pub(crate) fn record(&mut self, header: &BatchHeader, base_offset: i64) {
        if header.producer_id < 0 {
            return;
        }
        let epoch = header.producer_epoch;
        let producer =
            self.0.entry(header.producer_id).or_insert_with(|| Producer { epoch, batches: VecDeque::new() });
        if epoch > producer.epoch {
            producer.epoch = epoch;
            producer.batches.clear();
        }
        if header.base_sequence >= 0 {
            if producer.batches.len() == REMEMBERED {
                producer.batches.pop_front();
            }
            let seen = Seen {
                first: header.base_sequence,
                last: header.last_sequence(),
                base_offset,
                max_timestamp: header.max_timestamp,
            };
            producer.batches.push_back(seen);
        }
    }

    /// Forgets everything, as a broker does once `producer.id.expiration.ms` has passed.
    pub(crate) fn forget(&mut self) {
        self.0.clear();
    }
}

/// Sequences wrap to 0 after the largest.
fn next(last: i32) -> i32 {
    last.checked_add(1).unwrap_or(0)
}
