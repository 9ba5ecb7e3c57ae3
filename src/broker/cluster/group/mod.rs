//! Consumer groups, each kept by the node that leads its partition of `__consumer_offsets`: its coordinator.
//!
//! A group is a machine of its own; what it answers, now or to requests that were parked before, goes out through
//! [`Answers`]. What a coordinator would write to its partition is kept beside what it only holds in memory, so that a
//! new coordinator begins from there, as Kafka's does.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use kafka_protocol::messages::{JoinGroupResponse, SyncGroupResponse};

use super::ConnectionId;
use crate::protocol::error_code::ErrorCode;

pub(crate) mod classic;
pub(crate) mod consumer_protocol;
pub(super) mod joining;
mod member;
mod rebalance;

pub(crate) use classic::Classic;
use classic::Terms;
pub(crate) use member::Member;

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
    pub(super) by_id: BTreeMap<Arc<str>, Group>,
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
            group.classic.refuse_parked(ErrorCode::NOT_COORDINATOR, &mut Answers::new());
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
    pub(crate) classic: Classic,
    /// What the offsets topic holds of it, `None` for a group that is not in there.
    written: Option<Box<Classic>>,
    /// The cluster's timer for the earliest deadline.
    pub(super) timer: Option<(Instant, u64)>,
}

impl Group {
    /// A group is written down, empty, when it is made.
    pub(super) fn new() -> Self {
        Self { classic: Classic::default(), written: Some(Box::default()), timer: None }
    }

    /// Writes down what an operation changed.
    pub(super) fn persist(&mut self) {
        if self.classic.take_dirty() {
            self.written = Some(Box::new(self.classic.clone()));
        }
    }

    /// What is left of it when another node loads it; `None` if it was never written down.
    pub(super) fn reload(self, now: Instant) -> Option<Self> {
        let mut classic = *self.written.clone()?;
        classic.loaded(now);
        Some(Self { classic, ..self })
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.classic.next_deadline()
    }

    pub(super) fn handle_deadline(&mut self, now: Instant, terms: Terms, out: &mut Answers) {
        self.classic.handle_deadline(now, terms, out);
        self.persist();
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
