//! A call whose request is with the producer.
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::attempts::Attempts;
use super::many::cancel;
use super::reply::Reply;
use super::requester::Requester;
use super::token::CallToken;
use crate::error::{Error, ErrorKind, Result};
use crate::producer::{Delivery, ProducerTopic};
use crate::state::reply::answerers::Known;
use crate::state::reply::router::Ticket;

/// A call whose request was handed to the producer; a future of the reply. Made by [`Call::send`](crate::Call::send) and
/// [`Requester::resume`].
///
/// It ends no later than its deadline, and does not borrow the request. It need not be polled to make progress, but for attempts after
/// the first.
///
/// # Errors
/// As [`Call`](crate::Call).
///
/// Cancel safe: dropping it ends the call and frees its place; its reply is thrown away.
#[derive(Debug)]
#[must_use = "dropping it ends the call"]
pub struct PendingCall {
    pub(super) waiting: Waiting,
    pub(super) token: CallToken,
}

impl PendingCall {
    /// By which another requester can wait for the reply, after a restart.
    pub fn token(&self) -> &CallToken {
        &self.token
    }
}

impl Future for PendingCall {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.waiting).poll(cx)
    }
}

/// A call in the table of pending calls, with what is still to be heard of its request.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) requester: Requester,
    /// Where the request went, if this requester sent it.
    pub(super) topic: Option<ProducerTopic>,
    pub(super) ticket: Ticket,
    pub(super) reply: oneshot::Receiver<Result<Reply>>,
    /// Bytes that it takes of the requester's room.
    pub(super) held: u32,
    /// What becomes of the last attempt.
    pub(super) delivery: Option<Delivery>,
    /// Where the request was written; -1 until that is known.
    pub(super) partition: i32,
    /// Of the topic, when the call began.
    pub(super) known: Known,
    pub(super) attempts: Option<Box<Attempts>>,
    /// A request was handed to the producer.
    pub(super) appended: bool,
    /// A request is in the log, or may be: a reply may come.
    pub(super) possible: bool,
    /// How an attempt failed.
    pub(super) trouble: Option<Error>,
    pub(super) ended: bool,
    pub(super) timeout: Duration,
    /// Only where somebody listens: there is one in every call.
    pub(super) span: Option<Box<tracing::Span>>,
}

impl Waiting {
    pub(super) fn delivered_to_producer(&mut self, delivery: Delivery) {
        // Of an earlier attempt nobody hears any more.
        self.possible |= self.delivery.is_some();
        self.appended = true;
        self.delivery = Some(delivery);
    }

    /// An attempt failed. If no reply can come of any, the call ends with that.
    pub(super) fn attempt_failed(&mut self, error: Error) -> Result<()> {
        self.possible |= error.maybe_written() || self.delivery.is_some();
        let again = self.attempts.as_mut().filter(|attempts| attempts.more() && error.is_retriable());
        if let Some(again) = again {
            again.hasten(self.requester.inner.config.client.core().config().retry_backoff.first);
        } else if !self.possible && self.requester.inner.shared.give_up(self.ticket, true) {
            self.ended = true;
            self.tell("failed");
            return Err(error);
        }
        // If the call has ended meanwhile, that outcome stands.
        self.trouble = Some(error);
        Ok(())
    }

    fn tell(&self, outcome: &str) {
        if let Some(span) = &self.span {
            span.record("outcome", outcome);
        }
    }

    pub(super) fn end(&mut self, outcome: Result<Result<Reply>, oneshot::error::RecvError>) -> Result<Reply> {
        self.ended = true;
        // The clock ended without ending this call: it cannot.
        let outcome = outcome.unwrap_or_else(|_| Err(Error::closed("requester")));
        self.tell(match &outcome {
            Ok(_) => "answered",
            Err(error) if error.kind() == ErrorKind::Reply => "refused",
            Err(error) if error.is_timeout() => "timed out",
            Err(_) => "ended",
        });
        self.learn(&outcome);
        outcome.map_err(|error| {
            if !error.is_timeout() {
                return error;
            }
            let mut error = Error::new(ErrorKind::Timeout, format!("no reply within {:?}", self.timeout));
            if let Some(topic) = &self.topic {
                error = error.on_topic(topic.name());
            }
            // Once handed to the producer, the request may reach the responder.
            let error = if self.appended { error.unsure() } else { error };
            match self.trouble.take() {
                Some(trouble) => error.caused_by(trouble),
                None => error,
            }
        })
    }
}

impl Waiting {
    /// The outcome shows who answers on the topic, or that nobody does.
    fn learn(&self, outcome: &Result<Reply>) {
        let Some(topic) = &self.topic else { return };
        let answerers = || self.requester.inner.shared.state();
        match outcome {
            Ok(reply) if self.known.learns_from(reply.answerer()) => {
                answerers().answerers.handle_answer(topic.name(), reply.answerer());
            }
            Err(error) if error.is_timeout() => answerers().answerers.handle_silence(topic.name()),
            _ => {}
        }
    }
}

impl Future for Waiting {
    type Output = Result<Reply>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if let Poll::Ready(outcome) = Pin::new(&mut this.reply).poll(cx) {
            return Poll::Ready(this.end(outcome));
        }
        loop {
            if let Some(delivery) = &mut this.delivery
                && let Poll::Ready(sent) = Pin::new(delivery).poll(cx)
            {
                this.delivery = None;
                match sent {
                    // The reply may come until the deadline.
                    Ok(written) => (this.possible, this.partition) = (true, written.partition),
                    Err(error) => this.attempt_failed(error)?,
                }
            }
            let Some(attempts) = &mut this.attempts else { return Poll::Pending };
            match std::task::ready!(attempts.poll_next(cx)) {
                Ok(delivery) => {
                    this.requester.inner.shared.state().resent += 1;
                    this.delivered_to_producer(delivery);
                }
                Err(error) => this.attempt_failed(error)?,
            }
        }
    }
}

impl Drop for Waiting {
    /// Takes the call out of the table when its caller goes away.
    fn drop(&mut self) {
        let inner = &self.requester.inner;
        if !self.ended
            && inner.shared.give_up(self.ticket, false)
            && let Some(topic) = &self.topic
        {
            let id = inner.shared.state().router.id(self.ticket);
            cancel(&self.requester, topic, self.partition, &id);
        }
        inner.room.leave(self.held);
    }
}
