//! The producer: a shell of threads and tasks around the machines of `state::producer`.
mod config;
mod delivery;
mod driver;
mod shared;
mod topic;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::oneshot;

pub use self::config::{Acks, ProducerBuilder};
pub use self::delivery::{Delivery, Written};
use self::delivery::{End, Slot};
use self::driver::Driver;
use self::shared::{Shared, TopicState, lock};
pub use self::topic::ProducerTopic;
use crate::client::{Client, Core};
use crate::error::Result;
use crate::network::task::TaskSet;
use crate::record::Record;

impl Client {
    /// Makes a [`Producer`]: options first, then [`ProducerBuilder::build`].
    pub fn producer(&self) -> ProducerBuilder {
        ProducerBuilder::new(self.core().clone())
    }
}

/// Writes records to topics. Cheap to clone; made by [`Client::producer`](crate::Client::producer).
///
/// Records are gathered into batches, one open batch for each partition, and sent when a batch is full or has lingered.
/// What is not acknowledged is sent again until `delivery_timeout`; with idempotence, the default, no record is written twice by
/// that, and the order of each partition is kept.
///
/// Dropping the last clone, [`ProducerTopic`]s included, ends the producer at once: deliveries that are not settled end with
/// [`ErrorKind::Closed`](crate::ErrorKind::Closed). [`Producer::close`] sends everything first.
///
/// ```
/// use milena::{Client, Record};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> milena::Result<()> {
/// # let broker = milena::broker::Broker::start().await?;
/// let client = Client::connect(&broker.address()).await?;
/// let producer = client.producer().build().await?;
/// let orders = producer.topic("orders");
///
/// let delivery = orders.send(Record::value("3 apples").key("42")).await?;
/// let written = delivery.await?;
/// assert_eq!((written.partition, written.offset), (0, Some(0)));
/// producer.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Producer {
    owner: Arc<Owner>,
}

/// Ends the driver when the last handle goes.
#[derive(Debug)]
struct Owner {
    shared: Arc<Shared>,
    _tasks: TaskSet,
}

impl Producer {
    fn start(core: &Arc<Core>, options: config::Options) -> Self {
        let shared = Arc::new(Shared::new(core.clone(), options));
        let tasks = core.tasks().child();
        tasks.spawn(Driver::new(shared.clone()).run());
        Self { owner: Arc::new(Owner { shared, _tasks: tasks }) }
    }

    /// A handle of a topic; it is looked up when the first record is sent.
    pub fn topic(&self, name: &str) -> ProducerTopic {
        ProducerTopic::new(self.owner.clone(), self.owner.shared.topic(name))
    }

    /// Sends a record to a topic by name: [`Producer::topic`] and [`ProducerTopic::send`].
    ///
    /// A handle kept is faster than a name looked up for every record.
    ///
    /// Cancel safe: a future dropped before it is ready has taken nothing.
    pub async fn send(&self, topic: &str, record: Record<'_>) -> Result<Delivery> {
        self.topic(topic).send(record).await
    }

    /// Sends all batches without lingering, and waits until every record sent before is settled, one way or the other.
    ///
    /// Records that other tasks send meanwhile are not waited for. How each record ended, its [`Delivery`] tells.
    ///
    /// Cancel safe: the batches are sent all the same.
    pub async fn flush(&self) -> Result<()> {
        let shared = &self.owner.shared;
        let (sender, batches) = oneshot::channel();
        lock(&shared.flushes).push(sender);
        shared.wake.notify_one();
        let mut ended = shared.ended.subscribe();
        tokio::select! {
            batches = batches => {
                for completion in batches.unwrap_or_default() {
                    End { completion, slot: Slot::NONE }.await;
                }
            }
            // A driver that has ended has settled everything.
            _ = ended.wait_for(|ended| *ended) => {}
        }
        Ok(())
    }

    /// Takes no more records, sends what there is, and waits until all is settled: no longer than `delivery_timeout`.
    ///
    /// Cancel safe: closing goes on.
    pub async fn close(&self) -> Result<()> {
        let shared = &self.owner.shared;
        shared.closing.store(true, Ordering::SeqCst);
        // Sends that wait for room end with an error.
        shared.room.close();
        shared.wake.notify_one();
        // The sender lives as long as `shared`, so waiting fails only by being true.
        let _ = shared.ended.subscribe().wait_for(|ended| *ended).await;
        Ok(())
    }

    /// Numbers about what was done so far.
    pub fn metrics(&self) -> ProducerMetrics {
        let shared = &self.owner.shared;
        let counters = *lock(&shared.counters);
        ProducerMetrics {
            records_written: counters.written,
            records_failed: counters.failed,
            batches_sent: counters.batches,
            bytes_sent: counters.bytes,
            requests_sent: counters.requests,
            retries: counters.retries,
            splits: counters.splits,
            producer_epochs: counters.epochs,
            in_flight: counters.in_flight,
            buffered_bytes: shared.options.buffer_memory.saturating_sub(shared.room.available_permits())
                as u64,
            waiting_sends: shared.waiting.load(Ordering::Relaxed) as u64,
        }
    }
}

/// Numbers about a producer, from its beginning or as of now; see [`Producer::metrics`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerMetrics {
    /// Records that were acknowledged.
    pub records_written: u64,
    /// Records whose delivery ended with an error.
    pub records_failed: u64,
    /// Batches in produce requests, repeated ones included.
    pub batches_sent: u64,
    /// Bytes of these batches.
    pub bytes_sent: u64,
    /// Produce requests.
    pub requests_sent: u64,
    /// Batches that were sent again.
    pub retries: u64,
    /// Batches that were too large for the topic and were divided.
    pub splits: u64,
    /// Producer ids that were obtained and epochs that were begun; more than one means that batches of unknown fate were given up,
    /// or that nodes had lost records or forgotten the producer.
    pub producer_epochs: u64,
    /// Produce requests that wait for an answer now.
    pub in_flight: u64,
    /// Bytes of `buffer_memory` in use now.
    pub buffered_bytes: u64,
    /// Calls of `send` that wait for room now.
    pub waiting_sends: u64,
}

/// The runtime's time, which a test may have paused.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

impl Shared {
    /// Waits until the topic is known.
    async fn resolve(&self, topic: &TopicState, deadline: Instant) -> Result<()> {
        let known = self.core.topic_or_create(&topic.name, deadline).await?;
        self.learn(topic, &known);
        self.wake.notify_one();
        Ok(())
    }

    /// Has the topic looked up, without waiting.
    fn look_up(&self, name: &Arc<str>) {
        if let Some(known) = self.core.cluster().topic(name) {
            self.learn(&self.topic(name), known);
        } else {
            self.core.want_topics(std::slice::from_ref(name));
        }
    }
}
