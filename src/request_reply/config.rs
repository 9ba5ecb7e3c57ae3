//! The options of a requester.
use std::collections::BTreeSet;
use std::time::Duration;

use super::allocator::ReplyAllocator;
use super::requester::Requester;
use crate::admin::NewTopic;
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::producer::Producer;
use crate::protocol::error_code::ErrorCode;
use crate::state::reply::dialect::Dialect;

/// Partitions of a reply topic that is created: requesters that share one read each other's replies for nothing.
const PARTITIONS: i32 = 12;
/// Replies need to live as long as a call, and ten minutes are enough to look into what went wrong.
const RETENTION: Duration = Duration::from_secs(600);
/// A log gives nothing back before its segment is closed.
const SEGMENT: Duration = Duration::from_secs(300);

/// Options of a [`Requester`]; made by [`Client::requester`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `build`"]
pub struct RequesterBuilder {
    pub(super) client: Client,
    pub(super) dialect: Dialect,
    pub(super) timeout: Duration,
    pub(super) max_in_flight: usize,
    pub(super) max_in_flight_bytes: u32,
    pub(super) wait_for_room: bool,
    pub(super) request_topics: Vec<String>,
    pub(super) producer: Option<Producer>,
    pub(super) allocator: ReplyAllocator,
    reply_topic: Option<String>,
    instance_id: Option<String>,
    create: bool,
}

impl RequesterBuilder {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            dialect: Dialect::default(),
            timeout: Duration::from_secs(30),
            max_in_flight: 10_000,
            max_in_flight_bytes: 64 << 20,
            wait_for_room: true,
            request_topics: Vec::new(),
            producer: None,
            reply_topic: None,
            allocator: ReplyAllocator::default(),
            instance_id: None,
            create: true,
        }
    }

    /// Sets the topic that replies are read from. It may be shared with any number of requesters; it may not be a topic
    /// of requests.
    ///
    /// Default: `<client id>.replies`; in the NestJS dialect one for each request topic, `<request topic>.reply`.
    pub fn reply_topic(mut self, topic: impl Into<String>) -> Self {
        self.reply_topic = Some(topic.into());
        self
    }

    /// Sets who chooses the partition of the reply topic. Default: [`ReplyAllocator::self_chosen`].
    pub fn allocator(mut self, allocator: ReplyAllocator) -> Self {
        self.allocator = allocator;
        self
    }

    /// Sets the partition of the reply topic: short for [`ReplyAllocator::fixed`].
    pub fn reply_partition(self, partition: i32) -> Self {
        self.allocator(ReplyAllocator::fixed(partition))
    }

    /// Sets the name by which the reply partition is chosen (by rendezvous hashing, so that it mostly stays when
    /// partitions are added). Default: random.
    pub fn instance_id(mut self, id: impl Into<String>) -> Self {
        self.instance_id = Some(id.into());
        self
    }

    /// Whether a missing reply topic is created: with 12 partitions, three replicas where there are as many nodes, and
    /// kept for ten minutes or ten times the timeout. Default: yes.
    pub fn create_reply_topic(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets the headers of requests. Default: [`Dialect::Auto`].
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        self.dialect = dialect;
        self
    }

    /// Names topics that will be asked, so that in the NestJS dialect their reply topics are ready from the start.
    pub fn request_topics<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.request_topics = topics.into_iter().map(Into::into).collect();
        self
    }

    /// Sets how long a call may take that says nothing else. Default: 30 s.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how many calls may be in flight; what becomes of further ones, [`RequesterBuilder::wait_for_room`] says. Default: 10,000.
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Sets how many bytes the requests of all calls in flight may have together: keys, values and headers, but for those of
    /// request-reply itself. A larger request waits until no other call is in flight. Default: 64 MiB.
    pub fn max_in_flight_bytes(mut self, bytes: u32) -> Self {
        self.max_in_flight_bytes = bytes;
        self
    }

    /// Whether a call for which there is no room waits for some, within its own timeout, or ends at once with
    /// [`ErrorKind::Full`]. Default: it waits.
    pub fn wait_for_room(mut self, wait: bool) -> Self {
        self.wait_for_room = wait;
        self
    }

    /// Sets the producer that sends the requests; it is not closed with the requester. Default: one of its own that does
    /// not linger.
    pub fn with_producer(mut self, producer: Producer) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Builds the requester. When this returns, its reply partition is positioned: no reply can be missed.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that make no sense; otherwise what went wrong with the reply topic.
    ///
    /// Cancel safe: nothing is left but perhaps the reply topic.
    pub async fn build(mut self) -> Result<Requester> {
        if self.max_in_flight == 0 || self.max_in_flight > tokio::sync::Semaphore::MAX_PERMITS {
            return Err(Error::new(ErrorKind::Config, "max_in_flight must be at least 1"));
        }
        if self.max_in_flight_bytes == 0 {
            return Err(Error::new(ErrorKind::Config, "max_in_flight_bytes must be at least 1"));
        }
        if self.timeout.is_zero() {
            return Err(Error::new(ErrorKind::Config, "timeout must be above zero"));
        }
        if self.dialect != Dialect::Nest {
            let client_id = &self.client.core().config().client_id;
            self.reply_topic.get_or_insert_with(|| format!("{client_id}.replies"));
        }
        Requester::new(self).await
    }

    /// The reply topic of all calls, if there is only one.
    pub(super) fn single_reply_topic(&self) -> Option<&str> {
        self.reply_topic.as_deref()
    }

    pub(super) async fn own_producer(&self) -> Result<Producer> {
        match &self.producer {
            Some(producer) => Ok(producer.clone()),
            None => self.client.producer().linger(Duration::ZERO).build().await,
        }
    }

    /// The partition that new requests are to name, if they name one, and those that are to be read.
    pub(super) fn choose(&self, topic: &str, count: i32) -> Result<(Option<i32>, BTreeSet<i32>)> {
        self.allocator.choose(topic, self.instance_id.as_deref(), count)
    }

    /// How many partitions the reply topic has, after creating it if need be.
    pub(super) async fn partitions(&self, topic: &str) -> Result<i32> {
        // Who may not create topics may well use one that is there.
        let unknown = |error: &Error| error.code() == Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        if self.create
            && self.client.admin().describe_topics([topic]).await.is_err_and(|error| unknown(&error))
        {
            self.create(topic).await?;
        }
        let core = self.client.core();
        let deadline = tokio::time::Instant::now().into_std() + core.config().request_timeout;
        let topic = core.topic(topic, deadline).await?;
        Ok(i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX).max(1))
    }

    async fn create(&self, topic: &str) -> Result<()> {
        let core = self.client.core();
        let nodes = core.cluster().nodes.len();
        let (replicas, in_sync) = match nodes {
            0..3 => (nodes.max(1) as i16, "1"),
            _ => (3, "2"),
        };
        let retention = RETENTION.max(self.timeout.saturating_mul(10));
        let topic = NewTopic::new(topic, PARTITIONS, replicas)
            .config("cleanup.policy", "delete")
            .config("retention.ms", retention.as_millis().to_string())
            .config("segment.ms", SEGMENT.as_millis().to_string())
            .config("min.insync.replicas", in_sync);
        match self.client.admin().create_topics([topic]).await {
            Err(error) if error.code() == Some(ErrorCode::TOPIC_ALREADY_EXISTS) => Ok(()),
            other => other.map(drop),
        }
    }
}
