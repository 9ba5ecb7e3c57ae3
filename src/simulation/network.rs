//! The network between clients and nodes: every byte takes its time, and some never arrive.
//!
//! A socket has two directions, each in order. What was handed to it is under way even when the client has given the
//! socket up, so a node may execute a request long after nobody waits for the answer.
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::RngExt as _;
use rand::rngs::SmallRng;

use crate::broker::cluster::ConnectionId;

pub(super) type SocketId = u64;

/// What happens at its time.
#[derive(Debug)]
pub(super) enum Event {
    /// A client's attempt to connect arrives.
    Connect(SocketId),
    /// It succeeded, or was refused.
    Connected(SocketId, bool),
    /// A request arrives, without its length.
    ToNode(SocketId, Bytes),
    /// An answer arrives, with its length.
    ToClient(SocketId, Bytes),
    /// The node sees that the client is gone.
    ClosedAtNode(SocketId),
    /// The client sees that the node is gone.
    ClosedAtClient(SocketId),
}

impl Event {
    /// Tells it from others at the same time.
    pub(super) fn number(&self) -> u64 {
        match self {
            Self::Connect(id) => *id,
            Self::Connected(id, accepted) => id << 8 | u64::from(*accepted),
            Self::ToNode(id, frame) => id << 32 | 1 << 24 | frame.len() as u64,
            Self::ToClient(id, frame) => id << 32 | 2 << 24 | frame.len() as u64,
            Self::ClosedAtNode(id) => id << 16 | 3,
            Self::ClosedAtClient(id) => id << 16 | 4,
        }
    }
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) client: usize,
    pub(super) node: i32,
    /// The broker's side of it, once it was accepted.
    pub(super) connection: Option<ConnectionId>,
    /// The client has not given it up.
    pub(super) held: bool,
    /// Requests that arrived and that the node has no room for yet.
    pub(super) inbox: VecDeque<Bytes>,
    /// Bytes of requests that the node has not taken in.
    under_way: usize,
    /// When the last of each direction arrives.
    last: [Instant; 2],
    /// Which directions lose everything.
    lost: [bool; 2],
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Way {
    ToNode,
    ToClient,
}

/// How a connection is broken.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cut {
    /// Both ends see it; some of the requests under way still arrive.
    Clean,
    /// The client sees it, and all of its requests arrive, up to so much later.
    Late(Duration),
    /// Nobody sees it: requests, answers, or both are lost from now on.
    Silent([bool; 2]),
}

#[derive(Debug)]
pub(super) struct Network {
    events: BTreeMap<(Instant, u64), Event>,
    pub(super) sockets: BTreeMap<SocketId, Socket>,
    /// Until when a node does nothing at all.
    paused: BTreeMap<i32, Instant>,
    /// What the way to a node takes besides.
    slow: BTreeMap<i32, Duration>,
    base: Duration,
    /// Bytes that may be under way to a node on one socket.
    window: usize,
    next: u64,
}

impl Network {
    pub(super) fn new(base: Duration, window: usize) -> Self {
        Self {
            events: BTreeMap::new(),
            sockets: BTreeMap::new(),
            paused: BTreeMap::new(),
            slow: BTreeMap::new(),
            base,
            window,
            next: 0,
        }
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn pop(&mut self, now: Instant) -> Option<Event> {
        let entry = self.events.first_entry().filter(|entry| entry.key().0 <= now)?;
        Some(entry.remove())
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.next += 1;
        self.events.insert((at, self.next), event);
    }

    // ---- conditions

    /// A node that is paused already stays so just as long, since what waits there must not change its order.
    pub(super) fn pause(&mut self, now: Instant, node: i32, until: Instant) {
        if self.paused(now, node).is_none() {
            self.paused.insert(node, until);
        }
    }

    pub(super) fn paused(&self, now: Instant, node: i32) -> Option<Instant> {
        self.paused.get(&node).copied().filter(|until| *until > now)
    }

    /// When the last pause is over.
    pub(super) fn awake(&self, now: Instant) -> Instant {
        self.paused.values().copied().fold(now, Instant::max)
    }

    pub(super) fn slow(&mut self, node: i32, by: Duration) {
        self.slow.insert(node, by);
    }

    /// Nothing gets lost from now on; pauses end by themselves.
    pub(super) fn heal(&mut self) {
        self.slow.clear();
        for socket in self.sockets.values_mut().filter(|socket| socket.lost != [false; 2]) {
            // What was lost is lost; the ends find out when they next use it.
            socket.lost = [true; 2];
        }
    }

    fn delay(&mut self, random: &mut SmallRng, node: i32) -> Duration {
        let slow = self.slow.get(&node).copied().unwrap_or_default();
        (self.base + slow).mul_f64(random.random_range(0.5..1.5)) + Duration::from_micros(20)
    }

    /// When something sent now arrives: behind what was sent before it.
    fn arrival(&mut self, now: Instant, random: &mut SmallRng, id: SocketId, way: Way) -> Option<Instant> {
        let node = self.sockets.get(&id)?.node;
        let delay = self.delay(random, node);
        let socket = self.sockets.get_mut(&id)?;
        let last = &mut socket.last[way as usize];
        *last = (*last).max(now + delay);
        (!socket.lost[way as usize]).then_some(*last)
    }

    // ---- the client's end

    pub(super) fn connect(
        &mut self,
        now: Instant,
        random: &mut SmallRng,
        client: usize,
        node: i32,
    ) -> SocketId {
        self.next += 1;
        let id = self.next;
        let socket = Socket {
            client,
            node,
            connection: None,
            held: true,
            inbox: VecDeque::new(),
            under_way: 0,
            last: [now; 2],
            lost: [false; 2],
        };
        self.sockets.insert(id, socket);
        if let Some(at) = self.arrival(now, random, id, Way::ToNode) {
            self.push(at, Event::Connect(id));
        }
        id
    }

    /// Whether the socket takes more bytes now.
    pub(super) fn has_room(&self, id: SocketId) -> bool {
        self.sockets.get(&id).is_some_and(|socket| socket.under_way < self.window)
    }

    /// Hands a request to the socket, without its length.
    pub(super) fn request(&mut self, now: Instant, random: &mut SmallRng, id: SocketId, frame: Bytes) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.under_way += frame.len();
        }
        if let Some(at) = self.arrival(now, random, id, Way::ToNode) {
            self.push(at, Event::ToNode(id, frame));
        }
    }

    /// The client gives the socket up. What it has sent is under way all the same.
    pub(super) fn give_up(&mut self, now: Instant, random: &mut SmallRng, id: SocketId) {
        let Some(socket) = self.sockets.get_mut(&id).filter(|socket| socket.held) else { return };
        socket.held = false;
        if let Some(at) = self.arrival(now, random, id, Way::ToNode) {
            self.push(at, Event::ClosedAtNode(id));
        }
    }

    // ---- the node's end

    /// An attempt to connect was answered.
    pub(super) fn accept(
        &mut self,
        now: Instant,
        random: &mut SmallRng,
        id: SocketId,
        connection: Option<ConnectionId>,
    ) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.connection = connection;
        }
        if let Some(at) = self.arrival(now, random, id, Way::ToClient) {
            self.push(at, Event::Connected(id, connection.is_some()));
        }
    }

    /// The node took a request in.
    pub(super) fn taken(&mut self, id: SocketId, bytes: usize) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.under_way = socket.under_way.saturating_sub(bytes);
        }
    }

    pub(super) fn answer(&mut self, now: Instant, random: &mut SmallRng, id: SocketId, frame: Bytes) {
        if let Some(at) = self.arrival(now, random, id, Way::ToClient) {
            self.push(at, Event::ToClient(id, frame));
        }
    }

    /// The node closes the socket.
    pub(super) fn hang_up(&mut self, now: Instant, random: &mut SmallRng, id: SocketId) {
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.connection = None;
        }
        if let Some(at) = self.arrival(now, random, id, Way::ToClient) {
            self.push(at, Event::ClosedAtClient(id));
        }
    }

    /// Nothing is left of it at either end.
    pub(super) fn forget_if_dead(&mut self, id: SocketId) {
        if self.sockets.get(&id).is_some_and(|socket| !socket.held && socket.connection.is_none()) {
            self.sockets.remove(&id);
        }
    }

    pub(super) fn socket_of(&self, connection: ConnectionId) -> Option<SocketId> {
        let found = self.sockets.iter().find(|(_, socket)| socket.connection == Some(connection));
        found.map(|(id, _)| *id)
    }

    // ---- faults

    pub(super) fn cut(&mut self, now: Instant, random: &mut SmallRng, id: SocketId, cut: Cut) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        match cut {
            // What is lost once stays so: a stream with a hole in it is none.
            Cut::Silent(lost) => socket.lost = [socket.lost[0] | lost[0], socket.lost[1] | lost[1]],
            Cut::Late(most) => {
                let later = most.mul_f64(random.random_range(0.0..1.0));
                self.delay_requests(id, later);
                self.drop_answers(id);
                self.push(now, Event::ClosedAtClient(id));
            }
            Cut::Clean => {
                let mut arriving = random.random_range(0..4);
                let all = std::mem::take(&mut self.events);
                for (key, event) in all {
                    match &event {
                        Event::ToNode(of, frame) if *of == id => {
                            if arriving == 0 {
                                let bytes = frame.len();
                                self.taken(id, bytes);
                                continue;
                            }
                            arriving -= 1;
                        }
                        Event::ToClient(of, _) if *of == id => continue,
                        _ => {}
                    }
                    self.events.insert(key, event);
                }
                let last = self.sockets.get(&id).map_or(now, |socket| socket.last[0]);
                self.push(last, Event::ClosedAtNode(id));
                self.push(now, Event::ClosedAtClient(id));
            }
        }
    }

    fn drop_answers(&mut self, id: SocketId) {
        self.events.retain(|_, event| !matches!(event, Event::ToClient(of, _) if *of == id));
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.lost[Way::ToClient as usize] = true;
        }
    }

    fn delay_requests(&mut self, id: SocketId, by: Duration) {
        let is_of =
            |event: &Event| matches!(event, Event::ToNode(of, _) | Event::ClosedAtNode(of) if *of == id);
        let all = std::mem::take(&mut self.events);
        for ((at, number), event) in all {
            let at = if is_of(&event) { at + by } else { at };
            self.events.insert((at, number), event);
        }
        if let Some(socket) = self.sockets.get_mut(&id) {
            socket.last[0] += by;
        }
    }

    /// What arrives at a paused node waits there, in order.
    pub(super) fn wait(&mut self, until: Instant, event: Event) {
        self.push(until, event);
    }
}
