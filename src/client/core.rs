//! The heart of a client, shared by all its handles: what the cluster looks like, and the way to its nodes.
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use tokio::sync::{Notify, oneshot, watch};

use crate::client::config::ClientConfig;
use crate::client::driver;
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::{Completion, Encoded, Failure, Inbox, Patience, Purpose};
use crate::network::link::{Address, Shared, Submission, Work, now};
use crate::network::metrics::{ClientMetrics, Counters};
use crate::network::pool::Pool;
use crate::network::task::TaskSet;
use crate::protocol::header;
use crate::protocol::request::Request;
use crate::protocol::version::ApiVersions;
use crate::state::metadata::{Cluster, Event, Metadata, MetadataOptions, Node, Topic};

/// Which node a request goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Target {
    /// The node with this id.
    Node(i32),
    /// Whichever node can be reached.
    Any,
    /// The controller, as far as clients may know it: since KRaft any node forwards to it.
    Controller,
}

/// Shared by all handles of a client; the last one to go ends its tasks and closes its connections.
#[derive(Debug)]
pub(crate) struct Core {
    config: ClientConfig,
    pub(super) pool: Pool,
    metadata: Mutex<Metadata>,
    cluster: watch::Sender<Arc<Cluster>>,
    /// Why nobody could be reached at the last round; `None` after an answer.
    trouble: watch::Sender<Option<Error>>,
    closed: watch::Sender<bool>,
    /// Topics that [`Core::topic`] found: each keeps one interest.
    kept: Mutex<HashSet<Arc<str>>>,
    pub(super) inbox: Arc<Inbox<u64>>,
    /// Of the metadata driver.
    wake: Arc<Notify>,
    tasks: TaskSet,
}

impl Core {
    /// Begins to look for the cluster at once. To be called on a runtime.
    pub(crate) fn start(config: ClientConfig) -> Arc<Self> {
        let shared = Arc::new(Shared {
            connector: config.connector.clone(),
            client_id: config.client_id.clone(),
            connect_timeout: config.connect_timeout,
            idle_timeout: config.idle_timeout,
            reconnect_backoff: config.reconnect_backoff,
            max_frame: config.max_frame,
            counters: Counters::default(),
            node_lost: Notify::new(),
        });
        let tasks = TaskSet::current();
        let pool = Pool::new(shared.clone(), tasks.child());
        pool.update(bootstrap(&config).collect());
        let options = MetadataOptions {
            max_age: config.metadata_max_age,
            backoff: config.retry_backoff,
            bootstrap: config.bootstrap.len(),
            rebootstrap: config.rebootstrap,
        };
        let wake = Arc::new(Notify::new());
        let core = Arc::new(Self {
            config,
            pool,
            metadata: Mutex::new(Metadata::new(now(), options, SmallRng::from_rng(&mut rand::rng()))),
            cluster: watch::Sender::default(),
            trouble: watch::Sender::default(),
            closed: watch::Sender::new(false),
            kept: Mutex::default(),
            inbox: Inbox::new(wake.clone()),
            wake: wake.clone(),
            tasks,
        });
        core.tasks.spawn(driver::run(driver::Open(Arc::downgrade(&core)), wake, shared));
        core
    }

    /// Changes what is known of the cluster, and tells everybody what came of it.
    pub(super) fn metadata<T>(&self, change: impl FnOnce(&mut Metadata) -> T) -> T {
        let mut metadata = self.metadata.lock().unwrap_or_else(PoisonError::into_inner);
        let result = change(&mut metadata);
        while let Some(event) = metadata.poll_event() {
            match event {
                Event::Changed(cluster) => {
                    let nodes = cluster
                        .nodes
                        .values()
                        .map(|node| (node.id, Address { host: node.host.clone(), port: node.port }));
                    self.pool.update(nodes.chain(bootstrap(&self.config)).collect());
                    let connected =
                        cluster.nodes.keys().find(|node| self.pool.is_connected(**node, Purpose::Rest));
                    connected.into_iter().for_each(|node| metadata.prefer(*node));
                    tracing::debug!(target: "milena::metadata", generation = cluster.generation,
                        nodes = cluster.nodes.len(), topics = cluster.topics.len(), "cluster changed");
                    self.trouble.send_if_modified(|trouble| trouble.take().is_some());
                    self.cluster.send_replace(cluster);
                }
                Event::Unreachable(error) => {
                    tracing::warn!(target: "milena::metadata", %error, "no node can be reached");
                    self.trouble.send_replace(Some(error));
                }
            }
        }
        result
    }

    /// What is known of the cluster now; cheap.
    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.cluster.borrow().clone()
    }

    /// Tells of every new snapshot.
    pub(crate) fn watch_cluster(&self) -> watch::Receiver<Arc<Cluster>> {
        self.cluster.subscribe()
    }

    /// Why no node could be reached, while that is so.
    pub(crate) fn watch_trouble(&self) -> watch::Receiver<Option<Error>> {
        self.trouble.subscribe()
    }

    /// Adds an interest in topics: they are fetched soon, and kept fresh until as many [`Core::forget_topics`] came.
    pub(crate) fn want_topics(&self, topics: &[Arc<str>]) {
        self.metadata(|metadata| topics.iter().for_each(|topic| metadata.want(topic, false)));
        self.wake.notify_one();
    }

    /// Takes one interest in each of the topics back.
    pub(crate) fn forget_topics(&self, topics: &[Arc<str>]) {
        self.metadata(|metadata| topics.iter().for_each(|topic| metadata.forget(topic, false)));
    }

    /// Adds an interest in all topics there are, until as many [`Core::forget_all_topics`] came.
    pub(crate) fn want_all_topics(&self) {
        self.metadata(Metadata::want_all);
        self.wake.notify_one();
    }

    pub(crate) fn forget_all_topics(&self) {
        self.metadata(Metadata::forget_all);
    }

    /// Says that the metadata is stale: it is fetched soon, as often as backoff allows.
    pub(crate) fn refresh(&self) {
        self.metadata(Metadata::refresh);
        self.wake.notify_one();
    }

    /// The topic, once it is known to have partitions. Retried until the deadline; an invalid name and a missing right
    /// fail at once. The interest stays for the life of the client.
    ///
    /// Cancel safe.
    pub(crate) async fn topic(&self, name: &str, deadline: Instant) -> Result<Arc<Topic>> {
        self.find_topic(name, deadline, false).await
    }

    /// As [`Core::topic`], and the node may create the topic if its `auto.create.topics.enable` is on.
    ///
    /// Cancel safe.
    pub(crate) async fn topic_or_create(&self, name: &str, deadline: Instant) -> Result<Arc<Topic>> {
        self.find_topic(name, deadline, true).await
    }

    async fn find_topic(&self, name: &str, deadline: Instant, create: bool) -> Result<Arc<Topic>> {
        let (mut clusters, mut closed) = (self.watch_cluster(), self.closed.subscribe());
        let interest = Interest::new(self, name, create);
        loop {
            let known = clusters.borrow_and_update().topic(name).cloned();
            let code = match known {
                Some(topic) if topic.error.is_none() && !topic.partitions.is_empty() => {
                    interest.keep();
                    return Ok(topic);
                }
                Some(topic) if !topic.error.is_none() && !topic.error.is_retriable() => {
                    return Err(Error::broker(topic.error, "the topic cannot be used")
                        .in_api("Metadata")
                        .on_topic(name));
                }
                known => known.map(|topic| topic.error),
            };
            tokio::select! {
                _ = clusters.changed() => {}
                _ = closed.wait_for(|closed| *closed) => return Err(Error::closed("the client").on_topic(name)),
                _ = tokio::time::sleep_until(deadline.into()) => {
                    let error = match code {
                        Some(code) => Error::broker(code, "the topic was not found in time"),
                        None => Error::new(ErrorKind::Timeout, "no node told of the topic in time"),
                    };
                    let error = error.in_api("Metadata").on_topic(name);
                    return Err(match &*self.trouble.borrow() {
                        Some(cause) => error.caused_by(cause.clone()),
                        None => error,
                    });
                }
            }
        }
    }

    /// A leader that a produce or fetch answer told (KIP-951). Older epochs than the known one are ignored.
    pub(crate) fn leader_hint(
        &self,
        topic: &Arc<str>,
        partition: i32,
        leader: i32,
        epoch: i32,
        endpoint: Option<Node>,
    ) {
        self.metadata(|metadata| metadata.hint(topic, partition, leader, epoch, endpoint));
    }

    /// Hands a request to the connection to a node, which is opened if need be. It never blocks.
    ///
    /// `build` runs on the connection's task when the versions of the node are known; it must be quick. The completion
    /// says at the latest shortly after the deadline how it ended; a failure says whether the request may have been
    /// `sent`. No answer by the deadline closes the connection, since its order is lost. It may be called at once, on
    /// this thread: hold no lock that it takes.
    pub(crate) fn submit(
        &self,
        node: i32,
        purpose: Purpose,
        patience: impl Into<Patience>,
        build: impl FnOnce(&ApiVersions) -> Result<Encoded> + Send + 'static,
        completion: Completion,
    ) {
        let work = Work::Request { build: Box::new(build), completion };
        self.pool.submit(node, purpose, Submission { patience: patience.into(), work });
    }

    /// The versions that a node offers, once a connection to it stands.
    ///
    /// Cancel safe.
    pub(crate) async fn versions(
        &self,
        node: i32,
        purpose: Purpose,
        deadline: Instant,
    ) -> Result<Arc<ApiVersions>, Failure> {
        let (sender, receiver) = oneshot::channel();
        self.pool.submit(
            node,
            purpose,
            Submission { patience: deadline.into(), work: Work::Versions(sender) },
        );
        receiver
            .await
            .unwrap_or_else(|_| Err(Failure { error: Error::closed("the connection"), sent: false }))
    }

    /// A node that may be asked what any node knows: one with a standing connection, if there is one.
    pub(crate) fn any(&self, purpose: Purpose) -> Option<i32> {
        self.candidates(Target::Any, purpose).first().copied()
    }

    /// Sends nothing more on a connection until then (KIP-219).
    pub(crate) fn throttle(&self, node: i32, purpose: Purpose, until: Instant) {
        self.pool.throttle(node, purpose, until);
    }

    /// Nobody uses a purpose any more: its connections end, and what is under way there fails.
    pub(crate) fn release(&self, purpose: Purpose) {
        self.pool.release(purpose);
    }

    /// One request and its answer within `request_timeout`. Error codes in the answer are for the caller to read.
    /// Until a node could be reached, `Any` and `Controller` go on looking for another one.
    ///
    /// Cancel safe: the request is sent all the same, and its answer is thrown away.
    pub(crate) async fn call<R: Request>(
        &self,
        to: Target,
        purpose: Purpose,
        build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response> {
        let deadline = now() + self.config.request_timeout;
        let node = self.reach(to, purpose, deadline).await.map_err(|error| error.in_api(R::NAME))?;
        let (sender, receiver) = oneshot::channel();
        let client_id = self.config.client_id.clone();
        let build = move |versions: &ApiVersions| {
            let version = versions.choose::<R>()?;
            header::encode(&build(version), version, &client_id)
        };
        // Nobody may be waiting any more.
        let completion = Completion::new(|outcome| drop(sender.send(outcome)));
        self.submit(node, purpose, deadline, build, completion);
        match receiver.await {
            Ok(Ok(answer)) => header::decode::<R>(&answer),
            Ok(Err(failure)) => Err(failure.error.in_api(R::NAME)),
            Err(_) => Err(Error::closed("the client").in_api(R::NAME)),
        }
    }

    /// A node with a standing connection for the purpose.
    async fn reach(&self, to: Target, purpose: Purpose, deadline: Instant) -> Result<i32> {
        let mut failures = 0;
        loop {
            let candidates = self.candidates(to, purpose);
            let mut last = Error::new(ErrorKind::Connect, "no node is known");
            for node in candidates {
                match self.versions(node, purpose, deadline).await {
                    Ok(_) => return Ok(node),
                    Err(failure) if failure.error.is_closed() => return Err(failure.error),
                    Err(failure) => last = failure.error,
                }
            }
            failures += 1;
            let next = now() + self.config.retry_backoff.after(failures, &mut rand::rng());
            if matches!(to, Target::Node(_)) || next >= deadline {
                return Err(last);
            }
            self.refresh();
            tokio::time::sleep_until(next.into()).await;
        }
    }

    /// Whom to try, in this order.
    fn candidates(&self, to: Target, purpose: Purpose) -> Vec<i32> {
        if let Target::Node(node) = to {
            return vec![node];
        }
        let mut nodes = self.pool.nodes();
        nodes.shuffle(&mut rand::rng());
        let controller = self.cluster().controller.filter(|_| to == Target::Controller);
        nodes.sort_by_key(|node| {
            (Some(*node) != controller, !self.pool.is_connected(*node, purpose), *node < 0)
        });
        nodes
    }

    /// Where tasks of the client run that end with it; [`TaskSet::child`] gives a handle a set of its own.
    pub(crate) fn tasks(&self) -> &TaskSet {
        &self.tasks
    }

    /// Milliseconds since 1970-01-01 UTC.
    #[inline]
    pub(crate) fn wall_clock(&self) -> i64 {
        self.config.wall_clock.now()
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(crate) fn metrics(&self) -> ClientMetrics {
        self.pool.shared.counters.snapshot()
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    /// Ends when the client is closed; drivers watch it.
    pub(crate) fn watch_closed(&self) -> watch::Receiver<bool> {
        self.closed.subscribe()
    }

    /// Gives up all connections and ends all tasks. What is under way fails.
    pub(crate) async fn close(&self) {
        // All is told before the first await: it goes on if this future is dropped.
        self.end();
        self.tasks.abort();
        self.pool.join().await;
        self.tasks.close().await;
    }

    /// Nothing more is sent or waited for.
    pub(super) fn end(&self) {
        self.closed.send_replace(true);
        self.pool.close();
    }
}

/// The bootstrap servers as nodes with numbers that no node has.
fn bootstrap(config: &ClientConfig) -> impl Iterator<Item = (i32, Address)> {
    let servers = config.bootstrap.iter().enumerate();
    servers.map(|(at, (host, port))| (-1 - at as i32, Address { host: host.clone(), port: *port }))
}

/// An interest in a topic that lasts as long as somebody waits, or for good when the topic was found.
struct Interest<'a> {
    core: &'a Core,
    topic: Arc<str>,
    create: bool,
}

impl<'a> Interest<'a> {
    fn new(core: &'a Core, name: &str, create: bool) -> Self {
        let topic: Arc<str> = name.into();
        core.metadata(|metadata| metadata.want(&topic, create));
        core.wake.notify_one();
        Self { core, topic, create }
    }

    fn keep(&self) {
        let mut kept = self.core.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.insert(self.topic.clone()) {
            self.core.metadata(|metadata| metadata.want(&self.topic, false));
        }
    }
}

impl Drop for Interest<'_> {
    fn drop(&mut self) {
        self.core.metadata(|metadata| metadata.forget(&self.topic, self.create));
    }
}
