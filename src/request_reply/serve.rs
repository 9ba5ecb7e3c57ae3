//! What the task of a responder and the handlers share, and how a handler is begun.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::at_once::{Answered, AtOnce};
use super::handler::Outcome;
use super::incoming::Event;
use super::intake::Rest;
use super::output::Output;
use super::responder::ResponderBuilder;
use super::{Request, ResponderMetrics};
use crate::consumer::ConsumerRecord;
use crate::error::{Error, Result};
use crate::network::task::TaskSet;
use crate::producer::Producer;
use crate::record::TimestampType;
use crate::state::reply::dialect::{Asked, Origin, read_request};
use crate::state::reply::intake::{Intake, Limits, Ticket};
use crate::topic_partition::TopicPartition;

/// What the reading task and the handlers share.
pub(super) struct Serving {
    pub(super) config: ResponderBuilder,
    pub(super) output: Output,
    producer: Producer,
    state: Mutex<State>,
    /// A handler has ended, and the reading task may have something to do about it.
    pub(super) ended_one: Notify,
    pub(super) stop: watch::Sender<bool>,
    pub(super) ended: watch::Sender<Option<Result<()>>>,
}

pub(super) struct State {
    pub(super) intake: Intake<Rest>,
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
        let output = Output::new(&config.group, &config.output);
        Self {
            config,
            output,
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

/// Decides what a record is whose turn has come, and runs its handler: at once, or in a task.
pub(super) fn take(
    serving: &Arc<Serving>,
    tasks: &TaskSet,
    at_once: &mut AtOnce,
    ticket: Ticket,
    record: ConsumerRecord,
) {
    let mut open = Open { serving: serving.clone(), ticket, done: true };
    let Some(handlers) = serving.config.handlers.get(record.topic()) else {
        return serving.count(|metrics| metrics.unhandled += 1);
    };
    let asked = match handlers.request {
        Some(_) => read_request(record.headers()),
        None => Asked::Event,
    };
    let (origin, handler) = match (asked, &handlers.request, &handlers.event) {
        (Asked::Event, _, Some(handler)) => (None, handler),
        (Asked::Event, _, None) => return serving.count(|metrics| metrics.unhandled += 1),
        (Asked::Request(origin), Some(handler), _) if allowed(serving, &origin) => (Some(origin), handler),
        (Asked::Control(control), ..) => return serving.control(&control),
        (Asked::Request(_) | Asked::Unanswerable, ..) => {
            return serving.count(|metrics| metrics.unanswerable += 1);
        }
    };
    let (now, mut deadline) = (Instant::now(), None);
    if let Some(origin) = &origin {
        let Some(left) = serving.left(origin, &record) else {
            return serving.count(|metrics| metrics.expired += 1);
        };
        deadline = left.and_then(|left| now.checked_add(left));
    }
    serving.count(|metrics| match origin {
        Some(_) => metrics.requests += 1,
        None => metrics.events += 1,
    });
    open.done = false;
    let request = Request { event: Event { record }, deadline: deadline.map(Instant::into_std) };
    let Some(origin) = origin else {
        let run = match at_once.run(now, handler, &request, |outcome| outcome.map(drop).map_err(Err)) {
            Ok(()) => return open.close(),
            Err(run) => run,
        };
        tasks.spawn(Box::pin(async move {
            open.serving.handle(request, run).await;
            open.close();
        }));
        return;
    };
    // Whether it was answered before may have to be waited for.
    let remembers = serving.config.output.dedupe.is_some();
    let answer = |outcome: Outcome| serving.answer_at_once(&origin, outcome);
    let run = match if remembers { Err(None) } else { at_once.run(now, handler, &request, answer) } {
        Ok((answer, delivery)) => {
            return at_once.answered(Answered { open, origin, deadline, answer, delivery });
        }
        Err(run) => run,
    };
    let answering = serving.answer(request, origin, ticket, run);
    tasks.spawn(Box::pin(async move {
        answering.await;
        open.close();
    }));
}

impl Serving {
    /// What is left for the answer, if its caller said so. `None`: nobody waits for it any more.
    fn left(&self, origin: &Origin, record: &ConsumerRecord) -> Option<Option<Duration>> {
        let millis = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
        let (now, written) = (self.config.client.core().wall_clock(), record.timestamp());
        let by_node = record.timestamp_type() == TimestampType::LogAppendTime;
        let age = record.written_after().map(|after| millis(Instant::now().into_std().duration_since(after)));
        let left = origin.left(now, by_node.then_some(written), age);
        let patience = left.unwrap_or_else(|| {
            // Without a time of its own it is as old as it may be, as far as that is known.
            let told = if written < 0 { 0 } else { now.saturating_sub(written) };
            let age = age.map_or(told, |age| told.min(age));
            millis(self.config.max_age).saturating_sub(age)
        });
        let expired = patience.saturating_add(millis(self.config.clock_skew)) < 0;
        (!expired).then(|| left.map(|left| Duration::from_millis(u64::try_from(left).unwrap_or(0))))
    }
}

fn allowed(serving: &Serving, origin: &Origin) -> bool {
    serving.config.reply_topics.as_ref().is_none_or(|topics| topics.allow(&origin.topic))
}

/// A record that is worked on. One whose task was ended before its time is not done: somebody else does it.
pub(super) struct Open {
    serving: Arc<Serving>,
    pub(super) ticket: Ticket,
    done: bool,
}

impl Open {
    /// It was dealt with to the end.
    pub(super) fn close(mut self) {
        self.done = true;
    }
}

/// Something that waits for its caller and holds no place meanwhile.
pub(super) struct Parked<'a>(&'a Serving, Ticket);

impl Serving {
    /// `None`: too many do so already.
    pub(super) fn park(&self, ticket: Ticket) -> Option<Parked<'_>> {
        let (parked, more) = self.state().intake.park(&ticket);
        if more {
            self.ended_one.notify_one();
        }
        parked.then_some(Parked(self, ticket))
    }
}

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        self.0.state().intake.unpark(&self.1);
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
