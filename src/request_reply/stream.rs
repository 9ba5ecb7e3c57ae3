//! A call whose answer is a stream.
use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use tokio::time::Sleep;

use super::call::Call;
use super::inbox::Rule;
use super::many::{Many, as_a_call};
use super::reply::Reply;
use super::requester::Requester;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;
use crate::state::reply::answerers::Answerer;
use crate::state::reply::dialect::{Kind, read_reply};
use crate::state::reply::stream::Incoming;

/// Items that may be on their way, unless the caller says so.
const WINDOW: u32 = 64;
/// What items may take that were not asked for.
const MAX_BYTES: usize = 16 << 20;

impl Requester {
    /// A call that is answered by any number of replies.
    ///
    /// Each item comes once and in order, or the stream ends with an error. Of responders that do not count their items (those that are not
    /// milena's) a missing item is not noticed; Spring's and Quarkus's answer with one.
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
    /// let mut replies = requester.stream("upper", "abc").credit(16).await?;
    /// while let Some(reply) = replies.next().await? {
    ///     println!("{}", reply.text());
    /// }
    /// # Ok(()) }
    /// ```
    pub fn stream<'a, V: AsRef<[u8]> + ?Sized>(&'a self, topic: &'a str, value: &'a V) -> StreamCall<'a> {
        let call = self.request_record(topic, Record::value(value));
        StreamCall { call, window: WINDOW, max_bytes: MAX_BYTES, idle: None }
    }
}

/// A call for a stream that waits to be awaited; made by [`Requester::stream`].
#[must_use = "a call sends nothing until it is awaited"]
#[derive(Debug)]
pub struct StreamCall<'a> {
    call: Call<'a>,
    window: u32,
    max_bytes: usize,
    idle: Option<Duration>,
}

as_a_call!(StreamCall);

impl<'a> StreamCall<'a> {
    /// Sets how long one item may be waited for, from when the application asks for it. Default: no longer than the timeout of all.
    pub fn idle_timeout(mut self, wait: Duration) -> Self {
        self.idle = Some(wait);
        self
    }

    /// Sets how many items may be on their way or wait to be taken; the responder is told to go on when half of them are taken. Default: 64.
    pub fn credit(mut self, items: u32) -> Self {
        self.window = items.max(1);
        self
    }

    /// Sets how many bytes of items may wait when there are more than the credit allows, as responders send that know no credit. With
    /// more, the stream ends with [`Status::RESOURCE_EXHAUSTED`](crate::Status::RESOURCE_EXHAUSTED): all calls of a requester share
    /// its reader, which cannot wait for one of them. Default: 16 MiB.
    pub fn max_buffered(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    async fn run(self) -> Result<ReplyStream> {
        let Self { call, window, max_bytes, idle } = self;
        let dialect = call.requester.inner.config.dialect;
        let rule = || Rule::Stream(Incoming::new(window, max_bytes, dialect));
        let many = Many::begin(call, Kind::Stream { credit: Some(window) }, rule).await?;
        Ok(ReplyStream { many, idle, timer: None, granting: None, over: false })
    }
}

/// Sends the request, and waits until it is written.
///
/// # Errors
/// As for a [`Call`], of what goes wrong until then.
///
/// Cancel safe: dropping the future ends the call.
impl<'a> IntoFuture for StreamCall<'a> {
    type Output = Result<ReplyStream>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<ReplyStream>> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// The replies to one request, in order; also a [`Stream`].
///
/// Dropping it ends the call and frees its place. A responder that has announced that it understands it is told to stop; others go on, and
/// what they send is thrown away.
#[must_use = "dropping it ends the call"]
pub struct ReplyStream {
    many: Many,
    idle: Option<Duration>,
    /// Since the application waits.
    timer: Option<Pin<Box<Sleep>>>,
    granting: Option<Pin<Box<dyn Future<Output = Result<()>> + Send + Sync>>>,
    over: bool,
}

impl ReplyStream {
    /// The next item; `None` after the last, and after an error.
    ///
    /// # Errors
    /// [`ErrorKind::Reply`] with an [`ErrorReply`](crate::ErrorReply) as source: the responder ended the stream with an error. With
    /// [`Status::ABORTED`](crate::Status::ABORTED) also if an item is missing, or another responder began the answer anew.
    /// [`ErrorKind::Timeout`]: it did not end by the deadline, or the next item did not come in time. Otherwise as for a [`Call`].
    ///
    /// Cancel safe: no item is lost, and the time waited so far counts.
    pub async fn next(&mut self) -> Result<Option<Reply>> {
        std::future::poll_fn(|cx| self.poll_item(cx)).await.transpose()
    }

    fn poll_item(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Reply>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let next = self.many.inbox.poll_next(cx);
        if let Poll::Ready(next) = next {
            self.timer = None;
            return Poll::Ready(match next {
                Some(Ok(record)) => {
                    let answerer = Answerer::of(&read_reply(record.headers()));
                    let reply = Reply::new(record, answerer);
                    self.many.heard(answerer);
                    match self.grant(cx) {
                        Ok(()) => Some(Ok(reply)),
                        Err(error) => Some(Err(error)),
                    }
                }
                Some(Err(error)) => {
                    self.over = true;
                    Some(Err(self.many.failed(error)))
                }
                None => {
                    self.over = true;
                    self.many.ended();
                    None
                }
            });
        }
        if let Err(error) = self.grant(cx) {
            return Poll::Ready(Some(Err(error)));
        }
        let Some(idle) = self.idle else { return Poll::Pending };
        let timer = self.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep(idle)));
        if timer.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        let message = format!("no further reply within {idle:?}");
        Poll::Ready(Some(Err(self.break_off(Error::new(ErrorKind::Timeout, message).unsure()))))
    }

    /// Grants credit for what was taken, one record after the other.
    fn grant(&mut self, cx: &mut Context<'_>) -> Result<()> {
        loop {
            if let Some(granting) = &mut self.granting {
                let Poll::Ready(granted) = granting.as_mut().poll(cx) else { return Ok(()) };
                self.granting = None;
                // The responder would wait for it for ever.
                granted.map_err(|error| self.break_off(error))?;
            }
            let Some(credit) = self.many.inbox.poll_credit() else { return Ok(()) };
            let Some(grant) = self.many.grant(credit) else { return Ok(()) };
            self.granting = Some(Box::pin(grant));
        }
    }

    /// Ends the call from this side, and tells the responder.
    fn break_off(&mut self, error: Error) -> Error {
        self.over = true;
        self.many.break_off();
        error
    }
}

impl Stream for ReplyStream {
    type Item = Result<Reply>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_item(cx)
    }
}

impl fmt::Debug for ReplyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplyStream").field("over", &self.over).finish_non_exhaustive()
    }
}
