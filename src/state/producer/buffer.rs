//! A partition's batches before the sender has them: one open, to which records are appended, and those that are full.
use std::collections::VecDeque;
use std::time::Instant;

use super::Key;
use crate::record::Record;
use crate::record::builder::BatchBuilder;

/// The least memory a new batch gets, so that small records do not make it grow time and again.
const MIN_CAPACITY: usize = 512;

/// How many records of a batch may share one reading of the clock.
const SHARE_CLOCK: u32 = 16;

/// What the application's threads and the sender share of one partition, behind a lock of its own.
///
/// `T` is what the shell wants back when records of the batch are settled.
#[derive(Debug)]
pub(crate) struct Buffer<T> {
    open: Option<Closed<T>>,
    full: VecDeque<Closed<T>>,
    /// Bytes at which a batch is full.
    limit: usize,
    /// Bytes that a batch with one record may have.
    largest: usize,
    /// Memory a new batch starts with: what the last one came to. A busy partition gets all at once, an idle one little.
    capacity: usize,
    /// The last reading of the clock, and how many more records of the open batch may use it.
    time: i64,
    shares: u32,
    share_clock: bool,
    /// Bytes appended since the partition became the topic's sticky one.
    stuck: usize,
    /// Whether the sender was told and has not looked yet.
    signalled: bool,
    closed: bool,
}

/// A batch that takes no more records.
#[derive(Debug)]
pub(crate) struct Closed<T> {
    pub(crate) builder: BatchBuilder,
    pub(crate) tag: T,
    pub(crate) opened: Instant,
    /// Memory that was reserved for it.
    pub(crate) reserved: usize,
}

/// Where a record went.
#[derive(Debug)]
pub(crate) struct Place<T> {
    pub(crate) tag: T,
    /// In the batch, from 0.
    pub(crate) index: u32,
    pub(crate) timestamp: i64,
    /// The sender has to be told: there is something new to see.
    pub(crate) signal: bool,
}

/// Why a record was not appended. Nothing of it is kept.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The sticky partition has had its share: choose another.
    Unstick { signal: bool },
    /// So many bytes have to be reserved first.
    NoRoom { bytes: usize, signal: bool },
    /// By itself it makes a batch of so many bytes.
    TooLarge { size: usize },
    /// The producer is closed.
    Closed,
}

/// What a look at a buffer shows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Look {
    /// Whether there is a full batch.
    pub(crate) full: bool,
    /// When the oldest batch was opened.
    pub(crate) oldest: Option<Instant>,
}

/// How the sender reaches the buffers.
pub(crate) trait Buffers<T> {
    /// Shows what is there; from then on the next change is signalled.
    fn look(&mut self, key: Key) -> Look;
    /// Takes the oldest batch, the open one only with `open_too`.
    fn take(&mut self, key: Key, open_too: bool) -> Option<Closed<T>>;
    /// Batches of more than `limit` bytes are too large for the topic.
    fn shrink(&mut self, key: Key, limit: usize);
}

impl<T: Clone> Buffer<T> {
    /// With `share_clock` the time is not read for every record.
    pub(crate) fn new(limit: usize, largest: usize, share_clock: bool) -> Self {
        Self {
            open: None,
            full: VecDeque::new(),
            limit,
            largest,
            capacity: MIN_CAPACITY,
            time: 0,
            shares: 0,
            share_clock,
            stuck: 0,
            signalled: false,
            closed: false,
        }
    }

    /// Appends a record to the open batch if it fits there, the path of nearly every record: place in the batch, timestamp.
    /// `clock` tells the time in milliseconds since 1970, for a record that has none.
    #[inline]
    pub(crate) fn append_open(
        &mut self,
        record: &Record<'_>,
        clock: impl Fn() -> i64,
    ) -> Option<(T, u32, i64)> {
        let batch = self.open.as_mut()?;
        let timestamp = match record.timestamp {
            Some(timestamp) => timestamp,
            None if self.shares > 0 => {
                self.shares -= 1;
                self.time
            }
            None => {
                self.shares = if self.share_clock { SHARE_CLOCK - 1 } else { 0 };
                self.time = clock();
                self.time
            }
        };
        let limit = batch.reserved.min(self.limit);
        let index = batch.builder.try_append(limit, timestamp, record)?;
        Some((batch.tag.clone(), index as u32, timestamp))
    }

    /// Appends a record wherever it has to go. `reserve` asks for memory and must not wait; `open` makes the buffer, the tag and the time
    /// of a new batch. With `sticky`, the partition may be left instead ([`Refusal::Unstick`]).
    pub(crate) fn append(
        &mut self,
        record: &Record<'_>,
        sticky: bool,
        clock: impl Fn() -> i64,
        mut reserve: impl FnMut(usize) -> bool,
        open: impl FnOnce(usize) -> (Vec<u8>, T, Instant),
    ) -> Result<Place<T>, Refusal> {
        if let Some((tag, index, timestamp)) = self.append_open(record, &clock) {
            return Ok(Place { tag, index, timestamp, signal: false });
        }
        if self.closed {
            return Err(Refusal::Closed);
        }
        let timestamp = record.timestamp.unwrap_or_else(clock);
        if let Some(batch) = &mut self.open {
            let size = batch.builder.size_with(timestamp, record);
            // Doubled, as the buffer itself grows.
            let more = (2 * batch.reserved).min(self.limit).max(size).saturating_sub(batch.reserved);
            if size <= self.limit && reserve(more) {
                batch.reserved += more;
                let index = batch.builder.append(timestamp, record) as u32;
                return Ok(Place { tag: batch.tag.clone(), index, timestamp, signal: false });
            }
        }
        let alone = BatchBuilder::size_alone(record);
        if alone > self.largest {
            return Err(Refusal::TooLarge { size: alone });
        }
        let closed = self.close_open();
        // Nothing is open now. A partition is left between batches only, so that no batch is cut short for it.
        if sticky && self.stuck >= self.limit {
            self.stuck = 0;
            return Err(Refusal::Unstick { signal: closed && self.signal() });
        }
        let reserved = alone.max(self.capacity.min(self.limit));
        if !reserve(reserved) {
            return Err(Refusal::NoRoom { bytes: reserved, signal: closed && self.signal() });
        }
        let (bytes, tag, opened) = open(reserved);
        let mut builder = BatchBuilder::reuse(bytes);
        builder.append(timestamp, record);
        self.shares = 0;
        self.open = Some(Closed { builder, tag: tag.clone(), opened, reserved });
        Ok(Place { tag, index: 0, timestamp, signal: self.signal() })
    }

    /// The open batch takes no more records. Says whether there was one.
    pub(crate) fn close_open(&mut self) -> bool {
        let Some(batch) = self.open.take() else { return false };
        self.learn(&batch);
        self.full.push_back(batch);
        true
    }

    /// Takes no more records at all.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        self.close_open();
    }

    pub(crate) fn look(&mut self) -> Look {
        self.signalled = false;
        let oldest = self.full.front().or(self.open.as_ref());
        Look { full: !self.full.is_empty(), oldest: oldest.map(|batch| batch.opened) }
    }

    pub(crate) fn take(&mut self, open_too: bool) -> Option<Closed<T>> {
        if let Some(batch) = self.full.pop_front() {
            return Some(batch);
        }
        let batch = if open_too { self.open.take() } else { None }?;
        self.learn(&batch);
        Some(batch)
    }

    pub(crate) fn shrink(&mut self, limit: usize) {
        self.limit = self.limit.min(limit.max(MIN_CAPACITY));
    }

    /// All batches that are here, oldest first.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &T> {
        self.full.iter().chain(&self.open).map(|batch| &batch.tag)
    }

    fn learn(&mut self, batch: &Closed<T>) {
        let size = batch.builder.len();
        self.stuck += size;
        // Close to the limit is the limit: the next record did not fit.
        self.capacity = size.next_power_of_two().clamp(MIN_CAPACITY, self.limit.max(MIN_CAPACITY));
    }

    fn signal(&mut self) -> bool {
        !std::mem::replace(&mut self.signalled, true)
    }
}
