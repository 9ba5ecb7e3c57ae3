//! What is read, and who leads it: commands of the application, and what metadata says.
use std::sync::Arc;
use std::time::Instant;

use super::partition::{Partition, State};
use super::settings::{Offset, OffsetReset, ResetReason};
use super::{Consumer, ConsumerMetrics, ConsumerNodeMetrics, REFRESH_EVERY};
use crate::error::{Error, ErrorKind};
use crate::topic_partition::TopicPartition;

/// What can be said about a position.
#[derive(Debug, Clone)]
pub(crate) enum Position {
    /// The offset that is handed out next.
    At(i64),
    /// It is being looked up.
    Pending,
    /// It will not become known by itself.
    Failed(Error),
    /// The partition is not assigned.
    Unassigned,
}

impl Consumer {
    /// Reads exactly these. One that was read before goes on unless an offset is given.
    pub(crate) fn assign(&mut self, now: Instant, wanted: &[(TopicPartition, Option<Offset>)]) {
        self.whole.clear();
        self.missing.clear();
        let kept: std::collections::HashSet<_> = wanted.iter().map(|(partition, _)| partition).collect();
        for partition in self.assignment().iter().filter(|partition| !kept.contains(partition)) {
            self.remove(partition);
        }
        for (partition, offset) in wanted {
            self.add(now, partition.clone(), *offset);
        }
    }

    /// Reads all partitions of these topics, also those that are added later.
    pub(crate) fn assign_topics(&mut self, now: Instant, topics: &[Arc<str>]) {
        self.assign(now, &[]);
        self.whole = topics.iter().map(|topic| (topic.clone(), false)).collect();
        self.grow(now);
        self.dirty = true;
    }

    /// Reads this one too; true if it was not read before.
    pub(crate) fn add(&mut self, now: Instant, name: TopicPartition, offset: Option<Offset>) -> bool {
        self.dirty = true;
        if let Some(slot) = self.slot(name.topic(), name.partition()) {
            if let Some(offset) = offset {
                self.seek_slot(slot, offset);
            }
            return false;
        }
        let slot = self.insert(name);
        self.begin(slot, offset);
        self.follow_leader(now, slot);
        true
    }

    /// Reads this one, which was not read before, from a place that [`Consumer::placed`] tells, unless the application seeks first.
    pub(crate) fn add_waiting(&mut self, now: Instant, name: TopicPartition) {
        self.remove(&name);
        self.dirty = true;
        let slot = self.insert(name);
        if let Some(partition) = self.partition_mut(slot) {
            partition.state = State::Waiting;
        }
        self.follow_leader(now, slot);
    }

    /// Where to begin a partition that waits to be told: an offset with the leader epoch of the record before it, or as the reset policy
    /// says, or nowhere.
    pub(crate) fn placed(
        &mut self,
        now: Instant,
        name: &TopicPartition,
        found: Result<Option<(i64, i32)>, Error>,
    ) {
        let Some(slot) = self.slot(name.topic(), name.partition()) else { return };
        let version = self.next_version();
        self.dirty = true;
        let Some(partition) = self.partition_mut(slot).filter(|of| matches!(of.state, State::Waiting)) else {
            return;
        };
        match found {
            Err(error) => self.halt(slot, error),
            Ok(None) => self.begin(slot, None),
            Ok(Some((offset, epoch))) => {
                partition.place(version, offset, epoch);
                // Whoever committed it had read it; if leaders have come since, its log may have been cut off.
                (partition.read, partition.leader_epoch) = (true, epoch);
                self.follow_leader(now, slot);
            }
        }
    }

    /// Hands out nothing more of this one, which is about to be removed.
    pub(crate) fn hold(&mut self, name: &TopicPartition) {
        let Some(slot) = self.slot(name.topic(), name.partition()) else { return };
        if let Some(partition) = self.partition_mut(slot) {
            partition.held = true;
        }
        self.enqueue(slot);
        self.dirty = true;
    }

    fn insert(&mut self, name: TopicPartition) -> usize {
        let version = self.next_version();
        let partition = Partition::new(name.clone(), version);
        let slot = match self.partitions.iter().position(Option::is_none) {
            Some(free) => free,
            None => {
                self.partitions.push(None);
                self.partitions.len() - 1
            }
        };
        self.partitions[slot] = Some(partition);
        self.names.entry(name.shared_topic().clone()).or_default().insert(name.partition(), slot);
        slot
    }

    /// Begins at the offset, or as the reset policy says.
    fn begin(&mut self, slot: usize, offset: Option<Offset>) {
        let start = offset.unwrap_or(match self.settings.reset {
            OffsetReset::Earliest | OffsetReset::None => Offset::Beginning,
            OffsetReset::Latest => Offset::End,
        });
        let version = self.next_version();
        let Some(partition) = self.partition_mut(slot) else { return };
        partition.seek(version, start);
        let name = partition.name.clone();
        if offset.is_none() && self.settings.reset == OffsetReset::None {
            let error = Error::new(
                ErrorKind::Position,
                "the partition has no start position, and auto_offset_reset is none",
            );
            self.halt(slot, error.on_partition(name.shared_topic().clone(), name.partition()));
        }
    }

    /// Reads this one no more; true if it was read before.
    pub(crate) fn remove(&mut self, name: &TopicPartition) -> bool {
        let Some(slot) = self.slot(name.topic(), name.partition()) else { return false };
        self.drop_buffer(slot);
        let removed = self.partitions[slot].take();
        if let Some(of_topic) = self.names.get_mut(name.topic()) {
            of_topic.remove(&name.partition());
            if of_topic.is_empty() {
                self.names.remove(name.topic());
                self.ids.retain(|_, topic| **topic != *name.topic());
            }
        }
        // The slot may be given to another partition, which must not find itself in the queue.
        self.ready.retain(|ready| *ready != slot);
        self.dirty = true;
        removed.is_some()
    }

    /// False if it is not assigned.
    pub(crate) fn seek(&mut self, name: &TopicPartition, to: Offset) -> bool {
        let Some(slot) = self.slot(name.topic(), name.partition()) else { return false };
        self.seek_slot(slot, to);
        true
    }

    fn seek_slot(&mut self, slot: usize, to: Offset) {
        let version = self.next_version();
        self.drop_buffer(slot);
        if let Some(partition) = self.partition_mut(slot) {
            partition.reset = None;
            partition.seek(version, to);
        }
        self.dirty = true;
    }

    /// What waits is thrown away, and counted.
    pub(super) fn drop_buffer(&mut self, slot: usize) {
        let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut) else { return };
        self.counts.stale_bytes += partition.buffered as u64;
        partition.buffer.clear();
        partition.buffered = 0;
    }

    /// What was fetched stays, but is not handed out; no more is fetched. False if it is not assigned.
    pub(crate) fn pause(&mut self, name: &TopicPartition) -> bool {
        let Some(slot) = self.slot(name.topic(), name.partition()) else { return false };
        if let Some(partition) = self.partition_mut(slot) {
            partition.paused = true;
            partition.detach();
        }
        self.enqueue(slot);
        self.dirty = true;
        true
    }

    pub(crate) fn resume(&mut self, name: &TopicPartition) -> bool {
        let Some(slot) = self.slot(name.topic(), name.partition()) else { return false };
        if let Some(partition) = self.partition_mut(slot) {
            partition.paused = false;
        }
        self.enqueue(slot);
        self.dirty = true;
        true
    }

    /// Puts the partition into the queue of those with something to hand out, or takes it off.
    pub(super) fn enqueue(&mut self, slot: usize) {
        let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut) else { return };
        match (partition.is_ready(), partition.queued) {
            (true, false) => self.ready.push_back(slot),
            (false, true) => self.ready.retain(|ready| *ready != slot),
            _ => {}
        }
        partition.queued = partition.is_ready();
    }

    pub(crate) fn assignment(&self) -> Vec<TopicPartition> {
        self.partitions.iter().flatten().map(|partition| partition.name.clone()).collect()
    }

    pub(crate) fn paused(&self) -> Vec<TopicPartition> {
        let paused = self.partitions.iter().flatten().filter(|partition| partition.paused);
        paused.map(|partition| partition.name.clone()).collect()
    }

    /// Topics that are read, wholly or in part.
    pub(crate) fn topics(&self) -> Vec<Arc<str>> {
        let mut topics: Vec<Arc<str>> = self.names.keys().chain(self.whole.keys()).cloned().collect();
        topics.sort_unstable();
        topics.dedup();
        topics
    }

    pub(crate) fn position(&self, name: &TopicPartition) -> Position {
        let Some(slot) = self.slot(name.topic(), name.partition()) else { return Position::Unassigned };
        match self.partitions.get(slot).and_then(Option::as_ref) {
            None => Position::Unassigned,
            Some(partition) => match &partition.state {
                State::Seek { .. } | State::Waiting => Position::Pending,
                State::Validate | State::Fetch => Position::At(partition.position),
                State::Halted(error) => Position::Failed(error.clone()),
            },
        }
    }

    /// Where there is more to read behind what the partition halted at, as far as that can be told.
    pub(crate) fn behind(&self, name: &TopicPartition) -> Option<i64> {
        self.partitions.get(self.slot(name.topic(), name.partition())?)?.as_ref()?.behind
    }

    /// The high watermark and the log's start as the last fetch told them.
    pub(crate) fn watermarks(&self, name: &TopicPartition) -> Option<(i64, i64)> {
        let partition = self.partitions.get(self.slot(name.topic(), name.partition())?)?.as_ref()?;
        (partition.high_watermark >= 0).then_some((partition.log_start_offset, partition.high_watermark))
    }

    pub(crate) fn metrics(&self) -> ConsumerMetrics {
        let mut metrics = self.counts.clone();
        for partition in self.partitions.iter().flatten() {
            metrics.buffered_bytes += partition.buffered as u64;
            metrics.partitions += 1;
        }
        metrics.nodes = self
            .nodes
            .iter()
            .map(|(id, node)| ConsumerNodeMetrics {
                node: *id,
                in_flight: !node.is_idle(),
                fetches: node.fetches,
                fetched_bytes: node.fetched_bytes,
            })
            .collect();
        metrics
    }

    /// Adds the partitions that topics which are read as a whole have gained.
    pub(super) fn grow(&mut self, now: Instant) {
        let cluster = self.cluster.clone();
        for topic in self.whole.keys().cloned().collect::<Vec<_>>() {
            let Some(known) = cluster.topic(&topic).filter(|known| known.error.is_none()) else {
                self.missing.entry(topic.clone()).or_insert(now);
                self.refresh_at.get_or_insert(now + REFRESH_EVERY);
                continue;
            };
            self.missing.remove(&topic);
            let seen = self.whole.insert(topic.clone(), true).unwrap_or(false);
            for partition in 0..known.partitions.len() {
                let name = TopicPartition::new(topic.clone(), i32::try_from(partition).unwrap_or(i32::MAX));
                if self.slot(name.topic(), name.partition()).is_none() {
                    // Records may have been written to a later partition before it was seen: all of them are wanted.
                    self.add(now, name, seen.then_some(Offset::Beginning));
                }
            }
        }
    }

    /// Takes over what the metadata says about the partition in `slot`.
    pub(super) fn follow_leader(&mut self, now: Instant, slot: usize) {
        let cluster = self.cluster.clone();
        let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut) else { return };
        let name = partition.name.clone();
        let topic = cluster.topic(name.topic()).filter(|topic| topic.error.is_none());
        let known = topic.and_then(|topic| topic.partitions.get(usize::try_from(name.partition()).ok()?));
        let (Some(topic), Some(known)) = (topic, known) else {
            partition.leader = None;
            partition.missing.get_or_insert(now);
            self.refresh_at.get_or_insert(now + REFRESH_EVERY);
            return;
        };
        partition.missing = None;
        if let Some((node, _)) = partition.replica
            && !cluster.nodes.contains_key(&node)
        {
            partition.replica = None;
        }
        let recreated = !partition.topic_id.is_nil() && !topic.id.is_nil() && partition.topic_id != topic.id;
        // Whoever committed the position has read at a newer leader: the one that is known may lack the record before it, and would
        // say that the position is out of range. A topic made anew begins with lower epochs, so that this ends by itself.
        let behind = matches!(partition.state, State::Validate | State::Fetch)
            && !recreated
            && (0..partition.ahead_epoch).contains(&known.leader_epoch);
        let asked = partition.outrun.is_some();
        partition.outrun = behind.then(|| partition.outrun.unwrap_or(now));
        let waits = partition.outrun.is_some_and(|since| now < since + self.settings.grace);
        let leader = known.leader.filter(|_| !waits);
        let moved = partition.leader != leader || partition.leader_epoch != known.leader_epoch;
        let newer = partition.leader_epoch >= 0 && known.leader_epoch > partition.leader_epoch;
        partition.leader = leader;
        partition.leader_epoch = known.leader_epoch;
        if moved {
            partition.retry_at = None;
        }
        if newer && partition.ahead_epoch >= 0 && matches!(partition.state, State::Fetch) {
            partition.state = State::Validate;
        }
        if !topic.id.is_nil() {
            partition.topic_id = topic.id;
            self.ids.insert(topic.id, name.shared_topic().clone());
        }
        if recreated && !matches!(partition.state, State::Halted(_)) {
            self.drop_buffer(slot);
            self.enqueue(slot);
            self.lose_position(
                now,
                slot,
                ResetReason::Recreated,
                "the topic was deleted and created again; positions in the old one mean nothing in the new"
                    .into(),
            );
        }
        if behind && !asked {
            self.refresh();
        }
        if leader.is_none() {
            self.refresh_at.get_or_insert(now + REFRESH_EVERY);
        }
    }
}
