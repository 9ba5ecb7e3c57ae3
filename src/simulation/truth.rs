//! What really is in the logs: decoded as it comes in, and compared with what clients were told.
use std::collections::BTreeMap;
use std::time::Instant;

use bytes::Bytes;

use crate::broker::cluster::{Cluster, Partition};
use crate::record::batch::{BatchHeader, RawBatch};
use crate::record::reader::{ControlRecord, DecodedBatch};

pub(super) const TOPIC: &str = "t";

/// The logs of all partitions of the topic.
#[derive(Debug, Default)]
pub(super) struct Truth(BTreeMap<i32, Log>);

/// One partition.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// By offset.
    pub(super) entries: BTreeMap<i64, Entry>,
    /// Readable once, and gone: with the offset it had.
    gone: Vec<(i64, Entry)>,
    pub(super) start: i64,
    pub(super) end: i64,
    /// Up to where everybody may read, and up to where `read_committed` may.
    pub(super) readable: i64,
    pub(super) stable: i64,
    epoch: i32,
    /// When the leader last changed.
    pub(super) moved: Option<Instant>,
    /// The batches that were taken in: base offset, and where their bytes lie, by which they are told from others.
    batches: BTreeMap<i64, usize>,
    /// Open transactions: producer and first offset.
    open: BTreeMap<i64, i64>,
    /// Where an unclean election cut the log off, how many times that happened.
    pub(super) cut: Option<i64>,
    pub(super) cuts: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) value: String,
    pub(super) control: bool,
    pub(super) aborted: bool,
    compacted: bool,
    /// It was once; an unclean election may have taken the marker away again.
    was_aborted: bool,
    /// Since when everybody may read it, and since when `read_committed` may.
    pub(super) readable_since: Option<Instant>,
    pub(super) stable_since: Option<Instant>,
}

impl Entry {
    /// Whether a reader gets to see it.
    pub(super) fn is_for(&self, committed: bool) -> bool {
        !(self.control || committed && self.aborted)
    }
}

impl Truth {
    pub(super) fn log(&self, partition: i32) -> &Log {
        &self.0[&partition]
    }

    pub(super) fn logs(&self) -> impl Iterator<Item = (i32, &Log)> {
        self.0.iter().map(|(partition, log)| (*partition, log))
    }

    /// Takes in what changed in the cluster.
    pub(super) fn update(&mut self, now: Instant, cluster: &Cluster) {
        let Some(topic) = cluster.topics.get(TOPIC) else { return };
        for (partition, index) in topic.partitions.iter().zip(0..) {
            self.0.entry(index).or_default().update(now, partition);
        }
    }

    /// A batch was taken out by compaction.
    pub(super) fn compacted(&mut self, partition: i32, offsets: std::ops::Range<i64>) {
        if let Some(log) = self.0.get_mut(&partition) {
            for offset in offsets {
                let entry = log.entries.remove(&offset);
                log.gone.extend(entry.map(|entry| (offset, Entry { compacted: true, ..entry })));
            }
        }
    }

    /// An unclean election cut the log off.
    pub(super) fn truncated(&mut self, partition: i32, at: i64) {
        if let Some(log) = self.0.get_mut(&partition) {
            log.cut = Some(at);
            log.cuts += 1;
        }
    }
}

impl Log {
    fn update(&mut self, now: Instant, partition: &Partition) {
        let log = &partition.log;
        if partition.leader_epoch != self.epoch {
            self.epoch = partition.leader_epoch;
            self.moved = Some(now);
            self.follow_truncation(partition);
        }
        if log.end() > self.end {
            let from = self.end;
            for stored in log.batches().skip_while(|stored| stored.next <= from) {
                self.batches.insert(stored.base, stored.bytes.as_ptr() as usize);
                self.take_in(&stored.bytes);
            }
            self.end = log.end();
        }
        if log.start() > self.start {
            self.start = log.start();
            let kept = self.entries.split_off(&self.start);
            self.gone.extend(std::mem::replace(&mut self.entries, kept));
        }
        let readable = partition.high_watermark();
        if readable > self.readable {
            for (_, entry) in self.entries.range_mut(self.readable..readable) {
                entry.readable_since = Some(now);
            }
        }
        let stable = partition.last_stable();
        if stable > self.stable {
            for (_, entry) in self.entries.range_mut(self.stable..stable) {
                entry.stable_since = Some(now);
            }
        }
        (self.readable, self.stable) = (readable, stable);
    }

    /// A new leader may lack the end of the log, and the records there be others.
    fn follow_truncation(&mut self, partition: &Partition) {
        let is_other = |(base, at): &(i64, usize)| self.batches.get(base).is_some_and(|known| known != at);
        let places = partition.log.batches().map(|stored| (stored.base, stored.bytes.as_ptr() as usize));
        let other = places.into_iter().find(is_other).map_or(i64::MAX, |(base, _)| base);
        let kept = partition.log.end().min(self.end).min(other);
        self.batches.split_off(&kept);
        let lost = self.entries.split_off(&kept);
        self.gone.extend(lost.into_iter().filter(|(_, entry)| entry.readable_since.is_some()));
        self.end = kept;
        // Markers may be among what was lost: whose transactions are open or aborted is found out anew.
        self.open.clear();
        self.entries.values_mut().for_each(|entry| entry.aborted = false);
        for stored in partition.log.batches().filter(|stored| stored.next <= kept) {
            self.note(&decode(&stored.bytes));
        }
    }

    /// Where a value lies.
    pub(super) fn place(&self, value: &str) -> Option<i64> {
        self.entries.iter().find(|(_, entry)| entry.value == value).map(|(offset, _)| *offset)
    }

    fn take_in(&mut self, bytes: &Bytes) {
        let batch = decode(bytes);
        for record in batch.records() {
            let entry = Entry {
                value: String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned(),
                control: batch.header().is_control(),
                aborted: false,
                compacted: false,
                was_aborted: false,
                readable_since: None,
                stable_since: None,
            };
            self.entries.insert(record.offset(), entry);
        }
        self.note(&batch);
    }

    /// What a batch says of its producer's transaction.
    fn note(&mut self, batch: &DecodedBatch) {
        let (header, producer) = (batch.header(), batch.header().producer_id);
        if header.is_control() {
            let first = self.open.remove(&producer);
            if let (Some(first), Some(ControlRecord::Abort)) = (first, batch.control().unwrap()) {
                for (_, entry) in self.entries.range_mut(first..header.base_offset) {
                    entry.aborted |= entry.value.starts_with(&format!("txn{producer}-"));
                    entry.was_aborted |= entry.aborted;
                }
            }
        } else if header.is_transactional() {
            self.open.entry(producer).or_insert(header.base_offset);
        }
    }

    /// Checks that `offset` is the next one to be handed out to a reader that stands at `expected`. True if an unclean election took
    /// the record away after it could be read.
    pub(super) fn check_next(
        &self,
        expected: i64,
        offset: i64,
        value: &str,
        committed: bool,
    ) -> Result<bool, String> {
        if offset < expected {
            return Err(format!("C1: offset {offset} comes again, {expected} was due"));
        }
        // What was fetched before it was lost lies behind what was lost with it, not behind what came in its place.
        let is_there = self.entries.get(&offset).is_some_and(|entry| entry.value == value);
        let is_lost = |(at, gone): &(i64, Entry)| *at == offset && gone.value == value && !gone.compacted;
        if is_there || self.cuts == 0 || !self.gone.iter().any(is_lost) {
            self.check_none_between(expected, offset, committed)?;
        }
        let end = if committed { self.stable } else { self.readable };
        let error = match self.entries.get(&offset) {
            // Its commit was cut off after it had been read, and then it was aborted.
            Some(entry) if self.cuts > 0 && entry.stable_since.is_some() && entry.value == value => {
                return Ok(false);
            }
            Some(entry) if !entry.is_for(committed) => format!("{} is aborted or a marker", entry.value),
            Some(entry) if entry.value != value => format!("{} is there", entry.value),
            Some(_) if offset >= end => format!("only what lies before {end} may be read"),
            Some(_) => return Ok(false),
            None => "nothing is there".into(),
        };
        match self.gone.iter().find(|(at, gone)| *at == offset && gone.value == value) {
            // Readers may have fetched it before.
            Some((_, gone)) => Ok(offset >= self.start && !gone.compacted),
            None => Err(format!("C1: {value} is handed out at offset {offset}, but {error}")),
        }
    }

    /// Checks that a reader who goes from one offset to another misses nothing.
    pub(super) fn check_none_between(&self, from: i64, to: i64, committed: bool) -> Result<(), String> {
        if from >= to {
            return Ok(());
        }
        let is_due =
            |entry: &Entry| entry.is_for(committed) && !(committed && self.cuts > 0 && entry.was_aborted);
        match self.entries.range(from..to).find(|(_, entry)| is_due(entry)) {
            Some((offset, entry)) => Err(format!("C1: offset {offset} ({}) was skipped", entry.value)),
            None => Ok(()),
        }
    }
}

fn decode(bytes: &Bytes) -> DecodedBatch {
    let raw = RawBatch { header: BatchHeader::parse(bytes).unwrap(), bytes: bytes.clone() };
    raw.verify_crc().unwrap();
    DecodedBatch::decode(&raw, 1 << 20).unwrap()
}
