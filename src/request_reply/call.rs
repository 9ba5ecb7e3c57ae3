//! One call, as its caller says what it wants.
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::attempts::{Attempts, Envelope, Schedule};
use super::inbox::Waiter;
use super::pending::{PendingCall, Waiting};
use super::reader::Registered;
use super::reply::Reply;
use super::requester::Requester;
use super::room::Place;
use super::token::CallToken;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;
use crate::state::reply::answerers::Known;
use crate::state::reply::dialect::{Dialect, Kind};
use crate::state::reply::router::Ticket;
use crate::state::reply::trace;

/// A wait without a limit ends all the same.
pub(super) const A_YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// A call that waits to be awaited.
#[must_use = "a call sends nothing until it is awaited"]
#[derive(Debug)]
pub struct Call<'a> {
    pub(super) requester: &'a Requester,
    pub(super) topic: &'a str,
    pub(super) record: Record<'a>,
    pub(super) timeout: Duration,
    attempts: Option<u32>,
    hedge_after: Option<Duration>,
    pub(super) idempotency_key: Option<&'a [u8]>,
}

impl<'a> Call<'a> {
    pub(super) fn new(
        requester: &'a Requester,
        topic: &'a str,
        record: Record<'a>,
        timeout: Duration,
    ) -> Self {
        Self { requester, topic, record, timeout, attempts: None, hedge_after: None, idempotency_key: None }
    }

    /// Sets the key, by which the partition of the request is chosen. Default: null.
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.record = self.record.key(key);
        self
    }

    /// Adds a header. Those of request-reply itself come behind it.
    pub fn header<K: AsRef<[u8]> + ?Sized, V: AsRef<[u8]> + ?Sized>(
        mut self,
        key: &'a K,
        value: &'a V,
    ) -> Self {
        self.record = self.record.header(key, value);
        self
    }

    /// Sets the partition that the request is written to. Default: the partitioner chooses.
    pub fn partition(mut self, partition: i32) -> Self {
        self.record = self.record.partition(partition);
        self
    }

    /// Sets how long the whole call may take, waiting for room, sending and all attempts included. Default: that of the requester.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets how often the request is sent at most: again when it could not be sent, and when no reply came within its share of the
    /// timeout (or within [`Call::hedge_after`]). All attempts have one id and one deadline, and the first reply to any of them
    /// ends the call. Default: 1.
    ///
    /// The responder may run for each of them: ask for it where that does no harm, or where it remembers what it has done, by the
    /// id or by an [idempotency key](Call::idempotency_key).
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = Some(attempts.max(1));
        self
    }

    /// Sends the request once more (or as often as [`Call::attempts`] says) whenever no reply came for so long, while the earlier ones are
    /// still waited for. Without a key, it may go to another partition, hence to another responder. Default: never.
    pub fn hedge_after(mut self, wait: Duration) -> Self {
        self.hedge_after = Some(wait);
        self
    }

    /// Names what is asked for, so that a responder that remembers what it has done does it once for all calls of that name. Default:
    /// each call is something else.
    pub fn idempotency_key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.idempotency_key = Some(key.as_ref());
        self
    }

    /// Passes on a W3C trace context, as the headers `traceparent` and, unless it is empty, `tracestate`. What is not well-formed is
    /// left out, as the standard wants it.
    pub fn trace_context(mut self, traceparent: &'a str, tracestate: &'a str) -> Self {
        if trace::parent(traceparent.as_bytes()).is_some() {
            self.record = self.record.header(trace::PARENT, traceparent);
            if trace::state(tracestate.as_bytes()).is_some() {
                self.record = self.record.header(trace::STATE, tracestate);
            }
        }
        self
    }

    /// Sends the request, and returns when the producer has taken it: it is on its way, and a process that dies now may not have sent it.
    /// The reply is what the returned future waits for.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # broker.create_topic("upper", 1)?;
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// # let responder = client.responder("upper").on_request("upper", async |request: milena::Request| {
    /// #     String::from_utf8_lossy(request.value()).to_uppercase()
    /// # });
    /// # let responder = responder.start().await?;
    /// let requester = client.requester().build().await?;
    /// let first = requester.request("upper", "a").send().await?;
    /// let second = requester.request("upper", "b").send().await?;
    /// assert_eq!(second.await?.value(), b"B");
    /// assert_eq!(first.await?.value(), b"A");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// As awaiting the call, for what goes wrong until then.
    ///
    /// Cancel safe: as awaiting the call.
    pub async fn send(self) -> Result<PendingCall> {
        let mut token = None;
        let waiting = self.begin(Some(&mut token)).await?;
        match token {
            Some(token) => Ok(PendingCall { waiting, token }),
            None => Err(Error::closed("requester")),
        }
    }

    /// Enters the call and hands its request to the producer.
    async fn begin(self, token: Option<&mut Option<CallToken>>) -> Result<Waiting> {
        let Self { requester, topic, record, timeout, .. } = self;
        let inner = &*requester.inner;
        let waiter = || {
            let (waiter, reply) = oneshot::channel();
            (Waiter::One(waiter), reply)
        };
        let (entered, reply) = enter(requester, topic, &record, timeout, waiter).await?;
        let Entered { place, ticket, sent, known, envelope, .. } = entered;

        let span = tracing::debug_span!(target: "milena::request_reply", "call", topic,
            id = tracing::field::Empty, outcome = tracing::field::Empty);
        let span = (!span.is_disabled()).then(|| {
            span.record("id", &*String::from_utf8_lossy(&envelope.id));
            Box::new(span)
        });
        let mut waiting = Waiting {
            requester: requester.clone(),
            topic: Some(envelope.topic.clone()),
            ticket,
            reply,
            held: place.keep(),
            delivery: None,
            partition: -1,
            known,
            attempts: None,
            appended: false,
            possible: false,
            trouble: None,
            ended: false,
            timeout,
            span,
        };
        if let Some(token) = token {
            // Before it is sent: the reply cannot lie before that.
            let positions = inner.shared.positions(&envelope.address);
            *token = Some(CallToken {
                id: envelope.id,
                sent,
                deadline: envelope.expires,
                topic: envelope.address.topic().to_owned(),
                positions,
            });
        }
        let key = self.idempotency_key;
        let attempts = self.attempts.unwrap_or(1 + u32::from(self.hedge_after.is_some()));
        if attempts > 1 {
            let every = self.hedge_after.unwrap_or(timeout / attempts);
            let schedule = Schedule { attempts, every };
            waiting.attempts = Some(Box::new(Attempts::new(envelope.clone(), &record, key, schedule)));
        }
        let handed = match envelope.send_at_once(&record, key) {
            Some(delivery) => Ok(Ok(delivery)),
            // Only the deadline, or an end of the requester, comes before it was sent. In a box: every call would have room for it.
            None => tokio::select! {
                biased;
                outcome = &mut waiting.reply => Err(outcome),
                handed = Box::pin(envelope.send(record, key, 0)) => Ok(handed),
            },
        };
        match handed {
            Ok(Ok(delivery)) => waiting.delivered_to_producer(delivery),
            Ok(Err(error)) => waiting.attempt_failed(error)?,
            Err(outcome) => {
                waiting.end(outcome)?;
            }
        }
        Ok(waiting)
    }
}

/// Sends the request and waits for its reply.
///
/// # Errors
/// [`ErrorKind::Reply`] with an [`ErrorReply`](crate::ErrorReply) as source: the responder answered with an error.
/// [`ErrorKind::Timeout`]: no reply by the deadline; `maybe_written` says whether the request may have been sent.
/// [`ErrorKind::Gone`]: the reply topic was deleted, or deleted and created again; the next call opens it anew.
/// [`ErrorKind::Full`]: there is no room, and the requester does not wait for any. [`ErrorKind::Closed`]: the requester was closed.
/// Otherwise the request could not be sent, and the error says why.
///
/// Cancel safe: dropping the future ends the call and frees its place. A request that was handed to the producer is
/// sent all the same, and its reply is thrown away.
impl<'a> IntoFuture for Call<'a> {
    type Output = Result<Reply>;
    type IntoFuture = CallFuture<'a>;

    fn into_future(self) -> Self::IntoFuture {
        CallFuture(Stage::Beginning(Box::pin(self.begin(None))))
    }
}

/// A call that was begun: a future of its reply. What it takes to send the request is given back as soon as it is sent.
#[must_use = "a call sends nothing until it is awaited"]
pub struct CallFuture<'a>(Stage<'a>);

enum Stage<'a> {
    Beginning(Pin<Box<dyn Future<Output = Result<Waiting>> + Send + 'a>>),
    Waiting(Waiting),
}

impl Future for CallFuture<'_> {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        loop {
            match &mut self.0 {
                Stage::Waiting(waiting) => return Pin::new(waiting).poll(cx),
                Stage::Beginning(begin) => {
                    let waiting = std::task::ready!(begin.as_mut().poll(cx))?;
                    self.0 = Stage::Waiting(waiting);
                }
            }
        }
    }
}

impl fmt::Debug for CallFuture<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallFuture").finish_non_exhaustive()
    }
}

/// A call in the table of pending calls, and what it takes to send its request.
pub(super) struct Entered<'a> {
    pub(super) place: Place<'a>,
    pub(super) ticket: Ticket,
    pub(super) deadline: Instant,
    /// By the wall clock, as the deadline in the envelope.
    pub(super) sent: i64,
    /// Of the topic.
    pub(super) known: Known,
    pub(super) envelope: Envelope,
}

/// Waits for room for one more call and for a positioned reader, nearly always both are there, and enters the call. Its waiter may be made
/// more than once.
pub(super) async fn enter<'a, R>(
    requester: &'a Requester,
    topic: &str,
    record: &Record<'_>,
    timeout: Duration,
    waiter: impl Fn() -> (Waiter, R),
) -> Result<(Entered<'a>, R)> {
    let inner = &*requester.inner;
    let core = inner.config.client.core();
    let now = || tokio::time::Instant::now().into_std();
    let deadline = now().checked_add(timeout).unwrap_or_else(|| now() + A_YEAR);
    let reply_topic = requester.reply_topic(topic)?;
    let size = size(record);
    let register = || {
        // Before it is sent: the reply may be there before the send returns.
        let (waiter, replies) = waiter();
        let sent = core.wall_clock();
        let registered = inner.shared.register(&reply_topic, topic, deadline, sent, waiter)?;
        Ok::<_, Error>(registered.map(|registered| (sent, replies, registered)))
    };
    let at_once = match inner.room.try_enter(size) {
        Some(place) => register()?.map(|entered| (place, entered)),
        None => None,
    };
    let (place, (sent, replies, Registered { ticket, id, address, known })) = match at_once {
        Some(entered) => entered,
        None => {
            let entering = async {
                let place = inner.room.enter(size).await?;
                loop {
                    if let Some(entered) = register()? {
                        return Ok::<_, Error>((place, entered));
                    }
                    inner.opening.open(&reply_topic).await?;
                }
            };
            // In a box: every call would have room for it.
            Box::pin(tokio::time::timeout_at(deadline.into(), entering)).await.map_err(|_| {
                let what = "no room for the call, or its reply topic not ready,";
                Error::new(ErrorKind::Timeout, format!("{what} within {timeout:?}")).on_topic(topic)
            })??
        }
    };
    let left = deadline.saturating_duration_since(now()).as_millis();
    let envelope = Envelope {
        topic: inner.producer.topic(topic),
        id,
        address,
        expires: sent.saturating_add(i64::try_from(left).unwrap_or(i64::MAX)),
        dialect: match inner.config.dialect {
            Dialect::Auto => known.dialect(),
            dialect => dialect,
        },
        kind: Kind::Unary,
        clock: core.config().wall_clock,
    };
    Ok((Entered { place, ticket, deadline, sent, known, envelope }, replies))
}

/// What a request counts against `max_in_flight_bytes`.
fn size(record: &Record<'_>) -> usize {
    let headers = record.headers.iter().map(|(name, value)| name.len() + value.map_or(0, <[u8]>::len));
    record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers.sum::<usize>()
}
