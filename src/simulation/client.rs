//! A client without its shell: the machines for metadata and connections, and requests on their way to nodes, as the
//! network layer would carry them.
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::MetadataRequest;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::link::{Failure, Link, Purpose, Ticket};
use super::network::{Network, SocketId};
use crate::error::{Error, ErrorKind};
use crate::protocol::header::{self, Answer, Encoded};
use crate::protocol::version::ApiVersions;
use crate::state::backoff::Backoff;
use crate::state::metadata::{self, Cluster, Metadata, MetadataOptions};

/// As the public options have them by default.
pub(super) const BACKOFF: Backoff =
    Backoff { first: Duration::from_millis(100), max: Duration::from_secs(1) };
pub(super) struct Client {
    id: usize,
    pub(super) metadata: Metadata,
    pub(super) cluster: Arc<Cluster>,
    /// The snapshot changed and was not passed on yet.
    pub(super) changed: bool,
    links: BTreeMap<(i32, Purpose), Link>,
    done: VecDeque<(Ticket, Result<Answer, Failure>)>,
    random: SmallRng,
    request_timeout: Duration,
    bootstrap: i32,
    now: Instant,
    pub(super) lost: u64,
}

impl Client {
    pub(super) fn new(
        id: usize,
        now: Instant,
        nodes: i32,
        request_timeout: Duration,
        max_age: Duration,
        seed: u64,
    ) -> Self {
        let options =
            MetadataOptions { max_age, backoff: BACKOFF, bootstrap: nodes as usize, rebootstrap: true };
        Self {
            id,
            metadata: Metadata::new(now, options, SmallRng::seed_from_u64(seed)),
            cluster: Arc::default(),
            changed: false,
            links: BTreeMap::new(),
            done: VecDeque::new(),
            random: SmallRng::seed_from_u64(seed ^ 1),
            request_timeout,
            bootstrap: nodes,
            now,
            lost: 0,
        }
    }

    pub(super) fn refresh(&mut self) {
        self.metadata.refresh();
    }

    /// The nodes that can be asked anything, those with a standing connection first.
    pub(super) fn any_node(&self) -> i32 {
        let known = self.cluster.nodes.keys().copied().chain((1..=self.bootstrap).map(|number| -number));
        let mut nodes: Vec<i32> = known.collect();
        nodes.sort_unstable_by_key(|node| {
            let link = self.links.get(&(*node, Purpose::Rest));
            (link.is_none_or(|link| !link.is_open()), link.map_or(0, Link::failures), *node < 0, *node)
        });
        nodes.first().copied().unwrap_or(-1)
    }

    pub(super) fn submit(
        &mut self,
        node: i32,
        purpose: Purpose,
        deadline: Instant,
        ticket: Ticket,
        build: impl FnOnce(&ApiVersions) -> Result<Encoded, Error> + 'static,
    ) {
        let known = if node < 0 { -node <= self.bootstrap } else { self.cluster.nodes.contains_key(&node) };
        if !known {
            let error = Error::new(ErrorKind::Connect, format!("node {node} is not in the cluster"));
            self.done.push_back((ticket, Err(Failure { error, sent: false })));
            return self.metadata.refresh();
        }
        let link = self.links.entry((node, purpose)).or_insert_with(|| Link::new(node.abs()));
        link.submit(deadline, ticket, Box::new(build));
    }

    pub(super) fn throttle(&mut self, node: i32, purposes: &[Purpose], until: Instant) {
        for purpose in purposes {
            if let Some(link) = self.links.get_mut(&(node, *purpose)) {
                link.mute(until);
            }
        }
    }

    /// Nobody waits for this any more: the connections are closed.
    pub(super) fn close(&mut self, now: Instant, network: &mut Network) {
        for link in self.links.values_mut() {
            link.leave(now, network, &mut self.random);
        }
        self.links.clear();
    }

    pub(super) fn take_done(&mut self) -> Option<(Ticket, Result<Answer, Failure>)> {
        self.done.pop_front()
    }

    /// Lets everything happen that can happen now.
    pub(super) fn advance(&mut self, now: Instant, network: &mut Network) {
        self.now = now;
        while let Some(query) = self.metadata.poll_request(now) {
            let (node, ticket) = (query.node, Ticket::Metadata(query.ticket));
            self.submit(node, Purpose::Rest, now + self.request_timeout, ticket, move |versions| {
                header::encode(&query.request(), versions.choose::<MetadataRequest>()?, "simulated")
            });
        }
        while let Some(event) = self.metadata.poll_event() {
            if let metadata::Event::Changed(cluster) = event {
                check_epochs(&self.cluster, &cluster);
                self.cluster = cluster;
                self.changed = true;
            }
        }
        let (done, random) = (&mut self.done, &mut self.random);
        let mut lost = 0;
        for link in self.links.values_mut() {
            lost += u64::from(link.advance(now, self.id, network, random, done));
        }
        if lost > 0 {
            self.lost += lost;
            self.metadata.refresh();
        }
    }

    /// The answers to what the client itself had asked.
    pub(super) fn take_in_metadata(&mut self, now: Instant, ticket: u64, outcome: Result<Answer, Failure>) {
        let decoded = outcome
            .map_err(|failure| failure.error)
            .and_then(|answer| Ok((header::decode::<MetadataRequest>(&answer)?, answer.version)));
        match decoded {
            Ok((response, version)) => self.metadata.handle_response(now, ticket, &response, version),
            Err(error) => self.metadata.handle_failure(now, ticket, error),
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.changed || !self.done.is_empty() {
            return Some(self.now); // another turn, at once
        }
        let links = self.links.values().filter_map(Link::next_deadline).min();
        [self.metadata.next_deadline(), links].into_iter().flatten().min()
    }

    // ---- what the network tells

    fn link_of(&mut self, socket: SocketId) -> Option<(&mut Link, &mut SmallRng)> {
        let link = self.links.values_mut().find(|link| link.socket == Some(socket))?;
        Some((link, &mut self.random))
    }

    pub(super) fn connected(
        &mut self,
        now: Instant,
        network: &mut Network,
        socket: SocketId,
        accepted: bool,
    ) {
        if let Some((link, random)) = self.link_of(socket) {
            link.connected(now, network, random, accepted);
        }
    }

    pub(super) fn arrived(&mut self, now: Instant, network: &mut Network, socket: SocketId, frame: Bytes) {
        let answered =
            self.link_of(socket).and_then(|(link, random)| link.arrived(now, network, random, frame));
        self.done.extend(answered.map(|(ticket, answer)| (ticket, Ok(answer))));
    }

    pub(super) fn hung_up(&mut self, socket: SocketId) {
        if let Some((link, _)) = self.link_of(socket) {
            link.break_off(ErrorKind::Connect, "the node closed the connection");
        }
    }
}

/// Whatever nodes say, what is believed of leaders never goes back.
fn check_epochs(before: &Cluster, after: &Cluster) {
    for (name, topic) in &before.topics {
        let Some(now) = after.topic(name).filter(|now| now.id == topic.id) else { continue };
        for (at, (old, new)) in topic.partitions.iter().zip(&now.partitions).enumerate() {
            assert!(
                new.leader_epoch >= old.leader_epoch,
                "stale leader: {name}-{at} goes back from epoch {} to {}",
                old.leader_epoch,
                new.leader_epoch
            );
        }
    }
}
