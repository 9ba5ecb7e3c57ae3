//! Consumer groups, each kept by the node that leads its partition of `__consumer_offsets`: its coordinator.
//!
//! A group is a machine of its own; what it answers, now or to requests that were parked before, goes out through
//! [`Answers`]. What a coordinator would write to its partition is kept beside what it only holds in memory, so that a
//! new coordinator begins from there, as Kafka's does.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};
use kafka_protocol::protocol::StrBytes;

use super::ConnectionId;
use crate::protocol::error_code::ErrorCode;

pub(crate) mod classic;
pub(crate) mod consumer_protocol;
pub(super) mod joining;
mod member;
mod offsets;
mod rebalance;

pub(crate) use classic::Classic;
use classic::Terms;
use consumer_protocol::CONSUMER;
pub(crate) use member::Member;
pub(crate) use offsets::{Committed, Offsets};

/// The topic whose partitions' leaders are the coordinators.
pub(crate) const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What answers a parked request.
#[derive(Debug)]
pub(crate) enum Answer {
    Join(JoinGroupResponse),
    Sync(SyncGroupResponse),
}

pub(crate) type Answers = Vec<(ConnectionId, Answer)>;

/// All groups, and what each partition of the offsets topic was loaded from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Groups {
    pub(crate) by_id: BTreeMap<Arc<str>, Group>,
    pub(super) shards: Vec<Shard>,
    /// These are what an isolated node believes; it can write nothing down.
    pub(super) cut_off: bool,
}

impl Groups {
    pub(crate) fn get(&self, group: &str) -> Option<&Group> {
        self.by_id.get(group)
    }

    /// What a node that is cut off believes from now on.
    pub(super) fn cut_off(&self) -> Self {
        let mut view = Self { cut_off: true, ..self.clone() };
        for group in view.by_id.values_mut() {
            group.timer = None;
            group.refuse_parked(ErrorCode::NOT_COORDINATOR, &mut Answers::new());
        }
        view
    }
}

/// A partition of the offsets topic as its coordinator has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shard {
    pub(super) leader: i32,
    pub(super) epoch: i32,
    /// From when on it answers for its groups.
    pub(super) loaded: Instant,
}

#[derive(Debug, Clone)]
pub(crate) struct Group {
    members: Classic,
    pub(crate) offsets: Offsets,
    /// What the offsets topic holds of its members.
    written: Box<Classic>,
    /// The cluster's timer for the earliest deadline.
    pub(super) timer: Option<(Instant, u64)>,
}

/// Who wants to commit.
pub(super) struct Commit<'a> {
    pub(super) member: &'a str,
    pub(super) instance: Option<&'a str>,
    pub(super) generation: i32,
}

impl Group {
    /// A group is written down, empty, when it is made.
    pub(super) fn new() -> Self {
        Self {
            members: Classic::default(),
            offsets: Offsets::default(),
            written: Box::default(),
            timer: None,
        }
    }

    pub(crate) fn classic(&self) -> Option<&Classic> {
        Some(&self.members)
    }

    pub(crate) fn classic_mut(&mut self) -> Option<&mut Classic> {
        Some(&mut self.members)
    }

    /// Kafka's name of its state.
    pub(crate) fn state(&self) -> &'static str {
        self.members.state.name()
    }

    /// Kafka's name of its protocol.
    pub(crate) fn kind(&self) -> &'static str {
        "classic"
    }

    pub(crate) fn protocol_type(&self) -> StrBytes {
        self.members.protocol_type.clone().unwrap_or_default()
    }

    /// Writes down what an operation changed.
    pub(super) fn persist(&mut self) {
        if self.members.take_dirty() {
            *self.written = self.members.clone();
        }
    }

    /// What is left of it when another node loads it.
    pub(super) fn reload(self, now: Instant) -> Self {
        let mut members = *self.written.clone();
        members.loaded(now);
        Self { members, ..self }
    }

    pub(super) fn refuse_parked(&mut self, code: ErrorCode, out: &mut Answers) {
        self.members.refuse_parked(code, out);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.members.next_deadline()
    }

    pub(super) fn handle_deadline(&mut self, now: Instant, terms: Terms, out: &mut Answers) {
        self.members.handle_deadline(now, terms, out);
        self.persist();
    }

    /// Whether somebody may commit offsets. A commit counts as a sign of life.
    pub(super) fn admit_commit(&mut self, now: Instant, commit: &Commit<'_>) -> Result<(), ErrorCode> {
        self.members.admit_commit(now, commit)
    }

    /// Whether somebody may read offsets, by the member's epoch; -1 for those that have none.
    pub(super) fn admit_offset_fetch(&self, _member: Option<&str>, _epoch: i32) -> Result<(), ErrorCode> {
        Ok(())
    }

    /// Whether offsets may be deleted while there are members.
    pub(super) fn admit_offset_delete(&self) -> Result<(), ErrorCode> {
        let consumers = self.members.protocol_type.as_deref() == Some(CONSUMER);
        match self.members.state == classic::State::Empty || consumers {
            true => Ok(()),
            false => Err(ErrorCode::NON_EMPTY_GROUP),
        }
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        self.members.is_subscribed(topic)
    }
}

/// The partition of the offsets topic that a group belongs to: Java's hash of the name.
pub(super) fn partition_of(group: &str, partitions: usize) -> i32 {
    let hash =
        group.encode_utf16().fold(0i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Kafka's abs: what has no positive counterpart counts as 0.
    let positive = hash.checked_abs().unwrap_or(0) as usize;
    (positive % partitions.max(1)) as i32
}
