//! One request on its way to a node: how it is encoded, who learns of its end.
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use crate::error::{Error, ErrorKind};

/// A node answers one request at a time on a connection, so what may be parked there must not stand in front of what
/// may not: each purpose has its own connection, opened on first use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    Produce,
    /// A fetch is parked until there is data, so each reader, by its number, has a connection of its own: two consumers
    /// of one client would else stand in each other's way.
    Fetch(u32),
    Group,
    Rest,
}

/// A request as bytes, built for the version that the connection negotiated.
#[derive(Debug)]
pub(crate) struct Encoded {
    pub(crate) api_key: i16,
    pub(crate) version: i16,
    /// Length prefix, request header and the beginning of the body. The connection writes length and correlation id in.
    pub(crate) head: BytesMut,
    /// What follows the head, written in the same vectored write and not copied.
    pub(crate) tail: Vec<Bytes>,
    /// False for a produce request with `acks=0`: it is complete once it is written.
    pub(crate) answered: bool,
}

/// A node's answer to one request.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The version the request was sent in, hence the version to decode by.
    pub(crate) version: i16,
    /// What follows the response header.
    pub(crate) body: Bytes,
    /// Where it came from, for errors.
    pub(crate) address: Arc<str>,
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

    /// All that arrived since the last call, in order of arrival.
    pub(crate) fn drain(&self) -> Vec<(T, Outcome)> {
        std::mem::take(&mut *self.outcomes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
