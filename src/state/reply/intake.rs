//! Which request is worked on when: limits for all and for each partition, turns of keys, what is finished.
//!
//! ```text
//!   put --> batches --take--> running --finish--> finished      floor: the lowest that is not
//!                     \--(its key runs)--> chain --(its turn)--> due --/
//! ```
//!
//! Invariants.
//! - At no time more run than the limits allow; of one key of a partition at most one, in order of offsets, if keys have turns.
//! - What waits in one partition holds up no other, unless the limit for all is reached; then partitions take turns.
//! - The floor of a partition never passes what was not finished, whether it runs, waits, or was abandoned.
//! - What waits for its caller (parked) holds no place: a stream that needs credit must not keep the record that grants it from being
//!   read. That is so for a bounded number.
//! - Once a partition is forgotten, what ends late of it changes nothing, also if the partition comes back.
use std::collections::{BTreeMap, HashMap, VecDeque};

use super::tracker::Tracker;
use crate::topic_partition::TopicPartition;

/// What is worked on.
pub(crate) trait Work {
    fn offset(&self) -> i64;
    /// Of equal keys one runs after the other. `None`: of no matter.
    fn key(&self) -> Option<u64>;
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// How many may run at a time.
    pub(crate) total: usize,
    /// Of each partition.
    pub(crate) partition: usize,
    /// Whether keys have turns.
    pub(crate) by_key: bool,
}

/// Names what runs; to be given back once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ticket {
    lane: u64,
    offset: i64,
    key: Option<u64>,
}

/// How many may be parked for each place there is.
const PARKED: usize = 16;

/// See the module. `B` hands out what is left of a batch, in order.
pub(crate) struct Intake<B: Iterator> {
    limits: Limits,
    lanes: BTreeMap<u64, Lane<B>>,
    names: HashMap<TopicPartition, u64>,
    /// Lanes of which something may be taken; each once.
    ready: VecDeque<u64>,
    /// Partitions that were paused and need to be no more.
    resumable: Vec<TopicPartition>,
    running: usize,
    parked: usize,
    numbers: u64,
}

/// A partition, for as long as it is owned.
struct Lane<B: Iterator> {
    name: TopicPartition,
    tracker: Tracker,
    /// What was not taken yet, and the offset behind each.
    batches: VecDeque<(B, i64)>,
    /// By key of those that run: what comes after.
    chains: HashMap<u64, VecDeque<B::Item>>,
    /// Whose turn has come.
    due: VecDeque<B::Item>,
    /// In chains and due.
    waiting: usize,
    /// The parked ones among them.
    running: usize,
    parked: usize,
    /// Among the ready.
    ready: bool,
    paused: bool,
    /// The floor that was told last.
    told: i64,
}

impl<B: ExactSizeIterator<Item: Work>> Lane<B> {
    fn new(name: TopicPartition) -> Self {
        Self {
            name,
            tracker: Tracker::default(),
            batches: VecDeque::new(),
            chains: HashMap::new(),
            due: VecDeque::new(),
            waiting: 0,
            running: 0,
            parked: 0,
            ready: false,
            paused: false,
            told: -1,
        }
    }

    fn take(&mut self, limits: &Limits) -> Option<(i64, Option<u64>, B::Item)> {
        if self.running - self.parked >= limits.partition {
            return None;
        }
        let key = |work: &B::Item| work.key().filter(|_| limits.by_key);
        if let Some(work) = self.due.pop_front() {
            self.waiting -= 1;
            return Some((work.offset(), key(&work), work));
        }
        while let Some((batch, end)) = self.batches.front_mut() {
            let work = batch.next();
            if batch.len() == 0 {
                self.tracker.pass(*end);
                self.batches.pop_front();
            }
            let Some(work) = work else { continue };
            self.tracker.start(work.offset());
            let key = key(&work);
            if let Some(chain) = key.and_then(|key| self.chains.get_mut(&key)) {
                chain.push_back(work);
                self.waiting += 1;
                continue;
            }
            if let Some(key) = key {
                self.chains.insert(key, VecDeque::new());
            }
            return Some((work.offset(), key, work));
        }
        None
    }

    /// Among the ready, if there is something of it.
    fn queue(&mut self, number: u64, ready: &mut VecDeque<u64>) {
        let more = !self.due.is_empty() || !self.batches.is_empty();
        if more && !std::mem::replace(&mut self.ready, true) {
            ready.push_back(number);
        }
    }

    /// It holds as much as it may: no more batches, please.
    fn is_full(&self, limits: &Limits) -> bool {
        !self.batches.is_empty() || self.waiting >= limits.partition.min(limits.total)
    }
}

impl<B: ExactSizeIterator<Item: Work>> Intake<B> {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            lanes: BTreeMap::new(),
            names: HashMap::new(),
            ready: VecDeque::new(),
            resumable: Vec::new(),
            running: 0,
            parked: 0,
            numbers: 0,
        }
    }

    // Commands

    /// A batch of a partition has come, which ends before `end`.
    pub(crate) fn put(&mut self, name: &TopicPartition, batch: B, end: i64) {
        let number = *self.names.entry(name.clone()).or_insert_with(|| {
            self.numbers += 1;
            self.lanes.insert(self.numbers, Lane::new(name.clone()));
            self.numbers
        });
        if let Some(lane) = self.lanes.get_mut(&number) {
            match batch.len() == 0 && lane.batches.is_empty() {
                true => lane.tracker.pass(end),
                false => lane.batches.push_back((batch, end)),
            }
            lane.queue(number, &mut self.ready);
        }
    }

    /// The next that is to run.
    pub(crate) fn take(&mut self) -> Option<(Ticket, B::Item)> {
        while self.running - self.parked < self.limits.total {
            let number = self.ready.pop_front()?;
            let Some(lane) = self.lanes.get_mut(&number) else { continue };
            let taken = lane.take(&self.limits);
            lane.ready = taken.is_some();
            if lane.paused && !lane.is_full(&self.limits) {
                lane.paused = false;
                self.resumable.push(lane.name.clone());
            }
            if let Some((offset, key, work)) = taken {
                self.ready.push_back(number);
                lane.running += 1;
                self.running += 1;
                return Some((Ticket { lane: number, offset, key }, work));
            }
        }
        None
    }

    /// Waits for its caller from now on, if that may be; to be taken back before it is finished. Whether it is so, and whether there is
    /// something to take now.
    pub(crate) fn park(&mut self, ticket: &Ticket) -> (bool, bool) {
        if self.parked >= self.limits.total.saturating_mul(PARKED) {
            return (false, false);
        }
        self.parked += 1;
        if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
            lane.parked += 1;
            lane.queue(ticket.lane, &mut self.ready);
        }
        (true, !self.ready.is_empty())
    }

    /// Goes on, although more may run then than the limits allow: it is in the midst of its work.
    pub(crate) fn unpark(&mut self, ticket: &Ticket) {
        self.parked -= 1;
        if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
            lane.parked -= 1;
        }
    }

    /// What was put last of a partition and not taken yet, and the offset behind it: to be put again without what needs no place.
    pub(crate) fn take_back(&mut self, name: &TopicPartition) -> Option<(B, i64)> {
        self.names.get(name).and_then(|number| self.lanes.get_mut(number))?.batches.pop_back()
    }

    /// It has ended. `done`: it needs not be done again. Whether there is something to take or to resume now.
    pub(crate) fn finish(&mut self, ticket: &Ticket, done: bool) -> bool {
        self.running -= 1;
        if let Some(lane) = self.lanes.get_mut(&ticket.lane) {
            lane.running -= 1;
            if done {
                lane.tracker.finish(ticket.offset);
            }
            if let Some(key) = ticket.key {
                match lane.chains.get_mut(&key).and_then(VecDeque::pop_front) {
                    Some(next) => lane.due.push_back(next),
                    None => _ = lane.chains.remove(&key),
                }
            }
            lane.queue(ticket.lane, &mut self.ready);
        }
        !self.ready.is_empty()
    }

    /// Whether a partition holds as much as it may; it counts as paused then.
    pub(crate) fn pause_if_full(&mut self, name: &TopicPartition) -> bool {
        let Some(lane) = self.names.get(name).and_then(|number| self.lanes.get_mut(number)) else {
            return false;
        };
        lane.paused |= lane.is_full(&self.limits);
        lane.paused
    }

    /// Partitions that were paused and need to be no more.
    pub(crate) fn take_resumable(&mut self) -> Vec<TopicPartition> {
        std::mem::take(&mut self.resumable)
    }

    /// Nothing more of this partition is to run; what runs goes on.
    pub(crate) fn stop(&mut self, name: &TopicPartition) {
        if let Some(lane) = self.names.get(name).and_then(|number| self.lanes.get_mut(number)) {
            lane.batches.clear();
            lane.due.clear();
            lane.chains.clear();
            (lane.waiting, lane.paused) = (0, false);
        }
        self.resumable.retain(|resumable| resumable != name);
    }

    /// Nothing more is to run.
    pub(crate) fn stop_all(&mut self) {
        let names: Vec<_> = self.names.keys().cloned().collect();
        names.iter().for_each(|name| self.stop(name));
    }

    /// This partition is somebody else's.
    pub(crate) fn forget(&mut self, name: &TopicPartition) {
        self.stop(name);
        if let Some(number) = self.names.remove(name) {
            self.lanes.remove(&number);
        }
    }

    /// The floors that have risen since they were told last.
    pub(crate) fn take_floors(&mut self) -> Vec<(TopicPartition, i64)> {
        let risen = self.lanes.values_mut().filter_map(|lane| {
            let floor = lane.tracker.floor().filter(|floor| *floor > lane.told)?;
            lane.told = floor;
            Some((lane.name.clone(), floor))
        });
        risen.collect()
    }

    // Looks

    /// The offset below which everything is finished.
    pub(crate) fn floor(&self, name: &TopicPartition) -> Option<i64> {
        self.lanes.get(self.names.get(name)?)?.tracker.floor()
    }

    /// How many run, of partitions that are forgotten as well.
    pub(crate) fn running(&self) -> usize {
        self.running
    }

    /// Whether none of a partition runs.
    pub(crate) fn is_idle(&self, name: &TopicPartition) -> bool {
        let lane = self.names.get(name).and_then(|number| self.lanes.get(number));
        lane.is_none_or(|lane| lane.running == 0)
    }
}

#[cfg(test)]
mod tests;
