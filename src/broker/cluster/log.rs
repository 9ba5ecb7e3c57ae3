//! The log of one partition: batches in memory, with all that offsets, epochs and transactions need.
use std::collections::{BTreeMap, VecDeque};

use bytes::{BufMut, Bytes, BytesMut};

use super::producers::Producers;
use crate::record::batch::{BatchHeader, RawBatch, set_place};
use crate::record::reader::{ControlRecord, DecodedBatch};

/// Control batches hold one small record.
const MAX_CONTROL: usize = 4096;

#[derive(Debug, Default, Clone)]
pub(crate) struct Log {
    batches: VecDeque<Stored>,
    start: i64,
    end: i64,
    /// Epochs and the offsets they begin at, both rising.
    epochs: Vec<(i32, i64)>,
    pub(crate) producers: Producers,
    /// Open transactions: producer id and first offset.
    open: BTreeMap<i64, i64>,
    /// Ended ones whose marker may not be replicated yet: first offset, and that of the marker.
    ended: Vec<(i64, i64)>,
    aborted: Vec<Aborted>,
}

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) base: i64,
    /// The offset after its last.
    pub(crate) next: i64,
    pub(crate) max_timestamp: i64,
    pub(crate) bytes: Bytes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) producer_id: i64,
    pub(crate) first: i64,
    /// The offset of the marker.
    pub(crate) last: i64,
}

impl Log {
    pub(crate) fn start(&self) -> i64 {
        self.start
    }

    /// The offset the next record will get.
    pub(crate) fn end(&self) -> i64 {
        self.end
    }

    /// The first record of a transaction that is open, or whose marker does not lie before `readable`.
    pub(crate) fn first_unstable(&self, readable: i64) -> Option<i64> {
        let ended = self.ended.iter().filter(|(_, marker)| *marker >= readable).map(|(first, _)| *first);
        self.open.values().copied().chain(ended).min()
    }

    /// What lies before `end` is replicated.
    pub(crate) fn replicated(&mut self, end: i64) {
        self.ended.retain(|(_, marker)| *marker >= end);
    }

    pub(crate) fn batches(&self) -> impl Iterator<Item = &Stored> {
        self.batches.iter()
    }

    /// A new leader takes over.
    pub(crate) fn begin_epoch(&mut self, epoch: i32) {
        let end = self.end;
        self.epochs.retain(|(_, start)| *start < end);
        self.epochs.push((epoch, end));
    }

    /// Appends one batch, gives it offsets, and returns the first of them.
    pub(crate) fn append(&mut self, batch: &RawBatch, epoch: i32) -> i64 {
        let header = BatchHeader { base_offset: self.end, leader_epoch: epoch, ..batch.header };
        let mut bytes = BytesMut::from(&batch.bytes[..]);
        if header.magic == 2 {
            set_place(&mut bytes, header.base_offset, epoch);
        } else if let Some(offset) = bytes.first_chunk_mut() {
            // Messages of old message sets begin with their offset too, and know no epoch.
            *offset = header.base_offset.to_be_bytes();
        }
        let stored = Stored {
            base: header.base_offset,
            next: header.next_offset(),
            max_timestamp: header.max_timestamp,
            bytes: bytes.freeze(),
        };
        self.note(&header, &stored);
        self.end = stored.next;
        self.batches.push_back(stored);
        header.base_offset
    }

    /// Keeps producers and transactions up to date with an appended batch.
    fn note(&mut self, header: &BatchHeader, stored: &Stored) {
        self.producers.record(header, stored.base);
        if header.is_control() {
            if let Some(first) = self.open.remove(&header.producer_id) {
                self.ended.push((first, stored.base));
                if is_abort(header, &stored.bytes) {
                    self.aborted.push(Aborted { producer_id: header.producer_id, first, last: stored.base });
                }
            }
        } else if header.is_transactional() {
            self.open.entry(header.producer_id).or_insert(stored.base);
        }
    }

    /// Index of the batch that holds `offset`, or of the first one after it.
    fn index_of(&self, offset: i64) -> usize {
        self.batches.partition_point(|batch| batch.next <= offset)
    }

    /// Batches from the one that holds `from`, of which none reaches beyond `end`: whole ones of at most
    /// `max_bytes` together. With `at_least_one` the first comes whatever its size, and with `partial` the last may
    /// be cut off, as Kafka does it.
    pub(crate) fn read(
        &self,
        from: i64,
        end: i64,
        max_bytes: usize,
        at_least_one: bool,
        partial: bool,
    ) -> Bytes {
        let first = self.index_of(from);
        let mut size = 0;
        let mut count = 0;
        for batch in self.batches.range(first..).take_while(|batch| batch.next <= end) {
            let with = size + batch.bytes.len();
            if with > max_bytes && !(at_least_one && count == 0) {
                // Kafka shows a cut batch only behind a complete one.
                if partial && count > 0 && max_bytes > size {
                    size = max_bytes;
                    count += 1;
                }
                break;
            }
            size = with;
            count += 1;
        }
        let mut chosen = self.batches.range(first..first + count);
        match (count, chosen.next()) {
            (0, _) | (_, None) => Bytes::new(),
            (1, Some(batch)) => batch.bytes.clone(),
            (_, Some(batch)) => {
                let mut all = BytesMut::with_capacity(size);
                all.put_slice(&batch.bytes);
                for batch in chosen {
                    all.put_slice(&batch.bytes[..batch.bytes.len().min(size - all.len())]);
                }
                all.freeze()
            }
        }
    }

    /// Aborted transactions that concern records from `from` up to, not including, `end`.
    pub(crate) fn aborted(&self, from: i64, end: i64) -> impl Iterator<Item = &Aborted> {
        self.aborted.iter().filter(move |aborted| aborted.last >= from && aborted.first < end)
    }

    /// The batches that may hold the first record with a timestamp of at least `timestamp`, in order.
    pub(crate) fn not_before(&self, timestamp: i64) -> impl Iterator<Item = &Stored> {
        self.batches.iter().filter(move |batch| batch.max_timestamp >= timestamp && batch.next > self.start)
    }

    /// The first batch of those with the largest timestamp.
    pub(crate) fn latest(&self) -> Option<&Stored> {
        let mut latest: Option<&Stored> = None;
        for batch in self.batches.iter().filter(|batch| batch.next > self.start) {
            if latest.is_none_or(|best| batch.max_timestamp > best.max_timestamp) {
                latest = Some(batch);
            }
        }
        latest
    }

    /// The epoch of the batch at `offset`, or of the end of the log.
    pub(crate) fn epoch_at(&self, offset: i64) -> Option<i32> {
        let at = self.epochs.partition_point(|(_, start)| *start <= offset);
        at.checked_sub(1).map(|at| self.epochs[at].0)
    }

    /// The largest epoch not above `epoch` and where it ends, as Kafka answers OffsetForLeaderEpoch: (-1, -1) for an
    /// epoch that is not known yet.
    pub(crate) fn end_of_epoch(&self, epoch: i32, current: i32) -> (i32, i64) {
        if epoch < 0 {
            return (-1, -1);
        }
        if epoch == current {
            return (epoch, self.end);
        }
        let above = self.epochs.partition_point(|(known, _)| *known <= epoch);
        match (above.checked_sub(1), self.epochs.get(above)) {
            (_, None) => (-1, -1),
            (None, Some((_, start))) => (epoch, *start),
            (Some(floor), Some((_, start))) => (self.epochs[floor].0, *start),
        }
    }

    /// Moves the start of the log, as DeleteRecords and retention do. Batches wholly before it disappear.
    pub(crate) fn delete_before(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.end));
        while self.batches.front().is_some_and(|batch| batch.next <= self.start) {
            self.batches.pop_front();
        }
        let start = self.start;
        self.aborted.retain(|aborted| aborted.last >= start);
        // The epoch that holds the start stays, beginning there.
        while self.epochs.get(1).is_some_and(|(_, next)| *next <= start) {
            self.epochs.remove(0);
        }
        if let Some((_, first)) = self.epochs.first_mut() {
            *first = (*first).max(start);
        }
    }

    /// Takes out the batch that holds `offset`, if one does.
    pub(crate) fn remove_batch(&mut self, offset: i64) {
        let at = self.index_of(offset);
        if self.batches.get(at).is_some_and(|batch| batch.base <= offset) {
            self.batches.remove(at);
        }
    }

    /// Cuts off the batch that holds `offset` and all after it, as an unclean leader election does.
    pub(crate) fn truncate(&mut self, offset: i64) {
        let keep = self.index_of(offset);
        if let Some(first_cut) = self.batches.get(keep) {
            self.end = first_cut.base.max(self.start);
        }
        self.batches.truncate(keep);
        let end = self.end;
        self.epochs.retain(|(_, start)| *start < end);
        self.producers.forget();
        self.open.clear();
        self.ended.clear();
        self.aborted.clear();
        let kept = std::mem::take(&mut self.batches);
        for stored in &kept {
            if let Ok(header) = BatchHeader::parse(&stored.bytes) {
                self.note(&header, stored);
            }
        }
        self.batches = kept;
    }
}

/// Whether a control batch says that its transaction was aborted.
fn is_abort(header: &BatchHeader, bytes: &Bytes) -> bool {
    let raw = RawBatch { header: *header, bytes: bytes.clone() };
    let control = DecodedBatch::decode(&raw, MAX_CONTROL).and_then(|batch| batch.control());
    matches!(control, Ok(Some(ControlRecord::Abort)))
}
