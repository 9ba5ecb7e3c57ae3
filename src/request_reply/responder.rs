//! The answering side.
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ResponderMetrics;
use super::handler::Handlers;
use super::output::{Options, ReplyTopics};
use super::serve::{self, Ending, Serving};
use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::network::task::TaskSet;
use crate::producer::Producer;
use crate::state::consumer::{Offset, OffsetReset};
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
    pub(super) start: Offset,
    pub(super) share: (u32, u32),
    pub(super) reply_topics: Option<ReplyTopics>,
    pub(super) output: Options,
    pub(super) clock_skew: Duration,
    pub(super) producer: Option<Producer>,
}

impl ResponderBuilder {
    pub(super) fn new(client: Client, group: String) -> Self {
        Self {
            client,
            group,
            handlers: HashMap::new(),
            concurrency: 256,
            start: Offset::End,
            share: (0, 1),
            reply_topics: None,
            output: Options::default(),
            clock_skew: Duration::from_secs(1),
            producer: None,
        }
    }

    /// Sets how many handlers may run at a time. At the limit nothing more is taken from the topics. Default: 256.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers;
        self
    }

    /// Takes every `of`-th partition of each topic, beginning with number `index`: `of` responders with the indices from
    /// 0 share the topics without talking. Default: all partitions.
    pub fn share(mut self, index: u32, of: u32) -> Self {
        self.share = (index, of);
        self
    }

    /// Sets where it begins to read. Nothing is committed: what a responder does not see while it runs is not answered,
    /// unless its successor is told to begin earlier, for instance at [`Responder::finished`]. Default: the end.
    pub fn start_at(mut self, offset: Offset) -> Self {
        self.start = offset;
        self
    }

    /// Sets how far the clocks of callers and responder may be apart: a request is skipped as expired when its deadline
    /// passed so long ago. Default: 1 s.
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

    /// Starts answering and returns when every partition is positioned: requests that are sent afterwards are seen.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for options that make no sense; otherwise what went wrong with a topic, for instance that
    /// it does not exist.
    ///
    /// Cancel safe: nothing is left.
    pub async fn start(self) -> Result<Responder> {
        let invalid = |message: &str| Err(Error::new(ErrorKind::Config, message));
        if self.handlers.is_empty() {
            return invalid("a responder needs at least one handler");
        }
        if self.concurrency == 0 || self.concurrency > u32::MAX as usize {
            return invalid("concurrency must be at least 1");
        }
        if self.share.0 >= self.share.1 {
            return invalid("share: the index must be below the number of responders");
        }
        self.output.check(&self)?;
        let tasks = self.client.core().tasks().child();
        let partitions = self.partitions().await?;
        let begin = partitions.iter().map(|partition| (partition, self.start));
        // Requests that retention took are gone; those that are left are answered.
        let consumer = self.client.consumer().auto_offset_reset(OffsetReset::Earliest).assign_at(begin);
        let consumer = consumer.build().await?;
        for partition in &partitions {
            consumer.position(partition).await?;
        }
        let producer = match &self.producer {
            Some(producer) => producer.clone(),
            None => self.client.producer().linger(Duration::ZERO).build().await?,
        };
        let own_producer = self.producer.is_none();
        let serving = Arc::new(Serving::new(self, producer));
        tasks.spawn(serve::serve(Ending(serving.clone()), consumer, tasks.child()));
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

    /// Starts answering and goes on until `signal` is ready; then takes no more requests, lets the handlers that run
    /// finish, and sends their replies.
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

    async fn partitions(&self) -> Result<Vec<TopicPartition>> {
        let core = self.client.core();
        let deadline = tokio::time::Instant::now().into_std() + core.config().request_timeout;
        let mut partitions = Vec::new();
        for name in self.handlers.keys() {
            let count = core.topic(name, deadline).await?.partitions.len() as u32;
            let own = (self.share.0..count).step_by(self.share.1 as usize);
            partitions.extend(own.map(|partition| TopicPartition::new(name.as_str(), partition as i32)));
        }
        if partitions.is_empty() {
            return Err(Error::new(ErrorKind::Config, "no partition falls to this share"));
        }
        Ok(partitions)
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
    /// Takes no more requests, lets the handlers that run finish, sends their replies and ends.
    ///
    /// It lasts as long as the handlers do, and until their replies are settled: at the longest the producer's `delivery_timeout`, if
    /// no node answers.
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
    /// silently. [`ErrorKind::Closed`]: the client was closed.
    pub async fn wait(&self) -> Result<()> {
        self.serving.ended().await
    }

    /// The offset below which every record of a partition was handled and its reply, if it has one, acknowledged or
    /// given up. `None`: nothing was taken from it.
    pub fn finished(&self, partition: &TopicPartition) -> Option<i64> {
        self.serving.finished(partition)
    }

    /// What it has done so far.
    pub fn metrics(&self) -> ResponderMetrics {
        self.serving.metrics()
    }
}
