//! The consumer: batches of assigned partitions, fetched ahead and handed out in order.
//!
//! A shell around the machine in `state/consumer`: one task that sends its requests and takes in the answers; batches are checked and
//! inflated on the thread that asks for them.
mod batch;
mod builder;
mod driver;
mod handle;
mod stream;

use std::ops::Deref;
use std::sync::Arc;

pub use self::batch::{Batch, BatchIter, BatchRecords, ConsumerRecord};
pub use self::builder::ConsumerBuilder;
pub use self::handle::ConsumerHandle;
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
        if let Some(rest) = self.rest.take().and_then(BatchRecords::into_batch) {
            return Ok(Some(rest));
        }
        let shared = &self.handle.shared;
        // A reader that always finds something must let others run now and then.
        tokio::task::coop::cooperative(std::future::poll_fn(|cx| shared.poll_next(cx))).await
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
        Self { handle: ConsumerHandle { shared }, tasks, rest: None }
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
