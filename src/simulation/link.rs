//! The way to one node for one purpose, as the network layer's link and session have it: wait out the backoff, connect, agree on
//! versions, send in order, and close the connection when an answer is not there in time.
use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Buf as _, Bytes, BytesMut};
use kafka_protocol::messages::ApiVersionsRequest;
use rand::rngs::SmallRng;

use super::network::{Network, SocketId};
use crate::error::{Error, ErrorKind};
use crate::protocol::header::{self, Answer, Encoded};
use crate::protocol::request::Request as _;
use crate::protocol::version::{self, ApiVersions, Negotiation};
use crate::state::backoff::Backoff;
use crate::state::connection::Connection;
use crate::state::in_flight::InFlight;

const RECONNECT: Backoff = Backoff { first: Duration::from_millis(50), max: Duration::from_secs(1) };
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Frames that wait for room in the socket; what comes behind stays in the queue.
const BACKLOG: usize = 4;

/// One connection for each: what is parked must not stand before what is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Purpose {
    Produce,
    Fetch(usize),
    Heartbeat,
    Group,
    Rebalance,
    Rest,
}

/// Whose request it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ticket {
    Metadata(u64),
    Identity(crate::state::producer::Ticket),
    Produce(crate::state::producer::Ticket),
    Fetch(u64),
    Offsets(u64),
    Epochs(u64),
    Group(u64),
}

/// Why there is no answer, and whether a byte may have reached the node.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) sent: bool,
}

pub(super) type Build = Box<dyn FnOnce(&ApiVersions) -> Result<Encoded, Error>>;
pub(super) type Done = VecDeque<(Ticket, Result<Answer, Failure>)>;

struct Submission {
    deadline: Instant,
    ticket: Ticket,
    build: Build,
}

struct Waiting {
    /// `None`: the question for the node's versions.
    ticket: Option<Ticket>,
    api_key: i16,
    version: i16,
    written: Rc<Cell<bool>>,
}

struct Frame {
    bytes: Bytes,
    written: Rc<Cell<bool>>,
    /// No answer will come: it is done when it is written.
    unanswered: Option<(Ticket, i16)>,
}

pub(super) struct Link {
    target: i32,
    state: Connection,
    queue: VecDeque<Submission>,
    pub(super) socket: Option<SocketId>,
    /// Until when it may take to connect and to agree on versions.
    opening: Option<Instant>,
    /// Until when no attempt begins.
    wait: Option<Instant>,
    muted: Option<Instant>,
    versions: Option<Arc<ApiVersions>>,
    in_flight: InFlight<Waiting>,
    unwritten: VecDeque<Frame>,
    broken: Option<Error>,
}

impl Link {
    pub(super) fn new(target: i32) -> Self {
        Self {
            target,
            state: Connection::new(RECONNECT, None),
            queue: VecDeque::new(),
            socket: None,
            opening: None,
            wait: None,
            muted: None,
            versions: None,
            in_flight: InFlight::default(),
            unwritten: VecDeque::new(),
            broken: None,
        }
    }

    pub(super) fn submit(&mut self, deadline: Instant, ticket: Ticket, build: Build) {
        self.queue.push_back(Submission { deadline, ticket, build });
    }

    pub(super) fn mute(&mut self, until: Instant) {
        self.state.mute(until);
    }

    pub(super) fn is_open(&self) -> bool {
        self.versions.is_some()
    }

    pub(super) fn failures(&self) -> u32 {
        self.state.failures()
    }

    pub(super) fn break_off(&mut self, kind: ErrorKind, why: &str) {
        self.broken.get_or_insert_with(|| Error::new(kind, why));
    }

    pub(super) fn leave(&mut self, now: Instant, network: &mut Network, random: &mut SmallRng) {
        if let Some(socket) = self.socket.take() {
            network.give_up(now, random, socket);
        }
    }

    /// Does what can be done now. True if the node was lost, or could not be reached.
    pub(super) fn advance(
        &mut self,
        now: Instant,
        client: usize,
        network: &mut Network,
        random: &mut SmallRng,
        done: &mut Done,
    ) -> bool {
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if is_due(self.opening) || is_due(self.in_flight.next_deadline()) {
            self.break_off(ErrorKind::Timeout, "no answer in time");
        }
        let lost = match self.broken.take() {
            Some(error) => self.end(now, network, random, &error, done),
            None => false,
        };
        self.expire(now, done);
        self.wait = self.state.open(now).filter(|_| self.socket.is_none() && !self.queue.is_empty());
        if self.socket.is_none() && !self.queue.is_empty() && self.wait.is_none() {
            self.socket = Some(network.connect(now, random, client, self.target));
            self.opening = Some(now + CONNECT_TIMEOUT);
        }
        self.muted = self.state.muted(now).filter(|_| !self.queue.is_empty());
        if self.muted.is_none() {
            self.encode(done);
        }
        self.write(now, network, random, done);
        lost
    }

    /// The connection is over: nobody waits for its answers any more.
    fn end(
        &mut self,
        now: Instant,
        network: &mut Network,
        random: &mut SmallRng,
        error: &Error,
        done: &mut Done,
    ) -> bool {
        self.leave(now, network, random);
        let opened = self.versions.take().is_some();
        self.opening = None;
        let mut lost = !opened;
        for frame in self.unwritten.drain(..) {
            if let Some((ticket, _)) = frame.unanswered {
                done.push_back((ticket, Err(Failure { error: error.clone(), sent: false })));
                lost = true;
            }
        }
        for (_, waiting) in self.in_flight.abandon(now) {
            let sent = waiting.written.get();
            let error = if sent { error.clone().unsure() } else { error.clone() };
            lost = true;
            done.extend(waiting.ticket.map(|ticket| (ticket, Err(Failure { error, sent }))));
        }
        match lost {
            true => self.state.failed(now, random),
            false => self.state.closed(),
        }
        if !opened {
            for waiting in self.queue.drain(..) {
                done.push_back((waiting.ticket, Err(Failure { error: error.clone(), sent: false })));
            }
        }
        lost
    }

    fn expire(&mut self, now: Instant, done: &mut Done) {
        let (late, rest) = std::mem::take(&mut self.queue).into_iter().partition(|one| one.deadline <= now);
        self.queue = rest;
        for late in VecDeque::<Submission>::from_iter::<VecDeque<_>>(late) {
            let error = Error::new(ErrorKind::Timeout, "the request's time passed in the queue");
            done.push_back((late.ticket, Err(Failure { error, sent: false })));
        }
    }

    fn encode(&mut self, done: &mut Done) {
        let Some(versions) = self.versions.clone() else { return };
        while self.unwritten.len() < BACKLOG
            && let Some(Submission { deadline, ticket, build }) = self.queue.pop_front()
        {
            let correlation = self.in_flight.correlation();
            match build(&versions).and_then(|mut frame| frame.address_to(correlation).map(|_| frame)) {
                Ok(frame) => self.push(deadline, Some(ticket), correlation, frame),
                Err(error) => done.push_back((ticket, Err(Failure { error, sent: false }))),
            }
        }
    }

    fn push(&mut self, deadline: Instant, ticket: Option<Ticket>, correlation: i32, frame: Encoded) {
        let (api_key, version, answered) = (frame.api_key, frame.version, frame.answered);
        let mut bytes = BytesMut::from(&frame.head[4..]);
        frame.tail.iter().for_each(|piece| bytes.extend_from_slice(piece));
        let written = Rc::new(Cell::new(false));
        let unanswered = ticket.filter(|_| !answered).map(|ticket| (ticket, version));
        self.unwritten.push_back(Frame { bytes: bytes.freeze(), written: written.clone(), unanswered });
        if answered {
            self.in_flight.push(correlation, deadline, Waiting { ticket, api_key, version, written });
        }
    }

    fn write(&mut self, now: Instant, network: &mut Network, random: &mut SmallRng, done: &mut Done) {
        let Some(socket) = self.socket else { return };
        while network.has_room(socket)
            && let Some(frame) = self.unwritten.pop_front()
        {
            frame.written.set(true);
            network.request(now, random, socket, frame.bytes);
            if let Some((ticket, version)) = frame.unanswered {
                done.push_back((ticket, Ok(Answer { version, body: Bytes::new(), address: "node".into() })));
            }
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let queued = self.queue.iter().map(|waiting| waiting.deadline).min();
        [self.opening, self.wait, self.muted, self.in_flight.next_deadline(), queued]
            .into_iter()
            .flatten()
            .min()
    }

    // ---- what the network tells

    pub(super) fn connected(
        &mut self,
        now: Instant,
        network: &mut Network,
        random: &mut SmallRng,
        accepted: bool,
    ) {
        if accepted {
            self.ask_versions(now, network, random, ApiVersionsRequest::RANGE.1);
        } else {
            self.break_off(ErrorKind::Connect, "connection refused");
        }
    }

    fn ask_versions(&mut self, now: Instant, network: &mut Network, random: &mut SmallRng, version: i16) {
        let correlation = self.in_flight.correlation();
        let request = ApiVersionsRequest::default()
            .with_client_software_name("milena".to_owned().into())
            .with_client_software_version("0".to_owned().into());
        let mut frame = header::encode(&request, version, "simulated").unwrap();
        frame.address_to(correlation).unwrap();
        self.push(now + CONNECT_TIMEOUT, None, correlation, frame);
        self.write(now, network, random, &mut Done::new());
    }

    /// An answer, with its length: whose it is, if anybody's.
    pub(super) fn arrived(
        &mut self,
        now: Instant,
        network: &mut Network,
        random: &mut SmallRng,
        mut frame: Bytes,
    ) -> Option<(Ticket, Answer)> {
        if frame.len() < 8 || frame.get_i32() as usize != frame.len() {
            self.break_off(ErrorKind::Connect, "the node closed the connection in the middle of an answer");
            return None;
        }
        let waiting = match self.in_flight.answer(header::correlation(&frame).unwrap_or(-1)) {
            Ok(waiting) => waiting,
            Err(stray) => {
                self.break_off(ErrorKind::Protocol, &stray.to_string());
                return None;
            }
        };
        let address: Arc<str> = format!("node-{}:9092", self.target).into();
        if let Some(ticket) = waiting.ticket {
            let body = header::body(frame, waiting.api_key, waiting.version).unwrap();
            return Some((ticket, Answer { version: waiting.version, body, address }));
        }
        match version::decode(waiting.version, &frame[4..], &address) {
            Ok(Negotiation::Done(versions)) => {
                self.versions = Some(Arc::new(versions));
                self.opening = None;
                self.state.opened(now);
            }
            Ok(Negotiation::AskIn(lower)) => self.ask_versions(now, network, random, lower),
            other => panic!("no versions: {other:?}"),
        }
        None
    }
}
