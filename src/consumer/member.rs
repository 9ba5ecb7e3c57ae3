//! The shell around a membership: its requests out, their answers in, and those who wait for commits.
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use super::driver::{Inner, Shared, now};
use crate::client::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::network::call::{Completion, Purpose};
use crate::state::group::{self, Answer, Request, Ticket, What};
use crate::topic_partition::TopicPartition;

/// How long a consumer that closes waits for its last commit and its farewell to be answered.
const FAREWELL: Duration = Duration::from_secs(10);

/// What a consumer in a group has besides its machines.
#[derive(Default)]
pub(super) struct Member {
    /// Answers for the driver; bounded by the requests under way, of which the machine has a handful.
    arrived: Mutex<Vec<(Ticket, Result<Answer>)>>,
    /// Whoever waited for records has stopped to wait.
    went_away: AtomicBool,
    /// The client was asked for all topics there are.
    all_topics: AtomicBool,
    /// How many partitions were taken away so far.
    removals: AtomicU64,
}

/// Who waits for commits, by their numbers.
pub(super) type Commits = HashMap<u64, oneshot::Sender<Result<()>>>;

/// A commit that was begun, and its end. It may be dropped: the commit goes on.
#[derive(Debug)]
pub struct Commit(Option<oneshot::Receiver<Result<()>>>, Option<Error>);

impl Commit {
    pub(super) fn begun(end: oneshot::Receiver<Result<()>>) -> Self {
        Self(Some(end), None)
    }

    pub(super) fn refused(error: Error) -> Self {
        Self(None, Some(error))
    }
}

impl Future for Commit {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<()>> {
        if let Some(error) = &self.1 {
            return Poll::Ready(Err(error.clone()));
        }
        match self.0.as_mut().map(|end| Pin::new(end).poll(cx)) {
            Some(Poll::Pending) => Poll::Pending,
            Some(Poll::Ready(Ok(outcome))) => Poll::Ready(outcome),
            Some(Poll::Ready(Err(_))) | None => Poll::Ready(Err(Error::closed("the consumer"))),
        }
    }
}

/// The application waits for records as long as this lives.
pub(super) struct Waiting<'a>(Option<&'a Shared>);

impl Waiting<'_> {
    /// It was handed something, of which the machine knows.
    pub(super) fn end(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        // Without the clock, which may be gone.
        if let Some((shared, member)) = self.0.and_then(|shared| Some((shared, shared.member.as_ref()?))) {
            member.went_away.store(true, Ordering::Release);
            shared.wake.notify_one();
        }
    }
}

impl Shared {
    /// The application asks for more: it is done with what it was handed before.
    pub(super) fn ask(&self, listening: bool) -> Waiting<'_> {
        if let Some(member) = &self.member {
            let inner = &mut *self.lock();
            if let Some(membership) = &mut inner.membership {
                member.went_away.store(false, Ordering::Release);
                membership.ask(&mut inner.machine, now(), listening);
            }
            self.wake.notify_one();
        }
        Waiting(Some(self))
    }

    /// Whether what is left of a batch is still for the application. `seen` is the number of partitions that were taken away when that was
    /// looked at last.
    pub(super) fn is_still_read(&self, partition: &TopicPartition, seen: &mut u64) -> bool {
        let Some(member) = &self.member else { return true };
        let removals = member.removals.load(Ordering::Acquire);
        if std::mem::replace(seen, removals) == removals {
            return true;
        }
        self.lock().membership.as_ref().is_some_and(|membership| membership.owns(partition))
    }

    /// Takes in what arrived for the membership, sends what follows. When to come again at the latest.
    pub(super) fn drive_member(&self, now: Instant) -> Option<Instant> {
        let member = self.member.as_ref()?;
        let arrived = std::mem::take(&mut *member.arrived.lock().unwrap_or_else(PoisonError::into_inner));
        let (mut requests, mut ended) = (Vec::new(), Vec::new());
        let (deadline, topics, all) = {
            let inner = &mut *self.lock();
            let membership = inner.membership.as_mut()?;
            if member.went_away.swap(false, Ordering::AcqRel) {
                membership.went_away(now);
            }
            for (ticket, answer) in arrived {
                membership.handle_response(now, ticket, answer);
            }
            loop {
                requests.extend(std::iter::from_fn(|| membership.poll_request(now)));
                if !membership.settle(&mut inner.machine, now) {
                    break;
                }
            }
            member.removals.store(membership.removals(), Ordering::Release);
            while let Some((id, error)) = membership.poll_ended() {
                ended.extend(inner.commits.remove(&id).map(|waiter| (waiter, error)));
            }
            if membership.wants_refresh() {
                self.core.refresh();
            }
            (membership.next_deadline(), membership.topics_changed(), membership.wants_all_topics())
        };
        for (waiter, error) in ended {
            // Nobody may be waiting any more.
            let _ = waiter.send(error.map_or(Ok(()), Err));
        }
        if topics {
            self.follow_topics();
            self.changed.notify_waiters();
        }
        if !self.is_closed() && member.all_topics.swap(all, Ordering::AcqRel) != all {
            if all { self.core.want_all_topics() } else { self.core.forget_all_topics() }
        }
        for request in requests {
            self.submit_member(now, request);
        }
        deadline
    }

    /// The interest in all topics ends with the consumer.
    pub(super) fn forget_all_topics(&self) {
        if self.member.as_ref().is_some_and(|member| member.all_topics.swap(false, Ordering::AcqRel)) {
            self.core.forget_all_topics();
        }
    }

    /// The membership ends in good order: its last requests are there to be sent.
    pub(super) fn leave(&self, inner: &mut Inner, now: Instant) {
        if let Some(membership) = &mut inner.membership {
            membership.close(&inner.machine, now);
        }
        inner.commits.clear();
    }

    /// Waits until the last requests of the membership are answered, for a while.
    pub(super) async fn farewell(&self, client_closed: &mut watch::Receiver<bool>) {
        let limit = self.core.config().request_timeout.min(FAREWELL);
        let until = tokio::time::Instant::now() + limit;
        loop {
            self.drive_member(now());
            let gone = self.lock().membership.as_ref().is_none_or(|membership| membership.group().is_gone());
            if gone {
                return;
            }
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep_until(until) => return,
                _ = client_closed.wait_for(|closed| *closed) => return,
            }
        }
    }

    fn submit_member(&self, now: Instant, request: Request) {
        let shared = self.this.clone();
        let purpose = submit(&self.core, self.number, now, request, move |ticket, answer| {
            if let Some(shared) = shared.upgrade() {
                shared.arrived(ticket, answer);
            }
        });
        if self.is_closed() && matches!(purpose, Purpose::Rebalance(_)) {
            self.core.release(purpose);
        }
    }

    /// It may come from within a submission, so that it is left to the driver.
    fn arrived(&self, ticket: Ticket, answer: Result<Answer>) {
        if let Some(member) = &self.member {
            member.arrived.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, answer));
            self.wake.notify_one();
        }
    }
}

/// Sends a request of the member with this number, on the connections for the purpose that it tells.
pub(crate) fn submit(
    core: &Arc<Core>,
    number: u32,
    now: Instant,
    request: Request,
    arrived: impl FnOnce(Ticket, Result<Answer>) + Send + 'static,
) -> Purpose {
    let purpose = match request.what {
        What::Find(_) => Purpose::Rest,
        What::Probe(_) | What::Join(_) | What::Sync(_) => Purpose::Rebalance(number),
        _ if request.what.is_sign_of_life() => Purpose::Heartbeat,
        _ => Purpose::Group,
    };
    let ticket = request.ticket;
    let (build, read) = group::call(request.what, core.config().client_id.clone());
    let Some(node) = request.node.or_else(|| core.any(purpose)) else {
        arrived(ticket, Err(Error::new(ErrorKind::Connect, "no node is known")));
        return purpose;
    };
    let client = Arc::downgrade(core);
    let completion = Completion::new(move |outcome| {
        let answer = read(outcome.map_err(|failure| failure.error));
        if let Some(throttle) = answer.as_ref().ok().and_then(Answer::throttle)
            && let Some(core) = client.upgrade()
        {
            core.throttle(node, purpose, super::driver::now() + throttle);
        }
        arrived(ticket, answer);
    });
    core.submit(node, purpose, now + request.timeout, build, completion);
    purpose
}
