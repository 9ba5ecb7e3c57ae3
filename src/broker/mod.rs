//! An embedded broker: a Kafka cluster of one or more nodes in this process, in memory, for tests and demonstrations.
//!
//! It serves any Kafka client, over TCP on free ports of the loopback address, or over in-memory pipes without a
//! socket. Its heart is a deterministic machine, driven by requests and a clock; all chance comes from a seed. Nodes
//! can be stopped and started, leaders moved, and [`Fault`]s added while it runs. What it leaves out is listed in
//! `src/broker/not_modelled.md`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> milena::Result<()> {
//! use milena::broker::Broker;
//!
//! let broker = Broker::start().await?;
//! broker.create_topic("orders", 3)?;
//! println!("bootstrap at {}", broker.address());
//! assert_eq!(broker.log("orders", 0)?.end_offset(), 0);
//! # Ok(())
//! # }
//! ```
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::io::DuplexStream;

use crate::error::{Error, ErrorKind, Result};
use crate::protocol::error_code::ErrorCode;

mod api;
pub(crate) mod cluster;
pub(crate) mod config;
mod data;
mod fault;
mod group_view;
mod groups;
pub(crate) mod listener;
mod log_view;

pub use api::Api;
pub use config::Release;
pub use fault::{Fault, Faults};
pub use group_view::{CommittedOffset, GroupMember, GroupView};
pub use log_view::LogView;

use config::Config;
use listener::Shell;

/// A running embedded broker. Dropping it stops it at once, without blocking.
pub struct Broker {
    shell: Arc<Shell>,
    faults: Faults,
    tcp: bool,
}

impl Broker {
    /// One node on a free port of 127.0.0.1, imitating the newest release known.
    ///
    /// # Errors
    /// If no port can be bound.
    pub async fn start() -> Result<Self> {
        Self::builder().start().await
    }

    /// A broker that is set up first.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    /// Bootstrap addresses of all nodes, stopped ones included: `host:port`, separated by commas.
    pub fn address(&self) -> String {
        let addresses = self.shell.with(|cluster, _| {
            cluster.nodes.values().map(|node| format!("{}:{}", node.host, node.port)).collect::<Vec<_>>()
        });
        addresses.join(",")
    }

    /// Address of one node, `host:port`. Nodes are numbered from 1.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn node_address(&self, node: i32) -> Result<String> {
        let address = |cluster: &mut cluster::Cluster, _| {
            cluster.nodes.get(&node).map(|node| format!("{}:{}", node.host, node.port))
        };
        self.shell.with(address).ok_or_else(|| no_node(node))
    }

    /// The way into a broker without sockets. It also works beside TCP.
    pub fn network(&self) -> Network {
        Network(Arc::downgrade(&self.shell))
    }

    /// Connects to the node at an address that [`Broker::address`] or a metadata answer gave, by an in-memory pipe.
    ///
    /// # Errors
    /// `ConnectionRefused` if no node is there or the node is stopped.
    pub fn connect(&self, host: &str, port: u16) -> io::Result<DuplexStream> {
        self.shell.connect(host, port)
    }

    /// Creates a topic. Partition 0 is led by node 1, partition 1 by node 2, and so on round the nodes; each has three
    /// replicas, or as many as there are nodes.
    ///
    /// # Errors
    /// With Kafka's code if the name or the count is not allowed or the topic exists.
    pub fn create_topic(&self, name: &str, partitions: i32) -> Result<()> {
        self.shell
            .with(|cluster, _| cluster.create_topic(name, partitions, None))
            .map_err(|code| Error::broker(code, "cannot create the topic").on_topic(name))
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    /// If there is no such topic.
    pub fn delete_topic(&self, name: &str) -> Result<()> {
        match self.shell.with(|cluster, now| {
            let deleted = cluster.delete_topic(name);
            cluster.settle(now);
            deleted
        }) {
            true => Ok(()),
            false => Err(Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "cannot delete the topic")
                .on_topic(name)),
        }
    }

    /// What a partition's log holds now.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn log(&self, topic: &str, partition: i32) -> Result<LogView> {
        self.shell
            .with(|cluster, _| cluster.topics.partition(topic, partition).map(LogView::new))
            .ok_or_else(|| no_partition(topic, partition))
    }

    /// Stops a node, as a kill does: its connections break, its port refuses, other replicas take over its partitions
    /// in a new leader epoch. Its data is kept.
    ///
    /// Cancel safe: dropped, the node is stopped but its port may still be bound; [`Broker::start_node`] waits for it.
    ///
    /// # Errors
    /// If there is no such node or it is stopped.
    pub async fn stop_node(&self, node: i32) -> Result<()> {
        let stopped = self.shell.with(|cluster, now| cluster.stop_node(now, node));
        self.shell.unlisten(node).await;
        if stopped { Ok(()) } else { Err(no_node(node)) }
    }

    /// Starts a stopped node again, at its old address. Its replicas are in sync at once; leaders stay where they are.
    ///
    /// Cancel safe: dropped, the node may listen already while it still counts as stopped; call it again.
    ///
    /// # Errors
    /// If there is no such node, it runs, or its port was taken by somebody else.
    pub async fn start_node(&self, node: i32) -> Result<()> {
        let port = self
            .shell
            .with(|cluster, _| cluster.nodes.get(&node).filter(|node| !node.up).map(|node| node.port));
        let port = port.ok_or_else(|| no_node(node))?;
        if self.tcp {
            self.shell.unlisten(node).await;
            self.shell.listen(node, port).await.map_err(cannot_bind)?;
        }
        self.shell.with(|cluster, now| cluster.start_node(now, node));
        Ok(())
    }

    /// Cuts a node off from the other nodes, but not from clients. Other replicas take over its partitions; it knows nothing of that and
    /// goes on as their leader, in the old epoch: what it appends is copied by nobody, what it tells of the cluster is out of date.
    ///
    /// # Errors
    /// If there is no such node, it is stopped or cut off already, or it is the last one in sync of a partition.
    pub fn isolate_node(&self, node: i32) -> Result<()> {
        match self.shell.with(|cluster, now| cluster.isolate_node(now, node)) {
            true => Ok(()),
            false => Err(no_node(node)),
        }
    }

    /// Ends [`Broker::isolate_node`]: the node learns what happened, drops what it had appended alone, and follows.
    ///
    /// # Errors
    /// If there is no such node, or it is not cut off.
    pub fn rejoin_node(&self, node: i32) -> Result<()> {
        match self.shell.with(|cluster, now| cluster.rejoin_node(now, node)) {
            true => Ok(()),
            false => Err(no_node(node)),
        }
    }

    /// Makes a replica the leader of a partition, in a new leader epoch.
    ///
    /// # Errors
    /// If there is no such partition, or the node has no replica of it that is in sync.
    pub fn move_leader(&self, topic: &str, partition: i32, node: i32) -> Result<()> {
        match self.shell.with(|cluster, now| cluster.move_leader(now, topic, partition, Some(node))) {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Config, format!("node {node} has no replica in sync"))
                .on_partition(topic, partition)),
        }
    }

    /// The node that leads a partition, `None` while no replica is up.
    ///
    /// # Errors
    /// If there is no such partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Result<Option<i32>> {
        self.shell
            .with(|cluster, _| cluster.topics.partition(topic, partition).map(|found| found.leader))
            .map(|leader| Some(leader).filter(|leader| *leader >= 0))
            .ok_or_else(|| no_partition(topic, partition))
    }

    /// How many connections are open at all nodes together.
    pub fn connections(&self) -> usize {
        self.shell.with(|cluster, _| cluster.connections())
    }

    /// How many requests of an API arrived so far, at all nodes together, whatever became of them.
    pub fn requests(&self, api: Api) -> u64 {
        self.shell.with(|cluster, _| cluster.requests(api))
    }

    /// The faults, to add or to clear some.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Stops the broker and waits until all its tasks have ended.
    ///
    /// Cancel safe: dropped, the broker is stopped but a task may still be about to end.
    pub async fn stop(self) {
        self.shell.stop().await;
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.shell.abort();
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("address", &self.address()).finish_non_exhaustive()
    }
}

fn no_node(node: i32) -> Error {
    Error::new(ErrorKind::Config, format!("no node {node} in a state for that"))
}

fn no_partition(topic: &str, partition: i32) -> Error {
    Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "no such partition").on_partition(topic, partition)
}

fn cannot_bind(cause: io::Error) -> Error {
    Error::new(ErrorKind::Connect, "cannot listen").at_address("127.0.0.1").caused_by(cause)
}

/// Connects to an embedded broker without sockets. Cheap to clone; it does not keep the broker alive.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// use milena::broker::Broker;
/// use milena::{Client, Connector};
///
/// let broker = Broker::builder().nodes(3).in_memory().start().await?;
/// let network = broker.network();
/// let connector = Connector::new(move |host, port| {
///     let connected = network.connect(&host, port);
///     async { connected }
/// });
/// let client = Client::builder().bootstrap(&broker.address())?.connector(connector).build().await?;
/// # drop(client);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Network(Weak<Shell>);

impl Network {
    /// Connects to the node at this address.
    ///
    /// # Errors
    /// `ConnectionRefused` if no node is there, the node is stopped, or the broker was dropped.
    pub fn connect(&self, host: &str, port: u16) -> io::Result<DuplexStream> {
        match self.0.upgrade() {
            Some(shell) => shell.connect(host, port),
            None => Err(io::Error::new(io::ErrorKind::ConnectionRefused, "the broker is gone")),
        }
    }
}

impl std::fmt::Debug for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Network")
    }
}

/// Sets up a [`Broker`].
#[derive(Debug, Clone)]
#[must_use]
pub struct BrokerBuilder {
    config: Config,
    tcp: bool,
    error: Option<Error>,
}

impl Default for BrokerBuilder {
    fn default() -> Self {
        Self { config: Config::default(), tcp: true, error: None }
    }
}

impl BrokerBuilder {
    /// How many nodes; they are numbered from 1. Default 1.
    pub fn nodes(mut self, nodes: i32) -> Self {
        self.config.nodes = nodes;
        self
    }

    /// The seed of all chance: topic ids, session ids, probabilities of faults. Default 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// Offers what the nodes of this release offer. Default: the newest one known.
    pub fn versions(mut self, release: Release) -> Self {
        self.config.release = release;
        self
    }

    /// Offers an API up to this version only, or with -1 not at all.
    pub fn max_version(mut self, api: Api, version: i16) -> Self {
        self.config.max_versions.insert(api.key(), version);
        self
    }

    /// Whether a metadata request that allows it creates the topics it asks for (`auto.create.topics.enable`). Default
    /// true, as in Kafka.
    pub fn auto_create_topics(mut self, create: bool) -> Self {
        self.config.auto_create_topics = create;
        self
    }

    /// Gives each node a rack of its own, `rack-1` and so on, and has leaders send readers to the replica in their rack
    /// (KIP-392). Default off.
    pub fn racks(mut self) -> Self {
        self.config.racks = true;
        self.config.read_nearest_replica = true;
        self
    }

    /// Fills fetch answers to the byte, so that the last batch may be cut off, as Kafka does it. Default false: whole
    /// batches only.
    pub fn partial_batches(mut self, partial: bool) -> Self {
        self.config.partial_batches = partial;
        self
    }

    /// How long followers take to copy what a leader appended, on average; default zero. Until all that are in sync have it, nobody can
    /// read it and `acks=all` waits; a replica that takes over before has lost it.
    pub fn replica_lag(mut self, lag: Duration) -> Self {
        self.config.replica_lag = lag;
        self
    }

    /// How long a new coordinator reads its groups before it answers for them (`COORDINATOR_LOAD_IN_PROGRESS`); default zero.
    pub fn coordinator_load(mut self, load: Duration) -> Self {
        self.config.coordinator_load = load;
        self
    }

    /// Sets a node's option by Kafka's name. Known are `auto.create.topics.enable`, `num.partitions`,
    /// `default.replication.factor`, `min.insync.replicas`, `message.max.bytes`, `socket.request.max.bytes`,
    /// `max.incremental.fetch.session.cache.slots`, `replica.selector.class`, `offsets.topic.num.partitions`,
    /// `offset.metadata.max.bytes`, `group.initial.rebalance.delay.ms` (here 0 by default, so that tests are quick; in Kafka 3000), `group.max.size`,
    /// `group.min.session.timeout.ms`, `group.max.session.timeout.ms`, `group.consumer.max.size`,
    /// `group.consumer.session.timeout.ms` and `group.consumer.heartbeat.interval.ms`; others fail at the start.
    pub fn config(mut self, key: &str, value: &str) -> Self {
        if let Err(error) = self.config.set(key, value) {
            self.error.get_or_insert(error);
        }
        self
    }

    /// Binds no sockets: reachable by [`Broker::connect`] and [`Broker::network`] only.
    pub fn in_memory(mut self) -> Self {
        self.tcp = false;
        self
    }

    /// Starts it.
    ///
    /// Cancel safe: dropped, nothing keeps running.
    ///
    /// # Errors
    /// If an option is wrong or no port can be bound.
    pub async fn start(self) -> Result<Broker> {
        if let Some(error) = self.error {
            return Err(error);
        }
        if !(1..=1000).contains(&self.config.nodes) {
            return Err(Error::new(ErrorKind::Config, "a broker has 1 to 1000 nodes"));
        }
        let nodes = self.config.nodes;
        let faults = Faults::default();
        let shell = Shell::new(self.config, faults.clone());
        let broker = Broker { shell, faults, tcp: self.tcp };
        if self.tcp {
            for id in 1..=nodes {
                let port = broker.shell.listen(id, 0).await.map_err(cannot_bind)?;
                broker.shell.with(|cluster, _| {
                    if let Some(node) = cluster.nodes.get_mut(&id) {
                        node.host = "127.0.0.1".to_owned();
                        node.port = port;
                    }
                });
            }
        }
        Ok(broker)
    }
}

#[cfg(test)]
mod tests;
