//! The answering side.
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::handler::Handlers;
use super::intake;
use super::output::{Options, ReplyTopics};
use super::serve::{Ending, Serving};
use super::{ResponderMetrics, SILENCE};
use crate::client::Client;
use crate::consumer::{Consumer, ConsumerBuilder};
use crate::error::{Error, ErrorKind, Result};
use crate::network::task::TaskSet;
use crate::producer::Producer;
use crate::state::consumer::Offset;
use crate::topic_partition::TopicPartition;

/// Options of a [`Responder`]; made by [`Client::responder`].
///
/// Handlers are chosen by topic. A record with a reply correlation id and a reply topic, in any [`Dialect`](crate::Dialect),
/// is a request; every other record is an event. On a topic with an event handler and no request handler, requests are
/// handled as events.
#[must_use = "a builder does nothing until `run` or `start`"]
pub struct ResponderBuilder {
    pub(super) client: Client,
    pub(super) group: String,
    pub(super) handlers: HashMap<String, Handlers>,
    pub(super) concurrency: usize,
    pub(super) partition_concurrency: Option<usize>,
    pub(super) by_key: bool,
    pub(super) consumer: ConsumerBuilder,
    pub(super) alone: Option<Alone>,
    pub(super) reply_topics: Option<ReplyTopics>,
    pub(super) output: Options,
    pub(super) clock_skew: Duration,
    pub(super) max_age: Duration,
    pub(super) revocation_timeout: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) producer: Option<Producer>,
}

/// What a responder without a group reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Alone {
    start: Offset,
    share: (u32, u32),
}

impl ResponderBuilder {
    pub(super) fn new(client: Client, group: String) -> Self {
        let consumer =
            client.consumer().cooperative().auto_commit_interval(Duration::from_secs(1)).silence(SILENCE);
        Self {
            client,
            consumer,
            group,
            handlers: HashMap::new(),
            concurrency: 256,
            partition_concurrency: None,
            by_key: false,
            alone: None,
            reply_topics: None,
            output: Options::default(),
            clock_skew: Duration::from_secs(1),
            max_age: Duration::from_secs(300),
            revocation_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            producer: None,
        }
    }

    /// Sets how many handlers may run at a time. At the limit nothing more is started, and the partitions take turns. Default:
    /// 256.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Sets how many of them may run for one partition. At this limit the partition is paused and the others go on, so that one
    /// with slow requests does not take all the places. Default: as many as [`concurrency`](ResponderBuilder::concurrency) allows.
    pub fn partition_concurrency(mut self, handlers: usize) -> Self {
        self.partition_concurrency = Some(handlers);
        self
    }

    /// Runs the handlers of requests and events with equal keys one after the other, in the order of the log; those of other keys,
    /// and of null keys, run beside them. Default: handlers of one partition run side by side and end in any order.
    ///
    /// Equal keys lie in one partition if their senders partition by key, as they do by default. While partitions move to another
    /// member, its handlers may run beside the last ones of this member.
    pub fn ordered_by_key(mut self) -> Self {
        self.by_key = true;
        self
    }

    /// Sets options of the consumer that reads the topics, such as
    /// [`group_protocol`](ConsumerBuilder::group_protocol), [`group_instance_id`](ConsumerBuilder::group_instance_id),
    /// [`session_timeout`](ConsumerBuilder::session_timeout) or [`auto_offset_reset`](ConsumerBuilder::auto_offset_reset).
    ///
    /// Three defaults differ from a plain consumer's: partitions are divided by [`CooperativeStickyAssignor`](crate::assignor::CooperativeStickyAssignor) alone, so that those
    /// that stay are read through a rebalance; [`auto_commit_interval`](ConsumerBuilder::auto_commit_interval) is 1 s; and a group
    /// that has committed nothing begins at the earliest request, also where that is Java's `latest`, so that requests sent
    /// before its first member came are answered. Group, topics and what is finished when are the responder's own.
    ///
    /// ```
    /// # async fn f(client: milena::Client) -> milena::Result<()> {
    /// use milena::{GroupProtocol, Request};
    ///
    /// let responder = client
    ///     .responder("echoes")
    ///     .on_request("echo", async |request: Request| request.value().to_vec())
    ///     .consumer(|consumer| consumer.group_protocol(GroupProtocol::Consumer))
    ///     .start()
    ///     .await?;
    /// # Ok(()) }
    /// ```
    pub fn consumer(mut self, configure: impl FnOnce(ConsumerBuilder) -> ConsumerBuilder) -> Self {
        self.consumer = configure(self.consumer);
        self
    }

    /// Sets how long the handlers of a partition that moves to another member are waited for, before it is given up
    /// and what is finished of it committed. Other partitions are read meanwhile. What takes longer still replies, and is
    /// executed a second time by the next member. Default: 10 s; much less than
    /// [`rebalance_timeout`](ConsumerBuilder::rebalance_timeout), of which three quarters are the limit in any case.
    pub fn revocation_timeout(mut self, timeout: Duration) -> Self {
        self.revocation_timeout = timeout;
        self
    }

    /// Sets how long [`Responder::close`] waits for the handlers that run. What takes longer is cut off; its request is not
    /// committed, so that another member of the group answers it. Default: 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.drain_timeout = timeout;
        self
    }

    /// Sets the age from which on a request counts as expired whose caller did not say when it gives up, as callers of
    /// NestJS, Spring and Quarkus do not. It keeps a new group from executing the requests of days past. Default: 5 minutes.
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// Reads all partitions of the topics without a group, from the end. Nothing is committed: what a responder does not see while
    /// it runs is not answered, unless its successor is told to [start](ResponderBuilder::start_at) earlier.
    pub fn without_group(mut self) -> Self {
        self.alone.get_or_insert(Alone { start: Offset::End, share: (0, 1) });
        self
    }

    /// Reads [without a group](ResponderBuilder::without_group) every `of`-th partition of each topic, beginning with number
    /// `index`: `of` responders with the indices from 0 share the topics without talking.
    pub fn share(self, index: u32, of: u32) -> Self {
        self.alone(|alone| alone.share = (index, of))
    }

    /// Reads [without a group](ResponderBuilder::without_group) from there, for instance from [`Responder::finished`] of a
    /// responder before.
    pub fn start_at(self, offset: Offset) -> Self {
        self.alone(|alone| alone.start = offset)
    }

    fn alone(self, set: impl FnOnce(&mut Alone)) -> Self {
        let mut this = self.without_group();
        if let Some(alone) = &mut this.alone {
            set(alone);
        }
        this
    }

    /// Sets how far the clocks of callers and responder may be apart: a request is skipped as expired when its deadline
    /// passed so long ago. Default: 1 s. On topics with `message.timestamp.type=LogAppendTime` the caller's clock does not
    /// matter: its timeout counts from when the node wrote the request down.
    pub fn clock_skew(mut self, skew: Duration) -> Self {
        self.clock_skew = skew;
        self
    }

    /// Sets the producer that sends the replies; it is not closed with the responder. Default: one of its own that does
    /// not linger.
    pub fn with_producer(mut self, producer: Producer) -> Self {
        self.producer = Some(producer);
        self
    }

    /// Starts answering, and returns when the topics are known: the group gives partitions to it meanwhile. Without a group it
    /// returns when every partition is positioned: requests that are sent afterwards are seen.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that make no sense; otherwise what went wrong with a topic, for instance that
    /// it does not exist. What goes wrong with the group is told by [`Responder::wait`].
    ///
    /// Cancel safe: nothing is left.
    pub async fn start(self) -> Result<Responder> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::Config, message));
        if self.handlers.is_empty() {
            return invalid("a responder needs at least one handler");
        }
        if self.concurrency == 0 || self.partition_concurrency == Some(0) {
            return invalid("concurrency and partition_concurrency must be at least 1");
        }
        if self.alone.is_some_and(|alone| alone.share.0 >= alone.share.1) {
            return invalid("share: the index must be below the number of responders");
        }
        self.output.check(&self)?;
        let tasks = self.client.core().tasks().child();
        let consumer = self.reader().await?;
        let producer = match &self.producer {
            Some(producer) => producer.clone(),
            None => self.client.producer().linger(Duration::ZERO).build().await?,
        };
        let own_producer = self.producer.is_none();
        let serving = Arc::new(Serving::new(self, producer));
        tasks.spawn(intake::serve(Ending(serving.clone()), consumer, tasks.child()));
        Ok(Responder { serving, own_producer, tasks })
    }

    /// Starts answering and goes on until something is broken beyond repair, as [`Responder::wait`] says.
    ///
    /// Cancel safe: dropping the future stops at once, handlers included. [`ResponderBuilder::run_until`] ends in an
    /// orderly way.
    ///
    /// # Errors
    /// As [`ResponderBuilder::start`] and [`Responder::wait`].
    pub async fn run(self) -> Result<()> {
        self.run_until(std::future::pending::<()>()).await
    }

    /// Starts answering and goes on until `signal` is ready; then ends as [`Responder::close`] does.
    ///
    /// Cancel safe: dropping the future stops at once, handlers included.
    ///
    /// # Errors
    /// As [`ResponderBuilder::run`].
    pub async fn run_until(self, signal: impl Future) -> Result<()> {
        let responder = self.start().await?;
        tokio::select! {
            outcome = responder.wait() => outcome,
            _ = signal => {
                responder.close().await;
                Ok(())
            }
        }
    }

    /// The consumer of the request topics, in its group or positioned.
    async fn reader(&self) -> Result<Consumer> {
        let core = self.client.core();
        let deadline = tokio::time::Instant::now().into_std() + core.config().request_timeout;
        let mut counts = Vec::new();
        for name in self.handlers.keys() {
            counts.push((name.as_str(), core.topic(name, deadline).await?.partitions.len() as u32));
        }
        let consumer = self.consumer.clone();
        let Some(Alone { start, share }) = self.alone else {
            let consumer = consumer.group(&*self.group).topics(self.handlers.keys().map(String::as_str));
            let consumer = consumer.enable_auto_commit(true).enable_auto_offset_store(false).hold_revoked();
            return consumer.build().await;
        };
        let shared = counts.into_iter().flat_map(|(name, count)| {
            let own = (share.0..count).step_by(share.1 as usize);
            own.map(move |partition| TopicPartition::new(name, partition as i32))
        });
        let partitions: Vec<_> = shared.collect();
        if partitions.is_empty() {
            return Err(Error::new(ErrorKind::Config, "no partition falls to this share"));
        }
        let begin = partitions.iter().map(|partition| (partition, start));
        let consumer = consumer.assign_at(begin).build().await?;
        for partition in &partitions {
            consumer.position(partition).await?;
        }
        Ok(consumer)
    }
}

impl fmt::Debug for ResponderBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponderBuilder")
            .field("group", &self.group)
            .field("topics", &self.handlers.keys())
            .finish_non_exhaustive()
    }
}

/// Answers requests. Dropping it stops at once, handlers included; [`Responder::close`] ends in an orderly way.
#[derive(Debug)]
pub struct Responder {
    serving: Arc<Serving>,
    own_producer: bool,
    tasks: TaskSet,
}

impl Responder {
    /// Takes no more requests, lets the handlers that run finish, sends their replies, commits and leaves the group.
    ///
    /// It lasts as long as the handlers do, and until their replies are settled, but no longer than
    /// [`drain_timeout`](ResponderBuilder::drain_timeout) and some 10 s for the farewell, if no node answers.
    ///
    /// Cancel safe: it then still takes no more requests, the handlers go on, and `close` may be called again.
    pub async fn close(&self) {
        self.serving.stop();
        self.tasks.close().await;
        if self.own_producer {
            // Every handler has ended, and with it the wait for its reply.
            let _ = self.serving.producer().close().await;
        }
    }

    /// Waits until it ends: when it is closed, or because it cannot go on.
    ///
    /// Cancel safe: it only looks.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] or [`ErrorKind::Unsupported`]: requests lie in a batch that cannot be read, and are not skipped
    /// silently; [`ErrorKind::Position`] likewise, if the consumer was told so. [`ErrorKind::Closed`]: the client was closed. What
    /// ended the membership for good, for instance `FENCED_INSTANCE_ID` or `GROUP_AUTHORIZATION_FAILED`.
    pub async fn wait(&self) -> Result<()> {
        self.serving.ended().await
    }

    /// The offset below which every record of a partition was handled and its reply, if it has one, acknowledged or
    /// given up. `None`: nothing was taken from it, or another member has it now.
    pub fn finished(&self, partition: &TopicPartition) -> Option<i64> {
        self.serving.finished(partition)
    }

    /// What it has done so far.
    pub fn metrics(&self) -> ResponderMetrics {
        self.serving.metrics()
    }
}
