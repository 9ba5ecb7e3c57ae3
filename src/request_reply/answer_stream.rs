//! Many answers to one request.
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;

use super::handler::caught;
use super::{Answer, IntoAnswer, Refusal};

type Item = Result<Answer, Refusal>;

/// Answers one after the other, which a handler returns instead of one. The caller gets them in order; an error ends them.
///
/// A caller that asked for a stream grants credit, and the stream is not polled further ahead than that. Other callers (NestJS,
/// Quarkus) get the items as they come; the next ones wait while 32 are not acknowledged by the node. A caller that can take one
/// reply only, Spring among them, gets the first item, and the stream is dropped. It is also dropped when its caller cancels, and
/// when the caller's deadline has passed.
///
/// The last item says that it is the last, if that is known when it is sent: because the stream then ends at once, or its
/// `size_hint` says so, or, to callers that are NestJS or Spring, within 100 ms. Otherwise the end is a record of its own, which
/// a NestJS caller takes for a further item, `null`.
pub struct AnswerStream(Pin<Box<dyn Stream<Item = Item> + Send>>);

impl AnswerStream {
    /// The items of any stream; each is whatever a handler may return as one answer.
    pub fn new<S>(stream: S) -> Self
    where
        S: Stream<Item: IntoAnswer> + Send + 'static,
    {
        Self(Box::pin(Converted(Box::pin(stream))))
    }

    /// What this code puts into an [`AnswerSink`], until it ends.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> milena::Result<()> {
    /// # let broker = milena::broker::Broker::start().await?;
    /// # broker.create_topic("count", 1)?;
    /// # let client = milena::Client::connect(&broker.address()).await?;
    /// use milena::{AnswerStream, Refusal, Request};
    ///
    /// let counter = client.responder("counters").on_request("count", async |to: String| -> Result<_, Refusal> {
    ///     let to: u64 = to.parse()?;
    ///     Ok(AnswerStream::written_by(async move |mut items| {
    ///         for number in 1..=to {
    ///             items.send(number.to_string()).await;
    ///         }
    ///         Ok(())
    ///     }))
    /// });
    /// let counter = counter.start().await?;
    /// # Ok(()) }
    /// ```
    pub fn written_by<W, F>(writer: W) -> Self
    where
        W: FnOnce(AnswerSink) -> F,
        F: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        // The next item is made while the one before is on its way.
        let (sink, items) = mpsc::channel(1);
        Self(Box::pin(Written { writer: Some(Box::pin(writer(AnswerSink(sink)))), items }))
    }

    pub(super) fn replay(items: Vec<Answer>, end: Option<Refusal>) -> Self {
        let items = items.into_iter().map(Ok).chain(end.map(Err));
        Self(Box::pin(Replay(items.collect::<Vec<_>>().into_iter())))
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.as_mut().poll_next(context)
    }

    /// Whether it says that nothing more comes.
    pub(super) fn is_spent(&self) -> bool {
        self.0.size_hint().1 == Some(0)
    }
}

impl fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnswerStream")
    }
}

struct Converted<S: ?Sized>(Pin<Box<S>>);

impl<S: Stream<Item: IntoAnswer> + ?Sized> Stream for Converted<S> {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        self.0.as_mut().poll_next(context).map(|item| item.map(IntoAnswer::into_answer))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

struct Replay(std::vec::IntoIter<Item>);

impl Stream for Replay {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Item>> {
        Poll::Ready(self.0.next())
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

type Writing = Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send>>;

struct Written {
    writer: Option<Writing>,
    items: mpsc::Receiver<Item>,
}

impl Stream for Written {
    type Item = Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Item>> {
        let mut refusal = None;
        // A panic ends the items in their turn, too.
        let poll = |writer: &mut Writing| caught(|| writer.as_mut().poll(context), Err);
        if let Some(Poll::Ready(outcome)) = self.writer.as_mut().map(poll) {
            self.writer = None;
            refusal = outcome.err();
        }
        // The sink may have been moved elsewhere and outlive its writer: then the items end when it does.
        match self.items.poll_recv(context) {
            Poll::Ready(None) => Poll::Ready(refusal.map(Err)),
            // An error comes behind the items that were sent before it.
            Poll::Ready(Some(item)) => {
                if let Some(refusal) = refusal {
                    self.writer = Some(Box::pin(std::future::ready(Err(refusal))));
                }
                Poll::Ready(Some(item))
            }
            Poll::Pending => match refusal {
                Some(refusal) => Poll::Ready(Some(Err(refusal))),
                None => Poll::Pending,
            },
        }
    }
}

/// Takes the items of an [`AnswerStream::written_by`].
#[derive(Debug)]
pub struct AnswerSink(mpsc::Sender<Item>);

impl AnswerSink {
    /// Sends an item as soon as the caller has room for it.
    ///
    /// Nothing tells whether the caller is still there: when it is not, the code that sends is dropped.
    ///
    /// Cancel safe: an item whose future was dropped before it was ready is not sent.
    pub async fn send(&mut self, item: impl IntoAnswer) {
        // It fails if the stream is gone, and then nobody polls this.
        let _ = self.0.send(item.into_answer()).await;
    }
}
