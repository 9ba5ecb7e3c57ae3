//! The client's machines against the broker's core, under one seed and a virtual clock: no socket, no runtime, no waiting.
//!
//! ```text
//!   applications        Sender, Consumer, Metadata        links          network            nodes
//!   (producing,  --->   (the machines of `state`)  --->  (link.rs)  ---> (network.rs) --->  (broker::cluster)
//!    consuming)                                                                              |
//!        ^                                                                                   v
//!        +------------------------ checked against ------------------------------- truth.rs: the logs
//! ```
//!
//! All chance comes from the seed, so that a seed that fails does so again. `plan.rs` and `script.rs` say what goes wrong, `runner.rs` runs many
//! seeds and says how to repeat one.
mod client;
mod consuming;
mod grouping;
mod ledger;
mod link;
mod network;
mod plan;
mod producing;
pub(crate) mod runner;
mod script;
mod truth;

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::broker::Faults;
use crate::broker::cluster::{Cluster, Output};
use client::Client;
use consuming::Consuming;
use grouping::Grouping;
use ledger::Ledger;
use network::{Event, Network};
use plan::{Division, Plan};
use producing::Producing;
use script::Script;
use truth::{TOPIC, Truth};

/// Steps after which a run is taken for one that never ends.
const MOST_STEPS: u64 = 400_000;
/// How long everything may take to come to an end once nothing goes wrong any more.
const END: Duration = Duration::from_secs(60);

/// What a run did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    steps: u64,
    written: u64,
    maybe_written: u64,
    not_written: u64,
    read: u64,
    faults: u64,
    retries: u64,
    epochs: u64,
    resets: u64,
    lost_connections: u64,
    /// Of all that happened, in order: the same for the same seed.
    trace: u64,
}

struct World {
    now: Instant,
    start: Instant,
    random: SmallRng,
    plan: Plan,
    cluster: Cluster,
    network: Network,
    producers: Vec<Producing>,
    consumers: Vec<Consuming>,
    members: Vec<Grouping>,
    ledger: Ledger,
    script: Script,
    truth: Truth,
    steps: u64,
    trace: u64,
    talk: bool,
}

impl World {
    /// Producers and consumers by themselves.
    fn new(seed: u64, talk: bool) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let plan = Plan::new(&mut random);
        Self::set_up(seed, random, plan, talk)
    }

    /// A consumer group.
    fn of_groups(seed: u64, talk: bool) -> Self {
        let mut random = SmallRng::seed_from_u64(seed ^ 0x9999);
        let plan = Plan::of_groups(&mut random);
        let members = plan.group.map_or(0, |group| group.members);
        let mut world = Self::set_up(seed, random, plan, talk);
        for _ in 0..members {
            script::groups::join(&mut world);
        }
        world
    }

    fn set_up(seed: u64, random: SmallRng, plan: Plan, talk: bool) -> Self {
        #[allow(clippy::disallowed_methods)] // any instant will do as the beginning
        let now = Instant::now();
        let mut cluster = Cluster::new(plan.config(seed), Faults::default(), now, 1_000_000);
        cluster.create_topic(TOPIC, plan.partitions, None).unwrap();
        let mut truth = Truth::default();
        truth.update(now, &cluster);
        let network = Network::new(plan.delay, plan.window);
        let mut world = Self {
            now,
            start: now,
            script: Script::new(now, &plan, seed),
            random,
            cluster,
            network,
            producers: Vec::new(),
            consumers: Vec::new(),
            members: Vec::new(),
            ledger: Ledger::default(),
            truth,
            steps: 0,
            trace: 0,
            talk,
            plan,
        };
        let names = ["a", "b"];
        for (at, settings) in world.plan.producers.clone().into_iter().enumerate() {
            let client = world.client(at);
            let (memory, seed) = (world.plan.memory, seed.wrapping_mul(31) + at as u64);
            let partitions = world.plan.partitions;
            world.producers.push(Producing::new(now, client, names[at], settings, partitions, memory, seed));
        }
        let alone = if world.plan.group.is_some() { Vec::new() } else { world.plan.consumers.clone() };
        for (at, settings) in alone.into_iter().enumerate() {
            let client = world.client(world.producers.len() + at);
            let (partitions, timeout) = (world.plan.partitions, world.plan.request_timeout);
            let seed = seed.wrapping_mul(37) + at as u64;
            world.consumers.push(Consuming::new(now, client, settings, partitions, timeout, seed));
        }
        world
    }

    fn client(&mut self, id: usize) -> Client {
        let seed = self.random.random();
        Client::new(
            id,
            self.now,
            self.plan.nodes,
            self.plan.request_timeout,
            self.plan.metadata_max_age,
            seed,
        )
    }

    /// Says something about the run to whoever repeats a seed.
    fn note(&self, what: std::fmt::Arguments<'_>) {
        if self.talk {
            println!("{:>12?} {what}", self.now - self.start);
        }
    }

    /// Makes something part of what tells this run from others.
    fn trace(&mut self, number: u64) {
        self.trace = (self.trace ^ number).wrapping_mul(0x100_0000_01b3).rotate_left(5);
    }

    // ---- time

    fn next_deadline(&self) -> Option<Instant> {
        let producers = self.producers.iter().filter_map(Producing::next_deadline);
        let consumers = self.consumers.iter().filter_map(|consumer| consumer.next_deadline(self.now));
        let members = self.members.iter().filter_map(|member| member.next_deadline(self.now));
        let rest = [self.network.next_event(), self.cluster.next_deadline(), self.script.next()];
        rest.into_iter().flatten().chain(producers).chain(consumers).chain(members).min()
    }

    /// To the next moment at which something happens, and through it.
    fn step(&mut self) -> Result<(), String> {
        let next = self.next_deadline().ok_or("nothing will ever happen again")?;
        self.now = self.now.max(next);
        self.steps += 1;
        self.cluster.handle_deadline(self.now);
        while let Some(event) = self.network.pop(self.now) {
            self.carry(event);
        }
        script::advance(self)?;
        self.pump();
        self.truth.update(self.now, &self.cluster);
        for at in 0..self.producers.len() {
            self.producers[at].advance(self.now, &mut self.network)?;
            self.producers[at].check_settled(&self.truth)?;
            self.producers[at].check_memory()?;
        }
        for at in 0..self.consumers.len() {
            self.consumers[at].advance(self.now, &mut self.network, &self.truth)?;
            self.consumers[at].check_memory()?;
        }
        self.step_members()?;
        if self.steps.is_multiple_of(16) {
            self.check_pending()?;
        }
        Ok(())
    }

    fn step_members(&mut self) -> Result<(), String> {
        if self.members.is_empty() {
            return Ok(());
        }
        for at in 0..self.members.len() {
            let advanced = self.members[at].advance(self.now, &mut self.network, &mut self.ledger);
            advanced.map_err(|what| format!("{what} (member {at})"))?;
        }
        let Some(view) = ledger::view(&self.cluster) else { return Ok(()) };
        ledger::check_owners(&view, &self.members)?;
        self.ledger.check(&view, &self.truth, self.committed())
    }

    /// Whether those who read see committed transactions only.
    fn committed(&self) -> bool {
        let reading = self.plan.consumers.first();
        reading
            .is_some_and(|reading| reading.isolation == crate::state::consumer::IsolationLevel::ReadCommitted)
    }

    fn check_pending(&self) -> Result<(), String> {
        let promptly = self.plan.promptly();
        for producer in &self.producers {
            producer.check_pending(self.now, promptly, |partition| self.well_since(partition))?;
        }
        for consumer in &self.consumers {
            let well = |partition| self.well_since(partition);
            consumer.check_pending(self.now, promptly, well, &self.truth)?;
        }
        Ok(())
    }

    /// Since when nothing is wrong at the leader of a partition, `None` while something is.
    fn well_since(&self, partition: i32) -> Option<Instant> {
        let leader = self.cluster.topics.partition(TOPIC, partition)?.leader;
        let since = self.script.well_since(self.now, leader)?;
        Some(since.max(self.truth.log(partition).moved.unwrap_or(since)))
    }

    // ---- the network

    fn carry(&mut self, event: Event) {
        let now = self.now;
        self.trace((now - self.start).as_nanos() as u64);
        self.trace(event.number());
        match event {
            Event::Connect(id) => {
                let Some(node) = self.network.sockets.get(&id).map(|socket| socket.node) else { return };
                if let Some(until) = self.network.paused(now, node) {
                    return self.network.wait(until, Event::Connect(id));
                }
                let connection = self.cluster.connect(node);
                self.network.accept(now, &mut self.random, id, connection);
            }
            Event::ToNode(id, frame) => {
                let Some(socket) = self.network.sockets.get_mut(&id) else { return };
                let node = socket.node;
                if let Some(until) = self.network.paused(now, node) {
                    return self.network.wait(until, Event::ToNode(id, frame));
                }
                if let Some(socket) = self.network.sockets.get_mut(&id) {
                    socket.inbox.push_back(frame);
                }
                self.feed(id);
            }
            Event::ClosedAtNode(id) => {
                let Some(socket) = self.network.sockets.get(&id) else { return };
                if let Some(until) = self.network.paused(now, socket.node) {
                    return self.network.wait(until, Event::ClosedAtNode(id));
                }
                if let Some(socket) = self.network.sockets.get_mut(&id)
                    && let Some(connection) = socket.connection.take()
                {
                    self.cluster.disconnect(connection);
                }
                self.network.forget_if_dead(id);
            }
            Event::Connected(id, accepted) => {
                self.with_holder(id, |client, network| client.connected(now, network, id, accepted));
            }
            Event::ToClient(id, frame) => {
                self.with_holder(id, |client, network| client.arrived(now, network, id, frame));
            }
            Event::ClosedAtClient(id) => self.with_holder(id, |client, _| client.hung_up(id)),
        }
    }

    /// The client that holds a socket, while it does.
    fn with_holder(&mut self, id: network::SocketId, tell: impl FnOnce(&mut Client, &mut Network)) {
        let Some(socket) = self.network.sockets.get(&id).filter(|socket| socket.held) else { return };
        let client = match socket.client.checked_sub(self.producers.len()) {
            None => &mut self.producers[socket.client].client,
            Some(at) if at < self.consumers.len() => &mut self.consumers[at].client,
            Some(at) => &mut self.members[at - self.consumers.len()].client,
        };
        tell(client, &mut self.network);
    }

    /// Hands requests that arrived to the node, as far as it takes them.
    fn feed(&mut self, id: network::SocketId) {
        while let Some(socket) = self.network.sockets.get_mut(&id)
            && let Some(connection) = socket.connection
            && self.cluster.accepts(connection)
            && let Some(frame) = socket.inbox.pop_front()
        {
            let size = frame.len();
            self.network.taken(id, size);
            self.cluster.handle(self.now, connection, frame);
        }
    }

    /// Carries what nodes have to say to the network.
    fn pump(&mut self) {
        loop {
            let ready = self.cluster.take_ready();
            if ready.is_empty() {
                return;
            }
            for connection in ready {
                let Some(id) = self.network.socket_of(connection) else { continue };
                while let Some(output) = self.cluster.poll_output(connection) {
                    match output {
                        Output::Send(frame) => self.network.answer(self.now, &mut self.random, id, frame),
                        Output::Close => {
                            self.network.hang_up(self.now, &mut self.random, id);
                            self.cluster.disconnect(connection);
                        }
                    }
                }
                self.feed(id);
            }
        }
    }

    // ---- a run

    /// Everything goes wrong for a while, then nothing does, and all must come to its end.
    fn run(&mut self) -> Result<Counts, String> {
        let ended = match self.plan.group {
            None => self.run_to_the_end(),
            Some(_) => self.run_group(),
        };
        if let Err(what) = &ended {
            self.note(format_args!("{what}"));
            for consumer in self.consumers.iter().filter(|_| self.talk) {
                println!("{}", consumer.describe());
            }
        }
        ended
    }

    fn run_to_the_end(&mut self) -> Result<Counts, String> {
        while self.now < self.start + self.plan.length {
            self.step()?;
            self.bounded()?;
        }
        script::heal(self);
        let healed = self.now;
        loop {
            self.step()?;
            self.bounded()?;
            let produced = self.producers.iter().all(Producing::is_done);
            if produced && self.consumers.iter().all(|consumer| consumer.is_done(&self.truth)) {
                break;
            }
            if self.now > healed + END {
                return Err(match produced {
                    true => format!("C1: not everything was read within {END:?}"),
                    false => format!("P4: not everything was settled within {END:?}"),
                });
            }
        }
        for producer in &self.producers {
            producer.check_end(&self.truth, self.plan.is_calm())?;
        }
        for consumer in &self.consumers {
            consumer.check_bytes(self.plan.is_calm())?;
        }
        Ok(self.counts())
    }

    /// A storm over a group; then everybody has to find together; then one more joins, which may disturb nobody.
    fn run_group(&mut self) -> Result<Counts, String> {
        while self.now < self.start + self.plan.length {
            self.step()?;
            self.bounded()?;
        }
        script::heal(self);
        self.converge()?;
        if let Some((partition, offset)) = self.ledger.first_unread(&self.truth, self.committed()) {
            return Err(format!("C1: nobody has read {offset} of partition {partition}"));
        }
        let generation = |world: &Self| ledger::view(&world.cluster).map_or(0, |view| view.generation());
        let before: Vec<_> =
            self.members.iter().map(|member| (member.lives(), member.partitions())).collect();
        let began = generation(self);
        self.members.iter_mut().for_each(|member| member.taken.clear());
        script::groups::join(self);
        self.converge()?;
        let Some(plan) = self.plan.group else { return Ok(self.counts()) };
        let rounds = generation(self) - began;
        let keeps = matches!(plan.division, Division::Cooperative | Division::Consumer);
        if plan.division == Division::Cooperative && rounds > 2 {
            return Err(format!("rounds: it took {rounds} rounds to let one more in"));
        }
        for (at, (_, owned)) in before.iter().enumerate().filter(|(_, (lived, _))| *lived && keeps) {
            let member = &self.members[at];
            if let Some(partition) =
                owned.intersection(&member.partitions()).find(|one| member.taken.contains(one))
            {
                return Err(format!(
                    "kept: member {at} has lost partition {partition} on the way to keeping it"
                ));
            }
        }
        Ok(self.counts())
    }

    /// Until the group is at rest and all is read.
    fn converge(&mut self) -> Result<(), String> {
        let until = self.now + self.plan.settling();
        let joined = self.members.len();
        loop {
            if !self.members.iter().any(Grouping::lives) {
                script::groups::join(self);
            }
            self.step()?;
            self.bounded()?;
            let together = ledger::has_converged(&self.cluster, &self.members, self.plan.partitions);
            if together && self.ledger.first_unread(&self.truth, self.committed()).is_none() {
                return Ok(());
            }
            if self.now > until {
                let unread = self.ledger.first_unread(&self.truth, self.committed());
                let view = ledger::view(&self.cluster);
                let members: Vec<_> = self.members.iter().map(Grouping::describe).collect();
                return Err(format!(
                    "converge: {joined} members, together: {together}, unread: {unread:?}: {members:#?} {view:#?}"
                ));
            }
        }
    }

    fn bounded(&self) -> Result<(), String> {
        match self.steps > MOST_STEPS {
            true => Err(format!("spins: {MOST_STEPS} steps in {:?}", self.now - self.start)),
            false => Ok(()),
        }
    }

    fn counts(&self) -> Counts {
        let mut counts =
            Counts { steps: self.steps, faults: self.script.faults, trace: self.trace, ..Counts::default() };
        for producer in &self.producers {
            let [written, maybe, not] = producer.counts();
            counts.written += written;
            counts.maybe_written += maybe;
            counts.not_written += not;
            counts.retries += producer.counters().retries;
            counts.epochs += producer.counters().epochs;
            counts.lost_connections += producer.client.lost;
        }
        for member in &self.members {
            counts.read += member.records;
            counts.lost_connections += member.client.lost;
        }
        for consumer in &self.consumers {
            counts.read += consumer.records;
            counts.resets += consumer.resets;
            counts.lost_connections += consumer.client.lost;
        }
        counts
    }
}
