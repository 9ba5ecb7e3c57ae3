//! What a client's connections have done so far.
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counters of all connections of one client.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) open: AtomicU64,
    pub(crate) opened: AtomicU64,
    pub(crate) connect_failures: AtomicU64,
    pub(crate) lost: AtomicU64,
    pub(crate) idle_closed: AtomicU64,
    pub(crate) requests: AtomicU64,
    pub(crate) answers: AtomicU64,
    pub(crate) timeouts: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) metadata_updates: AtomicU64,
}

/// A snapshot of what a [`Client`](crate::Client)'s connections did since it was built. Plain numbers; counters only
/// rise, except for `connections_open`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientMetrics {
    /// Connections that stand now.
    pub connections_open: u64,
    /// Connections that came about, their versions negotiated.
    pub connections_opened: u64,
    /// Attempts to connect that failed.
    pub connect_failures: u64,
    /// Connections that broke while they were needed, or were given up because a request timed out.
    pub connections_lost: u64,
    /// Connections that were closed because nothing happened on them, by either side.
    pub connections_idle_closed: u64,
    /// Requests handed to connections.
    pub requests: u64,
    /// Answers that arrived.
    pub answers: u64,
    /// Requests that were not answered by their deadline.
    pub timeouts: u64,
    /// Bytes written.
    pub bytes_out: u64,
    /// Bytes read.
    pub bytes_in: u64,
    /// Answers to requests for metadata.
    pub metadata_updates: u64,
}

impl Counters {
    pub(crate) fn snapshot(&self) -> ClientMetrics {
        ClientMetrics {
            connections_open: self.open.load(Relaxed),
            connections_opened: self.opened.load(Relaxed),
            connect_failures: self.connect_failures.load(Relaxed),
            connections_lost: self.lost.load(Relaxed),
            connections_idle_closed: self.idle_closed.load(Relaxed),
            requests: self.requests.load(Relaxed),
            answers: self.answers.load(Relaxed),
            timeouts: self.timeouts.load(Relaxed),
            bytes_out: self.bytes_out.load(Relaxed),
            bytes_in: self.bytes_in.load(Relaxed),
            metadata_updates: self.metadata_updates.load(Relaxed),
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}
