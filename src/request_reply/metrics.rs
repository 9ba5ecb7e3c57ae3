//! Plain numbers, for looking in from outside.
use std::time::Duration;

use super::reader::State;

/// What a requester has done so far. Each call ends in exactly one of the ways down to `closed`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequesterMetrics {
    /// Calls that were made.
    pub sent: u64,
    /// Calls that ended with a reply, error replies included.
    pub answered: u64,
    /// Calls that ended at their deadline.
    pub timed_out: u64,
    /// Calls whose request could not be sent.
    pub failed: u64,
    /// Calls whose caller went away.
    pub cancelled: u64,
    /// Calls whose reply topic was deleted or created again.
    pub gone: u64,
    /// Calls that were pending when the requester ended.
    pub closed: u64,
    /// Calls that are pending now.
    pub in_flight: u64,
    /// Replies that came after their call had ended without one.
    pub late: u64,
    /// Replies to calls that were answered already.
    pub duplicate: u64,
    /// Records on the reply partition that belong to somebody else.
    pub foreign: u64,
    /// Requests that were sent once more.
    pub resent: u64,
    /// Batches on a reply partition that could not be read: replies in them are lost.
    pub unreadable: u64,
    /// Reply partitions that are read only for calls in flight; new calls get their replies elsewhere.
    pub draining: u64,
    /// The longest time from a reply's timestamp, given by the responder or the node, until its call ended. What clocks differ is in it.
    pub slowest_reply: Duration,
    /// All those times together, for an average over `answered`.
    pub reply_time: Duration,
}

impl RequesterMetrics {
    pub(super) fn new(state: &State) -> Self {
        let counts = state.router.counts();
        Self {
            sent: counts.registered,
            answered: counts.answered,
            timed_out: counts.timed_out,
            failed: counts.failed,
            cancelled: counts.cancelled,
            gone: counts.gone,
            closed: counts.closed,
            in_flight: state.router.in_flight() as u64,
            late: counts.late,
            duplicate: counts.duplicate,
            foreign: counts.stranger,
            resent: state.resent,
            unreadable: state.unreadable,
            draining: state.router.homes().draining() as u64,
            slowest_reply: state.slowest_reply,
            reply_time: state.reply_time,
        }
    }
}

/// What a responder has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResponderMetrics {
    /// Requests that were given to a handler.
    pub requests: u64,
    /// Events that were given to a handler.
    pub events: u64,
    /// Replies that were acknowledged, error replies included.
    pub answered: u64,
    /// Error replies, acknowledged or not.
    pub refused: u64,
    /// Handlers that panicked.
    pub panicked: u64,
    /// Times that a handler was run again after a retriable error.
    pub retried: u64,
    /// Requests whose caller called them off while they ran.
    pub cancelled: u64,
    /// Requests that came again and were not executed again.
    pub deduplicated: u64,
    /// Dead letters that were acknowledged.
    pub dead_letters: u64,
    /// Requests that were skipped because their caller has given up.
    pub expired: u64,
    /// Requests that were not handled because their reply address cannot be read or is not allowed.
    pub unanswerable: u64,
    /// Records on topics without a handler for their kind.
    pub unhandled: u64,
    /// Replies whose topic or partition does not exist.
    pub unroutable: u64,
    /// Replies and dead letters that could not be written, or not in time.
    pub lost: u64,
    /// Handlers that were cut off when it was closed, as they took longer than the drain timeout.
    pub cut_off: u64,
    /// Handlers that run now, replies on their way included.
    pub running: u64,
    /// Partitions that the group gave to it, in all.
    pub assigned: u64,
    /// Partitions that the group asked back, and that were given up in good order.
    pub revoked: u64,
    /// Partitions that the group took away without asking.
    pub lost_partitions: u64,
}
