//! What is known of one node: its fetches under way, its sessions, its backoff.
use std::time::{Duration, Instant};

use super::partition::Partition;
use super::session::Session;

/// Fetches that may be under way to one node. The second one is for partitions that become wanted while the first is parked: after a
/// seek, a pause, a backoff, or when there is room again.
pub(crate) const LANES: usize = 2;
/// How long the second is parked at most. It is there for the next surprise, and its partitions join the first soon.
const BESIDE: Duration = Duration::from_millis(40);
/// If the first comes back this soon, what became wanted meanwhile waits for it.
const JOIN: Duration = Duration::from_millis(10);

/// ```text
///   idle --(a wanted partition, no backoff)--> in flight --answer--> idle
///                                                  |
///                                                  +--failure--> idle until `retry_at`, session to be opened anew
/// ```
/// for each of its lanes; backoff is the node's.
#[derive(Debug, Default)]
pub(super) struct NodeLoop {
    pub(super) lanes: [Lane; LANES],
    pub(super) retry_at: Option<Instant>,
    pub(super) failures: u32,
    /// Bytes that each of its partitions may have waiting.
    pub(super) share: usize,
    pub(super) reported: bool,
    pub(super) fetches: u64,
    pub(super) fetched_bytes: u64,
}

/// A session, and at most one fetch under way, on a connection of its own.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) session: Session,
    /// When the answer is due, if it is parked for as long as it may be.
    pub(super) in_flight: Option<Instant>,
}

impl NodeLoop {
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.in_flight.is_none())
    }

    /// Whether what the partition needs next is asked for already.
    pub(super) fn is_asked(&self, slot: usize, partition: &Partition) -> bool {
        self.lanes.iter().any(|lane| lane.in_flight.is_some() && lane.is_current(slot, partition))
    }

    /// The lane for what became wanted, and for how long to park there.
    pub(super) fn free_lane(&self, now: Instant, max_wait: Duration) -> Option<(usize, Duration)> {
        let [first, second] = &self.lanes;
        let rest = |lane: &Lane| lane.in_flight.map(|due| due.saturating_duration_since(now));
        match (rest(first), rest(second)) {
            (None, None) => Some((0, max_wait)),
            // Both are to come back one soon after the other; then the first takes over what the second had.
            (None, Some(rest)) => Some((0, max_wait.min(rest + JOIN / 2))),
            (Some(rest), None) if rest > JOIN => Some((1, BESIDE.min(rest - JOIN / 2))),
            _ => None,
        }
    }
}

impl Lane {
    /// Whether the answer to what was last asked here is what the partition needs next.
    pub(super) fn is_current(&self, slot: usize, partition: &Partition) -> bool {
        self.session.sent(slot).is_some_and(|sent| {
            sent.version == partition.version
                && sent.planned.offset == partition.ahead
                && sent.planned.name.topic_id == partition.topic_id
        })
    }
}
