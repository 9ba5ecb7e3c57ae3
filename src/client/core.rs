//! The heart of a client, shared by all its handles: what the cluster looks like, and the way to its nodes.
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::watch;

use crate::client::config::ClientConfig;
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::{Completion, Encoded, Failure, Purpose};
use crate::network::task::TaskSet;
use crate::protocol::request::Request;
use crate::protocol::version::ApiVersions;
use crate::state::metadata::{Cluster, Node, Topic};

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
    cluster: watch::Sender<Arc<Cluster>>,
    tasks: TaskSet,
}

impl Core {
    pub(crate) fn new(config: ClientConfig) -> Arc<Self> {
        Arc::new(Self { config, cluster: watch::Sender::default(), tasks: TaskSet::current() })
    }

    /// What is known of the cluster now; cheap.
    pub(crate) fn cluster(&self) -> Arc<Cluster> {
        self.cluster.borrow().clone()
    }

    /// Tells of every new snapshot.
    pub(crate) fn watch_cluster(&self) -> watch::Receiver<Arc<Cluster>> {
        self.cluster.subscribe()
    }

    /// Adds an interest in topics: they are fetched soon, and kept fresh until as many [`Core::forget_topics`] came.
    pub(crate) fn want_topics(&self, _topics: &[Arc<str>]) {}

    /// Takes one interest in each of the topics back.
    pub(crate) fn forget_topics(&self, _topics: &[Arc<str>]) {}

    /// Says that the metadata is stale: it is fetched soon, as often as backoff allows.
    pub(crate) fn refresh(&self) {}

    /// The topic, once it is known to have partitions. Retried until the deadline; an invalid name and a missing right
    /// fail at once. The interest stays for the life of the client.
    ///
    /// Cancel safe.
    pub(crate) async fn topic(&self, name: &str, _deadline: Instant) -> Result<Arc<Topic>> {
        Err(Error::new(ErrorKind::Unsupported, "not yet").on_topic(name))
    }

    /// As [`Core::topic`], and the node may create the topic if its `auto.create.topics.enable` is on.
    ///
    /// Cancel safe.
    pub(crate) async fn topic_or_create(&self, name: &str, deadline: Instant) -> Result<Arc<Topic>> {
        self.topic(name, deadline).await
    }

    /// A leader that a produce or fetch answer told (KIP-951). Older epochs than the known one are ignored.
    pub(crate) fn leader_hint(
        &self,
        _topic: &Arc<str>,
        _partition: i32,
        _leader: i32,
        _epoch: i32,
        _endpoint: Option<Node>,
    ) {
    }

    /// Hands a request to the connection to a node, which is opened if need be. It never blocks.
    ///
    /// `build` runs on the connection's task when the versions of the node are known; it must be quick. The completion
    /// says at the latest shortly after `deadline` how it ended; a failure says whether the request may have been
    /// `sent`. No answer by the deadline closes the connection, since its order is lost.
    pub(crate) fn submit(
        &self,
        _node: i32,
        _purpose: Purpose,
        _deadline: Instant,
        _build: impl FnOnce(&ApiVersions) -> Result<Encoded> + Send + 'static,
        completion: Completion,
    ) {
        let error = Error::new(ErrorKind::Connect, "not yet");
        completion.finish(Err(Failure { error, sent: false }));
    }

    /// Sends nothing more on a connection until then (KIP-219).
    pub(crate) fn throttle(&self, _node: i32, _purpose: Purpose, _until: Instant) {}

    /// One request and its answer within `request_timeout`. Error codes in the answer are for the caller to read.
    ///
    /// Cancel safe: the request is sent all the same, and its answer is thrown away.
    pub(crate) async fn call<R: Request>(
        &self,
        _to: Target,
        _purpose: Purpose,
        _build: impl FnOnce(i16) -> R + Send + 'static,
    ) -> Result<R::Response> {
        Err(Error::new(ErrorKind::Unsupported, "not yet"))
    }

    /// Where tasks of the client's handles run; [`TaskSet::child`] gives a handle a set of its own.
    pub(crate) fn tasks(&self) -> &TaskSet {
        &self.tasks
    }

    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    pub(crate) fn is_closed(&self) -> bool {
        false
    }
}
