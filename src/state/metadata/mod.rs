//! The cluster as the client knows it: what to ask, whom, when, and what to believe.
//!
//! ```text
//!            want, refresh, max age            answer, failure
//!   Settled ------------------------> Asking -----------------> Settled
//!                                      | no answer for a while: ask one more node
//! ```
//!
//! Invariants: a partition's leader epoch never goes back while its topic keeps its id; waits grow while attempts fail
//! and while answers bring nothing new although something was missing; while any node is left untried, the next
//! attempt goes to it, and after the last one to the bootstrap servers.
pub(crate) mod cluster;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};
use kafka_protocol::protocol::StrBytes;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;

pub(crate) use cluster::{Cluster, Node, Partition, Topic};

use crate::error::{Error, ErrorKind};
use crate::protocol::error_code::ErrorCode;
use crate::state::backoff::Backoff;

/// A node that has not answered for so long gets company: another one is asked the same.
const PATIENCE: Duration = Duration::from_secs(1);

/// When and whom to ask.
#[derive(Debug, Clone)]
pub(crate) struct MetadataOptions {
    pub(crate) max_age: Duration,
    pub(crate) backoff: Backoff,
    /// How many bootstrap servers there are: they are the nodes -1, -2, ...
    pub(crate) bootstrap: usize,
    /// Whether to go back to them when no node is left (`metadata.recovery.strategy=rebootstrap`).
    pub(crate) rebootstrap: bool,
}

/// A question for a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) ticket: u64,
    pub(crate) node: i32,
    pub(crate) topics: Vec<Arc<str>>,
    /// All topics there are, besides.
    pub(crate) all: bool,
    /// The node may create topics that do not exist.
    pub(crate) create: bool,
}

impl Query {
    pub(crate) fn request(&self) -> MetadataRequest {
        let topic = |name: &Arc<str>| {
            let name = TopicName(StrBytes::from_string(name.to_string()));
            MetadataRequestTopic::default().with_name(Some(name))
        };
        MetadataRequest::default()
            .with_topics((!self.all).then(|| self.topics.iter().map(topic).collect()))
            .with_allow_auto_topic_creation(self.create)
    }
}

/// What the shell must hear of.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// There is a new snapshot.
    Changed(Arc<Cluster>),
    /// Every node and every bootstrap server failed since the last answer; it goes on all the same.
    Unreachable(Error),
}

/// One topic somebody needs.
#[derive(Debug, Default)]
struct Wanted {
    interests: u32,
    /// How many of them would have it created.
    create: u32,
}

#[derive(Debug)]
struct Asked {
    ticket: u64,
    node: i32,
    at: Instant,
    /// Something was missing when it was asked, so an answer without news is a disappointment.
    wanting: bool,
    /// It was asked for all topics.
    all: bool,
    /// Another node has answered a later query: nobody waits for this one.
    outrun: bool,
}

#[derive(Debug)]
pub(crate) struct Metadata {
    options: MetadataOptions,
    random: SmallRng,
    cluster: Arc<Cluster>,
    wanted: HashMap<Arc<str>, Wanted>,
    /// How many want to know of all topics.
    all: u32,
    asked: Vec<Asked>,
    tickets: u64,
    /// Somebody found it stale.
    stale: bool,
    /// A topic was wanted that nothing is known of: it need not wait for the backoff.
    fresh: bool,
    /// Attempts in a row that failed or brought nothing.
    fruitless: u32,
    not_before: Instant,
    answered_at: Option<Instant>,
    /// Whom the last answer came from: its connection stands.
    favourite: Option<i32>,
    /// Nodes that failed since the last answer, and how.
    failed: Vec<(i32, Error)>,
    /// The known nodes are given up, the bootstrap servers are asked.
    rebootstrapping: bool,
    events: Vec<Event>,
}

impl Metadata {
    pub(crate) fn new(now: Instant, options: MetadataOptions, random: SmallRng) -> Self {
        Self {
            options,
            random,
            cluster: Arc::default(),
            wanted: HashMap::new(),
            all: 0,
            asked: Vec::new(),
            tickets: 0,
            stale: true,
            fresh: false,
            fruitless: 0,
            not_before: now,
            answered_at: None,
            favourite: None,
            failed: Vec::new(),
            rebootstrapping: false,
            events: Vec::new(),
        }
    }

    /// Adds an interest in a topic.
    pub(crate) fn want(&mut self, topic: &Arc<str>, create: bool) {
        let wanted = self.wanted.entry(topic.clone()).or_default();
        wanted.interests += 1;
        wanted.create += u32::from(create);
        self.fresh |= self.cluster.topic(topic).is_none_or(|topic| !topic.error.is_none());
    }

    /// Takes an interest back. What is known of a topic that nobody wants is forgotten: it would only grow old.
    pub(crate) fn forget(&mut self, topic: &Arc<str>, create: bool) {
        let Some(wanted) = self.wanted.get_mut(topic) else { return };
        wanted.interests = wanted.interests.saturating_sub(1);
        wanted.create = wanted.create.saturating_sub(u32::from(create));
        if wanted.interests == 0 {
            self.wanted.remove(topic);
            if self.all == 0 && self.cluster.topics.contains_key(topic) {
                let mut cluster = Cluster::clone(&self.cluster);
                cluster.topics.remove(topic);
                self.publish(cluster);
            }
        }
    }

    /// Adds an interest in all topics there are.
    pub(crate) fn want_all(&mut self) {
        self.all += 1;
        self.stale = true;
    }

    /// Takes one back. What nobody wants by name is forgotten with the next answer.
    pub(crate) fn forget_all(&mut self) {
        self.all = self.all.saturating_sub(1);
    }

    /// Something is stale: asks as soon as the backoff allows.
    pub(crate) fn refresh(&mut self) {
        self.stale = true;
    }

    /// A partition's leader as a node told it beside an error (KIP-951). Epochs never go back.
    pub(crate) fn hint(
        &mut self,
        topic: &str,
        partition: i32,
        leader: i32,
        epoch: i32,
        endpoint: Option<Node>,
    ) {
        let Some(known) = self.cluster.partition(topic, partition) else { return };
        let unknown_node = !self.cluster.nodes.contains_key(&leader)
            && endpoint.as_ref().is_none_or(|endpoint| endpoint.id != leader);
        if leader < 0 || epoch <= known.leader_epoch || unknown_node {
            return;
        }
        let mut cluster = Cluster::clone(&self.cluster);
        if let Some(entry) = cluster.topics.get_mut(topic) {
            let at = usize::try_from(partition).unwrap_or(usize::MAX);
            if let Some(known) = Arc::make_mut(entry).partitions.get_mut(at) {
                (known.leader, known.leader_epoch, known.error) = (Some(leader), epoch, ErrorCode::NONE);
            }
        }
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.id == leader) {
            cluster.nodes.insert(leader, endpoint);
        }
        self.publish(cluster);
    }

    /// A node's answer to a query, which was asked in `version`.
    pub(crate) fn handle_response(
        &mut self,
        now: Instant,
        ticket: u64,
        response: &MetadataResponse,
        version: i16,
    ) {
        let Some(asked) = self.take(ticket) else { return };
        let code = ErrorCode::from(response.error_code);
        if code == ErrorCode::REBOOTSTRAP_REQUIRED {
            self.give_up_nodes();
            return self.disappointed(now, true);
        }
        let merged = match code.is_none() {
            true => merge::merge(&self.cluster, response, version),
            false => Err(Error::broker(code, "metadata was refused").in_api("Metadata")),
        };
        let cluster = match merged {
            Ok(cluster) if cluster.nodes.is_empty() => {
                let error = Error::new(ErrorKind::Connect, "the node knows of no node that listens");
                return self.failed(now, asked.node, error.in_api("Metadata"));
            }
            Ok(mut cluster) => {
                let is_wanted = |topic: &Arc<str>| self.wanted.contains_key(topic);
                if asked.all {
                    merge::miss(&mut cluster, response, self.wanted.keys());
                    cluster.topics.retain(|topic, known| {
                        is_wanted(topic) || known.error != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
                    });
                }
                cluster.topics.retain(|topic, _| self.all > 0 || is_wanted(topic));
                cluster
            }
            Err(error) => return self.failed(now, asked.node, error),
        };
        for older in self.asked.iter_mut().filter(|older| older.ticket < ticket) {
            older.outrun = true;
        }
        self.answered_at = Some(now);
        self.favourite = Some(asked.node);
        self.failed.clear();
        self.rebootstrapping = false;
        let changed = cluster.nodes != self.cluster.nodes
            || cluster.controller != self.cluster.controller
            || cluster.id != self.cluster.id
            || cluster.topics != self.cluster.topics;
        if changed {
            self.publish(cluster);
        }
        self.disappointed(now, asked.wanting && !changed);
        if changed && self.unsettled() {
            // News, but not yet what was wanted: no hurry, no growing wait either.
            self.disappointed(now, true);
        }
    }

    /// A query that got no answer.
    pub(crate) fn handle_failure(&mut self, now: Instant, ticket: u64, error: Error) {
        if let Some(asked) = self.take(ticket) {
            self.failed(now, asked.node, error);
        }
    }

    fn take(&mut self, ticket: u64) -> Option<Asked> {
        let at = self.asked.iter().position(|asked| asked.ticket == ticket)?;
        Some(self.asked.swap_remove(at))
    }

    fn failed(&mut self, now: Instant, node: i32, error: Error) {
        if self.favourite == Some(node) {
            self.favourite = None;
        }
        self.failed.retain(|(failed, _)| *failed != node);
        self.failed.push((node, error));
        self.stale = true;
        let untried = self.candidates().iter().any(|node| self.untried(*node));
        if untried {
            // Another node may know: it is asked at once.
            return;
        }
        let on_bootstrap = self.rebootstrapping || self.cluster.nodes.is_empty();
        if !on_bootstrap && self.options.rebootstrap {
            return self.give_up_nodes();
        }
        if self.asked.is_empty() {
            self.events.push(Event::Unreachable(self.unreachable()));
            self.failed.clear();
            self.rebootstrapping = false;
            self.disappointed(now, true);
        }
    }

    fn give_up_nodes(&mut self) {
        self.favourite = None;
        self.stale = true;
        self.rebootstrapping = true;
    }

    /// All failures in one.
    fn unreachable(&self) -> Error {
        let retriable = self.failed.iter().all(|(_, error)| error.is_retriable());
        let kind = match &self.failed[..] {
            [(_, only)] => return only.clone(),
            [(_, first), rest @ ..] if rest.iter().all(|(_, error)| error.kind() == first.kind()) => {
                first.kind()
            }
            _ => ErrorKind::Connect,
        };
        let causes: Vec<_> = self.failed.iter().map(|(_, error)| error.to_string()).collect();
        Error::new(kind, format!("no node can be reached: {}", causes.join("; "))).retriable(retriable)
    }

    fn disappointed(&mut self, now: Instant, disappointed: bool) {
        self.fruitless = if disappointed { self.fruitless.saturating_add(1) } else { 0 };
        self.not_before = now + self.options.backoff.after(self.fruitless, &mut self.random);
    }

    fn publish(&mut self, mut cluster: Cluster) {
        cluster.generation = self.cluster.generation + 1;
        self.cluster = Arc::new(cluster);
        self.events.retain(|event| !matches!(event, Event::Changed(_)));
        self.events.push(Event::Changed(self.cluster.clone()));
    }

    /// Whether a topic is wanted of which a node may soon know more.
    fn unsettled(&self) -> bool {
        self.wanted.keys().any(|topic| self.is_unsettled(topic))
    }

    fn is_unsettled(&self, topic: &str) -> bool {
        self.cluster.topic(topic).is_none_or(|topic| topic.error.is_retriable())
    }

    /// When the next query is due, whoever it goes to.
    fn due(&self) -> Option<Instant> {
        if self.fresh && self.answered_at.is_some() && self.failed.is_empty() {
            return self.answered_at;
        }
        if self.stale || self.fresh || self.unsettled() {
            return Some(self.not_before);
        }
        Some(self.answered_at? + self.options.max_age)
    }

    /// When something must be done of itself.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        if !self.asked.is_empty() && !self.candidates().iter().any(|node| self.untried(*node)) {
            return None;
        }
        let awaited = self.asked.iter().filter(|asked| !asked.outrun);
        match awaited.map(|asked| asked.at).max() {
            Some(last) => Some(last + PATIENCE),
            None => self.due(),
        }
    }

    fn candidates(&self) -> Vec<i32> {
        let bootstrap = (1..=self.options.bootstrap).map(|number| -(number as i32));
        match self.rebootstrapping || self.cluster.nodes.is_empty() {
            true => bootstrap.collect(),
            false => self.cluster.nodes.keys().copied().collect(),
        }
    }

    fn untried(&self, node: i32) -> bool {
        self.asked.iter().all(|asked| asked.node != node)
            && self.failed.iter().all(|(failed, _)| *failed != node)
    }

    /// The next query, if one is due.
    pub(crate) fn poll_request(&mut self, now: Instant) -> Option<Query> {
        if self.next_deadline().is_none_or(|at| at > now) {
            return None;
        }
        let mut candidates = self.candidates();
        candidates.retain(|node| self.untried(*node));
        candidates.sort_unstable();
        let node = match self.favourite.filter(|node| candidates.contains(node)) {
            Some(node) => node,
            None => *candidates.choose(&mut self.random)?,
        };
        self.tickets += 1;
        let wanting = self.stale || self.unsettled();
        let (topics, create) = self.topics();
        let all = self.all > 0 && !create;
        self.asked.push(Asked { ticket: self.tickets, node, at: now, wanting, all, outrun: false });
        // Whoever finds it stale from here on means what comes with the answer, too.
        (self.stale, self.fresh) = (false, false);
        Some(Query { ticket: self.tickets, node, topics, all, create })
    }

    /// Which topics to ask for, and whether they may be created. Only those may that everybody knows to be missing, so
    /// a query is either for them alone or creates nothing.
    fn topics(&self) -> (Vec<Arc<str>>, bool) {
        let missing = |(topic, wanted): (&Arc<str>, &Wanted)| {
            let code = self.cluster.topic(topic).map(|topic| topic.error);
            (wanted.create > 0 && code == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)).then(|| topic.clone())
        };
        let create: Vec<_> = self.wanted.iter().filter_map(missing).collect();
        if !create.is_empty() && self.fruitless % 2 == 1 {
            return (create, true);
        }
        if self.fresh && !self.stale {
            let unknown = self.wanted.keys().filter(|topic| self.is_unsettled(topic));
            return (unknown.cloned().collect(), false);
        }
        (self.wanted.keys().cloned().collect(), false)
    }

    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        (!self.events.is_empty()).then(|| self.events.remove(0))
    }

    /// The connection to this node stands: it is asked first.
    pub(crate) fn prefer(&mut self, node: i32) {
        self.favourite = Some(node);
    }

    #[cfg(test)]
    pub(crate) fn cluster(&self) -> &Arc<Cluster> {
        &self.cluster
    }
}
