//! The task of a responder, and one task for each handler that runs.
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::incoming::{Event, Request};
use super::responder::ResponderBuilder;
use super::{Answer, Refusal, ResponderMetrics, Status, wall_clock};
use crate::consumer::{Consumer, ConsumerRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::network::task::TaskSet;
use crate::producer::Producer;
use crate::protocol::error_code::ErrorCode;
use crate::record::Record;
use crate::state::reply::dialect::{Asked, Origin, ReplyHead, read_request};
use crate::state::reply::tracker::Tracker;
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
    config: ResponderBuilder,
    producer: Producer,
    slots: Arc<Semaphore>,
    state: Mutex<State>,
    stop: watch::Sender<bool>,
    ended: watch::Sender<Option<Result<()>>>,
}

#[derive(Default)]
struct State {
    tracker: Tracker,
    metrics: ResponderMetrics,
}

impl Serving {
    pub(super) fn new(config: ResponderBuilder, producer: Producer) -> Self {
        let slots = Arc::new(Semaphore::new(config.concurrency));
        let state = Mutex::default();
        Self {
            config,
            producer,
            slots,
            state,
            stop: watch::Sender::new(false),
            ended: watch::Sender::new(None),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
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
        self.state().tracker.floor(partition)
    }

    pub(super) fn metrics(&self) -> ResponderMetrics {
        let state = self.state();
        ResponderMetrics { running: state.tracker.open() as u64, ..state.metrics }
    }

    fn count(&self, add: impl FnOnce(&mut ResponderMetrics)) {
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

/// Reads the request topics until it is told to stop, and waits for the handlers it started.
pub(super) async fn serve(ending: Ending, mut consumer: Consumer, handlers: TaskSet) {
    let serving = &ending.0;
    let mut stop = serving.stop.subscribe();
    let taking = async {
        loop {
            match consumer.next().await {
                Ok(Some(batch)) => {
                    for record in batch.records() {
                        take(serving, &handlers, record).await;
                    }
                }
                Ok(None) => return Err(Error::closed("client")),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Unsupported) => {
                    return Err(error);
                }
                // The consumer goes on by itself.
                Err(error) => tracing::warn!(%error, group = %serving.config.group, "reading requests"),
            }
        }
    };
    let outcome = tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Ok(()),
        outcome = taking => outcome,
    };
    handlers.close().await;
    consumer.close().await;
    serving.ended.send_replace(Some(outcome));
}

/// Decides what a record is and starts its handler; waits for a slot first.
async fn take(serving: &Arc<Serving>, tasks: &TaskSet, record: ConsumerRecord) {
    let Some(handlers) = serving.config.handlers.get(record.topic()) else { return };
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
    let Ok(slot) = serving.slots.clone().acquire_owned().await else { return };
    // Looked at when its turn has come: it may have waited for long.
    let mut deadline = None;
    if let Some(left) = origin.as_ref().and_then(|origin| origin.left(wall_clock())) {
        let skew = i64::try_from(serving.config.clock_skew.as_millis()).unwrap_or(i64::MAX);
        if left.saturating_add(skew) < 0 {
            return serving.count(|metrics| metrics.expired += 1);
        }
        let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
        deadline = Instant::now().checked_add(left);
    }
    {
        let state = &mut *serving.state();
        state.tracker.start(record.topic_partition(), record.offset());
        match origin {
            Some(_) => state.metrics.requests += 1,
            None => state.metrics.events += 1,
        }
    }
    let open = Open { serving: serving.clone(), record: record.clone(), _slot: slot };
    let event = Event { record };
    tasks.spawn(async move {
        match origin {
            Some(origin) => open.serving.answer(event, origin, deadline).await,
            None => open.serving.handle(event).await,
        }
        drop(open);
    });
}

fn allowed(serving: &Serving, origin: &Origin) -> bool {
    serving.config.reply_topics.as_ref().is_none_or(|topics| topics.contains(&origin.topic))
}

/// A handler that runs; gone when it has ended, however it did.
struct Open {
    serving: Arc<Serving>,
    record: ConsumerRecord,
    _slot: OwnedSemaphorePermit,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.serving.state().tracker.finish(self.record.topic_partition(), self.record.offset());
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
