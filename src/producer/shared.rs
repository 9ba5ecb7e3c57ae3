//! What the application's threads and the driver of one producer share.
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, oneshot, watch};

use super::config::Options;
use super::delivery::Completion;
use crate::client::Core;
use crate::partitioner::next_sticky;
use crate::state::metadata::{Cluster, Topic};
use crate::state::producer::{Buffer, Buffers, Closed, Counters, Key, Look};

/// Buffers kept for reuse take at most this share of `buffer_memory`.
const POOL_SHARE: usize = 4;

/// Completions kept for reuse.
const MOST_SPENT: usize = 512;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) core: Arc<Core>,
    pub(super) options: Options,
    topics: Mutex<HashMap<Arc<str>, Arc<TopicState>>>,
    table: Mutex<Table>,
    /// Partitions with something new for the driver.
    signalled: Mutex<Vec<Key>>,
    pub(super) wake: Arc<Notify>,
    /// Bytes that batches may still take.
    pub(super) room: Semaphore,
    /// Sends that wait for room.
    pub(super) waiting: AtomicUsize,
    pub(super) slow_sends: AtomicU32,
    pool: Mutex<Vec<Vec<u8>>>,
    /// Completions of settled batches, oldest first, for reuse once their deliveries are gone.
    spent: Mutex<VecDeque<Arc<Completion>>>,
    pub(super) flushes: Mutex<Vec<oneshot::Sender<Vec<Arc<Completion>>>>>,
    pub(super) closing: AtomicBool,
    /// Becomes true when the driver has ended.
    pub(super) ended: watch::Sender<bool>,
    pub(super) counters: Mutex<Counters>,
}

/// All partitions by their key.
#[derive(Debug, Default)]
struct Table {
    partitions: Vec<Arc<PartitionState>>,
    /// New partitions take no records.
    closed: bool,
}

#[derive(Debug)]
pub(super) struct PartitionState {
    pub(super) key: Key,
    pub(super) topic: Arc<str>,
    pub(super) number: i32,
    pub(super) buffer: Mutex<Buffer<Arc<Completion>>>,
    /// Batches opened and not settled.
    pub(super) unsettled: AtomicU32,
    pub(super) writable: AtomicBool,
}

/// A topic as its handles see it.
#[derive(Debug)]
pub(super) struct TopicState {
    pub(super) name: Arc<str>,
    /// Partitions to choose from; 0 until the topic was looked up.
    count: AtomicU32,
    partitions: OnceLock<Segment>,
    /// Where records without a choice of their own go.
    sticky: AtomicU32,
}

/// Partitions that became known at the same time. Reading takes no lock, which is why a topic grows by segments.
#[derive(Debug)]
struct Segment {
    partitions: Box<[Arc<PartitionState>]>,
    next: OnceLock<Box<Segment>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl TopicState {
    fn new(name: Arc<str>) -> Self {
        Self { name, count: AtomicU32::new(0), partitions: OnceLock::new(), sticky: AtomicU32::new(0) }
    }

    #[inline]
    pub(super) fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn partition(&self, number: u32) -> Option<&Arc<PartitionState>> {
        let mut at = number as usize;
        let mut segment = self.partitions.get()?;
        while at >= segment.partitions.len() {
            at -= segment.partitions.len();
            segment = segment.next.get()?;
        }
        segment.partitions.get(at)
    }

    #[inline]
    pub(super) fn sticky(&self, count: u32) -> u32 {
        self.sticky.load(Ordering::Relaxed) % count
    }

    /// Chooses the next sticky partition, unless somebody else has since `left` was read.
    pub(super) fn unstick(&self, left: u32) {
        let count = self.count();
        let writable = |partition: &Arc<PartitionState>| {
            partition.writable.load(Ordering::Relaxed).then(|| partition.unsettled.load(Ordering::Relaxed))
        };
        let queues: Vec<Option<u32>> =
            (0..count).map(|number| self.partition(number).and_then(writable)).collect();
        let next = next_sticky(&queues, rand::random()) as u32;
        let _ = self.sticky.compare_exchange(left, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn len(&self) -> usize {
        let segments =
            std::iter::successors(self.partitions.get(), |segment| segment.next.get().map(|next| &**next));
        segments.map(|segment| segment.partitions.len()).sum()
    }

    fn add(&self, partitions: Vec<Arc<PartitionState>>) {
        let mut segment = Segment { partitions: partitions.into_boxed_slice(), next: OnceLock::new() };
        let mut last = match self.partitions.set(segment) {
            Ok(()) => return,
            Err(back) => {
                segment = back;
                self.partitions.get()
            }
        };
        while let Some(next) = last.and_then(|last| last.next.get()) {
            last = Some(next);
        }
        if let Some(last) = last {
            // Segments are added under the lock of the table only.
            let _ = last.next.set(Box::new(segment));
        }
    }
}

impl Shared {
    pub(super) fn new(core: Arc<Core>, options: Options) -> Self {
        Self {
            core,
            topics: Mutex::default(),
            table: Mutex::default(),
            signalled: Mutex::default(),
            wake: Arc::default(),
            room: Semaphore::new(options.buffer_memory),
            waiting: AtomicUsize::new(0),
            slow_sends: AtomicU32::new(0),
            pool: Mutex::default(),
            spent: Mutex::default(),
            flushes: Mutex::default(),
            closing: AtomicBool::new(false),
            ended: watch::Sender::new(false),
            counters: Mutex::default(),
            options,
        }
    }

    pub(super) fn topic(&self, name: &str) -> Arc<TopicState> {
        let mut topics = lock(&self.topics);
        if let Some(topic) = topics.get(name) {
            return topic.clone();
        }
        let name: Arc<str> = name.into();
        topics.entry(name.clone()).or_insert_with(|| Arc::new(TopicState::new(name))).clone()
    }

    /// Makes what metadata knows of a topic available to its handles.
    pub(super) fn learn(&self, topic: &TopicState, known: &Topic) {
        if known.partitions.is_empty() {
            return;
        }
        let mut table = lock(&self.table);
        let have = topic.len();
        let first = table.partitions.len();
        let closed = table.closed || self.closing.load(Ordering::SeqCst);
        let new: Vec<_> = (have..known.partitions.len())
            .map(|number| {
                let options = &self.options;
                let mut buffer =
                    Buffer::new(options.batch_limit(), options.largest_batch(), options.shares_clock());
                if closed {
                    buffer.close();
                }
                Arc::new(PartitionState {
                    key: first + number - have,
                    topic: topic.name.clone(),
                    number: number as i32,
                    buffer: Mutex::new(buffer),
                    unsettled: AtomicU32::new(0),
                    writable: AtomicBool::new(true),
                })
            })
            .collect();
        if !new.is_empty() {
            table.partitions.extend(new.iter().cloned());
            topic.add(new);
        }
        drop(table);
        for (number, partition) in known.partitions.iter().enumerate() {
            if let Some(state) = topic.partition(number as u32) {
                state.writable.store(partition.leader.is_some(), Ordering::Relaxed);
            }
        }
        if topic.count.swap(known.partitions.len() as u32, Ordering::AcqRel) == 0 {
            topic.unstick(0);
        }
    }

    pub(super) fn learn_all(&self, cluster: &Cluster) {
        let topics: Vec<_> = lock(&self.topics).values().cloned().collect();
        for topic in topics {
            if topic.count() > 0
                && let Some(known) = cluster.topic(&topic.name)
            {
                self.learn(&topic, known);
            }
        }
    }

    /// Partitions from this key on.
    pub(super) fn partitions_from(&self, key: Key) -> Vec<Arc<PartitionState>> {
        lock(&self.table).partitions.get(key..).unwrap_or_default().to_vec()
    }

    /// From now on nothing is appended, neither to partitions that are known nor to those that will be.
    pub(super) fn close_buffers(&self) {
        let partitions = {
            let mut table = lock(&self.table);
            table.closed = true;
            table.partitions.clone()
        };
        for partition in partitions {
            lock(&partition.buffer).close();
        }
    }

    #[inline]
    pub(super) fn signal(&self, key: Key) {
        lock(&self.signalled).push(key);
        self.wake.notify_one();
    }

    /// Swaps the partitions with news for an empty list.
    pub(super) fn signalled(&self, into: &mut Vec<Key>) {
        std::mem::swap(&mut *lock(&self.signalled), into);
    }

    /// Takes memory for a batch if there is any, first from what is `held` already.
    #[inline]
    pub(super) fn reserve(&self, held: &mut usize, bytes: usize) -> bool {
        if let Some(rest) = held.checked_sub(bytes) {
            *held = rest;
            return true;
        }
        let Ok(missing) = u32::try_from(bytes - *held) else { return false };
        match self.room.try_acquire_many(missing) {
            Ok(permit) => {
                permit.forget();
                *held = 0;
                true
            }
            Err(_) => false,
        }
    }

    pub(super) fn release(&self, bytes: usize) {
        if bytes > 0 {
            self.room.add_permits(bytes);
        }
    }

    /// A batch of this partition begins.
    pub(super) fn open(
        &self,
        partition: &PartitionState,
        capacity: usize,
    ) -> (Vec<u8>, Arc<Completion>, Instant) {
        partition.unsettled.fetch_add(1, Ordering::Relaxed);
        let reused = if capacity >= self.options.batch_limit() { lock(&self.pool).pop() } else { None };
        let bytes = reused.unwrap_or_else(|| Vec::with_capacity(capacity));
        let completion =
            self.reuse(partition.number).unwrap_or_else(|| Arc::new(Completion::new(partition.number)));
        (bytes, completion, super::now())
    }

    fn reuse(&self, partition: i32) -> Option<Arc<Completion>> {
        let mut spent = lock(&self.spent);
        // Whoever keeps deliveries keeps it.
        Arc::get_mut(spent.front_mut()?)?.reset(partition);
        spent.pop_front()
    }

    /// The records of this completion are settled.
    pub(super) fn spend(&self, completion: Arc<Completion>) {
        let mut spent = lock(&self.spent);
        if spent.len() == MOST_SPENT {
            spent.pop_front();
        }
        spent.push_back(completion);
    }

    /// Keeps the buffer of a settled batch if it is of full size and nobody else reads it.
    pub(super) fn recycle(&self, bytes: Bytes) {
        let limit = self.options.batch_limit();
        if !bytes.is_unique() || bytes.len() < limit / 2 {
            return;
        }
        let bytes = Vec::from(bytes);
        let mut pool = lock(&self.pool);
        if bytes.capacity() >= limit
            && bytes.capacity() < 2 * limit
            && (pool.len() + 1) * limit <= self.options.buffer_memory / POOL_SHARE
        {
            pool.push(bytes);
        }
    }
}

/// The sender's way to the buffers.
#[derive(Debug)]
pub(super) struct Partitions(pub(super) Vec<Arc<PartitionState>>);

impl Buffers<Arc<Completion>> for Partitions {
    fn look(&mut self, key: Key) -> Look {
        self.0.get(key).map_or_else(Look::default, |partition| lock(&partition.buffer).look())
    }

    fn take(&mut self, key: Key, open_too: bool) -> Option<Closed<Arc<Completion>>> {
        lock(&self.0.get(key)?.buffer).take(open_too)
    }

    fn shrink(&mut self, key: Key, limit: usize) {
        if let Some(partition) = self.0.get(key) {
            lock(&partition.buffer).shrink(limit);
        }
    }
}
