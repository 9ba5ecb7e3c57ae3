//! One fetch loop for each node: what it is asked next, and what its answers mean.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::partition::{Partition, Segment, State};
use super::session::{FINAL_EPOCH, Sent};
use super::settings::{IsolationLevel, Offset, ResetReason};
use super::{Call, Consumer, Event, REFRESH_EVERY, Request, Ticket, What};
use crate::error::{Error, ErrorKind};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::fetch::response::{Endpoint, TopicData};
use crate::protocol::fetch::{FetchPlan, FetchResponse, PartitionData, PlannedPartition};
use crate::record::batch::batches;
use crate::state::metadata::Node;
use crate::topic_partition::TopicPartition;

/// The least room a partition gets, however many share the budget: below, requests cost more than they bring.
const MIN_SHARE: usize = 16 << 10;

/// What a look over the partitions found about one node.
#[derive(Default)]
struct Load {
    partitions: usize,
    buffered: usize,
    slots: Vec<usize>,
}

impl Consumer {
    /// Turns what is wanted into requests.
    pub(super) fn plan(&mut self, now: Instant) {
        // What was waited for is over, also where nothing can be asked yet: it must not wake the shell again.
        let over = |at: &mut Instant| now >= *at;
        for partition in self.partitions.iter_mut().flatten() {
            partition.retry_at.take_if(over);
        }
        for node in self.nodes.values_mut() {
            node.retry_at.take_if(over);
        }
        self.look_up();
        let mut loads: BTreeMap<i32, Load> = BTreeMap::new();
        for (slot, partition) in self.partitions.iter().enumerate() {
            let Some((partition, node)) = partition.as_ref().and_then(|p| Some((p, p.source()?))) else {
                continue;
            };
            let load = loads.entry(node).or_default();
            load.partitions += 1;
            load.buffered += partition.buffered;
            load.slots.push(slot);
        }
        let budget = self.settings.prefetch / loads.len().max(1);
        let max_wait = self.settings.max_wait;
        for (id, mut load) in loads {
            let share = (budget / load.partitions).max(MIN_SHARE);
            let node = self.nodes.entry(id).or_default();
            node.share = share;
            if node.retry_at.is_some() {
                continue;
            }
            let Some((lane, wait)) = node.free_lane(now, max_wait) else { continue };
            let partitions = &self.partitions;
            load.slots.retain(|slot| {
                let Some(Some(partition)) = partitions.get(*slot) else { return false };
                partition.buffered <= share / 2 && partition.wants_fetch() && !node.is_asked(*slot, partition)
            });
            if !load.slots.is_empty() {
                let room = budget.saturating_sub(load.buffered).max(MIN_SHARE);
                self.fetch(now, (id, lane), &load.slots, room, wait);
            }
        }
        if self.refresh_at.is_some_and(|at| now >= at) {
            self.refresh_at = None;
            self.refresh();
            if self.partitions.iter().flatten().any(|partition| partition.leader.is_none())
                || !self.missing.is_empty()
            {
                self.refresh_at = Some(now + REFRESH_EVERY);
            }
        }
    }

    fn fetch(
        &mut self,
        now: Instant,
        (id, lane): (i32, usize),
        slots: &[usize],
        room: usize,
        max_wait: Duration,
    ) {
        let settings = self.settings.clone();
        let ticket = self.next_ticket(Call::Fetch { node: id, lane });
        let Some(node) = self.nodes.get_mut(&id) else { return };
        let max_bytes = settings.partition_max_bytes.min(i32::try_from(node.share / 2).unwrap_or(i32::MAX));
        let (mut by_id, mut shun) = (true, false);
        let mut wanted = BTreeMap::new();
        for &slot in slots {
            let Some(partition) = self.partitions.get(slot).and_then(Option::as_ref) else { continue };
            by_id &= !partition.topic_id.is_nil();
            shun |= partition.leader_only.is_some_and(|until| now < until);
            let planned = PlannedPartition {
                name: partition.wire_name(),
                offset: partition.ahead,
                leader_epoch: partition.leader_epoch,
                last_fetched_epoch: partition.ahead_epoch,
                max_bytes,
            };
            wanted.insert(slot, Sent { version: partition.version, planned });
        }
        let lane_state = &mut node.lanes[lane];
        lane_state.in_flight = Some(now + max_wait);
        let difference = lane_state.session.ask(wanted, by_id);
        let plan = FetchPlan {
            max_wait,
            min_bytes: settings.min_bytes,
            max_bytes: settings.max_bytes.min(i32::try_from(room).unwrap_or(i32::MAX)),
            read_committed: settings.isolation == IsolationLevel::ReadCommitted,
            session_id: difference.id,
            session_epoch: difference.epoch,
            // Without a rack, the leader sends nobody to a replica.
            rack: if shun { "".into() } else { settings.rack.clone() },
            partitions: difference.partitions,
            forgotten: difference.forgotten,
            by_id,
        };
        self.requests.push_back(Request { node: id, ticket, what: What::Fetch { lane, plan } });
    }

    /// Ends all sessions. The requests for it are the last ones; their answers say nothing.
    pub(crate) fn close(&mut self, now: Instant) {
        self.assign(now, &[]);
        self.requests.clear();
        let mut closing = Vec::new();
        for (id, node) in &mut self.nodes {
            let sessions = node.lanes.iter_mut().enumerate().filter_map(|(lane, state)| {
                state.in_flight = None;
                state.session.close().map(|session| (*id, lane, session))
            });
            closing.extend(sessions);
        }
        for (node, lane, session_id) in closing {
            let plan = FetchPlan {
                max_wait: Duration::ZERO,
                min_bytes: 0,
                max_bytes: 0,
                read_committed: false,
                session_id,
                session_epoch: FINAL_EPOCH,
                rack: "".into(),
                partitions: Vec::new(),
                forgotten: Vec::new(),
                by_id: true,
            };
            let ticket = self.next_ticket(Call::Fetch { node, lane });
            self.requests.push_back(Request { node, ticket, what: What::Fetch { lane, plan } });
        }
        self.dirty = false;
    }

    /// Bytes that the partition may have waiting.
    pub(super) fn share_of(&self, slot: usize) -> usize {
        let source = self.partitions.get(slot).and_then(Option::as_ref).and_then(Partition::source);
        source.and_then(|node| self.nodes.get(&node)).map_or(MIN_SHARE, |node| node.share)
    }

    /// The end of a Fetch. An error stands for a response that never came or could not be read.
    pub(crate) fn handle_fetch(
        &mut self,
        now: Instant,
        ticket: Ticket,
        answer: Result<FetchResponse, Error>,
    ) {
        let Some(Call::Fetch { node: id, lane }) = self.calls.remove(&ticket) else {
            debug_assert!(false, "not a ticket of a fetch: {ticket}");
            return;
        };
        self.dirty = true;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        node.lanes[lane].in_flight = None;
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                node.lanes[lane].session.restart();
                // A lost connection is nothing an application can help; what will not mend itself is.
                let tell = !error.is_retriable() && !error.is_closed() && !node.reported;
                node.reported |= tell;
                node.failures = node.failures.saturating_add(1);
                node.retry_at = Some(now + self.settings.backoff.after(node.failures, &mut self.random));
                self.leave_replica(now, id);
                self.refresh();
                if tell {
                    self.report(error);
                }
                return;
            }
        };
        node.fetches += 1;
        self.counts.fetches += 1;
        if let Some(wait) = u64::try_from(response.throttle_ms).ok().filter(|wait| *wait > 0) {
            let until = now + Duration::from_millis(wait);
            node.retry_at = Some(until);
            self.events.push_back(Event::Throttle { node: id, until });
        }
        if !response.error.is_none() {
            node.lanes[lane].session.refused(response.error);
            node.failures = node.failures.saturating_add(1);
            // A lost session is opened again at once, but only once.
            let failures = node.failures - 1;
            let wait = self.settings.backoff.after(failures, &mut self.random);
            node.retry_at = node.retry_at.max((failures > 0).then(|| now + wait));
            if response.error.refreshes_metadata() {
                self.refresh();
            }
            return;
        }
        node.failures = 0;
        node.reported = false;
        node.lanes[lane].session.answered(response.session_id);
        for topic in response.topics {
            self.topic_fetched(now, (id, lane), topic, &response.endpoints);
        }
        // Of what was asked for and did not come, there is nothing: an answer with a session leaves that out.
        let Some(node) = self.nodes.get(&id) else { return };
        for slot in node.lanes[lane].session.slots() {
            if let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut)
                && node.lanes[lane].is_current(slot, partition)
            {
                partition.saw_end(now);
            }
        }
    }

    fn topic_fetched(
        &mut self,
        now: Instant,
        (id, lane): (i32, usize),
        topic: TopicData,
        endpoints: &[Endpoint],
    ) {
        let name = match topic.id.is_nil() {
            true => std::str::from_utf8(&topic.name).ok().map(Arc::from),
            false => self.ids.get(&topic.id).cloned(),
        };
        for data in topic.partitions {
            let bytes = data.records.len() as u64;
            self.counts.fetched_bytes += bytes;
            let Some(node) = self.nodes.get_mut(&id) else { return };
            node.fetched_bytes += bytes;
            let lane = &node.lanes[lane];
            // It counts only if it answers what is wanted now: not after a seek, not for a removed partition, not twice.
            let current = name.as_ref().and_then(|name| {
                let slot = *self.names.get(name)?.get(&data.partition)?;
                let partition = self.partitions.get(slot)?.as_ref()?;
                let current = matches!(partition.state, State::Fetch)
                    && partition.source() == Some(id)
                    && lane.is_current(slot, partition);
                current.then_some(slot)
            });
            match current {
                Some(slot) => self.partition_fetched(now, id, slot, data, endpoints),
                None => self.counts.stale_bytes += bytes,
            }
        }
    }

    fn partition_fetched(
        &mut self,
        now: Instant,
        id: i32,
        slot: usize,
        data: PartitionData,
        endpoints: &[Endpoint],
    ) {
        if !data.error.is_none() {
            return self.fetch_failed(now, id, slot, &data, endpoints);
        }
        if let Some((epoch, end)) = data.diverging {
            // A replica's log may end early because it lags behind.
            return match self.leave_to_leader(now, slot) {
                true => self.back_off(now, slot),
                false => self.diverged(now, slot, epoch, end),
            };
        }
        let until = now + self.settings.replica_age;
        let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut) else { return };
        if let Some(replica) = data.preferred_replica.filter(|replica| *replica != id) {
            let known = self.cluster.nodes.contains_key(&replica);
            if known {
                partition.replica = Some((replica, until));
            }
            // Until the replica has brought something, another redirection means that the two disagree: no loop without a wait.
            if known && partition.failures == 0 {
                partition.failures = 1;
            } else {
                self.back_off(now, slot);
                self.refresh();
            }
            return;
        }
        partition.high_watermark = data.high_watermark;
        partition.last_stable_offset = data.last_stable_offset;
        partition.log_start_offset = data.log_start_offset;
        if data.records.is_empty() {
            partition.progressed();
            return;
        }
        let (mut ahead, mut epoch) = (partition.ahead, partition.ahead_epoch);
        let mut broken = false;
        for frame in batches(&data.records) {
            match frame {
                Ok(frame) if frame.header.next_offset() > ahead => {
                    ahead = frame.header.next_offset();
                    epoch = frame.header.leader_epoch;
                }
                Ok(_) => {}
                // What is in front of it is good; the rest is judged when it is its turn.
                Err(_) => broken = true,
            }
        }
        if ahead == partition.ahead && !broken {
            self.counts.cut_bytes += data.records.len() as u64;
            return self.no_progress(now, slot);
        }
        partition.drain = broken;
        partition.ahead = ahead;
        partition.ahead_epoch = epoch;
        partition.buffered += data.records.len();
        partition.buffer.push_back(Segment::new(data.records, partition.ended, data.aborted));
        partition.saw_end(now);
        partition.progressed();
        self.enqueue(slot);
    }

    /// If the partition is read at a replica: the leader is asked for a while, and decides what the answer means.
    fn leave_to_leader(&mut self, now: Instant, slot: usize) -> bool {
        let until = now + self.settings.replica_age;
        let Some(partition) = self.partition_mut(slot) else { return false };
        let was_at_replica = partition.replica.take().is_some();
        if was_at_replica {
            partition.leader_only = Some(until);
        }
        was_at_replica
    }

    /// Bytes, but no batch that goes on from the position.
    fn no_progress(&mut self, now: Instant, slot: usize) {
        let Some(partition) = self.partitions.get(slot).and_then(Option::as_ref) else { return };
        let text = format!("the node sent no complete batch for offset {}", partition.ahead);
        if partition.failures < 3 {
            self.back_off(now, slot);
        } else {
            let (name, node) =
                (partition.name.clone(), partition.replica.map(|(node, _)| node).or(partition.leader));
            let error = self.of_fetch(Error::new(ErrorKind::Corrupt, text), node, &name);
            self.back_off_and_tell(now, slot, error);
        }
    }

    fn fetch_failed(
        &mut self,
        now: Instant,
        id: i32,
        slot: usize,
        data: &PartitionData,
        endpoints: &[Endpoint],
    ) {
        let Some(partition) = self.partitions.get(slot).and_then(Option::as_ref) else { return };
        let name = partition.name.clone();
        let code = data.error;
        if self.leave_to_leader(now, slot) {
            if code.refreshes_metadata() {
                self.refresh();
            }
            return self.back_off(now, slot);
        }
        let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut) else { return };
        match code {
            ErrorCode::OFFSET_OUT_OF_RANGE if partition.buffered > 0 => partition.drain = true,
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                let position = partition.position;
                self.lose_position(
                    now,
                    slot,
                    ResetReason::OutOfRange,
                    format!("offset {position} is not in the log, which begins at {}", data.log_start_offset),
                );
            }
            ErrorCode::UNKNOWN_LEADER_EPOCH | ErrorCode::OFFSET_NOT_AVAILABLE => self.back_off(now, slot),
            code if code.refreshes_metadata() || code == ErrorCode::KAFKA_STORAGE_ERROR => {
                if let Some((leader, epoch)) = data.leader {
                    let endpoint =
                        endpoints.iter().find(|endpoint| endpoint.node == leader).map(|endpoint| Node {
                            id: leader,
                            host: endpoint.host.as_str().into(),
                            port: endpoint.port,
                            rack: endpoint.rack.as_deref().map(Arc::from),
                        });
                    let topic = name.shared_topic().clone();
                    let partition = name.partition();
                    self.events.push_back(Event::Leader { topic, partition, leader, epoch, endpoint });
                }
                self.back_off(now, slot);
                self.refresh();
            }
            ErrorCode::CORRUPT_MESSAGE if partition.failures < 3 => self.back_off(now, slot),
            code => {
                let text = format!("fetching offset {} failed", partition.ahead);
                let error = self.of_fetch(Error::broker(code, text), Some(id), &name);
                self.back_off_and_tell(now, slot, error);
            }
        }
    }

    /// Adds where an error of a fetch comes from.
    pub(super) fn of_fetch(&self, error: Error, node: Option<i32>, name: &TopicPartition) -> Error {
        let error = error.in_api("Fetch").on_partition(name.shared_topic().clone(), name.partition());
        match node.and_then(|node| self.cluster.nodes.get(&node)) {
            Some(node) => error.at_address(format!("{}:{}", node.host, node.port)),
            None => error,
        }
    }

    /// The log of the leader ends at `end` for `epoch`, below what was asked: it was truncated.
    pub(super) fn diverged(&mut self, now: Instant, slot: usize, epoch: i32, end: i64) {
        let version = self.next_version();
        self.dirty = true;
        let Some(partition) = self.partitions.get(slot).and_then(Option::as_ref) else { return };
        if partition.ahead > partition.position {
            // Perhaps only what was fetched ahead is gone: the position is asked about next.
            self.drop_buffer(slot);
            if let Some(partition) = self.partition_mut(slot) {
                partition.restart(version);
            }
            return self.enqueue(slot);
        }
        if !partition.read && end >= partition.position {
            // The leader of that epoch had written nothing when the position was looked up: all that lay before it is there.
            if let Some(partition) = self.partition_mut(slot) {
                partition.epoch = epoch;
                partition.restart(version);
                partition.state = State::Fetch;
            }
            return;
        }
        let text = format!(
            "the log was truncated: offset {} was reached, and the leader's log differs from offset {end} on",
            partition.position
        );
        let position = partition.position.min(end.max(0));
        self.lose_position(now, slot, ResetReason::Truncated, text);
        let Some(partition) = self.partition_mut(slot).filter(|_| end >= 0) else { return };
        // What both logs share was read; on from where they part.
        if matches!(partition.state, State::Halted(_)) {
            partition.behind = Some(position);
        } else {
            partition.seek(version, Offset::At(position));
            partition.epoch = epoch;
            partition.ahead_epoch = epoch;
        }
    }

    /// The node cannot be reached: partitions read there instead of at their leader go back to it.
    fn leave_replica(&mut self, now: Instant, id: i32) {
        for slot in 0..self.partitions.len() {
            if let Some(Some(partition)) = self.partitions.get_mut(slot)
                && partition.replica.is_some_and(|(node, _)| node == id)
            {
                partition.replica = None;
                partition.leader_only = Some(now + self.settings.replica_age);
                self.back_off(now, slot);
            }
        }
    }
}

impl Partition {
    fn wants_fetch(&self) -> bool {
        let waits = self.paused || self.held || self.drain && self.buffered > 0;
        matches!(self.state, State::Fetch) && !waits && self.retry_at.is_none()
    }
}
