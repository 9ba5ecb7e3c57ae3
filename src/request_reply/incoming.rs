//! What handlers are given.
use std::time::Instant;

use crate::consumer::ConsumerRecord;
use crate::record::Headers;
use crate::state::reply::trace;

/// A record on a topic of the responder, on which nobody waits for an answer.
///
/// It shares the memory of the fetch it came with (see [`ConsumerRecord`]): copy what is to be kept for long.
#[derive(Debug, Clone)]
pub struct Event {
    pub(super) record: ConsumerRecord,
}

impl Event {
    /// The topic.
    pub fn topic(&self) -> &str {
        self.record.topic()
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.record.partition()
    }

    /// The offset in the partition.
    pub fn offset(&self) -> i64 {
        self.record.offset()
    }

    /// The value; a null value reads as empty, see [`Event::is_null`].
    pub fn value(&self) -> &[u8] {
        self.record.value().unwrap_or_default()
    }

    /// Whether the value is null.
    pub fn is_null(&self) -> bool {
        self.record.value().is_none()
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        self.record.key()
    }

    /// The headers, those of request-reply itself among them.
    pub fn headers(&self) -> Headers<'_> {
        self.record.headers()
    }

    /// The W3C `traceparent` of whoever sent it, if there is one and it is well-formed.
    pub fn trace_parent(&self) -> Option<&str> {
        self.last(trace::PARENT).and_then(trace::parent)
    }

    /// The W3C `tracestate` beside [`Event::trace_parent`], if there is one and it is well-formed.
    pub fn trace_state(&self) -> Option<&str> {
        self.trace_parent()?;
        self.last(trace::STATE).and_then(trace::state)
    }

    fn last(&self, name: &str) -> Option<&[u8]> {
        self.headers().filter(|(key, _)| *key == name.as_bytes()).last()?.1
    }

    /// The record as it was read.
    pub fn record(&self) -> &ConsumerRecord {
        &self.record
    }
}

/// A record on a topic of the responder whose sender waits for an answer.
///
/// It is everything that an [`Event`] is, and has a deadline.
#[derive(Debug, Clone)]
pub struct Request {
    pub(super) event: Event,
    pub(super) deadline: Option<Instant>,
}

impl Request {
    /// When the caller gives up, if it said so: what takes longer need not be done. Reckoned with this machine's clock
    /// and never later than the caller's own timeout from now.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

impl std::ops::Deref for Request {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}
