//! A request that may be sent again: what it takes to do so, and when.
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use crate::client::clock::WallClock;
use crate::error::Result;
use crate::producer::{Delivery, ProducerTopic};
use crate::record::Record;
use crate::state::reply::correlation::ReplyId;
use crate::state::reply::dialect::{Dialect, Kind, ReplyAddress, RequestHead};

/// What all attempts of a call have in common.
#[derive(Debug, Clone)]
pub(super) struct Envelope {
    pub(super) topic: ProducerTopic,
    pub(super) id: ReplyId,
    pub(super) address: Arc<ReplyAddress>,
    /// The deadline by the wall clock.
    pub(super) expires: i64,
    pub(super) dialect: Dialect,
    pub(super) kind: Kind,
    pub(super) clock: WallClock,
}

impl Envelope {
    /// Hands the request to the producer once.
    pub(super) async fn send(
        &self,
        record: Record<'_>,
        key: Option<&[u8]>,
        attempt: u32,
    ) -> Result<Delivery> {
        let head = self.head(key, attempt);
        self.topic.send(record.headers(self.headers(&head))).await
    }

    /// The first attempt, if it takes no waiting whatever.
    pub(super) fn send_at_once(&self, record: &Record<'_>, key: Option<&[u8]>) -> Option<Delivery> {
        let head = self.head(key, 0);
        self.topic.send_at_once(&record.clone().headers(self.headers(&head)))
    }

    fn head<'a>(&'a self, key: Option<&'a [u8]>, attempt: u32) -> RequestHead<'a> {
        let left = u64::try_from(self.expires.saturating_sub(self.clock.now())).unwrap_or(0);
        let head = RequestHead::new(&self.id, &self.address, self.expires, left);
        head.kind(self.kind).attempt(attempt).idempotency_key(key)
    }

    fn headers<'a>(
        &self,
        head: &'a RequestHead<'_>,
    ) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        head.headers(self.dialect).into_iter().map(|(name, value)| (name.as_bytes(), Some(value)))
    }
}

/// How often a request is sent at most, and how long each time is waited for a reply.
#[derive(Debug, Clone, Copy)]
pub(super) struct Schedule {
    pub(super) attempts: u32,
    pub(super) every: Duration,
}

/// The request as it is kept to be sent again.
#[derive(Debug)]
struct Kept {
    envelope: Envelope,
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    partition: Option<i32>,
    timestamp: Option<i64>,
    idempotency_key: Option<Box<[u8]>>,
}

impl Kept {
    async fn send(self: Arc<Self>, attempt: u32) -> Result<Delivery> {
        let headers = self.headers.iter().map(|(name, value)| (&**name, value.as_deref())).collect();
        let record = Record {
            value: self.value.as_deref(),
            key: self.key.as_deref(),
            timestamp: self.timestamp,
            partition: self.partition,
            headers,
        };
        self.envelope.send(record, self.idempotency_key.as_deref(), attempt).await
    }
}

/// What is left of a schedule. It moves on when it is polled.
pub(super) struct Attempts {
    request: Arc<Kept>,
    schedule: Schedule,
    made: u32,
    timer: Pin<Box<Sleep>>,
    sending: Option<Pin<Box<dyn Future<Output = Result<Delivery>> + Send>>>,
}

impl Attempts {
    pub(super) fn new(
        envelope: Envelope,
        record: &Record<'_>,
        key: Option<&[u8]>,
        schedule: Schedule,
    ) -> Self {
        let headers = record.headers.iter().map(|(name, value)| ((*name).into(), value.map(Into::into)));
        let request = Kept {
            envelope,
            key: record.key.map(Into::into),
            value: record.value.map(Into::into),
            headers: headers.collect(),
            partition: record.partition,
            timestamp: record.timestamp,
            idempotency_key: key.map(Into::into),
        };
        let timer = Box::pin(tokio::time::sleep(schedule.every));
        Self { request: Arc::new(request), schedule, made: 1, timer, sending: None }
    }

    /// Whether it may be sent once more.
    pub(super) fn more(&self) -> bool {
        self.made < self.schedule.attempts
    }

    /// The last attempt failed: the next one is not waited for any longer than so.
    pub(super) fn hasten(&mut self, wait: Duration) {
        let at = tokio::time::Instant::now() + wait;
        if at < self.timer.deadline() {
            self.timer.as_mut().reset(at);
        }
    }

    /// The next attempt, once it is with the producer; never ready when there is none left.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Delivery>> {
        if self.sending.is_none() {
            if !self.more() || self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.sending = Some(Box::pin(self.request.clone().send(self.made)));
            self.made += 1;
            self.timer.set(sleep_until(tokio::time::Instant::now() + self.schedule.every));
        }
        let Some(sending) = &mut self.sending else { return Poll::Pending };
        let sent = std::task::ready!(sending.as_mut().poll(cx));
        self.sending = None;
        Poll::Ready(sent)
    }
}

impl fmt::Debug for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempts").field("made", &self.made).finish_non_exhaustive()
    }
}
