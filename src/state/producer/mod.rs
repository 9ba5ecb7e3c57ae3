//! Producing without transactions: from an appended record to the place in the log, or to the reason why not.
//!
//! ```text
//! application threads            | driver (one task)
//!                                |
//!  append --> Buffer --signal--> | Sender.handle_appended
//!   (one lock per partition)     |   Queue (one per partition): batches in append order
//!     open batch                 |     queued -> in flight -> settled
//!     full batches <--- take --- |        ^         |
//!                                |        +- retry -+
//! ```
//!
//! What always holds:
//!
//! - A partition's unsettled batches stand in append order in one queue, and those in flight are its beginning, all at the
//!   same node. A retry waits until every later batch has been answered; then all go again, in order.
//! - Without idempotence a partition has one batch in flight, so that order holds there too (with `acks=0` nothing is retried
//!   once it was written, and several may be).
//! - Until a partition has stored a batch of this producer id at this leader, one batch is in flight: a node accepts any
//!   first sequence number of a producer it does not know.
//! - A batch is *unsure* from the moment its bytes may have reached a socket until an answer settles that attempt; an answer to
//!   a later attempt proves nothing about an earlier one, whose bytes may reach the node long after its connection was lost. An unsure
//!   batch is resent with the same bytes or given up as "may be written", never changed.
//! - Giving up a batch that was ever unsure ends the partition's use of its producer epoch: unsure batches behind it are
//!   settled under the old epoch, then the partition goes on under the next one, with sequence numbers from 0. From its first
//!   batch on, the node refuses whatever still arrives under the old one.
//! - When the leader moves while answers of the old one are missing, they are waited for during [`LEADER_MOVE_GRACE`]; then
//!   the batches are sent to the new leader, which recognises by their sequence numbers those it has.
use std::time::{Duration, Instant};

use crate::error::Error;
use crate::record::Compression;
use crate::record::batch::Stamp;
use crate::state::backoff::Backoff;

mod batch;
mod buffer;
mod identity;
mod queue;
mod reaction;
mod sender;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use buffer::{Buffer, Buffers, Closed, Look, Refusal};
pub(crate) use sender::{Counters, Event, Outcome, Request, Sender};

/// How long the answers of a node that is no longer the leader are waited for. A node that gave up its leadership answers at once, so
/// only one that hangs is silent for so long.
pub(crate) const LEADER_MOVE_GRACE: Duration = Duration::from_millis(500);

/// A request without an answer for so long makes the sender ask who leads now: a node that hangs does not tell.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);

/// Kafka remembers the last five batches of a producer in a partition: more in flight could not be told from repeats.
pub(crate) const MAX_IN_FLIGHT_IDEMPOTENT: usize = 5;

/// A partition without a batch for so long is taken for one where the node may have forgotten the producer
/// (`producer.id.expiration.ms` is at least minutes in practice).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// What a sender has to know of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// -1 is all.
    pub(crate) acks: i16,
    pub(crate) idempotent: bool,
    pub(crate) linger: Duration,
    pub(crate) max_request_size: usize,
    pub(crate) compression: Compression,
    pub(crate) level: Option<i32>,
    pub(crate) delivery_timeout: Duration,
    pub(crate) request_timeout: Duration,
    /// Produce requests to one node that wait for an answer.
    pub(crate) max_in_flight: usize,
    pub(crate) backoff: Backoff,
}

/// Names a request until it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// A partition that is produced to, by its place in the sender's table.
pub(crate) type Key = usize;

/// Producer id and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProducerIdentity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

impl ProducerIdentity {
    fn stamp(self, base_sequence: i32) -> Stamp {
        Stamp { producer_id: self.id, producer_epoch: self.epoch, base_sequence, transactional: false }
    }
}

/// The earlier of two deadlines, where there are any.
fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// A failure of the way to a node, as opposed to an error code in an answer.
#[derive(Debug, Clone)]
pub(crate) struct NoAnswer {
    pub(crate) error: Error,
    /// Whether a byte may have reached a socket.
    pub(crate) sent: bool,
}
