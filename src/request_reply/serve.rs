//! The task of a responder, and one task for each handler that runs.
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::incoming::{Event, Request};
use super::responder::ResponderBuilder;
use super::{Answer, Refusal, ResponderMetrics, Status};
use crate::consumer::{BatchRecords, ConsumerRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::network::task::TaskSet;
use crate::producer::Producer;
use crate::protocol::error_code::ErrorCode;
use crate::record::{Record, TimestampType};
use crate::state::reply::dialect::{Asked, Origin, ReplyHead, read_request};
use crate::state::reply::intake::{Intake, Limits, Ticket};
use crate::topic_partition::TopicPartition;

/// How long a reply may wait beyond its caller's deadline: clocks differ.
const GRACE: Duration = Duration::from_millis(100);
/// How long a reply may wait for its topic to be known and for room in the producer, if its caller set no deadline.
const SEND_LIMIT: Duration = Duration::from_secs(30);

type Handling<T> = Pin<Box<dyn Future<Output = T> + Send>>;
pub(super) type RequestHandler = Box<dyn Fn(Request) -> Handling<Result<Answer, Refusal>> + Send + Sync>;
pub(super) type EventHandler = Box<dyn Fn(Event) -> Handling<()> + Send + Sync>;

/// What is done with the records of one topic.
#[derive(Default)]
pub(super) struct Handlers {
    pub(super) request: Option<RequestHandler>,
    pub(super) event: Option<EventHandler>,
}

/// What the reading task and the handlers share.
pub(super) struct Serving {
    pub(super) config: ResponderBuilder,
    producer: Producer,
    state: Mutex<State>,
    /// A handler has ended, and the reading task may have something to do about it.
    pub(super) ended_one: Notify,
    pub(super) stop: watch::Sender<bool>,
    pub(super) ended: watch::Sender<Option<Result<()>>>,
}

pub(super) struct State {
    pub(super) intake: Intake<BatchRecords>,
    /// The reading task wants to know of every end.
    pub(super) watched: bool,
    metrics: ResponderMetrics,
}

impl Serving {
    pub(super) fn new(config: ResponderBuilder, producer: Producer) -> Self {
        let limits = Limits {
            total: config.concurrency,
            partition: config.partition_concurrency.unwrap_or(config.concurrency),
            by_key: config.by_key,
        };
        let state =
            State { intake: Intake::new(limits), watched: false, metrics: ResponderMetrics::default() };
        Self {
            config,
            producer,
            state: Mutex::new(state),
            ended_one: Notify::new(),
            stop: watch::Sender::new(false),
            ended: watch::Sender::new(None),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn producer(&self) -> &Producer {
        &self.producer
    }

    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until the reading task has ended.
    pub(super) async fn ended(&self) -> Result<()> {
        let mut ended = self.ended.subscribe();
        match ended.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(outcome)) => outcome.clone(),
            // The sender is our own: it cannot be gone.
            _ => Err(Error::closed("responder")),
        }
    }

    pub(super) fn finished(&self, partition: &TopicPartition) -> Option<i64> {
        self.state().intake.floor(partition)
    }

    pub(super) fn metrics(&self) -> ResponderMetrics {
        let state = self.state();
        ResponderMetrics { running: state.intake.running() as u64, ..state.metrics }
    }

    pub(super) fn count(&self, add: impl FnOnce(&mut ResponderMetrics)) {
        add(&mut self.state().metrics);
    }
}

impl std::fmt::Debug for Serving {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Serving").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Tells those who wait for the end of a responder, whatever ended its task, if only its runtime before the first turn.
pub(super) struct Ending(pub(super) Arc<Serving>);

impl Drop for Ending {
    fn drop(&mut self) {
        let closed = || Some(Err(Error::closed("responder")));
        self.0.ended.send_modify(|ended| *ended = ended.take().or_else(closed));
    }
}

/// Decides what a record is whose turn has come, and starts its handler.
pub(super) fn take(serving: &Arc<Serving>, tasks: &TaskSet, ticket: Ticket, record: ConsumerRecord) {
    let mut open = Open { serving: serving.clone(), ticket, done: true };
    let Some(handlers) = serving.config.handlers.get(record.topic()) else {
        return serving.count(|metrics| metrics.unhandled += 1);
    };
    let asked = match handlers.request {
        Some(_) => read_request(record.headers()),
        None => Asked::Event,
    };
    let origin = match asked {
        Asked::Event if handlers.event.is_some() => None,
        Asked::Event => return serving.count(|metrics| metrics.unhandled += 1),
        Asked::Request(origin) if allowed(serving, &origin) => Some(origin),
        Asked::Request(_) | Asked::Unanswerable => return serving.count(|metrics| metrics.unanswerable += 1),
        // Nothing that this responder announces needs one.
        Asked::Control(_) => return,
    };
    let mut deadline = None;
    if let Some(origin) = &origin {
        let now = serving.config.client.core().wall_clock();
        if serving.is_expired(origin, &record, now) {
            return serving.count(|metrics| metrics.expired += 1);
        }
        let left = origin.left(now).map(|left| Duration::from_millis(u64::try_from(left).unwrap_or(0)));
        deadline = left.and_then(|left| Instant::now().checked_add(left));
    }
    serving.count(|metrics| match origin {
        Some(_) => metrics.requests += 1,
        None => metrics.events += 1,
    });
    open.done = false;
    let event = Event { record };
    tasks.spawn(async move {
        match origin {
            Some(origin) => open.serving.answer(event, origin, deadline).await,
            None => open.serving.handle(event).await,
        }
        open.close();
    });
}

impl Serving {
    /// Whether the caller has given up by now, given in milliseconds.
    fn is_expired(&self, origin: &Origin, record: &ConsumerRecord, now: i64) -> bool {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (written, by_node) =
            (record.timestamp(), record.timestamp_type() == TimestampType::LogAppendTime);
        let end = match (origin.deadline, origin.timeout) {
            (Some(deadline), timeout) if timeout.is_none() || !by_node => deadline,
            // Of a record without a timestamp the age is not known.
            _ if written < 0 => return false,
            (_, timeout) => {
                let most = timeout.map_or(self.config.max_age, Duration::from_millis);
                written.saturating_add(millis(most))
            }
        };
        end.saturating_add(millis(self.config.clock_skew)) < now
    }
}

fn allowed(serving: &Serving, origin: &Origin) -> bool {
    serving.config.reply_topics.as_ref().is_none_or(|topics| topics.contains(&origin.topic))
}

/// A record that is worked on. One whose task was ended before its time is not done: somebody else does it.
struct Open {
    serving: Arc<Serving>,
    ticket: Ticket,
    done: bool,
}

impl Open {
    /// It was dealt with to the end.
    fn close(mut self) {
        self.done = true;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let state = &mut *self.serving.state();
        if state.intake.finish(&self.ticket, self.done) || state.watched {
            self.serving.ended_one.notify_one();
        }
    }
}

impl Serving {
    async fn handle(&self, event: Event) {
        let Some(handler) =
            self.config.handlers.get(event.topic()).and_then(|handlers| handlers.event.as_ref())
        else {
            return;
        };
        if let Err(message) = caught(handler(event)).await {
            tracing::error!(%message, group = %self.config.group, "an event handler panicked");
            self.count(|metrics| metrics.panicked += 1);
        }
    }

    async fn answer(&self, event: Event, origin: Origin, deadline: Option<Instant>) {
        let Some(handler) =
            self.config.handlers.get(event.topic()).and_then(|handlers| handlers.request.as_ref())
        else {
            return;
        };
        let request = Request { event, deadline: deadline.map(Instant::into_std) };
        let outcome = caught(handler(request)).await.unwrap_or_else(|message| {
            tracing::error!(%message, group = %self.config.group, "a request handler panicked");
            self.count(|metrics| metrics.panicked += 1);
            Err(Refusal::new(Status::INTERNAL, "the handler panicked"))
        });
        let sent = match outcome {
            Ok(answer) => match self.send(&origin, deadline, Ok(&answer)).await {
                Err(error) if is_too_large(&error) => {
                    let refusal =
                        Refusal::new(Status::RESOURCE_EXHAUSTED, "the answer is too large for its topic");
                    self.send(&origin, deadline, Err(&refusal)).await
                }
                sent => sent,
            },
            Err(refusal) => self.send(&origin, deadline, Err(&refusal)).await,
        };
        match sent {
            Ok(()) => self.count(|metrics| metrics.answered += 1),
            Err(error) => {
                tracing::warn!(%error, group = %self.config.group, "a reply could not be written");
                self.count(|metrics| metrics.lost += 1);
            }
        }
    }

    /// Writes one reply and waits until it is acknowledged.
    async fn send(
        &self,
        origin: &Origin,
        deadline: Option<Instant>,
        outcome: Result<&Answer, &Refusal>,
    ) -> Result<()> {
        let empty = Answer::null();
        let (answer, head) = match outcome {
            Ok(answer) => (answer, ReplyHead::last(origin, 0)),
            Err(refusal) => {
                self.count(|metrics| metrics.refused += 1);
                (&empty, ReplyHead::error(origin, 0, refusal.status().code(), refusal.message()))
            }
        };
        let mut record = Record::tombstone();
        record.value = answer.value.as_deref();
        record.key = answer.key.as_deref();
        record.partition = origin.partition;
        record.headers.extend(answer.headers.iter().map(|(name, value)| (&name[..], Some(&value[..]))));
        record.headers.extend(head.headers().into_iter().map(|(name, value)| (name.as_bytes(), Some(value))));
        // A caller may name a topic that does not exist; it must not hold the slot for as long as it likes.
        let now = Instant::now();
        let limit =
            deadline.map_or(now + SEND_LIMIT, |deadline| deadline.max(now) + self.config.clock_skew + GRACE);
        let delivery = tokio::time::timeout_at(limit, self.producer.send(&origin.topic, record)).await;
        let delivery = delivery.map_err(|_| {
            Error::new(ErrorKind::Timeout, "the reply could not be sent in time")
                .on_topic(origin.topic.as_str())
        })??;
        delivery.await.map(drop)
    }
}

fn is_too_large(error: &Error) -> bool {
    error.kind() == ErrorKind::Record
        || matches!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE | ErrorCode::RECORD_LIST_TOO_LARGE))
}

/// Runs a handler to its end, or to its panic: broken application code must not end the responder.
async fn caught<T>(mut handling: Handling<T>) -> Result<T, String> {
    let polled = std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
            Err(panic) => Poll::Ready(Err(message(&*panic))),
        }
    });
    polled.await
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message").to_owned()
}
