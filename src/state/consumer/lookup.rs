//! Positions that have to be asked for: ListOffsets, and OffsetForLeaderEpoch where the leader changed (KIP-320).
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use kafka_protocol::messages::{
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
    TopicName,
};

use super::partition::State;
use super::settings::{IsolationLevel, Offset};
use super::{Call, Consumer, Request, Ticket, What};
use crate::error::{Error, ErrorKind};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::fetch::text;
use crate::topic_partition::TopicPartition;

/// ListOffsets for one node: partition, leader epoch, timestamp or one of Kafka's special values.
#[derive(Debug, Clone)]
pub(crate) struct OffsetPlan {
    pub(crate) read_committed: bool,
    pub(crate) partitions: Vec<(TopicPartition, i32, i64)>,
}

/// OffsetForLeaderEpoch for one node: partition, leader epoch, epoch of the last record read.
#[derive(Debug, Clone)]
pub(crate) struct EpochPlan {
    pub(crate) partitions: Vec<(TopicPartition, i32, i32)>,
}

/// Kafka's special timestamps.
pub(crate) const LATEST: i64 = -1;
pub(crate) const EARLIEST: i64 = -2;

/// The lowest version of ListOffsets that tells one offset for a timestamp.
pub(crate) fn list_offsets(plan: &OffsetPlan, version: i16) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (name, epoch, timestamp) in &plan.partitions {
        topics.entry(name.shared_topic()).or_default().push(
            ListOffsetsPartition::default()
                .with_partition_index(name.partition())
                .with_current_leader_epoch(if version >= 4 { *epoch } else { -1 })
                .with_timestamp(*timestamp),
        );
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        ListOffsetsTopic::default().with_name(TopicName::from(text(topic))).with_partitions(partitions)
    });
    ListOffsetsRequest::default()
        .with_replica_id((-1).into())
        .with_isolation_level(i8::from(plan.read_committed && version >= 2))
        .with_topics(topics.collect())
}

pub(crate) fn offset_for_leader_epoch(plan: &EpochPlan, version: i16) -> OffsetForLeaderEpochRequest {
    let mut topics: BTreeMap<&Arc<str>, Vec<OffsetForLeaderPartition>> = BTreeMap::new();
    for (name, current, epoch) in &plan.partitions {
        topics.entry(name.shared_topic()).or_default().push(
            OffsetForLeaderPartition::default()
                .with_partition(name.partition())
                .with_current_leader_epoch(if version >= 2 { *current } else { -1 })
                .with_leader_epoch(*epoch),
        );
    }
    let topics = topics.into_iter().map(|(topic, partitions)| {
        OffsetForLeaderTopic::default().with_topic(TopicName::from(text(topic))).with_partitions(partitions)
    });
    // A consumer, not a replica; version 3 is the first to ask.
    OffsetForLeaderEpochRequest::default()
        .with_replica_id(if version >= 3 { (-1).into() } else { (-2).into() })
        .with_topics(topics.collect())
}

impl Consumer {
    /// Asks for the positions that are not known.
    pub(super) fn look_up(&mut self) {
        let mut offsets: BTreeMap<i32, (Vec<_>, Vec<_>)> = BTreeMap::new();
        let mut epochs: BTreeMap<i32, (Vec<_>, Vec<_>)> = BTreeMap::new();
        for (slot, partition) in self.partitions.iter_mut().enumerate() {
            let Some(partition) = partition else { continue };
            let Some(leader) = partition.leader else { continue };
            if partition.asking || partition.retry_at.is_some() {
                continue;
            }
            let name = partition.name.clone();
            match partition.state {
                State::Seek { to, end } => {
                    let timestamp = match to {
                        Offset::Beginning => EARLIEST,
                        Offset::Timestamp(at) if end.is_some() => at,
                        _ => LATEST,
                    };
                    let (asked, partitions) = offsets.entry(leader).or_default();
                    asked.push((slot, partition.version));
                    partitions.push((name, partition.leader_epoch, timestamp));
                }
                State::Validate => {
                    let (asked, partitions) = epochs.entry(leader).or_default();
                    asked.push((slot, partition.version));
                    partitions.push((name, partition.leader_epoch, partition.ahead_epoch));
                }
                State::Waiting | State::Fetch | State::Halted(_) => continue,
            }
            partition.asking = true;
        }
        let read_committed = self.settings.isolation == IsolationLevel::ReadCommitted;
        for (node, (asked, partitions)) in offsets {
            let ticket = self.next_ticket(Call::Lookup { asked });
            let what = What::Offsets(OffsetPlan { read_committed, partitions });
            self.requests.push_back(Request { node, ticket, what });
        }
        for (node, (asked, partitions)) in epochs {
            let ticket = self.next_ticket(Call::Lookup { asked });
            self.requests.push_back(Request { node, ticket, what: What::Epochs(EpochPlan { partitions }) });
        }
    }

    /// The end of a ListOffsets.
    pub(crate) fn handle_offsets(
        &mut self,
        now: Instant,
        ticket: Ticket,
        answer: Result<ListOffsetsResponse, Error>,
    ) {
        let asked = self.asked(ticket);
        match answer {
            Err(error) => self.lookup_failed(now, &asked, &error),
            Ok(response) => {
                let mut left = asked;
                for topic in &response.topics {
                    for data in &topic.partitions {
                        let Some(slot) = self.answered(&mut left, &topic.name.0, data.partition_index) else {
                            continue;
                        };
                        let code = ErrorCode::from(data.error_code);
                        if code.is_none() {
                            self.offset_found(slot, data.offset, data.leader_epoch);
                        } else {
                            self.lookup_refused(now, slot, code, "ListOffsets");
                        }
                    }
                }
                self.left_out(now, &left, "ListOffsets");
            }
        }
    }

    fn offset_found(&mut self, slot: usize, offset: i64, epoch: i32) {
        let version = self.next_version();
        let Some(partition) = self.partition_mut(slot) else { return };
        let State::Seek { to, end } = partition.state else { return };
        let found = match (to, end) {
            (Offset::Timestamp(_), None) => {
                partition.state = State::Seek { to, end: Some(offset) };
                None
            }
            // No record is that young: on from where the log ended before that was asked.
            (Offset::Timestamp(_), Some(end)) if offset < 0 => Some((end, -1)),
            _ => Some((offset.max(0), epoch)),
        };
        if let Some((offset, epoch)) = found {
            partition.place(version, offset, epoch);
        }
        partition.progressed();
    }

    /// The end of an OffsetForLeaderEpoch.
    pub(crate) fn handle_epochs(
        &mut self,
        now: Instant,
        ticket: Ticket,
        answer: Result<OffsetForLeaderEpochResponse, Error>,
    ) {
        let asked = self.asked(ticket);
        let response = match answer {
            Ok(response) => response,
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                // A node that cannot tell: fetches go on, as with every client before Kafka 2.1.
                for (slot, _) in self.current(&asked) {
                    self.validated(slot);
                }
                return;
            }
            Err(error) => return self.lookup_failed(now, &asked, &error),
        };
        let mut left = asked;
        for topic in &response.topics {
            for data in &topic.partitions {
                let Some(slot) = self.answered(&mut left, &topic.topic.0, data.partition) else { continue };
                let code = ErrorCode::from(data.error_code);
                if code.is_none() {
                    self.epoch_found(now, slot, data.leader_epoch, data.end_offset);
                } else {
                    self.lookup_refused(now, slot, code, "OffsetForLeaderEpoch");
                }
            }
        }
        self.left_out(now, &left, "OffsetForLeaderEpoch");
    }

    fn epoch_found(&mut self, now: Instant, slot: usize, epoch: i32, end: i64) {
        let Some(partition) = self.partition_mut(slot) else { return };
        if !matches!(partition.state, State::Validate) {
            return;
        }
        partition.progressed();
        if end < partition.ahead || epoch < partition.ahead_epoch {
            self.diverged(now, slot, epoch, end);
        } else {
            self.validated(slot);
        }
    }

    fn validated(&mut self, slot: usize) {
        self.dirty = true;
        if let Some(partition) = self.partition_mut(slot)
            && matches!(partition.state, State::Validate)
        {
            partition.state = State::Fetch;
        }
    }

    /// What the ticket asked about.
    fn asked(&mut self, ticket: Ticket) -> Vec<(usize, u64)> {
        self.dirty = true;
        match self.calls.remove(&ticket) {
            Some(Call::Lookup { asked }) => self.current(&asked),
            _ => {
                debug_assert!(false, "not a ticket of a lookup: {ticket}");
                Vec::new()
            }
        }
    }

    /// Of what was asked, what is still wanted; it may be asked again.
    fn current(&mut self, asked: &[(usize, u64)]) -> Vec<(usize, u64)> {
        let current = asked.iter().copied().filter(|(slot, version)| {
            let partition = self.partitions.get_mut(*slot).and_then(Option::as_mut);
            partition
                .filter(|partition| partition.version == *version)
                .map(|partition| partition.asking = false)
                .is_some()
        });
        current.collect()
    }

    /// The slot of an answered partition, if it was asked about and not answered before.
    fn answered(&self, left: &mut Vec<(usize, u64)>, topic: &str, partition: i32) -> Option<usize> {
        let slot = self.slot(topic, partition)?;
        let at = left.iter().position(|(asked, _)| *asked == slot)?;
        Some(left.swap_remove(at).0)
    }

    fn left_out(&mut self, now: Instant, left: &[(usize, u64)], api: &'static str) {
        for &(slot, _) in left {
            let Some(name) = self.partition_mut(slot).map(|partition| partition.name.clone()) else {
                continue;
            };
            let error =
                Error::new(ErrorKind::Protocol, "the answer leaves out a partition that was asked about");
            let error = error.in_api(api).on_partition(name.shared_topic().clone(), name.partition());
            self.back_off_and_tell(now, slot, error);
        }
    }

    fn lookup_failed(&mut self, now: Instant, asked: &[(usize, u64)], error: &Error) {
        for &(slot, _) in asked {
            if error.is_retriable() || error.is_closed() {
                self.back_off(now, slot);
            } else {
                let Some(name) = self.partition_mut(slot).map(|partition| partition.name.clone()) else {
                    continue;
                };
                let error = error.clone().on_partition(name.shared_topic().clone(), name.partition());
                self.back_off_and_tell(now, slot, error);
            }
        }
        self.refresh();
    }

    fn lookup_refused(&mut self, now: Instant, slot: usize, code: ErrorCode, api: &'static str) {
        if code.is_retriable() {
            self.back_off(now, slot);
            if code.refreshes_metadata() {
                self.refresh();
            }
            return;
        }
        let Some(name) = self.partition_mut(slot).map(|partition| partition.name.clone()) else { return };
        let error = Error::broker(code, "the position cannot be looked up").in_api(api);
        let error = error.on_partition(name.shared_topic().clone(), name.partition());
        if code == ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT {
            return self.halt(slot, error);
        }
        self.back_off_and_tell(now, slot, error);
    }
}
