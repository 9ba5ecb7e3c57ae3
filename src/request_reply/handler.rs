//! Handlers of any shape, as one.
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::answer_stream::AnswerStream;
use super::{Answer, Answers, FromRequest, IntoAnswers, Refusal, Request, ResponderBuilder};

pub(super) type Outcome = Result<Answers, Refusal>;
pub(super) type Handler = Box<dyn Fn(Request) -> Run + Send + Sync>;

/// What is done with the records of one topic.
#[derive(Default)]
pub(super) struct Handlers {
    pub(super) request: Option<Handler>,
    pub(super) event: Option<Handler>,
}

impl ResponderBuilder {
    /// Answers the requests of a topic: what the handler returns goes back to the caller, an error as an error reply. A
    /// handler that panics answers [`Status::INTERNAL`](super::Status::INTERNAL).
    ///
    /// The handler takes a [`Request`], or what is [read from it](FromRequest), and returns [one answer](super::IntoAnswer) or a
    /// [stream of answers](AnswerStream).
    ///
    /// A handler begins where requests are read; one that has to wait gets a task of its own. One that keeps its thread holds up the
    /// requests behind it, once: the next thousand then begin in tasks.
    ///
    /// Handlers of one partition may run side by side and end in any order, unless
    /// [ordered by key](ResponderBuilder::ordered_by_key). A handler may run more than once for a request: its offset is
    /// committed only after the reply was acknowledged. When the caller calls off its request, the handler's future is dropped.
    pub fn on_request<A, H, F>(mut self, topic: impl Into<String>, handler: H) -> Self
    where
        A: FromRequest + Send + 'static,
        H: Fn(A) -> F + Send + Sync + 'static,
        F: Future<Output: IntoAnswers> + Send + 'static,
    {
        self.handlers.entry(topic.into()).or_default().request = Some(any(handler));
        self
    }

    /// Handles the events of a topic; the handler takes an [`Event`](super::Event), or what is [read from it](FromRequest).
    ///
    /// It may return nothing, or an error: one that is [retriable](Refusal::retriable) runs the handler again. What fails in the
    /// end becomes a [dead letter](ResponderBuilder::dead_letter_topic).
    pub fn on_event<A, H, F>(mut self, topic: impl Into<String>, handler: H) -> Self
    where
        A: FromRequest + Send + 'static,
        H: Fn(A) -> F + Send + Sync + 'static,
        F: Future<Output: IntoAnswers> + Send + 'static,
    {
        self.handlers.entry(topic.into()).or_default().event = Some(any(handler));
        self
    }
}

fn any<A, H, F>(handler: H) -> Handler
where
    A: FromRequest + Send + 'static,
    H: Fn(A) -> F + Send + Sync + 'static,
    F: Future<Output: IntoAnswers> + Send + 'static,
{
    let handler = Arc::new(handler);
    Box::new(move |request| {
        let handler = handler.clone();
        // All of the application's code is called inside, where a panic is caught.
        Run(Box::pin(async move { handler(A::from_request(request)?).await.into_answers() }))
    })
}

/// A handler at work, up to its end or its panic: broken application code must not end the responder.
pub(super) struct Run(Pin<Box<dyn Future<Output = Outcome> + Send>>);

impl Run {
    /// One that has ended.
    pub(super) fn ended(outcome: Outcome) -> Self {
        Self(Box::pin(std::future::ready(outcome)))
    }

    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Outcome> {
        caught(|| self.0.as_mut().poll(context), Err)
    }

    pub(super) async fn end(mut self) -> Outcome {
        std::future::poll_fn(|context| self.poll(context)).await
    }
}

/// The next item of a stream, or its panic.
pub(super) fn poll_item(
    items: &mut AnswerStream,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Answer, Refusal>>> {
    caught(|| items.poll_next(context), |refusal| Some(Err(refusal)))
}

pub(super) fn caught<T>(poll: impl FnOnce() -> Poll<T>, panicked: impl FnOnce(Refusal) -> T) -> Poll<T> {
    catch_unwind(AssertUnwindSafe(poll)).unwrap_or_else(|panic| {
        tracing::error!(message = message(&*panic), "a handler panicked");
        Poll::Ready(panicked(Refusal::panicked()))
    })
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}
