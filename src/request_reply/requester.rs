//! The asking side.
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::call::{A_YEAR, Call};
use super::config::RequesterBuilder;
use super::inbox::Waiter;
use super::opening::Opening;
use super::pending::{PendingCall, Waiting};
use super::reader::{self, EndAll, Shared};
use super::room::Room;
use super::token::CallToken;
use super::{RequesterMetrics, SILENCE};
use crate::error::{Error, ErrorKind, Result};
use crate::network::task::TaskSet;
use crate::producer::Producer;
use crate::record::Record;
use crate::state::consumer::OffsetReset;
use crate::state::reply::answerers::Known;
use crate::state::reply::correlation::ReplyCorrelation;

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
    pub(super) inner: Arc<Inner>,
}

/// The tasks know only `shared`, so that dropping the last clone of the requester ends them.
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) config: RequesterBuilder,
    pub(super) producer: Producer,
    pub(super) opening: Arc<Opening>,
    pub(super) room: Room,
    tasks: TaskSet,
}

impl Requester {
    pub(super) async fn new(mut config: RequesterBuilder) -> Result<Self> {
        let core = config.client.core().clone();
        let tasks = core.tasks().child();
        let producer = config.own_producer().await?;
        // Without a policy for lost positions: the reader decides where to go on.
        let consumer =
            config.client.consumer().auto_offset_reset(OffsetReset::None).silence(SILENCE).build().await?;
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
        let room = Room::new(config.max_in_flight, config.max_in_flight_bytes, config.wait_for_room);
        let inner = Inner { shared, config, producer, opening, room, tasks };
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
        Call::new(self, topic, record, self.inner.config.timeout)
    }

    /// What it has done so far.
    pub fn metrics(&self) -> RequesterMetrics {
        let state = self.inner.shared.state();
        RequesterMetrics::new(&state)
    }

    /// Refuses new calls, waits until those in flight have ended (each by its deadline) and stops reading. Requests that
    /// its own producer could not send are waited for, too: at the longest until their `delivery_timeout`, if no node
    /// answers. All clones are closed.
    ///
    /// Cancel safe: the requester then stays closed to new calls, and `close` may be called again.
    pub async fn close(&self) {
        self.refuse();
        self.inner.shared.drained().await;
        self.end().await;
    }

    /// As [`Requester::close`], but waits no longer than this for the calls in flight: those that are left then end with
    /// [`ErrorKind::Closed`].
    ///
    /// Cancel safe: as [`Requester::close`], and the calls in flight go on.
    pub async fn drain(&self, limit: Duration) {
        self.refuse();
        let shared = &self.inner.shared;
        let drained = tokio::time::timeout(limit, async {
            shared.drained().await;
            self.end().await;
        });
        if drained.await.is_err() {
            shared.end_all();
            shared.stop();
            self.inner.tasks.close().await;
        }
    }

    fn refuse(&self) {
        self.inner.shared.state().router.refuse();
        self.inner.room.close();
    }

    async fn end(&self) {
        let inner = &*self.inner;
        inner.shared.stop();
        inner.opening.leave().await;
        inner.tasks.close().await;
        if inner.config.producer.is_none() {
            // Every call has ended: nobody waits for what it may have left to tell.
            let _ = inner.producer.close().await;
        }
    }

    /// Waits for the reply to a call that another requester has sent, or this one in a former life of the process: reads the partition
    /// that the reply comes on from where it ended then. The call ends at its own deadline.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] if the deadline has passed; [`ErrorKind::Config`] if the call is this requester's own and still known to it;
    /// [`ErrorKind::Closed`], [`ErrorKind::Full`] as for a call.
    ///
    /// Cancel safe: nothing is left.
    pub async fn resume(&self, token: &CallToken) -> Result<PendingCall> {
        let inner = &*self.inner;
        let left = token.deadline.saturating_sub(inner.config.client.core().wall_clock());
        let timeout = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        let deadline = tokio::time::Instant::now() + timeout.min(A_YEAR);
        let late =
            || Error::new(ErrorKind::Timeout, "the deadline of the call has passed").on_topic(&*token.topic);
        let place = tokio::time::timeout_at(deadline, inner.room.enter(0)).await.map_err(|_| late())??;
        if left <= 0 {
            return Err(late());
        }
        let (waiter, reply) = oneshot::channel();
        let ticket = inner.shared.resume(token, deadline.into_std(), Waiter::One(waiter))?;
        let waiting = Waiting {
            requester: self.clone(),
            topic: None,
            ticket,
            reply,
            held: place.keep(),
            delivery: None,
            partition: -1,
            known: Known::default(),
            attempts: None,
            appended: true,
            possible: true,
            trouble: None,
            ended: false,
            timeout,
            span: None,
        };
        Ok(PendingCall { waiting, token: token.clone() })
    }

    /// The topic that replies to requests on this topic come on.
    pub(super) fn reply_topic<'a>(&'a self, topic: &str) -> Result<Cow<'a, str>> {
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
