//! A call that takes several replies, from its request on.
use std::sync::Arc;

use super::call::{Call, Entered, enter};
use super::inbox::{Inbox, Rule, Waiter};
use super::requester::Requester;
use crate::error::{Error, ErrorKind, Result};
use crate::producer::ProducerTopic;
use crate::record::Record;
use crate::state::reply::answerers::Answerer;
use crate::state::reply::correlation::ReplyId;
use crate::state::reply::dialect::{ControlKind, Kind, control_headers};
use crate::state::reply::router::Ticket;

/// Dropped, it ends, and its responder is told so.
#[derive(Debug)]
pub(super) struct Many {
    pub(super) requester: Requester,
    pub(super) inbox: Arc<Inbox>,
    topic: ProducerTopic,
    ticket: Ticket,
    id: ReplyId,
    /// Bytes that it takes of the requester's room.
    held: u32,
    /// Where the request was written; -1 until that is known.
    partition: i32,
    timeout: std::time::Duration,
    /// How sending it failed, although it may be in the log.
    trouble: Option<Error>,
    /// A reply came.
    heard: bool,
    ended: bool,
}

impl Many {
    /// Enters the call and waits until its request is written.
    pub(super) async fn begin(call: Call<'_>, kind: Kind, rule: impl Fn() -> Rule) -> Result<Self> {
        let Call { requester, topic, record, timeout, idempotency_key, .. } = call;
        let waiter = || {
            let inbox = Inbox::new(rule());
            (Waiter::Many(inbox.clone()), inbox)
        };
        let (entered, inbox) = enter(requester, topic, &record, timeout, waiter).await?;
        let Entered { place, ticket, envelope, deadline, .. } = entered;
        let envelope = super::attempts::Envelope { kind, ..envelope };
        let mut many = Self {
            requester: requester.clone(),
            inbox,
            topic: envelope.topic.clone(),
            ticket,
            id: envelope.id,
            held: place.keep(),
            partition: -1,
            timeout,
            trouble: None,
            heard: false,
            ended: false,
        };
        let mut appended = false;
        let sent = tokio::time::timeout_at(deadline.into(), async {
            let delivery = envelope.send(record, idempotency_key, 0).await?;
            appended = true;
            delivery.await
        });
        match sent.await {
            Ok(Ok(written)) => many.partition = written.partition,
            // If replies came all the same, or the requester was closed, the inbox knows.
            Ok(Err(error)) if !error.maybe_written() && many.give_up(true) => return Err(error),
            Ok(Err(error)) => many.trouble = Some(error),
            Err(_) => {
                many.give_up(false);
                let error = many.late("the request was not written");
                return Err(if appended { error.unsure() } else { error });
            }
        }
        Ok(many)
    }

    /// A reply was taken. The first tells who answers on the topic.
    pub(super) fn heard(&mut self, answerer: Answerer) {
        if !self.heard {
            self.heard = true;
            self.requester.inner.shared.state().answerers.handle_answer(self.topic.name(), answerer);
        }
    }

    /// The last reply was taken.
    pub(super) fn ended(&mut self) {
        // Of a stream that broke off, the responder does not know it.
        self.ended = !self.inbox.is_broken();
    }

    /// The caller has all that it wants.
    pub(super) fn finish(&mut self) {
        self.ended = true;
        self.requester.inner.shared.finish(self.ticket);
    }

    /// What the caller is told when the call ended with this error.
    pub(super) fn failed(&mut self, error: Error) -> Error {
        self.ended();
        if !error.is_timeout() {
            return error;
        }
        if !self.heard {
            self.requester.inner.shared.state().answerers.handle_silence(self.topic.name());
        }
        let error = self.late(if self.heard { "no end of the replies" } else { "no reply" }).unsure();
        match self.trouble.take() {
            Some(trouble) => error.caused_by(trouble),
            None => error,
        }
    }

    fn late(&self, what: &str) -> Error {
        let message = format!("{what} within {:?}", self.timeout);
        Error::new(ErrorKind::Timeout, message).on_topic(self.topic.name())
    }

    /// Ends the call from this side while its responder may go on.
    pub(super) fn break_off(&mut self) {
        if !self.ended {
            // One that has broken has ended already, here.
            self.give_up(false);
            cancel(&self.requester, &self.topic, self.partition, &self.id);
        }
    }

    /// Whether the request may never have been written.
    pub(super) fn is_unsure(&self) -> bool {
        self.partition < 0
    }

    /// Ends the call; false if it has ended already.
    pub(super) fn give_up(&mut self, failed: bool) -> bool {
        self.ended = true;
        let inner = &self.requester.inner;
        inner.shared.give_up(self.ticket, failed)
    }

    /// Lets the responder send so many further items.
    pub(super) fn grant(&self, credit: u32) -> Option<impl Future<Output = Result<()>> + Send + use<>> {
        let (topic, id, partition) = (self.topic.clone(), self.id, self.partition);
        (partition >= 0).then_some(async move {
            let headers = control_headers(&id, ControlKind::Credit(credit));
            topic.send(control(&headers, partition)).await?.await.map(drop)
        })
    }
}

impl Drop for Many {
    fn drop(&mut self) {
        self.break_off();
        self.requester.inner.room.leave(self.held);
    }
}

/// Tells the responder of a call that nobody waits for it any more, if it understands that and it can be said without waiting.
pub(super) fn cancel(requester: &Requester, topic: &ProducerTopic, partition: i32, id: &ReplyId) {
    if partition >= 0 && requester.inner.shared.state().answerers.known(topic.name()).capabilities.cancel {
        // It comes behind its request in the same partition. Nobody waits for it.
        let _ = topic.try_send(control(&control_headers(id, ControlKind::Cancel), partition));
    }
}

fn control<'a>(headers: &'a [(&'static str, Vec<u8>)], partition: i32) -> Record<'a> {
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), Some(&value[..])));
    Record::tombstone().partition(partition).headers(headers)
}

/// The options that a call of several replies has in common with a [`Call`].
macro_rules! as_a_call {
    ($name:ident) => {
        impl<'a> $name<'a> {
            /// Sets the key, by which the partition of the request is chosen. Default: null.
            pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
                self.call = self.call.key(key);
                self
            }

            /// Adds a header. Those of request-reply itself come behind it.
            pub fn header<K: AsRef<[u8]> + ?Sized, V: AsRef<[u8]> + ?Sized>(
                mut self,
                key: &'a K,
                value: &'a V,
            ) -> Self {
                self.call = self.call.header(key, value);
                self
            }

            /// Sets the partition that the request is written to. Default: the partitioner chooses.
            pub fn partition(mut self, partition: i32) -> Self {
                self.call = self.call.partition(partition);
                self
            }

            /// Sets how long all may take, from waiting for room to the last reply. Default: that of the requester.
            pub fn timeout(mut self, timeout: Duration) -> Self {
                self.call = self.call.timeout(timeout);
                self
            }

            /// As [`Call::idempotency_key`].
            pub fn idempotency_key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
                self.call = self.call.idempotency_key(key);
                self
            }

            /// As [`Call::trace_context`].
            pub fn trace_context(mut self, traceparent: &'a str, tracestate: &'a str) -> Self {
                self.call = self.call.trace_context(traceparent, tracestate);
                self
            }
        }
    };
}

pub(super) use as_a_call;
