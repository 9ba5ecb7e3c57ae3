//! The tasks of a requester: one reads its reply partitions, one looks at the clock.
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::{Notify, watch};
use tokio::time::sleep_until;

use super::inbox::Waiter;
use super::reply::{Reply, refused};
use super::token::CallToken;
use crate::client::Core;
use crate::client::clock::WallClock;
use crate::consumer::{Batch, Consumer, ConsumerHandle};
use crate::error::{Error, ErrorKind, Result};
use crate::state::backoff::Backoff;
use crate::state::consumer::Offset;
use crate::state::reply::answerers::{Answerer, Answerers, Known};
use crate::state::reply::correlation::{ReplyCorrelation, ReplyId};
use crate::state::reply::dialect::{ReplyAddress, read_reply};
use crate::state::reply::lost::{GoOn, LostPositions};
use crate::state::reply::router::{Addressee, Refused, Router, Ticket};
use crate::topic_partition::TopicPartition;

/// How far clocks may be apart when a lost position is found again by time, in milliseconds: replies bear the time of their responder. What
/// is read again for that is thrown away.
const CLOCK_SKEW: i64 = 600_000;
/// How often metadata is asked for while replies may come on any partition of a topic, which may gain some.
const GROWTH: Duration = Duration::from_secs(1);

/// What the callers, the readers and the clock work on.
pub(super) struct Shared {
    state: Mutex<State>,
    consumer: ConsumerHandle,
    /// A call ends earlier than the clock would look.
    earlier: Notify,
    /// Of a closing requester: the last call has ended.
    idle: Notify,
    /// Tells readers and clock to end.
    stop: watch::Sender<bool>,
}

pub(super) struct State {
    pub(super) router: Router<Waiter>,
    pub(super) answerers: Answerers,
    /// When the clock looks next.
    armed: Option<Instant>,
    /// Batches on reply partitions that could not be read.
    pub(super) unreadable: u64,
    /// Attempts after the first.
    pub(super) resent: u64,
    pub(super) slowest_reply: Duration,
    pub(super) reply_time: Duration,
}

/// A call that was entered.
pub(super) struct Registered {
    pub(super) ticket: Ticket,
    pub(super) id: ReplyId,
    pub(super) address: Arc<ReplyAddress>,
    /// Of the topic that is asked.
    pub(super) known: Known,
}

impl State {
    /// Reads no more what nobody awaits a reply on any more. To be called whenever calls have ended or a home has moved.
    pub(super) fn release(&mut self, consumer: &ConsumerHandle) {
        while let Some(partition) = self.router.homes_mut().poll_release() {
            // A consumer that is closed reads nothing anyhow.
            let _ = consumer.remove_partition(partition);
        }
    }
}

impl Shared {
    pub(super) fn new(correlation: ReplyCorrelation, consumer: ConsumerHandle) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                router: Router::new(correlation),
                answerers: Answerers::default(),
                armed: None,
                unreadable: 0,
                resent: 0,
                slowest_reply: Duration::ZERO,
                reply_time: Duration::ZERO,
            }),
            consumer,
            earlier: Notify::new(),
            idle: Notify::new(),
            stop: watch::Sender::new(false),
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn consumer(&self) -> &ConsumerHandle {
        &self.consumer
    }

    /// Enters a call of the topic `asked` whose reply comes on `topic`. Mostly a new call ends later than those before it, and the clock sleeps on.
    /// `None` if the topic is not open; the waiter is then dropped.
    pub(super) fn register(
        &self,
        topic: &str,
        asked: &str,
        deadline: Instant,
        sent: i64,
        waiter: Waiter,
    ) -> Result<Option<Registered>> {
        let state = &mut *self.state();
        let Some((home, address)) = state.router.homes().home(topic) else { return Ok(None) };
        let address = address.clone();
        let registered = state.router.register_at(home, deadline, sent, waiter);
        let (ticket, id) = registered.map_err(|_| Error::closed("requester"))?;
        self.arm(state, deadline);
        Ok(Some(Registered { ticket, id, address, known: state.answerers.known(asked) }))
    }

    /// A call has that deadline: the clock is woken if it would look too late.
    fn arm(&self, state: &mut State, deadline: Instant) {
        if state.armed.is_none_or(|armed| deadline < armed) {
            state.armed = Some(deadline);
            self.earlier.notify_one();
        }
    }

    /// Where reading stands on the partitions that replies to this address may come on; -1 where that is not known now.
    pub(super) fn positions(&self, address: &ReplyAddress) -> Vec<(i32, i64)> {
        let partitions = self.state().router.homes().partitions(address);
        let known =
            |partition| self.consumer.known_position(&TopicPartition::new(address.topic(), partition));
        partitions.into_iter().map(|partition| (partition, known(partition).unwrap_or(-1))).collect()
    }

    /// Enters a call that was sent by another requester, and reads its reply partitions from where they ended then.
    pub(super) fn resume(&self, token: &CallToken, deadline: Instant, waiter: Waiter) -> Result<Ticket> {
        let state = &mut *self.state();
        let named = match &token.positions[..] {
            [(partition, _)] => Some(*partition),
            _ => None,
        };
        let address = Arc::new(ReplyAddress::new(&*token.topic, named));
        let partitions: BTreeSet<i32> = token.positions.iter().map(|(partition, _)| *partition).collect();
        let unread = state.router.homes().unread(&token.topic, &partitions);
        let home = state.router.homes_mut().visit(address, partitions);
        let registered = state.router.resume_at(home, token.id, deadline, token.sent, waiter);
        let ticket = match registered {
            Ok(ticket) => ticket,
            Err(refused) => {
                // Unless it is somebody else's home, it is none any more.
                state.router.homes_mut().begin(home);
                state.router.homes_mut().end(home);
                state.release(&self.consumer);
                return Err(match refused {
                    Refused::Closed => Error::closed("requester"),
                    Refused::Known => Error::new(ErrorKind::Config, "the call is this requester's own"),
                });
            }
        };
        for &(partition, offset) in &token.positions {
            let name = TopicPartition::new(&*token.topic, partition);
            let to = match offset {
                0.. => Offset::At(offset),
                _ => Offset::Timestamp(token.sent.saturating_sub(CLOCK_SKEW)),
            };
            // To read again what others have read already hurts nobody; to read it never would.
            let behind = self.consumer.known_position(&name).is_none_or(|at| offset < 0 || offset < at);
            if unread.contains(&partition) || behind {
                self.consumer.add_partition(name, Some(to))?;
            }
        }
        self.arm(state, deadline);
        Ok(ticket)
    }

    /// Ends a call whose caller has all that it wants.
    pub(super) fn finish(&self, ticket: Ticket) {
        self.state().router.finish(ticket);
        self.ended();
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
        let state = &mut *self.state();
        state.release(&self.consumer);
        if state.router.in_flight() == 0 {
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

    pub(super) async fn stopped(&self) {
        // The sender is our own: it cannot be gone.
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    pub(super) fn end_all(&self) {
        let waiters = self.state().router.close();
        for waiter in waiters {
            waiter.send(Err(Error::closed("requester")));
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
            waiter.send(Err(Error::new(ErrorKind::Timeout, "no reply by the deadline")));
        }
        shared.ended();
    }
}

/// Ends calls whose reply topic is gone, and reads what a topic gains that is read as a whole.
pub(super) async fn watch_topics(shared: Arc<Shared>, core: Arc<Core>, broadcast: bool) {
    let mut clusters = core.watch_cluster();
    let mut stopped = std::pin::pin!(shared.stopped());
    loop {
        let cluster = clusters.borrow_and_update().clone();
        let (missing, waiters) = {
            let now = tokio::time::Instant::now().into_std();
            let state = &mut *shared.state();
            let gone = state.router.homes_mut().handle_metadata(now, &cluster);
            for partition in state.router.homes_mut().widen(&cluster) {
                // Replies may have been written before it was seen.
                let _ = shared.consumer.add_partition(partition, Some(Offset::Beginning));
            }
            (state.router.homes().next_deadline(), state.router.abandon(&gone))
        };
        for waiter in waiters {
            let message = "the reply topic was deleted or created again while a reply was awaited";
            waiter.send(Err(Error::new(ErrorKind::Gone, message).unsure()));
        }
        shared.ended();
        tokio::select! {
            () = &mut stopped => return,
            changed = clusters.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = sleep_until(missing.unwrap_or_else(Instant::now).into()), if missing.is_some() => {}
            () = tokio::time::sleep(GROWTH), if broadcast => {
                if shared.state().router.in_flight() > 0 {
                    core.refresh();
                }
            }
        }
    }
}

/// Reads the reply partitions and completes the calls that their records answer.
pub(super) async fn read(guard: EndAll, mut consumer: Consumer, backoff: Backoff, wall_clock: WallClock) {
    let shared = &guard.0;
    let mut stopped = std::pin::pin!(shared.stopped());
    let mut lost = LostPositions::new(backoff, SmallRng::from_rng(&mut rand::rng()));
    loop {
        let seek = lost.next_deadline();
        let error = tokio::select! {
            biased;
            () = &mut stopped => break,
            () = sleep_until(seek.unwrap_or_else(Instant::now).into()), if seek.is_some() => {
                seek_lost(shared, &mut lost, wall_clock.now());
                continue;
            }
            next = consumer.next() => match next {
                Ok(Some(batch)) => {
                    lost.read(batch.topic_partition());
                    complete(shared, &batch, wall_clock.now());
                    continue;
                }
                Ok(None) => break,
                Err(error) => error,
            },
        };
        tracing::warn!(target: "milena::request_reply", %error, "reading replies");
        let (Some(topic), Some(partition)) = (error.topic(), error.partition()) else { continue };
        let partition = TopicPartition::new(topic, partition);
        let to = match error.kind() {
            // Where the log was truncated, it is known from where on it is another.
            ErrorKind::Position => consumer.behind(&partition).map_or(GoOn::Before, GoOn::At),
            // What cannot be read cannot answer a call. Later replies can.
            ErrorKind::Corrupt | ErrorKind::Unsupported => {
                shared.state().unreadable += 1;
                consumer.behind(&partition).map_or(GoOn::End, GoOn::At)
            }
            // It goes on by itself.
            _ => continue,
        };
        lost.lose(tokio::time::Instant::now().into_std(), partition, to);
    }
    consumer.close().await;
}

fn seek_lost(shared: &Shared, lost: &mut LostPositions, wall_clock: i64) {
    let now = tokio::time::Instant::now().into_std();
    while let Some((partition, to)) = lost.poll_seek(now) {
        let to = match to {
            // Never to the end while calls wait, or begin to before that end is told: their replies may lie before it.
            GoOn::Before => {
                let oldest = shared.state().router.oldest(partition.topic(), partition.partition());
                Offset::Timestamp(oldest.unwrap_or(wall_clock).saturating_sub(CLOCK_SKEW))
            }
            GoOn::At(offset) => Offset::At(offset),
            GoOn::End => Offset::End,
        };
        // Only a partition that is not read any more cannot be sought.
        let _ = shared.consumer.seek(partition, to);
    }
}

fn complete(shared: &Shared, batch: &Batch, wall_clock: i64) {
    for record in batch.records() {
        let head = read_reply(record.headers());
        let addressee = {
            let state = &mut *shared.state();
            let addressee = match head.id {
                // One that names a reply topic is a request: somebody uses the topic for both.
                Some(id) if !head.is_request => {
                    state.router.handle_record(id, |waiter| waiter.take_in(&head, &record))
                }
                _ => state.router.handle_stranger(),
            };
            if matches!(addressee, Addressee::Waiter(_)) {
                let time = u64::try_from(wall_clock.saturating_sub(record.timestamp())).unwrap_or(0);
                let time = Duration::from_millis(time);
                state.slowest_reply = state.slowest_reply.max(time);
                state.reply_time = state.reply_time.saturating_add(time);
            }
            addressee
        };
        let Addressee::Waiter(waiter) = addressee else { continue };
        let answerer = Answerer::of(&head);
        let outcome = match head.error {
            None => Ok(Reply::new(record, answerer)),
            Some((status, message)) => Err(refused(&record, status, message)),
        };
        waiter.send(outcome);
    }
    shared.ended();
}
