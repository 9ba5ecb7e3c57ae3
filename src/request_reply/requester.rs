//! The asking side.
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::future::IntoFuture;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};

use super::RequesterMetrics;
use super::config::RequesterBuilder;
use super::opening::Opening;
use super::reader::{self, EndAll, Shared};
use super::reply::Reply;
use crate::error::{Error, ErrorKind, Result};
use crate::network::task::TaskSet;
use crate::producer::Producer;
use crate::record::Record;
use crate::state::consumer::OffsetReset;
use crate::state::reply::correlation::ReplyCorrelation;
use crate::state::reply::dialect::RequestHead;
use crate::state::reply::router::Ticket;

/// A wait without a limit ends all the same.
const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// Asks over Kafka: sends a request to a topic and waits for the reply to it.
///
/// It reads one partition of a reply topic, from where that ended before the first request was sent; it commits nothing
/// and is in no group. So no rebalance can come between a reply and its caller, and it is ready after a few round
/// trips. Other requesters may share the partition.
///
/// **The promise.** Every call ends exactly once, no later than its deadline plus scheduling slack. No reply is lost as
/// long as the caller is alive, the reply is in the log before the deadline, and its leader is reachable before the
/// deadline. Not promised: that the responder runs only once for a request.
///
/// Cheap to clone. Dropping the last clone stops reading at once; [`Requester::close`] waits for the calls in flight.
#[derive(Clone)]
pub struct Requester {
    inner: Arc<Inner>,
}

/// The tasks know only `shared`, so that dropping the last clone of the requester ends them.
struct Inner {
    shared: Arc<Shared>,
    config: RequesterBuilder,
    producer: Producer,
    opening: Arc<Opening>,
    slots: Semaphore,
    tasks: TaskSet,
}

impl Requester {
    pub(super) async fn new(mut config: RequesterBuilder) -> Result<Self> {
        let core = config.client.core().clone();
        let tasks = core.tasks().child();
        let producer = config.own_producer().await?;
        // Without a policy for lost positions: the reader decides where to go on.
        let consumer = config.client.consumer().auto_offset_reset(OffsetReset::None).build().await?;
        let correlation = ReplyCorrelation::new(rand::random(), rand::random());
        let shared = Shared::new(correlation, consumer.handle());
        tasks.spawn(reader::clock(EndAll(shared.clone())));
        tasks.spawn(reader::read(
            EndAll(shared.clone()),
            consumer,
            core.config().retry_backoff,
            core.config().wall_clock,
        ));
        tasks.spawn(reader::watch_topics(shared.clone(), core.clone(), config.allocator.is_broadcast()));
        let pins = {
            let shared = Arc::downgrade(&shared);
            move || shared.upgrade().map(|shared| shared.state().router.homes().awaited()).unwrap_or_default()
        };
        let group = config.allocator.join(&core, Arc::new(pins))?;
        let opening = Arc::new(Opening::new(config.clone(), shared.clone(), group));
        if let Some(homes) = config.allocator.changes() {
            tasks.spawn(opening.clone().follow(homes.clone()));
        }
        let slots = Semaphore::new(config.max_in_flight);
        let inner = Inner { shared, config, producer, opening, slots, tasks };
        let requester = Self { inner: Arc::new(inner) };
        let Inner { config, opening, .. } = &*requester.inner;
        let topics = config.request_topics.iter().map(|topic| requester.reply_topic(topic));
        let topics: BTreeSet<Cow<'_, str>> =
            topics.chain(config.single_reply_topic().map(|topic| Ok(topic.into()))).collect::<Result<_>>()?;
        opening.announce(&topics).await?;
        for topic in &topics {
            opening.open(topic).await?;
        }
        Ok(requester)
    }

    /// A call: the request is sent and its reply awaited when the call is.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # broker.create_topic("upper", 1)?;
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// # let responder = client.responder("upper").on_request("upper", async |request: milena::Request| {
    /// #     String::from_utf8_lossy(request.value()).to_uppercase()
    /// # });
    /// # let responder = responder.start().await?;
    /// use std::time::Duration;
    ///
    /// let requester = client.requester().build().await?;
    /// let reply = requester.request("upper", "abc").key("42").timeout(Duration::from_secs(5)).await?;
    /// assert_eq!(reply.value(), b"ABC");
    /// # Ok(()) }
    /// ```
    pub fn request<'a, V: AsRef<[u8]> + ?Sized>(&'a self, topic: &'a str, value: &'a V) -> Call<'a> {
        self.request_record(topic, Record::value(value))
    }

    /// A call whose request is this record, for instance one with a null value.
    pub fn request_record<'a>(&'a self, topic: &'a str, record: Record<'a>) -> Call<'a> {
        Call { requester: self, topic, record, timeout: self.inner.config.timeout }
    }

    /// What it has done so far.
    pub fn metrics(&self) -> RequesterMetrics {
        let state = self.inner.shared.state();
        RequesterMetrics::new(state.router.counts(), state.router.in_flight())
    }

    /// Refuses new calls, waits until those in flight have ended (each by its deadline) and stops reading. Requests that
    /// its own producer could not send are waited for, too: at the longest until their `delivery_timeout`, if no node
    /// answers. All clones are closed.
    ///
    /// Cancel safe: the requester then stays closed to new calls, and `close` may be called again.
    pub async fn close(&self) {
        let inner = &*self.inner;
        inner.shared.state().router.refuse();
        inner.slots.close();
        inner.shared.drained().await;
        inner.shared.stop();
        inner.opening.leave().await;
        inner.tasks.close().await;
        if inner.config.producer.is_none() {
            // Every call has ended: nobody waits for what it may have left to tell.
            let _ = inner.producer.close().await;
        }
    }

    /// The topic that replies to requests on this topic come on.
    fn reply_topic<'a>(&'a self, topic: &str) -> Result<Cow<'a, str>> {
        match self.inner.config.single_reply_topic() {
            Some(replies) if replies == topic => {
                let message = "a topic of requests cannot be the reply topic";
                Err(Error::new(ErrorKind::Config, message).on_topic(topic))
            }
            Some(replies) => Ok(Cow::Borrowed(replies)),
            None => Ok(Cow::Owned(reply_topic_of(topic))),
        }
    }
}

/// In NestJS, each topic of requests has a reply topic of its own.
fn reply_topic_of(topic: &str) -> String {
    format!("{topic}.reply")
}

impl fmt::Debug for Requester {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requester").field("config", &self.inner.config).finish_non_exhaustive()
    }
}

/// A call that waits to be awaited.
#[must_use = "a call sends nothing until it is awaited"]
#[derive(Debug)]
pub struct Call<'a> {
    requester: &'a Requester,
    topic: &'a str,
    record: Record<'a>,
    timeout: Duration,
}

impl<'a> Call<'a> {
    /// Sets the key, by which the partition of the request is chosen. Default: null.
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.record = self.record.key(key);
        self
    }

    /// Adds a header. Those of request-reply itself come behind it.
    pub fn header<K: AsRef<[u8]> + ?Sized, V: AsRef<[u8]> + ?Sized>(
        mut self,
        key: &'a K,
        value: &'a V,
    ) -> Self {
        self.record = self.record.header(key, value);
        self
    }

    /// Sets the partition that the request is written to. Default: the partitioner chooses.
    pub fn partition(mut self, partition: i32) -> Self {
        self.record = self.record.partition(partition);
        self
    }

    /// Sets how long the whole call may take, waiting for room and sending included. Default: that of the requester.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn run(self) -> Result<Reply> {
        let Self { requester, topic, record, timeout } = self;
        let inner = &*requester.inner;
        let now = tokio::time::Instant::now().into_std();
        let deadline = now.checked_add(timeout).unwrap_or(now + A_YEAR);
        let late =
            |what: &str| Error::new(ErrorKind::Timeout, format!("{what} within {timeout:?}")).on_topic(topic);

        // Room for one more call, and a positioned reader: nearly always both are there.
        let reply_topic = requester.reply_topic(topic)?;
        let entered = async {
            let slot = inner.slots.acquire().await.map_err(|_| Error::closed("requester"))?;
            loop {
                // Registered before it is sent: the reply may be there before the send returns.
                let (waiter, reply) = oneshot::channel();
                let sent_at = inner.config.client.core().wall_clock();
                if let Some(entered) = inner.shared.register(&reply_topic, deadline, sent_at, waiter)? {
                    return Ok::<_, Error>((slot, sent_at, reply, entered));
                }
                inner.opening.open(&reply_topic).await?;
            }
        };
        let (_slot, sent_at, mut reply, (ticket, id, address)) =
            tokio::time::timeout_at(deadline.into(), entered)
                .await
                .map_err(|_| late("no room for the call, or its reply topic not ready,"))??;
        let cancel = CancelOnDrop { shared: &inner.shared, ticket, armed: true };

        let left = deadline.saturating_duration_since(now).as_millis();
        let expires = sent_at.saturating_add(i64::try_from(left).unwrap_or(i64::MAX));
        let head = RequestHead::new(&id, &address, expires, u64::try_from(left).unwrap_or(u64::MAX));
        let headers = head.headers(inner.config.dialect);
        let record = record.headers(headers.iter().map(|&(name, value)| (name.as_bytes(), Some(value))));

        let mut appended = false;
        let mut trouble = None;
        let outcome = {
            let mut send = pin!(async {
                let delivery = inner.producer.send(topic, record).await?;
                appended = true;
                delivery.await
            });
            tokio::select! {
                biased;
                outcome = &mut reply => Some(outcome),
                sent = &mut send => {
                    trouble = sent.err();
                    None
                }
            }
        };
        let outcome = match (outcome, &trouble) {
            (Some(outcome), _) => outcome,
            // Surely not in the log: no reply can come. If the call has ended meanwhile, that outcome stands.
            (None, Some(error)) if !error.maybe_written() && cancel.fail() => return Err(error.clone()),
            // Sent, or perhaps sent: the reply may come until the deadline.
            (None, _) => reply.await,
        };
        cancel.disarm();
        match outcome {
            Ok(Err(error)) if error.is_timeout() => {
                let error = late("no reply");
                // Once handed to the producer, the request may reach the responder.
                let error = if appended { error.unsure() } else { error };
                Err(match trouble {
                    Some(trouble) => error.caused_by(trouble),
                    None => error,
                })
            }
            Ok(outcome) => outcome,
            // The clock ended without ending this call: it cannot.
            Err(_) => Err(Error::closed("requester")),
        }
    }
}

/// Sends the request and waits for its reply.
///
/// # Errors
/// [`ErrorKind::Reply`] with an [`ErrorReply`](crate::ErrorReply) as source: the responder answered with an error.
/// [`ErrorKind::Timeout`]: no reply by the deadline; `maybe_written` says whether the request may have been sent.
/// [`ErrorKind::Closed`]: the requester was closed. Otherwise the request could not be sent, and the error says why.
///
/// Cancel safe: dropping the future ends the call and frees its place. A request that was handed to the producer is
/// sent all the same, and its reply is thrown away.
impl<'a> IntoFuture for Call<'a> {
    type Output = Result<Reply>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Reply>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Takes the call out of the table when its caller goes away.
struct CancelOnDrop<'a> {
    shared: &'a Shared,
    ticket: Ticket,
    armed: bool,
}

impl CancelOnDrop<'_> {
    /// Ends the call because it was not sent; false if it has ended already.
    fn fail(&self) -> bool {
        self.shared.give_up(self.ticket, true)
    }

    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            self.shared.give_up(self.ticket, false);
        }
    }
}
