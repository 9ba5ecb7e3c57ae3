//! A topic that is produced to: the path every record takes.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::Owner;
use super::delivery::Delivery;
use super::shared::{Shared, TopicState, lock};
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;
use crate::state::producer::Refusal;

/// A send that opens a batch, or waits, leaves the thread to others each time so many of them were made.
const SLOW_SENDS_PER_TURN: u32 = 16;

/// One topic of a [`Producer`](super::Producer): what has to be looked up by name is looked up once. Cheap to clone.
///
/// It keeps its producer alive.
#[derive(Debug, Clone)]
pub struct ProducerTopic {
    owner: Arc<Owner>,
    topic: Arc<TopicState>,
}

/// Why a record was not taken at once.
enum Blocked {
    /// The topic has not been looked up.
    Unknown,
    /// The topic does not have so many partitions, as far as is known.
    NoPartition(i32),
    /// So many bytes of memory are missing.
    NoRoom(usize),
    Refused(Error),
}

impl ProducerTopic {
    pub(super) fn new(owner: Arc<Owner>, topic: Arc<TopicState>) -> Self {
        Self { owner, topic }
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.topic.name
    }

    /// Gives a record to the producer; the [`Delivery`] tells what became of it.
    ///
    /// Usually this appends the record to a batch and returns at once. It waits
    ///
    /// - for the topic to be looked up, at the first record, for at most `max_block`; then for a partition that the
    ///   record names and the topic does not have yet;
    /// - for room, when `buffer_memory` is used up, for as long as it takes: there is room again at the latest when the
    ///   oldest records reach their `delivery_timeout`. [`ProducerTopic::try_send`] does not wait.
    ///
    /// A record without a timestamp gets the time of this call. With a `linger` of at most 10 ms the clock is read for every 16th
    /// record of a batch only, so it may be some milliseconds early, and no more than the batch has been open.
    ///
    /// Records of one task to one partition are written in the order in which they were sent.
    ///
    /// # Errors
    /// [`ErrorKind::Record`] if the record is too large or names a partition that does not exist,
    /// [`ErrorKind::Timeout`] if the topic cannot be looked up, [`ErrorKind::Closed`] after
    /// [`Producer::close`](super::Producer::close). The record was then not taken.
    ///
    /// Cancel safe: a future dropped before it is ready has taken nothing.
    #[inline]
    pub async fn send(&self, record: Record<'_>) -> Result<Delivery> {
        match self.append_open(&record) {
            Some(delivery) => Ok(delivery),
            None => self.send_slowly(record).await,
        }
    }

    /// As [`ProducerTopic::send`] without waiting.
    ///
    /// # Errors
    /// Besides those of `send`: an error that [is retriable](Error::is_retriable) if there is no room now, or if the topic has not been
    /// looked up; it is being looked up then.
    pub fn try_send(&self, record: Record<'_>) -> Result<Delivery> {
        if let Some(delivery) = self.append_open(&record) {
            return Ok(delivery);
        }
        self.append(&record, &mut 0).map_err(|blocked| {
            let shared = self.shared();
            match blocked {
                Blocked::Refused(error) => error,
                Blocked::Unknown => {
                    shared.look_up(&self.topic.name);
                    Error::new(ErrorKind::Record, "the topic has not been looked up yet").retriable(true)
                }
                Blocked::NoRoom(_) => {
                    Error::new(ErrorKind::Record, format!("{} are used up", memory(shared))).retriable(true)
                }
                Blocked::NoPartition(number) => {
                    shared.core.refresh();
                    self.no_partition(number)
                }
            }
            .on_topic(self.topic.name.clone())
        })
    }

    /// As [`ProducerTopic::send`], if that takes no waiting whatever.
    pub(crate) fn send_at_once(&self, record: &Record<'_>) -> Option<Delivery> {
        self.append_open(record).or_else(|| self.append(record, &mut 0).ok())
    }

    fn shared(&self) -> &Shared {
        &self.owner.shared
    }

    /// The path of nearly every record, kept short: it fits into what its partition has open.
    #[inline]
    fn append_open(&self, record: &Record<'_>) -> Option<Delivery> {
        let count = self.topic.count();
        if count == 0 {
            return None;
        }
        let number = self.choose(record, count).unwrap_or_else(|| self.topic.sticky(count));
        let partition = self.topic.partition(number).filter(|_| number < count)?;
        let appended = lock(&partition.buffer).append_open(record, || self.shared().core.wall_clock());
        appended.map(|(completion, index, timestamp)| Delivery::new(completion, index, timestamp))
    }

    /// The partition that the record or the partitioner says; neither: the sticky one.
    #[inline]
    fn choose(&self, record: &Record<'_>, count: u32) -> Option<u32> {
        match record.partition {
            Some(number) => Some(u32::try_from(number).unwrap_or(u32::MAX)),
            None => self.shared().options.partitioner.partition(&self.topic.name, record.key, count),
        }
    }

    /// `held` is memory that was reserved for this record; what is not used of it is left there.
    #[cold]
    #[inline(never)]
    fn append(&self, record: &Record<'_>, held: &mut usize) -> Result<Delivery, Blocked> {
        let shared = self.shared();
        let count = self.topic.count();
        if count == 0 {
            return Err(Blocked::Unknown);
        }
        loop {
            let chosen = self.choose(record, count);
            let sticky = chosen.is_none();
            let number = chosen.unwrap_or_else(|| self.topic.sticky(count));
            let Some(partition) = self.topic.partition(number).filter(|_| number < count) else {
                return Err(Blocked::NoPartition(record.partition.unwrap_or(number as i32)));
            };
            let mut buffer = lock(&partition.buffer);
            let refusal = match buffer.append(
                record,
                sticky && count > 1,
                || shared.core.wall_clock(),
                |bytes| shared.reserve(held, bytes),
                |capacity| shared.open(partition, capacity),
            ) {
                Ok(place) => {
                    drop(buffer);
                    if place.signal {
                        shared.signal(partition.key);
                    }
                    return Ok(Delivery::new(place.tag, place.index, place.timestamp));
                }
                Err(refusal) => refusal,
            };
            drop(buffer);
            let (signal, blocked) = match refusal {
                Refusal::Unstick { signal } => {
                    self.topic.unstick(number);
                    (signal, None)
                }
                Refusal::NoRoom { bytes, signal } => (signal, Some(Blocked::NoRoom(bytes))),
                Refusal::Closed => (false, Some(Blocked::Refused(Error::closed("the producer")))),
                Refusal::TooLarge { size } => (false, Some(Blocked::Refused(self.too_large(size)))),
            };
            if signal {
                shared.signal(partition.key);
            }
            if let Some(blocked) = blocked {
                return Err(blocked);
            }
        }
    }

    async fn send_slowly(&self, record: Record<'_>) -> Result<Delivery> {
        // Now and then the driver gets a turn, where it shares a thread with somebody who only sends.
        if self.shared().slow_sends.fetch_add(1, Ordering::Relaxed).is_multiple_of(SLOW_SENDS_PER_TURN) {
            tokio::task::yield_now().await;
        }
        let mut blocked = match self.append(&record, &mut 0) {
            Ok(delivery) => return Ok(delivery),
            Err(blocked) => blocked,
        };
        let shared = self.shared();
        let deadline = super::now() + shared.options.max_block;
        loop {
            let mut held = 0;
            match blocked {
                Blocked::Refused(error) => return Err(error.on_topic(self.topic.name.clone())),
                Blocked::Unknown => shared.resolve(&self.topic, deadline).await?,
                Blocked::NoPartition(number) => self.wait_for_partition(number, deadline).await?,
                Blocked::NoRoom(bytes) => {
                    held = bytes;
                    self.wait_for_room(bytes).await?;
                }
            }
            let appended = self.append(&record, &mut held);
            shared.release(held);
            match appended {
                Ok(delivery) => return Ok(delivery),
                Err(again) => blocked = again,
            }
        }
    }

    async fn wait_for_room(&self, bytes: usize) -> Result<()> {
        /// Counts a send that waits, for as long as it does.
        struct Waits<'a>(&'a Shared);
        impl Drop for Waits<'_> {
            fn drop(&mut self) {
                self.0.waiting.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let shared = self.shared();
        let _waits = Waits(shared);
        if shared.waiting.fetch_add(1, Ordering::SeqCst) == 0 {
            // Batches that linger would keep what is waited for.
            shared.wake.notify_one();
        }
        let permits = u32::try_from(bytes).unwrap_or(u32::MAX);
        match shared.room.acquire_many(permits).await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(Error::closed("the producer").on_topic(self.topic.name.clone())),
        }
        Ok(())
    }

    async fn wait_for_partition(&self, number: i32, deadline: Instant) -> Result<()> {
        let shared = self.shared();
        let mut cluster = shared.core.watch_cluster();
        shared.core.refresh();
        loop {
            if let Some(topic) = shared.core.cluster().topic(&self.topic.name) {
                shared.learn(&self.topic, topic);
            }
            if u32::try_from(number).is_ok_and(|number| number < self.topic.count()) {
                return Ok(());
            }
            let timeout = tokio::time::timeout_at(deadline.into(), cluster.changed());
            if number < 0 || !matches!(timeout.await, Ok(Ok(()))) {
                return Err(self.no_partition(number));
            }
        }
    }

    fn no_partition(&self, number: i32) -> Error {
        let count = self.topic.count();
        Error::new(ErrorKind::Record, format!("there is no such partition, the topic has {count}"))
            .on_partition(self.topic.name.clone(), number)
    }

    #[cold]
    fn too_large(&self, size: usize) -> Error {
        let limit = self.shared().options.largest_batch();
        Error::new(
            ErrorKind::Record,
            format!(
                "the record makes a batch of {size} bytes, more than max_request_size or buffer_memory allow ({limit})"
            ),
        )
    }
}

fn memory(shared: &Shared) -> String {
    format!("{} bytes of buffer_memory", shared.options.buffer_memory)
}
