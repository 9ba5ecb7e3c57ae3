//! Which batches go to which node when, and what becomes of them.
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::buffer::Buffers;
use super::identity::Identity;
use super::queue::{Next, Queue};
use super::reaction::{Reaction, proves_absence, reaction};
use super::{Key, NoAnswer, ProducerIdentity, SILENCE, Settings, Ticket, earlier};
use crate::error::{Error, ErrorKind};
use crate::protocol::error_code::ErrorCode;
use crate::protocol::primitives::Malformed;
use crate::protocol::produce::{self, Part, PartResponse, TopicRef};
use crate::record::builder::BatchBuilder;
use crate::record::{BatchError, Compression};
use crate::state::metadata::Cluster;

mod work;

use work::{ANSWERED, malformed, names};

/// Batches up to this size are compressed on the spot: handing them to another thread costs more.
const SEAL_HERE: usize = 2048;

/// Batches of one partition that are compressed ahead of the one that is sent next.
const SEAL_AHEAD: usize = 3;

/// What the shell does for the sender.
#[derive(Debug)]
pub(crate) enum Event<T> {
    /// `count` of the `total` records of a batch, from the one at `first`, are settled. `reserved` bytes of memory are
    /// free, and `bytes` are for somebody who can use the buffer again.
    Settled {
        tag: T,
        key: Key,
        first: u32,
        count: u32,
        total: u32,
        outcome: Outcome,
        reserved: usize,
        bytes: Option<Bytes>,
    },
    /// Compress, and bring the bytes to [`Sender::handle_sealed`].
    Seal { key: Key, number: u64, builder: BatchBuilder },
    /// Metadata is stale.
    RefreshMetadata,
    /// An answer named another leader (KIP-951).
    LeaderHint { topic: Arc<str>, partition: i32, leader: i32, epoch: i32, endpoint: Option<Endpoint> },
    /// The node asked to be left alone until then.
    Throttle { node: i32, until: Instant },
}

/// Where a new leader is reached, as the answer said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) rack: Option<String>,
}

/// What became of records.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    /// `None`: the node did not say where, or when.
    Written { base_offset: Option<i64>, log_append_time: Option<i64> },
    /// `culprits`: places in the batch, as the application filled it, whose records were the cause (KIP-467).
    Failed { error: Error, culprits: Vec<(u32, Error)> },
}

/// A request that is to be sent, and that ends in exactly one call of `handle_...` with its ticket.
#[derive(Debug)]
pub(crate) enum Request {
    /// To this node; an answer is of use until the deadline.
    Produce { ticket: Ticket, node: i32, parts: Vec<Part>, deadline: Instant },
    /// To any node: a new producer id.
    InitProducerId { ticket: Ticket },
}

/// What happened so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) requests: u64,
    pub(crate) batches: u64,
    pub(crate) bytes: u64,
    pub(crate) written: u64,
    pub(crate) failed: u64,
    pub(crate) retries: u64,
    pub(crate) splits: u64,
    pub(crate) epochs: u64,
    pub(crate) in_flight: u64,
}

#[derive(Debug, Default)]
struct Node {
    in_flight: usize,
    /// Partitions that it leads and that have something to send, in turn.
    ready: VecDeque<Key>,
    throttled_until: Option<Instant>,
}

/// A request on the wire.
#[derive(Debug)]
struct Waiting {
    node: i32,
    /// The partitions it carries, in its order.
    keys: Vec<Key>,
    sent: Instant,
}

/// The machine behind a producer. `B` reaches the buffers that records are appended to.
#[derive(Debug)]
pub(crate) struct Sender<T, B> {
    settings: Settings,
    buffers: B,
    queues: Vec<Queue<T>>,
    nodes: BTreeMap<i32, Node>,
    /// Requests without an answer, oldest first.
    requests: BTreeMap<Ticket, Waiting>,
    /// Lists of keys, to be used again.
    spare: Vec<Vec<Key>>,
    /// When metadata was asked for because a node was silent.
    doubted: Option<Instant>,
    identity: Identity,
    timers: BTreeSet<(Instant, Key)>,
    events: VecDeque<Event<T>>,
    /// Batches go at once: someone waits for memory.
    pressed: bool,
    next_number: u64,
    random: SmallRng,
    counters: Counters,
}

impl<T: Clone, B: Buffers<T>> Sender<T, B> {
    pub(crate) fn new(settings: Settings, buffers: B, seed: u64) -> Self {
        Self {
            identity: Identity::new(settings.backoff),
            settings,
            buffers,
            queues: Vec::new(),
            nodes: BTreeMap::new(),
            requests: BTreeMap::new(),
            spare: Vec::new(),
            doubted: None,
            timers: BTreeSet::new(),
            events: VecDeque::new(),
            pressed: false,
            next_number: 0,
            random: SmallRng::seed_from_u64(seed),
            counters: Counters::default(),
        }
    }

    /// Adds a partition and returns its key; keys are dense and start at 0.
    pub(crate) fn add_partition(
        &mut self,
        now: Instant,
        topic: Arc<str>,
        partition: i32,
        cluster: &Cluster,
    ) -> Key {
        let key = self.queues.len();
        self.queues.push(Queue::new(topic, partition));
        self.update(now, key, cluster);
        key
    }

    // ---- inputs

    /// The buffer of this partition has something new.
    pub(crate) fn handle_appended(&mut self, now: Instant, key: Key) {
        self.look(key);
        self.visit(now, key);
    }

    pub(crate) fn handle_metadata(&mut self, now: Instant, cluster: &Cluster) {
        for key in 0..self.queues.len() {
            self.update(now, key, cluster);
        }
    }

    /// A batch that [`Event::Seal`] gave away.
    pub(crate) fn handle_sealed(
        &mut self,
        now: Instant,
        key: Key,
        number: u64,
        sealed: Result<Bytes, BatchError>,
    ) {
        let Some(queue) = self.queues.get_mut(key) else { return };
        let stage = super::batch::Stage::Sealing(number);
        let Some(at) = queue.batches.iter().position(|batch| batch.stage == stage) else { return };
        match (sealed, queue.batches.get_mut(at)) {
            (Ok(bytes), Some(batch)) => batch.sealed(bytes),
            (Err(error), _) => self.fail(key, at, Error::from(error), Vec::new()),
            (_, None) => {}
        }
        self.visit(now, key);
    }

    /// The answer to a produce request, by the version it was sent in.
    pub(crate) fn handle_produced(
        &mut self,
        now: Instant,
        ticket: Ticket,
        version: i16,
        address: &str,
        body: &[u8],
    ) {
        let Some((node, mut keys)) = self.end(ticket) else { return };
        let mut expected = 0;
        let mut hints = Vec::new();
        let decoded = produce::decode(body, version, |part| {
            // Answers come in the order of the request; look further only if one does not.
            let is_for = |queue: &Queue<T>| names(queue, &part);
            let found = (expected..keys.len())
                .chain(0..expected)
                .find(|&at| keys.get(at).and_then(|&key| self.queues.get(key)).is_some_and(is_for));
            let Some(key) = found.and_then(|at| keys.get_mut(at)) else { return };
            expected = found.map_or(0, |at| at + 1);
            if let Some((leader, epoch)) = part.current_leader.filter(|hint| hint.0 >= 0) {
                hints.push((*key, leader, epoch));
            }
            self.settle(now, std::mem::replace(key, ANSWERED), ticket, address, part);
        });
        match decoded {
            Ok(rest) => {
                for (key, leader, epoch) in hints {
                    let endpoint = rest.endpoints.iter().find(|endpoint| endpoint.node == leader);
                    self.hint(key, leader, epoch, endpoint);
                }
                if rest.throttle_ms > 0 {
                    let until = now + Duration::from_millis(rest.throttle_ms as u64);
                    self.nodes.entry(node).or_default().throttled_until = Some(until);
                    self.events.push_back(Event::Throttle { node, until });
                }
                if keys.iter().all(|&key| key == ANSWERED) {
                    keys.clear();
                    self.spare.push(keys);
                } else {
                    let silent = Malformed { what: "the answer leaves the partition out", left: 0 };
                    let failure = NoAnswer { error: malformed(address, silent), sent: true };
                    self.unanswered(now, ticket, keys, &failure);
                }
            }
            Err(error) => {
                let failure = NoAnswer { error: malformed(address, error), sent: true };
                self.unanswered(now, ticket, keys, &failure);
            }
        }
    }

    /// A request with `acks=0` was written to the socket.
    pub(crate) fn handle_unacknowledged(&mut self, now: Instant, ticket: Ticket) {
        let Some((_, keys)) = self.end(ticket) else { return };
        for key in keys {
            if let Some(queue) = self.queues.get_mut(key)
                && let Some(at) = queue.find(ticket)
                && let Some(batch) = queue.written(now, at)
            {
                self.settled(key, batch, Outcome::Written { base_offset: None, log_append_time: None });
            }
            self.visit(now, key);
        }
    }

    /// There will be no answer.
    pub(crate) fn handle_disconnect(&mut self, now: Instant, ticket: Ticket, failure: &NoAnswer) {
        let Some((_, keys)) = self.end(ticket) else { return };
        self.events.push_back(Event::RefreshMetadata);
        self.unanswered(now, ticket, keys, failure);
    }

    pub(crate) fn handle_identity(
        &mut self,
        now: Instant,
        ticket: Ticket,
        answer: Result<ProducerIdentity, Error>,
    ) {
        match answer {
            Ok(identity) => {
                self.counters.epochs += 1;
                self.identity.handle_known(ticket, identity);
            }
            Err(error) => {
                self.identity.handle_failure(now, ticket, &mut self.random);
                if !error.is_retriable() {
                    // Later records may fare better, these have been told what is wrong.
                    self.fail_waiting(&error);
                } else {
                    tracing::debug!(%error, "no producer id yet");
                }
            }
        }
        for key in 0..self.queues.len() {
            self.visit(now, key);
        }
    }

    pub(crate) fn handle_deadline(&mut self, now: Instant) {
        while let Some(&(at, key)) = self.timers.first()
            && at <= now
        {
            self.timers.pop_first();
            if let Some(queue) = self.queues.get_mut(key) {
                queue.timer = None;
            }
            self.visit(now, key);
        }
        if self.doubt().is_some_and(|at| at <= now) {
            self.doubted = Some(now);
            self.events.push_back(Event::RefreshMetadata);
        }
    }

    /// When the oldest request has been without an answer for too long, once more.
    fn doubt(&self) -> Option<Instant> {
        let (_, oldest) = self.requests.first_key_value()?;
        Some(self.doubted.map_or(oldest.sent, |doubted| doubted.max(oldest.sent)) + SILENCE)
    }

    // ---- commands

    /// While pressed, no batch lingers.
    pub(crate) fn press(&mut self, now: Instant, pressed: bool) {
        if pressed && !self.pressed {
            self.pressed = true;
            for key in 0..self.queues.len() {
                self.visit(now, key);
            }
        }
        self.pressed = pressed;
    }

    /// Settles everything with an error, what may be in the log being marked.
    pub(crate) fn abandon(&mut self, error: &Error) {
        for key in 0..self.queues.len() {
            self.look(key);
            self.take_all(key);
            while self.queues.get(key).is_some_and(|queue| !queue.batches.is_empty()) {
                self.fail(key, 0, error.clone(), Vec::new());
            }
        }
    }

    // ---- outputs

    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Request> {
        let ticket = Ticket(self.next_number);
        if self.settings.idempotent && self.identity.poll(now, ticket) {
            self.next_number += 1;
            return Some(Request::InitProducerId { ticket });
        }
        let room = self.settings.max_in_flight;
        let able = |node: &Node| {
            node.in_flight < room
                && !node.ready.is_empty()
                && node.throttled_until.is_none_or(|until| until <= now)
        };
        let mut from = i32::MIN;
        while let Some((&node, _)) = self.nodes.range(from..).find(|(_, node)| able(node)) {
            if let Some(request) = self.build(now, node) {
                return Some(request);
            }
            from = node.checked_add(1)?;
        }
        None
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event<T>> {
        self.events.pop_front()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let waiting = |node: &&Node| !node.ready.is_empty() && node.in_flight < self.settings.max_in_flight;
        let throttled = self.nodes.values().filter(waiting).filter_map(|node| node.throttled_until).min();
        let identity = self.identity.next_deadline().filter(|_| self.settings.idempotent);
        let timer = self.timers.first().map(|timer| timer.0);
        earlier(earlier(throttled, identity), earlier(timer, self.doubt()))
    }

    // ---- looks

    /// The batches that are not settled, apart from those in the buffers.
    pub(crate) fn tags(&self) -> impl Iterator<Item = &T> {
        self.queues.iter().flat_map(|queue| queue.batches.iter().map(|batch| &batch.tag))
    }

    /// Whether nothing is left to settle, as far as the last looks at the buffers showed.
    pub(crate) fn is_idle(&self) -> bool {
        self.queues.iter().all(|queue| !queue.has_work())
    }

    pub(crate) fn counters(&self) -> Counters {
        let in_flight = self.nodes.values().map(|node| node.in_flight as u64).sum();
        Counters { in_flight, ..self.counters }
    }

    pub(crate) fn buffers(&mut self) -> &mut B {
        &mut self.buffers
    }
}
