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
mod consumer;
mod consumer_member;
pub(crate) mod consumer_protocol;
pub(super) mod joining;
mod member;
mod offsets;
mod pattern;
mod rebalance;
mod server_assignor;

pub(crate) use classic::Classic;
use classic::Terms;
pub(crate) use consumer::{Beat, Consumer, ConsumerTerms};
pub(crate) use consumer_member::{ConsumerMember, Place};
use consumer_protocol::CONSUMER;
pub(crate) use member::Member;
pub(crate) use offsets::{Committed, Offsets};
pub(crate) use server_assignor::ServerAssignor;

/// The first version of OffsetCommit that knows of member epochs and of groups that are not there.
pub(super) const KNOWS_MEMBER_EPOCHS: i16 = 9;

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
    pub(crate) members: Members,
    pub(crate) offsets: Offsets,
    /// The cluster's timer for the earliest deadline.
    pub(super) timer: Option<(Instant, u64)>,
}

#[derive(Debug, Clone)]
pub(crate) enum Members {
    Classic {
        group: Classic,
        /// What the offsets topic holds of it.
        written: Box<Classic>,
    },
    /// All of it is in the offsets topic.
    Consumer(Consumer),
}

/// Who wants to commit, in which version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Commit<'a> {
    pub(super) member: &'a str,
    pub(super) instance: Option<&'a str>,
    pub(super) generation: i32,
    pub(super) version: i16,
}

impl Default for Members {
    /// Nobody, in a group that is written down as such.
    fn default() -> Self {
        Self::Classic { group: Classic::default(), written: Box::default() }
    }
}

impl Group {
    pub(super) fn new() -> Self {
        Self { members: Members::default(), offsets: Offsets::default(), timer: None }
    }

    pub(crate) fn classic(&self) -> Option<&Classic> {
        match &self.members {
            Members::Classic { group, .. } => Some(group),
            Members::Consumer(_) => None,
        }
    }

    pub(crate) fn consumer(&self) -> Option<&Consumer> {
        match &self.members {
            Members::Consumer(group) => Some(group),
            Members::Classic { .. } => None,
        }
    }

    pub(crate) fn classic_mut(&mut self) -> Option<&mut Classic> {
        match &mut self.members {
            Members::Classic { group, .. } => Some(group),
            Members::Consumer(_) => None,
        }
    }

    pub(crate) fn consumer_mut(&mut self) -> Option<&mut Consumer> {
        match &mut self.members {
            Members::Consumer(group) => Some(group),
            Members::Classic { .. } => None,
        }
    }

    /// Kafka's name of its state.
    pub(crate) fn state(&self) -> &'static str {
        match &self.members {
            Members::Classic { group, .. } => group.state.name(),
            Members::Consumer(group) => group.state(),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.state() == classic::State::Empty.name()
    }

    /// Kafka's name of its protocol.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.members {
            Members::Classic { .. } => "classic",
            Members::Consumer(_) => CONSUMER,
        }
    }

    pub(crate) fn protocol_type(&self) -> StrBytes {
        match &self.members {
            Members::Classic { group, .. } => group.protocol_type.clone().unwrap_or_default(),
            Members::Consumer(_) => StrBytes::from_static_str(CONSUMER),
        }
    }

    /// Writes down what an operation changed.
    pub(super) fn persist(&mut self) {
        if let Members::Classic { group, written } = &mut self.members
            && group.take_dirty()
        {
            **written = group.clone();
        }
    }

    /// What is left of it when another node loads it.
    pub(super) fn reload(&mut self, now: Instant, terms: ConsumerTerms) {
        match &mut self.members {
            Members::Classic { group, written } => {
                group.clone_from(written);
                group.loaded(now);
            }
            Members::Consumer(group) => group.loaded(now, terms),
        }
    }

    pub(super) fn refuse_parked(&mut self, code: ErrorCode, out: &mut Answers) {
        if let Some(group) = self.classic_mut() {
            group.refuse_parked(code, out);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.members {
            Members::Classic { group, .. } => group.next_deadline(),
            Members::Consumer(group) => group.next_deadline(),
        }
    }

    pub(super) fn handle_deadline(&mut self, now: Instant, terms: Terms, out: &mut Answers) {
        match &mut self.members {
            Members::Classic { group, .. } => group.handle_deadline(now, terms, out),
            Members::Consumer(group) => group.handle_deadline(now),
        }
        self.persist();
    }

    /// Whether somebody may commit offsets. To classic groups a commit is a sign of life.
    pub(super) fn admit_commit(&mut self, now: Instant, commit: &Commit<'_>) -> Result<(), ErrorCode> {
        match &mut self.members {
            Members::Classic { group, .. } => group.admit_commit(now, commit),
            Members::Consumer(group) => group.admit_commit(commit),
        }
    }

    /// Whether somebody who may commit may do so for this partition.
    pub(super) fn admit_commit_of(&self, commit: &Commit<'_>, place: Place) -> Result<(), ErrorCode> {
        self.consumer().map_or(Ok(()), |group| group.admit_commit_of(commit, place))
    }

    /// Whether somebody may read offsets, by the member's epoch; -1 for those that have none.
    pub(super) fn admit_offset_fetch(&self, member: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        self.consumer().map_or(Ok(()), |group| group.admit_offset_fetch(member, epoch))
    }

    /// Whether offsets may be deleted while there are members.
    pub(super) fn admit_offset_delete(&self) -> Result<(), ErrorCode> {
        match self.is_empty() || *self.protocol_type() == *CONSUMER {
            true => Ok(()),
            false => Err(ErrorCode::NON_EMPTY_GROUP),
        }
    }

    pub(super) fn is_subscribed(&self, topic: &str) -> bool {
        match &self.members {
            Members::Classic { group, .. } => group.is_subscribed(topic),
            Members::Consumer(group) => group.is_subscribed(topic),
        }
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
