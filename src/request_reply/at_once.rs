//! Handlers that are ready at once: run where requests are read, without a task each; their replies are settled by the batch.
use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::Instant;

use super::handler::{Handler, Outcome, Run};
use super::serve::{Open, Serving};
use super::writer::Writer;
use super::{Answer, Request};
use crate::error::Error;
use crate::network::task::TaskSet;
use crate::producer::Delivery;
use crate::state::reply::dialect::Origin;

/// A handler that keeps its thread longer holds up those behind it, which could run on other threads.
const QUICK: Duration = Duration::from_micros(20);
/// So many requests after such a one get tasks at once.
const WARY: u32 = 1000;

/// See the module.
#[derive(Default)]
pub(super) struct AtOnce {
    /// Requests that are to get tasks at once.
    wary: u32,
    /// By the batch that their replies went into.
    answered: BTreeMap<usize, Vec<Answered>>,
}

/// A request whose reply is with the producer.
pub(super) struct Answered {
    pub(super) open: Open,
    pub(super) origin: Origin,
    pub(super) deadline: Option<Instant>,
    pub(super) answer: Answer,
    pub(super) delivery: Delivery,
}

impl AtOnce {
    /// Runs a handler that is ready when it is polled first, and has its outcome dealt with by `end`. What is not ready, or cannot be dealt
    /// with at once, is given back for a task, if it was begun.
    pub(super) fn run<T>(
        &mut self,
        now: Instant,
        handler: &Handler,
        request: &Request,
        end: impl FnOnce(Outcome) -> Result<T, Outcome>,
    ) -> Result<T, Option<Run>> {
        if self.wary > 0 {
            self.wary -= 1;
            return Err(None);
        }
        let mut run = handler(request.clone());
        // If it is not ready, its task polls it again before anything else.
        let polled = run.poll(&mut Context::from_waker(Waker::noop()));
        if now.elapsed() > QUICK {
            self.wary = WARY;
        }
        match polled {
            Poll::Ready(outcome) => end(outcome).map_err(|outcome| Some(Run::ended(outcome))),
            Poll::Pending => Err(Some(run)),
        }
    }

    pub(super) fn answered(&mut self, answered: Answered) {
        self.answered.entry(answered.delivery.batch()).or_default().push(answered);
    }

    /// Begins to wait for the acknowledgements of what was answered since the last time.
    pub(super) fn settle(&mut self, serving: &Arc<Serving>, tasks: &TaskSet) {
        while let Some((_, answered)) = self.answered.pop_first() {
            tasks.spawn(settle(serving.clone(), answered));
        }
    }
}

/// All of one batch: they are settled at the same time.
async fn settle(serving: Arc<Serving>, answered: Vec<Answered>) {
    let mut failed = Vec::new();
    for mut one in answered {
        match (&mut one.delivery).await {
            Ok(_) => {
                serving.settled(&one.origin, Ok(()));
                one.open.close();
            }
            Err(error) => failed.push(Box::pin(fail(&serving, one, error))),
        }
    }
    poll_fn(|context| {
        failed.retain_mut(|one| one.as_mut().poll(context).is_pending());
        if failed.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

async fn fail(serving: &Serving, answered: Answered, error: Error) {
    let Answered { open, origin, deadline, answer, .. } = answered;
    let sent = Writer::new(serving, &origin, deadline, open.ticket).one_failed(&answer, error).await;
    serving.settled(&origin, sent);
    open.close();
}
