//! The task of a responder, and one task for each handler that runs.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

use super::ResponderMetrics;
use super::incoming::Event;
use super::output::Output;
use super::responder::ResponderBuilder;
use crate::consumer::{Consumer, ConsumerRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::network::task::TaskSet;
use crate::producer::Producer;
use crate::state::reply::dialect::{Asked, Origin, read_request};
use crate::state::reply::tracker::Tracker;
use crate::topic_partition::TopicPartition;

/// What the reading task and the handlers share.
pub(super) struct Serving {
    pub(super) config: ResponderBuilder,
    pub(super) output: Output,
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
        let output = Output::new(&config.group, &config.output);
        Self {
            config,
            output,
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
        Asked::Control(control) => return serving.control(&control),
    };
    let Ok(slot) = serving.slots.clone().acquire_owned().await else { return };
    // Looked at when its turn has come: it may have waited for long.
    let mut deadline = None;
    if let Some(left) =
        origin.as_ref().and_then(|origin| origin.left(serving.config.client.core().wall_clock()))
    {
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
    let Some(origin) = origin else {
        tasks.spawn(async move {
            open.serving.handle(event).await;
            drop(open);
        });
        return;
    };
    let answering = serving.answer(event, origin, deadline);
    tasks.spawn(async move {
        answering.await;
        drop(open);
    });
}

fn allowed(serving: &Serving, origin: &Origin) -> bool {
    serving.config.reply_topics.as_ref().is_none_or(|topics| topics.allow(&origin.topic))
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
