//! One request on its way to a node: how it is encoded, who learns of its end.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::error::{Error, ErrorKind};
pub(crate) use crate::protocol::header::{Answer, Encoded};

/// A node answers one request at a time on a connection, so what may be parked there must not stand in front of what
/// may not: each purpose has its own connection, opened on first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Produce,
    /// A fetch is parked until there is data, so each reader, by its number, has a connection of its own: two consumers
    /// of one client would else stand in each other's way.
    Fetch(u32),
    /// Heartbeats of all members that one client makes: what keeps them in their groups waits for nothing.
    Heartbeat,
    /// Commits, which wait for replicas, offset fetches, and farewells behind the last commits.
    Group,
    /// JoinGroup and SyncGroup, which are parked until all members have come: each member, by its number, has its own.
    Rebalance(u32),
    Rest,
}

/// How long an answer is waited for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) deadline: Instant,
    /// Not a byte has come for this long while the answer was due: the connection is taken for dead before the deadline. Only for requests
    /// that a node that lives answers soon. An answer that is arriving, however slowly, is awaited until the deadline.
    pub(crate) silence: Option<Duration>,
}

impl From<Instant> for Patience {
    fn from(deadline: Instant) -> Self {
        Self { deadline, silence: None }
    }
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub(crate) struct Failure {
    pub(crate) error: Error,
    /// Whether a byte of the request may have reached a socket: if not, the request surely had no effect.
    pub(crate) sent: bool,
}

pub(crate) type Outcome = Result<Answer, Failure>;

/// Tells one waiter how its request ended: exactly once, also when it is dropped on the way.
pub(crate) struct Completion(Option<Box<dyn FnOnce(Outcome) + Send>>);

impl Completion {
    pub(crate) fn new(finish: impl FnOnce(Outcome) + Send + 'static) -> Self {
        Self(Some(Box::new(finish)))
    }

    /// Ends in the inbox of a driver, under the ticket of its request.
    pub(crate) fn inbox<T: Send + 'static>(inbox: &Arc<Inbox<T>>, ticket: T) -> Self {
        let inbox = inbox.clone();
        Self::new(move |outcome| inbox.put(ticket, outcome))
    }

    pub(crate) fn finish(mut self, outcome: Outcome) {
        if let Some(finish) = self.0.take() {
            finish(outcome);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if let Some(finish) = self.0.take() {
            // Whoever drops a call without a word does not know how far it got.
            finish(Err(Failure {
                error: Error::new(ErrorKind::Closed, "the connection was given up"),
                sent: true,
            }));
        }
    }
}

impl std::fmt::Debug for Completion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Completion")
    }
}

/// Where the outcomes of a driver's requests arrive. Bounded by the number of requests the driver has under way.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    outcomes: Mutex<Vec<(T, Outcome)>>,
    wake: Arc<Notify>,
}

impl<T> Inbox<T> {
    /// `wake` is the notify of the driver, shared by all its causes to wake up.
    pub(crate) fn new(wake: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { outcomes: Mutex::default(), wake })
    }

    fn put(&self, ticket: T, outcome: Outcome) {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).push((ticket, outcome));
        self.wake.notify_one();
    }

    /// As [`Inbox::drain`], in exchange for an empty list that is used again.
    pub(crate) fn swap(&self, into: &mut Vec<(T, Outcome)>) {
        std::mem::swap(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner), into);
    }

    /// All that arrived since the last call, in order of arrival.
    pub(crate) fn drain(&self) -> Vec<(T, Outcome)> {
        std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
