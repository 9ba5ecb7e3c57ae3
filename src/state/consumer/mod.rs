//! A consumer of assigned partitions: what to fetch from whom, and what to hand out next.
//!
//! Each node is a loop of its own, with its own session, byte budget and backoff, so that a slow or dead one costs the others nothing:
//!
//! ```text
//!   wanted partitions, room in their buffers --> Fetch (parked at the node) --> buffer, still compressed --> hand-over
//!          ^                                                                                                    |
//!          +------------------- next offset is known from batch headers alone, room from hand-overs <-----------+
//! ```
//!
//! Invariants.
//! - A position moves when a batch is handed over, and never before; each move ends at the batch's next offset.
//! - Nothing is asked for twice at a time, and nothing that waits in a buffer.
//! - Buffered bytes of a node stay below its share of `prefetch`, but for the first batch of a response, which nodes send whole.
//! - What was asked with another version of a partition than its present one is ignored when it arrives.
//! - A partition that cannot go on is halted with an error that was put out exactly once, until the application seeks.
mod assignment;
mod fetcher;
mod handover;
mod lookup;
mod metrics;
mod node_loop;
mod partition;
mod session;
mod settings;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use uuid::Uuid;

use crate::error::{Error, ErrorKind};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::fetch::FetchPlan;
use crate::state::metadata::{Cluster, Node};

pub(crate) use assignment::Position;
pub(crate) use handover::{Handover, Limits, Taken};
pub(crate) use lookup::{EARLIEST, EpochPlan, LATEST, OffsetPlan, list_offsets, offset_for_leader_epoch};
pub use metrics::{ConsumerMetrics, ConsumerNodeMetrics};
pub(crate) use node_loop::LANES;
pub(crate) use session::FINAL_EPOCH;
pub(crate) use settings::Settings;
pub use settings::{IsolationLevel, Offset, OffsetReset, PositionReset, ResetReason};

use node_loop::NodeLoop;
use partition::{Partition, State};

/// Names a request; gets exactly one response.
pub(crate) type Ticket = u64;

/// A request that is to be sent.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) node: i32,
    pub(crate) ticket: Ticket,
    pub(crate) what: What,
}

#[derive(Debug)]
pub(crate) enum What {
    Fetch { lane: usize, plan: FetchPlan },
    Offsets(OffsetPlan),
    Epochs(EpochPlan),
}

/// What the shell is to do besides sending requests.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Event {
    /// The metadata is stale.
    Refresh,
    /// A node told who leads a partition.
    Leader { topic: Arc<str>, partition: i32, leader: i32, epoch: i32, endpoint: Option<Node> },
    /// A node asks to be left alone until then.
    Throttle { node: i32, until: Instant },
}

/// What a ticket stands for.
#[derive(Debug)]
enum Call {
    Fetch { node: i32, lane: usize },
    Lookup { asked: Vec<(usize, u64)> },
}

/// How often metadata is asked for while a partition has no leader.
const REFRESH_EVERY: Duration = Duration::from_millis(250);

/// See the module.
#[derive(Debug)]
pub(crate) struct Consumer {
    settings: Arc<Settings>,
    random: SmallRng,
    cluster: Arc<Cluster>,
    partitions: Vec<Option<Partition>>,
    names: HashMap<Arc<str>, HashMap<i32, usize>>,
    ids: HashMap<Uuid, Arc<str>>,
    /// Topics of which all partitions are read, present ones and those to come; whether they were seen before.
    whole: BTreeMap<Arc<str>, bool>,
    /// Since when topics of `whole` are unknown.
    missing: HashMap<Arc<str>, Instant>,
    /// Topics whose metadata is refused for good, which was told.
    refused: BTreeSet<Arc<str>>,
    nodes: BTreeMap<i32, NodeLoop>,
    calls: HashMap<Ticket, Call>,
    requests: VecDeque<Request>,
    events: VecDeque<Event>,
    errors: VecDeque<Error>,
    /// Partitions with something to hand out, by slot, in the order of their turns.
    ready: VecDeque<usize>,
    versions: u64,
    tickets: Ticket,
    refresh_at: Option<Instant>,
    /// Whether anything changed since requests were last planned.
    dirty: bool,
    counts: ConsumerMetrics,
}

/// Errors that wait for the application; more of them say nothing new.
const MAX_ERRORS: usize = 256;

impl Consumer {
    pub(crate) fn new(settings: Settings, seed: u64) -> Self {
        Self {
            settings: Arc::new(settings),
            random: SmallRng::seed_from_u64(seed),
            cluster: Arc::default(),
            partitions: Vec::new(),
            names: HashMap::new(),
            ids: HashMap::new(),
            whole: BTreeMap::new(),
            missing: HashMap::new(),
            refused: BTreeSet::new(),
            nodes: BTreeMap::new(),
            calls: HashMap::new(),
            requests: VecDeque::new(),
            events: VecDeque::new(),
            errors: VecDeque::new(),
            ready: VecDeque::new(),
            versions: 0,
            tickets: 0,
            refresh_at: None,
            dirty: false,
            counts: ConsumerMetrics::default(),
        }
    }

    // Inputs

    /// A new snapshot of the cluster.
    pub(crate) fn handle_metadata(&mut self, now: Instant, cluster: &Arc<Cluster>) {
        self.cluster = cluster.clone();
        self.dirty = true;
        self.grow(now);
        for slot in 0..self.partitions.len() {
            self.follow_leader(now, slot);
        }
        for topic in self.topics() {
            let code = cluster.topic(&topic).map_or(ErrorCode::NONE, |topic| topic.error);
            if code.is_none() || code.is_retriable() {
                self.refused.remove(&topic);
            } else if self.refused.insert(topic.clone()) {
                self.report(
                    Error::broker(code, "the topic cannot be read").in_api("Metadata").on_topic(topic),
                );
            }
        }
        self.nodes.retain(|id, node| !node.is_idle() || cluster.nodes.contains_key(id));
    }

    /// Some deadline passed.
    pub(crate) fn handle_deadline(&mut self, now: Instant) {
        let grace = self.settings.grace;
        let is_overdue = |since: Instant| now >= since + grace;
        let mut overdue: Vec<(Arc<str>, Option<i32>)> = Vec::new();
        for (topic, since) in self.missing.iter_mut().filter(|(_, since)| is_overdue(**since)) {
            *since = now;
            overdue.push((topic.clone(), None));
        }
        for partition in self.partitions.iter_mut().flatten() {
            if partition.missing.is_some_and(is_overdue) {
                partition.missing = Some(now);
                overdue.push((partition.name.shared_topic().clone(), Some(partition.name.partition())));
            }
        }
        for (topic, partition) in overdue {
            let code = self.cluster.topic(&topic).map(|topic| topic.error).filter(|code| !code.is_none());
            let code = code.unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
            let error =
                Error::broker(code, format!("not found for {} s, and still waiting for it", grace.as_secs()));
            self.report(match partition {
                Some(partition) => error.on_partition(topic, partition),
                None => error.on_topic(topic),
            });
        }
        for partition in self.partitions.iter_mut().flatten() {
            if partition.replica.is_some_and(|(_, until)| now >= until) {
                partition.replica = None;
            }
        }
        for slot in 0..self.partitions.len() {
            if self.waits_for_leader(slot).is_some_and(is_overdue) {
                self.follow_leader(now, slot);
            }
        }
        self.dirty = true;
    }

    // Outputs

    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Request> {
        if std::mem::take(&mut self.dirty) {
            self.plan(now);
        }
        self.requests.pop_front()
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When [`Consumer::handle_deadline`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let partitions = self.partitions.iter().flatten().flat_map(|partition| {
            // Those halted or paused have nothing to retry.
            let retry = partition.retry_at.filter(|_| !partition.paused);
            [retry, partition.replica.map(|(_, until)| until)]
        });
        let nodes = self.nodes.values().map(|node| node.retry_at);
        let missing = self.partitions.iter().flatten().filter_map(|partition| partition.missing);
        let behind = (0..self.partitions.len()).filter_map(|slot| self.waits_for_leader(slot));
        let missing = missing.chain(behind);
        let missing =
            missing.chain(self.missing.values().copied()).map(|since| Some(since + self.settings.grace));
        partitions.chain(nodes).chain(missing).chain([self.refresh_at]).flatten().min()
    }

    // Looks

    /// Whether [`Consumer::take`] would give something.
    pub(crate) fn is_ready(&self) -> bool {
        !self.errors.is_empty() || !self.ready.is_empty()
    }

    pub(crate) fn settings(&self) -> &Arc<Settings> {
        &self.settings
    }

    // Shared by the parts

    fn slot(&self, topic: &str, partition: i32) -> Option<usize> {
        self.names.get(topic)?.get(&partition).copied()
    }

    fn partition_mut(&mut self, slot: usize) -> Option<&mut Partition> {
        self.partitions.get_mut(slot)?.as_mut()
    }

    /// Since when a leader that is known is not believed to be the present one.
    fn waits_for_leader(&self, slot: usize) -> Option<Instant> {
        let partition = self.partitions.get(slot)?.as_ref().filter(|partition| partition.leader.is_none())?;
        let since = partition.outrun?;
        self.cluster.partition(partition.name.topic(), partition.name.partition())?.leader?;
        Some(since)
    }

    fn next_version(&mut self) -> u64 {
        self.versions += 1;
        self.versions
    }

    fn next_ticket(&mut self, call: Call) -> Ticket {
        self.tickets += 1;
        self.calls.insert(self.tickets, call);
        self.tickets
    }

    /// The application is told of it by the next hand-over.
    pub(crate) fn report(&mut self, error: Error) {
        if self.errors.len() < MAX_ERRORS {
            self.errors.push_back(error);
        }
    }

    fn refresh(&mut self) {
        if !self.events.contains(&Event::Refresh) {
            self.events.push_back(Event::Refresh);
        }
    }

    /// Something about this partition failed: try again after a while.
    fn back_off(&mut self, now: Instant, slot: usize) {
        let Some(partition) = self.partitions.get_mut(slot).and_then(Option::as_mut) else { return };
        partition.failures = partition.failures.saturating_add(1);
        partition.retry_at = Some(now + self.settings.backoff.after(partition.failures, &mut self.random));
    }

    /// As [`Consumer::back_off`], and the application learns of it, once until something succeeds.
    fn back_off_and_tell(&mut self, now: Instant, slot: usize, error: Error) {
        self.back_off(now, slot);
        if let Some(partition) = self.partition_mut(slot)
            && !std::mem::replace(&mut partition.reported, true)
        {
            self.report(error);
        }
    }

    /// Nothing goes on here until the application seeks.
    fn halt(&mut self, slot: usize, error: Error) {
        let version = self.next_version();
        let Some(partition) = self.partition_mut(slot) else { return };
        partition.restart(version);
        partition.state = State::Halted(error.clone());
        self.dirty = true;
        self.report(error);
    }

    /// The position is gone from the log: on by the reset policy, or halt.
    fn lose_position(&mut self, now: Instant, slot: usize, reason: ResetReason, what: String) {
        let version = self.next_version();
        let to = match (self.settings.reset, reason) {
            (OffsetReset::None, _) => None,
            // Whatever is in the new topic is new.
            (OffsetReset::Earliest, _) | (_, ResetReason::Recreated) => Some(Offset::Beginning),
            (OffsetReset::Latest, _) => Some(Offset::End),
        };
        let Some(partition) = self.partition_mut(slot) else { return };
        let Some(to) = to else {
            let error = Error::new(ErrorKind::Position, what)
                .on_partition(partition.name.shared_topic().clone(), partition.name.partition());
            return self.halt(slot, error);
        };
        // Told is what was expected before the first of several, and the reason of the last, which decides where it goes on.
        let before = partition.reset.map(|reset| reset.expected);
        partition.reset = Some(PositionReset { expected: before.unwrap_or(partition.position), reason });
        tracing::warn!(partition = %partition.name, position = partition.position, ?reason, "position reset: {what}");
        partition.restart(version);
        partition.state = State::Seek { to, end: None };
        self.counts.resets += 1;
        self.dirty = true;
        if before.is_some() {
            // Nothing came of the last reset: no loop without a wait.
            self.back_off(now, slot);
        }
    }
}

#[cfg(test)]
mod tests;
