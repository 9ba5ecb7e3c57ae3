//! The tasks of a requester: one reads its reply partitions, one looks at the clock.
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::sleep_until;

use super::reply::{Reply, refused};
use crate::client::clock::WallClock;
use crate::consumer::{Batch, Consumer};
use crate::error::{Error, ErrorKind, Result};
use crate::state::backoff::Backoff;
use crate::state::consumer::Offset;
use crate::state::reply::correlation::{ReplyCorrelation, ReplyId};
use crate::state::reply::dialect::read_reply;
use crate::state::reply::router::{Addressee, Router, Ticket};

/// How far clocks may be apart when a lost position is found again by time, in milliseconds.
const CLOCK_SKEW: i64 = 60_000;

/// Completes one call.
pub(super) type Waiter = oneshot::Sender<Result<Reply>>;

/// What the callers, the readers and the clock work on.
pub(super) struct Shared {
    state: Mutex<State>,
    /// A call ends earlier than the clock would look.
    earlier: Notify,
    /// Of a closing requester: the last call has ended.
    idle: Notify,
    /// Tells readers and clock to end.
    stop: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) router: Router<Waiter>,
    /// When the clock looks next.
    armed: Option<Instant>,
}

impl Shared {
    pub(super) fn new(correlation: ReplyCorrelation) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State { router: Router::new(correlation), armed: None }),
            earlier: Notify::new(),
            idle: Notify::new(),
            stop: watch::Sender::new(false),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a call. Mostly a new call ends later than those before it, and the clock sleeps on.
    pub(super) fn register(&self, deadline: Instant, sent: i64, waiter: Waiter) -> Result<(Ticket, ReplyId)> {
        let state = &mut *self.state();
        let registered = state.router.register(deadline, sent, waiter);
        let registered = registered.map_err(|_| Error::closed("requester"))?;
        if state.armed.is_none_or(|armed| deadline < armed) {
            state.armed = Some(deadline);
            self.earlier.notify_one();
        }
        Ok(registered)
    }

    /// Ends a call without a reply, unless it has ended already.
    pub(super) fn give_up(&self, ticket: Ticket, failed: bool) -> bool {
        let waiter = {
            let router = &mut self.state().router;
            if failed { router.fail(ticket) } else { router.cancel(ticket) }
        };
        self.ended();
        waiter.is_some()
    }

    /// To be called after calls have ended.
    fn ended(&self) {
        if self.state().router.in_flight() == 0 {
            self.idle.notify_waiters();
        }
    }

    /// Waits until no call is pending.
    pub(super) async fn drained(&self) {
        loop {
            let idle = self.idle.notified();
            if self.state().router.in_flight() == 0 {
                return;
            }
            idle.await;
        }
    }

    /// Tells readers and clock to end.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    async fn stopped(&self) {
        // The sender is our own: it cannot be gone.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    fn end_all(&self) {
        let waiters = self.state().router.close();
        for waiter in waiters {
            let _ = waiter.send(Err(Error::closed("requester")));
        }
        self.idle.notify_waiters();
    }
}

/// Ends every pending call when the clock or the reader ends, whatever ended it: made before they begin, as their runtime may end before
/// their first turn.
pub(super) struct EndAll(pub(super) Arc<Shared>);

impl Drop for EndAll {
    fn drop(&mut self) {
        self.0.end_all();
    }
}

/// Ends calls at their deadlines. It sleeps until the earliest deadline it has heard of: calls that ended meanwhile are
/// not worth waking for, so under load it wakes about once per timeout and not per call.
pub(super) async fn clock(guard: EndAll) {
    let shared = &guard.0;
    let mut stopped = std::pin::pin!(shared.stopped());
    loop {
        let armed = shared.state().armed;
        tokio::select! {
            () = &mut stopped => return,
            () = shared.earlier.notified() => continue,
            () = sleep_until(armed.unwrap_or_else(Instant::now).into()), if armed.is_some() => {}
        }
        let mut expired = Vec::new();
        {
            let now = tokio::time::Instant::now().into_std();
            let state = &mut *shared.state();
            expired.extend(std::iter::from_fn(|| state.router.expire(now)));
            state.armed = state.router.next_deadline();
        }
        for waiter in expired {
            let _ = waiter.send(Err(Error::new(ErrorKind::Timeout, "no reply by the deadline")));
        }
        shared.ended();
    }
}

/// Reads the reply partitions and completes the calls that their records answer.
pub(super) async fn read(guard: EndAll, mut consumer: Consumer, backoff: Backoff, wall_clock: WallClock) {
    let shared = &guard.0;
    let mut stopped = std::pin::pin!(shared.stopped());
    // Errors since something was read: a node at which no position holds must not be sought without a pause.
    let mut failures = 0u32;
    loop {
        let error = tokio::select! {
            biased;
            () = &mut stopped => break,
            next = consumer.next() => match next {
                Ok(Some(batch)) => {
                    failures = 0;
                    complete(shared, &batch);
                    continue;
                }
                Ok(None) => break,
                Err(error) => error,
            },
        };
        tracing::warn!(%error, "reading replies");
        let (Some(topic), Some(partition)) = (error.topic(), error.partition()) else { continue };
        let to = match error.kind() {
            // Never to the end while calls wait: their replies may lie before it. To read twice hurts nobody.
            ErrorKind::Position => {
                let oldest = shared.state().router.oldest().unwrap_or_else(|| wall_clock.now());
                Offset::Timestamp(oldest.saturating_sub(CLOCK_SKEW))
            }
            // What cannot be read cannot answer a call. Later replies can.
            ErrorKind::Corrupt | ErrorKind::Unsupported => Offset::End,
            // It goes on by itself.
            _ => continue,
        };
        let wait = backoff.after(failures, &mut rand::rng());
        failures = failures.saturating_add(1);
        tokio::select! {
            biased;
            () = &mut stopped => break,
            () = tokio::time::sleep(wait) => {}
        }
        // Only a partition that is not read cannot be sought.
        let _ = consumer.seek((topic, partition), to);
    }
    consumer.close().await;
}

fn complete(shared: &Shared, batch: &Batch) {
    for record in batch.records() {
        let head = read_reply(record.headers());
        let addressee = {
            let router = &mut shared.state().router;
            match head.id {
                Some(id) => router.handle_reply(id),
                None => router.handle_stranger(),
            }
        };
        let Addressee::Waiter(waiter) = addressee else { continue };
        let outcome = match head.error {
            None => Ok(Reply::new(record)),
            Some((status, message)) => Err(refused(&record, status, message)),
        };
        // A caller that has just gone needs nothing.
        let _ = waiter.send(outcome);
    }
    shared.ended();
}
