//! From the buffer to the application: one batch at a time, in order, and a position that moves only with it.
use std::sync::Arc;
use std::time::Instant;

use bytes::Buf;

use super::partition::State;
use super::settings::{IsolationLevel, PositionReset};
use super::{Consumer, Settings};
use crate::error::{Error, ErrorKind};
use crate::record::BatchError;
use crate::record::batch::{RawBatch, batches};
use crate::record::reader::{ControlRecord, DecodedBatch};
use crate::topic_partition::TopicPartition;

/// Times a damaged batch is fetched again before that is an error: bytes may have been damaged on the way.
const REFETCHES: u32 = 2;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Handover {
    Batch(Taken),
    Error(Error),
}

/// The next batch of a partition. It stays in the buffer until [`Consumer::commit`].
#[derive(Debug)]
pub(crate) struct Taken {
    slot: usize,
    version: u64,
    pub(crate) name: TopicPartition,
    pub(crate) raw: RawBatch,
    pub(crate) position: i64,
    pub(crate) high_watermark: i64,
    pub(crate) reset: Option<PositionReset>,
    /// It was written later than this, if that is known.
    pub(crate) after: Option<Instant>,
    aborted: bool,
}

/// What a batch turned out to be.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Records, and how many of the first are not for the application, which began to read in the middle of the batch.
    Records(DecodedBatch, usize),
    /// Emptied by compaction, or of an aborted transaction.
    Nothing,
    Marker(ControlRecord),
}

/// What [`Taken::open`] needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Limits {
    check_crcs: bool,
    max_batch: usize,
}

impl From<&Arc<Settings>> for Limits {
    fn from(settings: &Arc<Settings>) -> Self {
        Self { check_crcs: settings.check_crcs, max_batch: settings.max_batch }
    }
}

impl Taken {
    /// Checks and inflates: the work of the hand-over, done without the machine.
    pub(crate) fn open(&self, limits: &Limits) -> Result<Opened, BatchError> {
        let header = &self.raw.header;
        // What is not handed out is believed only with a right checksum, whatever the options say.
        let silent = self.aborted || header.is_control() || header.count == 0;
        if limits.check_crcs || silent {
            self.raw.verify_crc()?;
        }
        if self.aborted || header.count == 0 {
            return Ok(Opened::Nothing);
        }
        let batch = DecodedBatch::decode(&self.raw, limits.max_batch)?;
        if header.is_control() {
            return Ok(batch.control()?.map_or(Opened::Nothing, Opened::Marker));
        }
        let mut before = 0;
        if header.base_offset < self.position {
            before = batch.records().take_while(|record| record.offset() < self.position).count();
        }
        Ok(if before == batch.count() { Opened::Nothing } else { Opened::Records(batch, before) })
    }
}

impl Consumer {
    /// What to hand out next, if anything is there.
    pub(crate) fn take(&mut self, now: Instant) -> Option<Handover> {
        loop {
            if let Some(error) = self.errors.pop_front() {
                return Some(Handover::Error(error));
            }
            let slot = *self.ready.front()?;
            let read_committed = self.settings.isolation == IsolationLevel::ReadCommitted;
            let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut) else {
                self.ready.pop_front();
                continue;
            };
            let Some(segment) = partition.buffer.front_mut().filter(|_| partition.queued) else {
                partition.queued = false;
                self.ready.pop_front();
                continue;
            };
            match batches(&segment.rest).next() {
                Some(Ok(raw)) if raw.header.next_offset() <= partition.position => {
                    // Handed out before: nodes send whole batches, and an old one a whole message set.
                    segment.rest.advance(raw.header.size());
                    partition.buffered -= raw.header.size();
                    self.counts.skipped_bytes += raw.header.size() as u64;
                }
                Some(Ok(raw)) => {
                    let header = &raw.header;
                    let aborted = read_committed
                        && header.is_transactional()
                        && segment.is_aborted(header.producer_id, header.last_offset())
                        && !header.is_control();
                    return Some(Handover::Batch(Taken {
                        slot,
                        version: partition.version,
                        name: partition.name.clone(),
                        position: partition.position,
                        high_watermark: partition.high_watermark,
                        reset: partition.reset,
                        after: segment.after,
                        aborted,
                        raw,
                    }));
                }
                Some(Err(error)) => self.damaged(now, slot, error, None),
                None => {
                    // What is left is the beginning of a batch that the byte limit cut off.
                    partition.buffered -= segment.rest.len();
                    self.counts.cut_bytes += segment.rest.len() as u64;
                    partition.buffer.pop_front();
                    partition.queued = partition.is_ready();
                    self.dirty = true;
                    // The next one's turn.
                    self.ready.pop_front();
                    if partition.queued {
                        self.ready.push_back(slot);
                    }
                }
            }
        }
    }

    /// Ends the hand-over of `taken`: the position moves behind it. Nothing is returned if there is nothing in it for the
    /// application, or if a seek or a removal came in between.
    pub(crate) fn commit(
        &mut self,
        now: Instant,
        taken: &Taken,
        opened: Result<Opened, BatchError>,
    ) -> Option<(DecodedBatch, usize)> {
        let half = self.share_of(taken.slot) / 2;
        let partition = self.partitions.get_mut(taken.slot).and_then(Option::as_mut)?;
        if partition.version != taken.version || partition.held {
            return None;
        }
        let segment = partition.buffer.front_mut()?;
        let (header, size) = (&taken.raw.header, taken.raw.header.size());
        let mut records = None;
        match opened {
            Err(error) => {
                self.damaged(now, taken.slot, error, Some(header.next_offset()));
                return None;
            }
            Ok(Opened::Records(batch, before)) => {
                self.counts.records += (batch.count() - before) as u64;
                self.counts.batches += 1;
                self.counts.delivered_bytes += size as u64;
                partition.reset = None;
                records = Some((batch, before));
            }
            Ok(Opened::Marker(ControlRecord::Other(id))) => {
                let error = Error::new(
                    ErrorKind::Unsupported,
                    format!("unknown control record of type {id} at offset {}", header.base_offset),
                );
                let name = &taken.name;
                partition.behind = Some(header.next_offset());
                self.halt(taken.slot, error.on_partition(name.shared_topic().clone(), name.partition()));
                self.enqueue(taken.slot);
                return None;
            }
            Ok(Opened::Marker(marker)) => {
                if marker == ControlRecord::Abort {
                    segment.end_aborted(header.producer_id);
                }
                self.counts.skipped_bytes += size as u64;
            }
            Ok(Opened::Nothing) => self.counts.skipped_bytes += size as u64,
        }
        segment.rest.advance(size);
        let was_full = partition.buffered > half;
        partition.buffered -= size;
        partition.position = header.next_offset();
        partition.epoch = header.leader_epoch;
        partition.read = true;
        partition.damaged = 0;
        // Room for more, or what had to wait until all was handed out.
        self.dirty |= was_full && partition.buffered <= half;
        if segment.rest.is_empty() {
            partition.buffer.pop_front();
            partition.queued = partition.is_ready();
            self.dirty |= partition.buffer.is_empty();
            self.ready.pop_front();
            if partition.queued {
                self.ready.push_back(taken.slot);
            }
        }
        records
    }

    /// Whether the shell has to look for requests after hand-overs.
    pub(crate) fn has_work(&self) -> bool {
        self.dirty
    }

    /// The batch at the position cannot be read: fetch it again, then halt. `behind` is where the next one begins, as its header says.
    fn damaged(&mut self, now: Instant, slot: usize, error: BatchError, behind: Option<i64>) {
        let version = self.next_version();
        self.drop_buffer(slot);
        let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut) else { return };
        partition.damaged += 1;
        let transient = matches!(error, BatchError::Checksum { .. } | BatchError::Malformed(_));
        let (name, position) = (partition.name.clone(), partition.position);
        let node = partition.replica.map(|(node, _)| node).or(partition.leader);
        if transient && partition.damaged <= REFETCHES {
            tracing::warn!(partition = %name, position, %error, "fetching a damaged batch again");
            partition.restart(version);
            partition.state = State::Fetch;
            self.back_off(now, slot);
        } else {
            let error = Error::from(error);
            let error =
                Error::new(error.kind(), format!("the batch at offset {position} cannot be read: {error}"));
            // A header that is damaged itself must not lead beyond the end.
            let end = partition.high_watermark;
            partition.behind = behind.map(|behind| behind.min(end)).filter(|behind| *behind > position);
            let error = self.of_fetch(error, node, &name);
            self.halt(slot, error);
        }
        self.enqueue(slot);
        self.dirty = true;
    }
}
