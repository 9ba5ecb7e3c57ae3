//! Who waits for the replies to a call: for one, or for several, which are then kept here until they are taken.
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::oneshot;

use super::answer::{ErrorReply, Status};
use super::reply::{Reply, refused};
use crate::consumer::ConsumerRecord;
use crate::error::{Error, ErrorKind, Result};
use crate::state::reply::dialect::ReadReply;
use crate::state::reply::stream::{Broken, Incoming, Meaning};

/// What a record costs beyond its content.
const OVERHEAD: usize = 64;

/// Completes one call.
#[derive(Debug)]
pub(super) enum Waiter {
    One(oneshot::Sender<Result<Reply>>),
    Many(Arc<Inbox>),
}

impl Waiter {
    /// Takes in one of several replies, under the lock of the table; whether it is the last.
    pub(super) fn take_in(&self, head: &ReadReply<'_>, record: &ConsumerRecord) -> bool {
        match self {
            Self::One(_) => true,
            Self::Many(inbox) => inbox.take_in(head, record),
        }
    }

    /// Ends the call, unless its last reply was taken in.
    pub(super) fn send(self, outcome: Result<Reply>) {
        match self {
            // A caller that has just gone needs nothing.
            Self::One(waiter) => drop(waiter.send(outcome)),
            Self::Many(inbox) => inbox.lock().end(outcome.map(drop)),
        }
    }
}

/// The replies to one call that takes several.
#[derive(Debug)]
pub(super) struct Inbox(Mutex<Content>);

#[derive(Debug)]
struct Content {
    rule: Rule,
    records: VecDeque<ConsumerRecord>,
    end: Option<Result<()>>,
    /// It ended although its responder may go on.
    broken: bool,
    waker: Option<Waker>,
}

/// Which records are kept.
#[derive(Debug)]
pub(super) enum Rule {
    /// Items of one answer.
    Stream(Incoming),
    /// All, as long as there are so many bytes left for them.
    Gather(usize),
}

impl Inbox {
    pub(super) fn new(rule: Rule) -> Arc<Self> {
        let content = Content { rule, records: VecDeque::new(), end: None, broken: false, waker: None };
        Arc::new(Self(Mutex::new(content)))
    }

    fn take_in(&self, head: &ReadReply<'_>, record: &ConsumerRecord) -> bool {
        let content = &mut *self.lock();
        let weight = weight(record);
        let meaning = match &mut content.rule {
            Rule::Stream(incoming) => {
                let at = (record.partition(), record.offset());
                incoming.handle_reply(head, at, record.value().is_none(), weight)
            }
            Rule::Gather(left) if *left < weight => Meaning::Breaks(Broken::TooMuch),
            Rule::Gather(left) => {
                *left -= weight;
                Meaning::Item
            }
        };
        if matches!(meaning, Meaning::Item | Meaning::Last) {
            content.records.push_back(record.clone());
        }
        match meaning {
            Meaning::Repeated => {}
            Meaning::Item => content.wake(),
            Meaning::Last | Meaning::End => content.end(Ok(())),
            Meaning::Refused => {
                let (status, message) = head.error.unwrap_or_default();
                content.end(Err(refused(record, status, message)));
            }
            Meaning::Breaks(broken) => {
                content.broken = true;
                let error = Error::new(ErrorKind::Reply, "the replies to a call cannot be taken in");
                let error = error.on_partition(record.topic(), record.partition());
                content.end(Err(error.retriable(false).caused_by(explained(broken))));
            }
        }
        content.end.is_some()
    }

    /// The next record, or the end. An error comes once, behind what came before it.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Result<ConsumerRecord>>> {
        let content = &mut *self.lock();
        if let Some(record) = content.records.pop_front() {
            if let Rule::Stream(incoming) = &mut content.rule {
                incoming.handle_taken(weight(&record));
            }
            return Poll::Ready(Some(Ok(record)));
        }
        match content.end.replace(Ok(())) {
            Some(end) => Poll::Ready(end.err().map(Err)),
            None => {
                content.end = None;
                content.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The credit to be granted now.
    pub(super) fn poll_credit(&self) -> Option<u32> {
        let content = &mut *self.lock();
        match &mut content.rule {
            Rule::Stream(incoming) if content.end.is_none() => incoming.poll_credit(),
            _ => None,
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.lock().broken
    }

    fn lock(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Content {
    fn end(&mut self, end: Result<()>) {
        self.end.get_or_insert(end);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

fn weight(record: &ConsumerRecord) -> usize {
    OVERHEAD + record.value().map_or(0, <[u8]>::len) + record.key().map_or(0, <[u8]>::len)
}

fn explained(broken: Broken) -> ErrorReply {
    let (status, message) = match broken {
        Broken::Gap { expected, found } => {
            (Status::ABORTED, format!("item {expected} is missing: item {found} came in its place"))
        }
        Broken::OtherResponder => (
            Status::ABORTED,
            "another responder began the answer anew, and its items need not be the same".into(),
        ),
        Broken::TooMuch => {
            (Status::RESOURCE_EXHAUSTED, "more replies wait to be taken than there is room for".into())
        }
    };
    ErrorReply::new(status.code(), message.as_bytes())
}
