//! The consumer: batches of assigned partitions, fetched ahead and handed out in order.
//!
//! A shell around the machine in `state/consumer`: one task that sends its requests and takes in the answers; batches are checked and
//! inflated on the thread that asks for them.
mod batch;
mod builder;
mod driver;
mod event;
mod handle;
mod member;
mod offsets;
mod options;
mod stream;

use std::ops::Deref;
use std::sync::Arc;

pub use self::batch::{Batch, BatchIter, BatchRecords, ConsumerRecord};
pub use self::builder::ConsumerBuilder;
pub(crate) use self::driver::{follow, number};
pub use self::event::ConsumerEvent;
pub use self::handle::ConsumerHandle;
pub use self::member::Commit;
pub(crate) use self::member::submit;
pub(crate) use self::options::GroupOptions;
pub use self::stream::RecordStream;
use crate::client::Client;
use crate::error::Result;
use crate::network::task::TaskSet;

/// Reads partitions: every record from the start position on is handed out once and in order, or an error says why not.
///
/// Batches are fetched ahead while the application works, each node on its own, within a bound of bytes. A position moves when
/// [`Consumer::next`] returns a batch. All control (`seek`, `pause`, `position`, ...) is on [`ConsumerHandle`], to which this
/// dereferences and which can be cloned out by [`Consumer::handle`].
///
/// Dropping it ends its task and its fetches at once; nothing is kept at the cluster.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// # broker.create_topic("orders", 1);
/// # let client = milena::Client::connect(&broker.address()).await?;
/// # let producer = client.producer().build().await?;
/// # for value in ["a", "b"] { producer.send("orders", milena::Record::value(value)).await?.await?; }
/// use milena::Offset;
///
/// let mut consumer = client.consumer().assign_at([(("orders", 0), Offset::At(1))]).build().await?;
/// let batch = consumer.next().await?.expect("the consumer is open");
/// assert_eq!(batch.iter().next().unwrap().value(), Some(&b"b"[..]));
/// assert_eq!(consumer.position(("orders", 0)).await?, 2);
/// consumer.close().await;
/// # Ok(()) }
/// ```
pub struct Consumer {
    handle: ConsumerHandle,
    tasks: TaskSet,
    /// The rest of a batch of which a stream has handed out the beginning.
    rest: Option<BatchRecords>,
    /// How many partitions had been taken away when that was looked at last.
    removals: u64,
}

impl Client {
    /// A consumer that reads partitions without a group.
    pub fn consumer(&self) -> ConsumerBuilder {
        ConsumerBuilder::new(self.core().clone())
    }
}

impl Consumer {
    /// Waits for the next batch. `None`: the client was closed.
    ///
    /// # Errors
    /// What keeps a partition from being read; the others go on, so `next` may be called again.
    ///
    /// - [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt): a batch is damaged, or inflates to more than `max_batch`, after it was
    ///   fetched again to no avail. The partition halts until [`ConsumerHandle::seek`], for instance to the offset behind the batch.
    /// - [`ErrorKind::Position`](crate::ErrorKind::Position): the position is not in the log any more, and `auto_offset_reset` is `none`. The
    ///   partition halts likewise.
    /// - [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported): a codec that is not compiled in, an unknown control record. Likewise.
    /// - [`ErrorKind::Broker`](crate::ErrorKind::Broker): a node refuses, for instance for lack of rights, or a topic was unknown for
    ///   `request_timeout`. It is tried on, and told again only after something succeeded, or the same time passed.
    ///
    /// A node that cannot be reached is no error: the consumer goes on trying.
    ///
    /// Cancel safe: a batch is taken and its position moved in one step at the end.
    pub async fn next(&mut self) -> Result<Option<Batch>> {
        match self.turn(false).await? {
            Some(ConsumerEvent::Batch(batch)) => Ok(Some(batch)),
            // Nothing else is handed out to those who do not listen.
            _ => Ok(None),
        }
    }

    /// As [`Consumer::next`], and tells also what the group gives to this consumer and takes from it, each in its place among the batches.
    ///
    /// From the first call on a partition that is taken away is kept until the call after the one that told of it, so that work on it can
    /// be finished and committed. An application that does not care calls [`Consumer::next`]: then, and from that call on, a partition is given
    /// up as soon as the application is done with what it was handed of it.
    ///
    /// # Errors
    /// As [`Consumer::next`].
    ///
    /// Cancel safe: as [`Consumer::next`]; what was told by one call counts as seen when the next is made.
    pub async fn next_event(&mut self) -> Result<Option<ConsumerEvent>> {
        self.turn(true).await
    }

    /// What is left of a batch of a partition that was taken away is for nobody.
    fn drop_lost_rest(&mut self) {
        if let Some(rest) = &self.rest
            && !self.handle.shared.is_still_read(rest.topic_partition(), &mut self.removals)
        {
            self.rest = None;
        }
    }

    async fn turn(&mut self, listening: bool) -> Result<Option<ConsumerEvent>> {
        self.drop_lost_rest();
        if let Some(rest) = self.rest.take().and_then(BatchRecords::into_batch) {
            return Ok(Some(ConsumerEvent::Batch(rest)));
        }
        let shared = &self.handle.shared;
        let waiting = shared.ask(listening);
        // A reader that always finds something must let others run now and then.
        let next =
            tokio::task::coop::cooperative(std::future::poll_fn(|cx| shared.poll_next(cx, listening))).await;
        if let Ok(Some(_)) = &next {
            waiting.end();
        }
        next
    }

    /// Says that all that was handed out so far is done with, and commits it. The commit has begun when this returns; waiting
    /// for its end is not necessary.
    ///
    /// With `enable_auto_offset_store(false)` only that is committed which [`ConsumerHandle::finish`] named.
    ///
    /// # Errors
    /// As [`ConsumerHandle::commit`].
    ///
    /// Cancel safe: the commit goes on.
    pub fn commit(&mut self) -> Commit {
        self.handle.begin_commit(true)
    }

    /// A clone of what controls this consumer, for other tasks.
    pub fn handle(&self) -> ConsumerHandle {
        self.handle.clone()
    }

    /// The records one by one, as a [`Stream`](futures_core::Stream). What it has not handed out when it is dropped comes with the next call
    /// of [`Consumer::next`].
    pub fn stream(&mut self) -> RecordStream<&mut Consumer> {
        RecordStream::new(self)
    }

    /// As [`Consumer::stream`], for as long as the stream lives.
    pub fn into_stream(self) -> RecordStream<Consumer> {
        RecordStream::new(self)
    }

    /// Ends fetching and waits until the consumer's task has ended.
    ///
    /// Cancel safe: the consumer is closed from the first poll on.
    pub async fn close(self) {
        self.handle.shared.close(true);
        self.tasks.close().await;
    }

    fn new(shared: Arc<driver::Shared>) -> Self {
        let tasks = shared.core.tasks().child();
        tasks.spawn(driver::Driver(shared.clone()).run());
        Self { handle: ConsumerHandle { shared }, tasks, rest: None, removals: 0 }
    }
}

impl Deref for Consumer {
    type Target = ConsumerHandle;

    fn deref(&self) -> &ConsumerHandle {
        &self.handle
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.handle.shared.close(false);
    }
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer").field("assignment", &self.assignment()).finish_non_exhaustive()
    }
}
