//! The cluster as a machine: requests in, answers out, now or later. No socket, no clock, no task.
//!
//! ```text
//! connect -> id ;  handle(now, id, frame) ... poll_output(id) -> frame | close ;  disconnect(id)
//!
//! connection:  idle --request--> serving --answer--> idle
//!                                   |  parked (long poll), delayed or hung: what comes behind waits
//! ```
//!
//! Invariants: a connection has at most one request under way, and answers come in the order of the requests; a
//! parked request is known to every partition that can wake it and holds exactly one timer; the same inputs and the
//! same seed give the same outputs.
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::disallowed_types))] // tests may read a clock to begin with

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Encodable, HeaderVersion, StrBytes};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use super::api::Api;
use super::config::Config;
use super::fault::{Action, Fault, Faults};
use crate::protocol::error_code::ErrorCode;
use group::Groups;

mod coordinator;
mod fetch_session;
pub(crate) mod group;
mod handlers;
mod leadership;
mod log;
mod node;
mod parked;
mod producers;
mod replication;
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // tests begin at the real now
mod tests;
mod topics;

pub(crate) use log::Log;
pub(crate) use node::Node;
use parked::Parked;
pub(crate) use topics::{Partition, Topic, Topics};

/// How many requests a connection may have waiting behind the one being served before no more are taken from it.
const MAX_QUEUED: usize = 16;

pub(crate) type ConnectionId = u64;

/// What a connection is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Output {
    /// Send these bytes.
    Send(Bytes),
    /// Close; nothing follows.
    Close,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) config: Config,
    pub(crate) nodes: BTreeMap<i32, Node>,
    pub(crate) topics: Topics,
    pub(crate) groups: Groups,
    pub(crate) faults: Faults,
    id: String,
    random: StdRng,
    started: Instant,
    started_ms: i64,
    next_producer_id: i64,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Source of connection ids and timer keys.
    next_id: u64,
    timers: BTreeMap<(Instant, u64), Timer>,
    /// Connections with output that was not polled yet.
    ready: BTreeSet<ConnectionId>,
    /// Connections whose parked request has to be looked at again.
    woken: BTreeSet<ConnectionId>,
    /// Nodes that stopped since this was last taken.
    stopped: Vec<i32>,
    /// Requests served so far, by API key.
    requests: BTreeMap<i16, u64>,
}

#[derive(Debug)]
struct Connection {
    node: i32,
    queue: VecDeque<Bytes>,
    state: State,
    output: VecDeque<Output>,
}

#[derive(Debug)]
enum State {
    Idle,
    /// An answer is ready and kept back.
    Delayed,
    /// Never to be answered.
    Hung,
    /// It waits for something to happen at this node.
    Parked(Box<Parked>),
    Closed,
}

#[derive(Debug)]
enum Timer {
    /// The request of this connection has waited long enough.
    Parked(ConnectionId),
    Deliver(ConnectionId, Bytes),
    /// The followers of this leader epoch have the log up to `end`.
    Replicated {
        topic: Arc<str>,
        index: i32,
        epoch: i32,
        end: i64,
    },
    /// The earliest deadline of a group.
    Group(Arc<str>),
}

/// One request being served.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) now: Instant,
    pub(crate) node: i32,
    pub(crate) version: i16,
    /// What the client calls itself.
    client: StrBytes,
    connection: ConnectionId,
    correlation: i32,
    fault: Option<Fault>,
}

/// What a handler makes of a request.
pub(crate) enum Reply<T> {
    Now(T),
    /// The handler parked it.
    Later,
    /// The request wants no answer.
    Nothing,
    Close,
}

impl Call {
    /// The error a fault injects for this partition (or topic, where the API knows no partitions).
    pub(crate) fn injected(&self, topic: &str, partition: Option<i32>) -> Option<ErrorCode> {
        match self.fault.as_ref()?.action {
            Action::Error(code) => self.concerns(topic, partition).then_some(code),
            _ => None,
        }
    }

    /// The error a fault reports for this partition although all went well.
    pub(crate) fn injected_after(&self, topic: &str, partition: i32) -> Option<ErrorCode> {
        match self.fault.as_ref()?.action {
            Action::ErrorAfter(code) => self.concerns(topic, Some(partition)).then_some(code),
            _ => None,
        }
    }

    fn concerns(&self, topic: &str, partition: Option<i32>) -> bool {
        let Some(fault) = &self.fault else { return false };
        let same_topic = fault.only_topic().is_none_or(|only| **only == *topic);
        let same_partition = fault.only_partition().is_none_or(|only| partition.is_none_or(|p| p == only));
        same_topic && same_partition
    }

    /// The error a fault injects for the whole request.
    pub(crate) fn injected_at_all(&self) -> Option<ErrorCode> {
        match self.fault.as_ref()?.action {
            Action::Error(code) => Some(code),
            _ => None,
        }
    }

    /// Whether the fault is about a topic.
    pub(crate) fn names_topic(&self) -> bool {
        self.fault.as_ref().is_some_and(|fault| fault.only_topic().is_some())
    }

    pub(crate) fn throttle_ms(&self) -> i32 {
        match self.fault.as_ref().map(|fault| &fault.action) {
            Some(Action::Throttle(duration)) => i32::try_from(duration.as_millis()).unwrap_or(i32::MAX),
            _ => 0,
        }
    }
}

impl Cluster {
    /// `started_ms` is the Unix time in milliseconds that belongs to `now`.
    pub(crate) fn new(config: Config, faults: Faults, now: Instant, started_ms: i64) -> Self {
        let mut random = StdRng::seed_from_u64(config.seed);
        let nodes = (1..=config.nodes).map(|id| (id, Node::new(id, config.racks))).collect();
        let id = new_uuid(&mut random).simple().to_string();
        Self {
            config,
            nodes,
            topics: Topics::default(),
            groups: Groups::default(),
            faults,
            id: id.chars().take(22).collect(),
            random,
            started: now,
            started_ms,
            next_producer_id: 1000,
            connections: BTreeMap::new(),
            next_id: 0,
            timers: BTreeMap::new(),
            ready: BTreeSet::new(),
            woken: BTreeSet::new(),
            stopped: Vec::new(),
            requests: BTreeMap::new(),
        }
    }

    // ---- connections

    /// A new connection to a node, `None` while that node is stopped.
    pub(crate) fn connect(&mut self, node: i32) -> Option<ConnectionId> {
        self.nodes.get(&node).filter(|node| node.up)?;
        self.next_id += 1;
        let connection =
            Connection { node, queue: VecDeque::new(), state: State::Idle, output: VecDeque::new() };
        self.connections.insert(self.next_id, connection);
        Some(self.next_id)
    }

    /// The peer is gone.
    pub(crate) fn disconnect(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&id) {
            if let State::Parked(parked) = connection.state
                && let Some(timer) = parked.timer()
            {
                self.timers.remove(&timer);
            }
            self.ready.remove(&id);
            self.woken.remove(&id);
        }
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.values().filter(|connection| !matches!(connection.state, State::Closed)).count()
    }

    /// Whether a further request may be handed in. If not, it may once there was output.
    pub(crate) fn accepts(&self, id: ConnectionId) -> bool {
        self.connections.get(&id).is_some_and(|connection| connection.queue.len() < MAX_QUEUED)
    }

    /// A request, without its length prefix.
    pub(crate) fn handle(&mut self, now: Instant, id: ConnectionId, frame: Bytes) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.queue.push_back(frame);
            self.advance(now, id);
            self.settle(now);
        }
    }

    pub(crate) fn poll_output(&mut self, id: ConnectionId) -> Option<Output> {
        self.connections.get_mut(&id)?.output.pop_front()
    }

    /// The connections that got output since the last call.
    pub(crate) fn take_ready(&mut self) -> BTreeSet<ConnectionId> {
        std::mem::take(&mut self.ready)
    }

    /// The nodes that were stopped since the last call, whether by command or by a fault.
    pub(crate) fn take_stopped(&mut self) -> Vec<i32> {
        std::mem::take(&mut self.stopped)
    }

    /// How many requests of an API were decoded, at all nodes together.
    pub(crate) fn requests(&self, api: Api) -> u64 {
        self.requests.get(&api.key()).copied().unwrap_or(0)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.timers.keys().next().map(|(at, _)| *at)
    }

    pub(crate) fn handle_deadline(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry() {
            if entry.key().0 > now {
                break;
            }
            match entry.remove() {
                Timer::Parked(id) => {
                    self.look_at_parked_of(now, id, true);
                    self.advance(now, id);
                }
                Timer::Group(id) => self.group_is_due(now, &id),
                Timer::Replicated { topic, index, epoch, end } => self.replicated(&topic, index, epoch, end),
                Timer::Deliver(id, frame) => {
                    if let Some(connection) = self.connections.get_mut(&id)
                        && matches!(connection.state, State::Delayed)
                    {
                        connection.state = State::Idle;
                        self.push(id, Output::Send(frame));
                    }
                    self.advance(now, id);
                }
            }
        }
        self.settle(now);
    }

    /// Serves what waits on a connection until something is under way again.
    fn advance(&mut self, now: Instant, id: ConnectionId) {
        while let Some(connection) = self.connections.get_mut(&id)
            && matches!(connection.state, State::Idle)
            && let Some(frame) = connection.queue.pop_front()
        {
            let node = connection.node;
            self.at_node(node, |cluster| handlers::serve(cluster, now, node, id, frame));
        }
    }

    /// Looks at all parked requests that something happened to.
    pub(crate) fn settle(&mut self, now: Instant) {
        while let Some(id) = self.woken.pop_first() {
            self.look_at_parked_of(now, id, false);
            self.advance(now, id);
        }
    }

    fn look_at_parked_of(&mut self, now: Instant, id: ConnectionId, expired: bool) {
        let Some(node) = self.connections.get(&id).map(|connection| connection.node) else { return };
        self.at_node(node, |cluster| cluster.look_at_parked(now, id, expired));
    }

    fn push(&mut self, id: ConnectionId, output: Output) {
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.output.push_back(output);
            self.ready.insert(id);
        }
    }

    fn close(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let before = std::mem::replace(&mut connection.state, State::Closed);
            connection.queue.clear();
            match before {
                State::Closed => return,
                State::Parked(parked) => {
                    if let Some(timer) = parked.timer() {
                        self.timers.remove(&timer);
                    }
                }
                _ => {}
            }
            self.push(id, Output::Close);
        }
    }

    fn set_state(&mut self, id: ConnectionId, state: State) {
        if let Some(connection) = self.connections.get_mut(&id)
            && !matches!(connection.state, State::Closed)
        {
            connection.state = state;
        }
    }

    fn set_timer(&mut self, at: Instant, timer: Timer) -> (Instant, u64) {
        self.next_id += 1;
        let key = (at, self.next_id);
        self.timers.insert(key, timer);
        key
    }

    // ---- answers

    /// Answers a request, as its fault would have it.
    fn answer<T: Encodable + HeaderVersion>(&mut self, call: &Call, response: &T) {
        let id = call.connection;
        let mut frame = match encode(call, response) {
            Some(frame) => frame,
            None => {
                debug_assert!(false, "a response that version {} cannot express", call.version);
                return self.close(id);
            }
        };
        let header = 8 + usize::from(T::header_version(call.version) > 0);
        self.set_state(id, State::Idle);
        match call.fault.as_ref().map(|fault| &fault.action) {
            Some(Action::Delay(delay)) => {
                self.set_state(id, State::Delayed);
                self.set_timer(call.now + *delay, Timer::Deliver(id, frame.freeze()));
            }
            Some(Action::DropAnswer) => self.set_state(id, State::Hung),
            Some(Action::CutAfter) => self.close(id),
            Some(Action::CutMidFrame) => {
                let half = frame.split_to(frame.len() / 2).freeze();
                self.push(id, Output::Send(half));
                self.close(id);
            }
            Some(Action::Garbage(bytes)) => self.push(id, Output::Send(bytes.clone())),
            Some(Action::Body(body)) => {
                frame.truncate(header);
                frame.put_slice(body);
                set_length(&mut frame);
                self.push(id, Output::Send(frame.freeze()));
            }
            Some(Action::Corrupt(position)) => {
                if let Some(byte) = frame.get_mut(header + position) {
                    *byte = !*byte;
                }
                self.push(id, Output::Send(frame.freeze()));
            }
            _ => self.push(id, Output::Send(frame.freeze())),
        }
    }

    fn unix_ms(&self, now: Instant) -> i64 {
        let passed = now.saturating_duration_since(self.started).as_millis();
        self.started_ms.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }
}

fn encode<T: Encodable + HeaderVersion>(call: &Call, response: &T) -> Option<BytesMut> {
    let flexible = T::header_version(call.version) > 0;
    let size = response.compute_size(call.version).ok()?;
    let mut frame = BytesMut::with_capacity(size + 9);
    frame.put_i32(0);
    frame.put_i32(call.correlation);
    if flexible {
        frame.put_u8(0);
    }
    response.encode(&mut frame, call.version).ok()?;
    set_length(&mut frame);
    Some(frame)
}

fn set_length(frame: &mut BytesMut) {
    let length = i32::try_from(frame.len().saturating_sub(4)).unwrap_or(i32::MAX);
    if let Some(prefix) = frame.first_chunk_mut() {
        *prefix = length.to_be_bytes();
    }
}

fn new_uuid(random: &mut StdRng) -> Uuid {
    use rand::Rng as _;
    let mut bytes = [0; 16];
    random.fill_bytes(&mut bytes);
    uuid::Builder::from_random_bytes(bytes).into_uuid()
}

/// A duration that a request gave in milliseconds; what is negative counts as none.
fn millis(value: i32) -> Duration {
    Duration::from_millis(u64::try_from(value).unwrap_or(0))
}
