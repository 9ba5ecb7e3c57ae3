//! The way to one node for one purpose: a bounded queue that outlives connections, and the task that serves it.
use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::time::sleep_until;
use tracing::debug;

use crate::error::{Error, ErrorKind, Result};
use crate::network::call::{Completion, Encoded, Failure, Patience, Purpose};
use crate::network::connector::Connector;
use crate::network::handshake;
use crate::network::metrics::{Counters, add};
use crate::network::session::{Ended, Session};
use crate::protocol::version::ApiVersions;
use crate::state::backoff::Backoff;
use crate::state::connection::Connection;

/// Requests that may wait for one connection. Drivers bound what they have under way far below; this catches the rest.
const QUEUE: usize = 1024;

/// What all connections of a client have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) connector: Connector,
    pub(crate) client_id: Arc<str>,
    pub(crate) connect_timeout: Duration,
    pub(crate) idle_timeout: Option<Duration>,
    pub(crate) reconnect_backoff: Backoff,
    pub(crate) max_frame: usize,
    pub(crate) counters: Counters,
    /// Notified when a node could not be reached or was lost: what is known of the cluster may be stale.
    pub(crate) node_lost: Notify,
}

/// Where a node listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

pub(crate) type Build = Box<dyn FnOnce(&ApiVersions) -> Result<Encoded> + Send>;

/// What a connection is asked to do.
pub(crate) enum Work {
    /// Send a request.
    Request { build: Build, completion: Completion },
    /// Say which versions the node offers, once there is a connection.
    Versions(oneshot::Sender<Result<Arc<ApiVersions>, Failure>>),
}

pub(crate) struct Submission {
    pub(crate) patience: Patience,
    pub(crate) work: Work,
}

impl Submission {
    /// Ends it without a byte sent.
    pub(crate) fn fail(self, error: Error) {
        let failure = Failure { error, sent: false };
        match self.work {
            Work::Request { completion, .. } => completion.finish(Err(failure)),
            Work::Versions(sender) => drop(sender.send(Err(failure))),
        }
    }
}

/// When a link's task is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leave {
    Stay,
    /// When nothing is under way any more: another link has taken its place.
    WhenDone,
    /// Now: the client was closed.
    Now,
}

pub(crate) struct Link {
    pub(crate) address: Address,
    /// The address as text, for answers and errors.
    pub(crate) text: Arc<str>,
    pub(crate) purpose: Purpose,
    pub(crate) shared: Arc<Shared>,
    inner: Mutex<Inner>,
}

pub(crate) struct Inner {
    pub(crate) queue: VecDeque<Submission>,
    pub(crate) state: Connection,
    pub(crate) leave: Leave,
    /// Of the task, where it waits for submissions.
    waker: Option<Waker>,
    running: bool,
    connected: bool,
}

impl Inner {
    /// The task is woken by the next submission.
    pub(crate) fn listen(&mut self, cx: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
    }

    /// Takes out what has expired in the queue; returns when the next one expires.
    pub(crate) fn expire(&mut self, now: Instant, expired: &mut Vec<Submission>) -> Option<Instant> {
        if self.queue.iter().any(|waiting| waiting.patience.deadline <= now) {
            let (late, rest) = std::mem::take(&mut self.queue)
                .into_iter()
                .partition(|waiting| waiting.patience.deadline <= now);
            self.queue = rest;
            expired.extend::<VecDeque<_>>(late);
        }
        self.queue.iter().map(|waiting| waiting.patience.deadline).min()
    }
}

impl Link {
    pub(crate) fn new(address: Address, purpose: Purpose, shared: Arc<Shared>) -> Arc<Self> {
        let inner = Inner {
            queue: VecDeque::new(),
            state: Connection::new(shared.reconnect_backoff, shared.idle_timeout),
            leave: Leave::Stay,
            waker: None,
            running: false,
            connected: false,
        };
        let text = address.to_string().into();
        Arc::new(Self { address, text, purpose, shared, inner: Mutex::new(inner) })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues it. True: no task serves the link, the caller must spawn [`run`].
    pub(crate) fn submit(&self, submission: Submission) -> bool {
        let mut inner = self.lock();
        if inner.leave == Leave::Now {
            drop(inner);
            submission.fail(Error::closed("the client"));
            return false;
        }
        if inner.queue.len() >= QUEUE {
            drop(inner);
            let error =
                Error::new(ErrorKind::Connect, format!("{QUEUE} requests wait for the connection already"));
            submission.fail(error.at_address(&*self.text));
            return false;
        }
        inner.queue.push_back(submission);
        let waker = inner.waker.take();
        let spawn = !std::mem::replace(&mut inner.running, true);
        drop(inner);
        if let Some(waker) = waker {
            waker.wake();
        }
        spawn
    }

    pub(crate) fn leave(&self, leave: Leave) {
        let mut inner = self.lock();
        inner.leave = leave;
        let queue = if leave == Leave::Now { std::mem::take(&mut inner.queue) } else { VecDeque::new() };
        let waker = inner.waker.take();
        drop(inner);
        queue.into_iter().for_each(|submission| submission.fail(Error::closed("the client")));
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn mute(&self, until: Instant) {
        self.lock().state.mute(until);
    }

    pub(crate) fn is_connected(&self) -> bool {
        self.lock().connected
    }

    /// Whether nothing would be lost with it: no task, and no wait before the next attempt.
    pub(crate) fn is_idle(&self, now: Instant) -> bool {
        let mut inner = self.lock();
        !inner.running && inner.state.open(now).is_none()
    }

    /// An error of the queue's, not of the connection's.
    pub(crate) fn timed_out(&self) -> Error {
        let doing = if self.is_connected() {
            "waiting for the connection to take it"
        } else {
            "waiting for a connection"
        };
        Error::new(ErrorKind::Timeout, format!("the request's time passed while {doing}"))
            .at_address(&*self.text)
    }

    fn fail_queue(&self, error: &Error) {
        let queue = std::mem::take(&mut self.lock().queue);
        queue.into_iter().for_each(|submission| submission.fail(error.clone()));
    }

    /// Whether the task ends here: nobody waits. The next submission begins a new one.
    fn rest(&self) -> bool {
        let mut inner = self.lock();
        if inner.queue.is_empty() {
            inner.running = false;
            inner.waker = None;
        }
        !inner.running
    }

    fn opened(&self, now: Instant) {
        let mut inner = self.lock();
        inner.state.opened(now);
        inner.connected = true;
    }

    fn failed(&self, now: Instant) -> u32 {
        let mut inner = self.lock();
        inner.state.failed(now, &mut rand::rng());
        inner.state.failures()
    }

    /// Does something while the queue waits, and ends what expires in it. `None`: the link is to be left.
    async fn meanwhile<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let (mut work, mut timer) = (pin!(work), pin!(sleep_until(tokio::time::Instant::now())));
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            loop {
                let mut expired = Vec::new();
                let mut inner = self.lock();
                inner.listen(cx);
                let next = inner.expire(now(), &mut expired);
                let leave = inner.leave;
                drop(inner);
                for submission in expired {
                    submission.fail(self.timed_out());
                }
                match (leave, next) {
                    (Leave::Now, _) | (Leave::WhenDone, None) => return Poll::Ready(None),
                    (_, None) => return Poll::Pending,
                    (_, Some(next)) => timer.as_mut().reset(next.into()),
                }
                if timer.as_mut().poll(cx).is_pending() {
                    return Poll::Pending;
                }
            }
        })
        .await
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        let queue = std::mem::take(&mut self.inner.get_mut().unwrap_or_else(PoisonError::into_inner).queue);
        queue.into_iter().for_each(|submission| submission.fail(Error::closed("the client")));
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({} {:?})", self.text, self.purpose)
    }
}

pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Serves a link as long as somebody waits for it or its connection is not idle: waits out the backoff, connects, and
/// hands over to the session. A failed attempt fails everything that waits: whoever cannot afford that asks again.
pub(crate) async fn run(link: Arc<Link>) {
    let counters = &link.shared.counters;
    loop {
        let wait = link.lock().state.open(now());
        if let Some(until) = wait {
            link.meanwhile(sleep_until(until.into())).await;
            if link.rest() {
                return;
            }
        }
        let attempt = link.lock().state.failures();
        let established = match link.meanwhile(handshake::establish(&link, attempt)).await {
            Some(Ok(established)) => established,
            Some(Err(error)) => {
                add(&counters.connect_failures, 1);
                let failures = link.failed(now());
                debug!(target: "milena::connection", node = %link.text, purpose = ?link.purpose, failures, %error, "connect failed");
                link.fail_queue(&error);
                link.shared.node_lost.notify_one();
                if link.rest() {
                    return;
                }
                continue;
            }
            None if link.rest() => return,
            None => continue,
        };
        link.opened(now());
        add(&counters.opened, 1);
        add(&counters.open, 1);
        debug!(target: "milena::connection", node = %link.text, purpose = ?link.purpose, "connected");
        let guard = Open { link: &link };
        let ended = Session::new(&link, established).await;
        drop(guard);
        match ended {
            Ended::Quietly(why) => {
                link.lock().state.closed();
                add(&counters.idle_closed, 1);
                debug!(target: "milena::connection", node = %link.text, purpose = ?link.purpose, why, "closed");
            }
            Ended::Lost(error) if error.is_closed() => link.lock().state.closed(),
            Ended::Lost(error) => {
                add(&counters.lost, 1);
                link.failed(now());
                debug!(target: "milena::connection", node = %link.text, purpose = ?link.purpose, %error, "connection lost");
                link.shared.node_lost.notify_one();
            }
        }
        if link.rest() {
            return;
        }
    }
}

/// Counts a connection as open for as long as it lives, however it ends.
struct Open<'a> {
    link: &'a Link,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.link.shared.counters.open.fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
        self.link.lock().connected = false;
    }
}
